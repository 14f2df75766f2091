"""The data sets as uint8 arrays with fixed splits, found on disk or downloaded; and their loader.

A file is ``<data dir>/<name>.npz`` in MedMNIST's layout (train_images, train_labels, test_images,
test_labels, optional val_* and class_names); failing that, torchvision's own files; failing that,
those are downloaded."""
import json
import os
from collections import ChainMap
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ..names import choose, derive, form, option_defaults, parse, take_options
from ..settings import data_dir as default_data_dir
from ..settings import shown
from . import arrays, shapetex
from .arrays import SPLITS, DataBad, DataMissing, DataRow
from .download import SOURCES, download
from .own import OWN, canonical

NAMES = {"cifar10": "airplane automobile bird cat deer dog frog horse ship truck".split(),
         "fashionmnist": ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt",
                          "Sneaker", "Bag", "Ankle boot")}
VAL_SHARE = 0.1                     # of the training file: 45,000/5,000 and 54,000/6,000

DATASETS = {
    "shapetex": DataRow("synthetic: one textured shape, distractors, clutter, and its mask", 32, 3,
                        10, (0.500, 0.499, 0.499), (0.181, 0.181, 0.180), train=20_000),
    "cifar10": DataRow("photographs of animals and vehicles", 32, 3, 10,
                       (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616), "CIFAR10"),
    "cifar100": DataRow("photographs, a hundred classes", 32, 3, 100,
                        (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762), "CIFAR100"),
    "fashionmnist": DataRow("grey pictures of clothes", 28, 1, 10, (0.2860,), (0.3530,),
                            "FashionMNIST", train=54_000),
}
SETS = ChainMap(OWN, DATASETS)          # lists those of DATASETS first
SHAPETEX_OPTIONS = {k: v for k, v in option_defaults(shapetex.make_shapetex).items()
                    if k not in ("split", "intervene")}
SHAPETEX_SIZES = {"train": 20_000, "val": 5_000, "test": 5_000}


@dataclass(frozen=True)
class Dataset:
    """Images uint8 [N, H, W, C] and labels int64 [N] of each split, in a fixed stratified order:
    every prefix is balanced over the classes. ``extras``: further arrays a split, such as
    ShapeTex's object masks [N, H, W]."""
    name: str
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    images: dict[str, np.ndarray]
    labels: dict[str, np.ndarray]
    extras: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    levels: dict | None = None              # as in `DataRow`

    @property
    def row(self) -> DataRow:
        n, size, _, channels = self.images["train"].shape
        return DataRow(self.name, size, channels, len(self.classes), self.mean, self.std, train=n,
                       levels=self.levels)

    def split(self, name: str, n: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """(images, labels) of the first ``n`` of a split; ``ValueError`` where it has fewer."""
        choose("split", name, self.images)
        have = len(self.labels[name])
        if n is not None and not 0 < n <= have:
            raise ValueError(f"n_{name}={n}: {self.name} has 1 to {have} {name} images")
        return self.images[name][:n], self.labels[name][:n]


def canonical_dataset(name: str, data_dir: str | Path | None = None) -> str:
    """One spelling for one data set: options sorted, defaults left out. Your own files are read
    once, as their content is part of the name: ``folder:photos`` -> ``folder(content=…):photos``"""
    for kind, is_there in (("folder", os.path.isdir), ("npz", os.path.isfile)):
        if is_there(str(name)) and name not in DATASETS:
            raise ValueError(f"{name!r} is a path: did you mean {kind}:{name}?")
    base, given = parse(name)
    if base in OWN:
        return canonical(base, given, Path(data_dir or default_data_dir()))
    choose("data set", base, [*DATASETS, *(f"{kind}:PATH" for kind in OWN)])
    options = take_options("data set", base, given, SHAPETEX_OPTIONS if base == "shapetex" else {})
    for key, value in options.items():
        shapetex.check_option(key, value)
    return form(base, options)


def identity(name: str) -> str:
    """A canonical name without the path at which your own files lie."""
    base, options = parse(name)
    return form(base, {key: value for key, value in options.items() if key != "path"})


def load_dataset(name: str, data_dir: str | Path | None = None, download: bool = True,
                 sizes: dict[str, int | None] | None = None) -> Dataset:
    """The data set ``name``: ``shapetex`` (options ``rho distractors contrast clutter label``),
    ``cifar10``, ``cifar100``, ``fashionmnist``; or your own, ``folder:PATH`` (options ``size
    channels``) and ``npz:PATH``, see `data.own`.

    ``sizes``: how many ShapeTex images are made, of the splits that it names alone (``None``: all;
    a prefix of fewer is a prefix of more).

    Raises ``ValueError`` for an unknown name, `DataBad` for a file that does not hold what it
    should, `DataMissing` where none is and none could be downloaded."""
    folder = Path(data_dir or default_data_dir())
    name = canonical_dataset(name, folder)
    base, options = parse(name)
    if base in OWN:
        return load_own(name, base, options, folder)
    if base == "shapetex":
        return load_shapetex(name, options, sizes or SHAPETEX_SIZES)
    row, file = DATASETS[base], folder / f"{base}.npz"
    if file.is_file():
        raw = arrays.read_npz(file, "take it away, and `make data` fetches it again")
    else:
        raw = from_torchvision(base, row, folder, download)
    arrays.check_arrays(raw, row, shown(file))
    return with_splits(base, row, raw, base)


def load_own(name: str, base: str, options: dict, folder: Path) -> Dataset:
    """Your own files. They are split by their content alone, so that resizing moves no picture
    from one split to another; normalised by what their training part is."""
    raw = OWN[base].read(options, folder)
    row = arrays.described(raw)
    arrays.check_arrays(raw, row, options["path"], whole=("train",))
    data = with_splits(options["content"], row, raw, options["path"])
    mean, std = arrays.measured(data.images["train"])
    return replace(data, name=name, mean=tuple(mean.round(6).tolist()),
                   std=tuple(std.clip(1 / 255).round(6).tolist()),
                   levels=json.loads(str(raw["levels"])) if base == "folder" else None)


def load_shapetex(name: str, options: dict, sizes: dict[str, int | None]) -> Dataset:
    row, styles = DATASETS["shapetex"], tuple(f"style {k}" for k in range(10))
    classes = styles if options.get("label") == "bg" else shapetex.CLASS_NAMES
    data = Dataset(name, classes, row.mean, row.std, {}, {})
    for split, n in sizes.items():
        n = SHAPETEX_SIZES[split] if n is None else n
        part = shapetex.make_shapetex(n, split, **options)
        data.images[split], data.labels[split] = part.images, part.labels
        data.extras[split] = {"mask": part.mask, "distractor_mask": part.distractor_mask}
    return data


def from_torchvision(name: str, row: DataRow, folder: Path, may_fetch: bool) -> dict:
    """The arrays in torchvision's files, fetched where they are not there or not whole."""
    import torchvision  # here: the import takes a second

    def read():
        raw = {}
        for split in ("train", "test"):
            part = getattr(torchvision.datasets, row.torchvision)(folder, train=split == "train")
            raw |= {f"{split}_images": np.asarray(part.data, dtype=np.uint8),
                    f"{split}_labels": np.asarray(part.targets, dtype=np.int64),
                    "class_names": np.array(part.classes)}
        return raw
    with suppress(Exception):       # RuntimeError: "not there"; a half file raises any other
        return read()
    try:
        if not may_fetch or name not in SOURCES:
            raise OSError("no source is known" if may_fetch else "it is switched off here")
        download(name, folder)
        return read()
    except (RuntimeError, OSError) as error:
        files = " and ".join(f"{s.file} (SHA-256 {s.sha256})" for s in SOURCES.get(name, ())
                             if not (folder / s.file).is_file())
        raise DataMissing(
            f"no data for {name!r} in {shown(folder)} (ATTNLIB_DATA sets the folder), and fetching "
            f"failed: {' '.join(str(error).split())[:1000]}. With a network `make data` tries "
            f"again. By hand, put there {files or 'its files'}; or {name}.npz (train_images, "
            "train_labels, test_images, test_labels). ShapeTex needs no file: --dataset shapetex"
        ) from None


def with_splits(name: str, row: DataRow, raw: dict, where: str) -> Dataset:
    """Train and validation parts of the training file, unless the file brings a validation split;
    each in its stratified order, which depends on the data set's name alone."""
    x = {s: raw[f"{s}_images"] for s in SPLITS if f"{s}_images" in raw}
    y = {s: raw[f"{s}_labels"].reshape(-1).astype(np.int64) for s in x}
    order = {s: arrays.stratified_order(y[s], derive("split", name, s)) for s in x}
    if "val" not in x:
        x["val"], y["val"], both = x["train"], y["train"], order["train"]
        cut = len(both) - max(1, round(VAL_SHARE * len(both)))
        order |= {"train": both[:cut], "val": both[cut:]}
        kept = len(np.unique(y["train"][both[:cut]]))
        if kept < row.num_classes:
            raise DataBad(f"{where}: {len(both)} training images are too few to cut a validation "
                          f"split out of them, as {kept} of {row.num_classes} classes would be "
                          "left: more images, or val_images and val_labels, are wanted")
    numbered = [f"class {k}" for k in range(row.num_classes)]
    classes = raw.get("class_names", NAMES.get(name, numbered))
    return Dataset(name, tuple(map(str, classes)), row.mean, row.std,
                   {s: x[s].reshape(*x[s].shape[:3], -1)[k] for s, k in order.items()},
                   {s: y[s][k] for s, k in order.items()})

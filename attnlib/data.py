"""The data sets as uint8 arrays with fixed splits, found on disk or downloaded; and their loader.

A file is ``<data dir>/<name>.npz`` in MedMNIST's layout (train_images, train_labels, test_images,
test_labels, optional val_* and class_names); failing that, torchvision's own files; failing that,
those are downloaded."""
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from . import shapetex
from .fetch import fetch
from .paths import data_dir as default_data_dir
from .paths import shown
from .spec import choose, derive, form, option_defaults, parse, take_options

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker",
           "Bag", "Ankle boot")
SPLITS = ("train", "val", "test")
VAL_SHARE = 0.1                     # of the training file: 45,000/5,000 and 54,000/6,000


class Row(NamedTuple):
    """One row of DATASETS. ``mean`` and ``std`` a channel, on the 0..1 scale, of the training set:
    measured on the files, and checked against them in 01_data and in the tests."""
    says: str
    size: int
    channels: int
    num_classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    torchvision: str = ""           # its class there; "" for the embedded set
    version: int = 1


DATASETS = {
    "shapetex": Row("synthetic: one textured shape, distractors, clutter, and its mask", 32, 3, 10,
                    (0.500, 0.499, 0.499), (0.181, 0.181, 0.180)),
    "cifar10": Row("photographs of animals and vehicles", 32, 3, 10,
                   (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616), "CIFAR10"),
    "cifar100": Row("photographs, a hundred classes", 32, 3, 100,
                    (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762), "CIFAR100"),
    "fashionmnist": Row("grey pictures of clothes", 28, 1, 10, (0.2860,), (0.3530,),
                        "FashionMNIST"),
}
SHAPETEX_OPTIONS = {k: v for k, v in option_defaults(shapetex.make_shapetex).items()
                    if k in ("rho", "distractors", "contrast", "clutter", "label")}
SHAPETEX_SIZES = {"train": 20_000, "val": 5_000, "test": 5_000}


class DataMissing(FileNotFoundError):
    """The files of a data set are not here; the message says where they were looked for."""


class DataBad(ValueError):
    """A file does not hold what it should; the message names the file, the field and the index."""


@dataclass(frozen=True)
class Dataset:
    """Images uint8 [N, H, W, C] and labels int64 [N] of each split, in a fixed stratified order:
    every prefix of a split is balanced over the classes, and a smaller one lies in a larger one.
    ``extras``: further arrays a split, such as ShapeTex's object masks [N, H, W]."""
    name: str
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    images: dict[str, np.ndarray]
    labels: dict[str, np.ndarray]
    extras: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)

    def split(self, name: str, n: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """(images, labels) of the first ``n`` of a split; ``None``: all. Asking for more than there
        are raises ``ValueError``."""
        choose("split", name, self.images)
        have = len(self.labels[name])
        if n is not None and not 0 < n <= have:
            raise ValueError(f"n_{name}={n}: {self.name} has 1 to {have} {name} images")
        return self.images[name][:n], self.labels[name][:n]


def canonical_dataset(name: str) -> str:
    """One spelling for one data set: options sorted, defaults left out."""
    base, given = parse(name)
    choose("data set", base, DATASETS)
    defaults = SHAPETEX_OPTIONS if base == "shapetex" else {}
    options = take_options("data set", base, given, defaults)
    for key, value in options.items():
        check = shapetex._check_choice if key in shapetex.CHOICES else shapetex._check_range
        check(key, value)
    return form(base, options)


def load_dataset(name: str, data_dir: str | Path | None = None, download: bool = True,
                 sizes: dict[str, int] | None = None) -> Dataset:
    """The data set ``name``: ``shapetex`` (options ``rho distractors contrast clutter label``),
    ``cifar10``, ``cifar100``, ``fashionmnist``.

    ``sizes`` limits how many ShapeTex images are made a split (they are made on the spot; a prefix
    of fewer is a prefix of more). Raises ``ValueError`` for an unknown name, `DataBad` for a file
    that does not hold what it should, `DataMissing` where none is and none could be downloaded."""
    name = canonical_dataset(name)
    base, options = parse(name)
    row = DATASETS[base]
    if base == "shapetex":
        return load_shapetex(name, options, {**SHAPETEX_SIZES, **(sizes or {})})
    folder = Path(data_dir) if data_dir else default_data_dir()
    file = folder / f"{base}.npz"
    if file.is_file():
        arrays = read_npz(file)
        check_arrays(arrays, row, shown(file))
    else:
        arrays = from_torchvision(base, row, folder, download)
    return with_splits(base, row, arrays)


def load_shapetex(name: str, options: dict, sizes: dict[str, int]) -> Dataset:
    parts = {split: shapetex.make_shapetex(n, split=split, **options)
             for split, n in sizes.items() if n}
    styles = tuple(f"style {k}" for k in range(10))
    classes = styles if options.get("label") == "bg" else tuple(shapetex.CLASS_NAMES)
    row = DATASETS["shapetex"]
    return Dataset(name, classes, row.mean, row.std,
                   {split: part.images for split, part in parts.items()},
                   {split: part.labels for split, part in parts.items()},
                   {split: {"mask": part.mask, "distractor_mask": part.distractor_mask,
                            "background": part.background} for split, part in parts.items()})


def read_npz(file: Path) -> dict[str, np.ndarray]:
    """The arrays of an npz file, nothing pickled; a torn one is a `DataBad` that names it."""
    try:
        with np.load(file, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except Exception as error:
        raise DataBad(f"{shown(file)} is not a readable npz file ({error}); "
                         "delete it and fetch it again") from error


def check_arrays(arrays: dict, row: Row, where: str) -> None:
    """Raise `DataBad` naming the file, the field and the first bad index."""
    for split in ("train", "val", "test") if "val_images" in arrays else ("train", "test"):
        for key in (f"{split}_images", f"{split}_labels"):
            if key not in arrays:
                raise DataBad(f"{where}: no array {key!r}; it holds {', '.join(arrays)}")
        x, y = arrays[f"{split}_images"], arrays[f"{split}_labels"].reshape(-1)
        grey = (row.size, row.size)
        shapes = [(*grey, row.channels)] + [grey] * (row.channels == 1)
        if x.dtype != np.uint8 or x.shape[1:] not in shapes:
            raise DataBad(f"{where}: {split}_images is {x.dtype} {x.shape}, not uint8 "
                             f"[N, {', '.join(map(str, shapes[0]))}]")
        if len(x) != len(y) or not len(x):
            raise DataBad(f"{where}: {len(x)} {split}_images, {len(y)} {split}_labels")
        if not np.issubdtype(y.dtype, np.integer):
            raise DataBad(f"{where}: {split}_labels is {y.dtype}, not integer")
        bad = np.flatnonzero((y < 0) | (y >= row.num_classes))
        if len(bad):
            raise DataBad(f"{where}: {split}_labels[{bad[0]}] is {y[bad[0]]}, not within 0 to "
                             f"{row.num_classes - 1}")
        absent = set(range(row.num_classes)) - set(np.unique(y).tolist())
        if absent:
            raise DataBad(f"{where}: no image of class {min(absent)} in {split}_labels")
    names = arrays.get("class_names", range(row.num_classes))
    if len(names) != row.num_classes:
        raise DataBad(f"{where}: {len(names)} class_names, not {row.num_classes}")


def from_torchvision(name: str, row: Row, folder: Path, download: bool) -> dict[str, np.ndarray]:
    """The arrays in torchvision's files, fetched where they are not there or not whole."""
    import torchvision  # here: the import takes a second
    make = getattr(torchvision.datasets, row.torchvision)

    def read():
        return {split: make(folder, train=split == "train") for split in ("train", "test")}
    try:
        parts = read()
    except Exception:       # RuntimeError is its word for "not there"; a half file raises any other
        try:
            if not download:
                raise OSError("download=False") from None
            print(f"{name}: not in {shown(folder)}; downloading …", flush=True)
            fetch(name, folder)
            parts = read()
        except (RuntimeError, OSError) as error:
            raise DataMissing(missing(name, folder, error)) from None
    arrays = {"class_names": np.array(parts["train"].classes)}
    for split, part in parts.items():
        arrays[f"{split}_images"] = np.asarray(part.data, dtype=np.uint8)
        arrays[f"{split}_labels"] = np.asarray(part.targets, dtype=np.int64)
    check_arrays(arrays, row, f"torchvision's files of {name}")
    return arrays


def missing(name: str, folder: Path, error) -> str:
    return (f"no data for {name!r}: looked for {name}.npz and torchvision's own files in "
            f"{folder} (ATTNLIB_DATA sets the folder), and the download failed "
            f"({' '.join(str(error).split())[:300]}). With a network: `make data`; "
            f"without one: put {name}.npz (train_images, "
            "train_labels, test_images, test_labels) there. ShapeTex needs no file: "
            "--dataset shapetex")


def with_splits(name: str, row: Row, arrays: dict) -> Dataset:
    """Train and validation parts of the training file, unless the file brings a validation split;
    each in its stratified order, which depends on the data set's name alone."""
    raw = {}
    for split in SPLITS:
        if f"{split}_images" in arrays:
            x = arrays[f"{split}_images"]
            y = arrays[f"{split}_labels"].reshape(-1).astype(np.int64)
            order = stratified_order(y, derive("split", name, split))
            raw[split] = (x if x.ndim == 4 else x[..., None], y, order)
    if "val" not in raw:
        x, y, order = raw["train"]
        cut = len(order) - round(VAL_SHARE * len(order))
        raw["train"], raw["val"] = (x, y, order[:cut]), (x, y, order[cut:])
    classes = arrays.get("class_names", {"cifar10": CIFAR10, "fashionmnist": FASHION}.get(
        name, np.arange(row.num_classes)))
    return Dataset(name, tuple(map(str, classes)), row.mean, row.std,
                   {split: x[order] for split, (x, _, order) in raw.items()},
                   {split: y[order] for split, (_, y, order) in raw.items()})


def stratified_order(labels: np.ndarray, seed: int) -> np.ndarray:
    """A permutation of 0..N-1 every prefix of which holds the classes in their proportions: each
    class shuffled by itself, the k-th of its n images placed at (k + u) / n, u uniform in 0..1."""
    rng = np.random.default_rng(seed)
    place = np.empty(len(labels))
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        place[members] = (np.arange(len(members)) + rng.random(len(members))) / len(members)
    return np.argsort(place, kind="stable")

"""What the arrays of any data set must be: read, checked, measured, put in order."""
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..settings import shown

SPLITS = ("train", "val", "test")
SIDES = range(28, 225)              # pixels a side that the networks take
WANTED = ("wanted is a file of numpy.savez with train_images, train_labels, test_images, "
          "test_labels: see docs/own-data.md")


class DataMissing(FileNotFoundError):
    """The files of a data set are not here; the message says where they were looked for."""


class DataBad(ValueError):
    """A file does not hold what it should; the message names the file, the field and the index."""


class DataRow(NamedTuple):
    """What a data set is. ``mean`` and ``std`` a channel, on the 0..1 scale, of the training set:
    measured on the files, and checked against them in 01_data and in the tests."""
    says: str
    size: int
    channels: int
    num_classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    torchvision: str = ""           # its class there; "" for the embedded set and your own
    train: int = 45_000             # images in the training part, to estimate what training costs
    version: int = 1
    levels: dict | None = None      # of pictures of more than 8 bits: those that become 0 and 255

    def facts(self) -> dict:
        """What a record keeps of it, to build and feed the network again without the data."""
        return {"size": self.size, "channels": self.channels, "num_classes": self.num_classes,
                "mean": list(self.mean), "std": list(self.std)
                } | ({"levels": self.levels} if self.levels else {})


def refuse(name: str, faults: list[str]) -> None:
    """Raise `DataBad` with all that is wrong with what is called ``name``, if anything is."""
    if faults:
        several = f"{len(faults)} things to mend or remove:\n  " if len(faults) > 1 else ""
        raise DataBad(f"{name}: {several}" + "\n  ".join(faults))


def read_npz(file: Path, advice: str = WANTED) -> dict[str, np.ndarray]:
    """The arrays of an npz file, nothing pickled. `DataBad` says what another file begins with."""
    arrays, key = {}, ""
    try:
        with np.load(file, allow_pickle=False) as archive:
            for key in archive.files:
                arrays[key] = np.asarray(archive[key])
        return arrays
    except Exception as error:              # a torn or hostile file makes numpy raise many kinds
        with open(file, "rb") as opened:
            head = opened.read(24)
        why = f"it begins with {head!r}" if head else "it is empty"
        if head.startswith(b"PK"):
            why = str(error) if "pickle" not in str(error) else (
                f"{key} holds Python objects, which can hide code: numbers and text are read")
        raise DataBad(f"{shown(file)} is no readable npz file: {why}; {advice}") from error


def described(arrays: dict) -> DataRow:
    """The row of a data set that has none, as far as its arrays, not yet checked, tell."""
    x, names = arrays.get("train_images", np.empty(0)), arrays.get("class_names")
    labels = [arrays[key] for split in SPLITS if (key := f"{split}_labels") in arrays]
    top = max((int(y.max()) for y in labels if y.size and y.dtype.kind in "iu"), default=0)
    classes = min(top, len(x)) + 1  # each has an image: a wild label makes no more of them
    if names is not None and names.ndim == 1:
        classes = len(names)
    size, channels = x.shape[1] if x.ndim > 1 else 0, x.shape[3] if x.ndim == 4 else 1
    return DataRow("your own", size, channels, classes, (), ())


def check_arrays(arrays: dict, row: DataRow, where: str, whole=SPLITS) -> None:
    """Raise `DataBad` with the field and the first bad index of everything that is wrong.
    ``whole``: the splits in which every class must occur."""
    faults = [fault for split in SPLITS if split != "val" or "val_images" in arrays
              for fault in split_faults(arrays, row, split, split in whole)]
    if row.num_classes < 2 and not faults:              # else they are why
        faults.append("one class alone; two are the least that can be told apart")
    names = arrays.get("class_names")
    if names is not None:
        if names.dtype.kind != "U" or names.ndim != 1:
            faults.append(f"class_names is {names.dtype} {list(names.shape)}, not text [classes]")
        elif len(names) != row.num_classes:
            faults.append(f"{len(names)} class_names, not {row.num_classes}")
        elif len(set(names)) < len(names):
            twice = max(names.tolist(), key=names.tolist().count)
            faults.append(f"class_names has {twice!r} more than once")
    refuse(where, faults)


def split_faults(arrays: dict, row: DataRow, split: str, whole: bool):
    """What is wrong with one split, each in words."""
    keys = f"{split}_images", f"{split}_labels"
    for key in keys:
        if key not in arrays:
            yield f"no array {key!r}; it holds {', '.join(list(arrays)[:9])}"
    if not arrays.keys() >= {*keys}:
        return
    x, y = (arrays[key] for key in keys)
    known = row.size in SIDES and row.channels in (1, 3)
    wanted = f"[N, {row.size}, {row.size}, {row.channels}]" if known else (
        f"[N, S, S] or [N, S, S, 3] with S from {SIDES[0]} to {SIDES[-1]}")
    shape = (row.size, row.size, row.channels)
    if x.dtype != np.uint8 or not known or shape not in (x.shape[1:], (*x.shape[1:], 1)):
        yield f"{split}_images is {x.dtype} {x.shape}, not uint8 {wanted}"
    if y.dtype.kind not in "iu":
        yield f"{split}_labels is {y.dtype}, not integer"
        return
    if y.shape[1:] not in ((), (1,)):
        yield (f"{split}_labels is {list(y.shape)}, several labels an image (multi-label or "
               "one-hot); one an image is supported: [N] or [N, 1], numbers from 0 on")
        return
    y = y.reshape(-1)
    if len(x) != len(y) or not len(x):
        yield f"{len(x)} {split}_images, {len(y)} {split}_labels"
    bad = np.flatnonzero((y < 0) | (y >= row.num_classes))
    if len(bad):
        yield (f"{split}_labels[{bad[0]}] is {y[bad[0]]}, not within 0 to {row.num_classes - 1}"
               f" ({len(bad)} labels in all)")
    absent = np.setdiff1d(np.arange(row.num_classes), y)
    if len(absent) and whole and len(y):
        yield f"no image of class {absent[0]} in {split}_labels, which go up to {y.max()}"


def measured(*parts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel of uint8 images [N, H, W, C], on the 0..1 scale:
    from counts of levels, so exactly and in little memory."""
    counts = np.zeros((parts[0].shape[-1], 256))
    for some in (x for part in parts for x in np.array_split(part, max(1, len(part) // 2000))):
        for c in range(len(counts)):
            counts[c] += np.bincount(some[..., c].reshape(-1), minlength=256)
    share, level = counts / counts.sum(1, keepdims=True), np.arange(256) / 255
    mean = share @ level
    return mean, np.sqrt(np.maximum(share @ level**2 - mean**2, 0))


def stratified_order(labels: np.ndarray, seed: int) -> np.ndarray:
    """A permutation of 0..N-1 every prefix of which holds the classes in their proportions: each
    class shuffled by itself, the k-th of its n images placed at (k + u) / n, u uniform in 0..1."""
    rng = np.random.default_rng(seed)
    place = np.empty(len(labels))
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        place[members] = (np.arange(len(members)) + rng.random(len(members))) / len(members)
    return np.argsort(place, kind="stable")


def cut(labels: np.ndarray, share: float, seed: int) -> np.ndarray:
    """The indices of a ``share`` of each class, and of one at least."""
    order = stratified_order(labels, seed)
    of_class = [order[labels[order] == c] for c in np.unique(labels)]
    return np.concatenate([of[-max(1, round(share * len(of))):] for of in of_class])

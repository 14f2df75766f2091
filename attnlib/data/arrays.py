"""What the arrays of any data set must be: read, checked, measured, put in order."""
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..settings import shown

SPLITS = ("train", "val", "test")
SIDES = range(28, 65)               # pixels a side that the networks are made for


class DataMissing(FileNotFoundError):
    """The files of a data set are not here; the message says where they were looked for."""


class DataBad(ValueError):
    """A file does not hold what it should; the message names the file, the field and the index."""


class Row(NamedTuple):
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

    def facts(self) -> dict:
        """What a record keeps of it, to build and feed the network again without the data."""
        return {"size": self.size, "channels": self.channels, "num_classes": self.num_classes,
                "mean": list(self.mean), "std": list(self.std)}


def read_npz(file: Path) -> dict[str, np.ndarray]:
    """The arrays of an npz file, nothing pickled; a torn one is a `DataBad` that names it."""
    try:
        with np.load(file, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except Exception as error:
        raise DataBad(f"{shown(file)} is not a readable npz file ({error}); "
                      "delete it and fetch it again") from error


def described(arrays: dict, where: str) -> Row:
    """The row of a data set that has none, from its own arrays, without mean and deviation.
    `DataBad` where its images are none that a network here could take."""
    x = arrays.get("train_images", np.empty(0))
    channels = x.shape[3] if x.ndim == 4 else 1
    if x.ndim not in (3, 4) or channels not in (1, 3) or not (
            x.shape[1] == x.shape[2] in SIDES):
        raise DataBad(
            f"{where}: train_images is {'missing' if not x.ndim or not x.size else x.shape}, not "
            f"[N, S, S], [N, S, S, 1] or [N, S, S, 3] with S from {SIDES[0]} to {SIDES[-1]}; "
            f"the file holds {', '.join(arrays)}")
    labels = [arrays[key] for split in SPLITS if (key := f"{split}_labels") in arrays]
    top = max((int(y.max()) for y in labels if y.size and y.dtype.kind in "iu"), default=0)
    classes = len(arrays["class_names"]) if "class_names" in arrays else top + 1
    if classes < 2:
        raise DataBad(f"{where}: one class alone; two are the least that can be told apart")
    return Row("your own", x.shape[1], channels, classes, (), ())


def check_arrays(arrays: dict, row: Row, where: str, whole=SPLITS) -> None:
    """Raise `DataBad` naming the file and, for everything that is wrong, the field and the first
    bad index. ``whole``: the splits in which every class must occur."""
    wrong = [words for split in SPLITS if split != "val" or "val_images" in arrays
             for words in problems(arrays, row, split, split in whole)]
    names = arrays.get("class_names", range(row.num_classes))
    if len(names) != row.num_classes:
        wrong.append(f"{len(names)} class_names, not {row.num_classes}")
    if wrong:
        raise DataBad(f"{where}: {'; '.join(wrong)}")


def problems(arrays: dict, row: Row, split: str, whole: bool):
    """What is wrong with one split, each in words."""
    absent = [key for key in (f"{split}_images", f"{split}_labels") if key not in arrays]
    if absent:
        yield from (f"no array {key!r}; it holds {', '.join(arrays)}" for key in absent)
        return
    x, y = arrays[f"{split}_images"], arrays[f"{split}_labels"].reshape(-1)
    grey = (row.size, row.size)
    shapes = [(*grey, row.channels)] + [grey] * (row.channels == 1)
    if x.dtype != np.uint8 or x.shape[1:] not in shapes:
        yield (f"{split}_images is {x.dtype} {x.shape}, not uint8 "
               f"[N, {', '.join(map(str, shapes[0]))}]")
    if len(x) != len(y) or not len(x):
        yield (f"{len(x)} {split}_images, {len(y)} {split}_labels"
               + " (one label an image is wanted)" * (len(y) > len(x) > 0 == len(y) % len(x)))
    if not np.issubdtype(y.dtype, np.integer):
        yield f"{split}_labels is {y.dtype}, not integer"
        return
    bad = np.flatnonzero((y < 0) | (y >= row.num_classes))
    if len(bad):
        yield (f"{split}_labels[{bad[0]}] is {y[bad[0]]}, not within 0 to {row.num_classes - 1}"
               + f" (nor are {len(bad) - 1} others)" * (len(bad) > 1))
    absent = set(range(row.num_classes)) - set(np.unique(y).tolist())
    if absent and whole:
        yield f"no image of class {min(absent)} in {split}_labels"


def measured(*parts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel of uint8 images [N, H, W, C], on the 0..1 scale:
    from counts of levels, so exactly and in little memory."""
    counts = np.zeros((parts[0].shape[-1], 256))
    for images in parts:
        for some in np.array_split(images, max(1, len(images) // 2000)):
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


def cut(labels: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices in two parts: the second has ``share`` of each class, and at least one of it."""
    order = stratified_order(labels, seed)
    of_class = [order[labels[order] == c] for c in np.unique(labels)]
    part = np.concatenate([of[-max(1, round(share * len(of))):] for of in of_class])
    return np.setdiff1d(order, part), np.sort(part)

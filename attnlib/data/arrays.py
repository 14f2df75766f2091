"""What the arrays of any data set must be: read, checked, measured, put in order."""
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..settings import shown

SPLITS = ("train", "val", "test")
SIDES = range(28, 225)              # pixels a side that the networks take
WANTED = ("wanted is a file of numpy.savez with train_images, train_labels, test_images, "
          "test_labels: see docs/own-data.md")
KINDS = {                           # what files begin with that are called npz and are none
    b"version https://git-lfs": "a pointer of Git LFS, which `git lfs pull` replaces by the file",
    b"<": "a web page, as a download behind a login or a form gives", b"\x80": "a pickle",
    b"\x89PNG": "a PNG picture", b"\xff\xd8\xff": "a JPEG picture", b"MATLAB": "a MATLAB file",
    b"\x89HDF": "an HDF5 file", b"\x93NUMPY": "a single array", b"\x1f\x8b": "a gzip archive"}


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


def read_npz(file: Path, advice: str = WANTED) -> dict[str, np.ndarray]:
    """The arrays of an npz file, nothing pickled. `DataBad` says what another file is."""
    try:
        with np.load(file, allow_pickle=False) as archive:
            return {key: array_in(archive, key) for key in archive.files}
    except Exception as error:
        with open(file, "rb") as opened:
            head = opened.read(32).lstrip()
        kind = next((words for start, words in KINDS.items() if head.startswith(start)),
                    "of a kind unknown here" if head else "empty")
        what = f"not a readable npz file ({error})" if head[:2] == b"PK" else f"{kind}, no npz file"
        raise DataBad(f"{shown(file)} is {what}; {advice}") from error


def array_in(archive, key: str) -> np.ndarray:
    """One array, or a ``ValueError`` where it is none or would have to be unpickled."""
    try:
        array = archive[key]
    except ValueError as error:
        words = "holds Python objects, which can hide code: numbers and text are read"
        raise ValueError(f"{key} {words if 'pickle' in str(error) else error}") from error
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{key} in it is no array; pictures in a zip: unpack it, for folder:PATH")
    return array


def described(arrays: dict, where: str) -> Row:
    """The row of a data set that has none, from its own arrays, without mean and deviation.
    `DataBad` where its labels are none, or no network here could take its images."""
    x, names = arrays.get("train_images", np.empty(0)), arrays.get("class_names")
    channels = x.shape[3] if x.ndim == 4 else 1
    wrong = label_fault("train_labels", arrays.get("train_labels", np.zeros(1, int)))
    if not wrong and (x.ndim not in (3, 4) or channels not in (1, 3) or not (
            x.shape[1] == x.shape[2] in SIDES)):
        wrong = (f"train_images is {x.shape if x.size else 'missing'}, not [N, S, S], [N, S, S, 1] "
                 f"or [N, S, S, 3] with S from {SIDES[0]} to {SIDES[-1]}; the file holds "
                 f"{', '.join(arrays)}")
    if wrong:
        raise DataBad(f"{where}: {wrong}")
    if names is not None and not names_fault(names):
        classes = len(names)
    else:                           # each has an image: a wild label makes no more of them
        labels = [arrays[key] for split in SPLITS if (key := f"{split}_labels") in arrays]
        top = max((int(y.max()) for y in labels if y.size and y.dtype.kind in "iu"), default=0)
        classes = min(top, len(x)) + 1
    if classes < 2:
        raise DataBad(f"{where}: one class alone; two are the least that can be told apart")
    return Row("your own", x.shape[1], channels, classes, (), ())


def check_arrays(arrays: dict, row: Row, where: str, whole=SPLITS) -> None:
    """Raise `DataBad` naming the file and, for everything that is wrong, the field and the first
    bad index. ``whole``: the splits in which every class must occur."""
    wrong = [words for split in SPLITS if split != "val" or "val_images" in arrays
             for words in split_faults(arrays, row, split, split in whole)]
    if "class_names" in arrays:
        names = arrays["class_names"]
        fault = names_fault(names)
        if not fault and len(names) != row.num_classes:
            fault = f"{len(names)} class_names, not {row.num_classes}"
        wrong += [fault] if fault else []
    if wrong:
        raise DataBad(f"{where}: {'; '.join(wrong)}")


def names_fault(names: np.ndarray) -> str:
    """Why an array can be no list of class names, or ""."""
    if names.dtype.kind != "U" or names.ndim != 1:
        return f"class_names is {names.dtype} {list(names.shape)}, not text [classes]"
    twice = [str(name) for name in np.unique(names) if (names == name).sum() > 1]
    return f"class_names has {twice[0]!r} more than once" if twice else ""


def label_fault(key: str, y: np.ndarray) -> str:
    """Why an array can be no labels, or ""."""
    if y.dtype.kind not in "iu":
        return f"{key} is {y.dtype}, not integer"
    if y.shape[1:] not in ((), (1,)):
        return (f"{key} is {list(y.shape)}, several labels an image (multi-label or one-hot); one "
                "an image is supported: [N] or [N, 1], numbers from 0 on")
    return ""


def split_faults(arrays: dict, row: Row, split: str, whole: bool):
    """What is wrong with one split, each in words."""
    absent = [key for key in (f"{split}_images", f"{split}_labels") if key not in arrays]
    if absent:
        yield from (f"no array {key!r}; it holds {', '.join(arrays)}" for key in absent)
        return
    x, y = arrays[f"{split}_images"], arrays[f"{split}_labels"]
    fault = label_fault(f"{split}_labels", y)
    if fault:
        yield fault
    shape = (row.size, row.size, row.channels)
    if x.dtype != np.uint8 or shape not in (x.shape[1:], (*x.shape[1:], 1)):
        yield f"{split}_images is {x.dtype} {x.shape}, not uint8 [N, {', '.join(map(str, shape))}]"
    if fault:
        return
    y = y.reshape(-1)
    if len(x) != len(y) or not len(x):
        yield f"{len(x)} {split}_images, {len(y)} {split}_labels"
    bad = np.flatnonzero((y < 0) | (y >= row.num_classes))
    if len(bad):
        yield (f"{split}_labels[{bad[0]}] is {y[bad[0]]}, not within 0 to {row.num_classes - 1}"
               + f" (nor are {len(bad) - 1} others)" * (len(bad) > 1))
    absent = np.setdiff1d(np.arange(row.num_classes), y)
    if len(absent) and whole and len(y):
        yield (f"no image of class {absent[0]} in {split}_labels, which go up to {y.max()}, at "
               f"[{y.argmax()}]")


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


def cut(labels: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices in two parts: the second has ``share`` of each class, and at least one of it."""
    order = stratified_order(labels, seed)
    of_class = [order[labels[order] == c] for c in np.unique(labels)]
    part = np.concatenate([of[-max(1, round(share * len(of))):] for of in of_class])
    return np.setdiff1d(order, part), np.sort(part)

"""Pictures in a folder for each class: found, checked, decoded.

``PATH/train/<class>/…`` and ``PATH/test/<class>/…``, and ``PATH/val/<class>/…`` if there is one; or
``PATH/<class>/…``."""
import hashlib
import os
import unicodedata
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from ..files import sha256_of
from .arrays import SIDES, SPLITS, DataBad
from .pictures import endings, read_picture

SPLIT_FOLDERS = {"train": ("train", "training"), "test": ("test", "testing"),
                 "val": ("val", "valid", "validation")}


def listing(root: Path) -> list[tuple[str, str, Path]]:
    """(split, class, path) of every picture, splits and classes in order. ``DataBad`` lists the
    class folders without pictures or beside those of train, and then the unreadable pictures, too,
    so that one look finds all."""
    parts = {split: d for d in folders(root) for split, names in SPLIT_FOLDERS.items()
             if d.name.lower() in names and folders(d)} or {"train": root}
    if "train" not in parts:
        raise DataBad(f"{root.name} has {' and '.join(parts)} but no train")
    classes = {composed(d.name) for d in folders(parts["train"])}
    if len(classes) < 2:
        raise DataBad(f"{root.name} has {len(classes)} class folders, and two are the least: "
                      f"{root.name}/<class>/<picture>, or {root.name}/train/<class>/<picture>")
    found, empty, strange = [], [], []
    for split in filter(parts.get, SPLITS):
        for d in folders(parts[split]):
            paths, name = pictures(d), composed(d.name)
            found += [(split, name, path) for path in paths]
            if not paths:
                empty.append(d.relative_to(root).as_posix())
            if name not in classes:
                strange.append(f"{split}/{name}")
    refuse_classes(root, found, empty, strange)
    refuse_few(root, found, [split for split in SPLITS if split not in parts])
    return found


def composed(name: str) -> str:
    """One spelling of composed characters, whatever the file system makes of them."""
    return unicodedata.normalize("NFC", name)


def refuse_classes(root: Path, found: list, empty: list[str], strange: list[str]) -> None:
    """`DataBad` where class folders are empty or unknown; unreadable pictures are named, too."""
    wrong = []
    if empty:
        wrong.append(f"no pictures in {', '.join(empty)}")
    if strange:
        wrong.append(f"not among the classes of train: {', '.join(strange)}")
    if wrong:
        words = f"{root.name}: {'; '.join(wrong)}. Pictures end in .jpg, .png and the like"
        paths = [path for *_, path in found]
        torn = [r for r in attempts(root, paths, SIDES[0], 1) if isinstance(r, str)]
        raise DataBad(f"{words}\n{refusal(root, torn, len(paths))}" if torn else words)


def refuse_few(root: Path, found: list, absent: list[str]) -> None:
    """Every split that is cut out of the training pictures needs one of each class."""
    least = 1 + len(absent)
    counts = Counter(name for split, name, _ in found if split == "train")
    few = [f"{name} ({n})" for name, n in counts.items() if n < least]
    if few:
        raise DataBad(f"{root.name}: every class needs {least} training pictures at least, as "
                      f"{' and '.join(absent)} are cut out of them; too few of {', '.join(few)}")


def folders(root: Path) -> list[Path]:
    """The folders in a folder, in order of their names; links count, hidden ones do not."""
    if not root.is_dir():
        raise DataBad(f"{root.name} is no folder")
    entries = [Path(root, e.name) for e in os.scandir(root)
               if e.is_dir() and not e.name.startswith((".", "__"))]
    return sorted(entries, key=lambda path: composed(path.name))


def pictures(folder: Path) -> list[Path]:
    """The files below a folder whose endings are those of pictures; a link is followed once."""
    out, seen = [], set()
    for place, within, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            within.clear()
            continue
        seen.add(real)
        out += [Path(place, name) for name in names
                if Path(name).suffix.lower() in endings() and not name.startswith(".")]
    return sorted(out)


def left_out(found: list) -> list[Path]:
    """The files beside the pictures that are none, by their endings."""
    used = {path for *_, path in found}
    return sorted(Path(e.path) for folder in {path.parent for path in used}
                  for e in os.scandir(folder)
                  if e.is_file() and not e.name.startswith(".") and Path(e.path) not in used)


def folder_digest(root: Path) -> str:
    """SHA-256 of the pictures' names within the folder, and their bytes."""
    lines, wrong = [], []
    for _, _, path in listing(root):
        name = path.relative_to(root).as_posix()
        try:
            lines.append(f"{composed(name)}\0{sha256_of(path)}\n".encode())
        except OSError as error:
            wrong.append(f"{name}: {error.strerror}")
        except UnicodeEncodeError:
            wrong.append(f"{name}: its name is not UTF-8")
    if wrong:
        raise refusal(root, wrong, len(wrong) + len(lines))
    return hashlib.sha256(b"".join(sorted(lines))).hexdigest()


def refusal(root: Path, wrong: list[str], n: int) -> DataBad:
    return DataBad("\n  ".join([f"{root.name}: {len(wrong)} of {n} pictures cannot be used:",
                                *wrong]) + "\nReplace or remove them and start again.")


def attempts(root: Path, paths: list[Path], size: int, channels: int) -> Iterator[np.ndarray | str]:
    """Each picture as an array, or in words why it cannot be one."""
    def attempt(path):
        try:
            return read_picture(path, size, channels)
        except ValueError as error:
            return f"{path.relative_to(root).as_posix()}: {error}"
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(attempt, paths)


def decode(root: Path, size: int, channels: int | None) -> dict[str, np.ndarray]:
    """Every picture of a folder as arrays. `DataBad` names all that cannot be used."""
    found, wrong = listing(root), []
    if others := left_out(found):
        print(f"{root.name}: left out, of no type that Pillow reads: {len(others)} files, such as "
              f"{others[0].name}", flush=True)
    classes = sorted({name for _, name, _ in found})
    images = np.zeros((len(found), size, size, channels or 3), np.uint8)
    for k, result in enumerate(attempts(root, [path for *_, path in found], size, channels or 3)):
        if isinstance(result, str):
            wrong.append(result)
        else:
            images[k] = result
        if k % 2000 == 1999:
            print(f"{root.name}: {k + 1:,} of {len(found):,} pictures decoded", flush=True)
    if wrong:
        raise refusal(root, wrong, len(found))
    if channels is None and (images == images[..., :1]).all():
        images = np.ascontiguousarray(images[..., :1])
    labels = np.array([classes.index(name) for _, name, _ in found])
    split = np.array([split for split, *_ in found])
    arrays = {"class_names": np.array(classes)}
    for name in np.unique(split):
        arrays |= {f"{name}_images": images[split == name],
                   f"{name}_labels": labels[split == name]}
    return arrays

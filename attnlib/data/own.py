"""Your own pictures as a data set: ``folder:PATH``, a folder for each class, and ``npz:PATH``, a
file in MedMNIST's layout.

A folder: ``PATH/train/<class>/…`` and ``PATH/test/<class>/…``, and ``PATH/val/<class>/…`` if there
is one; or ``PATH/<class>/…``. What is missing of test and val is cut out of the training pictures,
class by class, always in the same way. `attnlib.pictures` makes squares of ``size`` pixels of them.
Where red, green and blue agree in every picture there is one channel.

Both are known by their ``content``, a SHA-256: the path is how they are found, no part of what they
are. So a run keeps its id when its data are moved, and gets another when one picture changes."""
import hashlib
import io
import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..files import Unwritable, set_aside, write_atomic
from ..paths import shown
from ..spec import derive, form, take_options
from .arrays import SIDES, SPLITS, DataBad, DataMissing, cut, read_npz
from .pictures import endings, read_picture

SPLIT_FOLDERS = {"train": ("train", "training"), "test": ("test", "testing"),
                 "val": ("val", "valid", "validation")}
SHARES = {"test": 0.2, "val": 0.1}      # of the training pictures that there are at that moment


# --- Names ---


def canonical(base: str, given: dict, folder: Path) -> str:
    """``folder:photos`` -> ``folder(content=x3f…):photos``: options checked, and the content
    measured unless it is named already. ``DataMissing`` where there is nothing at the path."""
    kind, place = OWN[base], given.pop("path", "")
    if not place:
        raise ValueError(f"{base} needs a path, as in {base}:{kind.example}")
    options = take_options("data set", base, given, kind.options)
    for key, valid in {"size": SIDES, "channels": (1, 3)}.items():
        if key in options and options[key] not in valid:
            words = f"{valid[0]} to {valid[-1]}" if key == "size" else "1 or 3"
            raise ValueError(f"data set {base!r}: option {key}={options[key]!r} should be {words}")
    if "content" not in options:
        path = places(place, folder)[0]
        options["content"] = kind.digest(path)
        place = kept(path, place, folder)
    return form(base, options | {"path": place})


def places(place: str, folder: Path) -> list[Path]:
    """Where a path may lead, of which something is there: from the working directory, and from the
    data folder."""
    path = Path(place).expanduser()
    tried = [Path.cwd() / path, folder / path]
    found = [Path(os.path.normpath(p)) for p in tried if p.exists()]
    if not found:
        raise DataMissing(f"no data at {place!r}: looked from the working directory and from the "
                          f"data folder {shown(folder)} (ATTNLIB_DATA sets it)")
    return found


def kept(path: Path, given: str, folder: Path) -> str:
    """A path as a run keeps it: relative to the data folder or the working directory where it lies
    in one, so that no record names a machine's folders; else as it was given."""
    for base in (folder, Path.cwd()):
        if path.is_relative_to(base):
            return path.relative_to(base).as_posix()
    return given


def place_of(base: str, options: dict, folder: Path) -> Path:
    """The path at which the content is the one named, or a `DataBad`."""
    found = {path: OWN[base].digest(path) for path in places(options["path"], folder)}
    for path, content in found.items():
        if content == options["content"]:
            return path
    raise DataBad(f"{options['path']} has other content ({', '.join(found.values())}) than the run "
                  f"was made with ({options['content']}): bring the old files back, or start a new "
                  f"run with --dataset {base}:{options['path']}")


def shorten(digest) -> str:
    """48 bits, behind a letter: always read back as text."""
    return "x" + digest.hexdigest()[:12]


# --- Folders ---


def listing(root: Path) -> list[tuple[str, str, Path]]:
    """(split, class, path) of every picture, splits and classes in order. ``DataBad`` lists the
    class folders without pictures or beside those of train, and then the unreadable pictures, too,
    so that one look finds all."""
    parts = {split: d for d in folders(root) for split, names in SPLIT_FOLDERS.items()
             if d.name.lower() in names and folders(d)}
    if not parts:
        parts = {"train": root}
    elif "train" not in parts:
        raise DataBad(f"{root.name} has {' and '.join(parts)} but no train")
    found = [(split, unicodedata.normalize("NFC", d.name), p) for split in SPLITS if split in parts
             for d in folders(parts[split]) for p in pictures(d) or [None]]
    empty = [f"{split}/{name}" if parts[split] != root else name
             for split, name, path in found if path is None]
    classes = {name for split, name, _ in found if split == "train"}
    strange = sorted({f"{split}/{name}" for split, name, _ in found} -
                     {f"{split}/{name}" for split in parts for name in classes})
    if len(classes) < 2:
        raise DataBad(f"{root.name} has {len(classes)} class folders, and two are the least: "
                      f"{root.name}/<class>/<picture>, or {root.name}/train/<class>/<picture>")
    wrong = [f"no pictures in {', '.join(empty)}"] * bool(empty) + \
            [f"not among the classes of train: {', '.join(strange)}"] * bool(strange)
    if wrong:
        words = f"{root.name}: {'; '.join(wrong)}. Pictures end in .jpg, .png and the like"
        paths = [path for *_, path in found if path]
        torn = [r for r in attempts(root, paths, SIDES[0], 1) if isinstance(r, str)]
        raise DataBad(f"{words}\n{refusal(root, torn, len(paths))}" if torn else words)
    check_counts(root, parts, found)
    return found


def check_counts(root: Path, parts, found: list) -> None:
    """Every split that has to be cut out of the training pictures needs one of each class."""
    least = 1 + sum(split not in parts for split in SPLITS)
    counts = Counter(name for split, name, _ in found if split == "train")
    few = [f"{name} ({n})" for name, n in counts.items() if n < least]
    if few:
        raise DataBad(f"{root.name}: every class needs {least} training pictures at least, as "
                      f"{' and '.join(s for s in SPLITS if s not in parts)} are cut out of them; "
                      f"too few of {', '.join(few)}")


def folders(root: Path) -> list[Path]:
    """The folders in a folder, in order of their names; links count, hidden ones do not."""
    if not root.is_dir():
        raise DataBad(f"{root.name} is no folder")
    entries = [Path(root, e.name) for e in os.scandir(root)
               if e.is_dir() and not e.name.startswith((".", "__"))]
    return sorted(entries, key=lambda p: unicodedata.normalize("NFC", p.name))


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
    """Of the pictures' names within the folder, and their bytes."""
    lines, wrong = [], []
    for _, _, path in listing(root):
        name = path.relative_to(root).as_posix()
        try:
            with open(path, "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            lines.append(f"{unicodedata.normalize('NFC', name)}\0{digest}\n")
        except OSError as error:
            wrong.append(f"{name}: {error.strerror}")
    if wrong:
        raise refusal(root, wrong, len(wrong) + len(lines))
    return shorten(hashlib.sha256("".join(sorted(lines)).encode()))


def refusal(root: Path, wrong: list[str], n: int) -> DataBad:
    return DataBad("\n  ".join([f"{root.name}: {len(wrong)} of {n} pictures cannot be used:",
                                *wrong]) + "\nReplace or remove them and start again.")


def read_folder(options: dict, folder: Path) -> dict[str, np.ndarray]:
    """The arrays of a folder: from the cache, or decoded and cached."""
    options = OWN["folder"].options | options
    name = "-".join(str(options[key]) for key in ("content", "size", "channels"))
    store_at = folder / "own" / f"{name}-v{OWN['folder'].version}.npz"
    if store_at.is_file():
        try:
            return read_npz(store_at)
        except DataBad as error:
            set_aside(store_at, str(error))
    arrays = decode(place_of("folder", options, folder), options["size"], options["channels"])
    split_up(arrays, options["content"])
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    try:
        write_atomic(store_at, buffer.getvalue())
    except Unwritable as error:
        print(f"the decoded pictures are not kept: {error}", flush=True)
    return arrays


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


def split_up(arrays: dict, content: str) -> None:
    """Cut what is missing of test and val out of the training pictures."""
    for part, share in SHARES.items():
        if f"{part}_images" not in arrays:
            x, y = arrays["train_images"], arrays["train_labels"]
            rest, out = cut(y, share, derive("cut", content, part))
            arrays |= {"train_images": x[rest], "train_labels": y[rest],
                       f"{part}_images": x[out], f"{part}_labels": y[out]}


# --- npz files ---


def npz_digest(path: Path) -> str:
    """Of the file's bytes."""
    if not path.is_file():
        raise DataBad(f"{path.name} is no file; for a folder of pictures: folder:{path.name}")
    with open(path, "rb") as file:
        return shorten(hashlib.file_digest(file, "sha256"))


def read_own_npz(options: dict, folder: Path) -> dict[str, np.ndarray]:
    return read_npz(place_of("npz", options, folder))


class Kind(NamedTuple):
    """``digest(path)`` is the content's name, ``read(options, data folder)`` the arrays."""
    says: str
    example: str
    options: dict
    digest: Callable
    read: Callable
    version: int = 1


OWN = {
    "folder": Kind("pictures in a folder for each class", "photos",
                   {"content": "", "size": 32, "channels": None}, folder_digest, read_folder),
    "npz": Kind("a file in MedMNIST's layout", "pathmnist.npz", {"content": ""}, npz_digest,
                read_own_npz),
}


def without_place(name: str, base: str, options: dict) -> str:
    """What of a name makes two runs the same: all but where the files lie."""
    return form(base, {k: v for k, v in options.items() if k != "path"}) if base in OWN else name


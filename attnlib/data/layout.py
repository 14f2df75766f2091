"""Which pictures below a folder are of which split and class, as people's folders are: with tools'
folders in them, doubled by unpacking, split under many names. What is guessed or left is told."""
import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .arrays import SPLITS, DataBad
from .pictures import endings

SYNONYMS = {"train": "train", "training": "train", "trn": "train",
            "val": "val", "valid": "val", "validate": "val", "validation": "val", "dev": "val",
            "test": "test", "testing": "test", "tst": "test", "eval": "test", "evaluation": "test"}
SPLIT_NAME = re.compile(r"(?:seg_)?([a-z]+?)[ _-]?(?:set|data|dataset|images|split)?\d*")
WANTED = "<class>/<picture>, or train/<class>/<picture>, is wanted in it"
TOOLS = ("thumbs", "thumbnails", "lost+found", "#recycle", "system volume information")
PLAIN = ("images", "imgs", "pictures")              # a folder so called is no class


class Folder(NamedTuple):
    path: Path
    pictures: list[Path]
    others: list[Path]
    folders: dict

    def below(self, kind: str = "pictures") -> list[Path]:
        return sorted(getattr(self, kind) + [path for inner in self.folders.values()
                                             for path in inner.below(kind)])


class Found(NamedTuple):
    splits: np.ndarray          # of each picture, as are classes and paths
    classes: list[str]
    paths: list[Path]
    files: list[Path]           # the pictures, and tables of classes
    notes: list[str]            # what was guessed or is not used
    faults: list[str]           # why this is no data set


def readable(name: str) -> str:
    """A file's name as text: composed characters in one spelling, bytes that are no text as \\x…"""
    return unicodedata.normalize("NFC", os.fsencode(name).decode("utf-8", "backslashreplace"))


def name_in(root: Path, path: Path) -> str:
    return readable(path.relative_to(root).as_posix())


def scan(path: Path, above: tuple[str, ...] = ()) -> Folder:
    """A folder with all in it but what is hidden or made by tools. Links count, circles end."""
    above, out = (*above, os.path.realpath(path)), Folder(path, [], [], {})
    for name in sorted((n for n in os.listdir(path) if not n.startswith(".")), key=readable):
        inner = Path(path, name)
        if not inner.is_dir():
            kind = out.pictures if inner.suffix.lower() in endings() else out.others
            kind.append(inner)
        elif not (name.startswith(("__", "@", "$")) or name.lower() in TOOLS
                  or os.path.realpath(inner) in above):
            if readable(name) in out.folders:
                raise DataBad(f"{readable(str(path))} has two folders {readable(name)}, spelt with "
                              "other bytes: put them together, or name one otherwise")
            out.folders[readable(name)] = scan(inner, above)
    return out


def looked_through(folder: Folder, stop: Callable = lambda name: False) -> Folder:
    """The folder, or the one in it where it holds nothing else and that one is no class."""
    while not folder.pictures and len(folder.folders) == 1:
        (name, inner), = folder.folders.items()
        if stop(name) or name.lower() not in PLAIN and (inner.pictures or not inner.folders):
            break
        folder = inner
    return folder


def find_pictures(root: Path) -> Found:
    """What is found below a folder. ``DataBad`` where it is not plain what its folders are."""
    if not root.is_dir():
        raise DataBad(f"{root.name} is no folder")
    every = scan(root)
    parts = splits_in(root, looked_through(every, split_of))
    classes, guessed, tables = {}, [], []
    for split in filter(parts.get, SPLITS):
        part, table = looked_through(parts[split]), table_in(parts[split])
        if table:
            found, how = from_table(table, part), f", its classes from {table.name}"
            tables.append(table)
        else:
            found, how = {name: inner.below() for name, inner in part.folders.items()}, ""
            refuse_two_levels(root, part)
        if found or split == "train":
            classes[split] = found
        if found and (table or part.path not in (root, root / split)):
            guessed.append(f"{name_in(root, part.path)} is {split}{how}")
    guessed += [f"{name} is a class, as it holds pictures itself"
                for name in classes["train"] if split_of(name)]
    rows = [(split, name, path) for split, found in classes.items()
            for name, paths in found.items() for path in paths]
    splits, names, paths = ([row[k] for row in rows] for k in range(3))
    told = {"taken as it looks": "; ".join(guessed),
            "not used": ", ".join(left_over(root, every, paths + tables))}
    return Found(np.array(splits), names, paths, paths + tables,
                 [f"{what}: {words}" for what, words in told.items() if words], faults_of(classes))


def split_of(name: str) -> str | None:
    """The split that a folder's name means: ``Training_Set`` -> ``train``."""
    match = SPLIT_NAME.fullmatch(name.lower())
    return SYNONYMS.get(match[1]) if match else None


def splits_in(root: Path, top: Folder) -> dict[str, Folder]:
    """The folder of each split; a folder without any is its own training part."""
    out = {}
    for name, folder in top.folders.items():
        split = split_of(name) if folder.folders or table_in(folder) else None
        if split in out:
            raise DataBad(f"{root.name}: {out[split].path.name} and {name} would both be {split}: "
                          "put them together, or name one otherwise (train, val or test)")
        if split:
            out[split] = folder
    if out and "train" not in out:
        raise DataBad(f"{root.name} has {' and '.join(out)} but no train")
    return out or {"train": top}


def table_in(folder: Folder) -> Path | None:
    return next((p for p in folder.others if p.name.lower().endswith("annotations.txt")), None)


def from_table(table: Path, part: Folder) -> dict[str, list[Path]]:
    """Class -> pictures, of those that a line ``file<tab>class<tab>…`` names."""
    lines = table.read_text("utf-8", "replace").splitlines()
    class_of = dict(line.split("\t")[:2] for line in lines if "\t" in line)
    out = defaultdict(list)
    for path in part.below():
        if path.name in class_of:
            out[class_of[path.name].strip()].append(path)
    return dict(sorted(out.items()))


def refuse_two_levels(root: Path, part: Folder) -> None:
    """`DataBad` where the folders in a split hold no pictures of their own but the same folders."""
    bare = {name: inner.folders for name, folder in part.folders.items()
            if not (inner := looked_through(folder)).pictures}
    counts = Counter(name for folders in bare.values() for name in folders)
    shared = [name for name, n in counts.items() if n > 1]
    if len(shared) > 1 or any(map(split_of, shared)):
        raise DataBad(f"{root.name}: {', '.join(bare)} hold no pictures of their own but the same "
                      f"folders, {', '.join(shared)}: only one of the two levels can be the class: "
                      + WANTED)


def faults_of(classes: dict[str, dict]) -> list[str]:
    """Why classes are too few, empty or unknown."""
    known = classes["train"]
    if len(known) < 2:
        return [f"{len(known)} class folders, and two are the least: {WANTED}"]
    faults = [f"no pictures in {split}/{name} (they end in .jpg, .png and the like); each folder "
              "is a class, and boxes or outlines are not supported"
              for split, found in classes.items() for name, paths in found.items() if not paths]
    if all(map(split_of, known)) or any(name.lower() in PLAIN for name in known):
        faults.append(f"{', '.join(known)} are no names of classes: {WANTED}; boxes or outlines "
                      "are not supported")
    return faults + [f"{split}/{name} is not among the classes of train"
                     for split, found in classes.items() for name in found if name not in known]


def left_over(root: Path, every: Folder, used: list[Path]) -> list[str]:
    """In words: the files that are not used, by the largest folder of which nothing is."""
    taken, unused = set(used), defaultdict(list)
    within = {root, *root.parents} | {folder for path in used for folder in path.parents}
    for path in every.below() + every.below("others"):
        if path not in taken:
            outside = (folder for folder in reversed(path.parents) if folder not in within)
            unused[next(outside, path.parent)].append(path)
    return [f"{name_in(root, folder)} ({len(files)} files, such as {readable(files[0].name)})"
            for folder, files in unused.items()]

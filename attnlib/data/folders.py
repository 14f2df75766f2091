"""A folder of pictures: known by its content, split, decoded."""
import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from ..files import sha256_of
from ..names import derive
from .arrays import SPLITS, DataBad, cut
from .layout import Found, name_in, readable, survey
from .pictures import common_levels, extremes, read_picture

SHARES = {"test": 0.2, "val": 0.1}      # of the training pictures that there are at that moment


def folder_digest(root: Path) -> str:
    """SHA-256 of the pictures' names within the folder, and their bytes."""
    found = usable(root)
    digests = checksums(root, found)
    paths = [*(path for *_, path in found.pictures), *found.tables]
    lines = sorted(f"{name_in(root, path)}\0{digest}\n"
                   for path, digest in zip(paths, digests, strict=True))
    first_copies(root, found, digests)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def usable(root: Path) -> Found:
    """What is found below a folder, or a `DataBad` with all that is wrong with its classes and,
    too, its pictures: one look finds all."""
    found = survey(root)
    if found.wrong:
        torn = [r for r in attempts(root, found, 28, 1) if isinstance(r, str)]
        raise DataBad("\n".join([found.wrong] + [refusal(root, found, torn)] * bool(torn)))
    return found


def refusal(root: Path, found: Found, wrong: list[str]) -> str:
    return "\n  ".join([f"{root.name}: {len(wrong)} of {len(found.pictures)} pictures cannot be "
                        "used:", *wrong]) + "\nReplace or remove them and start again."


def checksums(root: Path, found: Found) -> list[str]:
    """SHA-256 of each picture and table."""
    out, wrong = [], []
    for path in [*(path for *_, path in found.pictures), *found.tables]:
        try:
            out.append(sha256_of(path))
        except OSError as error:
            wrong.append(f"{name_in(root, path)}: {error.strerror}")
    if wrong:
        raise DataBad(refusal(root, found, wrong))
    return out


def first_copies(root: Path, found: Found, digests: list[str]) -> np.ndarray:
    """The index of the first picture with the same bytes, for each. `DataBad` where the copies were
    put into two splits: what is tested on must not have been seen."""
    _, first, same = np.unique(digests[:len(found.pictures)], return_index=True,
                               return_inverse=True)
    first = first[same]
    pairs = [(path, found.pictures[k][2]) for (split, _, path), k in zip(
        found.pictures, first, strict=True) if split != found.pictures[k][0]]
    if pairs:
        one, other = (name_in(root, path) for path in pairs[0])
        raise DataBad(f"{root.name}: {len(pairs)} pictures are in two splits, byte for byte, such "
                      f"as {one} and {other}: remove them from one")
    return first


def attempts(root: Path, found: Found, size: int, channels: int,
             levels: dict | None = None) -> Iterator[np.ndarray | str]:
    """Each picture as an array, or in words why it cannot be one."""
    def attempt(path):
        try:
            return read_picture(path, size, channels, levels)
        except ValueError as error:
            return f"{name_in(root, path)}: {readable(str(error))}"
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(attempt, [path for *_, path in found.pictures])


def decode(root: Path, size: int, channels: int | None, content: str) -> dict[str, np.ndarray]:
    """Every picture of a folder as arrays in splits, with ``notes`` on what was done to them.
    `DataBad` names all that cannot be used."""
    found, notes, wrong = usable(root), [], []
    first = first_copies(root, found, checksums(root, found))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        deep = [e for e in pool.map(extremes, [path for *_, path in found.pictures]) if e]
    levels = common_levels(deep)
    for low, high in levels.values():
        notes.append(f"of {len(deep)} pictures with more than 8 bits, levels {low:g} to {high:g} "
                     "become 0 to 255")
    images = np.zeros((len(first), size, size, channels or 3), np.uint8)
    for k, result in enumerate(attempts(root, found, size, channels or 3, levels)):
        if isinstance(result, str):
            wrong.append(result)
        else:
            images[k] = result
        if k % 2000 == 1999:
            print(f"{root.name}: {k + 1:,} of {len(first):,} pictures decoded", flush=True)
    if wrong:
        raise DataBad(refusal(root, found, wrong))
    if channels is None and (images == images[..., :1]).all():
        images = np.ascontiguousarray(images[..., :1])
    classes, labels = np.unique([name for _, name, _ in found.pictures], return_inverse=True)
    given = np.array([split for split, *_ in found.pictures])
    split = cut_missing(given, labels, first, content)
    copies = int((first != np.arange(len(first))).sum())
    if copies and (split != given).any():
        notes.append(f"{copies} pictures are copies of others, byte for byte: copies are kept in "
                     "one split")
    arrays = {"class_names": classes, "notes": np.array(notes)}
    for name in SPLITS:
        arrays |= {f"{name}_images": images[split == name],
                   f"{name}_labels": labels[split == name]}
    return arrays


def cut_missing(split: np.ndarray, labels: np.ndarray, first: np.ndarray,
                content: str) -> np.ndarray:
    """The split of each picture, what is missing of test and val cut out of train, class by class:
    of copies the first is drawn, and the others follow."""
    split = split.copy()
    for part, share in SHARES.items():
        if part not in split:
            train = np.flatnonzero((split == "train") & (first == np.arange(len(first))))
            _, out = cut(labels[train], share, derive("cut", content, part))
            split[np.isin(first, train[out])] = part
    return split

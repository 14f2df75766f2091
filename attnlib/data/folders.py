"""A folder of pictures: known by its content, split, decoded."""
import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from ..files import sha256_of
from ..names import derive
from .arrays import SPLITS, DataBad, cut
from .layout import Found, name_in, readable, survey
from .pictures import attempts, common_levels, extremes

SHARES = {"test": 0.2, "val": 0.1}      # of the training pictures that there are at that moment


def folder_digest(root: Path) -> str:
    """SHA-256 of the pictures' names within the folder, and their bytes."""
    found, digests, _ = read_bytes(root)
    lines = sorted(f"{name_in(root, path)}\0{digest}\n"
                   for path, digest in zip(found.files, digests, strict=True))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def read_bytes(root: Path) -> tuple[Found, list[str], np.ndarray]:
    """What is found below a folder, the SHA-256 of each file, and for each picture the index of the
    first one with the same bytes. `DataBad` names all that is wrong with classes and files, and
    copies that were put into two splits: what is tested on must not have been seen."""
    found, digests, wrong = survey(root), [], []
    if found.wrong:
        torn = [words for _, words in tried(root, found, 28, 1) if words]
        raise DataBad("\n".join([found.wrong] + [refusal(root, found, torn)] * bool(torn)))
    for path in found.files:
        try:
            digests.append(sha256_of(path))
        except OSError as error:
            wrong.append(f"{name_in(root, path)}: {error.strerror}")
    if wrong:
        raise DataBad(refusal(root, found, wrong))
    _, first, same = np.unique(digests[:len(found.paths)], return_index=True, return_inverse=True)
    first = first[same]
    seen = np.flatnonzero(found.splits != found.splits[first])
    if len(seen):
        one, other = (name_in(root, found.paths[k]) for k in (seen[0], first[seen[0]]))
        raise DataBad(f"{root.name}: {len(seen)} pictures are in two splits, byte for byte, such "
                      f"as {one} and {other}: remove them from one")
    return found, digests, first


def tried(root: Path, found: Found, size: int, channels: int, levels: dict | None = None):
    """Each picture as (array, ""), or (None, why it cannot be one, behind its name)."""
    results = attempts(found.paths, size, channels, levels)
    for path, result in zip(found.paths, results, strict=True):
        bad = isinstance(result, str)
        yield (None, f"{name_in(root, path)}: {readable(result)}") if bad else (result, "")


def refusal(root: Path, found: Found, wrong: list[str]) -> str:
    return "\n  ".join([f"{root.name}: {len(wrong)} of {len(found.paths)} pictures cannot be used:",
                        *wrong]) + "\nReplace or remove them and start again."


def decode(root: Path, size: int, channels: int | None, content: str) -> dict[str, np.ndarray]:
    """Every picture of a folder as arrays in splits, with ``notes`` on what was done to them.
    `DataBad` names all that cannot be used."""
    (found, _, first), notes = read_bytes(root), []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        deep = [levels for levels in pool.map(extremes, found.paths) if levels]
    levels = common_levels(deep)
    for low, high in levels.values():
        notes.append(f"{len(deep)} pictures have more than 8 bits: levels {low:g} to {high:g} "
                     "become 0 to 255")
    images, wrong = np.zeros((len(first), size, size, channels or 3), np.uint8), []
    for k, (image, words) in enumerate(tried(root, found, size, channels or 3, levels)):
        if words:
            wrong.append(words)
        else:
            images[k] = image
        if k % 2000 == 1999:
            print(f"{root.name}: {k + 1:,} of {len(first):,} pictures decoded", flush=True)
    if wrong:
        raise DataBad(refusal(root, found, wrong))
    if channels is None and (images == images[..., :1]).all():
        images = np.ascontiguousarray(images[..., :1])
    classes, labels = np.unique(found.classes, return_inverse=True)
    split = cut_missing(found.splits, labels, first, content)
    copies = int((first != np.arange(len(first))).sum())
    if copies and (split != found.splits).any():
        notes.append(f"{copies} pictures are copies of others, byte for byte: copies are kept in "
                     "one split")
    arrays = {"class_names": classes, "notes": np.array(notes, str)}
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

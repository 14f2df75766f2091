"""Your own pictures as a data set: ``folder:PATH``, a folder for each class, and ``npz:PATH``, a
file in MedMNIST's layout; docs/own-data.md has the rules.

Both are known by their ``content``, a SHA-256: the path is how they are found, no part of what they
are. So a run keeps its id when its data are moved, and gets another when one picture changes."""
import contextlib
import hashlib
import io
import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..files import Unwritable, set_aside, sha256_of, write_atomic
from ..names import derive, form, take_options
from ..settings import shown
from .arrays import SIDES, SPLITS, DataBad, DataMissing, cut, read_npz, refuse
from .layout import Found, find_pictures, name_in, readable
from .pictures import attempts, common_levels

SHARES = {"test": 0.2, "val": 0.1}      # of the training pictures that there are at that moment


def canonical(base: str, given: dict, folder: Path) -> str:
    """``folder:photos`` -> ``folder(content=x3f…):photos``: options checked, and the content
    measured unless it is named already. ``DataMissing`` where there is nothing at the path."""
    place = given.pop("path", "")
    if not place:
        raise ValueError(f"{base} needs a path, as in {base}:PATH")
    options = take_options("data set", base, given, OWN[base].options)
    for key, valid, words in (("size", SIDES, "28 to 224"), ("channels", (1, 3), "1 or 3")):
        if key in options and not (options[key] in valid and type(options[key]) is int):
            raise ValueError(f"data set {base!r}: option {key}={options[key]!r} should be {words}")
    if "content" not in options:
        path = places(place, folder)[0]
        options["content"] = content_of(base, path)
        for root in (Path.cwd(), folder):           # no record is to name a machine's folders
            if path.is_relative_to(root):
                place = path.relative_to(root).as_posix()
    return form(base, options | {"path": place})


def places(place: str, folder: Path) -> list[Path]:
    """Where a path leads from the working directory and from the data folder: once at least."""
    path = Path(place).expanduser()
    tried = [Path.cwd() / path, folder / path]
    found = [Path(os.path.normpath(p)) for p in tried if p.exists()]
    if not found:
        raise DataMissing(f"no data at {place!r}: looked from the working directory and from the "
                          f"data folder {shown(folder)} (ATTNLIB_DATA sets it)")
    return found


def place_of(base: str, options: dict, folder: Path) -> Path:
    """The path at which the content is the one named, or a `DataBad`."""
    found = {content_of(base, path): path for path in places(options["path"], folder)}
    if options["content"] not in found:
        raise DataBad(f"{options['path']} has other content ({', '.join(found)}) than the run was "
                      f"made with ({options['content']}): bring the old files back, or start a new "
                      f"run with --dataset {base}:{options['path']}")
    return found[options["content"]]


def content_of(base: str, path: Path) -> str:
    """48 bits of a SHA-256, behind a letter: always read back as text. Of a file's bytes, or of the
    names within a folder of what is used and their bytes."""
    if base == "folder":
        found, digests, _ = read_bytes(path)
        lines = sorted(f"{name_in(path, file)}\0{digest}\n"
                       for file, digest in zip(found.files, digests, strict=True))
        return "x" + hashlib.sha256("".join(lines).encode()).hexdigest()[:12]
    if not path.is_file():
        raise DataBad(f"{path.name} is no file; for a folder of pictures: folder:{path.name}")
    return "x" + sha256_of(path)[:12]


def read_bytes(root: Path) -> tuple[Found, list[str], np.ndarray]:
    """What is found below a folder, the SHA-256 of each file, and for each picture the index of the
    first one with the same bytes. `DataBad` for bad classes and files, and copies in two splits
    or classes."""
    found, digests = find_pictures(root), []
    with contextlib.suppress(OSError):                      # a file that cannot be read
        digests = [sha256_of(path) for path in found.files]
    if found.faults or not digests:
        refuse(root.name, found.faults + [f"{name_in(root, path)}: {readable(why)}" for path, _, why
                                          in attempts(found.paths, 28, 1) if why])
    _, first, same = np.unique(digests[:len(found.paths)], return_index=True, return_inverse=True)
    first = first[same]
    faults, alone, classes = [], first == np.arange(len(first)), np.array(found.classes)
    twice = np.flatnonzero((found.splits != found.splits[first]) | (classes != classes[first]))
    if len(twice):
        one, other = (name_in(root, found.paths[k]) for k in (twice[0], first[twice[0]]))
        faults.append(f"{len(twice)} pictures are in two splits or classes, byte for byte, such as "
                      f"{one} and {other}: remove them from one")
    different = Counter(classes[alone & (found.splits == "train")].tolist())
    absent = [split for split in SPLITS if split not in found.splits]
    if absent:
        faults += [f"{name} has {different[name]} different training pictures, and "
                   f"{1 + len(absent)} are the least, as {' and '.join(absent)} are cut out of them"
                   for name in sorted(set(found.classes)) if different[name] <= len(absent)]
    refuse(root.name, faults)
    return found, digests, first


def read_folder(options: dict, folder: Path) -> dict[str, np.ndarray]:
    """The arrays of a folder, from the cache, or decoded and cached. Notes are always printed."""
    options = OWN["folder"].options | options
    size, channels, content = (options[key] for key in ("size", "channels", "content"))
    cache = folder / "own" / f"{content}-{size}-{channels}-v{OWN['folder'].version}.npz"
    arrays = None
    if cache.is_file():
        try:
            arrays = read_npz(cache)
        except DataBad as error:
            set_aside(cache, str(error))
    if arrays is None:
        arrays = decode(place_of("folder", options, folder), size, channels, content)
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        try:
            write_atomic(cache, buffer.getvalue())
        except Unwritable as error:
            print(f"the decoded pictures are not kept: {error}", flush=True)
    notes = arrays.pop("notes").tolist()
    arrays.setdefault("levels", np.array("null"))           # of a cache made before there were any
    with contextlib.suppress(DataMissing, DataBad):         # a run needs the folder no more
        notes = find_pictures(places(options["path"], folder)[0]).notes + notes
    for note in notes:
        print(f"{readable(Path(options['path']).name) or 'folder'}: {note}", flush=True)
    return arrays


def decode(root: Path, size: int, channels: int | None, content: str) -> dict[str, np.ndarray]:
    """Every picture as arrays in splits, with ``notes`` on what was done to them, or a `DataBad`
    that names all that cannot be used."""
    found, _, first = read_bytes(root)
    levels, notes = common_levels(found.paths)
    images, faults = np.zeros((len(first), size, size, channels or 3), np.uint8), []
    for k, (path, image, why) in enumerate(attempts(found.paths, size, channels or 3, levels)):
        if why:
            faults.append(f"{name_in(root, path)}: {readable(why)}")
        else:
            images[k] = image
        if k % 2000 == 1999:
            print(f"{root.name}: {k + 1:,} of {len(first):,} pictures decoded", flush=True)
    refuse(root.name, faults)
    if channels is None and (images == images[..., :1]).all():
        images = images[..., :1]
    classes, labels = np.unique(found.classes, return_inverse=True)
    split, alone = found.splits.copy(), first == np.arange(len(first))
    for part, share in SHARES.items():      # class by class; of copies the first is drawn, and the
        if part not in found.splits:        # others follow it
            train = np.flatnonzero((split == "train") & alone)
            out = train[cut(labels[train], share, derive("cut", content, part))]
            split[np.isin(first, out)] = part
    if not alone.all() and (split != found.splits).any():
        notes.append(f"{(~alone).sum()} pictures are copies of others, byte for byte: copies are "
                     "kept in one split")
    arrays = {"class_names": classes, "notes": np.array(notes, str),
              "levels": np.array(json.dumps(levels))}
    for name in SPLITS:
        arrays |= {f"{name}_images": images[split == name], f"{name}_labels": labels[split == name]}
    return arrays


class Kind(NamedTuple):
    options: dict
    read: Callable                          # read(options, data folder) -> arrays
    version: int = 1


OWN = {
    "folder": Kind({"content": "", "size": 32, "channels": None}, read_folder, version=2),
    "npz": Kind({"content": ""},
                lambda options, folder: read_npz(place_of("npz", options, folder))),
}

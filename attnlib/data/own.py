"""Your own pictures as a data set: ``folder:PATH``, a folder for each class, and ``npz:PATH``, a
file in MedMNIST's layout; docs/own-data.md has the rules.

Both are known by their ``content``, a SHA-256: the path is how they are found, no part of what they
are. So a run keeps its id when its data are moved, and gets another when one picture changes."""
import contextlib
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..files import Unwritable, set_aside, sha256_of, write_atomic
from ..names import form, take_options
from ..settings import shown
from .arrays import SIDES, DataBad, DataMissing, read_npz
from .folders import decode, folder_digest
from .layout import readable, survey


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
        options["content"] = content_of(base, path)
        inside = [root for root in (folder, Path.cwd()) if path.is_relative_to(root)]
        if inside:                                  # no record is to name a machine's folders
            place = path.relative_to(inside[0]).as_posix()
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


def place_of(base: str, options: dict, folder: Path) -> Path:
    """The path at which the content is the one named, or a `DataBad`."""
    found = {path: content_of(base, path) for path in places(options["path"], folder)}
    for path, content in found.items():
        if content == options["content"]:
            return path
    raise DataBad(f"{options['path']} has other content ({', '.join(found.values())}) than the run "
                  f"was made with ({options['content']}): bring the old files back, or start a new "
                  f"run with --dataset {base}:{options['path']}")


def content_of(base: str, path: Path) -> str:
    """48 bits of the content's SHA-256, behind a letter: always read back as text."""
    return "x" + OWN[base].digest(path)[:12]


def read_folder(options: dict, folder: Path) -> dict[str, np.ndarray]:
    """The arrays of a folder, from the cache, or decoded and cached. What is to be said of the
    folder and its pictures is said each time."""
    options = OWN["folder"].options | options
    name = "-".join(str(options[key]) for key in ("content", "size", "channels"))
    store_at = folder / "own" / f"{name}-v{OWN['folder'].version}.npz"
    arrays = None
    if store_at.is_file():
        try:
            arrays = read_npz(store_at)
        except DataBad as error:
            set_aside(store_at, str(error))
    if arrays is None:
        root = place_of("folder", options, folder)
        arrays = decode(root, options["size"], options["channels"], options["content"])
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        try:
            write_atomic(store_at, buffer.getvalue())
        except Unwritable as error:
            print(f"the decoded pictures are not kept: {error}", flush=True)
    notes = arrays.pop("notes").tolist()
    with contextlib.suppress(DataMissing, DataBad):         # a run needs the folder no more
        notes = survey(places(options["path"], folder)[0]).notes + notes
    for note in notes:
        print(f"{readable(Path(options['path']).name) or 'folder'}: {note}", flush=True)
    return arrays


def npz_digest(path: Path) -> str:
    """SHA-256 of the file's bytes."""
    if not path.is_file():
        raise DataBad(f"{path.name} is no file; for a folder of pictures: folder:{path.name}")
    return sha256_of(path)


class Kind(NamedTuple):
    """``digest(path)`` is the content's SHA-256, ``read(options, data folder)`` the arrays."""
    example: str
    options: dict
    digest: Callable
    read: Callable
    version: int = 1


OWN = {
    "folder": Kind("photos", {"content": "", "size": 32, "channels": None}, folder_digest,
                   read_folder, version=2),
    "npz": Kind("pathmnist.npz", {"content": ""}, npz_digest,
                lambda options, folder: read_npz(place_of("npz", options, folder))),
}

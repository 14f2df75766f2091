"""Records and checkpoints: atomic, checksummed, locked.

A record carries its body's SHA-256, a checkpoint its own in its name: one rename commits both."""
import contextlib
import hashlib
import io
import json
import os
import re
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from ..files import Busy as Busy
from ..files import held, make_writable, set_aside, sweep, write_atomic
from ..settings import checkpoints_dir, part, runs_dir
from .run import canonical_json

CHECKPOINT = re.compile(r"ckpt-(\d+)-([0-9a-f]{64})\.pt")
WEIGHTS = re.compile(r"(final)-([0-9a-f]{64})\.pt")
LOCK = "run.lock"
SCHEMA = 1
STATUSES = ("done", "diverged", "failed")
NO_MEMORY = ("out of memory", "allocate memory", "bad_alloc", "unable to allocate")
KEPT = 4000             # records that a process remembers, of about 20 KB each
KINDS = {"run": dict, "versions": dict, "history": list, "arrays": dict, "model": dict}


def record_path(profile: str, run_id: str) -> Path:
    return runs_dir(profile) / f"{part(run_id)}.json"


def write_record(profile: str, body: dict) -> None:
    write_sealed(record_path(profile, body["id"]), body)


def write_sealed(path: Path, body: dict) -> None:
    """Store a body, which `read_sealed` gives back, at ``path``, whose stem is its id."""
    write_atomic(path, sealed(canonical_json(body).encode()))


def sealed(text: bytes) -> bytes:
    """A body's canonical JSON with its SHA-256."""
    return b'{"body":%b,"sha256":"%b"}\n' % (text, hashlib.sha256(text).hexdigest().encode())


def read_record(profile: str, run_id: str) -> dict | None:
    """The body of a run's record, or None where it is missing or was set aside as corrupt. A file
    that has not changed is read once a process, so what comes back is not to be changed."""
    with contextlib.suppress(FileNotFoundError):
        return read_once(*stamped(record_path(profile, run_id)))


def stamped(file: Path | os.DirEntry) -> tuple[str, int, int, int]:
    """A file's path with what tells whether it has changed."""
    stat = file.stat()
    return os.fspath(file), stat.st_ino, stat.st_size, stat.st_mtime_ns


@lru_cache(KEPT)
def read_once(path: str, *stamp: int) -> dict | None:
    return read_sealed(Path(path), is_record)


def record_files(profile: str) -> list[tuple[str, int, int, int]]:
    """The `stamped` files of a profile's records, in the order of their ids."""
    if not runs_dir(profile).is_dir():
        return []
    with os.scandir(runs_dir(profile)) as files:
        return sorted(stamped(file) for file in files if file.name.endswith(".json"))


def read_sealed(path: Path, fits=lambda body: True) -> dict | None:
    """The body at ``path`` as `write_sealed` wrote it, or None where there is none; one that is
    torn, was changed or does not ``fit`` is set aside."""
    try:
        body = checked(path.read_bytes(), path.stem, fits)
    except FileNotFoundError:
        return None
    except IsADirectoryError:
        body = None
    if body is None:
        set_aside(path, "the record is torn or was changed")
    return body


def finished_record(profile: str, run_id: str) -> dict | None:
    """A record that training would not change: done or diverged, not failed."""
    record = read_record(profile, run_id)
    return record if record and record["status"] != "failed" else None


def is_record(body: dict) -> bool:
    """Whether a body has what every reader of run records relies on."""
    return (body["status"] in STATUSES and isinstance(body["run"], dict)
            and all(isinstance(body.get(key, kind()), kind) for key, kind in KINDS.items()))


def checked(raw: bytes, name: str, fits=is_record) -> dict | None:
    """The body in a sealed file's bytes; None where they are not what ``name`` was written as."""
    try:
        whole = json.loads(raw)
        body = whole["body"]
        text = raw[len('{"body":'):-len(',"sha256":""}\n') - 64]
        if raw != sealed(text):                         # not as we wrote it: other blanks, say
            text = canonical_json(body).encode()
        good = (hashlib.sha256(text).hexdigest() == whole["sha256"]
                and body["schema"] == SCHEMA and body["id"] == name and fits(body))
    except (ValueError, KeyError, TypeError, RecursionError):
        good = False
    return body if good else None


def all_records(profile: str) -> list[dict]:
    """Every good record of a profile, in the order of their ids."""
    return [body for file in record_files(profile) if (body := read_once(*file))]


def write_arrays(profile: str, name: str, arrays: dict) -> str:
    """Store arrays beside the records as ``<name>.npz``; returns the file's SHA-256."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    write_atomic(runs_dir(profile) / f"{part(name)}.npz", buffer.getvalue())
    return hashlib.sha256(buffer.getvalue()).hexdigest()


def read_arrays(profile: str, name: str, digest: str | None) -> dict | None:
    """The arrays of ``<name>.npz``, or None where the file is missing, or is not the one with that
    SHA-256 (then it is set aside)."""
    path = runs_dir(profile) / f"{part(name)}.npz"
    if not digest or not path.is_file():
        return None
    raw = path.read_bytes()
    if hashlib.sha256(raw).hexdigest() != digest:
        set_aside(path, "its SHA-256 is not the one in the record")
        return None
    with np.load(io.BytesIO(raw), allow_pickle=False) as archive:
        return dict(archive)


def save_checkpoint(folder: Path, stem: str, state: dict) -> None:
    """Store ``state`` (dicts, lists, numbers, strings, tensors) as ``<stem>-<sha256>.pt`` and drop
    all but the newest two epochs' files; of ``final`` weights all others."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    digest = hashlib.sha256(buffer.getbuffer()).hexdigest()
    new = folder / f"{stem}-{digest}.pt"
    write_atomic(new, buffer.getvalue())
    old = list_files(folder, CHECKPOINT)[2:]
    if stem == "final":
        old += [path for path in list_files(folder, WEIGHTS) if path != new]
    for path in old:
        path.unlink(missing_ok=True)


def list_files(folder: Path, pattern: re.Pattern) -> list[Path]:
    """The checkpoint files of a folder, newest epoch first: a longer name has a larger number."""
    found = (path for path in folder.glob("*.pt") if pattern.fullmatch(path.name))
    return sorted(found, key=lambda path: (len(path.name), path.name), reverse=True)


def load_checkpoint(folder: Path, pattern: re.Pattern = CHECKPOINT) -> dict | None:
    """The newest state whose SHA-256 is the one in its name, on the CPU; None if there is none."""
    for path in list_files(folder, pattern):
        raw = path.read_bytes()
        if hashlib.sha256(raw).hexdigest() != pattern.fullmatch(path.name)[2]:
            set_aside(path, "its SHA-256 is not the one in its name")
            continue
        try:
            return torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True)
        except Exception as error:          # whole, and not ours: hostile, or of a newer PyTorch
            if lacks_memory(error):
                raise
            set_aside(path, f"it is not a state of ours ({type(error).__name__})")
    return None


def lacks_memory(error: Exception) -> bool:
    """Whether an exception is one of the many ways to say that memory ran out."""
    return isinstance(error, MemoryError) or any(s in str(error).lower() for s in NO_MEMORY)


def drop_checkpoints(profile: str, run_id: str) -> None:
    """Remove the resumable states of a finished run; its final weights stay."""
    for path in list_files(checkpoints_dir(profile, run_id), CHECKPOINT):
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def lock(profile: str, run_id: str, tidy: bool = True):
    """Hold a run. `Busy` where another process does, `Unwritable` where its results could not be
    stored. ``tidy``: first remove what a process that was killed while saving has left."""
    folder = checkpoints_dir(profile, run_id)
    for place in (folder, runs_dir(profile)):
        make_writable(place)
    with held(folder / LOCK, f"{run_id} is being trained by another process"):
        if tidy:
            sweep(folder, ".")
            sweep(runs_dir(profile), f".{run_id}.")
        yield

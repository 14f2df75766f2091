"""Records and checkpoints: atomic, checksummed, locked.

A file is written under a temporary name in its own folder, flushed to the disk and renamed, so it
is there whole or not at all. A record carries the SHA-256 of its body, a checkpoint carries its own
in its name: one rename commits both. What does not match is set aside as ``*.corrupt`` with a
warning, never deleted, never read."""
import contextlib
import hashlib
import io
import json
import os
import re
import warnings
from pathlib import Path

import torch

from .paths import checkpoints_dir, runs_dir, shown
from .run import canonical_json

CHECKPOINT = re.compile(r"ckpt-(\d+)-([0-9a-f]{64})\.pt")
WEIGHTS = re.compile(r"(final)-([0-9a-f]{64})\.pt")
SCHEMA = 1


def write_atomic(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path``, whole or not at all, even if the power fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    if hasattr(os, "O_DIRECTORY"):                       # the rename itself reaches the disk
        folder = os.open(path.parent, os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def set_aside(path: Path, why: str) -> None:
    """Rename a bad file to ``*.corrupt`` and say so."""
    target = path.with_name(path.name + ".corrupt")
    with contextlib.suppress(OSError):
        os.replace(path, target)
    warnings.warn(f"{shown(path)}: {why}; set aside as {target.name}", stacklevel=3)


def record_path(profile: str, run_id: str) -> Path:
    return runs_dir(profile) / f"{run_id}.json"


def write_record(profile: str, body: dict) -> None:
    """Store a record as canonical JSON under its own SHA-256."""
    write_sealed(record_path(profile, body["id"]), body)


def write_sealed(path: Path, body: dict) -> None:
    """Store a body, which `read_record` gives back, at ``path``, whose stem is its id."""
    text = canonical_json(body)
    digest = hashlib.sha256(text.encode()).hexdigest()
    whole = f'{{"body":{text},"sha256":"{digest}"}}\n'
    write_atomic(path, whole.encode())


def read_record(path: Path) -> dict | None:
    """The body of a record, or None where it is missing or was set aside as corrupt."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        whole = json.loads(raw)
        body = whole["body"]
        good = (hashlib.sha256(canonical_json(body).encode()).hexdigest() == whole["sha256"]
                and body["schema"] == SCHEMA and body["id"] == path.stem)
    except (ValueError, KeyError, TypeError):
        good = False
    if not good:
        set_aside(path, "the record is torn or was changed")
        return None
    return body


def all_records(profile: str) -> list[dict]:
    """Every good record of a profile, in the order of their ids."""
    folder = runs_dir(profile)
    if not folder.is_dir():
        return []
    names = sorted(e.name for e in os.scandir(folder) if e.name.endswith(".json"))
    return [body for name in names if (body := read_record(folder / name))]


def write_arrays(profile: str, name: str, arrays: dict) -> str:
    """Store arrays beside the records as ``<name>.npz``; returns the file's SHA-256."""
    import numpy as np
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    write_atomic(runs_dir(profile) / f"{name}.npz", buffer.getvalue())
    return hashlib.sha256(buffer.getvalue()).hexdigest()


def read_arrays(profile: str, name: str, digest: str | None) -> dict | None:
    """The arrays of ``<name>.npz``, or None where the file is missing, or is not the one with that
    SHA-256 (then it is set aside)."""
    import numpy as np
    path = runs_dir(profile) / f"{name}.npz"
    if not digest or not path.is_file():
        return None
    raw = path.read_bytes()
    if hashlib.sha256(raw).hexdigest() != digest:
        set_aside(path, "its SHA-256 is not the one in the record")
        return None
    with np.load(io.BytesIO(raw), allow_pickle=False) as archive:
        return {key: archive[key] for key in archive.files}


def save_checkpoint(folder: Path, stem: str, state: dict, keep: int = 2) -> None:
    """Store ``state`` (dicts, lists, numbers, strings, tensors) as ``<stem>-<sha256>.pt`` and drop
    all but the newest ``keep`` epochs' files."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    digest = hashlib.sha256(buffer.getbuffer()).hexdigest()
    write_atomic(folder / f"{stem}-{digest}.pt", buffer.getvalue())
    for path in list_files(folder, CHECKPOINT)[keep:]:
        path.unlink(missing_ok=True)


def list_files(folder: Path, pattern: re.Pattern) -> list[Path]:
    """The checkpoint files of a folder, newest epoch first. No glob: a folder's name may hold
    brackets."""
    if not folder.is_dir():
        return []
    found = [m for e in os.scandir(folder) if (m := pattern.fullmatch(e.name))]
    def epoch(match):
        return int(match[1]) if match[1].isdigit() else 0
    return [folder / m[0] for m in sorted(found, key=epoch, reverse=True)]


def load_checkpoint(folder: Path, pattern: re.Pattern = CHECKPOINT) -> dict | None:
    """The newest state whose SHA-256 is the one in its name, on the CPU; None if there is none."""
    for path in list_files(folder, pattern):
        raw = path.read_bytes()
        if hashlib.sha256(raw).hexdigest() == pattern.fullmatch(path.name)[2]:
            return torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True)
        set_aside(path, "its SHA-256 is not the one in its name")
    return None


def drop_checkpoints(profile: str, run_id: str) -> None:
    """Remove the resumable states of a finished run; its final weights stay."""
    for path in list_files(checkpoints_dir(profile, run_id), CHECKPOINT):
        path.unlink(missing_ok=True)


class Busy(RuntimeError):
    """Another process holds the run."""


@contextlib.contextmanager
def lock(profile: str, run_id: str):
    """Hold a run. The kernel frees the lock when its holder dies. Raises `Busy` if it is held."""
    folder = checkpoints_dir(profile, run_id)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "run.lock", "w") as file:
        try:
            import fcntl
        except ImportError:                              # Windows: one process at a time, please
            yield
            return
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Busy(f"{run_id} is being trained by another process") from None
        sweep(folder, "")
        sweep(runs_dir(profile), f".{run_id}.")
        yield


def sweep(folder: Path, prefix: str) -> None:
    """Remove what a process that was killed while saving has left."""
    for name in os.listdir(folder) if folder.is_dir() else ():
        if name.startswith(prefix) and name.endswith(".tmp"):
            (folder / name).unlink(missing_ok=True)

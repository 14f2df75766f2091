"""Records and checkpoints: atomic, checksummed, locked.

A file is written under a temporary name in its own folder, flushed to the disk and renamed, so it
is there whole or not at all. A record carries the SHA-256 of its body, a checkpoint carries its own
in its name: one rename commits both. What does not match is set aside as ``*.corrupt`` with a
warning, never deleted, never read."""
import contextlib
import errno
import hashlib
import io
import json
import os
import platform
import re
import time
import warnings
from pathlib import Path

import torch

from ..paths import checkpoints_dir, part, runs_dir, shown
from ..training.run import canonical_json

CHECKPOINT = re.compile(r"ckpt-(\d+)-([0-9a-f]{64})\.pt")
WEIGHTS = re.compile(r"(final)-([0-9a-f]{64})\.pt")
LOCK = "run.lock"
SCHEMA = 1
STATUSES = ("done", "diverged", "failed")
NO_MEMORY = ("out of memory", "allocate memory", "bad_alloc", "unable to allocate")
KINDS = {"run": dict, "versions": dict, "history": list, "arrays": dict, "model": dict}


class Unwritable(OSError):
    """The disk is full or read-only; the message is one line for people."""

    def __init__(self, path: Path | str, error: OSError | None = None):
        """Made again from its one message where it crosses to another process."""
        super().__init__(path if error is None else (
            f"cannot write {shown(path)}: {error.strerror or error}. Free some space or set "
            "ATTNLIB_OUT to a folder that can be written; the same command then goes on from the "
            "last saved epoch"))


def write_atomic(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path``, whole or not at all, even if the power fails. `Unwritable` where
    the disk does not take it: what was there stays, and nothing is left beside it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise Unwritable(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    if hasattr(os, "O_DIRECTORY"):                       # the rename itself reaches the disk
        folder = os.open(path.parent, os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def set_aside(path: Path, why: str) -> None:
    """Rename a bad file to ``*.corrupt``, beside those of its name that are there, and say so."""
    try:
        target = free_name(path, ".corrupt")
        os.replace(path, target)
        done = f"set aside as {target.name}"
    except FileNotFoundError:                            # another process was faster
        done = "set aside"
    except OSError as error:
        done = f"left where it is ({error.strerror}) and not used"
    warnings.warn(f"{shown(path)}: {why}; {done}", stacklevel=3)


def free_name(path: Path, ending: str) -> Path:
    """``path`` with that ending, numbered where the name is taken."""
    target, k = path.with_name(path.name + ending), 2
    while os.path.lexists(target):
        target, k = path.with_name(f"{path.name}.{k}{ending}"), k + 1
    return target


def record_path(profile: str, run_id: str) -> Path:
    return runs_dir(profile) / f"{part(run_id)}.json"


def write_record(profile: str, body: dict) -> None:
    """Store a record as canonical JSON under its own SHA-256."""
    write_sealed(record_path(profile, body["id"]), body)


def write_sealed(path: Path, body: dict) -> None:
    """Store a body, which `read_sealed` gives back, at ``path``, whose stem is its id."""
    text = canonical_json(body)
    digest = hashlib.sha256(text.encode()).hexdigest()
    whole = f'{{"body":{text},"sha256":"{digest}"}}\n'
    write_atomic(path, whole.encode())


def read_record(path: Path) -> dict | None:
    """The body of a run's record, or None where it is missing or was set aside as corrupt."""
    return read_sealed(path, is_record)


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
    record = read_record(record_path(profile, run_id))
    return record if record and record["status"] != "failed" else None


def is_record(body: dict) -> bool:
    """Whether a body has what every reader of run records relies on."""
    return (body["status"] in STATUSES and isinstance(body["run"], dict)
            and all(isinstance(body.get(key, kind()), kind) for key, kind in KINDS.items()))


def checked(raw: bytes, name: str, fits=is_record) -> dict | None:
    """The body in a sealed file's bytes; None where they are not what was written under ``name``.
    """
    try:
        whole = json.loads(raw)
        body = whole["body"]
        good = (hashlib.sha256(canonical_json(body).encode()).hexdigest() == whole["sha256"]
                and body["schema"] == SCHEMA and body["id"] == name and fits(body))
    except (ValueError, KeyError, TypeError, RecursionError):
        good = False
    return body if good else None


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
    write_atomic(runs_dir(profile) / f"{part(name)}.npz", buffer.getvalue())
    return hashlib.sha256(buffer.getvalue()).hexdigest()


def read_arrays(profile: str, name: str, digest: str | None) -> dict | None:
    """The arrays of ``<name>.npz``, or None where the file is missing, or is not the one with that
    SHA-256 (then it is set aside)."""
    import numpy as np
    path = runs_dir(profile) / f"{part(name)}.npz"
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


class Busy(RuntimeError):
    """Another process holds the run."""


@contextlib.contextmanager
def lock(profile: str, run_id: str, tidy: bool = True):
    """Hold a run. The kernel frees the lock when its holder dies. Raises `Busy` if it is held, and
    `Unwritable` where its results could not be stored. ``tidy``: first remove what a process that
    was killed while saving has left.

    The lock's file holds a mark of its holder until it ends in order: see `died`."""
    folder = checkpoints_dir(profile, run_id)
    for place in (folder, runs_dir(profile)):
        writable(place)
    with open(folder / LOCK, "a") as file:
        if not taken(file):
            raise Busy(f"{run_id} is being trained by another process")
        if tidy:
            sweep(folder, ".")
            sweep(runs_dir(profile), f".{run_id}.")
        inscribe(file, f"{platform.node()} {os.getpid()} {time.time_ns()}")
        try:
            yield
        finally:
            inscribe(file, "")


def taken(file) -> bool:
    """Lock an open file until it is closed or we die; False where another process has it."""
    try:
        import fcntl
    except ImportError:                                  # Windows: one process at a time, please
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def inscribe(file, text: str) -> None:
    """Make ``text`` the content of a file opened for appending. A full disk may refuse: the mark
    is a hint, the lock holds without it."""
    with contextlib.suppress(OSError):
        file.truncate(0)
        file.write(text)
        file.flush()


def writable(folder: Path) -> None:
    """Make a folder. `Unwritable` where that, or writing into it, is not allowed."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise OSError(errno.EROFS, "it is read-only")
    except OSError as error:
        raise Unwritable(folder, error) from error


def mark(profile: str, run_id: str) -> str:
    """The mark of a run's last holder, "" where it ended in order or there was none."""
    try:
        return (checkpoints_dir(profile, run_id) / LOCK).read_text()
    except FileNotFoundError:
        return ""


def died(profile: str, run_id: str, before: str) -> bool:
    """Whether a holder of the run came and was killed since its mark was ``before``."""
    if mark(profile, run_id) in ("", before):
        return False
    with open(checkpoints_dir(profile, run_id) / LOCK, "a") as file:
        return taken(file)


def sweep(folder: Path, prefix: str) -> None:
    """Remove what a process that was killed while saving has left."""
    for name in os.listdir(folder) if folder.is_dir() else ():
        if name.startswith(prefix) and name.endswith(".tmp"):
            (folder / name).unlink(missing_ok=True)

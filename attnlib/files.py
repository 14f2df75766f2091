"""Files that are there whole or not at all, what becomes of bad ones, and locks.

A file is written under a temporary name in its own folder, flushed to the disk and renamed. What
does not match its SHA-256 is set aside as ``*.corrupt`` with a warning, never deleted or read."""
import contextlib
import errno
import hashlib
import os
import warnings
from pathlib import Path

from filelock import FileLock, Timeout

from .settings import shortened, shown


class Unwritable(OSError):
    """The disk is full or read-only; the message is one line for people."""

    def __init__(self, path: Path | str, error: OSError | None = None):
        """Made again from its one message where it crosses to another process."""
        if error is None:
            super().__init__(path)
            return
        advice = ("Free some space or set ATTNLIB_OUT to a folder that can be written, then give "
                  "the same command: a training goes on from its last saved epoch")
        if error.errno == errno.ENAMETOOLONG:
            advice = "Give a shorter name"
        super().__init__(f"cannot write {shown(path)}: {error.strerror or error}. {advice}")


class Busy(RuntimeError):
    """Another process holds the lock."""


def write_atomic(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path``, whole or not at all, even if the power fails. `Unwritable` where
    the disk does not take it: what was there stays, and nothing is left beside it."""
    temporary = path.with_name(f".{shortened(path.name, 200)}.{os.getpid()}.tmp")
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
        with contextlib.suppress(OSError):               # which not every file system can promise
            os.fsync(folder)
        os.close(folder)


def sweep(folder: Path, prefix: str) -> None:
    """Remove what a process which was killed while saving has left."""
    for path in half_files(folder, prefix):
        path.unlink(missing_ok=True)


def half_files(folder: Path, prefix: str) -> list[Path]:
    return sorted(path for path in folder.glob("*.tmp") if path.name.startswith(prefix))


def sha256_of(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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


def make_writable(folder: Path) -> None:
    """Make a folder. `Unwritable` where that, or writing into it, is not allowed."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise OSError(errno.EROFS, "it is read-only")
    except OSError as error:
        raise Unwritable(folder, error) from error


@contextlib.contextmanager
def held(path: Path, says: str):
    """Hold a lock, which the kernel frees when its holder dies. `Busy` where it is taken."""
    try:
        lock = FileLock(path, timeout=0).acquire()
    except Timeout:
        raise Busy(says) from None
    with lock:
        yield

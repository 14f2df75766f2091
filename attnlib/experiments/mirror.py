"""A second place for what must not be lost, such as a mounted Drive: ``ATTNLIB_MIRROR``.

Records, arrays and checkpoints are written locally first. Each whole file is then copied to its
twin in the mirror, and what is dropped is dropped there, too; `restore` brings back what a new
machine lacks. So an epoch that is printed as done survives the machine. A mirror that fails costs a
warning, never the training."""
import os
import warnings
from pathlib import Path

from ..paths import out_dir, shown

KEPT = (".json", ".npz", ".pt")
FOLDERS = ("runs", "checkpoints")           # of results/


def mirror_dir() -> Path | None:
    """The mirror's folder, None without one."""
    named = os.environ.get("ATTNLIB_MIRROR")
    return Path(named).expanduser().resolve() if named else None


def twin(path: Path) -> Path | None:
    """A file's place in the mirror; None without a mirror, or for a file that is not mirrored."""
    base, results = mirror_dir(), out_dir() / "results"
    if base is None or path.suffix not in KEPT:
        return None
    if not any(path.is_relative_to(results / folder) for folder in FOLDERS):
        return None
    return base / path.relative_to(results)


def put(path: Path, data: bytes) -> None:
    """Copy what was just written to ``path``."""
    from .store import Unwritable, replace_file
    target = twin(path)
    if target is not None:
        try:
            replace_file(target, data)
        except Unwritable as error:
            warnings.warn(f"not in the mirror: {error}; it is safe in {shown(path.parent)}",
                          stacklevel=3)


def drop(path: Path) -> None:
    """Remove a file, and its twin."""
    path.unlink(missing_ok=True)
    forget(path)


def forget(path: Path) -> None:
    """Remove a file's twin, so that it is not brought back."""
    target = twin(path)
    try:
        if target is not None:
            target.unlink(missing_ok=True)
    except OSError as error:
        warnings.warn(f"still in the mirror: {target.name} ({error.strerror})", stacklevel=3)


def restore() -> int:
    """Copy what the mirror has and this machine lacks; returns the number of files. What was harmed
    there is found by its SHA-256 when it is read."""
    base, count = mirror_dir(), 0
    for folder in FOLDERS if base else ():
        for place, _, names in os.walk(base / folder):
            for name in names:
                source = Path(place, name)
                target = out_dir() / "results" / source.relative_to(base)
                if source.suffix in KEPT and not name.startswith(".") and not target.exists():
                    count += brought(source, target)
    return count


def brought(source: Path, target: Path) -> bool:
    """Copy one file back; a warning and False where the mirror does not give it."""
    from .store import replace_file
    try:
        data = source.read_bytes()
    except OSError as error:
        warnings.warn(f"{source.name} of the mirror cannot be read ({error.strerror})",
                      stacklevel=3)
        return False
    replace_file(target, data)
    return True

"""Where data, results and figures live, from any working directory.

``ATTNLIB_DATA`` is the data folder, ``ATTNLIB_OUT`` the folder that holds results/ and figures/;
without them both lie in the repository that this package runs from, or in the working directory
where it was installed without one."""
import os
from functools import cache
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
if not (REPO / "pyproject.toml").is_file():
    REPO = Path.cwd()


def folder(variable: str, default: Path) -> Path:
    """The folder that an environment variable names, ``~`` and ``~user`` written out."""
    given = os.environ.get(variable)
    return written_out(variable, given, os.getcwd()) if given else default


@cache                                                  # asked for once a record, of thousands
def written_out(variable: str, given: str, cwd: str) -> Path:
    if given.startswith("~") and not os.path.isdir(os.path.expanduser(Path(given).parts[0])):
        raise ValueError(f"{variable}={given}: there is no home folder {Path(given).parts[0]}; "
                         "write it out")
    return Path(os.path.expanduser(given)).resolve()


def above_zero(variable: str, default: int) -> int:
    """The number above 0 that an environment variable gives."""
    given = os.environ.get(variable) or str(default)
    if not (given.isdecimal() and int(given)):
        raise ValueError(f"{variable}={given} should be a number above 0")
    return int(given)


def data_dir() -> Path:
    """The folder of the data files; it need not exist."""
    return folder("ATTNLIB_DATA", REPO / "data")


def out_dir() -> Path:
    """The folder that holds results/ and figures/."""
    return folder("ATTNLIB_OUT", REPO)


def runs_dir(profile: str) -> Path:
    """The records of one profile: ``results/runs/<profile>``."""
    return out_dir() / "results" / "runs" / part(profile)


def checkpoints_dir(profile: str, run_id: str) -> Path:
    """The weights of one run: ``results/checkpoints/<profile>/<id>``; never in git."""
    return out_dir() / "results" / "checkpoints" / part(profile) / part(run_id)


def figures_dir(profile: str) -> Path:
    """The figures drawn from one profile's records."""
    return out_dir() / "figures" / part(profile)


def plain(name: str) -> bool:
    """A name that is one file name and no path."""
    return bool(name) and not set(name) & set("/\\\0") and name not in (".", "..")


def part(name: str) -> str:
    """``name``, to be one part of a path; a name that would lead elsewhere is a ``ValueError``."""
    if not plain(str(name)):
        raise ValueError(f"{name!r} is no name of a run or profile: it would lead out of results/")
    return name


def shortened(name: str, most: int) -> str:
    """As much of a file name's beginning as fits into so many bytes, in whole characters."""
    return os.fsencode(name)[:most].decode("utf-8", "ignore")


def shown(path: Path) -> str:
    """A path as we print it: relative to the repository or output folder where it lies in one, so
    that no stored output names a machine's folders."""
    for base in (REPO, out_dir(), Path.cwd()):
        if Path(path).is_relative_to(base):
            return Path(path).relative_to(base).as_posix() or "."
    return Path(path).name

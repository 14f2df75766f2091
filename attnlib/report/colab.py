"""What the first cell of a notebook does on Colab, once the project is there, and where that cell
gets the project. The standard library alone, until the rest is installed."""
import os
import platform
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from importlib import invalidate_caches
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ..settings import REPO

DRIVE = "/content/drive"                        # where Colab mounts it
NEEDED = ("torch", "torchvision", "numpy", "pillow", "pandas", "filelock", "pooch", "safetensors",
          "matplotlib", "seaborn", "scipy", "grad-cam", "tabulate")         # by the notebooks
# https://host/owner/name.git, ssh://git@host/owner/name, git@host:owner/name
REMOTE = r"(?:https://|ssh://)?(?:[^@/]*@)?([\w-]+(?:\.[\w-]+)+)[:/](.+?)(?:\.git)?/?"
BADGE = "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]"


def begin(drive: bool = False) -> None:
    """Install what Colab lacks; print versions, the GPU, and what ``auto`` shows.
    ``drive``: mount Google Drive and keep all results there. May be called again."""
    missing = [package for package in NEEDED if not installed(package)]
    if missing:
        subprocess.run([sys.executable, "-m", "pip", "install", "-q", *missing], check=True)
        invalidate_caches()
    import torch

    from ..experiments.planning import real_is_here
    versions = [f"{package} {installed(package)}" for package in NEEDED]
    print(f"Python {platform.python_version()}, {', '.join(versions)}")
    print(torch.cuda.get_device_name() if torch.cuda.is_available() else
          "no GPU (Runtime, Change runtime type): the embedded study runs without one")
    if drive:
        use_drive()
    print("profile auto shows the stored records; name one below to train what it lacks")
    if not real_is_here():
        print("`!python -m attnlib data get cifar10 fashionmnist` fetches the real data")


def installed(package: str) -> str:
    """Its version, "" where it is missing."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def use_drive() -> None:
    """Mount Drive and keep results there, beginning with a copy of the records and benchmarks that
    come with the repository; where that fails, say so and go on without."""
    place = Path(DRIVE, "MyDrive", "attnlib")
    try:
        from google.colab import drive
        drive.mount(DRIVE)
        for source in (path for kind in ("runs", "bench")
                       for path in (REPO / "results" / kind).rglob("*.*")):
            target = place / source.relative_to(REPO)
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
    except Exception as error:                  # a refusal is of no class that is documented
        print(f"Drive is not used ({error}): results stay on this machine alone")
        return
    os.environ["ATTNLIB_OUT"] = str(place)
    print("Drive: results are kept in MyDrive/attnlib, every finished epoch too")


# --- When the notebooks are published ---


def address() -> str:
    """``https://host/owner/name`` of this project: the git remote ``origin``, else what
    CITATION.cff says; "" where there is neither. Nothing of a password in a remote is kept."""
    git = ["git", "-C", str(REPO), "remote", "get-url", "origin"]
    texts = []
    with suppress(OSError):                                     # no git
        texts.append(subprocess.run(git, capture_output=True, text=True).stdout.strip())
    with suppress(OSError):
        cited = (REPO / "CITATION.cff").read_text()
        texts += re.findall(r'^repository-code: *"?([^"\s]+)', cited, re.MULTILINE)
    for text in texts:
        if found := re.fullmatch(REMOTE, text):
            return f"https://{found[1]}/{found[2]}"
    return ""


def addressed(nb, stem: str):
    """A notebook whose first code cell fetches the project from its `address`, under a badge that
    opens it in Colab; as it was where there is no address."""
    where = address()
    if where:
        code = next(cell for cell in nb.cells if cell.cell_type == "code")
        code.source = re.sub(r'^REPOSITORY = "[^"]*"', f'REPOSITORY = "{where}"', code.source,
                             flags=re.MULTILINE)
    if where.startswith("https://github.com/"):
        path = where.removeprefix("https://github.com/")
        link = f"https://colab.research.google.com/github/{path}/blob/main/notebooks/{stem}.ipynb"
        title, *rest = re.sub(r"\n\n\[!\[Open in Colab\].*", "", nb.cells[0].source).split("\n")
        nb.cells[0].source = "\n".join([title, "", f"{BADGE}({link})", *rest])
    return nb

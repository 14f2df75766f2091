"""What the first cell of a notebook says on Colab, once the project is there; and Drive, if asked
for."""
import math
import os
import platform
import re
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ..experiments.planning import estimate_seconds, finished, real_is_here, resolve_profile, study
from ..experiments.studies import PROFILES, STUDIES
from ..settings import REPO
from ..training.environment import machine

DRIVE = "/content/drive"                        # where Colab mounts it
VERSIONS = ("torch", "torchvision", "numpy", "pandas", "grad-cam")
NAMED = re.compile(r"""\b(?:study|status_line)\(\s*["'](\w+)["']""")


def begin(drive: bool = False) -> None:
    """Print versions, the GPU in words, the profile that ``auto`` means here and why, and about how
    long each notebook will train. ``drive``: mount Google Drive and keep all results there. May be
    called again."""
    print(f"Python {platform.python_version()}, {', '.join(map(installed, VERSIONS))}")
    print(gpu_words())
    if drive:
        print(use_drive())
    print(profile_words())
    print(minutes_words())


def installed(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return f"{package} is missing"


def gpu_words() -> str:
    """Whether there is a GPU, and what to do where there is none."""
    import torch
    if machine().device == "cuda":
        size = torch.cuda.get_device_properties(0).total_memory / 2**30
        return f"GPU: {torch.cuda.get_device_name()}, {size:.0f} GiB"
    return ("no GPU: the embedded study runs without one; for the real data choose Runtime, Change "
            "runtime type, a GPU, and run this cell again")


def profile_words() -> str:
    """The profile that ``auto`` means here, and why."""
    chosen = resolve_profile("auto")
    asked = os.environ.get("ATTNLIB_PROFILE", "auto")
    if asked != "auto":
        why = "ATTNLIB_PROFILE says so"
    elif chosen == "pilot":
        why = "a GPU and the real data are here"
    elif not real_is_here():
        why = ("the real data are not here; `!python -m attnlib data get cifar10 fashionmnist` "
               "fetches them")
    else:
        why = "there is no GPU"
    says = PROFILES[chosen].says if chosen in PROFILES else "for reading; it trains nothing"
    return f"profile {chosen} ({says}): {why}"


def minutes() -> dict[str, float]:
    """Notebook -> about how many minutes the runs of its studies that have no record yet would
    train here, if it were the first to need them."""
    from .notebooks import listed, notebooks_dir, read
    profile = resolve_profile("auto")
    if profile not in PROFILES:
        return {}
    done, out = finished(profile), {}
    for path in listed(notebooks_dir()):
        code = "\n".join(c.source for c in read(path).cells if c.cell_type == "code")
        runs = {run.id: run for name in NAMED.findall(code) if name in STUDIES
                for run in study(name, profile)}
        out[path.stem] = sum(estimate_seconds(r) for i, r in runs.items() if i not in done) / 60
    return out


def minutes_words() -> str:
    todo = {stem: math.ceil(m) for stem, m in minutes().items() if m}
    if not todo:
        return "nothing to train: every record is here"
    return ("to train, about: " + ", ".join(f"{stem} {m} min" for stem, m in todo.items())
            + " (an estimate for this machine; what one notebook trains the next one finds)")


def use_drive() -> str:
    """Mount Drive and keep results there, beginning with a copy of the records that come with the
    repository; where that fails, say so and go on without."""
    place = Path(DRIVE, "MyDrive", "attnlib")
    try:
        from google.colab import drive
        drive.mount(DRIVE)
        for source in (REPO / "results" / "runs").rglob("*.*"):
            target = place / source.relative_to(REPO)
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
    except Exception as error:                  # a refusal is of no class that is documented
        return f"Drive is not used ({error}): results stay on this machine alone"
    os.environ["ATTNLIB_OUT"] = str(place)
    return "Drive: results are kept in MyDrive/attnlib, every finished epoch too"

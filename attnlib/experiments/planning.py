"""What to train: the runs of a study, the profile that is meant, and about how long they take."""
import math
import os
from contextlib import suppress
from statistics import median

from ..data.arrays import DataMissing
from ..data.batches import side_at
from ..names import choose
from ..networks.cost import cost_of
from ..settings import data_dir
from ..training import store
from ..training.environment import environment, machine
from ..training.run import Run
from ..training.trainer import about
from .studies import PROFILES, STUDIES, plans, run_of
from .workers import cores, gpus, unfinished

ON_DISK = (("cifar10.npz", "cifar-10-batches-py"),
           ("fashionmnist.npz", "FashionMNIST/raw/t10k-labels-idx1-ubyte"))
READ_FIRST = ("full", "real", "pilot", "small")


def study(name: str, profile: str = "auto") -> list[Run]:
    """The planned runs of a study: turn by turn, in each all arms of seed 0 first, so that any
    prefix is balanced."""
    profile = resolve_profile(profile, name)
    rows = plans(name, profile)
    order = sorted((plan.turn, seed, k) for k, plan in enumerate(rows) for seed in plan.seed_list)
    return list(dict.fromkeys(run_of(rows[k], profile, arm, seed)
                              for _, seed, k in order for arm in rows[k].arms))


def asked(profile: str = "auto") -> str:
    """A profile by its name; for ``auto`` that of ATTNLIB_PROFILE, ``auto`` where it is not set."""
    found = profile if profile != "auto" else os.environ.get("ATTNLIB_PROFILE") or "auto"
    return choose("profile", found, ("auto", *PROFILES, "own"))


def resolve_profile(profile: str = "auto", name: str | None = None) -> str:
    """The profile to read: by its name, or for ``auto`` the `best_profile` of the study."""
    found = asked(profile)
    return best_profile(name or "hybrid") if found == "auto" else found


def profile_to_train(profile: str = "auto") -> str:
    """By its name, or for ``auto`` the ``pilot`` where CUDA and the real sets are, else ``small``:
    ``real`` takes days and is asked for by name."""
    found = choose("profile", asked(profile), ("auto", *PROFILES))
    if found != "auto":
        return found
    return "pilot" if machine().device == "cuda" and real_is_here() else "small"


def real_is_here() -> bool:
    """Whether the real data sets are on disk, as our files or as torchvision's."""
    return all(any((data_dir() / name).exists() for name in names) for names in ON_DISK)


def best_profile(name: str, order: tuple = READ_FIRST) -> str:
    """The first in ``order`` whose headline arms have n ≥ 3, else the smallest with the study."""
    planned = [profile for profile in order if plans(name, profile)]
    for profile in planned[:-1]:
        first = STUDIES[name].plans[profile][0]             # ATTNLIB_SEEDS does not cut it
        done = [sum(status_of(run_of(first, profile, arm, seed), profile) == "done"
                    for seed in first.seed_list) for arm in first.arms]
        if min(done) >= 3:
            return profile
    return (planned or order)[-1]


def status_of(run: Run, profile: str) -> str:
    """``done``, ``diverged`` or ``failed``; "" without a good record."""
    return (store.read_record(profile, run.id) or {"status": ""})["status"]


def embedded(profile: str = "auto") -> str:
    """The profile of what is always shown on ShapeTex: ``small``, and in tests ``smoke``."""
    return "smoke" if asked(profile) == "smoke" else "small"


def estimate_seconds(run: Run, device: str | None = None) -> float:
    """A rough cost of training: images × (fixed + per multiply-accumulate) at the rate of a kind of
    device, ``cpu`` or ``cuda``, by default this machine's. Measured on two cores without bf16; a
    GPU's rate is a guess."""
    cuda = (device or machine().device) == "cuda"
    fixed, per_mac = (2e-5, 4e-14) if cuda else (3e-4, 5e-11)
    row, how = about(run), run.how
    macs = cost_of(run.backbone, run.attention, run.placement or None, row.channels, row.size,
                   run.width)["macs"]
    extra = 1.0 + 0.2 * (run.attention != "none")
    sizes = sum((side_at(epoch, how.epochs, row.size, how.grow_from) / row.size) ** 2
                for epoch in range(how.epochs))              # epochs at full size
    return sizes * (run.n_train or row.train) * extra * (fixed + per_mac * macs)


def speed_here(profile: str) -> float:
    """How many times as long as estimated runs took on a device like this one: the median over the
    finished runs of the profile, else of the first other one that has any; else 1."""
    device = environment()["device"]
    for name in (profile, *READ_FIRST):
        factors = []
        for record in store.all_records(name):
            if record["env"]["device"] == device and record["status"] == "done":
                with suppress(ValueError, TypeError, DataMissing):      # what it names is not here
                    factors.append(record["seconds"] / estimate_seconds(Run(**record["run"])))
        if factors:
            return median(factors)
    return 1.0


def plan_table(name: str, profile: str = "auto"):
    """One row for each network and data set of a study, in the order of training: its arms, runs,
    how many of them have no record yet, and about how many minutes those take here, one process a
    core or a GPU. A DataFrame."""
    import pandas as pd
    profile = resolve_profile(profile, name)
    processes = cores() if machine().device == "cpu" else max(1, len(gpus()))
    seen, rows, speed = set(), [], 0.0
    for plan in sorted(plans(name, profile), key=lambda plan: plan.turn):
        runs = {run_of(plan, profile, arm, seed) for seed in plan.seed_list for arm in plan.arms}
        if new := runs - seen:
            missing = unfinished(new, profile)
            if missing and not speed:
                speed = speed_here(profile)
            minutes = math.ceil(speed * sum(map(estimate_seconds, missing)) / 60 / processes)
            own = " ".join(f"{key}={value}" for key, value in plan.own.items())
            rows.append((plan.turn, plan.dataset, plan.backbone, " ".join(plan.arms), own,
                         plan.seeds, len(new), len(missing), minutes))
        seen |= runs
    return pd.DataFrame(rows, columns=("turn", "data set", "network", "arms", "with", "seeds",
                                       "runs", "missing", "minutes"))

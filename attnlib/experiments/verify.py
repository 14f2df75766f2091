"""Checks the stored records: every one against its own files, and a sample by training it again.

A record made on a machine of this kind must come out the same; one made elsewhere within what
seeds do to it, since other kernels round otherwise and rounding grows as the training goes on."""
import contextlib
import math
import os
import shutil
from typing import NamedTuple

import numpy as np
import torch

from ..names import derive
from ..settings import checkpoints_dir, runs_dir
from ..training import store
from ..training.environment import surroundings
from ..training.run import Run
from ..training.trainer import train
from .planning import estimate_seconds
from .reading import collect
from .repair import check

ASIDE = "verify"    # the profile that what is trained again goes to, until it is compared
KIND = ("device", "precision", "channels_last", "torch", "together")      # equal: so are numbers
SAME = 0.05         # points of accuracy on such a machine: five of 10,000 images
NOISE = 4.0         # standard deviations of a difference of two seeds, on any other
LEAST = 1.0         # points: the floor of that, where an arm has too few seeds to know its sd
BAD = ("BAD: the code, or a library of the same version built otherwise, computes differently now; "
       "compare the record's env and commit with yours")


class Outcome(NamedTuple):
    """One run trained again: by how many points its test accuracy differs from the record's, the
    largest difference of an epoch's loss, and the points allowed."""
    points: float
    loss: float
    allowed: float

    @property
    def good(self) -> bool:
        return abs(self.points) <= self.allowed


def verify(profile: str, minutes: float = 10.0, seed: int = 0) -> int:
    """Both checks of a profile, a line a run; how many things are wrong."""
    _, bad = check(profile)
    records = sample(profile, minutes, seed) if minutes > 0 else []
    if not records:
        print(f"{profile}: no record trained again")
    for k, record in enumerate(records, 1):
        print(f"training again {k} of {len(records)}: {record['id']}, about "
              f"{math.ceil(seconds_again(record) / 60)} min", flush=True)
        found = train_again(record)
        print(f"{record['id']}: test accuracy {found.points:+.2f} points from the record (allowed "
              f"±{found.allowed:.2f}), losses within {found.loss:.1e}: "
              f"{'good' if found.good else BAD}", flush=True)
        bad += not found.good
    return bad


def sample(profile: str, minutes: float, seed: int = 0) -> list[dict]:
    """Finished, current records that together trained for about ``minutes``, or the quickest: those
    of this kind of machine first, and of every data set, network and block one before a second of
    any; otherwise in an order drawn from ``seed``."""
    here, rows = surroundings(), collect(profile=profile)
    found = {record["id"]: record for record in store.all_records(profile)}
    rows = rows[rows.status == "done"]
    rows = rows.assign(other=[not same_kind(found[i]["env"], here) for i in rows.id],
                       drawn=[derive("verify", seed, i) for i in rows.id],
                       seconds=[seconds_again(found[i]) for i in rows.id])
    rows = rows.sort_values(["other", "drawn"])
    rows["turn"] = rows.groupby(["dataset", "backbone", "attention"]).cumcount()
    chosen, left = [], 60 * minutes
    for row in rows.sort_values(["other", "turn", "drawn"]).itertuples():
        if row.seconds <= left:
            chosen.append(found[row.id])
            left -= row.seconds
    return chosen or [found[i] for i in rows.sort_values(["other", "seconds"]).id[:1]]


def seconds_again(record: dict) -> float:
    """About how long a run takes here: as it took then, or estimated where that was on another kind
    of device or beside others on a GPU."""
    if record["env"]["device"] == surroundings()["device"] and "together" not in record["env"]:
        return record["seconds"]
    return estimate_seconds(Run(**record["run"]))


def same_kind(env: dict, here: dict) -> bool:
    return all(env.get(key) == here.get(key) for key in KIND)


def train_again(record: dict) -> Outcome:
    """Train a record's run again, aside, with the record's number of threads, and compare. What is
    stored stays as it is; an interrupted check goes on where it was."""
    run, threads = Run(**record["run"]), torch.get_num_threads()
    if record["env"]["device"] == surroundings()["device"]:
        torch.set_num_threads(record["env"]["threads"])
    try:
        fresh = train(run, ASIDE)
    finally:
        torch.set_num_threads(threads)
    for ending in (".json", ".npz"):                     # or the next check would train nothing
        (runs_dir(ASIDE) / f"{run.id}{ending}").unlink(missing_ok=True)
    with contextlib.suppress(OSError):                   # another check is at work there
        os.rmdir(runs_dir(ASIDE))
    shutil.rmtree(checkpoints_dir(ASIDE, run.id), ignore_errors=True)
    if fresh["status"] != "done":
        return Outcome(math.nan, math.nan, 0.0)
    gap = max(abs(a["loss"] - b["loss"])
              for a, b in zip(fresh["history"], record["history"], strict=False))
    points = 100 * (fresh["test"]["accuracy"] - record["test"]["accuracy"])
    return Outcome(points, gap, SAME if same_kind(record["env"], fresh["env"])
                   else seed_noise(record))


def seed_noise(record: dict) -> float:
    """The points within which another seed would lie: NOISE · √2 · the sd of the arm's seeds."""
    arm = record["resolved"] | {"seed": None}
    mine = [100 * r["test"]["accuracy"] for r in store.all_records(record["profile"])
            if r["status"] == "done" and r["resolved"] | {"seed": None} == arm]
    spread = float(np.std(mine, ddof=1)) if len(mine) > 2 else 0.0
    return max(LEAST, NOISE * math.sqrt(2) * spread)

"""Running what of a study has no record yet."""
import math
import os
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import replace

from ..blocks import BLOCKS, own_block
from ..data.arrays import DataBad, DataMissing
from ..names import choose, parse
from ..settings import above_zero
from ..training.environment import machine
from ..training.run import Run
from ..training.trainer import data_of, train
from . import planning, workers
from .planning import embedded, estimate_seconds, status_of, study
from .reading import collect, frame, row_in, table_of
from .studies import PROFILES


def may_train() -> bool:
    """With ATTNLIB_TRAIN=0 what is missing stays missing."""
    return os.environ.get("ATTNLIB_TRAIN") != "0"


def results(name: str, profile: str = "auto"):
    """`collect`'s table of a study: of a named profile what has no record is trained first; for
    ``auto`` the stored records of the best profile, and nothing is trained."""
    used = planning.resolve_profile(profile, name)
    if planning.asked(profile) == "auto":
        return collect(name, used)
    return run_grid(study(name, used), used)


def run_grid(runs: list[Run], profile: str, *, executor: Executor | None = None,
             time_budget: float | None = None, jobs: int | str | None = None):
    """Train what has no finished record, in the given order, and return `collect`'s table of the
    runs. One failing run is recorded and the others go on; missing or bad data skip a data set with
    one line; a disk that takes nothing stops the grid. ``time_budget`` in seconds stops cleanly at
    an epoch's end. A run that failed stays so until ``runs repair`` plans it again.

    ``executor``: any ``concurrent.futures.Executor``; without one the runs go through this process,
    or through ``jobs`` (see `jobs_for`). Where a worker dies, what has no record is planned again;
    a run that took three workers with it is recorded as failed."""
    choose("profile", profile, (*PROFILES, "own"))
    end = None if time_budget is None else time.time() + time_budget
    runs = list({run.id: run for run in runs}.values())
    todo, busy = workers.unfinished(runs, profile), []
    counts = Counter(found=len(runs) - len(todo))
    todo = todo if may_train() else []
    if not getattr(executor, "has_own_data", False):
        todo = with_data(todo)
    for run, (outcome, words) in train_missing(todo, profile, end, executor, jobs):
        if outcome == "busy":
            busy.append(run)
        else:
            tell(counts, outcome, words)
    for _, (outcome, words) in train_missing(busy, profile, end, executor, 1):
        tell(counts, outcome, words)            # by now the other process may be done, or dead
    if counts["not begun"]:
        print(f"time up: {counts['not begun']} runs were not begun", flush=True)
    counts["missing"] = len(workers.unfinished(runs, profile))   # a dead worker's work counts, too
    counts["trained"] = len(runs) - counts["found"] - counts["failed"] - counts["missing"]
    print(", ".join(f"{word} {counts[word]}" for word in ("trained", "found", "failed", "missing")
                    if counts[word] or word in ("trained", "found")), flush=True)
    df = table_of(runs, profile)
    before = int((df.status == "failed").sum()) - counts["failed"]
    if before > 0:
        print(f"{before} failed earlier; `python -m attnlib runs repair --profile {profile}` plans "
              "them again", flush=True)
    return df


def tell(counts: Counter, outcome: str, words: str) -> None:
    counts[outcome] += 1
    if words:
        print(f"{outcome}: {words}", flush=True)


def with_data(runs: list[Run]) -> list[Run]:
    """The runs whose data are here or can be fetched; one printed line for each set that is not."""
    absent = set()
    for name, run in {run.dataset: run for run in reversed(runs)}.items():
        try:
            data_of(run)
        except (DataMissing, DataBad) as error:
            absent.add(name)
            print(f"skipped {name}: {error}", flush=True)
    return [run for run in runs if run.dataset not in absent]


def train_missing(todo: list[Run], profile: str, end: float | None, executor: Executor | None,
                  jobs: int | str | None):
    """Yield (run, (outcome, words)) as runs end: in this process, in others, or by an executor."""
    jobs = jobs_for(todo, jobs)
    if executor:
        yield from workers.through(executor, todo, profile, end)
    elif jobs > 1 and todo:
        yield from workers.in_processes(todo, profile, end, jobs)
    elif machine().device == "cuda":
        for runs in workers.bundles(todo, above_zero("ATTNLIB_TOGETHER", 16)):
            yield from workers.attempt_together(runs, profile, end)
    else:
        for k, run in enumerate(todo, 1):
            if end is None or time.time() < end:
                print(f"run {k} of {len(todo)}: {run.id}", flush=True)
            yield run, workers.attempt(run.as_dict(), profile, end)


def jobs_for(todo: list[Run], asked: int | str | None = None) -> int:
    """How many processes: as asked, else ATTNLIB_JOBS, else 1. ``auto`` is one a core on a CPU and
    one a GPU, if there are more than some seconds to train: starting them takes as long."""
    asked = str(asked or os.environ.get("ATTNLIB_JOBS") or 1)
    if asked != "auto":
        if not (asked.isdecimal() and int(asked)):
            raise ValueError(f"jobs (ATTNLIB_JOBS): {asked!r} should be auto or a number above 0")
        return int(asked)
    if sum(map(estimate_seconds, todo)) < 10:
        return 1
    if machine().device != "cpu":
        return max(1, min(len(workers.gpus()), len(todo)))
    return min(workers.cores(), len(todo))


def try_it(attention: str | Callable, profile: str = "auto", placement: str | None = None,
           seeds: int = 3, **own):
    """Train a block on ShapeTex in the sizes of ``small`` (of ``smoke`` in tests), and the plain
    network where that has no record, and set them beside the stored arms of the same seeds: a
    DataFrame, best first, with the standard deviation over seeds. ``attention``: its name, or a
    class of your own (`blocks.own_block`). ``own``: fields of `Run` that both get, such as
    ``lr=0.1`` or ``dataset="shapetex(contrast=0.1,distractors=4)"``; the other arms, trained
    otherwise, are left out then. What no study plans is kept in profile ``own``. An error of the
    block is raised."""
    name = attention if isinstance(attention, str) else own_block(attention)
    choose("block", parse(name)[0], BLOCKS)
    if seeds < 1 or "seed" in own:
        raise ValueError(f"seeds={seeds} should be at least 1; they are 0, 1, …, none is named")
    profile = embedded(profile)
    planned = study("hybrid", profile)
    plain, mine = ([replace(planned[0], attention=block, placement=at, seed=seed, **own)
                    for seed in range(seeds)] for block, at in (("none", None), (name, placement)))
    others = [run for run in planned if not own and run.backbone == plain[0].backbone
              and run.seed < seeds and run not in mine]
    home = {run: profile if run in planned or status_of(run, profile) else "own"
            for run in [*mine, *plain, *others]}
    todo = [run for run in dict.fromkeys([*plain, *mine])
            if status_of(run, home[run]) in ("", "failed")]
    if todo and may_train():
        seconds = math.ceil(planning.speed_here(profile) * sum(map(estimate_seconds, todo)))
        print(f"training {len(todo)} network{'s' * (len(todo) > 1)}, about {seconds} s", flush=True)
        for run in todo:
            train(run, home[run])
    rows = frame([row_in(where, run) for run, where in home.items()])
    rows["yours"] = rows.attention.eq(mine[0].attention) & rows.placement.eq(mine[0].placement)
    out = rows.groupby("arm", sort=False).agg(
        accuracy=("accuracy", "mean"), sd=("accuracy", "std"), seeds=("accuracy", "count"),
        params=("params", "first"), seconds=("seconds", "mean"), yours=("yours", "first"))
    bare = rows[rows.arm.isin(out.index[out.seeds == 0])].drop_duplicates("arm")
    for row in bare.itertuples():
        print(f"left out, without a finished run here: {row.arm} ({row.status})")
    out = out[out.seeds > 0].round({"accuracy": 1, "sd": 1, "seconds": 0}).reset_index()
    return out.sort_values("accuracy", ascending=False, ignore_index=True)

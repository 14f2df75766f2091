"""Running what of a study has no record yet; collecting the records."""
import contextlib
import io
import math
import os
import time
import warnings
from collections import Counter
from concurrent.futures import Executor
from dataclasses import replace
from functools import cache
from statistics import median

from ..data.arrays import DataBad, DataMissing
from ..data.batches import side_at
from ..networks.build import build_model, resolve_placement
from ..networks.cost import cost
from ..paths import data_dir, plain
from ..spec import choose
from ..training.run import Run
from ..training.trainer import about, data_of, environment, machine, versions
from . import store
from .studies import PROFILES, plans, run_of
from .workers import attempt, attempt_together, bundles, gpus, side_by_side, unfinished

ON_DISK = (("cifar10.npz", "cifar-10-batches-py"),
           ("fashionmnist.npz", "FashionMNIST/raw/t10k-labels-idx1-ubyte"))
TOGETHER = int(os.environ.get("ATTNLIB_TOGETHER") or 16)    # runs at once on a GPU
READ_FIRST = ("full", "real", "pilot", "small")
FOR_READING = "best"        # each study from its best profile with records; never trains


def study(name: str, profile: str = "auto") -> list[Run]:
    """The planned runs of a study: turn by turn, in each all arms of seed 0 first, so that any
    prefix is balanced."""
    profile = resolve_profile(profile, name)
    rows = plans(name, profile)
    order = sorted((plan.turn, plan.first_seed + seed, k) for k, plan in enumerate(rows)
                   for seed in range(plan.seeds))
    return list(dict.fromkeys(run_of(rows[k], profile, arm, seed)
                              for _, seed, k in order for arm in rows[k].arms))


def resolve_profile(profile: str = "auto", name: str | None = None) -> str:
    """``auto`` -> ATTNLIB_PROFILE, else ``pilot`` where CUDA and the real sets are, else ``small``;
    ``real`` takes days and is asked for by name.
    ``best`` (for reading) -> the study's best profile whose headline has three seeds finished."""
    asked = profile if profile != "auto" else os.environ.get("ATTNLIB_PROFILE", "auto")
    choose("profile", asked, ("auto", *PROFILES, FOR_READING, "own"))
    if asked == FOR_READING:
        return best_profile(name or "hybrid")
    if asked != "auto":
        return asked
    return "pilot" if machine().device == "cuda" and real_is_here() else "small"


def real_is_here() -> bool:
    """Whether the real data sets are on disk, as our files or as torchvision's."""
    return all(any((data_dir() / name).exists() for name in names) for names in ON_DISK)


def best_profile(name: str) -> str:
    """The first of READ_FIRST whose headline arms have n ≥ 3; failing that the smallest that has
    the study."""
    planned = [profile for profile in READ_FIRST if plans(name, profile)]
    for profile in planned[:-1]:
        rows = plans(name, profile)
        status = finished(profile)
        if all(sum(status.get(run_of(rows[0], profile, arm, seed).id) == "done"
                            for seed in range(rows[0].seeds)) >= 3 for arm in rows[0].arms):
            return profile
    return planned[-1]


def finished(profile: str) -> dict[str, str]:
    """Id -> status of every good record: done, diverged or failed."""
    return {record["id"]: record["status"] for record in store.all_records(profile)}


def embedded(profile: str = "auto") -> str:
    """The profile of what is always shown on ShapeTex: ``small``, and in tests ``smoke``."""
    return "smoke" if resolve_profile(profile) == "smoke" else "small"


def estimate_seconds(run: Run, device: str | None = None) -> float:
    """A rough cost of training: images × (fixed + per multiply-accumulate) at the rate of a kind of
    device, ``cpu`` or ``cuda``, by default this machine's. Measured on two cores without bf16, one
    process each: 490 images/s at 35 M MACs, 1,500 at 9 M; blocks made narrow networks 1.1 to 2.3
    times slower. A GPU's rate is a guess."""
    cuda = (device or machine().device) == "cuda"
    fixed, per_mac = (2e-5, 4e-14) if cuda else (3e-4, 5e-11)
    row = about(run)
    macs = macs_of(run.backbone, run.attention, run.placement, run.width, row.channels, row.size)
    extra = 1.0 + 0.2 * (run.attention != "none")
    how = run.how
    sizes = sum((side_at(epoch, how.epochs, row.size, how.grow_from) / row.size) ** 2
                for epoch in range(how.epochs))              # epochs at full size
    return sizes * (run.n_train or row.train) * extra * (fixed + per_mac * macs)


def speed_here(profile: str) -> float:
    """How many times as long as `estimate_seconds` says runs took on a device like this one: the
    median over the finished runs of the profile, else of the first other one that has any; else 1.
    """
    device = environment()["device"]
    for name in (profile, *READ_FIRST):
        factors = [record["seconds"] / estimate_seconds(Run(**record["run"]))
                   for record in store.all_records(name)
                   if record["env"]["device"] == device and record["status"] == "done"]
        if factors:
            return median(factors)
    return 1.0


def minutes_here(runs: list[Run], speed: float) -> float:
    """About how long training some runs takes here, one process a core or a GPU; ``speed`` from
    `speed_here`."""
    processes = cores() if machine().device == "cpu" else max(1, len(gpus()))
    return speed * sum(map(estimate_seconds, runs)) / 60 / processes


def plan_table(name: str, profile: str = "auto"):
    """One row for each network and data set of a study, in the order of training: its arms, runs,
    how many of them have no record yet, and about how many minutes those take here, one process a
    core, at the speed of the profile's finished runs. A DataFrame."""
    import pandas as pd
    profile = resolve_profile(profile, name)
    done, speed, seen, rows = finished(profile), speed_here(profile), set(), []
    for plan in sorted(plans(name, profile), key=lambda plan: plan.turn):
        runs = [run_of(plan, profile, arm, plan.first_seed + seed) for seed in range(plan.seeds)
                for arm in plan.arms]
        new = {run.id: run for run in runs if run.id not in seen}
        seen |= new.keys()
        if not new:
            continue
        missing = [run for run_id, run in new.items() if run_id not in done]
        rows.append({
            "turn": plan.turn, "data set": plan.dataset, "network": plan.backbone,
            "arms": " ".join(plan.arms), "seeds": plan.seeds, "runs": len(new),
            "missing": len(missing),
            "minutes": round(minutes_here(missing, speed))})
    return pd.DataFrame(rows)


FEW_STEPS = 500         # below it a network has hardly begun to learn


def forecast(run: Run) -> str:
    """What training a run will be, before it starts: data, device, about how long."""
    data = data_of(run)
    counts = {split: getattr(run, f"n_{split}") or len(y) for split, y in data.labels.items()}
    surroundings = environment()
    return (f"{run.dataset}: {', '.join(f'{n:,} {split}' for split, n in counts.items())} images "
            f"of {len(data.classes)} classes, {data.row.size}×{data.row.size}×{data.row.channels};"
            f" {run.how.epochs} epochs on {surroundings['device']} in {surroundings['precision']}, "
            f"about {math.ceil(estimate_seconds(run) / 60)} min")


def too_few_steps(run: Run) -> str:
    """What to do where so few images make so few steps that batch norm's averages, which
    evaluation uses, have not settled; nothing where there are enough."""
    how, n_train = run.how, run.n_train or len(data_of(run).labels["train"])
    steps = how.epochs * max(1, n_train // how.batch_size)
    return "" if steps >= FEW_STEPS else (
        f"only {steps} steps of {how.batch_size} images: a smaller --batch-size or more --epochs "
        "would teach it more")


@cache
def macs_of(backbone, attention, placement, width, channels, size) -> int:
    import torch
    with torch.device("meta"):
        model = build_model(backbone, attention, in_channels=channels, image_size=size, width=width,
                            placement=placement or None)
    return cost(model, (channels, size, size))["macs"]


def may_train() -> bool:
    """Publishing sets ATTNLIB_TRAIN=0: what is missing then stays missing."""
    return os.environ.get("ATTNLIB_TRAIN", "1") != "0"


def run_grid(runs: list[Run], profile: str = "auto", *, executor: Executor | None = None,
             time_budget: float | None = None):
    """Train what has no finished record, in the given order, and return `collect`'s table of the
    runs. One failing run is recorded and the others go on; missing or bad data skip a data set with
    one line; a disk that takes nothing stops the grid. ``time_budget`` in seconds stops cleanly at
    an epoch's end. A run that failed stays so until ``runs repair`` plans it again.

    ``executor``: any ``concurrent.futures.Executor``; without one the runs go through this process,
    or through ``ATTNLIB_JOBS`` processes (``auto``: one a core on a CPU, one a GPU where there are
    several). Where a worker dies, what has no record is planned again; a run that took three
    workers with it is recorded as failed."""
    profile = resolve_profile(profile)
    end = None if time_budget is None else time.time() + time_budget
    runs = list({run.id: run for run in runs}.values())
    todo = unfinished(runs, profile)
    counts = Counter(found=len(runs) - len(todo))
    todo, busy = with_data(todo) if may_train() else [], []
    for last in (False, True):                  # busy: by the end its other process may be dead
        for run, (outcome, words) in go(todo, profile, end, executor, 1 if last else None):
            if outcome == "busy" and not last:
                busy.append(run)
                continue
            counts[outcome] += 1
            if words:
                print(f"{outcome}: {words}", flush=True)
        todo = busy
    if counts["not begun"]:
        print(f"time up: {counts['not begun']} runs were not begun", flush=True)
    counts["missing"] = len(unfinished(runs, profile))        # what a dead worker did counts, too
    counts["trained"] = len(runs) - counts["found"] - counts["failed"] - counts["missing"]
    print(", ".join(f"{word} {counts[word]}" for word in ("trained", "found", "failed", "missing")
                    if counts[word] or word in ("trained", "found")), flush=True)
    df = table(runs, profile)
    before = int((df.status == "failed").sum()) - counts["failed"]
    if before > 0:
        print(f"{before} failed earlier; `python -m attnlib runs repair --profile {profile}` plans "
              "them again", flush=True)
    return df


def with_data(runs: list[Run]) -> list[Run]:
    """The runs whose data are here or can be fetched; one printed line for each set that is not."""
    absent = set()
    if may_train():
        for name, run in {run.dataset: run for run in reversed(runs)}.items():
            try:
                data_of(run)
            except (DataMissing, DataBad) as error:
                absent.add(name)
                print(f"skipped {name}: {error}", flush=True)
    return [run for run in runs if run.dataset not in absent]


def go(todo: list[Run], profile: str, end: float | None, executor: Executor | None, jobs=None):
    """Yield (run, (outcome, words)) as runs end: one by one in this process, or through an
    executor."""
    jobs = jobs or jobs_for(todo)
    if executor or jobs > 1:
        yield from side_by_side(todo, profile, end, executor, jobs)
        return
    if machine().device == "cuda":
        for runs in bundles(todo, TOGETHER):
            yield from attempt_together(runs, profile, end)
        return
    for k, run in enumerate(todo, 1):
        print(f"run {k} of {len(todo)}: {run.id}", flush=True)
        yield run, attempt(run.as_dict(), profile, end)


def jobs_for(todo: list[Run]) -> int:
    """How many processes: ``ATTNLIB_JOBS``, 1 by default. ``auto`` is one a core on a CPU and one a
    GPU, if there is more than half a minute to train: starting them takes seconds."""
    asked = os.environ.get("ATTNLIB_JOBS") or "1"
    if asked != "auto":
        if not (asked.isdecimal() and int(asked)):
            raise ValueError(f"ATTNLIB_JOBS={asked!r} should be auto or a number above 0")
        return int(asked)
    if sum(map(estimate_seconds, todo)) < 30:
        return 1
    if machine().device != "cpu":
        return max(1, min(len(gpus()), len(todo)))
    return min(cores(), len(todo))


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def try_it(attention: str, profile: str = "auto", backbone: str = "resnet18",
           placement: str | None = None):
    """Train one block of your choice on ShapeTex in the sizes of ``small`` (of ``smoke`` in tests),
    seed 0, and set it beside the stored arms of that seed: a DataFrame, best first."""
    profile = embedded(profile)
    planned = study("hybrid", profile)
    like = next((r for r in planned if r.backbone == backbone), planned[0])
    mine = replace(like, backbone=backbone, attention=attention, placement=placement, seed=0)
    stored = [r for r in planned if r.seed == 0 and r.backbone == mine.backbone and r != mine]
    if unfinished([mine], profile) and may_train():
        print(f"training {mine.attention}, about {math.ceil(estimate_seconds(mine))} s", flush=True)
    with contextlib.redirect_stdout(io.StringIO()) as said:
        run_grid([mine], profile)
    rows = table([mine, *stored], profile)
    rows["yours"] = ["←"] + [""] * len(stored)
    columns = ["attention", "accuracy", "params", "seconds", "yours"]
    columns += ["placement"] * bool(placement) + ["status"] * any(rows.status != "done")
    if rows.status[0] != "done":
        print(said.getvalue(), end="")              # why not
    rows = rows.round({"accuracy": 1, "seconds": 0})
    return rows[columns].sort_values("accuracy", ascending=False, ignore_index=True)


def collect(study_name: str | None = None, profile: str | None = None):
    """One row a run, as a DataFrame: with a study exactly its planned runs (status ``missing``
    where there is no record), else every record of the profile."""
    profile = resolve_profile(profile or "auto", study_name)
    if study_name:
        return table(study(study_name, profile), profile)
    return frame(rows_of(store.all_records(profile)))


def rows_of(records: list[dict]) -> list[dict]:
    """A row for each record. One that names what this version does not have, such as a block that
    was renamed, is left out with a warning."""
    rows = []
    for record in records:
        try:
            rows.append(row_of(record))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            warnings.warn(f"record {record['id']} is left out: {error}", stacklevel=2)
    return rows


def table(runs: list[Run], profile: str):
    rows = []
    for run in runs:
        record = store.read_record(store.record_path(profile, run.id))
        rows.append(row_of(record) if record else row_of(
            {"id": run.id, "run": run.as_dict(), "profile": profile, "status": "missing"}))
    return frame(rows)


def row_of(record: dict) -> dict:
    """The flat row of one record: the run's fields, its cost, its scores in percent."""
    run = Run(**record["run"])
    test, model = record.get("test") or {}, record.get("model") or {}
    history = record.get("history") or [{}]
    kept = history[record.get("selected_epoch", len(history)) - 1]
    ends = [100 * epoch.get("val_accuracy", math.nan) for epoch in history[-3:]]
    stale = record["status"] != "missing" and outdated(record)
    return {"id": record["id"], "profile": record["profile"],
            "status": "stale" if stale else record["status"],
            "dataset": run.dataset, "backbone": run.backbone, "attention": run.attention,
            "placement": run.placement, "arm": arm_of(run), "seed": run.seed, "width": run.width,
            "epochs": run.how.epochs, "recipe": run.recipe,
            "accuracy": 100 * test.get("accuracy", math.nan), "nll": test.get("nll", math.nan),
            "val_accuracy": 100 * kept.get("val_accuracy", math.nan),
            "train_accuracy": 100 * history[-1].get("train_accuracy", math.nan),
            "rise": ends[-1] - ends[0] if len(ends) == 3 else math.nan, "setting": run.setting,
            **{key: model.get(key) for key in ("params", "attention_params", "macs", "sites")},
            "seconds": record.get("seconds", math.nan),
            "images_per_second": record.get("images_per_second", math.nan),
            "peak_memory": record.get("peak_memory", math.nan)}


def arm_of(run: Run) -> str:
    """What sets a run apart within its data set, network and recipe: the block, and its placement
    where that is not the block's own."""
    usual = resolve_placement(run.attention, run.backbone, None)
    return run.attention + ("" if run.placement in ("", usual) else f" {run.placement}")


def outdated(record: dict) -> str:
    """Which rows that the record's run used have changed since, such as ``attention se: version 1,
    now 2``; "" if none has."""
    run, then = Run(**record["run"]), record.get("versions") or {}
    return ", ".join(f"{kind} {getattr(run, kind)}: version {then.get(kind, 'unknown')}, now {now}"
                     for kind, now in versions(run).items() if then.get(kind) != now)


def frame(rows: list[dict]):
    import pandas as pd  # here: a bare GPU machine trains without pandas
    columns = list(row_of({"id": "", "run": {}, "profile": "", "status": "missing"}))
    df = pd.DataFrame(rows, columns=columns)
    usual = df.groupby(["dataset", "backbone"]).width.transform(lambda w: w.mode().iloc[0])
    df.loc[df.width > usual, "arm"] += " wider"
    return df


def histories(df):
    """One row an epoch for the finished runs of a `collect` table: the learning curves."""
    import pandas as pd
    rows = []
    for row in df[df.status.isin(("done", "diverged"))].itertuples():
        record = store.read_record(store.record_path(row.profile, row.id))
        rows += [{"id": row.id, "profile": row.profile, "dataset": row.dataset,
                  "backbone": row.backbone, "recipe": row.recipe, "attention": row.attention,
                  "arm": row.arm, "seed": row.seed, "epoch": k, **epoch}
                 for k, epoch in enumerate(record["history"], 1)]
    return pd.DataFrame(rows)


def find_record(run_or_id, profile: str | None = None) -> dict:
    """The record of a run or id, from the named profile or from any; ``LookupError`` if none."""
    run_id = run_or_id.id if isinstance(run_or_id, Run) else str(run_or_id)
    for name in [profile] if profile else ["own", *PROFILES]:
        record = store.read_record(store.record_path(name, run_id)) if plain(run_id) else None
        if record:
            return record
    raise LookupError(f"no record {run_id!r}; `python -m attnlib runs list` names those there are")


def load_model(run_or_id, profile: str | None = None):
    """The trained network of a `Run`, an id or the beginning of one, or a file that ``export``
    wrote; in eval mode, on the CPU, with ``classes``, ``mean``, ``std``, ``size`` and ``channels``
    attached. ``LookupError`` where its weights are not here: it names the command that makes them.
    """
    from . import weights
    return weights.assembled(*weights.find(run_or_id, profile))

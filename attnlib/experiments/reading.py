"""Records as tables: one row a run, one row an epoch. Records and rows are made once a process,
until their files change."""
import math
import warnings
from functools import cache, lru_cache

from ..networks.build import resolve_placement
from ..settings import plain
from ..training import store
from ..training.run import Run, checked_number, versions
from .planning import resolve_profile, study
from .studies import PROFILES

FRAMES = 8              # tables of whole profiles that a process remembers


def collect(study_name: str | None = None, profile: str | None = None):
    """One row a run, as a DataFrame: with a study exactly its planned runs (status ``missing``
    where there is no record), else every record of the profile."""
    profile = resolve_profile(profile or "auto", study_name)
    if study_name:
        return table_of(study(study_name, profile), profile)
    return frame_once(*store.record_files(profile)).copy()


def table_of(runs: list[Run], profile: str):
    """`collect`'s table of any runs."""
    return frame([row_in(profile, run) for run in runs])


def row_in(profile: str, run: Run) -> dict:
    try:
        found = row_once(*store.stamped(store.record_path(profile, run.id)))
    except FileNotFoundError:
        found = None
    return found or row_of_missing(run, profile)


@lru_cache(FRAMES)
def frame_once(*files: tuple):
    return frame([row for file in files if (row := row_once(*file))])


@cache
def row_once(path: str, *stamp: int) -> dict | None:
    """The row of a record. One that names what this version does not have, such as a block that
    was renamed, is left out with a warning."""
    record = store.read_once(path, *stamp)
    try:
        return record and row_of(record)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        said = f"record {record['id']} is left out: {error}".partition("; valid")[0]
        warnings.warn(said, stacklevel=3)
        return None


@cache
def row_of_missing(run: Run, profile: str) -> dict:
    return row_of({"id": run.id, "run": run.as_dict(), "profile": profile, "status": "missing"})


def row_of(record: dict) -> dict:
    """The flat row of one record: the run's fields, its cost, its scores in percent."""
    test, model = record.get("test") or {}, record.get("model") or {}
    history = record.get("history") or [{}]
    kept = history[record.get("selected_epoch", len(history)) - 1]
    ends = [100 * epoch.get("val_accuracy", math.nan) for epoch in history[-3:]]
    stale = record["status"] != "missing" and outdated(record)
    return {"id": record["id"], "profile": record["profile"],
            "status": "stale" if stale else record["status"],
            **shared(seedless(record))[1],
            "seed": checked_number("seed", record["run"].get("seed", 0), int),
            "accuracy": 100 * test.get("accuracy", math.nan), "nll": test.get("nll", math.nan),
            "val_accuracy": 100 * kept.get("val_accuracy", math.nan),
            "train_accuracy": 100 * history[-1].get("train_accuracy", math.nan),
            "rise": ends[-1] - ends[0] if len(ends) == 3 else math.nan,
            **{key: model.get(key) for key in ("params", "attention_params", "macs")},
            "seconds": record.get("seconds", math.nan)}


def seedless(record: dict) -> tuple:
    return tuple((key, value) for key, value in record["run"].items() if key != "seed")


@cache
def shared(fields: tuple) -> tuple[Run, dict]:
    """What runs share that differ in their seed alone: one of them, and so much of their rows."""
    run = Run(**dict(fields))
    return run, {"dataset": run.dataset, "backbone": run.backbone, "attention": run.attention,
                 "placement": run.placement, "arm": arm_of(run), "width": run.width,
                 "epochs": run.how.epochs, "recipe": run.recipe, "setting": run.setting}


def arm_of(run: Run) -> str:
    """What sets a run apart within its data set, network and recipe: the block, and its placement
    where that is not the block's own."""
    usual = resolve_placement(run.attention, run.backbone, None)
    return run.attention + ("" if run.placement in ("", usual) else f" {run.placement}")


def outdated(record: dict) -> str:
    """Which rows that the record's run used have changed since, such as ``attention se: version 1,
    now 2``; "" if none has."""
    run, then = shared(seedless(record))[0], record.get("versions") or {}
    return ", ".join(f"{kind} {getattr(run, kind)}: version {then.get(kind, 'unknown')}, now {now}"
                     for kind, now in versions(run).items() if then.get(kind) != now)


def frame(rows):
    import pandas as pd  # here: a bare GPU machine trains without pandas
    columns = list(row_of({"id": "", "run": {}, "profile": "", "status": "missing"}))
    df = pd.DataFrame(list(rows), columns=columns)
    usual = df.groupby(["dataset", "backbone"]).width.transform(lambda w: w.mode().iloc[0])
    df.loc[df.width > usual, "arm"] += " wider"
    return df


def histories(df):
    """One row an epoch for the finished runs of a `collect` table: the learning curves."""
    import pandas as pd
    own = ["id", "profile", "dataset", "backbone", "recipe", "attention", "arm", "seed"]
    rows = []
    for row in df.loc[df.status.isin(("done", "diverged")), own].to_dict("records"):
        record = store.read_record(row["profile"], row["id"])
        rows += [row | {"epoch": k} | epoch for k, epoch in enumerate(record["history"], 1)]
    return pd.DataFrame(rows)


def find_record(run_or_id, profile: str | None = None) -> dict:
    """The record of a run or id, from the named profile or from any; ``LookupError`` if none."""
    run_id = run_or_id.id if isinstance(run_or_id, Run) else str(run_or_id)
    for name in [profile] if profile else ["own", *PROFILES]:
        record = store.read_record(name, run_id) if plain(run_id) else None
        if record:
            return record
    raise LookupError(f"no record {run_id!r}; `python -m attnlib runs list` names those there are")

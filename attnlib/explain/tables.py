"""What was seen of a study's runs, as tables: from what `camstore` stored, without weights or data.

Every function takes a `collect` table. A table without rows means that nothing is stored:
``python -m attnlib focus STUDY`` measures it where a run's weights are. Intervals are 95 % ones,
NaN below MIN_SEEDS seeds."""
import pandas as pd

from ..analysis.stats import CELL, arms_table
from ..analysis.words import name, place
from . import sharper
from .camstore import stored_maps

WHO = ["id", "profile", *CELL, "attention", "arm", "seed", "status", "accuracy"]
MEASURES = {            # of a map, by their names in the stored arrays -> what it is called, a hint
    "entropy": ("entropy", "lower is sharper"), "gini": ("Gini", "higher is sharper"),
    "lift": ("mass on the object ÷ its area", "higher is better; 1: a uniform map"),
    "pointing": ("pointing game", "higher is better"),
    "average_precision": ("PR-AUC", "higher is better"),
    "on_distractors": ("mass on distractors", "lower is better"),
    "road": ("ROAD", "higher is better; 0: chance"), "drop": ("average drop", "lower is better")}


def unpacked(df, rows_of) -> pd.DataFrame:
    """``rows_of(arrays)`` of every finished run that was looked at, beside who it is."""
    who = {row["id"]: row for row in df[WHO].to_dict("records")}
    rows = [who[run_id] | row for run_id, arrays in stored_maps(df).items()
            for row in rows_of(arrays)]
    return pd.DataFrame(rows, columns=None if rows else WHO)


def run_table(df, method: str = "grad_cam") -> pd.DataFrame:
    """One row a run: its test accuracy in %, and every measure of the method's maps, its mean over
    the images that the network classifies correctly (ROAD and average drop count empty maps)."""
    def row_of(arrays):
        at, stage = list(arrays["methods"]).index(method.encode()), arrays["stages"][0]
        stored = {m: arrays.get(f"mean_{m}_{stage}") for m in MEASURES}
        return [{m: float(values[at]) for m, values in stored.items() if values is not None}]
    return unpacked(df, row_of)


def map_verdicts(df) -> pd.DataFrame:
    """Whether each block looks better than ``none``, see `sharper`, and its gain, points."""
    found, rows = sharper.comparisons(df), []
    accuracy = arms_table(df).set_index([*CELL, "arm"]) if found else None
    for c in found:
        own = accuracy.loc[(*c.cell.values(), c.arm)]
        rows.append({"place": place(pd.Series(c.cell)), "block": name(c.arm), "seeds": c.seeds,
                     "image pairs": c.images} | c.verdicts
                    | {"looks better": c.verdict, "accuracy gain": own.gain, "low": own.low,
                       "high": own.high})
    return pd.DataFrame(rows).round(2)


def map_beyond(df) -> pd.DataFrame:
    """What a point of accuracy, and each block at equal accuracy, adds to the lift, by
    `sharper.beyond_accuracy`; ``overlap``: whether any run of the block is as accurate as one of
    none. Where none is, the regression extrapolates and decides nothing."""
    table, rows = run_table(df), []
    if "lift" not in table:
        return pd.DataFrame()
    for _, cell in table.groupby(CELL, sort=False):
        low, high = (cell.groupby("arm").accuracy.agg(f) for f in ("min", "max"))
        for key, e in sharper.beyond_accuracy(cell).items():
            of, overlap = "a point of accuracy", ""
            if key != "accuracy":
                meets = low[key] <= high["none"] and low["none"] <= high[key]
                of, overlap = name(key), "yes" if meets else "no"
            rows.append({"place": place(cell.iloc[0]), "runs": len(cell), "adds": e.mean,
                         "low": e.low, "high": e.high, "of": of, "overlap": overlap})
    return pd.DataFrame(rows).round(3)

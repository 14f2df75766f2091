"""What the stored predictions say beyond accuracy: calibration, and which classes gain.

Each finished run keeps, for every test image, the predicted class, its probability (the
*confidence*) and the label."""
import numpy as np
import pandas as pd

from ..training import store
from .stats import CELL, NOTHING, cell_runs, compared, each_cell, own_arms

BINS = 15           # equal-width bins of the confidence, as is usual since Guo et al. 2017


def predictions(row) -> dict | None:
    """``prediction``, ``confidence`` and ``label`` [N] of a finished run of a `collect` table, and
    its ``classes``; None where they are not stored here."""
    record = store.read_record(store.record_path(row.profile, row.id))
    found = record and store.read_arrays(row.profile, row.id, record["arrays"].get("predictions"))
    return found and found | {"classes": record.get("classes", ())}


def bins(found: dict):
    """Images, accuracy and mean confidence of each equal-width bin of the confidence, which is in
    (0, 1]; a bin without images has NaN."""
    confidence = found["confidence"].astype(np.float64)
    right = (found["prediction"] == found["label"]).astype(np.float64)
    which = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    n = np.bincount(which, minlength=BINS)
    with np.errstate(invalid="ignore"):
        return n, *(np.bincount(which, x, BINS) / n for x in (right, confidence))


def ece(found: dict) -> float:
    """Expected calibration error Σ_b n_b / N · |accuracy_b − confidence_b|, 0..1, of the predicted
    class's probability (Naeini et al. 2015)."""
    n, accuracy, confidence = bins(found)
    return float(np.nansum(n * np.abs(accuracy - confidence)) / n.sum())


def from_predictions(df, rows_of) -> pd.DataFrame:
    """``rows_of(run, predictions)`` of every finished run with stored predictions in the cells of a
    `collect` table, from all seeds and arms of the profile: intervals hold for all of them."""
    rows, runs = [], cell_runs(df)
    for run in runs[runs.status == "done"].itertuples():
        found = predictions(run)
        if found:
            who = {key: getattr(run, key) for key in (*CELL, "arm", "seed")}
            rows += [who | row for row in rows_of(run, found)]
    return pd.DataFrame(rows, columns=None if rows else [*CELL, "arm", "seed", "label"])


def calibration_table(df):
    """One row a cell and arm: mean and sd of ``nll`` (nats) and ``ece`` (points), their differences
    to ``none`` with intervals, and the mean of ``surplus``: confidence less accuracy, points."""
    def rows_of(run, found):
        right = found["prediction"] == found["label"]
        surplus = found["confidence"].astype(np.float64).mean() - right.mean()
        return [{"nll": run.nll, "ece": 100 * ece(found), "surplus": 100 * surplus}]
    rows = []
    for key, cell in each_cell(from_predictions(df, rows_of)):
        gains = {value: compared(cell, value) for value in ("nll", "ece")}
        for arm, runs in cell.groupby("arm", sort=False):
            row = key | {"arm": arm, "n": len(runs), "surplus": runs.surplus.mean()}
            for value, found in gains.items():
                d = found.get(arm, NOTHING)
                row |= {value: runs[value].mean(), f"{value}_sd": runs[value].std(),
                        f"{value}_gain": d.mean, f"{value}_gain_low": d.low,
                        f"{value}_gain_high": d.high}
            rows.append(row)
    return own_arms(pd.DataFrame(rows, columns=None if rows else [*CELL, "arm"]), df)


def class_table(df):
    """One row a cell, class and arm: ``gain``, the difference to ``none`` of the accuracy on that
    class in points, with its interval, simultaneous over the arms."""
    def rows_of(run, found):
        right = found["prediction"] == found["label"]
        return [{"label": label, "accuracy": 100 * right[found["label"] == k].mean()}
                for k, label in enumerate(found["classes"])]
    rows = [dict(zip([*CELL, "label"], key, strict=True)) | {
                "arm": arm, "gain": d.mean, "low": d.low, "high": d.high, "n": d.n}
            for key, runs in from_predictions(df, rows_of).groupby([*CELL, "label"], sort=False)
            for arm, d in compared(runs).items()]
    return own_arms(pd.DataFrame(rows, columns=[*CELL, "label", "arm", "gain", "low", "high",
                                                "n"]), df)

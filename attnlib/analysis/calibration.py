"""What the stored predictions say beyond accuracy: calibration, and which classes gain.

Each finished run keeps, for every test image, the predicted class, its probability (the
*confidence*) and the label."""
import numpy as np
import pandas as pd

from ..training import store
from .stats import CELL, NOTHING, cell_runs, compared, own_arms

BINS = 15           # equal-width bins of the confidence, as is usual since Guo et al. 2017


def predictions(row) -> dict | None:
    """``prediction``, ``confidence`` and ``label`` [N] of a finished run of a `collect` table, and
    its ``classes``; None where they are not stored here."""
    record = store.read_record(store.record_path(row.profile, row.id))
    found = record and store.read_arrays(row.profile, row.id, record["arrays"].get("predictions"))
    return found and found | {"classes": record.get("classes", ())}


def bins(found: dict, count: int = BINS):
    """Images, accuracy and mean confidence of each equal-width bin of the confidence, which is in
    (0, 1]; a bin without images has NaN."""
    confidence = found["confidence"].astype(np.float64)
    right = (found["prediction"] == found["label"]).astype(np.float64)
    which = np.clip(np.ceil(confidence * count).astype(int) - 1, 0, count - 1)
    n = np.bincount(which, minlength=count)
    with np.errstate(invalid="ignore"):
        return n, *(np.bincount(which, x, count) / n for x in (right, confidence))


def ece(found: dict, count: int = BINS) -> float:
    """Expected calibration error Σ_b n_b / N · |accuracy_b − confidence_b|, 0..1, of the predicted
    class's probability (Naeini et al. 2015)."""
    n, accuracy, confidence = bins(found, count)
    return float(np.nansum(n * np.abs(accuracy - confidence)) / n.sum())


def runs_with_predictions(df) -> list[tuple]:
    """(row, `predictions`) of every finished run with stored predictions in the cells of a
    `collect` table, from all seeds and arms of the profile: intervals hold for all of them."""
    done = cell_runs(df)
    return [(row, found) for row in done[done.status == "done"].itertuples()
            if (found := predictions(row))]


def calibration_runs(df):
    """One row a run of `runs_with_predictions`: ``ece`` and ``surplus`` (mean confidence −
    accuracy) in points, ``nll`` in nats."""
    rows = [{**{key: getattr(row, key) for key in (*CELL, "arm", "seed", "nll")},
             "ece": 100 * ece(found),
             "surplus": 100 * (found["confidence"].astype(np.float64).mean()
                            - (found["prediction"] == found["label"]).mean())}
            for row, found in runs_with_predictions(df)]
    return pd.DataFrame(rows, columns=[*CELL, "arm", "seed", "nll", "ece", "surplus"])


def calibration_table(df):
    """One row a cell and arm: mean and sd of ``nll`` (nats) and ``ece`` (points), their differences
    to ``none`` with intervals, and the mean of ``surplus``: confidence less accuracy, points."""
    rows = []
    for key, cell in calibration_runs(df).groupby(CELL, sort=False):
        effects = {value: compared(cell, value) for value in ("nll", "ece")}
        for arm, runs in cell.groupby("arm", sort=False):
            row = dict(zip(CELL, key, strict=True)) | {"arm": arm, "n": len(runs),
                                                       "surplus": runs.surplus.mean()}
            for value, found in effects.items():
                d = found.get(arm, NOTHING)
                row |= {value: runs[value].mean(), f"{value}_sd": runs[value].std(),
                        f"{value}_gain": d.mean, f"{value}_gain_low": d.low,
                        f"{value}_gain_high": d.high}
            rows.append(row)
    columns = [f"{value}{part}" for value in ("nll", "ece")
               for part in ("", "_sd", "_gain", "_gain_low", "_gain_high")]
    return own_arms(pd.DataFrame(rows, columns=[*CELL, "arm", "n", "surplus", *columns]), df)


def class_table(df):
    """One row a cell, class and arm: ``gain``, the difference to ``none`` of the accuracy on that
    class in points, with its interval, simultaneous over the arms."""
    rows = []
    for row, found in runs_with_predictions(df):
        right = found["prediction"] == found["label"]
        rows += [{**{key: getattr(row, key) for key in (*CELL, "arm", "seed")}, "label": label,
                  "accuracy": 100 * right[found["label"] == k].mean()}
                 for k, label in enumerate(found["classes"])]
    columns = [*CELL, "label", "arm", "gain", "low", "high", "n"]
    if not rows:
        return pd.DataFrame(columns=columns)
    out = [dict(zip([*CELL, "label"], key, strict=True)) | {
               "arm": arm, "gain": d.mean, "low": d.low, "high": d.high, "n": d.n}
           for key, cell in pd.DataFrame(rows).groupby([*CELL, "label"], sort=False)
           for arm, d in compared(cell).items()]
    return own_arms(pd.DataFrame(out, columns=columns), df)

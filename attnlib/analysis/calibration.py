"""Whether networks are as often right as they say, from the stored predictions: of every test image
the predicted class, its probability (the *confidence*) and the label."""
import numpy as np
import pandas as pd

from ..training import store
from .stats import CELL, NOTHING, cell_runs, compared, each_cell, own_arms

BINS = 15           # equal-width bins of the confidence, as is usual since Guo et al. 2017


def predictions(row) -> dict | None:
    """``prediction``, ``confidence`` and ``label`` [N] of a finished run of a `collect` table; None
    where they are not stored here."""
    record = store.read_record(row.profile, row.id)
    return record and store.read_arrays(row.profile, row.id, record["arrays"].get("predictions"))


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


def surplus(found: dict) -> float:
    """Mean confidence less accuracy, points."""
    right = found["prediction"] == found["label"]
    return 100 * (found["confidence"].astype(np.float64).mean() - right.mean())


def calibration_table(df):
    """One row a cell and arm: mean and sd of ``nll`` (nats) and ``ece`` (points), their differences
    to ``none`` with intervals for all arms of the profile together, and the mean of ``surplus``.
    From all seeds with stored predictions."""
    runs = cell_runs(df)
    runs = runs[runs.status == "done"]
    stored = [predictions(run) for run in runs.itertuples()]
    runs = runs.assign(ece=[100 * ece(f) if f else np.nan for f in stored],
                       surplus=[surplus(f) if f else np.nan for f in stored]).dropna(subset="ece")
    rows = []
    for key, cell in each_cell(runs):
        gains = {value: compared(cell, value) for value in ("nll", "ece")}
        for arm, own in cell.groupby("arm", sort=False):
            row = [*key.values(), arm, len(own), own.surplus.mean()]
            for value, found in gains.items():
                row += [own[value].mean(), own[value].std(), *found.get(arm, NOTHING)[:3]]
            rows.append(row)
    columns = [f"{value}{part}" for value in ("nll", "ece")
               for part in ("", "_sd", "_gain", "_gain_low", "_gain_high")]
    return own_arms(pd.DataFrame(rows, columns=[*CELL, "arm", "n", "surplus", *columns]), df)

"""What the stored predictions say beyond accuracy: calibration, and which classes gain.

Each finished run keeps, for every test image, the predicted class, its probability (the
*confidence*) and the label."""
import math

import numpy as np

from ..training import store
from ..training.recipes import RECIPES
from .stats import CELL, MIN_SEEDS, cell_runs, compared
from .words import interval, items, name, place, plural, plus_minus

BINS = 15           # equal-width bins of the confidence, as is usual since Guo et al. 2017


def predictions(row) -> dict | None:
    """``prediction``, ``confidence`` and ``label`` [N] of a finished run of a `collect` table, and
    its ``classes``; None where they are not stored here."""
    record = store.read_record(store.record_path(row.profile, row.id))
    found = record and store.read_arrays(row.profile, row.id, record["arrays"].get("predictions"))
    return found and found | {"classes": record["classes"]}


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


def measured(df) -> list[tuple]:
    """(row, `predictions`, whether the table has its arm) of every finished run with stored
    predictions in the cells of a `collect` table, from all seeds and arms of the profile."""
    arms = set(df[[*CELL, "arm"]].itertuples(index=False, name=None))
    return [(row, found, (row.dataset, row.backbone, row.recipe, row.arm) in arms)
            for row in cell_runs(df).itertuples()
            if row.status == "done" and (found := predictions(row))]


def table(df):
    """One row a finished run with stored predictions: ``ece`` and ``over`` (mean confidence −
    accuracy) in points, ``nll`` in nats; not ``shown`` are arms that a `collect` table lacks and
    that its intervals hold for, too."""
    import pandas as pd
    rows = [{**{key: getattr(row, key) for key in CELL}, "arm": row.arm, "seed": row.seed,
             "nll": row.nll, "ece": 100 * ece(found), "shown": shown,
             "over": 100 * (found["confidence"].astype(np.float64).mean()
                            - (found["prediction"] == found["label"]).mean())}
            for row, found, shown in measured(df)]
    return pd.DataFrame(rows, columns=[*CELL, "arm", "seed", "nll", "ece", "over", "shown"])


def markdown(df) -> str:
    """Markdown: test loss and calibration error of every arm, and their differences to ``none``."""
    import pandas as pd
    rows = []
    for _, cell in table(df).groupby(CELL, sort=False):
        found = {value: compared(cell, value) for value in ("nll", "ece")}
        for arm, runs in cell[cell.shown].groupby("arm", sort=False):
            row = {"network and data set": place(cell.iloc[0]), "block": name(arm),
                   "seeds": str(len(runs))}
            for value, title, digits in (("nll", "test loss, nats", 3),
                                         ("ece", "calibration error, points", 1)):
                d = found[value].get(arm)
                row[title] = plus_minus(runs[value].mean(), runs[value].std(), digits)
                row[f"{title.split(',')[0]} − none's"] = \
                    interval(d.mean, d.low, d.high, digits) if d else ""
            rows.append(row)
    return pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True) if rows else \
        "No finished run with stored predictions yet."


def reading(df) -> str:
    """Whether the networks are over- or underconfident, how much of that is label smoothing's
    doing, and which blocks change their loss or their calibration."""
    sentences, sides = [], {}
    for (dataset, backbone, recipe), cell in table(df).groupby(CELL, sort=False):
        base = cell[cell.arm == "none"]
        if not len(base):
            continue
        side = "overconfident" if base.over.mean() > 0 else "underconfident"
        text = (f"{place(cell.iloc[0])}: `none` is {side} by {abs(base.over.mean()):.1f} points, "
                f"calibration error {plus_minus(base.ece.mean(), base.ece.std())} points, loss "
                f"{plus_minus(base.nll.mean(), base.nll.std(), 3)} nats")
        shown = cell.arm[cell.shown].unique()
        moves = {value: {arm: d for arm, d in compared(cell, value).items() if arm in shown}
                 for value in ("nll", "ece")}
        for value, what in (("nll", "loss"), ("ece", "calibration error")):
            for sign, word in ((-1, "lower"), (1, "higher")):
                moved = [name(arm) for arm, d in moves[value].items()
                         if (d.low > 0 if sign > 0 else d.high < 0)]
                if moved:
                    text += f"; {word} {what} than none's with {', '.join(moved)}"
        smoothing = RECIPES[recipe].label_smoothing
        most = max((abs(d.mean) for d in moves["ece"].values()), default=0.0)
        sentences.append(f"{text}; no block changes the calibration error by more than {most:.1f} "
                         f"points. Labels are smoothed by {smoothing:g}.")
        sides.setdefault((dataset, backbone), {})[smoothing] = base.over.mean()
    sentences += [
        f"Label smoothing dominates calibration: in {name(backbone)} on {name(dataset)} the "
        "confidence of `none` less its accuracy is "
        + ", ".join(f"{interval(x, math.nan, math.nan)} points with smoothing {s:g}"
                    for s, x in sorted(over.items())) + "."
        for (dataset, backbone), over in sides.items() if 0.0 in over and len(over) > 1]
    return items(sentences, f"(Calibration error: {BINS} equal-width bins of the predicted class's "
                 "probability. Smoothed labels lower the confidence, whatever the block; recipes "
                 "differ in more than that.)"
                 ) if sentences else "No finished run with stored predictions yet."


def by_class(df):
    """One row a cell, arm and class: ``gain``, the difference to ``none`` of the accuracy on that
    class in points, with its interval, simultaneous over the arms."""
    import pandas as pd
    rows = []
    for row, found, shown in measured(df):
        right = found["prediction"] == found["label"]
        rows += [{**{key: getattr(row, key) for key in CELL}, "arm": row.arm, "seed": row.seed,
                  "shown": shown, "label": label,
                  "accuracy": 100 * right[found["label"] == k].mean()}
                 for k, label in enumerate(found["classes"])]
    runs = pd.DataFrame(rows, columns=[*CELL, "arm", "seed", "shown", "label", "accuracy"])
    out = []
    for key, cell in runs.groupby([*CELL, "label"], sort=False):
        shown = set(cell.arm[cell.shown])
        out += [dict(zip([*CELL, "label"], key, strict=True)) | {
                    "arm": arm, "gain": d.mean, "low": d.low, "high": d.high, "n": d.n}
                for arm, d in compared(cell, "accuracy").items() if arm in shown]
    return pd.DataFrame(out, columns=[*CELL, "label", "arm", "gain", "low", "high", "n"])


def classes_reading(df) -> str:
    """Which classes gain or lose with which block: those whose interval excludes zero, and on how
    many some would by chance."""
    gains, sentences = by_class(df), []
    for _, cell in gains.groupby(CELL, sort=False):
        tested = cell[cell.low.notna()]
        if not len(tested):
            continue
        off, classes = tested[(tested.low > 0) | (tested.high < 0)], tested.label.nunique()
        parts = [f"{name(r.arm)} on {r.label} {interval(r.gain, r.low, r.high)}"
                 for r in off.itertuples()]
        sentences.append(
            f"{place(cell.iloc[0])}: {len(off)} of {plural(len(tested), 'class gain')} have an "
            f"interval that excludes zero; by chance alone some would on {0.05 * classes:.1f} of "
            f"{classes} classes" + (": " + "; ".join(parts) if parts else "") + ".")
    return items(sentences) or f"No class has a gain over {MIN_SEEDS} seeds yet."

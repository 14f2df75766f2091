"""What the stored predictions say beyond accuracy: calibration, and which classes gain.

Each finished run keeps, for every test image, the predicted class, its probability (the
*confidence*) and the label."""
import numpy as np

from . import store
from .evidence import gaps, summed
from .stats import CELL, MIN_SEEDS
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


def table(df):
    """One row a finished run with stored predictions: ``ece`` and ``over`` (mean confidence −
    accuracy) in points, ``nll`` in nats."""
    import pandas as pd
    rows = []
    for row in df[df.status == "done"].itertuples():
        found = predictions(row)
        if found:
            over = found["confidence"].astype(np.float64).mean() - \
                (found["prediction"] == found["label"]).mean()
            rows.append({**{key: getattr(row, key) for key in CELL}, "arm": row.arm,
                         "seed": row.seed, "nll": row.nll, "ece": 100 * ece(found),
                         "over": 100 * over})
    return pd.DataFrame(rows, columns=[*CELL, "arm", "seed", "nll", "ece", "over"])


def markdown(df) -> str:
    """Markdown: test loss and calibration error of every arm, and their paired differences to
    ``none``."""
    import pandas as pd
    rows = []
    for _, cell in table(df).groupby(CELL, sort=False):
        for arm, runs in cell.groupby("arm", sort=False):
            row = {"network and data set": place(cell.iloc[0]), "block": name(arm),
                   "seeds": str(len(runs))}
            for value, title, digits in (("nll", "test loss, nats", 3),
                                         ("ece", "calibration error, points", 1)):
                d = summed(gaps(cell, arm, value)).d if arm != "none" else None
                row[title] = plus_minus(runs[value].mean(), runs[value].std(), digits)
                row[f"{title.split(',')[0]} − none's"] = \
                    interval(d.mean, d.low, d.high, digits) if d else ""
            rows.append(row)
    return pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True) if rows else \
        "No finished run with stored predictions yet."


def reading(df) -> str:
    """Whether the networks are over- or underconfident, and which blocks change their loss or their
    calibration."""
    sentences = []
    for _, cell in table(df).groupby(CELL, sort=False):
        base = cell[cell.arm == "none"]
        if not len(base):
            continue
        side = "overconfident" if base.over.mean() > 0 else "underconfident"
        text = (f"{place(cell.iloc[0])}: `none` is {side} by {abs(base.over.mean()):.1f} points, "
                f"calibration error {plus_minus(base.ece.mean(), base.ece.std())} points, loss "
                f"{plus_minus(base.nll.mean(), base.nll.std(), 3)} nats")
        for value, what in (("nll", "loss"), ("ece", "calibration error")):
            for sign, word in ((-1, "lower"), (1, "higher")):
                moved = [name(arm) for arm in cell.arm.unique() if arm != "none"
                         and (d := summed(gaps(cell, arm, value)).d).n >= MIN_SEEDS
                         and (d.low > 0 if sign > 0 else d.high < 0)]
                if moved:
                    text += f"; {word} {what} than none's with {', '.join(moved)}"
        sentences.append(text + ".")
    return items(sentences, f"(Calibration error: {BINS} equal-width bins of the predicted class's "
                 "probability. Label smoothing lowers the confidence.)") if sentences else \
        "No finished run with stored predictions yet."


def by_class(df):
    """One row a cell, arm and class: ``gain``, the paired difference to ``none`` of the accuracy on
    that class in points, with its t interval over seeds."""
    import pandas as pd
    rows = []
    for row in df[df.status == "done"].itertuples():
        found = predictions(row)
        if found:
            right = found["prediction"] == found["label"]
            rows += [{**{key: getattr(row, key) for key in CELL}, "arm": row.arm, "seed": row.seed,
                      "label": label, "accuracy": 100 * right[found["label"] == k].mean()}
                     for k, label in enumerate(found["classes"])]
    runs = pd.DataFrame(rows, columns=[*CELL, "arm", "seed", "label", "accuracy"])
    out = []
    for key, cell in runs.groupby([*CELL, "label"], sort=False):
        for arm in cell.arm.unique():
            if arm != "none" and "none" in set(cell.arm):
                d = summed(gaps(cell, arm, "accuracy")).d
                out.append(dict(zip([*CELL, "label"], key, strict=True)) | {
                    "arm": arm, "gain": d.mean, "low": d.low, "high": d.high, "pairs": d.n})
    return pd.DataFrame(out, columns=[*CELL, "label", "arm", "gain", "low", "high", "pairs"])


def classes_reading(df) -> str:
    """Which classes gain or lose with which block: those whose interval excludes zero, and how many
    would by chance."""
    gains, sentences = by_class(df), []
    for _, cell in gains.groupby(CELL, sort=False):
        tested = cell[cell.low.notna()]
        if not len(tested):
            continue
        off = tested[(tested.low > 0) | (tested.high < 0)]
        parts = [f"{name(r.arm)} on {r.label} {interval(r.gain, r.low, r.high)}"
                 for r in off.itertuples()]
        sentences.append(
            f"{place(cell.iloc[0])}: {len(off)} of {plural(len(tested), 'class gain')} have an "
            f"interval that excludes zero, about {0.05 * len(tested):.1f} would by chance alone"
            + (": " + "; ".join(parts) if parts else "") + ".")
    return items(sentences) or f"No class has a gain over {MIN_SEEDS} paired seeds yet."

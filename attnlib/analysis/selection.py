"""What choosing the epoch buys: the same runs, scored by three rules.

Many projects report the best test accuracy of a training. That is a maximum over epochs, so it is
biased upwards, and more so for a noisier curve. Runs with ``track_test`` recorded the test accuracy
of every epoch, for this comparison alone; no choice of ours reads it."""
import math

import numpy as np

from ..experiments.reading import histories
from .stats import CELL, all_seeds, average, compared
from .words import interval, items, name, place, plural, plus_minus

LAST, ON_VAL, ON_TEST = RULES = ("last epoch", "best on validation", "best on test")


def scored(curve) -> dict[str, float]:
    """The test accuracy, 0..1, of one run by each rule, from its epochs' validation and test
    accuracies: columns ``val_accuracy`` and ``test_accuracy``; of equal epochs the first."""
    val, test = curve.val_accuracy.to_numpy(), curve.test_accuracy.to_numpy()
    return {LAST: test[-1], ON_VAL: test[np.argmax(val)], ON_TEST: test.max()}


def table(df):
    """One row a finished run that recorded its test curve, all seeds of the profile: its accuracy
    in percent by each rule."""
    import pandas as pd
    history = histories(all_seeds(df))
    keys = [*CELL, "arm", "seed"]
    if "test_accuracy" not in history.columns:
        return pd.DataFrame(columns=[*keys, *RULES])
    rows = [dict(zip(keys, group, strict=True)) | {k: 100 * v for k, v in scored(run).items()}
            for group, run in history.dropna(subset=["test_accuracy"]).groupby(keys, sort=False)]
    return pd.DataFrame(rows, columns=[*keys, *RULES])


def markdown(df) -> str:
    """Markdown: by each rule every arm's accuracy, mean ± sd over seeds, and its gain over
    ``none``."""
    import pandas as pd
    found, rows = table(df), []
    for _, cell in found.groupby(CELL, sort=False):
        gains = {rule: compared(cell, rule) for rule in RULES}
        for arm, runs in cell.groupby("arm", sort=False):
            row = {"network and data set": place(cell.iloc[0]), "block": name(arm),
                   "seeds": str(len(runs))}
            for rule in RULES:
                row[rule] = plus_minus(runs[rule].mean(), runs[rule].std())
                if arm in gains[rule]:
                    d = gains[rule][arm]
                    row[rule] += f" ({interval(d.mean, d.low, d.high)})"
            rows.append(row)
    return pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True) if rows else \
        "No run of this profile has recorded its test curve yet."


def reading(df) -> str:
    """How many points each habit adds to the last epoch of the same runs, and to what it changes
    the gains."""
    sentences = []
    for _, cell in table(df).groupby(CELL, sort=False):
        parts = []
        for rule in (ON_VAL, ON_TEST):
            d = average(cell[rule] - cell[LAST])
            parts.append(f"{rule} {interval(d.mean, d.low, d.high, 2)} points")
        habit = average(cell[ON_TEST] - cell[ON_VAL])
        text = (f"{place(cell.iloc[0])}, {plural(len(cell), 'run')}, against the last epoch: "
                + "; ".join(parts) + f". Choosing on the test set in place of the validation set "
                f"buys {interval(habit.mean, habit.low, habit.high, 2)} points")
        last, best = compared(cell, LAST), compared(cell, ON_TEST)
        moved = [abs(best[arm].mean - d.mean) for arm, d in last.items()]
        moved = [m for m in moved if not math.isnan(m)]
        if moved:
            text += f", and moves a block's mean gain by up to {max(moved):.2f} points"
        sentences.append(text + ".")
    return items(sentences) or "No run of this profile has recorded its test curve yet."

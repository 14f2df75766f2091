"""What learning curves say: how fast a level set in advance is reached, what choosing epochs buys.

A run that never reaches the level is *censored*: it took longer than the schedule lasts, and is not
left out. Runs with ``track_test`` recorded the test accuracy of every epoch, to measure the bias of
reporting the best one; no choice of ours reads it."""
import math

import numpy as np
import pandas as pd
from scipy import stats

from ..experiments.reading import histories
from .stats import CELL, MIN_SEEDS, NOTHING, Effect, all_seeds, compared, each_cell, mean_effect

# Validation accuracies, from the data set and the length of training alone, the same for all
# networks and blocks.
LEVELS = {"pilot": {"cifar10": (0.4, 0.5, 0.6), "fashionmnist": (0.75, 0.8, 0.85)},
          "real": {"cifar10": (0.7, 0.8, 0.85), "cifar100": (0.3, 0.4, 0.5),
                   "fashionmnist": (0.85, 0.88, 0.9)},
          "full": {"cifar10": (0.8, 0.85, 0.9), "cifar100": (0.5, 0.6, 0.7),
                   "fashionmnist": (0.88, 0.9, 0.92)}}
ELSEWHERE = (0.3, 0.5, 0.7)


def epochs_to(curve, level: float) -> float:
    """The epoch, counted from 1, at which a curve first reaches a level; between two epochs by a
    straight line. Infinite where it never does."""
    y = np.asarray(curve, float)
    there = np.flatnonzero(y >= level)
    if not len(there):
        return math.inf
    k = int(there[0])
    return 1.0 if k == 0 else float(k + (level - y[k - 1]) / (y[k] - y[k - 1]))


def levels_of(history) -> tuple[float, ...]:
    """The levels of a cell's learning curves (`histories`)."""
    first = history.iloc[0]
    return LEVELS.get(first.profile, {}).get(first.dataset, ELSEWHERE)


def reached(history, level: float):
    """Epochs to a level: a DataFrame seed × arm, infinite where a run never got there."""
    curves = history.sort_values("epoch").groupby(["seed", "arm"], sort=False).val_accuracy
    return curves.apply(lambda y: epochs_to(y, level)).unstack("arm")


def epochs_ratio(epochs, arm: str, base: str = "none") -> Effect:
    """The factor by which ``arm`` needs more epochs than ``base``, from the table of `reached`: of
    the geometric means, with Dunnett's interval of the logarithms over the arms that always got
    there. With a censored run of the two it is the median over seeds and its order-statistic
    interval at 95 % (sign test), which an infinite value cannot spoil; a seed in which neither got
    there may have any factor. Below six seeds that interval has no upper end."""
    if not {arm, base} <= set(epochs):
        return NOTHING
    always = epochs.loc[:, ~np.isinf(epochs).any()]
    if {arm, base} <= set(always):
        runs = np.log(always).rename_axis("seed").reset_index().melt("seed", var_name="arm")
        d = compared(runs.dropna(), "value", base)[arm]
        return Effect(*np.exp(d[:3]), d.n)
    factor = epochs[arm].div(epochs[base])[epochs[[arm, base]].notna().all(axis=1)]
    n, middle = len(factor), factor.median()                # ∞ ÷ ∞ is NaN, and not counted
    if math.isnan(middle):
        return NOTHING
    low, high = order_interval(factor.fillna(0.0))[0], order_interval(factor.fillna(math.inf))[1]
    return Effect(middle, low, high, n) if n >= MIN_SEEDS else Effect(middle, n=n)


def order_interval(values) -> tuple[float, float]:
    """The distribution-free 95 % interval of a median: between the k-th smallest and k-th largest
    value, k as large as the binomial allows; from 0 to infinity where there are too few values."""
    ordered = np.sort(values)
    k = int(stats.binom.ppf(0.025, len(ordered), 0.5))      # P(X < k) <= 0.025
    return (0.0, math.inf) if k == 0 else (float(ordered[k - 1]), float(ordered[-k]))


def epochs_table(df):
    """One row a cell, level and arm, from all seeds of the profile: ``n`` runs, how many
    ``reached`` the level, their median ``epochs``, and `epochs_ratio` to ``none``."""
    history, rows = histories(all_seeds(df[df.status == "done"])), []
    for key, cell in each_cell(history) if len(history) else ():
        for level in levels_of(cell):
            epochs = reached(cell, level)
            for arm in cell.arm.unique():
                mine = epochs[arm].dropna()
                r = epochs_ratio(epochs, arm) if arm != "none" else NOTHING
                rows.append([*key.values(), level, arm, len(mine), np.isfinite(mine).sum(),
                             mine.median(), *r[:3]])
    return pd.DataFrame(rows, columns=[*CELL, "level", "arm", "n", "reached", "epochs", "ratio",
                                       "low", "high"])


LAST, ON_VAL, ON_TEST = RULES = ("last epoch", "best on validation", "best on test")


def selection_table(df):
    """One row a finished run that recorded its test curve, all seeds of the profile: its test
    accuracy in percent by each rule of choosing the epoch, of equal ones the first."""
    df, keys, rows = all_seeds(df), [*CELL, "arm", "seed"], []
    history = histories(df[df.status == "done"])
    tracked = history.dropna(subset="test_accuracy") if "test_accuracy" in history else None
    for key, run in () if tracked is None else tracked.groupby(keys, sort=False):
        val, test = run.val_accuracy.to_numpy(), 100 * run.test_accuracy.to_numpy()
        rows.append([*key, test[-1], test[val.argmax()], test.max()])
    return pd.DataFrame(rows, columns=[*keys, *RULES])


def selection_bias(df):
    """One row a cell and habit: the points that choosing the epoch adds to the same runs, and by
    how much it ``moves`` a block's mean gain at most."""
    rows = []
    for key, cell in each_cell(selection_table(df)):
        gains = {rule: compared(cell, rule) for rule in RULES}
        for rule, other in ((ON_VAL, LAST), (ON_TEST, LAST), (ON_TEST, ON_VAL)):
            d = mean_effect(cell[rule] - cell[other])
            moves = [abs(gains[rule][arm].mean - gains[other][arm].mean) for arm in gains[rule]]
            rows.append(key | {"habit": rule, "in place of": other, "runs": len(cell),
                               "buys": d.mean, "low": d.low, "high": d.high,
                               "moves": max(moves, default=0.0)})
    return pd.DataFrame(rows)

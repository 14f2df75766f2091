"""How fast a network gets where it gets: epochs to a fixed validation accuracy, under one schedule.

An early-stopping epoch says when somebody's patience ended; the epoch at which a curve first
reaches a fixed level can be compared, if all runs follow the same schedule. A run that never
reaches it is *censored*: it took longer than the schedule lasts, and is not left out."""
import math

import numpy as np

from ..experiments.reading import histories
from .stats import CELL, MIN_SEEDS, Difference, all_seeds, compared
from .words import interval, items, name, place, plural

# Validation accuracies, from the data set and the length of training alone, the same for all
# networks and blocks; sentences are about the last one.
LEVELS = {"pilot": {"cifar10": (0.4, 0.5, 0.6), "fashionmnist": (0.75, 0.8, 0.85)},
          "real": {"cifar10": (0.7, 0.8, 0.85), "cifar100": (0.3, 0.4, 0.5),
                   "fashionmnist": (0.85, 0.88, 0.9)},
          "full": {"cifar10": (0.8, 0.85, 0.9), "cifar100": (0.5, 0.6, 0.7),
                   "fashionmnist": (0.88, 0.9, 0.92)}}
ELSEWHERE = (0.3, 0.5, 0.7)
NOTHING = Difference(math.nan, math.nan, math.nan, 0)


def epochs_to(curve, level: float) -> float:
    """The epoch, counted from 1, at which a curve first reaches a level; between two epochs by a
    straight line. Infinite where it never does."""
    y = np.asarray(curve, float)
    there = np.flatnonzero(y >= level)
    if not len(there):
        return math.inf
    k = int(there[0])
    return 1.0 if k == 0 else float(k + (level - y[k - 1]) / (y[k] - y[k - 1]))


def levels(history) -> tuple[float, ...]:
    """The levels of a cell's learning curves (`histories`)."""
    first = history.iloc[0]
    return LEVELS.get(first.profile, {}).get(first.dataset, ELSEWHERE)


def reached(history, level: float):
    """Epochs to a level: a DataFrame seed × arm, infinite where a run never got there."""
    curves = history.sort_values("epoch").groupby(["seed", "arm"], sort=False).val_accuracy
    return curves.apply(lambda y: epochs_to(y, level)).unstack("arm")


def ratio(epochs, arm: str, base: str = "none") -> Difference:
    """The factor by which ``arm`` needs more epochs than ``base``, from the table of `reached`: of
    the geometric means, with Dunnett's interval of the logarithms over the arms that always got
    there. With a censored run of the two it is the median over seeds and its order-statistic
    interval at 95 % (sign test), which an infinite value cannot spoil; a seed in which neither got
    there may have any factor. Below six seeds that interval has no upper end."""
    if not {arm, base} <= set(epochs.columns):
        return NOTHING
    both = epochs[[arm, base]]
    if not np.isinf(both).any(axis=None):
        always = epochs.loc[:, ~np.isinf(epochs).any()]
        runs = np.log(always).rename_axis("seed").reset_index().melt("seed", var_name="arm")
        d = compared(runs.dropna(), "value", base).get(arm, NOTHING)
        return Difference(math.exp(d.mean), math.exp(d.low), math.exp(d.high), d.n)
    both = both.dropna()
    factor = (both[arm] / both[base]).to_numpy()            # ∞ ÷ ∞ is NaN
    n, known = len(factor), factor[~np.isnan(factor)]
    if not len(known):
        return NOTHING
    low = order_interval(np.nan_to_num(factor, nan=0.0, posinf=math.inf))[0]
    high = order_interval(np.nan_to_num(factor, nan=math.inf, posinf=math.inf))[1]
    return Difference(float(np.median(known)), *((low, high) if n >= MIN_SEEDS else
                                                 (math.nan, math.nan)), n)


def order_interval(values, level: float = 0.95) -> tuple[float, float]:
    """The distribution-free interval of a median: between the k-th smallest and k-th largest value,
    k as large as the binomial allows; from 0 to infinity where there are too few values."""
    from scipy import stats
    ordered = np.sort(values)
    k = int(stats.binom.ppf((1 - level) / 2, len(ordered), 0.5))    # P(X < k) <= (1 - level) / 2
    return (0.0, math.inf) if k == 0 else (float(ordered[k - 1]), float(ordered[-k]))


def table(df):
    """One row a cell, level and arm of a `collect` table, from all seeds of the profile: how many
    runs got there, their median epochs, and the factor to ``none``."""
    import pandas as pd
    history, rows = histories(all_seeds(df)), []
    for cell in [c for _, c in history.groupby(CELL, sort=False)] if len(history) else []:
        for level in levels(cell):
            epochs = reached(cell, level)
            for arm in cell.arm.unique():
                mine = epochs[arm].dropna()
                r = ratio(epochs, arm) if arm != "none" else NOTHING
                rows.append({**{key: cell[key].iloc[0] for key in CELL}, "level": level,
                             "arm": arm, "n": len(mine), "reached": int(np.isfinite(mine).sum()),
                             "epochs": mine.median(), "ratio": r.mean, "low": r.low,
                             "high": r.high})
    return pd.DataFrame(rows, columns=[*CELL, "level", "arm", "n", "reached", "epochs", "ratio",
                                       "low", "high"])


def percent(level: float) -> str:
    return f"{100 * level:.0f} %"


def factor(row) -> str:
    """``0.93 [0.88, 0.99]``"""
    if math.isnan(row.ratio):
        return "–"
    bars = "" if math.isnan(row.low) else f" [{row.low:.2f}, {row.high:.2f}]"
    return f"{row.ratio:.2f}{bars}".replace("inf", "∞")


def markdown(df) -> str:
    """Markdown of `table`."""
    import pandas as pd
    rows = [{"network and data set": place(r), "validation accuracy": percent(r.level),
             "block": name(r.arm), "runs that got there": f"{r.reached} of {r.n}",
             "median epochs": "never" if math.isinf(r.epochs) else f"{r.epochs:.1f}",
             "epochs ÷ none's [95 % interval]": "" if r.arm == "none" else factor(r)}
            for r in table(df).itertuples()]
    return pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True) if rows else \
        "No finished runs yet."


def reading(df) -> str:
    """What the hardest level of each cell says, in a sentence."""
    sentences = []
    for _, cell in table(df).groupby(CELL, sort=False):
        last = cell[cell.level == cell.level.max()]
        parts = []
        for r in last[(last.arm != "none") & (last.n > 0)].itertuples():
            low, high = 100 * (r.low - 1), 100 * (r.high - 1)
            says = "too few seeds" if math.isnan(low) else "faster" if high < 0 else \
                "slower" if low > 0 else "undecided"
            gap = f"{interval(100 * (r.ratio - 1), low, high, 0)} % over {plural(r.n, 'seed')}"
            if r.reached < r.n:
                gap = f"did not get there in {r.n - r.reached} of {plural(r.n, 'run')}"
                says = says if says == "slower" else "no interval"
            parts.append(f"{name(r.arm)} {gap}, {says}")
        if parts:
            said = "; ".join(parts) if last.reached.any() else "no run got there"
            sentences.append(f"{place(cell.iloc[0])}, epochs to {percent(last.level.iloc[0])} "
                             f"validation accuracy against none: {said}.")
    return items(sentences, "The levels were fixed for the data set and the profile. Numbers hold "
                 "for this schedule alone: where the rate falls decides when a level is reached."
                 ) if sentences else "No finished runs to compare yet."

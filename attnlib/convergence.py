"""How fast a network gets where it gets: epochs to a fixed validation score, under one schedule.

An early-stopping epoch says when somebody's patience ended; the epoch at which a curve first
reaches a fixed level can be compared, if all runs follow the same schedule. A run that never
reaches it is *censored*: it took longer than the schedule lasts, and is not left out."""
import math

import numpy as np

from .grid import histories
from .stats import CELL, MIN_SEEDS, Difference, t_half_width
from .words import interval, items, name, place, plural

# watched value -> (what it is, distance of the levels, more is better, how a level is written)
VALUES = {"val_accuracy": ("validation accuracy", 0.05, True, lambda x: f"{100 * x:.0f} %"),
          "val_nll": ("validation loss", 0.1, False, lambda x: f"{x:.1f} nats")}


def epochs_to(curve, level: float, more: bool = True) -> float:
    """The epoch, counted from 1, at which a curve first reaches a level; between two epochs by a
    straight line. Infinite where it never does."""
    y, level = (np.asarray(curve, float), level) if more else (-np.asarray(curve, float), -level)
    there = np.flatnonzero(y >= level)
    if not len(there):
        return math.inf
    k = int(there[0])
    return 1.0 if k == 0 else float(k + (level - y[k - 1]) / (y[k] - y[k - 1]))


def levels(history, value: str = "val_accuracy", base: str = "none", count: int = 3) -> list[float]:
    """The levels of a cell: the hardest round one that every seed of ``base`` ends beyond, and the
    ones before it; the same for all arms."""
    _, step, more, _ = VALUES[value]
    ends = history[history.arm == base].sort_values("epoch").groupby("seed")[value].last()
    if not len(ends):
        return []
    last = round((ends.min() if more else ends.max()) / step, 6)        # 0.7 / 0.05 is 13.99…
    last = math.floor(last) if more else math.ceil(last)
    return [round((last + (k if more else -k)) * step, 6) for k in range(1 - count, 1)]


def reached(history, level: float, value: str = "val_accuracy"):
    """Epochs to a level: a DataFrame seed × arm, infinite where a run never got there."""
    more = VALUES[value][2]
    curves = history.sort_values("epoch").groupby(["seed", "arm"], sort=False)[value]
    return curves.apply(lambda y: epochs_to(y, level, more)).unstack("arm")


def ratio(epochs, arm: str, base: str = "none") -> Difference:
    """The factor by which ``arm`` needs more epochs than ``base``, over shared seeds, from the
    table of `reached`: its geometric mean and the t interval of the logarithms. With a censored
    run it is the median and its order-statistic interval at 95 % (sign test), which an infinite
    value cannot spoil; below six seeds that interval has no upper end. ``wins``: seeds in which the
    arm was there first. Pairs of which neither got there say nothing and are left out."""
    if not {arm, base} <= set(epochs.columns):
        return Difference(math.nan, math.nan, math.nan, 0, 0)
    pairs = epochs[[arm, base]].dropna()
    pairs = pairs[np.isfinite(pairs).any(axis=1)]
    factor = (pairs[arm] / pairs[base]).to_numpy()
    n, wins = len(factor), int((factor < 1).sum())
    if not n:
        return Difference(math.nan, math.nan, math.nan, 0, 0)
    if not np.isfinite(factor).all() or not factor.all():
        low, high = order_interval(factor) if n >= MIN_SEEDS else (math.nan, math.nan)
        return Difference(float(np.median(factor)), low, high, n, wins)
    logs = np.log(factor)
    half = t_half_width(logs.std(ddof=1), n) if n >= MIN_SEEDS else math.nan
    return Difference(math.exp(logs.mean()), math.exp(logs.mean() - half),
                      math.exp(logs.mean() + half), n, wins)


def order_interval(values, level: float = 0.95) -> tuple[float, float]:
    """The distribution-free interval of a median: between the k-th smallest and k-th largest value,
    k as large as the binomial allows; from 0 to infinity where there are too few values."""
    from scipy import stats
    ordered = np.sort(values)
    k = int(stats.binom.ppf((1 - level) / 2, len(ordered), 0.5))    # P(X < k) <= (1 - level) / 2
    return (0.0, math.inf) if k == 0 else (float(ordered[k - 1]), float(ordered[-k]))


def table(df, value: str = "val_accuracy"):
    """One row a cell, level and arm of a `collect` table: how many runs got there, their median
    epochs, and the factor to ``none``."""
    import pandas as pd
    history, rows = histories(df), []
    for cell in [c for _, c in history.groupby(CELL, sort=False)] if len(history) else []:
        for level in levels(cell, value):
            epochs = reached(cell, level, value)
            for arm in cell.arm.unique():
                mine = epochs[arm].dropna()
                r = ratio(epochs, arm)
                rows.append({**{key: cell[key].iloc[0] for key in CELL}, "level": level,
                             "arm": arm, "runs": len(mine), "reached": int(np.isfinite(mine).sum()),
                             "epochs": mine.median(), "ratio": r.mean, "low": r.low,
                             "high": r.high, "pairs": r.n, "wins": r.wins})
    return pd.DataFrame(rows, columns=[*CELL, "level", "arm", "runs", "reached", "epochs", "ratio",
                                       "low", "high", "pairs", "wins"])


def factor(row) -> str:
    """``0.93 [0.88, 0.99]``"""
    if not row.pairs or math.isnan(row.ratio):
        return "–"
    bars = "" if math.isnan(row.low) else f" [{row.low:.2f}, {row.high:.2f}]"
    return f"{row.ratio:.2f}{bars}".replace("inf", "∞")


def markdown(df, value: str = "val_accuracy") -> str:
    """Markdown of `table`."""
    import pandas as pd
    what, _, _, form = VALUES[value]
    rows = [{"network and data set": place(r), what: form(r.level), "block": name(r.arm),
             "runs that got there": f"{r.reached} of {r.runs}",
             "median epochs": "never" if math.isinf(r.epochs) else f"{r.epochs:.1f}",
             "epochs ÷ none's [95 % interval]": "" if r.arm == "none" else factor(r)}
            for r in table(df, value).itertuples()]
    return pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True) if rows else \
        "No finished runs yet."


def reading(df, value: str = "val_accuracy") -> str:
    """What the hardest level of each cell says, in a sentence."""
    what, _, _, form = VALUES[value]
    sentences = []
    found = table(df, value)
    for _, cell in found.groupby(CELL, sort=False):
        last = cell[cell.level == cell.level.iloc[-1]]
        parts = []
        for r in last[(last.arm != "none") & (last.pairs > 0)].itertuples():
            low, high = 100 * (r.low - 1), 100 * (r.high - 1)
            says = "too few seeds" if math.isnan(low) else "faster" if high < 0 else \
                "slower" if low > 0 else "undecided"
            gap = f"{interval(100 * (r.ratio - 1), low, high, 0)} % over {plural(r.pairs, 'pair')}"
            if r.reached < r.runs:
                gap = f"did not get there in {r.runs - r.reached} of {plural(r.runs, 'run')}"
                says = says if says == "slower" else "no interval"
            parts.append(f"{name(r.arm)} {gap}, {says}")
        if parts:
            sentences.append(f"{place(cell.iloc[0])}, epochs to {form(last.level.iloc[0])} "
                             f"{what} against none: " + "; ".join(parts) + ".")
    return items(sentences, "Intervals at 95 %, not corrected for their number.") \
        if sentences else "No finished pair of runs to compare yet."

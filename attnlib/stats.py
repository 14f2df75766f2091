"""Paired comparisons by seed: runs of one seed share data order, augmentation and initial weights,
so their difference is the block's doing and the seed's noise cancels in part."""
import math
from typing import NamedTuple

from .inference import hedges, holm, prob_better, seeds_needed, sign_flip, t_half_width, tost


class Difference(NamedTuple):
    """``mean`` of arm − base over ``n`` shared seeds, in the metric's unit, with the 95 % t
    interval ``low`` to ``high`` (NaN below three seeds); ``wins``: seeds where the arm was higher;
    ``sd`` of the differences; ``p`` of the sign-flip test; ``g``: Hedges' g_z; ``prob``: P(arm >
    base) with its Wilson interval.
    """
    mean: float
    low: float
    high: float
    n: int
    wins: int
    sd: float = math.nan
    p: float = math.nan
    g: float = math.nan
    prob: float = math.nan
    prob_low: float = math.nan
    prob_high: float = math.nan


MIN_SEEDS = 3          # below this no interval is given
CELL = ["dataset", "backbone", "recipe"]        # what is compared runs within one of these
IN_POINTS = ("accuracy", "val_accuracy")        # the metrics that a profile's margin is for
LOWER_IS_BETTER = ("nll", "ece", "seconds", "peak_memory", "params", "macs")


def gaps(df, arm: str, base: str = "none", metric: str = "accuracy"):
    """arm − base by seed (a Series), of the finished runs of one cell (data set, network, recipe)
    of a `collect` table."""
    done = df[df.status == "done"]
    if done.duplicated(["arm", "seed"]).any():
        raise ValueError("paired() takes the runs of one data set, network and recipe; this table "
                         "has several runs of one arm and seed")
    values = {name: done[done.arm == name].set_index("seed")[metric] for name in (arm, base)}
    return (values[arm] - values[base]).dropna().astype(float)


def paired(df, arm: str, base: str = "none", metric: str = "accuracy") -> Difference:
    """The paired difference of two arms of one cell of a `collect` table."""
    found = gaps(df, arm, base, metric)
    n, sd = len(found), found.std(ddof=1)
    if n < MIN_SEEDS:
        return Difference(found.mean() if n else math.nan, math.nan, math.nan, n,
                          int((found > 0).sum()), float(sd))
    mean, half = found.mean(), t_half_width(sd, n)
    return Difference(mean, mean - half, mean + half, n, int((found > 0).sum()), float(sd),
                      sign_flip(found), hedges(found), *prob_better(found))


def verdict(d: Difference, margin: float, lower_is_better: bool = False) -> str:
    """``better``, ``worse``, ``equivalent`` (the interval lies within ± margin; never, where that
    is NaN), ``undecided``, or ``too few seeds`` where there is no interval."""
    if math.isnan(d.low):
        return "too few seeds" if d.n else ""
    if -margin <= d.low and d.high <= margin:
        return "equivalent"
    if d.low <= 0 <= d.high:
        return "undecided"
    return "better" if (d.low > 0) != lower_is_better else "worse"


def claim_verdict(d: Difference, claimed: float, sd_diff: float = math.nan) -> str:
    """What the records say to a claimed gain (or, below zero, a claimed decrease), in the metric's
    unit: ``holds`` (the interval lies at or beyond half of it), ``not reproduced`` (it falls short
    of that half), else ``undecided`` with the seeds that would do, or ``not testable`` where there
    is no number to test.

    The seeds: so many that, with differences of standard deviation ``sd_diff``, half the claimed
    gain is told from none and from the whole with a power of 80 %. Where there are as many already,
    the gain is near that half, and its own distance from there counts."""
    if not claimed or math.isnan(claimed):
        return "not testable"
    half, sign = abs(claimed) / 2, math.copysign(1, claimed)
    low, mean, high = sorted((sign * d.low, sign * d.mean, sign * d.high))
    if low >= half:
        return "holds"
    if high < half:
        return "not reproduced"
    if math.isnan(sd_diff):
        return f"undecided: {'needs more seeds' if d.n else 'no finished pairs'}"
    needed = seeds_needed(sd_diff, half)
    if needed <= d.n and mean != half:
        needed = max(seeds_needed(sd_diff, mean - half), d.n + 1)
    return f"undecided: needs about {max(needed, MIN_SEEDS):,} seeds"


def arms_table(df, metric: str = "accuracy", margin: float | None = None):
    """One row per data set, network, recipe and arm: n, mean and sd of the finished runs,
    and their paired difference to ``none``: its interval, the sd of the differences, the sign-flip
    p and Holm's over the cell's arms, g, P(arm > none) and its interval, the TOST p and the verdict
    at ``margin``, by default the profile's for accuracies and none for other metrics. ``reading``
    is the verdict, and a word where Holm's correction takes it back."""
    import pandas as pd

    from .studies import margin_of
    rows = []
    for (dataset, backbone, recipe), cell in df.groupby(CELL, sort=False):
        own = margin_of(cell.profile.iloc[0], dataset) if metric in IN_POINTS else math.nan
        for arm, planned in cell.groupby("arm", sort=False):
            mine = planned[planned.status == "done"][metric]
            rows.append({"dataset": dataset, "backbone": backbone, "recipe": recipe,
                         "attention": planned.attention.iloc[0], "arm": arm,
                         "n": len(mine), "planned": len(planned), "mean": mine.mean(),
                         "sd": mine.std(ddof=1) if len(mine) > 1 else math.nan}
                        | compared(cell, arm, metric, own if margin is None else margin))
    table = pd.DataFrame(rows)
    if len(table):
        table["p_holm"] = table.groupby(CELL, sort=False).p.transform(holm)
        table["reading"] = [corrected(r) for r in table.itertuples()]
    return table


def tested_gains(df, metric: str = "accuracy"):
    """The rows of `arms_table` with an interval: arms but ``none`` of three pairs or more."""
    table = arms_table(df, metric)
    return table[(table.arm != "none") & (table.pairs >= MIN_SEEDS)] if len(table) else table


def compared(cell, arm: str, metric: str, margin: float) -> dict:
    """The columns of `arms_table` on an arm's paired difference to ``none``."""
    d = paired(cell, arm, metric=metric)
    base, tested = arm == "none", d.n >= MIN_SEEDS
    row = {"gain": d.mean, "low": d.low, "high": d.high, "pairs": d.n, "wins": d.wins,
           "verdict": "" if base else verdict(d, margin, metric in LOWER_IS_BETTER)}
    more = {"sd_diff": d.sd, "p": d.p, "g": d.g, "prob_better": d.prob, "prob_low": d.prob_low,
            "prob_high": d.prob_high,
            "tost_p": tost(gaps(cell, arm, metric=metric), margin)[0] if tested else math.nan}
    return row | (dict.fromkeys(more, math.nan) if base else more)


def corrected(row) -> str:
    """A row's verdict, with a word where its interval excludes zero and Holm's p does not."""
    lost = row.verdict in ("better", "worse") and not row.p_holm < 0.05
    return row.verdict + (" (not after Holm)" if lost else "")

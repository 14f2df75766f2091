"""Paired comparisons by seed: runs of one seed share data order, augmentation and initial weights,
so their difference is the block's doing and the seed's noise cancels in part."""
import math
from typing import NamedTuple


class Difference(NamedTuple):
    """``mean`` of arm − base over ``n`` shared seeds, in the metric's unit, with the 95 % t
    interval ``low`` to ``high`` (NaN below three seeds); ``wins``: seeds where the arm was higher.
    """
    mean: float
    low: float
    high: float
    n: int
    wins: int


MIN_SEEDS = 3          # below this no interval is given
CELL = ["dataset", "backbone", "recipe"]        # what is compared runs within one of these


def paired(df, arm: str, base: str = "none", metric: str = "accuracy") -> Difference:
    """The paired difference of two arms of one cell (data set, network, recipe) of a `collect`
    table."""
    done = df[df.status == "done"]
    if done.duplicated(["arm", "seed"]).any():
        raise ValueError("paired() takes the runs of one data set, network and recipe; this table "
                         "has several runs of one arm and seed")
    seeds = {name: done[done.arm == name].set_index("seed")[metric] for name in (arm, base)}
    gaps = (seeds[arm] - seeds[base]).dropna()
    n, mean = len(gaps), gaps.mean() if len(gaps) else math.nan
    half = t_half_width(gaps.std(ddof=1), n) if n >= MIN_SEEDS else math.nan
    return Difference(mean, mean - half, mean + half, n, int((gaps > 0).sum()))


def t_half_width(sd: float, n: int, level: float = 0.95) -> float:
    """Half the width of the t interval of a mean: t_{n−1} · sd / √n."""
    from scipy import stats
    return float(stats.t.ppf(0.5 + level / 2, n - 1) * sd / math.sqrt(n))


def verdict(d: Difference, margin: float) -> str:
    """``better``, ``worse``, ``equivalent`` (the interval lies within ± margin), ``undecided``, or
    ``too few seeds`` where there is no interval."""
    if math.isnan(d.low):
        return "too few seeds" if d.n else ""
    if -margin <= d.low and d.high <= margin:
        return "equivalent"
    if d.low > 0:
        return "better"
    return "worse" if d.high < 0 else "undecided"


def arms_table(df, metric: str = "accuracy"):
    """One row per data set, network, recipe and arm: n, mean and sd of the finished runs,
    and their paired difference to ``none``, its interval and verdict at the profile's margin."""
    import pandas as pd

    from .studies import margin_of
    rows = []
    for (dataset, backbone, recipe), cell in df.groupby(CELL, sort=False):
        margin = margin_of(cell.profile.iloc[0], dataset)
        for arm, planned in cell.groupby("arm", sort=False):
            mine = planned[planned.status == "done"][metric]
            d = paired(cell, arm, metric=metric)
            rows.append({"dataset": dataset, "backbone": backbone, "recipe": recipe,
                         "attention": planned.attention.iloc[0], "arm": arm,
                         "n": len(mine), "planned": len(planned),
                         "mean": mine.mean(), "sd": mine.std(ddof=1) if len(mine) > 1 else math.nan,
                         "gain": d.mean, "low": d.low, "high": d.high, "pairs": d.n,
                         "wins": d.wins, "verdict": "" if arm == "none" else verdict(d, margin)})
    return pd.DataFrame(rows)

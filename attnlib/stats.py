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
MOST_SEEDS = 10_000    # where `seeds_needed` stops counting
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


def seeds_needed(sd_diff: float, delta: float, alpha: float = 0.05, power: float = 0.8) -> int:
    """The fewest seeds with which a two-sided paired t test at ``alpha`` finds a true difference
    ``delta`` with probability ``power``, where paired differences have the standard deviation
    ``sd_diff``: exact, by the noncentral t distribution. ``MOST_SEEDS`` stands for that or more."""
    if not (sd_diff >= 0 and delta):
        raise ValueError(f"sd_diff={sd_diff} should be 0 or more, delta={delta} not 0")
    low, high = 2, MOST_SEEDS                   # power grows with n: bisect
    while low < high:
        n = (low + high) // 2
        low, high = (low, n) if power_of(n, sd_diff, delta, alpha) >= power else (n + 1, high)
    return low


def power_of(n: int, sd_diff: float, delta: float, alpha: float = 0.05) -> float:
    """The probability that a two-sided paired t test over n seeds finds the difference ``delta``:
    that |T| > t_{1−α/2, n−1} for T noncentral with δ√n / sd."""
    from scipy import stats
    shift = abs(delta) / sd_diff * math.sqrt(n) if sd_diff else math.inf
    if shift > 40:                              # 1 to the last digit; scipy may give NaN out here
        return 1.0
    limit = stats.t.ppf(1 - alpha / 2, n - 1)
    wrong_sign = stats.nct.cdf(-limit, n - 1, shift) if shift < 5 else 0.0      # below 1e-10
    return float(stats.nct.sf(limit, n - 1, shift) + wrong_sign)


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

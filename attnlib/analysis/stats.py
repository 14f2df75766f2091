"""Comparisons of arms over seeds. Each block is compared with the plain network by Dunnett's
simultaneous intervals over all blocks of its cell (data set, network, recipe) in one profile."""
import math
from typing import NamedTuple

import numpy as np

from ..names import parse
from .inference import dunnett, seeds_needed, t_half_width, welch


class Difference(NamedTuple):
    """``mean`` of arm − base in the metric's unit, with its 95 % interval ``low`` to ``high`` (NaN
    below three seeds) over ``n`` seeds of the arm; ``sd`` of a difference of two runs; ``p``
    adjusted for the family; the interval of Welch's test alone, ``welch_low`` to ``welch_high``.
    Of pairs: ``n`` of them, in ``wins`` the arm was higher."""
    mean: float
    low: float
    high: float
    n: int
    wins: int = 0
    sd: float = math.nan
    p: float = math.nan
    welch_low: float = math.nan
    welch_high: float = math.nan


MIN_SEEDS = 3          # below this no interval is given
CELL = ["dataset", "backbone", "recipe"]        # what is compared runs within one of these
IN_POINTS = ("accuracy", "val_accuracy")        # the metrics that a profile's margin is for
LOWER_IS_BETTER = ("nll", "ece", "seconds", "peak_memory", "params", "macs")
STILL_RISING = 0.5     # points of validation accuracy over the last two epochs


def family_of(arm: str) -> str:
    """``controls``, which are not meant to help, or ``blocks``: what is counted together."""
    from ..blocks import REPLICAS
    from ..experiments.studies import CONTROLS
    block = parse(arm.partition(" ")[0])[0]
    return "controls" if block in (*CONTROLS, *REPLICAS) or arm.endswith(" wider") else "blocks"


def cell_runs(df):
    """The runs of a `collect` table and every other finished run of its profile in the same cells
    and under the same settings, whatever study trained it: all arms, all seeds."""
    import pandas as pd

    from ..experiments.reading import collect
    if not len(df):
        return df
    every = pd.concat([collect(profile=profile) for profile in df.profile.unique()])
    more = every[(every.status == "done") & every.setting.isin(df.setting)
                 & ~every.id.isin(df.id)]
    return pd.concat([df, more], ignore_index=True) if len(more) else df


def all_seeds(df):
    """The runs of a `collect` table, and the other finished seeds of its own arms."""
    runs = cell_runs(df)
    arms = set(df[[*CELL, "arm"]].itertuples(index=False, name=None))
    keys = runs[[*CELL, "arm"]].itertuples(index=False, name=None)
    return runs[np.array([key in arms for key in keys], bool)]


def compared(runs, metric: str = "accuracy", base: str = "none") -> dict[str, Difference]:
    """Arm -> its difference to ``base``, of the finished runs of one cell: Dunnett's intervals,
    simultaneous over the arms of one family with three seeds or more (see `cell_runs`)."""
    values = {arm: own[metric].dropna().to_numpy(float)
              for arm, own in once(runs).groupby("arm", sort=False)}
    plain, out = values.pop(base, np.array([])), {}
    if not len(plain):
        return {arm: Difference(math.nan, math.nan, math.nan, len(x)) for arm, x in values.items()}
    for arm, x in values.items():
        out[arm] = Difference(x.mean() - plain.mean() if len(x) else math.nan, math.nan, math.nan,
                              len(x))
    for family in ("blocks", "controls"):
        arms = [arm for arm, x in values.items() if family_of(arm) == family
                and min(len(x), len(plain)) >= MIN_SEEDS]
        for arm, c in zip(arms, dunnett([values[a] for a in arms], plain) if arms else (),
                          strict=True):
            check = welch([values[arm], plain], [1, -1])
            out[arm] = Difference(c.mean, c.low, c.high, len(values[arm]), 0, 2 ** 0.5 * c.sd, c.p,
                                  check.low, check.high)
    return out


def average(values) -> Difference:
    """The mean of some values with its t interval."""
    x = np.asarray(values, float)
    if len(x) < MIN_SEEDS:
        return Difference(x.mean() if len(x) else math.nan, math.nan, math.nan, len(x))
    mean = welch([x], [1])
    return Difference(mean.mean, mean.low, mean.high, len(x))


def gaps(df, arm: str, base: str = "none", metric: str = "accuracy"):
    """arm − base by seed (a Series), of the finished runs of one cell of a `collect` table."""
    done = once(df[df.status == "done"])
    values = {name: done[done.arm == name].set_index("seed")[metric] for name in (arm, base)}
    return (values[arm] - values[base]).dropna().astype(float)


def once(runs):
    """The runs of one cell, of which no two may have the same arm and seed."""
    if runs.duplicated(["arm", "seed"]).any():
        raise ValueError("a comparison takes the runs of one data set, network and recipe; this "
                         "table has several runs of one arm and seed")
    return runs


def paired(df, arm: str, base: str = "none", metric: str = "accuracy") -> Difference:
    """The difference of two arms of one cell seed by seed, with its t interval: for what is
    measured on the same images or in the same minute. Accuracies are `compared`, since runs of one
    seed have no noise in common (`pairing`)."""
    found = gaps(df, arm, base, metric)
    n, sd = len(found), found.std(ddof=1)
    mean, wins = found.mean() if n else math.nan, int((found > 0).sum())
    half = t_half_width(sd, n) if n >= MIN_SEEDS else math.nan
    return Difference(mean, mean - half, mean + half, n, wins, float(sd))


def pairing(df, metric: str = "accuracy") -> tuple[float, int, int]:
    """(r, pairs, arms): the correlation between an arm's and the plain network's runs of one seed,
    each less its mean over the shared seeds, over all arms and cells; NaN without pairs."""
    x, y, arms = [], [], 0
    for _, cell in cell_runs(df).groupby(CELL, sort=False):
        done = once(cell[cell.status == "done"])
        wide = done.pivot(index="seed", columns="arm", values=metric)
        for arm in wide.columns.drop("none") if "none" in wide else ():
            both = wide[[arm, "none"]].dropna()
            if len(both) > 1:
                centred = both - both.mean()
                x, y, arms = [*x, *centred[arm]], [*y, *centred["none"]], arms + 1
    size = math.sqrt(np.dot(x, x) * np.dot(y, y))
    return (float(np.dot(x, y) / size) if size else math.nan), len(x), arms


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
    if needed <= d.n and abs(mean - half) > 0:
        needed = max(seeds_needed(sd_diff, mean - half), d.n + 1)
    return f"undecided: needs about {max(needed, MIN_SEEDS):,} seeds"


def arms_table(df, metric: str = "accuracy", margin: float | None = None):
    """One row per data set, network, recipe and arm of a `collect` table, from all seeds that its
    profile has (`cell_runs`), so that a comparison is the same in every study's table:

    ``n``, ``mean``, ``sd`` of the finished runs; ``gain`` over ``none`` with its simultaneous
    interval ``low`` to ``high`` and adjusted ``p``; ``verdict`` of that interval at ``margin``, by
    default the profile's for accuracies and none for other metrics; ``welch``: the verdict of
    Welch's interval, each block taken alone; ``train``: the arm's training accuracy in the last
    epoch less that of ``none``, points; ``sd_diff`` of a difference of two runs; ``rise`` of the
    plain network's validation accuracy over the last two epochs, points."""
    import pandas as pd

    from ..experiments.studies import margin_of
    rows, lower = [], metric in LOWER_IS_BETTER
    shown = set(df[[*CELL, "arm"]].itertuples(index=False, name=None))
    for cell_key, cell in cell_runs(df).groupby(CELL, sort=False):
        own = margin_of(cell.profile.iloc[0], cell_key[0]) if metric in IN_POINTS else math.nan
        own, done = own if margin is None else margin, cell[cell.status == "done"]
        found, plain = compared(done, metric), done[done.arm == "none"]
        for arm, planned in cell.groupby("arm", sort=False):
            if (*cell_key, arm) not in shown:
                continue
            runs = done[done.arm == arm]
            nothing = Difference(math.nan, math.nan, math.nan, 0)
            d = found.get(arm, nothing)
            check = d._replace(low=d.welch_low, high=d.welch_high)
            rows.append(dict(zip(CELL, cell_key, strict=True)) | {
                "attention": planned.attention.iloc[0], "arm": arm, "family": family_of(arm),
                "n": len(runs), "planned": len(planned), "mean": runs[metric].mean(),
                "sd": runs[metric].std(ddof=1) if len(runs) > 1 else math.nan,
                "gain": d.mean, "low": d.low, "high": d.high, "p": d.p,
                "verdict": verdict(d, own, lower),
                "train": runs.train_accuracy.mean() - plain.train_accuracy.mean()
                if arm != "none" else math.nan,
                "welch_low": d.welch_low, "welch_high": d.welch_high,
                "welch": verdict(check, own, lower), "sd_diff": d.sd, "margin": own,
                "rise": plain.rise.mean()})
    return pd.DataFrame(rows)


def tested_gains(df, metric: str = "accuracy"):
    """The rows of `arms_table` with an interval: arms but ``none`` of three seeds or more."""
    table = arms_table(df, metric)
    return table[table.low.notna()] if len(table) else table


def behind(row) -> bool:
    """Whether a row of `arms_table` is worse and its training accuracy is behind by as much: then
    the block has not fitted as far, which is no word on how well it would."""
    return row.verdict == "worse" and row.train <= row.gain

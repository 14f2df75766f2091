"""Comparisons of arms over seeds. Each block is compared with the plain network by Dunnett's
simultaneous intervals over all blocks of its cell (data set, network, recipe) in one profile."""
import math

import numpy as np
import pandas as pd

from ..experiments.reading import collect
from ..experiments.studies import CONTROLS, margin_of
from ..names import parse
from .inference import MIN_SEEDS, Effect, contrast, dunnett

CELL = ["dataset", "backbone", "recipe"]        # what is compared runs within one of these
STILL_RISING = 0.5     # points of validation accuracy over the last two epochs
NOTHING = Effect()


def family_of(arm: str) -> str:
    """``controls``, which are not meant to help, or ``blocks``: what is counted together."""
    block = parse(arm.partition(" ")[0])[0]
    return "controls" if block in CONTROLS or arm.endswith(" wider") else "blocks"


def each_cell(df):
    """(cell as a dict, its rows) of every data set, network and recipe of a table."""
    for key, rows in df.groupby(CELL, sort=False):
        yield dict(zip(CELL, key, strict=True)), rows


def cell_runs(df):
    """The runs of a `collect` table and every other finished run of its profile in the same cells
    and under the same settings, whatever study trained it: all arms, all seeds. ``ValueError``
    where a cell has finished runs of two settings, or one of its arms runs of two widths."""
    for profile in df.profile.unique():
        every = collect(profile=profile)
        more = every[(every.status == "done") & every.setting.isin(df.setting)
                     & (every.width.isin(df.width) | every.arm.str.endswith(" wider"))
                     & ~every.id.isin(df.id)]
        df = pd.concat([df, more], ignore_index=True) if len(more) else df
    done = df[df.status == "done"]
    for several in (done.groupby(CELL).setting.nunique(),
                    done.groupby([*CELL, "arm"]).width.nunique()):
        if (several > 1).any():
            raise ValueError(f"{several.idxmax()} has runs of several settings, such as epochs or "
                             "width: compare those of one, a study's by `collect(study)`")
    return df


def own_arms(rows, df):
    """The rows of a table whose cell and arm a `collect` table has."""
    return rows.merge(df[[*CELL, "arm"]].drop_duplicates(), on=[*CELL, "arm"])


def all_seeds(df):
    """The runs of a `collect` table, and the other finished seeds of its own arms."""
    return own_arms(cell_runs(df), df)


def once(runs):
    """The runs of one cell, of which no two may have the same arm and seed."""
    if runs.duplicated(["arm", "seed"]).any():
        raise ValueError("a comparison takes the runs of one data set, network and recipe; this "
                         "table has several runs of one arm and seed")
    return runs


def compared(runs, metric: str = "accuracy", base: str = "none") -> dict[str, Effect]:
    """Arm -> its difference to ``base``, of the finished runs of one cell: Dunnett's intervals,
    simultaneous over the arms of one family with three seeds or more (see `cell_runs`)."""
    values = {arm: own[metric].dropna().to_numpy(float)
              for arm, own in once(runs).groupby("arm", sort=False)}
    plain = values.pop(base, np.array([]))
    out = {arm: Effect(x.mean() - plain.mean() if len(x) and len(plain) else math.nan, n=len(x))
           for arm, x in values.items()}
    for family in ("blocks", "controls"):
        arms = [arm for arm, x in values.items() if family_of(arm) == family
                and min(len(x), len(plain)) >= MIN_SEEDS]
        if arms:
            out |= zip(arms, dunnett([values[arm] for arm in arms], plain), strict=True)
    return out


def mean_effect(values) -> Effect:
    """The mean of some values with its t interval."""
    return contrast([values], [1])


def pairing(df) -> tuple[float, int]:
    """(r, pairs): the correlation between an arm's and the plain network's accuracies of one
    seed, each less its mean over the shared seeds, over all arms and cells; NaN without pairs."""
    df, pairs = all_seeds(df), []
    for _, cell in each_cell(df[df.status == "done"]):
        wide = once(cell).pivot(index="seed", columns="arm", values="accuracy")
        for arm in wide.columns.drop("none") if "none" in wide else ():
            both = wide[[arm, "none"]].dropna()
            if len(both) > 1:
                pairs.append(both - both.mean())
    x, y = np.concatenate([*pairs, np.empty((0, 2))]).T
    size = math.sqrt((x @ x) * (y @ y))
    return (float(x @ y / size) if size else math.nan), len(x)


def verdict(effect: Effect, margin: float) -> str:
    """``better``, ``worse``, ``equivalent`` (the interval lies within ± margin), ``undecided``, or
    ``too few seeds`` where there is no interval."""
    if math.isnan(effect.low):
        return "too few seeds" if effect.n else ""
    if -margin <= effect.low and effect.high <= margin:
        return "equivalent"
    if effect.low <= 0 <= effect.high:
        return "undecided"
    return "better" if effect.low > 0 else "worse"


ARMS = ["attention", "arm", "family", "n", "mean", "sd", "gain", "low", "high", "p", "verdict",
        "train", "welch_low", "welch_high", "sd_diff", "arms", "margin", "rise", "profile"]


def arms_table(df):
    """One row a cell and arm of a `collect` table, from all seeds that its profile has, so that a
    comparison is the same in every study's table: ``n``, ``mean``, ``sd`` of the finished runs'
    test accuracy, %; ``gain`` over ``none`` with its simultaneous interval ``low`` to ``high`` and
    adjusted ``p``; ``verdict`` of that interval at the profile's ``margin``; ``welch_low`` to
    ``welch_high``: Welch's, each block taken alone; ``train``: the last epoch's training accuracy
    less that of ``none``, points; ``sd_diff`` of a difference of two runs; ``arms`` whose intervals
    hold together; ``rise`` of the plain network's validation accuracy over the last two epochs."""
    rows = []
    for key, cell in each_cell(cell_runs(df)):
        done, profile = cell[cell.status == "done"], cell.profile.iloc[0]
        gains, plain = compared(done), done[done.arm == "none"]
        margin = margin_of(profile)
        for arm, own in cell.groupby("arm", sort=False):
            runs, gain, check, train = done[done.arm == arm], NOTHING, NOTHING, math.nan
            if arm != "none":
                gain = gains.get(arm, NOTHING)
                check = contrast([runs.accuracy.dropna(), plain.accuracy.dropna()], [1, -1])
                train = runs.train_accuracy.mean() - plain.train_accuracy.mean()
            rows.append(key | {
                "attention": own.attention.iloc[0], "arm": arm, "family": family_of(arm),
                "n": len(runs), "mean": runs.accuracy.mean(), "sd": runs.accuracy.std(ddof=1),
                "gain": gain.mean, "low": gain.low, "high": gain.high, "p": gain.p,
                "verdict": verdict(gain, margin), "train": train, "welch_low": check.low,
                "welch_high": check.high, "sd_diff": gain.sd, "arms": gain.arms, "margin": margin,
                "rise": plain.rise.mean(), "profile": profile})
    return own_arms(pd.DataFrame(rows, columns=[*CELL, *ARMS]), df)


def behind(row) -> bool:
    """Whether a row of `arms_table` is worse and its training accuracy is behind by as much: then
    the block has not fitted as far, which is no word on how well it would."""
    return row.verdict == "worse" and row.train <= row.gain

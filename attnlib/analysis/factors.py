"""What the recipe buys against what the block buys: two factors, crossed.

With A(arm, recipe) the mean test accuracy over seeds: the recipe buys A(none, r) − A(none, base),
a block A(arm, r) − A(none, r) under each recipe r, and their interaction is the block's gain under
r less its gain under the base: ``plain``, or the profile's own recipe where that was not run. Block
gains are those of `arms_table`; the others, between recipes of unequal noise, are Welch's."""
import pandas as pd

from ..experiments.studies import margin_of
from .stats import CELL, Effect, all_seeds, arms_table, contrast, verdict
from .words import USUAL


def crossed(df):
    """((data set, network), {(recipe, arm): accuracies of the finished runs, %}, recipes, arms) of
    every pair whose plain network has finished runs under two recipes, all seeds of the profile;
    the recipe that the others are compared with comes first."""
    done = all_seeds(df)
    done = done[done.status == "done"]
    for where, cell in done.groupby(["dataset", "backbone"], sort=False):
        runs = {key: own.accuracy.to_numpy()
                for key, own in cell.groupby(["recipe", "arm"], sort=False)}
        recipes = sorted((r for r, arm in runs if arm == "none"),
                         key=lambda r: (r != "plain", r not in USUAL))
        if len(recipes) > 1:
            yield where, runs, recipes, list(cell.arm.unique())


def factor_table(df):
    """One row an effect: ``kind`` (recipe, block, interaction), its arm, the recipe that it is
    ``under`` and the one that is the ``base``, the difference in points with its 95 % interval,
    ``n``, the fewest seeds behind it, and the verdict."""
    gains, rows = arms_table(df).set_index([*CELL, "arm"]), []
    for where, runs, (base, *_), _ in crossed(df):
        margin = margin_of(df.profile.iloc[0])
        for (recipe, arm), mine in runs.items():
            found, plain = {}, runs.get((recipe, "none"), ())
            if arm == "none" and recipe != base:
                found["recipe"] = contrast([mine, runs[base, arm]], [1, -1])
            elif arm != "none" and len(plain):
                gain = gains.loc[(*where, recipe, arm)]
                n = min(len(mine), len(plain))
                found["block"] = Effect(gain.gain, gain.low, gain.high, n)
                if recipe != base and (base, arm) in runs:
                    found["interaction"] = contrast(
                        [mine, plain, runs[base, arm], runs[base, "none"]], [1, -1, -1, 1])
            rows += [[*where, kind, arm, recipe, base, *effect[:4], verdict(effect, margin)]
                     for kind, effect in found.items()]
    return pd.DataFrame(rows, columns=["dataset", "backbone", "kind", "arm", "under", "base",
                                       "mean", "low", "high", "n", "verdict"])

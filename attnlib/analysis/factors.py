"""What the recipe buys against what the block buys: two factors, crossed.

With A(arm, recipe) the mean test accuracy over seeds: the recipe buys A(none, r) − A(none, base),
a block A(arm, r) − A(none, r) under each recipe r, and their interaction is the block's gain under
r less its gain under the base: ``plain``, or the profile's own recipe where that was not run. Block
gains are those of `arms_table`; the others, between recipes of unequal noise, have Welch's
interval."""
import pandas as pd

from ..experiments.studies import margin_of
from .stats import CELL, Effect, all_seeds, arms_table, contrast, verdict

COLUMNS = ["dataset", "backbone", "kind", "arm", "under", "base", "mean", "low", "high", "n",
           "verdict"]


def crossed(df):
    """((data set, network), {(recipe, arm): accuracies of the finished runs, %}, recipes, arms) of
    every pair whose plain network has finished runs under two recipes, all seeds of the profile;
    the recipe that the others are compared with comes first."""
    done = all_seeds(df)
    done = done[done.status == "done"]
    for where, cell in done.groupby(["dataset", "backbone"], sort=False):
        runs = {key: own.accuracy.to_numpy()
                for key, own in cell.groupby(["recipe", "arm"], sort=False)}
        recipes = sorted((r for r, arm in runs if arm == "none"), key=lambda r: r != "plain")
        if len(recipes) > 1:
            yield where, runs, recipes, list(cell.arm.unique())


def factor_table(df):
    """One row an effect: ``kind`` (recipe, block, interaction), its arm, the recipe that it is
    ``under`` and the one that is the ``base``, the difference in points with its 95 % interval,
    ``n``, the fewest seeds behind it, and the verdict."""
    gains, rows = arms_table(df).set_index([*CELL, "arm"]), []
    profile = df.profile.iloc[0] if len(df) else ""

    def add(where, kind, arm, recipe, base, effect):
        row = {"dataset": where[0], "backbone": where[1], "kind": kind, "arm": arm,
               "under": recipe, "base": base}
        numbers = {key: getattr(effect, key) for key in ("mean", "low", "high", "n")}
        rows.append(row | numbers | {"verdict": verdict(effect, margin_of(profile, where[0]))})

    for where, runs, (base, *_), _ in crossed(df):
        for (recipe, arm), mine in runs.items():
            plain = runs.get((recipe, "none"), ())
            if arm == "none" and recipe != base:
                add(where, "recipe", arm, recipe, base,
                    contrast([mine, runs[base, arm]], [1, -1]))
            elif arm != "none" and len(plain):
                gain = gains.loc[(*where, recipe, arm)]
                add(where, "block", arm, recipe, base, Effect(
                    gain.gain, gain.low, gain.high, min(len(mine), len(plain))))
                if recipe != base and (base, arm) in runs:
                    add(where, "interaction", arm, recipe, base, contrast(
                        [mine, plain, runs[base, arm], runs[base, "none"]], [1, -1, -1, 1]))
    return pd.DataFrame(rows, columns=COLUMNS)

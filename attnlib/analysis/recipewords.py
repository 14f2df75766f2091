"""What the recipe buys against what the block buys: two factors, crossed.

With A(arm, recipe) the mean test accuracy over seeds: the recipe buys A(none, r) − A(none, base),
a block A(arm, r) − A(none, r) under each recipe r, and their interaction is the block's gain under
r less its gain under the base: ``plain``, or the profile's own recipe where that was not run. Block
gains are those of `arms_table`; the others, between recipes of unequal noise, have Welch's
interval."""
import math

import matplotlib.pyplot as plt
import numpy as np

from ..experiments.planning import resolve_profile
from ..experiments.reading import collect
from ..experiments.studies import margin_of
from ..figures.plots import empty, legend, look, panels, short
from .inference import welch
from .stats import CELL, MIN_SEEDS, all_seeds, arms_table
from .words import interval, name, plural, plus_minus

NOTHING = "No seed of this profile has finished under two recipes yet."


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


def contrast(groups: list, weights: list[float]) -> dict:
    """``mean``, ``low``, ``high`` of `inference.welch` and the fewest seeds ``n`` of the groups; no
    interval below three."""
    n = min(map(len, groups))
    mean = float(np.dot(weights, [np.mean(g) for g in groups]))
    c = welch(groups, weights) if n >= MIN_SEEDS else None
    return {"mean": mean, "low": c.low if c else math.nan, "high": c.high if c else math.nan,
            "n": n}


def effects(df):
    """One row an effect: ``kind`` (recipe, block, interaction), its arm and recipe, the difference
    in points with its 95 % interval, and ``n``, the fewest seeds behind it; a DataFrame."""
    import pandas as pd
    gains, rows = arms_table(df), []
    gains = gains.set_index([*CELL, "arm"]) if len(gains) else gains
    for (dataset, backbone), runs, (base, *_), _ in crossed(df):
        for recipe, arm in runs:
            there = {"dataset": dataset, "backbone": backbone, "arm": arm, "recipe": recipe,
                     "base": base}
            mine, plain = runs[recipe, arm], runs.get((recipe, "none"), ())
            if arm == "none" and recipe != base:
                rows.append(there | {"kind": "recipe"}
                            | contrast([mine, runs[base, arm]], [1, -1]))
            elif arm != "none" and len(plain):
                gain = gains.loc[(dataset, backbone, recipe, arm)]
                rows.append(there | {"kind": "block", "mean": gain.gain, "low": gain.low,
                                     "high": gain.high, "n": min(len(mine), len(plain))})
                if recipe != base and (base, arm) in runs:
                    rows.append(there | {"kind": "interaction"} | contrast(
                        [mine, plain, runs[base, arm], runs[base, "none"]], [1, -1, -1, 1]))
    columns = ["dataset", "backbone", "kind", "arm", "recipe", "base", "mean", "low", "high", "n"]
    return pd.DataFrame(rows, columns=columns)


def said(r) -> str:
    return f"{interval(r.mean, r.low, r.high)} points over {plural(r.n, 'seed')}"


def recipe_answer(profile: str = "auto", df=None) -> str:
    """In words: the recipe's effect on the plain network, the block's under each recipe, their
    interaction, and which of the two is larger."""
    profile = resolve_profile(profile, "recipe")
    df = collect("recipe", profile) if df is None else df
    found, out = effects(df), []
    for (dataset, backbone), cell in found[found.n > 0].groupby(["dataset", "backbone"],
                                                                sort=False):
        recipes, blocks, mixed = (cell[cell.kind == kind] for kind in (
            "recipe", "block", "interaction"))
        text = (f"**{name(backbone)} on {name(dataset)}** (profile `{profile}`, {epochs(df)}). "
                "*What the recipe buys* the network without attention: "
                + "; ".join(f"`{r.recipe}` over `{r.base}` {said(r)}" for r in recipes.itertuples())
                + ". *What the block buys*: "
                + "; ".join(f"{name(r.arm)} under `{r.recipe}` {said(r)}"
                            for r in blocks.itertuples()) + ".")
        if len(mixed):
            text += (" *Does one need the other?* The block's gain less its gain under "
                     f"`{mixed.base.iloc[0]}`: "
                     + "; ".join(f"{name(r.arm)}, `{r.recipe}` {said(r)}, {verdict(r, profile)}"
                                 for r in mixed.itertuples()) + ".")
        out.append(text + larger(recipes, blocks))
    return "\n\n".join(out) or NOTHING


def epochs(df) -> str:
    numbers = sorted(set(df.epochs))
    return f"at most {' or '.join(map(str, numbers))} epochs"


def verdict(r, profile: str) -> str:
    """Whether an interval decides that two gains differ, or are alike within the margin."""
    margin = margin_of(profile, r.dataset)
    if math.isnan(r.low):
        return "too few seeds to say"
    if r.low > 0 or r.high < 0:
        return "so the block's gain depends on the recipe"
    return "no larger than the margin" if -margin <= r.low and r.high <= margin else "undecided"


def larger(recipes, blocks) -> str:
    """One sentence: the largest effect of a recipe against the largest of a block, by size."""
    if not len(recipes) or not len(blocks):
        return ""
    first, second = (rows.loc[rows["mean"].abs().idxmax()] for rows in (recipes, blocks))
    words = (f"recipe `{first.recipe}` moves accuracy by {abs(first['mean']):.1f} points, the "
             f"block {name(second.arm)} (under `{second.recipe}`) by {abs(second['mean']):.1f}")
    known = [r for r in (first, second) if not math.isnan(r.low)]
    if len(known) < 2:
        return f" By their means alone, {words}."
    gap = abs(first["mean"]) - abs(second["mean"])
    clear = first.low > second.high or first.high < second.low
    return (f" By size, {words}: the {'recipe' if gap > 0 else 'block'} moves more"
            + ("." if clear else ", though their intervals overlap."))


def recipe_table(df) -> str:
    """Markdown: accuracy of every arm under every recipe, mean ± sd over seeds, and the difference
    of the recipes."""
    import pandas as pd
    out = []
    for (dataset, backbone), runs, recipes, arms in crossed(df):
        for arm in arms:
            row = {"network and data set": f"{name(backbone)} on {name(dataset)}",
                   "block": name(arm)}
            for recipe in recipes:
                own = runs.get((recipe, arm), np.array([]))
                row[f"`{recipe}`, %"] = f"{spread(own)} ({len(own)})" if len(own) else "–"
                if recipe != recipes[0]:
                    both = [own, runs.get((recipes[0], arm), ())]
                    d = contrast(both, [1, -1]) if all(map(len, both)) else None
                    row[f"`{recipe}` − `{recipes[0]}`, points"] = \
                        interval(d["mean"], d["low"], d["high"]) if d else "–"
            out.append(row)
    return pd.DataFrame(out).to_markdown(index=False, disable_numparse=True) if out else NOTHING


def spread(runs) -> str:
    return plus_minus(runs.mean(), runs.std(ddof=1) if len(runs) > 1 else math.nan)


def recipe_figure(df) -> plt.Figure:
    """Test accuracy under every recipe: a dot a seed, a line through the means of each arm. Steep
    lines are what recipes buy, the distance between lines is what blocks buy."""
    groups = list(crossed(df))
    figure, axes = panels(len(groups))
    for axis, ((dataset, backbone), runs, recipes, arms) in zip(axes, groups, strict=False):
        for k, arm in enumerate(arms):
            there = [i for i, r in enumerate(recipes) if (r, arm) in runs]
            x = np.array(there) + 0.12 * (k - (len(arms) - 1) / 2)
            y = [runs[recipes[i], arm] for i in there]
            for at, values in zip(x, y, strict=True):
                axis.plot(np.full(len(values), at), values, look(arm).marker, linestyle="",
                          color=look(arm).colour, alpha=0.45, markersize=4)
            axis.plot(x, [values.mean() for values in y], marker=look(arm).marker,
                      color=look(arm).colour, linestyle=look(arm).line, label=short(arm))
        axis.set_xticks(range(len(recipes)), recipes)
        axis.set_xlim(-0.4, len(recipes) - 0.6)
        axis.set(title=f"{name(backbone)} on {name(dataset)}", xlabel="recipe",
                 ylabel="test accuracy, %")
    if not groups:
        empty(figure, axes[0])
    legend(figure)
    return figure

"""What the recipe buys against what the block buys: two factors, crossed, over the same seeds.

With A(arm, recipe, seed) the test accuracy: the recipe buys A(none, r) − A(none, plain), a block
A(arm, r) − A(none, r) under each recipe r, and their interaction is the block's gain under r less
its gain under plain. All are differences seed by seed, so that a seed's luck cancels in part."""
import math

import matplotlib.pyplot as plt
import numpy as np

from .evidence import summed
from .grid import collect, resolve_profile
from .plots import empty, legend, look, panels, short
from .studies import margin_of
from .words import interval, name, plural, plus_minus

BASE = "plain"
NOTHING = "No seed of this profile has finished under two recipes yet."


def crossed(df):
    """((data set, network), seeds × (recipe, arm) accuracies in percent) of every pair that has
    finished runs under ``plain`` and another recipe."""
    done = df[df.status == "done"]
    for where, cell in done.groupby(["dataset", "backbone"], sort=False):
        wide = cell.pivot(index="seed", columns=["recipe", "arm"], values="accuracy")
        if (BASE, "none") in wide and wide.columns.get_level_values(0).nunique() > 1:
            yield where, wide


def effects(df):
    """One row an effect: ``kind`` (recipe, block, interaction), its arm and recipe, and the paired
    difference in points with its 95 % interval, as a DataFrame."""
    import pandas as pd
    rows = []
    for (dataset, backbone), wide in crossed(df):
        def add(kind, arm, recipe, gaps, where=(dataset, backbone)):
            d = summed(gaps).d
            rows.append({"dataset": where[0], "backbone": where[1], "kind": kind, "arm": arm,
                         "recipe": recipe} | d._asdict())

        def gain(arm, recipe, wide=wide):
            return wide[recipe, arm] - wide[recipe, "none"]
        recipes = list(dict.fromkeys(r for r, arm in wide.columns if arm == "none"))
        for recipe, arm in wide.columns:
            if arm == "none" and recipe != BASE:
                add("recipe", arm, recipe, wide[recipe, arm] - wide[BASE, arm])
            elif arm != "none" and recipe in recipes:
                add("block", arm, recipe, gain(arm, recipe))
                if recipe != BASE and (BASE, arm) in wide:
                    add("interaction", arm, recipe, gain(arm, recipe) - gain(arm, BASE))
    columns = ["dataset", "backbone", "kind", "arm", "recipe", "mean", "low", "high", "n", "wins"]
    return pd.DataFrame(rows, columns=columns)


def said(r) -> str:
    return f"{interval(r.mean, r.low, r.high)} points over {plural(r.n, 'paired seed')}"


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
                + "; ".join(f"`{r.recipe}` over `{BASE}` {said(r)}" for r in recipes.itertuples())
                + ". *What the block buys*: "
                + "; ".join(f"{name(r.arm)} under `{r.recipe}` {said(r)}"
                            for r in blocks.itertuples()) + ".")
        if len(mixed):
            text += (" *Does one need the other?* The block's gain less its gain under "
                     f"`{BASE}`: " + "; ".join(f"{name(r.arm)}, `{r.recipe}` {said(r)}, "
                                               + verdict(r, profile) for r in mixed.itertuples())
                     + ".")
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
    """Markdown: accuracy of every arm under every recipe, mean ± sd over seeds, and the paired
    difference of the recipes."""
    import pandas as pd
    out = []
    for (dataset, backbone), wide in crossed(df):
        recipes = list(dict.fromkeys(wide.columns.get_level_values(0)))
        recipes = [BASE, *(r for r in recipes if r != BASE)]
        for arm in dict.fromkeys(wide.columns.get_level_values(1)):
            row = {"network and data set": f"{name(backbone)} on {name(dataset)}",
                   "block": name(arm)}
            for recipe in recipes:
                have = (recipe, arm) in wide
                runs = wide[recipe, arm].dropna() if have else wide.iloc[:0, 0]
                row[f"`{recipe}`, %"] = (f"{plus_minus(runs.mean(), runs.std())} ({len(runs)})"
                                         if len(runs) else "–")
                if recipe != BASE:
                    gaps = wide[recipe, arm] - wide[BASE, arm] if have and (BASE, arm) in wide \
                        else []
                    d = summed(gaps).d
                    row[f"`{recipe}` − `{BASE}`, points"] = interval(d.mean, d.low, d.high)
            out.append(row)
    return pd.DataFrame(out).to_markdown(index=False, disable_numparse=True) if out else NOTHING


def recipe_figure(df) -> plt.Figure:
    """Test accuracy under every recipe: a dot a seed, a line through the means of each arm. Steep
    lines are what recipes buy, the distance between lines is what blocks buy."""
    groups = list(crossed(df))
    figure, axes = panels(len(groups))
    for axis, ((dataset, backbone), wide) in zip(axes, groups, strict=False):
        recipes = list(dict.fromkeys(wide.columns.get_level_values(0)))
        recipes = [BASE, *(r for r in recipes if r != BASE)]
        arms = list(dict.fromkeys(wide.columns.get_level_values(1)))
        for k, arm in enumerate(arms):
            there = [i for i, r in enumerate(recipes) if (r, arm) in wide]
            x = np.array(there) + 0.12 * (k - (len(arms) - 1) / 2)
            y = np.array([wide[recipes[i], arm] for i in there])
            axis.plot(x, y, look(arm).marker, color=look(arm).colour, alpha=0.45, markersize=4)
            axis.plot(x, np.nanmean(y, 1), marker=look(arm).marker, color=look(arm).colour,
                      linestyle=look(arm).line, label=short(arm))
        axis.set_xticks(range(len(recipes)), recipes)
        axis.set_xlim(-0.4, len(recipes) - 0.6)
        axis.set(title=f"{name(backbone)} on {name(dataset)}", xlabel="recipe",
                 ylabel="test accuracy, %")
    if not groups:
        empty(figure, axes[0])
    legend(figure)
    return figure

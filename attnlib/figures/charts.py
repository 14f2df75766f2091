"""Figures of the further analyses: recipes, convergence, selection, calibration, cost."""
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from ..analysis import calibration, costs, curves
from ..analysis.factors import crossed
from ..analysis.words import name
from ..bench import speed
from ..blocks import BLOCKS
from . import style
from .style import short


def factor_lines(df) -> plt.Figure:
    """Test accuracy under every recipe: a line through the means of each arm, a band over seeds.
    Steep lines are what recipes buy, the distance between lines is what blocks buy."""
    def draw(axis, rows):
        style.seed_lines(axis, rows, "recipe", "accuracy")
        axis.set(xlabel="recipe", ylabel="test accuracy, %")
        axis.margins(x=0.2)
    groups = []
    for (dataset, backbone), runs, recipes, arms in crossed(df):
        rows = [{"recipe": recipe, "arm": arm, "seed": k, "accuracy": value} for recipe in recipes
                for arm in arms for k, value in enumerate(runs.get((recipe, arm), ()))]
        groups.append((f"{name(backbone)} on {name(dataset)}", pd.DataFrame(rows)))
    return style.per_cell(groups, draw, style.PAGE)


def epochs(df) -> plt.Figure:
    """Epochs to each level relative to ``none``, with 95 % intervals; an arrow: most never do."""
    def draw(axis, rows):
        top = 1.1 * max(1.5, rows.ratio[np.isfinite(rows.ratio)].max())
        level = [f"{100 * level:.0f} %" for level in rows.level]
        shown = rows.assign(level=level, ratio=rows.ratio.clip(upper=top),
                            low=rows.low.where(np.isfinite(rows.ratio)),
                            high=rows.high.clip(upper=top))
        style.interval_bars(axis, shown, "ratio", "level")
        never = [at for at, runs, _ in style.ticked(axis, shown, "level")
                 if runs.ratio.iloc[0] == top]
        axis.plot([1.02 * top] * len(never), never, ">", color="black")
        style.reference(axis, 1, vertical=True)
        axis.set(xlabel="epochs ÷ plain network's (▸ never)", ylabel="validation accuracy")
    table = curves.epochs_table(df)
    return style.stacked(style.by_cell(table[(table.arm != "none") & table.ratio.notna()]), draw,
                         "level")


def reliability(df) -> plt.Figure:
    """Accuracy against confidence in equal-width bins, the test images of all seeds together; on
    the diagonal a network is as often right as it says."""
    def draw(axis, rows):
        axis.plot([0, 100], [0, 100], color=style.GREY, linewidth=1)
        for arm, runs in rows.groupby("arm", sort=False):
            found = list(filter(None, map(calibration.predictions, runs.itertuples())))
            if found:
                n, accuracy, confidence = calibration.bins({
                    key: np.concatenate([f[key] for f in found])
                    for key in ("prediction", "confidence", "label")})
                seen = n >= 20                  # fewer images show nothing but noise
                axis.plot(100 * confidence[seen], 100 * accuracy[seen], label=short(arm),
                          **style.line_mark(arm))
        axis.set(xlabel="confidence, %", ylabel="accuracy, %")
    return style.per_cell(style.by_cell(df[df.status == "done"]), draw, height=2.7)


def fronts(df, cost: str = "params") -> plt.Figure:
    """Mean accuracy with its 95 % interval against a cost of `costs.COSTS`; the line joins the
    arms that no other dominates."""
    what, unit, scale = costs.COSTS[cost]

    def draw(axis, rows):
        best = rows[rows[f"{cost} front"]].sort_values(cost)
        axis.plot(best[cost] * scale, best.accuracy, color="#cccccc", linewidth=4, zorder=0)
        for r in rows.itertuples():
            half = 0.0 if np.isnan(r.low) else r.high - r.accuracy
            axis.errorbar(getattr(r, cost) * scale, r.accuracy, half, label=short(r.arm),
                          **style.mark(r.arm))
        axis.locator_params(axis="x", nbins=4)
        axis.set(xlabel=f"{what}, {unit}", ylabel="test accuracy, %")
    table = costs.front_table(df, speed.steps())
    return style.per_cell(style.by_cell(table[table[cost].notna()]), draw)


def inference_time() -> plt.Figure:
    """Inference time of every block in the first stored benchmark: median and quartiles."""
    def draw(axis, rows):
        style.interval_bars(axis, rows, "median")
        axis.set(xlabel="ms an image, 64 at once", xlim=(0, None))
    groups = []
    for row in (row for body in speed.stored()[:1] for row in speed.rows(body, "inference")):
        times = pd.DataFrame(row["ms_per_image"]["64"]).T
        times = times.loc[sorted(times.index, key=list(BLOCKS).index)].rename_axis("arm")
        groups.append((f"{short(row['backbone'])}, width {row['width']:g}", times.reset_index()))
    return style.per_cell(groups, draw, height=1.6)


def schedules(histories: dict, value: str = "val_accuracy", scale: float = 100,
              label: str = "validation accuracy over\nthe plain network, points") -> plt.Figure:
    """How far each block is from the plain network in training: its ``value``, by default the
    validation accuracy, less ``none``'s mean, at the scale of the means of the later epochs; dashed
    where gates start open. ``histories``: title -> `reading.histories` of one cell."""
    def draw(axis, rows):
        plain = rows[rows.arm == "none"].groupby("epoch")[value].mean()
        ahead = scale * (rows[value] - rows.epoch.map(plain))
        rows = rows.assign(ahead=ahead)[rows.arm != "none"]
        style.seed_lines(axis, rows, "epoch", "ahead")
        style.reference(axis, 0)
        axis.set(xlabel="epoch", ylabel=label)
        means = rows.groupby(["arm", "epoch"], as_index=False).ahead.mean()
        if len(late := means.ahead[means.epoch > 0.6 * means.epoch.max()].dropna()):
            axis.set_ylim(late.min() - 0.005 * scale, late.max() + 0.005 * scale)
    return style.per_cell([(title, rows) for title, rows in histories.items() if len(rows)], draw,
                          height=2.8)

"""Accuracy, gains and curves: one function a figure, DataFrame -> Figure. It is also the door to
what notebooks use of `style` and `pictures`."""
import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns

from ..analysis.stats import CELL, arms_table
from ..experiments.studies import margin_of
from ..training import store
from .pictures import class_sheet, heat, outline, overlays, pictures, show
from .style import (
    PAGE,
    arms_axis,
    band,
    by_cell,
    cell_title,
    cells,
    empty,
    interval_bar,
    legend,
    look,
    mark,
    note,
    panels,
    per_cell,
    png,
    reference,
    save,
    seed_dots,
    short,
    use_style,
)

__all__ = ["PAGE", "accuracy", "class_sheet", "confusion", "curves", "empty", "gain", "heat",
           "legend", "look", "mark", "outline", "overlays", "panels", "pictures", "png",
           "positions", "save", "short", "show", "use_style"]


def accuracy(df) -> plt.Figure:
    """Test accuracy of every arm: each seed a dot, mean and ± 1 sd beside them; one panel a data
    set and network."""
    def draw(axis, rows):
        arms = list(rows.arm.unique())
        for k, arm in enumerate(arms):
            seed_dots(axis, k, rows[rows.arm == arm].accuracy, arm, beside=0.15)
        arms_axis(axis, arms)
        axis.set_ylabel("test accuracy, %")
    return per_cell(cells(df), draw)


def gain(df) -> plt.Figure:
    """Gain of every arm over ``none`` with its interval, 95 % for all blocks of a cell together.
    Grey is the margin within which a difference is called equivalent."""
    rows = arms_table(df)
    rows = rows[rows.gain.notna()].iloc[::-1]
    if not len(rows):
        return note("no finished runs")
    groups = by_cell(rows)
    labels = [short(r.arm) if len(groups) == 1 else f"{short(r.arm)} · {cell_title(r)}"
              for r in rows.itertuples()]
    figure, (axis,) = panels(1, 7.2, 1.3 + 0.38 * len(rows))
    margin = margin_of(df.profile.iloc[0], df.dataset.iloc[0])
    axis.axvspan(-margin, margin, color="#eeeeee", zorder=0)
    reference(axis, 0, vertical=True)
    for k, r in enumerate(rows.itertuples()):
        interval_bar(axis, r.gain, r.low, r.high, k, r.arm)
    axis.set_yticks(range(len(rows)), labels)
    axis.set_ylim(-0.7, len(rows) - 0.3)
    axis.set_xlabel(f"gain over none, points\n(95 % intervals together; grey: ±{margin:g})")
    if len(groups) == 1:
        axis.set_title(groups[0][0])
    return figure


def positions(df) -> plt.Figure:
    """Block × placement: the gain over ``none`` in points and its 95 % half width; blue is better,
    red worse, blank was not run. One panel a cell with a choice of places (if none has, every
    cell), its columns in the table's order."""
    table = arms_table(df)
    table = table[(table.attention != "none") & table.gain.notna()]
    places = df.drop_duplicates([*CELL, "arm"])[[*CELL, "arm", "placement"]]
    table = table.drop(columns="placement", errors="ignore").merge(places, on=[*CELL, "arm"])
    groups = [(title, rows, rows.pivot_table(index="attention", columns="placement", values="gain",
                                             sort=False)) for title, rows in by_cell(table)]
    groups = [g for g in groups if g[2].shape[1] > 1] or groups
    if not groups:
        return note("no finished runs")
    widths = [2 + wide.shape[1] for _, _, wide in groups]
    tall, top = max(len(wide) for _, _, wide in groups), max(1.0, table.gain.abs().max())
    figure, axes = plt.subplots(1, len(widths), figsize=(1.1 * sum(widths), 1.3 + 0.4 * tall),
                                squeeze=False, width_ratios=widths)
    for axis, (title, rows, wide) in zip(axes[0], groups, strict=True):
        axis.imshow(wide, cmap="RdBu", vmin=-top, vmax=top, aspect="auto")
        for r in rows.itertuples():
            half = "" if np.isnan(r.low) else f"\n±{(r.high - r.low) / 2:.1f}"
            axis.text(wide.columns.get_loc(r.placement), wide.index.get_loc(r.attention),
                      f"{r.gain:+.1f}{half}".replace("-", "−"), ha="center", va="center",
                      fontsize=8, color="white" if abs(r.gain) > 0.6 * top else "black")
        axis.set_xticks(range(wide.shape[1]), wide.columns, rotation=35, ha="right", fontsize=8.5)
        axis.set_yticks(range(wide.shape[0]), [short(a) for a in wide.index], fontsize=8.5)
        axis.set_ylim(tall - 0.5, -0.5)
        axis.grid(False)
        axis.set_title(title, fontsize=9)
    return figure


def curves(history, value: str = "val_accuracy", label: str = "validation accuracy, %",
           scale: float = 100.0) -> plt.Figure:
    """Learning curves: mean over seeds, band from the lowest to the highest seed."""
    def draw(axis, rows):
        for arm, own in rows.groupby("arm", sort=False):
            wide = own.pivot(index="seed", columns="epoch", values=value) * scale
            band(axis, wide.columns, wide, arm)
        axis.set(xlabel="epoch", ylabel=label)
    return per_cell(by_cell(history), draw)


def confusion(df) -> plt.Figure:
    """Confusion matrices of one arm, summed over seeds: percent of each true class (rows)."""
    def draw(axis, rows):
        records = [store.read_record(store.record_path(r.profile, r.id)) for r in rows.itertuples()]
        classes = records[0]["classes"]
        counts = np.zeros((len(classes), len(classes)))
        for record in records:
            found = store.read_arrays(record["profile"], record["id"],
                                      record["arrays"].get("predictions"))
            if found:
                np.add.at(counts, (found["label"], found["prediction"]), 1)
        share = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
        sns.heatmap(share, ax=axis, cmap="Blues", vmin=0, vmax=100, cbar=False, square=True,
                    annot=len(classes) <= 10, fmt=".0f", annot_kws={"fontsize": 7},
                    xticklabels=classes, yticklabels=classes)
        axis.tick_params(labelsize=7.5)
        axis.set(xlabel="predicted", ylabel="true")
    return per_cell(cells(df), draw, 5.2, 4.6)

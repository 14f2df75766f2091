"""Figures of the further analyses: convergence, selection, calibration, classes, cost. As in
`plots`, one function a figure, and one colour and marker a block."""
import matplotlib.pyplot as plt
import numpy as np

from ..analysis import calibration, convergence, pareto, selection
from ..analysis.stats import CELL
from ..bench import speed
from .plots import LOOKS, cells, empty, legend, look, mark, panels, short, where


def grouped(table):
    """(place, rows) of every cell of a table of one of the analyses."""
    return [(where(rows.iloc[0]), rows) for _, rows in table.groupby(CELL, sort=False)]


def epochs(df) -> plt.Figure:
    """Epochs to each level relative to ``none``, with 95 % intervals; an arrow where most runs
    never got there."""
    groups = [(title, rows[(rows.arm != "none") & rows.ratio.notna()])
              for title, rows in grouped(convergence.table(df))]
    groups = [(title, rows) for title, rows in groups if len(rows)]
    figure, axes = panels(len(groups), 4.2, 3.0)
    for axis, (title, rows) in zip(axes, groups, strict=False):
        arms, marks = list(rows.arm.unique()), list(rows.level.unique())
        top = 1.1 * rows.ratio[np.isfinite(rows.ratio)].clip(lower=1.5).max()
        top = 2.0 if np.isnan(top) else top
        for r in rows.itertuples():
            x = marks.index(r.level) + 0.6 * ((arms.index(r.arm) + 0.5) / len(arms) - 0.5)
            label = short(r.arm) if r.level == marks[0] else None
            if np.isinf(r.ratio):
                axis.plot(x, top, label=label, **mark(r.arm) | {"marker": "^"})
                continue
            bars = [[0], [0]] if np.isnan(r.low) else [[r.ratio - max(r.low, 0.0)],
                                                        [min(r.high, top) - r.ratio]]
            axis.errorbar(x, r.ratio, np.maximum(bars, 0), capsize=3, label=label, **mark(r.arm))
        axis.axhline(1, color="#888888", linewidth=1)
        axis.set_xticks(range(len(marks)), [convergence.percent(m) for m in marks])
        axis.set(title=title, xlabel="validation accuracy", ylabel="epochs ÷ none's (▲ never)")
    if not groups:
        empty(figure, axes[0])
    legend(figure)
    return figure


def chosen(df) -> plt.Figure:
    """The accuracy of each run by the three rules of choosing its epoch, a line a run."""
    groups = grouped(selection.table(df))
    figure, axes = panels(len(groups), 4.2, 3.0)
    for axis, (title, rows) in zip(axes, groups, strict=False):
        for arm, runs in rows.groupby("arm", sort=False):
            lines = axis.plot(runs[list(selection.RULES)].T.to_numpy(), marker=look(arm).marker,
                              color=look(arm).colour, alpha=0.75, markersize=5)
            lines[0].set_label(short(arm))
        axis.set_xticks(range(len(selection.RULES)),
                        [rule.replace(" on ", "\non ") for rule in selection.RULES])
        axis.set(title=title, ylabel="test accuracy, %")
    if not groups:
        empty(figure, axes[0])
    legend(figure)
    return figure


def reliability(df) -> plt.Figure:
    """Reliability diagrams: accuracy against confidence in equal-width bins, the test images of all
    seeds together; on the diagonal a network is as often right as it says."""
    groups = cells(df)
    figure, axes = panels(len(groups), 3.6, 3.2)
    for axis, (title, cell) in zip(axes, groups, strict=False):
        axis.plot([0, 100], [0, 100], color="#888888", linewidth=1)
        for arm, runs in cell.groupby("arm", sort=False):
            found = [f for f in map(calibration.predictions, runs.itertuples()) if f]
            if not found:
                continue
            pooled = {key: np.concatenate([f[key] for f in found])
                      for key in ("prediction", "confidence", "label")}
            n, accuracy, confidence = calibration.bins(pooled)
            seen = n >= 20                              # fewer show nothing but noise
            axis.plot(100 * confidence[seen], 100 * accuracy[seen], marker=look(arm).marker,
                      color=look(arm).colour, markersize=4, linewidth=1, label=short(arm))
        axis.set(title=title, xlabel="confidence, %", ylabel="accuracy, %")
    if not groups:
        empty(figure, axes[0])
    legend(figure)
    return figure


def class_gains(df) -> plt.Figure:
    """Gain over ``none`` on each class, with intervals, 95 % for all blocks of a class together."""
    groups = [(title, rows[rows.gain.notna()])
              for title, rows in grouped(calibration.by_class(df))]
    groups = [(title, rows) for title, rows in groups if len(rows) and
              rows.label.nunique() <= 20]
    figure, axes = panels(len(groups), 4.2, 3.8)
    for axis, (title, rows) in zip(axes, groups, strict=False):
        labels, arms = list(rows.label.unique()), list(rows.arm.unique())
        for k, arm in enumerate(arms):
            mine = rows[rows.arm == arm].set_index("label").reindex(labels)
            y = np.arange(len(labels)) + 0.7 * ((k + 0.5) / len(arms) - 0.5)
            bars = np.nan_to_num([mine.gain - mine.low, mine.high - mine.gain])
            axis.errorbar(mine.gain, y, xerr=bars, markersize=3.5, elinewidth=1, capsize=2,
                          label=short(arm), **mark(arm))
        axis.axvline(0, color="#888888", linewidth=1)
        axis.set_yticks(range(len(labels)), labels, fontsize=8.5)
        axis.invert_yaxis()
        axis.set(title=title, xlabel="gain over none, points")
    if not groups:
        empty(figure, axes[0])
    legend(figure)
    return figure


def fronts(df, cost: str = "params") -> plt.Figure:
    """Mean accuracy with its 95 % interval against a cost of `pareto.COSTS`; the line joins the
    arms that no other dominates."""
    what, unit, scale = pareto.COSTS[cost]
    groups = [(title, rows[rows[cost].notna()]) for title, rows in grouped(pareto.table(df))]
    groups = [(title, rows) for title, rows in groups if len(rows)]
    figure, axes = panels(len(groups), 4.2, 3.0)
    for axis, (title, rows) in zip(axes, groups, strict=False):
        best = rows[rows[f"{cost} front"]].sort_values(cost)
        axis.plot(best[cost] * scale, best.accuracy, color="#bbbbbb", linewidth=4, zorder=0)
        for r in rows.itertuples():
            half = 0.0 if np.isnan(r.low) else r.high - r.accuracy
            axis.errorbar(getattr(r, cost) * scale, r.accuracy, half, capsize=3,
                          label=short(r.arm), **mark(r.arm))
        axis.locator_params(axis="x", nbins=5)
        axis.set(title=title, xlabel=f"{what}, {unit}", ylabel="test accuracy, %")
    if not groups:
        empty(figure, axes[0])
    legend(figure)
    return figure


def inference_time(batch: str = "64") -> plt.Figure:
    """Inference time of every block that was measured: median and quartiles of the calls, a panel a
    network, from the first stored benchmark."""
    found = [row for body in speed.stored()[:1] for row in speed.rows(body, "inference")]
    figure, axes = panels(len(found), 3.2, 2.8)
    for axis, row in zip(axes, found, strict=False):
        times = row["ms_per_image"][batch]
        times = {arm: times[arm] for arm in sorted(times, key=list(LOOKS).index)}
        for k, (arm, s) in enumerate(times.items()):
            axis.bar(k, s["median"], color=look(arm).colour, width=0.7, yerr=[
                [s["median"] - s["low"]], [s["high"] - s["median"]]], capsize=4)
        axis.set_xticks(range(len(times)), [short(a) for a in times], rotation=20, ha="right")
        axis.set(title=f"{short(row['backbone'])}, width {row['width']:g}",
                 ylabel=f"ms an image, {batch} at once")
    if not found:
        empty(figure, axes[0])
    return figure


def schedules(histories: dict) -> plt.Figure:
    """How far each block is ahead of the plain network in the course of training: the mean over
    seeds of its validation accuracy less ``none``'s mean, in points, with a band from the lowest to
    the highest seed. ``histories``: title -> `reading.histories` of the runs of one data set and
    network; gates that start open are dashed, those that start half open solid."""
    histories = {title: rows for title, rows in histories.items() if len(rows)}
    figure, axes = panels(len(histories), 4.8, 3.6)
    for axis, (title, rows) in zip(axes, histories.items(), strict=False):
        plain = rows[rows.arm == "none"].groupby("epoch").val_accuracy.mean()
        for arm, own in rows[rows.arm != "none"].groupby("arm", sort=False):
            ahead = 100 * own.pivot(index="epoch", columns="seed", values="val_accuracy").sub(
                plain, axis=0)
            opened = "gate_init=open" in arm
            axis.plot(ahead.index, ahead.mean(axis=1), color=look(arm).colour,
                      linestyle="--" if opened else "-", marker=look(arm).marker, markersize=4,
                      fillstyle="none" if opened else "full",
                      label=short(arm) + ("" if opened else ", gates half open"))
            axis.fill_between(ahead.index, ahead.min(axis=1), ahead.max(axis=1), linewidth=0,
                              color=look(arm).colour, alpha=0.1)
        axis.axhline(0, color="#888888", linewidth=1)
        axis.set(title=title, xlabel="epoch", ylabel="validation accuracy\nover none, points")
    if not histories:
        empty(figure, axes[0])
    legend(figure)
    return figure

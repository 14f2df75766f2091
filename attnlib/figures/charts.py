"""Figures of the further analyses: convergence, selection, calibration, classes, cost. As in
`plots`, one function a figure, and one colour and marker a block."""
import matplotlib.pyplot as plt
import numpy as np

from ..analysis import calibration, costs, curves
from ..bench import speed
from .style import LOOKS, band, by_cell, cells, interval_bar, look, mark, per_cell, reference, short


def with_rows(table, column: str):
    """`by_cell` of the rows where a column is a number."""
    return by_cell(table[table[column].notna()]) if len(table) else []


def aside(k: int, count: int, width: float = 0.6) -> float:
    """Where the k-th of several marks stands about its tick."""
    return width * ((k + 0.5) / count - 0.5)


def epochs(df) -> plt.Figure:
    """Epochs to each level relative to ``none``, with 95 % intervals; an arrow where most runs
    never got there."""
    def draw(axis, rows):
        arms, levels = list(rows.arm.unique()), list(rows.level.unique())
        top = 1.1 * rows.ratio[np.isfinite(rows.ratio)].clip(lower=1.5).max()
        top = 2.0 if np.isnan(top) else top
        for r in rows.itertuples():
            x = levels.index(r.level) + aside(arms.index(r.arm), len(arms))
            label = short(r.arm) if r.level == levels[0] else None
            if np.isinf(r.ratio):
                axis.plot(x, top, label=label, **mark(r.arm) | {"marker": "^"})
                continue
            bars = [[0], [0]]
            if not np.isnan(r.low):
                bars = [[r.ratio - max(r.low, 0.0)], [min(r.high, top) - r.ratio]]
            axis.errorbar(x, r.ratio, np.maximum(bars, 0), capsize=3, label=label, **mark(r.arm))
        reference(axis, 1)
        axis.set_xticks(range(len(levels)), [f"{100 * level:.0f} %" for level in levels])
        axis.set(xlabel="validation accuracy", ylabel="epochs ÷ none's (▲ never)")
    table = curves.epochs_table(df)
    return per_cell(with_rows(table[table.arm != "none"] if len(table) else table, "ratio"), draw,
                    4.2, 3.0)


def chosen(df) -> plt.Figure:
    """The accuracy of each run by the three rules of choosing its epoch, a line a run."""
    def draw(axis, rows):
        for arm, runs in rows.groupby("arm", sort=False):
            lines = axis.plot(runs[list(curves.RULES)].T.to_numpy(), marker=look(arm).marker,
                              color=look(arm).colour, alpha=0.75, markersize=5)
            lines[0].set_label(short(arm))
        axis.set_xticks(range(len(curves.RULES)),
                        [rule.replace(" on ", "\non ") for rule in curves.RULES])
        axis.set_ylabel("test accuracy, %")
    return per_cell(by_cell(curves.selection_table(df)), draw, 4.2, 3.0)


def reliability(df) -> plt.Figure:
    """Reliability diagrams: accuracy against confidence in equal-width bins, the test images of all
    seeds together; on the diagonal a network is as often right as it says."""
    def draw(axis, rows):
        axis.plot([0, 100], [0, 100], color="#888888", linewidth=1)
        for arm, runs in rows.groupby("arm", sort=False):
            found = [f for f in map(calibration.predictions, runs.itertuples()) if f]
            if not found:
                continue
            pooled = {key: np.concatenate([f[key] for f in found])
                      for key in ("prediction", "confidence", "label")}
            n, accuracy, confidence = calibration.bins(pooled)
            seen = n >= 20                              # fewer show nothing but noise
            axis.plot(100 * confidence[seen], 100 * accuracy[seen], markersize=4, linewidth=1,
                      label=short(arm), **mark(arm) | {"linestyle": "-"})
        axis.set(xlabel="confidence, %", ylabel="accuracy, %")
    return per_cell(cells(df), draw, 3.6, 3.2)


def class_gains(df) -> plt.Figure:
    """Gain over ``none`` on each class, with intervals, 95 % for all blocks of a class together."""
    def draw(axis, rows):
        labels, arms = list(rows.label.unique()), list(rows.arm.unique())
        for r in rows.itertuples():
            y = labels.index(r.label) + aside(arms.index(r.arm), len(arms), 0.7)
            interval_bar(axis, r.gain, r.low, r.high, y, r.arm,
                     short(r.arm) if r.label == labels[0] else None)
        reference(axis, 0, vertical=True)
        axis.set_yticks(range(len(labels)), labels, fontsize=8.5)
        axis.invert_yaxis()
        axis.set_xlabel("gain over none, points")
    groups = with_rows(calibration.class_table(df), "gain")
    return per_cell([(title, rows) for title, rows in groups if rows.label.nunique() <= 20], draw,
                    4.2, 3.8)


def fronts(df, cost: str = "params") -> plt.Figure:
    """Mean accuracy with its 95 % interval against a cost of `costs.COSTS`; the line joins the
    arms that no other dominates."""
    what, unit, scale = costs.COSTS[cost]

    def draw(axis, rows):
        best = rows[rows[f"{cost} front"]].sort_values(cost)
        axis.plot(best[cost] * scale, best.accuracy, color="#bbbbbb", linewidth=4, zorder=0)
        for r in rows.itertuples():
            half = 0.0 if np.isnan(r.low) else r.high - r.accuracy
            axis.errorbar(getattr(r, cost) * scale, r.accuracy, half, capsize=3,
                          label=short(r.arm), **mark(r.arm))
        axis.locator_params(axis="x", nbins=5)
        axis.set(xlabel=f"{what}, {unit}", ylabel="test accuracy, %")
    table = costs.front_table(df, {"step": speed.steps(), "latency": speed.latencies()})
    return per_cell(with_rows(table, cost), draw, 4.2, 3.0)


def inference_time(batch: str = "64") -> plt.Figure:
    """Inference time of every block that was measured: median and quartiles of the calls, a panel a
    network, from the first stored benchmark."""
    def draw(axis, row):
        times = row["ms_per_image"][batch]
        arms = sorted(times, key=list(LOOKS).index)
        for k, arm in enumerate(arms):
            middle, low, high = (times[arm][key] for key in ("median", "low", "high"))
            axis.bar(k, middle, color=look(arm).colour, width=0.7,
                     yerr=[[middle - low], [high - middle]], capsize=4)
        axis.set_xticks(range(len(arms)), [short(a) for a in arms], rotation=20, ha="right")
        axis.set_ylabel(f"ms an image, {batch} at once")
    found = [row for body in speed.stored()[:1] for row in speed.rows(body, "inference")]
    return per_cell([(f"{short(row['backbone'])}, width {row['width']:g}", row) for row in found],
                    draw, 3.2, 2.8)


def schedules(histories: dict) -> plt.Figure:
    """How far each block is ahead of the plain network in the course of training: the mean over
    seeds of its validation accuracy less ``none``'s mean, in points, with a band from the lowest to
    the highest seed. ``histories``: title -> `reading.histories` of the runs of one data set and
    network; gates that start open are dashed, those that start half open solid."""
    def draw(axis, rows):
        plain = rows[rows.arm == "none"].groupby("epoch").val_accuracy.mean()
        for arm, own in rows[rows.arm != "none"].groupby("arm", sort=False):
            wide = own.pivot(index="seed", columns="epoch", values="val_accuracy")
            ahead = 100 * wide.sub(plain, axis=1)
            opened = "gate_init=open" in arm
            band(axis, ahead.columns, ahead, arm)
            axis.lines[-1].set_linestyle("--" if opened else "-")
            axis.lines[-1].set_label(short(arm) + ("" if opened else ", gates half open"))
        reference(axis, 0)
        axis.set(xlabel="epoch", ylabel="validation accuracy\nover none, points")
    return per_cell([(title, rows) for title, rows in histories.items() if len(rows)], draw,
                    4.8, 3.6)

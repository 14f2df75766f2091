"""Figures of gates, interventions and probes, from what `camstore` stored: DataFrame -> Figure."""
import matplotlib.pyplot as plt
import numpy as np

from ..data.datasets import DataMissing
from ..experiments.planning import study
from ..explain.camstore import stored_maps
from ..explain.gatestats import CHANNELS
from ..explain.gatewords import by_cell, gate_table, group_table, probe_table, swap_table
from ..explain.interventions import MODES
from ..explain.probes import LEVELS
from ..training.trainer import data_of
from .gatemaps import limits
from .plots import legend, look, outline, panels, short, show

GATES = {"channels": {"spread": "sd between images", "input": "share of variance\nbetween images",
                      "selectivity": "share of that which\nthe class explains",
                      "saturated": "share saturated"},
         "places": {"spread": "sd between images", "input": "share of variance\nbetween images",
                    "cam_pearson": "correlation\nwith Grad-CAM",
                    "mask_lift": "openness on object\n/ on whole image"}}
ZERO = {"cam_pearson": 0, "mask_lift": 1}           # what a gate has that knows nothing
SWAPS = {"mean": "its mean over images", "other": "another image's", "one": "1: no gate"}
CAUSES = {"split=test": "as it is", "swap_background": "background\nswapped",
          "remove_distractors": "no\ndistractors", "texture_only": "on a\nhalf-disc",
          "shape_only": "no texture", "remove_object": "no object"}


def blank(words: str) -> plt.Figure:
    """A figure that says why there is nothing to draw."""
    figure, (axis,) = panels(1, 5, 1.2)
    axis.axis("off")
    axis.text(0.5, 0.5, words, ha="center", va="center", color="#777777")
    return figure


def one_cell(table):
    """The first cell of a table: a figure compares within one data set and network."""
    return by_cell(table)[0]


def lines(axis, x, wide, arm: str) -> None:
    """Mean over seeds, and a band from the lowest to the highest seed; wide [seeds, len(x)]."""
    axis.plot(x, wide.mean(0), color=look(arm).colour, marker=look(arm).marker, markersize=5,
              linestyle=look(arm).line, label=short(arm))
    axis.fill_between(x, wide.min(0), wide.max(0), color=look(arm).colour, alpha=0.12, linewidth=0)


def dots(axis, at: float, values, arm: str, across: bool = False, **how) -> None:
    """Each seed a small dot, their mean the arm's marker; ``across``: values along x."""
    for x, y, style in ((np.full(len(values), at), np.asarray(values),
                         {"s": 14, "alpha": 0.45, "linewidths": 0, "color": look(arm).colour}),
                        ([at], [np.mean(values)],
                         {"s": 34, "marker": look(arm).marker, "color": look(arm).colour, **how})):
        axis.scatter(*((y, x) if across else (x, y)), **style)


def gate_stages(df) -> plt.Figure:
    """What the gates of every arm do from stage to stage: channel gates above, gates over places
    below; mean over sites and seeds, band from the lowest to the highest seed."""
    table = gate_table(df)
    if not len(table):
        return blank("no gates stored")
    where, cell = one_cell(table)
    kinds = [kind for kind in GATES if kind in set(cell.kind)]
    figure, axes = plt.subplots(len(kinds), 4, figsize=(11, 2.5 * len(kinds) + 0.6), squeeze=False)
    for row, kind in zip(axes, kinds, strict=True):
        part = cell[(cell.kind == kind) & cell.stage.str.startswith("stage")]
        for axis, (value, label) in zip(row, GATES[kind].items(), strict=True):
            axis.set(xlabel="stage", ylabel=label)
            for arm, mine in part.groupby("arm", sort=False):
                wide = mine.pivot_table(index="seed", columns="stage", values=value)
                if wide.size:
                    lines(axis, [int(s[5:]) for s in wide], wide.to_numpy(), arm)
            if not axis.lines:
                axis.text(0.5, 0.5, "no masks", ha="center", transform=axis.transAxes,
                          color="#777777")
            axis.set_xticks(sorted({int(s[5:]) for s in part.stage}))
            if value in ZERO:
                axis.axhline(ZERO[value], color="#888888", linestyle="--", linewidth=1)
            else:
                axis.set_ylim(0)
        row[0].set_title(f"gates over {kind}", loc="left")
    legend(figure, where)
    return figure


def first_seed(df, key: str) -> dict[str, tuple[str, dict]]:
    """Arm -> (id, arrays) of the first seed whose arrays have a name that starts with ``key``."""
    found = stored_maps(df)
    out = {}
    for row in df.sort_values("seed", kind="stable").itertuples():
        arrays = found.get(row.id, {})
        if any(name.startswith(key) for name in arrays):
            out.setdefault(row.arm, (row.id, arrays))
    return out


def cells_of(arrays: dict, key: str) -> dict[str, np.ndarray]:
    """Stage -> its stored picture, in their order."""
    return {f"stage {name[len(key) + 5:]}": np.asarray(arrays[name], np.float32)
            for name in sorted(arrays) if name.startswith(f"{key}stage")}


def gate_maps(df, study_name: str, rows: int = 4) -> plt.Figure:
    """The gates over places of one trained network of each arm, at the last site of each stage, on
    the first test images; one colour scale for all of them."""
    df = df[(df.dataset == df.dataset.iloc[0]) & (df.backbone == df.backbone.iloc[0])]
    found = first_seed(df, "gate_map_")
    if not found:
        return blank("no gates over places stored")
    maps = {arm: cells_of(arrays, "gate_map_") for arm, (_, arrays) in found.items()}
    images, masks = images_behind(df, study_name, rows)
    columns = [(arm, stage) for arm, stages in maps.items() for stage in stages]
    values = np.concatenate([maps[arm][stage][:rows].ravel() for arm, stage in columns])
    low, high = limits(values)
    figure, axes = plt.subplots(rows, 1 + len(columns), squeeze=False,
                                figsize=(1.12 * (len(columns) + 1) + 0.7, 1.2 * rows + 0.4))
    for i, line in enumerate(axes):
        line[0].axis("off")
        if images is not None:
            show(line[0], images[i])
            line[0].set_title("" if i else "image", fontsize=8.5, pad=3)
        for axis, (arm, stage) in zip(line[1:], columns, strict=True):
            size = masks[i].shape if masks is not None else maps[arm][stage][i].shape
            drawn = axis.imshow(maps[arm][stage][i], vmin=low, vmax=high, cmap="viridis",
                                extent=(-0.5, size[1] - 0.5, size[0] - 0.5, -0.5))
            axis.axis("off")
            if masks is not None:
                outline(axis, masks[i])
            if not i:
                axis.set_title(f"{short(arm)}\n{stage}", fontsize=8.5, pad=3)
    figure.colorbar(drawn, ax=axes, shrink=0.6, pad=0.01, label="gate").ax.tick_params(labelsize=8)
    return figure


def images_behind(df, study_name: str, n: int):
    """The first test images of a table's data set, and their masks; None for what is not here."""
    run = next(r for r in study(study_name, df.profile.iloc[0]) if r.id in set(df.id))
    try:
        data = data_of(run)
    except DataMissing:
        return None, None
    masks = data.extras.get("test", {}).get("mask")
    return data.images["test"][:n], None if masks is None else masks[:n]


def gate_classes(df) -> plt.Figure:
    """Mean channel gate of every class (rows) at the last site of each stage, channels in the order
    of their mean; one trained network of each arm, one colour scale for all."""
    df = df[(df.dataset == df.dataset.iloc[0]) & (df.backbone == df.backbone.iloc[0])]
    found = first_seed(df, "gate_classes_")
    if not found:
        return blank("no channel gates stored")
    maps = {arm: cells_of(arrays, "gate_classes_") for arm, (_, arrays) in found.items()}
    low, high = limits(np.concatenate([m.ravel() for ms in maps.values() for m in ms.values()]))
    figure, axes = plt.subplots(len(maps), max(map(len, maps.values())), squeeze=False,
                                figsize=(10.5, 1.5 * len(maps) + 0.5))
    for line, (arm, stages) in zip(axes, maps.items(), strict=True):
        for axis, (stage, classes) in zip(line, stages.items(), strict=False):
            drawn = axis.imshow(classes[:, classes.mean(0).argsort()], aspect="auto", vmin=low,
                                vmax=high, cmap="viridis", interpolation="nearest")
            axis.set(xticks=[], yticks=[])
            axis.grid(False)
            shown = classes.shape[1]
            axis.set_xlabel(("first " if shown == CHANNELS else "") + f"{shown} channels",
                            fontsize=8)
            axis.set_title(f"{short(arm)}, {stage}", fontsize=9)
        line[0].set_ylabel("classes", fontsize=9)
    figure.colorbar(drawn, ax=axes, shrink=0.7, pad=0.01, label="gate").ax.tick_params(labelsize=8)
    return figure


def swap_lost(df) -> plt.Figure:
    """Points of accuracy lost with gates replaced: one panel a replacement, one line a scope, each
    seed a dot."""
    table = swap_table(df)
    if not len(table):
        return blank("no interventions stored")
    where, cell = one_cell(table)
    scopes, arms = list(cell.scope.unique()), list(cell.arm.unique())
    scopes.sort(key=lambda s: (s != "all", not s.startswith("stage"), s))
    figure, axes = plt.subplots(1, len(MODES), figsize=(10.5, 0.5 + 0.48 * len(scopes)),
                                sharey=True)
    for axis, mode in zip(axes, MODES, strict=True):
        axis.axvline(0, color="#888888", linewidth=1)
        for j, arm in enumerate(arms):
            for i, scope in enumerate(scopes):
                own = cell[(cell.arm == arm) & (cell.scope == scope) & (cell["mode"] == mode)].lost
                if len(own):
                    dots(axis, i + 0.5 * ((j + 0.5) / len(arms) - 0.5), own, arm, across=True,
                         label=short(arm) if not i else None)
        axis.set(title=f"each gate replaced by\n{SWAPS[mode]}", xlabel="points of accuracy lost")
    axes[0].set_yticks(range(len(scopes)), scopes)
    axes[0].set_ylim(len(scopes) - 0.4, -0.6)
    legend(figure, where)
    return figure


def probe_levels(df) -> plt.Figure:
    """Accuracy, and Grad-CAM's mass on the object over its share of the image, as one property of
    the images changes; dotted: as in training."""
    table = probe_table(df)
    if not len(table):
        return blank("no probes stored")
    where, cell = one_cell(table)
    shown = {"accuracy": "accuracy, %", "lift": "mass on the object\n/ its share of the image"}
    figure, axes = plt.subplots(2, len(LEVELS), figsize=(10.5, 5), sharex="col", sharey="row")
    usual = dict(clutter=1, contrast=0.5, distractors=2)
    for column, (option, levels) in zip(axes.T, LEVELS.items(), strict=True):
        names = [f"{option}={level:g}" for level in levels]
        for axis, value in zip(column, shown, strict=True):
            for arm, mine in cell[cell.probe.isin(names)].groupby("arm", sort=False):
                wide = mine.pivot_table(index="seed", columns="probe", values=value)[names]
                lines(axis, levels, wide.to_numpy(), arm)
            axis.axvline(usual[option], color="#888888", linestyle=":", linewidth=1)
            axis.axhline({"accuracy": 10, "lift": 1}[value], color="#888888", linewidth=1,
                         linestyle="--")
        column[1].set_xlabel({"clutter": "clutter of the background",
                              "contrast": "contrast of the texture",
                              "distractors": "number of distractors"}[option])
    for axis, label in zip(axes[:, 0], shown.values(), strict=True):
        axis.set_ylabel(label)
    legend(figure, where)
    return figure


def probe_causes(df) -> plt.Figure:
    """Accuracy, and where Grad-CAM's mass lies, with one cause of the label taken away at a time;
    dashed: guessing, and a uniform map."""
    table = probe_table(df)
    if not len(table):
        return blank("no probes stored")
    where, cell = one_cell(table)
    figure, axes = plt.subplots(1, 2, figsize=(11, 3.6))
    arms = list(cell.arm.unique())
    for axis, value, scale, label in ((axes[0], "accuracy", 1, "accuracy, %"),
                                      (axes[1], "object", 100, "Grad-CAM mass on object, %")):
        for i, cause in enumerate(CAUSES):
            rows = cell[cell.probe == cause]
            for j, arm in enumerate(arms):
                dots(axis, i + 0.6 * ((j + 0.5) / len(arms) - 0.5),
                     scale * rows[rows.arm == arm][value], arm, label=None if i else short(arm))
        axis.set_xticks(range(len(CAUSES)), CAUSES.values(), fontsize=8.5)
        axis.set(ylabel=label, ylim=(0, None))
    axes[0].axhline(10, color="#888888", linestyle="--", linewidth=1)
    axes[1].axhline(100 * cell[cell.probe == "split=test"].object_area.iloc[0], color="#888888",
                    linestyle="--", linewidth=1)
    legend(figure, where)
    return figure


def shortcut(df) -> plt.Figure:
    """Trained where the background gives the class away: accuracy where it agrees with the class
    and where it contradicts it, and where Grad-CAM's mass lies on the same two kinds of image."""
    table = group_table(df)
    table = table[table.dataset.str.contains("rho")] if len(table) else table
    if not len(table):
        return blank("no probes of the spurious background stored")
    where, cell = one_cell(table)
    arms = list(cell.arm.unique())
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.3))
    pairs = {"accuracy, %": ("aligned", "conflicting"), "mass on the object, %":
             ("object", "object_flip"), "mass on neither object nor\ndistractors, %":
             ("background", "background_flip")}
    for axis, (label, names) in zip(axes, pairs.items(), strict=True):
        for i, key in enumerate(names):
            for j, arm in enumerate(arms):
                dots(axis, i + 0.6 * ((j + 0.5) / len(arms) - 0.5), cell[cell.arm == arm][key],
                     arm, label=None if i else short(arm))
        axis.set_xticks((0, 1), ("background\nagrees", "background\ncontradicts"))
        axis.set(ylabel=label, xlim=(-0.5, 1.5), ylim=(0, 104))
    axes[0].axhline(10, color="#888888", linestyle="--", linewidth=1)
    legend(figure, where)
    return figure

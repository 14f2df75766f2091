"""Gates, interventions and probes, from the stored arrays: a `collect` table -> Figure."""
import matplotlib.pyplot as plt
import numpy as np

from ..data.shapetex import CLASS_NAMES, make_shapetex
from ..experiments.studies import PROFILES
from ..explain.cam import inputs
from ..explain.gatestats import CHANNELS
from ..explain.interventions import SAYS, own_gates
from ..explain.probes import LEVELS
from ..explain.tables import gate_statistics, group_table, probe_table, swap_table
from ..names import option_defaults, parse
from ..training.run import Run
from ..training.trainer import data_of, model_of
from .maps import images_behind, looked_at
from .pictures import extent, outline, show
from .style import band, by_cell, empty, legend, look, note, panels, reference, seed_dots, short

GATES = {"channels": {"spread": "sd between images", "input": "share of variance\nbetween images",
                      "selectivity": "share of that which\nthe class explains",
                      "saturated": "share saturated"},
         "places": {"spread": "sd between images", "input": "share of variance\nbetween images",
                    "cam_pearson": "correlation\nwith Grad-CAM",
                    "mask_lift": "openness on object\n/ on whole image"}}
ZERO = {"cam_pearson": 0, "mask_lift": 1}           # what a gate has that knows nothing
CAUSES = {"split=test": "as it is", "swap_background": "background\nswapped",
          "remove_distractors": "no\ndistractors", "texture_only": "on a\nhalf-disc",
          "shape_only": "no texture", "remove_object": "no object"}
LEVEL_NAMES = {"clutter": "clutter of the background", "contrast": "contrast of the texture",
               "distractors": "number of distractors"}
GROUPS = {"accuracy, %": ("aligned", "conflicting"),
          "mass on the object, %": ("object", "object_flip"),
          "mass on neither object nor\ndistractors, %": ("background", "background_flip")}
CHANCE = 100 / len(CLASS_NAMES)
LEAST = 0.1                              # of the colours' range: a flat gate should look flat


def colour_limits(values) -> tuple[float, float]:
    """Ends of a colour scale: the range of the values, a list of arrays, without the outermost per
    cent, and at least LEAST wide."""
    low, high = np.percentile(np.concatenate([np.ravel(v) for v in values]), (1, 99))
    middle, half = (low + high) / 2, max(high - low, LEAST) / 2
    return middle - half, middle + half


def first_cell(table, what: str):
    """(title, rows) of a table's first cell: a figure compares within one data set and network; or
    a figure that says that there is none."""
    return by_cell(table)[0] if len(table) else (note(f"no {what} stored"), None)


def grouped_dots(axis, columns: dict, arms, values) -> None:
    """For each tick of ``columns`` (key -> label) the dots of every arm; ``values(key, arm)``."""
    for i, key in enumerate(columns):
        for j, arm in enumerate(arms):
            seed_dots(axis, i + 0.6 * ((j + 0.5) / len(arms) - 0.5), values(key, arm), arm,
                 label=None if i else short(arm))
    axis.set_xticks(range(len(columns)), columns.values(), fontsize=8.5)


# --- Gates ---


def gate_stages(df) -> plt.Figure:
    """What the gates of every arm do from stage to stage: channel gates above, gates over places
    below; mean over sites and seeds, band from the lowest to the highest seed."""
    title, cell = first_cell(gate_statistics(df), "gates")
    if cell is None:
        return title
    kinds = [kind for kind in GATES if kind in set(cell.kind)]
    figure, axes = panels(4 * len(kinds), 2.5, 2.5)
    for k, axis in enumerate(axes):
        kind = kinds[k // 4]
        value, label = list(GATES[kind].items())[k % 4]
        part = cell[(cell.kind == kind) & cell.stage.str.startswith("stage")]
        for arm, own in part.groupby("arm", sort=False):
            wide = own.pivot_table(index="seed", columns="stage", values=value)
            if wide.size:
                band(axis, [int(stage[5:]) for stage in wide], wide, arm)
        axis.set(xlabel="stage", ylabel=label)
        if k % 4 == 0:
            axis.set_title(f"gates over {kind}", loc="left")
        if not axis.lines:
            empty(figure, axis, "no masks")
        elif value in ZERO:
            reference(axis, ZERO[value], style="--")
        else:
            axis.set_ylim(0)
    legend(figure, title)
    return figure


def stored_pictures(df, key: str) -> dict[tuple[str, str], np.ndarray]:
    """(Arm, stage) -> the stored picture of the first cell's first seed that has any, in order."""
    df, found = looked_at(df, key)
    return {(row.arm, f"stage {name.removeprefix(key + 'stage')}"): np.asarray(values, np.float32)
            for row in df[df.seed == df.groupby("arm").seed.transform("min")].itertuples()
            for name, values in sorted(found[row.id].items()) if name.startswith(f"{key}stage")}


def gate_bar(figure, axes, picture) -> None:
    bar = figure.colorbar(picture, ax=axes, shrink=0.7, pad=0.01, label="gate")
    bar.ax.tick_params(labelsize=8)


def gate_maps(df, rows: int = 4) -> plt.Figure:
    """The gates over places of one trained network of each arm, at the last site of each stage, on
    the first test images; one colour scale for all of them."""
    maps = stored_pictures(df, "gate_map_")
    if not maps:
        return note("no gates over places stored")
    images, _, _, masks = images_behind(looked_at(df, "gate_map_")[0], rows) or (None,) * 4
    low, high = colour_limits([m[:rows] for m in maps.values()])
    figure, axes = plt.subplots(rows, 1 + len(maps), squeeze=False,
                                figsize=(1.12 * (len(maps) + 1) + 0.7, 1.2 * rows + 0.4))
    for axis in axes.flat:
        axis.axis("off")
    for i, line in enumerate(axes):
        if images is not None:
            show(line[0], images[i])
        for axis, own in zip(line[1:], maps.values(), strict=True):
            size = own[i].shape if images is None else images[i].shape[:2]
            picture = axis.imshow(own[i], vmin=low, vmax=high, cmap="viridis", extent=extent(size))
            if masks is not None:
                outline(axis, masks[i])
    for axis, (arm, stage) in zip(axes[0, 1:], maps, strict=True):
        axis.set_title(f"{short(arm)}\n{stage}", fontsize=8.5, pad=3)
    axes[0, 0].set_title("image", fontsize=8.5, pad=3)
    gate_bar(figure, axes, picture)
    return figure


def gate_classes(df) -> plt.Figure:
    """Mean channel gate of every class (rows) at the last site of each stage, channels in the order
    of their mean; one trained network of each arm, one colour scale for all."""
    maps = stored_pictures(df, "gate_classes_")
    if not maps:
        return note("no channel gates stored")
    low, high = colour_limits(maps.values())
    arms, stages = (list(dict.fromkeys(key[k] for key in maps)) for k in (0, 1))
    figure, axes = plt.subplots(len(arms), len(stages), squeeze=False,
                                figsize=(10.5, 1.5 * len(arms) + 0.5))
    for (arm, stage), classes in maps.items():
        axis = axes[arms.index(arm), stages.index(stage)]
        picture = axis.imshow(classes[:, classes.mean(0).argsort()], aspect="auto", vmin=low,
                              vmax=high, cmap="viridis", interpolation="nearest")
        count = classes.shape[1]
        axis.set(xticks=[], yticks=[])
        axis.grid(False)
        axis.set_xlabel(("first " if count == CHANNELS else "") + f"{count} channels", fontsize=8)
        axis.set_title(f"{short(arm)}, {stage}", fontsize=9)
    for axis in axes[:, 0]:
        axis.set_ylabel("classes", fontsize=9)
    gate_bar(figure, axes, picture)
    return figure


def gate_histograms(attention: str, profile: str, n: int = 64) -> plt.Figure:
    """How open each site's gates are in an untrained ResNet-18 of the profile's width, over ``n``
    ShapeTex images: one row a gate, darker where more values lie."""
    width = PROFILES[profile].fields.get("width", 1)
    run = Run("shapetex", attention=attention, width=width, n_train=10, n_val=10, n_test=n)
    found = own_gates(model_of(run, data_of(run)), inputs(run, n)[1])
    edges = np.linspace(0, 1, 51)
    rows = np.stack([np.histogram(g.numpy(), edges)[0] / g.numel() for g in found.values()])
    figure, (axis,) = panels(1, 7.2, 1.2 + 0.22 * len(rows))
    axis.imshow(rows, aspect="auto", cmap="Greys", extent=(0, 1, len(rows) - 0.5, -0.5), vmax=0.5)
    labels = [f"stage {int(k.split('.')[1]) + 1} block {int(k.split('.')[2]) + 1}, "
              + k.split("attention")[1].strip(".") for k in found]
    axis.set_yticks(range(len(rows)), labels, fontsize=8)
    axis.axvline(0.5, color=look("sa").colour, linewidth=1, linestyle="--")
    axis.grid(False)
    axis.set(xlabel="gate value (dashed: one half)", title=f"{short(attention)}, before training")
    return figure


# --- Interventions and probes ---


def swap_lost(df) -> plt.Figure:
    """Points of accuracy lost with gates replaced: one panel a replacement, one line a scope, each
    seed a dot."""
    title, cell = first_cell(swap_table(df), "interventions")
    if cell is None:
        return title
    arms = list(cell.arm.unique())
    scopes = sorted(cell.scope.unique(), key=lambda s: (s != "all", not s.startswith("stage"), s))
    figure, axes = panels(len(SAYS), 3.4, 0.9 + 0.48 * len(scopes), sharey=True)
    for axis, (mode, says) in zip(axes, SAYS.items(), strict=True):
        reference(axis, 0, vertical=True)
        for (arm, scope), own in cell[cell["mode"] == mode].groupby(["arm", "scope"], sort=False):
            at = scopes.index(scope) + 0.5 * ((arms.index(arm) + 0.5) / len(arms) - 0.5)
            seed_dots(axis, at, own.lost, arm, across=True,
                 label=short(arm) if scope == "all" else None)
        axis.set(title=f"each gate replaced by\n{says}", xlabel="points of accuracy lost")
    axes[0].set_yticks(range(len(scopes)), scopes)
    axes[0].set_ylim(len(scopes) - 0.4, -0.6)
    legend(figure, title)
    return figure


def probe_levels(df) -> plt.Figure:
    """Accuracy, and Grad-CAM's mass on the object over its share of the image, as one property of
    the images changes; dotted: as in training."""
    title, cell = first_cell(probe_table(df), "probes")
    if cell is None:
        return title
    shown = {"accuracy": ("accuracy, %", CHANCE),
             "lift": ("mass on the object\n/ its share of the image", 1)}
    trained = option_defaults(make_shapetex) | parse(cell.dataset.iloc[0])[1]
    figure, axes = plt.subplots(2, len(LEVELS), figsize=(10, 5), sharex="col", sharey="row")
    for column, (option, levels) in zip(axes.T, LEVELS.items(), strict=True):
        names = [f"{option}={level:g}" for level in levels]
        says, usual = LEVEL_NAMES[option], trained[option]
        for axis, (value, (label, known)) in zip(column, shown.items(), strict=True):
            for arm, own in cell[cell.probe.isin(names)].groupby("arm", sort=False):
                wide = own.pivot_table(index="seed", columns="probe", values=value)[names]
                band(axis, levels, wide, arm)
            reference(axis, usual, vertical=True, style=":")
            reference(axis, known, style="--")
            if option == next(iter(LEVELS)):
                axis.set_ylabel(label)
        column[1].set_xlabel(says)
    legend(figure, title)
    return figure


def probe_causes(df) -> plt.Figure:
    """Accuracy, and where Grad-CAM's mass lies, with one cause of the label taken away at a time;
    dashed: guessing, and a uniform map."""
    title, cell = first_cell(probe_table(df), "probes")
    if cell is None:
        return title
    area = 100 * cell[cell.probe == "split=test"].object_area.iloc[0]
    cell = cell.assign(object=100 * cell.object)
    figure, axes = panels(2, 5, 3.6)
    for axis, value, label, known in ((axes[0], "accuracy", "accuracy, %", CHANCE),
                                      (axes[1], "object", "Grad-CAM mass on object, %", area)):
        grouped_dots(axis, CAUSES, list(cell.arm.unique()), lambda cause, arm, value=value: cell[
            (cell.probe == cause) & (cell.arm == arm)][value])
        axis.set(ylabel=label, ylim=(0, None))
        reference(axis, known, style="--")
    legend(figure, title)
    return figure


def shortcut_groups(df) -> plt.Figure:
    """Trained where the background gives the class away: accuracy where it agrees with the class
    and where it contradicts it, and where Grad-CAM's mass lies on the same two kinds of image."""
    title, cell = first_cell(group_table(df), "probes of the spurious background")
    if cell is None:
        return title
    figure, axes = panels(3, 3.4, 3.3)
    for axis, (label, keys) in zip(axes, GROUPS.items(), strict=True):
        columns = dict(zip(keys, ("background\nagrees", "background\ncontradicts"), strict=True))
        grouped_dots(axis, columns, list(cell.arm.unique()),
                     lambda key, arm: cell[cell.arm == arm][key])
        axis.set(ylabel=label, xlim=(-0.5, 1.5), ylim=(0, 104))
    reference(axes[0], CHANCE, style="--")
    legend(figure, title)
    return figure

"""Gates, interventions and probes, from the stored arrays: a `collect` table -> Figure. Each shows
the table's first cell: one data set and network."""
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.cm import ScalarMappable

from ..data.shapetex import CLASS_NAMES
from ..experiments.studies import PROFILES
from ..explain.cam import inputs
from ..explain.interventions import MODES, observed, swap_rows
from ..explain.probes import group_row, probe_rows
from ..explain.tables import unpacked
from ..training.run import Run
from ..training.trainer import about, network
from . import style
from .maps import COLUMNS, with_images
from .pictures import map_rows
from .style import short

CAUSES = {"split=test": "as it is", "swap_background": "background swapped",
          "remove_distractors": "no distractors", "texture_only": "on a half-disc",
          "shape_only": "no texture", "remove_object": "no object"}
GROUPS = {"accuracy, %": ("aligned", "conflicting"),
          "mass on the object, %": ("object", "object_flip"),
          "mass on neither object nor distractors, %": ("background", "background_flip")}
CHANCE = 100 / len(CLASS_NAMES)
KEY = "gate_map_stage"
LEAST = 0.1                              # of the colours' range: a flat gate should look flat


def first_cell(df, rows_of):
    """Title and rows of the first cell in which ``rows_of(arrays)`` of any run has some."""
    table = unpacked(df, rows_of)
    return style.by_cell(table)[0] if len(table) else ("", table)


# --- Gates ---


def gate_maps(df) -> plt.Figure:
    """The gates over places of one trained network of each arm, at the last site of each stage, on
    the first test images; one colour scale for all of them."""
    if not (here := with_images(df, COLUMNS, KEY)):
        return style.note("no gates over places stored, or the images are not here")
    df, found, images, _, _, masks = here
    maps = {f"{short(row.arm)}, stage {key.removeprefix(KEY)}": values[:COLUMNS].astype(np.float32)
            for row in df[df.seed == df.groupby("arm").seed.transform("min")].itertuples()
            for key, values in sorted(found[row.id].items()) if key.startswith(KEY)}
    low, high = np.percentile(np.concatenate([np.ravel(m) for m in maps.values()]), (1, 99))
    middle, half = (low + high) / 2, max(high - low, LEAST) / 2
    limits = middle - half, middle + half
    figure = map_rows(images, maps, masks, limits=limits)
    scale = ScalarMappable(plt.Normalize(*limits), "viridis")
    figure.colorbar(scale, ax=figure.axes, location="bottom", aspect=40, pad=0.02, label="gate")
    return figure


def gate_histograms(attention: str, profile: str) -> plt.Figure:
    """How open each site's gates are in an untrained ResNet-18 of the profile's width, over 64
    ShapeTex images: one row a gate, darker where more values lie."""
    width = PROFILES[profile].fields.get("width", 1)
    run = Run("shapetex", attention=attention, width=width, n_train=10, n_val=10, n_test=64)
    found = observed(network(run, about(run)), inputs(run, 64)[1])[1]
    shares = np.stack([np.histogram(g.numpy(), 50, (0, 1))[0] / g.numel() for g in found.values()])
    sites = [site.split(".attention") for site in found]
    labels = [f"stage {int(place.split('.')[1]) + 1} block {int(place.split('.')[2]) + 1}, "
              + part.strip(".") for place, part in sites]

    def draw(axis, rows):
        axis.imshow(rows, aspect="auto", cmap="Greys", extent=(0, 1, len(rows) - 0.5, -0.5),
                    vmax=0.5)
        axis.set_yticks(range(len(rows)), labels)
        style.reference(axis, 0.5, vertical=True, style="--")
        axis.grid(False)
        axis.set(xlabel="gate value (dashed: one half)")
    return style.per_cell([(f"{short(attention)}, before training", shares)], draw, style.PAGE,
                    0.7 + 0.2 * len(shares))


# --- Interventions and probes ---


def swap_lost(df) -> plt.Figure:
    """Accuracy lost with gates replaced: a panel a replacement, a line a scope, a dot a seed."""
    heading, cell = first_cell(df, swap_rows)

    def draw(axis, rows):
        style.reference(axis, 0, vertical=True)
        style.seed_dots(axis, rows, "lost", "scope")
        axis.set_xlabel("points of accuracy lost")
    groups = [(f"each gate replaced by {says}", cell[cell["mode"] == mode])
              for mode, (says, _) in MODES.items() if len(cell)]
    return style.stacked(groups, draw, "scope", nothing="no interventions stored", heading=heading)


def probe_causes(df) -> plt.Figure:
    """Accuracy, and where Grad-CAM's mass lies, with one cause of the label taken away at a time;
    dashed: guessing, and a uniform map."""
    heading, cell = first_cell(df, probe_rows)
    if len(cell):
        cell = cell.assign(cause=cell.probe.map(CAUSES), object=100 * cell.object)
        cell = cell.dropna(subset="cause")

    def draw(axis, value):
        area = 100 * cell[cell.probe == "split=test"].object_area.iloc[0]
        style.seed_dots(axis, cell, value, "cause")
        style.reference(axis, CHANCE if value == "accuracy" else area, vertical=True, style="--")
        axis.set_xlim(0)
    groups = [("accuracy, %", "accuracy"), ("Grad-CAM mass on object, %", "object")]
    return style.per_cell(groups if len(cell) else [], draw, height=2.4, nothing="no probes stored",
                          heading=heading, sharey=True)


def shortcut_groups(df) -> plt.Figure:
    """Trained where the background gives the class away: accuracy where it agrees with the class
    and where it contradicts it, and where Grad-CAM's mass lies on the same two kinds of image."""
    heading, cell = first_cell(df[df.dataset.str.contains("rho")], group_row)

    def draw(axis, columns):
        names = dict(zip(columns, ("background agrees", "background contradicts"), strict=True))
        rows = cell.melt(["arm", "seed"], list(columns), "group", "value")
        style.seed_dots(axis, rows.assign(group=rows.group.map(names)), "value", "group")
        if columns == GROUPS["accuracy, %"]:
            style.reference(axis, CHANCE, vertical=True, style="--")
        axis.set_xlim(0, 104)
    return style.per_cell(GROUPS.items() if len(cell) else [], draw, style.PAGE, 1.3,
                    "no probes of the spurious background stored", heading)

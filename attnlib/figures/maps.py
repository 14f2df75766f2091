"""What networks look at, from the stored maps: a `collect` table -> Figure."""
import matplotlib.pyplot as plt
import numpy as np

from ..analysis.stats import CELL
from ..data.arrays import DataMissing
from ..explain.cam import MAPS
from ..explain.camstore import PICTURES, stored_maps
from ..explain.road import PERCENTILES
from ..explain.sharper import CLAIMED, METRICS, SHARPNESS, TOLERATED, beyond_accuracy, comparisons
from ..explain.tables import MEASURES, means, run_table, unpacked
from ..training import store
from ..training.run import Run
from ..training.trainer import data_of
from .pictures import Tile, overlays, sheet
from .style import (
    arms_axis,
    by_cell,
    interval_bar,
    look,
    mark,
    note,
    panels,
    per_cell,
    reference,
    seed_dots,
    short,
)

NOTHING = "no stored maps"
SHOWN = ("entropy", "gini", "lift", "pointing", "average_precision", "on_distractors", "road",
         "drop")
BETTER = {"entropy": "lower is sharper", "gini": "higher is sharper", "lift": "1: a uniform map",
          "road": "0 is chance", "drop": "lower is better"}
METHODS = {"grad_cam": "#0072B2", "eigen_cam": "#E69F00", "input_gradient": "#009E73"}


def looked_at(df, key: str = ""):
    """The rows of a table's first cell with stored arrays, of those with a name that begins with
    ``key``, and the arrays: id -> name -> values."""
    found = {run_id: arrays for run_id, arrays in stored_maps(df).items()
             if any(name.startswith(key) for name in arrays)}
    df = df[df.id.isin(list(found))]
    return df[(df[CELL] == df[CELL].iloc[0]).all(axis=1)] if len(df) else df, found


def images_behind(df, n: int):
    """The first n test images behind a table, their labels, class names and masks or None; None
    where the data are not here."""
    row = df.iloc[0]
    try:
        data = data_of(Run(**store.read_record(store.record_path(row.profile, row.id))["run"]))
    except DataMissing:
        return None
    images, labels = data.split("test", n)
    masks = data.extras["test"]["mask"][:n] if "test" in data.extras else None
    return images, labels, data.classes, masks


def cam_sheet(df, dataset: str = "", stage: int = 0, rows: int = 4,
              as_cells: bool = False) -> plt.Figure:
    """Grad-CAM of every arm (first seed) on the same first test images, object masks outlined on
    ShapeTex; of the first cell, or the first on one data set. ``stage`` 0 is the finest stored one;
    ``as_cells``: every image a second time, its maps as the network has them."""
    df, found = looked_at(df[df.dataset.str.startswith(dataset) & (df.seed == df.seed.min())])
    here = images_behind(df, rows) if len(df) else None
    if here is None:
        return note(f"{NOTHING} of {dataset}" if not len(df) else "the images are not here")
    images, labels, classes, masks = here
    pick = np.repeat(np.arange(rows), 1 + as_cells)
    arrays = {r.arm: found[r.id] for r in df.itertuples()}
    maps = {arm: a[f"map_grad_cam_{a['stages'][stage]}"][pick] for arm, a in arrays.items()}
    titles = [classes[labels[k]] for k in pick]
    said = {arm: [classes[a["prediction"][k]] for k in pick] for arm, a in arrays.items()}
    smooth = np.ones(len(pick), bool)
    if as_cells:
        titles[1::2], said, smooth[1::2] = ["its cells"] * rows, None, False
    return overlays(images[pick], maps, None if masks is None else masks[pick], said, titles,
                    smooth)


def methods_sheet(df, arm: str = "none", rows: int = 4) -> plt.Figure:
    """One network (first seed) under every method of MAPS, as cells, at the finest stored stage."""
    df, found = looked_at(df[df.arm == arm])
    here = images_behind(df, rows) if len(df) else None
    if here is None:
        return note(NOTHING)
    images, _, _, masks = here
    arrays = found[df.id.iloc[0]]
    keys = {method: f"map_{method}_{arrays['stages'][0]}" for method in MAPS}
    tiles = [[Tile(image)] + [Tile(image, arrays[key][i], None if masks is None else masks[i],
                                   smooth=False) for key in keys.values() if key in arrays]
             for i, image in enumerate(images)]
    heads = ["image", *(MAPS[method].says for method, key in keys.items() if key in arrays)]
    tiles[0] = [tile._replace(title=head.replace(" ", "\n"))
                for tile, head in zip(tiles[0], heads, strict=True)]
    return sheet(tiles, 0.98, 1.08)


def failures(df, columns: int = 6) -> plt.Figure:
    """Among the stored pictures of the first cell, all arms and seeds: above, right answers whose
    maps lie worst on the object; below, the surest wrong answers. Without masks the least sharp
    maps of right answers stand above."""
    df, found = looked_at(df)
    here = images_behind(df, PICTURES) if len(df) else None
    if here is None:
        return note(f"{NOTHING}, or the images are not here")
    images, _, classes, masks = here
    measure, sign = ("lift", 1) if masks is not None else ("entropy", -1)
    right, wrong = [], []
    for row in df.itertuples():
        a = found[row.id]
        stage = a["stages"][0]
        for k, image in enumerate(images):
            hit = a["prediction"][k] == a["label"][k]
            worth, sure = float(a[f"{measure}_{stage}"][k]), float(a["confidence"][k])
            title = (f"{short(row.arm)}, seed {row.seed}\nsays {classes[a['prediction'][k]]}\n"
                     + (f"{measure} {worth:.2f}" if hit else f"{sure:.0%} sure"))
            case = (sign * worth if hit else -sure, k, row.arm, row.seed), Tile(
                image, a[f"map_grad_cam_{stage}"][k], None if masks is None else masks[k], title)
            if np.isfinite(case[0][0]):
                (right if hit else wrong).append(case)
    rows = [[tile for _, tile in sorted(cases, key=lambda case: case[0])[:columns]]
            for cases in (right, wrong)]
    return sheet([row + [None] * (columns - len(row)) for row in rows], 1.45, 1.95)


def metrics(df, stage: int = 0) -> plt.Figure:
    """Every measure of Grad-CAM by arm, each run a dot, in the study's first cell; dashed: what a
    Gaussian in the middle of the image gets."""
    df, found = looked_at(df)
    if not len(df):
        return note(NOTHING)
    table = run_table(df, stage)
    arms, shown = list(table.arm.unique()), [m for m in SHOWN if m in table]
    centre = means(found[df.id.iloc[0]], stage).loc["centre"]
    figure, axes = panels(len(shown), 2.5, 2.4)
    for axis, m in zip(axes, shown, strict=True):
        for k, arm in enumerate(arms):
            seed_dots(axis, k, table[table.arm == arm][m], arm, beside=0.15)
        reference(axis, centre[m], style="--")
        arms_axis(axis, arms)
        axis.set_title(f"{MEASURES[m]}\n" + (f"({BETTER[m]})" if m in BETTER else ""), fontsize=8.5)
        axis.tick_params(labelsize=8)
    figure.suptitle(by_cell(table)[0][0], fontsize=10)
    return figure


def gains(df, stage: int = 0) -> plt.Figure:
    """What each arm gains over none in sharpness, localisation and ROAD, per cent of none's value,
    positive is better; grey: what counts as none; dotted: the claimed 23 %."""
    found = comparisons(df, stage)

    def draw(axis, own):
        names = [m for m in METRICS if m in own[0].gain]
        axis.axvspan(-100 * TOLERATED, 100 * TOLERATED, color="#eeeeee", zorder=0)
        reference(axis, 0, vertical=True)
        sharp = [k for k, m in enumerate(names) if m in SHARPNESS]
        axis.plot([CLAIMED] * 2, [min(sharp) - 0.45, max(sharp) + 0.45], color="#888888",
                  linestyle=":", linewidth=1.2)
        for j, c in enumerate(own):
            for k, m in enumerate(names):
                interval_bar(axis, *c.gain[m], k + 0.18 * (j - (len(own) - 1) / 2), c.arm,
                             short(c.arm) if k == 0 else None)
        labels = {m: MEASURES[m].replace(" ÷", "\n÷") for m in names} | {
            "road": "ROAD ÷ confidence"}
        axis.set_yticks(range(len(names)), [labels[m] for m in names])
        axis.invert_yaxis()
        axis.set_xlabel("gain over none, % of its value (right is better)")
        axis.grid(axis="y", visible=False)
    if not found:
        return note(NOTHING)
    groups = [(title, [c for c in found if c.cell == tuple(rows[CELL].iloc[0])])
              for title, rows in by_cell(df)]
    return per_cell([(title, own) for title, own in groups if own], draw, 5.4, 3.8)


def road_curves(df, stage: int = 0) -> plt.Figure:
    """The class's probability against the share of pixels kept: the most relevant lost first (full
    lines), the least relevant first (dashed); means over seeds, correctly classified images."""
    def rows_of(arrays):
        return [{order: arrays[f"curve_{order}_{arrays['stages'][stage]}"]
                 for order in ("morf", "lerf")}]

    def draw(axis, rows):
        for arm, runs in rows.groupby("arm", sort=False):
            for order, line in (("morf", "-"), ("lerf", "--")):
                axis.plot(PERCENTILES, np.mean(list(runs[order]), 0), markersize=4,
                          label=short(arm) if order == "morf" else None,
                          **mark(arm) | {"linestyle": line})
        axis.set(xlabel="pixels kept, %", ylabel="probability of the class")
    table = unpacked(df, rows_of)
    return per_cell(by_cell(table), draw, 4.4, 3.2) if len(table) else note(NOTHING)


def sanity(df) -> plt.Figure:
    """How alike the maps stay while layers are set back from the top: mean over a cell's runs, band
    from the lowest to the highest run."""
    df, found = looked_at(df, "sanity_")
    if not len(df):
        return note(NOTHING)
    figure, (axis,) = panels(1, 6.4, 3.2)
    for method, colour in METHODS.items():
        y = np.array([np.nanmean(found[i][f"sanity_{method}"].astype(float), 1) for i in df.id])
        y = np.hstack([np.ones((len(y), 1)), y])                     # the trained network: itself
        axis.plot(y.mean(0), marker="o", markersize=4, color=colour, label=MAPS[method].says)
        axis.fill_between(range(y.shape[1]), y.min(0), y.max(0), color=colour, alpha=0.12,
                          linewidth=0)
    names = ["trained", "classifier", *[f"stage {k}" for k in range(y.shape[1] - 3, 0, -1)], "stem"]
    axis.set_xticks(range(len(names)), names, rotation=20, ha="right")
    reference(axis, 0)
    axis.set(ylabel="Spearman's correlation\nwith the trained network's map",
             title="layers set back to their start, from the top down to …")
    axis.legend(fontsize=8.5)
    return figure


def beyond(df, metric: str = "lift") -> plt.Figure:
    """Localisation against accuracy, each run a marker; the line is what accuracy alone explains,
    from the regression behind `tables.map_beyond`."""
    def draw(axis, own):
        for arm, runs in own.groupby("arm", sort=False):
            axis.scatter(runs.accuracy, runs[metric], marker=look(arm).marker, s=36,
                         color=look(arm).colour, label=short(arm))
        slope = beyond_accuracy(own, metric).get("accuracy")
        if slope:
            x = np.array([own.accuracy.min(), own.accuracy.max()])
            base = own[own.arm == "none"]
            axis.plot(x, base[metric].mean() + slope.value * (x - base.accuracy.mean()),
                      color="#888888", linestyle="--", linewidth=1)
        axis.set(xlabel="test accuracy, %", ylabel=MEASURES[metric])
    table = run_table(df)
    if metric not in table:
        return note(f"{NOTHING} with masks")
    return per_cell(by_cell(table), draw, 4.4, 3.2)

"""What networks look at, from the stored maps: a `collect` table -> Figure."""
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from ..analysis.stats import each_cell
from ..data.arrays import DataMissing
from ..explain.cam import MAPS
from ..explain.camstore import PICTURES, SANITY, stored_maps
from ..explain.sharper import CLAIMED, SHARPNESS, TOLERATED, comparisons
from ..explain.tables import MEASURES, run_table
from ..training import store
from ..training.run import Run
from ..training.trainer import data_of
from . import style
from .pictures import Tile, map_rows, overlays, sheet
from .style import short

NO_MAPS = "no stored maps"
COLUMNS, FAILURES = 6, 5            # images across: under many maps; with long titles


def looked_at(df, key: str = ""):
    """The rows of a table's first cell with stored arrays that ``key`` begins the name of, and the
    arrays: id -> name -> values."""
    found = {run_id: arrays for run_id, arrays in stored_maps(df).items()
             if any(name.startswith(key) for name in arrays)}
    df = df[df.id.isin(list(found))]
    return next((rows for _, rows in each_cell(df)), df), found


def with_images(df, n: int, key: str = ""):
    """`looked_at`, and the first n test images behind it, their labels, class names, and masks or
    Nones; None where nothing is stored or the data are not here."""
    df, found = looked_at(df, key)
    if not len(df):
        return None
    row = df.iloc[0]
    try:
        data = data_of(Run(**store.read_record(row.profile, row.id)["run"]))
    except DataMissing:
        return None
    masks = data.extras["test"]["mask"][:n] if "test" in data.extras else [None] * n
    return df, found, *data.split("test", n), data.classes, masks


def cam_sheet(df, dataset: str = "", rows: int = 4) -> plt.Figure:
    """Grad-CAM of every arm (first seed) on the same first test images, object masks outlined on
    ShapeTex; of the first cell, or the first on one data set."""
    df = df[df.dataset == dataset] if dataset else df
    if not (here := with_images(df[df.seed == df.seed.min()], rows)):
        return style.note(f"{NO_MAPS} of {dataset}, or its images are not here")
    df, found, images, labels, classes, masks = here
    arrays = {r.arm: found[r.id] for r in df.itertuples()}
    maps = {arm: a[f"map_grad_cam_{a['stages'][0]}"] for arm, a in arrays.items()}
    said = {arm: [classes[k] for k in a["prediction"]] for arm, a in arrays.items()}
    return overlays(images, maps, masks, [classes[k] for k in labels], said)


def methods_sheet(df) -> plt.Figure:
    """The plain network (first seed) under every method of MAPS, as cells, at the finest stage."""
    if not (here := with_images(df[df.arm == "none"], COLUMNS)):
        return style.note(NO_MAPS)
    df, found, images, _, _, masks = here
    arrays = found[df.id.iloc[0]]
    maps = {says: arrays[key] for method, (says, _) in MAPS.items()
            if (key := f"map_{method}_{arrays['stages'][0]}") in arrays}
    return map_rows(images, maps, masks, smooth=False)


def failures(df) -> plt.Figure:
    """Among the stored pictures of the first cell, all seeds, one of each arm: above, the right
    answer whose map lies worst on the object; below, the surest wrong answer. Without masks the
    least sharp map of a right answer stands above."""
    if not (here := with_images(df, PICTURES)):
        return style.note(f"{NO_MAPS}, or the images are not here")
    df, found, images, _, classes, masks = here
    measure, sign = ("entropy", -1) if masks[0] is None else ("lift", 1)
    cases = {True: {}, False: {}}               # right, wrong: the order they go in -> a tile
    for row in df.itertuples():
        a = found[row.id]
        stage = a["stages"][0]
        for k, image in enumerate(images):
            hit = bool(a["prediction"][k] == a["label"][k])
            worth, sure = float(a[f"{measure}_{stage}"][k]), float(a["confidence"][k])
            title = f"{short(row.arm)}, seed {row.seed}\n" + (
                f"{classes[a['label'][k]]}\n{measure} {worth:.2f}" if hit else
                f"{classes[a['label'][k]]}\n→ {classes[a['prediction'][k]]}\n{sure:.0%} sure")
            if np.isfinite(worth):
                cases[hit][sign * worth if hit else -sure, k, row.arm, row.seed] = Tile(
                    image, a[f"map_grad_cam_{stage}"][k], masks[k], title)
    first = [{order[2]: own[order] for order in sorted(own, reverse=True)}      # of each arm
             for own in cases.values() if own]
    return sheet([[own[arm] for arm in df.arm.unique() if arm in own][:FAILURES] for own in first],
                 most=style.PAGE / FAILURES)


def metrics(df) -> plt.Figure:
    """Every measure of Grad-CAM by arm, each run a dot, in the study's first cell; dashed: what a
    Gaussian in the middle of the image gets."""
    df = looked_at(df)[0]
    if not len(df):
        return style.note(NO_MAPS)
    table, centre = run_table(df), run_table(df, "centre").iloc[0]

    def draw(axis, measure):
        style.seed_dots(axis, table, measure)
        style.reference(axis, centre[measure], vertical=True, style="--")
        axis.set_xlabel(MEASURES[measure][1])
    return style.per_cell([(says, m) for m, (says, _) in MEASURES.items() if m in table], draw,
                          height=0.85 + 0.21 * table.arm.nunique(), sharey=True,
                          heading=style.by_cell(table)[0][0])


def gains(df) -> plt.Figure:
    """What each arm gains over none in sharpness, localisation and ROAD, per cent of none's value,
    positive is better; grey: what counts as none; dotted: the claimed 23 %."""
    rows = [c.cell | {"measure": "ROAD ÷ confidence" if m == "road" else MEASURES[m][0],
                      "arm": c.arm, "gain": e.mean, "low": e.low, "high": e.high}
            for c in comparisons(df) for m, e in c.gain.items()]

    def draw(axis, own):
        axis.axvspan(-100 * TOLERATED, 100 * TOLERATED, color=style.MARGIN, zorder=0)
        style.reference(axis, 0, vertical=True)
        style.interval_bars(axis, own, "gain", "measure")
        axis.plot([CLAIMED] * 2, [-0.45, len(SHARPNESS) - 0.55], ":", color=style.GREY)
        axis.set_xlabel("gain over the plain network,\n% of its value (right is better)")
    cells = style.by_cell(pd.DataFrame(rows)) if rows else []
    return style.stacked(cells, draw, "measure", nothing=NO_MAPS)


def sanity(df) -> plt.Figure:
    """How alike the maps stay while layers are set back from the top: mean over a cell's runs, band
    from the lowest to the highest run."""
    df, found = looked_at(df, "sanity_")

    def draw(axis, df):
        for method, colour in zip(SANITY, ("#222222", "#999999", "#CC3311"), strict=True):
            y = np.array([np.nanmean(found[i][f"sanity_{method}"].astype(float), 1) for i in df.id])
            y = np.hstack([np.ones((len(y), 1)), y])                # the trained network: itself
            axis.plot(y.mean(0), marker="o", color=colour, label=MAPS[method][0])
            axis.fill_between(range(y.shape[1]), y.min(0), y.max(0), color=colour, alpha=0.12,
                              linewidth=0)
        stages = [f"stage {k}" for k in range(y.shape[1] - 3, 0, -1)]
        axis.set_xticks(range(y.shape[1]), ["trained", "classifier", *stages, "stem"], rotation=20)
        style.reference(axis, 0)
        axis.set_ylabel("Spearman's correlation\nwith the trained network's map")
    title = "layers set back to their start, from the top down to …"
    return style.per_cell([(title, df)] if len(df) else [], draw, style.PAGE, 3, NO_MAPS)

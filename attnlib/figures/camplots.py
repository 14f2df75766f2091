"""The figures of what networks look at, from the stored maps: DataFrame or study -> Figure."""
import matplotlib.pyplot as plt
import numpy as np

from ..analysis.stats import CELL
from ..data.datasets import DataMissing
from ..experiments.planning import resolve_profile, study
from ..experiments.reading import collect
from ..explain.cam import MAPS
from ..explain.camstore import stored_maps
from ..explain.looking import MEASURES, looked_at, where
from ..explain.road import PERCENTILES
from ..explain.sharper import CLAIMED, TOLERATED, beyond_accuracy, comparisons, run_table
from ..training.trainer import data_of
from .plots import heat, legend, look, outline, overlays, panels, short, show

SHOWN = ("entropy", "gini", "lift", "pointing", "average_precision", "on_distractors", "road",
         "drop")


def note(words: str) -> plt.Figure:
    """A figure that says why there is nothing to draw."""
    figure, (axis,) = panels(1, 5, 1)
    axis.axis("off")
    axis.text(0.5, 0.5, words, ha="center", va="center", color="#777777")
    return figure


def first_seeds(study_name: str, profile: str, dataset: str = "") -> dict[str, tuple]:
    """Arm -> (run, stored arrays) of seed 0 in a study's first cell with maps, or in the first on
    one data set."""
    df = collect(study_name, resolve_profile(profile, study_name))
    df = df[(df.seed == 0) & df.dataset.str.startswith(dataset)]
    found = stored_maps(df)
    df = df[df.id.isin(list(found))]
    if not len(df):
        return {}
    df = df[(df[CELL] == df[CELL].iloc[0]).all(axis=1)]
    runs = {run.id: run for run in study(study_name, df.profile.iloc[0])}
    return {r.arm: (runs[r.id], found[r.id]) for r in df.itertuples()}


def images_of(run, n: int):
    """The first n test images of a run, their labels, class names and masks or None; None where the
    data are not here."""
    try:
        data = data_of(run)
    except DataMissing:
        return None
    images, labels = data.split("test", n)
    masks = data.extras["test"]["mask"][:n] if "test" in data.extras else None
    return images, labels, data.classes, masks


def cam_sheet(study_name: str, profile: str, dataset: str = "", stage: int = 0, rows: int = 4,
              cells: bool = False) -> plt.Figure:
    """Grad-CAM of every arm (seed 0) on the same first test images, object masks outlined on
    ShapeTex. ``stage`` 0 is the finest stored one; ``cells``: every image a second time, its maps
    as the network has them."""
    found = first_seeds(study_name, profile, dataset)
    here = images_of(next(iter(found.values()))[0], rows) if found else None
    if here is None:
        return note(f"no stored maps of {dataset or study_name}" if not found else
                    "the images are not here")
    images, labels, classes, masks = here
    maps, said = {}, {}
    for arm, (_, a) in found.items():
        maps[arm] = a[f"map_grad_cam_{a['stages'][stage]}"][:rows].astype(np.float32)
        said[arm] = [classes[k] for k in a["prediction"][:rows]]
    titles = [classes[k] for k in labels]
    if not cells:
        return overlays(images, maps, masks, said, titles)
    twice = np.repeat(np.arange(rows), 2)
    return overlays(images[twice], {arm: m[twice] for arm, m in maps.items()},
                    masks[twice] if masks is not None else None, titles=[
                        (titles[k], "its cells")[i % 2] for i, k in enumerate(twice)],
                    smooth=np.arange(2 * rows) % 2 == 0)


def methods_sheet(study_name: str, profile: str, arm: str = "none", rows: int = 4) -> plt.Figure:
    """One network (seed 0) under every method of MAPS, as cells, at the finest stored stage."""
    found = first_seeds(study_name, profile).get(arm)
    here = images_of(found[0], rows) if found else None
    if here is None:
        return note("no stored maps")
    images, _, _, masks = here
    stage = found[1]["stages"][0]
    keys = {name: f"map_{name}_{stage}" for name in MAPS if f"map_{name}_{stage}" in found[1]}
    figure, axes = plt.subplots(rows, len(keys) + 1, squeeze=False,
                                figsize=(0.98 * (len(keys) + 1), 1.06 * rows + 0.2))
    for i in range(rows):
        show(axes[i, 0], images[i])
        for axis, key in zip(axes[i, 1:], keys.values(), strict=True):
            show(axis, images[i])
            heat(axis, found[1][key][i].astype(np.float32), images.shape[1:3], False)
            if masks is not None:
                outline(axis, masks[i])
    for axis, name in zip(axes[0], ["image", *(MAPS[name].says for name in keys)], strict=True):
        axis.set_title(name.replace(" ", "\n"), fontsize=7.5, pad=2)
    return figure


def metrics(study_name: str, profile: str, stage: int = 0) -> plt.Figure:
    """Every measure of Grad-CAM by arm, each run a dot, in the study's first cell; dashed: what a
    Gaussian in the middle of the image gets."""
    df = looked_at(study_name, profile)
    table = run_table(df, stage)
    if not len(table):
        return note("no stored maps")
    table = table[(table[CELL] == table[CELL].iloc[0]).all(axis=1)]
    shown, arms = [m for m in SHOWN if m in table], list(table.arm.unique())
    figure, axes = plt.subplots(2, -(-len(shown) // 2), figsize=(2.6 * -(-len(shown) // 2), 4.8),
                                squeeze=False)
    arrays = next(iter(stored_maps(df[df.id.isin(table.id)]).values()))
    centre = arrays["methods"].tolist().index(b"centre")
    for axis in axes.flat[len(shown):]:
        axis.axis("off")
    for axis, m in zip(axes.flat, shown, strict=False):
        for k, arm in enumerate(arms):
            y = table[table.arm == arm][m].to_numpy()
            axis.scatter(np.full(len(y), k - 0.15), y, s=20, color=look(arm).colour, alpha=0.5,
                         linewidths=0)
            axis.errorbar(k + 0.15, y.mean(), y.std(ddof=1) if len(y) > 1 else 0, capsize=3,
                          fmt=look(arm).marker, color=look(arm).colour)
        axis.axhline(arrays[f"mean_{m}_{arrays['stages'][stage]}"][centre], color="#888888",
                     linestyle="--", linewidth=1)
        axis.set_xticks(range(len(arms)), [short(a) for a in arms], rotation=25, ha="right")
        axis.set_xlim(-0.6, len(arms) - 0.4)
        text = MEASURES[m]
        axis.set_title(text[0] + (f"\n({text[2]})" if text[2] else "\n"), fontsize=8.5)
        axis.tick_params(labelsize=8)
    figure.suptitle(where(tuple(table[CELL].iloc[0])), fontsize=10)
    return figure


def gains(study_name: str, profile: str, stage: int = 0) -> plt.Figure:
    """What each arm gains over none in sharpness, localisation and ROAD, per cent of none's value,
    positive is better; grey: what counts as none; dotted: the claimed 23 %."""
    found = comparisons(looked_at(study_name, profile), stage)
    cells = list(dict.fromkeys(c.cell for c in found))
    if not found:
        return note("no stored maps")
    figure, axes = panels(len(cells), 5.4, 3.8, sharey=False)
    for axis, cell in zip(axes, cells, strict=True):
        own = [c for c in found if c.cell == cell]
        names = [m for m in MEASURES if m in own[0].gain]
        axis.axvspan(-100 * TOLERATED, 100 * TOLERATED, color="#eeeeee", zorder=0)
        axis.axvline(0, color="#888888", linewidth=1)
        sharp = [k for k, m in enumerate(names) if m in ("entropy", "gini")]
        axis.plot([CLAIMED] * 2, [min(sharp) - 0.45, max(sharp) + 0.45], color="#888888",
                  linestyle=":", linewidth=1.2)
        for j, c in enumerate(own):
            for k, m in enumerate(names):
                e, y = c.gain[m], k + 0.18 * (j - (len(own) - 1) / 2)
                bars = None if np.isnan(e.low) else [[e.value - e.low], [e.high - e.value]]
                axis.errorbar(e.value, y, xerr=bars, capsize=2.5, fmt=look(c.arm).marker,
                              color=look(c.arm).colour, label=short(c.arm) if k == 0 else None)
        axis.set_yticks(range(len(names)), [MEASURES[m][0].replace(" ÷", "\n÷") for m in names])
        axis.invert_yaxis()
        axis.set(title=where(cell), xlabel="gain over none, % of its value (right is better)")
        axis.grid(axis="y", visible=False)
    legend(figure)
    return figure


def road_curves(study_name: str, profile: str, stage: int = 0) -> plt.Figure:
    """The class's probability against the share of pixels kept: the most relevant lost first (full
    lines), the least relevant first (dashed); means over seeds, correctly classified images."""
    df = looked_at(study_name, profile)
    found = stored_maps(df)
    cells = [(cell, rows) for cell, rows in df[df.id.isin(list(found))].groupby(CELL, sort=False)]
    if not cells:
        return note("no stored maps")
    figure, axes = panels(len(cells), 4.4, 3.2)
    for axis, (cell, rows) in zip(axes, cells, strict=True):
        for arm, runs in rows.groupby("arm", sort=False):
            arrays = [found[i] for i in runs.id]
            for order, line in (("morf", "-"), ("lerf", "--")):
                y = np.mean([a[f"curve_{order}_{a['stages'][stage]}"] for a in arrays], 0)
                axis.plot(PERCENTILES, y, line, color=look(arm).colour, marker=look(arm).marker,
                          markersize=4, label=short(arm) if order == "morf" else None)
        axis.set(title=where(cell), xlabel="pixels kept, %", ylabel="probability of the class")
    legend(figure)
    return figure


def sanity(study_name: str, profile: str) -> plt.Figure:
    """How alike the maps stay while layers are set back from the top: mean over a cell's runs, band
    from the lowest to the highest run."""
    df = looked_at(study_name, profile)
    found = stored_maps(df)
    df = df[df.id.isin(list(found))]
    if not len(df):
        return note("no stored maps")
    arrays = [found[i] for i in df[(df[CELL] == df[CELL].iloc[0]).all(axis=1)].id]
    figure, (axis,) = panels(1, 6.4, 3.2)
    colours = ("#0072B2", "#E69F00", "#009E73")
    for key, colour in zip([k for k in arrays[0] if k.startswith("sanity_")], colours, strict=True):
        y = np.array([np.nanmean(a[key].astype(float), 1) for a in arrays])
        y = np.hstack([np.ones((len(y), 1)), y])
        axis.plot(range(y.shape[1]), y.mean(0), marker="o", markersize=4, color=colour,
                  label=MAPS[key.removeprefix("sanity_")].says)
        axis.fill_between(range(y.shape[1]), y.min(0), y.max(0), color=colour, alpha=0.12,
                          linewidth=0)
    stages = y.shape[1] - 3
    names = ["trained", "classifier", *[f"stage {k}" for k in range(stages, 0, -1)], "stem"]
    axis.set_xticks(range(len(names)), names, rotation=20, ha="right")
    axis.axhline(0, color="#888888", linewidth=1)
    axis.set(ylabel="Spearman's correlation\nwith the trained network's map",
             title="layers set back to their start, from the top down to …")
    axis.legend(fontsize=8.5)
    return figure


def beyond(study_name: str, profile: str, metric: str = "lift") -> plt.Figure:
    """Localisation against accuracy, each run a marker; the line is what accuracy alone explains,
    from the regression behind `looking.beyond_words`."""
    table = run_table(looked_at(study_name, profile))
    if metric not in table:
        return note("no stored maps with masks")
    cells = list(table.groupby(CELL, sort=False))
    figure, axes = panels(len(cells), 4.4, 3.2)
    for axis, (cell, own) in zip(axes, cells, strict=True):
        for arm, runs in own.groupby("arm", sort=False):
            axis.scatter(runs.accuracy, runs[metric], marker=look(arm).marker, s=36,
                         color=look(arm).colour, label=short(arm))
        found = beyond_accuracy(own, metric)
        if found:
            x = np.array([own.accuracy.min(), own.accuracy.max()])
            base = own[own.arm == "none"]
            axis.plot(x, base[metric].mean() + found["accuracy"].value * (
                x - base.accuracy.mean()), color="#888888", linestyle="--", linewidth=1)
        axis.set(title=where(cell), xlabel="test accuracy, %", ylabel=MEASURES[metric][0])
    legend(figure)
    return figure


def failures(study_name: str, profile: str, columns: int = 6) -> plt.Figure:
    """Among the stored pictures of a study's first cell, all arms and seeds: above, right answers
    whose maps lie worst on the object; below, the surest wrong answers. Without masks the sharpest
    maps of wrong answers stand above."""
    df = looked_at(study_name, profile)
    found = stored_maps(df)
    df = df[df.id.isin(list(found))]
    runs = {run.id: run for run in study(study_name, df.profile.iloc[0])} if len(df) else {}
    here = images_of(runs[df.id.iloc[0]], 16) if len(df) else None
    if here is None:
        return note("no stored maps, or the images are not here")
    images, _, classes, masks = here
    right, wrong = [], []
    for row in df[(df[CELL] == df[CELL].iloc[0]).all(axis=1)].itertuples():
        a = found[row.id]
        stage = a["stages"][0]
        for k in range(len(images)):
            hit = a["prediction"][k] == a["label"][k]
            score = a[f"lift_{stage}" if masks is not None else f"entropy_{stage}"][k]
            (right if hit else wrong).append(
                (float(score) if hit else -float(a["confidence"][k]), k, row.arm, row.seed,
                 a[f"map_grad_cam_{stage}"][k].astype(np.float32), a["prediction"][k]))
    figure, axes = plt.subplots(2, columns, figsize=(1.45 * columns, 3.9), squeeze=False)
    for line, cases, hit in zip(axes, (right, wrong), (True, False), strict=True):
        cases = sorted((c for c in cases if np.isfinite(c[0])), key=lambda c: c[:2])
        for axis in line:
            axis.axis("off")
        for axis, (score, k, arm, seed, m, said) in zip(line, cases, strict=False):
            show(axis, images[k])
            heat(axis, m, images.shape[1:3])
            if masks is not None:
                outline(axis, masks[k])
            value = (f"{-score:.0%} sure" if not hit else f"lift {score:.2f}"
                     if masks is not None else f"entropy {score:.2f}")
            axis.set_title(f"{short(arm)}, seed {seed}\nsays {classes[said]}\n{value}", fontsize=7,
                           pad=2)
    return figure

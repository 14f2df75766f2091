"""One function per figure: DataFrame or arrays -> Figure. One colour for each block everywhere;
the palette (Okabe & Ito, and a purple) is safe for colour-blind readers, and markers repeat what
colours say."""
import base64
import io
from dataclasses import dataclass
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.layout_engine import ConstrainedLayoutEngine

from ..analysis.stats import CELL, arms_table
from ..analysis.words import name, place
from ..blocks import ATTENTION
from ..experiments.studies import PROFILES, margin_of
from ..explain.cam import gates, inputs
from ..names import parse
from ..settings import figures_dir
from ..training import store
from ..training.run import Run
from ..training.trainer import data_of, model_of
from .alttext import describe

# One hue a family; within it markers, and line styles in turn, tell the blocks apart.
FAMILIES = {
    "no attention": ("#555555", {"none": "o"}),
    "channels, from the mean": ("#0072B2", {"se": "s", "ser": "<", "sec": ">", "eca": "h",
                                            "ge": "p"}),
    "channels, from more": ("#56B4E9", {"ca": "^", "srm": "8", "gc": "H"}),
    "places": ("#E69F00", {"sa": "v", "coord": "<", "triplet": "^", "simam": "p"}),
    "channels and places": ("#D55E00", {"cbam": "D", "cbam_avg": "d", "bam": "s", "scse": "h"}),
    "SE with CBAM": ("#009E73", {"hybrid": "P", "hybrid_p0": "X", "hybrid_sum": "o",
                                 "hybrid_par": "d"}),
    "SE with places": ("#B8A200", {"se_sa": "s", "sec_sa": "D", "new": "*", "nab": "8"}),
    "in place of a convolution": ("#7A52A3", {"aa": "P", "sk": "H"}),
    "controls": ("#CC79A7", {"layerscale": "X", "shuffled": "*", "frozen": "s"}),
}
PAGE = 10.0                     # inches: what a notebook shows without shrinking the text much
LINES = ("-", "--", ":", "-.", (0, (5, 1)))


class Look(NamedTuple):
    colour: str
    marker: str
    line: str | tuple


def looks() -> dict[str, Look]:
    """Every block's look: those of FAMILIES, and for a block that is in none of them yet a dark
    grey with a marker of its own."""
    listed = {name for _, marks in FAMILIES.values() for name in marks}
    rest = [name for name in ATTENTION if name not in listed]
    rows = [*FAMILIES.values(), ("#222222", dict(zip(rest, "osvD^PX*dhp<>8H", strict=False)))]
    return {name: Look(hue, marker, LINES[k % len(LINES)]) for hue, marks in rows
            for k, (name, marker) in enumerate(marks.items())}


LOOKS = looks()


def look(arm: str) -> Look:
    """The look of a block, whatever its options and its place."""
    return LOOKS.get(parse(arm.split(" ")[0])[0], Look("#333333", "o", "-"))


FILLS = {"block": "bottom", "post_add": "top", "head": "left", "head_post": "right"}


def mark(arm: str) -> dict:
    """Keywords of an arm's marker: full for a block as it comes, half full in another place, hollow
    with other options; no line."""
    block, _, site = arm.partition(" ")
    fill = FILLS.get(site.partition("@")[0], "none") if site else "none" if "(" in block else "full"
    colour, marker, _ = look(arm)
    return {"marker": marker, "color": colour, "fillstyle": fill, "linestyle": "none"}


STYLE = {"figure.dpi": 100, "savefig.dpi": 160, "font.size": 10, "axes.titlesize": 10.5,
         "axes.labelsize": 10, "xtick.labelsize": 9.5, "ytick.labelsize": 9.5,
         "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
         "grid.color": "#e6e6e6", "grid.linewidth": 0.8, "axes.axisbelow": True,
         "legend.frameon": False, "figure.constrained_layout.use": True, "svg.hashsalt": "attnlib",
         "svg.fonttype": "none"}


def use_style() -> None:
    """Set our style for every figure that follows; notebooks call it in their import cell."""
    sns.set_theme(style="white")
    plt.rcParams.update(STYLE)


@dataclass(frozen=True)
class Shown:
    """What a notebook shows of a figure: a PNG, and in words, as its alternative text. No
    `Figure`, or the kernel would draw that by its own rule."""
    png: bytes
    alt: str

    def _repr_mimebundle_(self, **_):
        return ({"image/png": base64.b64encode(self.png).decode(), "text/plain": self.alt},
                {"image/png": {"alt": self.alt}})


def save(figure: plt.Figure, stem: str, profile: str) -> Shown:
    """Write ``figures/<profile>/<stem>.png`` and ``.svg``, and return the picture to be shown. What
    it shows in words goes with it: into both files, and as the alternative text of the notebook's
    picture."""
    folder, alt = figures_dir(profile), describe(figure)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{stem}.png").write_bytes(png(figure, plt.rcParams["savefig.dpi"], alt, 256))
    figure.savefig(folder / f"{stem}.svg", metadata={"Date": None, "Description": alt})
    plt.close(figure)                       # shown once, as the cell's value
    return Shown(png(figure, figure.dpi), alt)


def png(figure: plt.Figure, dpi: float, alt: str = "", colours: int = 128) -> bytes:
    """The figure as a PNG of few colours, a third of the size, with its description."""
    from PIL import Image, PngImagePlugin
    whole, out, info = io.BytesIO(), io.BytesIO(), PngImagePlugin.PngInfo()
    figure.savefig(whole, dpi=dpi, bbox_inches="tight", metadata={"Software": None})
    if alt:
        info.add_itxt("Description", alt)
    Image.open(whole).convert("RGB").quantize(colours).save(out, "PNG", optimize=True, pnginfo=info)
    return out.getvalue()


def cells(df):
    """The cells (data set, network, recipe) of a table with a finished run, in its order."""
    done = df[df.status == "done"]
    return [(where(cell.iloc[0]), cell) for _, cell in done.groupby(CELL, sort=False)]


def where(row) -> str:
    """`words.place` as a figure can show it."""
    return place(row).replace("`", "")


def panels(count: int, width: float = 4.6, height: float = 3.2, **options):
    """A figure and the axes of ``count`` panels (at least one), in rows that fit a page."""
    count = max(count, 1)
    across = max(1, min(count, round(PAGE / width)))
    rows = -(-count // across)
    figure, axes = plt.subplots(rows, across, figsize=(width * across, height * rows),
                                squeeze=False, layout=ConstrainedLayoutEngine(h_pad=0.1), **options)
    for axis in axes.flat[count:]:
        axis.set_visible(False)
    return figure, axes.flat[:count]


def legend(figure: plt.Figure, title: str | None = None) -> None:
    """One legend above all panels, with each label of any of them once; the figure grows by it."""
    found = {}
    for axis in figure.axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    if found:
        columns = min(len(found), max(1, round(figure.get_figwidth() / 1.6)))
        figure.legend(found.values(), found, loc="outside upper center", ncols=columns,
                      fontsize=8.5, title=title, title_fontsize=10)
        figure.set_figheight(figure.get_figheight() + 0.2 * -(-len(found) // columns))


def empty(figure: plt.Figure, axis: plt.Axes) -> None:
    axis.axis("off")
    axis.text(0.5, 0.5, "no finished runs", ha="center", va="center", color="#777777")


def accuracy(df) -> plt.Figure:
    """Test accuracy of every arm: each seed a dot, mean and ± 1 sd beside them; one panel a data
    set and network."""
    groups = cells(df)
    figure, axes = panels(len(groups))
    for axis, (title, cell) in zip(axes, groups, strict=False):
        arms = list(cell.arm.unique())
        for k, arm in enumerate(arms):
            y = cell[cell.arm == arm].accuracy.to_numpy()
            axis.scatter(np.full(len(y), k - 0.12), y, s=26, color=look(arm).colour,
                         alpha=0.55, linewidths=0)
            axis.errorbar(k + 0.15, y.mean(), y.std(ddof=1) if len(y) > 1 else 0, capsize=4,
                          **mark(arm))
        axis.set_xticks(range(len(arms)), [short(a) for a in arms], ha="right",
                        rotation=20 if len(arms) < 8 else 50)
        axis.set_xlim(-0.6, len(arms) - 0.4)
        axis.set(title=title, ylabel="test accuracy, %")
    if not groups:
        empty(figure, axes[0])
    return figure


def short(arm: str) -> str:
    return name(arm).replace(" (control)", "").replace("SE→CBAM ", "")


def gain(df) -> plt.Figure:
    """Gain of every arm over ``none`` with its interval, 95 % for all blocks of a cell together.
    Grey is the margin within which a difference is called equivalent."""
    rows = arms_table(df)
    rows = rows[rows.gain.notna()].iloc[::-1]
    one = rows[CELL].drop_duplicates().shape[0] == 1
    labels = [short(r.arm) + ("" if one else f" · {where(r)}") for r in rows.itertuples()]
    figure, (axis,) = panels(1, 7.2, 1.3 + 0.38 * max(len(rows), 1))
    if not len(rows):
        empty(figure, axis)
        return figure
    margin = margin_of(df.profile.iloc[0], df.dataset.iloc[0])
    axis.axvspan(-margin, margin, color="#eeeeee", zorder=0)
    axis.axvline(0, color="#888888", linewidth=1)
    for k, r in enumerate(rows.itertuples()):
        bars = None if np.isnan(r.low) else [[r.gain - r.low], [r.high - r.gain]]
        axis.errorbar(r.gain, k, xerr=bars, capsize=4, **mark(r.arm))
    axis.set_yticks(range(len(rows)), labels)
    axis.set_ylim(-0.7, len(rows) - 0.3)
    axis.set(xlabel=f"gain over none, points\n(95 % intervals together; grey: ±{margin:g})")
    if one:
        axis.set_title(where(next(rows.itertuples())))
    return figure


def positions(df) -> plt.Figure:
    """Block × placement: the gain over ``none`` in points and its 95 % half width; blue
    is better, red worse, blank was not run. One panel a cell with a choice of places (if none has,
    every cell), its columns in the table's order."""
    table = arms_table(df)
    table = table[(table.attention != "none") & table.gain.notna()]
    own = df.drop_duplicates([*CELL, "arm"]).set_index([*CELL, "arm"]).placement
    table = table.assign(placement=[own[tuple(key)] for key in table[[*CELL, "arm"]].to_numpy()])
    groups = [(where(rows.iloc[0]), rows, rows.pivot_table(
        index="attention", columns="placement", values="gain", sort=False))
        for _, rows in table.groupby(CELL, sort=False)]
    groups = [g for g in groups if g[2].shape[1] > 1] or groups
    widths = [2 + wide.shape[1] for _, _, wide in groups] or [4]
    tall = max((len(wide) for _, _, wide in groups), default=3)
    figure, axes = plt.subplots(1, len(widths), figsize=(1.1 * sum(widths), 1.3 + 0.4 * tall),
                                squeeze=False, width_ratios=widths)
    top = max(1.0, table.gain.abs().max()) if groups else 1.0
    for axis, (title, rows, wide) in zip(axes[0], groups, strict=False):
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
    if not groups:
        empty(figure, axes[0, 0])
    return figure


def curves(history, value: str = "val_accuracy", label: str = "validation accuracy, %",
           scale: float = 100.0) -> plt.Figure:
    """Learning curves: mean over seeds, band from the lowest to the highest seed."""
    groups = [(where(cell.iloc[0]), cell) for _, cell in history.groupby(CELL, sort=False)]
    figure, axes = panels(len(groups))
    for axis, (title, cell) in zip(axes, groups, strict=False):
        for arm, rows in cell.groupby("arm", sort=False):
            wide = rows.pivot(index="epoch", columns="seed", values=value) * scale
            colour = look(arm).colour
            axis.plot(wide.index, wide.mean(axis=1), color=colour, marker=look(arm).marker,
                      linestyle=look(arm).line, markersize=4, label=short(arm))
            axis.fill_between(wide.index, wide.min(axis=1), wide.max(axis=1), color=colour,
                              alpha=0.12, linewidth=0)
        axis.set(title=title, xlabel="epoch", ylabel=label)
    if not groups:
        empty(figure, axes[0])
    legend(figure)
    return figure


def confusion(df) -> plt.Figure:
    """Confusion matrices of one arm, summed over seeds: percent of each true class (rows)."""
    groups = cells(df)
    figure, axes = panels(len(groups), 5.2, 4.6)
    for axis, (title, cell) in zip(axes, groups, strict=False):
        records = [store.read_record(store.record_path(r.profile, r.id)) for r in cell.itertuples()]
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
        axis.set(title=title, xlabel="predicted", ylabel="true")
    if not groups:
        empty(figure, axes[0])
    return figure


def gate_histograms(attention: str, profile: str, n: int = 64) -> plt.Figure:
    """How open each site's gates are in an untrained ResNet-18 of the profile's width, over ``n``
    ShapeTex images: one row a gate, darker where more values lie."""
    width = PROFILES[profile].fields.get("width", 1)
    run = Run("shapetex", attention=attention, width=width, n_train=10, n_val=10, n_test=n)
    found = gates(model_of(run, data_of(run)), inputs(run, n)[1])
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


def pictures(images, titles=None, masks=None, columns: int = 10, size: float = 1.0) -> plt.Figure:
    """A sheet of images uint8 [N, H, W, C]; masks [N, H, W] are drawn as white outlines."""
    rows = -(-len(images) // columns)
    figure, axes = plt.subplots(rows, columns, squeeze=False,
                                figsize=(size * columns, (size + 0.22 * bool(titles)) * rows))
    for axis in axes.flat:
        axis.axis("off")
    for k, (axis, image) in enumerate(zip(axes.flat, images, strict=False)):
        show(axis, image)
        if masks is not None:
            outline(axis, masks[k])
        if titles is not None:
            axis.set_title(titles[k], fontsize=7.5, pad=2)
    return figure


def show(axis, image) -> None:
    axis.imshow(image.squeeze(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axis.axis("off")


def outline(axis, mask) -> None:
    if mask.any():
        axis.contour(mask, levels=[0.5], colors="white", linewidths=1.2)


def overlays(images, maps: dict, masks=None, notes: dict | None = None,
             titles=None, smooth=None) -> plt.Figure:
    """The same images (rows of the first column) under the class activation map of every arm.

    ``maps``: arm -> [N, h, w] raw maps at native resolution, each scaled to its own maximum for the
    picture and drawn bilinearly, or where ``smooth`` [N] is false as cells; ``notes``: arm -> N
    short texts, such as the predicted class."""
    arms = list(maps)
    first = ["image"] + (["object mask"] if masks is not None else [])
    columns = first + arms
    figure, axes = plt.subplots(len(images), len(columns), squeeze=False,
                                figsize=(1.15 * len(columns), 1.32 * len(images)))
    for i, image in enumerate(images):
        show(axes[i, 0], image)
        axes[i, 0].set_title(titles[i] if titles else "", fontsize=7.5, pad=2)
        if masks is not None:
            axes[i, 1].imshow(masks[i], cmap="gray", interpolation="nearest")
            axes[i, 1].axis("off")
        for j, arm in enumerate(arms, len(first)):
            show(axes[i, j], image)
            heat(axes[i, j], maps[arm][i], image.shape[:2], smooth is None or smooth[i])
            if masks is not None:
                outline(axes[i, j], masks[i])
            if notes:
                axes[i, j].set_title(notes[arm][i], fontsize=7.5, pad=2)
    for axis, text in zip(axes[0], columns, strict=True):
        head = short(text) if text in arms else text
        below = axis.get_title()
        bold = "$\\bf{" + head.replace(" ", "\\ ") + "}$"
        axis.set_title(f"{bold}\n{below}", fontsize=7.5, pad=2)
    return figure


def heat(axis, small_map, size, smooth: bool = True) -> None:
    """A native-resolution map [h, w] over an image, scaled to its maximum, cells in place."""
    top = small_map.max()
    scaled = small_map / top if top > 0 else small_map
    axis.imshow(scaled, cmap="inferno", alpha=0.55, vmin=0, vmax=1,
                interpolation="bilinear" if smooth else "nearest",
                extent=(-0.5, size[1] - 0.5, size[0] - 0.5, -0.5))


def class_sheet(at_hand: dict) -> plt.Figure:
    """One test image of each of the first ten classes, one row a data set that is here."""
    rows, titles = [], []
    for data in filter(None, at_hand.values()):
        y = data.labels["test"]
        for label in range(10):
            image = data.images["test"][np.flatnonzero(y == label)[0]]
            rows.append(np.broadcast_to(image, (*image.shape[:2], 3)))
            titles.append(data.classes[label])
    return pictures(rows, titles)

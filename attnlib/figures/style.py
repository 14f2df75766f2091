"""What all figures share: one colour for each block everywhere, the page, the legend, the file.

The hues (Okabe & Ito, and a purple) are safe for colour-blind readers, and markers repeat what
colours say."""
import base64
import io
from dataclasses import dataclass
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.colors import to_hex, to_rgb
from matplotlib.layout_engine import ConstrainedLayoutEngine
from PIL import Image, PngImagePlugin

from ..analysis.stats import CELL
from ..analysis.words import name, place
from ..blocks import ATTENTION
from ..names import parse
from ..settings import figures_dir
from .alttext import describe

# A hue for each family; its blocks, each with its marker, have shades of it.
FAMILIES = {
    "no attention": ("#555555", {"none": "o", "none wider": "d"}),
    "channels, from the mean": ("#0072B2", {"se": "s", "ser": "<", "sec": ">", "eca": "h",
                                            "ge": "p"}),
    "channels, from more": ("#56B4E9", {"ca": "^", "srm": "8", "gc": "H"}),
    "places": ("#E69F00", {"sa": "v", "coord": "<", "triplet": "^", "simam": "p"}),
    "channels and places": ("#D55E00", {"cbam": "D", "cbam_avg": "d", "bam": "s", "scse": "h"}),
    "SE with CBAM": ("#009E73", {"hybrid": "P", "hybrid_p0": "X", "hybrid_sum": "o",
                                 "hybrid_par": "d"}),
    "SE with places": ("#B8A200", {"se_sa": "s", "sec_sa": "D", "new": "*", "nab": "8"}),
    "in place of a convolution": ("#7A52A3", {"aa": "P", "sk": "H"}),
    "newer, by line and group": ("#117733", {"ela": "<", "ema": "h", "mca": "^", "scsa": "P"}),
    "newer, otherwise": ("#44AA99", {"fca": "s", "mlca": "p", "mhsa": "*"}),
    "control: a rescaling alone": ("#CC79A7", {"layerscale": "X"}),
    "control: the wrong image": ("#882255", {"shuffled": "*"}),
    "control: nothing learnt": ("#996633", {"frozen": "s"}),
}
UNLISTED = ("#222222", "osvD^PX*dhp<>8H")       # for a block that has no family yet
SHADES = (0, -0.5, 0.45, -0.75, 0.25, -0.25)    # the part of the way to white, or to black below 0
LINES = ("-", "--", ":", "-.", (0, (5, 1)))
FILLS = {"block": "bottom", "post_add": "top", "head": "left", "head_post": "right"}
GREY, FAINT = "#888888", "#777777"
PAGE = 10.0                     # inches: what a notebook shows without shrinking the text much
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


# --- One look for each block ---


class Look(NamedTuple):
    colour: str
    marker: str
    line: str | tuple


def shade(hue: str, part: float) -> str:
    """A hue that part of the way to white, or to black where it is negative."""
    return to_hex((1 - abs(part)) * np.array(to_rgb(hue)) + max(part, 0)).upper()


def all_looks() -> dict[str, Look]:
    """The look of every block: those of FAMILIES, then what is in none of them."""
    listed = {block for _, marks in FAMILIES.values() for block in marks}
    hue, markers = UNLISTED
    rest = dict(zip([block for block in ATTENTION if block not in listed], markers, strict=False))
    return {block: Look(shade(hue, SHADES[k % len(SHADES)]), marker, LINES[k % len(LINES)])
            for hue, marks in (*FAMILIES.values(), (hue, rest))
            for k, (block, marker) in enumerate(marks.items())}


LOOKS = all_looks()


def look(arm: str) -> Look:
    """The look of an arm: that of its block, whatever the options and the place."""
    return LOOKS.get(arm) or LOOKS.get(parse(arm.split(" ")[0])[0], Look("#333333", "o", "-"))


def mark(arm: str) -> dict:
    """Keywords of an arm's marker: full for a block as it comes, half full in another place, hollow
    with other options; no line."""
    block, _, site = arm.partition(" ")
    fill = "full"
    if site and arm not in LOOKS:
        fill = FILLS.get(site.partition("@")[0], "none")
    elif "(" in block:
        fill = "none"
    return {"marker": look(arm).marker, "color": look(arm).colour, "fillstyle": fill,
            "linestyle": "none"}


def short(arm: str) -> str:
    """An arm's name in a figure, where its colour says that it is a control."""
    return name(arm).replace(" (control)", "").replace("SE→CBAM ", "")


def cell_title(row) -> str:
    """A row's data set, network and recipe in a figure's title."""
    return place(row).replace("`", "")


def by_cell(df):
    """[(title, rows)] of every cell (data set, network, recipe) of a table, in its order."""
    return [(cell_title(rows.iloc[0]), rows) for _, rows in df.groupby(CELL, sort=False)]


def cells(df):
    """`by_cell` of the finished runs."""
    return by_cell(df[df.status == "done"])


# --- The page ---


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


def per_cell(groups, draw, width: float = 4.6, height: float = 3.2, **options) -> plt.Figure:
    """A panel for each (title, rows), drawn by ``draw(axis, rows)``, under one legend."""
    groups = list(groups)
    figure, axes = panels(len(groups), width, height, **options)
    for axis, (title, rows) in zip(axes, groups, strict=False):
        draw(axis, rows)
        axis.set_title(title)
    if not groups:
        empty(figure, axes[0])
    legend(figure)
    return figure


def empty(figure: plt.Figure, axis: plt.Axes, text: str = "no finished runs") -> None:
    """Say on an axis why there is nothing to draw."""
    axis.axis("off")
    axis.text(0.5, 0.5, text, ha="center", va="center", color=FAINT)


def note(text: str) -> plt.Figure:
    """A figure that says why there is nothing to draw."""
    figure, (axis,) = panels(1, 5, 1.2)
    empty(figure, axis, text)
    return figure


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


# --- What several figures draw ---


def reference(axis, value: float, vertical: bool = False, style: str = "-") -> None:
    """A thin grey line at a value: zero, chance, or what a map gets that knows nothing."""
    (axis.axvline if vertical else axis.axhline)(value, color=GREY, linewidth=1, linestyle=style)


def seed_dots(axis, at: float, values, arm: str, label: str | None = None, across: bool = False,
         beside: float = 0.0) -> None:
    """Each seed a small dot and their mean the arm's marker, that far ``beside`` them and then with
    ± 1 sd; ``across``: values along x."""
    values = np.asarray(values, float)
    values = values[np.isfinite(values)]
    places = np.full(len(values), at - beside)
    axis.scatter(*((values, places) if across else (places, values)), s=18, alpha=0.5,
                 color=look(arm).colour, linewidths=0)
    mean = values.mean() if len(values) else np.nan
    sd = values.std(ddof=1) if beside and len(values) > 1 else None
    axis.errorbar(*((mean, at) if across else (at + beside, mean)), yerr=sd, capsize=3,
                  label=label, **mark(arm))


def interval_bar(axis, value: float, low: float, high: float, at: float, arm: str,
                 label: str | None = None) -> None:
    """A gain with its interval along x; none is drawn where ``low`` is NaN: too few seeds."""
    bars = None if np.isnan(low) else [[value - low], [high - value]]
    axis.errorbar(value, at, xerr=bars, capsize=3, label=label, **mark(arm))


def band(axis, x, wide, arm: str) -> None:
    """Mean over seeds, and a band from the lowest to the highest, of a table: seeds × x."""
    axis.plot(x, wide.mean(), **mark(arm) | {"linestyle": look(arm).line}, markersize=4,
              label=short(arm))
    axis.fill_between(x, wide.min(), wide.max(), color=look(arm).colour, alpha=0.12, linewidth=0)


def arms_axis(axis, arms) -> None:
    """The names of arms along x."""
    axis.set_xticks(range(len(arms)), [short(arm) for arm in arms], ha="right",
                    rotation=20 if len(arms) < 8 else 50)
    axis.set_xlim(-0.6, len(arms) - 0.4)


# --- The file ---


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
    whole, out, info = io.BytesIO(), io.BytesIO(), PngImagePlugin.PngInfo()
    figure.savefig(whole, dpi=dpi, bbox_inches="tight", metadata={"Software": None})
    if alt:
        info.add_itxt("Description", alt)
    Image.open(whole).convert("RGB").quantize(colours).save(out, "PNG", optimize=True, pnginfo=info)
    return out.getvalue()

"""What all figures share: one look for each block everywhere, the page, the legend, the file.

The hues (Okabe & Ito, and a purple) are safe for colour-blind readers, and markers repeat what
colours say. A phone shows PAGE inches on 356 pixels: text of 9 points has 7 of them."""
import base64
import io
from dataclasses import dataclass
from textwrap import fill

import matplotlib.pyplot as plt
import seaborn as sns
from matplotlib.layout_engine import ConstrainedLayoutEngine
from PIL import Image, PngImagePlugin

from ..analysis.stats import each_cell
from ..analysis.words import name, place
from ..blocks import BLOCKS, Row
from ..names import parse
from ..settings import figures_dir
from .alttext import describe

FILLS = {"block": "bottom", "post_add": "top", "head": "left", "head_post": "right"}
GREY, MARGIN = "#888888", "#ebebeb"
PAGE = 6.0                                      # inches
NOTHING = "no finished runs"
STYLE = {"figure.dpi": 120, "savefig.dpi": 160, "savefig.pad_inches": 0.03, "font.size": 9,
         "axes.titlesize": 10, "axes.labelsize": 9, "xtick.labelsize": 9, "ytick.labelsize": 9,
         "legend.fontsize": 9, "legend.frameon": False, "lines.markersize": 5,
         "errorbar.capsize": 2.5, "axes.spines.top": False, "axes.spines.right": False,
         "axes.grid": True, "axes.axisbelow": True, "grid.color": "#e6e6e6", "grid.linewidth": 0.8,
         "figure.constrained_layout.use": True, "svg.hashsalt": "attnlib", "svg.fonttype": "none"}


def use_style() -> None:
    """Set our style for every figure that follows; notebooks call it in their import cell."""
    sns.set_theme(style="white")
    plt.rcParams.update(STYLE)


# --- One look for each block ---


WIDER = "none wider"                            # an arm without a block of its own


def look(arm: str) -> Row:
    """The row with an arm's colour and marker: its block's, whatever the options and the place."""
    if arm == WIDER:
        return Row(None, "", colour="#2A2A2A", marker="d")
    return BLOCKS.get(parse(arm.split(" ")[0])[0]) or Row(None, "")


def mark(arm: str) -> dict:
    """Keywords of an arm's marker, without a line: full for a block as it comes, half full in
    another place, hollow with other options."""
    block, _, site = arm.partition(" ")
    fill = FILLS.get(site.partition("@")[0], "none") if site and arm != WIDER else (
        "none" if "(" in block else "full")
    return {"marker": look(arm).marker, "color": look(arm).colour, "fillstyle": fill,
            "linestyle": "none"}


def line_mark(arm: str) -> dict:
    """`mark` with a line through the markers, dashed for a block with other options."""
    return mark(arm) | {"linestyle": "--" if "(" in arm else "-", "linewidth": 1.2, "markersize": 4}


def short(arm: str) -> str:
    """An arm's name in a figure, where its colour says that it is a control."""
    return name(arm).replace(" (control)", "").replace("SE→CBAM ", "")


def by_cell(df) -> list:
    """[(title, rows)] of every cell (data set, network, recipe) of a table, in its order."""
    return [(place(rows.iloc[0]).replace("`", ""), rows) for _, rows in each_cell(df)]


# --- The page ---


def per_cell(groups, draw, width: float = PAGE / 2, height=2.4, nothing: str = NOTHING,
             heading: str | None = None, **options) -> plt.Figure:
    """A panel for each (title, rows), drawn by ``draw(axis, rows)``, in rows that fit a page, under
    one legend. ``height`` in inches may be a function of the rows; where there are no groups the
    figure says ``nothing``."""
    groups = list(groups)
    if not groups:
        return note(nothing)
    across = min(len(groups), round(PAGE / width))
    heights = [height(rows) if callable(height) else height for _, rows in groups]
    tall = [max(heights[k:k + across]) for k in range(0, len(groups), across)]
    figure, axes = plt.subplots(len(tall), across, figsize=(width * across, sum(tall)),
                                height_ratios=tall, squeeze=False,
                                layout=ConstrainedLayoutEngine(h_pad=0.08), **options)
    for axis in axes.flat[len(groups):]:
        axis.set_visible(False)
    for axis, (title, rows) in zip(axes.flat, groups, strict=False):
        draw(axis, rows)
        axis.set_title(broken(title, width / 0.08))
    legend(figure, heading)
    return figure


def broken(text: str, characters: float) -> str:
    """The text in lines of at most so many characters, where its words allow."""
    return "\n".join(fill(line, max(1, int(characters)), break_long_words=False)
                     for line in text.split("\n"))


def stacked(groups, draw, group: str = "arm", **options) -> plt.Figure:
    """`per_cell` with panels of `ticked` rows, one under the other, as high as their ticks ask."""
    def height(rows):
        marks = rows.drop_duplicates([group, "arm"])
        return max(1.05, 0.65 + 0.13 * marks[group].nunique() + 0.08 * len(marks))
    return per_cell(groups, draw, PAGE, height, **options)


def note(text: str) -> plt.Figure:
    """A figure that says why there is nothing to draw."""
    def draw(axis, _):
        axis.axis("off")
        axis.text(0.5, 0.5, text, ha="center", va="center", color=GREY)
    return per_cell([("", None)], draw, PAGE, 0.8)


def legend(figure: plt.Figure, heading: str | None = None) -> None:
    """One legend above all panels, with each label of any of them once; the figure grows by it."""
    found = {}
    for axis in figure.axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    if found:
        fit = figure.get_figwidth() / (0.45 + 0.07 * max(map(len, found)))
        columns = max(1, min(len(found), int(fit)))
        figure.legend(found.values(), found, loc="outside upper center", ncols=columns,
                      title=heading, columnspacing=1, handletextpad=0.4)
        lines = -(-len(found) // columns) + bool(heading)
        figure.set_figheight(figure.get_figheight() + 0.1 + 0.19 * lines)
    elif heading:
        figure.suptitle(heading)


# --- What several figures draw ---


def reference(axis, value: float, vertical: bool = False, style: str = "-") -> None:
    """A thin grey line at a value: zero, chance, or what a map gets that knows nothing."""
    (axis.axvline if vertical else axis.axhline)(value, color=GREY, linewidth=1, linestyle=style)


def ticked(axis, table, group: str) -> list[tuple]:
    """[(height, rows, keywords of their marker)]: a tick for every value of a column of the table,
    downwards, at which the arms of its rows stand one under the other."""
    out, names = [], []
    for k, (value, here) in enumerate(table.groupby(group, sort=False)):
        names.append(short(value) if group == "arm" else value)
        arms = list(here.groupby("arm", sort=False))
        for j, (arm, rows) in enumerate(arms):
            told = {} if group == "arm" else {"label": short(arm)}      # by the legend
            out.append((k + 0.65 * ((j + 0.5) / len(arms) - 0.5), rows, mark(arm) | told))
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.grid(axis="y", visible=False)
    axis.locator_params(axis="x", nbins=4)
    return out


def seed_dots(axis, table, value: str, group: str = "arm") -> None:
    """Each seed a small dot and their mean the arm's marker, along x; where the ticks are arms with
    ± 1 sd, above the dots."""
    for at, rows, marker in ticked(axis, table, group):
        values = rows[value].dropna()
        beside = 0.14 * (group == "arm")
        axis.scatter(values, [at + beside] * len(values), s=14, alpha=0.5, color=marker["color"],
                     linewidths=0)
        axis.errorbar(values.mean(), at - beside, xerr=values.std() if beside else None, **marker)


def interval_bars(axis, table, value: str, group: str = "arm") -> None:
    """Each row's value along x with its interval from ``low`` to ``high``, if they are not NaN."""
    for at, rows, marker in ticked(axis, table, group):
        middle, low, high = rows[[value, "low", "high"]].iloc[0]
        axis.errorbar(middle, at, xerr=[[middle - low], [high - middle]], **marker)


def seed_lines(axis, table, x: str, value: str) -> None:
    """Mean over seeds of every arm, and a band of its standard error to either side."""
    for arm, rows in table.groupby("arm", sort=False):
        wide = rows.pivot(index="seed", columns=x, values=value)
        wide = wide[[at for at in table[x].unique() if at in wide]]
        mean, error = wide.mean(), wide.sem().fillna(0)
        axis.plot(wide.columns, mean, label=short(arm), **line_mark(arm))
        axis.fill_between(wide.columns, mean - error, mean + error, color=look(arm).colour,
                          alpha=0.15, linewidth=0)


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
    """Write ``figures/<profile>/<stem>.png`` and ``.svg``, both with what they show in words, and
    return the picture to be shown."""
    folder, alt = figures_dir(profile), describe(figure)
    folder.mkdir(parents=True, exist_ok=True)
    figure.draw_without_rendering()         # laid out once, not for each file
    figure.set_layout_engine("none")
    (folder / f"{stem}.png").write_bytes(png(figure, plt.rcParams["savefig.dpi"], alt))
    figure.savefig(folder / f"{stem}.svg", metadata={"Date": None, "Description": alt})
    plt.close(figure)                       # shown once, as the cell's value
    return Shown(png(figure, figure.dpi), alt)


def png(figure: plt.Figure, dpi: float, alt: str = "") -> bytes:
    """The figure as a PNG of 256 colours, a third of the size, with its description."""
    drawn, out, info = io.BytesIO(), io.BytesIO(), PngImagePlugin.PngInfo()
    info.add_itxt("Description", alt)
    figure.savefig(drawn, dpi=dpi, bbox_inches="tight", metadata={"Software": None})
    whole = Image.open(drawn).convert("RGB")
    # k-means, on a ninth of the pixels: the median cut alone loses the colours of small objects
    few = whole.resize((whole.width // 3, whole.height // 3), 0).quantize(256, kmeans=1)
    few = whole.quantize(palette=few, dither=0)
    colours, page = few.getpalette(), 3 * few.getpixel((0, 0))
    few.putpalette(colours[:page] + [255] * 3 + colours[page + 3:])     # the page stays white
    few.save(out, "PNG", optimize=True, pnginfo=info)
    return out.getvalue()

"""Accuracy, gains and curves: one function a figure, DataFrame -> Figure. It is also the door to
what notebooks use of `style` and `pictures`."""
import matplotlib.pyplot as plt
import seaborn as sns

from ..analysis.stats import CELL, all_seeds, arms_table
from . import style
from .pictures import class_sheet, overlays, pictures
from .style import by_cell, save, short, use_style

__all__ = ["accuracy", "by_cell", "class_sheet", "curves", "gain", "overlays", "pictures",
           "positions", "save", "use_style"]


def accuracy(df) -> plt.Figure:
    """Test accuracy of every arm, from all seeds that its profile has: each a dot, mean and ± 1 sd
    above them; one panel a data set and network."""
    def draw(axis, rows):
        style.seed_dots(axis, rows, "accuracy")
        axis.set_xlabel("test accuracy, %")
    df = all_seeds(df)
    return style.stacked(style.by_cell(df[df.status == "done"]), draw)


def gain(df) -> plt.Figure:
    """Gain of every arm over ``none`` with its interval, 95 % for all blocks of a cell together, on
    one scale. Grey is the margin within which a difference is called equivalent."""
    table = arms_table(df)
    return style.stacked(style.by_cell(table[table.gain.notna()]), gain_panel, sharex=True)


def gain_panel(axis, rows, group: str = "arm") -> None:
    """Gains of a cell's rows of `arms_table` over the band of the margin."""
    margin = rows.margin.iloc[0]
    axis.axvspan(-margin, margin, color=style.MARGIN, zorder=0)
    style.reference(axis, 0, vertical=True)
    style.interval_bars(axis, rows, "gain", group)
    axis.set_xlabel("gain over the plain network, points")


def positions(df) -> plt.Figure:
    """Block × placement: the gain over ``none`` in points and its 95 % half width; blue is better,
    red worse, blank was not run. One panel a cell with a choice of places (if none has, every
    cell), its columns in the table's order."""
    places = df.drop_duplicates([*CELL, "arm"])[[*CELL, "arm", "placement"]]
    table = arms_table(df).merge(places, on=[*CELL, "arm"])
    table = table[(table.attention != "none") & table.gain.notna()]
    top = max(1.0, table.gain.abs().max())

    def draw(axis, rows):
        half = ((rows.high - rows.low) / 2).map(" ±{:.1f}".format).where(rows.low.notna(), "")
        texts = (rows.gain.map("{:+.1f}".format) + half).str.replace("-", "−")
        gains, texts = (rows.assign(shown=shown).pivot_table(
            index="attention", columns="placement", values="shown", aggfunc="first", sort=False)
            for shown in (rows.gain, texts))
        sns.heatmap(gains, ax=axis, annot=texts.fillna(""), fmt="", cmap="RdBu", vmin=-top,
                    vmax=top, cbar=False, yticklabels=[short(block) for block in gains.index])
        axis.set(xlabel="", ylabel="")
        axis.tick_params(axis="y", rotation=0)
    groups = style.by_cell(table)
    chosen = [(title, rows) for title, rows in groups if rows.placement.nunique() > 1]
    return style.stacked(chosen or groups, draw)


def curves(history, value: str = "val_accuracy", label: str = "validation accuracy, %",
           scale: float = 100.0) -> plt.Figure:
    """Learning curves: mean over seeds, and its standard error to either side."""
    def draw(axis, rows):
        style.seed_lines(axis, rows.assign(shown=scale * rows[value]), "epoch", "shown")
        axis.set(xlabel="epoch", ylabel=label)
    return style.per_cell(style.by_cell(history), draw)

"""The one figure of the README and the report: what each block does, gates half open and open."""
import matplotlib.pyplot as plt
import pandas as pd

from ..analysis.stats import CELL, arms_table
from ..analysis.words import USUAL, name
from ..experiments.reading import collect
from .style import GREY, PAGE, look

BLOCKS = ("se", "cbam", "hybrid")
OPEN = "(gate_init=open)"
NETWORKS = ("resnet18", "speednet")
PROFILES = ("pilot", "real", "full")
STUDIES = ("headline", "hybrid", "schedule")
RECIPES = (*USUAL, "swift+full")


def summary() -> plt.Figure:
    """A panel for each ResNet-18 or fast network and data set in which the blocks have intervals.
    Dots: the mean gain over the plain network, full where gates start half open, hollow where
    open; lines: intervals that hold for all blocks of the panel together; band: the margin."""
    panels, epochs = [], {}
    for profile in PROFILES:
        runs = pd.concat([collect(study, profile) for study in STUDIES]).drop_duplicates("id")
        arms = arms_table(runs) if len(runs) else runs
        epochs |= {(profile, r.backbone): r.epochs for r in runs.itertuples()
                   if r.recipe in RECIPES}
        for _, cell in arms.groupby(CELL, sort=False) if len(arms) else ():
            mine = cell[cell.low.notna()].set_index("arm")
            if cell.recipe.iloc[0] in RECIPES and cell.backbone.iloc[0] in NETWORKS and \
                    set(BLOCKS) <= set(mine.index):
                panels.append((profile, mine))
    panels.sort(key=lambda panel: (panel[1].dataset.iloc[0], PROFILES.index(panel[0])))
    columns = min(2, max(1, len(panels)))               # readable on a phone, too
    rows = max(1, -(-len(panels) // columns))
    figure, axes = plt.subplots(rows, columns, sharey=True, squeeze=False,
                                figsize=(0.8 * PAGE, 2.2 * rows + 0.4))
    for axis in axes.flat[len(panels):]:
        axis.set_visible(False)
    for axis, (profile, mine) in zip(axes.flat, panels, strict=False):
        first = mine.iloc[0]
        axis.axvspan(-first.margin, first.margin, color="#ebebeb", zorder=0)
        axis.axvline(0, color=GREY, linewidth=0.8)
        for k, block in enumerate(BLOCKS):
            for arm, shift in ((block, -0.14), (block + OPEN, 0.14)):
                if arm in mine.index:
                    row, colour = mine.loc[arm], look(block).colour
                    axis.plot([row.low, row.high], [k + shift] * 2, color=colour, linewidth=1.8)
                    axis.plot(row.gain, k + shift, marker="o", color=colour, markersize=7,
                              markerfacecolor=colour if arm == block else "white")
        seeds = f"{mine.n.min()} to {mine.n.max()}" if mine.n.nunique() > 1 else f"{mine.n.max()}"
        axis.set_title(f"{name(first.dataset)}, {name(first.backbone)}\n{profile}: "
                       f"{epochs[profile, first.backbone]} epochs, {seeds} seeds", fontsize=9)
        axis.locator_params(axis="x", nbins=5)
        axis.set_xlabel("points over the plain network")
    axes[0][0].set_yticks(range(len(BLOCKS)), [name(block) for block in BLOCKS])
    axes[0][0].set_ylim(len(BLOCKS) - 0.5, -0.5)
    half, opened = (plt.Line2D([], [], marker="o", linestyle="", color="#444444", markersize=7,
                               markerfacecolor=face) for face in ("#444444", "white"))
    figure.legend([half, opened], ["gates start half open", "gates start open"], ncols=2,
                  loc="outside lower center")
    return figure

"""The one figure of the README and the report: what each block does, gates half open and open."""
import matplotlib.pyplot as plt
import pandas as pd

from ..analysis.stats import CELL, arms_table
from ..analysis.words import USUAL, name
from ..experiments.reading import collect
from ..experiments.studies import COMMITTED
from .plots import gain_panel
from .style import per_cell, short

BLOCKS = ("se", "cbam", "hybrid")
ARMS = {arm: short(block) for block in BLOCKS for arm in (block, f"{block}(gate_init=open)")}
NETWORKS = ("resnet18", "speednet")
STUDIES = ("headline", "hybrid", "schedule")
RECIPES = (*USUAL, "swift+full")


def summary() -> plt.Figure:
    """A panel for each ResNet-18 or fast network and data set in which the blocks have intervals:
    the gain over the plain network, full markers where gates start half open, hollow where open;
    intervals hold for all blocks of the panel together; grey is the margin."""
    found = []
    for profile in COMMITTED:
        runs = pd.concat([collect(study, profile) for study in STUDIES]).drop_duplicates("id")
        runs = runs[runs.recipe.isin(RECIPES) & runs.backbone.isin(NETWORKS)]
        for _, cell in arms_table(runs).groupby(CELL, sort=False):
            rows = cell[cell.low.notna() & cell.arm.isin(ARMS)].sort_values(
                "arm", key=lambda arms: arms.map(list(ARMS).index))
            if set(BLOCKS) <= set(rows.arm):
                found.append((profile, rows, runs))
    found.sort(key=lambda panel: (panel[1].dataset.iloc[0], COMMITTED.index(panel[0])))
    groups = []
    for profile, rows, runs in found:
        first, least, most = rows.iloc[0], rows.n.min(), rows.n.max()
        epochs = runs[runs.backbone == first.backbone].epochs.iloc[0]
        seeds = f"{least} to {most}" if least < most else most
        title = f"{name(first.backbone)} on {name(first.dataset)}\n{profile}: {epochs} epochs"
        groups.append((f"{title}, {seeds} seeds", rows.assign(block=rows.arm.map(ARMS))))
    return per_cell(groups, lambda axis, rows: gain_panel(axis, rows, "block"), height=1.9)

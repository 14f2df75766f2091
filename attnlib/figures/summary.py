"""The one figure of the README and the report: what each block does, gates half open and open."""
import matplotlib.pyplot as plt
import pandas as pd

from ..analysis.stats import arms_table, each_cell
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
    groups = []
    for profile in COMMITTED:
        runs = pd.concat([collect(study, profile) for study in STUDIES]).drop_duplicates("id")
        runs = runs[runs.recipe.isin(RECIPES) & runs.backbone.isin(NETWORKS)]
        for cell, rows in each_cell(arms_table(runs)):
            rows = rows[rows.low.notna() & rows.arm.isin(ARMS)].sort_values(
                "arm", key=lambda arms: arms.map(list(ARMS).index))
            if {"se", "cbam"} <= set(rows.arm):
                epochs = runs[runs.backbone == cell["backbone"]].epochs.iloc[0]
                seeds = " to ".join(map(str, sorted({rows.n.min(), rows.n.max()})))
                title = (f"{name(cell['backbone'])} on {name(cell['dataset'])}\n"
                         f"{profile}: {epochs} epochs, {seeds} seeds")
                groups.append((title, rows.assign(block=rows.arm.map(ARMS))))
    groups.sort(key=lambda group: group[1].dataset.iloc[0])     # then in the order of the profiles
    return per_cell(groups, lambda axis, rows: gain_panel(axis, rows, "block"), height=1.9)

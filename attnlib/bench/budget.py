"""What accuracy costs: plain networks and recipes, by the core minutes of their records."""
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.ticker import LogLocator, NullFormatter

from ..analysis.costs import front
from ..analysis.stats import CELL
from ..analysis.words import name
from ..experiments.reading import collect
from ..figures import style
from ..training import store
from .speed import KINDS, kind_of


def budget_table() -> pd.DataFrame:
    """One row a profile, data set, network and recipe without attention: its ``seeds``, two at
    least, trained from scratch on one CPU core each, their mean test ``accuracy`` in %, the
    ``minutes`` of the quickest run, which other work on the machine slowed least, and whether no
    other on that data set is as accurate for less (``front``)."""
    df = pd.concat([collect(profile=profile) for profile in ("pilot", "real")])
    df = df[(df.status == "done") & (df.arm == "none") & (df.seed < 100)]      # from it on: tuning
    records = [store.read_record(r.profile, r.id) for r in df.itertuples()]
    df = df[np.array([kind_of(r) != KINDS[2] and r["env"]["threads"] == 1
                      and "start" not in r["run"] for r in records], bool)]
    table = df.groupby(["profile", *CELL, "width", "epochs"], as_index=False).agg(
        seeds=("seed", "count"), accuracy=("accuracy", "mean"), minutes=("seconds", "min"))
    table = table.assign(minutes=table.minutes / 60, front=False)[table.seeds > 1]
    for _, cell in table.groupby("dataset"):
        table.loc[cell.index, "front"] = front(cell.accuracy, cell.minutes)
    return table


def budget_markdown(table) -> str:
    """The table as Markdown, the front marked."""
    return pd.DataFrame([{
        "data set": name(r.dataset), "network": f"{name(r.backbone)}, width {r.width:g}",
        "profile, recipe": f"`{r.profile}`, `{r.recipe}`, {r.epochs} epochs", "seeds": r.seeds,
        "test accuracy, %": f"{r.accuracy:.2f}", "core minutes": f"{r.minutes:.1f}",
        "on the front": "✓" if r.front else ""}
        for r in table.itertuples()]).to_markdown(index=False, disable_numparse=True)


def budget_figure(table) -> plt.Figure:
    """Test accuracy on CIFAR-10 against core minutes, logarithmic; the line is the front."""
    def draw(axis, rows):
        best = rows[rows.front].sort_values("minutes")
        axis.plot(best.minutes, best.accuracy, color="#cccccc", linewidth=4, zorder=0)
        axis.scatter(rows.minutes, rows.accuracy, color="#333333", s=18)
        for r in rows.itertuples():
            axis.annotate(f"{name(r.backbone)}, {r.recipe}, {r.epochs} epochs",
                          (r.minutes, r.accuracy), xytext=(6, -3), textcoords="offset points",
                          fontsize=8)
        axis.set(xscale="log", xlabel="core minutes", ylabel="test accuracy, %",
                 xlim=(rows.minutes.min() / 1.2, rows.minutes.max() * 4))
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter("{x:g}")
        axis.xaxis.set_minor_formatter(NullFormatter())
    rows = table[table.dataset == "cifar10"]
    return style.per_cell([(name("cifar10"), rows)] if len(rows) else [], draw, style.PAGE, 3.2)

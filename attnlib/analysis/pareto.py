"""Accuracy against cost: which blocks are on the front, where no other is at least as accurate for
at most the cost."""
import math

from ..bench.speed import latencies, steps
from .stats import CELL, all_seeds, t_half_width
from .words import items, name, place

# column -> (what it is, unit, scale)
COSTS = {"params": ("parameters", "thousands", 1e-3), "macs": ("multiply-accumulates", "M", 1e-6),
         "step": ("training step", "× none's", 1.0),
         "latency": ("inference time", "ms an image", 1.0)}


def table(df):
    """One row a cell and arm: mean accuracy with its t interval (NaN below three seeds), the mean
    of each cost, and for each cost whether the arm is on the front. Times only where a benchmark
    has measured the network at this width on images of this shape."""
    import pandas as pd
    measured, out, runs = {"step": steps(), "latency": latencies()}, [], all_seeds(df)
    for _, cell in runs[runs.status == "done"].groupby(CELL, sort=False):
        for arm, runs in cell.groupby("arm", sort=False):
            n, first = len(runs), runs.iloc[0]
            half = t_half_width(runs.accuracy.std(ddof=1), n) if n > 2 else math.nan
            mean = runs.accuracy.mean()
            key = (first.backbone, first.width, arm) if first.dataset != "fashionmnist" else None
            out.append({**{key: first[key] for key in CELL}, "arm": arm, "n": n, "accuracy": mean,
                        "low": mean - half, "high": mean + half,
                        "params": runs.params.mean(), "macs": runs.macs.mean(),
                        **{cost: of.get(key, math.nan) for cost, of in measured.items()}})
    table = pd.DataFrame(out, columns=[*CELL, "arm", "n", "accuracy", "low", "high", *COSTS])
    for cost in COSTS:
        table[f"{cost} front"] = False
    for _, cell in table.groupby(CELL, sort=False):
        for cost in COSTS:
            table.loc[cell.index, f"{cost} front"] = front(cell.accuracy, cell[cost])
    return table


def front(accuracy, cost) -> list[bool]:
    """Which of some points are not dominated: no other is as accurate or more for as much or less,
    and better in one of the two. A point without a cost is not on the front."""
    points = list(zip(accuracy, cost, strict=True))
    return [not math.isnan(c) and not any(
        (b >= a and d <= c) and (b > a or d < c) for b, d in points) for a, c in points]


def reading(df) -> str:
    """The blocks on the front of every cost, in words."""
    sentences = []
    for _, cell in table(df).groupby(CELL, sort=False):
        if len(cell) < 2:
            continue
        parts = [f"{COSTS[cost][0]}: " + ", ".join(name(a) for a in
                                                   cell.arm[cell[f"{cost} front"]])
                 for cost in COSTS if cell[f"{cost} front"].any()]
        sentences.append(f"{place(cell.iloc[0])}, not dominated by mean accuracy against "
                         + "; ".join(parts) + ".")
    return items(sentences, "Means alone decide the front: an arm may stand on it by the luck of "
                 "its seeds.") if sentences else "No finished runs to compare yet."

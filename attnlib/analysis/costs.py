"""What blocks and networks cost, and which blocks are on the front of accuracy against cost: where
no other is at least as accurate for at most the cost."""
import math

import numpy as np
import pandas as pd

from ..networks import BACKBONES
from ..networks.cost import cost_of
from .stats import CELL, all_seeds, each_cell, mean_effect

# column -> (what it is, unit, scale)
COSTS = {"params": ("parameters", "thousands", 1e-3),
         "step": ("training step", "× plain network's", 1.0)}


def front_table(df, steps: dict | None = None):
    """One row a cell and arm, of all seeds of the profile: mean accuracy with its t interval (NaN
    below three seeds), each cost, and whether the arm is on its front. ``steps``: (network, width,
    arm) -> the time of a training step, as benchmarks have measured it on 3×32×32."""
    rows, runs = [], all_seeds(df)
    for key, cell in each_cell(runs[runs.status == "done"]):
        known = steps or {} if key["dataset"].startswith(("cifar", "shapetex")) else {}
        for arm, own in cell.groupby("arm", sort=False):
            step = known.get((key["backbone"], own.width.iloc[0], arm), math.nan)
            rows.append([*key.values(), arm, len(own), *mean_effect(own.accuracy)[:3],
                         own.params.mean(), step])
    table = pd.DataFrame(rows, columns=[*CELL, "arm", "n", "accuracy", "low", "high", *COSTS])
    for kind in COSTS:
        fronts = [front(cell.accuracy, cell[kind]) for _, cell in each_cell(table)]
        table[f"{kind} front"] = np.concatenate([[], *fronts]).astype(bool)
    return table


def front(accuracy, costs) -> list[bool]:
    """Which points no other dominates: as accurate or more for as much or less, and better in one
    of the two. A point without a cost is not on the front."""
    points = list(zip(accuracy, costs, strict=True))
    return [not math.isnan(c) and not any(
        (b >= a and d <= c) and (b > a or d < c) for b, d in points) for a, c in points]


def cost_table(backbone: str, arms: list[str]):
    """Parameters, the blocks' own, millions of MACs and sites of full-width networks."""
    found = {arm: cost_of(backbone, arm) for arm in arms}
    return pd.DataFrame([{"backbone": backbone, "arm": arm, "parameters": c["params"],
                          "of the block": c["attention_params"], "M MACs": c["macs"] / 1e6,
                          "sites": c["sites"]} for arm, c in found.items()])


def networks_table():
    """Every network without a block, at full width, and in how many places SE stands."""
    return pd.DataFrame([{
        "network": f"`{key}`", "parameters": cost_of(key)["params"],
        "M MACs": cost_of(key)["macs"] / 1e6, "stages": row.stages,
        "sites of `block`": cost_of(key, "se", "block")["sites"],
        "placements": ", ".join(f"`{place}`" for place in row.placements)}
        for key, row in BACKBONES.items()])

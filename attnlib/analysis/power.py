"""How sure, how noisy, how many seeds: what a table of runs says about its own uncertainty."""
import math
from itertools import combinations

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from .calibration import predictions
from .inference import power_of_equivalence, random_effects, seeds_needed
from .stats import CELL, all_seeds, arms_table, each_cell

GAINS = (0.2, 0.5, 1.0, 2.0)        # points that `power_table` gives the number of seeds for


def mean_gains(df):
    """One row an arm that was tested in two cells or more, blocks first: `random_effects` of its
    gains over all of them, points."""
    table = arms_table(df)
    plain = table[table.arm == "none"].set_index(CELL).n.rename("base")
    tested = table[table.low.notna()].join(plain, on=CELL).sort_values("family", kind="stable")
    tested["error"] = tested.sd_diff / 2 ** 0.5 * (1 / tested.n + 1 / tested.base) ** 0.5
    rows = [{"arm": arm} | random_effects(own.gain, own.error)
            for arm, own in tested.groupby("arm", sort=False)
            if len(own) > 1 and (own.error > 0).all()]
    return pd.DataFrame(rows, columns=["arm", "mean", "low", "high", "tau", "i2", "cells"])


def power_table(df):
    """One row a cell with a block of three seeds: the observed scatter of a difference of two runs,
    and how many seeds an arm it takes to see a gain (80 % power, all blocks together at 5 %) or to
    call none of it equivalent."""
    arms, rows = arms_table(df), []
    for key, cell in each_cell(arms[arms.low.notna() & (arms.family == "blocks")]):
        sd, margin, blocks = cell.iloc[0][["sd_diff", "margin", "arms"]]
        rows.append(key | {
            "blocks": int(blocks), "most seeds": int(cell.n.max()), "sd of a difference": sd}
            | {f"seeds to see {gain:g}": seeds_needed(sd, gain, blocks) for gain in GAINS}
            | {"margin": margin, "seeds to call equivalent": seeds_needed(
                sd, margin, blocks, power_of_equivalence)})
    return pd.DataFrame(rows)


def noise_table(df):
    """One row a cell: what seed noise is made of. The lowest and highest accuracy and the sd of
    the plain network over all seeds of the profile, the sd of a difference of two such runs; of the
    pairs of seeds the mean share d of the n test images on which one is right and the other wrong,
    the sd √(d/n) of a difference of accuracies if it were chance which, and how many McNemar's
    exact test calls different at 5 %: it says nothing about a block, whose next seed is another
    network (Dietterich 1998)."""
    rows, plain = [], all_seeds(df[df.arm == "none"])
    for key, runs in each_cell(plain[plain.status == "done"]):
        if len(runs) < 2:
            continue
        score = runs.accuracy
        row = key | {"seeds": len(runs), "lowest": score.min(), "highest": score.max(),
                     "sd over seeds": score.std(), "sd of a difference": 2 ** 0.5 * score.std()}
        stored = [found for found in map(predictions, runs.itertuples()) if found]
        pairs = list(combinations([f["prediction"] == f["label"] for f in stored], 2))
        if pairs:
            images, differ = len(pairs[0][0]), np.mean([(a != b).mean() for a, b in pairs])
            row |= {"test images": images, "pairs": len(pairs), "differ on, %": 100 * differ,
                    "by chance": 100 * math.sqrt(differ / images),
                    "McNemar calls different": sum(
                        binomtest((a & ~b).sum(), (a != b).sum()).pvalue < 0.05
                        for a, b in pairs if (a != b).any())}
        rows.append(row)
    return pd.DataFrame(rows)

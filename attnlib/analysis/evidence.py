"""What the records say to one claim."""
import math
from functools import cache
from typing import NamedTuple

import numpy as np

from ..experiments.planning import study
from ..experiments.reading import arm_of, histories, table
from . import convergence, stats
from .inference import welch
from .stats import CELL, MIN_SEEDS, Difference

NOTHING = Difference(math.nan, math.nan, math.nan, 0)


class Finding(NamedTuple):
    """``d`` in the metric's unit; ``sd`` of the differences (NaN where unknown); by how many points
    the runs' validation accuracy still rose over the last two epochs."""
    d: Difference = NOTHING
    sd: float = math.nan
    rise: float = math.nan


def cell_of(df, dataset: str, backbone: str, recipe: str):
    return df[(df[CELL] == [dataset, backbone, recipe]).all(axis=1) & (df.status == "done")]


def scores(claim, df, recipe: str) -> Finding:
    """The difference of a column as in every other table, by Dunnett's intervals of all arms that
    the profile has in the cell; of two blocks it is theirs alone; of a contrast Welch's."""
    cells = [with_fit(cell_of(stats.cell_runs(df), dataset, claim.backbone, recipe), claim.metric)
             for dataset in (claim.dataset, claim.than) if dataset]
    two = [cell[cell.arm.isin((claim.arm, claim.base))] for cell in cells]
    if claim.kind == "level":
        return level(two[0].loc[two[0].arm == claim.arm, claim.metric])
    if claim.than:
        return contrast([cell.loc[cell.arm == arm, claim.metric] for cell in two
                         for arm in (claim.arm, claim.base)])
    runs = cells[0] if claim.base == "none" else two[0]
    d = stats.compared(runs, claim.metric, claim.base).get(claim.arm, NOTHING)
    return Finding(d, d.sd)


def contrast(groups) -> Finding:
    """The gain of the first group over the second, less that of the third over the fourth."""
    n = min(map(len, groups))
    d = welch(groups, [1, -1, -1, 1]) if n >= MIN_SEEDS else NOTHING
    return Finding(Difference(d.mean, d.low, d.high, n))


def level(values) -> Finding:
    """The mean of the runs' own scores, with the interval in which another run would end."""
    d = stats.average(values)
    wide = math.sqrt(d.n + 1)
    return Finding(d._replace(low=d.mean - wide * (d.mean - d.low),
                              high=d.mean + wide * (d.high - d.mean)))


def with_fit(cell, metric: str):
    """The runs with how they fitted in the last epoch, training accuracy in percent or loss."""
    if metric not in FIT:
        return cell
    last = histories(cell).groupby("id")[metric].last()
    return cell.assign(**{metric: FIT[metric] * cell.id.map(last)})


def epochs(claim, df, recipe: str) -> Finding:
    """Epochs to the hardest level of validation accuracy, as a percentage of the base's; ``df`` has
    all arms of the study, as the table of `convergence` has."""
    history = histories(cell_of(stats.all_seeds(df), claim.dataset, claim.backbone, recipe))
    if not len(history):
        return Finding()
    times = convergence.reached(history, convergence.levels(history)[-1])
    r = convergence.ratio(times, claim.arm, claim.base)
    return Finding(Difference(*(100 * (x - 1) for x in r[:3]), r.n))


def focus(claim, df, recipe: str) -> Finding:
    """How much sharper the arm's maps are than the base's, or how much more of them lies on the
    object, in % of the base's: `sharper.comparisons`, at the finest stored stage."""
    from ..explain.sharper import comparisons
    cell = cell_of(df, claim.dataset, claim.backbone, recipe)
    for found in comparisons(cell[cell.arm.isin((claim.arm, claim.base))], base=claim.base):
        if claim.metric in found.gain:
            e, n = found.gain[claim.metric], found.seeds
            sd = (e.high - e.low) / 2 / stats.t_half_width(1.0, n) if n >= MIN_SEEDS else math.nan
            return Finding(Difference(*e, n), sd)
    return Finding()


def at_its_size(claim) -> tuple[Finding, str]:
    """Time an image as a percentage of the base's, and what it was measured on: at the size at
    which the claim is made, from the stored benchmark, a GPU's where there is one. The median over
    the repeats, each a call of every arm in turn, with its order-statistic interval."""
    from ..bench.speed import largest_first, rows
    for body in largest_first():
        for row in rows(body, "claimed"):
            times = row["repeats"]
            if {claim.arm, claim.base} <= set(times):
                over = 100 * (np.divide(times[claim.arm], times[claim.base]) - 1)
                d = Difference(float(np.median(over)), *convergence.order_interval(over),
                               len(over))
                c, h, w = row["shape"]
                return Finding(d), (f"{h}×{w}×{c} pixels, batch {row['batch']}, width "
                                    f"{row['width']:g}, on {body['env']['device']}, in turns at a "
                                    f"load of {row['load'][0]:g}")
    return Finding(), ""


FIT = {"train_accuracy": 100, "loss": 1}
MEASURED = {"accuracy": scores, "nll": scores, "train_accuracy": scores, "loss": scores,
            "epochs": epochs, "entropy": focus, "lift": focus}


@cache
def runs_of(name: str, profile: str) -> tuple:
    """The planned runs of a study; a dozen claims ask for those of one."""
    return tuple(study(name, profile))


def matching(claim, profile: str, recipe: str) -> list:
    """The runs of a profile that say something to a claim: a study may have hundreds of others."""
    return [run for run in runs_of(claim.study, profile)
            if run.backbone == claim.backbone and run.dataset in (claim.dataset, claim.than)
            and run.recipe == recipe
            and (claim.metric == "epochs" or arm_of(run) in (claim.arm, claim.base))]


def finding(claim, profile: str, recipe: str) -> Finding:
    """What the records of a profile, trained by that recipe, say to a claim."""
    df = table(matching(claim, profile, recipe), profile)
    if not len(df) or not (df.status == "done").any():
        return Finding()
    return MEASURED[claim.metric](claim, df, recipe)._replace(rise=df.rise.mean())


def counted(claim) -> tuple[float, bool]:
    """The exact number a claim is about, and whether it agrees: parameters and FLOPs of the four
    networks at 28 pixels, or the parameters that a block adds."""
    if claim.metric == "added":
        found = cost_of(claim.backbone, claim.arm, "block", 3, 32)["attention_params"]
        return found, found == claim.claimed
    arms = (("none", None), ("cbam", "head"), ("se", "block"), ("cbam", "block"))
    costs = [cost_of(claim.backbone, arm, where, 1, 28) for arm, where in arms]
    if claim.metric == "parameters":
        found = [c["params"] / 1e6 for c in costs]
        return found[-1], np.allclose(found, (11.17, 11.21, 11.26, 11.26), rtol=0, atol=0.005)
    found = [2 * c["macs"] / 1e9 for c in costs]        # theirs also counts norms and the like
    return found[-1], np.allclose(found, claim.claimed, rtol=0.01)


@cache
def cost_of(backbone: str, attention: str, placement: str | None, channels: int, size: int) -> dict:
    """`models.cost` of a full-width network; nothing is computed or allocated."""
    import torch

    from ..networks.build import build_model
    from ..networks.cost import cost
    with torch.device("meta"):
        network = build_model(backbone, attention, in_channels=channels, image_size=size,
                              placement=placement)
        return cost(network, (channels, size, size))

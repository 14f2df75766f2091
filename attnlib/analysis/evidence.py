"""What the records say to one claim: an `Effect` in the metric's unit."""
import math
from functools import cache

import numpy as np

from ..experiments.planning import study
from ..experiments.reading import arm_of, histories
from . import curves, stats
from .costs import cost_of
from .stats import CELL, NOTHING, Effect

FIT = {"train_accuracy": 100, "loss": 1}        # what is in the history alone -> its scale


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


def cell_of(df, dataset: str, backbone: str, recipe: str):
    return df[(df[CELL] == [dataset, backbone, recipe]).all(axis=1)]


def scores_effect(claim, df, recipe: str) -> Effect:
    """The difference of a column as in every other table, by Dunnett's intervals of all arms that
    the profile has in the cell; of two blocks it is theirs alone; of a contrast Welch's."""
    cells = [with_fit(cell_of(df, dataset, claim.backbone, recipe), claim.metric)
             for dataset in (claim.dataset, claim.than) if dataset]
    two = [cell[cell.arm.isin((claim.arm, claim.base))] for cell in cells]
    if claim.kind == "level":
        return level(two[0].loc[two[0].arm == claim.arm, claim.metric])
    if claim.than:
        return stats.contrast([cell.loc[cell.arm == arm, claim.metric] for cell in two
                               for arm in (claim.arm, claim.base)], [1, -1, -1, 1])
    runs = cells[0] if claim.base == "none" else two[0]
    return stats.compared(runs, claim.metric, claim.base).get(claim.arm, NOTHING)


def level(values) -> Effect:
    """The mean of the runs' own scores_effect, with the interval in which another run would end."""
    d = stats.mean_effect(values)
    wide = math.sqrt(d.n + 1)
    return d._replace(low=d.mean - wide * (d.mean - d.low), high=d.mean + wide * (d.high - d.mean))


def with_fit(cell, metric: str):
    """The runs with how they fitted in the last epoch, training accuracy in percent or loss."""
    if metric not in FIT or not len(cell):
        return cell
    last = histories(cell).groupby("id")[metric].last()
    return cell.assign(**{metric: FIT[metric] * cell.id.map(last)})


def epochs_effect(claim, df, recipe: str) -> Effect:
    """Epochs to the hardest level of validation accuracy, as a percentage of the base's, of the
    arms that the study has."""
    cell = cell_of(df, claim.dataset, claim.backbone, recipe)
    arms = {arm_of(run) for run in runs_of(claim.study, df.profile.iloc[0])}
    history = histories(cell[cell.arm.isin(arms)])
    if not len(history):
        return NOTHING
    times = curves.reached(history, curves.levels_of(history)[-1])
    r = curves.epochs_ratio(times, claim.arm, claim.base)
    return Effect(*(100 * (x - 1) for x in r[:3]), r.n)


MEASURED = dict.fromkeys(("accuracy", "nll", *FIT), scores_effect) | {"epochs": epochs_effect}


def counted(claim) -> tuple[float, bool]:
    """The exact number a claim is about, and whether it agrees: parameters and FLOPs of the four
    networks at 28 pixels, or the parameters that a block adds."""
    if claim.metric == "added":
        found = cost_of(claim.backbone, claim.arm, "block")["attention_params"]
        return found, found == claim.claimed
    arms = (("none", None), ("cbam", "head"), ("se", "block"), ("cbam", "block"))
    costs = [cost_of(claim.backbone, arm, where, 1, 28) for arm, where in arms]
    if claim.metric == "parameters":
        found = [c["params"] / 1e6 for c in costs]
        return found[-1], np.allclose(found, (11.17, 11.21, 11.26, 11.26), rtol=0, atol=0.005)
    found = [2 * c["macs"] / 1e9 for c in costs]        # theirs also counts norms and the like
    return found[-1], np.allclose(found, claim.claimed, rtol=0.01)

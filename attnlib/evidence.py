"""What the records say to one claim: its differences, seed by seed."""
import math
from functools import cache
from typing import NamedTuple

import numpy as np

from . import convergence, stats
from .grid import arm_of, histories, study, table
from .stats import CELL, MIN_SEEDS, Difference

NOTHING = Difference(math.nan, math.nan, math.nan, 0, 0)


class Finding(NamedTuple):
    """``d`` in the metric's unit; ``sd`` of the differences (NaN where unknown)."""
    d: Difference = NOTHING
    sd: float = math.nan


def summed(gaps, percent: bool = False) -> Finding:
    """The mean of differences and its t interval; ``percent``: of logarithms of ratios, given back
    as percentages."""
    gaps = np.asarray(gaps, float)
    gaps, back = gaps[np.isfinite(gaps)], (lambda x: 100 * math.expm1(x)) if percent else float
    n = len(gaps)
    if not n:
        return Finding()
    mean, sd = gaps.mean(), gaps.std(ddof=1) if n > 1 else math.nan
    half = stats.t_half_width(sd, n) if n >= MIN_SEEDS else math.nan
    d = Difference(back(mean), back(mean - half), back(mean + half), n, int((gaps > 0).sum()))
    return Finding(d, 100 * sd if percent else sd)


def gaps(cell, arm: str, value: str, base: str = "none"):
    """Paired differences arm − base of a column, by seed; ``arm`` is not ``base``."""
    wide = cell.pivot(index="seed", columns="arm", values=value).reindex(columns=[arm, base])
    return (wide[arm] - wide[base]).dropna()


def cell_of(df, dataset: str, backbone: str, recipe: str):
    return df[(df[CELL] == [dataset, backbone, recipe]).all(axis=1) & (df.status == "done")]


def scores(claim, df, recipe: str) -> Finding:
    """Differences of a column of the `collect` table; of a contrast, those here less those of the
    same seeds on the second data set."""
    cells = [with_fit(cell_of(df, dataset, claim.backbone, recipe), claim.metric)
             for dataset in (claim.dataset, claim.than) if dataset]
    if claim.kind == "level":
        return level(cells[0].loc[cells[0].arm == claim.arm, claim.metric])
    own, *other = (gaps(cell, claim.arm, claim.metric, claim.base) for cell in cells)
    return summed((own - other[0]).dropna() if other else own)


def level(values) -> Finding:
    """The mean of the runs' own scores, with the interval in which another run would end."""
    mean, low, high, n, wins = summed(values).d[:5]
    wide = math.sqrt(n + 1)
    return Finding(Difference(mean, mean - wide * (mean - low), mean + wide * (high - mean), n,
                              wins))


def with_fit(cell, metric: str):
    """The runs with how they fitted in the last epoch, training accuracy in percent or loss."""
    if metric not in FIT:
        return cell
    last = histories(cell).groupby("id")[metric].last()
    return cell.assign(**{metric: FIT[metric] * cell.id.map(last)})


def epochs(claim, df, recipe: str) -> Finding:
    """Epochs to the hardest common level of validation accuracy, as a percentage of the base's."""
    history = histories(cell_of(df, claim.dataset, claim.backbone, recipe))
    found = convergence.levels(history, base=claim.base) if len(history) else []
    if not found:
        return Finding()
    times = convergence.reached(history, found[-1])
    r = convergence.ratio(times, claim.arm, claim.base)
    logs = np.log(times[claim.arm] / times[claim.base]) if r.n else np.array([])
    sd = 100 * float(np.std(logs, ddof=1)) if r.n > 1 and np.isfinite(logs).all() else math.nan
    return Finding(Difference(*(100 * (x - 1) for x in r[:3]), r.n, r.wins), sd)


def focus(claim, df, recipe: str) -> Finding:
    """How much sharper the arm's maps are than the base's, or how much more of them lies on the
    object, in % of the base's: `sharper.comparisons`, at the finest stored stage. ``wins`` are not
    counted."""
    from .sharper import comparisons
    cell = cell_of(df, claim.dataset, claim.backbone, recipe)
    for found in comparisons(cell[cell.arm.isin((claim.arm, claim.base))], base=claim.base):
        if claim.metric in found.gain:
            e, n = found.gain[claim.metric], found.seeds
            sd = (e.high - e.low) / 2 / stats.t_half_width(1.0, n) if n >= MIN_SEEDS else math.nan
            return Finding(Difference(*e, n, 0), sd)
    return Finding()


def at_its_size(claim) -> tuple[Finding, str]:
    """Time an image as a percentage of the base's, and what it was measured on: at the size at
    which the claim is made, from the stored benchmark, a GPU's where there is one. The median over
    the repeats, each a call of every arm in turn, with its order-statistic interval."""
    from .speed import largest_first, rows
    for body in largest_first():
        for row in rows(body, "claimed"):
            times = row["repeats"]
            if {claim.arm, claim.base} <= set(times):
                over = 100 * (np.divide(times[claim.arm], times[claim.base]) - 1)
                d = Difference(float(np.median(over)), *convergence.order_interval(over),
                               len(over), int((over > 0).sum()))
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
            and run.recipe == recipe and arm_of(run) in (claim.arm, claim.base)]


def finding(claim, profile: str, recipe: str) -> Finding:
    """What the records of a profile, trained by that recipe, say to a claim."""
    df = table(matching(claim, profile, recipe), profile)
    done = len(df) and (df.status == "done").any()
    return MEASURED[claim.metric](claim, df, recipe) if done else Finding()


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

    from .models import build_model, cost
    with torch.device("meta"):
        network = build_model(backbone, attention, in_channels=channels, image_size=size,
                              placement=placement)
        return cost(network, (channels, size, size))

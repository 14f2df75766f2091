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
    """``d`` in the metric's unit, ``sd`` of the differences (NaN where unknown), the recipe of the
    runs that it is from."""
    d: Difference
    sd: float = math.nan
    recipe: str = "strong"


def summed(gaps, percent: bool = False) -> Finding:
    """The mean of differences and its t interval; ``percent``: of logarithms of ratios, given back
    as percentages."""
    gaps = np.asarray(gaps, float)
    gaps, back = gaps[np.isfinite(gaps)], (lambda x: 100 * math.expm1(x)) if percent else float
    n = len(gaps)
    if not n:
        return Finding(NOTHING)
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
    own, other = (gaps(cell_of(df, dataset, claim.backbone, recipe), claim.arm, claim.metric,
                       claim.base) for dataset in (claim.dataset, claim.than))
    return summed((own - other).dropna() if claim.than else own)


def epochs(claim, df, recipe: str) -> Finding:
    """Epochs to the hardest common level of validation accuracy, as a percentage of the base's."""
    history = histories(cell_of(df, claim.dataset, claim.backbone, recipe))
    found = convergence.levels(history, base=claim.base) if len(history) else []
    if not found:
        return Finding(NOTHING)
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
    return Finding(NOTHING)


def latency(claim) -> Finding:
    """Time an image at batch 64 as a percentage of the base's, repeat by repeat, from the stored
    benchmark: a GPU's where there is one."""
    from .speed import largest_first, rows
    for row in (row for body in largest_first() for row in rows(body, "inference")):
        again = row["repeats"].get("64", {})
        if row["backbone"] == claim.backbone and {claim.arm, claim.base} <= set(again):
            return summed(np.log(np.divide(again[claim.arm], again[claim.base])), True)
    return Finding(NOTHING)


MEASURED = {"accuracy": scores, "nll": scores, "epochs": epochs, "entropy": focus, "lift": focus}


def finding(claim, profile: str) -> Finding:
    """What the records of a profile say to a claim. The project's own recipe decides where at least
    three pairs of it are finished, at full size; else ours."""
    if claim.metric == "latency":
        return latency(claim)
    df = table([run for run in study(claim.study, profile) if concerns(claim, run)], profile)
    if claim.own and profile == "full":
        found = MEASURED[claim.metric](claim, df, claim.own)._replace(recipe=claim.own)
        if found.d.n >= MIN_SEEDS:
            return found
    return MEASURED[claim.metric](claim, df, "strong")


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


def concerns(claim, run) -> bool:
    """Whether a run is of one of the claim's arms and cells: a study may have hundreds of others.
    """
    return (run.backbone == claim.backbone and run.dataset in (claim.dataset, claim.than)
            and arm_of(run) in (claim.arm, claim.base))


@cache
def cost_of(backbone: str, attention: str, placement: str | None, channels: int, size: int) -> dict:
    """`models.cost` of a full-width network; nothing is computed or allocated."""
    import torch

    from .models import build_model, cost
    with torch.device("meta"):
        network = build_model(backbone, attention, in_channels=channels, image_size=size,
                              placement=placement)
        return cost(network, (channels, size, size))

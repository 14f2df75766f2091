"""What four public projects claim, as data (claims.csv), and what the records say to each claim.

A claim is about a procedure, so seeds are the unit. It is judged in the project's *own setting*
where network, place, recipe, image size and pretraining are the project's, else *under our
protocol*: a narrow network, trained from scratch at 32 pixels, cannot refute what is said of a
pretrained one at 224.

claims.csv: ``quote`` and ``source``, the project's words and where they stand; ``read``, the commit
of that file or the day it was read; ``says``, the same in our words; ``kind``: arm − base is the
``claimed`` number (*gain*) or percentage (*percent*), arm is better by no stated number (*order*)
or no better (*no gain*), its own score is the number (*level*), networks as built have it
(*count*), something that may be (*may*) or that nothing decides (*text*); ``study``, ``dataset``,
``backbone``, ``arm``, ``base`` and ``metric``, what decides it; ``own``, the project's recipe;
``than``, the second data set of a contrast; ``ours``, that the project names no metric, so that it
is ours; ``note``, what its own files show."""
import math
from functools import cache

import pandas as pd

from ..data.datasets import DATASETS
from ..experiments.planning import study
from ..experiments.reading import histories, table_of
from ..experiments.studies import COMMITTED, PROFILES, margin_of
from ..names import parse
from ..networks.cost import cost_of
from ..training.recipes import RECIPES
from ..training.trainer import about
from . import curves, stats
from .inference import Effect, seeds_needed
from .projects import read_table
from .stats import NOTHING

SAME, OURS, UNTESTED = "same setting", "our setting", "not tested"
PRETRAINED = ("P0",)                # on ImageNet, at 224 pixels: not repeated here
KINDS = ("gain", "percent", "order", "no gain", "level", "count", "may", "text")
UNJUDGED = ("may", "text")
# metric -> (unit, +1 where more is better, else -1); of entropy what it is lower is counted
METRICS = {"accuracy": ("points", 1), "nll": ("nats", -1), "train_accuracy": ("points", 1),
           "loss": ("nats", -1), "epochs": ("%", -1), "latency": ("%", -1), "entropy": ("%", 1),
           "lift": ("%", 1), "parameters": ("million", 1), "flops": ("billion", 1),
           "added": ("parameters", 1), "ms": ("ms", -1)}
# metric of a count -> (key of `cost_of`, its scale, by what share it may differ)
COUNTS = {"parameters": ("params", 1e-6, 5e-4), "added": ("attention_params", 1, 0),
          "flops": ("macs", 2e-9, 0.01)}            # theirs also counts norms and the like


CLAIMS = list(read_table("claims.csv").assign(
    claimed=lambda df: pd.to_numeric(df.claimed), ours=lambda df: df.ours != "",
    project=lambda df: "P" + df.number.str[0], judged=lambda df: ~df.kind.isin(UNJUDGED),
).itertuples(index=False, name="Claim"))


def scores_effect(claim, runs) -> Effect:
    """The difference of a column, by Dunnett's intervals of all arms of the cell; of two blocks it
    is theirs alone; of a contrast Welch's; of a level the mean with the interval in which another
    run would end."""
    if claim.metric == "loss":                          # in training, in the last epoch
        runs = runs.assign(loss=runs.id.map(histories(runs).groupby("id").loss.last()))
    two = runs[runs.arm.isin((claim.arm, claim.base))]
    if claim.kind == "level":
        d = stats.mean_effect(two.loc[two.arm == claim.arm, claim.metric])
        half = math.sqrt(d.n + 1) * (d.high - d.mean)
        return d._replace(low=d.mean - half, high=d.mean + half)
    if claim.than:
        return stats.contrast([two.loc[(two.dataset == dataset) & (two.arm == arm), claim.metric]
                               for dataset in (claim.dataset, claim.than)
                               for arm in (claim.arm, claim.base)], [1, -1, -1, 1])
    runs = runs if claim.base == "none" else two
    return stats.compared(runs, claim.metric, claim.base).get(claim.arm, NOTHING)


def epochs_effect(claim, runs) -> Effect:
    """Epochs to the hardest level of validation accuracy, as a percentage of the base's."""
    history = histories(runs[runs.arm.isin(runs.arm[runs.run.notna()])])
    if not len(history):
        return NOTHING
    times = curves.reached(history, curves.levels_of(history)[-1])
    r = curves.epochs_ratio(times, claim.arm, claim.base)
    return Effect(*(100 * (x - 1) for x in r[:3]), r.n)


MEASURED = dict.fromkeys(("accuracy", "nll", "train_accuracy", "loss"), scores_effect) | {
    "epochs": epochs_effect}


def counted(claim) -> tuple[float, bool]:
    """The exact number a claim is about, in its block's network, and whether it agrees."""
    (key, scale, off), images = COUNTS[claim.metric], DATASETS[claim.dataset]
    found = scale * cost_of(claim.backbone, claim.arm, "block", images.channels, images.size)[key]
    return found, math.isclose(found, claim.claimed, rel_tol=off)


def study_runs(name: str, profile: str):
    """`cell_runs` of a study; of them those that it planned have their ``run``."""
    planned = study(name, profile)
    return stats.cell_runs(table_of(planned, profile).assign(run=planned))


def deciding_cells(claim, profiles=(*PROFILES,)[::-1], records=study_runs):
    """(profile, recipe, the runs of the cell, those of them that were planned to decide the claim)
    where the study has all that it takes: of a profile the project's own recipe goes first."""
    arms = {claim.arm} if claim.kind == "level" else {claim.arm, claim.base}
    sets = [dataset for dataset in (claim.dataset, claim.than) if dataset]
    for profile in profiles if claim.study else ():
        df, usual = records(claim.study, profile), PROFILES[profile].fields.get("recipe", "strong")
        df = df[df.dataset.isin(sets) & (df.backbone == claim.backbone)]
        for recipe in dict.fromkeys((claim.own or usual, usual)):
            cell = df[df.recipe == recipe]
            planned = cell[cell.run.notna() & cell.arm.isin(arms)]
            if len(planned[["dataset", "arm"]].drop_duplicates()) == len(sets) * len(arms):
                yield profile, recipe, cell, planned


def best_answer(claim, profile: str | None, records, measure) -> tuple[Effect, dict]:
    """The effect, and columns of `audit`: where it is from. Of the first cell that has an interval,
    else of the one that has most seeds, of the profile that was asked for by name, else of those
    whose records are committed: the same in every clone."""
    profiles, best, where = [profile] if profile else COMMITTED[::-1], NOTHING, {}
    for name, recipe, cell, planned in deciding_cells(claim, profiles, records):
        own, run = planned[planned.status == "done"], planned.run.iloc[0]
        effect = measure(claim, cell[cell.status == "done"]) if len(own) else NOTHING
        if effect.n > best.n or not math.isnan(effect.low):
            short = bool(own.rise.mean() > stats.STILL_RISING)
            best, where = effect, {"profile": name, "recipe": recipe, "short": short,
                                   "scope": scope_of(run) + ", still rising" * short,
                                   "setting": SAME if same_setting(claim, run) else OURS}
        if not math.isnan(best.low):
            break
    return best, where


def same_setting(claim, run) -> bool:
    """Whether a run is what the project ran: its recipe, whole, at full width on all images, and
    judged by a metric that it names itself. What a project pretrained is never met here."""
    return (run.recipe == claim.own and run.how == RECIPES[claim.own] and run.width == 1
            and not run.n_train and claim.project not in PRETRAINED and not claim.ours)


def scope_of(run) -> str:
    """What a verdict is about: ``10,000 images, 8 epochs, width 0.25, batch norm``."""
    most = "at most " if run.how.patience else ""
    norm = "batch norm" if parse(run.backbone)[1].get("norm", True) else "no norm"
    return (f"{run.n_train or about(run).train:,} images, {most}{run.how.epochs} epochs, "
            f"width {run.width:g}, {norm}")


def verdict_on(claim, effect: Effect, margin: float) -> tuple[str, float]:
    """``holds``, ``not reproduced`` or ``undecided``; and the seeds that would decide with a power
    of 80 %, NaN where it is decided or nothing is known of the scatter.

    A claimed number, by half of it: it holds where the interval lies at or beyond that half, and is
    not reproduced where it falls short of it. Without one a claim of *better* holds where the whole
    interval is on its side, and is not reproduced where no gain beyond the margin is left in it; a
    claim of *no better* holds where none is left, and is not reproduced where the whole interval
    lies beyond the margin. A level holds where it is one that another run would have. `judge_claim`
    decides nothing from a ``short`` training, whose accuracy still rises."""
    numeric, sign, edge = claim.kind in ("gain", "percent"), METRICS[claim.metric][1], margin
    if numeric:
        sign, edge = math.copysign(1, claim.claimed), abs(claim.claimed) / 2
    low, mean, high = sorted((sign * effect.low, sign * effect.mean, sign * effect.high))
    yes, no = {
        "gain": (low >= edge, high < edge), "percent": (low >= edge, high < edge),
        "order": (low > 0, high <= edge), "no gain": (high <= edge, low > edge),
        "level": (effect.low <= claim.claimed <= effect.high,
                  claim.claimed < effect.low or claim.claimed > effect.high)}[claim.kind]
    if yes or no:
        return "holds" if yes else "not reproduced", math.nan
    if math.isnan(effect.sd):
        return "undecided", math.nan
    needed = seeds_needed(effect.sd, edge or mean or 1.0, effect.arms)
    if numeric and needed <= effect.n and mean != edge:                 # it is near that half
        needed = seeds_needed(effect.sd, mean - edge, effect.arms)
    return "undecided", max(needed, effect.n + 1)


def judge_claim(claim, profile: str | None = None, measures=MEASURED, records=study_runs) -> dict:
    """A claim, what is known of it, and the verdict: a row of `audit`."""
    row = claim._asdict() | dict.fromkeys(("estimate", "low", "high", "needs"), math.nan) | {
        "unit": METRICS[claim.metric][0], "profile": "", "recipe": "", "scope": "", "n": 0,
        "short": False, "setting": UNTESTED if claim.judged else "",
        "verdict": UNTESTED if claim.judged else "not judged"}
    if claim.kind == "count":
        value, agrees = counted(claim)
        return row | {"estimate": value, "setting": OURS if claim.ours else SAME,
                      "scope": "width 1, built and counted",
                      "verdict": "holds" if agrees else "not reproduced"}
    effect, where = NOTHING, {}
    if claim.metric == "latency" and "latency" in measures:
        effect, scope = measures["latency"](claim)
        where = {"scope": scope, "setting": OURS}
    elif claim.study and claim.metric in measures:
        effect, where = best_answer(claim, profile, records, measures[claim.metric])
    if not effect.n or claim.kind == "level" and where["setting"] != SAME:
        return row
    row |= where | {"n": effect.n, "estimate": effect.mean, "low": effect.low, "high": effect.high}
    if not claim.judged:
        return row | {"setting": ""}
    margin = margin_of(row["profile"]) if claim.metric == "accuracy" else 0.0
    row["verdict"], row["needs"] = verdict_on(claim, effect, margin)
    row["short"] &= claim.metric != "epochs"
    return row | ({"verdict": "undecided", "needs": math.nan} if row["short"] else {})


def audit(profile: str | None = None, *projects: str, measures=MEASURED):
    """One row a claim of these projects (``"P0"`` …), or of all, as a DataFrame: the claim, where
    the answer is from, the difference of its arms with the 95 % interval, and the verdict.
    ``profile``: one by its name; without one what a clone has. ``measures``: metric ->
    (claim, the finished runs of its cell) -> `Effect`; (claim) -> (`Effect`, where it was measured)
    for ``latency``, which has no runs."""
    records = cache(study_runs)
    return pd.DataFrame([judge_claim(claim, profile, measures, records) for claim in CLAIMS
                         if not projects or claim.project in projects])


def tally(df):
    """How many claims hold, are not reproduced or undecided: a DataFrame setting × verdict, of what
    a clone can compute. An answer from other records counts as not tested."""
    df = df[~df.kind.isin(UNJUDGED)]
    found = df[["setting", "verdict"]].where(df.profile.isin(("", *COMMITTED)), UNTESTED, axis=0)
    return pd.crosstab(found.setting, found.verdict).reindex(
        index=(SAME, OURS, UNTESTED), columns=("holds", "not reproduced", "undecided", UNTESTED),
        fill_value=0)

"""What four public projects claim, as data, and what the records say to each claim.

A claim is about a procedure, so seeds are the unit. It is judged in the project's *own setting*
where network, place, recipe, image size and pretraining are the project's, else *under our
protocol*: a narrow network, trained from scratch at 32 pixels, cannot refute what is said of a
pretrained one at 224."""
import math
from functools import cache
from typing import NamedTuple

import pandas as pd

from ..experiments.planning import FOR_READING, resolve_profile
from ..experiments.reading import arm_of, collect
from ..experiments.studies import PROFILES, margin_of
from ..names import parse
from ..training.recipes import RECIPES
from ..training.trainer import about
from . import stats
from .evidence import MEASURED, counted, matching, runs_of
from .projects import read_rows
from .stats import Effect

SAME, OURS, UNTESTED = "same setting", "our setting", "not tested"
COMMITTED = ("full", "real", "pilot")       # the profiles whose records a clone has, best first
PRETRAINED = ("P0",)                # on ImageNet, at 224 pixels: not repeated here
KINDS = {
    "gain": "arm − base is the claimed number",
    "percent": "arm is the claimed percentage above base",
    "order": "arm is better than base, by no stated number",
    "no gain": "arm is not better than base",
    "level": "arm's own score is the claimed number; judged in the same setting alone",
    "count": "an exact number, decided by building the networks",
    "may": "a possibility that the project names: measured, not judged",
    "text": "no measurement decides it",
}
UNJUDGED = ("may", "text")
# metric -> (unit, +1 where more is better, else -1); of entropy what it is lower is counted
METRICS = {"accuracy": ("points", 1), "nll": ("nats", -1), "train_accuracy": ("points", 1),
           "loss": ("nats", -1), "epochs": ("%", -1), "latency": ("%", -1), "entropy": ("%", 1),
           "lift": ("%", 1), "parameters": ("million", 1), "flops": ("billion", 1),
           "added": ("parameters", 1), "ms": ("ms", -1)}


class Claim(NamedTuple):
    """One claim, a row of claims.csv: its number, its own words and where they stand; what it says
    in ours; how it is decided: by which study, in which cell, between which arms. ``own``: the
    project's own recipe; ``than``: the second data set of a contrast; ``ours``: the project names
    no metric, so the one here is ours. ``read``: the commit of the file that is quoted, or the day
    on which it was read. ``note``: what the project's own files show."""
    number: str
    quote: str
    says: str
    kind: str
    claimed: float | None
    study: str
    dataset: str
    backbone: str
    arm: str
    base: str
    metric: str
    own: str
    than: str
    source: str
    read: str
    ours: bool
    note: str

    @property
    def project(self) -> str:
        return f"P{self.number[0]}"

    @property
    def judged(self) -> bool:
        return self.kind not in UNJUDGED


CLAIMS = [Claim(**row | {"claimed": float(row["claimed"]) if row["claimed"] else None,
                         "ours": bool(row["ours"])}) for row in read_rows("claims.csv")]


# --- Where the answer is ---


@cache
def planned(name: str, profile: str) -> frozenset:
    """The (data set, network, recipe, arm) that a study has in a profile."""
    return frozenset((r.dataset, r.backbone, r.recipe, arm_of(r)) for r in runs_of(name, profile))


def deciding_cells(claim: Claim) -> list[tuple[str, str]]:
    """The (profile, recipe), best first, in which the claim's study has all that decides it: of a
    profile the project's own recipe goes before the profile's."""
    arms = {claim.arm} if claim.kind == "level" else {claim.arm, claim.base}
    sets = filter(None, (claim.dataset, claim.than))
    wanted = [(dataset, arm) for dataset in sets for arm in arms]
    return [(p, recipe) for p in reversed(PROFILES) if claim.study
            for recipe in dict.fromkeys((claim.own, PROFILES[p].fields.get("recipe", "strong")))
            if recipe and all((dataset, claim.backbone, recipe, arm) in planned(claim.study, p)
                              for dataset, arm in wanted)]


class Answer(NamedTuple):
    """What the runs of a profile, trained by a recipe, say to a claim; ``rise``: by how many points
    their validation accuracy still rose over the last two epochs."""
    profile: str = ""
    recipe: str = ""
    effect: Effect = stats.NOTHING
    rise: float = math.nan
    run: object = None


def best_answer(claim: Claim, profile: str | None, records, measures: dict) -> Answer:
    """Of the first cell that has three seeds, else of the one that has most. Looked into are the
    profile that was asked for, and, where that is none by name, those whose records are committed;
    the same in every clone where none is asked for. ``records``: profile -> its `collect` table."""
    asked = [] if profile in (None, FOR_READING) or not claim.study else [
        resolve_profile(profile, claim.study)]
    names, best = asked if profile in PROFILES else [*asked, *COMMITTED], Answer()
    for p, recipe in sorted(deciding_cells(claim), key=lambda cell: cell[0] not in asked):
        if p in names and best.effect.n < stats.MIN_SEEDS:
            df = records(p)
            runs = matching(claim, p, recipe) if len(df) else []
            own = df[(df.status == "done") & df.id.isin([run.id for run in runs])]
            if len(own):
                cell = df[(df.status == "done") & df.setting.isin(own.setting)]
                effect = measures[claim.metric](claim, cell, recipe)
                if effect.n > best.effect.n:
                    best = Answer(p, recipe, effect, own.rise.mean(), runs[0])
    return best


def same_setting(claim: Claim, run) -> bool:
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


# --- The verdict ---


def verdict_on(claim: Claim, effect: Effect, margin: float, sign: int = 1) -> str:
    """``holds``, ``not reproduced`` or ``undecided: needs about n seeds``.

    With a claimed number, by half of it (`stats.verdict_by_number`). Without one: a claim of
    *better* holds where the whole interval is on its side, and is not reproduced where no gain
    beyond the margin is left in it; a claim of *no better* holds where none is left, and is not
    reproduced where the whole interval lies beyond the margin. A level holds where it is one that
    another run would have (`evidence.level`)."""
    if claim.kind in ("gain", "percent"):
        return stats.verdict_by_number(effect, claim.claimed)
    low, high = sorted((sign * effect.low, sign * effect.high))
    if claim.kind == "level":
        yes = effect.low <= claim.claimed <= effect.high
        no = claim.claimed < effect.low or claim.claimed > effect.high
    elif claim.kind == "no gain":
        yes, no = high <= margin, low > margin
    else:
        yes, no = low > 0, high <= margin
    if yes or no:
        return "holds" if yes else "not reproduced"
    if math.isnan(effect.sd):
        return "undecided: needs more seeds"
    needed = stats.seeds_needed(effect.sd, margin or effect.mean or 1.0)
    return f"undecided: needs about {max(needed, effect.n + 1, stats.MIN_SEEDS):,} seeds"


def judge_claim(claim: Claim, profile: str | None = None, records=None, measures=MEASURED) -> dict:
    """What is known of one claim: where from, the difference with its interval, the verdict.
    ``measures``: metric -> a function (claim, the profile's runs, recipe) -> `Effect`; a function
    (claim) -> (`Effect`, where it was measured) for ``latency``, which has no runs."""
    unit, sign = METRICS[claim.metric]
    row = {field: getattr(claim, field) for field in (
        "number", "project", "quote", "source", "read", "says", "kind", "study", "dataset",
        "backbone", "arm", "base", "metric", "ours", "note")} | {
        "unit": unit, "claimed": math.nan if claim.claimed is None else claim.claimed,
        "profile": "", "recipe": "", "setting": UNTESTED if claim.judged else "", "scope": "",
        "n": 0, "estimate": math.nan, "low": math.nan, "high": math.nan,
        "verdict": UNTESTED if claim.judged else "not judged", "difference": ""}
    if claim.kind == "count":
        value, agrees = counted(claim)
        return row | {"estimate": value, "setting": OURS if claim.ours else SAME,
                      "scope": "width 1, built and counted",
                      "verdict": "holds" if agrees else "not reproduced"}
    found, scope, same = Answer(), "", False
    if claim.metric == "latency":
        effect, scope = measures["latency"](claim) if "latency" in measures else (stats.NOTHING, "")
        found = Answer(effect=effect)
    elif claim.metric in measures:
        found = best_answer(claim, profile, records or profile_runs, measures)
    if found.run:
        same = same_setting(claim, found.run)
        scope = scope_of(found.run) + (", still rising" if found.rise > stats.STILL_RISING else "")
    effect = found.effect
    if not effect.n or claim.kind == "level" and not same:
        return row
    margin = margin_of(found.profile, claim.dataset) if claim.metric == "accuracy" else 0.0
    row |= {"profile": found.profile, "recipe": found.recipe, "scope": scope, "n": effect.n,
            "estimate": effect.mean, "low": effect.low, "high": effect.high}
    if not claim.judged:
        return row
    says = verdict_on(claim, effect, margin, sign)
    return row | {
        "setting": SAME if same else OURS,
        "verdict": says.replace("seeds", "repeats") if claim.metric == "latency" else says,
        "difference": stats.verdict(effect, margin) if margin and claim.kind != "level" else ""}


def profile_runs(profile: str):
    return collect(profile=profile)


def audit(profile: str | None = None, *projects: str, measures=MEASURED):
    """One row a claim of these projects (``"P0"`` …), or of all, as a DataFrame: the claim, where
    the answer is from, the difference of its arms with the 95 % interval, and the verdict.
    ``profile``: as for `resolve_profile`; without one what a clone has. ``measures``: as for
    `judge_claim`."""
    records = cache(profile_runs)
    return pd.DataFrame([judge_claim(claim, profile, records, measures) for claim in CLAIMS
                         if not projects or claim.project in projects])


def tally(df):
    """How many claims hold, are not reproduced or undecided: a DataFrame setting × verdict, of what
    a clone can compute. An answer from other records counts as not tested."""
    df = df[~df.kind.isin(UNJUDGED)]
    known = df.profile.isin(("", *COMMITTED))
    word = df.verdict.str.partition(":")[0]
    return pd.crosstab(df.setting.where(known, UNTESTED), word.where(known, UNTESTED)).reindex(
        index=(SAME, OURS, UNTESTED), columns=("holds", "not reproduced", "undecided", UNTESTED),
        fill_value=0)

"""What the stored maps say, in sentences and tables: for 06, 07 and the README. See `camstore` for
what is stored, `sharper` for the claim."""
import math

import numpy as np
import pandas as pd

from ..analysis.stats import CELL, arms_table
from ..analysis.words import interval, items, name, place, plural, plus_minus
from ..experiments.planning import resolve_profile
from ..experiments.reading import collect
from .cam import MAPS
from .camstore import stored_maps
from .sharper import (
    CLAIMED,
    METRICS,
    TOLERATED,
    Comparison,
    beyond_accuracy,
    claim_verdict,
    comparisons,
    run_table,
)

# How each measure is called, how many digits it is given with, and which way is better.
MEASURES = {
    "entropy": ("entropy", 3, "lower is sharper"), "gini": ("Gini", 3, "higher is sharper"),
    "lift": ("mass on the object ÷ its area", 2, "1 is a uniform map"),
    "pointing": ("pointing game", 2, ""), "best_iou": ("best IoU", 2, ""),
    "average_precision": ("PR-AUC", 2, ""), "on_distractors": ("mass on distractors", 3, ""),
    "on_background": ("mass on the background", 2, ""), "road": ("ROAD", 3, "0 is chance"),
    "drop": ("average drop", 2, "lower is better"), "increase": ("increase", 2, "")}
NAMES = {"road": "ROAD ÷ confidence"}       # in comparisons: see `sharper.paired_images`
NOTHING = ("No maps of this version are stored in profile `{}`: `python -m attnlib focus {}` makes "
           "them where a run's weights are.")


def looked_at(study: str, profile: str):
    """The `collect` table of a study's runs in one profile."""
    return collect(study, resolve_profile(profile, study))


def where(cell: tuple) -> str:
    return place(pd.Series(dict(zip(CELL, cell, strict=True))))


def sharper_answer(study: str, profile: str = "auto", stage: int = 0) -> str:
    """Whether each arm looks better than ``none``: a sentence a cell, then its table of yes and no,
    what the arm does to the accuracy, and the gains that this rests on."""
    df = looked_at(study, profile)
    found = comparisons(df, stage)
    if not found:
        return NOTHING.format(resolve_profile(profile, study), study)
    accuracy = arms_table(df).set_index([*CELL, "arm"])
    parts = []
    for cell in dict.fromkeys(c.cell for c in found):
        own = [c for c in found if c.cell == cell]
        rows = [one_arm(c, accuracy.loc[(*cell, c.arm)]) for c in own]
        parts += [f"{headline(own)} (Profile `{df.profile.iloc[0]}`.)",
                  pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True)]
    masks = all("lift" in c.difference for c in found)
    return "\n\n".join(parts) + "\n\n" + rules(masks)


def headline(own: list[Comparison]) -> str:
    """One cell's verdicts in a sentence."""
    words = {"yes": ("looks better than none", "look better than none"),
             "no": ("does not look better than none", "do not look better than none"),
             "undecided": ("is undecided", "are undecided"),
             "too few seeds": ("has too few seeds for a word", "have too few seeds for a word")}
    said = []
    for verdict, (one, several) in words.items():
        arms = [name(c.arm) for c in own if c.verdict == verdict]
        if arms:
            said.append(f"{' and '.join(filter(None, [', '.join(arms[:-1]), arms[-1]]))} "
                        f"**{one if len(arms) == 1 else several}**")
    fewest, most = min(c.seeds for c in own), max(c.seeds for c in own)
    seeds = plural(most, "seed") if fewest == most else f"{fewest} to {most} seeds"
    return f"{where(own[0].cell)}, {seeds}: {'; '.join(said)}."


def one_arm(c: Comparison, accuracy) -> dict[str, str]:
    """One arm's row: the verdict, its parts, and the gains they rest on."""
    sign = {"undecided": "?", "too few seeds": "?"}
    row = {"block": name(c.arm), "looks better?": f"**{sign.get(c.verdict, c.verdict)}**"}
    row |= {f"{says(k)}?": sign.get(word, word) for k, word in c.verdicts.items()}
    row |= {"accuracy, points": interval(accuracy.gain, accuracy.low, accuracy.high)}
    row |= {f"{NAMES.get(m, MEASURES[m][0])}, %": span(c.gain[m]) for m in METRICS if m in c.gain}
    return row | {"image pairs": f"{c.images:,}"}


def says(criterion: str) -> str:
    return criterion if criterion == "sharper" else f"{criterion} not worse"


def span(e, digits: int = 1) -> str:
    return interval(e.value, e.low, e.high, digits)


def rules(masks: bool) -> str:
    """How the verdict is made, so that it can be read without the code."""
    localised = ", (ii) localisation (mass on the object, pointing game) not worse" if masks else ""
    return ("Accuracy: the gain over none. Columns after it: gains in per cent of none's value, "
            "positive where the arm is better (lower entropy, higher everything else). "
            "*Looks better* asks for (i) lower entropy and higher Gini, both intervals above 0"
            f"{localised}, and ({'iii' if masks else 'ii'}) ROAD, as a share of "
            "the network's own confidence in the image, not worse: a loss of more than "
            f"{100 * TOLERATED:g} % of none's value is excluded. *No* for sharper: a gain of "
            f"{100 * TOLERATED:g} % is excluded; for not worse: the loss is certain. Images that "
            "both networks classify correctly, Grad-CAM of the true class, one stage, its own "
            "resolution; 95 % t intervals, their standard error from a bootstrap of seeds and of "
            "images within them. ?: undecided."
            + ("" if masks else " Photographs have no masks, so localisation is not asked."))


def claim_answer(study: str, profile: str = "auto", arm: str = "hybrid") -> str:
    """The audited claim, "23 % sharper" than SE or CBAM alone: both readings of it and what the
    records say."""
    df = looked_at(study, profile)
    found = [(base, c) for base in ("se", "cbam") for c in comparisons(df, base=base)
             if c.arm == arm]
    if not found:
        return NOTHING.format(resolve_profile(profile, study), study)
    lines = [f"- against {name(base)}, {where(c.cell)}: by entropy, 100·(1 − H/H₀), "
             f"{span(c.gain['entropy'])} %: **{claim_verdict(c.gain['entropy'])}**; "
             f"by Gini, 100·(G/G₀ − 1), {span(c.gain['gini'])} %: "
             f"**{claim_verdict(c.gain['gini'])}**." for base, c in found]
    return (f"*\"{CLAIMED:g} % sharper Grad-CAM focus\"* compared with SE or CBAM alone, for the "
            f"{name(arm)}:\n\n"
            + "\n".join(lines) + f"\n\n*Holds*: the interval lies above half the claim, "
            f"{CLAIMED / 2:g} %; *not reproduced*: below it.")


def focus_table(study: str, profile: str = "auto", stage: int = 0) -> str:
    """Markdown: every measure of Grad-CAM, mean ± sd over seeds, one row a cell and arm."""
    table = run_table(looked_at(study, profile), stage)
    if not len(table):
        return NOTHING.format(resolve_profile(profile, study), study)
    rows = []
    for cell, own in table.groupby(CELL, sort=False):
        for arm, runs in own.groupby("arm", sort=False):
            rows.append({"": where(cell), "block": name(arm), "seeds": str(len(runs)),
                         "accuracy, %": plus_minus(runs.accuracy.mean(), runs.accuracy.std())}
                        | {MEASURES[m][0]: plus_minus(runs[m].mean(), runs[m].std(), MEASURES[m][1])
                           for m in MEASURES if m in runs})
    return pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True)


def methods_means(study: str, profile: str = "auto", arm: str = "none"):
    """Method -> every measure at the finest stage, means over the seeds of one arm of the headline
    cell, as a DataFrame; empty where nothing is stored."""
    df = looked_at(study, profile)
    found = stored_maps(df[df.arm == arm])
    if not found:
        return pd.DataFrame()
    first = df[df.id == next(iter(found))].iloc[0]
    same = df[(df[CELL] == first[CELL]).all(axis=1)].id
    runs = [a for run_id, a in found.items() if run_id in set(same)]
    ending = f"_{runs[0]['stages'][0]}"
    return pd.DataFrame({
        m: np.mean([a[f"mean_{m}{ending}"] for a in runs], 0)
        for m in MEASURES if f"mean_{m}{ending}" in runs[0]},
        index=[MAPS[method.decode()].says for method in runs[0]["methods"]]).dropna(how="all")


def methods_table(study: str, profile: str = "auto", arm: str = "none") -> str:
    """Markdown of `methods_means`; baselines that know nothing come last."""
    table = methods_means(study, profile, arm)
    if not len(table):
        return NOTHING.format(resolve_profile(profile, study), study)
    text = pd.DataFrame({MEASURES[m][0]: [number(v, MEASURES[m][1]) for v in table[m]]
                         for m in table}, index=table.index)
    return text.to_markdown(disable_numparse=True)


def methods_words(study: str, profile: str = "auto") -> str:
    """Which map the object's mask and ROAD like best, and how Grad-CAM stands."""
    table = methods_means(study, profile)
    if not len(table):
        return NOTHING.format(resolve_profile(profile, study), study)
    parts = []
    for m in [m for m in ("lift", "average_precision", "road") if m in table]:
        order, digits = table[m].dropna().sort_values(ascending=False), MEASURES[m][1]
        best = order.index[0]
        parts.append(f"By {MEASURES[m][0]} {best} is best ({number(order.iloc[0], digits)}); "
                     f"Grad-CAM comes {ordinal(order.index.get_loc('Grad-CAM') + 1)} of "
                     f"{len(order)} ({number(order['Grad-CAM'], digits)}), a random map has "
                     f"{number(order.get('random', math.nan), digits)}.")
    return " ".join(parts) + (" The choice of the map is a choice, too: "
                              "compare blocks under one method.")


def number(value: float, digits: int) -> str:
    return plus_minus(value, math.nan, digits).replace("-", "−")


def ordinal(n: int) -> str:
    return {1: "first", 2: "second", 3: "third"}.get(n, f"{n}th")


def beyond_reach(table, arms: list[str], base: str = "none") -> list[str]:
    """The arms whose accuracies do not overlap with those of ``base``."""
    low, high = (table.groupby("arm").accuracy.agg(f) for f in ("min", "max"))
    return [a for a in arms if low[a] > high[base] or high[a] < low[base]]


def beyond_words(study: str, profile: str = "auto", metric: str = "lift") -> str:
    """What each arm adds to localisation at equal accuracy, from a regression over runs."""
    table, parts = run_table(looked_at(study, profile)), []
    if metric not in table:
        return "Without masks there is no localisation to regress."
    for cell, own in table.groupby(CELL, sort=False):
        found = beyond_accuracy(own, metric)
        if found:
            slope = found.pop("accuracy")
            arms = "; ".join(f"{name(a)} {span(e, 2)}" for a, e in found.items())
            apart = beyond_reach(own, list(found))
            certain = [name(a) for a, e in found.items()
                       if (e.low > 0 or e.high < 0) and a not in apart]
            rest = "of the rest " if apart else ""
            parts.append(
                f"{where(cell)}, {plural(len(own), 'run')}: a point of accuracy goes with "
                f"{span(slope, 3)} in {MEASURES[metric][0]}; at equal accuracy the blocks add "
                f"{arms}."
                + (f" No run of {' or of '.join(map(name, apart))} is as accurate as any of none: "
                   "there the regression extrapolates, and its number decides nothing, whatever "
                   "its interval." if apart else "")
                + (f" Different from nothing: {', '.join(certain)}." if certain else
                   f" None {rest}is shown to differ from nothing." if len(apart) < len(found)
                   else ""))
    return items(parts) or "Too few runs for a regression."


def sanity_words(study: str, profile: str = "auto") -> str:
    """How much of each map is left when the network's layers are set back."""
    found = stored_maps(looked_at(study, profile))
    if not found:
        return NOTHING.format(resolve_profile(profile, study), study)
    parts = []
    for key in [k for k in next(iter(found.values())) if k.startswith("sanity_")]:
        curves = np.array([np.nanmean(a[key][[0, -1]].astype(float), 1) for a in found.values()
                           if np.isfinite(a[key][[0, -1]].astype(float)).any(1).all()])
        if len(curves):
            label = MAPS[key.removeprefix("sanity_")].says
            parts.append(f"{label}: {curves[:, 0].mean():.2f} with a new classifier, "
                         f"{curves[:, 1].mean():.2f} with everything new")
    return (f"Spearman's correlation with the trained network's maps, {plural(len(found), 'run')}, "
            "mean: " + "; ".join(parts) + ". A map that explains what was learnt falls to about 0; "
            "one that stays shows the image's edges, or the network's architecture.")

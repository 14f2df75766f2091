"""The claim "A looks sharper than B", with an interval: P0's "23 % sharper Grad-CAM focus".

A looks better than B where, on the images that both classify correctly, at one stage and its own
resolution, (i) its maps are sharper: lower entropy and higher Gini index, (ii) they lie no worse on
the object: lift and pointing game, and (iii) the network needs what they mark no less: ROAD, as a
share of the network's own confidence in the image, for a less confident network has less to lose
whatever its map. Sharp alone is not good: one random cell is as sharp as a map can be.

Runs pair by seed, images within a pair. A bootstrap of seeds, then of images within each, gives the
standard error; the interval is ± t √(n / (n − 1)) of it, t with n − 1 degrees of freedom for n
seeds: the percentiles of so few are too narrow, and widened ones would lie in tails that no number
of draws reaches (Hesterberg 2015, doi:10.1080/00031305.2015.1089789). All seeds see the same
images, but each draws its own: what images share is taken for noise of a seed."""
import math
from typing import NamedTuple

import numpy as np
from scipy import stats

from ..analysis.inference import Effect
from ..analysis.stats import MIN_SEEDS, each_cell
from ..names import derive
from .camstore import stored_maps
from .focus import divisor

DRAWS, POOL = 20_000, 500           # of seeds; of images within a seed
TOLERATED = 0.05                    # a loss of up to this share of B's value is "not worse", and a
#                                     gain in sharpness below it is none to speak of
CLAIMED = 23.0                      # per cent: P0's claim
SHARPNESS = {"entropy": -1, "gini": 1}                     # 1: more is better
NOT_WORSE = {"lift": "localisation", "pointing": "localisation", "road": "faithfulness"}
METRICS = (*SHARPNESS, *NOT_WORSE)


class Comparison(NamedTuple):
    """Arm A against B in one cell. ``gain``: metric -> in per cent of B, positive where A is
    better; ``verdicts``: criterion -> yes, no or undecided; ``verdict`` the whole."""
    cell: dict
    arm: str
    seeds: int
    images: int
    gain: dict[str, Effect]
    verdicts: dict[str, str]
    verdict: str


def paired_images(a: dict, b: dict, stage: int) -> dict[str, np.ndarray]:
    """Metric -> [n, 2], A's and B's value of every image that both classify correctly; NaN where it
    was not measured, or a map is empty. ``road`` is divided by the network's confidence."""
    right = (a["prediction"] == a["label"]) & (b["prediction"] == b["label"])
    out = {}
    for metric in METRICS:
        key = f"{metric}_{stage}"
        if key in a and key in b:
            values = np.full((len(right), 2), np.nan)
            for side, arrays in enumerate((a, b)):
                of = arrays["confidence"][:len(arrays[key])] if metric == "road" else 1
                shown = arrays.get(f"entropy_{stage}", arrays[key])[:len(arrays[key])]
                values[:len(arrays[key]), side] = arrays[key] / of + 0 * shown
            values[np.isnan(values).any(1)] = np.nan            # both or none
            out[metric] = values[right]
    return out


def image_means(values: np.ndarray, rng) -> np.ndarray:
    """Means [POOL + 1, 2] of values [n, 2], NaN left out, over resampled images; last over all."""
    n, there = len(values), np.isfinite(values)
    weights = np.vstack([rng.multinomial(n, np.full(n, 1 / n), POOL), np.ones(n)])
    return (weights @ np.where(there, values, 0)) / divisor(weights @ there)


def bootstrap(pairs: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Metric -> [DRAWS + 1, 2], the mean of A and of B over seeds drawn with replacement and images
    within each; the last row is what was observed."""
    rng, out = np.random.default_rng(derive("bootstrap", 0)), {}
    chosen = rng.integers(len(pairs), size=(DRAWS, len(pairs)))
    images = rng.integers(POOL, size=chosen.shape)
    for metric in [m for m in METRICS if all(m in p for p in pairs)]:       # in one order: `rng`
        pools = np.stack([image_means(p[metric], rng) for p in pairs])     # [seeds, POOL + 1, 2]
        drawn = pools[chosen, images]                                      # [DRAWS, seeds, 2]
        drawn = np.nansum(drawn, 1) / divisor(np.isfinite(drawn).sum(1))
        out[metric] = np.vstack([drawn, np.nanmean(pools[:, -1], 0)])
    return out


def estimate(draws: np.ndarray, seeds: int) -> Effect:
    """The last of the draws, with the interval that the spread of the others gives."""
    value = float(draws[-1])
    if seeds < MIN_SEEDS:
        return Effect(value, n=seeds)
    sd = float(np.nanstd(draws[:-1])) * seeds / math.sqrt(seeds - 1)
    half = float(stats.t.ppf(0.975, seeds - 1) * sd / math.sqrt(seeds))
    return Effect(value, value - half, value + half, seeds, sd=sd)


# --- Verdicts ---


def judged(low: float, high: float, yes: float, no: float) -> str:
    """``yes`` for an interval above that value, ``no`` for one below the other, else undecided."""
    if low > yes:
        return "yes"
    return "no" if high < no else "undecided"


def criteria(gain: dict[str, Effect]) -> dict[str, str]:
    """Criterion -> verdict. Sharper: both entropy and Gini gain; no where either certainly gains
    less than TOLERATED. Not worse: none loses more than TOLERATED; no where one certainly loses."""
    sharp, least, out = [gain[m] for m in SHARPNESS if m in gain], 100 * TOLERATED, {}
    if sharp:
        low, high = min(e.low for e in sharp), min(e.high for e in sharp)
        out["sharper"] = judged(low, high, 0 if high >= least else math.inf, least)
    for metric, criterion in NOT_WORSE.items():
        if metric in gain:
            word = judged(gain[metric].low, gain[metric].high, -least, 0)
            out[criterion] = worst([word, out.get(criterion, "yes")])
    return out


def worst(words) -> str:
    """no if any is, else undecided if any is, else yes."""
    return next((word for word in ("no", "undecided") if word in words), "yes")


# --- Arms against one ---


def compare(cell: dict, arm: str, pairs: list[dict[str, np.ndarray]]) -> Comparison:
    """Weigh one arm's images against the other's, seed by seed (see `paired_images`)."""
    drawn, seeds = bootstrap(pairs), len(pairs)
    gain = {m: estimate(100 * SHARPNESS.get(m, 1) * (d[:, 0] - d[:, 1])
                        / divisor(np.abs(d[-1, 1])), seeds) for m, d in drawn.items()}
    verdicts = criteria(gain) if seeds >= MIN_SEEDS else {}
    images = sum(len(next(iter(p.values()))) for p in pairs)
    return Comparison(cell, arm, seeds, images, gain, verdicts,
                      worst(verdicts.values()) if verdicts else "too few seeds")


def comparisons(df, base: str = "none") -> list[Comparison]:
    """Every arm of a `collect` table against ``base``, over the seeds that both have maps of."""
    found, out = stored_maps(df), []
    for cell, rows in each_cell(df[df.id.isin(list(found))]):
        runs = {arm: {r.seed: found[r.id] for r in own.itertuples()}
                for arm, own in rows.groupby("arm", sort=False)}
        others = runs.pop(base, {})
        for arm, own in runs.items():
            pairs = [paired_images(own[seed], others[seed], int(own[seed]["stages"][0]))
                     for seed in sorted(own.keys() & others.keys())]
            pairs = [p for p in pairs if p and all(np.isfinite(v).any() for v in p.values())]
            if pairs:
                out.append(compare(cell, arm, pairs))
    return out


def beyond_accuracy(table) -> dict[str, Effect]:
    """What each arm adds to the lift at equal accuracy, in one cell of a `run_table`: the
    coefficients of ordinary least squares, lift ~ 1 + accuracy + arm, over runs, with t
    intervals; ``accuracy`` per point. {} where an arm has fewer than MIN_SEEDS runs."""
    table = table.dropna(subset=["lift", "accuracy"])
    seeds, arms = table.groupby("arm").size(), [a for a in table.arm.unique() if a != "none"]
    if not arms or "none" not in seeds or seeds.min() < MIN_SEEDS:
        return {}
    x = np.column_stack([np.ones(len(table)), table.accuracy - table.accuracy.mean(),
                         *(table.arm == a for a in arms)]).astype(float)
    beta, rest, rank, _ = np.linalg.lstsq(x, table.lift.to_numpy(float))
    if rank < x.shape[1]:
        return {}
    free = len(x) - rank
    half = stats.t.ppf(0.975, free) * np.sqrt(rest / free * np.diag(np.linalg.inv(x.T @ x)))
    return {name: Effect(float(b), float(b - h), float(b + h))
            for name, b, h in zip(("accuracy", *arms), beta[1:], half[1:], strict=True)}

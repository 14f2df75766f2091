"""The claim "A looks sharper than B", with an interval: P0's "23 % sharper Grad-CAM focus".

A looks better than B where, on the images that both classify correctly, at one stage and its own
resolution, (i) its maps are sharper: lower entropy and higher Gini index, (ii) they lie no worse on
the object: lift and pointing game, and (iii) the network needs what they mark no less: ROAD, as a
share of the network's own confidence in the image, for a less confident network has less to lose
whatever its map. Sharp alone is not good: one random cell is as sharp as a map can be.

Runs pair by seed, images within a pair. A bootstrap of seeds, then of images within each, gives the
standard error; the interval is ± t √(n / (n − 1)) of it, t with n − 1 degrees of freedom for n
seeds: the percentiles of so few are too narrow, and widened ones would lie in tails that no number
of draws reaches (Hesterberg 2015, doi:10.1080/00031305.2015.1089789)."""
import math
from typing import NamedTuple

import numpy as np
from scipy import stats

from ..analysis.stats import CELL, MIN_SEEDS
from ..names import derive
from .camstore import stored_maps

DRAWS, POOL = 20_000, 500           # of seeds; of images within a seed
TOLERATED = 0.05                    # a loss of up to this share of B's value is "not worse", and a
#                                     gain in sharpness below it is none to speak of
CLAIMED = 23.0                      # per cent: P0's claim
SHARPNESS = {"entropy": -1, "gini": 1}                     # 1: more is better
NOT_WORSE = {"lift": "localisation", "pointing": "localisation", "road": "faithfulness"}
METRICS = (*SHARPNESS, *NOT_WORSE)


class Estimate(NamedTuple):
    """A value with its 95 % interval; NaN ends with fewer than MIN_SEEDS seeds."""
    value: float
    low: float
    high: float


class Comparison(NamedTuple):
    """Arm A against B in one cell (data set, network, recipe). ``base``: metric -> B's mean;
    ``gain``: metric -> in per cent of B, positive where A is better; ``verdicts``: criterion ->
    yes, no or undecided; ``verdict`` the whole."""
    cell: tuple
    arm: str
    seeds: int
    images: int
    base: dict[str, float]
    gain: dict[str, Estimate]
    verdicts: dict[str, str]
    verdict: str


def paired_images(a: dict, b: dict, stage: int) -> dict[str, np.ndarray]:
    """Metric -> [n, 2], A's and B's value of every image that both classify correctly; NaN where it
    was not measured, or a map is empty. ``road`` is divided by the network's confidence."""
    right = (a["prediction"] == a["label"]) & (b["prediction"] == b["label"])
    out = {}
    for metric in METRICS:
        key, n = f"{metric}_{stage}", len(right)
        if key in a and key in b:
            values = np.full((n, 2), np.nan)
            for side, arrays in enumerate((a, b)):
                of = arrays["confidence"][:len(arrays[key])] if metric == "road" else 1
                values[:len(arrays[key]), side] = arrays[key] / of
            values[np.isnan(values).any(1)] = np.nan            # both or none
            out[metric] = values[right]
    return out


def image_means(values: np.ndarray, rng) -> np.ndarray:
    """Means [POOL + 1, …] of values [n, …] over resampled images, NaN left out; the last row is
    their plain mean."""
    n = len(values)
    weights = np.vstack([rng.multinomial(n, np.full(n, 1 / n), POOL), np.ones(n)])
    there = np.isfinite(values)
    return divided(np.tensordot(weights, np.where(there, values, 0), 1),
                 np.tensordot(weights, there.astype(float), 1))


def divided(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a / b, NaN where b is 0."""
    return np.divide(a, b, out=np.full(a.shape, np.nan), where=b != 0)


def bootstrap(pairs: list[dict[str, np.ndarray]], seed: int = 0) -> dict[str, np.ndarray]:
    """Metric -> [DRAWS + 1, 2], the mean of A and of B over seeds drawn with replacement and images
    within each; the last row is what was observed."""
    rng = np.random.default_rng(derive("bootstrap", seed))
    chosen = rng.integers(len(pairs), size=(DRAWS, len(pairs)))
    images = rng.integers(POOL, size=chosen.shape)
    out = {}
    for metric in [m for m in METRICS if all(m in p for p in pairs)]:       # in one order: `rng`
        pools = np.stack([image_means(p[metric], rng) for p in pairs])     # [seeds, POOL + 1, 2]
        drawn = pools[chosen, images]                                      # [DRAWS, seeds, 2]
        drawn = divided(np.nansum(drawn, 1), np.isfinite(drawn).sum(1))
        out[metric] = np.vstack([drawn, np.nanmean(pools[:, -1], 0)])
    return out


def estimate(draws: np.ndarray, seeds: int) -> Estimate:
    """The last of the draws, with the interval that the spread of the others gives."""
    value = float(draws[-1])
    if seeds < MIN_SEEDS:
        return Estimate(value, math.nan, math.nan)
    half = stats.t.ppf(0.975, seeds - 1) * math.sqrt(seeds / (seeds - 1)) * np.nanstd(draws[:-1])
    return Estimate(value, value - half, value + half)


def sharper(gain: dict[str, Estimate]) -> str:
    """Whether both entropy and Gini say so: yes, no (a gain of TOLERATED is excluded), undecided.
    """
    parts = [gain[metric] for metric in SHARPNESS if metric in gain]
    if all(e.low > 0 for e in parts):
        return "yes"
    return "no" if any(e.high < 100 * TOLERATED for e in parts) else "undecided"


def not_worse(e: Estimate) -> str:
    """Whether a loss of more than TOLERATED is excluded: yes, no (a loss is certain), undecided."""
    if e.low > -100 * TOLERATED:
        return "yes"
    return "no" if e.high < 0 else "undecided"


def both(verdicts) -> str:
    """no if any is, else undecided if any is, else yes."""
    return next((word for word in ("no", "undecided") if word in verdicts), "yes")


def compare(cell: tuple, arm: str, pairs: list[dict[str, np.ndarray]]) -> Comparison:
    """Weigh one arm's images against the other's, seed by seed (see `paired_images`)."""
    drawn, seeds = bootstrap(pairs), len(pairs)
    gain = {m: estimate(100 * SHARPNESS.get(m, 1) * (divided(d[:, 0], d[:, 1]) - 1), seeds)
            for m, d in drawn.items()}
    base = {m: float(d[-1, 1]) for m, d in drawn.items()}
    verdicts, verdict = {}, "too few seeds"
    if seeds >= MIN_SEEDS:
        groups: dict[str, list] = {}
        for metric, group in NOT_WORSE.items():
            if metric in gain:
                groups.setdefault(group, []).append(not_worse(gain[metric]))
        verdicts = {"sharper": sharper(gain)} | {g: both(v) for g, v in groups.items()}
        verdict = both(verdicts.values())
    n = sum(len(next(iter(p.values()))) for p in pairs)
    return Comparison(cell, arm, seeds, n, base, gain, verdicts, verdict)


def comparisons(df, stage: int = 0, base: str = "none") -> list[Comparison]:
    """Every arm of a `collect` table against ``base``, over the seeds for which both were looked
    at; ``stage`` 0 is the finest stored stage, 1 the next."""
    found, out = stored_maps(df), []
    for cell, rows in df[df.id.isin(list(found))].groupby(CELL, sort=False):
        ids = {(r.arm, r.seed): r.id for r in rows.itertuples()}
        for arm in [a for a in rows.arm.unique() if a != base]:
            pairs = []
            for seed in sorted(rows.seed.unique()):
                if (arm, seed) in ids and (base, seed) in ids:
                    a, b = found[ids[arm, seed]], found[ids[base, seed]]
                    pair = paired_images(a, b, int(a["stages"][stage]))
                    if pair and all(np.isfinite(v).any() for v in pair.values()):
                        pairs.append(pair)
            if pairs:
                out.append(compare(cell, arm, pairs))
    return out


def sharpness_verdict(e: Estimate, claimed: float = CLAIMED) -> str:
    """``holds`` where the interval lies at or above half the claimed gain, ``not reproduced`` where
    it lies below that half, else ``undecided``."""
    half = claimed / 2
    if math.isnan(e.low):
        return "too few seeds"
    return "holds" if e.low >= half else "not reproduced" if e.high < half else "undecided"


def beyond_accuracy(table, metric: str = "lift", base: str = "none") -> dict[str, Estimate]:
    """What each arm adds to a measure at equal accuracy, in one cell of a `run_table`: the
    coefficients of ordinary least squares, metric ~ 1 + accuracy + arm, over runs, with t
    intervals; ``accuracy`` per point. {} where an arm has fewer than MIN_SEEDS runs."""
    table = table.dropna(subset=[metric, "accuracy"])
    arms = [a for a in table.arm.unique() if a != base]
    names = ["accuracy", *arms]
    x = np.column_stack([np.ones(len(table)), table.accuracy - table.accuracy.mean(),
                         *[(table.arm == a).to_numpy(float) for a in arms]])
    free, seeds = len(x) - x.shape[1], table.groupby("arm").size()
    if (not len(seeds) or seeds.min() < MIN_SEEDS or base not in seeds or not arms
            or np.linalg.matrix_rank(x) < x.shape[1]):
        return {}
    y = table[metric].to_numpy(float)
    beta, *_ = np.linalg.lstsq(x, y, rcond=None)
    variance = ((y - x @ beta) ** 2).sum() / free
    half = stats.t.ppf(0.975, free) * np.sqrt(variance * np.diag(np.linalg.inv(x.T @ x)))
    return {name: Estimate(float(b), float(b - h), float(b + h))
            for name, b, h in zip(names, beta[1:], half[1:], strict=True)}

"""Statistics of runs: arrays in, numbers out. `stats` applies them to tables of runs."""
import math
from bisect import bisect_left
from functools import cache
from typing import NamedTuple

import numpy as np
from scipy import stats
from scipy.optimize import brentq
from scipy.special import chdtri, ndtr

MIN_SEEDS = 3           # below this no interval is given
MOST_SEEDS = 10_000     # where `seeds_needed` stops counting


class Effect(NamedTuple):
    """A difference, or a mean, in the metric's unit: ``mean`` with its 95 % interval ``low`` to
    ``high`` (NaN where there are too few seeds for one) over ``n`` seeds; two-sided ``p``; ``sd``
    of a difference of two runs; how many ``arms``' intervals hold together with this one."""
    mean: float = math.nan
    low: float = math.nan
    high: float = math.nan
    n: int = 0
    p: float = math.nan
    sd: float = math.nan
    arms: int = 1


@cache
def nodes(df: int):
    """Nodes and weights of s/σ (``df`` degrees of freedom): Gauss-Legendre in its probability
    [64, 1]; and of a standard normal z: Gauss-Hermite [64]."""
    x, s_weights = np.polynomial.legendre.leggauss(64)
    z, z_weights = np.polynomial.hermite_e.hermegauss(64)
    s = np.sqrt(chdtri(df, (1 - x) / 2) / df)[:, None]
    return s, s_weights / 2, z, z_weights / math.sqrt(2 * math.pi)


def any_beyond(t: float, counts: tuple[int, ...], base: int) -> float:
    """P(max_i |T_i| > t) where no group differs (Dunnett 1955): T_i = (x̄_i − x̄_0) / (s √(1/n_i +
    1/n_0)) of groups of ``counts`` runs against one of ``base`` runs, s² pooled over all of them.

    Given s and the base's mean z the T_i are independent: 1 − E_s E_z Π_i [Φ((t s − λ_i z) / r_i)
    − Φ((−t s − λ_i z) / r_i)], λ_i² = n_i / (n_i + n_0), r_i² = 1 − λ_i². Five digits are right;
    ``scipy.stats.dunnett`` draws at random: three digits, and ten seconds for thirty groups."""
    s, s_weights, z, z_weights = nodes(sum(counts) + base - len(counts) - 1)
    inside = 1.0
    for n, groups in zip(*np.unique(counts, return_counts=True), strict=True):
        shift, r = math.sqrt(n / (n + base)) * z, math.sqrt(base / (n + base))
        inside = inside * (ndtr((t * s - shift) / r) - ndtr((-t * s - shift) / r)) ** groups
    return float(np.clip(1 - s_weights @ inside @ z_weights, 0, 1))


@cache
def dunnett_limit(counts: tuple[int, ...], base: int) -> float:
    """The t beyond which any of the groups of `any_beyond` lies with a probability of 5 %."""
    return brentq(lambda t: any_beyond(t, counts, base) - 0.05, 0, 100, xtol=1e-6)


def dunnett(arms: list, base) -> list[Effect]:
    """Every arm − base (arrays of runs, two or more each) with simultaneous intervals: the chance
    that any of them misses its true difference is 5 %. p is adjusted alike, the variance pooled."""
    base, *arms = groups = [np.asarray(x, float) for x in (base, *arms)]
    counts, n = tuple(map(len, arms)), len(base)
    freedom, out = n - 1 + sum(counts) - len(arms), []
    sd = math.sqrt(sum(((x - x.mean()) ** 2).sum() for x in groups) / freedom)
    for x in arms:
        mean, se = x.mean() - base.mean(), sd * math.sqrt(1 / len(x) + 1 / n)
        half, p = dunnett_limit(counts, n) * se, 0.0 if mean else 1.0
        if se:
            p = any_beyond(abs(mean) / se, counts, n)
        out.append(Effect(mean, mean - half, mean + half, len(x), p, 2 ** 0.5 * sd, len(arms)))
    return out


def contrast(groups: list, weights: list[float]) -> Effect:
    """Σ w_i x̄_i of independent groups of unequal variances, with Welch's interval: degrees of
    freedom by Satterthwaite, ν = (Σ v_i)² / Σ v_i² / (n_i − 1), v_i = w_i² s_i² / n_i (Welch 1947).
    Two groups with weights 1, −1 are Welch's t test; ``n`` is that of the smallest."""
    groups = [np.asarray(x, float) for x in groups]
    n, least = np.array([len(x) for x in groups]), min(map(len, groups))
    mean = float(np.dot(weights, [np.mean(x) for x in groups])) if least else math.nan
    if least < MIN_SEEDS:
        return Effect(mean, n=least)
    v = np.array([w * w * np.var(x, ddof=1) for w, x in zip(weights, groups, strict=True)]) / n
    se = math.sqrt(v.sum())
    if not se:
        return Effect(mean, mean, mean, least, 0.0 if mean else 1.0)
    freedom = v.sum() ** 2 / (v ** 2 / (n - 1)).sum()
    half = float(stats.t.ppf(0.975, freedom)) * se
    return Effect(mean, mean - half, mean + half, least,
                  float(2 * stats.t.sf(abs(mean) / se, freedom)))


def random_effects(gains, errors) -> dict[str, float]:
    """The ``mean`` of gains that truly differ between cells, from each cell's gain and standard
    error: weights 1 / (se² + τ²) with DerSimonian and Laird's τ² (1986); its 95 % t interval,
    ``low`` to ``high``, of k − 1 degrees of freedom after Hartung and Knapp (2001), never narrower
    than with a variance factor of 1. ``tau``: the sd of the true gains between cells; ``i2``: the
    share, in %, of the scatter between cells that is not seed noise; ``cells``: k."""
    y, se2 = np.asarray(gains, float), np.asarray(errors, float) ** 2
    k, w = len(y), 1 / se2
    q = (w * (y - np.average(y, weights=w)) ** 2).sum()
    tau2 = max(0.0, (q - (k - 1)) / (w.sum() - (w ** 2).sum() / w.sum()))
    w = 1 / (se2 + tau2)
    mean = np.average(y, weights=w)
    factor = max(1.0, (w * (y - mean) ** 2).sum() / (k - 1))
    half = stats.t.ppf(0.975, k - 1) * math.sqrt(factor / w.sum())
    return {"mean": mean, "low": mean - half, "high": mean + half, "tau": math.sqrt(tau2),
            "i2": 100 * max(0.0, 1 - (k - 1) / q) if q else 0.0, "cells": k}


def power_of(n: int, sd_diff: float, delta: float, arms: int = 1) -> float:
    """The probability that Dunnett's rule finds the difference ``delta`` of one of ``arms`` arms,
    each and the base of n seeds: that |T| exceeds `dunnett_limit` for T noncentral with δ√n /
    sd_diff, ``sd_diff`` = √2 · the sd of a run. With one arm it is the two-sample t test."""
    shift = abs(delta) / sd_diff * math.sqrt(n) if sd_diff else math.inf
    if shift > 40:                              # 1 to the last digit; scipy may give NaN out here
        return 1.0
    limit, freedom = dunnett_limit((n,) * arms, n), (arms + 1) * (n - 1)
    wrong_sign = stats.nct.cdf(-limit, freedom, shift) if shift < 5 else 0.0    # below 1e-10
    return float(stats.nct.sf(limit, freedom, shift) + wrong_sign)


def power_of_equivalence(n: int, sd_diff: float, margin: float, arms: int = 1) -> float:
    """The probability that the interval of one of ``arms`` arms of n seeds lies within ± margin
    where nothing differs: E[(2Φ((margin·√n − limit·s) / sd_diff) − 1)₊] over the pooled s."""
    if not sd_diff:
        return 1.0
    freedom = (arms + 1) * (n - 1)
    s = sd_diff * np.sqrt(stats.chi2.ppf((np.arange(400) + 0.5) / 400, freedom) / freedom)
    room = margin * math.sqrt(n) - dunnett_limit((n,) * arms, n) * s
    return float(np.maximum(0, 2 * stats.norm.cdf(room / sd_diff) - 1).mean())


def seeds_needed(sd_diff: float, delta: float, arms: int = 1, power=power_of) -> int:
    """The fewest seeds an arm with a power of 80 %: to find the difference ``delta``, or by
    `power_of_equivalence` to call none of it equivalent at that margin. At most ``MOST_SEEDS``."""
    if not (sd_diff >= 0 and abs(delta) > 0):
        raise ValueError(f"sd_diff={sd_diff} should be 0 or more, delta={delta} not 0")
    return MIN_SEEDS + bisect_left(range(MIN_SEEDS, MOST_SEEDS), True,
                                   key=lambda n: power(n, sd_diff, delta, arms) >= 0.8)

"""Size and power of each rule for a verdict, by simulation, at 3, 6 and 10 seeds and five blocks:
how often it finds a difference where there is none, and one where there is.

*Dunnett*, the rule of `stats.arms_table`, holds for the family of blocks; *Welch*, its check, and
the t test of differences *seed by seed*, which came before it, hold for one block."""
import math
from functools import cache

import numpy as np
import pytest
from scipy import stats as reference

from attnlib.analysis import inference

BLOCKS, DRAWS, SEEDS = 5, 4000, (3, 6, 10)


def runs(n: int, gain: float = 0.0, sd=1.0, together: float = 0.0) -> np.ndarray:
    """[draws, 1 + blocks, seeds]: the plain network first; the first block gains ``gain``, each arm
    has its ``sd``; ``together``: the share of the variance that runs of one seed have in common."""
    rng = np.random.default_rng(n)
    x = rng.normal(size=(DRAWS, BLOCKS + 1, n)) * math.sqrt(1 - together)
    x = x + rng.normal(size=(DRAWS, 1, n)) * math.sqrt(together)
    x *= np.reshape(sd, (-1, 1))
    x[:, 1] += gain
    return x


def dunnett(x) -> np.ndarray:
    """[draws, blocks]: whether the interval excludes zero."""
    n = x.shape[2]
    se = np.sqrt(x.var(2, ddof=1).mean(1) * 2 / n)[:, None]
    limit = inference.dunnett_limit((n,) * (x.shape[1] - 1), n)
    return np.abs(x[:, 1:].mean(2) - x[:, :1].mean(2)) > limit * se


def welch(x) -> np.ndarray:
    return reference.ttest_ind(x[:, 1:], x[:, :1], axis=2, equal_var=False).pvalue < 0.05


def seed_by_seed(x) -> np.ndarray:
    return reference.ttest_1samp(x[:, 1:] - x[:, :1], 0, axis=2).pvalue < 0.05


@cache
def scipys_limit(n: int) -> float:
    """The limit behind scipy's intervals, from one sample of the design."""
    x = np.random.default_rng(0).normal(size=(BLOCKS + 1, n))
    interval = reference.dunnett(*x[1:], control=x[0],
                                 rng=np.random.default_rng(1)).confidence_interval()
    return (interval.high - interval.low)[0] / 2 / math.sqrt(x.var(1, ddof=1).mean() * 2 / n)


@pytest.mark.parametrize("n", SEEDS)
def test_size(n):
    x = runs(n)
    assert abs(dunnett(x).any(1).mean() - 0.05) < 0.015                 # of the family
    alone = {rule: rule(x)[:, 0].mean() for rule in (welch, seed_by_seed)}
    assert alone[welch] == pytest.approx(0.05, abs=0.02)                # timid with three seeds
    assert alone[seed_by_seed] == pytest.approx(0.05, abs=0.015)
    for rule in (welch, seed_by_seed):                                  # five chances to be wrong
        assert rule(x).any(1).mean() > 0.1


@pytest.mark.parametrize(("n", "gain"), [(3, 3.5), (6, 2.0), (10, 1.5)])
def test_power(n, gain):
    """Of finding the first block's gain, against the noncentral t with scipy's limits."""
    x, shift = runs(n, gain), gain * math.sqrt(n / 2)
    power = {rule: rule(x)[:, 0].mean() for rule in (dunnett, welch, seed_by_seed)}
    exact = {dunnett: reference.nct.sf(scipys_limit(n), (BLOCKS + 1) * (n - 1), shift),
             seed_by_seed: reference.nct.sf(reference.t.ppf(0.975, n - 1), n - 1, shift)}
    for rule, stated in exact.items():
        assert 0.4 < stated < 0.95 and power[rule] == pytest.approx(stated, abs=0.025)
    assert inference.power_of(n, 2 ** 0.5, gain, BLOCKS) == pytest.approx(exact[dunnett], abs=2e-3)
    assert power[seed_by_seed] < power[welch]           # pairs of nothing in common cost freedom
    if n == 3:                                          # sure of five blocks, and still finds more
        assert power[seed_by_seed] < power[dunnett] - 0.2


@pytest.mark.parametrize("n", SEEDS)
def test_unequal_noise_is_what_the_check_is_for(n):
    """A block five times as noisy as the others: the pooled variance is too small for it."""
    x = runs(n, sd=(1, 5, 1, 1, 1, 1))
    assert dunnett(x)[:, 0].mean() > 0.08 and welch(x)[:, 0].mean() < 0.07
    assert dunnett(x)[:, 1:].any(1).mean() < 0.01       # and too large for the others


@pytest.mark.parametrize("n", SEEDS)
def test_equivalence_is_hardly_ever_claimed_of_a_difference_at_the_margin(n):
    x, margin = runs(n, 1.5), 1.5
    half = inference.dunnett_limit((n,) * BLOCKS, n) * np.sqrt(x.var(2, ddof=1).mean(1) * 2 / n)
    gap = x[:, 1].mean(1) - x[:, 0].mean(1)
    assert (np.abs(gap) + half <= margin).mean() < 0.02

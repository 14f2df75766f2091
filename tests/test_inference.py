"""The statistics against scipy, published tables and closed forms, and by simulation: the stated
coverage and error rates hold within Monte-Carlo error, from fixed seeds."""
import math

import numpy as np
import pytest
from scipy import stats as reference

from attnlib.analysis import inference


def within(share: float, stated: float, n: int) -> bool:
    """Whether a simulated share of n is the stated one, to three Monte-Carlo standard errors."""
    return abs(share - stated) <= 3 * math.sqrt(stated * (1 - stated) / n)


# --- Dunnett ---


@pytest.mark.parametrize(("arms", "n", "limit"), [(1, 11, 2.09), (3, 6, 2.54), (5, 5, 2.70)])
def test_limits_are_those_of_dunnetts_table(arms, n, limit):
    """Two-sided, 5 %: Dunnett 1964, table II, for 20, 20 and 24 degrees of freedom."""
    assert inference.dunnett_limit((n,) * arms, n) == pytest.approx(limit, abs=0.012)


@pytest.mark.parametrize("counts", [(3, 3), (6, 3, 4), (8, 8, 8, 3, 3)])
def test_dunnett_is_scipys(counts):
    rng = np.random.default_rng(len(counts))
    arms, base = [rng.normal(0.8, 1, n) for n in counts], rng.normal(0, 1, 6)
    ours = inference.dunnett(arms, base)
    theirs = reference.dunnett(*arms, control=base, rng=np.random.default_rng(0))
    assert [c.p for c in ours] == pytest.approx(theirs.pvalue, abs=1e-3)
    np.testing.assert_allclose([(c.low, c.high) for c in ours],
                               np.transpose(theirs.confidence_interval()), atol=0.01)
    assert all((c.p < 0.05) == (c.low > 0 or c.high < 0) for c in ours)


def test_all_intervals_of_a_family_cover_together_95_times_in_100():
    rng, design, hits = np.random.default_rng(3), ((0, 3), (1, 6), (-2, 4), (0.5, 3), (0, 3)), 0
    for _ in range(300):
        arms = [rng.normal(gain, 1, n) for gain, n in design]
        found = inference.dunnett(arms, rng.normal(0, 1, 5))
        hits += all(c.low <= gain <= c.high for c, (gain, _) in zip(found, design, strict=True))
    assert within(hits / 300, 0.95, 300)


# --- Welch ---


def test_welch_of_two_groups_is_scipys():
    rng = np.random.default_rng(0)
    a, b = rng.normal(1, 3, 4), rng.normal(0, 1, 7)
    ours, theirs = inference.contrast([a, b], [1, -1]), reference.ttest_ind(a, b, equal_var=False)
    assert ours.p == pytest.approx(theirs.pvalue)
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs.confidence_interval()))


def test_welch_of_four_groups_keeps_its_error_rate():
    """An interaction of unequal noise: (a − b) − (c − d) = 0."""
    design, missed = ((3, 1, 5), (2, 2, 6), (1, 0.5, 6), (0, 1, 5)), 0
    rng = np.random.default_rng(2)
    for _ in range(2000):
        c = inference.contrast([rng.normal(*group) for group in design], [1, -1, -1, 1])
        missed += not c.low <= 0 <= c.high
    assert abs(missed / 2000 - 0.05) < 0.015


# --- One block in several cells ---


def test_random_effects_of_a_published_example():
    """Thirteen trials of the BCG vaccine, log risk ratios (Colditz et al. 1994), as every textbook
    has them: τ² 0.3088, mean −0.714, I² 92.1 %."""
    y = [-0.8893, -1.5854, -1.3481, -1.4416, -0.2175, -0.7861, -1.6209, 0.0120, -0.4694, -1.3713,
         -0.3394, 0.4459, -0.0173]
    v = [0.3256, 0.1946, 0.4154, 0.0200, 0.0512, 0.0069, 0.2230, 0.0040, 0.0564, 0.0730, 0.0124,
         0.5325, 0.0714]
    found = inference.random_effects(y, np.sqrt(v))
    assert found["tau"] ** 2 == pytest.approx(0.3088, abs=2e-3)
    assert found["mean"] == pytest.approx(-0.7141, abs=1e-3)
    assert found["i2"] == pytest.approx(92.12, abs=0.1) and found["cells"] == 13


def test_random_effects_cover_where_cells_differ_and_where_they_do_not():
    """Five cells, seed noise 0.2: the plain weighted mean forgets that cells differ."""
    rng = np.random.default_rng(5)
    for tau, least, most in ((0.6, 0.935, 0.965), (0.0, 0.95, 1.0)):
        y = 0.3 + rng.normal(0, tau, (2000, 5)) + rng.normal(0, 0.2, (2000, 5))
        found = [inference.random_effects(row, [0.2] * 5) for row in y]
        covered = np.mean([f["low"] <= 0.3 <= f["high"] for f in found])
        assert least <= covered <= most
    fixed = np.abs(rng.normal(0, 0.6, (3000, 5)).mean(1)) <= 1.96 * 0.2 / math.sqrt(5)
    assert fixed.mean() < 0.6


# --- How many seeds ---


@pytest.mark.parametrize(("effect", "n"), [(0.2, 394), (0.5, 64), (0.8, 26), (1.0, 17)])
def test_seeds_needed_of_one_arm_are_cohens(effect, n):
    """Cohen 1988: runs a group for 80 % power at 5 %, by the effect in sd of a run."""
    assert inference.seeds_needed(2 ** 0.5, effect) == n


def test_no_fewer_seeds_are_said_to_do_than_an_interval_takes():
    assert inference.seeds_needed(0.1, 9.0) == inference.MIN_SEEDS


@pytest.mark.parametrize("arms", [1, 5])
def test_power_of_equivalence_by_simulation(arms):
    rng, n, margin = np.random.default_rng(12), 12, 0.35
    x = rng.normal(0, 0.28, (6000, arms + 1, n))
    gap = x[:, 1].mean(1) - x[:, 0].mean(1)
    half = inference.dunnett_limit((n,) * arms, n) * np.sqrt(x.var(2, ddof=1).mean(1) * 2 / n)
    question = 2 ** 0.5 * 0.28, margin, arms
    stated = inference.power_of_equivalence(n, *question)
    assert 0.1 < stated < 0.9 and within((np.abs(gap) + half <= margin).mean(), stated, 6000)
    needed = inference.seeds_needed(*question, inference.power_of_equivalence)
    before, then = (inference.power_of_equivalence(k, *question) for k in (needed - 1, needed))
    assert before < 0.8 <= then


@pytest.mark.parametrize(("sd", "delta"), [
    (math.nan, 1.0), (-1.0, 1.0), (1.0, 0.0), (1.0, math.nan)])
def test_impossible_questions_are_refused(sd, delta):
    with pytest.raises(ValueError, match="should be"):
        inference.seeds_needed(sd, delta)

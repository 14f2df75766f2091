"""The statistics against scipy and closed forms, and by simulation: the stated coverage and error
rates hold within Monte-Carlo error, from fixed seeds."""
import math

import numpy as np
import pytest
from scipy import stats as reference

from attnlib import inference


def within(share: float, stated: float, n: int) -> bool:
    """Whether a simulated share of n is the stated one, to three Monte-Carlo standard errors."""
    return abs(share - stated) <= 3 * math.sqrt(stated * (1 - stated) / n)


def test_sign_flip_is_scipys_permutation_test():
    rng = np.random.default_rng(0)
    for n in (3, 6, 11):
        a, b = rng.normal(0.5, 1, n), rng.normal(0, 1, n)
        expected = reference.permutation_test((a, b), lambda x, y: np.mean(x - y),
                                              permutation_type="samples", n_resamples=np.inf).pvalue
        assert inference.sign_flip(a - b) == pytest.approx(expected)


def test_smallest_p_of_the_sign_flip_test():
    for n in range(1, 13):
        assert inference.sign_flip(np.arange(1.0, n + 1)) == inference.smallest_p(n)
    assert inference.smallest_p(5) == 0.0625 and inference.smallest_p(6) == 0.03125
    assert [inference.seeds_for_holm(arms) for arms in (1, 3, 10)] == [6, 7, 9]
    assert inference.sign_flip(np.zeros(6)) == 1.0


def test_sampled_sign_flips_agree_with_the_t_test():
    gaps = np.random.default_rng(4).normal(0.4, 1, 20)
    p = inference.sign_flip(gaps)
    assert p == inference.sign_flip(gaps)                                   # seeded
    assert p == pytest.approx(reference.ttest_1samp(gaps, 0).pvalue, abs=0.02)


def test_sign_flip_keeps_its_error_rate():
    """Under symmetric, heavy-tailed noise: P(p <= k/32) is k/32 exactly for 6 seeds."""
    gaps = np.random.default_rng(1).standard_t(2, (3000, 6))
    p = np.array([inference.sign_flip(g) for g in gaps])
    assert within((p <= 0.05).mean(), 1 / 32, 3000)
    assert within((p <= 0.25).mean(), 8 / 32, 3000)


def test_hedges_correction():
    gaps = np.array([1.0, 2.0, 4.0, 5.0, 3.5])
    d = gaps.mean() / gaps.std(ddof=1)
    assert inference.hedges(gaps) == pytest.approx(d * (1 - 3 / (4 * 4 - 1)), rel=0.01)
    assert math.isnan(inference.hedges([1.0, 2.0])) and math.isnan(inference.hedges([1.0] * 5))


def test_hedges_is_unbiased():
    gaps = np.random.default_rng(2).normal(0.5, 1, (4000, 5))
    g = np.array([inference.hedges(row) for row in gaps])
    assert abs(g.mean() - 0.5) <= 3 * g.std() / math.sqrt(len(g))
    plain = (gaps.mean(1) / gaps.std(1, ddof=1)).mean()
    assert plain > 0.55                                                     # what J is there for


@pytest.mark.parametrize(("wins", "n"), [(0, 5), (3, 6), (6, 6), (13, 20)])
def test_prob_better_is_scipys_wilson_interval(wins, n):
    share, low, high = inference.prob_better([1.0] * wins + [-1.0] * (n - wins))
    expected = reference.binomtest(wins, n).proportion_ci(method="wilson")
    assert (share, low, high) == pytest.approx((wins / n, expected.low, expected.high), abs=1e-9)


def test_ties_count_half():
    assert inference.prob_better([1.0, 0.0, 0.0, -1.0])[0] == 0.5


def test_coverage_of_prob_better():
    """Wilson covers 95 % on average over the true share, exactly computed (n = 10)."""
    covers = []
    for share in np.linspace(0.05, 0.95, 181):
        ends = [inference.prob_better([1.0] * k + [-1.0] * (10 - k))[1:] for k in range(11)]
        covers.append(sum(reference.binom.pmf(k, 10, share) for k, (low, high) in enumerate(ends)
                          if low <= share <= high))
    assert np.mean(covers) == pytest.approx(0.95, abs=0.015) and min(covers) > 0.83


def test_holm_by_hand():
    assert inference.holm([0.01, 0.04, 0.03, math.nan]) == pytest.approx(
        [0.03, 0.06, 0.06, math.nan], nan_ok=True)
    assert inference.holm([0.6, 0.7]) == pytest.approx([1.0, 1.0])
    assert len(inference.holm([])) == 0


def test_holm_keeps_the_familys_error_rate():
    """Ten independent true nulls: the chance of any rejection is 1 − (1 − α/10)^10, under 5 %."""
    p = np.random.default_rng(3).uniform(size=(3000, 10))
    any_rejected = np.array([(inference.holm(row) < 0.05).any() for row in p])
    assert within(any_rejected.mean(), 1 - (1 - 0.005) ** 10, 3000)
    assert (p < 0.05).any(1).mean() > 0.3                                   # without it


def test_tost_is_the_larger_of_two_one_sided_t_tests():
    gaps = np.random.default_rng(5).normal(0.1, 0.5, 8)
    p, low, high = inference.tost(gaps, 0.6)
    above = reference.ttest_1samp(gaps, -0.6, alternative="greater").pvalue
    below = reference.ttest_1samp(gaps, 0.6, alternative="less").pvalue
    assert p == pytest.approx(max(above, below))
    expected = reference.ttest_1samp(gaps, 0).confidence_interval(0.9)
    assert (low, high) == pytest.approx((expected.low, expected.high))
    assert math.isnan(inference.tost([0.1] * 4, 1.0)[0])


def test_tost_keeps_its_error_rate_at_the_margin():
    gaps = np.random.default_rng(6).normal(1.0, 0.5, (3000, 6))
    found = [inference.tost(g, 1.0) for g in gaps]
    assert within(np.mean([p < 0.05 for p, _, _ in found]), 0.05, 3000)
    assert all((p < 0.05) == (-1 < low and high < 1) for p, low, high in found)


def test_bca_covers_what_its_docstring_says():
    """Too little with few seeds: about 85 % with 5, 93 % with 20."""
    rng = np.random.default_rng(7)
    for n, stated in ((5, 0.85), (20, 0.93)):
        ends = [inference.bca(rng.normal(0.7, 1.3, n), draws=499) for _ in range(500)]
        inside = np.mean([low <= 0.7 <= high for low, high in ends])
        assert within(inside, stated, 500)
    assert inference.bca([2.0, 2.0, 2.0]) == (2.0, 2.0)


def test_bca_follows_skew():
    gaps = np.random.default_rng(8).exponential(1, 40)
    low, high = inference.bca(gaps)
    assert high - gaps.mean() > gaps.mean() - low


def test_mcnemar_is_the_binomial_test_of_the_discordant():
    a = np.array([True] * 80 + [True] * 12 + [False] * 3 + [False] * 5)
    b = np.array([True] * 80 + [False] * 12 + [True] * 3 + [False] * 5)
    by_hand = 2 * sum(math.comb(15, k) for k in range(4)) / 2 ** 15
    assert inference.mcnemar(a, b) == pytest.approx(by_hand)
    assert inference.mcnemar(a, a) == 1.0


def test_mcnemar_keeps_its_error_rate():
    right = np.random.default_rng(9).uniform(size=(1000, 2, 300)) < 0.8
    rejected = np.mean([inference.mcnemar(a, b) < 0.05 for a, b in right])
    assert 0.01 < rejected <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 1000)      # exact: conservative


def test_hierarchical_of_one_image_answer_is_the_bootstrap_over_seeds():
    """Images that all answer alike leave the seeds' noise alone: quantiles of a binomial."""
    a = np.repeat([[True]] * 6 + [[False]] * 4, 50, axis=1)
    mean, low, high = inference.hierarchical(a, np.zeros_like(a), draws=4000)
    expected = 100 * reference.binom.ppf((0.025, 0.975), 10, 0.6) / 10
    assert mean == pytest.approx(60) and (low, high) == pytest.approx(tuple(expected))


def test_hierarchical_over_images_has_the_binomial_spread():
    """Seeds that all answer alike leave the test set's noise: the normal interval of a share."""
    right = np.tile(np.arange(400) % 4 != 0, (5, 1))
    mean, low, high = inference.hierarchical(right, np.zeros_like(right), draws=2000)
    half = 100 * 1.96 * math.sqrt(0.75 * 0.25 / 400)
    assert (mean, low, high) == pytest.approx((75, 75 - half, 75 + half), abs=0.5)


def test_coverage_of_hierarchical():
    """Seeds, images and their interaction all vary, ten seeds: at least the stated 95 %."""
    rng, inside = np.random.default_rng(10), []
    spread = math.sqrt(1 + 0.15 ** 2 + 1.5 ** 2)
    true = 100 * (reference.norm.cdf(1.3 / spread) - reference.norm.cdf(1 / spread))
    for _ in range(200):
        ease = rng.normal(0, 1.5, 200)
        a, b = (ease + c + rng.normal(0, 0.15, (10, 1)) + rng.normal(size=(10, 200)) > 0
                for c in (1.3, 1.0))
        _, low, high = inference.hierarchical(a, b, draws=200)
        inside.append(low <= true <= high)
    assert np.mean(inside) >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / 200)


POWER = {0.15: ((0.1, 38, 66), (0.2, 11, 20), (0.3, 7, 11), (0.5, 4, 7)),
         0.20: ((0.1, 65, 115), (0.2, 18, 32), (0.3, 10, 17), (0.5, 5, 9)),
         0.25: ((0.1, 101, 176), (0.2, 27, 48), (0.3, 13, 24), (0.5, 7, 11), (1.0, 4, 6)),
         0.30: ((0.3, 18, 32), (0.5, 8, 15), (1.0, 4, 7))}


@pytest.mark.parametrize("sd", POWER)
def test_seeds_needed_at_the_noise_of_large_networks(sd):
    """Seeds an arm at α = 0.05 and 0.05 / 12, power 80 %, for a seed noise of sd points an arm."""
    for delta, plain, corrected in POWER[sd]:
        assert inference.seeds_needed(2 ** 0.5 * sd, delta) == plain
        assert inference.seeds_needed(2 ** 0.5 * sd, delta, 0.05 / 12) == corrected


def test_power_by_simulation():
    gaps = np.random.default_rng(11).normal(0.3, 0.4, (4000, 9))
    found = reference.ttest_1samp(gaps, 0, axis=1).pvalue < 0.05
    assert within(found.mean(), inference.power_of(9, 0.4, 0.3), 4000)


def test_power_grows_with_seeds_everywhere():
    """Where scipy's noncentral t gives up, far out, ours must not."""
    for sd in (0.01, 0.1, 1.0, 5.0):
        power = [inference.power_of(n, sd, 0.1) for n in (*range(2, 60), 300, 2000, 9999)]
        assert np.all(np.diff(power) >= -1e-9) and not np.isnan(power).any()


def test_power_of_equivalence_by_simulation():
    gaps = np.random.default_rng(12).normal(0, 0.28, (4000, 15))
    half = np.array([inference.t_half_width(g.std(ddof=1), 15) for g in gaps])
    inside = np.abs(gaps.mean(1)) + half <= 0.2
    assert within(inside.mean(), inference.power_of_equivalence(15, 0.28, 0.2), 4000)
    n = inference.seeds_for_equivalence(0.28, 0.2)
    assert (inference.power_of_equivalence(n, 0.28, 0.2) >= 0.8
            > inference.power_of_equivalence(n - 1, 0.28, 0.2))


def test_power_of_equivalence_at_the_noise_of_large_networks():
    """By TOST at 5 % (the 90 % interval), seed noise 0.2 an arm, margin 0.2: as simulated."""
    found = [inference.power_of_equivalence(n, 2 ** 0.5 * 0.2, 0.2, 0.9) for n in (5, 10, 20)]
    assert found == pytest.approx([0.09, 0.35, 0.84], abs=0.005)


@pytest.mark.parametrize("call", [lambda: inference.seeds_needed(math.nan, 1.0),
                                  lambda: inference.seeds_needed(1.0, 0.0),
                                  lambda: inference.seeds_for_equivalence(1.0, 0.0)])
def test_impossible_questions_are_refused(call):
    with pytest.raises(ValueError, match="should be"):
        call()

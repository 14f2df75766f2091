"""Paired comparisons against closed forms and scipy, and the words made of them."""
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats as reference

from attnlib import stats, words


def frame(**arms) -> pd.DataFrame:
    """A `collect`-like table: one list of accuracies an arm, seeds 0, 1, …"""
    rows = [{"dataset": "cifar10", "backbone": "resnet18", "recipe": "strong", "attention": arm,
             "arm": arm, "seed": seed,
             "status": "missing" if math.isnan(value) else "done", "accuracy": value,
             "profile": "real", "params": 1000, "macs": 2_000_000}
            for arm, values in arms.items() for seed, value in enumerate(values)]
    return pd.DataFrame(rows)


def test_interval_is_scipys_of_the_differences():
    rng = np.random.default_rng(0)
    a, b = rng.normal(70, 1, 6), rng.normal(69, 1, 6)
    d = stats.paired(frame(none=b, se=a), "se")
    expected = reference.ttest_rel(a, b).confidence_interval(0.95)
    assert (d.low, d.high) == pytest.approx((expected.low, expected.high))
    assert d.mean == pytest.approx((a - b).mean())
    assert (d.n, d.wins) == (6, int((a > b).sum()))


def test_pairs_are_by_seed_and_only_finished_ones_count():
    d = stats.paired(frame(none=[60.0, 70.0, 80.0, 90.0], se=[61.0, 71.0, math.nan, 91.0]), "se")
    assert (d.mean, d.n, d.wins) == (1.0, 3, 3)
    assert d.low == pytest.approx(1.0) and d.high == pytest.approx(1.0)      # no spread at all


def test_too_few_seeds_give_no_interval():
    d = stats.paired(frame(none=[60.0, 70.0], se=[62.0, 73.0]), "se")
    assert d.mean == 2.5 and math.isnan(d.low) and math.isnan(d.high)
    assert stats.verdict(d, 1.0) == "too few seeds"


def test_several_runs_of_one_seed_are_refused():
    with pytest.raises(ValueError, match="several runs of one arm and seed"):
        stats.paired(pd.concat([frame(none=[1.0], se=[2.0])] * 2), "se")


@pytest.mark.parametrize(("low", "high", "says"), [
    (0.1, 3.0, "better"), (-3.0, -0.1, "worse"), (-0.9, 0.9, "equivalent"),
    (0.1, 0.9, "equivalent"), (-0.5, 1.5, "undecided")])
def test_verdicts(low, high, says):
    assert stats.verdict(stats.Difference((low + high) / 2, low, high, 6, 3), 1.0) == says


def test_coverage_of_the_interval():
    """The stated 95 % within Monte-Carlo error: 2,000 draws, standard error 0.5 points."""
    rng = np.random.default_rng(1)
    gaps = rng.normal(0.7, 1.3, (2000, 5))
    half = np.array([stats.t_half_width(g.std(ddof=1), 5) for g in gaps])
    inside = np.abs(gaps.mean(1) - 0.7) <= half
    assert abs(inside.mean() - 0.95) < 0.02


def test_words_say_what_the_table_holds():
    df = frame(none=[60.0, 61.0, 62.0], se=[62.0, 63.0, 64.1], cbam=[59.0, math.nan, math.nan])
    said = words.reading(df, "real")
    assert "`none` reaches 61.0 ± 1.0 %" in said
    assert "SE +2.0 [+1.9, +2.2] points over 3 paired seeds, better" in said
    assert "CBAM −1.0 points over 1 paired seed, too few seeds" in said
    table = words.accuracy_table(df)
    assert "| 63.0 ± 1.1" in table and "1 of 3" in table


def test_words_of_nothing():
    df = frame(none=[math.nan], se=[math.nan])
    assert "no finished runs yet" in words.reading(df, "real")
    assert "too few to see noise" in words.seed_noise(df)

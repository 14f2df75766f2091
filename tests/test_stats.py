"""Paired comparisons against closed forms and scipy, and the words made of them."""
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats as reference

from attnlib import inference, stats, words


def frame(**arms) -> pd.DataFrame:
    """A `collect`-like table: one list of accuracies an arm, seeds 0, 1, …"""
    rows = [{"dataset": "cifar10", "backbone": "resnet18", "recipe": "strong", "attention": arm,
             "arm": arm, "seed": seed,
             "status": "missing" if math.isnan(value) else "done", "accuracy": value,
             "profile": "pilot", "params": 1000, "macs": 2_000_000}
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


@pytest.mark.parametrize(("low", "high", "says"), [
    (5.0, 9.0, "holds"), (-1.0, 4.7, "not reproduced"),
    (4.74, 9.0, "undecided: needs about 3 seeds"),
    (math.nan, math.nan, "undecided: needs about 3 seeds")])
def test_claim_verdicts(low, high, says):
    """A claimed +9.49, so that half of it is 4.745; the differences scatter by 0.9 points."""
    d = stats.Difference((low + high) / 2, low, high, 2, 2)
    assert stats.claim_verdict(d, 9.49, 0.9) == says
    minus = stats.Difference(-d.mean, -high, -low, 2, 0)
    assert stats.claim_verdict(minus, -9.49, 0.9) == says           # a claimed decrease
    assert stats.claim_verdict(d, math.nan, 0.9) == "not testable"


def test_claim_verdict_asks_for_more_seeds_than_there_are():
    d = stats.Difference(0.6, 0.2, 1.0, 30, 20)
    assert stats.claim_verdict(d, 1.0, 0.6) == (
        f"undecided: needs about {inference.seeds_needed(0.6, 0.1)} seeds")
    assert inference.seeds_needed(0.6, 0.5) < 30 < inference.seeds_needed(0.6, 0.1)
    none = stats.Difference(math.nan, math.nan, math.nan, 0, 0)
    assert stats.claim_verdict(none, 1.0) == "undecided: no finished pairs"


def test_lower_is_better_for_losses_and_times():
    df = frame(none=[60.0, 61.0, 62.0, 63.0], se=[60.0, 61.0, 62.0, 63.0])
    df["nll"] = [1.0, 1.1, 1.2, 1.3, 0.8, 0.91, 1.0, 1.1]
    table = stats.arms_table(df, "nll").set_index("arm")
    assert table.verdict["se"] == "better" and table.gain["se"] < 0
    assert math.isnan(table.tost_p["se"])               # no margin is set for this metric
    assert stats.arms_table(df, "nll", margin=0.5).set_index("arm").verdict["se"] == "equivalent"
    df["nll"] *= -1
    assert stats.arms_table(df, "nll").set_index("arm").verdict["se"] == "worse"


def test_arms_table_corrects_within_a_cell():
    rng = np.random.default_rng(3)
    base = rng.normal(60, 1, 8)
    arms = {f"a{k}": base + gain + rng.normal(0, 0.3, 8) for k, gain in enumerate((0, 2, 0.1))}
    df = frame(none=base, **arms)
    both = pd.concat([df, df.assign(backbone="vgg16")])
    table = stats.arms_table(both)
    for _, cell in table.groupby("backbone"):
        own = cell[cell.arm != "none"]
        gaps = {arm: arms[arm] - base for arm in own.arm}
        assert list(own.p) == pytest.approx([inference.sign_flip(gaps[a]) for a in own.arm])
        assert list(own.p_holm) == pytest.approx(inference.holm(own.p))
        assert list(own.sd_diff) == pytest.approx([gaps[a].std(ddof=1) for a in own.arm])
        assert list(own.tost_p) == pytest.approx([inference.tost(gaps[a], 1.0)[0] for a in own.arm])
        assert np.isnan(cell[cell.arm == "none"].p_holm.item())
    assert table[table.arm == "a1"].reading.tolist() == ["better", "better"]


def test_the_reading_says_where_holm_takes_a_verdict_back():
    """Five seeds cannot give a sign-flip p below 0.0625, however clear the interval."""
    base = [60.0, 61.0, 62.0, 63.0, 64.0]
    df = frame(none=base, se=[b + 5 + k / 10 for k, b in enumerate(base)])
    row = stats.arms_table(df).set_index("arm").loc["se"]
    assert (row.verdict, row.p, row.p_holm) == ("better", 0.0625, 0.0625)
    assert row.reading == "better (not after Holm)"
    assert "better (not after Holm)" in words.reading(df, "pilot")


def test_words_say_what_the_table_holds():
    df = frame(none=[60.0, 61.0, 62.0], se=[62.0, 63.0, 64.1], cbam=[59.0, math.nan, math.nan])
    said = words.reading(df, "pilot")
    assert "`none` reaches 61.0 ± 1.0 %" in said
    assert "SE +2.0 [+1.9, +2.2] points over 3 paired seeds, better" in said
    assert "CBAM −1.0 points over 1 paired seed, too few seeds" in said
    table = words.accuracy_table(df)
    assert "| 63.0 ± 1.1" in table and "1 of 3" in table


def test_several_sentences_are_a_list_and_a_note_follows():
    assert words.items(["One."]) == "One."
    assert words.items(["One."], "Mind.") == "One. Mind."
    assert words.items(["One.", "Two."], "Mind.") == "- One.\n- Two.\n\nMind."
    assert words.items([]) == ""


def test_words_of_nothing():
    df = frame(none=[math.nan], se=[math.nan])
    assert "no finished runs yet" in words.reading(df, "pilot")
    assert "too few to see noise" in words.seed_noise(df)

"""The claim "sharper": verdicts on made-up images whose answer is known."""
import numpy as np
import pandas as pd
import pytest

from attnlib.explain import sharper

RNG = np.random.default_rng(0)
N = 400


SHARP = {"entropy": -0.2, "gini": 0.3}


def pair(**gains) -> dict:
    """Images of one seed in which A has its metric's base times 1 + gain in every mean."""
    out = {"entropy": 0.8, "gini": 0.5, "lift": 3.0, "pointing": 0.7, "road": 0.2}
    for metric, value in out.items():
        noise = 1 + 0.02 * RNG.standard_normal((N, 2))
        out[metric] = value * noise[:, 1:] * [1 + gains.get(metric, 0), 1]
        out[metric][:, 0] *= noise[:, 0]
    return out


def compared(pairs: list[dict]) -> sharper.Comparison:
    return sharper.compare({}, "se", pairs)


def verdict(seeds: int = 5, **gains) -> sharper.Comparison:
    return compared([pair(**gains) for _ in range(seeds)])


def test_sharper_and_nothing_lost_looks_better():
    c = verdict(**SHARP)
    assert c.verdict == "yes" and set(c.verdicts.values()) == {"yes"} and c.images == 5 * N
    assert c.gain["entropy"].mean == pytest.approx(20, abs=0.5)
    assert c.gain["gini"].low < 30 < c.gain["gini"].high or abs(c.gain["gini"].mean - 30) < 0.5


@pytest.mark.parametrize("gains, criterion", [
    ({}, "sharper"), ({"entropy": -0.2}, "sharper"),
    (SHARP | {"lift": -0.2}, "localisation"), (SHARP | {"pointing": -0.2}, "localisation"),
    (SHARP | {"road": -0.2}, "faithfulness")])
def test_sharp_alone_is_not_good(gains, criterion):
    c = verdict(**gains)
    assert c.verdict == "no"
    assert [k for k, word in c.verdicts.items() if word == "no"] == [criterion]


def test_a_map_below_chance_that_falls_further_has_lost():
    """ROAD has a sign: −0.04 is worse than −0.02, and 0.02 better than either."""
    assert verdict(**SHARP | {"road": 1.0}).verdicts["faithfulness"] == "yes"
    for a, word in ((-0.04, "no"), (0.02, "yes")):
        pairs = [pair(**SHARP) for _ in range(5)]
        for p in pairs:
            p["road"] = RNG.normal([a, -0.02], 0.005, (N, 2))
        c = compared(pairs)
        assert c.verdicts["faithfulness"] == word and c.gain["road"].high - c.gain["road"].low < 50


@pytest.mark.parametrize("low, high, word", [(1, 3, "no"), (1, 9, "yes"), (-1, 9, "undecided")])
def test_sharper_by_less_than_a_twentieth_is_no_gain_to_speak_of(low, high, word):
    gain = dict.fromkeys(sharper.SHARPNESS, sharper.Effect((low + high) / 2, low, high, 5))
    assert sharper.criteria(gain) == {"sharper": word}


def test_seeds_that_disagree_decide_nothing_and_two_give_no_interval():
    mixed = compared([pair(entropy=g, gini=-g) for g in (-0.3, -0.3, 0.3, -0.2, 0.1)])
    assert mixed.verdicts["sharper"] == "undecided"
    two = verdict(2, **SHARP)
    assert two.verdict == "too few seeds" and np.isnan(two.gain["gini"].low)


def test_without_masks_localisation_is_not_asked():
    some = [{m: pair(**SHARP)[m] for m in ("entropy", "gini", "road")} for _ in range(5)]
    assert set(compared(some).verdicts) == {"sharper", "faithfulness"}


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_intervals_of_few_seeds_cover_as_t_intervals_do(seeds):
    """Seeds whose means scatter with sd 1: of 400 intervals about 95 % should hold the truth; of
    five seeds, plain percentiles would hold it in about 83 %."""
    held = 0
    for _ in range(400):
        values = RNG.standard_normal(seeds)
        draws = values[RNG.integers(seeds, size=(2000, seeds))].mean(1)
        e = sharper.estimate(np.append(draws, values.mean()), seeds)
        held += e.low < 0 < e.high
    assert 0.91 <= held / 400 <= 0.985


def test_intervals_do_not_depend_on_the_order_of_names():
    """Sets of names change their order from process to process, and the draws must not."""
    one = [pair(**SHARP) for _ in range(4)]
    assert compared(one) == compared([dict(reversed(p.items())) for p in one])


def test_only_images_that_both_classify_correctly_count():
    keys = ("label", "prediction", "entropy_-2", "road_-2", "confidence")
    a, b = (dict(zip(keys, map(np.array, ([0, 1, 2, 0], *values)), strict=True)) for values in (
        ([0, 1, 2, 3], [.1, .2, np.nan, .4], [.5, .6], [.5, .6, 1, 1]),
        ([0, 1, 2, 0], [.3, .4, .5, .6], [.7, .8], [.7, .4, 1, 1])))
    found = sharper.paired_images(a, b, -2)
    np.testing.assert_allclose(found["entropy"], [[.1, .3], [.2, .4], [np.nan, np.nan]])
    np.testing.assert_allclose(found["road"], [[1, 1], [1, 2], [np.nan, np.nan]])


def test_a_better_classifier_is_not_a_better_looker():
    """Lift that follows accuracy alone leaves nothing to the block, whose runs are better."""
    accuracy = np.r_[RNG.uniform(70, 80, 8), RNG.uniform(76, 86, 8)]
    arm = np.repeat(["none", "se"], 8)
    lift = 0.1 * accuracy + 0.02 * RNG.standard_normal(16)
    table = pd.DataFrame({"arm": arm, "accuracy": accuracy, "lift": lift})
    found = sharper.beyond_accuracy(table)
    assert found["accuracy"].mean == pytest.approx(0.1, abs=0.01)
    assert found["se"].low < 0 < found["se"].high
    table["lift"] += 2.0 * (arm == "se")
    assert sharper.beyond_accuracy(table)["se"].mean == pytest.approx(2, abs=0.1)
    assert sharper.beyond_accuracy(table.iloc[:3]) == {}

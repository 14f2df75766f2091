"""The claim "sharper": verdicts on made-up images whose answer is known."""
import numpy as np
import pytest

from attnlib.explain import sharper

RNG = np.random.default_rng(0)
N = 400


def pairs(seeds: int, noise: float = 0.02, **gains) -> list[dict]:
    """Seeds × images in which A has its metric's base times 1 + gain in every mean."""
    base = {"entropy": 0.8, "gini": 0.5, "lift": 3.0, "pointing": 0.7, "road": 0.2}
    out = []
    for _ in range(seeds):
        out.append({})
        for metric, value in base.items():
            b = value * (1 + noise * RNG.standard_normal(N))
            a = b * (1 + gains.get(metric, 0)) * (1 + noise * RNG.standard_normal(N))
            out[-1][metric] = np.stack([a, b], 1)
    return out


def verdict(**gains) -> sharper.Comparison:
    return sharper.compare(("d", "n", "r"), "se", pairs(5, **gains))


def test_sharper_and_nothing_lost_looks_better():
    c = verdict(entropy=-0.2, gini=0.3)
    assert c.verdict == "yes" and set(c.verdicts.values()) == {"yes"} and c.images == 5 * N
    assert c.gain["entropy"].mean == pytest.approx(20, abs=0.5)
    assert c.gain["gini"].low < 30 < c.gain["gini"].high or abs(c.gain["gini"].mean - 30) < 0.5


@pytest.mark.parametrize("gains, criterion", [
    ({}, "sharper"), ({"entropy": -0.2}, "sharper"),
    ({"entropy": -0.2, "gini": 0.3, "lift": -0.2}, "localisation"),
    ({"entropy": -0.2, "gini": 0.3, "pointing": -0.2}, "localisation"),
    ({"entropy": -0.2, "gini": 0.3, "road": -0.2}, "faithfulness")])
def test_sharp_alone_is_not_good(gains, criterion):
    c = verdict(**gains)
    assert c.verdict == "no"
    assert [k for k, word in c.verdicts.items() if word == "no"] == [criterion]


def test_seeds_that_disagree_decide_nothing():
    mixed = [pairs(1, entropy=g, gini=-g)[0] for g in (-0.3, -0.3, 0.3, -0.2, 0.1)]
    assert sharper.compare(("d", "n", "r"), "se", mixed).verdicts["sharper"] == "undecided"


def test_two_seeds_give_no_interval():
    c = sharper.compare(("d", "n", "r"), "se", pairs(2, entropy=-0.2, gini=0.3))
    assert c.verdict == "too few seeds" and np.isnan(c.gain["gini"].low)


def test_without_masks_localisation_is_not_asked():
    some = [{m: v for m, v in p.items() if m not in ("lift", "pointing")}
            for p in pairs(5, entropy=-0.2, gini=0.3)]
    assert set(sharper.compare(("d", "n", "r"), "se", some).verdicts) == {"sharper", "faithfulness"}


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
    one = pairs(4, entropy=-0.2, gini=0.3)
    turned = [dict(reversed(p.items())) for p in one]
    assert sharper.compare(("d", "n", "r"), "se", one) == sharper.compare(("d", "n", "r"), "se",
                                                                          turned)


def test_only_images_that_both_classify_correctly_count():
    a = {"prediction": np.array([0, 1, 2, 3]), "label": np.array([0, 1, 2, 0]),
         "entropy_-2": np.array([.1, .2, np.nan, .4]), "road_-2": np.array([.5, .6]),
         "confidence": np.array([.5, .6, 1, 1])}
    b = {"prediction": np.array([0, 1, 2, 0]), "label": np.array([0, 1, 2, 0]),
         "entropy_-2": np.array([.3, .4, .5, .6]), "road_-2": np.array([.7, .8]),
         "confidence": np.array([.7, .4, 1, 1])}
    found = sharper.paired_images(a, b, -2)
    np.testing.assert_allclose(found["entropy"], [[.1, .3], [.2, .4], [np.nan, np.nan]])
    np.testing.assert_allclose(found["road"], [[1, 1], [1, 2], [np.nan, np.nan]])


def test_a_better_classifier_is_not_a_better_looker():
    """Lift that follows accuracy alone leaves nothing to the block, whose runs are better."""
    pd = pytest.importorskip("pandas")
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

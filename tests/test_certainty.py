"""The words and tables of certainty, from records made for the purpose."""
import math

import numpy as np
import pytest
from helpers import stored

from attnlib import certainty, inference
from attnlib.grid import table
from attnlib.run import Run


def run(arm: str, seed: int) -> Run:
    return Run("cifar10", attention=arm, seed=seed)


@pytest.fixture
def runs():
    """none, se (clearly better) and cbam (nothing) in six seeds of 400 images."""
    rng, out, share = np.random.default_rng(0), [], {"none": 0.6, "se": 0.75, "cbam": 0.6}
    for seed in range(6):
        ease = rng.uniform(size=400)
        for arm, level in share.items():
            answers = ease + rng.normal(0, 0.05, 400) < level
            out.append((stored(run(arm, seed), answers), answers))
    return out


def test_answers_are_the_stored_ones(runs):
    df = table([r for r, _ in runs], "pilot")
    found = certainty.answers(df, "se")
    for r, right in runs:
        if r.attention == "se":
            assert np.array_equal(found[r.seed], right)
    assert sorted(found) == list(range(6))


def test_evidence_table_holds_what_the_functions_give(runs):
    df = table([r for r, _ in runs], "pilot")
    gaps = np.array([100 * (right.mean() - base.mean()) for (_, right), (_, base) in zip(
        runs[1::3], runs[0::3], strict=True)])
    low, high = inference.bca(gaps)
    row = next(line for line in certainty.evidence_table(df).splitlines() if "| SE " in line)
    assert f"[{low:+.1f}, {high:+.1f}]" in row and f"{gaps.mean():+.1f} [" in row
    assert "| 0.031 " in row and "| 0.062 " in row                  # 2/64, and Holm's twice that
    assert "1.00 [0.61, 1.00]" in row and "better (not after Holm)" in row
    images = certainty.seeds_and_images(df, "se")
    assert certainty.bracket(*images[1:], 1) in row
    assert images[1] < gaps.mean() < images[2] and images[0] == pytest.approx(gaps.mean())
    nll = certainty.evidence_table(df, "nll", 3)
    assert "+0.000 [+0.000, +0.000]" in nll and "undecided" in nll


def test_words_count_what_is_clear_and_what_holm_leaves(runs):
    said = certainty.evidence_words(table([r for r, _ in runs], "pilot"))
    assert "Of 2 gains with 3 pairs or more, 1 excludes zero by the 95 % interval" in said
    assert "0 stay clear when" in said
    assert "with 6, the most there are here, no p can be below 0.031" in said


def test_power_is_of_the_observed_scatter(runs):
    df = table([r for r, _ in runs], "pilot")
    (where, sd, arms, pairs, margin), = certainty.scatter(df)
    assert (where, arms, pairs, margin) == ("ResNet-18 on CIFAR-10", 2, 6, 1.0)
    row = certainty.power_table(df).splitlines()[2]
    assert f"| {inference.seeds_needed(sd, 0.5)} " in row


def test_noise_compares_seeds_of_one_network():
    rng = np.random.default_rng(1)
    right = [rng.uniform(size=1000) < share for share in (0.5, 0.5, 0.7)]
    df = table([stored(run("none", seed), r) for seed, r in enumerate(right)], "pilot")
    said = certainty.noise_words(df)
    assert "2 of 3 such pairs different" in said
    mean = df.accuracy.mean() / 100
    assert f"sampling error of {100 * math.sqrt(mean * (1 - mean) / 1000):.2f}." in said


def test_words_where_nothing_is_finished():
    df = table([run(arm, seed) for arm in ("none", "se") for seed in (0, 1)],
               "pilot")
    for none in (df, df.iloc[:0]):
        assert "No arm has a finished pair" in certainty.evidence_table(none)
        for words in (certainty.evidence_words(none), certainty.power_table(none)):
            assert "No arm has 3" in words
        assert "Too few" in certainty.noise_words(none)

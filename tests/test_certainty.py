"""The words and tables of certainty, from records made for the purpose."""
import math

import numpy as np
import pandas as pd
import pytest
from helpers import stored
from test_stats import frame

from attnlib.analysis import certainty, inference, stats
from attnlib.analysis.words import interval
from attnlib.experiments.reading import table
from attnlib.training.run import Run


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
    row = stats.arms_table(df).set_index("arm").loc["se"]
    line = next(x for x in certainty.evidence_table(df).splitlines() if "| SE " in x)
    assert f"| {interval(row.gain, row.low, row.high)} " in line and "| <0.001 " in line
    assert f"| {certainty.bracket(row.welch_low, row.welch_high)} " in line
    assert line.split("|")[-3].strip() == "better"


def test_another_verdict_of_welchs_is_flagged():
    """A noisy arm widens the family's other intervals, and has too narrow a one itself."""
    rng = np.random.default_rng(0)
    df = frame(none=60 + rng.normal(0, 0.3, 4), se=62 + rng.normal(0, 0.3, 4),
               nab=[40.0, 45.0, 55.0, 60.0])
    row = stats.arms_table(df).set_index("arm").loc["se"]
    assert (row.verdict, row.welch) == ("undecided", "better")
    line = next(x for x in certainty.evidence_table(df).splitlines() if "| SE " in x)
    assert [cell.strip() for cell in line.split("|")[-3:-1]] == ["undecided", "better"]
    assert "gives another verdict in 2." in certainty.evidence_words(df)


def test_words_count_the_verdicts_and_say_what_pairs_share(runs):
    df = table([r for r, _ in runs], "pilot")
    said = certainty.evidence_words(df)
    assert "Of 2 gains over 3 seeds or more: " in said and "1 better" in said
    r, pairs, arms = stats.pairing(df)
    assert f"correlate by {r:+.2f}".replace("-", "−") in said and "(12 pairs of 2 arms)" in said


def test_mean_gains_are_over_cells():
    rng, cells = np.random.default_rng(2), []
    for k, net in enumerate(("resnet18", "vgg16", "alexnet")):
        base = rng.normal(60, 0.5, 6)
        own = frame(none=base, se=rng.normal(61 + k, 0.5, 4), **{"ca": base[:3]} if k == 0 else {})
        cells.append(own.assign(backbone=net, id=own.id + net))
    df = pd.concat(cells, ignore_index=True)
    rows, found = stats.arms_table(df), certainty.mean_gains(df).set_index("arm")
    se = rows[rows.arm == "se"]
    errors = se.sd_diff / 2 ** 0.5 * (1 / 4 + 1 / 6) ** 0.5
    assert list(found.index) == ["se"]
    assert found.loc["se"].to_list() == pytest.approx(
        list(inference.random_effects(se.gain, errors)))
    assert "| SE " in certainty.mean_gains_table(df) and "| 3 " in certainty.mean_gains_table(df)
    assert "two cells yet" in certainty.mean_gains_table(cells[0])


def test_seeds_for_what_is_undecided():
    rng = np.random.default_rng(3)
    df = frame(none=rng.normal(60, 1, 4), se=rng.normal(60.9, 1, 4), cbam=rng.normal(75, 1, 4))
    row = stats.arms_table(df).set_index("arm").loc["se"]
    assert row.verdict == "undecided"
    line, = certainty.seeds_table(df).splitlines()[2:]
    assert [cell.strip() for cell in line.split("|")[-3:-1]] == [
        str(inference.seeds_needed(row.sd_diff, delta, 2)) for delta in (row.gain, 1.0)]
    clear = frame(none=[60.0, 60.1, 60.2], se=[75.0, 75.1, 75.2])
    assert certainty.seeds_table(clear) == "No gain is undecided."


def test_power_is_of_the_observed_scatter(runs):
    df = table([r for r, _ in runs], "pilot")
    (where, sd, arms, seeds, margin), = certainty.scatter(df)
    assert (where, arms, seeds, margin) == ("ResNet-18 on CIFAR-10", 2, 6, 1.0)
    row = certainty.power_table(df).splitlines()[2]
    assert f"| {inference.seeds_needed(sd, 0.5, 2)} " in row


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
        assert "No arm has a finished run" in certainty.evidence_table(none)
        assert certainty.seeds_table(none) == "No gain is undecided."
        for words in (certainty.evidence_words(none), certainty.power_table(none)):
            assert "No arm has 3" in words
        assert "Too few" in certainty.noise_words(none)

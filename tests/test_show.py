"""Tables and sentences: they say what the tables of `analysis` hold."""
import math

import pandas as pd
import pytest
from test_stats import frame

from attnlib.analysis import stats, words
from attnlib.report import show

BASE = [60.0, 61.0, 62.0, 63.0, 64.0, 65.0, 66.0, 67.0]


def cells(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]


def test_a_table_joins_the_cell_the_interval_and_the_sd():
    df = pd.DataFrame([{"dataset": "cifar10", "backbone": "resnet18", "recipe": "plain",
                        "arm": "se", "n": 3, "score": 61.04, "sd": 0.5, "gain": -1.0, "low": -2.0,
                        "high": 0.5, "ratio": 2.0, "ratio_low": 1.5, "ratio_high": math.inf,
                        "p": 0.01, "train": 0.3, "seeds to see 1": 10_000.0, "front": True}])
    head, _, row = cells(show.as_markdown(df))
    assert head[:3] == ["where", "block", "seeds"] and len(head) == len(row) == 10
    assert row == ["ResNet-18 on CIFAR-10, recipe `plain`", "SE", "3", "61.0 ± 0.5",
                   "−1.0 [−2.0, +0.5]", "2.00 [1.50, ∞]", "0.010", "+0.3", "over 10,000", "✓"]


def test_what_is_not_known_is_a_dash_and_no_rows_are_said():
    df = pd.DataFrame([{"arm": "none", "gain": math.nan, "low": math.nan, "high": math.nan,
                        "p": math.nan, "note": "a | b infinite"}])
    assert cells(show.as_markdown(df))[2] == ["none", "–", "–", "a · b infinite"]
    assert show.as_markdown(df.iloc[:0]) == show.NOTHING == show.table(df.iloc[:0]).data


def test_sentences_say_what_the_table_holds():
    df = frame(none=[60.0, 61.0, 62.0], se=[64.0, 65.0, 66.1], cbam=[59.0, math.nan, math.nan])
    said, row = show.gains_in_words(df), stats.arms_table(df).set_index("arm").loc["se"]
    assert "`none` reaches 61.0 ± 1.0 % over 3 seeds" in said
    assert (f"SE {words.interval(row.gain, row.low, row.high)} points over 3 seeds, better "
            "(training +0.0)") in said
    assert "CBAM −2.0 points over 1 seed, too few seeds" in said
    assert "65.0 ± 1.1" in show.as_markdown(show.accuracy_table(df))
    assert "no finished runs yet" in show.gains_in_words(frame(none=[math.nan], se=[math.nan]))


@pytest.mark.parametrize(("train", "says"), [
    (85.0, "worse (training −5.0)"), (84.0, "worse (had not fitted as far) (training −6.0)")])
def test_a_block_that_is_behind_in_training_is_said_to_be(train, says):
    df = frame(none=BASE, sa=[b - 6 for b in BASE])
    df.loc[df.arm == "sa", "train_accuracy"] = train
    assert f"points over 8 seeds, {says}" in show.gains_in_words(df)
    count = show.counted_verdicts(stats.arms_table(df).query("arm == 'sa'"))
    assert count == "1 worse" + " (1 of them had not fitted as far)" * ("fitted" in says)


def test_several_sentences_are_a_list():
    assert words.items(["One."]) == "One."
    assert words.items(["One.", "Two."]) == "- One.\n- Two."


def advice(df) -> str:
    return show.advice(stats.arms_table(df))


def test_advice_recommends_what_is_better_where_the_plain_network_has_learned():
    sure = frame(none=BASE, se=[b + 9 for b in BASE])
    assert advice(sure).startswith("Recommended, where its cost fits: SE +9.0")
    assert "No block shows a gain" in advice(frame(none=BASE, se=BASE))
    control = frame(none=BASE, frozen=[b + 9 for b in BASE])
    assert "Recommended" not in advice(control)
    assert "none can be recommended" in advice(frame(none=BASE[:2], se=BASE[:2]))


@pytest.mark.parametrize("rise", [0.6, 3.9, math.nan])
def test_no_advice_from_a_network_that_still_learns(rise):
    df = frame(none=BASE, se=[b + 9 for b in BASE]).assign(rise=rise)
    assert advice(df).startswith("No advice follows from ResNet-18 on CIFAR-10")
    assert "still rose by more than 0.5 points" in advice(df) and "SE" not in advice(df)
    done = frame(none=BASE, cbam=[b + 9 for b in BASE]).assign(backbone="vgg16")
    said = advice(pd.concat([df, done.assign(id=done.id + "vgg")], ignore_index=True))
    assert said.startswith("Recommended, where its cost fits: CBAM") and "No advice follows" in said


def test_the_short_answer_says_what_is_better_or_that_nothing_is(monkeypatch):
    noise = [0.1, -0.1, 0.2, -0.2, 0.0, 0.1, -0.1, 0.0]
    same = frame(none=[60 + k for k in noise], se=[60 - k for k in noise])
    for df, says in ((same, "**On CIFAR-10: no block is shown to raise the test accuracy.** The "
                            "plain networks are ResNet-18 (8 seeds, 60.0 ± 0.1 %)."),
                     (frame(none=[60 + k for k in noise], se=[63 - k for k in noise]),
                      "**On CIFAR-10: SE +3.0 [")):
        monkeypatch.setattr(show, "collect", lambda study, profile, df=df: df)
        said = show.short_answer("pilot")
        assert said.startswith(says) and "In ResNet-18, in points: SE " in said
    assert "points over 8 seeds, better" in said and "no block" not in said
    monkeypatch.setattr(show, "collect", lambda study, profile: same[same.seed < 2])
    assert show.short_answer("pilot") == "No block has 3 finished seeds in profile `pilot` yet."

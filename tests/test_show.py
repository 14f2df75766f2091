"""Tables and sentences: they say what the tables of `analysis` hold."""
import math
import re

import pandas as pd
from test_stats import frame

from attnlib.analysis import stats, words
from attnlib.experiments.planning import study
from attnlib.report import show

BASE = [60.0, 61.0, 62.0, 63.0, 64.0, 65.0, 66.0, 67.0]


def cells(text: str) -> list[list[str]]:
    """A table's cells, an interval's no-break spaces as plain ones."""
    return [[cell.strip() for cell in line.replace(show.NO_BREAK, " ").split("|")[1:-1]]
            for line in text.splitlines()]


def test_a_table_joins_the_cell_the_interval_and_the_sd():
    df = pd.DataFrame([{"dataset": "cifar10", "backbone": "resnet18", "recipe": "plain",
                        "arm": "se", "n": 3, "score": 61.04, "sd": 0.5, "gain": -1.0, "low": -2.0,
                        "high": 0.5, "moves": 2.0, "moves_low": 1.5, "moves_high": math.inf,
                        "p": 0.01, "train": 0.3, "seeds to see 1": 10_000.0, "front": True}])
    head, _, row = cells(show.as_markdown(df))
    assert head[:3] == ["where", "block", "seeds"] and len(head) == len(row) == 10
    assert row == ["ResNet-18 on CIFAR-10, recipe `plain`", "SE", "3", "61.04 ± 0.50",
                   "−1.00 [−2.00, +0.50]", "2.00 [1.50, ∞]", "0.010", "+0.30", "over 10,000", "✓"]
    assert "−1.00 [−2.00, +0.50]".replace(" ", show.NO_BREAK) in show.as_markdown(df)


def test_what_is_not_known_is_a_dash_and_no_rows_are_said():
    df = pd.DataFrame([{"arm": "none", "gain": math.nan, "low": math.nan, "high": math.nan,
                        "p": math.nan, "note": "a | b infinite"}])
    assert cells(show.as_markdown(df))[2] == ["plain", "–", "–", "a · b infinite"]
    assert show.as_markdown(df.iloc[:0]) == show.NOTHING == show.table(df.iloc[:0]).data


def test_an_answer_is_the_table_of_what_has_begun_and_its_rule():
    df = frame(none=[60.0, 61.0, 62.0], se=[64.0, 65.0, 66.1], cbam=[59.0, math.nan, math.nan])
    said, row = show.gains_markdown(df), stats.arms_table(df).set_index("arm").loc["se"]
    found = {line[1]: line[2:7] for line in cells(said)[2:4]}
    assert found["plain"] == ["3", "61.00 ± 1.00", "–", "–", ""]
    gain = words.interval(row.gain, row.low, row.high)
    assert found["SE"] == ["3", "65.03 ± 1.05", gain, "+0.00", "better"]
    assert "within ±1 points. ±: standard deviation over seeds. *Training*" in said
    assert "| CBAM " not in said and said.endswith("3 seeds: CBAM in ResNet-18 on CIFAR-10.")
    alone = cells(show.gains_markdown(frame(none=[60.0], se=[64.0])))      # so far all have one
    assert alone[3][1:6] == ["SE", "1", "64.00", "+4.00", "+0.00"]
    assert show.gains_markdown(frame(none=[math.nan], se=[math.nan])) == show.NOTHING


def test_a_block_that_is_behind_in_training_is_said_to_be():
    df = frame(none=BASE, sa=[b - 6 for b in BASE])
    for train, says in ((85.0, "worse"), (84.0, "worse (had not fitted as far)")):
        df.loc[df.arm == "sa", "train_accuracy"] = train
        assert f"| {says} " in show.gains_markdown(df)


def advice(df) -> list[list]:
    """Of each network the better, equivalent, worse and undecided blocks, without their gains."""
    table = show.advice(stats.arms_table(df))
    return [[re.sub(r"\s[+−][\d.]+", "", said) for said in row[-4:]]
            for row in table.values.tolist()]


def test_advice_says_of_every_tested_block_what_its_verdict_says():
    better, close = frame(none=BASE, se=[b + 9 for b in BASE]), [b / 100 + 60 for b in BASE]
    assert advice(better) == [["SE", "–", "–", "–"]]
    assert advice(frame(none=BASE, se=BASE)) == [["–", "–", "–", "SE"]]
    four = frame(none=close, se=close, eca=close, cbam=[x - 5 for x in close], sa=close[:2])
    assert advice(four) == [["–", "SE; ECA", "CBAM", "–"]]         # of sa too few seeds
    assert "SE\N{NO-BREAK SPACE}+0.00; ECA" in show.as_markdown(show.advice(stats.arms_table(four)))
    four.loc[four.arm == "cbam", "train_accuracy"] -= 9
    assert advice(four)[0][2] == "CBAM†"
    assert advice(frame(none=BASE, frozen=[b + 9 for b in BASE])) == []         # a control
    assert advice(frame(none=BASE[:2], se=BASE[:2])) == []
    for rise in (0.6, 3.9, math.nan):                                           # it still learns
        both = pd.concat([better.assign(rise=rise),
                          better.assign(backbone="vgg16", id=better.id + "vgg")], ignore_index=True)
        assert advice(both) == [["–", "–", "–", "SE"], ["SE", "–", "–", "–"]]


def test_the_short_answer_says_what_is_better_or_that_nothing_is(monkeypatch):
    noise = [0.1, -0.1, 0.2, -0.2, 0.0, 0.1, -0.1, 0.0]
    same = frame(none=[60 + k for k in noise], se=[60 - k for k in noise])
    for df, says in ((same, "- **On CIFAR-10 no block is shown to raise the test accuracy** "
                            "(ResNet-18): mean gains from +0.00 to +0.00 points, no "
                            "interval beyond +0."),
                     (frame(none=[60 + k for k in noise], se=[63 - k for k in noise]),
                      "- **On CIFAR-10 SE +3.00 [")):
        monkeypatch.setattr(show, "collect", lambda study, profile, df=df: df)
        said = show.short_answer("pilot")
        assert said.startswith(says) and "| 60.00\N{NO-BREAK SPACE}±" in said
    assert "points over 8 seeds, better" in said and "no block" not in said
    early = frame(none=BASE, hybrid=[b - 9 for b in BASE], **{"hybrid(gate_init=open)": BASE})
    monkeypatch.setattr(show, "collect", lambda study, profile: same.assign(
        profile="real") if study == "headline" else early)
    assert re.search(r"CIFAR-10\): SE→CBAM hybrid −9.00 \[.*\], SE→CBAM hybrid, gates open "
                     r"\+0.00 \[.*\] points", show.short_answer("real"))
    monkeypatch.setattr(show, "collect", lambda study, profile: same[same.seed < 2])
    assert show.short_answer("pilot") == "No block has 3 finished seeds in profile `pilot` yet."


def test_what_a_notebook_prints_first():
    planned = len(study("hybrid", "smoke"))
    said = show.status_line("hybrid", "smoke")
    assert said.startswith("profile: smoke (tests")
    assert f"study hybrid: 0 records found, {planned} missing; about 1 min" in said

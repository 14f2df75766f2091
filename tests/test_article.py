"""The report's words and tables, from records made for the purpose."""
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from helpers import stored
from test_stats import frame

from attnlib.analysis import claims, stats, words
from attnlib.analysis.words import interval
from attnlib.experiments import grid
from attnlib.experiments.planning import estimate_seconds, study
from attnlib.experiments.reading import collect
from attnlib.experiments.studies import STUDIES
from attnlib.explain import cam
from attnlib.figures import plots
from attnlib.networks.build import build_model
from attnlib.report import article

CHOSEN = dict.fromkeys(STUDIES, "pilot")
LEARNED = [{"val_accuracy": 0.6, "train_accuracy": 0.8}] * 3      # and no longer rises
BASE = [60.0, 61.0, 62.0, 63.0, 64.0, 65.0, 66.0, 67.0]


def correct(percent: float, n: int = 400) -> np.ndarray:
    return np.arange(n) < percent * n / 100


@pytest.fixture
def audit():
    """Two claims, so that no test waits for all."""
    return pd.DataFrame([claims.judge(c, "pilot") for c in claims.CLAIMS if c.number in ("0.1a",
                                                                                        "0.9")])


@pytest.fixture
def hybrid():
    """The headline's first three seeds on CIFAR-10: SE gains 5, 6 and 7 points, CBAM loses 5."""
    gain = {"none": 0, "se": 6, "cbam": -5, "hybrid": 0}
    for run in study("hybrid", "pilot"):
        if run.dataset == "cifar10" and run.seed < 3:
            wobble = (run.seed - 1) * (run.attention == "se")
            stored(run, correct(60 + run.seed + gain[run.attention] + wobble), history=LEARNED)


def test_abstract_counts_the_verdicts_and_names_the_ends(hybrid, audit):
    said = article.abstract(CHOSEN, audit)
    assert "12 networks were trained (profile `pilot`" in said
    rows = stats.arms_table(collect("hybrid", "pilot")).query("n > 0").set_index("arm")
    assert rows.verdict[["se", "cbam", "hybrid"]].to_list() == ["better", "worse", "undecided"]
    assert "Of 3 tested gains: " in said and "1 better" in said and "1 worse" in said
    low, high = (interval(r.gain, r.low, r.high) for r in (rows.loc["cbam"], rows.loc["se"]))
    assert f"from {low} points (CBAM, ResNet-18 on CIFAR-10, worse (training +0.0))" in said
    assert f"to {high} (SE, ResNet-18 on CIFAR-10, better (training +0.0))" in said
    assert claims.headline(audit) in said and "Recommended, where its cost fits: SE (+6.0" in said


def test_advice_recommends_what_is_better_where_the_plain_network_has_learned():
    sure = frame(none=BASE, se=[b + 9 for b in BASE])
    assert article.advice(sure).startswith("Recommended, where its cost fits: SE (+9.0")
    assert "No block shows a gain" in article.advice(frame(none=BASE, se=BASE))
    control = frame(none=BASE, frozen=[b + 9 for b in BASE])
    assert "Recommended" not in article.advice(control)
    assert "none can be recommended" in article.advice(frame(none=BASE[:2], se=BASE[:2]))


@pytest.mark.parametrize("rise", [0.6, 3.9, float("nan")])
def test_no_advice_from_a_network_that_still_learns(rise):
    df = frame(none=BASE, se=[b + 9 for b in BASE]).assign(rise=rise)
    for said in (article.advice(df), article.advice_table(df)):
        assert said.startswith("No advice follows from ResNet-18 on CIFAR-10")
        assert "still rose by more than 0.5 points" in said and "SE" not in said
    done = frame(none=BASE, cbam=[b + 9 for b in BASE]).assign(backbone="vgg16")
    both = pd.concat([df, done.assign(id=done.id + "vgg")], ignore_index=True)
    said = article.advice(both)
    assert said.startswith("Recommended, where its cost fits: CBAM") and "No advice follows" in said


def test_advice_table_follows_from_the_verdicts(monkeypatch):
    noise = np.array([3, -3, 2, -2, 3, -3, 2, -2]) / 10
    df = frame(none=60 + noise, se=64 + noise, ca=60 - noise, sa=56 + noise, new=56 + noise,
               cbam=60.6 + 5 * noise)
    df.loc[df.arm == "new", "train_accuracy"] = 80.0
    df["width"] = 0.25
    monkeypatch.setattr(article, "steps", lambda: {("resnet18", 0.25, "se"): 1.1})
    df.loc[df.arm == "cbam", "params"] = 1100
    lines = article.advice_table(df).splitlines()
    said = {line.split("|")[2].strip(): line for line in lines[2:]}
    assert article.ADVICE["better"] in said["SE"] and "× 1.10" in said["SE"]
    assert article.ADVICE["equivalent"] in said["channel part"]
    assert "| not here " in said["spatial part"] and "had not fitted as far" in said["NEW"]
    assert "unknown: " in said["CBAM"] and "+10.0 %" in said["CBAM"]


def test_recipe_and_block_side_by_side():
    gain = {("none", "plain"): 0, ("cbam", "plain"): 2, ("none", "strong"): 10,
            ("cbam", "strong"): 11}
    for run in study("recipe", "small"):
        stored(run, correct(50 + run.seed + gain[run.attention, run.recipe]), "small")
    said = article.recipe_words("pilot")
    assert "(profile `small`" in said and "`strong` over `plain` +10.0 [" in said
    assert "CBAM under `strong` +1.0" in said and "CBAM under `plain` +2.0" in said


def test_what_is_missing_is_taken_from_a_smaller_profile_by_name(audit):
    for run in study("controls", "small"):
        stored(run, correct(60 + 3 * ("open" in run.attention) + run.seed / 4), "small")
    said = article.open_words("pilot")
    assert "(profile `small`), gates that start open change SE→CBAM hybrid in" in said
    assert said in article.abstract(CHOSEN | {"hybrid": "small"}, audit)
    assert "by +3.0" in said
    table = article.controls_table("pilot")
    row = next(line for line in table.splitlines() if "| CBAM " in line)
    assert row.count("+0.0 [−") == row.count(", equivalent") == 4 and "| small " in row


@pytest.mark.parametrize("block", ["none", "se", "cbam", "hybrid", "sa"])
def test_gates_are_those_that_act(block):
    import torch
    model = build_model("alexnet", block, width=0.125)
    acting = cam.gates(model, torch.zeros(2, 3, 32, 32))
    assert article.gates_of(block) * 5 == len(acting)               # five places


def test_gate_table():
    assert article.power(10) == "2⁻¹⁰"
    row = next(r for r in article.gate_table().splitlines() if "| CBAM " in r)
    assert [cell.strip() for cell in row.split("|")[2:-1]] == ["2", "2⁻²", "2⁻¹⁰", "2⁻¹⁶", "2⁻¹⁰"]


def test_remaining_runs_are_counted_and_timed(hybrid, monkeypatch):
    monkeypatch.setattr(grid, "macs_of", lambda *network: 35_000_000)       # counting takes seconds
    df = collect("hybrid", "pilot")
    factor, device = article.speed_of(df)
    run = next(r for r in study("hybrid", "pilot") if r.attention == "none")
    se = replace(run, attention="se", placement=None)                        # three arms of four
    assert device == "a slow one" and factor == pytest.approx(
        60 / estimate_seconds(se, "cpu"))
    rows = article.remaining(df).splitlines()
    runs = study("resnet50", "full")
    row = next(r for r in rows if "`resnet50`" in r)
    assert f"| {len(runs)} of {len(runs)} " in row and "a run on a slow one" in rows[0]
    assert article.spread([7200.0, 18000.0]) == "2 to 5 h" and article.spread([90.0]) == "2 min"


def test_failures_are_named():
    runs = study("hybrid", "pilot")
    stored(runs[0], correct(10))
    stored(runs[1], correct(60), status="diverged")
    said = article.failures(CHOSEN)
    assert "1 run diverged; 0 runs failed; 1 of 1 finished run stayed near chance" in said
    assert "(none in ResNet-18)" in said


def test_reproducibility_states_splits_and_code(hybrid):
    said = article.reproducibility(collect("hybrid", "pilot"))
    assert "12 runs" in said and "Code: 1 commit (0123456)" in said
    assert "CIFAR-10 10,000 / 2,000 / 400" in said


def test_csv_is_the_table(hybrid, out):
    article.write_csv(out / "arms.csv")
    rows = pd.read_csv(out / "arms.csv").query("profile == 'pilot' and backbone == 'resnet18'")
    table = stats.arms_table(collect("hybrid", "pilot"))
    for arm in ("se", "cbam", "hybrid"):
        assert rows[rows.arm == arm].gain.item() == pytest.approx(
            table[(table.arm == arm) & (table.n > 0)].gain.item(), rel=1e-5)


def test_positions_are_the_gains():
    df = frame(none=BASE, se=[b + 2 for b in BASE], **{"se head": [b - 1 for b in BASE]})
    df["attention"] = df.arm.str.split().str[0]
    df["placement"] = df.arm.map({"none": "", "se": "block", "se head": "head"})
    figure = plots.positions(df)
    axis, = figure.axes
    assert [t.get_text().splitlines()[0] for t in axis.texts] == ["+2.0", "−1.0"]
    assert [t.get_text() for t in axis.get_xticklabels()] == ["block", "head"]
    assert axis.images[0].get_array().tolist() == [[2.0, -1.0]]
    plt.close(figure)


def test_every_section_says_what_is_missing(audit):
    df = words.all_runs(CHOSEN)
    assert "nothing to report" in article.abstract(CHOSEN, audit)
    assert "use the plain network" in article.advice(df)
    for text in (article.advice_table(df), article.recipe_words("pilot"),
                 article.controls_table("pilot"),
                 article.why_words(df), article.selection_words("pilot"),
                 article.reproducibility(df)):
        assert any(word in text for word in ("No ", "no finished", "Too few", "has no"))
    assert article.open_words("pilot") == ""
    assert "0 of 0 finished runs" in article.failures(CHOSEN)
    assert "48 of 48 (`pilot`)" in words.limits(CHOSEN)
    plt.close(plots.positions(df))

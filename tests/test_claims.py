"""The claims of four projects: that each can be decided, and that the verdicts follow the records.
"""
import math
import re
from functools import cache

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch
from helpers import put_record

from attnlib.analysis import claims
from attnlib.analysis.claims import CLAIMS, KINDS, METRICS
from attnlib.analysis.costs import cost_of
from attnlib.analysis.inference import Effect, seeds_needed, t_half_width
from attnlib.analysis.projects import PROJECTS, projects_table, read_table
from attnlib.bench.measure import bench_dir
from attnlib.data.datasets import DATASETS
from attnlib.experiments.studies import STUDIES, plans, run_of
from attnlib.explain import camstore
from attnlib.networks.build import build_model, canonical_attention
from attnlib.networks.cost import attention_blocks
from attnlib.report import article, notebooks, show
from attnlib.training import store
from attnlib.training.recipes import RECIPES
from attnlib.training.run import Run

# `build_model`'s (network, block, placement) of every network of every project
NETWORKS = [(row.backbone, row.attention, f"{row.placement}@{stage}".rstrip("@") or None)
            for row in read_table("projects.csv").itertuples()
            for stage in row.stages.split() or [""]]
NAN = math.nan
REAL = {"width": 0.25, "epochs": 8, "n_train": 10_000, "n_val": 2_000}


def claim(number: str):
    return next(c for c in CLAIMS if c.number == number)


def judge(number: str, profile=None) -> dict:
    return claims.judge_claim(claim(number), profile, measures=article.MEASURED)


def effect(low: float, high: float) -> Effect:
    return Effect((low + high) / 2, low, high, 6, sd=1.0)


def put(arm: str, accuracies, dataset: str = "cifar10", **own) -> list[Run]:
    """Records of profile pilot: one accuracy in percent a seed."""
    runs = [Run(dataset, attention=arm, seed=seed, **REAL) for seed in range(len(accuracies))]
    for run, value in zip(runs, accuracies, strict=True):
        put_record(run, "pilot", test={"accuracy": value / 100, "nll": 1.0, "n": 10}, **own)
    return runs


# --- The data ---


def test_every_claim_is_there_once_and_of_a_known_kind():
    numbers = [c.number for c in CLAIMS]
    assert len(set(numbers)) == len(numbers) and numbers == sorted(numbers)
    last = {"0": 9, "1": 6, "2": 5, "3": 6}
    assert {n.rstrip("abcdefghi") for n in numbers} == {f"{p}.{k}" for p, end in last.items()
                                                    for k in range(1, end + 1)}
    for c in CLAIMS:
        assert c.kind in KINDS and c.metric in METRICS and c.project in PROJECTS
        assert c.quote and c.says and c.note and c.read
        assert math.isnan(c.claimed) != (c.kind in ("gain", "percent", "level", "count"))


def test_gains_are_the_differences_of_the_numbers_that_are_quoted():
    """Of the claims that quote two accuracies: what is before the arrow is what is subtracted."""
    for c in CLAIMS:
        quoted = re.search(r"([\d.]+)%? → ([\d.]+)", c.quote)
        if quoted and c.kind in ("gain", "level"):
            before, after = map(float, quoted.groups())
            assert c.claimed == pytest.approx(before if c.kind == "level" else after - before)


def test_the_fashion_mnist_reports_setting_is_our_recipe_plain():
    plain, row = RECIPES["plain"], DATASETS["fashionmnist"]
    assert (plain.optimizer, plain.epochs, plain.patience, plain.batch_size) == ("adam", 50, 10, 64)
    assert (row.size, row.channels, row.train) == (28, 1, 54_000)       # 90/10 of 60,000


def test_a_study_plans_what_decides_a_claim_and_a_project_has_its_own_form():
    """Its own form is block, network and place as in its table of networks, trained in profile real
    or full. Only counts, times and texts need no study."""
    records = cache(claims.study_runs)
    ours = {(backbone, f"{canonical_attention(block, backbone)} {placement}")
            for backbone, block, placement in NETWORKS}
    for c in CLAIMS:
        if not c.study:
            assert c.kind in ("count", "text") or c.metric in ("latency", "ms"), c.number
            continue
        cells = list(claims.deciding_cells(c, records=records))
        recipes = [recipe for name, recipe, *_ in cells if name != "smoke"]
        assert c.study in STUDIES and recipes and (not c.own or c.own in recipes), c.number
        if c.project in ("P0", "P1") and "@" in c.arm or c.own == "P0" and c.kind == "gain":
            assert {(c.backbone, arm) for arm in (c.arm, c.base) if arm != "none"} <= ours
            assert {name for name, *_ in cells} & {"real", "full"}, c.number


# --- The verdicts ---


@pytest.mark.parametrize(("kind", "claimed", "low", "high", "says"), [
    ("gain", 4.0, 2.0, 5.0, "holds"), ("gain", 4.0, -1.0, 1.9, "not reproduced"),
    ("gain", 4.0, 1.0, 3.0, "undecided"), ("gain", -4.0, -5.0, -2.0, "holds"),
    ("gain", -4.0, -1.9, 3.0, "not reproduced"), ("percent", -15.0, 3.0, 9.0, "not reproduced"),
    ("order", NAN, 0.1, 0.9, "holds"), ("order", None, -0.5, 1.0, "not reproduced"),
    ("order", NAN, -0.5, 1.5, "undecided"),
    ("no gain", NAN, -2.0, 0.9, "holds"), ("no gain", None, 1.1, 3.0, "not reproduced"),
    ("no gain", NAN, 0.1, 1.5, "undecided"),
    ("level", 80.0, 79.0, 81.0, "holds"), ("level", 80.0, 80.1, 81.0, "not reproduced")])
def test_verdicts_of_each_kind_at_a_margin_of_one(kind, claimed, low, high, says):
    c = claim("0.1a")._replace(kind=kind, claimed=claimed)
    said, needs = claims.verdict_on(c, effect(low, high), 1.0)
    assert said == says and math.isnan(needs) == (says != "undecided")


def test_where_less_is_better_an_order_turns_round_and_one_seed_decides_nothing():
    c = claim("2.3")._replace(metric="nll")
    assert claims.verdict_on(c, effect(-0.3, -0.1), 0.0)[0] == "holds"
    assert claims.verdict_on(c, effect(0.1, 0.3), 0.0)[0] == "not reproduced"
    for number in ("0.1a", "0.4a", "3.1d", "3.1i"):
        said, needs = claims.verdict_on(claim(number), Effect(9.0, n=1), 1.0)
        assert said == "undecided" and math.isnan(needs)


def test_an_undecided_claim_says_how_many_seeds_its_own_rule_needs():
    """A claimed +9.49, so that half of it is 4.745; the differences scatter by 0.9 points."""
    near, c = Effect(6.87, 4.74, 9.0, 2, sd=0.9), claim("0.1a")
    assert claims.verdict_on(c, near, 1.0)[1] == 3
    small, sd = c._replace(claimed=1.0), 0.6
    near = Effect(0.6, 0.2, 1.0, 30, sd=sd)             # enough for half of 1, but 0.1 from there
    assert seeds_needed(sd, 0.5) < 30 < seeds_needed(sd, 0.1)
    assert claims.verdict_on(small, near, 1.0)[1] == seeds_needed(sd, 0.1)
    assert claims.verdict_on(small._replace(claimed=-1.0), Effect(-0.6, -1.0, -0.2, 30, sd=sd),
                             1.0)[1] == seeds_needed(sd, 0.1)
    few = Effect(0.6, 0.2, 1.0, 3, sd=sd, arms=5)       # the interval is one of five together
    assert claims.verdict_on(small, few, 1.0)[1] == seeds_needed(sd, 0.5, 5) > seeds_needed(sd, 0.5)


def test_a_level_is_held_against_what_another_run_would_give():
    runs = pd.DataFrame({"arm": "none", "accuracy": [80.0, 80.2, 80.4]})
    found = claims.scores_effect(claim("0.1d"), runs)
    half = t_half_width(0.2, 3) * 2                       # the root of n + 1
    assert (found.mean, found.high) == pytest.approx((80.2, 80.2 + half))


def test_counts_are_decided_by_building_the_networks():
    assert claims.counted(claim("3.2")) == (pytest.approx(11.26, abs=0.005), True)
    assert claims.counted(claim("3.3")) == (pytest.approx(0.912, abs=0.001), True)
    assert not claims.counted(claim("3.3")._replace(claimed=0.94))[1]
    added = claim("2.4c")._replace(claimed=913_304)
    assert claims.counted(added) == (117_856, False)
    assert claims.counted(added._replace(arm="replica_cbam_p2")) == (913_304, True)
    four = [cost_of("resnet18", arm, where, 1, 28) for arm, where in (
        ("none", None), ("cbam", "head"), ("se", "block"), ("cbam", "block"))]
    assert [c["params"] / 1e6 for c in four] == pytest.approx([11.17, 11.21, 11.26, 11.26],
                                                              abs=0.005)
    assert [2 * c["macs"] / 1e9 for c in four] == pytest.approx([0.92] * 4, rel=0.01)


# --- From records to the audit ---


def test_without_records_only_counts_are_decided():
    df = article.full_audit()
    decided = df[df.verdict.isin(("holds", "not reproduced"))]
    assert set(decided.kind) == {"count"}
    assert set(df.verdict[df.kind.isin(claims.UNJUDGED)]) == {"not judged"}
    n = sum(c.judged for c in CLAIMS)
    assert show.claims_headline(df) == (
        f"Of {n} testable claims in four public projects: hold 2 (2 in their own setting), "
        "not reproduced 0 (0 in their own setting), undecided 0 (0 in their own setting), "
        f"{n - 2} not tested here.")


def test_a_claim_is_answered_by_the_difference_of_its_arms():
    put("none", [70.0, 71.0, 72.0])
    put("hybrid", [70.5, 71.0, 72.6])
    row = judge("0.1a")
    expected = scipy.stats.ttest_ind([70.5, 71.0, 72.6], [70.0, 71.0, 72.0])
    low, high = expected.confidence_interval()                  # of one arm Dunnett's is Student's
    assert (row["profile"], row["n"], row["verdict"]) == ("pilot", 3, "not reproduced")
    assert (row["estimate"], row["low"], row["high"]) == pytest.approx((1.1 / 3, low, high),
                                                                       abs=1e-4)
    assert row["setting"] == claims.OURS
    assert row["scope"] == "10,000 images, 8 epochs, width 0.25, batch norm"


def test_a_gain_as_claimed_holds_and_one_seed_decides_nothing():
    put("none", [60.0, 61.0, 62.0])
    put("hybrid", [69.0, 71.0, 71.5])
    assert judge("0.1a")["verdict"] == "holds"
    run = run_of(plans("networks", "pilot")[0], "pilot", "none", 0)
    for arm in ("none", "hybrid"):
        put_record(Run(**run.as_dict() | {"attention": arm}), "pilot")
    row = judge("0.3a")
    assert (row["n"], row["verdict"]) == (1, "undecided") and math.isnan(row["needs"])
    shown = show.claims_table(pd.DataFrame([row, row | {"needs": 1200}]))
    assert shown.verdict.to_list() == ["undecided: needs more seeds",
                                       "undecided: needs about 1,200 seeds"]


def test_the_projects_own_recipe_decides_where_full_has_it():
    for seed in range(3):
        for arm, value in (("none", 0.9), ("se", 0.894)):
            own = Run("fashionmnist", attention=arm, seed=seed, recipe="plain")
            ours = Run("fashionmnist", attention=arm, seed=seed, epochs=40)
            put_record(own, "full", test={"accuracy": value + seed / 1e4, "nll": 1.0, "n": 10})
            put_record(ours, "full", test={"accuracy": 0.95, "nll": 1.0, "n": 10})
    row = judge("3.1a", "full")
    assert (row["recipe"], row["setting"], row["verdict"]) == ("plain", claims.SAME, "holds")
    assert row["scope"] == "54,000 images, at most 50 epochs, width 1, batch norm"
    assert row["estimate"] == pytest.approx(-0.6, abs=0.01)
    level = judge("3.1i", "full")
    assert (level["setting"], level["verdict"]) == (claims.SAME, "not reproduced")   # 90, not 93.27


def test_a_contrast_is_a_difference_of_gains():
    for dataset, gain in (("cifar10", 2.0), ("fashionmnist", 0.5)):
        put("none", [60.0, 61.0, 62.5], dataset)
        put("se", [60.0 + gain, 61.1 + gain, 62.3 + gain], dataset)
    row = judge("3.5a")
    assert row["estimate"] == pytest.approx(1.5) and row["verdict"] == "not judged"


@pytest.mark.parametrize(("number", "metric", "base", "arm", "gain", "verdict"), [
    ("0.8a", "entropy", ("se", 0.8), ("hybrid", 0.4), 50.0, "holds"),
    ("0.8b", "entropy", ("cbam", 0.5), ("hybrid", 0.5), 0.0, "not reproduced"),
    ("2.4b", "lift", ("se", 2.0), ("cbam", 3.0), 50.0, "holds")])
def test_focus_is_in_percent_of_the_bases_and_up_is_better(number, metric, base, arm, gain,
                                                           verdict):
    c, label, wrong = claim(number), np.zeros(4, np.uint8), np.array([0, 0, 0, 1], np.uint8)
    profile = [name for name, *_ in claims.deciding_cells(c) if name != "smoke"][-1]
    plan = plans(c.study, profile)[0]
    for (name, value), said in ((base, label), (arm, wrong)):
        for seed in range(3):
            run = run_of(plan, profile, name, seed)
            seen = {"version": np.int32(camstore.VERSION), "stages": np.array([2, 3], np.int8),
                    "label": label, "prediction": said,         # the last image is not compared
                    f"{metric}_2": np.array([value] * 3 + [9.0], np.float16)}
            cam = store.write_arrays(profile, f"{run.id}.cam", seen)
            put_record(run, profile, arrays={"cam": cam})
    row = judge(number, profile)
    assert row["estimate"] == pytest.approx(gain, abs=0.1) and row["n"] == 3
    assert row["verdict"] == verdict


def test_time_is_from_the_benchmark_at_the_claims_size():
    times = {"none": [1.0] * 9 + [2.0], "cbam": [1.5] * 9 + [9.0]}    # once, somebody else computed
    row = {"kind": "claimed", "width": 1.0, "shape": [1, 28, 28], "batch": 64, "load": [3.0],
           "repeats": times}
    store.write_sealed(bench_dir() / "made-up.json", {
        "schema": store.SCHEMA, "id": "made-up", "env": {"device": "an abacus"},
        "rows": {"claimed": row}})
    found = judge("3.4b")
    assert found["estimate"] == pytest.approx(-100 / 3) and found["verdict"] == "holds"
    assert found["scope"] == ("28×28×1 pixels, batch 64, width 1, on an abacus, in turns at a load "
                              "of 3")
    assert show.claims_table(pd.DataFrame([found])).verdict[0] == "holds under our protocol"


def test_the_headline_counts_what_the_rows_say():
    df = article.full_audit(None, "P0")
    for number, verdict, setting in (("0.1a", "not reproduced", claims.OURS),
                                     ("0.2a", "holds", claims.SAME),
                                     ("0.3a", "undecided", claims.OURS)):
        df.loc[df.number == number, ["profile", "setting", "verdict"]] = "pilot", setting, verdict
    assert ("hold 1 (1 in their own setting), not reproduced 1 (0 in their own setting), und"
            ) in show.claims_headline(df)


def test_a_clone_says_the_same_headline():
    """What rests on records that are not committed is shown where it is asked for, and is in no
    count: a clone has none of them."""
    clone = show.claims_headline(article.full_audit(None, "P2"))
    for k, arm in enumerate(("none", "cbam")):
        for seed in range(3):
            run = run_of(plans("hybrid", "small")[0], "small", arm, seed)
            seen = {"version": np.int32(camstore.VERSION), "stages": np.array([2], np.int8),
                    "label": np.zeros(4, np.uint8), "prediction": np.zeros(4, np.uint8),
                    "lift_2": np.full(4, 1.0 + k, np.float16)}
            put_record(run, "small",
                       arrays={"cam": store.write_arrays("small", f"{run.id}.cam", seen)})
    asked = article.full_audit("small", "P2")
    assert asked.verdict[asked.number == "2.4a"].item() == "holds"
    assert claims.tally(asked).loc[claims.OURS, "holds"] == 0
    assert show.claims_headline(article.full_audit(None, "P2")) == clone


# --- The projects' networks, files and plots ---


def test_every_project_network_is_built():
    for backbone, block, placement in NETWORKS:
        with torch.device("meta"):
            model = build_model(backbone, block, placement=placement, width=0.25)
        assert bool(attention_blocks(model)) == (block != "none")


def test_the_projects_table_joins_the_stages_of_a_block():
    text = show.as_markdown(projects_table("P1"))
    assert "NEW_1, _12, _23, _123" in text and "`post_add@1, @12, @23, @123`" in text
    assert PROJECTS["P1"] in text and PROJECTS["P0"] not in text
    assert set(projects_table().project) == set(PROJECTS.values())


def test_every_section_named_is_in_its_notebook():
    places = read_table("places.csv")
    headings = {(book.stem, line.lstrip("# ").strip()) for book in notebooks.chosen_books()
                for cell in notebooks.read_notebook(book).cells if cell.cell_type == "markdown"
                for line in cell.source.splitlines() if re.match("#+ ", line)}
    assert set(zip(places.notebook, places.section, strict=True)) <= headings

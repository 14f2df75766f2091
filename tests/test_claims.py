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
from attnlib.analysis.inference import Effect, seeds_needed
from attnlib.analysis.projects import PROJECTS, projects_table, read_table
from attnlib.bench.measure import bench_dir
from attnlib.data.datasets import DATASETS
from attnlib.experiments.studies import STUDIES, plans, run_of
from attnlib.explain import camstore
from attnlib.networks.build import build_model, canonical_attention
from attnlib.networks.cost import attention_blocks, cost_of
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


def put(arm: str, accuracies, dataset: str = "cifar10", profile: str = "pilot", **own) -> None:
    """Records of one accuracy in percent a seed."""
    for seed, value in enumerate(accuracies):
        put_record(Run(dataset, attention=arm, seed=seed, **own or REAL), profile,
                   test={"accuracy": value / 100, "nll": 1.0, "n": 10})


def put_seen(study: str, profile: str, arm: str, **own) -> None:
    """Three records of a study's first plan with what was seen of four images, all classified
    correctly."""
    seen = {"version": np.int32(camstore.VERSION), "stages": np.array([2, 3], np.int8),
            "label": np.zeros(4, np.uint8), "prediction": np.zeros(4, np.uint8)} | own
    for seed in range(3):
        run = run_of(plans(study, profile)[0], profile, arm, seed)
        cam = store.write_arrays(profile, f"{run.id}.cam", seen)
        put_record(run, profile, arrays={"cam": cam})


# --- The data ---


def test_every_claim_is_there_once_of_a_known_kind_and_claims_what_it_quotes():
    """Of two accuracies, what is before the arrow is what is subtracted."""
    numbers = [c.number for c in CLAIMS]
    assert len(set(numbers)) == len(numbers) and numbers == sorted(numbers)
    last = {"0": 9, "1": 6, "2": 5, "3": 6}
    assert {n.rstrip("abcdefghi") for n in numbers} == {f"{p}.{k}" for p, end in last.items()
                                                    for k in range(1, end + 1)}
    for c in CLAIMS:
        assert c.kind in KINDS and c.metric in METRICS and c.project in PROJECTS
        assert c.quote and c.says and c.note and c.read
        assert math.isnan(c.claimed) != (c.kind in ("gain", "percent", "level", "count"))
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
    ("order", NAN, 0.1, 0.9, "holds"), ("order", NAN, -0.5, 1.0, "not reproduced"),
    ("order", NAN, -0.5, 1.5, "undecided"),
    ("no gain", NAN, -2.0, 0.9, "holds"), ("no gain", NAN, 1.1, 3.0, "not reproduced"),
    ("no gain", NAN, 0.1, 1.5, "undecided"),
    ("level", 80.0, 79.0, 81.0, "holds"), ("level", 80.0, 80.1, 81.0, "not reproduced"),
    ("order of less", NAN, -0.3, -0.1, "holds"), ("order of less", NAN, 0.1, 0.3, "not reproduced")
])
def test_verdicts_of_each_kind_at_a_margin_of_one(kind, claimed, low, high, says):
    kind, _, less = kind.partition(" of ")
    c = claim("0.1a")._replace(kind=kind, claimed=claimed, metric="nll" if less else "accuracy")
    said, needs = claims.verdict_on(c, Effect((low + high) / 2, low, high, 6, sd=1.0), 1.0)
    assert said == says and math.isnan(needs) == (says != "undecided")


def test_one_seed_decides_nothing():
    for number in ("0.1a", "0.4a", "3.1d", "3.1i"):
        said, needs = claims.verdict_on(claim(number), Effect(9.0, n=1), 1.0)
        assert said == "undecided" and math.isnan(needs)


def test_an_undecided_claim_says_how_many_seeds_its_own_rule_needs():
    """A claimed +9.49, so that half of it is 4.745; the differences scatter by 0.9 points."""
    def needs(claimed, *effect, **more):
        return claims.verdict_on(claim("0.1a")._replace(claimed=claimed), Effect(*effect, **more),
                                 1.0)[1]
    sd = 0.6                                # 30 are enough for half of 1, but 0.6 is 0.1 from there
    assert seeds_needed(sd, 0.5) < 30 < seeds_needed(sd, 0.1)
    assert needs(9.49, 6.87, 4.74, 9.0, 2, sd=0.9) == 3
    assert needs(1.0, 0.6, 0.2, 1.0, 30, sd=sd) == seeds_needed(sd, 0.1)
    assert needs(-1.0, -0.6, -1.0, -0.2, 30, sd=sd) == seeds_needed(sd, 0.1)
    of_five = needs(1.0, 0.6, 0.2, 1.0, 3, sd=sd, arms=5)   # the interval is one of five together
    assert of_five == seeds_needed(sd, 0.5, 5) > seeds_needed(sd, 0.5)


def test_a_level_is_held_against_what_another_run_would_give():
    runs = pd.DataFrame({"arm": "none", "accuracy": [80.0, 80.2, 80.4]})
    found = claims.scores_effect(claim("0.1d"), runs)
    assert found.mean == pytest.approx(80.2)
    assert found.high == pytest.approx(80.2 + 4.303 * 0.2 / math.sqrt(3) * 2, abs=1e-3)   # √(n + 1)


def test_counts_are_decided_by_building_the_networks():
    assert claims.counted(claim("3.2")) == (pytest.approx(11.26, abs=0.005), True)
    assert claims.counted(claim("3.3")) == (pytest.approx(0.912, abs=0.001), True)
    assert not claims.counted(claim("3.3")._replace(claimed=0.94))[1]
    added = claim("2.4c")._replace(claimed=913_304)
    assert claims.counted(added) == (117_856, False)
    assert claims.counted(added._replace(arm="replica_cbam_p2")) == (913_304, True)
    for arm, where, millions in (("none", None, 11.17), ("cbam", "head", 11.21),
                                 ("se", "block", 11.26), ("cbam", "block", 11.26)):
        found = cost_of("resnet18", arm, where, 1, 28)
        assert found["params"] / 1e6 == pytest.approx(millions, abs=0.005)
        assert 2 * found["macs"] / 1e9 == pytest.approx(0.92, rel=0.01)


# --- From records to the audit ---


def test_without_records_only_counts_are_decided_and_the_headline_says_what_the_rows_say():
    df, n = article.full_audit(), sum(c.judged for c in CLAIMS)
    assert set(df.kind[df.verdict.isin(("holds", "not reproduced"))]) == {"count"}
    assert set(df.verdict[df.kind.isin(claims.UNJUDGED)]) == {"not judged"}
    says = ("Of {} testable claims of four public projects {} were tested: {} hold ({} in their "
            "own setting), {} are not reproduced (0 in their own setting), {} are undecided (0 in "
            "their own setting).").format
    assert show.claims_headline(df) == says(n, 2, 2, 2, 0, 0)
    for number, *told in (("0.1a", claims.OURS, "not reproduced"), ("0.2a", claims.SAME, "holds"),
                          ("0.3a", claims.OURS, "undecided")):
        df.loc[df.number == number, ["profile", "setting", "verdict"]] = "pilot", *told
    assert show.claims_headline(df) == says(n, 5, 3, 3, 1, 1)


def test_a_claim_is_answered_by_the_difference_of_its_arms():
    scores = {"hybrid": [70.5, 71.0, 72.6], "none": [70.0, 71.0, 72.0]}
    for arm, own in scores.items():
        put(arm, own)
    row, expected = judge("0.1a"), scipy.stats.ttest_ind(*scores.values())
    low, high = expected.confidence_interval()                  # of one arm Dunnett's is Student's
    assert [row[key] for key in ("estimate", "low", "high")] == pytest.approx(
        [1.1 / 3, low, high], abs=1e-4)
    assert row.items() >= {"profile": "pilot", "n": 3, "verdict": "not reproduced",
                           "setting": claims.OURS,
                           "scope": "10,000 images, 8 epochs, width 0.25, batch norm"}.items()


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
    for arm, first in (("none", 90.0), ("se", 89.4)):
        put(arm, [first, first + 0.01, first + 0.02], "fashionmnist", "full", recipe="plain")
        put(arm, [95.0] * 3, "fashionmnist", "full", epochs=40)
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
    c, wrong = claim(number), {"prediction": np.array([0, 0, 0, 1], np.uint8)}
    profile = [name for name, *_ in claims.deciding_cells(c) if name != "smoke"][-1]
    for (name, value), said in ((base, {}), (arm, wrong)):      # the last image is not compared
        put_seen(c.study, profile, name, **said,
                 **{f"{metric}_2": np.array([value] * 3 + [9.0], np.float16)})
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


def test_a_clone_says_the_same_headline():
    """What rests on records that are not committed is shown where it is asked for, and is in no
    count: a clone has none of them."""
    clone = show.claims_headline(article.full_audit(None, "P2"))
    for arm, value in (("none", 1.0), ("cbam", 2.0)):
        put_seen("hybrid", "small", arm, lift_2=np.full(4, value, np.float16))
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
    assert set(projects_table("P1").project) == {PROJECTS["P1"]}
    assert set(projects_table().project) == set(PROJECTS.values())


def test_every_section_named_is_in_its_notebook():
    places = read_table("places.csv")
    headings = {(book.stem, line.lstrip("# ").strip()) for book in notebooks.chosen_books()
                for cell in notebooks.read_notebook(book).cells if cell.cell_type == "markdown"
                for line in cell.source.splitlines() if re.match("#+ ", line)}
    assert set(zip(places.notebook, places.section, strict=True)) <= headings

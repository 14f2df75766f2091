"""The claims of four projects: that each can be decided, and that the verdicts follow the records.
"""
import math
import re

import numpy as np
import pytest
from helpers import put_record

from attnlib import camstore, claims, evidence, notebooks, places, stats, store
from attnlib.bench import bench_dir
from attnlib.claims import CLAIMS, KINDS, METRICS
from attnlib.evidence import Finding
from attnlib.projects import PROJECTS
from attnlib.run import Run
from attnlib.studies import STUDIES, plans, run_of

REAL = {"width": 0.25, "epochs": 8, "n_train": 10_000, "n_val": 2_000}


def claim(number: str) -> claims.Claim:
    return next(c for c in CLAIMS if c.number == number)


def finding(low: float, high: float, n: int = 6, sd: float = 1.0) -> Finding:
    return Finding(stats.Difference((low + high) / 2, low, high, n, n), sd)


def put(arm: str, accuracies, dataset: str = "cifar10", **own) -> list[Run]:
    """Records of profile real: one accuracy in percent a seed."""
    runs = [Run(dataset, attention=arm, seed=seed, **REAL) for seed in range(len(accuracies))]
    for run, value in zip(runs, accuracies, strict=True):
        put_record(run, "pilot", test={"accuracy": value / 100, "nll": 1.0, "n": 10}, **own)
    return runs


# --- The data ---


def test_every_claim_is_there_once_and_of_a_known_kind():
    numbers = [c.number for c in CLAIMS]
    assert len(set(numbers)) == len(numbers) and numbers == sorted(numbers)
    last = {"0": 9, "1": 6, "2": 4, "3": 6}
    assert {n.rstrip("abcde") for n in numbers} == {f"{p}.{k}" for p, end in last.items()
                                                    for k in range(1, end + 1)}
    for c in CLAIMS:
        assert c.kind in KINDS and c.metric in METRICS and c.project in PROJECTS
        assert c.quote and c.says and c.note
        assert (c.claimed is not None) == (c.kind in ("gain", "percent", "count"))


@pytest.mark.parametrize("c", [c for c in CLAIMS if c.study], ids=lambda c: c.number)
def test_a_study_plans_what_decides_a_claim(c):
    assert c.study in STUDIES
    assert [p for p in claims.profiles_of(c) if p != "smoke"]
    if c.own:                                       # and full has it in the project's own recipe
        have = claims.planned(c.study, "full")
        assert {(c.dataset, c.backbone, c.own, arm) for arm in (c.arm, c.base)} <= have


def test_only_counts_times_and_texts_need_no_study():
    assert all(c.kind in ("count", "text") or c.metric == "latency"
               for c in CLAIMS if not c.study)


# --- The verdicts ---


@pytest.mark.parametrize(("kind", "claimed", "low", "high", "says"), [
    ("gain", 4.0, 2.0, 5.0, "holds"), ("gain", 4.0, -1.0, 1.9, "not reproduced"),
    ("gain", 4.0, 1.0, 3.0, "undecided: needs about"), ("gain", -4.0, -5.0, -2.0, "holds"),
    ("gain", -4.0, -1.9, 3.0, "not reproduced"), ("percent", -15.0, 3.0, 9.0, "not reproduced"),
    ("order", None, 0.1, 0.9, "holds"), ("order", None, -0.5, 1.0, "not reproduced"),
    ("order", None, -0.5, 1.5, "undecided: needs about"),
    ("no gain", None, -2.0, 0.9, "holds"), ("no gain", None, 1.1, 3.0, "not reproduced"),
    ("no gain", None, 0.1, 1.5, "undecided: needs about"),
    ("contrast", None, 0.1, 3.0, "holds"), ("contrast", None, -3.0, 0.5, "not reproduced")])
def test_verdicts_of_each_kind_at_a_margin_of_one(kind, claimed, low, high, says):
    c = claim("0.1")._replace(kind=kind, claimed=claimed)
    assert claims.verdict(c, finding(low, high), 1.0).startswith(says)


def test_where_less_is_better_an_order_turns_round():
    c = claim("2.3")._replace(metric="nll")
    assert claims.verdict(c, finding(-0.3, -0.1), 0.0, -1) == "holds"
    assert claims.verdict(c, finding(0.1, 0.3), 0.0, -1) == "not reproduced"


def test_without_an_interval_nothing_is_decided():
    one = Finding(stats.Difference(9.0, math.nan, math.nan, 1, 1))
    for number in ("0.1", "0.4", "3.1d"):
        assert claims.verdict(claim(number), one, 1.0) == "undecided: needs more seeds"
    nothing = Finding(evidence.NOTHING)
    assert claims.verdict(claim("0.1"), nothing, 1.0) == "no data yet"


def test_counts_are_decided_by_building_the_networks():
    assert evidence.counted(claim("3.2")) == (pytest.approx(11.26, abs=0.005), True)
    assert evidence.counted(claim("3.3")) == (pytest.approx(0.912, abs=0.001), True)
    assert not evidence.counted(claim("3.3")._replace(claimed=0.94))[1]
    added = claim("2.4c")
    assert evidence.counted(added) == (117_856, False)
    assert evidence.counted(added._replace(arm="replica_cbam_p2")) == (913_304, True)


# --- From records to the audit ---


def test_without_records_only_counts_are_decided():
    df = claims.audit()
    decided = df[df.verdict.isin(("holds", "not reproduced"))]
    assert set(decided.kind) == {"count"}
    assert set(df.verdict[df.kind == "text"]) == {"not testable"}
    n = int((df.kind != "text").sum())
    assert claims.headline(df).startswith(
        f"Of {n} testable claims in four public projects, 2 hold (0 of them of a gain, 2 of a "
        f"cost or of no gain), 1 are not reproduced, {n - 3} are undecided ({n - 3} of them "
        "without data yet). Of the 0 differences")
    assert claims.headline(df).endswith("none yet.")


def test_a_claim_is_answered_by_the_paired_difference_of_its_arms():
    put("none", [70.0, 71.0, 72.0])
    put("hybrid", [70.5, 71.0, 72.6])
    row = claims.judge(claim("0.1"))
    expected = stats.Difference(*evidence.summed([0.5, 0.0, 0.6]).d)
    assert (row["profile"], row["n"], row["verdict"]) == ("pilot", 3, "not reproduced")
    assert (row["estimate"], row["low"], row["high"]) == pytest.approx(expected[:3], abs=1e-4)
    assert row["scope"] == claims.OURS and row["difference"] == "undecided"
    text = claims.table(claims.audit(None, "P0"))
    assert "not reproduced under our protocol" in text and "81.22% → 90.71%" in text


def test_a_gain_as_claimed_holds_and_one_seed_decides_nothing():
    put("none", [60.0, 61.0, 62.0])
    put("hybrid", [69.0, 71.0, 71.5])
    assert claims.judge(claim("0.1"))["verdict"] == "holds"
    run = run_of(plans("networks", "pilot")[0], "pilot", "none", 0)
    for arm in ("none", "hybrid"):
        put_record(Run(**run.as_dict() | {"attention": arm}), "pilot")
    row = claims.judge(claim("0.3"))
    assert (row["n"], row["verdict"]) == (1, "undecided: needs more seeds")


def test_the_projects_own_recipe_decides_where_full_has_it():
    for seed in range(3):
        for arm, value in (("none", 0.9), ("se", 0.894)):
            own = Run("fashionmnist", attention=arm, seed=seed, recipe="plain")
            ours = Run("fashionmnist", attention=arm, seed=seed, epochs=40)
            put_record(own, "full", test={"accuracy": value + seed / 1e4, "nll": 1.0, "n": 10})
            put_record(ours, "full", test={"accuracy": 0.95, "nll": 1.0, "n": 10})
    row = claims.judge(claim("3.1a"), "full")
    assert (row["recipe"], row["scope"], row["verdict"]) == ("plain", claims.SAME, "holds")
    assert row["estimate"] == pytest.approx(-0.6, abs=0.01)
    assert claims.said(next(claims.audit("full", "P3").itertuples())) == "holds"


def test_a_contrast_is_a_difference_of_gains():
    for dataset, gain in (("cifar10", 2.0), ("fashionmnist", 0.5)):
        put("none", [60.0, 61.0, 62.5], dataset)
        put("se", [60.0 + gain, 61.1 + gain, 62.3 + gain], dataset)
    row = claims.judge(claim("3.5a"))
    assert row["estimate"] == pytest.approx(1.5) and row["verdict"] == "holds"


def test_epochs_are_a_percentage_of_the_bases():
    curves = {"none": [0.2, 0.4, 0.6, 0.7], "hybrid": [0.2, 0.6, 0.7, 0.7]}
    for arm, curve in curves.items():
        put(arm, [60.0] * 3, history=[{"val_accuracy": y} for y in curve])
    row = claims.judge(claim("0.6"))
    assert row["estimate"] == pytest.approx(-25.0) and row["verdict"] == "holds"


@pytest.mark.parametrize(("number", "metric", "base", "arm", "gain", "verdict"), [
    ("0.8a", "entropy", ("se", 0.8), ("hybrid", 0.4), 50.0, "holds"),
    ("0.8b", "entropy", ("cbam", 0.5), ("hybrid", 0.5), 0.0, "not reproduced"),
    ("2.4b", "lift", ("se", 2.0), ("cbam", 3.0), 50.0, "holds")])
def test_focus_is_in_percent_of_the_bases_and_up_is_better(number, metric, base, arm, gain,
                                                           verdict):
    c, label, wrong = claim(number), np.zeros(4, np.uint8), np.array([0, 0, 0, 1], np.uint8)
    profile = claims.profile_for(c)
    plan = plans(c.study, profile)[0]
    for (name, value), said in ((base, label), (arm, wrong)):
        for seed in range(3):
            run = run_of(plan, profile, name, seed)
            seen = {"version": np.int32(camstore.VERSION), "stages": np.array([2, 3], np.int8),
                    "label": label, "prediction": said,         # the last image is not compared
                    f"{metric}_2": np.array([value] * 3 + [9.0], np.float16)}
            cam = store.write_arrays(profile, f"{run.id}.cam", seen)
            put_record(run, profile, arrays={"cam": cam})
    row = claims.judge(c, profile)
    assert row["estimate"] == pytest.approx(gain, abs=0.1) and row["n"] == 3
    assert row["verdict"] == verdict


def test_time_is_from_the_benchmark():
    repeats = {"64": {"none": [1.0, 1.0, 2.0], "cbam": [1.5, 1.5, 3.0]}}
    row = {"kind": "inference", "backbone": "resnet18", "width": 1.0, "repeats": repeats}
    store.write_sealed(bench_dir() / "made-up.json", {
        "schema": store.SCHEMA, "id": "made-up", "rows": {"inference": row}})
    found = claims.judge(claim("3.4b"))
    assert found["estimate"] == pytest.approx(50.0) and found["verdict"] == "holds"


def test_the_headline_counts_what_the_rows_say():
    df = claims.audit()
    df.loc[df.number == "0.1", ["verdict", "difference"]] = ["not reproduced", "equivalent"]
    df.loc[df.number == "0.2", ["verdict", "difference"]] = ["holds", "better"]
    df.loc[df.number == "0.3", "verdict"] = "undecided: needs about 9 seeds"
    said = claims.headline(df)
    assert "3 hold (1 of them of a gain" in said and "2 are not reproduced" in said
    assert "Of the 2 differences" in said
    assert "1 equivalent" in said and "1 better" in said


# --- Places ---

NAMED = {     # what the projects' READMEs and reports name
    "P0": "train_hybrid_attention.py evaluate_model.py models/resnet_hybrid.py "
          "models/alexnet_hybrid.py models/vgg_hybrid.py models/squeezenet_hybrid.py images/ "
          "Map_Hybrid CNN+SENet+BAM Loss_Acc_ResNetHybrid Loss_Acc_AlexNetBase Loss_Acc_Hybrid "
          "output6 AlexNet.ipynb AlidortoGPU_tran_Set.ipynb FIinal.ipynb Fine-Tuning.ipynb "
          "Grad-cam.ipynb Squeezenet.ipynb VGG16.ipynb",
    "P1": "demo_training.ipynb demo_inference.ipynb resnet_cifar/main.py vgg_cifar/main.py "
          "resnet_cifar/inference.py vgg_cifar/inference.py demo.pdf block.py fig/CAM.png "
          "fig/SEblock.png fig/SAM.png fig/our_block.png fig/experiment.png fig/GradCam.png "
          "fig/experiment2.png",
    "P2": "Resnet50_Original Resnet50_CBAM Resnet50_SE Grad-CAM authors_gradcam.jpg ori.jpg se.jpg "
          "cbam.jpg",
    "P3": "Dataset Architecture Configuration Metrics Results Accuracy Inference Parameter "
          "Interpretation Work",
}


@pytest.mark.parametrize("project", NAMED)
def test_all_that_a_project_names_has_its_place(project):
    theirs = " ".join(p.theirs for p in places.PLACES if p.project == project)
    assert [name for name in NAMED[project].split() if name not in theirs] == []


def test_every_claim_has_its_place():
    theirs = {p.theirs for p in places.PLACES}
    assert all(any(t.startswith(f"claim {c.number}:") for t in theirs) for c in CLAIMS)


def test_every_section_named_is_in_its_notebook():
    headings = {book.stem: {line.lstrip("# ").strip() for cell in notebooks.read(book).cells
                            if cell.cell_type == "markdown"
                            for line in cell.source.splitlines() if re.match("#+ ", line)}
                for book in notebooks.chosen()}
    assert [p.ours for p in places.PLACES if p.ours[1] not in headings.get(p.ours[0], ())] == []


def test_the_table_of_places_links_into_the_notebooks():
    text = places.table("P3")
    assert "[04_cbam](04_cbam.ipynb#Inference-time), Inference time" in text
    assert "P0" not in text

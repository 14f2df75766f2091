"""The report's tables, from records made for the purpose."""
import time
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from helpers import correct, stored
from matplotlib.collections import PathCollection
from test_stats import frame

from attnlib.experiments.planning import study
from attnlib.experiments.reading import collect
from attnlib.figures import plots
from attnlib.report import article, show
from attnlib.training import store

LEARNED = [{"val_accuracy": 0.6, "train_accuracy": 0.8}] * 3      # and no longer rises
BASE = [60.0, 61.0, 62.0, 63.0, 64.0, 65.0, 66.0, 67.0]


@pytest.fixture
def hybrid():
    """The headline's first three seeds on CIFAR-10: SE gains 5, 6 and 7 points, CBAM loses 5."""
    gain = {"none": 0, "se": 6, "cbam": -5, "hybrid": 0}
    for run in study("hybrid", "pilot"):
        if run.dataset == "cifar10" and run.seed < 3:
            wobble = (run.seed - 1) * (run.attention == "se")
            stored(run, correct(60 + run.seed + gain[run.attention] + wobble), history=LEARNED)


def test_the_figure_of_accuracy_has_a_dot_for_every_seed_that_the_profile_has(hybrid):
    plain = study("hybrid", "pilot")[0]
    stored(replace(plain, seed=77), correct(70), history=LEARNED)       # no study plans it
    axis = plots.accuracy(collect("hybrid", "pilot")).axes[0]
    marks = np.concatenate([dots.get_offsets() for dots in axis.collections
                            if isinstance(dots, PathCollection)])       # no error bars
    dots = {label.get_text(): sorted(marks[abs(marks[:, 1] - at) < 0.5, 0])
            for at, label in zip(axis.get_yticks(), axis.get_yticklabels(), strict=True)}
    assert dots["plain"] == pytest.approx([60, 61, 62, 70])
    assert dots["CBAM"] == pytest.approx([55, 56, 57])


def test_blocks_are_set_against_controls_and_open_gates_against_closed():
    for run in study("controls", "small"):
        stored(run, correct(60 + 3 * ("open" in run.attention) + run.seed / 4), "small")
    opened = article.open_table("small").set_index("over")
    assert set(opened.profile) == {"small"} and set(opened.index) == {"hybrid"}
    assert opened.difference.to_list() == pytest.approx([3])
    table = article.over_table("controls", "small").set_index(["arm", "over"])
    assert set(table.profile) == {"small"} and set(table.verdict["cbam"]) == {"equivalent"}
    assert set(table.loc["cbam"].index) == {"layerscale", "shuffled"}


def test_all_variants_were_tried_at_the_same_rates():
    assert article.tuning_table().empty
    for run in study("rates", "real"):
        level = 0.5 + (run.how.lr == 0.3) / 10
        stored(run, correct(50), "real", history=[{"val_accuracy": level}])
    table = article.tuning_table().set_index("arm")
    assert table.shape == (6, 3) and table.loc["se"].to_list() == pytest.approx([50, 60, 50])


def test_provenance_states_splits_code_and_what_went_wrong(hybrid):
    stored(study("hybrid", "pilot")[0], correct(10))
    more = [run for run in study("hybrid", "pilot") if run.dataset != "cifar10"]
    stored(more[0], correct(60), status="diverged")
    stored(more[1], correct(60), status="failed")
    table = article.provenance(collect("hybrid", "pilot")).set_index("what")["of the records"]
    assert table["runs that diverged, failed, stayed near chance"] == "1 / 1 / 1"
    assert table["correlation of two runs of one seed"].endswith(", of 9 pairs with 3 plain runs")
    assert table["finished runs"] == "12" and table["commit"] == "0123456"
    assert table["train / validation / test images, cifar10"] == "10,000 / 2,000 / 400"


def test_positions_are_the_gains():
    df = frame(none=BASE, se=[b + 2 for b in BASE], **{"se head": [b - 1 for b in BASE]})
    df["attention"] = df.arm.str.split().str[0]
    df["placement"] = df.arm.map({"none": "", "se": "block", "se head": "head"})
    figure = plots.positions(df)
    axis, = figure.axes
    assert [t.get_text().split()[0] for t in axis.texts if t.get_text()] == ["+2.0", "−1.0"]
    assert [t.get_text() for t in axis.get_xticklabels()] == ["block", "head"]
    assert axis.collections[0].get_array().ravel().tolist() == [2.0, -1.0]
    plt.close(figure)


def test_without_records_every_table_is_empty():
    df = article.compared_runs("pilot")
    assert show.gains_markdown(df) == show.NOTHING
    for table in (article.over_table("controls", "pilot"), article.open_table("pilot"),
                  article.provenance(df)):
        assert show.as_markdown(table) == show.NOTHING
    plt.close(plots.positions(df))


def test_the_report_leaves_out_a_variant_of_one_seed_but_none_that_fails(hybrid):
    for run in study("positions", "pilot"):
        if run.attention == "sec_sa" or (run.attention, run.seed) == ("se_sa", 0):
            stored(run, correct(60), status="done" if run.attention == "se_sa" else "failed")
    arms = set(article.compared_runs("pilot").arm)
    assert {"none", "se", "sec_sa"} <= arms and "se_sa" not in arms


def test_each_record_is_read_once(hybrid, monkeypatch):
    read, checked = [], store.checked
    monkeypatch.setattr(store, "checked", lambda raw, name, *rest: (
        read.append(name), checked(raw, name, *rest))[1])
    df = article.compared_runs("pilot")
    show.claims_headline(article.full_audit("pilot", "P2"))
    show.short_answer("pilot")
    article.provenance(df)
    assert len(read) == len(set(read)) == 12


def test_the_table_of_a_thousand_records_takes_less_than_a_second():
    rng, parts = np.random.default_rng(0), []
    for net in ("resnet18", "vgg16", "alexnet", "squeezenet", "resnet50"):
        for data in ("cifar10", "cifar100"):
            own = frame(**{arm: rng.normal(60, 1, 10) for arm in (
                "none", "se", "cbam", "hybrid", "ca", "sa", "eca", "frozen", "shuffled",
                "layerscale")})
            parts.append(own.assign(backbone=net, dataset=data, id=own.id + net + data))
    df = pd.concat(parts, ignore_index=True)
    started = time.process_time()             # of the processor: others may compute, too
    said = show.gains_markdown(df)
    assert time.process_time() - started < 1 and said.count("| plain ") == 10

"""Tables and figures of what networks look at, from made-up and from measured maps."""
from unittest.mock import Mock

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from helpers import least_text_on_a_phone, put_record

import attnlib
from attnlib.explain import camstore, sharper, tables
from attnlib.explain.cam import MAPS
from attnlib.figures import maps
from attnlib.training import store


def made_up(seed: int, sharper_by: float, right: float) -> dict:
    """What `camstore` would have stored of a network on ShapeTex."""
    rng = np.random.default_rng(seed)
    n = 40
    label = np.arange(n, dtype=np.uint8) % 10
    out = {"version": np.int32(camstore.VERSION), "stages": np.array([-2], np.int8),
           "methods": np.array(camstore.MEASURED, "S"), "label": label,
           "prediction": np.where(rng.random(n) < right, label, (label + 1) % 10),
           "confidence": np.full(n, 0.7, np.float16)}
    values = {"entropy": 0.8 * (1 - sharper_by), "gini": 0.5 * (1 + sharper_by), "lift": 3.0,
              "pointing": 0.7, "average_precision": 0.6, "on_distractors": 0.03, "road": 0.2,
              "drop": 0.6}
    for name, value in values.items():
        out[f"{name}_-2"] = (value * (1 + 0.02 * rng.standard_normal(n))).astype("f2")
        out[f"mean_{name}_-2"] = value + 0.01 * rng.random(2)
    out |= {f"map_{name}_-2": rng.random((16, 8, 8)).astype("f2") for name in MAPS}
    return out | {f"sanity_{name}": rng.random((6, 16)).astype("f2") for name in camstore.SANITY}


@pytest.fixture
def df(out):
    """Records of the small profile's headline with made-up maps: SE's are 20 % sharper."""
    runs = [r for r in attnlib.study("hybrid", "small") if r.backbone == "speednet"
            and r.attention in ("none", "se") and r.seed < 4]
    for run in runs:
        arrays = made_up(run.seed, 0.2 * (run.attention == "se"), 0.8 + 0.02 * run.seed)
        put_record(run, "small", model={}, seconds=1.0, classes=[str(k) for k in range(10)],
                   test={"accuracy": 0.8 + 0.02 * run.seed, "nll": 1.0},
                   arrays={"cam": store.write_arrays("small", f"{run.id}.cam", arrays)})
    return attnlib.collect("hybrid", "small")


def test_the_verdict_is_computed(df):
    row, = tables.map_verdicts(df).to_dict("records")
    assert row.items() >= {"place": "speednet on ShapeTex", "block": "SE", "seeds": 4,
                           "sharper": "yes", "localisation": "yes", "faithfulness": "yes",
                           "looks better": "yes"}.items()
    gain = sharper.comparisons(df)[0].gain
    assert gain["entropy"].mean == pytest.approx(20, abs=1) and set(gain) == set(sharper.METRICS)


def test_a_run_has_a_row_of_every_measure_and_accuracies_that_do_not_overlap_decide_nothing(
        df, monkeypatch):
    table = tables.run_table(df)
    assert set(table.arm) == {"none", "se"} and len(table) == 8
    assert set(tables.MEASURES) <= set(table) and table.entropy[table.arm == "se"].max() < 0.7
    assert set(tables.map_beyond(df).overlap) == {"", "yes"}
    table.loc[table.arm == "se", "accuracy"] += 20
    monkeypatch.setattr(tables, "run_table", lambda df: table)
    found = tables.map_beyond(df)
    assert list(found.of) == ["a point of accuracy", "SE"] and set(found.overlap) == {"", "no"}


FIGURES = (maps.cam_sheet, maps.methods_sheet, maps.metrics, maps.gains, maps.sanity,
           maps.failures)


def texts(figure) -> list[str]:
    return [t.get_text() for axis in figure.axes for t in axis.texts]


def test_every_figure_is_drawn(df):
    for f in FIGURES:
        figure = f(df)
        assert len(figure.axes) >= 1 and not any("no stored" in t for t in texts(figure)), f
        assert least_text_on_a_phone(figure) >= 7, f
        plt.close(figure)
    titles = [a.get_title() for a in figure.axes]                          # of `failures`
    assert [t.partition(",")[0] for t in titles] == ["plain", "SE"] * 2    # one of each arm
    assert all("lift" in t for t in titles[:2]) and all("sure" in t for t in titles[2:])
    assert len(maps.cam_sheet(df, rows=2).axes) == 2 * 4                   # image, mask, two arms
    plt.close("all")


def test_a_sheet_is_of_one_data_set_and_of_its_first_seed(df, monkeypatch):
    mine = df.assign(dataset="cifar10", seed=df.seed + 3)
    both = pd.concat([df.assign(dataset="cifar100"), mine])
    asked = Mock(return_value=None)
    monkeypatch.setattr(maps, "with_images", asked)
    plt.close(maps.cam_sheet(both, "cifar10"))
    chosen = asked.call_args.args[0]
    assert {*chosen.dataset} == {"cifar10"} and {*chosen.seed} == {3}


def test_without_maps_tables_are_empty_and_figures_say_so(out):
    df = attnlib.collect("hybrid", "small")
    for f in (tables.run_table, tables.map_verdicts, tables.map_beyond):
        assert not len(f(df)), f
    for f in FIGURES:
        assert any("no stored maps" in t for t in texts(f(df))), f
    plt.close("all")

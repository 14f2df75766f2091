"""Tables and figures of gates, interventions and probes, from arrays written by hand."""
import matplotlib.pyplot as plt
import numpy as np
import pytest
from helpers import least_text_on_a_phone, put_record

from attnlib.data import shapetex
from attnlib.experiments import planning, reading
from attnlib.explain import camstore, interventions, probes, tables
from attnlib.explain.gatestats import STATISTICS
from attnlib.figures import gates as gate_figures
from attnlib.training import store

ARMS = {"none": None, "se": ("channels",), "cbam": ("channels", "places")}
LOST = {"se": 0.1, "cbam": 30.0}             # with its gates at their mean
STAGES = ("stage1", "stage2")


def gates(arm: str, kinds, seed: int) -> dict:
    rows = [(f"stages.{k}.0.attention.{kind}", kind) for k in range(2) for kind in kinds]
    out = {"gate_site": np.array([r[0] for r in rows], "S"),
           "gate_kind": np.array([r[1] for r in rows], "S")}
    for s in STATISTICS:
        here = [kind == "channels" if s == "selectivity" else
                kind == "places" or s in STATISTICS[:5] for _, kind in rows]
        out[f"gate_{s}"] = np.where(here, 0.5 + 0.01 * seed, np.nan).astype(np.float32)
    for stage in STAGES:
        out[f"gate_classes_{stage}"] = np.random.default_rng(0).random((10, 8))
        if "places" in kinds:
            out[f"gate_map_{stage}"] = np.random.default_rng(1).random((6, 4, 4))
    scopes, modes = ["all", *STAGES], list(interventions.MODES)
    lost = np.full((3, 3), LOST[arm] + 0.01 * seed)
    return out | {"swap_scope": np.array(scopes, "S"), "swap_mode": np.array(modes, "S"),
                  "swap_lost": lost, "swap_changed": lost / 100, "swap_accuracy": np.float32(80),
                  "swap_images": np.array([100, 50, 50])}


def probed(arm: str, seed: int) -> dict:
    """Accuracy 80 − 10 k of the k-th probe, and cbam's 3 lower on all but the first."""
    names = list(probes.conditions())
    out = {"probe_name": np.array(names, "S"), "probe_images": np.int32(10)}
    for c in probes.COLUMNS:
        out[f"probe_{c}"] = np.full(len(names), 0.25, np.float32)
    out["probe_accuracy"] = 80 - 10.0 * (np.arange(len(names)) > 0) - 3 * (arm == "cbam") * (
        np.arange(len(names)) > 0) + seed
    worst = {"none": 10, "se": 10 + seed, "cbam": 50 + seed}[arm]
    return out | {"probe_groups": np.array([99, worst]), "probe_groups_images": np.array([9, 9])}


def stored(name: str, seeds: int = 3):
    """The table of a study's runs, finished, with arrays beside their records as from `focus`."""
    runs = [r for r in planning.study(name, "small") if r.attention in ARMS and r.seed < seeds
            and r.backbone == "speednet"]
    for run in runs:
        arrays = {"version": np.int32(camstore.VERSION), **probed(run.attention, run.seed),
                  **(gates(run.attention, ARMS[run.attention], run.seed)
                     if ARMS[run.attention] else {})}
        digest = store.write_arrays("small", f"{run.id}.cam", arrays)
        put_record(run, "small", env={}, model={}, test={"accuracy": 0.8}, arrays={"cam": digest},
                   classes=[str(k) for k in range(10)])
    return reading.table(runs, "small")


FIGURES = (gate_figures.gate_maps, gate_figures.swap_lost, gate_figures.probe_causes,
           gate_figures.shortcut_groups)
TABLES = (tables.gate_statistics, tables.swap_table, tables.probe_table, tables.group_table,
          tables.gate_summary, tables.swap_summary, tables.probe_summary, tables.shortcut_summary)


def test_where_nothing_is_stored_tables_are_empty_and_figures_say_so():
    for study in ("hybrid", "shortcut"):
        df = reading.collect(study, "small")
        assert not any(len(table(df)) for table in TABLES)
        for draw in FIGURES:
            assert "stored" in draw(df).axes[0].texts[0].get_text()
        plt.close("all")


def test_gates_of_every_arm_stand_in_the_table():
    table = tables.gate_summary(stored("hybrid"))
    assert len(table) == 2 + 4                            # se: channels; cbam: both; two stages
    assert list(table.block) == ["SE"] * 2 + ["CBAM"] * 4
    assert set(table["mean"]) == {0.51} and set(table.stage) == {"1", "2"}
    places = table[table["gate over"] == "places"]
    assert set(places["open on the object"]) == {0.51}
    assert places["class"].isna().all() and len(places) == 2


def test_what_a_gates_sight_is_worth():
    table = tables.swap_summary(stored("hybrid"))
    se, cbam = (table[(table.block == b) & (table["relies on it"] != "")].iloc[0]
                for b in ("SE", "CBAM"))
    assert (se["points lost"], se.low, se.high) == (0.11, -0.54, 0.76)
    assert se["relies on it"] == "no" and cbam["relies on it"] == "yes"
    assert (cbam["points lost"], cbam.low) == (30.01, 19.27)
    few = tables.swap_summary(stored("hybrid", 2).query("seed < 2"))
    assert set(few["relies on it"]) == {"", "too few seeds"} and few.low.isna().all()


def test_probes_are_costs_against_none():
    table = tables.probe_summary(stored("hybrid")).set_index(["images", "block"])
    assert list(table.loc[("as they are", "SE")][1:]) == [81, 0, 0, 0]
    gone = table.loc["no object"]
    assert list(gone["mean"]) == [10, 10, 13] and np.isnan(gone.low["none"])
    assert gone["over none"]["CBAM"] == 3 == gone.low["CBAM"]
    assert set(table.index.get_level_values(0)) == set(probes.SAYS.values())


def test_worst_group_against_none():
    table = tables.shortcut_summary(stored("shortcut")).set_index(["what", "block"])
    worse = table.loc[tables.SHORTCUT["worst"]]
    assert list(worse.loc["CBAM"][1:]) == [51, 41, 38.52, 43.48]
    assert not len(tables.shortcut_summary(stored("hybrid")))


@pytest.mark.parametrize("draw", FIGURES)
def test_figures_are_drawn_with_every_arm(draw):
    figure = draw(stored("shortcut" if draw is gate_figures.shortcut_groups else "hybrid"))
    assert all(axis.has_data() for axis in figure.axes[:2])
    assert least_text_on_a_phone(figure) >= 7
    plt.close(figure)


def test_every_intervention_is_drawn():
    assert set(gate_figures.CAUSES) == {"split=test", *shapetex.INTERVENTIONS}
    assert set(interventions.SAYS) == set(interventions.MODES)
    assert set(probes.SAYS) | set(gate_figures.CAUSES) <= set(probes.conditions())


def test_gate_maps_over_their_images():
    figure = gate_figures.gate_maps(stored("hybrid"))
    assert len(figure.axes) == 6 * 3 + 1                    # image and two stages; colour bar
    assert all(axis.images for axis in figure.axes[:18])

"""Words and figures of gates, interventions and probes, from arrays written by hand."""
import numpy as np
import pytest

from attnlib.data import shapetex
from attnlib.experiments import planning, reading
from attnlib.explain import camstore, gatewords, interventions, probes
from attnlib.explain.gatestats import STATISTICS
from attnlib.figures import gateplots
from attnlib.training import store
from attnlib.training.trainer import versions

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
                  "swap_images": np.array([100, 50, 50]), "swap_without": np.array([], "S")}


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
            and r.backbone == "resnet18"]
    for run in runs:
        arrays = {"version": np.int32(camstore.VERSION), **probed(run.attention, run.seed),
                  **(gates(run.attention, ARMS[run.attention], run.seed)
                     if ARMS[run.attention] else {"swap_without": np.array([], "S")})}
        digest = store.write_arrays("small", f"{run.id}.cam", arrays)
        store.write_record("small", {
            "schema": store.SCHEMA, "id": run.id, "versions": versions(run),
            "run": run.as_dict(), "profile": "small", "status": "done",
            "env": {}, "model": {}, "history": [], "test": {"accuracy": 0.8},
            "arrays": {"cam": digest}, "classes": [str(k) for k in range(10)]})
    return reading.table(runs, "small")


FIGURES = (gateplots.gate_stages, gateplots.gate_classes, gateplots.swap_lost,
           gateplots.probe_levels, gateplots.probe_causes, gateplots.shortcut)
WORDS = (gatewords.gates_markdown, gatewords.gates_answer, gatewords.swap_answer,
         gatewords.probes_answer, gatewords.shortcut_answer)


def test_where_nothing_is_stored_words_and_figures_say_so():
    for study in ("hybrid", "shortcut"):
        df = reading.collect(study, "small")
        for words in WORDS:
            assert "are stored in profile `small`" in words(df)
        for draw in FIGURES:
            assert "stored" in draw(df).axes[0].texts[0].get_text()
    assert "stored" in gateplots.gate_maps(df, "hybrid").axes[0].texts[0].get_text()


def test_gates_of_every_arm_stand_in_the_table_and_in_words():
    df = stored("hybrid")
    table = gatewords.gates_markdown(df).splitlines()
    assert len(table) == 2 + 2 + 4                        # se: channels; cbam: both; two stages
    assert sum("CBAM" in line for line in table) == 4
    answer = gatewords.gates_answer(df)
    assert "SE: its channel gates average 0.51" in answer and "0.51 times as open" in answer


def test_what_a_gates_sight_is_worth():
    answer = gatewords.swap_answer(stored("hybrid"))
    se, cbam = (line for line in answer.splitlines() if line.startswith("- "))
    assert "SE (3 seeds): +0.1 [−0.5, +0.8]" in se and "might as well be constants" in se
    assert "+30.0 [+19.3, +40.7]" in cbam and "this trained network relies on" in cbam
    assert "goes with stage" in cbam
    few = gatewords.swap_answer(stored("hybrid", 2).query("seed < 2"))
    assert "too few seeds" in few and "+30.0 with every" in few


def test_probes_are_costs_against_none():
    answer = gatewords.probes_answer(stored("hybrid"))
    assert "as they are, %: none 81.0; SE 81.0 (+0.0 [+0.0, +0.0])" in answer
    assert "- no object at all: none 71.0; SE 71.0 (+0.0 [+0.0, +0.0]); CBAM 68.0 (−3.0" in answer
    line = next(x for x in answer.splitlines() if x.startswith("- twice the clutter"))
    assert "none 10.0; SE 10.0 (+0.0 [+0.0, +0.0]); CBAM 13.0 (+3.0 [+3.0, +3.0])" in line


def test_worst_group_against_none_and_the_floor():
    df = stored("shortcut")
    answer = gatewords.shortcut_answer(df)
    assert "CBAM 51.0 (+41.0 [+38.5, +43.5])" in answer and "within 5 points" not in answer
    alike = gatewords.shortcut_answer(df[df.arm != "cbam"])
    assert "within 5 points of guessing" in alike
    assert "No probes of the spurious" in gatewords.shortcut_answer(stored("hybrid"))


@pytest.mark.parametrize("draw", FIGURES)
def test_figures_are_drawn_with_every_arm(draw):
    figure = draw(stored("shortcut" if draw is gateplots.shortcut else "hybrid"))
    assert all(axis.has_data() for axis in figure.axes[:2])
    figure.draw_without_rendering()


def test_every_intervention_is_drawn():
    assert set(gateplots.CAUSES) == {"split=test", *shapetex.INTERVENTIONS}
    assert set(gateplots.SWAPS) == set(interventions.MODES)
    assert set(gatewords.PROBES) | set(gateplots.CAUSES) <= set(probes.conditions())


def test_gate_maps_over_their_images():
    figure = gateplots.gate_maps(stored("hybrid"), "hybrid", rows=2)
    assert len(figure.axes) == 2 * 3 + 1                    # image and two stages; colour bar
    assert all(axis.images for axis in figure.axes[:6])

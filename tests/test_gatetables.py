"""Tables and figures of gates, interventions and probes, from arrays written by hand."""
import matplotlib.pyplot as plt
import numpy as np
import pytest
from helpers import least_text_on_a_phone, put_record

from attnlib.data import shapetex
from attnlib.experiments import planning, reading
from attnlib.explain import camstore, interventions, probes, tables
from attnlib.figures import gates as gate_figures
from attnlib.training import store

LOST = {"se": 0.1, "cbam": 30.0}             # with its gates at their mean
STAGES = ("stage1", "stage2")


def gates(arm: str, seed: int) -> dict:
    pictures = {f"gate_map_{stage}": np.random.default_rng(1).random((6, 4, 4))
                for stage in STAGES if arm == "cbam"}
    scopes, modes = ["all", *STAGES], list(interventions.MODES)
    return pictures | {"swap_scope": np.array(scopes, "S"), "swap_mode": np.array(modes, "S"),
                       "swap_lost": np.full((3, 3), LOST[arm] + 0.01 * seed)}


def probed(arm: str, seed: int) -> dict:
    """Accuracy 80 as they are, 70 on every other probe, and cbam's 67; one more a seed."""
    changed = np.arange(len(probes.PROBES)) > 0
    return {f"probe_{c}": np.full(len(changed), 0.25, np.float32) for c in probes.COLUMNS} | {
        "probe_name": np.array(list(probes.PROBES), "S"),
        "probe_accuracy": 80 - 10.0 * changed - 3 * (arm == "cbam") * changed + seed,
        "probe_groups": np.array([99, {"none": 10, "se": 10, "cbam": 50}[arm]])}


def stored(name: str):
    """The table of a study's runs, finished, with arrays beside their records as from `focus`."""
    runs = [r for r in planning.study(name, "small") if r.attention in ("none", *LOST)
            and r.seed < 3 and r.backbone == "speednet"]
    for run in runs:
        arrays = {"version": np.int32(camstore.VERSION)} | probed(run.attention, run.seed)
        if run.attention in LOST:
            arrays |= gates(run.attention, run.seed)
        digest = store.write_arrays("small", f"{run.id}.cam", arrays)
        put_record(run, "small", env={}, model={}, test={"accuracy": 0.8}, arrays={"cam": digest},
                   classes=[str(k) for k in range(10)])
    return reading.table_of(runs, "small")


FIGURES = (gate_figures.gate_maps, gate_figures.swap_lost, gate_figures.probe_causes,
           gate_figures.shortcut_groups)


def test_where_nothing_is_stored_figures_say_so():
    for study in ("hybrid", "shortcut"):
        df = reading.collect(study, "small")
        assert not len(tables.unpacked(df, probes.probe_rows))
        for draw in FIGURES:
            assert "stored" in draw(df).axes[0].texts[0].get_text()
        plt.close("all")


def test_rows_hold_what_was_stored():
    def rows(study, rows_of, *index):
        return tables.unpacked(stored(study), rows_of).set_index(["arm", "seed", *index])
    lost = rows("hybrid", interventions.swap_rows, "scope", "mode").lost
    assert lost["cbam", 2, "all", "mean"] == pytest.approx(30.02) and len(lost) == 2 * 3 * 9
    accuracy = rows("hybrid", probes.probe_rows, "probe").accuracy
    assert accuracy["none", 1, "split=test"] == 81 and accuracy["cbam", 0, "remove_object"] == 67
    worse = rows("shortcut", probes.group_row).loc[("cbam", 0)]
    assert (worse.aligned, worse.conflicting) == (99, 50)
    assert (worse.object, worse.object_flip, worse.background_flip) == (25, 25, 50)


@pytest.mark.parametrize("draw", FIGURES)
def test_figures_are_drawn_with_every_arm(draw):
    figure = draw(stored("shortcut" if draw is gate_figures.shortcut_groups else "hybrid"))
    assert all(axis.has_data() for axis in figure.axes[:2])
    assert least_text_on_a_phone(figure) >= 7
    if draw is gate_figures.gate_maps:
        assert len(figure.axes) == 6 * 3 + 1                # image and two stages; colour bar
        assert all(axis.images for axis in figure.axes[:18])
    plt.close(figure)


def test_every_intervention_is_drawn():
    assert set(gate_figures.CAUSES) == {"split=test", *shapetex.INTERVENTIONS}
    assert set(gate_figures.CAUSES) <= set(probes.PROBES)

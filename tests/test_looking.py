"""Words and figures of what networks look at, from made-up and from measured maps."""
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from helpers import train_module

import attnlib
from attnlib.bench import speed
from attnlib.explain import camstore, looking, sharper
from attnlib.explain.cam import MAPS
from attnlib.figures import camplots
from attnlib.training import store

STAGES = (-2, -1)


def made_up(seed: int, sharper_by: float, right: float) -> dict:
    """What `camstore` would have stored of a network on ShapeTex."""
    rng = np.random.default_rng(seed)
    n = 40
    label = np.arange(n) % 10
    out = {"version": np.int32(camstore.VERSION), "stages": np.array(STAGES, np.int8),
           "methods": np.array(list(MAPS), "S"), "label": label.astype(np.uint8),
           "prediction": np.where(rng.random(n) < right, label, (label + 1) % 10).astype(np.uint8),
           "confidence": np.full(n, 0.7, np.float16)}
    values = {"entropy": 0.8 * (1 - sharper_by), "gini": 0.5 * (1 + sharper_by), "lift": 3.0,
              "pointing": 0.7, "best_iou": 0.5, "average_precision": 0.6, "on_distractors": 0.03,
              "on_background": 0.5, "road": 0.2, "drop": 0.6, "increase": 0.01}
    for stage in STAGES:
        for name, value in values.items():
            out[f"{name}_{stage}"] = (value * (1 + 0.02 * rng.standard_normal(n))).astype("f2")
            out[f"mean_{name}_{stage}"] = np.full(len(MAPS), value) + 0.01 * rng.random(len(MAPS))
        size = (16, 8, 8) if stage == -2 else (16, 4, 4)
        out |= {f"map_{name}_{stage}": rng.random(size).astype("f2") for name in MAPS
                if name != "cam" or stage == -1}
        out |= {f"curve_{order}_{stage}": rng.random(9) for order in ("morf", "lerf")}
    return out | {f"sanity_{name}": rng.random((6, 16)).astype("f2") for name in camstore.SANITY}


@pytest.fixture
def stored(out):
    """Records of the small profile's headline with made-up maps: SE's are 20 % sharper."""
    runs = [r for r in attnlib.study("hybrid", "small") if r.backbone == "resnet18"
            and r.attention in ("none", "se") and r.seed < 4]
    for run in runs:
        arrays = made_up(run.seed, 0.2 * (run.attention == "se"), 0.8 + 0.02 * run.seed)
        body = {"schema": store.SCHEMA, "id": run.id, "run": run.as_dict(), "profile": "small",
                "status": "done", "versions": train_module.versions(run), "model": {},
                "history": [], "seconds": 1.0,
                "test": {"accuracy": 0.8 + 0.02 * run.seed, "nll": 1.0},
                "classes": [str(k) for k in range(10)],
                "arrays": {"cam": store.write_arrays("small", f"{run.id}.cam", arrays)}}
        store.write_record("small", body)
    return runs


def test_the_answer_is_computed(stored):
    words = looking.sharper_answer("hybrid", "small")
    assert "ResNet-18 on ShapeTex, 4 seeds: SE **looks better than none**. (Profile" in words
    row, = [line for line in words.splitlines() if line.startswith("| SE ")]
    assert [c.strip() for c in row.split("|")[2:6]] == ["**yes**", "yes", "yes", "yes"]
    assert "CBAM" not in words
    gain = sharper.comparisons(looking.looked_at("hybrid", "small"))[0].gain
    assert gain["entropy"].value == pytest.approx(20, abs=1)
    assert looking.span(gain["entropy"]) in row
    claim = looking.claim_answer("hybrid", "small", "none")         # 25 % less sharp than SE
    assert claim.count("**not reproduced**") == 2 and "23 %" in claim and "against SE" in claim


def test_accuracies_that_do_not_overlap_are_beyond_reach():
    table = pd.DataFrame({"arm": ["none", "none", "se", "se", "cbam", "cbam"],
                          "accuracy": [70, 72, 71, 75, 73, 75]})
    assert looking.beyond_reach(table, ["se", "cbam"]) == ["cbam"]


def test_tables_and_sentences_hold_every_measure(stored):
    table = looking.focus_table("hybrid", "small")
    assert "| ResNet-18 on ShapeTex | SE" in table and "80.0" not in table
    assert all(MEASURE[0] in table for MEASURE in looking.MEASURES.values())
    assert all(row.says in looking.methods_table("hybrid", "small") for name, row in MAPS.items())
    assert "Grad-CAM comes" in looking.methods_words("hybrid", "small")
    assert "at equal accuracy the blocks add SE" in looking.beyond_words("hybrid", "small")
    assert "EigenCAM" in looking.sanity_words("hybrid", "small")


def test_every_figure_is_drawn(stored):
    draw = [camplots.cam_sheet, camplots.methods_sheet, camplots.metrics, camplots.gains,
            camplots.road_curves, camplots.sanity, camplots.beyond, camplots.failures]
    for f in draw:
        figure = f("hybrid", "small")
        assert len(figure.axes) >= 1 and not any("no stored" in t.get_text()
                                                 for a in figure.axes for t in a.texts), f
        plt.close(figure)
    cells = camplots.cam_sheet("hybrid", "small", rows=2, cells=True)
    assert len(cells.axes) == 4 * 4                # twice two rows; image, mask and two arms
    titles = [a.get_title() for a in camplots.failures("hybrid", "small").axes]
    assert any("lift" in t for t in titles[:6]) and all("sure" in t for t in titles[6:] if t)
    plt.close("all")


def test_without_maps_all_say_so(out):
    for f in (looking.sharper_answer, looking.claim_answer, looking.focus_table,
              looking.methods_table, looking.methods_words, looking.sanity_words):
        assert "python -m attnlib focus hybrid" in f("hybrid", "small"), f
    for f in (camplots.cam_sheet, camplots.methods_sheet, camplots.metrics, camplots.gains,
              camplots.road_curves, camplots.sanity, camplots.beyond, camplots.failures):
        texts = [t.get_text() for a in f("hybrid", "small").axes for t in a.texts]
        assert any("no stored maps" in t for t in texts), f
    assert speed.road_words() == speed.ROAD_NOTHING
    plt.close("all")

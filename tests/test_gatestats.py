"""Statistics of gates: against values known in advance, scipy and sklearn."""
import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

import attnlib
from attnlib.explain import focus, gatestats, interventions

RNG = np.random.default_rng(5)
LABELS = np.arange(60) % 3


def test_moments_of_a_gate_that_follows_the_image_or_the_channel_alone():
    images, channels = RNG.random((60, 1)), RNG.random((1, 8))
    of_images = gatestats.moments(np.repeat(images, 8, 1))
    assert of_images["input"] == pytest.approx(1) and of_images["spread_units"] < 1e-12
    assert of_images["spread"] == pytest.approx(images.std())
    of_channels = gatestats.moments(np.repeat(channels, 60, 0))
    assert of_channels["input"] == pytest.approx(0)
    assert of_channels["spread_units"] == pytest.approx(channels.std())
    both = images + channels
    assert gatestats.moments(both)["input"] == pytest.approx(images.var() / both.var())
    assert np.isnan(gatestats.moments(np.full((60, 8), 0.5))["input"])


def test_selectivity_is_one_for_the_class_and_zero_for_chance():
    assert gatestats.selectivity(np.eye(3)[LABELS], LABELS) == pytest.approx(1)
    chance = [gatestats.selectivity(RNG.random((60, 8)), LABELS) for _ in range(200)]
    assert abs(np.mean(chance)) < 0.01                    # the plain share would be 2/59 = 0.034
    assert np.isnan(gatestats.selectivity(np.full((60, 8), 0.5), LABELS))


def test_selectivity_of_one_channel_is_that_of_an_analysis_of_variance():
    values = RNG.random((60, 1)) + 0.3 * LABELS[:, None]
    f = stats.f_oneway(*(values[LABELS == c, 0] for c in range(3))).statistic
    assert gatestats.selectivity(values, LABELS) == pytest.approx((f - 1) * 2 / (f * 2 + 57))


def test_a_gate_against_the_mask_of_its_object():
    mask = np.zeros((5, 32, 32), bool)
    mask[:, 8:16, 8:24] = True
    mask[4] = False                                          # no object: left out
    cells = focus.cover(mask, (4, 4)) + 1e-9
    assert gatestats.on_mask(cells, mask) == pytest.approx(8)
    assert gatestats.on_mask(np.full((5, 4, 4), 0.5), mask) == pytest.approx(1)
    assert gatestats.on_mask(1 - cells, mask) < 1e-6
    assert np.isnan(gatestats.on_mask(cells, None))
    assert np.isnan(gatestats.on_mask(cells, np.zeros_like(mask)))


@pytest.mark.parametrize("side", [31, 15, 7, 3])             # of a network without padding
def test_a_gate_whose_cells_are_no_whole_pixels_counts_by_their_parts(side):
    mask = np.zeros((3, 32, 32), bool)
    mask[:2, 8:16, 8:24] = True
    assert gatestats.on_mask(np.full((3, side, side), 0.5), mask) == pytest.approx(1)
    gate = RNG.random((3, side, side))
    fine = gate.repeat(32, 1).repeat(32, 2)                  # on a grid that both divide
    large = mask.repeat(side, 1).repeat(side, 2)
    expected = [fine[k][large[k]].mean() / fine[k].mean() for k in range(2)]
    assert gatestats.on_mask(gate, mask) == pytest.approx(np.mean(expected))


def test_agreement_with_the_finest_map_that_fits():
    fine, coarse = RNG.random((6, 8, 8)), RNG.random((6, 4, 4))
    cams = {"stage-2": fine, "stage-1": coarse}
    gates = np.kron(fine, np.ones((2, 2)))                   # 16×16: meets the finer of the two
    assert gatestats.cam_agreement(gates, cams) == pytest.approx(1)
    assert gatestats.cam_agreement(1 - coarse, cams) == pytest.approx(-1)
    other = RNG.integers(0, 5, (6, 8, 8)).astype(float)
    expected = [stats.pearsonr(a.ravel(), b.ravel())[0] for a, b in zip(other, fine, strict=True)]
    assert gatestats.cam_agreement(other, cams) == pytest.approx(np.mean(expected))
    assert np.isnan(gatestats.cam_agreement(np.full((6, 8, 8), 0.5), cams))    # one half
    assert np.isnan(gatestats.cam_agreement(np.ones((6, 2, 2)), cams))           # finer maps alone
    assert gatestats.cam_agreement(gates, {"stage-2": fine[:4]}) == pytest.approx(1)


@pytest.mark.parametrize(("name", "value", "share"), [
    ("se", 0.97, 1), ("se", 0.9, 0), ("ser", 1.02, 1), ("ser", 1.5, 0), ("scse", 0.08, 1),
    ("scse", 1.0, 0), ("layerscale", 1.0, np.nan)])
def test_saturation_is_relative_to_the_gates_range(name, value, share):
    gate, site = torch.full((3, 8, 1, 1), value), attnlib.ATTENTION[name].make(8)
    np.testing.assert_equal(gatestats.saturated(gate, site).numpy(), [share] * 3)


def measured(name: str, n: int = 12) -> tuple[nn.Module, dict]:
    model = attnlib.build_model("resnet18", name, width=0.125).eval()
    x = torch.randn(n, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    mask = np.zeros((n, 32, 32), bool)
    mask[:, 4:12, 4:12] = True
    cams = {"stage-2": RNG.random((n, 8, 8)), "stage-1": RNG.random((n, 4, 4))}
    return model, gatestats.measure_gates(model, x, np.arange(n) % 3, mask, cams)


def test_cbam_has_a_reading_of_channels_and_one_of_places_at_every_site():
    _, found = measured("cbam")
    rows = list(gatestats.gate_rows(found))
    assert [r["kind"] for r in rows] == ["channels", "places"] * 8
    assert [r["stage"] for r in rows[::4]] == ["stage1", "stage2", "stage3", "stage4"]
    spatial = [r for r in rows if r["kind"] == "places"]
    assert all(r["mean"] == 0.5 and r["mask_lift"] == 1 and np.isnan(r["selectivity"])
               and np.isnan(r["cam_pearson"]) for r in spatial)          # as SA starts
    assert all(np.isnan(r["mask_lift"]) for r in rows if r["kind"] == "channels")
    assert all(r["spread"] > 0 for r in rows if r["kind"] == "channels" and r["stage"] == "stage4")
    assert found["gate_map_stage3"].shape == (6, 8, 8)
    assert found["gate_classes_stage4"].shape == (3, 64)


def test_a_gate_of_every_value_is_read_both_ways_and_layerscale_follows_no_image():
    rows = list(gatestats.gate_rows(measured("simam")[1]))
    assert [r["kind"] for r in rows[:2]] == ["channels", "places"] and len(rows) == 16
    assert all(r["cam_pearson"] == r["cam_pearson"] for r in rows if r["kind"] == "places")
    model, _ = measured("layerscale", n=2)
    nn.init.uniform_(model.stages[0][0].attention.scale)
    found = gatestats.measure_gates(model, torch.randn(4, 3, 32, 32), [0, 0, 1, 1])
    row = next(gatestats.gate_rows(found))
    assert row["input"] == 0 == row["spread"] and row["spread_units"] > 0
    assert np.isnan(row["saturated"]) and np.isnan(row["selectivity"])


def test_statistics_are_those_of_the_gates_themselves():
    model, found = measured("se")
    x = torch.randn(12, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    gates = interventions.own_gates(model, x)
    for row in gatestats.gate_rows(found):
        values = gates[row["site"]].numpy()[..., 0, 0]
        assert row["mean"] == pytest.approx(values.mean(), abs=1e-6)
        assert row["spread"] == pytest.approx(np.sqrt(values.var(0).mean()), abs=1e-6)


def test_no_gate_no_statistics():
    assert measured("none", n=2)[1] == {} == measured("gc", n=2)[1]

"""The measures of focus: on maps whose value is known, and against scikit-learn."""
import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

import attnlib
from attnlib.explain import focus

RNG = np.random.default_rng(0)
MASK = np.zeros((4, 32, 32), bool)
MASK[0, 4:12, 4:12] = True                       # whole cells of 8×8, an object over half cells,
MASK[1, 6:14, 9:20] = True                       # a thin one, and a large one
MASK[2, 30, 3:29] = True
MASK[3, :, :20] = True
UNIFORM = np.ones((4, 8, 8))
ITSELF = focus.cover(MASK, (8, 8))
ONE = np.zeros((4, 8, 8))
ONE[:, 1, 2] = 3.0                               # pixels 4..7 by 8..11


AREA = MASK.mean((1, 2))
INSIDE = MASK[:, 4:8, 8:12].mean((1, 2))         # wholly, partly, never, wholly on the object


@pytest.mark.parametrize("maps, known", [
    (UNIFORM, {"entropy": 1, "gini": 0, "lift": 1, "pointing": AREA, "average_precision": AREA,
               "on_distractors": 0}),
    (ONE, {"entropy": 0, "gini": 1 - 1 / 64, "lift": INSIDE / AREA, "pointing": INSIDE,
           "on_distractors": 0})])
def test_a_uniform_map_knows_nothing_and_one_cell_is_as_sharp_as_a_map_can_be(maps, known):
    found = focus.measures(maps, MASK, np.zeros_like(MASK))
    assert set(found) == {*known, "average_precision"}
    for name, value in known.items():
        np.testing.assert_allclose(found[name], value, atol=1e-12, err_msg=name)


def test_the_mask_itself_is_the_best_map():
    for f in (focus.energy, focus.pointing, focus.average_precision):
        found = f(ITSELF, MASK)
        assert found[0] == pytest.approx(1)                      # of whole cells: exactly
        others = np.stack([f(RNG.random((4, 8, 8)), MASK) for _ in range(50)])
        assert (found <= 1 + 1e-12).all() and (found >= others.max(0) - 1e-12).all()


def test_an_empty_map_has_no_value():
    found = focus.measures(np.zeros((4, 8, 8)), MASK, ~MASK)
    assert all(np.isnan(values).all() for values in found.values())
    assert focus.finite_mean(np.array([1, np.nan, 3], np.float16)) == 2
    assert np.isnan(focus.finite_mean([np.nan]))


def test_every_measure_ignores_the_maps_scale_and_the_batch():
    maps = RNG.random((4, 8, 8))
    found, alone = focus.measures(maps, MASK), focus.measures(7.5 * maps[2:3], MASK[2:3])
    for name, values in found.items():
        np.testing.assert_allclose(alone[name], values[2:3])


@pytest.mark.parametrize("levels", [1000, 4])                   # without and with ties
def test_average_precision_is_scikit_learns(levels):
    maps = RNG.integers(0, levels, (4, 8, 8)).astype(float)
    pixels = maps.repeat(4, 1).repeat(4, 2)
    known = [average_precision_score(m.ravel(), p.ravel())
             for m, p in zip(MASK, pixels, strict=True)]
    np.testing.assert_allclose(focus.average_precision(maps, MASK), known)


@pytest.mark.parametrize("cells", [1, 5, 7, 8, 32])
def test_a_pixel_on_a_border_counts_in_both_cells_by_its_part(cells):
    mask = np.random.default_rng(0).random((2, 32, 32)) > 0.5
    fine = mask.repeat(cells, 1).repeat(cells, 2)               # now cells are whole
    wanted = fine.reshape(2, cells, 32, cells, 32).mean((2, 4))
    np.testing.assert_allclose(focus.cover(mask, (cells, cells)), wanted, atol=1e-12)


def test_the_drop_is_of_multiplied_light():
    """A map of ones leaves the image as it is; an empty one leaves it black."""
    model = attnlib.build_model("resnet18", width=0.125).eval()
    x = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    classes, level, spread = [0, 3, 5, 9], (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
    black = (-torch.tensor(level) / torch.tensor(spread))[None, :, None, None].expand(x.shape)
    with torch.no_grad():
        p, q = (model(v).softmax(1).numpy()[range(4), classes] for v in (x, black))
    for maps, drop in ((UNIFORM, 0), (0 * UNIFORM, np.maximum(p - q, 0) / p)):
        found = focus.average_drop(model, x, maps, classes, p, level, spread)
        np.testing.assert_allclose(found, drop, rtol=1e-4, atol=1e-5)

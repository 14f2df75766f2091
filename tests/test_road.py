"""ROAD: against pytorch-grad-cam's, on maps without ties and with them."""
import numpy as np
import pytest
import torch
from pytorch_grad_cam.metrics.road import NoisyLinearImputer, ROADCombined

import attnlib
from attnlib.explain import cam, road

RNG = np.random.default_rng(0)
CLASSES = [1, 5, 9, 0]


def smooth(n: int = 4, side: int = 32) -> np.ndarray:
    """Maps without ties, [n, side, side]."""
    return cam.enlarged(RNG.random((n, side // 4, side // 4)), (side, side)) \
        + 1e-3 * RNG.random((n, side, side)).astype(np.float32)


def images(n: int = 4, side: int = 32) -> np.ndarray:
    return RNG.standard_normal((n, 3, side, side)).astype(np.float32)


@pytest.mark.parametrize("percentile", [10, 50, 90])
def test_imputation_solves_the_same_system(percentile):
    theirs, x = NoisyLinearImputer(noise=0), images()
    known = road.ranks(smooth()) < road.kept_pixels(percentile, 1024)
    mine = road.impute(x, known)
    assert (mine == x)[np.broadcast_to(known[:, None], x.shape)].all()
    for image, k, found in zip(x, known, mine, strict=True):
        right = theirs(torch.from_numpy(image), torch.from_numpy(k).float())
        np.testing.assert_allclose(found, right.numpy(), atol=1e-4)


def test_imputed_pixels_are_the_weighted_mean_of_their_neighbours():
    x, known = images(2, 8), RNG.random((2, 8, 8)) < 0.4
    known[1] = known[0].T                                   # as many known in both
    filled = road.impute(x, known)
    parts = road.neighbours(np.ones((1, 1, 8, 8), np.float32))
    holes = np.broadcast_to(~known[:, None], x.shape)
    np.testing.assert_allclose(filled[holes], (road.neighbours(filled) / parts)[holes], atol=1e-4)
    assert np.abs(road.surprise(filled)[holes]).max() < 1e-4
    assert parts[0, 0, 4, 4] == pytest.approx(1) and parts[0, 0, 0, 0] == pytest.approx(5 / 12)


def test_what_cannot_be_filled_in_is_refused():
    x, known = images(2, 8), np.zeros((2, 8, 8), bool)
    for k in (0, 1):                                        # no pixel is known; all of one image
        known[:k] = True
        with pytest.raises(ValueError, match="same number of known pixels, above none"):
            road.impute(x, known)
    assert (road.impute(x, np.ones_like(known)) == x).all()


def test_ranks_break_ties_at_random_but_alike():
    maps = np.zeros((2, 8, 8))
    maps[:, 2, 3] = 1
    first, m = road.ranks(maps), smooth(1)[0]
    assert (np.sort(first.reshape(2, -1)) == np.arange(64)).all()
    assert (first[:, 2, 3] == 63).all() and (first == road.ranks(maps)).all()
    assert (first[0] != first[1]).any()
    for percentile in road.PERCENTILES:                     # as many stay as by a threshold
        assert road.kept_pixels(percentile, m.size) == (m < np.percentile(m, percentile)).sum()


def test_road_is_pytorch_grad_cams_within_its_noise():
    """Theirs draws noise anew at each call: ours lies where three of theirs lie."""
    model = attnlib.build_model("resnet18", "se", width=0.125).eval()
    torch.nn.init.normal_(model.classifier.weight)           # so that probabilities differ
    x, maps = torch.from_numpy(images()), smooth()
    targets = [lambda z, c=c: z.softmax(-1)[c] for c in CLASSES]
    percentiles = [30, 70]
    theirs = np.stack([ROADCombined(percentiles)(x, maps, targets, model) for _ in range(3)])
    mine = road.combined(road.road(model, x, maps, CLASSES, percentiles=percentiles))
    spread = np.ptp(theirs, 0).max()
    np.testing.assert_allclose(mine, theirs.mean(0), atol=2 * spread + 1e-4)
    assert np.ptp(mine) > 5 * spread                         # the images differ by more than that


def test_road_tells_a_good_map_from_a_bad_one():
    """A network that looks at one corner alone: removing that corner first costs most."""
    good = np.zeros((3, 8, 8), np.float32)
    good[:, :3, :3] = 1
    x = torch.from_numpy(good)[:, None].repeat(1, 3, 1, 1)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 64, 2))
    torch.nn.init.zeros_(model[1].bias)
    model[1].weight.data = torch.stack([0 * x[0].flatten(), x[0].flatten()])
    scores, again, *others = (road.road(model, x, m, [1] * 3)
                              for m in (good, good, 0 * good, 1 - good))
    assert scores["morf"].shape == scores["lerf"].shape == (3, 9)
    assert all((scores[k] == again[k]).all() for k in scores)
    right, nothing, wrong = map(road.combined, (scores, *others))
    assert (right > 0.2).all() and (wrong < -0.2).all()
    assert (right > nothing).all() and (nothing > wrong).all()

"""Class activation maps: against closed forms, and stored beside the records."""
import numpy as np
import pytest
import torch

import attnlib
from attnlib import cam, store

FIELDS = dict(dataset="shapetex", width=0.125, epochs=1, n_train=64, n_val=20, n_test=30,
              batch_size=32)


def test_last_stage_grad_cam_is_the_classifiers_own_map():
    """With a mean and a linear layer behind the last stage, w_k = W_yk / (h w): Grad-CAM is the
    plain class activation map of Zhou et al. 2016 up to that factor and the ReLU."""
    model = attnlib.build_model("resnet18", "se", width=0.125).eval()
    x = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    classes = [1, 5, 9]
    maps = cam.grad_cam(model, x, classes)
    with torch.no_grad():
        features = model.stages(model.stem(x))
    weights = model.classifier.weight[classes] / 16
    plain = torch.einsum("nk,nkhw->nhw", weights, features).relu()
    assert maps.shape == (3, 4, 4) and maps.max() > 0
    np.testing.assert_allclose(maps, plain.detach().numpy(), rtol=1e-4, atol=1e-7)


def test_share_on_mask():
    mask = np.zeros((3, 32, 32), bool)
    mask[:, :8, :8] = True                                   # exactly the first of 4×4 cells
    maps = np.zeros((3, 4, 4))
    maps[0, 0, 0], maps[1] = 5.0, 1.0                        # on it; uniform; the third is empty
    share = cam.share_on_mask(maps, mask)
    assert share[0] == 1.0 and share[1] == pytest.approx(1 / 16) and np.isnan(share[2])


def test_gates_are_found_at_every_site_and_are_what_the_block_uses():
    model = attnlib.build_model("squeezenet", "cbam", width=0.25).eval()
    found = cam.gates(model, torch.randn(2, 3, 32, 32))
    assert len(found) == 16                                  # channel and spatial at eight sites
    spatial = [g for name, g in found.items() if name.endswith("spatial")]
    assert all(torch.equal(g, torch.full_like(g, 0.5)) for g in spatial)
    channel = [g for name, g in found.items() if name.endswith("channel")]
    assert all(0 <= g.min() and g.max() <= 1 and g.std() > 0 for g in channel)


def test_focus_stores_maps_beside_the_record(out):
    run = attnlib.Run(attention="se", **FIELDS)
    record = attnlib.train(run)
    assert cam.focus(run, "own") and not cam.focus(run, "own")
    again = store.read_record(store.record_path("own", run.id))
    assert again["test"] == record["test"] and set(again["arrays"]) == {"predictions", "cam"}
    arrays = store.read_arrays("own", f"{run.id}.cam", again["arrays"]["cam"])
    assert arrays["stage-2"].shape == (30, 8, 8) and arrays["stage-1"].shape == (30, 4, 4)
    assert arrays["stage-2"].dtype == np.float16 and (arrays["stage-2"] >= 0).all()
    assert ((arrays["prediction"] == arrays["label"]).mean()
            == pytest.approx(record["test"]["accuracy"], abs=1e-6))


def test_focus_without_a_record_or_weights_says_what_to_do(out):
    run = attnlib.Run(attention="ca", **FIELDS)
    with pytest.raises(LookupError, match="no finished record"):
        cam.focus(run, "own")

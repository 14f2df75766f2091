"""What is measured of a run and stored beside its record."""
import numpy as np
import pytest
import torch

import attnlib
from attnlib.explain import cam, camstore, focus, probes, sanity
from attnlib.explain.cam import MAPS, inputs, pass_of
from attnlib.training import store

FIELDS = dict(dataset="shapetex", backbone="resnet18", width=0.125, epochs=1, n_train=64, n_val=20,
              n_test=40, batch_size=32)


@pytest.fixture
def quick(monkeypatch):
    """Fewer images wherever the network runs again."""
    monkeypatch.setattr(camstore, "ROAD_IMAGES", 4)
    monkeypatch.setattr(cam, "BATCH", 25)
    monkeypatch.setattr(probes, "IMAGES", 4)
    monkeypatch.setattr(probes, "SPLIT_IMAGES", 20)


def test_focus_stores_what_it_saw_beside_the_record(out, quick):
    run = attnlib.Run(attention="se", **FIELDS)
    record = attnlib.train(run)
    assert camstore.focus(run, "own") and not camstore.focus(run, "own")
    again = store.read_record(store.record_path("own", run.id))
    assert again["test"] == record["test"] and set(again["arrays"]) == {"predictions", "cam"}
    arrays = camstore.arrays_of(again)
    size = (store.record_path("own", run.id).with_suffix(".cam.npz")).stat().st_size
    assert size < 200_000
    assert list(arrays["stages"]) == [-2]
    assert (arrays["prediction"] == arrays["label"]).mean() == pytest.approx(
        record["test"]["accuracy"], abs=1e-6)
    for name in MAPS:
        assert arrays[f"map_{name}_-2"].shape == (16, 8, 8)
        assert arrays[f"map_{name}_-2"].dtype == np.float16
    assert arrays["entropy_-2"].shape == arrays["lift_-2"].shape == (40,)
    assert arrays["road_-2"].shape == (4,) and arrays["mean_road_-2"].shape == (2,)
    starts = {name.split("_")[0] for name in arrays}
    assert {"swap", "probe"} <= starts


def test_what_is_stored_is_what_the_measures_give(out, quick):
    run = attnlib.Run(attention="none", **FIELDS)
    attnlib.train(run)
    model = attnlib.load_model(run)
    arrays = camstore.measure_run(model, run)
    _, x, labels = inputs(run, 40)
    maps = camstore.make("grad_cam", pass_of(model, x, labels, -2))
    known = focus.measures(maps, camstore.data_of(run).extras["test"]["mask"][:40])
    for name, values in known.items():
        np.testing.assert_allclose(arrays[f"{name}_-2"].astype(float), values, rtol=2e-3,
                                   atol=2e-3, err_msg=name)
    right = arrays["prediction"] == arrays["label"]
    mean = arrays["mean_entropy_-2"][camstore.MEASURED.index("grad_cam")]
    if right.any():
        assert mean == pytest.approx(known["entropy"][right].mean(), abs=1e-5)
    assert arrays["sanity_grad_cam"].shape == (6, 16)


def test_an_older_file_is_made_again(out, quick):
    run = attnlib.Run(attention="none", **FIELDS)
    record = attnlib.train(run)
    old = {"stage-2": np.zeros((100, 8, 8), np.float16), "label": np.zeros(100, np.uint8)}
    record["arrays"]["cam"] = store.write_arrays("own", f"{run.id}.cam", old)
    store.write_record("own", record)
    df = attnlib.collect(profile="own")
    assert camstore.arrays_of(record) is None and camstore.stored_maps(df) == {}
    assert camstore.focus(run, "own")
    assert set(camstore.stored_maps(df)) == {run.id}


def test_focus_without_a_record_or_weights_says_what_to_do(out):
    with pytest.raises(LookupError, match="no finished record"):
        camstore.focus(attnlib.Run(attention="ca", **FIELDS), "own")


def test_setting_the_layers_back_goes_from_the_top_down():
    run = attnlib.Run(attention="se", seed=3, **FIELDS)
    model = sanity.model_of(run, sanity.data_of(run)).eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    seen = []
    for level, broken in sanity.cascade(model, run):
        changed = {k.split(".")[0] + ("." + k.split(".")[1] if k.startswith("stages") else "")
                   for k, v in broken.state_dict().items() if not torch.equal(v, before[k])}
        seen.append(level)
        assert changed == set(seen), level
    assert seen == ["classifier", "stages.3", "stages.2", "stages.1", "stages.0", "stem"]
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_alike_is_spearmans_rank_correlation():
    a = np.random.default_rng(0).random((3, 4, 4))
    np.testing.assert_allclose(sanity.rank_correlation(a, a ** 3), 1)
    np.testing.assert_allclose(sanity.rank_correlation(a, -a), -1)
    assert np.isnan(sanity.rank_correlation(a, 0 * a)).all()

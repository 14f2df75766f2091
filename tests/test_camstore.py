"""What is measured of a run and stored beside its record."""
import numpy as np
import pytest
import torch
from helpers import put_record

import attnlib
from attnlib.data.arrays import DataBad, DataMissing
from attnlib.explain import cam, camstore, focus, probes, sanity
from attnlib.explain.cam import MAPS, inputs, pass_of
from attnlib.training import store

FIELDS = dict(dataset="shapetex", backbone="resnet18", width=0.125, epochs=1, n_train=64, n_val=20,
              n_test=40, batch_size=32)


def test_focus_stores_what_it_saw_beside_the_record_and_makes_an_older_file_again(monkeypatch):
    for module, name, fewer in ((camstore, "ROAD_IMAGES", 4), (cam, "BATCH", 25),
                                (probes, "IMAGES", 4), (probes, "SPLIT_IMAGES", 20)):
        monkeypatch.setattr(module, name, fewer)
    run = attnlib.Run(attention="se", **FIELDS)
    record = attnlib.train(run)
    path, old = store.record_path("own", run.id), {"label": np.zeros(100, np.uint8)}
    cam_of = record["arrays"] | {"cam": store.write_arrays("own", f"{run.id}.cam", old)}
    store.write_record("own", record | {"arrays": cam_of})
    df = attnlib.collect(profile="own")
    assert camstore.stored_maps(df) == {}
    assert camstore.focus(run, "own") and not camstore.focus(run, "own")
    again = store.read_record("own", run.id)
    assert again["test"] == record["test"] and set(again["arrays"]) == {"predictions", "cam"}
    assert path.with_suffix(".cam.npz").stat().st_size < 200_000

    arrays, (_, x, labels) = camstore.stored_maps(df)[run.id], inputs(run, 40)
    right = arrays["prediction"] == arrays["label"]
    assert list(arrays["stages"]) == [-2]
    assert right.mean() == pytest.approx(record["test"]["accuracy"], abs=1e-6)
    for name in MAPS:
        assert arrays[f"map_{name}_-2"].shape == (16, 8, 8)
        assert arrays[f"map_{name}_-2"].dtype == np.float16
    assert arrays["road_-2"].shape == (4,) and arrays["mean_road_-2"].shape == (2,)
    assert arrays["sanity_grad_cam"].shape == (6, 16)
    assert {"swap", "probe"} <= {name.split("_")[0] for name in arrays}
    maps = camstore.make("grad_cam", pass_of(attnlib.load_model(run), x, labels, -2))
    known = focus.measures(maps, camstore.data_of(run).extras["test"]["mask"][:40])
    for name, values in known.items():
        np.testing.assert_allclose(arrays[f"{name}_-2"].astype(float), values, rtol=2e-3,
                                   atol=2e-3, err_msg=name)
    assert arrays["mean_entropy_-2"][camstore.MEASURED.index("grad_cam")] == pytest.approx(
        focus.finite_mean(known["entropy"][right]), abs=1e-5, nan_ok=True)


def test_focus_without_a_record_or_weights_says_what_to_do():
    with pytest.raises(LookupError, match="no finished record"):
        camstore.focus(attnlib.Run(attention="ca", **FIELDS), "own")


def test_of_a_study_what_cannot_be_measured_is_left_out_and_a_mistake_of_ours_is_raised(
        monkeypatch, capsys):
    runs = attnlib.study("hybrid", "small")[:3]
    for run in runs:
        put_record(run, "small")
    wrong = iter([LookupError("no weights"), DataMissing("no data there"), DataBad("torn")])

    def fails(run, profile):
        raise next(wrong)
    monkeypatch.setattr(camstore, "focus", fails)
    camstore.focus_study("hybrid", "small")
    assert capsys.readouterr().out.splitlines() == [
        f"skipped {runs[1].id}: no data there", f"skipped {runs[2].id}: torn",
        "class activation maps: made 0, found 0, 1 without weights"]
    wrong = iter([KeyError("a name that we misspelt")])
    with pytest.raises(KeyError):
        camstore.focus_study("hybrid", "small")


def test_setting_the_layers_back_goes_from_the_top_down():
    run = attnlib.Run(attention="se", seed=3, **FIELDS)
    model = sanity.network(run, sanity.about(run)).eval()
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
    for b, r in ((a ** 3, 1), (-a, -1), (0 * a, np.nan)):
        np.testing.assert_allclose(sanity.rank_correlation(a, b), r)

"""Weight files: written, found, checked; and those that come with the repository."""
import hashlib
import io
import json
import pickle
import shutil

import numpy as np
import pytest
import torch
from helpers import tiny, weights

from attnlib.__main__ import main
from attnlib.experiments import published
from attnlib.experiments import weights as files
from attnlib.experiments.weights import load_model
from attnlib.settings import REPO, checkpoints_dir, data_dir
from attnlib.training import store
from attnlib.training.trainer import train

COMMITTED = REPO / "results" / "weights"
INDEX = json.loads((COMMITTED / "index.json").read_text())


@pytest.fixture
def trained():
    run = tiny(attention="cbam", placement="stage")
    train(run)
    return run


def changed(path, name="header", edit=lambda x: x):
    """A copy of a weight file with one array changed."""
    with np.load(path) as archive:
        arrays = {key: archive[key] for key in archive.files}
    arrays[name] = edit(arrays[name])
    target = path.with_name("changed.npz")
    np.savez(target, **arrays)
    return target


def test_a_weight_file_gives_the_network_back(trained):
    path = files.export(trained)
    assert path == files.weights_dir() / f"{trained.id}.npz"
    model, full = load_model(path), weights(trained)
    for name, tensor in model.state_dict().items():
        exact = tensor.dtype != torch.float32 or tensor.ndim < 2
        assert torch.equal(tensor, full[name]) if exact else torch.allclose(
            tensor, full[name], rtol=2**-11, atol=2**-24)       # float16's own precision
    assert (model.id, model.size, model.channels) == (trained.id, 32, 3) and not model.training
    assert len(model.classes) == 10 and len(model.mean) == len(model.std) == 3
    before = path.read_bytes()
    assert files.export(trained).read_bytes() == before


def test_it_stands_in_for_weights_that_are_gone(trained, tmp_path):
    kept = files.export(trained, tmp_path / "given away.npz")
    shutil.rmtree(checkpoints_dir("own", trained.id))
    with pytest.raises(LookupError, match=f"train {trained.id} --weights"):
        load_model(trained)
    assert load_model(kept).id == trained.id
    files.weights_dir().mkdir(parents=True)
    shutil.copy(kept, files.weights_dir() / f"{trained.id}.npz")
    assert load_model(trained).id == load_model(trained.id[:-3]).id == trained.id
    assert trained.id in files.usable()


def test_a_file_exported_from_a_file_is_the_same(trained, tmp_path):
    first = files.export(trained, tmp_path / "a.npz")
    assert files.export(first, tmp_path / "b.npz").read_bytes() == first.read_bytes()


def test_values_that_float16_cannot_hold_stay_as_they_are():
    large = np.array([[1e5, 1.0]], np.float32)
    assert files.halved(large).dtype == np.float32
    assert files.halved(large / 10).dtype == np.float16
    assert files.halved(large[0]).dtype == np.float32              # norms and biases
    assert files.halved(np.array([[7]])).dtype == np.int64


def test_what_was_changed_is_refused(trained, tmp_path):
    path = files.export(trained, tmp_path / "w.npz")
    name = next(iter(weights(trained)))
    for edit in (lambda x: x + 1, lambda x: x.reshape(-1), lambda x: x.astype(np.float32)):
        with pytest.raises(ValueError, match="SHA-256"):
            files.read(changed(path, name, edit))
    assert files.read(changed(path))[0]["id"] == trained.id        # unchanged, it is read

    def relabelled(x):
        return np.frombuffer(x.tobytes().replace(b'"accuracy":0', b'"accuracy":9'), np.uint8)
    with pytest.raises(ValueError, match="SHA-256"):
        files.read(changed(path, "header", relabelled))
    (tmp_path / "cut.npz").write_bytes(path.read_bytes()[:-100])
    np.savez(tmp_path / "other.npz", a=np.zeros(2))
    for bad in ("cut", "other"):
        with pytest.raises(ValueError, match=f"{bad}.npz is no weight file"):
            files.read(tmp_path / f"{bad}.npz")


class Bomb:
    def __reduce__(self):
        return pytest.fail, ("a weight file was executed",)


def test_nothing_in_a_weight_file_is_executed(tmp_path):
    path = tmp_path / "hostile.npz"
    np.savez(path, header=np.array([Bomb()], dtype=object))
    with pytest.raises(ValueError, match="no weight file"):
        files.read(path)
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ValueError, match="no weight file"):
        files.read(path)


def test_one_of_another_version_says_what_changed(trained, tmp_path, monkeypatch):
    path = files.export(trained, tmp_path / "w.npz")
    from attnlib.blocks import ATTENTION
    monkeypatch.setitem(ATTENTION, "cbam", ATTENTION["cbam"]._replace(version=7))
    with pytest.raises(ValueError, match="attention cbam: version 1, now 7"):
        load_model(path)


def test_short_forms(trained):
    other = tiny(attention="cbam", placement="stage", seed=1)
    train(other)
    stem = trained.id.rpartition("-s0-")[0]
    assert load_model(f"{stem}-s0").id == trained.id
    with pytest.raises(LookupError) as caught:
        load_model(stem)
    assert trained.id in str(caught.value) and other.id in str(caught.value)
    with pytest.raises(LookupError, match=f"weights are here of: .*{trained.id}"):
        load_model("nothing-like-it")
    with pytest.raises(LookupError, match="no weight file nowhere.npz"):
        load_model("nowhere.npz")


def test_export_from_the_command_line(trained, tmp_path, capsys):
    target = tmp_path / "x.npz"
    assert main(["export", trained.id[:-4], "--output", str(target)]) == 0
    assert "x.npz" in capsys.readouterr().out and target.is_file()
    assert main(["export", trained.id, "--output", str(tmp_path / "x.pt")]) == 2
    assert "ends in .npz" in capsys.readouterr().err
    assert main(["export"]) == main(["export", trained.id, "--published"]) == 2


# --- Those that come with the repository ---


def test_the_committed_files_are_those_of_the_index():
    assert len(INDEX["weights"]) == 3
    assert {p.name for p in COMMITTED.iterdir()} == {
        "README.md", "index.json", *(row["file"] for row in INDEX["weights"]),
        *(f"{row['id']}.md" for row in INDEX["weights"])}
    for row in INDEX["weights"]:
        raw = (COMMITTED / row["file"]).read_bytes()
        assert hashlib.sha256(raw).hexdigest() == row["sha256"] and len(raw) == row["bytes"]
        assert published.problem_of(row) == ""
        assert load_model(row["id"])(torch.zeros(1, 3, 32, 32)).isfinite().all()


def test_their_card_is_what_the_records_say(monkeypatch):
    monkeypatch.setenv("ATTNLIB_OUT", str(REPO))
    assert published.MARKS.search((COMMITTED / "README.md").read_text())[0] == (
        f"<!-- weights -->\n{published.table_of(INDEX['weights'])}<!-- /weights -->")
    assert [run.id for run in published.published()] == [row["id"] for row in INDEX["weights"]]
    for row in INDEX["weights"]:
        record = store.read_record(store.record_path(published.PROFILE, row["id"]))
        assert row["recorded"] == record["test"]["accuracy"]


@pytest.mark.skipif(not (data_dir() / "cifar10.npz").is_file(), reason="CIFAR-10 is not here")
def test_they_say_what_the_records_say(monkeypatch):
    from attnlib.data.datasets import load_dataset
    from attnlib.experiments.predict import probabilities
    images = load_dataset("cifar10").images["test"][:300]
    for row in INDEX["weights"]:
        said = probabilities(load_model(COMMITTED / row["file"]), images).argmax(1)
        with np.load(io.BytesIO((REPO / "results/runs/real" / row["file"]).read_bytes())) as kept:
            assert (said == kept["prediction"][:300]).mean() > 0.985


def test_their_short_forms_are_clear_among_all_records(monkeypatch):
    monkeypatch.setenv("ATTNLIB_OUT", str(REPO))
    for row in INDEX["weights"]:
        assert load_model(row["id"].rpartition("-")[0]).id == row["id"]


def test_what_may_not_be_published():
    row = {"accuracy": 0.7, "recorded": 0.7, "bytes": 10}
    assert published.problem_of(row) == ""
    assert "0.20 points" in published.problem_of(row | {"accuracy": 0.698})
    assert "bytes" in published.problem_of(row | {"bytes": 2_000_000})

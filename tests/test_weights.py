"""Weight files: written, found, checked; and those that come with the repository."""
import hashlib
import json
import pickle
import shutil

import numpy as np
import pytest
import torch
from helpers import compute_on_cpu, put_record, tiny, weights
from safetensors import safe_open
from safetensors.torch import save

from attnlib.blocks import ATTENTION
from attnlib.data.datasets import load_dataset
from attnlib.experiments import published
from attnlib.experiments import weights as files
from attnlib.experiments.formats import export_as
from attnlib.experiments.predict import probabilities
from attnlib.experiments.weights import load_model
from attnlib.settings import REPO, checkpoints_dir, data_dir
from attnlib.training import store
from attnlib.training.run import Run
from attnlib.training.trainer import train

COMMITTED = REPO / "results" / "weights"
INDEX = json.loads((COMMITTED / "index.json").read_text())


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory):
    """A finished run and the folder that has it."""
    run, folder = tiny(attention="cbam", placement="stage"), tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ATTNLIB_OUT", str(folder))
        compute_on_cpu(patch.setattr)
        train(run)
    return run, folder


@pytest.fixture
def trained(trained_once, out):
    run, folder = trained_once
    shutil.copytree(folder, out)
    return run


def changed(path, name: str, edit):
    """A copy of a weight file with one tensor, or the text of its header, changed."""
    with safe_open(path, "pt") as file:
        tensors, text = {key: file.get_tensor(key) for key in file.keys()}, file.metadata()
    if name == "attnlib":
        text = {name: edit(text[name])}
    else:
        tensors[name] = edit(tensors[name]).contiguous()
    target = path.with_name("changed.safetensors")
    target.write_bytes(save(tensors, text))
    return target


def test_a_weight_file_gives_the_network_back(trained):
    path, _ = export_as(trained)
    assert path == files.weights_dir() / f"{trained.id}.safetensors"
    model, full = load_model(path), weights(trained)
    for name, tensor in model.state_dict().items():
        exact = tensor.dtype != torch.float32 or tensor.ndim < 2
        assert torch.equal(tensor, full[name]) if exact else torch.allclose(
            tensor, full[name], rtol=2**-11, atol=2**-24)       # float16's own precision
    assert (model.id, model.size, model.channels) == (trained.id, 32, 3) and not model.training
    assert len(model.classes) == 10 and len(model.mean) == len(model.std) == 3
    before = path.read_bytes()
    assert export_as(trained)[0].read_bytes() == before


def test_it_stands_in_for_weights_that_are_gone(trained, tmp_path):
    kept, _ = export_as(trained, output=tmp_path / "given away.safetensors")
    shutil.rmtree(checkpoints_dir("own", trained.id))
    with pytest.raises(LookupError, match=f"train {trained.id} --weights"):
        load_model(trained)
    assert load_model(kept).id == trained.id
    files.weights_dir().mkdir(parents=True)
    shutil.copy(kept, files.weights_dir() / f"{trained.id}.safetensors")
    assert load_model(trained).id == load_model(trained.id[:-3]).id == trained.id
    assert trained.id in files.usable()


class Bomb:
    def __reduce__(self):
        return pytest.fail, ("a weight file was executed",)


def test_what_was_changed_or_is_of_another_version_is_refused(trained, tmp_path, monkeypatch):
    path, _ = export_as(trained, output=tmp_path / "w.safetensors")
    old = trained.id
    with monkeypatch.context() as later:
        later.setitem(ATTENTION, "cbam", ATTENTION["cbam"]._replace(version=7))
        with pytest.raises(ValueError, match="trained by another version.*cbam.*now 7"):
            load_model(old)
    name = next(iter(weights(trained)))
    for edit in (lambda x: x + 1, lambda x: x.reshape(-1), lambda x: x.float()):
        with pytest.raises(ValueError, match="SHA-256"):
            files.read(changed(path, name, edit))
    assert files.read(path)[0]["id"] == trained.id        # unchanged, it is read

    with pytest.raises(ValueError, match="SHA-256"):
        files.read(changed(path, "attnlib", lambda x: x.replace('"accuracy":0', '"accuracy":9')))
    (tmp_path / "cut.safetensors").write_bytes(path.read_bytes()[:-100])
    (tmp_path / "other.safetensors").write_bytes(save({"a": torch.zeros(2)}))
    np.savez(tmp_path / "old.npz", header=np.zeros(2))
    (tmp_path / "pickled.safetensors").write_bytes(pickle.dumps(Bomb()))
    for bad in ("cut.safetensors", "other.safetensors", "old.npz", "pickled.safetensors"):
        with pytest.raises(ValueError, match=f"{bad} is no weight file.*attnlib export RUN"):
            load_model(tmp_path / bad)


    monkeypatch.setitem(ATTENTION, "cbam", ATTENTION["cbam"]._replace(version=7))
    with pytest.raises(ValueError, match="attention cbam: version 1, now 7"):
        load_model(path)


# --- Those that come with the repository ---


def test_the_committed_files_are_those_of_the_index_and_their_cards_say_what_the_records_say(
        monkeypatch):
    monkeypatch.setenv("ATTNLIB_OUT", str(REPO))
    assert {p.name for p in COMMITTED.iterdir()} == {
        "README.md", "index.json", *(row["file"] for row in INDEX["weights"]),
        *(f"{row['id']}.md" for row in INDEX["weights"])}
    assert published.MARKS.search((COMMITTED / "README.md").read_text())[0] == (
        f"<!-- weights -->\n{published.card_table(INDEX['weights'])}<!-- /weights -->")
    assert [run.id for run in published.published()] == [row["id"] for row in INDEX["weights"]]
    for row in INDEX["weights"]:
        raw = (COMMITTED / row["file"]).read_bytes()
        assert hashlib.sha256(raw).hexdigest() == row["sha256"] and len(raw) == row["bytes"]
        published.check_publishable(row)
        assert load_model(row["id"])(torch.zeros(1, 3, 32, 32)).isfinite().all()
        record = store.read_record(published.PROFILE, row["id"])
        assert row["recorded"] == record["test"]["accuracy"]
        card = (COMMITTED / f"{row['id']}.md").read_text(encoding="utf-8")
        assert card == published.model_card(row, record) and "$" not in card
        assert f"{100 * row['accuracy']:.2f} % of 10,000" in card and row["sha256"] in card


@pytest.mark.skipif(not (data_dir() / "cifar10.npz").is_file(), reason="CIFAR-10 is not here")
def test_they_say_what_the_records_say(monkeypatch):
    images = load_dataset("cifar10").images["test"][:300]
    for row in INDEX["weights"]:
        said = probabilities(load_model(COMMITTED / row["file"]), images).argmax(1)
        with np.load(REPO / f"results/runs/real/{row['id']}.npz") as kept:
            assert (said == kept["prediction"][:300]).mean() > 0.985


# --- A short form that is the published network's, whatever else is there ---


@pytest.mark.parametrize("exported", [False, True])
def test_the_published_network_wins_over_runs_of_your_own(exported, monkeypatch, tmp_path):
    """As the README has it: one run of your own later the same words still name the same file."""
    wanted, = (row["id"] for row in INDEX["weights"] if "-cbam-" in row["id"])
    runs = [Run(dataset="cifar10", attention="cbam", epochs=epochs) for epochs in (1, 2)]
    files.weights_dir().mkdir(parents=True)
    for run, profile in zip(runs, ("own", "pilot"), strict=True):
        put_record(run, profile)
        assert run.id.startswith("cifar10-resnet18-cbam-s0-") and run.id != wanted
        if exported:
            shutil.copy(files.weight_files()[wanted], files.weights_dir() / f"{run.id}.safetensors")
    assert load_model("cifar10-resnet18-cbam-s0").id == wanted
    assert files.full_id(runs[0].id[:-2]) == runs[0].id, "a longer beginning is your own run's"
    with pytest.raises(LookupError, match="the beginning of . ids.*cifar10-resnet18-hybrid"):
        files.full_id("cifar10-resnet18")
    monkeypatch.setattr(files, "REPO", tmp_path)                # installed without its repository
    with pytest.raises(LookupError, match="the beginning of 2 ids"):
        files.full_id("cifar10-resnet18")

"""Bad data, bad names, hostile files: refused by field and index, nothing executed."""
import dataclasses
import gzip
import hashlib
import http.server
import io
import os
import pickle
import threading
import unicodedata

import faults
import numpy as np
import pytest
import torch
from helpers import tiny

from attnlib import files, settings
from attnlib.data import download
from attnlib.data.arrays import DataBad, DataMissing
from attnlib.data.datasets import load_dataset
from attnlib.data.download import Source
from attnlib.experiments.reading import find_record
from attnlib.experiments.weights import load_model
from attnlib.report import notebooks
from attnlib.settings import checkpoints_dir
from attnlib.training import run as run_module
from attnlib.training import store
from attnlib.training.recipes import RECIPES, Recipe
from attnlib.training.run import Run
from attnlib.training.trainer import train

# --- 15: data that do not come ---


def idx(array: np.ndarray) -> bytes:
    """The file format of Fashion-MNIST, packed."""
    head = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return gzip.compress(head + array.tobytes())


FILES = {f"{split}-{kind}.gz": idx(array) for split, n in (("train", 200), ("t10k", 100))
         for kind, array in (
             ("images-idx3-ubyte", np.arange(n * 784, dtype=np.uint32).astype(np.uint8).reshape(
                 n, 28, 28)), ("labels-idx1-ubyte", (np.arange(n) % 10).astype(np.uint8)))}


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves FILES; ``server.harm``: file name -> what is wrong with it."""

    def do_GET(self):
        name = self.path[1:]
        raw, harm = FILES[name], self.server.harm.get(name, "")
        if harm == "an HTTP error":
            self.send_error(503)
            return
        if harm == "other content":
            raw = bytes(len(raw))
        self.send_response(200)
        shown = len(raw) // 2 if harm == "half" else len(raw)
        self.send_header("Content-Length", str(shown))
        self.end_headers()
        self.wfile.write(raw[:len(raw) // 2] if harm in ("half", "cut off") else raw)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    """Fashion-MNIST of 300 images from a server of our own; how it harms files is ours to set."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.harm = {}
        address = f"http://127.0.0.1:{server.server_port}/"
        monkeypatch.setitem(download.SOURCES, "fashionmnist", tuple(
            Source((address + name,), f"FashionMNIST/raw/{name}", hashlib.sha256(raw).hexdigest())
            for name, raw in FILES.items()))
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()


@pytest.mark.fault(15)
@pytest.mark.parametrize("harm", ["half", "cut off", "other content", "an HTTP error"])
def test_a_download_that_goes_wrong_is_told_and_the_second_one_repairs(tmp_path, server, harm,
                                                                      moments, count):
    """The source, what was expected and what was found; half a file on the disk is replaced."""
    name = moments.choice(sorted(FILES))
    server.harm[name] = harm
    with pytest.raises(DataMissing) as error:           # before anything of it is unpacked
        load_dataset("fashionmnist", tmp_path)
    words = str(error.value)
    assert f"{name} comes from none of its addresses (127.0.0.1:{server.server_port}: " in words
    assert {"an HTTP error": "503", "cut off": "bytes"}.get(harm, "does not match") in words
    folder = tmp_path / "FashionMNIST" / "raw"
    before = list(FILES)[:list(FILES).index(name)]           # what came before it stays
    assert set(os.listdir(folder)) == {*before, *(f.removesuffix(".gz") for f in before)}
    server.harm = {}
    assert len(load_dataset("fashionmnist", tmp_path).labels["test"]) == 100
    faults.truncate(folder / name, moments)
    faults.truncate(folder / name.removesuffix(".gz"), moments)
    assert len(load_dataset("fashionmnist", tmp_path).labels["test"]) == 100
    count(bad_downloads=1, told=1, repaired_by_the_second_call=1, half_files=1, repaired=1)


# --- 16: data that cannot be ---


def good_arrays() -> dict:
    out = {}
    for split, n in (("train", 200), ("test", 100)):
        out[f"{split}_images"] = np.zeros((n, 28, 28), np.uint8)
        out[f"{split}_labels"] = np.arange(n) % 10
    return out


BAD = {     # what is changed: (the array, its change given a random index, the words that name it)
    "shape": ("{s}_images", lambda x, k: x[:, :27], "{s}_images is uint8 ({n}, 27, 28)"),
    "axes": ("{s}_images", lambda x, k: x[0], "{s}_images is uint8 (28, 28)"),
    "type": ("{s}_images", lambda x, k: x.astype(np.float32), "{s}_images is float32"),
    "channels": ("{s}_images", lambda x, k: np.stack([x] * 3, -1),
                 "{s}_images is uint8 ({n}, 28, 28, 3)"),
    "label below 0": ("{s}_labels", lambda y, k: np.where(np.arange(len(y)) == k, -1, y),
                      "{s}_labels[{k}] is -1"),
    "label too large": ("{s}_labels", lambda y, k: np.where(np.arange(len(y)) == k, 10, y),
                        "{s}_labels[{k}] is 10"),
    "labels of floats": ("{s}_labels", lambda y, k: y / 1, "{s}_labels is float64"),
    "a class missing": ("{s}_labels", lambda y, k: np.where(y == k % 10, (k + 1) % 10, y),
                        "no image of class {c} in {s}_labels"),
    "lengths": ("{s}_labels", lambda y, k: y[:k + 10], "{n} {s}_images, {m} {s}_labels"),
    "no labels": ("{s}_labels", lambda y, k: None, "no array '{s}_labels'"),
}


@pytest.mark.fault(16)
@pytest.mark.parametrize("what", BAD)
def test_data_that_cannot_be_are_refused_by_field_and_index(tmp_path, what, pick, moments, count):
    key, change, words = BAD[what]
    for _ in range(pick(2, 20)):
        split, k = moments.choice(["train", "test"]), moments.randrange(50)
        arrays = good_arrays()
        n = len(arrays[f"{split}_labels"])
        key_here = key.format(s=split)
        arrays[key_here] = change(arrays[key_here], k)
        np.savez(tmp_path / "fashionmnist.npz", **{k: v for k, v in arrays.items()
                                                   if v is not None})
        with pytest.raises(DataBad) as error:
            load_dataset("fashionmnist", tmp_path, download=False)
        assert isinstance(error.value, ValueError)
        assert "fashionmnist.npz: " in str(error.value)
        assert words.format(s=split, k=k, n=n, m=k + 10, c=k % 10) in str(error.value)
        count(bad_files=1, refused_by_name=1)


# --- 19: one meaning, one id ---


@pytest.mark.fault(19)
def test_composed_characters_and_key_order_and_new_fields(count, monkeypatch):
    """é in one character or two, in an error's text too; a field added with a default."""
    composed, apart = "é", unicodedata.normalize("NFD", "é")
    assert composed != apart and run_module.text(composed) == run_module.text(apart)
    assert run_module.canonical_json({"b": 1, "a": composed}) == \
        run_module.canonical_json({"a": composed, "b": 1})
    before = Run().id
    newer = dataclasses.make_dataclass("Recipe", [("a_new_field", float, 0.0)], bases=(Recipe,),
                                       frozen=True)
    monkeypatch.setattr(run_module, "Recipe", newer)
    monkeypatch.setitem(RECIPES, "strong", newer(**dataclasses.asdict(RECIPES["strong"])))
    assert Run().id == before
    count(spellings=2)


# --- 20: hostile ---


class Hostile:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.fault(20)
@pytest.mark.parametrize("kind", ["pickle", "torch.save", "torch.save, legacy"])
def test_a_hostile_checkpoint_is_refused_and_nothing_executed(tmp_path, kind, count):
    """Under a right name and digest, as a resumable state and as final weights."""
    run, trap = tiny(epochs=1), tmp_path / "executed"
    raw = io.BytesIO()
    if kind == "pickle":
        raw.write(pickle.dumps(Hostile(trap), protocol=2))
    else:
        torch.save({"model": Hostile(trap)}, raw,
                   _use_new_zipfile_serialization=kind == "torch.save")
    raw = raw.getvalue()
    digest = hashlib.sha256(raw).hexdigest()
    files.write_atomic(checkpoints_dir("own", run.id) / f"ckpt-1-{digest}.pt", raw)
    with pytest.warns(UserWarning, match="not a state of ours.*set aside"):
        assert train(run)["status"] == "done"
    for path in store.list_files(checkpoints_dir("own", run.id), store.WEIGHTS):
        path.unlink()
    files.write_atomic(checkpoints_dir("own", run.id) / f"final-{digest}.pt", raw)
    with pytest.warns(UserWarning, match="set aside"), \
            pytest.raises(LookupError, match="--weights"):
        load_model(run)
    assert not trap.exists()
    count(hostile_files=2, refused=2, executed=int(trap.exists()))


@pytest.mark.fault(20)
@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "..", ".", "", "a/b", "a\\b",
                                  "x\0y", "own/../real"])
def test_names_never_become_paths(out, name, count):
    with pytest.raises(ValueError, match="no name of a run or profile"):
        settings.runs_dir(name)
    for call in (lambda: store.record_path("own", name), lambda: checkpoints_dir("own", name),
                 lambda: store.write_arrays("own", name, {}), lambda: settings.figures_dir(name)):
        with pytest.raises(ValueError):
            call()
    with pytest.raises(LookupError):
        find_record(name)
    for key in ("dataset", "backbone", "attention", "recipe", "placement"):
        if name or key != "placement":
            with pytest.raises(ValueError):
                Run(**{key: name})
    assert not out.exists()
    count(hostile_names=9, refused=9)


@pytest.mark.fault(20)
@pytest.mark.parametrize("given", [
    {"profile; import os": "x"}, {"steps": "__import__('os').mkdir('trap')"}, {"steps": "1.5"},
    {"widths": [object()]}, {"widths": float("nan")}, {"__class__": 1}, {"steps": "[" * 100_000}])
def test_hostile_parameters_of_a_notebook(given, count):
    """Code in place of a value is refused, or stays text where text is wanted."""
    own = {"profile": "auto", "steps": 1, "widths": [1]}
    with pytest.raises(ValueError):
        notebooks.fitted(given, own, "01_a")
    text = {"profile": "x'; __import__('os').mkdir('trap') #"}
    assert notebooks.fitted(text, own, "01_a") == text
    assert not os.path.exists("trap")
    count(hostile_parameters=1, refused=1)

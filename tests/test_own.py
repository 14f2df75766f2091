"""Own pictures, as people have them: folders and npz files that nobody prepared for this project
are trained on at the first attempt, known by their content, and refused with every fault named."""
import io
import os
import re
import shlex
import shutil
from collections import ChainMap

import numpy as np
import pytest
import torch
from helpers import RNG, counts, picture, put_pictures, tiny, train_module, weights
from PIL import Image

from attnlib.__main__ import main
from attnlib.data import datasets as data_module
from attnlib.data import own
from attnlib.data.arrays import DataBad, DataMissing
from attnlib.data.datasets import DATASETS, identity, load_dataset
from attnlib.experiments.formats import export_as
from attnlib.experiments.planning import estimate_seconds
from attnlib.experiments.predict import predict
from attnlib.experiments.reading import find_record
from attnlib.experiments.weights import load_model
from attnlib.names import parse
from attnlib.settings import REPO
from attnlib.training import run as run_module
from attnlib.training import store
from attnlib.training.optim import scores
from attnlib.training.run import Run
from attnlib.training.trainer import data_of, train

pytestmark = pytest.mark.usefixtures("here")
FEW = {"n_train": None, "n_val": None, "n_test": None, "epochs": 1, "batch_size": 8}
ONE = {"cats": 10, "dogs": 12, "birds": 9}


# --- At the first attempt ---


def test_a_folder_of_pictures_is_trained_on_at_the_first_attempt(here, capsys):
    """Of several types and sizes, through the command line; then loaded, and scored again."""
    put_pictures(here / "photos", ONE)
    picture(300, 200).save(here / "photos" / "birds" / "large.jpg", quality=95)
    picture().save(here / "photos" / "cats" / "x.BMP")
    (here / "photos" / "cats" / "notes.txt").write_text("mine")
    assert main("train --dataset folder:photos --attention cbam --width 0.125 --epochs 2 "
                "--batch-size 8 --backbone resnet18".split()) == 0
    out = capsys.readouterr().out
    assert "photos: not used: cats (1 files, such as notes.txt)" in out
    assert "24 train, 3 val, 6 test images of 3 classes, 32×32×3; epochs: 2, on " in out
    assert "about 1 min\nonly 6 steps" in out
    run = Run(dataset="folder:photos", attention="cbam", width=0.125, epochs=2, batch_size=8)
    model, data = load_model(run.id), data_of(run)
    assert model.classes == ["birds", "cats", "dogs"] == list(data.classes)
    assert (model.mean, model.std) == (data.mean, data.std)
    assert again(run, model) == pytest.approx(find_record(run)["test"], rel=1e-5)


def again(run: Run, model) -> dict:
    """The test scores of a loaded model, computed from the pictures."""
    images, labels = data_of(run).split("test")
    x = (torch.tensor(images) / 255 - torch.tensor(model.mean)) / torch.tensor(model.std)
    with torch.no_grad():
        return scores(model(x.permute(0, 3, 1, 2).float()).softmax(1), torch.tensor(labels))


def medmnist(n=(40, 10, 20), size=28, channels=1, classes=3) -> dict:
    """Arrays as MedMNIST's files have them: labels uint8 [N, 1], no names."""
    arrays, kind = {}, np.min_scalar_type(classes)
    for split, count in zip(("train", "val", "test"), n, strict=True):
        y = np.arange(count) % classes
        shape = (count, size, size) + (3,) * (channels == 3)
        arrays |= {f"{split}_images": RNG.integers(0, 256, shape, dtype=np.uint8),
                   f"{split}_labels": y[:, None].astype(kind)}
    return arrays


def test_too_many_images_are_named_before_anything_is_promised(here, capsys):
    put_pictures(here / "photos", ONE)
    assert main("train --dataset folder:photos --n-train 1000 --epochs 1".split()) == 2
    shown = capsys.readouterr()
    assert "n_train=1000: " in shown.err and "has 1 to 22 train images" in shown.err
    assert "about" not in shown.out


@pytest.mark.parametrize(("size", "channels"), [(28, 1), (64, 3)])
def test_a_medmnist_file_is_trained_on_at_the_first_attempt(here, size, channels):
    arrays = medmnist(size=size, channels=channels)
    np.savez_compressed(here / "bloodmnist.npz", **arrays)
    run = tiny(dataset="npz:bloodmnist.npz", attention="se", **FEW)
    data = data_of(run)
    for split, n in (("train", 40), ("val", 10), ("test", 20)):       # their own validation split
        assert data.images[split].shape == (n, size, size, channels)
        assert sorted(data.labels[split]) == sorted(arrays[f"{split}_labels"][:, 0])
    assert data.classes == ("class 0", "class 1", "class 2")
    record = train(run)
    assert record["status"] == "done" and record["data"]["size"] == size
    assert again(run, load_model(run.id)) == pytest.approx(record["test"], rel=1e-5)
    assert estimate_seconds(run) > 0


# --- Splits ---


@pytest.mark.parametrize(("given", "expected"), [
    ({"a": 20, "b": 10}, {"train": [14, 7], "val": [2, 1], "test": [4, 2]}),
    ({"train/a": 5, "train/b": 5, "valid/a": 2, "valid/b": 1, "Test/a": 3, "Test/b": 4},
     {"train": [5, 5], "val": [2, 1], "test": [3, 4]})])
def test_splits_that_are_there_are_used_and_the_others_cut_class_by_class(here, given, expected):
    """No picture is in two splits, and none is lost."""
    put_pictures(here / "photos", given, (32, 32))
    data = load_dataset("folder:photos")
    assert counts(data) == expected
    seen = [image.tobytes() for x in data.images.values() for image in x]
    files = [np.asarray(Image.open(p)).tobytes() for p in (here / "photos").rglob("*.png")]
    assert sorted(seen) == sorted(files)


def test_the_split_does_not_depend_on_the_size(here):
    put_pictures(here / "photos", ONE)
    small, large = (load_dataset(f"folder(size={s}):photos") for s in (28, 56))
    for split, images in large.images.items():
        halved = images.reshape(len(images), 28, 2, 28, 2, 3).mean((2, 4))
        assert np.abs(halved - small.images[split]).mean() < 12      # noise, averaged differently
        assert np.array_equal(large.labels[split], small.labels[split])


def test_grey_pictures_have_one_channel_unless_three_are_asked_for(here):
    put_pictures(here / "grey", {"a": 4, "b": 4})
    for path in here.rglob("*.png"):
        picture().convert("L").convert("RGB" if path.stem == "0" else "L").save(path)
    assert load_dataset("folder:grey").images["train"].shape[-1] == 1
    three = load_dataset("folder(channels=3):grey")
    assert three.images["train"].shape[-1] == 3 == len(three.mean)
    put_pictures(here / "photos", ONE)
    assert load_dataset("folder(channels=1):photos").images["test"].shape[-1] == 1


def test_normalisation_is_measured_on_the_training_part(here):
    arrays = medmnist()
    np.savez(here / "a.npz", **arrays)
    data, x = load_dataset("npz:a.npz"), arrays["train_images"] / 255
    assert data.mean == pytest.approx([x.mean()]) and data.std == pytest.approx([x.std()], abs=1e-5)
    np.savez(here / "flat.npz", **arrays | {"train_images": np.full_like(x, 7, np.uint8)})
    assert load_dataset("npz:flat.npz").std == pytest.approx((1 / 255,), abs=1e-6)


# --- Identity ---


def test_a_moved_folder_keeps_the_id_and_one_changed_picture_changes_it(here, tmp_path):
    put_pictures(here / "photos", ONE)
    run = Run(dataset="folder:photos")
    shutil.copytree(here / "photos", tmp_path / "far" / "other name")
    moved = Run(dataset=f"folder:{tmp_path / 'far' / 'other name'}")
    assert moved.id == run.id and moved != run
    assert Run(dataset="folder(size=32.0):./photos/") == run
    os.utime(here / "photos" / "cats" / "0.png", (0, 0))
    (here / "photos" / "readme.txt").write_text("no picture")
    assert Run(dataset="folder:photos") == run
    others = {Run(dataset="folder(size=64):photos").id, Run(dataset="folder(channels=1):photos").id}
    picture().save(here / "photos" / "cats" / "0.png")
    others.add(Run(dataset="folder:photos").id)
    os.rename(here / "photos" / "cats" / "1.png", here / "photos" / "dogs" / "cat 1.png")
    others.add(Run(dataset="folder:photos").id)
    assert len(others | {run.id}) == 5


def test_ids_and_records_hold_no_path_of_the_machine(here, tmp_path):
    """Where the pictures lie below the working directory or the data folder."""
    put_pictures(tmp_path / "data" / "sets" / "photos", {"a": 4, "b": 4})
    by_path = Run(dataset=f"folder:{tmp_path / 'data' / 'sets' / 'photos'}")
    run = tiny(dataset="folder:sets/photos", **FEW)
    assert by_path.dataset == run.dataset == f"{identity(run.dataset)}:sets/photos"
    record = train(run)
    assert str(tmp_path) not in store.record_path("own", run.id).read_text()
    assert "photos" not in run.id and "photos" not in str(run.resolved())
    assert Run(**record["run"]) == run
    # A finished run needs the pictures no more: its record is listed, its model loads, and the
    # decoded pictures are kept.
    shutil.rmtree(tmp_path / "data" / "sets")
    assert main(["runs", "list", "--profile", "own"]) == 0
    assert load_model(run.id).classes == ["a", "b"]
    assert len(data_of(Run(**record["run"])).labels["train"]) == 4
    before = weights(run)
    shutil.rmtree(store.checkpoints_dir("own", run.id))
    assert main(["train", run.id, "--weights"]) == 0
    assert all((before[key] == value).all() for key, value in weights(run).items())


def test_a_picture_to_predict_gets_the_levels_of_the_set(here):
    """Of more than 8 bits, though its own highest level needs fewer."""
    put_pictures(here / "deep", {"a": 4, "b": 4})
    for path in here.rglob("*.png"):
        deep = RNG.integers(0, 4096, (32, 32)).astype(np.uint16)
        Image.fromarray(deep).save(path)
    run = tiny(dataset="folder:deep", **FEW)
    train(run)
    Image.fromarray(np.minimum(deep, 1000)).save(here / "dark.png")
    for model in (load_model(run), load_model(export_as(run, output=here / "own.safetensors")[0])):
        (_, image, *_), = predict(model, ["dark.png"])
        assert image.max() == round(1000 * 255 / 4095)


def test_changed_content_is_not_mistaken_for_that_of_a_run(here):
    np.savez(here / "a.npz", **medmnist())
    run = Run(dataset="npz:a.npz")
    np.savez(here / "a.npz", **medmnist())
    with pytest.raises(DataBad, match="a.npz has other content .* than the run was made with"):
        load_dataset(run.dataset)
    os.remove(here / "a.npz")
    with pytest.raises(DataMissing, match="no data at 'a.npz': looked from the working directory"):
        load_dataset(run.dataset)


def test_pictures_are_decoded_once_and_a_torn_cache_is_made_again(here, tmp_path, monkeypatch):
    put_pictures(here / "photos", ONE)
    one = load_dataset("folder:photos")
    with monkeypatch.context() as patch:
        patch.setattr(own, "decode", lambda *a: pytest.fail("decoded again"))
        load_dataset("folder:photos")
    (file,) = (tmp_path / "data" / "own").glob("*.npz")
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.warns(UserWarning, match="set aside"):
        two = load_dataset("folder:photos")
    assert all(np.array_equal(one.images[s], two.images[s]) for s in one.images)


@pytest.mark.parametrize("place", ["my photos (2)", "fotos [x] é, a=b:c"])
def test_paths_of_every_kind_links_and_a_circle_of_them(here, place):
    put_pictures(here / "elsewhere", {"a": 4, "b": 4})
    (here / place).mkdir()
    for name in "ab":
        (here / place / name).symlink_to(here / "elsewhere" / name)
    (here / "elsewhere" / "b" / "again").symlink_to(here / "elsewhere" / "b")
    run = Run(dataset=f"folder(size=28):{place}")
    assert parse(run.dataset)[1]["path"] == place and Run(**run.as_dict()) == run
    assert counts(data_of(run)) == {"train": [2, 2], "val": [1, 1], "test": [1, 1]}


# --- Bad input ---


def test_all_bad_pictures_are_named_in_one_go(here, monkeypatch):
    put_pictures(here / "photos", ONE)
    cats = here / "photos" / "cats"
    (cats / "empty.png").write_bytes(b"")
    (cats / "text.jpg").write_text("no picture")
    whole = (cats / "3.png").read_bytes()
    (cats / "torn.png").write_bytes(whole[:len(whole) // 2])
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40 * 50)
    picture(41, 50).save(cats / "huge.png")
    picture(400, 50).save(cats / "bomb.png")
    eps = io.BytesIO()
    picture().save(eps, "EPS")
    (cats / "program.png").write_bytes(eps.getvalue())
    with pytest.warns(Image.DecompressionBombWarning), pytest.raises(DataBad) as error:
        load_dataset("folder:photos")
    words = str(error.value)
    assert "photos: 6 things to mend or remove:\n  cats/" in words
    for name, why in {"empty.png": "not a picture", "torn.png": "truncated", "bomb.png": "bomb",
                      "huge.png": "2,050 pixels, and 2,000 are", "program.png": "not a picture",
                      "text.jpg": "not a picture"}.items():
        assert any(f"cats/{name}: " in line and why in line for line in words.splitlines())


def test_bad_pictures_empty_folders_and_dangling_links_are_named_together(here):
    put_pictures(here / "photos", ONE | {"empty": 0})
    (here / "photos" / "cats" / "text.jpg").write_text("no picture")
    (here / "photos" / "dogs" / "gone.png").symlink_to("nowhere.png")
    with pytest.raises(DataBad, match="3 things to mend") as error:
        Run(dataset="folder:photos")
    for words in ("no pictures in train/empty", "\n  cats/text.jpg: it is not a",
                  "\n  dogs/gone.png: it cannot be read: No such file"):
        assert words in str(error.value)


@pytest.mark.parametrize(("name", "words"), [
    ("folder", "folder needs a path, as in folder:PATH"),
    ("folder:nowhere", "no data at 'nowhere'"), ("npz(size=32):x", "valid: content"),
    ("folder(size=20):x", "size=20 should be 28 to 224"),
    ("folder(channels=2):x", "channels=2 should be 1 or 3"),
    ("folder(channels=3.0):x", "channels=3.0 should be 1 or 3"),
    ("folder(channels=True):x", "channels=True should be 1 or 3"), ("npz:.", "folder:"),
    ("fotos", "folder:PATH, npz:PATH"), ("photos", "did you mean folder:photos?"),
    ("set.npz", "did you mean npz:set.npz?"),
    ("cifar10:x", "unknown option of data set 'cifar10': 'path'")])
def test_a_name_that_cannot_be_says_what_can(here, name, words):
    (here / "photos").mkdir()
    (here / "set.npz").touch()
    with pytest.raises((ValueError, DataMissing)) as error:
        Run(dataset=name)
    assert words in str(error.value)


@pytest.mark.parametrize(("changes", "words"), [
    ({"train_images": lambda x: x[:, :20]}, ["train_images is uint8 (40, 20, 28), not", "28 to 2"]),
    ({"train_images": lambda x: np.zeros((40, 3, 28, 28), np.uint8)}, ["(40, 3, 28, 28), not"]),
    ({"test_images": None, "val_labels": None},
     ["no array 'test_images'", "no array 'val_labels'"]),
    ({"train_labels": lambda y: y.astype(np.int64) - 1, "test_labels": lambda y: y / 2},
     ["train_labels[0] is -1, not within 0 to", "(14 labels in all)", "test_labels is float64"]),
    ({"train_labels": lambda y: y + 1}, ["no image of class 0 in train_labels"]),
    ({"val_images": lambda x: x[:-1], "test_images": lambda x: x.astype(float)},
     ["9 val_images, 10 val_labels", "test_images is float64"]),
    (dict.fromkeys(("train_labels", "val_labels", "test_labels"), np.zeros_like),
     ["one class alone"]),
    ({"train_labels": lambda y: np.array(["cat", "dog"] * 20)}, ["train_labels is <U3, not int"]),
    ({"train_labels": lambda y: y == 1}, ["train_labels is bool, not integer"]),
    ({"train_labels": lambda y: np.eye(14, dtype=np.uint8)[y[:, 0]]},
     ["train_labels is [40, 14], several labels an image (multi-label or one-hot); one an image is "
      "supported: [N] or [N, 1]"]),
    ({"class_names": lambda _: np.array([b"a", b"b", b"c"])}, ["class_names is |S1 [3], not text"]),
    ({"class_names": lambda _: np.array("abc")}, ["class_names is <U3 [], not text"]),
    ({"class_names": lambda _: np.array(["a", "b", "a"])}, ["class_names has 'a' more than once"]),
    ({"class_names": lambda _: np.array(["a", "b"])},
     ["train_labels[2] is 2, not within 0 to 1"]),
    *(({key: lambda _: np.array([object()] * 3, dtype=object)},
       [f"{key} holds Python objects"]) for key in ("train_images", "class_names"))])
def test_a_bad_npz_is_told_everything_in_one_go(here, changes, words):
    arrays = medmnist()
    for key, change in changes.items():
        arrays[key] = change(arrays.get(key)) if change else None
    np.savez(here / "bad.npz", **{k: v for k, v in arrays.items() if v is not None})
    with pytest.raises(DataBad) as error:
        load_dataset("npz:bad.npz")
    told = str(error.value)
    assert told.startswith("bad.npz") and all(word in told for word in words)
    assert "delete" not in told and "allow_pickle" not in told
    assert ("one class alone" in told) == ("one class alone" in words)


def test_more_than_256_classes_keep_their_numbers(here):
    arrays = medmnist(n=(600, 300, 300), classes=300)
    np.savez(here / "many.npz", **arrays)
    run = tiny(dataset="npz:many.npz", **FEW | {"n_train": 32, "n_val": 10})
    record = train(run)
    stored = store.read_arrays("own", run.id, record["arrays"]["predictions"])
    assert np.array_equal(stored["label"], data_of(run).labels["test"][:300])
    assert stored["label"].max() == 299


# --- The page about it ---


def blocks(language: str) -> list[str]:
    text = (REPO / "docs" / "own-data.md").read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def test_the_pages_commands_and_python_run_as_they_stand_but_small(here, capsys):
    put_pictures(here / "photos", {"a": 4, "b": 4})
    np.savez(here / "pathmnist.npz", **medmnist())
    for line in blocks("bash")[0].strip().splitlines():
        words = shlex.split(line, comments=True)
        assert words[:3] == [".venv/bin/python", "-m", "attnlib"]
        small = "--width 0.125 --epochs 1 --backbone squeezenet --batch-size 4".split()
        assert main(words[3:] + small * (words[3] == "train")) == 0
    out = capsys.readouterr().out
    assert out.count("test accuracy") == 3 and out.count(", good\n") == 2
    code = blocks("python")[0].replace("width=0.25, epochs=20", "width=0.125, epochs=1")
    names = {}
    exec(code, names)
    assert names["record"]["status"] == "done" and names["model"].classes == ["a", "b"]


def test_the_pages_example_says_what_it_shows(here, capsys):
    for folder, n in (("train", 12), ("val", 2), ("test", 4)):
        put_pictures(here / "chest_xray" / "chest_xray" / folder, {"NORMAL": n, "PNEUMONIA": n})
    put_pictures(here / "chest_xray" / "__MACOSX", {"chest_xray": 1})
    shown = blocks("console")[0].splitlines()
    command = shlex.split(shown[0].removeprefix("$ "))
    assert command[:3] == [".venv/bin/python", "-m", "attnlib"] and main(command[3:]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == shown[1]
    assert said[1] == re.sub(r"\d+ train.*test", "24 train, 4 val, 8 test", shown[2])


def test_a_new_data_set_is_one_row_and_a_file(tmp_path, monkeypatch):
    monkeypatch.setattr(data_module, "DATASETS", dict(DATASETS))
    monkeypatch.setattr(data_module, "SETS", ChainMap(own.OWN, data_module.DATASETS))
    monkeypatch.setattr(run_module, "SETS", data_module.SETS)
    monkeypatch.setattr(train_module, "DATASETS", data_module.DATASETS)
    exec(blocks("python")[1], {})
    with pytest.raises(DataMissing, match="no data for 'digits'.*digits.npz"):
        load_dataset("digits")
    (tmp_path / "data").mkdir()
    np.savez(tmp_path / "data" / "digits.npz", **medmnist(classes=10))
    run = tiny(dataset="digits", **FEW)
    assert run.id.startswith("digits-") and train(run)["model"]["params"] > 0
    assert load_model(run).mean == (0.1307,) and estimate_seconds(run) > 0
    assert load_dataset("npz:digits.npz").row.size == 28

"""Folders as people have them, and files that are not what their names say: read where it is plain
what is meant, told in one line, refused by name."""
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from helpers import RNG, counts, picture, put_pictures
from PIL import Image

from attnlib.data.arrays import DataBad
from attnlib.data.datasets import load_dataset
from attnlib.settings import REPO


@pytest.fixture(autouse=True)
def root(here):
    (here / "photos").mkdir()
    return here / "photos"


def tree(root, *folders: str, n: int = 4) -> None:
    put_pictures(root, dict.fromkeys(folders, n))


@pytest.mark.parametrize("tool", [".ipynb_checkpoints", "__MACOSX", "Thumbnails",
                                  "@eaDir/x.jpg/SYNO@.jpg"])
def test_folders_of_tools_are_no_classes_and_hold_no_pictures(root, tool):
    tree(root, "cats", "dogs/deep/er")
    before = load_dataset("folder:photos").name
    tree(root, f"cats/{tool}", f"dogs/deep/{tool}", tool)
    (root / "cats" / "._0.png").write_bytes(b"no picture")
    assert load_dataset("folder:photos").name == before


def test_copies_stay_in_one_split(root, capsys):
    tree(root, "cats", "dogs", n=20)
    alone = load_dataset("folder:photos")
    assert "copies" not in capsys.readouterr().out
    shutil.copytree(root / "cats", root / "cats" / "again")
    for _ in range(2):                                  # then from the cache
        data = load_dataset("folder:photos")
        assert capsys.readouterr().out == ("photos: 20 pictures are copies of others, byte for "
                                           "byte: copies are kept in one split\n")
    seen = {split: {x.tobytes() for x in images} for split, images in data.images.items()}
    assert not seen["train"] & seen["test"] and not seen["train"] & seen["val"]
    assert len(data.labels["train"]) == len(alone.labels["train"]) + 14


def test_copies_in_given_splits_are_refused(root):
    tree(root, "train/cats", "train/dogs", "test/cats", "test/dogs/deep")
    for other in ("test/cats/copy.png", "test/dogs/deep/x.jpeg"):
        (root / other).write_bytes((root / "train" / "cats" / "2.png").read_bytes())
    with pytest.raises(DataBad, match="2 pictures are in two splits or classes, byte for byte, "
                                      "such as test/cats/copy.png and train/cats/2.png"):
        load_dataset("folder:photos")


def test_a_picture_of_two_classes_is_refused(root):
    tree(root, "cats", "dogs")
    shutil.copy(root / "cats" / "1.png", root / "dogs" / "copy.png")
    with pytest.raises(DataBad, match="1 pictures are in two splits or classes.*dogs/copy.png and "
                                      "cats/1.png"):
        load_dataset("folder:photos")


def test_a_class_of_copies_alone_is_named_with_what_it_needs(root):
    tree(root, "cats", "dogs")
    for k in range(1, 4):
        for name in ("cats", "dogs"):
            shutil.copy(root / "cats" / "0.png", root / name / f"{k}.png")
    least = "{} has 1 different training pictures, and 3 are the least, as val and test are cut"
    with pytest.raises(DataBad, match=f"{least.format('cats')}(.|\n)*{least.format('dogs')}"):
        load_dataset("folder:photos")


@pytest.mark.parametrize(("folders", "told"), [
    (("training_set/training_set", "test_set/test_set", "valid_set"),
     "training_set/training_set is train; valid_set is val; test_set/test_set is test"),
    (("seg_train/seg_train", "seg_test/seg_test", "seg_dev"), "seg_train/seg_train is train"),
    (("train", "dev", "test"), "dev is val\n"),
    (("photos/photos/Train", "photos/photos/val", "photos/photos/test2017"),
     "photos/photos/Train is train; photos/photos/val is val; photos/photos/test2017 is test")])
def test_names_of_splits_are_understood_and_told(root, capsys, folders, told):
    tree(root, *(f"{folder}/{c}" for folder in folders for c in ("cats", "dogs")))
    assert counts(load_dataset("folder:photos")) == dict.fromkeys(("train", "val", "test"), [4, 4])
    assert f"photos: taken as it looks: {told}" in capsys.readouterr().out


def test_every_file_that_is_not_used_is_named(root, capsys):
    tree(root, "train/cats", "train/dogs", "birds", "old/deep/cats", "test", n=10)
    (root / "train" / "cats" / "x.NEF").write_bytes(b"")
    (root / "heic").mkdir()
    put_pictures(root, {"train": 3})
    for files in (1, 1, 2):                             # then from the cache, and with one more
        (root / "heic" / f"{files}.heic").write_bytes(b"")
        data = load_dataset("folder:photos")
        assert data.classes == ("cats", "dogs") and sum(map(len, data.labels.values())) == 20
        told = capsys.readouterr().out
        assert told.startswith("photos: not used: ") and told.count("\n") == 1
        for words in ("birds (10 files, such as 0.png)", "old (10 files", "test (10 files",
                      f"heic ({files} files", "train (3 files", "train/cats (1 files, such as x."):
            assert words in told


def test_a_class_called_train_is_told(root, capsys):
    tree(root, "train", "bus")
    assert load_dataset("folder:photos").classes == ("bus", "train")
    assert "train is a class, as it holds pictures itself" in capsys.readouterr().out


@pytest.mark.parametrize(("folders", "words"), [
    (("train/a", "train/b", "training/a", "training/b"), "train and training would both be train"),
    (("cats/train", "cats/test", "dogs/train", "dogs/test"),
     "cats, dogs hold no pictures of their own but the same folders, test, train"),
    (("train/x/a", "train/x/b", "train/y/a", "train/y/b", "test/a"), "x, y hold no pictures"),
    (("train/images", "train/masks"), "images, masks are no names of classes: <class>"),
    (("train", "test1"), "test1, train are no names of classes"),
    ((".",), "0 class folders, and two are the least: <class>"), (("images", "."), "1 class fol"),
    (("caf\u00e9", "cafe\u0301"), "photos has two folders caf\u00e9, spelt with other bytes"),
    (("test/a", "test/b"), "has test but no train"),
    ({"train/a": 4, "train/b": 0, "train/c": 4}, "photos: no pictures in train/b"),
    ({"a": 4, "b": 2, "c": 1}, "b has 2 .* and 3 are the least, as val and test are cut .*\n.*c h"),
    ({"train/a": 4, "train/b": 1, "test/a": 1}, "b has 1 different .* and 2 are the least, as val"),
    ({"train/a": 4, "train/b": 4, "test/c": 1}, "test/c is not among the classes of train")])
def test_layouts_that_are_none_are_refused(root, folders, words):
    put_pictures(root, folders if isinstance(folders, dict) else dict.fromkeys(folders, 4))
    with pytest.raises(DataBad, match=words) as error:
        load_dataset("folder:photos")
    assert "photos" in str(error.value)


@pytest.mark.parametrize(("pictures", "others"), [
    ("VOC2012/JPEGImages", "VOC2012/Annotations"), ("train/images", "train/labels"),
    ("train2017", "annotations")])
def test_boxes_are_refused(root, pictures, others):
    """Of VOC, YOLO and COCO: a folder without pictures is no class."""
    tree(root, pictures)
    (root / others).mkdir(parents=True)
    (root / others / "0.xml").write_text("")
    with pytest.raises(DataBad, match=f"no pictures in train/{others.rpartition('/')[2]} .*boxes"):
        load_dataset("folder:photos")


def test_tiny_imagenets_layout_is_read(root, capsys):
    depth = "tiny-imagenet-200/"
    base = root / depth
    tree(base, "train/n01/images", "train/n02/images", "val/images", "test/images")
    (base / "train" / "n01" / "n01_boxes.txt").write_text("0.png\t0\t0\t9\t9\n")
    table = base / "val" / "val_annotations.txt"
    table.write_text("".join(f"{k}.png\tn0{1 + (k == 3)}\t0\t32\t44\t62\n" for k in range(4)))
    data = load_dataset("folder(size=64):photos")
    assert data.classes == ("n01", "n02") and data.images["val"].shape == (4, 64, 64, 3)
    assert np.bincount(data.labels["val"]).tolist() == [3, 1]
    out = capsys.readouterr().out
    assert f"{depth}val/images is val, its classes from val_annotations.txt" in out
    assert f"{depth}test (4 files" in out
    table.write_text(table.read_text().replace("n02", "n01"))
    assert load_dataset("folder(size=64):photos").name != data.name     # the table counts, too
    table.write_text("0.png\tn01\n")
    load_dataset("folder(size=64):photos")
    assert f"{depth}val/images (3 files, such as 1.png)" in capsys.readouterr().out


def test_an_mpo_is_a_picture(root):
    tree(root, "cats", "dogs")
    picture().save(root / "cats" / "both.mpo", save_all=True, append_images=[picture()])
    assert sum(map(sum, counts(load_dataset("folder:photos")).values())) == 9


@pytest.mark.parametrize("where", [b"cats/caf\xe9.png", b"caf\xe9/0.png"])
def test_names_that_are_no_text_are_read_and_printed(root, where):
    tree(root, "cats", "dogs")
    whole, path = (root / "dogs" / "0.png").read_bytes(), os.path.join(os.fsencode(root), where)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    for k in range(3):
        with open(path.replace(b".png", b"%d.png" % k), "wb") as file:
            file.write(whole + bytes(k + 1))
    data = load_dataset("folder:photos")
    assert sum(map(len, data.labels.values())) == 11
    assert ("caf\\xe9" in data.classes) == where.startswith(b"caf")
    assert "".join(data.classes).encode()               # they can be printed
    with open(path, "wb") as file:
        file.write(b"no picture")
    with pytest.raises(DataBad) as error:
        load_dataset("folder:photos")
    assert where.decode("utf-8", "backslashreplace") + ": it is not a picture" in str(error.value)


def ramp(root, name: str, low: float, high: float, kind=np.uint16) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.linspace(low, high, 32 * 32).reshape(32, 32).astype(kind)).save(root / name)


@pytest.mark.parametrize(("kind", "ending", "tops", "told"), [
    (np.uint16, "png", (255, 256), "levels 0 to 511"),
    (np.int32, "tiff", (255, 70_000), "levels 0 to 131071"),
    (np.float32, "tiff", (0.5, 1.0), "levels 0 to 1 ")])
def test_a_set_has_one_scale(root, capsys, kind, ending, tops, told):
    """Two ramps, of which the higher needs another bit: the same level is the same grey."""
    top = float(told.split()[3])
    for label, high in zip("ab", tops, strict=True):
        for k in range(3):
            ramp(root, f"{label}/{k}.{ending}", 0, high * (1 - k / 100), kind)
    data = load_dataset("folder:photos")
    out = capsys.readouterr().out
    assert f"photos: 6 pictures have more than 8 bits: {told}" in out and out.count("bits") == 1
    for label, high in enumerate(tops):
        found = max(x[data.labels[s] == label].max(initial=0) for s, x in data.images.items())
        assert found == pytest.approx(255 * high / top, abs=1)
    load_dataset("folder:photos")
    assert capsys.readouterr().out == out


def test_levels_below_zero_are_kept_and_bytes_are_left_alone(root):
    for k in range(3):
        ramp(root, f"ct/{k}.tiff", -1024, 3071 - k, np.int32)
        ramp(root, f"bytes/{k}.png", 0, 255 - k, np.uint8)
    data = load_dataset("folder:photos")
    x = {c: np.concatenate([data.images[s][data.labels[s] == k] for s in data.images])
         for k, c in enumerate(data.classes)}
    assert x["bytes"].max() == 255 and x["ct"].min() == 0
    assert x["ct"].max() == round((3071 + 1024) / (4095 + 1024) * 255)


def arrays(n: int = 40, classes: int = 3) -> dict:
    out = {}
    for split, count in (("train", n), ("test", 12)):
        out[f"{split}_images"] = RNG.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        out[f"{split}_labels"] = (np.arange(count) % classes).astype(np.uint32)
    return out


@pytest.mark.parametrize(("kind", "wild"), [("uint32", 2**32 - 1), ("int64", 2**40),
                                            ("uint64", 2**64 - 1)])
def test_a_wild_label_is_named_and_takes_no_memory(kind, wild):
    y = arrays()["train_labels"].astype(kind)
    y[17] = wild
    np.savez("x.npz", **arrays() | {"train_labels": y})
    code = ("import resource, attnlib\nfrom attnlib.data.datasets import load_dataset\n"
            "resource.setrlimit(resource.RLIMIT_AS, (3 << 30,) * 2)\n"
            "try:\n    load_dataset('npz:x.npz')\nexcept ValueError as error:\n    print(error)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          env=os.environ | {"PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1"})
    assert f"train_labels[17] is {wild}, not within 0 to" in done.stdout, done.stderr


def test_few_training_images_have_one_for_validation_and_too_few_are_refused():
    np.savez("x.npz", **arrays(4, classes=2))
    assert counts(load_dataset("npz:x.npz"))["val"] in ([1], [0, 1])
    np.savez("x.npz", **arrays(3, classes=3))
    with pytest.raises(DataBad, match="x.npz: 3 training images are too few .*val_images"):
        load_dataset("npz:x.npz")


@pytest.mark.parametrize(("raw", "words"), [
    (b"\n<!DOCTYPE html><html>Sign in", r"begins with b'\n<!DOCTYPE html>"),
    (b"version https://git-lfs.github.com/spec/v1\noid", "b'version https://git-lfs"),
    (b"\x80\x04\x95", "begins with"), (b"\xff\xd8\xff\xe0..JFIF", r"b'\xff\xd8\xff\xe0..JFIF'"),
    (b"", "it is empty"), (b"PK\x03\x04torn", "zip file")])
def test_a_file_that_is_no_npz_says_what_it_begins_with(raw, words):
    with open("x.npz", "wb") as file:
        file.write(raw)
    with pytest.raises(DataBad) as error:
        load_dataset("npz:x.npz")
    told = str(error.value)
    assert told.startswith("x.npz is no readable npz file: ") and words in told
    assert "wanted is a file of numpy.savez with train_images" in told and "pickle" not in told

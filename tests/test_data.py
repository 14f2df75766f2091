"""The data sets: fixed balanced splits, honest constants, and no bad file gets past the loader."""
import numpy as np
import pytest

from attnlib.data.arrays import SPLITS, DataBad, DataMissing, measured, stratified_order
from attnlib.data.datasets import DATASETS, load_dataset
from attnlib.data.shapetex import CLASS_NAMES, make_shapetex
from attnlib.settings import data_dir

SMALL = {"train": 60, "val": 20, "test": 30}


def good() -> dict:
    """Arrays as they should be, of Fashion-MNIST's shape; pixel [0, 0] numbers the image."""
    rng = np.random.default_rng(0)
    arrays = {}
    for split, n in (("train", 200), ("test", 100)):
        arrays[f"{split}_images"] = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        arrays[f"{split}_images"][:, 0, 0] = np.arange(n)
        arrays[f"{split}_labels"] = np.sort(np.arange(n) % 10).astype(np.uint8)   # by class
    return arrays


def load(tmp_path, arrays: dict):
    np.savez(tmp_path / "fashionmnist.npz", **arrays)
    return load_dataset("fashionmnist", tmp_path, download=False)


def numbers(data, split: str) -> np.ndarray:
    """Which image of the file each image of the split is."""
    return data.images[split][:, 0, 0, 0]


def test_every_prefix_of_a_stratified_order_is_balanced():
    labels = np.repeat(np.arange(5), [10, 20, 30, 40, 100])
    order = stratified_order(labels, 1)
    assert np.array_equal(np.sort(order), np.arange(200))
    for n in range(1, 201):
        counts = np.bincount(labels[order[:n]], minlength=5)
        assert (abs(counts - n * np.bincount(labels) / 200) <= 2.5).all(), n


def test_validation_is_a_tenth_of_the_training_file_and_images_keep_their_labels(tmp_path):
    arrays = good()
    data = load(tmp_path, arrays)
    assert {s: len(data.labels[s]) for s in SPLITS} == {"train": 180, "val": 20, "test": 100}
    parts = np.concatenate([numbers(data, "train"), numbers(data, "val")])
    assert np.array_equal(np.sort(parts), np.arange(200))
    assert (abs(np.bincount(data.labels["val"], minlength=10) - 2) <= 1).all()
    for split, file in (("train", "train"), ("val", "train"), ("test", "test")):
        at = numbers(data, split)
        assert np.array_equal(data.labels[split], arrays[f"{file}_labels"][at])
        assert np.array_equal(data.images[split][..., 0], arrays[f"{file}_images"][at])


def test_smaller_splits_are_prefixes_and_more_than_there_are_is_refused(tmp_path):
    data = load(tmp_path, good())
    for split in SPLITS:
        few, many = data.split(split, 7), data.split(split, 15)
        assert np.array_equal(many[0][:7], few[0]) and np.array_equal(many[1][:7], few[1])
    for n in (0, 101):
        with pytest.raises(ValueError, match=f"n_test={n}: fashionmnist has 1 to 100 test images"):
            data.split("test", n)


def test_medmnists_layout_with_a_validation_split_and_names(tmp_path):
    arrays = {k: v[:, None] if k.endswith("labels") else v for k, v in good().items()}
    names = np.array([f"kind {k}" for k in range(10)])
    data = load(tmp_path, arrays | {"val_images": arrays["test_images"][::2],
                                    "val_labels": arrays["test_labels"][::2], "class_names": names})
    assert [data.labels[s].shape for s in SPLITS] == [(200,), (50,), (100,)]
    assert data.labels["train"].dtype == np.int64 and data.classes == tuple(names)
    assert (numbers(data, "val") % 2 == 0).all()


@pytest.mark.parametrize(("key", "change", "words"), [          # more of them are in tests/faults
    ("test_labels", lambda y: y[:0], "fashionmnist.npz: .*100 test_images, 0 test_labels"),
    ("val_images", lambda _: np.zeros((10, 28, 28), np.uint8), "no array 'val_labels'"),
    ("class_names", lambda _: np.array(["a", "b"]), "2 class_names, not 10")])
def test_a_bad_file_is_refused_by_field(tmp_path, key, change, words):
    with pytest.raises(DataBad, match=words):
        load(tmp_path, good() | {key: change(good().get(key))})


@pytest.mark.parametrize("tear", [lambda raw: raw[:len(raw) // 2], lambda raw: b"",
                                  lambda raw: raw[:5000] + bytes([raw[5000] ^ 1]) + raw[5001:]])
def test_a_torn_file_is_refused_by_name(tmp_path, tear):
    file = tmp_path / "fashionmnist.npz"
    np.savez(file, **good())
    file.write_bytes(tear(file.read_bytes()))
    with pytest.raises(ValueError, match="fashionmnist.npz is .*`make data` fetches it again"):
        load_dataset("fashionmnist", tmp_path, download=False)


def test_missing_data_say_where_we_looked_and_what_to_do(tmp_path):
    with pytest.raises(DataMissing) as error:
        load_dataset("cifar10", tmp_path / "nowhere", download=False)
    for word in ("cifar10.npz", "nowhere", "ATTNLIB_DATA", "make data", "shapetex"):
        assert word in str(error.value)


def test_shapetex_is_what_its_maker_makes():
    data = load_dataset("shapetex(contrast=0.2,distractors=4)", sizes=SMALL)
    for split, n in SMALL.items():
        made = make_shapetex(n, split=split, contrast=0.2, distractors=4)
        assert np.array_equal(data.images[split], made.images)
        assert np.array_equal(data.labels[split], made.labels)
        assert np.array_equal(data.extras[split]["mask"], made.mask)
    assert data.classes == tuple(CLASS_NAMES)
    data = load_dataset("shapetex(label=bg)", sizes=SMALL)
    assert np.array_equal(data.labels["test"], make_shapetex(30, "test").background)
    assert data.classes[3] == "style 3"


def test_shapetex_constants_are_those_of_its_images_and_numpys():
    images = make_shapetex(4000).images
    mean, std = measured(images)
    assert mean == pytest.approx((images / 255).mean((0, 1, 2)))
    assert std == pytest.approx((images / 255).std((0, 1, 2)))
    assert DATASETS["shapetex"].mean == pytest.approx(mean, abs=0.005)
    assert DATASETS["shapetex"].std == pytest.approx(std, abs=0.005)


@pytest.mark.parametrize("name", [n for n, row in DATASETS.items() if row.torchvision])
def test_constants_of_the_real_sets_are_those_of_their_training_files(name):
    file = data_dir() / f"{name}.npz"
    if not file.is_file():
        pytest.skip(f"{name}.npz is not in the data folder")
    data = load_dataset(name)
    mean, std = measured(data.images["train"], data.images["val"])
    assert DATASETS[name].mean == pytest.approx(mean, abs=6e-4)
    assert DATASETS[name].std == pytest.approx(std, abs=6e-4)


def test_only_the_splits_that_are_named_are_made():
    data = load_dataset("shapetex", sizes={"test": 3})
    assert list(data.images) == ["test"] and len(data.labels["test"]) == 3
    assert data.images["test"].tobytes() == make_shapetex(3, "test").images.tobytes()

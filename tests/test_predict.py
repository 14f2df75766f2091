"""What a trained network says of pictures, from the command line."""
import helpers
import numpy as np
import pytest
import torch
from helpers import tiny
from PIL import Image

from attnlib.__main__ import main
from attnlib.experiments.predict import evaluate, probabilities
from attnlib.experiments.weights import load_model
from attnlib.training.trainer import data_of, train

CBAM = "cifar10-resnet18-cbam-s0"           # its weights come with the repository


@pytest.fixture
def photo(tmp_path, monkeypatch):
    """photo.jpg in the working directory."""
    monkeypatch.chdir(tmp_path)
    return helpers.photo(tmp_path / "photo.jpg")


def test_predict_names_classes_and_draws(photo, out, capsys):
    assert main(["predict", CBAM, photo, "--top", "3", "--gradcam"]) == 0
    lines = capsys.readouterr().out.splitlines()
    shares = [float(line.split("%")[0]) for line in lines if line.startswith("   ")]
    assert len(shares) == 3 and shares == sorted(shares, reverse=True) and sum(shares) <= 100.1
    drawn, = (out / "results" / "predict").glob(f"photo-??????-{load_model(CBAM).id}.png")
    assert drawn.name in lines[-1] and Image.open(drawn).size > (800, 300)


def test_the_probabilities_are_the_networks_own(tmp_path, capsys):
    run = tiny()
    train(run)
    data, model = data_of(run), load_model(run)
    images = data.images["test"][:6]
    x = torch.from_numpy((images / 255 - np.array(data.mean)) / np.array(data.std)).float()
    with torch.no_grad():
        expected = model(x.permute(0, 3, 1, 2)).softmax(1).numpy()
    assert np.allclose(probabilities(model, images), expected, atol=1e-5)
    paths = [str(tmp_path / f"{k}.png") for k in range(6)]
    for image, path in zip(images, paths, strict=True):
        Image.fromarray(image).save(path)
    assert main(["predict", run.id, *paths, "--top", "1"]) == 0
    said = [line.split("%")[1].strip() for line in capsys.readouterr().out.splitlines()
            if line.startswith("   ")]
    assert said == [data.classes[k] for k in expected.argmax(1)]


def test_bad_files_are_named_in_one_go_and_what_is_asked_wrongly_is_one_line(photo, tmp_path,
                                                                             capsys):
    (tmp_path / "notes.txt").write_text("no picture")
    assert main(["predict", CBAM, "notes.txt", photo, "missing.png"]) == 1
    shown = capsys.readouterr()
    assert "photo.jpg" in shown.out and "2 of 3 pictures" in shown.err
    assert "notes.txt: it is not a picture" in shown.err
    assert "missing.png: it cannot be read: No such file" in shown.err
    assert main(["predict", CBAM, "missing.png", "--gradcam"]) == 1
    capsys.readouterr()
    assert main(["predict", "no-such-run", photo]) == 2
    assert CBAM in capsys.readouterr().err                # it lists what there is
    assert main(["predict", CBAM, photo, "--top", "0"]) == 2
    assert main(["evaluate", CBAM, "--split", "tset"]) == 2
    assert "train, val, test" in capsys.readouterr().err


def test_evaluate_finds_what_the_record_says(capsys):
    run = tiny(attention="se")
    record = train(run)
    found = evaluate(run)
    assert found["accuracy"] == found["recorded"] == pytest.approx(record["test"]["accuracy"])
    assert found["nll"] == pytest.approx(record["test"]["nll"], abs=1e-4)
    counts = np.bincount(data_of(run).split("test", run.n_test)[1], minlength=10)
    shares = np.array(list(found["per_class"].values()))
    assert (shares * counts).sum() / counts.sum() == pytest.approx(found["accuracy"])
    val = evaluate(run, "val")
    assert val["recorded"] == record["history"][-1]["val_accuracy"] == pytest.approx(
        val["accuracy"])
    assert evaluate(run, "train")["recorded"] is None
    capsys.readouterr()
    assert main(["evaluate", run.id]) == 0
    text = capsys.readouterr().out
    assert "a difference of +0.00 points" in text and text.count("\n") == 11

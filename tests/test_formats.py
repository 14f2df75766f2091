"""Trained networks in other formats, in torch.hub, in TensorBoard; and the pages that say so."""
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import setuptools
import torch
from helpers import (
    as_options,
    attnlib_commands,
    code_blocks,
    noisy_cifar10,
    page,
    put_record,
    tiny,
)

from attnlib.__main__ import main
from attnlib.blocks import ATTENTION
from attnlib.experiments import formats, published
from attnlib.settings import REPO
from attnlib.training import store
from attnlib.training.trainer import train

RUN = "cifar10-resnet18-cbam-s0-d2d94fc3"
INDEX = json.loads((REPO / "results" / "weights" / "index.json").read_text())["weights"]


def needs(extra: str, *modules: str) -> list:
    return [pytest.importorskip(name, reason=f"the extra [{extra}] is not installed")
            for name in modules]


def test_the_commands_of_export(out, tmp_path, monkeypatch, capsys):
    noisy_cifar10(tmp_path, 300)                # fewer than int8 would calibrate on
    monkeypatch.setenv("ATTNLIB_DATA", str(tmp_path))
    needs("onnx", "onnxruntime", "onnxscript")
    argvs = attnlib_commands(page("export"))
    assert [argv[-1] for argv in argvs] == [RUN, "torchscript", "onnx", "--int8"]
    for argv in [argvs[0], argvs[1], argvs[3]]:                         # the last has the third
        assert main(argv) == 0
    said = capsys.readouterr().out
    assert said.count("loaded again, probabilities differ by at most") == 3 and "opset 18" in said
    assert said.count("test accuracy") == said.count("ms an image on one thread") == 2
    sizes = {file.name.removeprefix(RUN): file.stat().st_size
             for file in (out / "results" / "weights").iterdir()}
    assert sizes.keys() == {".safetensors", ".ts", ".onnx", ".int8.onnx"}
    assert sizes[".int8.onnx"] < sizes[".onnx"] / 3 and sizes[".safetensors"] < sizes[".onnx"] / 1.9
    import onnx
    path = out / "results" / "weights" / f"{RUN}.onnx"
    model = onnx.load(path)
    assert [o.version for o in model.opset_import if not o.domain] == [formats.OPSET]
    assert str(REPO) not in str(model), "a path of this machine"
    header = json.loads({p.key: p.value for p in model.metadata_props}["attnlib"])
    assert header["id"] == RUN and len(header["classes"]) == 10
    one, many = np.zeros((1, 3, 32, 32), np.float32), np.zeros((7, 3, 32, 32), np.float32)
    run = formats.load_file(path)
    assert run(one).shape == (1, 10) and np.allclose(run(many).sum(1), 1)


def test_torchscript_of_a_run_of_ones_own_and_a_file_that_says_something_else(tmp_path,
                                                                             monkeypatch):
    run = tiny(epochs=1, attention="cbam")
    train(run)
    path, off = formats.export_as(run, "torchscript", tmp_path / "mine.ts")
    assert off <= formats.TOLERANCE[".ts"]
    assert len(torch.jit.load(path)(torch.rand(3, 3, 32, 32))) == 3
    with pytest.raises(ValueError, match=r"ends in \.ts"):
        formats.export_as(run, "torchscript", tmp_path / "mine.pt")
    monkeypatch.setattr(formats, "load_file", lambda path: lambda images: np.zeros((16, 10)))
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"mine\.ts is not written"):
        formats.export_as(run, "torchscript", tmp_path / "mine.ts")
    monkeypatch.setattr(formats, "load_file", lambda path: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        formats.export_as(run, "torchscript", tmp_path / "mine.ts")
    assert path.read_bytes() == before and [p.name for p in tmp_path.glob("*.ts")] == ["mine.ts"]
    assert main(["export", RUN, "--int8"]) == 2


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in ATTENTION if name != "none"])
def test_every_block_goes_to_onnx(name, tmp_path):
    needs("onnx", "onnxruntime", "onnxscript")
    run = tiny(epochs=1, attention=name, backbone="resnet18")
    train(run)
    assert formats.export_as(run, "onnx", tmp_path / "block.onnx")[1] <= formats.TOLERANCE[".onnx"]


@pytest.mark.filterwarnings("ignore")                  # tracing warns where a size is read
@pytest.mark.parametrize("name", ATTENTION)
def test_every_block_goes_to_onnx_through_torchscript_for_any_batch(name, tmp_path):
    ort, = needs("onnx", "onnxruntime")
    block, path = ATTENTION[name].make(16).eval(), tmp_path / "block.onnx"
    torch.onnx.export(block, (torch.randn(2, 16, 12, 12),), path, dynamo=False, input_names=["x"],
                      dynamic_axes={"x": {0: "n"}})
    x = torch.randn(5, 16, 12, 12)
    found, = ort.InferenceSession(path, providers=["CPUExecutionProvider"]).run(
        None, {"x": x.numpy()})
    np.testing.assert_allclose(found, block(x).detach(), rtol=1e-4, atol=1e-5)


# --- Published files ---


def test_torch_hub_has_an_entry_for_each_and_the_code_of_the_cards_works(monkeypatch, capsys):
    monkeypatch.chdir(REPO)
    for name, says in (("export", "['airplane', 'automobile'"),
                       ("shapetex", "(1000, 32, 32, 3) ('striped disc', ")):
        code, = code_blocks(page(name), "python")
        exec(code, {})
        assert capsys.readouterr().out.startswith(says)
    for row in INDEX:
        model = torch.hub.load(".", published.entry_name(row["id"]), source="local")
        assert model.id == row["id"] and not model.training


# --- TensorBoard ---


def test_the_commands_of_tensorboard(out, tmp_path, monkeypatch, capsys):
    needs("tensorboard", "tensorboard")
    real = out / "results" / "runs" / "real"
    real.mkdir(parents=True)
    for row in sorted(INDEX, key=lambda row: row["id"] != RUN)[:2]:
        name = f"{row['id']}.json"
        (real / name).write_bytes((REPO / "results" / "runs" / "real" / name).read_bytes())
    store.write_record("real", put_record(tiny(), "real") | {"run": {"attention": "of elsewhere"}})
    put_record(tiny(epochs=1), "own")                           # another that begins alike
    assert main(["runs", "tensorboard", tiny().id[:-8], "--profile", "real"]) == 0
    for argv in attnlib_commands(page("tensorboard")):
        assert main(argv) == 0
    assert re.findall(r"(\d) runs: tensorboard --logdir results/tensorboard",
                      capsys.readouterr().out) == ["1", "3", "1", "1"]
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def scalars(folder: Path) -> dict[str, list]:
        events = EventAccumulator(str(folder)).Reload()
        return {tag: events.Scalars(tag) for tag in events.Tags()["scalars"]}
    own, = (out / "results" / "tensorboard" / "own").iterdir()
    assert len(scalars(own)["loss/train"]) == 2
    record = store.read_record("real", RUN)
    found = scalars(out / "results" / "tensorboard" / "real" / RUN)     # written twice: there once
    assert [(e.step, round(e.value, 5)) for e in found["accuracy/val"]] == [
        (k, round(row["val_accuracy"], 5)) for k, row in enumerate(record["history"], 1)]
    passed = sum(row["seconds"] for row in record["history"])
    assert found["accuracy/val"][-1].wall_time == pytest.approx(passed, abs=1e-3)
    assert found["test/accuracy"][0].value == pytest.approx(record["test"]["accuracy"])


# --- Installed ---


def test_installed_it_has_the_command_attnlib(tmp_path):
    """A wheel in a fresh environment, beside the packages that are here; results go to the working
    directory, where there is no repository."""
    if int(setuptools.__version__.partition(".")[0]) < 77:
        pytest.skip("it is built with setuptools 77 or later")

    def run(*command):
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=env)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout
    env = {name: value for name, value in os.environ.items() if not name.startswith("ATTNLIB")
           and name != "PYTHONPATH"}
    shutil.copytree(REPO / "attnlib", tmp_path / "clone" / "attnlib")      # building leaves things
    for name in ("pyproject.toml", "requirements.txt", "README.md", "LICENSE"):
        shutil.copy(REPO / name, tmp_path / "clone" / name)
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w",
        str(tmp_path), str(tmp_path / "clone"))
    wheel, = tmp_path.glob("*.whl")
    run(sys.executable, "-m", "venv", "fresh")
    bin_, site = tmp_path / "fresh" / "bin", next((tmp_path / "fresh").glob("lib/*/site-packages"))
    run(bin_ / "python", "-m", "pip", "install", "-q", "--no-deps", str(wheel))
    here = [path for path in sys.path if path.endswith("site-packages")]
    (site / "here.pth").write_text("\n".join(here))
    assert "test accuracy" in run(bin_ / "attnlib", "train", *as_options(tiny(epochs=1)))
    assert len(list((tmp_path / "results" / "runs" / "own").glob("*.json"))) == 1
    said = run(bin_ / "python", "-c",
               "from attnlib.experiments.published import TEMPLATE as t; print(t, t.is_file())")
    assert said.startswith(str(site)) and "True" in said

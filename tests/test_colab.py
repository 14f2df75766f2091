"""The first cell of the notebooks, on a Colab that is none: a faked module, git and pip."""
import os
import subprocess
import sys
import types

import pytest

from attnlib.experiments import planning
from attnlib.report import colab
from attnlib.report.notebooks import listed, notebooks_dir, read
from attnlib.settings import REPO, runs_dir

CELLS = {path.stem: next(c.source for c in read(path).cells if c.cell_type == "code")
         for path in listed(notebooks_dir())}
CELL = "\n".join(line for line in CELLS["01_data"].splitlines() if not line.startswith("%"))
HARNESS = """
import os, sys
sys.meta_path[:] = [f for f in sys.meta_path if "editable" not in repr(f)]
sys.path[:] = [p for p in sys.path if not os.path.isdir(os.path.join(p or ".", "attnlib"))]
if {colab}: import google.colab
source = {cell!r}
if {address!r}: source = source.replace('REPOSITORY = ""', 'REPOSITORY = ' + {address!r})
for _ in range({times}): exec(source, globals())
if {colab}: import attnlib; print("IMPORTED", os.path.realpath(attnlib.__file__))
"""
GIT = """#!/bin/sh
echo "git $*" >> "{log}"
for last; do :; done
mkdir "$last" && cd "$last" && ln -s "{repo}/attnlib" "{repo}/notebooks" .
"""
PIP = "import sys; open({log!r}, 'a').write('pip ' + ' '.join(sys.argv[1:]) + chr(10))"


@pytest.fixture
def machine(tmp_path):
    """A folder with a faked google.colab, git and pip, each of which logs its calls."""
    stubs, log = tmp_path / "stubs", tmp_path / "log"
    (stubs / "google" / "colab").mkdir(parents=True)
    (stubs / "google" / "__init__.py").touch()
    (stubs / "google" / "colab" / "__init__.py").touch()
    (stubs / "google" / "colab" / "drive.py").write_text(
        f"def mount(where): open({str(log)!r}, 'a').write('mount ' + where + chr(10))")
    (stubs / "pip").mkdir()
    (stubs / "pip" / "__init__.py").touch()
    (stubs / "pip" / "__main__.py").write_text(PIP.format(log=str(log)))
    (tmp_path / "bin").mkdir()
    git = tmp_path / "bin" / "git"
    git.write_text(GIT.format(log=log, repo=REPO))
    git.chmod(0o755)
    return tmp_path


def run_cell(machine, colab=True, address="https://example.org/a.git", times=1):
    """Run the cell in a fresh process; its output, errors, exit code and the logged calls."""
    where = machine / "content"
    where.mkdir(exist_ok=True)
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    env |= {"PATH": f"{machine / 'bin'}{os.pathsep}{env['PATH']}", "PYTHONPATH":
            str(machine / "stubs"), "ATTNLIB_OUT": str(machine / "out"), "CUDA_VISIBLE_DEVICES": ""}
    text = HARNESS.format(cell=CELL, colab=colab, times=times,
                          address=repr(address) if address else "")
    done = subprocess.run([sys.executable, "-c", text], cwd=where, env=env, capture_output=True,
                          text=True, timeout=300)
    log = machine / "log"
    return done, log.read_text().splitlines() if log.exists() else []


def test_all_notebooks_begin_with_the_same_cell():
    assert len(CELLS) == 7 and len(set(CELLS.values())) == 1
    assert "%autoreload 2" in CELLS["01_data"]


def test_elsewhere_it_is_silent(machine):
    done, calls = run_cell(machine, colab=False)
    assert (done.returncode, done.stdout, done.stderr, calls) == (0, "", "", [])


def test_on_colab_it_fetches_reports_and_may_be_run_again(machine):
    done, calls = run_cell(machine, times=2)
    assert done.returncode == 0, done.stderr
    assert calls == ["git clone -q --depth 1 https://example.org/a.git compendium"]
    assert done.stdout.count("no GPU") == 2 and "IMPORTED" in done.stdout
    assert "torch 2." in done.stdout and "profile smoke" in done.stdout
    # The kernel is restarted: the clone is there, and grad-cam is missing.
    hide = machine / "stubs" / "sitecustomize.py"
    hide.write_text("import importlib.util as u\nfind = u.find_spec\n"
                    "u.find_spec = lambda n, p=None: None if n == 'pytorch_grad_cam' "
                    "else find(n, p)\n")
    done, calls = run_cell(machine)
    assert done.returncode == 0, done.stderr
    assert calls[1:] == ["pip install -q grad-cam"]                             # and no torch


def test_without_an_address_it_says_what_to_set(machine):
    done, calls = run_cell(machine, address="")
    assert done.returncode and "set REPOSITORY" in done.stderr and calls == []


# --- What it says ---


def fake_drive(monkeypatch, mount):
    google = types.ModuleType("google.colab")
    google.drive = types.SimpleNamespace(mount=mount)
    monkeypatch.setitem(sys.modules, "google.colab", google)


def test_on_drive_results_begin_with_the_records_of_the_repository(monkeypatch, tmp_path):
    mounted = []
    fake_drive(monkeypatch, mounted.append)
    monkeypatch.setattr(colab, "DRIVE", str(tmp_path))
    mine = tmp_path / "MyDrive/attnlib/results/runs/pilot/mine.json"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    assert "kept in MyDrive" in colab.use_drive() and mounted == [str(tmp_path)]
    there = {p.name for p in (REPO / "results/runs/pilot").iterdir()}
    assert {p.name for p in runs_dir("pilot").iterdir()} == there | {"mine.json"}
    assert os.environ["ATTNLIB_OUT"] == str(tmp_path / "MyDrive" / "attnlib")


def test_a_drive_that_is_refused_is_said_and_not_used(monkeypatch):
    def refuse(where):
        raise RuntimeError("credential propagation was unsuccessful")
    fake_drive(monkeypatch, refuse)
    before = os.environ["ATTNLIB_OUT"]
    assert "not used (credential" in colab.use_drive()
    assert os.environ["ATTNLIB_OUT"] == before


def test_minutes_are_those_of_each_notebooks_studies(monkeypatch):
    monkeypatch.setenv("ATTNLIB_PROFILE", "small")
    found = colab.minutes()
    assert list(found) == list(CELLS) and found["01_data"] == found["07_report"] == 0
    seconds = sum(map(planning.estimate_seconds, planning.study("se", "small")))
    assert found["03_se"] >= seconds / 60 > 0
    assert "03_se" in colab.minutes_words() and "01_data" not in colab.minutes_words()
    monkeypatch.setattr(colab, "minutes", dict)
    assert "nothing to train" in colab.minutes_words()


def test_the_profile_and_its_reason(monkeypatch, tmp_path):
    monkeypatch.setenv("ATTNLIB_DATA", str(tmp_path))
    assert "profile smoke" in colab.profile_words() and "says so" in colab.profile_words()
    monkeypatch.delenv("ATTNLIB_PROFILE")
    assert "data get cifar10 fashionmnist" in colab.profile_words()
    (tmp_path / "cifar10.npz").touch()
    assert not planning.real_is_here()
    (tmp_path / "FashionMNIST" / "raw").mkdir(parents=True)
    (tmp_path / "FashionMNIST" / "raw" / "t10k-labels-idx1-ubyte").touch()
    assert planning.real_is_here() and "there is no GPU" in colab.profile_words()
    monkeypatch.setattr(planning, "machine", lambda: types.SimpleNamespace(device="cuda"))
    assert colab.profile_words().startswith("profile pilot") and "are here" in colab.profile_words()


def test_a_gpu_is_named(monkeypatch):
    import torch
    monkeypatch.setattr(colab, "machine", lambda: types.SimpleNamespace(device="cuda"))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla T4")
    monkeypatch.setattr(torch.cuda, "get_device_properties",
                        lambda k: types.SimpleNamespace(total_memory=15 * 2**30))
    assert colab.gpu_words() == "GPU: Tesla T4, 15 GiB"

"""The first cell of the notebooks, on a Colab that is none: a faked module, git and pip."""
import os
import re
import subprocess
import sys
import types

import pytest

from attnlib.report import colab
from attnlib.report.notebooks import notebooks_dir, notebooks_in, read_notebook
from attnlib.settings import REPO, runs_dir

CELLS = {path.stem: next(c.source for c in read_notebook(path).cells if c.cell_type == "code")
         for path in notebooks_in(notebooks_dir())}
CELL = "\n".join(line for line in CELLS["01_data"].splitlines() if not line.startswith("%"))
HARNESS = """
import os, sys
sys.meta_path[:] = [f for f in sys.meta_path if "editable" not in repr(f)]
sys.path[:] = [p for p in sys.path if not os.path.isdir(os.path.join(p or ".", "attnlib"))]
if {colab}: import google.colab
source = {cell!r}
if {address!r}: source = source.replace('REPOSITORY = ""', 'REPOSITORY = ' + {address!r})
for _ in range({times}): exec(source, globals())
{after}
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
    log = str(tmp_path / "log")
    for name, text in {
            "stubs/google/__init__.py": "", "stubs/google/colab/__init__.py": "",
            "stubs/pip/__init__.py": "", "stubs/pip/__main__.py": PIP.format(log=log),
            "bin/git": GIT.format(log=log, repo=REPO)}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "bin" / "git").chmod(0o755)
    return tmp_path


def run_cell(machine, colab=True, address="https://example.org/a.git", times=1,
             after="if 'google.colab' in sys.modules: import attnlib; print('IMPORTED')"):
    """Run the cell in a fresh process; its output, errors, exit code and the logged calls."""
    where = machine / "content"
    where.mkdir(exist_ok=True)
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    env |= {"PATH": f"{machine / 'bin'}{os.pathsep}{env['PATH']}", "PYTHONPATH":
            str(machine / "stubs"), "ATTNLIB_OUT": str(machine / "out"), "CUDA_VISIBLE_DEVICES": ""}
    text = HARNESS.format(cell=CELL, colab=colab, times=times, after=after,
                          address=repr(address) if address else "")
    done = subprocess.run([sys.executable, "-c", text], cwd=where, env=env, capture_output=True,
                          text=True, timeout=300)
    log = machine / "log"
    return done, log.read_text().splitlines() if log.exists() else []


def test_on_colab_it_fetches_reports_and_may_be_run_again_and_elsewhere_it_is_silent(machine):
    assert len(CELLS) == 7 and len(set(CELLS.values())) == 1, "all notebooks begin with this cell"
    assert "%autoreload 2" in CELLS["01_data"]
    done, calls = run_cell(machine, colab=False)
    assert (done.returncode, done.stdout, done.stderr, calls) == (0, "", "", [])
    assert "set REPOSITORY above" in run_cell(machine, address="", after="")[0].stdout
    hide = machine / "stubs" / "sitecustomize.py"                    # two packages are missing
    hide.write_text("import importlib.metadata as m\nfind = m.version\ndef version(name):\n"
                    "    if name in ('grad-cam', 'pooch'): raise m.PackageNotFoundError(name)\n"
                    "    return find(name)\nm.version = version\n")
    done, calls = run_cell(machine, times=2)
    assert done.returncode == 0, done.stderr
    assert calls == ["git clone -q --depth 1 https://example.org/a.git compendium",
                     *["pip install -q pooch grad-cam"] * 2]                    # and no torch
    assert done.stdout.count("no GPU") == 2 and "IMPORTED" in done.stdout
    assert "torch 2." in done.stdout and "profile auto" in done.stdout


def test_what_colab_installs_is_every_requirement_but_tools():
    lines = (REPO / "requirements.txt").read_text().splitlines()
    wanted = {re.match(r"[\w-]+", line)[0] for line in lines if not line.startswith("#")}
    tools = {"jupyterlab", "ipykernel", "papermill", "nbconvert", "nbformat", "latex2mathml",
             "nbval", "pytest", "pytest-xdist", "ruff", "import-linter"}
    assert wanted - tools == set(colab.NEEDED)


# --- Where the cell gets the project ---


@pytest.mark.parametrize(("remote", "found"), [
    ("https://github.com/ann/attention.git", "https://github.com/ann/attention"),
    ("https://ann:secret@github.com/ann/attention/", "https://github.com/ann/attention"),
    ("git@gitlab.com:lab/ann/attention.git", "https://gitlab.com/lab/ann/attention"),
    ("ssh://git@github.com/ann/attention", "https://github.com/ann/attention"),
    ("/srv/attention.git", "https://cited.org/a/b"), ("", "https://cited.org/a/b")])
def test_the_address_is_the_remotes_or_the_cited_one(tmp_path, monkeypatch, remote, found):
    monkeypatch.setattr(colab, "REPO", tmp_path)
    (tmp_path / "CITATION.cff").write_text('title: "x"\nrepository-code: "https://cited.org/a/b"\n')
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    if remote:
        subprocess.run(["git", "remote", "add", "origin", remote], cwd=tmp_path, check=True)
    assert colab.address() == found
    (tmp_path / "CITATION.cff").unlink()
    monkeypatch.setenv("PATH", str(tmp_path))                   # and no git
    assert colab.address() == ""


def test_published_notebooks_know_where_they_come_from(monkeypatch):
    def published(where):
        monkeypatch.setattr(colab, "address", lambda: where)
        return colab.addressed(nb, "01_data").cells
    nb = read_notebook(notebooks_dir() / "01_data.ipynb")
    before = [cell.source for cell in nb.cells]
    assert [cell.source for cell in published("")] == before
    for where in ("https://github.com/ann/a", "https://github.com/ben/b"):      # a fork of it
        title, _, badge, *rest = published(where)[0].source.splitlines()
        assert title.startswith("# 01") and rest == before[0].splitlines()[1:]
        assert badge.endswith(where.removeprefix("https://github.com/")
                              + "/blob/main/notebooks/01_data.ipynb)")
        assert f'REPOSITORY = "{where}"  # the address' in nb.cells[1].source
    assert "colab-badge" not in published("https://gitlab.com/ann/a")[1].source


# --- What it says ---


def test_on_drive_results_begin_with_the_records_of_the_repository(monkeypatch, tmp_path):
    mounted, google = [], types.ModuleType("google.colab")
    google.drive = types.SimpleNamespace(mount=mounted.append)
    monkeypatch.setitem(sys.modules, "google.colab", google)
    monkeypatch.setattr(colab, "DRIVE", str(tmp_path))
    mine = tmp_path / "MyDrive/attnlib/results/runs/pilot/mine.json"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    colab.use_drive()
    assert mounted == [str(tmp_path)]
    there = {p.name for p in (REPO / "results/runs/pilot").iterdir()}
    assert {p.name for p in runs_dir("pilot").iterdir()} == there | {"mine.json"}
    assert os.environ["ATTNLIB_OUT"] == str(tmp_path / "MyDrive" / "attnlib")

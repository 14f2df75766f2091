"""What the command line is given and where its output goes: odd characters, closed output, names in
bytes, values that cannot be. The work is done, or one line says what is wrong before it starts."""
import json
import os
import subprocess
import sys

import nbformat
import pytest
from helpers import as_options, notebook, photo, tiny

from attnlib import files, settings
from attnlib.__main__ import main
from attnlib.report import notebooks
from attnlib.settings import REPO, shortened
from attnlib.training import store

CBAM = "cifar10-resnet18-cbam-s0"           # its weights come with the repository
BYTES = os.fsdecode(b"caf\xe9.jpg")         # Latin-1 on a machine of UTF-8
CJK = "写真" * 40 + ".jpg"                   # 80 characters, 240 bytes: no room for an ending more
OPTIONS = as_options(tiny())


def python(*args: str, cwd=REPO, redirect: str = "", **env: str):
    """``python ARGS`` as a shell starts it, so that it may be given closed output."""
    return subprocess.run(["sh", "-c", f'exec "$0" "$@" {redirect}', sys.executable, *args],
                          capture_output=True, cwd=cwd, timeout=200,
                          env={**os.environ, "PYTHONPATH": str(REPO), **env})


# --- Where output goes ---


def test_predict_in_a_terminal_that_lacks_characters(tmp_path):
    name = photo(tmp_path / "日本.jpg")
    done = python("-m", "attnlib", "predict", CBAM, name, "--top", "1", cwd=tmp_path,
                  PYTHONIOENCODING="cp1252")
    assert done.returncode == 0 and not done.stderr, done
    assert b"??.jpg" in done.stdout and b" %  " in done.stdout


@pytest.mark.parametrize(("redirect", "encoding"), [("<&- >&- 2>&-", ""), ("", "ascii")])
def test_train_where_output_is_closed_or_lacks_characters(redirect, encoding):
    done = python("-m", "attnlib", "train", *OPTIONS, redirect=redirect, PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stderr) == (0, b"")
    assert (b"32?32?3" if encoding else b"") in done.stdout
    assert store.finished_record("own", tiny().id)


@pytest.fixture
def book(tmp_path, monkeypatch):
    """The one notebook of a repository; it says which Python executes it."""
    monkeypatch.setattr(settings, "REPO", tmp_path)
    (tmp_path / "notebooks").mkdir()
    nbformat.write(notebook("import sys; print('seen by', sys.executable, '→')"),
                   tmp_path / "notebooks" / "01_who.ipynb")
    return tmp_path / "out" / "results" / "executed" / "01_who.ipynb"


def test_a_users_kernel_of_our_name_whose_python_is_gone(book, tmp_path, monkeypatch):
    """Ours is used, by its path: the other one is left alone."""
    spec = tmp_path / "jupyter" / "kernels" / "python3"
    spec.mkdir(parents=True)
    (spec / "kernel.json").write_text(json.dumps({
        "argv": ["/gone/bin/python", "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": "Python 3", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))       # before any other
    assert notebooks.run_books() == 0
    assert f"seen by {sys.executable}" in book.read_text(encoding="utf-8")


def test_notebooks_with_closed_output(book, tmp_path):
    code = ("import pathlib, sys\nfrom attnlib import settings\nfrom attnlib.__main__ import main\n"
            f"settings.REPO = pathlib.Path({str(tmp_path)!r})\n"
            "sys.exit(main(['notebooks', 'run']))")
    done = python("-c", code, redirect=">&-")
    assert (done.returncode, done.stdout) == (0, b""), done
    assert "seen by" in book.read_text(encoding="utf-8")


# --- Names in bytes ---


@pytest.mark.parametrize("name", [BYTES, CJK])
def test_a_picture_of_an_odd_name_is_predicted_and_drawn(tmp_path, monkeypatch, out, name):
    monkeypatch.chdir(tmp_path)
    photo(tmp_path / name)
    assert main(["predict", CBAM, name, "--gradcam", "--top", "1"]) == 0
    drawn, = (out / "results" / "predict").iterdir()
    assert drawn.name.startswith(("caf-", "写真写真")) and len(os.fsencode(drawn.name)) < 255


def test_a_file_of_an_odd_name_that_cannot_be_used_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["predict", CBAM, BYTES, "長" * 100]) == 1
    said = capsys.readouterr().err
    assert r"caf\udce9.jpg: it cannot be read: No such file" in said and "長長長" in said
    assert main(["export", CBAM, "--output", "長" * 100 + ".safetensors"]) == 2
    said = capsys.readouterr().err
    assert "長長長" in said and "File name too long. Give a shorter name" in said
    (tmp_path / BYTES).mkdir()                          # as data: their run could not be recorded
    for kind in ("folder", "npz"):
        assert main(["train", "--dataset", f"{kind}:{BYTES}", *OPTIONS]) == 2
        assert r"caf\udce9.jpg' is not UTF-8" in capsys.readouterr().err


def test_a_name_is_cut_by_bytes_and_in_whole_characters(tmp_path):
    assert shortened("日本語", 7) == "日本" and shortened("plain", 7) == "plain"
    assert shortened(BYTES, 99) == "caf.jpg"
    files.write_atomic(tmp_path / CJK, b"x")            # the temporary name fits as well
    assert (tmp_path / CJK).read_bytes() == b"x" and len(os.listdir(tmp_path)) == 1


# --- Values that cannot be, found before the start ---


@pytest.mark.parametrize(("options", "variables", "words"), [
    (["--seed", "1700000000000"], {},
     "seed=1700000000000 should be a whole number at least 0 and below"),
    (["--width", "nan"], {}, "width=nan should be a number above 0 and below 32"),
    (["--batch-size", "9000000000000"], {},
     "batch_size=9000000000000 should be a whole number above"),
    (OPTIONS, {"ATTNLIB_OUT": "~nobody-of-that-name/x"}, "ATTNLIB_OUT=~nobody-of-that-name/x: "
     "there is no home folder ~nobody-of-that-name; write it out\n"),
    (OPTIONS, {"ATTNLIB_DATA": "~/x"},
     "ATTNLIB_DATA=~/x: there is no home folder ~; write it out\n")])
def test_a_number_out_of_range_or_a_home_that_is_none(capsys, monkeypatch, options, variables,
                                                      words):
    for name, value in ({"HOME": "/no/such/home"} | variables).items():
        monkeypatch.setenv(name, value)
    assert main(["train", *options]) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith(f"error: {words}") and shown.err.count("\n") == 1
    assert not shown.out


@pytest.mark.parametrize(("argv", "words"), [
    (["study", "se", "--profile", "own"], "unknown profile 'own'; valid: auto, smoke, small"),
    (["study", "se", "--profile", "best"], "unknown profile 'best'; valid: auto, smoke, small"),
    (["runs", "clean", "--dry-run"], "runs clean takes no --dry-run: nothing was done"),
    (["runs", "check", "--profile", "own", "an-id"], "runs check takes no ids: nothing was done"),
    (["bench", "--minutes", "0"], "--minutes 0 should be above 0")])
def test_what_a_command_does_not_take_is_one_line(capsys, argv, words):
    assert main(argv) == 2
    assert capsys.readouterr().err.startswith(f"error: {words}")


@pytest.mark.parametrize(("argv", "wrong", "option"), [
    (["train", "--batchsize", "32"], "--batchsize", "[--batch-size BATCH_SIZE]"),
    (["predict", "x", "y", "--gradcm"], "--gradcm", "[--gradcam]")])
def test_an_option_that_is_none_is_named_beside_the_commands_own(capsys, argv, wrong, option):
    with pytest.raises(SystemExit) as stop:
        main(argv)
    said = capsys.readouterr().err
    assert stop.value.code == 2 and option in said
    assert said.endswith(f"error: unrecognized arguments: {wrong}\n")


def test_names_may_stand_behind_options(capsys):
    assert main(["notebooks", "check", "--profile", "small", "99"]) == 2
    assert "'99'" in capsys.readouterr().err


def test_a_study_without_runs_in_a_profile_says_where_it_has_some(capsys):
    assert main(["study", "finetune", "--profile", "small", "--plan"]) == 0
    assert "no runs in small; it has some in real" in capsys.readouterr().out


def test_help_comes_at_once():
    """It lists the commands, and PyTorch is not loaded for that."""
    code = ("import sys; from attnlib.__main__ import main\n"
            "try: main(['--help'])\nfinally: print('torch' in sys.modules)")
    done = python("-c", code)
    assert done.returncode == 0 and done.stdout.endswith(b"False\n"), done
    assert all(b"\n    %b " % name in done.stdout for name in (b"train", b"study", b"runs"))

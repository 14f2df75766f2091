"""The package's front door."""
import subprocess
import sys
from pathlib import Path

import pytest

import attnlib
from attnlib.settings import REPO


def test_every_public_name_is_there_and_an_unknown_one_lists_them():
    assert all(getattr(attnlib, name) is not None for name in attnlib.HOME)
    assert {*attnlib.HOME} <= {*dir(attnlib)}
    with pytest.raises(AttributeError, match="no 'trian'.*train"):
        attnlib.trian  # noqa: B018


LONG = {"attnlib/__main__.py", "attnlib/bench/bench.py", "attnlib/report/notebooks.py"}


def test_a_file_is_one_idea_and_the_package_small():
    """At most 300 lines a file; LONG has those that are still to be split, and none may join."""
    lines = {path.relative_to(REPO).as_posix(): len(path.read_text(encoding="utf-8").splitlines())
             for path in (REPO / "attnlib").rglob("*.py")}
    assert {name for name, count in lines.items() if count > 300} <= LONG
    assert sum(lines.values()) <= 14_000


def test_rooms_import_downwards_alone():
    """pyproject.toml says which room stands on which."""
    done = subprocess.run([Path(sys.executable).parent / "lint-imports", "--no-cache"], cwd=REPO,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stdout

"""The package's front door."""
import ast
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import attnlib
from attnlib.settings import REPO


def test_every_public_name_is_there_and_an_unknown_one_lists_them():
    assert all(getattr(attnlib, name) is not None for name in attnlib.HOME)
    assert {*attnlib.HOME} <= {*dir(attnlib)}
    with pytest.raises(AttributeError, match="no 'trian'.*train"):
        attnlib.trian  # noqa: B018


def test_a_file_is_one_idea_and_the_package_small():
    """At most 300 lines a file. The sum is what it is today: it may fall, not rise."""
    lines = {path.relative_to(REPO).as_posix(): len(path.read_text(encoding="utf-8").splitlines())
             for path in (REPO / "attnlib").rglob("*.py")}
    assert max(lines.values()) <= 300
    assert sum(lines.values()) <= 12_440


def test_no_two_public_functions_have_one_name():
    """A command of commands.py is called as its verb; all else has one meaning in the package."""
    names = [node.name for path in (REPO / "attnlib").rglob("*.py") if path.name != "commands.py"
             for node in ast.parse(path.read_text(encoding="utf-8")).body
             if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
    assert [name for name, n in Counter(names).items() if n > 1 and name != "__getattr__"] == []


def test_rooms_import_downwards_alone():
    """pyproject.toml says which room stands on which."""
    done = subprocess.run([Path(sys.executable).parent / "lint-imports", "--no-cache"], cwd=REPO,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stdout

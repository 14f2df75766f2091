"""What must not be in the package: ruff's rules of pyproject.toml, shown to find each, and
what it has none for."""
import re
import subprocess
import sys
from pathlib import Path

from attnlib.settings import REPO

BAD = """import pickle
import os, pickle as p
from pickle import loads
import joblib.memory
eval('1')
exec(text)
os.system('ls')
os.popen('ls')
subprocess.run('ls', shell=True)
yaml.load(f)
archive.extractall(folder)
shutil.unpack_archive(f)
"""
GOOD = """re.compile('x')
model.eval()
ast.literal_eval(x)
archive.extractall(folder, filter='data')
subprocess.run(['ls'], shell=False)
yaml.safe_load(f)
"""
IMPORTS = "import ast, os, re, shutil, subprocess, tarfile, torch, yaml\n"


def offences(source: str) -> set[int]:
    """The lines in which the package's rules find something that could execute data."""
    done = subprocess.run([Path(sys.executable).parent / "ruff", "check", "--output-format=concise",
                           "--stdin-filename", "attnlib/made_up.py", "-"], cwd=REPO, text=True,
                          input=IMPORTS + source, capture_output=True)
    return {int(line) - 1 for line in re.findall(r"made_up.py:(\d+):\d+: (?:S\d|TID)", done.stdout)}


def test_the_rules_find_what_could_execute_data():
    assert offences(BAD) == set(range(1, len(BAD.splitlines()) + 1))
    assert offences(GOOD) == set()


def test_a_module_does_nothing_that_ruff_has_no_rule_for():
    for path in (REPO / "attnlib").rglob("*.py"):
        source = path.read_text(encoding="utf-8")
        assert not re.search(r"""allow_pickle=(?!False)|__import__\(|filter=.tar""", source)
        assert source.count("torch.load(") == source.count("weights_only=True"), path

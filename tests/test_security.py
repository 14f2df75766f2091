"""What must not be in the package, found by walking its syntax trees; and on samples, that the walk
finds it."""
import ast
from pathlib import Path

import pytest

import attnlib

MODULES = sorted(Path(attnlib.__file__).parent.rglob("*.py"))
PICKLES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
CALLS = {"eval", "exec", "compile", "__import__"}          # as bare names; re.compile is none
SHELLS = {"os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"}


def offences(source: str) -> list[str]:
    """What a module does that ours must not, each as ``line: what``."""
    return [f"{node.lineno}: {what}" for node in ast.walk(ast.parse(source))
            for what in offence(node)]


def offence(node: ast.AST):
    """What is wrong with one node of a syntax tree."""
    if isinstance(node, ast.Import):
        yield from (f"import {a.name}" for a in node.names if a.name.split(".")[0] in PICKLES)
    if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in PICKLES:
        yield f"from {node.module}"
    if not isinstance(node, ast.Call):
        return
    called, given = ast.unparse(node.func), {k.arg: k.value for k in node.keywords}
    last = called.rpartition(".")[2]
    if called in CALLS or called.startswith("builtins.") or called in SHELLS:
        yield called
    if "shell" in given and not is_constant(given["shell"], False):
        yield "shell="
    if called == "yaml.load":
        yield called
    if called in ("torch.load", "load") and not is_constant(given.get("weights_only"), True):
        yield f"{called} without weights_only=True"
    if "allow_pickle" in given and not is_constant(given["allow_pickle"], False):
        yield "allow_pickle="
    if last in ("extractall", "extract") and not is_constant(given.get("filter"), "data"):
        yield f"{last} without the data filter"
    if last == "unpack_archive":
        yield last


def is_constant(node: ast.AST | None, value) -> bool:
    return isinstance(node, ast.Constant) and node.value is value or (
        isinstance(node, ast.Constant) and isinstance(value, str) and node.value == value)


@pytest.mark.parametrize("path", MODULES, ids=[path.stem for path in MODULES])
def test_a_module_does_nothing_that_could_execute_data(path):
    assert offences(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("source", [
    "import pickle", "import os, pickle as p", "from pickle import loads", "import joblib.memory",
    "def f():\n    import dill", "eval('1')", "exec(text)", "compile(text, '', 'exec')",
    "__import__('os')", "builtins.eval(x)", "os.system('ls')", "os.popen('ls')",
    "subprocess.run('ls', shell=True)", "subprocess.Popen(c, shell=flag)", "yaml.load(f)",
    "torch.load(f)", "torch.load(f, weights_only=False)", "torch.load(f, weights_only=flag)",
    "torch.load(f, map_location='cpu')", "np.load(f, allow_pickle=True)",
    "archive.extractall(folder)", "archive.extractall(folder, filter='tar')",
    "shutil.unpack_archive(f)"])
def test_the_walk_finds_it(source):
    assert len(offences(source)) == 1


@pytest.mark.parametrize("source", [
    "re.compile('x')", "model.eval()", "torch.load(f, weights_only=True)", "ast.literal_eval(x)",
    "archive.extractall(folder, filter='data')", "np.load(f, allow_pickle=False)",
    "subprocess.run(['ls'], shell=False)", "yaml.safe_load(f)", "json.load(f)"])
def test_the_walk_leaves_alone(source):
    assert offences(source) == []

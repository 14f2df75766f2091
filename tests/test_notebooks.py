"""Running, publishing, checking and rendering, on made-up notebooks of a few cells."""
import os
import re
from functools import partial
from pathlib import Path

import nbformat
import pytest
from helpers import notebook
from nbformat.v4 import new_output

from attnlib import settings
from attnlib.report import notebooks
from attnlib.report import page as report

PARAMETERS = 'profile: str = "auto"  # help\nsteps: int = 1\nwidths: list = [1]'
RED_DOT = ("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5"
           "ErkJggg==")


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty repository in a folder whose name has spaces, braces and brackets."""
    repo = tmp_path / "a repo {of} [mine]"
    (repo / "notebooks").mkdir(parents=True)
    monkeypatch.setattr(settings, "REPO", repo)
    monkeypatch.setenv("ATTNLIB_OUT", str(repo))
    monkeypatch.delenv("ATTNLIB_PROFILE", raising=False)
    return repo


make = partial(notebook, parameters=PARAMETERS)


def executed(*sources: str):
    """The same, as if published: every cell has run and the last one has printed."""
    nb = make(*sources)
    for k, cell in enumerate(nb.cells[1:], 1):
        cell.execution_count = k
    nb.cells[-1].outputs = [new_output("stream", text="profile: real (words)\n")]
    return notebooks.with_outputs_marked(nb)


def store(home: Path, name: str, nb) -> Path:
    path = home / "notebooks" / f"{name}.ipynb"
    nbformat.write(nb, path)
    return path


def text_of(path: Path) -> str:
    return "".join(text for _, _, text in notebooks.outputs(notebooks.read_notebook(path)))


def names_in(folder: Path) -> list[str]:
    return sorted(os.listdir(folder)) if folder.is_dir() else []


def test_run_succeeds_and_fails_by_notebook(home, capfd, monkeypatch):
    monkeypatch.chdir(home)
    monkeypatch.setenv("ATTNLIB_OUT", ".")          # relative: a kernel works in another folder
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.delenv("PYTEST_CURRENT_TEST")       # in which a kernel does not listen to children
    good = store(home, "01_good", make(
        "import os, subprocess\nfrom pathlib import Path",
        "print('steps', steps, 'widths', widths, flush=True)",
        "print(os.environ['ATTNLIB_OUT'], 'inline' in os.environ['MPLBACKEND'], Path.cwd().name)",
        "import attnlib", "_ = subprocess.run(['echo', 'a child'])"))
    bad = store(home, "02_bad", make("# a remark\n1 / 0", "print('never')"))
    before = good.read_bytes(), bad.read_bytes()
    out = home / "results" / "executed"

    assert notebooks.run_books(parameters={"steps": "3", "widths": (1, 2)}) == 1

    said = capfd.readouterr().out
    assert said.count("steps 3 widths [1, 2]") == 1         # live; parameters of their own kind
    assert said.count("a child") == 1
    assert re.search(r"01_good … \d+ s\n", said)
    assert re.search(r"02_bad … \d+ s: failed: In \[3\] `# a remark`: ZeroDivisionError: division "
                     r"by zero; see results/executed/02_bad\.failed\.ipynb", said)
    assert "1 of 2 notebooks done, 1 failed" in said and "never" not in said
    assert names_in(out) == ["01_good.ipynb", "02_bad.failed.ipynb"]
    assert f"{home} True notebooks" in text_of(out / "01_good.ipynb")
    assert os.environ["ATTNLIB_OUT"] == "."
    assert (good.read_bytes(), bad.read_bytes()) == before
    assert names_in(home / "notebooks") == ["01_good.ipynb", "02_bad.ipynb"]

    store(home, "02_bad", make("print('mended')"))
    assert notebooks.run_books(["02"], profile="smoke") == 0
    assert names_in(out) == ["01_good.html", "01_good.ipynb", "02_bad.ipynb", "report.html"]
    injected = notebooks.read_notebook(out / "02_bad.ipynb").cells[2].source
    assert 'profile = "smoke"' in injected and "steps" not in injected


@pytest.mark.parametrize(("call", "says"), [
    (dict(parameters={"stepz": 1}), "'stepz'; valid: profile, steps, widths"),
    (dict(parameters={"steps": 1.5}), "steps is like 1"),
    (dict(seeds=0), "seeds=0 should be at least 1"),
    (dict(jobs="two"), "'two' should be auto or a number above 0"),
    (dict(profile="smokey"), "unknown profile 'smokey'; valid: auto, smoke, small"),
    (dict(names=["09_x"]), "unknown notebook '09_x'; valid: 01_a"),
    (dict(names=["../01_a"]), "unknown notebook"),
])
def test_what_does_not_fit_is_refused_before_anything_runs(home, monkeypatch, call, says):
    store(home, "01_a", make("1"))
    monkeypatch.setattr(notebooks, "execute", lambda *a: pytest.fail("executed"))
    with pytest.raises(ValueError, match=says) as error:
        notebooks.run_books(**call)
    assert "\n" not in str(error.value)


def test_publish_reads_records_strips_and_keeps_the_old_one_on_failure(home, capsys, monkeypatch):
    good = store(home, "01_good", make(
        "import os\nprint('profile: small (why)')\nprint('train', os.environ['ATTNLIB_TRAIN'], "
        "os.environ['ATTNLIB_PROFILE'])"))
    bad = store(home, "02_bad", make("1 / 0"))
    leaky = store(home, "03_leaky", make("print('profile: small')\nimport os\nprint(os.getcwd())"))
    before = bad.read_bytes(), leaky.read_bytes()
    ids = [c.id for c in notebooks.read_notebook(good).cells]

    assert notebooks.publish_books() == 1

    said = capsys.readouterr().out
    assert "ZeroDivisionError" in said and "03_leaky" in said
    assert "not published: cell 3 shows a path of a machine" in said
    assert (bad.read_bytes(), leaky.read_bytes()) == before
    nb = notebooks.read_notebook(good)
    nbformat.validate(nb)
    assert "train 0 auto" in text_of(good)
    assert nb.metadata.attnlib == {"profile": "small", "source_sha": notebooks.source_sha(nb)}
    assert set(nb.metadata) == {"attnlib", "kernelspec", "language_info"}
    assert [dict(c.metadata) for c in nb.cells] == [{}, {"tags": ["parameters"]}, {}]
    assert [c.id for c in nb.cells] == ids
    assert (home / "results" / "report" / "index.html").is_file()
    assert names_in(home / "notebooks") == ["01_good.ipynb", "02_bad.ipynb", "03_leaky.ipynb"]
    assert notebooks.check_books(["01"]) == 0
    assert "ATTNLIB_TRAIN" not in os.environ

    def edit(path, parameters, folder, **environment):
        path.write_text(path.read_text() + "\n")
        return path
    monkeypatch.setattr(notebooks, "execute", edit)
    with pytest.raises(notebooks.Failed, match="edited meanwhile"):
        notebooks.publish_one(good)


SPOILT = {      # what check says -> a notebook of which it says so
    "code cells have changed": lambda nb, cell: cell.update(source="print(2)"),
    "never published": lambda nb, cell: nb.metadata.pop("attnlib"),
    "cell 3 was not executed": lambda nb, cell: cell.update(execution_count=None),
    "stores widgets": lambda nb, cell: nb.metadata.update(widgets={}),
    "cell 3 ended in KeyError": lambda nb, cell: cell.outputs.append(
        new_output("error", ename="KeyError", evalue="x", traceback=[])),
    "95. kB": lambda nb, cell: cell.outputs.append(
        new_output("display_data", data={"image/png": "A" * 950_000})),
    "no cell tagged `parameters`": lambda nb, cell: nb.cells[1].update(metadata={}),
    "no cell tagged `parameters` that": lambda nb, cell: nb.cells[1].update(
        source=nb.cells[1].source + "\nlr = 2 * steps"),
    "kernel is not python3": lambda nb, cell: nb.metadata.kernelspec.update(name="my-venv")}


def test_check_finds_what_is_spoilt_and_is_content_with_a_good_one(home, capsys):
    for says, spoil in SPOILT.items():
        nb = executed("print(1)")
        spoil(nb, nb.cells[-1])
        store(home, "01_a", nb)
        assert notebooks.check_books() == 1
        assert re.search(f"01_a: .*(?:{says})", capsys.readouterr().out), says
    nb = executed("lambda: 1  # default class\n%matplotlib inline", "print(1)\n!ls")
    nb.cells[-1].outputs += [new_output("stream", text=t) for t in (
        "results/runs/real/x.json", "https://a.org/tmp/x", "https://a.org/home/x", "</root>",
        "a/tmp/b", "data:image/png;base64,AA+/tmp/AA")] + [
        new_output("display_data", data={"image/png": "AA/tmp/AA"})]
    store(home, "01_a", nb)
    assert notebooks.check_books() == 0
    assert "1 notebooks, 0 problems" in capsys.readouterr().out


def test_check_finds_paths_of_a_machine(home, monkeypatch):
    monkeypatch.setenv("HOME", "/srv/people/ann")
    for text in ("/tmp/ipykernel_12/3.py:1: UserWarning", "saved to /root/x", "(/home/ann/x)",
                 "file:///home/ann", "'/Users/ann'", "C:\\Users\\ann", "{'C:\\\\Users\\\\ann'}",
                 f"{home}/figures", "/srv/people/ann/.cache"):
        nb = executed("print(1)")
        for shown in (new_output("stream", text=text), *(
                new_output("display_data", data={kind: f"<p>{text}</p>"})
                for kind in ("text/html", "image/svg+xml"))):
            nb.cells[-1].outputs = [shown]
            found, = notebooks.problems(nb, 1)
            assert "shows a path of a machine" in found


def test_reports_pages_need_nothing_else(home):
    words = """# One & only

[![Open](https://c.org/badge.svg)](https://c.org) [next](02_two.ipynb#A-part) [up](../README.md)
![a file](../figures/x.png) <script src="https://c.org/x.js"></script> ![gone](nowhere.png)

$$a_c = \\frac{1}{HW} \\sum_i x_i$$ and $y < 2$ and $\\nonsense{$

| a | b |
|---|--:|
| 1 | 2 |

<details><summary>Answer</summary>

Because of **this**.

</details>"""
    nb = executed("print('hidden code')")
    nb.cells[0].source = words
    nb.cells[-1].outputs += [
        new_output("display_data", data={"image/png": RED_DOT}),
        new_output("display_data", data={"text/markdown": "gain **+0.8** with $n = 6$"})]
    two = executed("print(1)")
    two.cells[0].source = "# Two\n\n## A part\n\n[back](#A-part)"
    store(home, "01_one", nb)
    store(home, "02_two", two)
    (home / "notebooks" / "03_x.failed.ipynb").write_text("{}")

    path = report.report()

    assert path == (home / "results" / "report" / "index.html")      # the last: no article
    assert names_in(path.parent) == ["01_one.html", "index.html"]    # and so no tables
    page = (path.parent / "01_one.html").read_text()
    for text in (page, path.read_text()):
        assert not re.search(r'src="(?!data:)|<script|<link|@import|url\(', text)
        assert '<a href="01_one.html">01 one</a>' in text and text.count("<h1") == 1
        assert '<a href="index.html">02 two</a>' in text
    assert 'href="index.html#A-part"' in page and 'id="A-part"' in path.read_text()
    assert 'href="#A-part"' in path.read_text(), "a link within its own page"
    assert 'href="../../README.md"' in page         # from results/report/
    assert "hidden code" not in page and "<title>One &amp; only</title>" in page
    assert "01_one · profile real" in page and "cell-id" not in page
    assert page.count("<math") == 3 and "<mfrac>" in page and r"<code>\nonsense{</code>" in page
    assert "<strong>+0.8</strong>" in page and "<strong>this</strong>" in page
    assert "<summary>Answer</summary>" in page and "<td" in page and "a file" in page
    assert f"data:image/png;base64,{RED_DOT}" in page and "Figure in “One &amp; only”" in page
    report.report()
    assert (path.parent / "01_one.html").read_text() == page   # the same again: it is in git

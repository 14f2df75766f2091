"""The README does what it says: its commands run, its code runs, its links lead somewhere."""
import functools
import re

import helpers
import pytest
import torch
import torchvision
from helpers import TINY, attnlib_commands, code_blocks, noisy_cifar10, page, shell_commands

import attnlib
from attnlib.__main__ import main, parser
from attnlib.experiments.studies import PROFILES
from attnlib.settings import REPO

PAGES = [REPO / "README.md", *sorted((REPO / "docs").glob("*.md"))]
TEXTS = {path: path.read_text(encoding="utf-8") for path in PAGES}
TEXT = TEXTS[PAGES[0]]
ELSEWHERE = (".venv/bin/python -m pip install -c constraints.txt -e ", ".venv/bin/dask ",
             ".venv/bin/tensorboard ", "openssl req ", "DASK_CONFIG=")      # run in test_cluster …


def test_every_command_is_one_that_there_is():
    every = "\n".join(TEXTS.values())
    found = attnlib_commands(every)
    assert len(found) > 12
    for argv in found:
        parser().parse_args(argv)                   # exits where it does not know one
    targets = set(re.findall(r"^([a-z]+):", (REPO / "Makefile").read_text(), re.MULTILINE))
    asked = re.findall(r"`make ([a-z]+)", every)
    assert len(set(asked)) > 5 and set(asked) <= targets
    others = (" ".join(words) for words in shell_commands(every) if words[1:3] != ["-m", "attnlib"])
    assert [line for line in others if not line.startswith(ELSEWHERE)] == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_every_link_leads_somewhere(path):
    prose = re.sub(r"```.*?```", "", TEXTS[path], flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", prose):
        file, _, anchor = link.partition("#")
        if link.startswith("http"):
            continue
        target = (path.parent / file).resolve() if file else path
        assert target.exists(), link
        titles = re.findall(r"^#+ (.*)$", TEXTS.get(target, ""), re.MULTILINE)
        anchors = {re.sub(r"[^\w -]", "", t.lower()).replace(" ", "-") for t in titles}
        assert not anchor or anchor in anchors, link


def test_it_is_two_pages_in_the_order_a_newcomer_needs():
    assert len(TEXT.splitlines()) <= 200
    assert re.findall(r"^## (.*)$", TEXT, re.MULTILINE) == [
        "Can I believe it?", "See it in minutes", "The notebooks", "Results so far",
        "Profiles: how much to run", "A block in your own network", "Your data, your pictures",
        "What did not work", "More"]


# --- Your own pictures ---


@pytest.fixture
def photo(tmp_path, monkeypatch):
    """photo.jpg in the working directory, and a CIFAR-10 of 40 images."""
    monkeypatch.chdir(tmp_path)
    helpers.photo(tmp_path / "photo.jpg")
    noisy_cifar10(tmp_path, 40)
    monkeypatch.setenv("ATTNLIB_DATA", str(tmp_path))


def test_the_commands_for_pictures_work_right_after_cloning(photo, out, tmp_path, capsys):
    argvs = attnlib_commands(page("own-data"), "Pictures to predict")
    assert [argv[0] for argv in argvs] == ["predict", "evaluate", "export", "predict"]
    for argv in argvs:
        assert main(argv) == 0
    assert len(list((out / "results" / "predict").iterdir())) == 1
    assert len(list((out / "results" / "evaluate").iterdir())) == 1
    assert (tmp_path / "cbam.safetensors").stat().st_size < 1.5e6
    assert capsys.readouterr().out.count(" %") == 5 + 2 + 10 + 3      # classes, and two scores


def test_the_code_for_pictures_works(photo, capsys):
    code, = code_blocks(page("own-data"), "python", "Pictures to predict")
    exec(code, {})
    shares = re.findall(r"'\w+': ([\d.]+)", capsys.readouterr().out)
    assert len(shares) == 10 and sum(map(float, shares)) == pytest.approx(1, abs=0.01)


# --- A block in your own network ---


def test_the_recipe_for_your_own_network(monkeypatch):
    monkeypatch.setattr(torchvision.models, "resnet50", functools.partial(
        lambda make, weights: make(weights=None), torchvision.models.resnet50))   # no download
    codes, names = code_blocks(page("own-network"), "python"), {}
    assert len(codes) == 4
    for code in codes:
        exec(code, names)
    model, groups, fresh = names["model"], names["groups"], names["fresh"]
    assert sum("added_attention" in k for k in fresh) > 16 and "fc.weight" in fresh
    assert [g["lr"] for g in groups] == [1e-2, 1e-3]
    assert sum(len(g["params"]) for g in groups) == len(list(model.parameters()))
    assert {k for k, p in model.named_parameters() if p.requires_grad} == fresh
    assert model(torch.zeros(2, 3, 64, 64)).shape == (2, 5)
    mine = names["mine"]
    assert [k for k, _ in mine.named_modules() if k.endswith("added_attention")] == [
        "features.1.added_attention", "features.4.added_attention"]
    mine(torch.randn(2, 3, 32, 32)).square().sum().backward()
    assert all(p.grad is not None for p in mine.parameters())


# --- How to add ---


@pytest.fixture
def tables():
    """The tables of names, put back afterwards."""
    before = [(table, dict(table)) for table in (attnlib.ATTENTION, attnlib.BACKBONES,
                                                 attnlib.STUDIES)]
    yield
    for table, rows in before:
        table.clear()
        table.update(rows)


def test_how_to_add_a_block_a_backbone_and_a_study(tables, monkeypatch, capsys):
    sizes = {k: v for k, v in TINY.items() if k not in ("backbone", "epochs")} | {"epochs": 1}
    monkeypatch.setitem(PROFILES, "small", PROFILES["small"]._replace(fields=sizes))
    names = {}
    for code in code_blocks(page("extending"), "python"):
        exec(code, names)
    text = capsys.readouterr().out
    assert "trained 9, found 0" in text and "Does one gate for everything help?" in text
    df = attnlib.collect("dim", "small")
    assert sorted(df.arm.unique()) == ["dim", "dim(start=2.0)", "none"]
    assert (df.status == "done").all() and len(df) == 9
    assert set(df[df.arm != "none"].attention_params) == {2}    # one a stage
    model = attnlib.load_model(df[df.arm == "dim"].id.iloc[0])
    moved = [m.w.item() for m in model.modules() if isinstance(m, names["Dim"])]
    assert len(moved) == 2 and all(moved)                       # trained away from 0

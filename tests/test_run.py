"""`Run`: one meaning, one spelling, one id; and nothing impossible gets in."""
import dataclasses
import json
import re

import numpy as np
import pytest

from attnlib.blocks import ATTENTION
from attnlib.data.datasets import DATASETS
from attnlib.networks import BACKBONES
from attnlib.training.recipes import RECIPES, Recipe
from attnlib.training.run import MAY_BE_ZERO, NUMBERS, Run, canonical_json

SAFE = re.compile(r"[a-z0-9_]+(-[a-z0-9_]+)+-[0-9a-f]{8}")
ELABORATE = {"dataset": "shapetex(rho=0.95,label=bg)", "backbone": "squeezenet", "seed": 3,
             "attention": "cbam(reduction=8,gamma=0.5)", "placement": "stage@12", "epochs": 7,
             "width": 0.25, "n_train": 100, "n_val": 20, "n_test": 30, "lr": 0.02,
             "weight_decay": 0.0, "batch_size": 16, "track_test": True}


@pytest.mark.parametrize(("one", "other"), [
    ({"width": 1}, {"width": 1.0}),
    ({"seed": 2.0}, {"seed": 2}),
    ({"n_train": np.int64(100)}, {"n_train": 100}),
    ({"lr": np.float64(0.02)}, {"lr": 0.02}),
    ({"weight_decay": -0.0}, {"weight_decay": 0.0}),
    ({"attention": "cbam(gamma=1,reduction=8)"}, {"attention": "cbam( reduction = 8, gamma=1.0 )"}),
    ({"attention": "se(reduction=16,bias=False)"}, {"attention": "se"}),
    ({"attention": "se(reduction=8.0)"}, {"attention": "se(reduction=8)"}),
    ({"attention": "se", "placement": "block"}, {"attention": "se"}),
    ({"attention": "se", "placement": "block@4321"}, {"attention": "se"}),
    ({"attention": "none", "placement": "stage"}, {}),
    ({"dataset": "shapetex(rho=0,label=object)"}, {"dataset": "shapetex"}),
    ({"dataset": "shapetex(label='bg',rho=1)"}, {"dataset": "shapetex(rho=1.0,label=bg)"}),
    ({"dataset": "shapetex", "seed": 0}, {}), ({"track_test": True}, {}),
])
def test_two_spellings_are_one_run(one, other):
    assert Run(**one) == Run(**other)
    assert Run(**one).id == Run(**other).id
    assert canonical_json(Run(**one).resolved()) == canonical_json(Run(**other).resolved())


def test_the_recipes_own_value_spelt_out_is_the_same_run():
    for name in ("lr", "weight_decay", "batch_size", "epochs"):
        assert Run(**{name: getattr(RECIPES["strong"], name)}).id == Run().id


def test_a_recipe_counts_by_its_values_and_not_its_name(monkeypatch):
    monkeypatch.setitem(RECIPES, "renamed", RECIPES["strong"])
    monkeypatch.setitem(RECIPES, "slower", dataclasses.replace(RECIPES["strong"], lr=0.01))
    assert Run(recipe="renamed").id == Run().id != Run(recipe="slower").id
    assert Run(recipe="slower").id == Run(lr=0.01).id


def test_each_recipe_is_another_run_that_goes_there_and_back():
    runs = [Run(recipe=name) for name in RECIPES]
    assert len({run.id for run in runs}) == len(runs)
    for run in runs:
        assert Run(**run.as_dict()) == run and run.how == RECIPES[run.recipe]
        assert Recipe(**run.resolved()["recipe"]) == run.how


def test_the_recipes_that_records_were_trained_with_are_as_they_were():
    """Ids depend on them; a field at its default is in none, so that one added later renames none.
    """
    assert Run().resolved() == {
        "dataset": "shapetex", "backbone": "resnet18", "attention": "none", "seed": 0,
        "recipe": {"label_smoothing": 0.1, "crop": 4, "flip": True}}
    assert Run(recipe="plain").resolved()["recipe"] == {
        "optimizer": "adam", "lr": 1e-3, "weight_decay": 0.0, "batch_size": 64, "epochs": 50,
        "warmup": 0.0, "watch": "val_accuracy", "patience": 10, "keep_best": True}


@pytest.mark.parametrize("fields", [{"seed": 1}, {"width": 0.5}, {"lr": 0.2}, {"epochs": 2},
                                    {"n_train": 10}, {"n_val": 10}, {"n_test": 10},
                                    {"batch_size": 64}, {"weight_decay": 0.0}, {"attention": "se"},
                                    {"backbone": "squeezenet"}, {"dataset": "cifar10"},
                                    {"dataset": "shapetex(rho=0.5)"}])
def test_another_meaning_is_another_run(fields):
    assert Run(**fields) != Run() and Run(**fields).id != Run().id


def test_a_raised_version_renames_its_runs_and_no_others(monkeypatch):
    before = Run(attention="se").id, Run(attention="ca").id
    monkeypatch.setitem(ATTENTION, "se", ATTENTION["se"]._replace(version=2))
    assert Run(attention="se").id != before[0] and Run(attention="ca").id == before[1]


@pytest.mark.parametrize("fields", [{}, {"attention": "se"}, {"track_test": True}, ELABORATE])
def test_as_dict_round_trip(fields):
    run = Run(**fields)
    assert Run(**json.loads(canonical_json(run.as_dict()))) == run


def test_as_dict_holds_what_differs_from_the_defaults():
    assert Run().as_dict() == {}
    assert Run(attention="se(reduction=16)", lr=0.1).as_dict() == {
        "attention": "se", "placement": "block", "lr": 0.1}


def test_how_is_the_recipe_with_the_runs_own_values():
    how = Run(lr=0.5, epochs=3).how
    assert (how.lr, how.epochs) == (0.5, 3)
    assert dataclasses.replace(how, lr=0.1, epochs=30) == RECIPES["strong"]


def test_a_run_is_frozen_and_hashable_and_takes_another_field():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Run().seed = 1
    with pytest.raises(TypeError, match="learning_rate"):
        Run(learning_rate=0.1)
    assert len({Run(), Run(width=1), Run(seed=1)}) == 2
    assert dataclasses.replace(Run(attention="se"), seed=4) == Run(attention="se", seed=4)


def test_canonical_json_is_one_text_and_refuses_nan():
    assert canonical_json({"b": 1, "a": [1.0, "é", None]}) == '{"a":[1.0,"é",null],"b":1}'
    with pytest.raises(ValueError):
        canonical_json({"a": float("nan")})


@pytest.mark.parametrize(("field", "table"), [
    ("dataset", DATASETS), ("backbone", BACKBONES), ("attention", ATTENTION), ("recipe", RECIPES)])
def test_an_unknown_name_is_refused(field, table):
    for name in ("nothing", "", "se cbam", "ＳＥ", None, 7):
        with pytest.raises(ValueError) as error:
            Run(**{field: name})
        assert name != "nothing" or all(known in str(error.value) for known in table)


def test_impossible_options_are_refused():
    for options in ("label=../../etc/passwd", "label=\0", "label='a'b'", "rho=2", "rho=-0.1",
                    "rho=nan", "contrast=inf", "distractors=7", "distractors=1.5", "clutter=high",
                    "size=64", "seed=1"):
        with pytest.raises(ValueError):
            Run(dataset=f"shapetex({options})")
    for field, name, words in (("dataset", "shapetex(label=scene)", "scene.*object, bg"),
                               ("dataset", "cifar10(rho=0.5)", "unknown option .*'rho'"),
                               ("attention", "hybrid(kernel_size=0)", "kernel_size")):
        with pytest.raises(ValueError, match=words):
            Run(**{field: name})


ODD = [True, float("nan"), float("inf"), -1, -0.5, "many", [1], 1e300]


@pytest.mark.parametrize("name", NUMBERS)
def test_odd_numbers_are_refused_by_name(name):
    for value in ODD:
        with pytest.raises(ValueError, match=f"^{name}="):
            Run(**{name: value})
    if NUMBERS[name] is int:
        with pytest.raises(ValueError, match=f"^{name}=1.5 should be a whole number"):
            Run(**{name: 1.5})
    if name in MAY_BE_ZERO:
        assert getattr(Run(**{name: 0}), name) == 0
    else:
        with pytest.raises(ValueError, match=f"^{name}=0 .*above 0"):
            Run(**{name: 0})


def test_an_averages_decay_is_below_one():
    assert Run(ema=0.99).how.ema == 0.99 and Run(ema=0.99).id != Run().id == Run(ema=0).id
    assert Run(recipe="strong+ema").id == Run(ema=0.999).id
    with pytest.raises(ValueError, match="^ema=1 should be a number at least 0 and below 1"):
        Run(ema=1)


def test_an_id_is_a_safe_file_name():
    for fields in ({}, ELABORATE, *({"attention": a} for a in ATTENTION),
                   *({"dataset": d} for d in DATASETS)):
        name = Run(**fields).id
        assert SAFE.fullmatch(name) and len(name) + len(".cam.npz.corrupt") < 200


def test_an_id_stays_short_whatever_the_options_say(monkeypatch):
    """A block that takes text gets text of the worst kind: no path, no blank, not too long."""
    make = ATTENTION["se"]._replace(make=lambda channels, note="a": None)
    monkeypatch.setitem(ATTENTION, "se", make)
    for note in ("../../x", "/etc/passwd", "a\nb", "CON", "x" * 1000, "é" * 100, "$HOME", "*?<>|:",
                 "%2e%2e%2f", "\u202egnp", "\0", "'..'", "-rf"):
        name = Run(attention=f"se(note={note})").id
        assert SAFE.fullmatch(name) and len(name) < 120, note
    assert Run(attention="se(note=a_b)").id != Run(attention="se(note=a-b)").id


def test_an_id_reads_as_its_run():
    assert Run(attention="se", seed=3).id.startswith("shapetex-resnet18-se-s3-")
    assert Run(attention="se", placement="stage@12").id.startswith(
        "shapetex-resnet18-se-stage_12-s0-")

"""Names with options: one spelling for one meaning, and errors that list what is valid."""
import subprocess
import sys

import pytest

from attnlib.names import choose, derive, form, parse, take_options


@pytest.mark.parametrize(("text", "name", "options"), [
    ("se", "se", {}),
    ("se()", "se", {}),
    ("  se ( reduction = 8 ) ", "se", {"reduction": 8}),
    ("cbam(reduction=8,gamma=1.5)", "cbam", {"reduction": 8, "gamma": 1.5}),
    ("shapetex(label=bg)", "shapetex", {"label": "bg"}),
    ("shapetex(label='bg')", "shapetex", {"label": "bg"}),
    ("se(bias=True)", "se", {"bias": True}),
    ("x(a=-1e-3,b=None)", "x", {"a": -0.001, "b": None}),
])
def test_parse(text, name, options):
    assert parse(text) == (name, options)


@pytest.mark.parametrize("text", [
    "", "se(", "se)", "se(8)", "se(reduction)", "se(reduction=)", "se(=8)", "se(a=1,a=2)",
    "se(a=[1])", "se(a=(1,2))", "se(a={})", "se(a=b=c)", "se(a.b=1)", "../se", "se cbam",
    "se(a=__import__('os'))", "se\0", "sé", "se(a=" + "[" * 100_000,
])
def test_text_of_another_form_is_refused_and_quoted(text):
    with pytest.raises(ValueError) as error:
        parse(text)
    assert repr(text) in str(error.value)


def test_form_is_the_inverse_of_parse_and_sorts_options():
    assert form("cbam", {"reduction": 8, "gamma": 1.0}) == "cbam(gamma=1.0,reduction=8)"
    assert form("se", {}) == "se"
    options = {"a": 1, "b": 2.5, "c": True, "d": "word", "e": None}
    assert parse(form("x", options)) == ("x", options)


def test_choose_returns_the_row_or_lists_the_names():
    assert choose("colour", "red", {"red": 1, "blue": 2}) == 1
    assert choose("colour", "red", ("red", "blue")) == "red"
    with pytest.raises(ValueError, match="^unknown colour 'green'; valid: red, blue$"):
        choose("colour", "green", {"red": 1, "blue": 2})


def test_defaults_are_left_out_and_types_coerced():
    defaults = {"count": 16, "scale": 0.5, "on": False, "word": "a"}
    given = {"count": 8.0, "scale": 1, "on": False, "word": "a"}
    taken = take_options("block", "b", given, defaults)
    assert taken == {"count": 8, "scale": 1.0}
    assert type(taken["count"]) is int and type(taken["scale"]) is float


@pytest.mark.parametrize("given", [
    {"count": 1.5}, {"count": "many"}, {"count": True}, {"on": 1}, {"scale": "wide"},
    {"count": None}, {"scale": float("nan")}, {"scale": float("inf")}, {"scale": "nan"},
])
def test_an_option_of_another_type_is_refused_with_an_example(given):
    defaults = {"count": 16, "scale": 0.5, "on": False}
    (key, value), = given.items()
    with pytest.raises(ValueError) as error:
        take_options("block", "b", given, defaults)
    assert f"{key}={value!r}" in str(error.value) and repr(defaults[key]) in str(error.value)
    with pytest.raises(ValueError, match="'b'.*'size'.*valid: count, scale"):
        take_options("block", "b", {"size": 1}, defaults)


def test_derived_seeds_are_63_bit_tell_parts_apart_and_are_the_same_in_every_process():
    seeds = [derive("init", 0, "conv1"), derive("init", 1, "conv1"), derive("init", 0, "conv2"),
             derive("init", 0), derive("init0"), derive("a", "bc"), derive("ab", "c")]
    assert len(set(seeds)) == len(seeds) and all(0 <= seed < 2**63 for seed in seeds)
    code = "from attnlib.names import derive; print(derive('init', 0, 'conv1'))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                            check=True, env={"PYTHONHASHSEED": "7"})
    assert int(answer.stdout) == seeds[0]

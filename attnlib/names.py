"""Names with options, ``cbam(reduction=8)``: parsed, put in canonical form, looked up; and seeds
derived from names."""
import ast
import difflib
import hashlib
import inspect
import math
import re
from collections.abc import Mapping
from functools import cache

NAME = re.compile(r"\s*([A-Za-z0-9_+]+)\s*(?:\((.*)\))?\s*", re.DOTALL)
PLACED = re.compile(r"\s*([A-Za-z0-9_+]+)\s*(?:\(([^()]*)\))?\s*:([^\0]*)", re.DOTALL)


def parse(text: str) -> tuple[str, dict]:
    """``"se(reduction=8)"`` -> ``("se", {"reduction": 8})``. Values are Python literals; a bare
    word stands for itself (``label=bg``). What follows a colon is a path, taken as it stands:
    ``"folder(size=64):my photos"`` -> ``("folder", {"size": 64, "path": "my photos"})``. Raises
    ``ValueError`` on anything else."""
    name, options = parsed(str(text))
    return name, dict(options)


@cache
def parsed(text: str) -> tuple[str, dict]:
    if text != text.encode(errors="replace").decode():
        raise ValueError(f"{text!r} is not UTF-8: a file or folder of that name must be renamed")
    match = PLACED.fullmatch(text) or NAME.fullmatch(text)
    if not match:
        raise ValueError(f"{text!r} is not of the form name or name(option=value, …), or of either "
                         "with :path behind it")
    options = {"path": match[3]} if match.re is PLACED else {}
    for part in filter(None, (p.strip() for p in (match[2] or "").split(","))):
        key, equals, value = (s.strip() for s in part.partition("="))
        if not equals or not key.isidentifier() or not value or set(value) & set("()[]{}="):
            raise ValueError(f"{text!r}: {part!r} is not option=value")
        if key in options:
            raise ValueError(f"{text!r}: option {key!r} is given twice")
        options[key] = literal(value)
    return match[1], options


def literal(text: str):
    """A number, bool, None or quoted string as Python reads it; any other text as it stands."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):      # the last two: nested deep
        return text


def form(name: str, options: dict) -> str:
    """The inverse of `parse`, options sorted: one spelling for one meaning."""
    inner = ",".join(f"{key}={value}" for key, value in sorted(options.items()) if key != "path")
    place = f":{options['path']}" if "path" in options else ""
    return (f"{name}({inner})" if inner else name) + place


def choose(kind: str, name: str, table):
    """``table[name]`` (of a plain collection: the name), or a one-line ``ValueError`` that lists
    the valid names and says which is nearest."""
    if name in table:
        return table[name] if isinstance(table, Mapping) else name
    near = difflib.get_close_matches(str(name).lower(), table, 1)
    raise ValueError(f"unknown {kind} {name!r}; valid: {', '.join(table)}"
                     + "".join(f"; did you mean {word}?" for word in near))


def take_options(kind: str, name: str, given: dict, defaults: dict) -> dict:
    """The given options that differ from their defaults, coerced to the defaults' types, so that
    ``0.5`` and ``.50``, or a default spelt out, mean the same. ``ValueError`` for unknown ones."""
    out = {}
    for key, value in given.items():
        default = choose(f"option of {kind} {name!r}:", key, defaults)
        try:
            value = coerce(value, default)
        except (TypeError, ValueError):
            raise ValueError(f"{kind} {name!r}: option {key}={value!r} should be like "
                             f"{default!r}") from None
        if value != default:
            out[key] = value
    return out


def coerce(value, like):
    """``value`` in the type of ``like`` (bool is not a number, None takes anything)."""
    if like is None:
        return value
    if isinstance(like, bool) or isinstance(value, bool):
        if type(value) is not type(like):
            raise TypeError
        return value
    if isinstance(like, int) and isinstance(value, float) and not value.is_integer():
        raise ValueError
    value = type(like)(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError
    return value


@cache                                      # inspecting is slow, and studies ask thousands of times
def option_defaults(make) -> dict:
    """The keyword parameters of a block or network and their defaults. Every caller gets the same
    dict: it is for reading."""
    parameters = inspect.signature(make).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


def derive(*parts) -> int:
    """A 63-bit seed from the parts' text: the same on every machine and in every process."""
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1

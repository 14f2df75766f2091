"""The attention blocks. Each is ``cls(channels)``, keeps its input's shape, needs torch alone and
can be pasted into any project. ``gate(x)`` is what multiplies ``x``, broadcastable to it.

Notation: x [B, C, H, W]; a = mean_hw x, m = max_hw x, both [B, C, 1, 1]; s = sigmoid;
h = max(1, C // reduction)."""
import ast
import csv
import hashlib
import inspect
import re
from collections import ChainMap
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from torch import nn

from . import channel, combined, controls, convolution, newer, spatial

FILES = {"nn": nn} | {module.__name__.rpartition(".")[2]: module for module in (
    channel, combined, controls, convolution, newer, spatial)}


class Row(NamedTuple):
    """One row of the tables. ``make(channels, **options)`` builds the block; ``placement`` is its
    own default; ``version`` is raised only when the block's behaviour changes. For readers: its
    title in tables and figures, where it has a colour and a marker; its equation and shelf in
    docs/blocks.md."""
    make: Callable[..., nn.Module]
    says: str
    placement: str = "block"
    version: int = 1
    title: str = ""
    colour: str = "#333333"
    marker: str = "o"
    shelf: str = ""
    equation: str = ""


def read_rows(path: Path) -> dict[str, Row]:
    """The rows of a table, in which an empty cell is the field's default."""
    rows = {}
    for cells in csv.DictReader(path.read_text(encoding="utf-8").splitlines()):
        given = {key: cell for key, cell in cells.items() if cell}
        name, (file, kind) = given.pop("block"), given.pop("class").split(".")
        given["version"] = int(given.get("version", 1))
        rows[name] = Row(getattr(FILES[file], kind), **given)
    return rows


ROWS = read_rows(Path(__file__).with_name("blocks.csv"))
REPLICAS = {name: row for name, row in ROWS.items() if name.startswith("replica_")}
ATTENTION = {name: row for name, row in ROWS.items() if name not in REPLICAS}
BLOCKS = ChainMap(REPLICAS, ATTENTION)              # a row added to ATTENTION is in it, too


def own_block(make: Callable[[int], nn.Module]) -> str:
    """The name by which this session knows a block of one's own, a class or function of the number
    of channels: ``mine_1a2b3c``. Its digits change with the code, so that what other code was
    trained to is never shown for it."""
    digits = hashlib.sha256(code_of(make).encode()).hexdigest()[:6]
    name = f"{re.sub(r'[^a-z0-9]', '', make.__name__.lower())}_{digits}"
    ATTENTION[name] = Row(make, (make.__doc__ or "one's own").splitlines()[0], title=make.__name__)
    return name


def code_of(thing) -> str:
    """What a function does, or a class with its bases of the same file, whatever their lines."""
    if inspect.isclass(thing):
        own = [kind for kind in thing.__mro__ if kind.__module__ == thing.__module__]
        return "".join(key + code_of(value) for kind in own for key, value in vars(kind).items()
                       if inspect.isfunction(value) or not key.startswith("__"))
    code = getattr(thing, "__code__", thing)
    if not inspect.iscode(code):
        return repr(thing)
    given = getattr(thing, "__defaults__", None), getattr(thing, "__kwdefaults__", None)
    return f"{code.co_code}{code.co_names}{given}" + "".join(map(code_of, code.co_consts))


def source(name: str) -> str:
    """A block of the tables as one text that runs alone, wherever it is pasted: the imports, what
    of these files it uses, and its class."""
    parts = ["import math\n\nimport torch\nfrom torch import nn",
             *(inspect.getsource(thing).rstrip() for thing in needed(BLOCKS[name].make))]
    return "\n\n\n".join(parts)


def needed(thing) -> dict:
    """The functions and classes of this room that a function or class names, and itself, in an
    order in which they can be defined."""
    known = vars(inspect.getmodule(thing))
    names = {node.id: None for node in ast.walk(ast.parse(inspect.getsource(thing)))
             if isinstance(node, ast.Name)}
    used = [known[n] for n in names if known.get(n) is not thing
            and getattr(known.get(n), "__module__", "").startswith(__name__)]
    return {**{k: None for other in used for k in needed(other)}, thing: None}

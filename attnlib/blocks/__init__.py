"""The attention blocks. Each is ``cls(channels)``, keeps its input's shape, needs torch alone and
can be pasted into any project. ``gate(x)`` is what multiplies ``x``, broadcastable to it.

Notation: x [B, C, H, W]; a = mean_hw x, m = max_hw x, both [B, C, 1, 1]; s = sigmoid;
h = max(1, C // reduction)."""
import ast
import csv
import dis
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
    of channels: ``mine_1a2b3c``. Its digits change with its code and with what that uses of the
    same file or notebook, so that what other code was trained to is not shown for it."""
    title = getattr(make, "__name__", "")
    if not callable(make) or isinstance(make, nn.Module) or not title:
        raise ValueError(f"{make!r:.80} should be a class, or a function of the number of channels")
    digits = hashlib.sha256(code_of(make, make.__module__).encode()).hexdigest()[:6]
    name = f"{re.sub('[^a-z0-9]', '', title.lower())}_{digits}"
    says = inspect.cleandoc(make.__doc__ or "a block of one's own").partition("\n")[0]
    ATTENTION[name] = Row(make, says, title="your block" if "<" in title else f"{title} (yours)")
    return name


def code_of(thing, home: str, above: tuple = ()) -> str:
    """What a class or function of the module ``home`` does, or a value is, whatever its lines."""
    inner = inspect.unwrap(getattr(thing, "__func__", thing))
    if inspect.ismodule(inner) or any(inner is one for one in above):
        return getattr(inner, "__name__", "")
    if inspect.isclass(inner) and inner.__module__ == home:
        parts = [*inner.__bases__, *(part for part in vars(inner).items()
                                     if inspect.isfunction(part[1]) or part[0][:2] != "__")]
    elif inspect.isfunction(inner) and inner.__module__ == home:
        used = [inner.__globals__.get(name) for name in globals_of(inner.__code__)]
        parts = [inner.__code__, inner.__defaults__, inner.__kwdefaults__, inner is thing,
                 *(cell.cell_contents for cell in inner.__closure__ or ()), *used]
    elif inspect.iscode(inner):
        parts = [*(getattr(inner, f"co_{key}") for key in ("code", "names", "argcount", "flags")),
                 *inner.co_consts]
    elif isinstance(inner, (tuple, list, dict)):
        parts = inner.items() if isinstance(inner, dict) else inner
    else:
        said = sorted(map(repr, inner)) if isinstance(inner, (set, frozenset)) else repr(inner)
        return re.sub(" at 0x[0-9a-f]+", "", str(said))
    return f"({','.join(code_of(part, home, (*above, inner)) for part in parts)})"


def globals_of(code) -> list[str]:
    """The global names that a code and those within it look up."""
    own = [step.argval for step in dis.get_instructions(code) if step.opname == "LOAD_GLOBAL"]
    return own + [name for inner in code.co_consts if inspect.iscode(inner)
                  for name in globals_of(inner)]


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

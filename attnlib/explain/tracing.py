"""What a block does, step by step: what `cards` shows as a diagram.

`trace` runs a block on an example and turns each torch function and each leaf module that it calls
into a `Node`; another attention block inside it is one node. Sizes are told apart by their values,
so none may equal another: 512 channels, a map of 11×17."""
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass, field
from unittest.mock import patch

import numpy as np
import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from ..analysis.words import name as said
from ..blocks import BLOCKS, FILES
from ..networks.build import resolve

B, C, H, W = 3, 512, 11, 17
AXES = {B: "b", C: "c", H: "h", W: "w", H * W: "hw"}
VALUES = {H * W / (H * W - 1): "n/(n−1)"}
SIGNS = {"mul": "×", "add": "+", "sub": "−", "rsub": "−", "div": "÷", "truediv": "÷"}
SYMBOLS = {"sigmoid": "σ", "square": "( )²", "sqrt": "√", "relu": "ReLU", "cat": "join",
           "stack": "join", "roll": "previous\nimage's", "avg_pool2d": "window\nmeans",
           "minimum": "min", "maximum": "max", "where": "choose"}
POOLS = {"mean": "mean", "max": "max", "amax": "max", "var": "variance", "std": "sd", "sum": "sum"}
SHOWN = {*SIGNS, *SYMBOLS, *POOLS, "split", "softmax", "matmul"}     # the rest is about layout
MODULES = {nn.BatchNorm2d: ("norm", "BN"), nn.LayerNorm: ("norm", "LN"),
           nn.GroupNorm: ("norm", "GN"), nn.Sigmoid: ("norm", "σ"), nn.Softmax: ("norm", "softmax"),
           nn.ReLU: ("act", "ReLU"), nn.Hardswish: ("act", "h-swish"), nn.GELU: ("act", "GELU")}
AS_WRITTEN = {          # a mean and a maximum as one thinks of them, not as they are quickest
    "mean_hw": lambda x: x.mean((2, 3), keepdim=True),
    "max_hw": lambda x: x.amax((2, 3), keepdim=True),
    "max_mean_c": lambda x: torch.stack([x.amax(1), x.mean(1)], 1)}
ONE_LINE = ("norm", "scalar", "act")        # joins the box before it where nothing else uses that


@dataclass(eq=False)
class Node:
    """One step: its kind (``x y conv norm act scalar pool sign op block parameter``), its lines of
    text, the nodes it reads, and the shape it gives to the next one, without the batch."""
    kind: str
    lines: list[str]
    reads: list["Node"] = field(default_factory=list)
    shape: tuple[int, ...] = ()


def trace(name: str) -> list[Node]:
    """The steps of a block, in the order in which it takes them; x first, y last."""
    make, options = resolve("attention", name, BLOCKS)
    block, x = make(C, **options).eval(), torch.randn(B, C, H, W)
    recorder = Recorder(x, block)
    with ExitStack() as stack, torch.no_grad():
        for module in FILES.values():
            for function in AS_WRITTEN.keys() & vars(module).keys():
                stack.enter_context(patch.object(module, function, AS_WRITTEN[function]))
        for part in list(block.modules())[1:]:
            if title(part) or not list(part.children()):
                part.register_forward_pre_hook(recorder.enter)
                part.register_forward_hook(recorder.leave)
        stack.enter_context(recorder)
        y = block(x)
    end = Node("y", ["y"], [recorder.of[id(y)]], tuple(y.shape))
    used = {end}
    for node in reversed(recorder.nodes):
        if any(node in later.reads for later in used):
            used.add(node)
    return merged([*(node for node in recorder.nodes if node in used), end])


# --- What a block does ---


class Recorder(TorchFunctionMode):
    """Writes down every function that is called on a tensor that comes from x or a parameter."""

    def __init__(self, x: torch.Tensor, block: nn.Module):
        super().__init__()
        start = Node("x", ["x"], shape=tuple(x.shape))
        self.nodes, self.of = [start], {id(x): start}
        self.alive = [x]                               # or another tensor might take an id
        self.own = {id(p): key for key, p in [*block.named_parameters(), *block.named_buffers()]}
        self.inside = 0                                # modules, each of which is one step

    def note(self, node_of, args, result) -> None:
        """A step from its arguments to its result: the node that ``node_of`` makes, given what it
        reads; None stands for another layout of what it reads."""
        tensors, results = ([t for t in tree_leaves(part) if isinstance(t, torch.Tensor)]
                            for part in (args, result))
        for t in tensors:
            if id(t) in self.own and id(t) not in self.of:
                self.of[id(t)] = Node("parameter", [self.own[id(t)]], shape=(B, *t.shape))
                self.nodes.append(self.of[id(t)])
        reads = list(dict.fromkeys(self.of[id(t)] for t in tensors if id(t) in self.of))
        if not (reads and results):
            return
        node = node_of(reads) or reads[0]
        if node is not reads[0]:
            node.reads = reads
            self.nodes.append(node)
        self.of |= {id(t): node for t in results}
        self.alive += results
        if node.kind != "x":
            node.shape = ((B,) if node.kind == "parameter" else ()) + tuple(results[-1].shape)

    def enter(self, module: nn.Module, args) -> None:
        self.inside += 1

    def leave(self, module: nn.Module, args, result) -> None:
        self.inside -= 1
        if not self.inside:
            self.note(lambda reads: module_node(module), args, result)

    def __torch_function__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if not self.inside:
            self.note(lambda reads: function_node(function.__name__.strip("_"), args, kwargs or {},
                                                  reads), (args, kwargs), result)
        return result


def title(module: nn.Module) -> str | None:
    """What an attention block is called, None for another module."""
    return next((said(key) for key, row in BLOCKS.items()
                 if row.make is type(module) and row.make is not nn.Identity), None)


def function_node(what: str, args: tuple, kwargs: dict, reads: list[Node]) -> Node | None:
    """The node of a function, None for one that only changes how a tensor is laid out."""
    numbers = [a for a in args if isinstance(a, int | float)]
    alone = what in ("cat", "stack") and len(reads) == 1
    if what not in SHOWN or alone or (what in SIGNS and numbers == [0.0]):
        return None
    if what in SIGNS and numbers:
        words = [SIGNS[what], VALUES.get(numbers[0], f"{numbers[0]:.4g}")]
        return Node("scalar", [" ".join(words[::-1] if what == "rsub" else words)])
    if what in POOLS:
        dims = np.atleast_1d(kwargs.get("dim", args[1] if len(args) > 1 else ()))
        sizes = [args[0].shape[int(d)] for d in dims]
        places = "places" if not sizes or sizes[0] > 4 else "branches"
        return Node("pool", [POOLS[what],
                             f"over {''.join(AXES.get(n, '') for n in sizes) or places}"])
    if what == "matmul":
        weights = any("softmax" in read.lines for read in reads)
        return Node("op", ["weighted", "sum"] if weights else ["products"])
    text = (SIGNS | SYMBOLS).get(what, what)
    return Node("sign" if what in SIGNS or text == "σ" else "op", text.split("\n"))


def module_node(module: nn.Module) -> Node | None:
    """The node of a module that the trace did not go into."""
    if title(module):
        return Node("block", [title(module)])
    if isinstance(module, nn.Identity):
        return None
    if not isinstance(module, nn.Conv1d | nn.Conv2d):
        kind, text = MODULES.get(type(module), ("conv", type(module).__name__))
        return Node(kind, [text])
    lines = ["conv " + "×".join(map(str, module.kernel_size))]
    lines += [f"{what} {getattr(module, what)[0]}" for what in ("dilation", "stride")
              if getattr(module, what)[0] > 1]
    if module.groups > 1:
        lines.append("per channel" if module.groups == module.in_channels
                     else f"{module.groups} groups")
    if not module.weight.requires_grad:
        lines.append("frozen")
    return Node("conv", lines)


def merged(nodes: list[Node]) -> list[Node]:
    """The nodes, norms, activations and sums with a number written into the box before them."""
    users = defaultdict(list)
    for node in nodes:
        for read in node.reads:
            users[read].append(node)
    kept, now = [], {}
    for node in nodes:
        node.reads = [now.get(read, read) for read in node.reads]
        before = node.reads[0] if node.reads else None
        if (node.kind in ONE_LINE and len(node.reads) == 1 and len(users[before]) == 1
                and before.kind in ("conv", "pool", "norm", "scalar", "block")):
            before.lines, before.shape = before.lines + node.lines, node.shape
            now[node], users[before] = before, users[node]
        else:
            kept.append(node)
    return kept


# --- Shapes ---


def shape_text(shape) -> str:
    """``C/16×1×1`` for (3, 16, 1, 1): without the batch, in C, H and W; "" where it has others."""
    sizes = [size_text(size) for size in (shape[1:] if shape[:1] == (B,) else shape)]
    return "×".join(sizes) if all(sizes) else ""


def size_text(size: int) -> str:
    """A size in C, H and W, or a small number; "" for any other."""
    if size < 5:
        return str(size)
    if size == H + W or size in AXES:
        return "(H+W)" if size == H + W else AXES[size].upper()
    if size % C == 0:
        return f"{size // C}C"
    return f"C/{C // size}" if C % size == 0 and C // size <= 32 else ""

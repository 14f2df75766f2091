"""What a block does, step by step: what `diagrams` draws.

`trace` runs a block with `torch.fx` and turns each operation and each leaf module into a `Node`;
another attention block inside it is one node. Sizes are told apart by their values, so none may
equal another: 512 channels, a map of 11×17."""
import operator
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass, field
from unittest.mock import patch

import torch
from torch import fx, nn

from ..analysis.words import name as said
from ..blocks import BLOCKS, channel, combined, controls, spatial
from ..networks.build import resolve

B, C, H, W = 3, 512, 11, 17
AXES = {B: "b", C: "c", H: "h", W: "w", H * W: "hw"}
VALUES = {H * W / (H * W - 1): "n/(n−1)"}
SIGNS = {"mul": "×", "add": "+", "sub": "−", "truediv": "÷"}
SYMBOLS = {"sigmoid": "σ", "square": "( )²", "sqrt": "√", "relu": "ReLU", "cat": "join",
           "stack": "join", "roll": "previous\nimage's", "minimum": "min", "maximum": "max",
           "where": "choose"}
POOLS = {"mean": "mean", "max": "max", "amax": "max", "var": "variance", "std": "sd", "sum": "sum"}
SHOWN = {*SIGNS, *SYMBOLS, *POOLS, "split", "softmax", "matmul"}     # the rest is about layout
MODULES = {nn.BatchNorm2d: "BN", nn.LayerNorm: "LN", nn.GroupNorm: "GN", nn.ReLU: "ReLU",
           nn.Hardswish: "h-swish", nn.Sigmoid: "σ", nn.Softmax: "softmax", nn.GELU: "GELU"}
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
    block = make(C, **options).eval()
    with ExitStack() as stack, torch.no_grad():
        for module in (channel, spatial, combined, controls):
            for function in AS_WRITTEN.keys() & vars(module).keys():
                stack.enter_context(patch.object(module, function, AS_WRITTEN[function]))
        graph = Tracer(torch.randn(B, C, H, W)).trace(block)
    for step in reversed(graph.nodes):
        if not step.users and step.op != "output":
            graph.erase_node(step)
    return joined(steps(graph, dict(block.named_modules())))


# --- What a block does ---


class Known(fx.Proxy):
    """A tensor in the graph whose value is known, so that code may ask for its shape."""
    shape = property(lambda self: self.node.meta["value"].shape)
    dtype = property(lambda self: self.node.meta["value"].dtype)
    device = property(lambda self: self.node.meta["value"].device)
    ndim = property(lambda self: self.node.meta["value"].ndim)

    def __len__(self) -> int:
        return len(self.node.meta["value"])


class Tracer(fx.Tracer):
    """`fx.Tracer` that computes every value on an example of x, and goes into no other block."""

    def __init__(self, x: torch.Tensor):
        super().__init__()
        self.x, self.computing = x, False

    def proxy(self, node: fx.Node) -> Known:
        return Known(node, self)

    def iter(self, obj: Known):
        return iter([obj[k] for k in range(len(obj))])

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        return title(module) is not None or not list(module.children())

    def call_module(self, module, forward, args, kwargs):
        if self.computing:
            return forward(*args, **kwargs)
        return super().call_module(module, forward, args, kwargs)

    def getattr(self, name, value, cache):
        return value if self.computing else super().getattr(name, value, cache)

    def create_node(self, kind, target, args, kwargs, name=None, type_expr=None) -> fx.Node:
        node = super().create_node(kind, target, args, kwargs, name, type_expr)
        args, kwargs = (fx.map_arg(part, lambda n: n.meta["value"]) for part in (args, kwargs))
        self.computing = True                                   # untraced
        node.meta["value"] = {
            "placeholder": lambda: self.x,
            "get_attr": lambda: operator.attrgetter(target)(self.root),
            "call_function": lambda: target(*args, **kwargs),
            "call_method": lambda: getattr(args[0], target)(*args[1:], **kwargs),
            "call_module": lambda: self.root.get_submodule(target)(*args),
            "output": lambda: args[0]}[kind]()
        self.computing = False
        return node


def title(module: nn.Module) -> str | None:
    """What an attention block is called, None for another module."""
    return next((said(key) for key, row in BLOCKS.items()
                 if row.make is type(module) and row.make is not nn.Identity), None)


def steps(graph: fx.Graph, modules: dict[str, nn.Module]) -> list[Node]:
    """The nodes of a graph, without those that only change how a tensor is laid out."""
    of, out = {}, []
    for step in graph.nodes:
        reads = list(dict.fromkeys(of[n] for n in step.all_input_nodes))
        node = step_node(step, modules, reads)
        if node is None and reads:
            of[step] = reads[0]
        else:
            of[step] = node
            node.reads = reads
            out.append(node)
        value = step.meta["value"]
        if isinstance(value, torch.Tensor) and of[step].kind != "x":
            of[step].shape = ((B,) if of[step].kind == "parameter" else ()) + tuple(value.shape)
    return out


def step_node(step: fx.Node, modules: dict[str, nn.Module], reads: list[Node]) -> Node | None:
    """The node of a step of the graph, None for one that has no box."""
    if step.op == "placeholder":
        return Node("x", ["x"], shape=tuple(step.meta["value"].shape))
    if step.op == "output":
        return Node("y", ["y"])
    if step.op == "get_attr":
        return Node("parameter", [step.target])
    if step.op == "call_module":
        return module_node(modules[step.target])
    what = step.target if isinstance(step.target, str) else step.target.__name__
    numbers = [a for a in step.args if isinstance(a, int | float)]
    alone = what in ("cat", "stack") and len(reads) == 1
    if what not in SHOWN or alone or (what in SIGNS and numbers == [0.0]):
        return None
    if what in SIGNS and numbers:
        number = VALUES.get(numbers[0], f"{numbers[0]:.4g}")
        front = what == "sub" and step.args[0] is numbers[0]
        return Node("scalar", [f"{number} {SIGNS[what]}" if front else f"{SIGNS[what]} {number}"])
    if what in SIGNS:
        return Node("sign", [SIGNS[what]])
    if what in POOLS:
        dims = step.kwargs.get("dim", step.args[1] if len(step.args) > 1 else ())
        dims = dims if isinstance(dims, list | tuple) else (dims,)
        shape = step.all_input_nodes[0].meta["value"].shape
        over = "".join(AXES.get(shape[d], "") for d in dims)
        many = shape[dims[0]] > 4 if dims else True
        return Node("pool", [POOLS[what], f"over {over or ('places' if many else 'branches')}"])
    if what == "matmul":
        weights = any("softmax" in read.lines for read in reads)
        return Node("op", ["weighted", "sum"] if weights else ["products"])
    text = SYMBOLS.get(what, what)
    return Node("sign" if text == "σ" else "op", text.split("\n"))


def module_node(module: nn.Module) -> Node | None:
    """The node of a module that the trace did not go into."""
    if title(module):
        return Node("block", [title(module)])
    if isinstance(module, nn.Identity):
        return None
    if not isinstance(module, nn.Conv2d):
        text = next((t for kind, t in MODULES.items() if isinstance(module, kind)), None)
        act = isinstance(module, nn.ReLU | nn.Hardswish | nn.GELU)
        return Node("act" if act else "norm" if text else "conv", [text or type(module).__name__])
    lines = ["conv " + "×".join(map(str, module.kernel_size))]
    lines += [f"{what} {getattr(module, what)[0]}" for what in ("dilation", "stride")
              if getattr(module, what)[0] > 1]
    if module.groups > 1:
        lines.append("per channel" if module.groups == module.in_channels
                     else f"{module.groups} groups")
    if not module.weight.requires_grad:
        lines.append("frozen")
    return Node("conv", lines)


def joined(nodes: list[Node]) -> list[Node]:
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
    if size in AXES and size != B:
        return AXES[size].upper()
    if size == H + W or size < 5:
        return str(size) if size < 5 else "(H+W)"
    if size % C == 0:
        return "C" if size == C else f"{size // C}C"
    return f"C/{C // size}" if C % size == 0 and C // size <= 32 else ""

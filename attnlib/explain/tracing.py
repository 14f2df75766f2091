"""What a block does, step by step, noted while it runs: what `diagrams` draws.

`trace` runs a block once and notes each tensor operation and each leaf module as a `Node`; another
attention block inside it is one node. Sizes are told apart by their values, so none may equal
another: 512 channels, a map of 11×17."""
from collections import defaultdict
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from unittest.mock import patch

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from ..analysis.words import name as said
from ..blocks import BLOCKS, channel, combined, controls, spatial
from ..networks.build import resolve

B, C, H, W = 3, 512, 11, 17
AXES = {B: "b", C: "c", H: "h", W: "w", H * W: "hw"}
VALUES = {H * W / (H * W - 1): "n/(n−1)"}
SKIPPED = {"permute", "transpose", "flatten", "view", "reshape", "unsqueeze", "squeeze", "expand",
           "contiguous", "__getitem__", "pad", "to", "__get__", "repeat", "detach", "expand_as",
           "movedim", "unflatten", "type_as", "chunk", "unbind"}
SIGNS = {"mul": "×", "add": "+", "sub": "−", "div": "÷", "rsub": "−", "truediv": "÷", "rmul": "×",
         "radd": "+", "mul_": "×", "add_": "+", "__rsub__": "−"}
SYMBOLS = {"sigmoid": "σ", "square": "( )²", "sqrt": "√", "relu": "ReLU", "cat": "join",
           "stack": "join", "split": "split", "softmax": "softmax", "roll": "previous\nimage's",
           "minimum": "min", "maximum": "max", "where": "choose"}
PRODUCTS = {"matmul", "__matmul__", "bmm", "einsum"}
POOLS = {"mean": "mean", "max": "max", "amax": "max", "var": "variance", "std": "sd", "sum": "sum"}
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


# --- What a block does ---


class Recorder(TorchFunctionMode):
    """Notes the tensor operations outside leaf modules; ``inside`` counts the leaves we are in."""

    def __init__(self, x: torch.Tensor, parameters: dict[int, str]):
        super().__init__()
        self.nodes = [Node("x", ["x"], shape=tuple(x.shape))]
        self.of = {id(x): self.nodes[0]}
        self.alive = [x]                                       # an id is a tensor's while it lives
        self.parameters, self.inside = parameters, 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if not self.inside:
            self.note(func.__name__, args, kwargs or {}, out)
        return out

    def note(self, what: str, args, kwargs, out) -> None:
        results = tensors(out)
        given = tensors([*args, *kwargs.values()])
        reads = [node for t in given if (node := self.node_of(t))]
        if not results or not reads:
            return
        numbers = [a for a in args if isinstance(a, int | float) and not isinstance(a, bool)]
        alone = what in ("cat", "stack") and len(set(reads)) == 1
        if what in SKIPPED or alone or (what in SIGNS and numbers == [0.0]):
            self.keep(results, reads[0])
        elif what in PRODUCTS:
            weights = any("softmax" in read.lines for read in reads)
            self.add(Node("op", ["weighted", "sum"] if weights else ["products"]), reads, results)
        else:
            self.add(step_of(what, args, kwargs, given, numbers), reads, results)

    def node_of(self, t: torch.Tensor) -> Node | None:
        """The node a tensor comes from; a parameter becomes one when it is first read."""
        if id(t) not in self.of and id(t) in self.parameters:
            self.nodes.append(Node("parameter", [self.parameters[id(t)]], shape=(B, *t.shape)))
            self.keep([t], self.nodes[-1])
        node = self.of.get(id(t))
        if node and node.kind != "x":
            node.shape = tuple(t.shape)                        # as the next one takes it
        return node

    def add(self, node: Node, reads: list[Node], results) -> None:
        node.reads, node.shape = list(dict.fromkeys(reads)), tuple(results[0].shape)
        self.nodes.append(node)
        self.keep(results, node)

    def keep(self, results, node: Node) -> None:
        self.alive += results
        self.of.update((id(t), node) for t in results)


def tensors(value) -> list[torch.Tensor]:
    """The tensors in a value and in the lists and tuples that it holds."""
    if isinstance(value, torch.Tensor):
        return [value]
    return [t for part in value for t in tensors(part)] if isinstance(value, list | tuple) else []


def step_of(what: str, args, kwargs, given, numbers) -> Node:
    """The node of one tensor operation, by its name and arguments."""
    if what in SIGNS and len(given) == 1 and numbers:
        number = VALUES.get(numbers[0], f"{numbers[0]:.4g}")
        front = what in ("rsub", "__rsub__")
        return Node("scalar", [f"{number} {SIGNS[what]}" if front else f"{SIGNS[what]} {number}"])
    if what in SIGNS:
        return Node("sign", [SIGNS[what]])
    if what in POOLS and len(given) == 1:
        dims = kwargs.get("dim", args[1] if len(args) > 1 else ())
        dims = dims if isinstance(dims, list | tuple) else (dims,)
        over = "".join(AXES.get(given[0].shape[d], "") for d in dims)
        many = given[0].shape[dims[0]] > 4 if dims else True
        return Node("pool", [POOLS[what], f"over {over or ('places' if many else 'branches')}"])
    text = SYMBOLS.get(what, what.strip("_"))
    return Node("sign" if text == "σ" else "op", text.split("\n"))


def leaf(module: nn.Module, shape) -> Node:
    """The node of a leaf module that was given a tensor of this shape."""
    if isinstance(module, nn.Conv2d):
        size = "×".join(map(str, module.kernel_size))
        more = [f"dilation {module.dilation[0]}"] * (module.dilation[0] > 1)
        more += [f"stride {module.stride[0]}"] * (module.stride[0] > 1)
        if module.groups > 1:
            more.append("per channel" if module.groups == module.in_channels
                        else f"{module.groups} groups")
        more += ["frozen"] * (not module.weight.requires_grad)
        return Node("conv", [f"conv {size}", *more])
    for kind, text in MODULES.items():
        if isinstance(module, kind):
            return Node("act" if kind in (nn.ReLU, nn.Hardswish, nn.GELU) else "norm", [text])
    return Node("conv", [type(module).__name__])


def title(module: nn.Module) -> str:
    """What another attention block is called: its name in BLOCKS."""
    return next((said(key) for key, row in BLOCKS.items() if row.make is type(module)),
                type(module).__name__)


def trace(name: str) -> list[Node]:
    """The steps of a block, in the order in which it takes them; x first, y last."""
    make, options = resolve("attention", name, BLOCKS)
    block = make(C, **options).eval()
    x = torch.randn(B, C, H, W)
    recorder = Recorder(x, {id(p): key for key, p in block.named_parameters(recurse=False)})
    watch(block, recorder)
    with torch.no_grad(), as_written(), recorder:
        y = block(x)
    last = recorder.node_of(y)
    recorder.nodes.append(Node("y", ["y"], [last], tuple(y.shape)))
    return joined([n for n in recorder.nodes if n in ancestors(recorder.nodes[-1])])


@contextmanager
def as_written():
    """The blocks with the functions of AS_WRITTEN in place of theirs."""
    with ExitStack() as stack:
        for module in (channel, spatial, combined, controls):
            for name in AS_WRITTEN.keys() & vars(module).keys():
                stack.enter_context(patch.object(module, name, AS_WRITTEN[name]))
        yield


def watch(block: nn.Module, recorder: Recorder) -> None:
    """Make leaves and other attention blocks, their gates and logits too, one node each."""
    classes = {row.make for row in BLOCKS.values() if row.make is not nn.Identity}

    def wrap(module, method, node_of):
        inner = getattr(module, method)

        def outer(x):
            if recorder.inside:
                return inner(x)
            reads = [recorder.node_of(x)]
            recorder.inside += 1
            shape = tuple(x.shape)
            out = inner(x)
            recorder.inside -= 1
            recorder.add(node_of(shape), reads, [out])
            return out
        setattr(module, method, outer)
    for module in list(block.modules())[1:]:
        if type(module) in classes:
            wrap(module, "forward", lambda shape, m=module: Node("block", [title(m)]))
            for part in ("gate", "logits"):
                if hasattr(module, part):
                    wrap(module, part, lambda shape, m=module, part=part: Node(
                        "block", [f"{title(m)}’s", part, *turned(shape)]))
        elif not list(module.children()) and not isinstance(module, nn.Identity):
            wrap(module, "forward", lambda shape, m=module: leaf(m, shape))


def turned(shape) -> list[str]:
    """A line for a map that is not read as C×H×W."""
    return [] if shape == (B, C, H, W) else [f"of {shape_text(shape)}"]


def ancestors(last: Node) -> set[Node]:
    """What a node rests on, and itself."""
    found, todo = set(), [last]
    while todo:
        node = todo.pop()
        if node not in found:
            found.add(node)
            todo += node.reads
    return found


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

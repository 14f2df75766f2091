"""Blocks put into a network that is not ours: torchvision's, timm's, the user's own."""
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase

import torch
from torch import nn

from ..blocks import ATTENTION
from ..names import parse
from .attended import KEY, Attended, FromIdentity, attach, detach, exchange
from .build import resolve, seed_layers
from .slots import Slot

RESIDUAL = {"BasicBlock", "Bottleneck"}     # classes whose branch ends are places by themselves
SHORTCUT = re.compile("down|short", re.IGNORECASE)
CLOSED = {"SqueezeExcitation", "SqueezeExcite", "SEModule", "EffectiveSEModule"}
OURS = {getattr(row.make, "__name__", "") for name, row in ATTENTION.items() if name != "none"}


def add_attention(model: nn.Module, attention: str, where: type | str | None = None, *,
                  example: torch.Tensor | tuple | None = None, zero_init: bool = False,
                  seed: int = 0) -> nn.Module:
    """Put a block after modules of any CNN, in place: y = block(M(x)) for each M of ``where``.
    Returns ``model`` itself. The weights it has stay as they are, bit for bit.

    ``attention``: a name of ATTENTION with its options, ``"cbam(gate_init=open)"``.

    ``where``: a module class, or its name (``"Bottleneck"``; subclasses count); or a pattern for
    qualified names, in which ``*`` and ``?`` do not cross a dot (``"layer?.*.bn3"``). None: the end
    of each residual branch of a ResNet, before the sum, or the free ``block`` slots of a network of
    attnlib. A block that ``replace``s a convolution (``aa``, ``sk``) takes the place of M, a 3×3
    convolution C -> C of stride 1; None means each ``conv2`` that is one. No block is put into or
    after another one, torchvision's and timm's SE among them.

    ``example``: images [B, C, H, W], or a tuple of arguments, on which the channels are found by a
    dry run that leaves no trace; zeros [1, 3, 64, 64] by default. An M that runs several times has
    one block for all of them. Channels must come second: [B, H, W, C] cannot be told apart.

    ``zero_init``: y = M(x) + t (block(M(x)) − M(x)), t learned and 0 at the start: outputs are what
    they were. For pretrained weights: most gates start near 1/2 and shrink what was learnt.

    ``seed``: the block's weights are drawn from it and the block's qualified name alone. They have
    the type of M's weights and stand on the device of M's output.

    M becomes `Attended`, M and then the block (a plain ``nn.Sequential`` gets it as last child). In
    the state dict the block is ``….added_attention`` and no other key changes; one from before
    needs ``strict=False``.

    Raises ``ValueError``, with the model as it was, for unknown names; where nothing matches; for
    an M that never runs, whose output is not [B, C, H, W] or changes C, that has a block already or
    that its network does not just call; and for a model that is compiled, scripted or traced."""
    if not isinstance(model, nn.Module):
        raise ValueError(f"add_attention changes a network, an nn.Module; this is {model!r}")
    if hasattr(model, "_orig_mod") or isinstance(model, torch.jit.ScriptModule):
        raise ValueError("the model is compiled, and what is compiled does not see a new block: "
                         "add_attention(model) first, then compile or trace it")
    make, options = resolve("attention", attention, ATTENTION)
    replacing = ATTENTION[parse(attention)[0]].placement == "replace"
    if replacing and zero_init:
        raise ValueError(f"zero_init: {attention} replaces a convolution, so there is no identity")
    modules = open_modules(model)
    names = find_places(model, modules, where, replacing)
    if example is None:
        example = torch.zeros(1, 3, 64, 64, dtype=float_type(model, model))
    args = example if isinstance(example, tuple) else (example,)
    found = find_channels(model, names, args)
    if parse(attention)[0] == "none":
        return model
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        blocks = {}
        for name, (channels, device) in found.items():
            block = make(channels, **options)
            block = FromIdentity(block) if zero_init else block
            block.is_attention = True
            seed_layers(block, seed, name if replacing else f"{name}.{KEY}")
            blocks[name] = block.to(device, float_type(modules[name], model))
            block.train(modules[name].training)
    for name, block in blocks.items():
        if replacing:
            exchange(model, modules[name], block)
        else:
            attach(model, modules[name], block)
    if not replacing:
        check_added(model, modules, names, args)
    return model


def check_added(model: nn.Module, modules: dict, names: list[str], args: tuple) -> None:
    """Each block runs, once for each run of its host; else all are taken out again."""
    try:
        seen = dry_run(model, [x for name in names for x in (name, f"{name}.{KEY}")], args)
        odd = [name for name in names if len(seen[name]) != len(seen[f"{name}.{KEY}"])]
        why = "the network does more with it than to call it"
    except ValueError as error:
        odd, why = names, str(error)
    if odd:
        for name in names:
            detach(model, modules[name])
        raise ValueError(f"no block can be put after {abridged(odd)}: {why}; give another where=")


# --- Where ---


def open_modules(model: nn.Module) -> dict[str, nn.Module]:
    """Qualified name -> module, without the model itself, attention blocks and what is in them. A
    host with a block added has the name that it had before."""
    out, closed, hosts = {}, (), []
    for name, module in model.named_modules():
        plain = name
        for host in hosts:
            if f"{name}.".startswith(f"{host}.host."):
                plain = plain.replace(f"{host}.host", host, 1)
        if isinstance(module, Attended):
            hosts.insert(0, name)
        elif name and not f"{name}.".startswith(closed):
            own = type(module).__module__.startswith("attnlib.blocks")
            ours = classes(module) & OURS and (own or hasattr(module, "gate"))      # or a copy
            if getattr(module, "is_attention", False) or ours or classes(module) & CLOSED:
                closed += (f"{name}.",)
            else:
                out[plain] = module
    return out


def find_places(model: nn.Module, modules: dict, where: type | str | None,
                replacing: bool) -> list[str]:
    """The names that ``where`` stands for, in the order of the network."""
    if where is None:
        names = own_places(modules, replacing)
        missing = (f"where=None knows no place in {type(model).__name__}, only the branches of "
                   "ResNets; elsewhere say after which maps [B, C, H, W] a block comes")
    elif isinstance(where, type) and issubclass(where, nn.Module):
        names = [name for name, module in modules.items() if isinstance(module, where)]
        missing = f"{type(model).__name__} has no module of type {where.__name__}"
    elif isinstance(where, str):
        names = ([name for name, m in modules.items() if where in classes(m)]
                 or [name for name in modules if matches(name, where)])
        missing = f"{type(model).__name__} has no module of type or name {where!r}"
    else:
        raise ValueError(f"where={where!r} should be a module class, its name, a name pattern such "
                         "as 'layer?.*.bn3', or None")
    if not names:
        types = Counter(type(module).__name__ for module in modules.values()).most_common()
        parents = {name.rpartition(".")[0] for name in modules}
        top = [f"'{name}.*'" if name in parents else repr(name)
               for name in modules if "." not in name]
        raise ValueError(f"{missing}; where= takes a type, here "
                         + (", ".join(f"{name} ×{n}" for name, n in types) or "none")
                         + ", or a name pattern, such as " + ", ".join(top[:12]))
    for name in names:
        place = model.get_submodule(name)
        if hasattr(place, KEY):
            raise ValueError(f"{name} has {type(getattr(place, KEY)).__name__} added "
                             "already: take a fresh model, or another where=")
        if replacing and not is_plain(modules[name]):
            raise ValueError(f"{name} is no 3×3 convolution C -> C of stride 1, which this block "
                             f"replaces: {modules[name]}"[:300])
    return names


def matches(name: str, pattern: str) -> bool:
    """As file names in a shell: a star does not cross a dot."""
    name, pattern = name.split("."), pattern.split(".")
    return len(name) == len(pattern) and all(map(fnmatchcase, name, pattern))


def classes(module: nn.Module) -> set[str]:
    """The names of a module's class and of those it descends from."""
    return {c.__name__ for c in type(module).__mro__}


def own_places(modules: dict, replacing: bool) -> list[str]:
    """The free slots of a network of ours, else the ends of residual branches: the last convolution
    or norm that is not the shortcut's. Of those to replace: ``conv2`` where it `is_plain`."""
    slots = [name for name, m in modules.items() if isinstance(m, Slot) and "block" in m.placements]
    if slots and not replacing:
        return slots
    places = []
    for name, module in modules.items():
        if RESIDUAL & classes(module):
            ends = [end for end, child in module.named_children() if not SHORTCUT.search(end)
                    and re.search("Conv|Norm", type(getattr(child, "host", child)).__name__)][-1:]
            if replacing:
                ends = ["conv2"] if is_plain(getattr(module, "conv2", None)) else []
            places += [f"{name}.{end}" for end in ends]
    return places


def is_plain(m: nn.Module | None) -> bool:
    """A plain 3×3 convolution C -> C that keeps the map's size."""
    return (isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3) and m.padding in ((1, 1), "same")
            and m.stride == m.dilation == (1, 1) and m.in_channels == m.out_channels
            and m.groups == 1)


# --- The dry run ---


def float_type(module: nn.Module, model: nn.Module) -> torch.dtype:
    """The type of the module's own floating-point parameters, else of the model's."""
    return next((p.dtype for m in (module, model) for p in m.parameters()
                 if p.dtype.is_floating_point), torch.get_default_dtype())


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Eval mode and no gradients of parameters; afterwards all modes are what they were."""
    modes = {module: module.training for module in model.modules()}
    wanted = {parameter: parameter.requires_grad for parameter in model.parameters()}
    try:
        model.eval()                            # not in a chain: a network's own may return None
        model.requires_grad_(False)
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        for parameter, own in wanted.items():
            parameter.requires_grad_(own)


def dry_run(model: nn.Module, names: list[str], args: tuple) -> dict[str, list]:
    """Name -> (shape, device) of each output, None if it is no tensor, of one forward pass in eval
    mode without gradients, after which the model and the random state are as before."""
    seen = {name: [] for name in names}

    def note(name):
        return lambda module, args, y: seen[name].append(
            (getattr(y, "shape", None), getattr(y, "device", None)))
    hooks = [model.get_submodule(name).register_forward_hook(note(name)) for name in names]
    device = next(model.parameters(), torch.empty(0)).device
    cuda = [device] if device.type == "cuda" else []
    try:
        with untouched(model), torch.no_grad(), torch.random.fork_rng(cuda):
            model(*(a.to(device) if isinstance(a, torch.Tensor) else a for a in args))
    except Exception as error:
        shapes = ", ".join(str(list(a.shape)) if hasattr(a, "shape") else type(a).__name__
                           for a in args)
        raise ValueError(f"the dry run on {shapes} failed: {type(error).__name__}: {error}; "
                         "example= takes the input that the model expects") from error
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def find_channels(model: nn.Module, names: list[str], args: tuple) -> dict[str, tuple]:
    """Name -> (C, device), from the outputs that a dry run sees. On larger images channels are as
    many; what grows with them is height: [B, H, W, C]."""
    seen = dry_run(model, names, args)
    if never := [name for name in names if not seen[name]]:
        raise ValueError(f"never run in the dry run: {abridged(never)}; leave them out of where=")
    if odd := [n for n in names if any(shape is None or len(shape) != 4 for shape, _ in seen[n])]:
        outputs = ", ".join("no tensor" if s is None else str(list(s)) for s, _ in seen[odd[0]])
        raise ValueError(f"not [B, C, H, W]: the output of {abridged(odd)} ({outputs}); "
                         "leave them out of where=")
    for name in names:
        if len(found := {shape[1] for shape, _ in seen[name]}) > 1:
            raise ValueError(f"{name} runs several times, with {sorted(found)} channels: one block "
                             "cannot follow it; give another where=")
    channels = {name: (seen[name][0][0][1], seen[name][0][1]) for name in names}
    larger = (a.repeat(1, 1, 2, 2) if getattr(a, "ndim", 0) == 4 else a for a in args)
    with suppress(ValueError):                                 # a network for one size alone
        seen = dry_run(model, names, tuple(larger))
    if odd := [n for n in names if any(shape[1] != channels[n][0] for shape, _ in seen[n])]:
        raise ValueError(f"not [B, C, H, W]: the second size of {abridged(odd)} grows with the "
                         "image; leave them out of where=")
    return channels


def abridged(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")

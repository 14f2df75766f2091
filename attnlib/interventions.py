"""What a trained gate's dependence on the image is worth: replace the gate at test time, and count
the accuracy that is lost.

A site is a module that computes y = x · gate(x). Its gate g_n of image n becomes

- ``mean``: (1/N) Σ_n g_n, the same for every image: what the gate learned about channels and
  places in general stays, what it sees in this image goes;
- ``one``: 1, no gate at all. The layers behind it were trained on gated maps, so this also takes
  away a scale that they expect;
- ``other``: g of the image before it in the batch: an image's own gate against a real, wrong one.

Gates are those of the whole trained network, also where several sites are replaced at once."""
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from .models import attention_blocks

IMAGES = 1000
BATCH = 100
MODES: dict[str, Callable] = {          # (the images' gates, their mean over the data set) -> gate
    "mean": lambda own, mean: mean,
    "one": lambda own, mean: torch.ones_like(own),
    "other": lambda own, mean: own.roll(1, 0)}


def sites(model: nn.Module) -> dict[str, nn.Module]:
    """Qualified name -> every module of the attention blocks that multiplies its input by its
    ``gate(x)``. A gate that only feeds another one is no site: of several, one within the other,
    the outermost."""
    out = {}
    for block_name, block in attention_blocks(model).items():
        for name, module in block.named_modules(prefix=block_name):
            if hasattr(module, "gate") and not any(name.startswith(f"{s}.") for s in out):
                out[name] = module
    return out


def without_gate(model: nn.Module) -> list[str]:
    """The names of attention blocks that have no gate in them, such as `GlobalContext`'s."""
    found = list(sites(model))
    return [name for name in attention_blocks(model)
            if not any(f"{site}.".startswith(f"{name}.") for site in found)]


def stage_of(name: str) -> str:
    """The part of the network that a site is in: ``stage2``, or ``stem``, ``head``, ``head_post``.
    """
    first, *rest = name.split(".")
    return f"stage{int(rest[0]) + 1}" if first == "stages" else first


@contextmanager
def hooked(modules: dict[str, nn.Module], hook: Callable) -> Iterator[None]:
    """Within it ``hook(name, module, x, y)`` sees each module's input and output, and what it
    returns, if anything, takes the output's place."""
    handles = [module.register_forward_hook(
        lambda module, args, y, name=name: hook(name, module, args[0], y))
        for name, module in modules.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def batches(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """``x`` in parts of nearly equal length, so that no image is alone with its own gate."""
    return x.tensor_split(max(1, len(x) // BATCH))


@torch.no_grad()
def gates_of(model: nn.Module, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """Site -> the gate on images x, broadcastable to the site's maps; keeps them all."""
    out = {}
    with hooked(sites(model), lambda name, site, x, y: out.__setitem__(name, site.gate(x))):
        model.eval()(x)
    return out


@torch.no_grad()
def replaced(model: nn.Module, x: torch.Tensor, new: dict[str, torch.Tensor]) -> torch.Tensor:
    """The logits of images x where these sites multiply by ``new`` instead of their own gates."""
    found = sites(model)
    with hooked({name: found[name] for name in new}, lambda name, site, x, y: x * new[name]):
        return model.eval()(x)


def mean_gates(model: nn.Module, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """Site -> the mean of its gates over images, [1, …]; summed in double precision, so that a gate
    that is the same for all of them is its own mean to the bit."""
    total: dict[str, torch.Tensor] = {}
    for part in batches(x):
        for name, gate in gates_of(model, part).items():
            total[name] = total.get(name, 0) + gate.double().sum(0, keepdim=True)
    return {name: (value / len(x)).float() for name, value in total.items()}


def scopes(model: nn.Module) -> dict[str, list[str]]:
    """What is replaced together: all sites; those of each part of the network; and where there are
    gates of both kinds, those that are one number a channel and those that are a map."""
    from .attention import SpatialAttention
    found = sites(model)
    out = {"all": list(found)}
    for name in found:
        out.setdefault(stage_of(name), []).append(name)
    maps = [name for name, site in found.items() if isinstance(site, SpatialAttention)]
    if 0 < len(maps) < len(found):
        out |= {"channel gates": [name for name in found if name not in maps],
                "spatial gates": maps}
    return out


def measure(model: nn.Module, x: torch.Tensor, labels) -> dict[str, np.ndarray]:
    """Replace the gates of a trained network on normalised images x [N, C, H, W] with their labels
    [N]; the first IMAGES of them.

    ``swap_scope`` [S] what was replaced, ``swap_mode`` [M] with what, ``swap_lost`` [S, M] the
    accuracy lost in percentage points, ``swap_changed`` [S, M] the share of images whose predicted
    class changed, ``swap_accuracy`` the untouched network's, %, ``swap_images`` N, ``swap_without``
    the blocks that have no gate. A network without gates: the last alone. S counts `scopes`."""
    without = {"swap_without": np.array(without_gate(model), dtype="S")}
    if not sites(model):
        return without
    x, groups = x[:IMAGES], scopes(model)
    labels = torch.as_tensor(np.asarray(labels)[:len(x)], device=x.device)
    means = mean_gates(model, x)
    right, changed, plain = (torch.zeros(size, dtype=torch.float64) for size in (
        (len(groups), len(MODES)), (len(groups), len(MODES)), ()))
    for part, truth in zip(batches(x), batches(labels), strict=True):
        own = gates_of(model, part)
        usual = replaced(model, part, {}).argmax(1)
        plain += (usual == truth).sum().cpu()
        for i, names in enumerate(groups.values()):
            for j, swap in enumerate(MODES.values()):
                new = {name: swap(own[name], means[name]) for name in names}
                found = replaced(model, part, new).argmax(1)
                right[i, j] += (found == truth).sum().cpu()
                changed[i, j] += (found != usual).sum().cpu()
    return without | {
        "swap_scope": np.array(list(groups), dtype="S"), "swap_mode": np.array(list(MODES), "S"),
        "swap_lost": (100 * (plain - right) / len(x)).numpy().astype(np.float32),
        "swap_changed": (changed / len(x)).numpy().astype(np.float32),
        "swap_accuracy": np.float32(100 * plain / len(x)), "swap_images": np.int32(len(x))}

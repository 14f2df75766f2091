"""What a trained gate's dependence on the image is worth: replace the gate at test time, and count
the accuracy that is lost.

A site is a module that computes y = x · gate(x). Its gate g_n of image n becomes

- ``mean``: (1/N) Σ_n g_n, the same for every image: what the gate learned about channels and
  places in general stays, what it sees in this image goes;
- ``other``: g of the image before it in the batch: an image's own gate against a real, wrong one;
- ``one``: 1, no gate at all. The layers behind it were trained on gated maps, so this also takes
  away a scale that they expect.

Gates are those of the whole trained network, also where several sites are replaced at once."""
from collections.abc import Callable
from contextlib import ExitStack
from unittest.mock import patch

import numpy as np
import torch
from torch import nn

from ..blocks.spatial import SpatialAttention
from ..networks.cost import attention_blocks
from ..networks.insert import untouched
from .cam import BATCH, fitting

IMAGES = 1000
# -> what it is called, (the images' gates, their mean over the data set) -> the gate instead
MODES: dict[str, tuple[str, Callable]] = {
    "mean": ("its mean over images", lambda own, mean: mean),
    "other": ("another image's", lambda own, mean: own.roll(1, 0)),
    "one": ("1: no gate", lambda own, mean: torch.ones_like(own))}


def gate_sites(model: nn.Module) -> dict[str, nn.Module]:
    """Qualified name -> every module of the attention blocks that multiplies its input by its
    ``gate(x)``: of several, one within the other, the outermost, which the others only feed."""
    out = {}
    for block_name, block in attention_blocks(model).items():
        for name, module in block.named_modules(prefix=block_name):
            if hasattr(module, "gate") and not any(name.startswith(f"{s}.") for s in out):
                out[name] = module
    return out


def part_of(name: str) -> str:
    """The part of the network that a site is in: ``stage2``, or such as ``stem`` and ``head``."""
    first, *rest = name.split(".")
    return f"stage{int(rest[0]) + 1}" if first == "stages" else first


def logits_with(forwards: dict[str, Callable], model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The logits of images x where the modules of these names compute these functions instead."""
    with ExitStack() as stack, untouched(model), torch.no_grad():
        for name, forward in forwards.items():
            stack.enter_context(patch.object(model.get_submodule(name), "forward", forward))
        return model(fitting(model, x))


def batches(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """``x`` in parts of nearly equal length, so that no image is alone with its own gate."""
    return x.tensor_split(max(1, len(x) // BATCH))


def observed(model: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The logits of images x, and the gate of every site: name -> [N, C or 1, h or 1, w or 1]."""
    found: dict[str, torch.Tensor] = {}

    def observe(name, site):
        def forward(x):
            found[name] = site.gate(x)
            return x * found[name]
        return forward
    sites = gate_sites(model).items()
    return logits_with({name: observe(name, site) for name, site in sites}, model, x), found


def gate_pictures(model: nn.Module, x: torch.Tensor) -> dict[str, np.ndarray]:
    """``gate_map_<part>`` float16 [N, h, w]: the gates over places of the last site of each part of
    the network on images x, their mean over channels."""
    return {f"gate_map_{part_of(name)}": gate.float().mean(1).cpu().numpy().astype(np.float16)
            for name, gate in observed(model, x)[1].items() if gate[0, 0].numel() > 1}


def replaced(model: nn.Module, x: torch.Tensor, new: dict[str, torch.Tensor]) -> torch.Tensor:
    """The logits of images x where these sites multiply by ``new`` instead of their own gates."""
    return logits_with({name: (lambda x, gate=gate: x * gate.to(x.dtype))
                        for name, gate in new.items()}, model, x)


def survey(model: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The predicted classes [N] of images x, and the mean gate of each site, [1, …]. It is summed
    in double precision: a gate that is the same for all images is its own mean to the bit."""
    classes, total = [], {}
    for part in batches(x):
        logits, gates = observed(model, part)
        classes.append(logits.argmax(1))
        for name, gate in gates.items():
            total[name] = total.get(name, 0) + gate.sum(0, keepdim=True, dtype=torch.float64)
    return torch.cat(classes), {name: (value / len(x)).float() for name, value in total.items()}


def scopes(model: nn.Module) -> dict[str, list[str]]:
    """What is replaced together: all sites; those of each part of the network; and where there are
    gates of both kinds, those that are one number a channel and those that are a map."""
    found = gate_sites(model)
    out = {"all": list(found)}
    for name in found:
        out.setdefault(part_of(name), []).append(name)
    maps = [name for name, site in found.items() if isinstance(site, SpatialAttention)]
    if 0 < len(maps) < len(found):
        out |= {"channel gates": [name for name in found if name not in maps],
                "spatial gates": maps}
    return out


def measure_swaps(model: nn.Module, x: torch.Tensor, labels) -> dict[str, np.ndarray]:
    """Replace the gates of a trained network on normalised images x [N, C, H, W] with their labels
    [N]: on the first IMAGES of them all sites at once, on the first half of these the others.

    ``swap_scope`` [S] what was replaced (see `scopes`), ``swap_mode`` [M] with what, ``swap_lost``
    [S, M] the accuracy lost in percentage points. {} for a network without gates."""
    groups, x = scopes(model), x[:IMAGES]
    if not groups["all"]:
        return {}
    usual, means = survey(model, x)
    truth = np.asarray(labels)[:len(x)]
    right = usual.cpu().numpy() == truth
    found, done = {scope: [] for scope in groups}, 0                 # classes [M, batch]
    for part in batches(x):
        own, done = observed(model, part)[1], done + len(part)
        for scope, names in groups.items():
            if scope == "all" or done <= IMAGES // 2:
                found[scope].append([replaced(model, part, {
                    name: swap(own[name], means[name]) for name in names}).argmax(1).cpu().numpy()
                    for _, swap in MODES.values()])
    now = [np.concatenate(parts, 1) for parts in found.values()]      # [M, n] a scope
    lost = [100 * (right[:y.shape[1]].mean() - (y == truth[:y.shape[1]]).mean(1)) for y in now]
    return {"swap_scope": np.array(list(groups), "S"), "swap_mode": np.array(list(MODES), "S"),
            "swap_lost": np.array(lost, np.float32)}


def swap_rows(arrays: dict) -> list[dict]:
    """What `measure_swaps` stored of one run, a dict for each scope and mode."""
    return [{"scope": scope.decode(), "mode": mode.decode(),
             "lost": float(arrays["swap_lost"][i, j])}
            for i, scope in enumerate(arrays.get("swap_scope", ()))
            for j, mode in enumerate(arrays["swap_mode"])]

"""What a block does to an image, at one site a stage of a small ResNet-18.

Where a block has a gate, that gate is shown; where it has none, the size of its output relative to
its input: |y| / |x|, over the channels of a place or over the places of a channel."""
from typing import NamedTuple

import matplotlib.pyplot as plt
import torch
from torch import nn

from ..experiments.planning import embedded, study
from ..experiments.studies import STUDIES, plans, run_of
from ..experiments.weights import load_model
from ..explain.cam import inputs
from ..networks.cost import attention_blocks
from ..training.run import Run
from ..training.trainer import data_of, model_of
from .gates import colour_limits
from .pictures import extent, outline, show

IMAGES = 20                              # rows of a strip
ROWS = ("places", "channels")


def network_with(name: str, profile: str) -> tuple[nn.Module, Run, str]:
    """A ResNet-18 with the block, in the sizes of ``small`` (in tests of ``smoke``): trained where
    weights are stored, from the study ``blocks`` if it has some, else from another study's first
    seed, else as it starts; its run; and how far it was trained."""
    profile = embedded(profile)
    first = next((r for r in study("blocks", profile) if r.attention == name),
                 run_of(plans("blocks", profile)[0], profile, name, 0))
    like = [r for key in STUDIES for r in study(key, profile)
            if (r.attention, r.backbone, r.seed) == (first.attention, first.backbone, 0)]
    for run in [first, *like]:
        try:
            model = load_model(run, profile)
        except LookupError:
            continue
        return model, run, f"trained: {run.how.epochs} epochs, {run.n_train:,} images, one seed"
    return model_of(first, data_of(first)).eval(), first, "untrained: initial weights"


def block_gain(block: nn.Module, x: torch.Tensor) -> torch.Tensor | None:
    """What a block multiplies x by, broadcastable to it; of a chain of blocks the product. None for
    a block without a gate."""
    if hasattr(block, "gate"):
        return block.gate(x)
    if not isinstance(block, nn.Sequential):
        return None
    product = torch.ones(())
    for part in block:
        own = block_gain(part, x)
        if own is None:
            return None
        product, x = product * own, part(x)
    return product


class Effect(NamedTuple):
    """What a block does at one site: ``places`` [N, h, w] and ``channels`` [N, C], its gain, as a
    mean over channels and over places; None where it is the same for all of them. ``gated``: it
    is a gate's gain and not |y| / |x|."""
    places: torch.Tensor | None
    channels: torch.Tensor | None
    gated: bool


def effect(block: nn.Module, x: torch.Tensor, y: torch.Tensor) -> Effect:
    g = block_gain(block, x)
    if g is None:
        return Effect(size_ratio(y, x, (1,)), size_ratio(y, x, (2, 3)), False)
    return Effect(g.mean(1) if g[0, 0].numel() > 1 else None,
                  g.mean((2, 3)) if g.shape[1] > 1 else None, True)


def size_ratio(y: torch.Tensor, x: torch.Tensor, over: tuple[int, ...]) -> torch.Tensor:
    """|y| / |x|, both averaged over these dimensions; a dead channel of x counts as a tenth of the
    mean one, since a block that mixes channels fills it."""
    x, y = x.abs().mean(over), y.abs().mean(over)
    return y / x.maximum(x.flatten(1).mean(1).reshape(-1, *[1] * (x.ndim - 1)) / 10 + 1e-6)


def stage_effects(model: nn.Module, x: torch.Tensor) -> dict[int, Effect]:
    """Stage -> the effect of its last block, for images x."""
    found, hooks = {}, []
    for name, block in attention_blocks(model).items():
        stage = int(name.split(".")[1]) + 1
        hooks.append(block.register_forward_hook(
            lambda block, args, y, stage=stage: found.__setitem__(stage, effect(block, *args, y))))
    try:
        with torch.no_grad():
            model.eval()(x)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def block_gates(name: str, profile: str) -> plt.Figure:
    """A block's effect on ShapeTex images, a column a stage: over places, drawn on the first image
    with the outline of its object; and as strips, an image a row, channels across in the order of
    their mean. The title says of what, and with which weights."""
    model, run, weights = network_with(name, profile)
    images, x, _ = inputs(run, IMAGES)
    stages, mask = stage_effects(model, x), data_of(run).extras["test"]["mask"][0]
    rows = [row for row in ROWS if any(getattr(e, row) is not None for e in stages.values())]
    values = {(row, stage): getattr(e, row).numpy() for stage, e in stages.items() for row in rows}
    low, high = colour_limits(values.values())
    figure, axes = plt.subplots(len(rows), 1 + len(stages), squeeze=False, layout="constrained",
                                figsize=(1.3 * (1 + len(stages)) + 0.6, 1.4 * len(rows) + 0.5))
    for axis in axes[:, 0]:
        axis.axis("off")
    show(axes[0, 0], images[0])
    outline(axes[0, 0], mask)
    for (row, stage), found in values.items():
        axis = axes[rows.index(row), 1 + list(stages).index(stage)]
        axis.set(xticks=[], yticks=[])
        axis.grid(False)
        look = {"vmin": low, "vmax": high, "cmap": "viridis"}
        if row == "places":
            show(axis, images[0].mean(-1))
            picture = axis.imshow(found[0], alpha=0.7, interpolation="bilinear",
                                  extent=extent(mask.shape), **look)
            outline(axis, mask)
        else:
            picture = axis.imshow(found[:, found.mean(0).argsort()], aspect="auto",
                                  interpolation="nearest", **look)
            axis.set_xlabel(f"{found.shape[1]} channels", fontsize=7.5, labelpad=2)
        if row == rows[0]:
            axis.set_title(f"stage {stage}", fontsize=8, pad=3)
    figure.colorbar(picture, ax=axes, pad=0.01).ax.tick_params(labelsize=7, length=2)
    what = "gain" if all(e.gated for e in stages.values()) else "|y| / |x|"
    figure.suptitle(f"{what} at the last site of each stage; {weights}", fontsize=8, x=0.01,
                    ha="left", color="#555555")
    return figure

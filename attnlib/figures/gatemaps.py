"""What a block does to an image, at one site a stage of a small ResNet-18.

Where a block has a gate, that gate is shown; where it has none, the size of its output relative to
its input: |y| / |x|, over the channels of a place or over the places of a channel."""
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn

from ..experiments.planning import embedded, study
from ..experiments.studies import STUDIES, plans, run_of
from ..experiments.weights import load_model
from ..explain.cam import inputs
from ..networks.cost import attention_blocks
from ..training.run import Run
from ..training.trainer import data_of, model_of
from .plots import outline, show

IMAGES = 20                              # rows of a strip
CELL, GAP, ROW = 1.12, 0.14, 0.4         # inches: a picture, between columns, between rows
LEAST = 0.1                              # of the colours' range: a flat gate should look flat


def network(name: str, profile: str) -> tuple[nn.Module, Run, str]:
    """A ResNet-18 with the block, in the sizes of ``small`` (in tests of ``smoke``): trained where
    weights are stored, from the study ``blocks`` if it has some, else from another study's first
    seed, else as it starts; its run; and words that say which."""
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
        says = f"trained for {run.how.epochs} epochs on {run.n_train:,} images, one seed"
        return model, run, says
    return model_of(first, data_of(first)).eval(), first, "initial weights, untrained"


def gain(block: nn.Module, x: torch.Tensor) -> torch.Tensor | None:
    """What a block multiplies x by, broadcastable to it; of a chain of blocks the product. None for
    a block without a gate."""
    if hasattr(block, "gate"):
        return block.gate(x)
    if not isinstance(block, nn.Sequential):
        return None
    product = torch.ones(())
    for part in block:
        own = gain(part, x)
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
    g = gain(block, x)
    if g is None:
        return Effect(ratio(y, x, (1,)), ratio(y, x, (2, 3)), False)
    return Effect(g.mean(1) if g[0, 0].numel() > 1 else None,
                  g.mean((2, 3)) if g.shape[1] > 1 else None, True)


def ratio(y: torch.Tensor, x: torch.Tensor, over: tuple[int, ...]) -> torch.Tensor:
    """|y| / |x|, both averaged over these dimensions; a dead channel of x counts as a tenth of the
    mean one, since a block that mixes channels fills it."""
    x, y = x.abs().mean(over), y.abs().mean(over)
    return y / x.maximum(x.flatten(1).mean(1).reshape(-1, *[1] * (x.ndim - 1)) / 10 + 1e-6)


def effects(model: nn.Module, x: torch.Tensor) -> dict[int, Effect]:
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


class Seen(NamedTuple):
    """What there is to draw of a block: an image and its object's mask, the effects, a caption."""
    image: np.ndarray
    mask: np.ndarray
    stages: dict[int, Effect]
    caption: str

    @property
    def rows(self) -> list[str]:
        """The rows of the picture: by places, by channels, or both."""
        return [row for row in ("places", "channels")
                if any(getattr(e, row) is not None for e in self.stages.values())]


def seen(name: str, profile: str) -> Seen:
    """Run a block's network over the first test images of ShapeTex."""
    model, run, weights = network(name, profile)
    images, x, _ = inputs(run, IMAGES)
    stages = effects(model, x)
    what = "gain" if all(e.gated for e in stages.values()) else "|y| / |x|"
    rows = f"\nstrips: {IMAGES} images down, channels in the order of their mean" \
        if any(e.channels is not None for e in stages.values()) else ""
    return Seen(images[0], data_of(run).extras["test"]["mask"][0], stages,
                f"{what} at the last site of each stage; {weights}{rows}")


def size_of(found: Seen) -> tuple[float, float]:
    """Height and width of its picture in inches, with room for the caption."""
    return (len(found.rows) * (CELL + ROW) + 0.4,
            (len(found.stages) + 1) * (CELL + GAP) + 0.5)


def paint(figure: plt.Figure, at, found: Seen) -> None:
    """Draw on a figure: the image, then one column a stage; ``at(x, y, width, height)`` gives the
    place of axes from inches, from the lower left."""
    values = [getattr(e, row).numpy().ravel() for e in found.stages.values() for row in found.rows]
    scale = dict(zip(("vmin", "vmax"), limits(np.concatenate(values)), strict=True), cmap="viridis")
    for k, row in enumerate(reversed(found.rows)):
        for column, (stage, e) in enumerate(found.stages.items(), 1):
            axis = figure.add_axes(at(column * (CELL + GAP), k * (CELL + ROW), CELL, CELL))
            picture = PAINT[row](axis, getattr(e, row).numpy(), found, scale)
            if row == found.rows[0]:
                axis.set_title(f"stage {stage}", fontsize=8, pad=3)
    axis = figure.add_axes(at(0, k * (CELL + ROW), CELL, CELL))
    show(axis, found.image)
    outline(axis, found.mask)
    axis.set_title("image", fontsize=8, pad=3)
    bar = figure.add_axes(at((len(found.stages) + 1) * (CELL + GAP), 0, 0.08, CELL))
    figure.colorbar(picture, cax=bar).ax.tick_params(labelsize=7, length=2)


def limits(values: np.ndarray) -> tuple[float, float]:
    """Ends of the colour scale: the range of the values without the outermost per cent, and at
    least LEAST wide."""
    low, high = np.percentile(values, (1, 99))
    middle, half = (low + high) / 2, max(high - low, LEAST) / 2
    return middle - half, middle + half


def on_image(axis, maps: np.ndarray, found: Seen, scale: dict):
    """The first image in grey under its map and the outline of its object."""
    show(axis, found.image.mean(-1))
    height, width = found.mask.shape
    picture = axis.imshow(maps[0], alpha=0.7, interpolation="bilinear", **scale,
                          extent=(-0.5, width - 0.5, height - 0.5, -0.5))
    outline(axis, found.mask)
    return picture


def strip(axis, rows: np.ndarray, found: Seen, scale: dict):
    """One row an image, channels across, in the order of their mean."""
    axis.set(xticks=[], yticks=[])
    axis.set_xlabel(f"{rows.shape[1]} channels", fontsize=7.5, labelpad=2)
    return axis.imshow(rows[:, rows.mean(0).argsort()], aspect="auto", interpolation="nearest",
                       **scale)


PAINT = {"places": on_image, "channels": strip}

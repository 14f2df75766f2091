"""Where a network looks: maps at a stage's own resolution, from pytorch-grad-cam's classes.

Maps are raw: pytorch-grad-cam's pictures are min-max scaled per image, which would make every share
of mass meaningless. The target is a stage's output after its ReLU and its slots, so that every
block's gates count alike. Every method of MAPS takes one `Pass` of the network; what knows nothing
of the class, or of the image, is there as a baseline."""
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from ..data.batches import Batches
from ..names import choose, derive
from ..training.run import Run
from ..training.trainer import data_of

LEAST = 3                     # cells a side: on fewer, "where" has no meaning


class Pass(NamedTuple):
    """What maps are made of: the normalised images x [N, C, H, W], their classes [N], the stage's
    output and the gradient of the class's logit there [N, K, h, w] and at the input, the logits
    [N, classes], and the network. Arrays on the CPU."""
    x: np.ndarray
    classes: np.ndarray
    activations: np.ndarray
    gradients: np.ndarray
    at_input: np.ndarray
    logits: np.ndarray
    model: nn.Module
    last: bool                # the stage is the network's last


def stage_sizes(model: nn.Module, x: torch.Tensor) -> list[tuple[int, int]]:
    """The height and width of every stage's output for images like x."""
    out = []
    with torch.no_grad():
        y = model.stem(x[:1])
        for stage in model.stages:
            y = stage(y)
            out.append(tuple(y.shape[2:]))
    return out


def deepest(model: nn.Module, x: torch.Tensor, count: int = 2) -> tuple[int, ...]:
    """The last ``count`` stages whose maps can say where, as negative numbers: (-2, -1) in a ResNet
    on 32 pixels, (-3, -2) in a VGG, whose last maps have 2×2 cells."""
    sizes = stage_sizes(model, x)
    good = [k - len(sizes) for k, size in enumerate(sizes) if min(size) >= LEAST]
    return tuple(good[-count:])


def passes(model: nn.Module, x: torch.Tensor, classes, stages=(-1,)) -> dict[int, Pass]:
    """Stage -> its `Pass`, all from one forward and one backward pass for the logit of each image's
    class in ``classes`` [N]. ``ValueError`` where a stage does not exist or has too few cells."""
    sizes = stage_sizes(model.eval(), x)
    valid = [k for k in range(-len(sizes), len(sizes)) if min(sizes[k]) >= LEAST]
    for stage in set(stages) - set(valid):
        named = ", ".join(f"{k} ({sizes[k][0]}×{sizes[k][1]})" for k in valid if k < 0)
        raise ValueError(f"stage {stage} has no map of at least {LEAST}×{LEAST} cells here; "
                         f"valid: {named or 'none'}")
    seen: dict[int, torch.Tensor] = {}
    hooks = [model.stages[k].register_forward_hook(lambda m, args, y, k=k: seen.__setitem__(k, y))
             for k in stages]
    classes = torch.as_tensor(np.asarray(classes), dtype=torch.long, device=x.device)
    try:
        with torch.enable_grad():
            inputs = x.detach().clone().requires_grad_()
            logits = model(inputs)
            gradients = torch.autograd.grad(logits.gather(1, classes[:, None]).sum(),
                                            [inputs, *(seen[k] for k in stages)])
    finally:
        for hook in hooks:
            hook.remove()
    at_input, *at_stages = map(as_array, gradients)
    return {k: Pass(as_array(x), classes.cpu().numpy(), as_array(seen[k]), gradient, at_input,
                    as_array(logits), model, k % len(sizes) == len(sizes) - 1)
            for k, gradient in zip(stages, at_stages, strict=True)}


def as_array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().float().cpu().numpy()


def library(name: str) -> Callable[[Pass], np.ndarray]:
    """A class of pytorch-grad-cam as a function of a `Pass`: its map before any scaling."""
    def of(p: Pass) -> np.ndarray:
        import pytorch_grad_cam
        method = getattr(pytorch_grad_cam, name)(p.model, [])      # no hooks: the pass is made
        return method.get_cam_image(p.x, None, None, p.activations, p.gradients, False)
    return of


def plain_cam(p: Pass) -> np.ndarray:
    """Σ_k W_yk A_k, W the classifier's weights: for a last stage with mean and linear layer behind.
    Zhou et al. 2016, arXiv:1512.04150."""
    if not (p.last and isinstance(p.model.classifier, nn.Linear)):
        raise ValueError("plain CAM needs the last stage, and a linear classifier behind it")
    weights = as_array(p.model.classifier.weight)[p.classes]
    return np.einsum("nk,nkhw->nhw", weights, p.activations)


def input_gradient(p: Pass) -> np.ndarray:
    """|∂(logit of the class)/∂x|, its mean over channels and over the pixels of each cell.
    Simonyan et al. 2013, arXiv:1312.6034, at a stage's resolution."""
    size = torch.from_numpy(np.abs(p.at_input).mean(1, keepdims=True))
    return F.adaptive_avg_pool2d(size, p.activations.shape[2:])[:, 0].numpy()


def centre(p: Pass) -> np.ndarray:
    """A Gaussian in the middle, sd a quarter of the side: photographers centre their subjects."""
    n, _, h, w = p.activations.shape
    y, x = ((np.arange(size) - (size - 1) / 2) / (size / 4) for size in (h, w))
    return np.tile(np.exp(-0.5 * (y[:, None] ** 2 + x ** 2)), (n, 1, 1))


def at_random(p: Pass) -> np.ndarray:
    """Every cell uniform on 0..1, seeded: the same for every network."""
    n, _, h, w = p.activations.shape
    return np.random.default_rng(derive("random map", h, w)).random((n, h, w))


class Map(NamedTuple):
    says: str
    make: Callable[[Pass], np.ndarray]
    baseline: bool = False


MAPS = {
    "grad_cam": Map("Grad-CAM", library("GradCAM")),
    "grad_cam_pp": Map("Grad-CAM++", library("GradCAMPlusPlus")),
    "hirescam": Map("HiResCAM", library("HiResCAM")),
    "layer_cam": Map("LayerCAM", library("LayerCAM")),
    "xgrad_cam": Map("XGrad-CAM", library("XGradCAM")),
    "eigen_cam": Map("EigenCAM", library("EigenCAM")),
    "cam": Map("CAM", plain_cam),
    "input_gradient": Map("input gradient", input_gradient, True),
    "uniform": Map("uniform", lambda p: np.ones((len(p.x), *p.activations.shape[2:])), True),
    "centre": Map("centre", centre, True),
    "random": Map("random", at_random, True),
}


def make(name: str, p: Pass) -> np.ndarray:
    """The raw map [N, h, w] ≥ 0 of a method of MAPS: what it gives, and 0 where that is negative.
    """
    return np.maximum(choose("map", name, MAPS).make(p), 0).astype(np.float32)


def methods_for(p: Pass) -> list[str]:
    """The methods of MAPS that a `Pass` allows: plain CAM needs the last stage."""
    linear = p.last and isinstance(p.model.classifier, nn.Linear)
    return [name for name in MAPS if name != "cam" or linear]


def grad_cam(model: nn.Module, x: torch.Tensor, classes, stage: int = -1) -> np.ndarray:
    """Raw Grad-CAM maps [N, h, w] ≥ 0 of normalised images x [N, C, H, W] for the logit of each
    image's class in ``classes`` [N]: relu(Σ_k w_k A_k), w_k the mean over the map of
    ∂(logit)/∂A_k. Selvaraju et al. 2017, arXiv:1610.02391."""
    return make("grad_cam", passes(model, x, classes, (stage,))[stage])


def scaled_maps(maps: np.ndarray) -> np.ndarray:
    """For pictures: every map [N, h, w] divided by its maximum; an empty one stays empty."""
    top = maps.max((1, 2), keepdims=True)
    return maps / np.where(top > 0, top, 1)


def enlarged(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Maps [N, h, w] bilinearly at (H, W)."""
    return F.interpolate(torch.from_numpy(np.ascontiguousarray(maps, np.float32))[:, None], size,
                         mode="bilinear", align_corners=False)[:, 0].numpy()


def inputs(run: Run, n: int = 100):
    """The first ``n`` test images of a run's data, as uint8, normalised, and their labels."""
    data = data_of(run)
    images, labels = data.split("test", min(n, len(data.labels["test"])))
    x, _ = next(Batches(images, labels, data.mean, data.std).ordered(len(images)))
    return images, x.contiguous(), labels

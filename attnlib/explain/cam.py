"""Where a network looks: class activation maps at a stage's own resolution.

Maps are raw: pictures scaled to 0..1 image by image would make every share of mass meaningless. The
target is a stage's output after its ReLU and its slots, so that every block's gates count alike.
Every method of MAPS takes one `Pass` of the network; what knows nothing of the class, or of the
image, is there as a baseline."""
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from ..data.batches import as_input
from ..names import derive
from ..networks.insert import untouched
from ..training.run import Run
from ..training.trainer import data_of

LEAST = 3                     # cells a side: on fewer, "where" has no meaning
BATCH = 100                   # images at once
NORMALISED = "images should be normalised, (light from 0 to 1 − mean) / std: see `cam.inputs`"


def fitting(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Images on the network's device and of its type, in the layout that is quickest there.
    ``ValueError`` for none, and for whole numbers, which nobody has normalised."""
    if not (len(x) and x.is_floating_point()):
        raise ValueError(f"{NORMALISED}; these are {len(x)} of {x.dtype}")
    return x.detach().to(next(model.parameters(), x), memory_format=torch.channels_last)


@torch.no_grad()
def logits_of(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The logits float32 [N, classes] of normalised images x [N, C, H, W]."""
    with untouched(model):
        return torch.cat([model(fitting(model, part)).float() for part in x.split(BATCH)])


def probabilities_of(model: nn.Module, x: torch.Tensor, classes) -> np.ndarray:
    """The probability [N] of each image's class in ``classes`` [N]."""
    return logits_of(model, x).softmax(1).cpu().numpy()[np.arange(len(x)), classes]


@torch.no_grad()
def stage_sizes(model: nn.Module, x: torch.Tensor) -> list[tuple[int, int]]:
    """The height and width of every stage's output for images like x."""
    out = []
    with untouched(model):
        y = model.stem(fitting(model, x[:1]))
        for stage in model.stages:
            y = stage(y)
            out.append(tuple(y.shape[2:]))
    return out


def focus_stage(model: nn.Module, x: torch.Tensor) -> int:
    """The finer of the last two stages whose maps can say where, counted from the end: -2 in a
    ResNet on 32 pixels, -3 in a VGG, whose last maps have 2×2 cells."""
    sizes = stage_sizes(model, x)
    return [k - len(sizes) for k, size in enumerate(sizes) if min(size) >= LEAST][-2:][0]


class Pass(NamedTuple):
    """What maps are made of: the logits [N, classes], the stage's output and the gradient of the
    class's logit there [N, K, h, w], and at the input [N, C, H, W] if asked for."""
    logits: np.ndarray
    activations: np.ndarray
    gradients: np.ndarray
    at_input: np.ndarray | None = None


def pass_of(model: nn.Module, x: torch.Tensor, classes, stage: int = -1, at_input: bool = False
            ) -> Pass:
    """One forward and one backward pass for the logit of each image's class in ``classes`` [N],
    down to the stage, or ``at_input`` to the images. ``ValueError`` for classes that are not one an
    image, and a stage that does not exist or has too few cells. The network is left as it was."""
    seen, parts = [], []

    def keep(module, args, y):
        seen.append(y if y.requires_grad else y.requires_grad_())       # the graph begins here
    classes = torch.as_tensor(classes, dtype=torch.long).cpu()
    if classes.shape != (len(x),):
        raise ValueError(f"{len(x)} images need as many classes, one each; got an array of shape "
                         f"{tuple(classes.shape)}")
    sizes = stage_sizes(model, x)
    valid = [k for k in range(-len(sizes), len(sizes)) if min(sizes[k]) >= LEAST]
    if stage not in valid:
        named = ", ".join(f"{k} ({sizes[k][0]}×{sizes[k][1]})" for k in valid if k < 0)
        raise ValueError(f"stage {stage} has no map of at least {LEAST}×{LEAST} cells here; "
                         f"valid: {named or 'none'}")
    with (untouched(model), torch.enable_grad(), model.stages[stage].register_forward_hook(keep)):
        for part, own in zip(x.split(BATCH), classes.split(BATCH), strict=True):
            images = fitting(model, part).requires_grad_(at_input)
            logits, y = model(images), seen.pop()
            if not (0 <= own.min() and own.max() < logits.shape[1]):
                raise ValueError(f"classes from {own.min()} to {own.max()}, but the network has "
                                 f"{logits.shape[1]}, counted from 0")
            score = logits.gather(1, own.to(logits.device)[:, None]).sum()
            found = logits, y, *torch.autograd.grad(score, [y, images] if at_input else [y])
            parts.append([t.detach().float().cpu().contiguous().numpy() for t in found])
    return Pass(*map(np.concatenate, zip(*parts, strict=True)))


# --- Maps ---


def summed(weights: np.ndarray, p: Pass) -> np.ndarray:
    """Σ_k w_k A_k of weights [N, K] and a stage's output A; below G is the gradient there."""
    return np.einsum("nk,nkhw->nhw", weights, p.activations)


def grad_cam_pp(p: Pass) -> np.ndarray:
    """Σ_k w_k A_k, w_k = Σ relu(G) α, α = G² / (2 G² + G³ Σ A), sums over the cells. Chattopadhay
    et al. 2018, arXiv:1710.11063."""
    a, g = p.activations, p.gradients
    alpha = g ** 2 / (2 * g ** 2 + a.sum((2, 3), keepdims=True) * g ** 3 + 1e-6)
    return summed((np.maximum(g, 0) * alpha).sum((2, 3)), p)


def xgrad_cam(p: Pass) -> np.ndarray:
    """Σ_k w_k A_k, w_k = Σ G A / Σ A, sums over the cells. Fu et al. 2020, arXiv:2008.02312."""
    a, g = p.activations, p.gradients
    return summed((g * a / (a.sum((2, 3), keepdims=True) + 1e-7)).sum((2, 3)), p)


def eigen_cam(p: Pass) -> np.ndarray:
    """A's cells on their first principal component, whose sign is arbitrary: LAPACK's. Muhammad and
    Yeasin 2020, arXiv:2008.00299."""
    n, k, h, w = p.activations.shape
    cells = p.activations.reshape(n, k, h * w).swapaxes(1, 2)                      # [N, hw, K]
    cells = cells - cells.mean(1, keepdims=True)
    first = np.linalg.svd(cells, full_matrices=False)[2][:, 0]                     # [N, K]
    return np.einsum("nck,nk->nc", cells, first).reshape(n, h, w)


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
    """Every cell uniform on 0..1, seeded: the same for every network, and again after BATCH."""
    n, _, h, w = p.activations.shape
    maps = np.random.default_rng(derive("random map", h, w)).random((BATCH, h, w))
    return maps[np.arange(n) % BATCH]


MAPS: dict[str, tuple[str, Callable]] = {           # -> what it is called, what makes it
    "grad_cam": ("Grad-CAM", lambda p: summed(p.gradients.mean((2, 3)), p)),
    "grad_cam_pp": ("Grad-CAM++", grad_cam_pp),
    # Draelos and Carin 2020, arXiv:2011.08891; Jiang et al. 2021, doi:10.1109/TIP.2021.3089943
    "hirescam": ("HiResCAM", lambda p: (p.gradients * p.activations).sum(1)),
    "layer_cam": ("LayerCAM", lambda p: (np.maximum(p.gradients, 0) * p.activations).sum(1)),
    "xgrad_cam": ("XGrad-CAM", xgrad_cam),
    "eigen_cam": ("EigenCAM", eigen_cam),
    "input_gradient": ("input gradient", input_gradient),
    "uniform": ("uniform", lambda p: np.ones_like(p.activations[:, 0])),
    "centre": ("centre", centre),
    "random": ("random", at_random),
}


def make(name: str, p: Pass) -> np.ndarray:
    """The raw map [N, h, w] of a method of MAPS: what it gives, and 0 where that is negative."""
    return np.maximum(MAPS[name][1](p), 0).astype(np.float32)


def grad_cam(model: nn.Module, x: torch.Tensor, classes, stage: int = -1) -> np.ndarray:
    """Raw Grad-CAM maps [N, h, w] ≥ 0 of normalised images x [N, C, H, W] for the logit of each
    image's class in ``classes`` [N]: relu(Σ_k w_k A_k), w_k the mean over the map of
    ∂(logit)/∂A_k. Selvaraju et al. 2017, arXiv:1610.02391. ``ValueError`` as `pass_of`, and for
    images that nobody has normalised: all of it light from 0 to 1."""
    if len(x) and x.min() >= 0 and 0.5 < x.max() <= 1:
        raise ValueError(f"{NORMALISED}; these are light from 0 to 1")
    return make("grad_cam", pass_of(model, x, classes, stage))


def scaled_maps(maps: np.ndarray) -> np.ndarray:
    """Every map [N, h, w] divided by its maximum; an empty one stays empty."""
    top = maps.max((1, 2), keepdims=True)
    return maps / np.where(top > 0, top, 1)


def enlarged(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Maps [N, h, w] bilinearly at (H, W)."""
    return F.interpolate(torch.from_numpy(np.ascontiguousarray(maps, np.float32))[:, None], size,
                         mode="bilinear", align_corners=False)[:, 0].numpy()


def inputs(run: Run, n: int):
    """The first ``n`` test images of a run's data, as uint8, normalised, and their labels."""
    data = data_of(run)
    images, labels = data.split("test", min(n, len(data.labels["test"])))
    return images, as_input(images, data), labels

"""What a map is worth, in numbers: does its mass lie on the object, is it sharp, does the network
need what it marks? Every function takes raw maps [N, h, w] ≥ 0 at their own resolution and gives
one number an image; `measures` gives NaN for a map without any mass.

A cell stands for its pixels, alike: against a mask [N, H, W] it counts by the part of it that the
mask covers. Equal values share their places: what depends on their order is its expected value."""
import numpy as np
import torch

from .cam import enlarged, probabilities_of, scaled_maps


def cover(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The part of each cell [N, h, w] that the mask [N, H, W] covers, pixels on borders shared."""
    down, across = (overlap(pixels, cells)
                    for pixels, cells in zip(mask.shape[1:], size, strict=True))
    return down @ mask @ across.T


def overlap(pixels: int, cells: int) -> np.ndarray:
    """The share [cells, pixels] that each pixel of a row has in each of its equal cells."""
    edges = np.linspace(0, pixels, cells + 1)
    left = np.maximum(edges[:-1, None], np.arange(pixels))
    right = np.minimum(edges[1:, None], np.arange(1, pixels + 1))
    return np.clip(right - left, 0, None) * cells / pixels


def divisor(values: np.ndarray) -> np.ndarray:
    """NaN in place of 0."""
    return np.where(values == 0, np.nan, values)


def finite_mean(values: np.ndarray) -> float:
    """The mean of what is a number; NaN where nothing is."""
    values = np.asarray(values, np.float64)
    return float(values[np.isfinite(values)].mean()) if np.isfinite(values).any() else np.nan


def shares(maps: np.ndarray) -> np.ndarray:
    """Each map as shares of its mass [N, h·w], float64; NaN for one without any."""
    flat = maps.reshape(len(maps), -1).astype(np.float64)
    return flat / divisor(flat.sum(1, keepdims=True))


# --- Does it lie on the object? ---


def energy(maps: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Σ_mask M / Σ M, the share of the mass on the mask. Wang et al. 2020, arXiv:1910.01279."""
    return (shares(maps) * cover(mask, maps.shape[1:]).reshape(len(maps), -1)).sum(1)


def lift(maps: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """`energy` over the mask's share of the image: 1 for a uniform map, whatever the size; NaN for
    an empty mask."""
    return energy(maps, mask) / divisor(mask.mean((1, 2)))


def pointing(maps: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The chance that a pixel drawn from the highest cells lies on the mask: the pointing game with
    no tolerance, ties broken alike. Zhang et al. 2018, arXiv:1608.00507."""
    top = maps == maps.max((1, 2), keepdims=True)
    return (top * cover(mask, maps.shape[1:])).sum((1, 2)) / top.sum((1, 2))


def average_precision(maps: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The area under precision over recall, pixels for samples and each cell's value a threshold:
    Σ (R_k − R_{k−1}) P_k, as scikit-learn's ``average_precision_score``; NaN for an empty mask."""
    flat = maps.reshape(len(maps), -1)
    taken = flat[:, None] >= flat[:, :, None]                          # [N, threshold, cell]
    own = cover(mask, maps.shape[1:]).reshape(flat.shape) / flat.shape[1]
    precision = (taken @ own[:, :, None])[:, :, 0] / taken.mean(2)
    return (own * precision).sum(1) / divisor(mask.mean((1, 2)))


# --- Is it sharp? ---


def entropy(maps: np.ndarray) -> np.ndarray:
    """−Σ p log p / log n of the shares p: 1 for a uniform map, 0 for one cell. Complexity of Bhatt
    et al. 2020, arXiv:2005.00631, normalised."""
    p = shares(maps)
    return -(p * np.log(np.where(p > 0, p, 1))).sum(1) / np.log(p.shape[1])


def gini(maps: np.ndarray) -> np.ndarray:
    """Σ_i (2i − n − 1) m_(i) / (n Σ m), m in rising order: 0 for a uniform map, 1 − 1/n for one
    cell. Chalasani et al. 2018, arXiv:1810.06583."""
    p = np.sort(shares(maps), 1)
    n = p.shape[1]
    return ((2 * np.arange(1, n + 1) - n - 1) * p).sum(1) / n


# --- Does the network need what it marks? ---


def average_drop(model, x: torch.Tensor, maps: np.ndarray, classes, p: np.ndarray, mean, std
                 ) -> np.ndarray:
    """max(0, p − q) / p, for the probability p of the class [N] and q with each image darkened by
    its map, scaled to its maximum. Chattopadhay et al. 2018, arXiv:1710.11063. x normalised
    [N, C, H, W] by ``mean`` and ``std``: light is multiplied, not normalised values, in which 0 is
    the mean colour."""
    level, spread = (torch.as_tensor(v, dtype=x.dtype, device=x.device)[:, None, None]
                     for v in (mean, std))
    light = torch.from_numpy(enlarged(scaled_maps(maps), x.shape[2:])).to(x)[:, None]
    q = probabilities_of(model, ((x * spread + level) * light - level) / spread, classes)
    return np.maximum(p - q, 0) / p


def measures(maps: np.ndarray, mask: np.ndarray | None = None,
             distractors: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Name -> [N]: how sharp the maps are, and where on object and distractors, with masks."""
    out = {"entropy": entropy(maps), "gini": gini(maps)}
    if mask is not None:
        out |= {"pointing": pointing(maps, mask), "lift": lift(maps, mask),
                "average_precision": average_precision(maps, mask)}
    if distractors is not None:
        out["on_distractors"] = energy(maps, distractors)
    there = maps.max((1, 2)) > 0
    return {name: np.where(there, values, np.nan) for name, values in out.items()}

"""What a map is worth, in numbers: does its mass lie on the object, is it sharp, does the network
need what it marks? Every function takes raw maps [N, h, w] ≥ 0 at their own resolution and gives
one number an image, NaN for a map without any mass.

A cell stands for its pixels, alike: against a mask [N, H, W] it counts by the part of it that the
mask covers. Equal values share their places: what depends on their order is its expected value."""
import numpy as np
import torch

from .cam import enlarged, scaled_maps


def cover(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The part of each cell that the mask [N, H, W] covers, [N, h, w]. A pixel on the border of two
    cells counts in each by its part there."""
    down, across = (overlap(pixels, cells)
                    for pixels, cells in zip(mask.shape[1:], size, strict=True))
    return np.einsum("ah,nhw,bw->nab", down, mask, across, optimize=True)


def overlap(pixels: int, cells: int) -> np.ndarray:
    """The share [cells, pixels] that each pixel of a row has in each of its equal cells."""
    edges = np.linspace(0, pixels, cells + 1)
    left = np.maximum(edges[:-1, None], np.arange(pixels))
    right = np.minimum(edges[1:, None], np.arange(1, pixels + 1))
    return np.clip(right - left, 0, None) * cells / pixels


def shares(maps: np.ndarray) -> np.ndarray:
    """Each map as shares of its mass [N, h·w], float64; NaN for one without any."""
    flat = maps.reshape(len(maps), -1).astype(np.float64)
    total = flat.sum(1, keepdims=True)
    return np.divide(flat, total, out=np.full_like(flat, np.nan), where=total > 0)


def correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Pearson's r [N] of each map of a [N, …] with that of b; NaN where one is constant."""
    a, b = (m.reshape(len(m), -1).astype(np.float64) for m in (a, b))
    a, b = (m - m.mean(1, keepdims=True) for m in (a, b))
    size = np.sqrt((a * a).sum(1) * (b * b).sum(1))
    return np.divide((a * b).sum(1), size, out=np.full(len(a), np.nan), where=size > 0)


# --- Does it lie on the object? ---


def energy(maps: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Σ_mask M / Σ M, the share of the mass on the mask. Wang et al. 2020, arXiv:1910.01279."""
    return (shares(maps) * cover(mask, maps.shape[1:]).reshape(len(maps), -1)).sum(1)


def lift(maps: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """`energy` over the mask's share of the image: 1 for a uniform map, whatever the size."""
    area = mask.mean((1, 2))
    return np.divide(energy(maps, mask), area, out=np.full(len(maps), np.nan), where=area > 0)


def pointing(maps: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The chance that a pixel drawn from the highest cells lies on the mask: the pointing game with
    no tolerance, ties broken alike. Zhang et al. 2018, arXiv:1608.00507."""
    flat = maps.reshape(len(maps), -1)
    top = flat == flat.max(1, keepdims=True)
    hit = (top * cover(mask, maps.shape[1:]).reshape(len(maps), -1)).sum(1) / top.sum(1)
    return np.where(flat.max(1) > 0, hit, np.nan)


class Sweep:
    """Cells from the highest to the lowest, each taken with all that are equal to it: how much of
    the image (``area``) and of the mask (``inside``) is then taken, as shares of the image
    [N, cells]; ``gained``: what each cell by itself adds to the mask."""

    def __init__(self, maps: np.ndarray, mask: np.ndarray):
        n, cells = len(maps), maps[0].size
        flat = maps.reshape(n, cells)
        order = (-flat).argsort(1, kind="stable")
        value = np.take_along_axis(flat, order, 1)
        covered = np.take_along_axis(cover(mask, maps.shape[1:]).reshape(n, cells), order, 1)
        ends = np.hstack([value[:, 1:] != value[:, :-1], np.ones((n, 1), bool)])
        last = np.where(ends, np.arange(cells), cells)[:, ::-1]
        last = np.minimum.accumulate(last, 1)[:, ::-1]            # of each one's equals
        self.gained = covered / cells
        self.inside = np.take_along_axis(self.gained.cumsum(1), last, 1)
        self.area = (last + 1) / cells
        self.mask = mask.mean((1, 2))[:, None]
        self.empty = (flat.max(1) <= 0) | (self.mask[:, 0] == 0)

    def give(self, values: np.ndarray) -> np.ndarray:
        return np.where(self.empty, np.nan, values)


def best_iou(maps: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The largest intersection over union of the mask and the map at any threshold, as the sweep of
    Choe et al. 2020, arXiv:2001.07437."""
    s = Sweep(maps, mask)
    return s.give((s.inside / (s.area + s.mask - s.inside)).max(1))


def average_precision(maps: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The area under precision over recall, pixels for samples: Σ (R_k − R_{k−1}) P_k over the
    thresholds, as scikit-learn's ``average_precision_score``."""
    s = Sweep(maps, mask)
    return s.give((s.gained * s.inside / s.area).sum(1) / np.where(s.mask > 0, s.mask, 1)[:, 0])


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


@torch.no_grad()
def drop_and_increase(model, x: torch.Tensor, maps: np.ndarray, classes, p: np.ndarray, mean, std
                      ) -> dict[str, np.ndarray]:
    """``drop``: max(0, p − q) / p, and ``increase``: q > p, for the probability p of the class [N]
    and q with each image darkened by its map, scaled to its maximum. Chattopadhay et al. 2018,
    arXiv:1710.11063. x normalised [N, C, H, W] by ``mean`` and ``std``: light is multiplied, not
    normalised values, in which 0 is the mean colour."""
    level, spread = (torch.as_tensor(v, dtype=x.dtype, device=x.device)[:, None, None]
                     for v in (mean, std))
    light = torch.from_numpy(enlarged(scaled_maps(maps), x.shape[2:])).to(x)[:, None]
    dark = ((x * spread + level) * light - level) / spread
    q = torch.cat([model(part).float().softmax(1) for part in dark.split(250)]).cpu().numpy()
    q = q[np.arange(len(x)), classes]
    return {"drop": np.maximum(p - q, 0) / p, "increase": (q > p).astype(np.float32)}


SHARP = {"entropy": entropy, "gini": gini}
PLACED = {"pointing": pointing, "energy": energy, "lift": lift, "best_iou": best_iou,
          "average_precision": average_precision}


def measures(maps: np.ndarray, mask: np.ndarray | None = None,
             distractors: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Name -> [N]: how sharp the maps are, and with a mask of the object where they lie; with the
    distractors' too, the shares on those and on the background."""
    out = {name: f(maps) for name, f in SHARP.items()}
    if mask is not None:
        out |= {name: f(maps, mask) for name, f in PLACED.items()}
    if distractors is not None:
        out["on_distractors"] = energy(maps, distractors)
        out["on_background"] = energy(maps, ~(mask | distractors))
    return out

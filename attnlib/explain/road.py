"""ROAD: what removing the pixels that a map calls important, or unimportant, does to the class's
probability. Rong et al. 2022, arXiv:2202.00449.

Pixels go by rank, ties in a seeded random order: Grad-CAM's zeros are hundreds of equal values, and
a threshold would remove all of them or none. What is removed becomes the weighted mean of its eight
neighbours, 1/6 beside and 1/12 across, at all removed pixels at once, plus seeded noise. That is a
linear system with the removed pixels for unknowns; in raster order it is banded and positive
definite, so LAPACK's banded Cholesky solves it exactly in a few ten thousand operations: the pixels
of pytorch-grad-cam's sparse solver, ten times as fast."""
import numpy as np
import torch
from scipy.linalg.lapack import spbsv

from ..names import derive
from .cam import probabilities_of

PERCENTILES = (10, 20, 30, 40, 50, 60, 70, 80, 90)      # per cent of the pixels that stay
NOISE = 0.01                                            # sd, in normalised units, as published
BESIDE, ACROSS = 1 / 6, 1 / 12
LATER = ((0, 1, BESIDE), (1, -1, ACROSS), (1, 0, BESIDE), (1, 1, ACROSS))
CHUNK = 64                                              # images at once: systems in cache


def ranks(maps: np.ndarray) -> np.ndarray:
    """The rank, from 0 up, of every pixel of maps [N, H, W]; ties in a seeded random order."""
    flat = maps.reshape(len(maps), -1)
    ties = np.random.default_rng(derive("ties", 0)).random(flat.shape)
    return np.lexsort((ties, flat), axis=1).argsort(1).reshape(maps.shape)


def kept_pixels(percentile: float, pixels: int) -> int:
    """How many pixels lie below the percentile where no two are equal: pytorch-grad-cam's count."""
    return int(np.ceil((pixels - 1) * percentile / 100))


def neighbours(a: np.ndarray) -> np.ndarray:
    """The weighted sum of the eight neighbours in [N, C, H, W], nothing outside the image."""
    out = np.zeros((*a.shape[:2], a.shape[2] + 2, a.shape[3] + 2), np.float32)
    out[..., 1:-1, 1:-1] = a
    out = out[..., :-2, :] + 2 * out[..., 1:-1, :] + out[..., 2:, :]
    out = out[..., :-2] + 2 * out[..., 1:-1] + out[..., 2:]
    return (out - 4 * a) * np.float32(ACROSS)


def surprise(x: np.ndarray) -> np.ndarray:
    """Σ w (neighbour − pixel) over the neighbours in x [N, C, H, W]: 0 at an imputed pixel."""
    return neighbours(x) - x * neighbours(np.ones((1, 1, *x.shape[2:]), np.float32))


def impute(x: np.ndarray, known: np.ndarray, off: np.ndarray | None = None) -> np.ndarray:
    """Images x [N, C, H, W] float32 with the pixels that are not ``known`` [N, H, W] filled in, no
    noise; ``off``: their `surprise`, where it is at hand. Solved for is what is added to the
    pixels, so that the right side is ``off`` itself, whatever is known.

    Raises ``ValueError`` where images differ in how many pixels are known, or none is."""
    count, channels, height, width = x.shape
    image, pixel = np.nonzero(~known.reshape(count, -1))             # in raster order
    n = len(pixel) // count
    if n == height * width or (np.bincount(image, minlength=count) != n).any():
        raise ValueError("every image should have the same number of known pixels, above none")
    out = x.reshape(count, channels, -1).copy()
    if not n:
        return out.reshape(x.shape)
    own = np.tile(np.arange(n, dtype=np.int32), count)               # an unknown's number
    here = (image * (height + 2) + pixel // width + 1) * (width + 2) + pixel % width + 1   # a rim
    number = np.full(count * (height + 2) * (width + 2), -1, np.int32)
    number[here] = own
    gaps = [(number[here + dy * (width + 2) + dx] - own, weight) for dy, dx, weight in LATER]
    reach = max(int(gap.max()) for gap, _ in gaps)                   # of the band; < 0: all alone
    band = np.zeros((count * n, max(reach, 0) + 1), np.float32)      # LAPACK's, transposed
    band[:, 0] = neighbours(np.ones((1, 1, height, width), np.float32)).ravel()[pixel]
    for gap, weight in gaps:
        linked = np.flatnonzero(gap > 0)
        band.ravel()[linked * band.shape[1] + gap[linked]] = -weight
    at = pixel.reshape(count, 1, n)
    off = (surprise(x) if off is None else off).reshape(out.shape)
    added = np.take_along_axis(off, at, 2)                           # becomes the solution
    for a, b in zip(band.reshape(count, n, -1), added, strict=True):
        *_, failed = spbsv(a.T, b.T, lower=1, overwrite_ab=1, overwrite_b=1)
        if failed:
            raise FloatingPointError(f"imputation: LAPACK's spbsv ends with {failed}")
    np.put_along_axis(out, at, np.take_along_axis(out, at, 2) + added, 2)
    return out.reshape(x.shape)


def road(model: torch.nn.Module, x: torch.Tensor, maps: np.ndarray, classes,
         percentiles=PERCENTILES) -> dict[str, np.ndarray]:
    """Probabilities [N, percentiles] of the classes [N] with that per cent of the pixels kept:
    ``morf`` lost the most relevant ones first, ``lerf`` the least. x normalised [N, C, H, W], maps
    [N, H, W] at its size; the model and x may be on any device."""
    rank, pixels = ranks(maps), maps[0].size
    images = np.ascontiguousarray(x.float().cpu().numpy())
    off, rng = surprise(images), np.random.default_rng(derive("road", 0))
    out = {"morf": [], "lerf": []}
    for percentile in percentiles:
        stay = kept_pixels(percentile, pixels)
        for name, known in (("morf", rank < stay), ("lerf", rank >= pixels - stay)):
            parts = [impute(images[k:k + CHUNK], known[k:k + CHUNK], off[k:k + CHUNK])
                     for k in range(0, len(images), CHUNK)]
            noise = rng.standard_normal(images.shape, np.float32) * ~known[:, None]
            filled = torch.from_numpy(np.concatenate(parts) + NOISE * noise)
            out[name].append(probabilities_of(model, filled, classes))
    return {name: np.stack(columns, 1) for name, columns in out.items()}


def combined(scores: dict[str, np.ndarray]) -> np.ndarray:
    """The mean [N] of (LeRF − MoRF) / 2: above 0 where the map ranks better than chance."""
    return (scores["lerf"] - scores["morf"]).mean(1) / 2

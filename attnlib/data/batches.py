"""The loader: a split lives on the device as uint8; there batches are cut, mixed and augmented."""
import numpy as np
import torch
import torch.nn.functional as F

from ..names import choose, derive
from .augment import AUGMENTATIONS, crop_flip


class Batches:
    """Batches of one split, images normalised float32 [B, C, H, W], labels int64 [B], or where
    images are mixed their weights float32 [B, classes].

    ``images`` uint8 [N, H, W, C], ``labels`` [N]; ``crop`` pixels of mean-coloured padding for a
    random crop, ``flip`` mirrors with probability 1/2, or with ``alternate`` in every second epoch
    (Jordan 2024, arXiv:2404.00498), ``augment`` amounts by their name in AUGMENTATIONS, 0 for none.
    Order and augmentation of an epoch depend on (seed, epoch, image index) alone, so nothing about
    them needs saving; and each augmentation has random numbers of its own, so that one more changes
    nothing about the others."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, mean, std, *, batch_size: int = 128,
                 crop: int = 0, flip: bool = False, alternate: bool = False,
                 augment: dict[str, float] | None = None, classes: int = 0, seed: int = 0,
                 device="cpu"):
        self.labels = torch.as_tensor(labels, device=device)
        for name in augment or {}:
            choose("augmentation", name, AUGMENTATIONS)
        self.augment = {name: augment[name] for name in AUGMENTATIONS if (augment or {}).get(name)}
        mixes = any(AUGMENTATIONS[name].mixes for name in self.augment)
        self.weights = torch.eye(classes, device=device) if mixes else None
        self.size, self.crop, self.flip, self.alternate = images.shape[1], crop, flip, alternate
        self.batch_size, self.seed, self.device = batch_size, seed, torch.device(device)
        self.mean = torch.tensor(mean, device=device) * 255
        self.scale = 1 / (torch.tensor(std, device=device) * 255)
        self.fill = self.mean.round()[:, None, None]
        self.images = torch.as_tensor(np.ascontiguousarray(images), device=device)
        if crop:
            side = self.size + 2 * crop
            padded = self.mean.round().to(torch.uint8).expand(len(images), side, side, -1).clone()
            padded[:, crop:-crop, crop:-crop] = self.images
            self.images = padded

    def __len__(self) -> int:
        """Batches an epoch; a last short one is left out of training, as its norm is noisier."""
        return max(1, len(self.labels) // self.batch_size)

    def normalise(self, images: torch.Tensor) -> torch.Tensor:
        """Levels 0..255 [B, H, W, C] -> float32 [B, C, H, W], channels_last as it comes."""
        return ((images - self.mean) * self.scale).permute(0, 3, 1, 2)

    def epoch(self, epoch: int, side: int | None = None):
        """The shuffled, augmented batches of one training epoch, shrunk to ``side`` pixels."""
        plan = self.plan(epoch)
        for chosen in plan["order"][:len(self) * self.batch_size].split(self.batch_size):
            yield self.cut(chosen, plan, side)

    def plan(self, epoch: int) -> dict[str, torch.Tensor]:
        """All chance of one training epoch, by image: their order, the crop's offset, which are
        mirrored, and the random numbers of each augmentation."""
        n = len(self.labels)
        rng = torch.Generator().manual_seed(derive("epoch", self.seed, epoch))
        order = torch.randperm(n, generator=rng).to(self.device)
        offset = torch.randint(2 * self.crop + 1, (2, n), generator=rng).to(self.device)
        mirror = torch.randint(2, (n,), generator=rng).bool() & self.flip
        if self.alternate:                      # half of the images in epochs 0, 2, 4 …, by chance
            once = torch.Generator().manual_seed(derive("mirror", self.seed))
            mirror = torch.randint(2, (n,), generator=once).bool() ^ bool(epoch % 2)
        plan = {"order": order, "offset": offset, "mirror": mirror.to(self.device)}
        for name in self.augment:
            rng = torch.Generator().manual_seed(derive(name, self.seed, epoch))
            plan[name] = torch.rand(n, AUGMENTATIONS[name].draws, generator=rng).to(self.device)
        return plan

    def cut(self, chosen, plan: dict, side: int | None = None):
        """The batch of the ``chosen`` images [B] under an epoch's `plan`."""
        x = crop_flip(self.images, chosen, plan["offset"], plan["mirror"], self.size)
        y = self.labels[chosen]
        if self.augment:
            x = x.permute(0, 3, 1, 2).float()
            y = y if self.weights is None else self.weights[y]
            for name, amount in self.augment.items():
                x, y = AUGMENTATIONS[name].apply(x, y, plan[name][chosen], amount, self.fill)
            x = x.contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1)
        x = self.normalise(x)
        return (x if side in (None, self.size) else shrunk(x, side)), y

    def most(self) -> int:
        """How many images are evaluated at once: no more pixels than 500 of 64 × 64 have."""
        return max(1, 500 * 64**2 // self.size**2)

    def ordered(self, batch_size: int | None = None):
        """All images as they are, in their order: for evaluation, 500 at once or `most`."""
        batch_size = batch_size or min(500, self.most())
        inner = slice(self.crop, self.crop + self.size)
        for x, y in zip(self.images.split(batch_size), self.labels.split(batch_size), strict=True):
            yield self.normalise(x[:, inner, inner]), y


def normalised(images: np.ndarray, like, device="cpu"):
    """Images uint8 [N, H, W, C] as batches float32 [B, C, H, W], with the ``mean`` and ``std`` of
    ``like``: a trained network, a data set, its row. ``ValueError`` for any other type."""
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != len(like.mean):
        raise ValueError(f"pictures should be uint8 from 0 to 255, [N, H, W, {len(like.mean)}], "
                         f"not {images.dtype} {[*images.shape]}; of light from 0 to 1 give "
                         "(255 * light).round().astype(np.uint8)")
    nothing = np.zeros(len(images), np.int64)
    return (x for x, _ in Batches(images, nothing, like.mean, like.std, device=device).ordered())


def as_input(images: np.ndarray, like) -> torch.Tensor:
    """`normalised` images as one tensor."""
    return torch.cat(list(normalised(images, like)))


def shrunk(x: torch.Tensor, side: int) -> torch.Tensor:
    """Images [B, C, H, W] at ``side`` pixels, bilinear, each source pixel weighed (antialiased)."""
    return F.interpolate(x, (side, side), mode="bilinear", antialias=True).contiguous(
        memory_format=torch.channels_last)


def side_at(epoch: int, epochs: int, full: int, grow_from: float) -> int:
    """Pixels a side in an epoch, counted from 0: from ``grow_from`` times ``full`` linearly to
    ``full``, which the last fifth of the epochs has; even numbers. 0: ``full`` throughout."""
    if not grow_from:
        return full
    share = min(1.0, grow_from + (1 - grow_from) * epoch / (0.8 * epochs))
    return full if share == 1 else min(full, 2 * round(full * share / 2))

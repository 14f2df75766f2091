"""The loader: a split lives on the device as uint8; batches are cut, shuffled and augmented there.
"""
import numpy as np
import torch

from .spec import derive


class Batches:
    """Batches of one split, images normalised float32 [B, C, H, W], labels int64 [B].

    ``images`` uint8 [N, H, W, C], ``labels`` [N]; ``crop`` pixels of mean-coloured padding for a
    random crop, ``flip`` mirrors with probability 1/2. Order and augmentation of an epoch depend on
    (seed, epoch, image index) alone, so nothing about them needs saving."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, mean, std, *, batch_size: int = 128,
                 crop: int = 0, flip: bool = False, seed: int = 0, device="cpu"):
        self.labels = torch.as_tensor(labels, device=device)
        self.size, self.crop, self.flip = images.shape[1], crop, flip
        self.batch_size, self.seed, self.device = batch_size, seed, torch.device(device)
        self.mean = torch.tensor(mean, device=device) * 255
        self.scale = 1 / (torch.tensor(std, device=device) * 255)
        images = torch.as_tensor(np.ascontiguousarray(images), device=device)
        if crop:
            side = self.size + 2 * crop
            padded = self.mean.round().to(torch.uint8).expand(len(images), side, side, -1).clone()
            padded[:, crop:-crop, crop:-crop] = images
            images = padded
        self.images = images

    def __len__(self) -> int:
        """Batches an epoch; a last short one is left out of training, as its norm is noisier."""
        return max(1, len(self.labels) // self.batch_size)

    def normalise(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 [B, H, W, C] -> float32 [B, C, H, W], in channels_last memory as it comes."""
        return ((images - self.mean) * self.scale).permute(0, 3, 1, 2)

    def epoch(self, epoch: int):
        """The shuffled, augmented batches of one training epoch."""
        n = len(self.labels)
        rng = torch.Generator().manual_seed(derive("epoch", self.seed, epoch))
        order = torch.randperm(n, generator=rng).to(self.device)
        offset = torch.randint(2 * self.crop + 1, (2, n), generator=rng).to(self.device)
        mirror = torch.randint(2, (n,), generator=rng).bool().to(self.device) & self.flip
        ahead = torch.arange(self.size, device=self.device)
        for chosen in order[:len(self) * self.batch_size].split(self.batch_size):
            rows = ahead + offset[0, chosen, None]                              # [B, H]
            across = torch.where(mirror[chosen, None], ahead.flip(0), ahead)
            columns = across + offset[1, chosen, None]                          # [B, W]
            x = self.images[chosen[:, None, None], rows[:, :, None], columns[:, None, :]]
            yield self.normalise(x), self.labels[chosen]

    def ordered(self, batch_size: int = 500):
        """All images as they are, in their order: for evaluation."""
        inner = slice(self.crop, self.crop + self.size)
        for x, y in zip(self.images.split(batch_size), self.labels.split(batch_size), strict=True):
            yield self.normalise(x[:, inner, inner]), y

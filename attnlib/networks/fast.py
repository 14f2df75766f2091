"""A small network in the manner of the CIFAR speed runs."""
from functools import partial

import torch
from torch import nn

from .slots import Net, Slot, chain, mark_replaceable, scaled


class Whitening(nn.Module):
    """gelu(slot(W x + b)): a 2×2 convolution without padding whose W, once `whiten` has seen the
    training images, turns their patches into uncorrelated numbers of variance 1, each with both
    signs, and stays fixed; b is learned. Page 2018, "How to train your ResNet", part 8."""

    def __init__(self, in_channels: int):
        super().__init__()
        self.channels = 8 * in_channels
        self.conv = nn.Conv2d(in_channels, self.channels, 2)
        self.conv.weight.requires_grad_(False)
        self.slot = Slot("stem", channels=self.channels)

    @torch.no_grad()
    def whiten(self, x: torch.Tensor) -> None:
        """Set W from normalised images float32 [N, C, H, W]. ``W = ± V / sqrt(λ + 5e-4)`` from the
        eigenvectors V, eigenvalues λ of the patches' covariance."""
        patches = nn.functional.unfold(x, 2).transpose(1, 2).flatten(0, 1).double()  # [N', 4C]
        values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
        vectors = vectors * vectors.gather(0, vectors.abs().argmax(0, keepdim=True)).sign()
        rows = (vectors / (values + 5e-4).sqrt()).T                      # one sign on any machine
        self.conv.weight.copy_(torch.cat([rows, -rows]).view_as(self.conv.weight))
        self.conv.bias.zero_()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.gelu(self.slot(self.conv(x)))


class DiracConv2d(nn.Conv2d):
    """A 3×3 convolution whose first filters start as the identity, the others as usual."""

    def reset_parameters(self):
        super().reset_parameters()
        nn.init.dirac_(self.weight[:self.in_channels])


class SpeedGroup(nn.Module):
    """z = gelu(BN(max2×2(slot(conv3×3 x)))); slot(gelu(BN(slot(conv3×3 z))))."""

    def __init__(self, before: int, channels: int, stage: int):
        super().__init__()
        slot = partial(Slot, channels=channels, stage=stage)
        self.conv1 = DiracConv2d(before, channels, 3, padding=1, bias=False)
        self.after_conv1 = slot("conv")
        self.pool = nn.MaxPool2d(2)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = mark_replaceable(DiracConv2d(channels, channels, 3, padding=1, bias=False),
                                      stage)
        self.after_conv2 = slot("conv")
        self.norm2 = nn.BatchNorm2d(channels)
        self.attention = slot("block")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.gelu(self.norm1(self.pool(self.after_conv1(self.conv1(x)))))
        x = nn.functional.gelu(self.norm2(self.after_conv2(self.conv2(x))))
        return self.attention(x)


class ScaledLinear(nn.Linear):
    """W x / 9, without bias: small logits keep a short training from being sure too early."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) / 9


def speednet(num_classes: int, in_channels: int, width: float) -> Net:
    """A network in the manner of the CIFAR speed runs, after Jordan 2024, arXiv:2404.00498: a fixed
    whitening convolution, three groups of two 3×3 convolutions of 64, 128, 128 channels with a 2×2
    max pooling after each first (maps of 31, 15, 7, 3 on 32 pixels), a 3×3 max pooling and a linear
    classifier. Deviations: its norms have scales; its whitening's bias is learned to the end."""
    stem = Whitening(in_channels)
    rows = [[(scaled(c, width),)] for c in (64, 128, 128)]
    stages, before = chain(stem.channels, rows, SpeedGroup)
    return Net(stem, stages, before, ScaledLinear(before, num_classes, bias=False),
               neck=nn.MaxPool2d(3, ceil_mode=True))        # of 2×2 cells, too

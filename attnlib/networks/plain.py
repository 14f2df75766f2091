"""Networks without a residual sum. They take ``norm=False``: no batch norm, biases instead, as they
were published; their convolutions then start with He et al.'s variance, arXiv:1502.01852."""
from functools import partial

import torch
from torch import nn

from .slots import ConvNormReLU, Net, Slot, chain, mlp_head, pooling, scaled


class Fire(nn.Module):
    """slot([relu(BN(conv1×1 z)); relu(BN(conv3×3 z))]), z = relu(BN(conv1×1 x)).
    Iandola et al. 2016, arXiv:1602.07360; the norms are ours."""

    def __init__(self, before: int, channels: int, stage: int, squeeze: int, norm: bool):
        super().__init__()
        half = channels // 2
        self.squeeze = ConvNormReLU(before, squeeze, 1, norm=norm)
        self.expand1 = ConvNormReLU(squeeze, half, 1, norm=norm)
        self.expand3 = ConvNormReLU(squeeze, channels - half, 3, placements=("conv",), stage=stage,
                                    norm=norm)
        self.attention = Slot("block", channels=channels, stage=stage)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = self.squeeze(x)
        return self.attention(torch.cat([self.expand1(z), self.expand3(z)], 1))


FIRES = (((16, 128), (16, 128), (32, 256)),                          # fire2–4, (squeeze, expand)
         ((32, 256), (48, 384), (48, 384), (64, 512)),               # fire5–8
         ((64, 512),))                                               # fire9


def squeezenet(num_classes: int, in_channels: int, width: float, norm: bool = True) -> Net:
    """SqueezeNet 1.0 for small images: 3×3 stem, a 2×2 max pooling before each of its three stages
    (maps of 16, 8, 4 on 32 pixels), batch norm, and the mean before the 1×1 classifier, which are
    interchangeable once the classifier's own ReLU is left out, as here; no dropout."""
    before = scaled(96, width)
    stem = ConvNormReLU(in_channels, before, placements=("stem",), norm=norm)
    rows = [[(scaled(expand, width), scaled(squeeze, width), norm) for squeeze, expand in fires]
            for fires in FIRES]
    stages, before = chain(before, rows, Fire, (True, True, True))
    return Net(stem, stages, before, nn.Linear(before, num_classes))


def plain_net(in_channels: int, stages: list[list[int]], pools: tuple[bool, ...], norm: bool,
              make_head, replaceable: bool = False) -> Net:
    """Stages of 3×3 convolutions with the given channels, each with a slot at its end (before the
    pooling that follows), a pooling and ``make_head(channels)``. The very first convolution is the
    stem; it is the first of stage 1, too, so its slot answers to ``conv`` and to ``stem``. With
    ``replaceable`` the last convolution of each stage may be replaced."""
    (first, *others), *later = stages
    stem = ConvNormReLU(in_channels, first, norm=norm, stage=1, placements=("conv", "stem"))

    def conv(before, channels, stage, last):
        return ConvNormReLU(before, channels, norm=norm, stage=stage, placements=("conv",),
                            replaceable=replaceable and last and before == channels)
    rows = [[(channels, n == len(widths)) for n, channels in enumerate(widths, 1)]
            for widths in (others, *later)]
    made, before = chain(first, rows, conv, pools, "block")
    return Net(stem, made, before, make_head(before), pooling())


def vgg(depths: tuple[int, ...], num_classes: int, in_channels: int, width: float,
        norm: bool = True, dropout: float = 0.5) -> Net:
    """VGG for small images, Simonyan & Zisserman 2015, arXiv:1409.1556: five stages of 3×3
    convolutions of 64, 128, 256, 512, 512 channels with a 2×2 max pooling after each (maps of 32,
    16, 8, 4, 2, then 1), and a classifier of 512-512-classes instead of 4096-4096-1000."""
    channels = [scaled(c, width) for c in (64, 128, 256, 512, 512)]
    stages = [[c] * depth for c, depth in zip(channels, depths, strict=True)]
    return plain_net(in_channels, stages, (False, True, True, True, True), norm,
                     lambda before: mlp_head(before, before, num_classes, dropout), True)


vgg16, vgg19 = (partial(vgg, depths) for depths in ((2, 2, 3, 3, 3), (2, 2, 4, 4, 4)))


def alexnet(num_classes: int, in_channels: int, width: float, norm: bool = True,
            dropout: float = 0.5) -> Net:
    """AlexNet for small images, after Krizhevsky et al. 2012: its five convolutions (64, 192, 384,
    256, 256 channels, all 3×3, stride 1), each a stage, a 2×2 max pooling after the first, second
    and fifth (maps of 32, 16, 8, 8, 8, then 4), and its two hidden layers of 4096, here after the
    mean over the map."""
    channels = [[scaled(c, width)] for c in (64, 192, 384, 256, 256)]
    return plain_net(in_channels, channels, (False, True, True, False, False), norm,
                     lambda before: mlp_head(before, scaled(4096, width), num_classes, dropout))


def cnn3(num_classes: int, in_channels: int, width: float, norm: bool = True,
         dropout: float = 0.5) -> Net:
    """A network of three 3×3 convolutions of 32, 64 and 128 channels, each a stage with a 2×2 max
    pooling after it, then dropout and a linear classifier: our reading of the small CNN of the
    hybrid project, whose baseline has batch norm and dropout and whose attended nets have neither
    (``norm=False,dropout=0``)."""
    channels = [[scaled(c, width)] for c in (32, 64, 128)]
    return plain_net(in_channels, channels, (False, True, True), norm, lambda before: nn.Sequential(
        nn.Dropout(dropout), nn.Linear(before, num_classes)))

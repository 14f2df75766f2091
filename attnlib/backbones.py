"""The networks for small images, with named slots, and the table BACKBONES.

Every network is a `Net`: stem, stages, pooling, linear classifier. A `Slot` is an identity that
says where it stands; `models.build_model` replaces those of the wanted placement by a block. A slot
is an attribute of its own, so filling it never renames, wraps or moves another layer."""
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn


class Slot(nn.Identity):
    """An empty place for a block: the placements it answers to, its stage (0: none), its channels.
    """

    def __init__(self, *placements: str, channels: int, stage: int = 0):
        super().__init__()
        self.placements, self.channels, self.stage = placements, channels, stage


class Net(nn.Module):
    """[B, channels, H, W] -> stem -> stages -> mean over the map -> linear -> [B, classes].

    ``stages[k]`` ends after its ReLU and its slots, so it is a Grad-CAM target that counts every
    gate of the stage."""

    def __init__(self, stem: nn.Module, stages: list[nn.Module], channels: int, num_classes: int):
        super().__init__()
        self.stem = stem
        self.stages = nn.Sequential(*stages)
        self.head = Slot("head", channels=channels)
        self.head_post = Slot("head_post", channels=channels)
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.head(self.stages(self.stem(x)))
        x = self.head_post(x.mean((2, 3), keepdim=True))        # [B, C, 1, 1]
        return self.classifier(x.flatten(1))


class Stem(nn.Module):
    """relu(BN(slot(conv3×3 x))) at full resolution: no stride and no pooling, for small images."""

    def __init__(self, in_channels: int, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
        self.slot = Slot("stem", channels=channels)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.slot(self.conv(x))).relu_()


class BasicBlock(nn.Module):
    """relu(x' + slot(BN(conv3×3 relu(BN(conv3×3 x))))), x' = x or its 1×1 projection.
    He et al. 2016, arXiv:1512.03385."""

    def __init__(self, before: int, channels: int, stride: int, stage: int):
        super().__init__()
        def slot(*placements):
            return Slot(*placements, channels=channels, stage=stage)
        self.conv1 = nn.Conv2d(before, channels, 3, stride, 1, bias=False)
        self.after_conv1 = slot("conv")
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.after_conv2 = slot("conv", "inner")
        self.norm2 = nn.BatchNorm2d(channels)
        self.attention = slot("block")
        self.shortcut = nn.Identity() if stride == 1 and before == channels else nn.Sequential(
            nn.Conv2d(before, channels, 1, stride, bias=False), nn.BatchNorm2d(channels))
        self.post_add = slot("post_add")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm1(self.after_conv1(self.conv1(x))).relu_()
        y = self.attention(self.norm2(self.after_conv2(self.conv2(y))))
        return self.post_add(y + self.shortcut(x)).relu_()


class Fire(nn.Module):
    """slot([relu(BN(conv1×1 z)); relu(BN(conv3×3 z))]), z = relu(BN(conv1×1 x)).
    Iandola et al. 2016, arXiv:1602.07360; the norms are ours."""

    def __init__(self, before: int, squeeze: int, channels: int, stage: int):
        super().__init__()
        half = channels // 2
        self.squeeze = conv_norm_relu(before, squeeze, 1)
        self.expand1 = conv_norm_relu(squeeze, half, 1)
        self.expand3 = conv_norm_relu(squeeze, channels - half, 3)
        self.attention = Slot("block", channels=channels, stage=stage)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = self.squeeze(x)
        return self.attention(torch.cat([self.expand1(z), self.expand3(z)], 1))


def conv_norm_relu(before: int, channels: int, size: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, channels, size, padding=size // 2, bias=False),
                         nn.BatchNorm2d(channels), nn.ReLU(inplace=True))


def scaled(channels: int, width: float) -> int:
    """Channels at a width: at least 4, so that a squeeze layer keeps something to say."""
    return max(4, round(channels * width))


def resnet18(num_classes: int, in_channels: int, width: float) -> Net:
    """ResNet-18 with a 3×3 stem and maps of 32, 16, 8, 4 on 32 pixels: two basic blocks a stage."""
    before, stages = scaled(64, width), []
    stem = Stem(in_channels, before)
    for k, full in enumerate((64, 128, 256, 512), 1):
        channels = scaled(full, width)
        stages.append(nn.Sequential())
        for n in range(2):
            stages[-1].append(BasicBlock(before, channels, 2 if k > 1 and n == 0 else 1, k))
            before = channels
        stages[-1].add_module("slot", Slot("stage", channels=channels, stage=k))
    return Net(stem, stages, before, num_classes)


FIRES = (((16, 128), (16, 128), (32, 256)),                          # fire2–4, (squeeze, expand)
         ((32, 256), (48, 384), (48, 384), (64, 512)),               # fire5–8
         ((64, 512),))                                               # fire9


def squeezenet(num_classes: int, in_channels: int, width: float) -> Net:
    """SqueezeNet 1.0 for small images: 3×3 stem, a 2×2 max pooling before each of its three stages
    (maps of 16, 8, 4 on 32 pixels), batch norm, and the mean before the 1×1 classifier, which are
    interchangeable once the classifier's own ReLU is left out, as here; no dropout."""
    before, stages = scaled(96, width), []
    stem = Stem(in_channels, before)
    for k, fires in enumerate(FIRES, 1):
        stages.append(nn.Sequential(nn.MaxPool2d(2, ceil_mode=True)))
        for squeeze, expand in fires:
            channels = scaled(expand, width)
            stages[-1].append(Fire(before, scaled(squeeze, width), channels, k))
            before = channels
        stages[-1].add_module("slot", Slot("stage", channels=before, stage=k))
    return Net(stem, stages, before, num_classes)


class Row(NamedTuple):
    """One row of BACKBONES. ``make(num_classes, in_channels, width, **options)``; the placements
    it has slots for; its number of stages; ``version`` as in ATTENTION."""
    make: Callable[..., nn.Module]
    placements: tuple[str, ...]
    stages: int
    version: int = 1


EVERYWHERE = ("stem", "stage", "head", "head_post")
BACKBONES = {
    "resnet18": Row(resnet18, ("block", "post_add", "conv", "inner", *EVERYWHERE), 4),
    "squeezenet": Row(squeezenet, ("block", *EVERYWHERE), 3),
}

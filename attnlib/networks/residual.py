"""Networks with a residual sum: ResNets and MobileNetV2."""
from functools import partial

import torch
from torch import nn

from .slots import ConvNormReLU, Net, Slot, chain, mark_replaceable, scaled


def shortcut(before: int, channels: int, stride: int, project: bool = False) -> nn.Module:
    """The identity where shapes and ``project`` allow it, else a 1×1 projection with its norm."""
    if stride == 1 and before == channels and not project:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(before, channels, 1, stride, bias=False),
                         nn.BatchNorm2d(channels))


class BasicBlock(nn.Module):
    """relu(x' + slot(BN(conv3×3 relu(BN(conv3×3 x))))), x' = x or its 1×1 projection.
    He et al. 2016, arXiv:1512.03385."""

    def __init__(self, before: int, channels: int, stage: int, stride: int):
        super().__init__()
        slot = partial(Slot, channels=channels, stage=stage)
        self.conv1 = nn.Conv2d(before, channels, 3, stride, 1, bias=False)
        self.after_conv1 = slot("conv")
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = mark_replaceable(nn.Conv2d(channels, channels, 3, 1, 1, bias=False), stage)
        self.after_conv2 = slot("conv", "inner")
        self.norm2 = nn.BatchNorm2d(channels)
        self.attention = slot("block")
        self.shortcut = shortcut(before, channels, stride)
        self.post_add = slot("post_add")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm1(self.after_conv1(self.conv1(x))).relu_()
        y = self.attention(self.norm2(self.after_conv2(self.conv2(y))))
        return self.post_add(y + self.shortcut(x)).relu_()


class Bottleneck(nn.Module):
    """relu(x' + slot(BN(conv1×1 relu(BN(conv3×3 relu(BN(conv1×1 x))))))), C/expansion channels in
    the middle, the stride in the 3×3 convolution. He et al. 2016, arXiv:1512.03385.

    ``slim``, for `resnet50_slim`: a ReLU before that slot; the ``first`` of a stage is without the
    slot, and its shortcut projected even where nothing changes."""

    def __init__(self, before: int, channels: int, stage: int, stride: int, first: bool = False,
                 expansion: int = 4, slim: bool = False):
        super().__init__()
        first = first and slim
        middle = max(1, channels // expansion)
        self.reduce = ConvNormReLU(before, middle, 1)
        self.conv = ConvNormReLU(middle, middle, 3, stride, placements=("conv", "inner"),
                                 stage=stage, replaceable=True)
        self.expand = nn.Sequential(nn.Conv2d(middle, channels, 1, bias=False),
                                    nn.BatchNorm2d(channels),
                                    *([nn.ReLU(inplace=True)] if slim else []))
        self.attention = Slot(*([] if first else ["block"]), channels=channels, stage=stage)
        self.shortcut = shortcut(before, channels, stride, project=first)
        self.post_add = Slot("post_add", channels=channels, stage=stage)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.attention(self.expand(self.conv(self.reduce(x))))
        return self.post_add(y + self.shortcut(x)).relu_()


class InvertedResidual(nn.Module):
    """x + slot(BN(conv1×1 relu6(BN(depthwise3×3 relu6(BN(conv1×1 x)))))), the middle ``times`` as
    wide; no sum where the shape changes. Sandler et al. 2018, arXiv:1801.04381."""

    def __init__(self, before: int, channels: int, stage: int, stride: int, times: int):
        super().__init__()
        middle = before * times
        self.expand = nn.Identity() if times == 1 else ConvNormReLU(
            before, middle, 1, activation=nn.ReLU6)
        self.depthwise = ConvNormReLU(middle, middle, 3, stride, groups=middle, stage=stage,
                                      placements=("conv", "inner"), activation=nn.ReLU6)
        self.project = nn.Sequential(nn.Conv2d(middle, channels, 1, bias=False),
                                     nn.BatchNorm2d(channels))
        self.attention = Slot("block", channels=channels, stage=stage)
        self.adds = stride == 1 and before == channels
        if self.adds:
            self.post_add = Slot("post_add", channels=channels, stage=stage)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.attention(self.project(self.depthwise(self.expand(x))))
        return self.post_add(y + x) if self.adds else y


def resnet(num_classes: int, in_channels: int, width: float, depths: tuple[int, ...], make_block,
           expansion: int = 1, strides: tuple[int, ...] = (1, 2, 2, 2), size: int = 3) -> Net:
    """A stem of that size, at full resolution if it is 3×3, and four stages of
    ``make_block(before, channels, stage, stride, first)``, the stride in the first."""
    before = scaled(64, width)
    stem = ConvNormReLU(in_channels, before, size, 1 if size == 3 else 2, placements=("stem",))
    channels = [expansion * scaled(c, width) for c in (64, 128, 256, 512)]
    rows = [[(c, stride, True)] + [(c, 1, False)] * (depth - 1)
            for c, stride, depth in zip(channels, strides, depths, strict=True)]
    stages, before = chain(before, rows, make_block)
    return Net(stem, stages, before, nn.Linear(before, num_classes))


def resnet18(num_classes: int, in_channels: int, width: float) -> Net:
    """ResNet-18 with a 3×3 stem and maps of 32, 16, 8, 4 on 32 pixels: two basic blocks a stage."""
    return resnet(num_classes, in_channels, width, (2, 2, 2, 2),
                  lambda *shape: BasicBlock(*shape[:4]))


def resnet50(num_classes: int, in_channels: int, width: float) -> Net:
    """ResNet-50 with the stem and maps of `resnet18`: 3, 4, 6, 3 bottlenecks of expansion 4."""
    return resnet(num_classes, in_channels, width, (3, 4, 6, 3), Bottleneck, expansion=4)


def resnet50_slim(num_classes: int, in_channels: int, width: float) -> Net:
    """The "ResNet50" of github.com/Dalejan/Resnet50_Attention: a 7×7 stem of stride 2, then 3, 4,
    6, 3 bottlenecks without expansion at 64, 128, 256, 512 channels, none of which reduces the map
    (16×16 on 32 pixels). A block stands on the branch after a ReLU, and not in the first bottleneck
    of a stage. 13,900,234 parameters with the norms' running statistics."""
    return resnet(num_classes, in_channels, width, (3, 4, 6, 3),
                  partial(Bottleneck, expansion=1, slim=True), strides=(1, 1, 1, 1), size=7)


# (expansion, channels, blocks, stride of the first): a stage each
INVERTED = ((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1),
            (6, 160, 3, 2), (6, 320, 1, 1))


def mobilenetv2(num_classes: int, in_channels: int, width: float) -> Net:
    """MobileNetV2 for small images: the first two reductions left out, so maps of 32, 32, 16, 8, 8,
    4, 4 on 32 pixels in its seven stages; 1280 channels in the neck; no dropout."""
    before, last = scaled(32, width), scaled(1280, width)
    stem = ConvNormReLU(in_channels, before, placements=("stem",), activation=nn.ReLU6)
    rows = [[(scaled(c, width), 1 if n else stride, times) for n in range(depth)]
            for times, c, depth, stride in INVERTED]
    stages, before = chain(before, rows, InvertedResidual)
    return Net(stem, stages, last, nn.Linear(last, num_classes),
               neck=ConvNormReLU(before, last, 1, activation=nn.ReLU6))

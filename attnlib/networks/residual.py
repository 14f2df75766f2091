"""Networks with a residual sum: ResNets and MobileNetV2."""
import torch
from torch import nn

from .slots import ConvNormReLU, Net, Slot, mark_replaceable, scaled, stage_of


def shortcut(before: int, channels: int, stride: int, project: bool = False) -> nn.Module:
    """The identity where shapes allow it (and no ``project`` forbids it), else a 1×1 projection
    with its norm."""
    if stride == 1 and before == channels and not project:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(before, channels, 1, stride, bias=False),
                         nn.BatchNorm2d(channels))


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

    For `resnet50_slim`: ``late_relu`` puts a ReLU before that slot, ``attended=False`` leaves the
    slot out, and ``project`` projects the shortcut even where nothing changes."""

    def __init__(self, before: int, channels: int, stride: int, stage: int, expansion: int = 4,
                 late_relu: bool = False, attended: bool = True, project: bool = False):
        super().__init__()
        middle = max(1, channels // expansion)
        self.reduce = ConvNormReLU(before, middle, 1)
        self.conv = ConvNormReLU(middle, middle, 3, stride, placements=("conv", "inner"),
                                 stage=stage, replaceable=True)
        self.expand = nn.Sequential(nn.Conv2d(middle, channels, 1, bias=False),
                                    nn.BatchNorm2d(channels),
                                    *([nn.ReLU(inplace=True)] if late_relu else []))
        self.attention = Slot(*["block"] * attended, channels=channels, stage=stage)
        self.shortcut = shortcut(before, channels, stride, project)
        self.post_add = Slot("post_add", channels=channels, stage=stage)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.attention(self.expand(self.conv(self.reduce(x))))
        return self.post_add(y + self.shortcut(x)).relu_()


class InvertedResidual(nn.Module):
    """x + slot(BN(conv1×1 relu6(BN(depthwise3×3 relu6(BN(conv1×1 x)))))), the middle ``times`` as
    wide; no sum where the shape changes. Sandler et al. 2018, arXiv:1801.04381."""

    def __init__(self, before: int, channels: int, stride: int, stage: int, times: int):
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


def residual(stem: nn.Module, before: int, depths: tuple[int, ...], channels: list[int],
             strides: tuple[int, ...], make_block, num_classes: int) -> Net:
    """Stages of ``make_block(before, channels, stride, stage, first)``, the stride in the first."""
    stages = []
    for k, (depth, after, stride) in enumerate(zip(depths, channels, strides, strict=True), 1):
        blocks = []
        for n in range(depth):
            blocks.append(make_block(before, after, stride if n == 0 else 1, k, n == 0))
            before = after
        stages.append(stage_of(blocks, after, k))
    return Net(stem, stages, before, nn.Linear(before, num_classes))


def resnet_stem(in_channels: int, width: float) -> tuple[nn.Module, int]:
    """A 3×3 stem at full resolution, without pooling, for small images; and its channels."""
    channels = scaled(64, width)
    return ConvNormReLU(in_channels, channels, placements=("stem",)), channels


def resnet18(num_classes: int, in_channels: int, width: float) -> Net:
    """ResNet-18 with a 3×3 stem and maps of 32, 16, 8, 4 on 32 pixels: two basic blocks a stage."""
    def make_block(before, channels, stride, stage, first):
        return BasicBlock(before, channels, stride, stage)
    return residual(*resnet_stem(in_channels, width), (2, 2, 2, 2),
                    [scaled(c, width) for c in (64, 128, 256, 512)], (1, 2, 2, 2),
                    make_block, num_classes)


def resnet50(num_classes: int, in_channels: int, width: float) -> Net:
    """ResNet-50 with the stem and maps of `resnet18`: 3, 4, 6, 3 bottlenecks of expansion 4."""
    def make_block(before, channels, stride, stage, first):
        return Bottleneck(before, channels, stride, stage)
    return residual(*resnet_stem(in_channels, width), (3, 4, 6, 3),
                    [4 * scaled(c, width) for c in (64, 128, 256, 512)], (1, 2, 2, 2),
                    make_block, num_classes)


def resnet50_slim(num_classes: int, in_channels: int, width: float,
                  skip_first: bool = True) -> Net:
    """The "ResNet50" of github.com/Dalejan/Resnet50_Attention: a 7×7 stem of stride 2, then 3, 4,
    6, 3 bottlenecks without expansion at 64, 128, 256, 512 channels, none of which reduces the map
    (16×16 on 32 pixels). A block stands on the branch after a ReLU, and, by ``skip_first``, not
    in the first bottleneck of a stage. 13,900,234 parameters with the norms' running statistics."""
    def make_block(before, channels, stride, stage, first):
        return Bottleneck(before, channels, stride, stage, expansion=1, late_relu=True,
                          attended=not (first and skip_first), project=first)
    before = scaled(64, width)
    stem = ConvNormReLU(in_channels, before, 7, 2, placements=("stem",))
    return residual(stem, before, (3, 4, 6, 3), [scaled(c, width) for c in (64, 128, 256, 512)],
                    (1, 1, 1, 1), make_block, num_classes)


# (expansion, channels, blocks, stride of the first): a stage each
INVERTED = ((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1),
            (6, 160, 3, 2), (6, 320, 1, 1))


def mobilenetv2(num_classes: int, in_channels: int, width: float) -> Net:
    """MobileNetV2 for small images: the first two reductions left out, so maps of 32, 32, 16, 8, 8,
    4, 4 on 32 pixels in its seven stages; 1280 channels in the neck; no dropout."""
    before, stages = scaled(32, width), []
    stem = ConvNormReLU(in_channels, before, placements=("stem",), activation=nn.ReLU6)
    for k, (times, full, depth, stride) in enumerate(INVERTED, 1):
        channels, blocks = scaled(full, width), []
        for n in range(depth):
            blocks.append(InvertedResidual(before, channels, stride if n == 0 else 1, k, times))
            before = channels
        stages.append(stage_of(blocks, channels, k))
    last = scaled(1280, width)
    return Net(stem, stages, last, nn.Linear(last, num_classes),
               neck=ConvNormReLU(before, last, 1, activation=nn.ReLU6))

"""The networks for small images, with named slots, and the table BACKBONES.

Every network is a `Net`: stem, stages, pooling, classifier. A `Slot` is an identity that says where
it stands; `models.build_model` replaces those of the wanted placement by a block. A slot is an
attribute of its own, so filling it never renames, wraps or moves another layer. Where a block may
take a convolution's place, the convolution itself carries a slot's marks.

Networks without a residual sum take ``norm=False``: no batch norm, biases instead, as they were
published; their convolutions then start with He et al.'s variance, arXiv:1502.01852."""
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
    """[B, channels, H, W] -> stem -> stages -> neck -> mean over the map -> classifier ->
    [B, classes].

    ``stages[k]`` ends after its ReLU and its slots, so it is a Grad-CAM target that counts every
    gate of the stage; a pooling belongs to the stage that follows it, the last one to the neck."""

    def __init__(self, stem: nn.Module, stages: list[nn.Module], channels: int,
                 classifier: nn.Module, neck: nn.Module | None = None):
        super().__init__()
        self.stem = stem
        self.stages = nn.Sequential(*stages)
        self.neck = neck or nn.Identity()
        self.head = Slot("head", channels=channels)
        self.head_post = Slot("head_post", channels=channels)
        self.classifier = classifier

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.head(self.neck(self.stages(self.stem(x))))
        x = self.head_post(x.mean((2, 3), keepdim=True))        # [B, C, 1, 1]
        return self.classifier(x.flatten(1))


class HeConv2d(nn.Conv2d):
    """A convolution for networks without norms: weights of variance 2 / fan-in, biases 0. Torch's
    default has a sixth of that variance, and 16 such layers leave nothing of an image."""

    def reset_parameters(self):
        nn.init.kaiming_normal_(self.weight, nonlinearity="relu")
        if self.bias is not None:
            nn.init.zeros_(self.bias)


class ConvNormReLU(nn.Module):
    """relu(BN(slot(conv x))), a padded convolution of odd size; without ``norm`` relu(slot(conv x))
    with a bias. ``placements`` name the slot; ``replaceable`` lets a block take the convolution's
    place."""

    def __init__(self, before: int, channels: int, size: int = 3, stride: int = 1, *,
                 groups: int = 1, placements: tuple[str, ...] = (), stage: int = 0,
                 norm: bool = True, replaceable: bool = False, activation=nn.ReLU):
        super().__init__()
        make = nn.Conv2d if norm else HeConv2d
        self.conv = make(before, channels, size, stride, size // 2, groups=groups, bias=not norm)
        if replaceable:
            mark_replaceable(self.conv, stage)
        self.slot = Slot(*placements, channels=channels, stage=stage)
        self.norm = nn.BatchNorm2d(channels) if norm else nn.Identity()
        self.activation = activation(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.activation(self.norm(self.slot(self.conv(x))))


def mark_replaceable(conv: nn.Conv2d, stage: int) -> nn.Conv2d:
    """Let ``replace`` find this C -> C convolution: it gets the marks of a `Slot`."""
    conv.placements, conv.channels, conv.stage = ("replace",), conv.out_channels, stage
    return conv


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


class Fire(nn.Module):
    """slot([relu(BN(conv1×1 z)); relu(BN(conv3×3 z))]), z = relu(BN(conv1×1 x)).
    Iandola et al. 2016, arXiv:1602.07360; the norms are ours."""

    def __init__(self, before: int, squeeze: int, channels: int, stage: int, norm: bool):
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


def scaled(channels: int, width: float) -> int:
    """Channels at a width: at least 4, so that a squeeze layer keeps something to say."""
    return max(4, round(channels * width))


def stage_of(blocks: list[nn.Module], channels: int, stage: int, pool: bool = False,
             *also: str) -> nn.Sequential:
    """[2×2 max pooling,] blocks, slot. Poolings round up, so that 28 pixels survive five of them.
    """
    out = nn.Sequential(*([pooling()] if pool else []), *blocks)
    out.add_module("slot", Slot("stage", *also, channels=channels, stage=stage))
    return out


def pooling() -> nn.Module:
    return nn.MaxPool2d(2, ceil_mode=True)


def mlp_head(before: int, hidden: int, num_classes: int, dropout: float) -> nn.Sequential:
    """Two hidden layers with dropout, the classifier of AlexNet and VGG."""
    return nn.Sequential(nn.Linear(before, hidden), nn.ReLU(inplace=True), nn.Dropout(dropout),
                         nn.Linear(hidden, hidden), nn.ReLU(inplace=True), nn.Dropout(dropout),
                         nn.Linear(hidden, num_classes))


# --- Residual networks ---


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


# --- Networks without a residual sum ---


FIRES = (((16, 128), (16, 128), (32, 256)),                          # fire2–4, (squeeze, expand)
         ((32, 256), (48, 384), (48, 384), (64, 512)),               # fire5–8
         ((64, 512),))                                               # fire9


def squeezenet(num_classes: int, in_channels: int, width: float, norm: bool = True) -> Net:
    """SqueezeNet 1.0 for small images: 3×3 stem, a 2×2 max pooling before each of its three stages
    (maps of 16, 8, 4 on 32 pixels), batch norm, and the mean before the 1×1 classifier, which are
    interchangeable once the classifier's own ReLU is left out, as here; no dropout."""
    before, stages = scaled(96, width), []
    stem = ConvNormReLU(in_channels, before, placements=("stem",), norm=norm)
    for k, fires in enumerate(FIRES, 1):
        blocks = []
        for squeeze, expand in fires:
            channels = scaled(expand, width)
            blocks.append(Fire(before, scaled(squeeze, width), channels, k, norm))
            before = channels
        stages.append(stage_of(blocks, before, k, True))
    return Net(stem, stages, before, nn.Linear(before, num_classes))


def plain(in_channels: int, stages: list[list[int]], pools: tuple[bool, ...], norm: bool,
          replaceable: bool = False) -> tuple[nn.Module, list[nn.Module], int]:
    """Stages of 3×3 convolutions with the given channels, each with a slot at its end (before the
    pooling that follows): stem, stages, last channels. The very first convolution is the stem;
    it is the first of stage 1, too, so its slot answers to ``conv`` and to ``stem``. With
    ``replaceable`` the last convolution of each stage may be replaced."""
    before, out, stem = in_channels, [], None
    for k, (widths, pool) in enumerate(zip(stages, pools, strict=True), 1):
        convs = []
        for n, channels in enumerate(widths):
            convs.append(ConvNormReLU(
                before, channels, norm=norm, stage=k,
                placements=("conv",) if stem or convs else ("conv", "stem"),
                replaceable=replaceable and n == len(widths) - 1 and before == channels))
            before = channels
        if stem is None:
            stem, *convs = convs
        out.append(stage_of(convs, before, k, pool, "block"))
    return stem, out, before


VGG16, VGG19 = (2, 2, 3, 3, 3), (2, 2, 4, 4, 4)                      # convolutions a stage


def vgg(depths: tuple[int, ...], num_classes: int, in_channels: int, width: float, norm: bool,
        dropout: float) -> Net:
    """VGG for small images, Simonyan & Zisserman 2015, arXiv:1409.1556: five stages of 3×3
    convolutions of 64, 128, 256, 512, 512 channels with a 2×2 max pooling after each (maps of 32,
    16, 8, 4, 2, then 1), and a classifier of 512-512-classes instead of 4096-4096-1000."""
    channels = [scaled(c, width) for c in (64, 128, 256, 512, 512)]
    stages = [[c] * depth for c, depth in zip(channels, depths, strict=True)]
    stem, stages, before = plain(in_channels, stages, (False, True, True, True, True), norm, True)
    return Net(stem, stages, before, mlp_head(before, before, num_classes, dropout), pooling())


def vgg16(num_classes: int, in_channels: int, width: float, norm: bool = True,
          dropout: float = 0.5) -> Net:
    """VGG-16: see `vgg`."""
    return vgg(VGG16, num_classes, in_channels, width, norm, dropout)


def vgg19(num_classes: int, in_channels: int, width: float, norm: bool = True,
          dropout: float = 0.5) -> Net:
    """VGG-19: see `vgg`."""
    return vgg(VGG19, num_classes, in_channels, width, norm, dropout)


def alexnet(num_classes: int, in_channels: int, width: float, norm: bool = True,
            dropout: float = 0.5) -> Net:
    """AlexNet for small images, after Krizhevsky et al. 2012: its five convolutions (64, 192, 384,
    256, 256 channels, all 3×3, stride 1), each a stage, a 2×2 max pooling after the first, second
    and fifth (maps of 32, 16, 8, 8, 8, then 4), and its two hidden layers of 4096, here after the
    mean over the map."""
    channels = [[scaled(c, width)] for c in (64, 192, 384, 256, 256)]
    stem, stages, before = plain(in_channels, channels, (False, True, True, False, False), norm)
    head = mlp_head(before, scaled(4096, width), num_classes, dropout)
    return Net(stem, stages, before, head, pooling())


def cnn3(num_classes: int, in_channels: int, width: float, norm: bool = True,
         dropout: float = 0.5) -> Net:
    """A network of three 3×3 convolutions of 32, 64 and 128 channels, each a stage with a 2×2 max
    pooling after it, then dropout and a linear classifier: our reading of the small CNN of the
    hybrid project, whose baseline has batch norm and dropout and whose attended nets have neither
    (``norm=False,dropout=0``)."""
    channels = [[scaled(c, width)] for c in (32, 64, 128)]
    stem, stages, before = plain(in_channels, channels, (False, True, True), norm)
    head = nn.Sequential(nn.Dropout(dropout), nn.Linear(before, num_classes))
    return Net(stem, stages, before, head, pooling())


# --- A fast one ---


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
        def slot(*placements):
            return Slot(*placements, channels=channels, stage=stage)
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
    classifier; images of 26 pixels at least. Deviations: its norms have scales, and its whitening's
    bias is learned to the end."""
    stem, stages = Whitening(in_channels), []
    before = stem.channels
    for k, full in enumerate((64, 128, 128), 1):
        channels = scaled(full, width)
        stages.append(stage_of([SpeedGroup(before, channels, k)], channels, k))
        before = channels
    return Net(stem, stages, before, ScaledLinear(before, num_classes, bias=False),
               neck=nn.MaxPool2d(3))


class Row(NamedTuple):
    """One row of BACKBONES. ``make(num_classes, in_channels, width, **options)``; the placements
    it has slots for; its number of stages; ``version`` as in ATTENTION."""
    make: Callable[..., nn.Module]
    placements: tuple[str, ...]
    stages: int
    version: int = 1


EVERYWHERE = ("stem", "stage", "head", "head_post")
RESIDUAL = ("block", "post_add", "conv", "inner", "replace", *EVERYWHERE)
BACKBONES = {
    "resnet18": Row(resnet18, RESIDUAL, 4),
    "resnet50": Row(resnet50, RESIDUAL, 4),
    "vgg16": Row(vgg16, ("block", "conv", "replace", *EVERYWHERE), 5),
    "vgg19": Row(vgg19, ("block", "conv", "replace", *EVERYWHERE), 5),
    "alexnet": Row(alexnet, ("block", "conv", *EVERYWHERE), 5),
    "squeezenet": Row(squeezenet, ("block", "conv", *EVERYWHERE), 3, 2),
    "resnet50_slim": Row(resnet50_slim, RESIDUAL, 4),
    "cnn3": Row(cnn3, ("block", "conv", *EVERYWHERE), 3),
    "mobilenetv2": Row(mobilenetv2, ("block", "post_add", "conv", "inner", *EVERYWHERE), 7),
    "speednet": Row(speednet, ("block", "conv", "replace", *EVERYWHERE), 3),
}

"""What every network is made of.

Every network is a `Net`: stem, stages, pooling, classifier. A `Slot` is an identity that says where
it stands; `build_model` replaces those of the wanted placement by a block. A slot is an attribute
of its own, so filling it never renames, wraps or moves another layer. Where a block may take a
convolution's place, the convolution itself carries a slot's marks."""
import torch
from torch import nn


class Slot(nn.Identity):
    """An empty place for a block: the placements it answers to, stage (0: none), channels."""

    def __init__(self, *placements: str, channels: int, stage: int = 0):
        super().__init__()
        self.placements, self.channels, self.stage = placements, channels, stage


class Net(nn.Module):
    """[B, channels, H, W] -> stem -> stages -> neck -> mean -> classifier -> [B, classes].

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
        nn.init.zeros_(self.bias)


class ConvNormReLU(nn.Module):
    """relu(BN(slot(conv x))), a padded convolution of odd size; without ``norm`` relu(slot(conv x))
    with a bias. ``placements`` name the slot; ``replaceable``: a block may be the convolution."""

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


def scaled(channels: int, width: float) -> int:
    """Channels at a width: at least 4, so that a squeeze layer keeps something to say."""
    return max(4, round(channels * width))


def chain(before: int, stages: list[list[tuple]], make_block, pools: tuple[bool, ...] = (),
          *also: str) -> tuple[list[nn.Module], int]:
    """Stages, each [2×2 max pooling,] blocks, slot, and their last channels. ``stages`` has a list
    for each, with (channels, …) for each ``make_block(before, channels, stage, …)``. Poolings round
    up, so that 28 pixels survive five of them."""
    out = []
    for k, rows in enumerate(stages, 1):
        modules = [pooling()] if k <= len(pools) and pools[k - 1] else []
        for channels, *own in rows:
            modules.append(make_block(before, channels, k, *own))
            before = channels
        out.append(nn.Sequential(*modules))
        out[-1].add_module("slot", Slot("stage", *also, channels=before, stage=k))
    return out, before


def pooling() -> nn.Module:
    return nn.MaxPool2d(2, ceil_mode=True)


def mlp_head(before: int, hidden: int, num_classes: int, dropout: float) -> nn.Sequential:
    """Two hidden layers with dropout, the classifier of AlexNet and VGG."""
    return nn.Sequential(nn.Linear(before, hidden), nn.ReLU(inplace=True), nn.Dropout(dropout),
                         nn.Linear(hidden, hidden), nn.ReLU(inplace=True), nn.Dropout(dropout),
                         nn.Linear(hidden, num_classes))

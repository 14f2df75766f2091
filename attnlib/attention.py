"""The attention blocks. Each is ``cls(channels)``, keeps its input's shape, needs torch alone and
can be pasted into any project. ``gate(x)`` is what multiplies ``x``, broadcastable to it.

Notation: x [B, C, H, W]; a = mean_hw x, m = max_hw x, both [B, C, 1, 1]; s = sigmoid;
h = max(1, C // reduction)."""
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn


def squeeze_mlp(channels: int, reduction: int, bias: bool) -> nn.Sequential:
    """C -> h -> C as two 1×1 convolutions on [B, C, 1, 1]: the same as two linear layers."""
    if reduction < 1:
        raise ValueError(f"reduction={reduction} must be at least 1")
    hidden = max(1, channels // reduction)
    return nn.Sequential(nn.Conv2d(channels, hidden, 1, bias=bias), nn.ReLU(inplace=True),
                         nn.Conv2d(hidden, channels, 1, bias=bias))


class SE(nn.Module):
    """y = x · s(W2 relu(W1 a)): Squeeze-and-Excitation, Hu et al. 2018, arXiv:1709.01507.

    Deviation: none in function; no biases by default, as in the paper's later version
    (``bias=True`` adds them). Parameters: 2Ch (+ h + C)."""

    def __init__(self, channels: int, reduction: int = 16, bias: bool = False):
        super().__init__()
        self.mlp = squeeze_mlp(channels, reduction, bias)

    def gate(self, x: torch.Tensor) -> torch.Tensor:
        return self.mlp(x.mean((2, 3), keepdim=True)).sigmoid()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gate(x)


class ChannelAttention(nn.Module):
    """y = x · s(MLP(a) + MLP(m)), MLP shared and with biases: CBAM's channel part, Woo et al. 2018,
    arXiv:1807.06521. Parameters: 2Ch + h + C.

    The maximum is taken by ``max`` over the flattened map: on ties its gradient goes to one place,
    as with adaptive max pooling, and it is deterministic on CUDA, which pooling is not. Positions
    are moved before channels, which is how channels_last memory has them."""

    def __init__(self, channels: int, reduction: int = 16):
        super().__init__()
        self.mlp = squeeze_mlp(channels, reduction, bias=True)

    def gate(self, x: torch.Tensor) -> torch.Tensor:
        largest = x.flatten(2).transpose(1, 2).max(1).values[:, :, None, None]
        return (self.mlp(x.mean((2, 3), keepdim=True)) + self.mlp(largest)).sigmoid()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gate(x)


class SpatialAttention(nn.Module):
    """y = x · s(BN(K [max_c x; mean_c x])), K a k×k convolution without bias: CBAM's spatial part,
    Woo et al. 2018, arXiv:1807.06521. Parameters: 2k² + 2.

    As in the authors' code the norm has momentum 0.01 and its scale starts at zero, so the gate
    starts at 1/2 everywhere (``gamma=0``); ``gamma=1`` starts it input-dependent."""

    def __init__(self, channels: int, kernel_size: int = 7, gamma: float = 0.0):
        super().__init__()
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size={kernel_size} must be odd: the map keeps its size")
        self.conv = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False)
        self.norm = nn.BatchNorm2d(1, momentum=0.01)
        self.gamma = gamma
        self.reset_parameters()

    def reset_parameters(self):
        nn.init.constant_(self.norm.weight, self.gamma)

    def gate(self, x: torch.Tensor) -> torch.Tensor:
        last = x.permute(0, 2, 3, 1)                             # channels side by side
        pooled = torch.stack([last.max(-1).values, last.mean(-1)], 1)
        return self.norm(self.conv(pooled)).sigmoid()            # [B, 1, H, W]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gate(x)


class CBAM(nn.Sequential):
    """y = SA(CA(x)): Convolutional Block Attention Module, Woo et al. 2018, arXiv:1807.06521.
    Parameters: 2Ch + h + C + 2k² + 2."""

    def __init__(self, channels: int, reduction: int = 16, kernel_size: int = 7,
                 gamma: float = 0.0):
        super().__init__()
        self.channel = ChannelAttention(channels, reduction)
        self.spatial = SpatialAttention(channels, kernel_size, gamma)


class Hybrid(nn.Sequential):
    """y = CBAM(SE(x)), both complete: the sequential hybrid of SENet and CBAM that the hybrid
    project's notebooks set out to build. Parameters: the sum of both."""

    def __init__(self, channels: int, reduction: int = 16, kernel_size: int = 7,
                 gamma: float = 0.0):
        super().__init__()
        self.se = SE(channels, reduction)
        self.cbam = CBAM(channels, reduction, kernel_size, gamma)


class LayerScale(nn.Module):
    """y = x · g, g [C] learned and the same for every image, 1 at the start: the control for "is it
    only a rescaling?". After Touvron et al. 2021, arXiv:2103.17239. Parameters: C."""

    def __init__(self, channels: int):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels, 1, 1))

    def reset_parameters(self):
        nn.init.ones_(self.scale)

    def gate(self, x: torch.Tensor) -> torch.Tensor:
        return self.scale[None].expand(len(x), -1, -1, -1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.scale.to(x.dtype)        # bfloat16 stays bfloat16, as in the other blocks


class Shuffled(SE):
    """y = x · s(W2 relu(W1 a')), a' = the descriptor of the batch's previous image: SE's control
    for "does the gate use what it sees?". It has SE's parameters and noise, the wrong image. The
    batch is rolled by one, so a batch of one is SE itself. Parameters: as SE."""

    def gate(self, x: torch.Tensor) -> torch.Tensor:
        return super().gate(x).roll(1, 0)


class Row(NamedTuple):
    """One row of ATTENTION. ``make(channels, **options)`` builds the block; ``placement`` is its
    own default; ``version`` is raised only when the block's behaviour changes."""
    make: Callable[..., nn.Module]
    says: str
    placement: str = "block"
    version: int = 1


ATTENTION = {
    "none": Row(nn.Identity, "no attention: the baseline"),
    "se": Row(SE, "channel gate from the mean (Squeeze-and-Excitation)"),
    "ca": Row(ChannelAttention, "channel gate from mean and maximum (CBAM's channel part)"),
    "sa": Row(SpatialAttention, "spatial gate from mean and maximum (CBAM's spatial part)"),
    "cbam": Row(CBAM, "channel gate, then spatial gate"),
    "hybrid": Row(Hybrid, "SE, then CBAM, both complete"),
    "layerscale": Row(LayerScale, "control: one learned factor a channel, the same for all images"),
    "shuffled": Row(Shuffled, "control: SE with the gate of another image"),
}

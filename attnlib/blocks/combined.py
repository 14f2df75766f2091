"""Channel and spatial parts put together."""
import torch
from torch import nn

from .base import Gate, at_least_1, gate_offset, hidden_units, mean_hw, pick, squeeze_mlp
from .channel import SE, SEC, SER, ChannelAttention
from .spatial import SpatialAttention


class CBAM(nn.Sequential):
    """y = SA(CA(x)): Convolutional Block Attention Module, Woo et al. 2018, arXiv:1807.06521.
    Parameters: 2Ch + h + C + 2k² + 2."""

    def __init__(self, channels: int, reduction: int = 16, kernel_size: int = 7,
                 gamma: float = 0.0, gate_init: str = "half"):
        super().__init__()
        self.channel = ChannelAttention(channels, reduction, gate_init)
        self.spatial = SpatialAttention(channels, kernel_size, gamma, gate_init=gate_init)


class CBAMAvg(nn.Sequential):
    """y = SA(SE(x)), SA without its norm: what the notebooks of the hybrid project call CBAM. Its
    channel part has lost the maximum and the biases. Parameters: 2Ch + 2k²."""

    def __init__(self, channels: int, reduction: int = 16, kernel_size: int = 7,
                 gate_init: str = "half"):
        super().__init__()
        self.channel = SE(channels, reduction, gate_init=gate_init)
        self.spatial = SpatialAttention(channels, kernel_size, norm=False, gate_init=gate_init)


class BAM(Gate):
    """y = x · (1 + s(Mc + Ms)): Bottleneck Attention Module, Park et al. 2018, arXiv:1807.06514.
    Mc = W2 relu(BN(W1 a)), Ms = 1×1 (C -> h), two dilated 3×3 (h -> h), 1×1 (h -> 1), a BN and a
    ReLU after each but the last; all with biases. One at the end of each stage but the last.

    The norm of Mc stands where the authors' code has it, not last as in the paper; that code takes
    Mc · Ms (``combine=mul``). In training it needs two images a batch, as that norm has one value
    an image. Parameters: 2Ch + 3h + C for Mc, Ch + 18h² + 10h + 1 for Ms."""

    def __init__(self, channels: int, reduction: int = 16, dilation: int = 4,
                 combine: str = "add"):
        super().__init__()
        at_least_1(dilation=dilation)
        hidden = hidden_units(channels, reduction)

        def layer(before, *shape):
            return nn.Sequential(nn.Conv2d(before, hidden, *shape), nn.BatchNorm2d(hidden),
                                 nn.ReLU(inplace=True))
        dilated = (3, 1, dilation, dilation)                   # size, stride, padding, dilation
        self.channel = squeeze_mlp(channels, reduction, bias=True, norm=nn.BatchNorm2d)
        self.spatial = nn.Sequential(layer(channels, 1), layer(hidden, *dilated),
                                     layer(hidden, *dilated), nn.Conv2d(hidden, 1, 1))
        self.combine = pick("combine", combine, {"add": torch.add, "mul": torch.mul})

    def gate(self, x: torch.Tensor) -> torch.Tensor:
        channel = self.channel(mean_hw(x))
        return 1 + self.combine(channel, self.spatial(x)).sigmoid()


class SCSE(Gate):
    """y = x · s(W2 relu(W1 a)) + x · s(w·x + b), biases throughout: concurrent spatial and channel
    SE, Roy et al. 2018, arXiv:1803.02579; a gain of 0 to 2. ``combine=max``: the larger of the two.

    Deviation: reduction 16 where the paper has 2. Parameters: 2Ch + h + C + C + 1."""

    def __init__(self, channels: int, reduction: int = 16, combine: str = "add"):
        super().__init__()
        self.channel = SE(channels, reduction, bias=True)
        self.spatial = nn.Conv2d(channels, 1, 1)
        self.add = pick("combine", combine, {"add": True, "max": False})

    def gate(self, x: torch.Tensor) -> torch.Tensor:
        channel, spatial = self.channel.gate(x), self.spatial(x).sigmoid()
        if self.add:
            return channel + spatial
        return torch.where(x < 0, torch.minimum(channel, spatial), torch.maximum(channel, spatial))


class Hybrid(nn.Sequential):
    """y = CBAM(SE(x)), both complete: the sequential hybrid of SENet and CBAM that the hybrid
    project's notebooks set out to build. Parameters: the sum of both."""

    def __init__(self, channels: int, reduction: int = 16, kernel_size: int = 7,
                 gamma: float = 0.0, gate_init: str = "half"):
        super().__init__()
        self.se = SE(channels, reduction, gate_init=gate_init)
        self.cbam = CBAM(channels, reduction, kernel_size, gamma, gate_init)


class HybridP0(nn.Sequential):
    """y = CBAMAvg(SE(x)): the hybrid as the hybrid project's notebooks have it: two channel gates
    from the mean, then a spatial one without a norm. Parameters: 4Ch + 2k²."""

    def __init__(self, channels: int, reduction: int = 16, kernel_size: int = 7,
                 gate_init: str = "half"):
        super().__init__()
        self.se = SE(channels, reduction, gate_init=gate_init)
        self.cbam = CBAMAvg(channels, reduction, kernel_size, gate_init)


class HybridSum(nn.Module):
    """y = x + α SE(x) + (1 − α) CBAM(x), α = s(t), t learned and 0 at the start: the fusion
    of the hybrid project's article in our reading, as only its abstract was at hand. It keeps a
    shortcut: a gain above 1. Parameters: those of SE and CBAM, + 1."""

    def __init__(self, channels: int, reduction: int = 16, kernel_size: int = 7,
                 gamma: float = 0.0):
        super().__init__()
        self.se = SE(channels, reduction)
        self.cbam = CBAM(channels, reduction, kernel_size, gamma)
        self.t = nn.Parameter(torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        alpha = self.t.sigmoid()
        return x + alpha * self.se(x) + (1 - alpha) * self.cbam(x)


class HybridPar(Gate):
    """y = x · s(SE's logits + CA's logits) · Ms(x): the "parallel spatial-channel attention" of the
    hybrid project's README, all three from the same x. Our reading: it gives no formula. The two
    logits share one gate, which ``gate_init`` opens once. Parameters: those of SE and CBAM."""

    def __init__(self, channels: int, reduction: int = 16, kernel_size: int = 7,
                 gamma: float = 0.0, gate_init: str = "half"):
        super().__init__()
        self.se = SE(channels, reduction)
        self.channel = ChannelAttention(channels, reduction, gate_init)
        self.spatial = SpatialAttention(channels, kernel_size, gamma, gate_init=gate_init)

    def gate(self, x: torch.Tensor) -> torch.Tensor:
        return (self.se.logits(x) + self.channel.logits(x)).sigmoid() * self.spatial.gate(x)


class SESA(nn.Sequential):
    """y = SA(SER(x)): "SE_SA" of github.com/jaekyeongg/deeplearning, whose SA has a bias before its
    norm and the norm's usual start (``gamma=1``). Parameters: 2Ch + 2k² + 3."""

    def __init__(self, channels: int, reduction: int = 8, kernel_size: int = 7,
                 gamma: float = 1.0, gate_init: str = "half"):
        super().__init__()
        self.channel = SER(channels, reduction)
        self.spatial = SpatialAttention(channels, kernel_size, gamma, bias=True,
                                        gate_init=gate_init)


class SECSA(nn.Sequential):
    """y = SA(SEC(x)): "SEC_SA" of github.com/jaekyeongg/deeplearning, SA as in `se_sa`.
    Parameters: 2Ch + h + C + 2k² + 3."""

    def __init__(self, channels: int, reduction: int = 8, kernel_size: int = 7,
                 gamma: float = 1.0, gate_init: str = "half"):
        super().__init__()
        self.channel = SEC(channels, reduction, gate_init)
        self.spatial = SpatialAttention(channels, kernel_size, gamma, bias=True,
                                        gate_init=gate_init)


class New(Gate, SESA):
    """y = u + u · s(W2 relu(W1 a)), u = SA(x), a = mean_hw x from before the spatial gate, so that
    y = x · Ms(x) · (1 + s(…)): "NEW" of github.com/jaekyeongg/deeplearning, SA as in `se_sa`;
    a gain of 0 to 2. Parameters: 2Ch + 2k² + 3."""

    def gate(self, x: torch.Tensor) -> torch.Tensor:
        return self.spatial.gate(x) * self.channel.gate(x)


class NAB(Gate):
    """y = x · s(w·x + b) · max_hw s(K x + c), K a 7×7 convolution C -> C of stride 3 without
    padding: "NAB" of github.com/jaekyeongg/deeplearning. As a maximum of sigmoids its channel gate
    starts above 1/2.

    Deviation: maps below 7×7, where the original fails, are padded with zeros to 7×7.
    Parameters: 49C² + C + C + 1; with ``depthwise`` 49C + C + C + 1."""

    def __init__(self, channels: int, depthwise: bool = False, gate_init: str = "half"):
        super().__init__()
        self.pixel = nn.Conv2d(channels, 1, 1)
        self.patch = nn.Conv2d(channels, channels, 7, stride=3,
                               groups=channels if depthwise else 1)
        self.offset = gate_offset(gate_init)

    def gate(self, x: torch.Tensor) -> torch.Tensor:
        down, across = (max(0, 7 - side) for side in x.shape[2:])
        padded = nn.functional.pad(x, (across // 2, across - across // 2,
                                       down // 2, down - down // 2))
        patches = self.patch(padded).flatten(2).max(-1).values[:, :, None, None]
        return (self.pixel(x) + self.offset).sigmoid() * (patches + self.offset).sigmoid()

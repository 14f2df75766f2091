"""The attention blocks. Each is ``cls(channels)``, keeps its input's shape, needs torch alone and
can be pasted into any project. ``gate(x)`` is what multiplies ``x``, broadcastable to it.

Notation: x [B, C, H, W]; a = mean_hw x, m = max_hw x, both [B, C, 1, 1]; s = sigmoid;
h = max(1, C // reduction)."""
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn


def hidden_units(channels: int, reduction: int, least: int = 1) -> int:
    """h = max(least, C // reduction)."""
    if reduction < 1:
        raise ValueError(f"reduction={reduction} must be at least 1")
    return max(least, channels // reduction)


def squeeze_mlp(channels: int, reduction: int, bias: bool, norm=None) -> nn.Sequential:
    """C -> h -> C as two 1×1 convolutions on [B, C, 1, 1]: the same as two linear layers, with
    ``norm(h)`` between them, if any, and a ReLU."""
    hidden = hidden_units(channels, reduction)
    return nn.Sequential(nn.Conv2d(channels, hidden, 1, bias=bias),
                         *([norm(hidden)] if norm else []), nn.ReLU(inplace=True),
                         nn.Conv2d(hidden, channels, 1, bias=bias))


def pick(option: str, value: str, table: dict):
    """``table[value]``; a ``ValueError`` that lists the valid ones for any other value."""
    if value not in table:
        raise ValueError(f"{option}={value} should be one of {', '.join(table)}")
    return table[value]


def mean_hw(x: torch.Tensor) -> torch.Tensor:
    """a = mean_hw x, [B, C, 1, 1]. As a sum, to the same bit: the gradient of a sum is one number a
    map, that of a mean a whole map written and read again. In half precision a sum may overflow."""
    if x.dtype.itemsize < 4:
        return x.mean((2, 3), keepdim=True)
    return x.sum((2, 3), keepdim=True) / (x.shape[2] * x.shape[3])


def max_hw(x: torch.Tensor) -> torch.Tensor:
    """m = max_hw x, [B, C, 1, 1]; on ties its gradient goes to the first place alone. On a CPU
    pooling finds it 2 to 5 times as fast as ``max``; on CUDA only ``max`` is deterministic."""
    if x.device.type == "cpu":
        return nn.functional.max_pool2d(x, x.shape[2:])
    return x.flatten(2).transpose(1, 2).max(1).values[:, :, None, None]


def max_mean_c(x: torch.Tensor) -> torch.Tensor:
    """[max_c x; mean_c x], [B, 2, H, W], with gradients as in `max_hw` and `mean_hw`."""
    last = x.permute(0, 2, 3, 1)                                 # channels side by side
    if x.device.type == "cpu":
        rows = nn.functional.max_pool2d(last.flatten(1, 2)[:, None], (1, x.shape[1]))
        largest = rows.view(last.shape[:3])                      # [B, 1, HW, 1] -> [B, H, W]
    else:
        largest = last.max(-1).values
    mean = last.mean(-1) if x.dtype.itemsize < 4 else last.sum(-1) / x.shape[1]
    return torch.stack([largest, mean], 1)


def gate_offset(gate_init: str) -> float:
    """What is added to a gate's logits for good: 0, so that it starts near 1/2 (``half``), or 2, so
    that it starts near 0.88 (``open``). To a last bias it is the same as another start."""
    return pick("gate_init", gate_init, {"half": 0.0, "open": 2.0})


# --- Channel gates from the mean: the SE family ---


class SE(nn.Module):
    """y = x · s(W2 relu(W1 a)): Squeeze-and-Excitation, Hu et al. 2018, arXiv:1709.01507.

    Deviation: none in function; no biases by default, as in the paper's later version
    (``bias=True`` adds them). Parameters: 2Ch (+ h + C)."""

    def __init__(self, channels: int, reduction: int = 16, bias: bool = False,
                 gate_init: str = "half"):
        super().__init__()
        self.mlp = squeeze_mlp(channels, reduction, bias)
        self.offset = gate_offset(gate_init)

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        return self.mlp(mean_hw(x)) + self.offset

    def gate(self, x: torch.Tensor) -> torch.Tensor:
        return self.logits(x).sigmoid()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gate(x)


class SER(SE):
    """y = x + SE(x) = x · (1 + s(W2 relu(W1 a))): SE with a shortcut of its own, a gain of 1 to 2;
    "SE (or SER)" of github.com/jaekyeongg/deeplearning. Parameters: 2Ch."""

    def __init__(self, channels: int, reduction: int = 8):
        super().__init__(channels, reduction)

    def gate(self, x: torch.Tensor) -> torch.Tensor:
        return 1 + super().gate(x)


class SEC(SE):
    """y = x · s(W2 relu(W1 a + b1) + b2): SE with biases, written there with 1×1 convolutions as it
    is here anyway; "SEC" of github.com/jaekyeongg/deeplearning. Parameters: 2Ch + h + C."""

    def __init__(self, channels: int, reduction: int = 8, gate_init: str = "half"):
        super().__init__(channels, reduction, bias=True, gate_init=gate_init)


# --- Channel gates from mean and maximum, spatial gates: the CBAM family ---


class ChannelAttention(nn.Module):
    """y = x · s(MLP(a) + MLP(m)), MLP shared and with biases: CBAM's channel part, Woo et al. 2018,
    arXiv:1807.06521. Parameters: 2Ch + h + C."""

    def __init__(self, channels: int, reduction: int = 16, gate_init: str = "half"):
        super().__init__()
        self.mlp = squeeze_mlp(channels, reduction, bias=True)
        self.offset = gate_offset(gate_init)

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        largest = max_hw(x)         # first: in this order x's gradients are summed, to the last bit
        return self.mlp(mean_hw(x)) + self.mlp(largest) + self.offset

    def gate(self, x: torch.Tensor) -> torch.Tensor:
        return self.logits(x).sigmoid()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gate(x)


class SpatialAttention(nn.Module):
    """y = x · s(BN(K [max_c x; mean_c x])), K a k×k convolution without bias: CBAM's spatial part,
    Woo et al. 2018, arXiv:1807.06521. Parameters: 2k² + 2 (``bias`` + 1, no ``norm`` − 2).

    As in the authors' code the norm has momentum 0.01 and its scale starts at zero, so the gate
    starts at 1/2 everywhere (``gamma=0``); ``gamma=1`` starts it input-dependent."""

    def __init__(self, channels: int, kernel_size: int = 7, gamma: float = 0.0, bias: bool = False,
                 norm: bool = True, gate_init: str = "half"):
        super().__init__()
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size={kernel_size} must be odd: the map keeps its size")
        self.conv = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=bias)
        self.norm = nn.BatchNorm2d(1, momentum=0.01) if norm else nn.Identity()
        self.gamma, self.offset = gamma, gate_offset(gate_init)
        self.reset_parameters()

    def reset_parameters(self):
        if isinstance(self.norm, nn.BatchNorm2d):
            nn.init.constant_(self.norm.weight, self.gamma)

    def gate(self, x: torch.Tensor) -> torch.Tensor:
        return (self.norm(self.conv(max_mean_c(x))) + self.offset).sigmoid()       # [B, 1, H, W]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gate(x)


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


class BAM(nn.Module):
    """y = x · (1 + s(Mc + Ms)): Bottleneck Attention Module, Park et al. 2018, arXiv:1807.06514.
    Mc = W2 relu(BN(W1 a)), Ms = 1×1 (C -> h), two dilated 3×3 (h -> h), 1×1 (h -> 1), a BN and a
    ReLU after each but the last; all with biases. One at the end of each stage but the last.

    The norm of Mc stands where the authors' code has it, not last as in the paper; that code takes
    Mc · Ms (``combine=mul``). In training it needs two images a batch, as that norm has one value
    an image. Parameters: 2Ch + 3h + C for Mc, Ch + 18h² + 10h + 1 for Ms."""

    def __init__(self, channels: int, reduction: int = 16, dilation: int = 4,
                 combine: str = "add"):
        super().__init__()
        if dilation < 1:
            raise ValueError(f"dilation={dilation} must be at least 1")
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

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gate(x)


class SCSE(nn.Module):
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

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gate(x)


# --- Channel and spatial parts put together: the hybrids ---


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

    def reset_parameters(self):
        nn.init.zeros_(self.t)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        alpha = self.t.sigmoid()
        return x + alpha * self.se(x) + (1 - alpha) * self.cbam(x)


class HybridPar(nn.Module):
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

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gate(x)


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
    """y = SA(SEC(x)): "SEC_SA" of github.com/jaekyeongg/deeplearning, with SA as in SESA.
    Parameters: 2Ch + h + C + 2k² + 3."""

    def __init__(self, channels: int, reduction: int = 8, kernel_size: int = 7,
                 gamma: float = 1.0, gate_init: str = "half"):
        super().__init__()
        self.channel = SEC(channels, reduction, gate_init)
        self.spatial = SpatialAttention(channels, kernel_size, gamma, bias=True,
                                        gate_init=gate_init)


class New(nn.Module):
    """y = u + u · s(W2 relu(W1 a)), u = SA(x), a = mean_hw x from before the spatial gate, so that
    y = x · Ms(x) · (1 + s(…)): "NEW" of github.com/jaekyeongg/deeplearning, with SA as in SESA;
    a gain of 0 to 2. Parameters: 2Ch + 2k² + 3."""

    def __init__(self, channels: int, reduction: int = 8, kernel_size: int = 7,
                 gamma: float = 1.0, gate_init: str = "half"):
        super().__init__()
        self.channel = SER(channels, reduction)
        self.spatial = SpatialAttention(channels, kernel_size, gamma, bias=True,
                                        gate_init=gate_init)

    def gate(self, x: torch.Tensor) -> torch.Tensor:
        return self.spatial.gate(x) * self.channel.gate(x)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gate(x)


class NAB(nn.Module):
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

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gate(x)


# --- Modern blocks, most of them for a handful of parameters ---


class ECA(nn.Module):
    """y = x · s(K a), K a convolution of width k along the channels: Efficient Channel Attention,
    Wang et al. 2020, arXiv:1910.03151. k = t or t + 1, whichever is odd, t = ⌊(log2 C + 1) / 2⌋,
    which is half the length of C in binary, rounded down. Parameters: k."""

    def __init__(self, channels: int, gate_init: str = "half"):
        super().__init__()
        k = channels.bit_length() // 2 | 1
        self.conv = nn.Conv2d(1, 1, (k, 1), padding=(k // 2, 0), bias=False)
        self.offset = gate_offset(gate_init)

    def gate(self, x: torch.Tensor) -> torch.Tensor:
        along = mean_hw(x).transpose(1, 2)              # [B, 1, C, 1]
        return (self.conv(along).transpose(1, 2) + self.offset).sigmoid()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gate(x)


class SimAM(nn.Module):
    """y = x · s((x − a)² / (4 (v + λ)) + 1/2), v the variance over the map (by n − 1): a gate of
    s(1/2) = 0.62 upwards without parameters, Yang et al. 2021, ICML (PMLR 139). The authors' CIFAR
    code has it between a block's second convolution and its norm. Parameters: 0.

    Deviation: n − 1 is at least 1, so that a 1×1 map is finite."""

    def __init__(self, channels: int, lam: float = 1e-4):
        super().__init__()
        if not lam > 0:
            raise ValueError(f"lam={lam} must be above 0")
        self.lam = lam

    def gate(self, x: torch.Tensor) -> torch.Tensor:
        n = x.shape[2] * x.shape[3]
        d = (x - x.mean((2, 3), keepdim=True)).square()
        v = d.mean((2, 3), keepdim=True) * (n / max(1, n - 1))    # no large sums in half precision
        return (d / (4 * (v + self.lam)) + 0.5).sigmoid()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gate(x)


class GatherExcite(nn.Module):
    """y = x · s(a): Gather-Excite without parameters over the whole map (GE-θ−), Hu et al. 2018,
    arXiv:1810.12348: SE's control for "does the MLP matter?". Parameters: 0."""

    def __init__(self, channels: int):
        super().__init__()

    def gate(self, x: torch.Tensor) -> torch.Tensor:
        return mean_hw(x).sigmoid()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gate(x)


class CoordAttention(nn.Module):
    """y = x · s(Wh f_h) · s(Ww f_w), [f_h; f_w] = hswish(BN(W [mean_w x; mean_h x])): Coordinate
    Attention, Hou et al. 2021, arXiv:2103.02907. h = max(8, C // reduction); all with biases.
    Parameters: Ch + h + 2h + 2 (hC + C)."""

    def __init__(self, channels: int, reduction: int = 32, gate_init: str = "half"):
        super().__init__()
        hidden = hidden_units(channels, reduction, least=8)
        self.squeeze = nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.BatchNorm2d(hidden),
                                     nn.Hardswish(inplace=True))
        self.rows = nn.Conv2d(hidden, channels, 1)
        self.columns = nn.Conv2d(hidden, channels, 1)
        self.offset = gate_offset(gate_init)

    def gate(self, x: torch.Tensor) -> torch.Tensor:
        rows = x.mean(3, keepdim=True)                                    # [B, C, H, 1]
        columns = x.mean(2, keepdim=True).transpose(2, 3)                 # [B, C, W, 1]
        rows, columns = self.squeeze(torch.cat([rows, columns], 2)).split(x.shape[2:], 2)
        rows, columns = self.rows(rows), self.columns(columns.transpose(2, 3))
        return (rows + self.offset).sigmoid() * (columns + self.offset).sigmoid()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gate(x)


class Triplet(nn.Module):
    """y = (SA'(x) + SA''(x) + SA(x)) / 3, each a spatial gate of its own (``gamma=1``): SA' with
    channels and rows changed over, SA'' with channels and columns; Triplet Attention, Misra et al.
    2021, arXiv:2010.03045. Parameters: 3 (2k² + 2)."""

    def __init__(self, channels: int, kernel_size: int = 7, gamma: float = 1.0,
                 gate_init: str = "half"):
        super().__init__()
        self.cw = SpatialAttention(channels, kernel_size, gamma, gate_init=gate_init)
        self.hc = SpatialAttention(channels, kernel_size, gamma, gate_init=gate_init)
        self.hw = SpatialAttention(channels, kernel_size, gamma, gate_init=gate_init)

    def gate(self, x: torch.Tensor) -> torch.Tensor:
        cw = self.cw.gate(x.transpose(1, 2)).transpose(1, 2)              # [B, C, 1, W]
        hc = self.hc.gate(x.transpose(1, 3)).transpose(1, 3)              # [B, C, H, 1]
        return (cw + hc + self.hw.gate(x)) / 3

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gate(x)


class GlobalContext(nn.Module):
    """y = x + W2 relu(LN(W1 Σ_j p_j x_j)), p = softmax over the places j of w·x_j: Global Context,
    Cao et al. 2019, arXiv:1904.11492. It adds and has no gate. W2 starts at zero, so y = x at the
    start. With h = 1 the norm leaves nothing of x, with h = 2 signs: few channels want a smaller
    ``reduction``.

    Deviation: w keeps torch's default start. Parameters: C + 1 + 2Ch + h + C + 2h."""

    def __init__(self, channels: int, reduction: int = 16):
        super().__init__()
        self.places = nn.Conv2d(channels, 1, 1)
        self.mlp = squeeze_mlp(channels, reduction, bias=True,
                               norm=lambda hidden: nn.LayerNorm([hidden, 1, 1]))
        self.reset_parameters()

    def reset_parameters(self):
        nn.init.zeros_(self.mlp[-1].weight)
        nn.init.zeros_(self.mlp[-1].bias)

    def context(self, x: torch.Tensor) -> torch.Tensor:
        p = self.places(x).flatten(2).softmax(-1)                         # [B, 1, HW]
        return self.mlp((x.flatten(2) @ p.transpose(1, 2))[..., None])    # [B, C, 1, 1]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.context(x)


class SRM(nn.Module):
    """y = x · s(BN(u·mean_hw x + w·sd_hw x)), u and w [C]: Style-based Recalibration, Lee et al.
    2019, arXiv:1903.10829. As in the authors' code u and w start at zero, so the gate at 1/2.

    Deviation: the variance is divided by n and 1e-5 added, so that a 1×1 map is finite. In training
    it needs two images a batch, as the norm has one value an image. Parameters: 2C + 2C."""

    def __init__(self, channels: int, gate_init: str = "half"):
        super().__init__()
        self.mix = nn.Conv2d(channels, channels, (1, 2), groups=channels, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.offset = gate_offset(gate_init)
        self.reset_parameters()

    def reset_parameters(self):
        nn.init.zeros_(self.mix.weight)

    def gate(self, x: torch.Tensor) -> torch.Tensor:
        sd = (x.var((2, 3), correction=0, keepdim=True) + 1e-5).sqrt()
        style = torch.cat([x.mean((2, 3), keepdim=True), sd], 3)          # [B, C, 1, 2]
        return (self.norm(self.mix(style)) + self.offset).sigmoid()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gate(x)


# --- In place of a convolution: 3×3, C -> C, stride 1, no bias, for the norm that follows ---


def relative_logits(q: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """q_j · r(j' − j) for all places j, j' of a row: q [..., L, d] -> [..., L, L]. ``table``
    [2S − 1, d] has r(1 − S) to r(S − 1); farther places count as the farthest of their side."""
    length = q.shape[-2]
    beyond = max(0, length - 1 - len(table) // 2)
    table = torch.cat([table[:1].expand(beyond, -1), table, table[-1:].expand(beyond, -1)])
    middle = len(table) // 2
    near = q @ table[middle - length + 1:middle + length].T               # [..., L, 2L − 1]
    # Row j is read from its place L − 1 − j on. One zero more in each row and then rows of 2L − 1
    # shift it so, and without an index, whose gradient would be summed in any order on CUDA.
    flat = nn.functional.pad(near, (0, 1)).flatten(-2)[..., length - 1:-1]
    return flat.unflatten(-1, (length, 2 * length - 1))[..., :length]


class AA(nn.Module):
    """y = [K x; Wo (p v)], K a 3×3 convolution C -> C − dv and p v the places' values v weighted by
    p = softmax_t(q · (k_t + r_t)), t all places of the map, in N heads: Attention Augmented
    convolution, Bello et al. 2019, arXiv:1904.09925. r_t is learned and the sum of one vector for
    how far t is down and one for how far across, shared by the heads. It needs memory for
    B · N · (HW)² numbers.

    A head has d = max(20, key · C / N) numbers in q and k and max(1, value · C / N) in v, rounded;
    so dk = N d, and dv = N in a narrow map; q is divided by √d. Few channels get fewer heads:
    N = min(num_heads, C // 8), at least 1. ``key`` and ``value`` are the paper's κ and υ.

    K starts with variance 2 / fan-in, so that deep networks without norms learn with it, too.

    Deviations: no biases; ``size`` is the side of the largest map whose distances all have vectors
    of their own, where the paper's tables are made for one map: farther ones share the last.
    Parameters: 9C (C − dv) + C (2dk + dv) + dv² + 2 (2 size − 1) d."""

    def __init__(self, channels: int, num_heads: int = 8, key: float = 0.2, value: float = 0.1,
                 size: int = 32):
        super().__init__()
        for option, given in {"num_heads": num_heads, "size": size}.items():
            if given < 1:
                raise ValueError(f"{option}={given} must be at least 1")
        self.heads = max(1, min(num_heads, channels // 8))
        self.depth = max(20, round(key * channels / self.heads))                      # d
        self.values = self.heads * max(1, round(value * channels / self.heads))       # dv
        if not (key > 0 and value > 0 and self.values < channels):
            raise ValueError(f"key={key} must be positive and value={value} between 0 and 1, and "
                             f"leave a channel of {channels} to the convolution")
        self.conv = nn.Conv2d(channels, channels - self.values, 3, padding=1, bias=False)
        self.qkv = nn.Conv2d(channels, 2 * self.heads * self.depth + self.values, 1, bias=False)
        self.out = nn.Conv2d(self.values, self.values, 1, bias=False)
        self.down = nn.Parameter(torch.empty(2 * size - 1, self.depth))
        self.across = nn.Parameter(torch.empty(2 * size - 1, self.depth))
        self.reset_parameters()

    def reset_parameters(self):
        nn.init.kaiming_normal_(self.conv.weight, nonlinearity="relu")
        for table in (self.down, self.across):
            nn.init.normal_(table, std=self.depth ** -0.5)

    def attend(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """p [B, N, HW, HW], each row adding up to 1, and v [B, N, HW, dv / N]."""
        height, width = x.shape[2:]
        dk = self.heads * self.depth
        q, k, v = (part.unflatten(1, (self.heads, -1)).permute(0, 1, 3, 4, 2)
                   for part in self.qkv(x).split([dk, dk, self.values], 1))  # [B, N, H, W, d]
        q = q * self.depth ** -0.5
        down = relative_logits(q.transpose(2, 3), self.down).transpose(2, 3)       # [B, N, H, W, H]
        across = relative_logits(q, self.across)                                   # [B, N, H, W, W]
        content = q.flatten(2, 3) @ k.flatten(2, 3).transpose(2, 3)
        place = (down[..., None] + across[..., None, :]).reshape(content.shape)
        return (content + place).softmax(-1), v.flatten(2, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        p, v = self.attend(x)
        seen = (p @ v).transpose(2, 3).reshape(len(x), self.values, *x.shape[2:])
        return torch.cat([self.conv(x), self.out(seen)], 1)


class SK(nn.Module):
    """y = p · U1 + (1 − p) · U2, U1 and U2 = relu(BN(K x)), K a 3×3 convolution in groups, that of
    U2 with dilation 2; [p; 1 − p] = softmax over the two of W2 relu(BN(W1 mean_hw (U1 + U2))), a
    p for each channel: Selective Kernel convolution, Li et al. 2019, arXiv:1903.06586. W1 leads to
    h = max(32, C // reduction), no biases. ``fixed``: p = 1/2, the control without W1 and W2.

    The number of groups is the greatest common divisor of ``groups`` and C. Deviation: another norm
    follows, that of the convolution whose place it takes. In training it needs two images a batch,
    as the norm of h has one value an image. Parameters: 18C² / groups + 4C + 3Ch + 2h; ``fixed``:
    18C² / groups + 4C."""

    def __init__(self, channels: int, reduction: int = 16, groups: int = 32, fixed: bool = False):
        super().__init__()
        if groups < 1:
            raise ValueError(f"groups={groups} must be at least 1")
        groups = max(n for n in range(1, groups + 1) if groups % n == channels % n == 0)
        hidden = hidden_units(channels, reduction, least=32)

        def branch(dilation):
            return nn.Sequential(nn.Conv2d(channels, channels, 3, 1, dilation, dilation, groups,
                                           bias=False),
                                 nn.BatchNorm2d(channels), nn.ReLU(inplace=True))
        self.near, self.far = branch(1), branch(2)
        self.select = None if fixed else nn.Sequential(
            nn.Conv2d(channels, hidden, 1, bias=False), nn.BatchNorm2d(hidden),
            nn.ReLU(inplace=True), nn.Conv2d(hidden, 2 * channels, 1, bias=False))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        near, far = self.near(x), self.far(x)
        if self.select is None:
            return (near + far) / 2
        logits = self.select((near + far).mean((2, 3), keepdim=True))
        p = logits.unflatten(1, (2, -1)).softmax(1).to(near.dtype)                # [B, 2, C, 1, 1]
        return p[:, 0] * near + p[:, 1] * far


# --- Controls ---


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


class Frozen(SE):
    """y = x · s(W2 relu(W1 a)), W1 and W2 as they were drawn: SE's control for "must the gate
    learn?". Parameters: 2Ch, of which none is trained."""

    def __init__(self, channels: int, reduction: int = 16, gate_init: str = "half"):
        super().__init__(channels, reduction, gate_init=gate_init)
        self.requires_grad_(False)


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
    "ser": Row(SER, "SE with a shortcut of its own: a gain of 1 to 2", "post_add"),
    "sec": Row(SEC, "SE with biases"),
    "ca": Row(ChannelAttention, "channel gate from mean and maximum (CBAM's channel part)"),
    "sa": Row(SpatialAttention, "spatial gate from mean and maximum (CBAM's spatial part)"),
    "cbam": Row(CBAM, "channel gate, then spatial gate"),
    "cbam_avg": Row(CBAMAvg, "SE, then a spatial gate without a norm: the hybrid project's CBAM"),
    "bam": Row(BAM, "one gate from a channel and a dilated spatial branch, added", "stage@123"),
    "scse": Row(SCSE, "channel gate plus the gate of a 1×1 convolution"),
    "hybrid": Row(Hybrid, "SE, then CBAM, both complete"),
    "hybrid_p0": Row(HybridP0, "SE, then cbam_avg: the hybrid project's own"),
    "hybrid_sum": Row(HybridSum, "x plus a learned mixture of SE and CBAM"),
    "hybrid_par": Row(HybridPar, "SE and CBAM side by side, their channel logits added"),
    "se_sa": Row(SESA, "ser, then a spatial gate", "post_add"),
    "sec_sa": Row(SECSA, "sec, then a spatial gate", "post_add"),
    "new": Row(New, "spatial gate times ser's gain, both from the same map", "post_add"),
    "nab": Row(NAB, "1×1 gate times the maximum of a strided 7×7 convolution's", "post_add@123"),
    "eca": Row(ECA, "channel gate from the mean of neighbouring channels"),
    "simam": Row(SimAM, "gate of every value by its distance from the mean, no parameters",
                 "inner"),
    "ge": Row(GatherExcite, "sigmoid of the mean, no parameters (Gather-Excite)"),
    "coord": Row(CoordAttention, "gate of the row times gate of the column"),
    "triplet": Row(Triplet, "mean of three spatial gates, the map turned twice"),
    "gc": Row(GlobalContext, "adds an MLP of a softmax-weighted mean"),
    "srm": Row(SRM, "channel gate from mean and standard deviation"),
    "aa": Row(AA, "3×3 convolution, some of its channels from self-attention", "replace"),
    "sk": Row(SK, "two 3×3 convolutions, one dilated, mixed channel by channel", "replace"),
    "layerscale": Row(LayerScale, "control: one learned factor a channel, the same for all images"),
    "shuffled": Row(Shuffled, "control: SE with the gate of another image"),
    "frozen": Row(Frozen, "control: SE whose gate is random and never trained"),
}

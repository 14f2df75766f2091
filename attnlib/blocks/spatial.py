"""Spatial gates, and gates of every value."""
import torch
from torch import nn

from .base import Gate, gate_offset, hidden_units, max_mean_c, odd


class SpatialAttention(Gate):
    """y = x · s(BN(K [max_c x; mean_c x])), K a k×k convolution without bias: CBAM's spatial part,
    Woo et al. 2018, arXiv:1807.06521. Parameters: 2k² + 2 (``bias`` + 1, no ``norm`` − 2).

    As in the authors' code the norm has momentum 0.01 and its scale starts at zero, so the gate
    starts at 1/2 everywhere (``gamma=0``); ``gamma=1`` starts it input-dependent."""

    def __init__(self, channels: int, kernel_size: int = 7, gamma: float = 0.0, bias: bool = False,
                 norm: bool = True, gate_init: str = "half"):
        super().__init__()
        self.conv = nn.Conv2d(2, 1, odd(kernel_size), padding=kernel_size // 2, bias=bias)
        self.norm = nn.BatchNorm2d(1, momentum=0.01) if norm else nn.Identity()
        self.gamma, self.offset = gamma, gate_offset(gate_init)
        self.reset_parameters()

    def reset_parameters(self):
        if isinstance(self.norm, nn.BatchNorm2d):
            nn.init.constant_(self.norm.weight, self.gamma)

    def gate(self, x: torch.Tensor) -> torch.Tensor:
        return (self.norm(self.conv(max_mean_c(x))) + self.offset).sigmoid()       # [B, 1, H, W]


class SimAM(Gate):
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


class CoordAttention(Gate):
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


class Triplet(Gate):
    """y = (SA'(x) + SA''(x) + SA(x)) / 3, each a spatial gate of its own (``gamma=1``): SA' with
    channels and rows changed over, SA'' with channels and columns; Triplet Attention, Misra et al.
    2021, arXiv:2010.03045. Parameters: 3 (2k² + 2)."""

    def __init__(self, channels: int, kernel_size: int = 7, gamma: float = 1.0,
                 gate_init: str = "half"):
        super().__init__()
        self.cw, self.hc, self.hw = (SpatialAttention(channels, kernel_size, gamma,
                                                      gate_init=gate_init) for _ in range(3))

    def gate(self, x: torch.Tensor) -> torch.Tensor:
        cw = self.cw.gate(x.transpose(1, 2)).transpose(1, 2)              # [B, C, 1, W]
        hc = self.hc.gate(x.transpose(1, 3)).transpose(1, 3)              # [B, C, H, 1]
        return (cw + hc + self.hw.gate(x)) / 3

"""Blocks of 2020 to 2024, from their papers' equations."""
import math

import torch
from torch import nn

from .base import Gate, at_least_1, mean_hw, odd, squeeze_mlp
from .channel import ECA


class ELA(Gate):
    """y = x · s(GN(K mean_w x)) · s(GN(K mean_h x)), K a depthwise convolution of width k along
    the rows or columns, K and GN the same for both: Efficient Local Attention (ELA-B), Xu & Wan
    2024, arXiv:2403.01123. The norm has 16 groups, or as many of those as divide C. On maps below k
    its ends see zeros, as everywhere at the border. Parameters: kC + 2C."""

    def __init__(self, channels: int, kernel_size: int = 7):
        super().__init__()
        self.conv = nn.Conv1d(channels, channels, odd(kernel_size), padding=kernel_size // 2,
                              groups=channels, bias=False)
        self.norm = nn.GroupNorm(math.gcd(16, channels), channels)

    def gate(self, x: torch.Tensor) -> torch.Tensor:
        rows = self.norm(self.conv(x.mean(3))).sigmoid()                  # [B, C, H]
        columns = self.norm(self.conv(x.mean(2))).sigmoid()               # [B, C, W]
        return rows[..., None] * columns[:, :, None]


class EMA(Gate):
    """y = x · s(p1 · U2 + p2 · U1) in each of g groups of channels, all with the same weights:
    U1 = GN(x · s(W mean_w x) · s(W mean_h x)), U2 = K x a 3×3 convolution, p1 = softmax_c
    mean_hw U1, p2 likewise of U2: Efficient Multi-scale Attention, Ouyang et al. 2023,
    arXiv:2305.13563. GN has a group for each channel. g is the greatest common divisor of C and
    ``groups`` or, if that is less, C // 8.
    Deviation: the authors have g = 32 at any width; here a group has 8 channels at least, if there
    are as many. Parameters, c = C / g: 10c² + 4c."""

    def __init__(self, channels: int, groups: int = 32):
        super().__init__()
        at_least_1(groups=groups)
        self.groups = math.gcd(min(groups, max(1, channels // 8)), channels)
        each = channels // self.groups
        self.line = nn.Conv2d(each, each, 1)
        self.area = nn.Conv2d(each, each, 3, padding=1)
        self.norm = nn.GroupNorm(each, each)

    def gate(self, x: torch.Tensor) -> torch.Tensor:
        z = x.unflatten(1, (self.groups, -1)).flatten(0, 1)               # [B g, c, H, W]
        rows, columns = z.mean(3, keepdim=True), z.mean(2, keepdim=True).transpose(2, 3)
        rows, columns = self.line(torch.cat([rows, columns], 2)).split(x.shape[2:], 2)
        near = self.norm(z * rows.sigmoid() * columns.transpose(2, 3).sigmoid())
        far = self.area(z)
        logits = ((mean_hw(near).softmax(1) * far).sum(1, keepdim=True)
                  + (mean_hw(far).softmax(1) * near).sum(1, keepdim=True))    # [B g, 1, H, W]
        gate = logits.sigmoid().to(x.dtype).expand_as(z)
        return gate.unflatten(0, (-1, self.groups)).flatten(1, 2)         # [B, C, H, W]


class Along(Gate):
    """s(K z) along one dimension d of the map, z = (1/2 + s(w1)) · mean + (1/2 + s(w2)) · sd over
    the two others, K a convolution of width k: a third of MCA. Parameters: k + 2."""

    def __init__(self, dim: int, width: int):
        super().__init__()
        self.dim, self.others = dim, [d for d in (1, 2, 3) if d != dim]
        self.weight = nn.Parameter(torch.empty(2))
        self.conv = nn.Conv1d(1, 1, width, padding=width // 2, bias=False)
        self.reset_parameters()

    def reset_parameters(self):
        nn.init.uniform_(self.weight)

    def gate(self, x: torch.Tensor) -> torch.Tensor:
        mean = x.mean(self.others, keepdim=True)
        sd = (x.var(self.others, correction=0, keepdim=True) + 1e-5).sqrt()
        w = (0.5 + self.weight.sigmoid()).to(x.dtype)
        z = w[0] * mean + w[1] * sd
        return self.conv(z.flatten(1)[:, None]).sigmoid().view(z.shape)


class MCA(Gate):
    """y = x · (g_c + g_h + g_w) / 3, each a gate along one dimension, as `Along` has it:
    Multidimensional Collaborative Attention, Yu et al. 2023, doi:10.1016/j.engappai.2023.107079.
    Rows and columns have k = 3; channels k = t or t − 1, whichever is odd,
    t = round(|log2 C − 1| / 1.5), at least 1.
    Deviation: the variance is divided by n, not n − 1, and 1e-5 added. Parameters: 12 + k."""

    def __init__(self, channels: int):
        super().__init__()
        t = max(1, round(abs(math.log2(channels) - 1) / 1.5))
        self.channel = Along(1, t if t % 2 else t - 1)
        self.rows, self.columns = Along(2, 3), Along(3, 3)

    def gate(self, x: torch.Tensor) -> torch.Tensor:
        return (self.channel.gate(x) + self.rows.gate(x) + self.columns.gate(x)) / 3


def averaging(length: int, parts: int, like: torch.Tensor) -> torch.Tensor:
    """[parts, length]: row n averages the n-th of ``parts`` pieces of a line, which overlap by one
    where they must; as `nn.AdaptiveAvgPool1d`, whose gradient is not deterministic on CUDA."""
    at, n = torch.arange(length, device=like.device), torch.arange(parts, device=like.device)
    first, last = n * length // parts, ((n + 1) * length + parts - 1) // parts
    inside = (at >= first[:, None]) & (at < last[:, None])
    return (inside / inside.sum(1, keepdim=True)).to(like.dtype)


class MLCA(Gate):
    """y = x · (s(K1 L) + s(K2 a)) / 2, L [B, C, n, n] the means of n × n pieces of the map, a the
    mean of L, K1 and K2 ECA's convolutions along the channels, K1 going on from one piece to the
    next: Mixed Local Channel Attention, Wan et al. 2023, doi:10.1016/j.engappai.2023.106442. Back
    on the map, a place has the mean of the pieces that it is in. n = 5, clamped to the map's sides:
    a 4×4 map has 4×4 pieces. Parameters: 2k."""

    def __init__(self, channels: int, size: int = 5):
        super().__init__()
        at_least_1(size=size)
        self.size = size
        self.local, self.all = ECA(channels).conv, ECA(channels).conv

    def gate(self, x: torch.Tensor) -> torch.Tensor:
        (height, width), n = x.shape[2:], self.size
        down, across = min(n, height), min(n, width)
        pieces = averaging(height, down, x) @ x @ averaging(width, across, x).T
        line = pieces.flatten(2).transpose(1, 2).flatten(1)[:, None, :, None]   # [B, 1, n n C, 1]
        local = self.local(line).view(x.shape[0], down * across, -1).transpose(1, 2)
        every = self.all(mean_hw(pieces).transpose(1, 2)).transpose(1, 2)       # [B, C, 1, 1]
        both = (local.unflatten(2, (down, across)).sigmoid() + every.sigmoid()) / 2
        return averaging(down, height, both) @ both @ averaging(across, width, both).T


class SelfAttention(nn.Module):
    """y = z + W2 gelu(W1 LN(z)), z = x + Wo MHSA(LN(x)): a transformer's block on the places of a
    map, Vaswani et al. 2017, arXiv:1706.03762, with the norms first and a GELU as in Dosovitskiy et
    al. 2021, arXiv:2010.11929; N heads of C / N numbers, N the greatest common divisor of
    ``num_heads`` and C. It adds and has no gate.
    Deviation: W1 has m = ``expand`` = 2 times C rows, not 4; Wo and W2 start at zero, so y = x; it
    knows no positions: the convolutions before it do. Parameters: (4 + 2m) C² + (m + 9) C."""

    def __init__(self, channels: int, num_heads: int = 4, expand: int = 2):
        super().__init__()
        at_least_1(num_heads=num_heads, expand=expand)
        self.heads = math.gcd(num_heads, channels)
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)
        self.mlp = nn.Sequential(nn.Linear(channels, expand * channels), nn.GELU(),
                                 nn.Linear(expand * channels, channels))
        self.reset_parameters()

    def reset_parameters(self):
        for layer in (self.out, self.mlp[-1]):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = x.flatten(2).transpose(1, 2)                                  # [B, HW, C]
        q, k, v = self.qkv(self.norm1(z)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        p = (q @ k.transpose(2, 3) * q.shape[-1] ** -0.5).softmax(-1).to(v.dtype)
        z = z + self.out((p @ v).transpose(1, 2).flatten(2)).to(z.dtype)  # [B, N, HW, d] before
        z = z + self.mlp(self.norm2(z)).to(z.dtype)
        return z.transpose(1, 2).unflatten(2, x.shape[2:])


class FCA(Gate):
    """y = x · s(W2 relu(W1 f)), f_c = Σ_ij x_cij d_u(i, H) d_v(j, W), d a DCT's orthonormal
    cosines: the channel attention of FcaNet, Qin et al. 2021, arXiv:2012.11879. Each sixteenth of
    the channels has one of the 16 frequencies (u, v) of a 7×7 map that the authors found best,
    "top16"; on larger maps they grow by H // 7. The first is √(HW) times the mean: SE, if alone.
    Deviation: the authors average maps to a size that is 7×7 at least; here they keep their own,
    below 7×7 with frequencies clamped to H − 1, some to the same. Parameters: 2Ch."""

    DOWN = (0, 0, 6, 0, 0, 1, 1, 4, 5, 1, 3, 0, 0, 0, 3, 2)                # u, best first
    ACROSS = (0, 1, 0, 5, 2, 0, 2, 0, 0, 6, 0, 4, 6, 3, 5, 2)              # v

    def __init__(self, channels: int, reduction: int = 16):
        super().__init__()
        self.mlp = squeeze_mlp(channels, reduction, bias=False)
        self.register_buffer("frequencies", torch.empty(channels, 2).long(), persistent=False)
        self.reset_parameters()

    def reset_parameters(self):                     # also of a block made on the meta device
        own = [c * 16 // len(self.frequencies) for c in range(len(self.frequencies))]
        pairs = [[self.DOWN[n], self.ACROSS[n]] for n in own]
        self.frequencies.copy_(torch.tensor(pairs))

    def cosines(self, frequency: torch.Tensor, length: int) -> torch.Tensor:
        """d [C, length]."""
        u = (frequency * max(1, length // 7)).clamp(max=length - 1)[:, None]
        at = torch.arange(length, device=u.device) + 0.5
        return (math.pi * u * at / length).cos() * ((1 + (u > 0)) / length).sqrt()

    def gate(self, x: torch.Tensor) -> torch.Tensor:
        down = self.cosines(self.frequencies[:, 0], x.shape[2])           # [C, H]
        across = self.cosines(self.frequencies[:, 1], x.shape[3])         # [C, W]
        waves = down[:, :, None] * across[:, None]                        # [C, H, W]
        return self.mlp((x * waves.to(x.dtype)).sum((2, 3), keepdim=True)).sigmoid().to(x.dtype)


class SCSA(Gate):
    """y = z · s(mean_hw (p v)), z = x · s(GN(K mean_w x)) · s(GN'(K mean_h x)), K depthwise along a
    line, of width 3, 5, 7 and 9 for the four quarters of the channels and the same for both; of
    P = GN''(z averaged over 7×7 windows) q, k and v are a factor a channel times P, and
    p = softmax(q k^T / √d) between the channels of a head: Spatial and Channel Synergistic
    Attention, Si et al. 2024, arXiv:2407.05128. N heads of d = C / N channels, one as with the
    authors, or the greatest common divisor of ``num_heads`` and C; GN and GN' have a group a
    quarter, if 4 divides C, GN'' one. Windows are clamped to the map: 4×4 has one.
    Parameters: 16C, if 4 divides C."""

    def __init__(self, channels: int, num_heads: int = 1):
        super().__init__()
        at_least_1(num_heads=num_heads)
        self.heads = math.gcd(num_heads, channels)
        self.parts = [(channels + n) // 4 for n in range(4)]
        self.lines = nn.ModuleList(nn.Conv1d(c, c, k, padding=k // 2, groups=max(1, c))
                                   for c, k in zip(self.parts, (3, 5, 7, 9), strict=True) if c)
        self.rows = nn.GroupNorm(math.gcd(4, channels), channels)
        self.columns = nn.GroupNorm(math.gcd(4, channels), channels)
        self.norm = nn.GroupNorm(1, channels)
        self.qkv = nn.Parameter(torch.empty(3, channels, 1, 1))
        self.reset_parameters()

    def reset_parameters(self):
        nn.init.uniform_(self.qkv, -1, 1)                       # as a 1×1 depthwise convolution's

    def along(self, z: torch.Tensor) -> torch.Tensor:
        parts = z.split([c for c in self.parts if c], 1)
        return torch.cat([line(part) for line, part in zip(self.lines, parts, strict=True)], 1)

    def gate(self, x: torch.Tensor) -> torch.Tensor:
        rows = self.rows(self.along(x.mean(3))).sigmoid()                 # [B, C, H]
        columns = self.columns(self.along(x.mean(2))).sigmoid()           # [B, C, W]
        places = (rows[..., None] * columns[:, :, None]).to(x.dtype)
        window = [min(7, side) for side in x.shape[2:]]
        seen = self.norm(nn.functional.avg_pool2d(x * places, window))
        q, k, v = ((seen * w).unflatten(1, (self.heads, -1)).flatten(3) for w in self.qkv)
        p = (q @ k.transpose(2, 3) * q.shape[2] ** -0.5).softmax(-1)      # [B, N, d, d]
        channel = (p.to(v.dtype) @ v).mean(3).flatten(1)[..., None, None]     # [B, C, 1, 1]
        return places * channel.sigmoid().to(x.dtype)

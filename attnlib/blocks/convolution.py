"""In place of a convolution: 3×3, C -> C, stride 1, no bias, for the norm that follows."""
import torch
from torch import nn

from .base import at_least_1, hidden_units


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
        at_least_1(num_heads=num_heads, size=size)
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
        place = (down[..., None] + across[..., None, :]).flatten(4).flatten(2, 3)
        return (content + place).softmax(-1), v.flatten(2, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        p, v = self.attend(x)
        seen = (p @ v).transpose(2, 3).reshape(x.shape[0], self.values, *x.shape[2:])
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
        at_least_1(groups=groups)
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

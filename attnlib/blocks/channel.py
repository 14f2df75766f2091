"""Channel gates: one factor a channel, [B, C, 1, 1]."""
import torch
from torch import nn

from .base import Gate, gate_offset, max_hw, mean_hw, squeeze_mlp


class SE(Gate):
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


class ChannelAttention(SE):
    """y = x · s(MLP(a) + MLP(m)), MLP shared and with biases: CBAM's channel part, Woo et al. 2018,
    arXiv:1807.06521. Parameters: 2Ch + h + C."""

    def __init__(self, channels: int, reduction: int = 16, gate_init: str = "half"):
        super().__init__(channels, reduction, True, gate_init)

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        largest = max_hw(x)         # first: in this order x's gradients are summed, to the last bit
        return self.mlp(mean_hw(x)) + self.mlp(largest) + self.offset


class ECA(Gate):
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


class GatherExcite(Gate):
    """y = x · s(a): Gather-Excite without parameters over the whole map (GE-θ−), Hu et al. 2018,
    arXiv:1810.12348: SE's control for "does the MLP matter?". Parameters: 0."""

    def __init__(self, channels: int):
        super().__init__()

    def gate(self, x: torch.Tensor) -> torch.Tensor:
        return mean_hw(x).sigmoid()


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


class SRM(Gate):
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

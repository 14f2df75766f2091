"""Controls, which are not meant to help, and replicas of the projects' faulty blocks."""
import torch
from torch import nn

from .base import hidden_units, max_hw, mean_hw
from .channel import SE
from .convolution import AA, relative_logits
from .spatial import SpatialAttention


class LayerScale(nn.Module):
    """y = x · g, g [C] learned and the same for every image, 1 at the start: the control for "is it
    only a rescaling?". After Touvron et al. 2021, arXiv:2103.17239. Parameters: C."""

    def __init__(self, channels: int):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels, 1, 1))

    def gate(self, x: torch.Tensor) -> torch.Tensor:
        return self.scale[None].expand(x.shape[0], -1, -1, -1)

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


class CBAMP2(nn.Module):
    """y = SA(x · s(relu(W a + b) + relu(W m + b))), W full, C × C, SA without norm and bias: "CBAM"
    of github.com/Dalejan/Resnet50_Attention.

    Wrong: a misspelt variable drops the bottleneck after the first layer, so it has C² + C
    parameters where CBAM has 2Ch + h + C; and the ReLU of the last layer lets no logit below zero,
    so the channel gate cannot fall under 1/2. The 913,304 parameters by which their network with it
    exceeds their baseline are these blocks'. Parameters: C² + C + 2k², k = 7."""

    def __init__(self, channels: int):
        super().__init__()
        self.mlp = nn.Sequential(nn.Conv2d(channels, channels, 1), nn.ReLU(inplace=True))
        self.spatial = SpatialAttention(channels, norm=False)

    def channel_gate(self, x: torch.Tensor) -> torch.Tensor:
        return (self.mlp(mean_hw(x)) + self.mlp(max_hw(x))).sigmoid()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.spatial(x * self.channel_gate(x))


class CBAMP2Intended(CBAMP2):
    """y = SA(x · s(MLP(a) + MLP(m))), MLP(z) = relu(W2 relu(W1 z + b1) + b2): `replica_cbam_p2`
    with the bottleneck that was meant, and so without its first fault. The second stays: the
    channel gate is between 1/2 and 1. Parameters: 2Ch + h + C + 2k², k = 7."""

    def __init__(self, channels: int, reduction: int = 16):
        super().__init__(channels)
        hidden = hidden_units(channels, reduction)
        self.mlp = nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.ReLU(inplace=True),
                                 nn.Conv2d(hidden, channels, 1), nn.ReLU(inplace=True))


class AAP1(AA):
    """AA with two faults of "AA" of github.com/jaekyeongg/deeplearning.

    Wrong: channels-first maps are split into heads as if they were channels-last, which mixes
    channels and places: a "place" of a head is d neighbouring numbers of memory. And the logits of
    the distances are summed over the heads, so all heads get the same. The vectors of the distances
    start with sd 1, not 1 / √d.

    Deviations: everything else is AA's: number of channels, no biases, tables of a fixed size and
    one convolution replaced; there it follows the residual sum and so ends the identity path.
    Parameters: as AA."""

    def reset_parameters(self):
        super().reset_parameters()
        for table in (self.down, self.across):
            nn.init.normal_(table)

    def attend(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        batch, _, height, width = x.shape
        dk = self.heads * self.depth
        q, k, v = (part.contiguous().reshape(batch, height, width, self.heads, -1)
                   .permute(0, 3, 1, 2, 4) for part in self.qkv(x).split([dk, dk, self.values], 1))
        q = q * self.depth ** -0.5
        shared = q.sum(1, keepdim=True)                       # relative_logits is linear in q
        down = relative_logits(shared.transpose(2, 3), self.down).transpose(2, 3)
        place = down[..., None] + relative_logits(shared, self.across)[..., None, :]
        content = q.flatten(2, 3) @ k.flatten(2, 3).transpose(2, 3)           # [B, N, HW, HW]
        return (content + place.flatten(4).flatten(2, 3)).softmax(-1), v.flatten(2, 3)

"""Blocks as other projects have them, faults included: for checking what those projects report,
not for use. Each is ``cls(channels)`` like the blocks of attention.py and in its notation; the
docstring says what is wrong. The code is ours, after their description and parameter counts."""
import torch
from torch import nn

from .attention import AA, Row, SpatialAttention, hidden_units, relative_logits


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
        largest = x.flatten(2).transpose(1, 2).max(1).values[:, :, None, None]
        return (self.mlp(x.mean((2, 3), keepdim=True)) + self.mlp(largest)).sigmoid()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.spatial(x * self.channel_gate(x))


class CBAMP2Intended(CBAMP2):
    """y = SA(x · s(MLP(a) + MLP(m))), MLP(z) = relu(W2 relu(W1 z + b1) + b2): CBAMP2 with the
    bottleneck that was meant, and so without its first fault. The second stays: the channel gate
    is between 1/2 and 1. Parameters: 2Ch + h + C + 2k², k = 7."""

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


REPLICAS = {
    "replica_cbam_p2": Row(CBAMP2, "the three-ResNets project's CBAM: no bottleneck, gate above "
                                   "1/2"),
    "replica_cbam_p2_intended": Row(CBAMP2Intended, "the same with its bottleneck"),
    "replica_aa_p1": Row(AAP1, "aa with channels and places mixed up, as in the position project",
                         "replace"),
}

"""The attention blocks. Each is ``cls(channels)``, keeps its input's shape, needs torch alone and
can be pasted into any project. ``gate(x)`` is what multiplies ``x``, broadcastable to it.

Notation: x [B, C, H, W]; a = mean_hw x, m = max_hw x, both [B, C, 1, 1]; s = sigmoid;
h = max(1, C // reduction)."""
import ast
import inspect
from collections import ChainMap
from collections.abc import Callable
from typing import NamedTuple

from torch import nn

from . import channel, combined, controls, convolution, newer, spatial


class Row(NamedTuple):
    """One row of ATTENTION. ``make(channels, **options)`` builds the block; ``placement`` is its
    own default; ``version`` is raised only when the block's behaviour changes."""
    make: Callable[..., nn.Module]
    says: str
    placement: str = "block"
    version: int = 1


ATTENTION = {
    "none": Row(nn.Identity, "no attention: the baseline"),
    "se": Row(channel.SE, "channel gate from the mean (Squeeze-and-Excitation)"),
    "ser": Row(channel.SER, "SE with a shortcut of its own: a gain of 1 to 2", "post_add"),
    "sec": Row(channel.SEC, "SE with biases"),
    "ca": Row(channel.ChannelAttention, "channel gate from mean and maximum (CBAM's channel part)"),
    "sa": Row(spatial.SpatialAttention, "spatial gate from mean and maximum (CBAM's spatial part)"),
    "cbam": Row(combined.CBAM, "channel gate, then spatial gate"),
    "cbam_avg": Row(combined.CBAMAvg,
                    "SE, then a spatial gate without a norm: the hybrid project's CBAM"),
    "bam": Row(combined.BAM, "one gate from a channel and a dilated spatial branch, added",
               "stage@123"),
    "scse": Row(combined.SCSE, "channel gate plus the gate of a 1×1 convolution"),
    "hybrid": Row(combined.Hybrid, "SE, then CBAM, both complete"),
    "hybrid_p0": Row(combined.HybridP0, "SE, then cbam_avg: the hybrid project's own"),
    "hybrid_sum": Row(combined.HybridSum, "x plus a learned mixture of SE and CBAM"),
    "hybrid_par": Row(combined.HybridPar, "SE and CBAM side by side, their channel logits added"),
    "se_sa": Row(combined.SESA, "ser, then a spatial gate", "post_add"),
    "sec_sa": Row(combined.SECSA, "sec, then a spatial gate", "post_add"),
    "new": Row(combined.New, "spatial gate times ser's gain, both from the same map", "post_add"),
    "nab": Row(combined.NAB, "1×1 gate times the maximum of a strided 7×7 convolution's",
               "post_add@123"),
    "eca": Row(channel.ECA, "channel gate from the mean of neighbouring channels"),
    "simam": Row(spatial.SimAM, "gate of every value by its distance from the mean, no parameters",
                 "inner"),
    "ge": Row(channel.GatherExcite, "sigmoid of the mean, no parameters (Gather-Excite)"),
    "coord": Row(spatial.CoordAttention, "gate of the row times gate of the column"),
    "triplet": Row(spatial.Triplet, "mean of three spatial gates, the map turned twice"),
    "gc": Row(channel.GlobalContext, "adds an MLP of a softmax-weighted mean"),
    "srm": Row(channel.SRM, "channel gate from mean and standard deviation"),
    "aa": Row(convolution.AA, "3×3 convolution, some of its channels from self-attention",
              "replace"),
    "sk": Row(convolution.SK, "two 3×3 convolutions, one dilated, mixed channel by channel",
              "replace"),
    "fca": Row(newer.FCA,
               "channel gate from 16 frequencies of the map, its mean one of them (FcaNet)"),
    "ela": Row(newer.ELA, "gate of the row times gate of the column, channel by channel"),
    "ema": Row(newer.EMA, "spatial gate of each group of channels, from two scales"),
    "mca": Row(newer.MCA, "mean of a channel, a row and a column gate from mean and deviation"),
    "scsa": Row(newer.SCSA, "gates of row and column, then a channel gate from self-attention"),
    "mlca": Row(newer.MLCA, "channel gates of 5×5 pieces of the map and of the whole, averaged"),
    "mhsa": Row(newer.SelfAttention,
                "adds self-attention between the places of the last map, and an MLP", "head"),
    "layerscale": Row(controls.LayerScale,
                      "control: one learned factor a channel, the same for all images"),
    "shuffled": Row(controls.Shuffled, "control: SE with the gate of another image"),
    "frozen": Row(controls.Frozen, "control: SE whose gate is random and never trained"),
}
REPLICAS = {
    "replica_cbam_p2": Row(controls.CBAMP2,
                           "the three-ResNets project's CBAM: no bottleneck, gate above 1/2"),
    "replica_cbam_p2_intended": Row(controls.CBAMP2Intended, "the same with its bottleneck"),
    "replica_aa_p1": Row(controls.AAP1,
                         "aa with channels and places mixed up, as in the position project",
                         "replace"),
}
BLOCKS = ChainMap(REPLICAS, ATTENTION)              # lists those of ATTENTION first


def source(name: str) -> str:
    """A block of the tables as one text that runs alone, wherever it is pasted: the imports, what
    of these files it uses, and its class."""
    parts = ["import math\n\nimport torch\nfrom torch import nn",
             *(inspect.getsource(thing).rstrip() for thing in needed(BLOCKS[name].make))]
    return "\n\n\n".join(parts)


def needed(thing) -> dict:
    """The functions and classes of this room that a function or class names, and itself, in an
    order in which they can be defined."""
    known = vars(inspect.getmodule(thing))
    names = {node.id: None for node in ast.walk(ast.parse(inspect.getsource(thing)))
             if isinstance(node, ast.Name)}
    used = [known[n] for n in names if known.get(n) is not thing
            and getattr(known.get(n), "__module__", "").startswith(__name__)]
    return {**{k: None for other in used for k in needed(other)}, thing: None}

"""The attention blocks: each against its equation, written out a second time and slowly."""
import ast
from pathlib import Path

import pytest
import torch
from torch import nn

from attnlib import blocks
from attnlib.blocks import ATTENTION
from attnlib.blocks.channel import SE, ChannelAttention
from attnlib.blocks.combined import CBAM
from attnlib.blocks.controls import LayerScale
from attnlib.blocks.controls import Shuffled as ShuffledSE
from attnlib.blocks.spatial import SpatialAttention

C, REDUCTION = 64, 16
HIDDEN = C // REDUCTION
NAMES = [name for name in ATTENTION if name != "none"]


def maps(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(shape or (3, C, 6, 9), generator=torch.Generator().manual_seed(seed))


def lively(name: str, channels: int = C, **options) -> nn.Module:
    """A block whose every parameter and running statistic is random, in eval mode: no part of the
    equation is hidden by an initial zero or one."""
    block = ATTENTION[name].make(channels, **options)
    rng = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for tensor in [*block.parameters(), *block.buffers()]:
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=rng) - 0.3)
                if ATTENTION[name].placement == "replace" and tensor.ndim > 1:
                    tensor /= tensor[0].numel() ** 0.5       # or its numbers leave every scale
        for module in block.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_var.abs_().add_(0.5)
    return block.eval()


RANGES = {blocks.channel.SER: (1, 2), blocks.combined.New: (0, 2), blocks.combined.BAM: (1, 2),
          blocks.combined.SCSE: (0, 2), blocks.spatial.SimAM: (0.62, 1)}      # of gates that are not in 0 to 1


def gated(block: nn.Module) -> list[nn.Module]:
    return [module for module in block.modules() if hasattr(module, "gate")]


# --- The equations, naively: one image, one channel, one place at a time ---


def naive_mlp(mlp: nn.Sequential, v: torch.Tensor) -> torch.Tensor:
    """W2 relu(W1 v + b1) + b2 for a vector [C]."""
    first, last = mlp[0], mlp[2]
    b1 = 0 if first.bias is None else first.bias
    b2 = 0 if last.bias is None else last.bias
    return last.weight[:, :, 0, 0] @ (first.weight[:, :, 0, 0] @ v + b1).clamp_min(0) + b2


def naive_se(block: nn.Module, x: torch.Tensor, give: int = 0) -> torch.Tensor:
    """``give``: whose descriptor an image gets; 0 its own, -1 the image before it."""
    out = torch.empty_like(x)
    for b in range(len(x)):
        other = x[(b + give) % len(x)]
        a = torch.stack([channel.sum() / channel.numel() for channel in other])
        gate = 1 / (1 + torch.exp(-naive_mlp(block.mlp, a)))
        for c in range(x.shape[1]):
            out[b, c] = x[b, c] * gate[c]
    return out


def naive_ca(block: nn.Module, x: torch.Tensor) -> torch.Tensor:
    out = torch.empty_like(x)
    for b in range(len(x)):
        a = torch.stack([channel.sum() / channel.numel() for channel in x[b]])
        m = torch.stack([channel.max() for channel in x[b]])
        gate = 1 / (1 + torch.exp(-naive_mlp(block.mlp, a) - naive_mlp(block.mlp, m)))
        for c in range(x.shape[1]):
            out[b, c] = x[b, c] * gate[c]
    return out


def naive_sa(block: nn.Module, x: torch.Tensor) -> torch.Tensor:
    kernel, norm = block.conv.weight[0], block.norm               # [2, k, k]: maximum, mean
    reach = kernel.shape[1] // 2
    height, width = x.shape[2:]
    out = torch.empty_like(x)
    for b in range(len(x)):
        pooled = torch.stack([x[b].max(0).values, x[b].mean(0)])
        for i in range(height):
            for j in range(width):
                z = 0.0
                for di in range(-reach, reach + 1):
                    for dj in range(-reach, reach + 1):
                        if 0 <= i + di < height and 0 <= j + dj < width:
                            k = kernel[:, di + reach, dj + reach]
                            z = z + (k * pooled[:, i + di, j + dj]).sum()
                if block.conv.bias is not None:
                    z = z + block.conv.bias
                if isinstance(norm, nn.BatchNorm2d):
                    z = (z - norm.running_mean) / torch.sqrt(norm.running_var + norm.eps)
                    z = z * norm.weight + norm.bias
                gate = 1 / (1 + torch.exp(-z))
                out[b, :, i, j] = x[b, :, i, j] * gate
    return out


def naive_cbam(block: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return naive_sa(block.spatial, naive_ca(block.channel, x))


NAIVE = {
    "none": lambda block, x: x,
    "se": naive_se,
    "ca": naive_ca,
    "sa": naive_sa,
    "cbam": naive_cbam,
    "hybrid": lambda block, x: naive_cbam(block.cbam, naive_se(block.se, x)),
    "layerscale": lambda block, x: torch.stack(
        [x[:, c] * block.scale[c] for c in range(x.shape[1])], 1),
    "shuffled": lambda block, x: naive_se(block, x, give=-1),
}
MLP, BIASES, SPATIAL = 2 * C * HIDDEN, HIDDEN + C, 2 * 7 * 7 + 2
# These equations and counts are of the first eight blocks; test_blocks.py has the others'.
PARAMETERS = {
    "none": 0, "se": MLP, "ca": MLP + BIASES, "sa": SPATIAL, "cbam": MLP + BIASES + SPATIAL,
    "hybrid": 2 * MLP + BIASES + SPATIAL, "layerscale": C, "shuffled": MLP,
}


@torch.no_grad()
@pytest.mark.parametrize("name", NAIVE)
def test_equals_its_equation(name):
    x, block = maps(3, C, 4, 5), lively(name)
    torch.testing.assert_close(block(x), NAIVE[name](block, x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", PARAMETERS)
def test_number_of_parameters(name):
    block = ATTENTION[name].make(C)
    assert sum(p.numel() for p in block.parameters()) == PARAMETERS[name]


# --- What all blocks promise ---


@torch.no_grad()
@pytest.mark.parametrize("name", ATTENTION)
@pytest.mark.parametrize("shape", [(2, C, 8, 8), (2, C, 5, 9), (1, C, 1, 1), (2, C, 32, 4)])
def test_keeps_the_shape(name, shape):
    x = maps(*shape)
    before = x.clone()
    y = lively(name)(x)
    assert y.shape == x.shape and y.isfinite().all()
    assert torch.equal(x, before), "the input was changed in place"


@torch.no_grad()
@pytest.mark.parametrize("channels", [4, 10, 17])
@pytest.mark.parametrize("name", ATTENTION)
def test_few_channels_keep_one_hidden_unit(name, channels):
    x = maps(2, channels, 4, 4)
    assert lively(name, channels)(x).shape == x.shape


@torch.no_grad()
@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("gc", "aa", "sk", "mhsa")])
def test_gates_lie_in_their_range_and_broadcast(name):
    x, found = 5 * maps(), gated(lively(name))
    assert found, "gc adds, aa and sk make new maps; all others multiply"
    for module in found:
        gate = module.gate(x)
        assert torch.broadcast_shapes(gate.shape, x.shape) == x.shape
        assert gate.ndim == 4
        if not isinstance(module, LayerScale):                     # its factors are free
            low, high = RANGES.get(type(module), (0, 1))
            assert gate.min() >= low and gate.max() <= high
            gate = module.gate(x / 25)                             # where it does not saturate
            assert gate.max() > gate.min()


@torch.no_grad()
@pytest.mark.parametrize("name", NAMES)
def test_the_gate_is_what_multiplies(name):
    x = maps()
    for module in gated(lively(name)):
        torch.testing.assert_close(module(x), x * module.gate(x))


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_and_the_input_get_a_gradient(name):
    x, block = maps().requires_grad_(), lively(name).train()
    (block(x) * maps(seed=3)).sum().backward()
    assert (x.grad != 0).float().mean() > 0.99
    for parameter_name, parameter in block.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0, parameter_name


@torch.no_grad()
@pytest.mark.parametrize("name", ATTENTION)
def test_bfloat16_stays_bfloat16_and_close(name):
    x, block = maps(), lively(name)
    with torch.autocast("cpu", torch.bfloat16):
        y = block(x.bfloat16())
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), block(x), rtol=0.05, atol=0.05)


@torch.no_grad()
@pytest.mark.parametrize("name", ATTENTION)
def test_memory_format_changes_nothing(name):
    x, block = maps(), lively(name)
    y = block(x.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(y, block(x), rtol=1e-5, atol=1e-4)      # sums in another order


@torch.no_grad()
@pytest.mark.parametrize("name", ATTENTION)
def test_state_dict_round_trip(name):
    x, block, other = maps(), lively(name), ATTENTION[name].make(C).eval()
    if block.state_dict():
        assert not torch.equal(other(x), block(x))
    other.load_state_dict(block.state_dict())
    assert torch.equal(other(x), block(x))


# --- What single blocks promise ---


@torch.no_grad()
def test_se_with_biases_is_torchvisions():
    from torchvision.ops import SqueezeExcitation
    x, ours, theirs = maps(), lively("se", bias=True), SqueezeExcitation(C, HIDDEN).eval()
    theirs.fc1.load_state_dict(ours.mlp[0].state_dict())
    theirs.fc2.load_state_dict(ours.mlp[2].state_dict())
    torch.testing.assert_close(ours(x), theirs(x))


@torch.no_grad()
@pytest.mark.parametrize("block", [SE(C), ChannelAttention(C)])
def test_channel_gates_do_not_see_where_things_are(block):
    x = maps()
    places = torch.randperm(6 * 9, generator=torch.Generator().manual_seed(4))
    moved = x.flatten(2)[:, :, places].view_as(x)
    assert not torch.equal(moved, x)
    torch.testing.assert_close(block.gate(moved), block.gate(x))


@torch.no_grad()
def test_spatial_gate_does_not_see_which_channel_is_which():
    x, block = maps(), lively("sa")
    channels = torch.randperm(C, generator=torch.Generator().manual_seed(4))
    torch.testing.assert_close(block.gate(x[:, channels]), block.gate(x))
    assert not torch.allclose(block.gate(x.flip(3)), block.gate(x))


def test_the_maximum_gives_its_gradient_to_one_of_several_equal_places():
    x = torch.zeros(1, C, 3, 3, requires_grad=True)
    lively("ca").gate(x).sum().backward()
    places = x.grad.flatten(2)[0]                                  # [C, 9]
    usual = places.median(1, keepdim=True).values
    assert ((places != usual).sum(1) == 1).all()


@torch.no_grad()
@pytest.mark.parametrize("training", [False, True])
def test_spatial_gate_starts_at_one_half(training):
    x, block = maps(), SpatialAttention(C).train(training)
    assert torch.equal(block(x), x / 2)


@torch.no_grad()
@pytest.mark.parametrize("make", [SpatialAttention, CBAM])
def test_gamma_1_starts_the_spatial_gate_from_the_image(make):
    block = make(C, gamma=1.0).eval()
    gate = gated(block)[-1].gate(maps())
    assert gate.std() > 0.01


def test_spatial_norm_has_the_authors_momentum():
    assert SpatialAttention(C).norm.momentum == 0.01


@torch.no_grad()
def test_layerscale_is_the_identity_at_first():
    x = maps()
    assert torch.equal(LayerScale(C)(x), x)


@torch.no_grad()
def test_layerscale_gate_is_the_same_for_every_image():
    gate = lively("layerscale").gate(maps())
    assert torch.equal(gate[0], gate[1]) and len(gate) == 3


@torch.no_grad()
def test_shuffled_is_se_with_the_gate_of_the_image_before():
    x, se, shuffled = maps(), SE(C), ShuffledSE(C)
    shuffled.load_state_dict(se.state_dict())
    for b in range(3):
        assert torch.equal(shuffled.gate(x)[b], se.gate(x)[b - 1])
    assert torch.equal(shuffled(x[:1]), se(x[:1])), "a batch of one is SE itself"


@torch.no_grad()
def test_options_reach_the_layers():
    assert SE(C, reduction=8).mlp[0].out_channels == 8
    assert SpatialAttention(C, kernel_size=3).conv.kernel_size == (3, 3)
    cbam = CBAM(C, reduction=4, kernel_size=5)
    assert cbam.channel.mlp[0].out_channels == 16 and cbam.spatial.conv.kernel_size == (5, 5)
    hybrid = blocks.combined.Hybrid(C, reduction=4, kernel_size=3)
    assert hybrid.se.mlp[0].out_channels == hybrid.cbam.channel.mlp[0].out_channels == 16


@pytest.mark.parametrize(("make", "options", "word"), [
    (SpatialAttention, {"kernel_size": 4}, "kernel_size=4"),      # it would change the map's size
    (SpatialAttention, {"kernel_size": -1}, "kernel_size=-1"),
    (CBAM, {"kernel_size": 2}, "kernel_size=2"),
    (SE, {"reduction": 0}, "reduction=0"),
    (CBAM, {"reduction": -16}, "reduction=-16"),
])
def test_impossible_options_are_named(make, options, word):
    with pytest.raises(ValueError, match=word):
        make(C, **options)


@pytest.mark.parametrize("file", sorted(Path(blocks.__file__).parent.glob("*.py")),
                         ids=lambda file: file.stem)
def test_the_blocks_import_torch_alone(file):
    tree = ast.parse(file.read_text(encoding="utf-8"))
    modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import)
               for alias in node.names}
    modules |= {node.module for node in ast.walk(tree)
                if isinstance(node, ast.ImportFrom) and not node.level}
    above = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level > 1]
    assert not above and "torch" in modules
    assert modules <= {"torch", "math", "typing", "collections", "collections.abc", "ast",
                       "inspect"}


def test_every_row_says_what_it_is_and_names_its_placement():
    for name, row in ATTENTION.items():
        assert row.says and row.placement and isinstance(row.version, int), name
        assert name == "none" or row.make.__doc__, name

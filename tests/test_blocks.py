"""The blocks beyond the first eight: equations, sizes, starts and the properties each is known for.
What all blocks promise is in test_attention.py, of every row."""
import math

import pytest
import torch
from helpers import NEWER
from test_attention import NAIVE as FIRST
from test_attention import lively, maps, naive_ca, naive_cbam, naive_mlp, naive_sa, naive_se
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from attnlib import blocks
from attnlib.blocks import ATTENTION, BLOCKS
from attnlib.blocks.channel import SE, SEC, GlobalContext
from attnlib.blocks.combined import HybridSum
from attnlib.blocks.spatial import SpatialAttention
from attnlib.names import option_defaults
from attnlib.networks.build import build_model, resolve_placement
from attnlib.networks.cost import cost, count

C = 16
NAMES = [name for name in ATTENTION if name != "none"]
# What takes a convolution's place is in a network another way than the blocks that are put in.
ADDED = [name for name in NAMES if ATTENTION[name].placement != "replace"]


# --- The equations, naively: one image, one place at a time ---


def naive_conv(conv: nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
    """A convolution of one image [C, H, W], zeros around it, one place at a time."""
    (down, across), (far_down, far_across) = conv.padding, conv.dilation
    padded = torch.zeros(len(x), x.shape[1] + 2 * down, x.shape[2] + 2 * across)
    padded[:, down:down + x.shape[1], across:across + x.shape[2]] = x
    reach_down = far_down * (conv.kernel_size[0] - 1) + 1
    reach_across = far_across * (conv.kernel_size[1] - 1) + 1
    rows = []
    for i in range(0, padded.shape[1] - reach_down + 1, conv.stride[0]):
        rows.append([])
        for j in range(0, padded.shape[2] - reach_across + 1, conv.stride[1]):
            patch = padded[:, i:i + reach_down:far_down, j:j + reach_across:far_across]
            patch = patch.unflatten(0, (conv.groups, 1, -1))           # [G, 1, C / G, k, k]
            z = (conv.weight.unflatten(0, (conv.groups, -1)) * patch).sum((2, 3, 4)).flatten()
            rows[-1].append(z if conv.bias is None else z + conv.bias)
    return torch.stack([torch.stack(row, 1) for row in rows], 1)


def naive_norm(norm: nn.BatchNorm2d, x: torch.Tensor) -> torch.Tensor:
    """A batch norm's running statistics on one image [C, H, W]."""
    return torch.stack([(x[c] - norm.running_mean[c]) / (norm.running_var[c] + norm.eps) ** 0.5
                        * norm.weight[c] + norm.bias[c] for c in range(len(x))])


def s(z: torch.Tensor) -> torch.Tensor:
    return 1 / (1 + torch.exp(-z))


def mean(image: torch.Tensor) -> torch.Tensor:
    return torch.stack([channel.sum() / channel.numel() for channel in image])


def naive_new(block, x):
    out = naive_sa(block.spatial, x)                               # u
    for b in range(len(x)):
        gate = s(naive_mlp(block.channel.mlp, mean(x[b])))         # of x, not of u
        out[b] = out[b] + out[b] * gate[:, None, None]
    return out


def naive_nab(block, x):
    out = torch.empty_like(x)
    for b, image in enumerate(x):
        canvas = image
        if image.shape[1] < 7:                                     # 4×5 in the middle of 7×7
            canvas = torch.zeros(len(image), 7, 7)
            canvas[:, 1:5, 1:6] = image
        channel = s(naive_conv(block.patch, canvas)).flatten(1).max(1).values
        out[b] = image * s(naive_conv(block.pixel, image)) * channel[:, None, None]
    return out


def naive_bam(block, x, combine=torch.add):
    out = torch.empty_like(x)
    for b, image in enumerate(x):
        squeeze, norm, _, excite = block.channel
        z = naive_conv(squeeze, mean(image)[:, None, None])
        channel = naive_conv(excite, naive_norm(norm, z).clamp_min(0))
        z = image
        for conv, norm, _ in block.spatial[:3]:
            z = naive_norm(norm, naive_conv(conv, z)).clamp_min(0)
        spatial = naive_conv(block.spatial[3], z)
        out[b] = image * (1 + s(combine(channel, spatial)))
    return out


def naive_scse(block, x):
    spatial = torch.stack([image * s(naive_conv(block.spatial, image)) for image in x])
    return naive_se(block.channel, x), spatial


def naive_par(block, x):
    out = torch.empty_like(x)
    for b, image in enumerate(x):
        m = torch.stack([channel.max() for channel in image])
        z = (naive_mlp(block.se.mlp, mean(image)) + naive_mlp(block.channel.mlp, mean(image))
             + naive_mlp(block.channel.mlp, m))
        out[b] = naive_sa(block.spatial, x)[b] * s(z)[:, None, None]
    return out


def naive_eca(block, x):
    taps = block.conv.weight.flatten()
    out = torch.empty_like(x)
    for b, image in enumerate(x):
        a = mean(image)
        for c in range(len(a)):
            near = [(c + n - len(taps) // 2, tap) for n, tap in enumerate(taps)]
            out[b, c] = image[c] * s(sum(tap * a[i] for i, tap in near if 0 <= i < len(a)))
    return out


def naive_simam(block, x):
    out = torch.empty_like(x)
    for b, image in enumerate(x):
        for c, channel in enumerate(image):
            d = (channel - channel.sum() / channel.numel()) ** 2
            v = d.sum() / (channel.numel() - 1)
            out[b, c] = channel * s(d / (4 * (v + 1e-4)) + 0.5)
    return out


def naive_coord(block, x):
    conv, norm, _ = block.squeeze
    out = torch.empty_like(x)
    for b, image in enumerate(x):
        height, width = image.shape[1:]
        profile = [image[:, i].sum(1) / width for i in range(height)]
        profile += [image[:, :, j].sum(1) / height for j in range(width)]
        f = naive_norm(norm, naive_conv(conv, torch.stack(profile, 1)[:, :, None]))
        f = f * (f + 3).clamp(0, 6) / 6                            # hswish, [h, H + W, 1]
        rows = s(naive_conv(block.rows, f[:, :height]))
        columns = s(naive_conv(block.columns, f[:, height:]))
        for i in range(height):
            for j in range(width):
                out[b, :, i, j] = image[:, i, j] * rows[:, i, 0] * columns[:, j, 0]
    return out


def naive_triplet(block, x):
    cw = torch.stack([naive_sa(block.cw, image[None].permute(0, 2, 1, 3))[0] for image in x])
    hc = torch.stack([naive_sa(block.hc, image[None].permute(0, 3, 2, 1))[0] for image in x])
    return (cw.permute(0, 2, 1, 3) + hc.permute(0, 3, 2, 1) + naive_sa(block.hw, x)) / 3


def naive_gc(block, x):
    first, norm, _, last = block.mlp
    out = torch.empty_like(x)
    for b, image in enumerate(x):
        weight = torch.exp(naive_conv(block.places, image))[0]     # [H, W]
        context = torch.stack([(weight * channel).sum() / weight.sum() for channel in image])
        z = naive_conv(first, context[:, None, None])
        z = (z - z.mean()) / ((z - z.mean()) ** 2).mean().add(norm.eps).sqrt()
        out[b] = image + naive_conv(last, (z * norm.weight + norm.bias).clamp_min(0))
    return out


def naive_srm(block, x):
    out = torch.empty_like(x)
    for b, image in enumerate(x):
        style = torch.stack([mean(image), torch.stack([
            (((c - c.mean()) ** 2).mean() + 1e-5).sqrt() for c in image])], 1)      # [C, 2]
        z = (block.mix.weight[:, 0, 0] * style).sum(1)
        out[b] = image * s(naive_norm(block.norm, z[:, None, None]))
    return out


def naive_aa(block, x, n, d, reach):
    """n heads of d numbers in q and k; distances beyond ``reach`` count as ``reach``."""
    height, width = x.shape[2:]
    places = [(i, j) for i in range(height) for j in range(width)]
    out = torch.empty_like(x)

    def table(vectors, distance):
        return vectors[reach + min(max(distance, -reach), reach)]
    for b, image in enumerate(x):
        z = naive_conv(block.qkv, image)
        q, k, v = z[:n * d], z[n * d:2 * n * d], z[2 * n * d:]
        seen = torch.zeros_like(v)
        for head in range(n):
            own = slice(head * d, (head + 1) * d)
            mine = slice(head * len(v) // n, (head + 1) * len(v) // n)
            for i, j in places:
                weight = torch.stack([torch.exp((q[own, i, j] * (
                    k[own, t, u] + table(block.down, t - i) + table(block.across, u - j)
                )).sum() / math.sqrt(d)) for t, u in places])
                seen[mine, i, j] = sum(w * v[mine, t, u] for w, (t, u)
                                       in zip(weight, places, strict=True)) / weight.sum()
        out[b] = torch.cat([naive_conv(block.conv, image), naive_conv(block.out, seen)])
    return out


def naive_sk(block, x, fixed=False):
    out = torch.empty_like(x)
    for b, image in enumerate(x):
        near, far = (naive_norm(norm, naive_conv(conv, image)).clamp_min(0)
                     for conv, norm, _ in (block.near, block.far))
        p = torch.full((2, len(image)), 0.5)
        if not fixed:
            first, norm, _, last = block.select
            z = naive_norm(norm, naive_conv(first, mean(near + far)[:, None, None])).clamp_min(0)
            p = naive_conv(last, z)[:, 0, 0].view(2, -1)
            p = torch.exp(p) / torch.exp(p).sum(0)
        for c in range(len(image)):
            out[b, c] = p[0, c] * near[c] + p[1, c] * far[c]
    return out


NAIVE = {
    "ser": lambda block, x: x + naive_se(block, x),
    "sec": naive_se,
    "cbam_avg": lambda block, x: naive_sa(block.spatial, naive_se(block.channel, x)),
    "bam": naive_bam,
    "scse": lambda block, x: sum(naive_scse(block, x)),
    "hybrid_p0": lambda block, x: NAIVE["cbam_avg"](block.cbam, naive_se(block.se, x)),
    "hybrid_sum": lambda block, x: (x + s(block.t) * naive_se(block.se, x)
                                    + (1 - s(block.t)) * naive_cbam(block.cbam, x)),
    "hybrid_par": naive_par,
    "se_sa": lambda block, x: naive_sa(block.spatial, NAIVE["ser"](block.channel, x)),
    "sec_sa": lambda block, x: naive_sa(block.spatial, naive_se(block.channel, x)),
    "new": naive_new,
    "nab": naive_nab,
    "eca": naive_eca,
    "simam": naive_simam,
    "ge": lambda block, x: torch.stack([i * s(mean(i))[:, None, None] for i in x]),
    "coord": naive_coord,
    "triplet": naive_triplet,
    "gc": naive_gc,
    "srm": naive_srm,
    "frozen": naive_se,
    "aa": lambda block, x: naive_aa(block, x, n=2, d=20, reach=31),
    "sk": naive_sk,
}


def test_every_row_has_its_equation_written_twice():
    assert {*FIRST, *NAIVE, *NEWER} == set(ATTENTION) and not FIRST.keys() & NAIVE.keys()


@torch.no_grad()
@pytest.mark.parametrize("name", NAIVE)
def test_equals_its_equation(name):
    x, block = maps(2, C, 4, 5), lively(name, C)
    torch.testing.assert_close(block(x), NAIVE[name](block, x), rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(("name", "options", "naive"), [
    ("bam", {"combine": "mul", "dilation": 1}, lambda b, x: naive_bam(b, x, torch.mul)),
    ("scse", {"combine": "max"}, lambda b, x: torch.maximum(*naive_scse(b, x))),
    ("sa", {"bias": True}, naive_sa),
    ("sa", {"norm": False}, naive_sa),
    ("aa", {"size": 2, "num_heads": 1, "value": 0.5},
     lambda b, x: naive_aa(b, x, n=1, d=20, reach=1)),
    ("aa", {"size": 4, "key": 4.0, "value": 0.3}, lambda b, x: naive_aa(b, x, n=2, d=32, reach=3)),
    ("sk", {"fixed": True}, lambda b, x: naive_sk(b, x, fixed=True)),
    ("sk", {"groups": 1}, naive_sk),
    ("sk", {"groups": 12}, naive_sk),
])
def test_options_equal_their_equations(name, options, naive):
    x, block = maps(2, C, 4, 5), lively(name, C, **options)
    torch.testing.assert_close(block(x), naive(block, x), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_nab_on_maps_that_need_no_padding():
    x, block = maps(2, C, 10, 14), lively("nab", C)
    assert block.patch(x).shape[2:] == (2, 3)
    torch.testing.assert_close(block(x), naive_nab(block, x), rtol=1e-4, atol=1e-5)


# --- Sizes ---


def mlp(c: int, r: int = 16) -> int:
    return 2 * c * max(1, c // r)


def biases(c: int, r: int = 16) -> int:
    return max(1, c // r) + c


def bam(c: int) -> int:
    h = max(1, c // 16)
    return (c * h + h + 2 * h + h * c + c) + (c * h + h + 2 * h + 2 * (9 * h * h + 3 * h) + h + 1)


def coord(c: int) -> int:
    h = max(8, c // 32)
    return c * h + h + 2 * h + 2 * (h * c + c)


def aa(c: int, num_heads: int = 8, key: float = 0.2, value: float = 0.1, size: int = 32) -> int:
    n = min(num_heads, max(1, c // 8))
    d, dv = max(20, round(key * c / n)), n * max(1, round(value * c / n))
    return 9 * c * (c - dv) + c * (2 * n * d + dv) + dv * dv + 2 * (2 * size - 1) * d


def sk(c: int, groups: int = 32, fixed: bool = False) -> int:
    h = max(32, c // 16)
    return 18 * c * c // math.gcd(c, groups) + 4 * c + (0 if fixed else 3 * c * h + 2 * h)


PARAMETERS = {
    "ser": lambda c: mlp(c, 8),
    "sec": lambda c: mlp(c, 8) + biases(c, 8),
    "cbam_avg": lambda c: mlp(c) + 98,
    "bam": bam,
    "scse": lambda c: mlp(c) + biases(c) + c + 1,
    "hybrid_p0": lambda c: 2 * mlp(c) + 98,
    "hybrid_sum": lambda c: 2 * mlp(c) + biases(c) + 100 + 1,
    "hybrid_par": lambda c: 2 * mlp(c) + biases(c) + 100,
    "se_sa": lambda c: mlp(c, 8) + 101,
    "sec_sa": lambda c: mlp(c, 8) + biases(c, 8) + 101,
    "new": lambda c: mlp(c, 8) + 101,
    "nab": lambda c: 49 * c * c + c + c + 1,
    "nab(depthwise)": lambda c: 50 * c + c + 1,
    "eca": lambda c: {8: 3, 48: 3, 64: 3, 512: 5}[c],
    "simam": lambda c: 0,
    "ge": lambda c: 0,
    "coord": coord,
    "triplet": lambda c: 300,
    "gc": lambda c: c + 1 + mlp(c) + biases(c) + 2 * max(1, c // 16),
    "srm": lambda c: 4 * c,
    "frozen": mlp,
    "aa": aa,
    "sk": sk,
}


@pytest.mark.parametrize("channels", [8, 48, 64, 512])
@pytest.mark.parametrize("name", PARAMETERS)
def test_number_of_parameters(name, channels):
    name, _, depthwise = name.partition("(")
    with torch.device("meta"):
        block = ATTENTION[name].make(channels, **({"depthwise": True} if depthwise else {}))
    key = name + ("(depthwise)" if depthwise else "")
    assert sum(p.numel() for p in block.parameters()) == PARAMETERS[key](channels)


@pytest.mark.parametrize("channels", [4, 8, 20, 48, 64, 512])
def test_number_of_parameters_with_options(channels):
    def number(name, **options):
        with torch.device("meta"):
            return sum(p.numel() for p in ATTENTION[name].make(channels, **options).parameters())
    for options in ({}, {"num_heads": 2}, {"key": 0.5, "value": 0.25, "size": 7}):
        assert number("aa", **options) == aa(channels, **options)
    for options in ({}, {"fixed": True}, {"groups": 1}, {"groups": 6, "fixed": True}):
        assert number("sk", **options) == sk(channels, **options)


@pytest.mark.parametrize(("attention", "placement", "added", "sites"), [
    ("se", "block", 87_040, 8), ("se(bias=True)", "block", 89_080, 8),
    ("se(reduction=8)", "block", 174_080, 8), ("cbam", "block", 89_880, 8),
    ("ser", "post_add", 174_080, 8), ("srm", "block", 7_680, 8), ("triplet", "block", 2_400, 8),
    ("eca", "block", 36, 8), ("coord", "block", 74_736, 8), ("gc", "block", 91_248, 8),
    ("bam", "stage@123", 22_991, 3), ("nab", "post_add@1", 2 * 200_833, 2),
    ("nab", "post_add@123", 2 * (200_833 + 803_073 + 3_211_777), 6),
    ("simam", "inner", 0, 8), ("ge", "block", 0, 8), ("frozen", "block", 0, 8),
])
def test_what_attention_adds_to_resnet18(attention, placement, added, sites):
    with torch.device("meta"):
        counted = cost(build_model("resnet18", attention, placement=placement), (3, 32, 32))
    assert (counted["attention_params"], counted["sites"]) == (added, sites)
    assert counted["params"] == 11_173_962 + added


# --- Places ---


DEFAULTS = {"ser": "post_add", "se_sa": "post_add", "sec_sa": "post_add", "new": "post_add",
            "nab": "post_add@123", "bam": "stage@123", "simam": "inner", "mhsa": "head"}


@pytest.mark.parametrize("name", ADDED)
def test_default_places(name):
    own = DEFAULTS.get(name, "block")
    assert resolve_placement(name, "resnet18", None) == own
    # without a residual sum or an inner place: block; of three stages, 123 is all
    assert resolve_placement(name, "squeezenet", None) == {
        "bam": "stage", "mhsa": "head"}.get(name, "block")


# --- What all blocks promise, beyond test_attention.py ---


@pytest.mark.parametrize("name", NAMES)
def test_trains_on_odd_maps_of_any_shape(name):
    for shape in [(2, 8, 5, 9), (3, C, 7, 3), (2, 24, 13, 8)]:
        block, x = ATTENTION[name].make(shape[1]), maps(*shape).requires_grad_()
        y = block(x)
        y.square().sum().backward()
        assert y.shape == shape and y.isfinite().all() and x.grad.isfinite().all()
        assert all(p.grad.isfinite().all() for p in block.parameters() if p.requires_grad)


@pytest.mark.parametrize("name", NAMES)
def test_parameters_get_a_gradient_in_evaluation_too(name):
    """There the biases before a norm count as well."""
    block = lively(name)
    (block(maps().requires_grad_()) * maps(seed=3)).sum().backward()
    for key, parameter in block.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0, key


@pytest.mark.parametrize("name", NAMES)
def test_compiles_in_one_piece(name):
    torch._dynamo.reset()
    block, x = lively(name, C), maps(2, C, 8, 9).requires_grad_()
    y = block(x)
    y.sum().backward()
    expected, x.grad = x.grad.clone(), None
    compiled = torch.compile(block, backend="aot_eager", fullgraph=True)(x)
    compiled.sum().backward()
    torch.testing.assert_close(compiled, y)
    torch.testing.assert_close(x.grad, expected)


@pytest.mark.filterwarnings("ignore")                  # tracing warns where a size is read
@torch.no_grad()
@pytest.mark.parametrize("name", [name for name in BLOCKS if name != "none"])
def test_exported_with_any_size_and_traced_with_any_batch(name):
    block = lively(name, C) if name in ATTENTION else BLOCKS[name].make(C).eval()
    x, free = maps(3, C, 19, 18), torch.export.Dim.DYNAMIC
    exported = torch.export.export(block, (x,), dynamic_shapes=[{0: free, 2: free, 3: free}])
    traced = torch.jit.trace(block, x, check_trace=False)
    other = maps(5, C, 17, 15)
    torch.testing.assert_close(exported.module()(other), block(other), rtol=1e-4, atol=1e-5)
    more = maps(5, C, 19, 18)
    torch.testing.assert_close(traced(more), block(more), rtol=1e-4, atol=1e-5)


# Operations whose backward pass on CUDA adds up in any order, or that PyTorch refuses there when
# asked to be deterministic.
UNSTEADY = ("index_add", "index_put", "index_select", "scatter_add", "gather", "cumsum", "adaptive",
            "replication_pad", "reflection_pad", "upsample", "max_pool", "put_", "bincount")


class Operations(TorchDispatchMode):
    """The names of all operations, forward and backward."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func.name())
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", NAMES)
def test_uses_nothing_that_is_not_deterministic_on_cuda(name):
    """On the meta device blocks do what they do on CUDA; on a CPU some take another way."""
    block, x = ATTENTION[name].make(C).to("meta"), maps(2, C, 9, 8).to("meta").requires_grad_()
    with Operations() as operations:
        block(x).sum().backward()
    assert operations.names and not [o for o in operations.names if any(u in o for u in UNSTEADY)]


@torch.no_grad()
@pytest.mark.parametrize("name", NAMES)
def test_half_precision_throughout_stays_close(name):
    x, block = maps(2, C, 6, 5), lively(name, C)
    expected = block(x)
    y = block.half()(x.half().contiguous(memory_format=torch.channels_last))
    assert y.dtype == torch.float16
    torch.testing.assert_close(y.float(), expected, rtol=0.02, atol=0.02)


@torch.no_grad()
@pytest.mark.parametrize("name", [name for name in BLOCKS if name != "none"])
def test_its_source_runs_alone(name):
    """What is shown is what is pasted: with torch, and with nothing of ours."""
    theirs = lively(name, C) if name in ATTENTION else BLOCKS[name].make(C).eval()
    text, scope = blocks.source(name), {"__name__": "pasted"}
    assert "attnlib" not in text
    exec(compile(text, name, "exec"), scope)
    pasted = scope[type(theirs).__name__](C).eval()
    pasted.load_state_dict(theirs.state_dict())
    assert torch.equal(pasted(maps(2, C, 6, 5)), theirs(maps(2, C, 6, 5)))


# --- What single blocks promise ---


@torch.no_grad()
def test_sec_is_se_with_biases():
    x, se, sec = maps(), SE(64, reduction=8, bias=True), SEC(64)
    sec.load_state_dict(se.state_dict())
    assert torch.equal(sec(x), se(x))


@torch.no_grad()
def test_ser_gains_half_as_much_again_at_first():
    gate = ATTENTION["ser"].make(64).gate(maps())
    assert (gate - 1.5).abs().max() < 0.1


@torch.no_grad()
def test_new_is_the_spatial_gate_times_a_gain_of_the_map_before_it():
    x, block = maps(), lively("new")
    a = x.mean((2, 3))
    scale = s(torch.stack([naive_mlp(block.channel.mlp, row) for row in a]))[:, :, None, None]
    torch.testing.assert_close(block(x), x * block.spatial.gate(x) * (1 + scale))
    after = block.channel(block.spatial(x))                        # descriptor after the gate
    assert not torch.allclose(block(x), after)


@pytest.mark.parametrize(("channels", "k"), [(16, 3), (32, 3), (64, 3), (128, 5), (256, 5),
                                             (512, 5), (1024, 5), (2048, 7)])
def test_width_of_eca(channels, k):
    assert blocks.channel.ECA(channels).conv.kernel_size == (k, 1)


def test_width_of_eca_is_the_papers_for_any_number_of_channels():
    for c in range(1, 4097):
        t = int(abs((math.log2(c) + 1) / 2))
        assert c.bit_length() // 2 | 1 == (t if t % 2 else t + 1), c


@torch.no_grad()
def test_eca_is_a_convolution_along_the_channels():
    x, block = maps(), lively("eca")
    conv = nn.Conv1d(1, 1, 3, padding=1, bias=False)
    conv.weight.copy_(block.conv.weight[..., 0])
    torch.testing.assert_close(block.gate(x)[..., 0, 0], s(conv(x.mean((2, 3))[:, None]))[:, 0])


@torch.no_grad()
def test_simam_of_flat_and_single_places():
    block, half = blocks.spatial.SimAM(C), torch.tensor(0.5).sigmoid()
    flat = maps(2, C, 1, 1).expand(2, C, 6, 7)
    torch.testing.assert_close(block(flat), flat * half)
    single = maps(2, C, 1, 1)
    torch.testing.assert_close(block(single), single * half)


@torch.no_grad()
def test_simam_stays_finite_in_half_precision():
    x, block = 30 * maps(2, C, 32, 32), blocks.spatial.SimAM(C)         # squares add up to 900,000
    torch.testing.assert_close(block(x.half()).float(), block(x), rtol=0.01, atol=0.05)


@torch.no_grad()
def test_triplet_turned_over_swaps_its_branches():
    x, block, other = maps(), lively("triplet"), blocks.spatial.Triplet(64).eval()
    for new, old in {"cw": "hc", "hc": "cw", "hw": "hw"}.items():
        branch = getattr(other, new)
        branch.load_state_dict(getattr(block, old).state_dict())
        branch.conv.weight.copy_(branch.conv.weight.transpose(2, 3).clone())
    torch.testing.assert_close(other(x.transpose(2, 3)).transpose(2, 3), block(x))
    assert not torch.allclose(block(x.transpose(2, 3)).transpose(2, 3), block(x))


@torch.no_grad()
@pytest.mark.parametrize("name", ["se", "ser", "eca", "srm", "ge", "gc", "frozen"])
def test_gates_of_channels_do_not_see_where_things_are(name):
    x, block = maps(), lively(name)
    gate = block.context if name == "gc" else block.gate
    places = torch.randperm(6 * 9, generator=torch.Generator().manual_seed(4))
    moved = x.flatten(2)[:, :, places].view_as(x)
    torch.testing.assert_close(gate(moved), gate(x))
    torch.testing.assert_close(block(moved), block(x).flatten(2)[:, :, places].view_as(x))


@torch.no_grad()
@pytest.mark.parametrize("name", ["bam", "coord", "new", "nab", "triplet"])
def test_other_gates_do(name):
    x, block = maps(), lively(name)
    places = torch.randperm(6 * 9, generator=torch.Generator().manual_seed(4))
    moved = block(x.flatten(2)[:, :, places].view_as(x))
    assert not torch.allclose(moved, block(x).flatten(2)[:, :, places].view_as(x), atol=1e-3)


@torch.no_grad()
def test_coord_does_not_see_the_order_of_rows_and_columns():
    x, block = maps(), lively("coord")
    torch.testing.assert_close(block(x.flip(3)), block(x).flip(3))
    torch.testing.assert_close(block(x.roll(2, 2)), block(x).roll(2, 2))


@torch.no_grad()
def test_gc_of_one_hidden_unit_sees_nothing():
    block = lively("gc", C)                                        # reduction 16: h = 1
    torch.testing.assert_close(block.context(maps(2, C, 5, 5)),
                               block.context(maps(2, C, 5, 5, seed=9)))
    block = lively("gc", C, reduction=4)
    assert not torch.allclose(block.context(maps(2, C, 5, 5)),
                              block.context(maps(2, C, 5, 5, seed=9)))


@torch.no_grad()
@pytest.mark.parametrize("options", [{}, {"reduction": 4}])
def test_parts_get_the_options_of_their_whole(options):
    own = {"cbam_avg": 16, "hybrid_p0": 16, "hybrid_sum": 16, "hybrid_par": 16, "se_sa": 8,
           "sec_sa": 8, "new": 8}
    for name, reduction in own.items():
        reduction = options.get("reduction", reduction)
        block = ATTENTION[name].make(64, **options, kernel_size=5)
        found = [m.out_channels for m in block.modules() if isinstance(m, nn.Conv2d)
                 and m.in_channels == 64]
        assert found and set(found) == {64 // reduction}, name
        assert {m.conv.kernel_size for m in block.modules()
                if isinstance(m, SpatialAttention)} == {(5, 5)}, name


# --- Starts: as built alone, and as build_model seeds them ---


def starts(name: str) -> list[nn.Module]:
    """A block of 64 channels as its class makes it, and as a network has it."""
    built = build_model("squeezenet", name, width=1 / 8, placement="head").head
    return [ATTENTION[name].make(64), built]


@torch.no_grad()
@pytest.mark.parametrize(("name", "times"), [("gc", 1), ("srm", 0.5), ("sa", 0.5)])
def test_starts_that_depend_on_no_image(name, times):
    for block in starts(name):
        assert torch.equal(block(maps()), times * maps())


@torch.no_grad()
def test_hybrid_sum_starts_in_the_middle():
    for block in starts("hybrid_sum"):
        assert block.t.sigmoid() == 0.5
    block = HybridSum(64)
    expected = maps() + (block.se(maps()) + block.cbam(maps())) / 2
    torch.testing.assert_close(block(maps()), expected)


@pytest.mark.parametrize(("name", "gamma"), [("se_sa", 1), ("sec_sa", 1), ("new", 1),
                                             ("triplet", 1), ("hybrid_par", 0), ("hybrid_sum", 0)])
def test_spatial_norms_start_at_their_scale(name, gamma):
    scales = [m.norm.weight.item() for block in starts(name) for m in block.modules()
              if isinstance(m, SpatialAttention)]
    assert scales and set(scales) == {gamma}


OPENING = [name for name in NAMES if "gate_init" in option_defaults(ATTENTION[name].make)]
# To a last bias, an open gate is another start: the biases that make it, and by how much. The
# MLP of ca is counted twice, for the mean and for the maximum.
LAST_BIASES = {
    "ca": {"mlp.2": 1}, "sa": {"norm": 2}, "cbam": {"channel.mlp.2": 1, "spatial.norm": 2},
    "sec": {"mlp.2": 2}, "sec_sa": {"channel.mlp.2": 2, "spatial.norm": 2},
    "se_sa": {"spatial.norm": 2}, "new": {"spatial.norm": 2},                 # ser gains anyway
    "hybrid_par": {"channel.mlp.2": 1, "spatial.norm": 2},
    "nab": {"pixel": 2, "patch": 2}, "coord": {"rows": 2, "columns": 2}, "srm": {"norm": 2},
    "triplet": {"cw.norm": 2, "hc.norm": 2, "hw.norm": 2},
}
LOGITS = ("se", "shuffled", "frozen", "eca")                     # one gate, no bias of its own
PARTS = {"cbam_avg": ("channel", "spatial"), "hybrid": ("se", "cbam.channel", "cbam.spatial"),
         "hybrid_p0": ("se", "cbam.channel", "cbam.spatial")}


def test_every_gate_that_opens_is_tested():
    assert {*LAST_BIASES, *LOGITS, *PARTS} == set(OPENING)


@torch.no_grad()
@pytest.mark.parametrize("name", LAST_BIASES)
def test_an_open_gate_is_a_last_bias_two_higher(name):
    half, opened = lively(name), lively(name, gate_init="open")
    assert not torch.allclose(opened(maps()), half(maps()))
    for key, more in LAST_BIASES[name].items():
        half.get_submodule(key).bias.add_(more)
    torch.testing.assert_close(opened(maps()), half(maps()))


@torch.no_grad()
@pytest.mark.parametrize("name", [*LOGITS, "ca", "sa", "sec", "srm"])
def test_an_open_gate_has_logits_two_higher(name):
    half, opened = (ATTENTION[name].make(64, gate_init=start) for start in ("half", "open"))
    opened.load_state_dict(half.state_dict())
    torch.testing.assert_close(opened.gate(maps()).logit(), half.gate(maps()).logit() + 2)


@torch.no_grad()
def test_all_gates_of_a_whole_open():
    for name, parts in PARTS.items():
        block, expected = lively(name, gate_init="open"), maps()
        opened = [key for key, m in block.named_modules() if getattr(m, "offset", 0) == 2]
        assert opened == list(parts)
        for key in parts:
            expected = block.get_submodule(key)(expected)
        torch.testing.assert_close(block(maps()), expected)


@torch.no_grad()
@pytest.mark.parametrize("name", [name for name in ADDED if name not in ("gc", "layerscale")])
def test_gates_that_start_low_can_start_open(name):
    """The mean gain of 16 fresh blocks. Without parameters there is nothing to start elsewhere."""
    x = maps().abs() + 0.1

    def start(**options):
        torch.manual_seed(0)                       # the same blocks, open or not
        blocks = [ATTENTION[name].make(64, **options).eval() for _ in range(16)]
        return sum((block(x) / x).mean() for block in blocks) / 16
    gain = start()
    if name in OPENING:
        opened = start(gate_init="open")
        assert gain < 0.9 and max(1.1 * gain, 0.6) < opened < 1.6      # an expected 3/4 at most
    else:
        assert gain > 0.8 or name in ("ge", "simam", *NEWER)


@pytest.mark.parametrize(("name", "options"), [
    ("bam", {"combine": "max"}), ("scse", {"combine": "mul"}),
    ("bam", {"dilation": 0}), ("simam", {"lam": 0.0}), ("coord", {"reduction": 0}),
    ("triplet", {"kernel_size": 4}), ("gc", {"reduction": 0}), ("sk", {"groups": 0}),
    ("sk", {"reduction": 0}), ("aa", {"num_heads": 0}), ("aa", {"size": 0}), ("aa", {"value": 1.0}),
    ("aa", {"value": 0.0}), ("aa", {"key": -0.1}), *((name, {"gate_init": "wide"})
                                                     for name in NAMES if name in OPENING),
])
def test_impossible_options_are_named(name, options):
    (key, value), = options.items()
    with pytest.raises(ValueError, match=f"{key}={value}"):
        ATTENTION[name].make(64, **options)


def test_frozen_is_ses_start_and_stays():
    frozen = build_model("squeezenet", "frozen", width=1 / 8)
    se = build_model("squeezenet", "se", width=1 / 8).state_dict()
    before = {k: v.clone() for k, v in frozen.state_dict().items()}
    assert all(torch.equal(se[key], value) for key, value in before.items())
    optimizer = torch.optim.SGD(frozen.parameters(), lr=0.1, weight_decay=0.1)
    frozen(maps(4, 3, 32, 32)).square().sum().backward()
    optimizer.step()
    moved = {key for key, p in frozen.named_parameters() if not torch.equal(p, before[key])}
    assert moved and not any(".mlp." in key for key in moved)
    assert count(frozen) == count(build_model("squeezenet", width=1 / 8))


@torch.no_grad()
def test_parallel_hybrid_without_its_se_is_cbam_with_both_gates_from_x():
    x, block = maps(), lively("hybrid_par")
    for parameter in block.se.parameters():
        parameter.zero_()
    expected = naive_ca(block.channel, x[:1]) * block.spatial.gate(x[:1])
    torch.testing.assert_close(block(x[:1]), expected, rtol=1e-4, atol=1e-5)


def test_a_batch_of_one_is_refused_where_a_norm_has_one_value_an_image():
    for name in ("srm", "bam", "sk"):
        with pytest.raises(ValueError, match="more than 1 value"):
            ATTENTION[name].make(C)(maps(1, C, 4, 4))


@torch.no_grad()
def test_gc_adds_the_same_to_every_place():
    x, block = maps(), lively("gc")
    added = block(x) - x
    torch.testing.assert_close(added, added[:, :, :1, :1].expand_as(x), rtol=1e-4, atol=1e-4)
    assert isinstance(block, GlobalContext) and not hasattr(block, "gate")


# --- In place of a convolution ---


@torch.no_grad()
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (5, 4), (8, 8)])
@pytest.mark.parametrize("size", [1, 2, 4, 9])
def test_relative_logits_are_those_of_the_distance(shape, size):
    q, table = maps(2, 3, *shape), maps(2 * size - 1, shape[1], seed=2)
    rows = blocks.convolution.relative_logits(q, table)
    for j in range(shape[0]):
        for t in range(shape[0]):
            distance = min(max(t - j, 1 - size), size - 1)
            expected = (q[..., j, :] * table[size - 1 + distance]).sum(-1)
            torch.testing.assert_close(rows[..., j, t], expected)


@torch.no_grad()
@pytest.mark.parametrize(("side", "size"), [(28, 28), (32, 32), (40, 32), (64, 32)])
def test_aa_on_the_maps_of_images_of_28_to_64_pixels(side, size):
    x, block = maps(1, 8, side, side // 4), lively("aa", 8, size=size)
    p, v = block.attend(x)
    assert p.shape == (1, 1, side * (side // 4), side * (side // 4)) and v.shape[2] == p.shape[3]
    torch.testing.assert_close(p.sum(-1), torch.ones(p.shape[:-1]))
    assert block(x).shape == x.shape


@torch.no_grad()
def test_aa_attends_by_distance_not_by_place():
    """Of a map that is the same everywhere: all weights of one distance are in one ratio."""
    block = lively("aa", C, size=4)
    p, _ = block.attend(torch.ones(1, C, 1, 6))
    ratio = p[0, :, 1, 1:] / p[0, :, 1, :1]
    torch.testing.assert_close(p[0, :, 2, 2:] / p[0, :, 2, 1:2], ratio[:, :-1])
    assert not torch.allclose(ratio, torch.ones_like(ratio))


@torch.no_grad()
def test_aa_without_positions_does_not_see_where_things_are():
    block, x = lively("aa", C), maps(2, C, 6, 9)
    block.conv.weight.zero_()
    places = torch.randperm(6 * 9, generator=torch.Generator().manual_seed(4))
    moved = x.flatten(2)[:, :, places].view_as(x)
    assert not torch.allclose(block(moved).flatten(2), block(x).flatten(2)[:, :, places])
    block.down.zero_()
    block.across.zero_()
    torch.testing.assert_close(block(moved).flatten(2), block(x).flatten(2)[:, :, places])


@pytest.mark.parametrize(("channels", "sizes"), [
    (2, (1, 20, 1)), (4, (1, 20, 1)), (8, (1, 20, 1)), (16, (2, 20, 2)), (32, (4, 20, 4)),
    (64, (8, 20, 8)), (128, (8, 20, 16)), (512, (8, 20, 48)), (1024, (8, 26, 104))])
def test_heads_of_aa(channels, sizes):
    block = blocks.convolution.AA(channels)
    assert (block.heads, block.depth, block.values) == sizes
    assert block(maps(1, channels, 3, 2)).shape == (1, channels, 3, 2)


def test_aa_starts_its_tables_by_their_depth():
    block = blocks.convolution.AA(64, key=4.0, size=64)                     # d = 32
    for table in (block.down, block.across):
        assert table.shape == (127, 32)
        assert table.std().item() == pytest.approx(32 ** -0.5, rel=0.1)
    with pytest.raises(ValueError, match="leave a channel of 1"):
        blocks.convolution.AA(1)


@torch.no_grad()
def test_sk_between_its_branches():
    x, block = maps(), lively("sk")
    near, far = block.near(x), block.far(x)
    lowest, highest = torch.minimum(near, far), torch.maximum(near, far)
    assert (block(x) >= lowest - 1e-5).all() and (block(x) <= highest + 1e-5).all()
    block.select[-1].weight.zero_()                                # both logits the same
    control = blocks.convolution.SK(64, fixed=True).eval()
    control.load_state_dict({k: v for k, v in block.state_dict().items() if "select" not in k})
    torch.testing.assert_close(control(x), block(x))
    torch.testing.assert_close(control(x), (near + far) / 2)


@pytest.mark.parametrize(("channels", "groups"), [(4, 4), (12, 4), (48, 16), (64, 32), (512, 32)])
def test_groups_of_sk_fit_the_channels(channels, groups):
    block = blocks.convolution.SK(channels)
    assert block.near[0].groups == block.far[0].groups == groups
    assert block.far[0].dilation == (2, 2) and block.select[0].out_channels == 32


# --- Against timm, if it is installed ---


def take(block: nn.Module, theirs: nn.Module) -> None:
    """Copy all tensors in their order, which is the same here; shapes differ by ones at most."""
    ours, other = block.state_dict(), theirs.state_dict()
    assert [v.numel() for v in ours.values()] == [v.numel() for v in other.values()]
    theirs.load_state_dict({key: value.view_as(other[key]) for key, value
                            in zip(other, ours.values(), strict=True)})
    theirs.eval()


@torch.no_grad()
@pytest.mark.parametrize("name", ["se", "eca", "cbam", "sk", "gc", "coord"])
def test_equals_timms(name):
    layers = pytest.importorskip("timm.layers")
    from timm.layers.cbam import CbamModule
    from timm.layers.coord_attn import CoordAttn
    x = maps(3, 128, 6, 9)
    block = lively(name, 128, **({"bias": True} if name == "se" else {}))
    theirs = {
        "se": lambda: layers.SEModule(128, rd_channels=8),
        "eca": lambda: layers.EcaModule(128),
        "cbam": lambda: CbamModule(128, rd_channels=8, mlp_bias=True),
        "sk": lambda: layers.SelectiveKernel(128, groups=32, rd_channels=32, split_input=False),
        "gc": lambda: layers.GlobalContext(128, fuse_add=True, fuse_scale=False, rd_channels=8),
        "coord": lambda: CoordAttn(128, rd_channels=8, bias=True),
    }[name]()
    take(block, theirs)
    if name == "cbam":                                             # they have the mean first
        kernel = theirs.spatial.conv.conv.weight
        kernel.copy_(kernel.flip(1))
    torch.testing.assert_close(block(x), theirs(x), rtol=1e-4, atol=1e-4)

"""The attention blocks: what all of them promise, each row of the table against its equation (in
naive.py), its size and its start; then what single ones are known for."""
import math
import re
from pathlib import Path

import pytest
import torch
from helpers import same_tensors
from naive import FAMILIES, NAIVE, C, lively, maps, s
from torch import nn

from attnlib import blocks
from attnlib.blocks import ATTENTION, BLOCKS, REPLICAS, combined, spatial
from attnlib.blocks.channel import ECA, SER
from attnlib.blocks.controls import LayerScale
from attnlib.blocks.convolution import AA, SK
from attnlib.blocks.newer import FCA, averaging
from attnlib.names import option_defaults
from attnlib.networks.build import build_model, resolve_placement
from attnlib.networks.cost import count

NAMES = [name for name in BLOCKS if name != "none"]
KINDS = [name if name in FAMILIES else pytest.param(name, marks=pytest.mark.slow)
         for name in NAMES]
CLOSE = {"rtol": 1e-3, "atol": 1e-4}


def test_every_row_says_what_it_is_and_has_its_equation_written_twice():
    assert {*NAIVE, "replica_aa_p1"} == set(BLOCKS)                # that one is in test_replicas.py
    for name, row in BLOCKS.items():
        assert row.says and row.placement and isinstance(row.version, int), name
        assert name == "none" or row.make.__doc__, name
        assert name.startswith("replica_") == (name in REPLICAS) != (name in ATTENTION)


@torch.no_grad()
@pytest.mark.parametrize(("name", "shape", "options", "own"), [
    *((name, (4, 5), {}, {}) for name in NAIVE),                   # below every window …
    *((name, (9, 15), {}, {}) for name in ("ela", "ema", "mca", "scsa", "mlca", "fca", "nab")),
    ("bam", (4, 5), {"combine": "mul", "dilation": 1}, {"combine": torch.mul}),
    ("scse", (4, 5), {"combine": "max"}, {"combine": torch.maximum}),
    ("sa", (4, 5), {"bias": True}, {}), ("sa", (4, 5), {"norm": False}, {}),
    ("aa", (4, 5), {"size": 2, "num_heads": 1, "value": 0.5}, {"n": 1, "reach": 1}),
    ("aa", (4, 5), {"size": 4, "key": 4.0, "value": 0.3}, {"d": 32, "reach": 3}),
    ("sk", (4, 5), {"fixed": True}, {"fixed": True}),
    ("sk", (4, 5), {"groups": 1}, {}), ("sk", (4, 5), {"groups": 12}, {}),
    ("ema", (4, 5), {"groups": 1}, {"parts": 1}), ("scsa", (4, 5), {"num_heads": 4}, {"heads": 4})])
def test_equals_its_equation(name, shape, options, own):
    x, block = maps(3, C, *shape), lively(name, C, **options)
    torch.testing.assert_close(block(x), NAIVE[name](block, x, **own), **CLOSE)


# --- Sizes ---


def mlp(c: int, r: int = 16) -> int:
    return 2 * c * max(1, c // r)


def biases(c: int, r: int = 16) -> int:
    return max(1, c // r) + c


def bam(c: int) -> int:
    h = max(1, c // 16)
    return (c * h + h + 2 * h + h * c + c) + (c * h + h + 2 * h + 2 * (9 * h * h + 3 * h) + h + 1)


def aa(c: int, num_heads: int = 8, key: float = 0.2, value: float = 0.1, size: int = 32) -> int:
    n = min(num_heads, max(1, c // 8))
    d, dv = max(20, round(key * c / n)), n * max(1, round(value * c / n))
    return 9 * c * (c - dv) + c * (2 * n * d + dv) + dv * dv + 2 * (2 * size - 1) * d


def sk(c: int, groups: int = 32, fixed: bool = False) -> int:
    h = max(32, c // 16)
    return 18 * c * c // math.gcd(c, groups) + 4 * c + (0 if fixed else 3 * c * h + 2 * h)


def width_of_eca(c: int) -> int:
    """As the paper has it."""
    return int(abs((math.log2(c) + 1) / 2)) | 1


PARAMETERS = {
    "none": lambda c: 0, "se": mlp, "ser": lambda c: mlp(c, 8),
    "sec": lambda c: mlp(c, 8) + biases(c, 8), "ca": lambda c: mlp(c) + biases(c),
    "sa": lambda c: 100, "cbam": lambda c: mlp(c) + biases(c) + 100,
    "cbam_avg": lambda c: mlp(c) + 98, "bam": bam, "scse": lambda c: mlp(c) + biases(c) + c + 1,
    "hybrid": lambda c: 2 * mlp(c) + biases(c) + 100, "hybrid_p0": lambda c: 2 * mlp(c) + 98,
    "hybrid_sum": lambda c: 2 * mlp(c) + biases(c) + 101,
    "hybrid_par": lambda c: 2 * mlp(c) + biases(c) + 100, "se_sa": lambda c: mlp(c, 8) + 101,
    "sec_sa": lambda c: mlp(c, 8) + biases(c, 8) + 101, "new": lambda c: mlp(c, 8) + 101,
    "nab": lambda c: 49 * c * c + c + c + 1, "eca": width_of_eca, "simam": lambda c: 0,
    "ge": lambda c: 0, "coord": lambda c: 3 * max(8, c // 32) * (c + 1) + 2 * c,
    "triplet": lambda c: 300,
    "gc": lambda c: c + 1 + mlp(c) + biases(c) + 2 * max(1, c // 16), "srm": lambda c: 4 * c,
    "aa": aa, "sk": sk, "fca": mlp, "ela": lambda c: 9 * c,
    "ema": lambda c: 10 * max(8, c // 32) ** 2 + 4 * max(8, c // 32),
    "mca": lambda c: 12 + {16: 1, 64: 3, 512: 5}[c], "scsa": lambda c: 16 * c,
    "mlca": lambda c: 2 * width_of_eca(c), "mhsa": lambda c: 8 * c * c + 11 * c,
    "layerscale": lambda c: c, "shuffled": mlp, "frozen": mlp,
    "replica_cbam_p2": lambda c: c * c + c + 98,
    "replica_cbam_p2_intended": lambda c: mlp(c) + biases(c) + 98, "replica_aa_p1": aa}
WITH_OPTIONS = [("nab", {"depthwise": True}, lambda c: 50 * c + c + 1),
                *(("aa", o, aa) for o in ({"num_heads": 2}, {"key": .5, "value": .25, "size": 7})),
                *(("sk", o, sk) for o in ({"fixed": True}, {"groups": 6, "fixed": True}))]


@pytest.mark.parametrize(("name", "options", "wanted"), [
    *((name, {}, wanted) for name, wanted in PARAMETERS.items()), *WITH_OPTIONS])
def test_number_of_parameters(name, options, wanted):
    own = {} if name == "nab" else options
    for channels in (16, 64, 512):
        with torch.device("meta"):
            block = BLOCKS[name].make(channels, **options)
        assert sum(p.numel() for p in block.parameters()) == wanted(channels, **own)


def test_widths_of_eca_heads_of_aa_and_groups_of_sk():
    assert all(ECA(c).conv.kernel_size == (width_of_eca(c), 1) for c in (1, 16, 128, 2048, 4095))
    for c, sizes in {2: (1, 20, 1), 16: (2, 20, 2), 128: (8, 20, 16), 1024: (8, 26, 104)}.items():
        block = AA(c)
        assert (block.heads, block.depth, block.values) == sizes
    for c, groups in {4: 4, 12: 4, 48: 16, 512: 32}.items():
        assert SK(c).near[0].groups == SK(c).far[0].groups == groups


# --- What all blocks promise ---


def test_default_places():
    for name in ATTENTION.keys() - {"none", "aa", "sk"}:
        assert resolve_placement(name, "resnet18", None) == ATTENTION[name].placement
        # without a residual sum or an inner place: block; of three stages, 123 is all
        assert resolve_placement(name, "squeezenet", None) == {
            "bam": "stage", "mhsa": "head"}.get(name, "block")


@pytest.mark.parametrize("name", NAMES)
def test_trains_on_odd_maps_of_any_shape_and_leaves_its_input(name):
    for shape in [(2, 4, 4, 4), (2, 10, 5, 9), (3, 17, 7, 3), (2, 24, 13, 8)]:
        block, x = BLOCKS[name].make(shape[1]), maps(*shape).requires_grad_()
        y = block(x)
        y.square().sum().backward()
        assert y.shape == shape and y.isfinite().all() and x.grad.isfinite().all()
        assert all(p.grad.isfinite().all() for p in block.parameters() if p.requires_grad)
        assert torch.equal(x, maps(*shape)), "the input was changed in place"
    with torch.no_grad():
        assert lively(name)(maps(1, 64, 1, 1)).isfinite().all()


ADDERS = ("gc", "mhsa", "aa", "sk", "replica_aa_p1")       # add to the map or make a new one
RANGES = {SER: (1, 2), combined.New: (0, 2), combined.BAM: (1, 2), combined.SCSE: (0, 2),
          spatial.SimAM: (0.62, 1), LayerScale: (-1, 1)}   # of gates that are not in 0 to 1


@torch.no_grad()
@pytest.mark.parametrize("name", NAMES)
def test_the_gate_is_what_multiplies_broadcasts_and_lies_in_its_range(name):
    x = maps()
    found = [module for module in lively(name).modules() if hasattr(module, "gate")]
    assert bool(found) == (name not in ADDERS)
    for module in found:
        torch.testing.assert_close(module(x), x * module.gate(x))
        gate, (low, high) = module.gate(5 * x), RANGES.get(type(module), (0, 1))
        assert gate.ndim == 4 and torch.broadcast_shapes(gate.shape, x.shape) == x.shape
        assert gate.min() >= low and gate.max() <= high
        gate = module.gate(x / 5)                                  # where it does not saturate
        assert gate.max() > gate.min()


# A softmax takes no notice of a bias, nor does a batch norm in training: these gradients are zero
# but for rounding, which leaves something on one processor and nothing on another.
UNFELT = {"gc": {"places.bias"}}
UNFELT_IN_TRAINING = UNFELT | {
    "bam": {"channel.0.bias", "spatial.0.0.bias", "spatial.1.0.bias", "spatial.2.0.bias"},
    "coord": {"squeeze.0.bias"}, "se_sa": {"spatial.conv.bias"}, "sec_sa": {"spatial.conv.bias"},
    "new": {"spatial.conv.bias"}}


@pytest.mark.parametrize(("training", "unfelt"), [(False, UNFELT), (True, UNFELT_IN_TRAINING)])
@pytest.mark.parametrize("name", NAMES)
def test_the_input_and_every_parameter_that_matters_get_a_gradient(name, training, unfelt):
    """In double precision, in which a zero that is only rounded is below 1e-9."""
    x, block = maps().double().requires_grad_(), lively(name).double().train(training)
    (block(x) * maps(seed=3)).sum().backward()
    assert (x.grad != 0).double().mean() > 0.99
    zero = {key for key, p in block.named_parameters()
            if p.requires_grad and not p.grad.abs().sum() > 1e-9}
    assert zero == unfelt.get(name, set())


@torch.no_grad()
@pytest.mark.parametrize("name", NAMES)
def test_types_and_memory_formats_change_little(name):
    x, block = maps(), lively(name)
    y = block(x)
    last = x.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(block(last), y, rtol=1e-5, atol=1e-4)   # sums in another order
    with torch.autocast("cpu", torch.bfloat16):
        half = block(x.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), y, rtol=0.05, atol=0.05)
    half = block.half()(last.half())
    assert half.dtype == torch.float16
    torch.testing.assert_close(half.float(), y, rtol=0.02, atol=0.02)


@torch.no_grad()
@pytest.mark.parametrize("name", NAMES)
def test_its_source_runs_alone_with_its_state(name):
    """What is shown is what is pasted: with torch, and with nothing of ours."""
    theirs, text, scope = lively(name), blocks.source(name), {"__name__": "pasted"}
    assert "attnlib" not in text
    exec(compile(text, name, "exec"), scope)
    pasted, x = scope[type(theirs).__name__](64).eval(), maps(2, 64, 6, 5)
    assert not theirs.state_dict() or not torch.equal(pasted(x), theirs(x))
    pasted.load_state_dict(theirs.state_dict())
    assert torch.equal(pasted(x), theirs(x))


@pytest.mark.parametrize("name", KINDS)
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
@pytest.mark.parametrize("name", KINDS)
def test_exported_with_any_size_and_traced_with_any_batch(name):
    block, x, free = lively(name, C), maps(3, C, 19, 18), torch.export.Dim.DYNAMIC
    exported = torch.export.export(block, (x,), dynamic_shapes=[{0: free, 2: free, 3: free}])
    traced = torch.jit.trace(block, x, check_trace=False)
    for model, other in ((exported.module(), maps(5, C, 17, 15)), (traced, maps(5, C, 19, 18))):
        torch.testing.assert_close(model(other), block(other), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("key", "value", "names"), [
    ("reduction", 0, "se gc coord sk"), ("reduction", -16, "cbam"), ("kernel_size", -1, "sa"),
    ("kernel_size", 4, "sa triplet ela"), ("combine", "max", "bam"), ("combine", "mul", "scse"),
    ("dilation", 0, "bam"), ("lam", 0.0, "simam"), ("groups", 0, "sk ema"), ("size", 0, "mlca aa"),
    ("num_heads", 0, "aa scsa mhsa"), ("value", 1.0, "aa"), ("value", 0.0, "aa"),
    ("key", -0.1, "aa"), ("expand", 0, "mhsa"), ("gate_init", "wide", "se")])
def test_impossible_options_are_named(key, value, names):
    for name in names.split():
        with pytest.raises(ValueError, match=f"{key}={value}"):
            ATTENTION[name].make(64, **{key: value})


def test_the_blocks_import_torch_alone():
    text = "".join(file.read_text("utf-8") for file in Path(blocks.__file__).parent.glob("*.py"))
    assert set(re.findall(r"^(?:import|from) (\.\.|[a-z]+)?", text, re.M)) == {
        "torch", "math", "typing", "collections", "ast", "csv", "dis", "hashlib", "inspect",
        "pathlib", "re", ""}


# --- Starts: as built alone, and as build_model seeds them ---


def starts(name: str) -> list[nn.Module]:
    """A block of 64 channels as its class makes it, and as a network has it."""
    built = build_model("squeezenet", name, width=1 / 8, placement="head").head
    return [ATTENTION[name].make(64), built]


@torch.no_grad()
def test_starts_that_depend_on_no_image_and_hybrid_sums_in_the_middle():
    for name, times in {"gc": 1, "srm": 0.5, "sa": 0.5, "mhsa": 1, "layerscale": 1}.items():
        for block in starts(name):
            for training in (True, False):
                assert torch.equal(block.train(training)(maps()), times * maps()), name
    for block in starts("hybrid_sum"):
        wanted = maps() + (block.se(maps()) + block.cbam(maps())) / 2
        torch.testing.assert_close(block(maps()), wanted)


@pytest.mark.parametrize(("name", "gamma"), [("sa", 0), ("cbam", 0), ("se_sa", 1), ("sec_sa", 1),
                                             ("new", 1), ("triplet", 1), ("hybrid_par", 0),
                                             ("hybrid_sum", 0), ("sa(gamma=1)", 1)])
def test_spatial_norms_start_at_their_scale_with_the_authors_momentum(name, gamma):
    net = build_model("squeezenet", name, width=1 / 8, placement="head")
    norms = [m.norm for m in net.modules() if isinstance(m, spatial.SpatialAttention)]
    assert norms and {(m.weight.item(), m.momentum) for m in norms} == {(gamma, 0.01)}


OPENING = [name for name in ATTENTION if "gate_init" in option_defaults(ATTENTION[name].make)]
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
PARTS = {"cbam_avg": ["channel", "spatial"], "hybrid": ["se", "cbam.channel", "cbam.spatial"],
         "hybrid_p0": ["se", "cbam.channel", "cbam.spatial"]}


@torch.no_grad()
@pytest.mark.parametrize("name", OPENING)
def test_an_open_gate_is_a_logit_two_higher(name):
    half, opened = lively(name), lively(name, gate_init="open")
    assert not torch.allclose(opened(maps()), half(maps()))
    if name in LOGITS:
        half, opened = ATTENTION[name].make(64), ATTENTION[name].make(64, gate_init="open")
        opened.load_state_dict(half.state_dict())
        torch.testing.assert_close(opened.gate(maps()).logit(), half.gate(maps()).logit() + 2)
    elif name in PARTS:
        assert [key for key, m in opened.named_modules()
                if getattr(m, "offset", 0) == 2] == PARTS[name]
    else:
        for key, more in LAST_BIASES[name].items():
            half.get_submodule(key).bias.add_(more)
        torch.testing.assert_close(opened(maps()), half(maps()))


def test_parts_get_the_options_of_their_whole():
    for name in ("cbam", "hybrid", "cbam_avg", "hybrid_p0", "hybrid_sum", "hybrid_par", "se_sa",
                 "sec_sa", "new"):
        block = ATTENTION[name].make(64, reduction=4, kernel_size=5)
        assert {m.out_channels for m in block.modules() if isinstance(m, nn.Conv2d)
                and m.in_channels == 64} == {16}, name
        assert {m.conv.kernel_size for m in block.modules()
                if isinstance(m, spatial.SpatialAttention)} == {(5, 5)}, name


def test_frozen_is_ses_start_and_stays():
    frozen, se, none = (build_model("squeezenet", name, width=1 / 8)
                        for name in ("frozen", "se", "none"))
    assert same_tensors(frozen.state_dict(), se.state_dict()) and count(frozen) == count(none)
    frozen(maps(4, 3, 32, 32)).square().sum().backward()
    torch.optim.SGD(frozen.parameters(), lr=0.1, weight_decay=0.1).step()
    moved = [k for k, p in frozen.named_parameters() if not torch.equal(p, se.get_parameter(k))]
    assert moved and not any(".mlp." in key for key in moved)


def test_a_batch_of_one_is_refused_where_a_norm_has_one_value_an_image():
    for name in ("srm", "bam", "sk"):
        with pytest.raises(ValueError, match="more than 1 value"):
            ATTENTION[name].make(C)(maps(1, C, 4, 4))
    alone = lively("shuffled")(maps(1, 64, 5, 5))                  # there is no other image
    torch.testing.assert_close(alone, lively("se")(maps(1, 64, 5, 5)))


# --- What they see ---


def test_the_maximum_gives_its_gradient_to_one_of_several_equal_places():
    x = torch.zeros(1, 64, 3, 3, requires_grad=True)
    lively("ca").gate(x).sum().backward()
    places = x.grad.flatten(2)[0]                                  # [C, 9]
    usual = places.median(1, keepdim=True).values
    assert ((places != usual).sum(1) == 1).all()


@torch.no_grad()
def test_fcas_frequencies_are_there_after_a_start_on_the_meta_device():
    whole = FCA(16)
    with torch.device("meta"):
        late = FCA(16)
    late.to_empty(device="cpu").reset_parameters()
    late.load_state_dict(whole.state_dict())
    x = torch.rand(2, 16, 9, 9)
    assert torch.equal(late(x), whole(x))


def test_simam_of_flat_and_single_places_and_of_large_sums():
    block = spatial.SimAM(C)
    for x in (maps(2, C, 1, 1).expand(2, C, 6, 7), maps(2, C, 1, 1)):
        torch.testing.assert_close(block(x), x * s(torch.tensor(0.5)))
    x = 30 * maps(2, C, 32, 32)                                    # squares add up to 900,000
    torch.testing.assert_close(block(x.half()).float(), block(x), rtol=0.01, atol=0.05)


@torch.no_grad()
def test_gc_of_one_hidden_unit_sees_nothing():
    for reduction, blind in {16: True, 4: False}.items():
        block = lively("gc", C, reduction=reduction)
        one, other = (block.context(maps(2, C, 5, 5, seed=seed)) for seed in (1, 9))
        assert torch.allclose(one, other) == blind


@pytest.mark.parametrize(("length", "parts"), [(4, 4), (9, 5), (5, 9), (32, 5), (1, 3)])
def test_averaging_is_adaptive_pooling(length, parts):
    x = maps(2, 3, length)
    torch.testing.assert_close(x @ averaging(length, parts, x).T,
                               nn.functional.adaptive_avg_pool1d(x, parts))


# --- In place of a convolution ---


def test_aa_starts_its_tables_by_their_depth():
    block = AA(64, key=4.0, size=64)                               # d = 32
    for table in (block.down, block.across):
        assert table.shape == (127, 32)
        assert table.std().item() == pytest.approx(32 ** -0.5, rel=0.1)
    with pytest.raises(ValueError, match="leave a channel of 1"):
        AA(1)


# --- Against others' code ---


THEIRS = {
    "se": ("torchvision.ops.SqueezeExcitation", {"squeeze_channels": 8}),
    "eca": ("timm.layers.EcaModule", {}),
    "cbam": ("timm.layers.cbam.CbamModule", {"rd_channels": 8, "mlp_bias": True}),
    "sk": ("timm.layers.SelectiveKernel", {"groups": 32, "rd_channels": 32, "split_input": False}),
    "gc": ("timm.layers.GlobalContext", {"fuse_add": True, "fuse_scale": False, "rd_channels": 8}),
    "coord": ("timm.layers.coord_attn.CoordAttn", {"rd_channels": 8, "bias": True})}


@torch.no_grad()
@pytest.mark.parametrize("name", THEIRS)
def test_equals_torchvisions_or_timms(name):
    """All tensors in their order, which is the same here; shapes differ by ones at most."""
    module, _, made = THEIRS[name][0].rpartition(".")
    theirs = getattr(pytest.importorskip(module), made)(128, **THEIRS[name][1]).eval()
    x, block = maps(3, 128, 6, 9), lively(name, 128, **{"bias": True} if name == "se" else {})
    state = theirs.state_dict()
    theirs.load_state_dict({key: value.view_as(state[key]) for key, value
                            in zip(state, block.state_dict().values(), strict=True)})
    if name == "cbam":                                             # they have the mean first
        kernel = theirs.spatial.conv.conv.weight
        kernel.copy_(kernel.flip(1))
    torch.testing.assert_close(block(x), theirs(x), rtol=1e-4, atol=1e-4)

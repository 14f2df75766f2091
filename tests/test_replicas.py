"""The blocks of other projects, faults included: that they are what those projects have, and that
the faults are there."""
import pytest
import torch
from test_attention import lively as lively_row
from test_attention import maps, naive_mlp, naive_sa

from attnlib.blocks import ATTENTION, REPLICAS
from attnlib.blocks.combined import CBAM
from attnlib.blocks.convolution import relative_logits

CBAMS = ("replica_cbam_p2", "replica_cbam_p2_intended")


@pytest.fixture
def lively(monkeypatch):
    """`lively` of test_attention.py, for the names here, too."""
    for name, row in REPLICAS.items():
        monkeypatch.setitem(ATTENTION, name, row)
    return lively_row


def number(name: str, channels: int) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in REPLICAS[name].make(channels).parameters())


# --- What all blocks promise ---


def test_names_are_their_own():
    assert all(name.startswith("replica_") for name in REPLICAS)
    assert not REPLICAS.keys() & ATTENTION.keys()
    assert all(row.says and "Wrong" in row.make.__mro__[0].__doc__ + row.make.__mro__[1].__doc__
               for row in REPLICAS.values())


@pytest.mark.parametrize("name", REPLICAS)
def test_trains_on_maps_of_any_shape(name, lively):
    for shape in [(2, 8, 5, 9), (1, 17, 1, 1), (2, 64, 6, 4)]:
        block, x = lively(name, shape[1]).train(), maps(*shape).requires_grad_()
        (block(x) * maps(*shape, seed=3)).sum().backward()
        assert block(x).shape == shape and x.grad.isfinite().all()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in block.parameters())


@torch.no_grad()
@pytest.mark.parametrize("name", REPLICAS)
def test_types_and_memory_formats(name, lively):
    x, block = maps(2, 16, 6, 5), lively(name, 16)
    y = block(x)
    torch.testing.assert_close(block(x.contiguous(memory_format=torch.channels_last)), y)
    with torch.autocast("cpu", torch.bfloat16):
        half = block(x.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), y, rtol=0.05, atol=0.05)


@torch.no_grad()
@pytest.mark.parametrize("name", REPLICAS)
def test_compiles_in_one_piece(name, lively):
    torch._dynamo.reset()
    block, x = lively(name, 16), maps(2, 16, 6, 5)
    torch.testing.assert_close(torch.compile(block, backend="aot_eager", fullgraph=True)(x),
                               block(x))


# --- The three-ResNets project's CBAM ---


@pytest.mark.parametrize("channels", [8, 64, 512])
def test_number_of_parameters(channels):
    assert number("replica_cbam_p2", channels) == channels ** 2 + channels + 98
    hidden = max(1, channels // 16)
    assert (number("replica_cbam_p2_intended", channels)
            == 2 * channels * hidden + hidden + channels + 98)
    assert number("replica_aa_p1", channels) == sum(
        p.numel() for p in ATTENTION["aa"].make(channels).parameters())


def test_the_published_counts_are_of_the_block_without_a_bottleneck():
    """Their network's identity blocks: 2, 3, 5 and 2 of 64, 128, 256 and 512 channels."""
    added = 14_813_538 - 13_900_234
    blocks = {64: 2, 128: 3, 256: 5, 512: 2}
    assert sum(n * number("replica_cbam_p2", c) for c, n in blocks.items()) == added
    assert sum(n * number("replica_cbam_p2_intended", c) for c, n in blocks.items()) < added / 7


@torch.no_grad()
@pytest.mark.parametrize("name", CBAMS)
def test_cbam_of_p2_equals_its_equation(name, lively):
    x, block = maps(2, 16, 4, 5), lively(name, 16)
    between = torch.empty_like(x)
    for b, image in enumerate(x):
        z = []
        for v in (image.mean((1, 2)), image.flatten(1).max(1).values):
            if name == "replica_cbam_p2":
                v = block.mlp[0].weight[:, :, 0, 0] @ v + block.mlp[0].bias
            else:
                v = naive_mlp(block.mlp, v)
            z.append(v.clamp_min(0))
        between[b] = image / (1 + torch.exp(-z[0] - z[1]))[:, None, None]
    torch.testing.assert_close(block(x), naive_sa(block.spatial, between), rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("name", CBAMS)
def test_its_channel_gate_never_closes(name, lively):
    x, block, cbam = maps(), lively(name), lively("cbam")
    for last in (block.mlp[-2], cbam.channel.mlp[-1]):
        last.bias.fill_(-100)                                      # as low as training may go
    assert cbam.channel.gate(x).max() < 0.01
    assert torch.equal(block.channel_gate(x), torch.full((3, 64, 1, 1), 0.5))


def test_the_bottleneck_is_what_the_fault_costs():
    assert number("replica_cbam_p2", 512) / sum(
        p.numel() for p in CBAM(512).parameters()) == pytest.approx(7.87, abs=0.01)


# --- The position project's AA ---


@torch.no_grad()
def test_aa_of_p1_equals_its_equation_place_by_place(lively):
    x, block = maps(2, 16, 4, 5), lively("replica_aa_p1", 16, size=5)
    heads, d, (height, width) = block.heads, block.depth, x.shape[2:]
    assert heads == 2
    p, v = block.attend(x)
    for b, image in enumerate(x):
        z = block.qkv.weight[:, :, 0, 0] @ image.flatten(1)        # [2dk + dv, HW]
        dk = heads * d
        # a head of a place is d neighbouring numbers of the channels-first memory
        q, k = (part.flatten().view(height * width, heads, d) for part in (z[:dk], z[dk:2 * dk]))
        for head in range(heads):
            for i in range(height * width):
                logits = []
                for t in range(height * width):
                    place = (block.down[4 + t // width - i // width]
                             + block.across[4 + t % width - i % width])
                    content = (q[i, head] * k[t, head]).sum()
                    logits.append((content + (q[i].sum(0) * place).sum()) / d ** 0.5)
                expected = torch.stack(logits).softmax(0)
                torch.testing.assert_close(p[b, head, i], expected, rtol=1e-4, atol=1e-5)
        own = z[2 * dk:].flatten().view(height * width, heads, -1).transpose(0, 1)
        torch.testing.assert_close(v[b], own)


@torch.no_grad()
def test_its_heads_see_other_places_than_they_stand_for(lively):
    """A change of one place reaches that place's own query in aa, and other queries here."""
    x = maps(1, 16, 6, 6)
    other = x.clone()
    other[..., 2, 3] += 1
    for name, places in {"aa": [2 * 6 + 3], "replica_aa_p1": None}.items():
        block = lively(name, 16)
        v, moved = block.attend(x)[1], block.attend(other)[1]
        changed = (v != moved).any(1).any(-1)[0].nonzero().flatten().tolist()
        assert changed == places if places else changed != [2 * 6 + 3]


@torch.no_grad()
def test_its_heads_share_their_logits_of_distance(lively):
    q, block = maps(2, 3, 4, 5, 20), lively("replica_aa_p1", 64, size=5)
    one_by_one = sum(relative_logits(q[:, n], block.across) for n in range(3))
    torch.testing.assert_close(relative_logits(q.sum(1), block.across), one_by_one,
                               rtol=1e-4, atol=1e-4)


def test_its_tables_start_with_sd_1():
    block = REPLICAS["replica_aa_p1"].make(64)
    assert block.down.std().item() == pytest.approx(1, rel=0.1)
    assert ATTENTION["aa"].make(64).down.std().item() == pytest.approx(20 ** -0.5, rel=0.1)

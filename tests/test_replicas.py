"""The blocks of other projects: that the faults are there, and nothing else. What all blocks
promise is in test_blocks.py, of these too."""
import pytest
import torch
from naive import lively, maps

from attnlib.blocks import ATTENTION, BLOCKS, REPLICAS


def number(name: str, channels: int) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in BLOCKS[name].make(channels).parameters())


def test_the_docs_say_what_is_wrong():
    for row in REPLICAS.values():
        assert "Wrong" in row.make.__doc__ + row.make.__mro__[1].__doc__


def test_the_published_counts_are_of_the_block_without_a_bottleneck():
    """Their network's identity blocks: 2, 3, 5 and 2 of 64, 128, 256 and 512 channels."""
    added = 14_813_538 - 13_900_234
    blocks = {64: 2, 128: 3, 256: 5, 512: 2}
    assert sum(n * number("replica_cbam_p2", c) for c, n in blocks.items()) == added
    assert sum(n * number("replica_cbam_p2_intended", c) for c, n in blocks.items()) < added / 7


@torch.no_grad()
@pytest.mark.parametrize("name", ["replica_cbam_p2", "replica_cbam_p2_intended"])
def test_its_channel_gate_never_closes(name):
    x, block, cbam = maps(), lively(name), lively("cbam")
    for last in (block.mlp[-2], cbam.channel.mlp[-1]):
        last.bias.fill_(-100)                                      # as low as training may go
    assert cbam.channel.gate(x).max() < 0.01
    assert torch.equal(block.channel_gate(x), torch.full((3, 64, 1, 1), 0.5))


def test_the_bottleneck_is_what_the_fault_costs():
    cost = number("replica_cbam_p2", 512) / number("cbam", 512)
    assert cost == pytest.approx(7.87, abs=0.01)


@torch.no_grad()
def test_aa_of_p1_equals_its_equation_place_by_place():
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


def test_its_tables_start_with_sd_1():
    block = REPLICAS["replica_aa_p1"].make(64)
    assert block.down.std().item() == pytest.approx(1, rel=0.1)
    assert ATTENTION["aa"].make(64).down.std().item() == pytest.approx(20 ** -0.5, rel=0.1)

"""The newer blocks: each against its equation, one image and one place at a time, and its size.
What all blocks promise is in test_attention.py and test_blocks.py, of every row."""
import math

import pytest
import torch
from helpers import NEWER
from test_attention import lively, maps, naive_mlp
from test_blocks import mean, naive_conv, s
from torch import nn

from attnlib.blocks import ATTENTION
from attnlib.blocks.newer import averaging

C = 16


def naive_line(conv: nn.Conv1d, z: torch.Tensor) -> torch.Tensor:
    """A depthwise convolution of [C, L] along its line."""
    reach = conv.kernel_size[0] // 2
    out = torch.zeros_like(z)
    for c in range(len(z)):
        for i in range(z.shape[1]):
            out[c, i] = sum(conv.weight[c, 0, n] * z[c, i + n - reach]
                            for n in range(2 * reach + 1) if 0 <= i + n - reach < z.shape[1])
            out[c, i] += 0 if conv.bias is None else conv.bias[c]
    return out


def naive_groups(norm: nn.GroupNorm, z: torch.Tensor) -> torch.Tensor:
    """A group norm of one image [C, …]."""
    out, size = torch.empty_like(z), len(z) // norm.num_groups
    for c in range(len(z)):
        group = z[c // size * size:(c // size + 1) * size]
        sd = ((group - group.mean()) ** 2).mean().add(norm.eps).sqrt()
        out[c] = (z[c] - group.mean()) / sd * norm.weight[c] + norm.bias[c]
    return out


def lines(image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Means of the rows [C, H] and of the columns [C, W]."""
    height, width = image.shape[1:]
    return (torch.stack([image[:, i].sum(1) / width for i in range(height)], 1),
            torch.stack([image[:, :, j].sum(1) / height for j in range(width)], 1))


def times(image, rows, columns):
    """Rows [C, H] and columns [C, W] times a map, place by place."""
    out = torch.empty_like(image)
    for i in range(image.shape[1]):
        for j in range(image.shape[2]):
            out[:, i, j] = image[:, i, j] * rows[:, i] * columns[:, j]
    return out


def naive_ela(block, image):
    rows, columns = (s(naive_groups(block.norm, naive_line(block.conv, z))) for z in lines(image))
    return times(image, rows, columns)


def naive_ema(block, image, groups=8):
    out = []
    for z in image.chunk(groups):
        rows, columns = (s(naive_conv(block.line, line[:, :, None]))[..., 0] for line in lines(z))
        near, far = naive_groups(block.norm, times(z, rows, columns)), naive_conv(block.area, z)
        logits = 0
        for one, other in ((near, far), (far, near)):
            p = torch.exp(mean(one)) / torch.exp(mean(one)).sum()
            logits = logits + sum(p[c] * other[c] for c in range(len(z)))
        out.append(z * s(logits))
    return torch.cat(out)


def naive_mca(block, image):
    out = torch.zeros_like(image)
    for dim, part in enumerate((block.channel, block.rows, block.columns)):
        turned = image.movedim(dim, 0)
        w = 0.5 + s(part.weight)
        z = [w[0] * t.mean() + w[1] * (((t - t.mean()) ** 2).mean() + 1e-5).sqrt() for t in turned]
        gate = s(naive_line(part.conv, torch.stack(z)[None]))[0]
        out += torch.stack([g * t for g, t in zip(gate, turned, strict=True)]).movedim(0, dim) / 3
    return out


def naive_scsa(block, image, heads=8):
    quarters = len(image) // 4
    gates = []
    for z, norm in zip(lines(image), (block.rows, block.columns), strict=True):
        z = torch.cat([naive_line(conv, part) for conv, part
                       in zip(block.lines, z.split(quarters), strict=True)])
        gates.append(s(naive_groups(norm, z)))
    z = times(image, *gates)
    height, width = (min(7, side) for side in image.shape[1:])
    seen = torch.stack([torch.stack([z[:, i:i + height, j:j + width].mean((1, 2))
                                     for j in range(0, z.shape[2] - width + 1, width)], 1)
                        for i in range(0, z.shape[1] - height + 1, height)], 1)
    q, k, v = (naive_groups(block.norm, seen).flatten(1) * w[:, :, 0] for w in block.qkv)
    out, d = torch.empty_like(image), len(image) // heads
    for c in range(len(image)):
        head = range(c // d * d, c // d * d + d)
        p = torch.stack([torch.exp((q[c] * k[t]).sum() / math.sqrt(d)) for t in head])
        out[c] = z[c] * s((sum(p[n] * v[t] for n, t in enumerate(head)) / p.sum()).mean())
    return out


def naive_mlca(block, image, size=5):
    channels, height, width = image.shape
    down, across = min(size, height), min(size, width)

    def piece(n, parts, length):
        return range(n * length // parts, math.ceil((n + 1) * length / parts))
    pieces = [[image[:, piece(i, down, height)][:, :, piece(j, across, width)].mean((1, 2))
               for j in range(across)] for i in range(down)]
    line = torch.cat([z for row in pieces for z in row])[None]           # piece by piece
    local = s(naive_line(block.local.conv1d, line))[0].view(down, across, channels)
    every = s(naive_line(block.all.conv1d, sum(z for row in pieces for z in row)[None]
                         / (down * across)))[0]
    out = torch.empty_like(image)
    for i in range(height):
        for j in range(width):
            rows, columns = piece(i, height, down), piece(j, width, across)
            gate = local[rows][:, columns].mean((0, 1))
            out[:, i, j] = image[:, i, j] * (gate + every) / 2
    return out


def naive_fca(block, image):
    best = list(zip((0, 0, 6, 0, 0, 1, 1, 4, 5, 1, 3, 0, 0, 0, 3, 2),
                    (0, 1, 0, 5, 2, 0, 2, 0, 0, 6, 0, 4, 6, 3, 5, 2), strict=True))

    def wave(u, at, length):
        u = min(u * max(1, length // 7), length - 1)
        return math.cos(math.pi * u * (at + 0.5) / length) * math.sqrt((2 if u else 1) / length)
    f = torch.zeros(len(image))
    for c, channel in enumerate(image):
        u, v = best[c * 16 // len(image)]
        for i, row in enumerate(channel):
            for j, value in enumerate(row):
                f[c] += value * wave(u, i, len(channel)) * wave(v, j, len(row))
    return image * s(naive_mlp(block.mlp, f))[:, None, None]


def naive_mhsa(block, image, heads=4):
    def norm(layer, z):                                            # [C] at one place
        sd = ((z - z.mean()) ** 2).mean().add(layer.eps).sqrt()
        return (z - z.mean()) / sd * layer.weight + layer.bias
    places = image.flatten(1).T
    qkv = [block.qkv(norm(block.norm1, z)).split(len(image)) for z in places]
    d, out = len(image) // heads, []
    for x, (q, _, _) in zip(places, qkv, strict=True):
        seen = torch.empty(len(image))
        for n in range(heads):
            own = slice(n * d, n * d + d)
            p = torch.stack([torch.exp((q[own] * k[own]).sum() / math.sqrt(d)) for _, k, _ in qkv])
            seen[own] = sum(p[t] * qkv[t][2][own] for t in range(len(qkv))) / p.sum()
        z = x + block.out(seen)
        first, _, last = block.mlp
        hidden = first(norm(block.norm2, z))
        out.append(z + last(hidden * (1 + torch.erf(hidden / math.sqrt(2))) / 2))
    return torch.stack(out, 1).view_as(image)


NAIVE = {"fca": naive_fca, "ela": naive_ela, "ema": naive_ema, "mca": naive_mca,
         "scsa": naive_scsa, "mlca": naive_mlca, "mhsa": naive_mhsa}
PARAMETERS = {                                                   # of 64 and of 512 channels
    "fca": lambda c: 2 * c * (c // 16), "ela": lambda c: 7 * c + 2 * c,
    "ema": lambda c: 10 * (c // 8) ** 2 + 4 * (c // 8), "mca": lambda c: 12 + {64: 3, 512: 5}[c],
    "scsa": lambda c: 16 * c, "mlca": lambda c: 2 * {64: 3, 512: 5}[c],
    "mhsa": lambda c: 8 * c * c + 11 * c}


def with_lines(block: nn.Module) -> nn.Module:
    """ECA's convolution is [1, 1, k, 1]: the naive one wants [1, 1, k]."""
    for part in (getattr(block, "local", None), getattr(block, "all", None)):
        if part is not None:
            part.conv1d = nn.Conv1d(1, 1, part.kernel_size[0], bias=False)
            part.conv1d.weight.copy_(part.weight[..., 0])
    return block


@torch.no_grad()
@pytest.mark.parametrize("shape", [(4, 4), (9, 15)])           # below every window, and above
@pytest.mark.parametrize("name", NEWER)
def test_equals_its_equation(name, shape):
    x, block = maps(2, C, *shape), lively(name, C)
    y = block(x)
    wanted = torch.stack([NAIVE[name](with_lines(block), image) for image in x])
    torch.testing.assert_close(y, wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("channels", [64, 512])
@pytest.mark.parametrize("name", NEWER)
def test_number_of_parameters(name, channels):
    with torch.device("meta"):
        block = ATTENTION[name].make(channels)
    assert sum(p.numel() for p in block.parameters()) == PARAMETERS[name](channels)


@pytest.mark.parametrize(("length", "parts"), [(4, 4), (9, 5), (5, 9), (32, 5), (1, 3)])
def test_averaging_is_adaptive_pooling(length, parts):
    x = maps(2, 3, length)
    torch.testing.assert_close(x @ averaging(length, parts, x).T,
                               nn.functional.adaptive_avg_pool1d(x, parts))


@torch.no_grad()
def test_the_first_frequency_is_the_mean_so_fca_of_it_is_se_of_a_scaled_mean():
    x, block = maps(2, C, 8, 8), lively("fca", C)
    block.frequencies.zero_()
    wanted = s(block.mlp(8 * x.mean((2, 3), keepdim=True)))
    torch.testing.assert_close(block.gate(x), wanted)


@torch.no_grad()
def test_self_attention_starts_as_the_identity():
    assert torch.equal(ATTENTION["mhsa"].make(C)(maps(2, C, 4, 4)), maps(2, C, 4, 4))


@pytest.mark.parametrize(("name", "options"), [
    ("ela", {"kernel_size": 4}), ("ema", {"groups": 0}), ("mlca", {"size": 0}),
    ("scsa", {"num_heads": 0}), ("mhsa", {"num_heads": 0}), ("mhsa", {"expand": 0})])
def test_impossible_options_are_named(name, options):
    (key, value), = options.items()
    with pytest.raises(ValueError, match=f"{key}={value}"):
        ATTENTION[name].make(C, **options)

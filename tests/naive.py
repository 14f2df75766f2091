"""The blocks' equations written a second time, slowly: one image, one channel, one place at a time.
`NAIVE` has one for each block: naive(block, x) [B, C, H, W]."""
import math

import torch
from torch import nn

from attnlib.blocks import BLOCKS

C = 16
# One of each kind of arithmetic; the others are put together of these.
FAMILIES = ("ser", "cbam", "bam", "nab", "eca", "simam", "triplet", "gc", "srm", "aa", "sk", "ema",
            "scsa", "mlca", "mhsa", "fca", "layerscale", "shuffled", "replica_aa_p1")


def maps(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(shape or (3, 64, 6, 9), generator=torch.Generator().manual_seed(seed))


def lively(name: str, channels: int = 64, **options) -> nn.Module:
    """A block whose every parameter and running statistic is random, in eval mode: no part of the
    equation is hidden by an initial zero or one."""
    block = BLOCKS[name].make(channels, **options)
    rng = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for tensor in [*block.parameters(), *block.buffers()]:
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=rng) - 0.3)
                if BLOCKS[name].placement == "replace" and tensor.ndim > 1:
                    tensor /= tensor[0].numel() ** 0.5       # or its numbers leave every scale
        for module in block.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_var.abs_().add_(0.5)
    return block.eval()


# --- Parts ---


def s(z: torch.Tensor) -> torch.Tensor:
    return 1 / (1 + torch.exp(-z))


def mean(image: torch.Tensor) -> torch.Tensor:
    return torch.stack([channel.sum() / channel.numel() for channel in image])


def largest(image: torch.Tensor) -> torch.Tensor:
    return torch.stack([channel.max() for channel in image])


def standard(z: torch.Tensor, eps: float) -> torch.Tensor:
    return (z - z.mean()) / ((z - z.mean()) ** 2).mean().add(eps).sqrt()


def mlp(layers: nn.Sequential, v: torch.Tensor) -> torch.Tensor:
    """W2 relu(W1 v + b1) + b2 for a vector [C]."""
    first, last = layers[0], layers[2]
    b1 = 0 if first.bias is None else first.bias
    b2 = 0 if last.bias is None else last.bias
    return last.weight[:, :, 0, 0] @ (first.weight[:, :, 0, 0] @ v + b1).clamp_min(0) + b2


def conv(layer: nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
    """A convolution of one image [C, H, W], zeros around it."""
    (down, across), (far_down, far_across) = layer.padding, layer.dilation
    padded = torch.zeros(len(x), x.shape[1] + 2 * down, x.shape[2] + 2 * across)
    padded[:, down:down + x.shape[1], across:across + x.shape[2]] = x
    reach_down = far_down * (layer.kernel_size[0] - 1) + 1
    reach_across = far_across * (layer.kernel_size[1] - 1) + 1
    rows = []
    for i in range(0, padded.shape[1] - reach_down + 1, layer.stride[0]):
        rows.append([])
        for j in range(0, padded.shape[2] - reach_across + 1, layer.stride[1]):
            patch = padded[:, i:i + reach_down:far_down, j:j + reach_across:far_across]
            patch = patch.unflatten(0, (layer.groups, 1, -1))          # [G, 1, C / G, k, k]
            z = (layer.weight.unflatten(0, (layer.groups, -1)) * patch).sum((2, 3, 4)).flatten()
            rows[-1].append(z if layer.bias is None else z + layer.bias)
    return torch.stack([torch.stack(row, 1) for row in rows], 1)


def line(layer, z: torch.Tensor) -> torch.Tensor:
    """A depthwise convolution of [C, L] along its line; ECA's own has a kernel [1, 1, k, 1]."""
    kernel = layer.weight.flatten(1)
    reach, out = kernel.shape[1] // 2, torch.zeros_like(z)
    for c in range(len(z)):
        for i in range(z.shape[1]):
            out[c, i] = sum(kernel[c, n] * z[c, i + n - reach] for n in range(2 * reach + 1)
                            if 0 <= i + n - reach < z.shape[1])
            out[c, i] += 0 if layer.bias is None else layer.bias[c]
    return out


def norm(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """A batch norm's running statistics on one image [C, H, W]; the identity as itself."""
    if isinstance(layer, nn.Identity):
        return x
    return torch.stack([(x[c] - layer.running_mean[c]) / (layer.running_var[c] + layer.eps) ** 0.5
                        * layer.weight[c] + layer.bias[c] for c in range(len(x))])


def groups(layer: nn.GroupNorm, z: torch.Tensor) -> torch.Tensor:
    """A group norm of one image [C, …]."""
    size = len(z) // layer.num_groups
    parts = [standard(z[c:c + size], layer.eps) for c in range(0, len(z), size)]
    z = torch.cat(parts)
    return torch.stack([z[c] * layer.weight[c] + layer.bias[c] for c in range(len(z))])


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


# --- Blocks, of one image [C, H, W] ---


def se(block, image):
    return image * s(mlp(block.mlp, mean(image)))[:, None, None]


def ca(block, image):
    z = mlp(block.mlp, mean(image)) + mlp(block.mlp, largest(image))
    return image * s(z)[:, None, None]


def sa(block, image):
    pooled = torch.stack([image.max(0).values, image.mean(0)])
    return image * s(norm(block.norm, conv(block.conv, pooled)))


def cbam(block, image):
    return sa(block.spatial, ca(block.channel, image))


def cbam_avg(block, image):
    return sa(block.spatial, se(block.channel, image))


def ser(block, image):
    return image + se(block, image)


def new(block, image):
    u = sa(block.spatial, image)
    return u + u * s(mlp(block.channel.mlp, mean(image)))[:, None, None]       # of x, not of u


def nab(block, image):
    canvas = image
    if image.shape[1] < 7:                                     # 4×5 in the middle of 7×7
        canvas = torch.zeros(len(image), 7, 7)
        canvas[:, 1:5, 1:6] = image
    channel = largest(s(conv(block.patch, canvas)))
    return image * s(conv(block.pixel, image)) * channel[:, None, None]


def bam(block, image, combine=torch.add):
    squeeze, middle, _, excite = block.channel
    z = conv(squeeze, mean(image)[:, None, None])
    channel, z = conv(excite, norm(middle, z).clamp_min(0)), image
    for layer, own, _ in block.spatial[:3]:
        z = norm(own, conv(layer, z)).clamp_min(0)
    return image * (1 + s(combine(channel, conv(block.spatial[3], z))))


def scse(block, image, combine=torch.add):
    return combine(se(block.channel, image), image * s(conv(block.spatial, image)))


def hybrid_sum(block, image):
    alpha = s(block.t)
    return image + alpha * se(block.se, image) + (1 - alpha) * cbam(block.cbam, image)


def hybrid_par(block, image):
    z = (mlp(block.se.mlp, mean(image)) + mlp(block.channel.mlp, mean(image))
         + mlp(block.channel.mlp, largest(image)))
    return sa(block.spatial, image) * s(z)[:, None, None]


def eca(block, image):
    return image * s(line(block.conv, mean(image)[None]))[0][:, None, None]


def simam(block, image):
    out = torch.empty_like(image)
    for c, channel in enumerate(image):
        d = (channel - channel.sum() / channel.numel()) ** 2
        v = d.sum() / (channel.numel() - 1)
        out[c] = channel * s(d / (4 * (v + 1e-4)) + 0.5)
    return out


def coord(block, image):
    layer, own, _ = block.squeeze
    f = norm(own, conv(layer, torch.cat(lines(image), 1)[:, :, None]))
    f = f * (f + 3).clamp(0, 6) / 6                            # hswish, [h, H + W, 1]
    rows = s(conv(block.rows, f[:, :image.shape[1]]))
    return times(image, rows[..., 0], s(conv(block.columns, f[:, image.shape[1]:]))[..., 0])


def triplet(block, image):
    cw, hc = sa(block.cw, image.permute(1, 0, 2)), sa(block.hc, image.permute(2, 1, 0))
    return (cw.permute(1, 0, 2) + hc.permute(2, 1, 0) + sa(block.hw, image)) / 3


def gc(block, image):
    first, middle, _, last = block.mlp
    weight = torch.exp(conv(block.places, image))[0]           # [H, W]
    context = torch.stack([(weight * channel).sum() / weight.sum() for channel in image])
    z = standard(conv(first, context[:, None, None]), middle.eps)
    return image + conv(last, (z * middle.weight + middle.bias).clamp_min(0))


def srm(block, image):
    sd = torch.stack([(((c - c.mean()) ** 2).mean() + 1e-5).sqrt() for c in image])
    z = (block.mix.weight[:, 0, 0] * torch.stack([mean(image), sd], 1)).sum(1)
    return image * s(norm(block.norm, z[:, None, None]))


def aa(block, image, n=2, d=20, reach=31):
    """n heads of d numbers in q and k; distances beyond ``reach`` count as ``reach``."""
    height, width = image.shape[1:]
    places = [(i, j) for i in range(height) for j in range(width)]

    def table(vectors, distance):
        return vectors[reach + min(max(distance, -reach), reach)]
    z = conv(block.qkv, image)
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
    return torch.cat([conv(block.conv, image), conv(block.out, seen)])


def sk(block, image, fixed=False):
    near, far = (norm(own, conv(layer, image)).clamp_min(0)
                 for layer, own, _ in (block.near, block.far))
    p = torch.full((2, len(image)), 0.5)
    if not fixed:
        first, own, _, last = block.select
        z = norm(own, conv(first, mean(near + far)[:, None, None])).clamp_min(0)
        p = torch.exp(conv(last, z)[:, 0, 0].view(2, -1))
        p = p / p.sum(0)
    return torch.stack([p[0, c] * near[c] + p[1, c] * far[c] for c in range(len(image))])


def ela(block, image):
    rows, columns = (s(groups(block.norm, line(block.conv, z))) for z in lines(image))
    return times(image, rows, columns)


def ema(block, image, parts=2):
    out = []
    for z in image.chunk(parts):
        rows, columns = (s(conv(block.line, own[:, :, None]))[..., 0] for own in lines(z))
        near, far = groups(block.norm, times(z, rows, columns)), conv(block.area, z)
        logits = 0
        for one, other in ((near, far), (far, near)):
            p = torch.exp(mean(one)) / torch.exp(mean(one)).sum()
            logits = logits + sum(p[c] * other[c] for c in range(len(z)))
        out.append(z * s(logits))
    return torch.cat(out)


def mca(block, image):
    out = torch.zeros_like(image)
    for dim, part in enumerate((block.channel, block.rows, block.columns)):
        turned, w = image.movedim(dim, 0), 0.5 + s(part.weight)
        z = [w[0] * t.mean() + w[1] * (((t - t.mean()) ** 2).mean() + 1e-5).sqrt() for t in turned]
        gate = s(line(part.conv, torch.stack(z)[None]))[0]
        out += torch.stack([g * t for g, t in zip(gate, turned, strict=True)]).movedim(0, dim) / 3
    return out


def scsa(block, image, heads=1):
    gates = []
    for z, own in zip(lines(image), (block.rows, block.columns), strict=True):
        z = torch.cat([line(layer, part) for layer, part
                       in zip(block.lines, z.split(len(image) // 4), strict=True)])
        gates.append(s(groups(own, z)))
    z = times(image, *gates)
    height, width = (min(7, side) for side in image.shape[1:])
    seen = torch.stack([torch.stack([z[:, i:i + height, j:j + width].mean((1, 2))
                                     for j in range(0, z.shape[2] - width + 1, width)], 1)
                        for i in range(0, z.shape[1] - height + 1, height)], 1)
    q, k, v = (groups(block.norm, seen).flatten(1) * w[:, :, 0] for w in block.qkv)
    out, d = torch.empty_like(image), len(image) // heads
    for c in range(len(image)):
        head = range(c // d * d, c // d * d + d)
        p = torch.stack([torch.exp((q[c] * k[t]).sum() / math.sqrt(d)) for t in head])
        out[c] = z[c] * s((sum(p[n] * v[t] for n, t in enumerate(head)) / p.sum()).mean())
    return out


def mlca(block, image, size=5):
    channels, height, width = image.shape
    down, across = min(size, height), min(size, width)

    def piece(n, parts, length):
        return range(n * length // parts, math.ceil((n + 1) * length / parts))
    pieces = [image[:, piece(i, down, height)][:, :, piece(j, across, width)].mean((1, 2))
              for i in range(down) for j in range(across)]
    local = s(line(block.local, torch.cat(pieces)[None]))[0].view(down, across, channels)
    every = s(line(block.all, sum(pieces)[None] / len(pieces)))[0]
    out = torch.empty_like(image)
    for i in range(height):
        for j in range(width):
            gate = local[piece(i, height, down)][:, piece(j, width, across)].mean((0, 1))
            out[:, i, j] = image[:, i, j] * (gate + every) / 2
    return out


def fca(block, image):
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
    return image * s(mlp(block.mlp, f))[:, None, None]


def mhsa(block, image, heads=4):
    def own_norm(layer, z):                                        # [C] at one place
        return standard(z, layer.eps) * layer.weight + layer.bias
    places = image.flatten(1).T
    qkv = [block.qkv(own_norm(block.norm1, z)).split(len(image)) for z in places]
    d, out = len(image) // heads, []
    for x, (q, _, _) in zip(places, qkv, strict=True):
        seen = torch.empty(len(image))
        for n in range(heads):
            own = slice(n * d, n * d + d)
            p = torch.stack([torch.exp((q[own] * k[own]).sum() / math.sqrt(d)) for _, k, _ in qkv])
            seen[own] = sum(p[t] * qkv[t][2][own] for t in range(len(qkv))) / p.sum()
        z = x + block.out(seen)
        first, _, last = block.mlp
        hidden = first(own_norm(block.norm2, z))
        out.append(z + last(hidden * (1 + torch.erf(hidden / math.sqrt(2))) / 2))
    return torch.stack(out, 1).view_as(image)


def cbam_p2(block, image):
    z = []
    for v in (mean(image), largest(image)):
        if len(block.mlp) == 2:                                    # no bottleneck
            v = block.mlp[0].weight[:, :, 0, 0] @ v + block.mlp[0].bias
        else:
            v = mlp(block.mlp, v)
        z.append(v.clamp_min(0))
    return sa(block.spatial, image * s(z[0] + z[1])[:, None, None])


def each(naive):
    """An equation of one image, for a batch."""
    return lambda block, x, **own: torch.stack([naive(block, image, **own) for image in x])


def shuffled(block, x):
    """SE with the descriptor of the image before."""
    gates = [s(mlp(block.mlp, mean(image))) for image in x]
    return torch.stack([image * gates[b - 1][:, None, None] for b, image in enumerate(x)])


NAIVE = {name: each(naive) for name, naive in {
    "none": lambda block, image: image, "se": se, "ser": ser, "sec": se, "ca": ca, "sa": sa,
    "cbam": cbam, "cbam_avg": cbam_avg, "bam": bam, "scse": scse,
    "hybrid": lambda block, image: cbam(block.cbam, se(block.se, image)),
    "hybrid_p0": lambda block, image: cbam_avg(block.cbam, se(block.se, image)),
    "hybrid_sum": hybrid_sum, "hybrid_par": hybrid_par,
    "se_sa": lambda block, image: sa(block.spatial, ser(block.channel, image)),
    "sec_sa": cbam_avg, "new": new, "nab": nab, "eca": eca, "simam": simam,
    "ge": lambda block, image: image * s(mean(image))[:, None, None],
    "coord": coord, "triplet": triplet, "gc": gc, "srm": srm, "aa": aa, "sk": sk, "fca": fca,
    "ela": ela, "ema": ema, "mca": mca, "scsa": scsa, "mlca": mlca, "mhsa": mhsa,
    "layerscale": lambda block, image: image * block.scale, "frozen": se,
    "replica_cbam_p2": cbam_p2, "replica_cbam_p2_intended": cbam_p2,
}.items()} | {"shuffled": shuffled}

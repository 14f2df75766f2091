"""What several blocks share: y = x · gate(x), a channel gate's small network, means and maxima."""
import torch
from torch import nn


class Gate(nn.Module):
    """y = x · gate(x)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gate(x)


def at_least_1(**options: int) -> None:
    """A ``ValueError`` that names an option below 1."""
    for name, value in options.items():
        if value < 1:
            raise ValueError(f"{name}={value} must be at least 1")


def odd(kernel_size: int) -> int:
    """The same, or a ``ValueError`` where a kernel would change the map's size."""
    if kernel_size < 1 or kernel_size % 2 == 0:
        raise ValueError(f"kernel_size={kernel_size} must be odd: the map keeps its size")
    return kernel_size


def hidden_units(channels: int, reduction: int, least: int = 1) -> int:
    """h = max(least, C // reduction)."""
    at_least_1(reduction=reduction)
    return max(least, channels // reduction)


def squeeze_mlp(channels: int, reduction: int, bias: bool, norm=None) -> nn.Sequential:
    """C -> h -> C as two 1×1 convolutions on [B, C, 1, 1]: the same as two linear layers, with
    ``norm(h)`` between them, if any, and a ReLU."""
    hidden = hidden_units(channels, reduction)
    return nn.Sequential(nn.Conv2d(channels, hidden, 1, bias=bias),
                         *([norm(hidden)] if norm else []), nn.ReLU(inplace=True),
                         nn.Conv2d(hidden, channels, 1, bias=bias))


def pick(option: str, value: str, table: dict):
    """``table[value]``; a ``ValueError`` that lists the valid ones for any other value."""
    if value not in table:
        raise ValueError(f"{option}={value} should be one of {', '.join(table)}")
    return table[value]


@torch.fx.wrap              # one step of a traced graph, whose tensors have no type yet
def mean_of(x: torch.Tensor, dims: tuple[int, ...], n: int) -> torch.Tensor:
    """The mean over dimensions of n numbers in all, kept with size 1. As a sum, to the same bit:
    the gradient of a sum is one number, that of a mean a whole map. In half precision a sum rounds
    twice unless n is a power of two, may overflow (float16), and is float32 in CUDA's autocast."""
    same_bits = x.dtype == torch.bfloat16 and x.device.type == "cpu" and n & (n - 1) == 0
    if x.dtype.itemsize < 4 and not same_bits:
        return x.mean(dims, keepdim=True)
    return x.sum(dims, keepdim=True) / n


def mean_hw(x: torch.Tensor) -> torch.Tensor:
    """a = mean_hw x, [B, C, 1, 1]."""
    return mean_of(x, (2, 3), x.shape[2] * x.shape[3])


def max_hw(x: torch.Tensor) -> torch.Tensor:
    """m = max_hw x, [B, C, 1, 1]; on ties its gradient goes to the first place alone."""
    return x.flatten(2).max(-1).values[:, :, None, None]


def max_mean_c(x: torch.Tensor) -> torch.Tensor:
    """[max_c x; mean_c x], [B, 2, H, W]; of equal channels the first gets the gradient."""
    flat = x.flatten(2)                  # [B, C, HW]: here the two gradients meet, before x's own
    both = torch.cat([flat.max(1, keepdim=True).values, mean_of(flat, (1,), x.shape[1])], 1)
    return both.unflatten(2, x.shape[2:])


def gate_offset(gate_init: str) -> float:
    """What is added to a gate's logits for good: 0, so that it starts near 1/2 (``half``), or 2, so
    that it starts near 0.88 (``open``). To a last bias it is the same as another start."""
    return pick("gate_init", gate_init, {"half": 0.0, "open": 2.0})

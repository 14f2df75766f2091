"""What several blocks share: a channel gate's small network, means and maxima, a gate's start."""
import torch
from torch import nn


def hidden_units(channels: int, reduction: int, least: int = 1) -> int:
    """h = max(least, C // reduction)."""
    if reduction < 1:
        raise ValueError(f"reduction={reduction} must be at least 1")
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


def mean_hw(x: torch.Tensor) -> torch.Tensor:
    """a = mean_hw x, [B, C, 1, 1]. As a sum, to the same bit: the gradient of a sum is one number a
    map, that of a mean a whole map written and read again. In half precision a sum may overflow."""
    if x.dtype.itemsize < 4:
        return x.mean((2, 3), keepdim=True)
    return x.sum((2, 3), keepdim=True) / (x.shape[2] * x.shape[3])


def max_hw(x: torch.Tensor) -> torch.Tensor:
    """m = max_hw x, [B, C, 1, 1]; on ties its gradient goes to the first place alone. On a CPU
    pooling finds it 2 to 5 times as fast as ``max``; on CUDA only ``max`` is deterministic."""
    if x.device.type == "cpu":
        return nn.functional.max_pool2d(x, x.shape[2:])
    return x.flatten(2).transpose(1, 2).max(1).values[:, :, None, None]


def max_mean_c(x: torch.Tensor) -> torch.Tensor:
    """[max_c x; mean_c x], [B, 2, H, W], with gradients as in `max_hw` and `mean_hw`."""
    last = x.permute(0, 2, 3, 1)                                 # channels side by side
    if x.device.type == "cpu":
        rows = nn.functional.max_pool2d(last.flatten(1, 2)[:, None], (1, x.shape[1]))
        largest = rows.view(last.shape[:3])                      # [B, 1, HW, 1] -> [B, H, W]
    else:
        largest = last.max(-1).values
    mean = last.mean(-1) if x.dtype.itemsize < 4 else last.sum(-1) / x.shape[1]
    return torch.stack([largest, mean], 1)


def gate_offset(gate_init: str) -> float:
    """What is added to a gate's logits for good: 0, so that it starts near 1/2 (``half``), or 2, so
    that it starts near 0.88 (``open``). To a last bias it is the same as another start."""
    return pick("gate_init", gate_init, {"half": 0.0, "open": 2.0})

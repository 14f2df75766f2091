"""What a network costs, counted."""
import copy
from functools import cache

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from .build import build_model


class Flops(TorchDispatchMode):
    """Counts as ``FlopCounterMode`` does, without importing ``torch._dynamo``: that takes seconds,
    and a mode imports it only to keep itself out of compiled code, where we never are."""
    total = 0

    @classmethod
    def _should_skip_dynamo(cls):
        return False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if count_of := flop_registry.get(func._overloadpacket):
            self.total += count_of(*args, **(kwargs or {}), out_val=out)
        return out


def attention_blocks(model: nn.Module) -> dict[str, nn.Module]:
    """Qualified name -> block, in the order of the network, for every filled slot."""
    return {name: m for name, m in model.named_modules() if getattr(m, "is_attention", False)}


def cost(model: nn.Module, image_shape: tuple[int, int, int]) -> dict[str, int]:
    """``params``, ``attention_params``, ``macs`` (multiply-accumulates of one [C, H, W] image's
    forward pass: convolutions and matrix products; FLOPs are twice that) and ``sites`` (filled
    slots). Weights play no part: a network on the meta device will do."""
    other, meta = copy.deepcopy(model), any(p.is_meta for p in model.parameters())
    other = (other.to_empty(device="cpu") if meta else other.cpu()).float().eval()
    with torch.device("cpu"), torch.no_grad(), Flops() as counter:
        other(torch.zeros(1, *image_shape))
    blocks = attention_blocks(model).values()
    return {"params": count(model), "attention_params": sum(map(count, blocks)),
            "macs": counter.total // 2, "sites": len(blocks)}


@cache
def cost_of(backbone: str, attention: str = "none", placement: str | None = None,
            channels: int = 3, size: int = 32, width: float = 1.0) -> dict[str, int]:
    """`cost` of a network of `build_model`, for ten classes."""
    model = build_model(backbone, attention, in_channels=channels, image_size=size, width=width,
                        placement=placement)
    return cost(model, (channels, size, size))


def count(module: nn.Module) -> int:
    """Trainable parameters."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)

"""What a network costs, counted."""
import copy

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def attention_blocks(model: nn.Module) -> dict[str, nn.Module]:
    """Qualified name -> block, in the order of the network, for every filled slot."""
    return {name: m for name, m in model.named_modules() if getattr(m, "is_attention", False)}


def cost(model: nn.Module, image_shape: tuple[int, int, int]) -> dict[str, int]:
    """``params``, ``attention_params``, ``macs`` (multiply-accumulates of one [C, H, W] image's
    forward pass: convolutions and matrix products; FLOPs are twice that) and ``sites`` (filled
    slots). Counted on the meta device: no arithmetic is done."""
    meta = copy.deepcopy(model).to("meta").eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        meta(torch.empty(1, *image_shape, device="meta"))
    blocks = attention_blocks(model).values()
    return {"params": count(model), "attention_params": sum(map(count, blocks)),
            "macs": counter.get_total_flops() // 2, "sites": len(blocks)}


def count(module: nn.Module) -> int:
    """Trainable parameters."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)

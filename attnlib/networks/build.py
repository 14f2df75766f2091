"""Networks with attention in them: built, and initialised in pairs."""
import math

import torch
from torch import nn

from ..blocks import BLOCKS
from ..data.arrays import SIDES
from ..names import choose, derive, form, option_defaults, parse, take_options
from . import BACKBONES


def build_model(backbone: str, attention: str = "none", *, num_classes: int = 10,
                in_channels: int = 3, image_size: int = 32, width: float = 1.0,
                placement: str | None = None, seed: int = 0) -> nn.Module:
    """A network for [B, in_channels, image_size, image_size] images whose slots of ``placement``
    hold ``attention``; logits [B, num_classes].

    Initial weights depend on (seed, layer name) alone: networks of one seed differ in the block and
    in nothing else. ``placement=None`` is the block's own; ``"block@12"`` keeps to stages 1 and 2.
    In a network without batch norm gates start open where the name does not say otherwise.
    Unknown names and impossible placements raise ``ValueError`` with the valid ones."""
    if image_size not in SIDES:
        raise ValueError(f"image_size={image_size} is not within {SIDES[0]} to {SIDES[-1]}")
    for name, value in {"num_classes": num_classes, "in_channels": in_channels,
                        "width": width}.items():
        if not 0 < value < math.inf:
            raise ValueError(f"{name}={value} must be positive and finite")
    make, options = resolve("backbone", backbone, BACKBONES)
    block, block_options = resolve("attention", attention, BLOCKS)
    block_options = gate_start(attention, backbone) | block_options
    place = resolve_placement(attention, backbone, placement)
    with torch.random.fork_rng(devices=[]):          # the constructors draw numbers, too
        model = make(num_classes, in_channels, width, **options)
        if place:
            fill_slots(model, place, lambda channels: block(channels, **block_options))
        seed_layers(model, seed)
    return model


def fill_slots(model: nn.Module, place: str, make_block) -> None:
    """Put ``make_block(channels)`` into every slot of that place, such as ``post_add@12``. The
    first of them must keep its input's shape."""
    given, (place, _, stages) = None, place.partition("@")
    for name, slot in list(model.named_modules()):
        if place in getattr(slot, "placements", ()) and (not stages or str(slot.stage) in stages):
            block = make_block(slot.channels)
            if given is None:
                given = (2, slot.channels, 8, 8)
                with torch.no_grad():
                    found = block.eval()(torch.zeros(given)).shape
                if found != given:
                    raise ValueError(f"{type(block).__name__} turns a map of shape {list(given)} "
                                     f"into {list(found)}: a block must keep the shape of its "
                                     "input")
            block.train().is_attention = True
            stride = getattr(slot, "stride", (1, 1))              # of a replaced convolution
            if stride != (1, 1):
                block = nn.Sequential(block, nn.AvgPool2d(stride, ceil_mode=True))
            model.set_submodule(name, block)


def resolve(kind: str, name: str, table) -> tuple:
    """``"se(reduction=8)"`` -> (the row's maker, its options checked against the signature)."""
    base, given = parse(name)
    make = choose(kind, base, table).make
    return make, take_options(kind, base, given, option_defaults(make))


def gate_start(attention: str, backbone: str) -> dict:
    """``{"gate_init": …}`` of a block in a network, ``{}`` if it has no such option. In a network
    without batch norm nothing undoes what gates of one half take away: eight CBAMs leave 2**-16 of
    an image. There they start open."""
    make, options = resolve("backbone", backbone, BACKBONES)
    normed = (option_defaults(make) | options).get("norm", True)
    base, given = parse(attention)
    own = option_defaults(choose("attention", base, BLOCKS).make).get("gate_init")
    return {"gate_init": given.get("gate_init", own if normed else "open")} if own else {}


def canonical_backbone(name: str) -> str:
    """One spelling for one meaning: options sorted, defaults left out."""
    _, options = resolve("backbone", name, BACKBONES)
    return form(parse(name)[0], options)


def canonical_attention(name: str, backbone: str) -> str:
    """Likewise for a block in a network, whose own start of a gate is left out, too. Its options
    are tried on one of 64 channels, so that impossible ones are refused before a run has them."""
    make, options = resolve("attention", name, BLOCKS)
    if options:
        with torch.device("meta"):
            make(64, **options)
    base, start = parse(name)[0], gate_start(name, backbone)
    options.pop("gate_init", None)
    return form(base, options | (start if start != gate_start(base, backbone) else {}))


def resolve_placement(attention: str, backbone: str, placement: str | None) -> str:
    """The placement after defaults, such as ``"block"`` or ``"post_add@12"``; "" for ``none``."""
    name, network = parse(attention)[0], parse(backbone)[0]
    own = choose("attention", name, BLOCKS).placement
    row = choose("backbone", network, BACKBONES)
    if name == "none" and placement == "":
        return ""                                          # as it was resolved before
    place, _, stages = (own if placement is None else placement).partition("@")
    if placement is None and place not in (*row.placements, "replace"):
        place = "block"                                    # e.g. a network without a residual sum
    if place == "replace":                  # by what does a convolution's work, where one is marked
        if own != "replace" and name != "none":
            able = [n for n, row in BLOCKS.items() if row.placement == "replace"]
            raise ValueError(f"{name} cannot replace a convolution; valid: {', '.join(able)}")
        if "replace" not in row.placements:
            where = [n for n, row in BACKBONES.items() if "replace" in row.placements]
            raise ValueError(f"{name} replaces a 3×3 convolution of as many channels in as out, and"
                             f" {network} has none marked; valid: {', '.join(where)}, or another "
                             "placement")
    choose(f"placement in {network}:", place, row.placements)
    valid = "" if place in ("stem", "head", "head_post") else "1234567"[:row.stages]
    if placement is None:                                  # a default names stages of deeper ones
        stages = "".join(k for k in stages if k in valid)
    if not set(stages) <= set(valid) or ("@" in (placement or "") and not stages):
        raise ValueError(f"placement {placement!r}: {network} has "
                         + (f"stages {valid} there" if valid else f"no stages at {place!r}"))
    if name == "none":
        return ""
    stages = "".join(sorted(set(stages)))
    return place if stages in ("", valid) else f"{place}@{stages}"


def seed_layers(model: nn.Module, seed: int, prefix: str = "") -> None:
    """Give each layer its own default initialisation, drawn from (seed, qualified name); ``prefix``
    is the model's own name in a larger one.

    Children come before their parent, so that a block's own rule for a child's weights holds. It
    moves the CPU's global generator."""
    for name, module in reversed(list(model.named_modules(prefix=prefix))):
        if hasattr(module, "reset_parameters"):
            torch.default_generator.manual_seed(derive("init", seed, name))    # the CPU's alone
            module.reset_parameters()

"""Networks with attention in them: sizes from the literature, pairing by seed, names refused."""
import copy
import functools

import pytest
import torch
import torchvision
from torch import nn

from attnlib.blocks import ATTENTION, BLOCKS, Row
from attnlib.networks import BACKBONES
from attnlib.networks.build import (
    build_model,
    canonical_attention,
    canonical_backbone,
    resolve_placement,
)
from attnlib.networks.cost import attention_blocks, cost
from attnlib.networks.fast import SpeedGroup, Whitening
from attnlib.networks.plain import Fire
from attnlib.networks.residual import BasicBlock, Bottleneck, InvertedResidual
from attnlib.networks.slots import ConvNormReLU

EVERYWHERE = [(b, place) for b, row in BACKBONES.items() for place in row.placements]
BARE = ("vgg16(norm=False)", "vgg19(norm=False)", "alexnet(norm=False)", "squeezenet(norm=False)",
        "cnn3(norm=False)")
WIDTH = 1 / 8


def images(*shape: int) -> torch.Tensor:
    return torch.randn(shape or (2, 3, 32, 32), generator=torch.Generator().manual_seed(0))


@functools.cache
def plain(backbone: str, seed: int = 0) -> torch.nn.Module:
    return build_model(backbone, width=WIDTH, seed=seed)


def slots(backbone: str, place: str, stages: str = "1234567") -> list[str]:
    """Where the plain network has slots of that place."""
    return [name for name, module in plain(backbone).named_modules()
            if place in getattr(module, "placements", ())
            and (not module.stage or str(module.stage) in stages)]


# --- Sizes ---


@pytest.mark.parametrize(("backbone", "params"), [
    ("resnet18", 11_173_962), ("resnet50", 23_520_842), ("mobilenetv2", 2_236_682),
    ("vgg16", 15_249_354)])
def test_networks_have_torchvisions_sizes(backbone, params):
    """With ten classes, but for the ResNets' stems, 3×3 here and 7×7 there; VGG-16's convolutions
    and norms, with two hidden layers of 512."""
    from torchvision import models as theirs
    with torch.device("meta"):
        assert cost(build_model(backbone), (3, 32, 32))["params"] == params
        if backbone == "vgg16":
            other = sum(p.numel() for p in theirs.vgg16_bn().features.parameters())
            biases = 2 * (64 + 128) + 3 * (256 + 512 + 512)        # before a norm: none here
            other += 2 * (512 * 512 + 512) + 512 * 10 + 10 - biases
        else:
            make = getattr(theirs, backbone.replace("netv2", "net_v2"))
            other = sum(p.numel() for p in make(num_classes=10).parameters())
            other -= backbone.startswith("resnet") * 64 * 3 * (7 * 7 - 3 * 3)
    assert other == params


def test_the_three_resnets_projects_network_to_the_parameter():
    """13,900,234 without and 14,813,538 with its CBAM, as their notebooks print, where the running
    statistics of norms count as parameters."""
    def size(attention):
        with torch.device("meta"):
            model = build_model("resnet50_slim", attention)
            x = torch.empty(1, 3, 32, 32)
            assert model.stages(model.stem(x)).shape[2:] == (16, 16)
        return sum(v.numel() for k, v in model.state_dict().items() if "num_batches" not in k)
    assert size("none") == 13_900_234
    assert size("replica_cbam_p2") == 14_813_538


@pytest.mark.parametrize(("attention", "placement", "millions"), [
    ("none", None, 11.17), ("cbam", "head_post", 11.21), ("cbam", "head", 11.21),
    ("se", None, 11.26), ("cbam", None, 11.26)])
def test_the_fashion_mnist_projects_parameters_and_flops(attention, placement, millions):
    """Its table: 11.17, 11.21, 11.26, 11.26 M and 0.92 GFLOPs, an addition and a multiplication
    counted each, on 28×28 grey images. A FLOP count there is ours times two to a tenth."""
    with torch.device("meta"):
        counted = cost(build_model("resnet18", attention, placement=placement, in_channels=1,
                                   image_size=28), (1, 28, 28))
    assert round(counted["params"] / 1e6, 2) == millions
    assert 2 * counted["macs"] / 1e9 == pytest.approx(0.92, abs=0.01)


def test_cost_leaves_the_model_as_it_was():
    model = build_model("squeezenet", "sa", width=WIDTH)
    before = copy.deepcopy(model.state_dict())
    cost(model, (3, 32, 32))
    assert model.training and all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_cost_keeps_what_a_network_stores_beside_its_weights_and_takes_any_type():
    """Swin looks up its positions in a buffer."""
    swin = torchvision.models.swin_t()
    assert cost(swin, (3, 64, 64))["macs"] == cost(swin.half(), (3, 64, 64))["macs"] > 1e8


# --- Every row of every table ---


def blocks_for(place: str) -> list[str]:
    return [name for name, row in BLOCKS.items()
            if name != "none" and (place != "replace" or row.placement == "replace")]


FEW = 8         # each block is tried in every eighth place; in every place with -m slow
TRIED = [(b, place, blocks_for(place)[n % FEW::FEW]) for n, (b, place) in enumerate(EVERYWHERE)]


@torch.no_grad()
@pytest.mark.parametrize(("backbone", "place", "attentions"), [
    *TRIED, *(pytest.param(b, place, blocks_for(place), marks=pytest.mark.slow)
              for b, place in EVERYWHERE)])
def test_every_block_keeps_the_shape_in_every_place(backbone, place, attentions):
    """28×28, one channel, seven classes: maps of odd sizes, and in ``head_post`` of one value."""
    x = images(2, 1, 28, 28)
    for attention in attentions:
        model, called = build_model(backbone, attention, num_classes=7, in_channels=1,
                                    image_size=28, width=WIDTH, placement=place).train(), []
        blocks = attention_blocks(model)
        for block in blocks.values():
            block.register_forward_hook(lambda m, args, y, called=called: called.append(
                y.shape == args[0].shape))
        y = model(x)
        assert y.shape == (2, 7) and y.isfinite().all(), attention
        assert called == [True] * len(blocks) and blocks, attention


def test_every_block_is_tried_somewhere():
    assert {name for *_, names in TRIED for name in names} == BLOCKS.keys() - {"none"}


@pytest.mark.parametrize(("backbone", "place"), EVERYWHERE)
def test_attention_never_moves_the_backbones_weights(backbone, place):
    """For every placement all of ``none``'s tensors occur, equal; but for replaced convolutions."""
    attention = "sk" if place == "replace" else "cbam"
    model = build_model(backbone, attention, width=WIDTH, placement=place)
    where, state = slots(backbone, place), model.state_dict()
    blocks = [name.removesuffix(".0") if place == "replace" else name
              for name in attention_blocks(model)]
    assert blocks == where
    gone = {f"{name}.weight" for name in where} if place == "replace" else set()
    for name, value in plain(backbone).state_dict().items():
        assert (name not in state) if name in gone else torch.equal(state[name], value), name


def test_a_block_that_changes_the_shape_is_named(monkeypatch):
    class Halved(torch.nn.Module):
        def __init__(self, channels):
            super().__init__()

        def forward(self, x):
            return x[:, ::2]
    monkeypatch.setitem(ATTENTION, "halved", Row(Halved, "takes half of the channels"))
    with pytest.raises(ValueError, match=r"Halved turns a map of shape \[2, 64, 8, 8\] into "
                                         r"\[2, 32, 8, 8\]: a block must keep the shape"):
        build_model("resnet18", "halved")


@torch.no_grad()
@pytest.mark.parametrize(("backbone", "attention"), [
    ("resnet18", "aa"), ("resnet50", "sk"), ("resnet50_slim", "replica_aa_p1"), ("vgg16", "aa"),
    ("vgg19", "sk"), ("speednet", "replica_aa_p1")])
def test_replacing_blocks_keep_the_maps_sizes(backbone, attention):
    one, other = (build_model(backbone, name, width=WIDTH).eval() for name in (attention, "none"))
    x, y = one.stem(images()), other.stem(images())
    for stage, as_before in zip(one.stages, other.stages, strict=True):
        x, y = stage(x), as_before(y)
        assert x.shape == y.shape


SIZES = [(1, 28, 7, 1 / 8), (3, 32, 10, 1 / 8), (3, 45, 100, 0.13), (1, 64, 2, 1 / 16)]
NETWORKS = [(b, *SIZES[(n + k) % 4]) for n, b in enumerate([*BACKBONES, *BARE]) for k in (0, 1)]


@torch.no_grad()
@pytest.mark.parametrize(("backbone", "channels", "size", "classes", "width"), NETWORKS)
def test_every_network_takes_every_size(backbone, channels, size, classes, width):
    model = build_model(backbone, "cbam", num_classes=classes, in_channels=channels,
                        image_size=size, width=width).eval()
    y = model(images(2, channels, size, size))
    assert y.shape == (2, classes) and y.isfinite().all()


# --- Where the slots stand, told by a block that answers with one number ---


class Always(torch.nn.Module):
    def __init__(self, value: float):
        super().__init__()
        self.value = value

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.full_like(x, self.value)


def shifted(module: torch.nn.Module) -> torch.nn.Module:
    """In eval mode, every norm adding one."""
    for norm in module.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            torch.nn.init.ones_(norm.bias)
    return module.eval()


@torch.no_grad()
@pytest.mark.parametrize(("make", "slot", "value", "wanted"), [
    (make, *row) for make in (BasicBlock, Bottleneck) for row in [
        ("attention", 0.5, lambda x: (x + 0.5).relu()),    # after the last norm, before the sum
        ("post_add", -1.0, torch.zeros_like),              # after the sum, before the ReLU
        ("post_add", 2.0, lambda x: torch.full_like(x, 2))]
] + [(BasicBlock, "after_conv2", 0.0, lambda x: (x + 1).relu())])      # before the second norm
def test_slots_of_residual_blocks(make, slot, value, wanted):
    x = images(2, 8, 4, 4)
    block = shifted(make(8, 8, 1, 1))
    setattr(block, slot, Always(value))
    torch.testing.assert_close(block(x), wanted(x))


@torch.no_grad()
def test_slots_after_inner_convolutions_come_before_their_norms():
    x = images(2, 8, 4, 4)
    block = shifted(BasicBlock(8, 8, 1, 1))
    block.after_conv1 = Always(0.0)                # conv2 then sees ones
    ones = block.norm2(block.conv2(torch.ones_like(x)))
    torch.testing.assert_close(block(x), (x + ones).relu())
    seen, block = [], shifted(Bottleneck(8, 8, 1, 1, slim=True))
    block.attention.register_forward_hook(lambda m, args, y: seen.append(args[0].min().item()))
    block(x)
    assert seen[0] >= 0                            # after a ReLU, as in resnet50_slim
    block.conv.slot = Always(0.0)
    ones = block.expand(torch.ones(2, 2, 4, 4))
    torch.testing.assert_close(block.expand(block.conv(torch.zeros(2, 2, 4, 4))), ones)


@torch.no_grad()
def test_slots_of_an_inverted_residual():
    x = images(2, 8, 4, 4)
    block = shifted(InvertedResidual(8, 8, 1, 1, 6))
    block.attention = Always(0.5)
    torch.testing.assert_close(block(x), x + 0.5)
    block.post_add = Always(-1.0)
    assert (block(x) == -1).all()
    narrower = shifted(InvertedResidual(8, 4, 1, 1, 6))
    narrower.attention = Always(0.5)
    assert (narrower(x) == 0.5).all() and not hasattr(narrower, "post_add")


@torch.no_grad()
def test_slots_of_a_vgg_stage_a_fire_module_a_stem_and_a_net():
    x, net = images(), shifted(copy.deepcopy(plain("vgg16")))
    first = net.stages[0](net.stem(x))             # before its pooling
    assert first.shape[2:] == (32, 32) and first.min() >= 0
    net.stages[0].slot = Always(-2.0)
    assert (net.stages[0](net.stem(x)) == -2).all()
    fire = shifted(Fire(3, 8, 1, 4, True))
    fire.attention = Always(-1.0)                  # after both ReLUs
    assert (fire(x) == -1).all()
    stem = shifted(ConvNormReLU(3, 8))
    stem.slot = Always(0.0)                        # before the norm
    assert (stem(x) == 1).all()
    net = shifted(copy.deepcopy(plain("resnet18")))
    net.stages[3].slot = Always(-3.0)              # the stage's last word: what Grad-CAM looks at
    assert (net.stages(net.stem(x)) == -3).all()
    for slot in ("head", "head_post"):
        setattr(net, slot, Always(0.0))
        assert torch.equal(net(x), net.classifier.bias.expand(2, -1))
        setattr(net, slot, torch.nn.Identity())


# --- Initialisation ---


@pytest.mark.parametrize("backbone", BACKBONES)
def test_another_seed_gives_other_weights(backbone):
    one, other = plain(backbone, 0), plain(backbone, 1)
    for (name, a), b in zip(one.named_parameters(), other.parameters(), strict=True):
        fixed = a.ndim == 4 and a.shape[0] <= a.shape[1] and backbone == "speednet"     # identities
        if a.ndim > 1 and not fixed:                               # not the norms' ones and zeros
            assert not torch.equal(a, b), name
    starts = [tuple(p.flatten()[:9].tolist()) for p in one.parameters() if p.ndim > 1]
    assert len(set(starts)) == len(starts) or backbone == "speednet", "two layers are alike"


@pytest.mark.parametrize("attention", ATTENTION)
def test_weights_come_from_the_seed_alone_and_the_global_random_state_stays(attention):
    backbone = "resnet18" if ATTENTION[attention].placement == "replace" else "cnn3"
    states = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        states.append(build_model(backbone, attention, width=WIDTH).state_dict())
        assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


# --- Placements ---


@pytest.mark.parametrize(("placement", "sites"), [
    (None, 8), ("block@134", 6), ("post_add", 8), ("stage@12", 2), ("conv", 16), ("inner", 8),
    ("stem", 1), ("head", 1), ("head_post", 1)])
def test_sites_in_resnet18(placement, sites):
    model = build_model("resnet18", "se", width=WIDTH, placement=placement)
    assert len(attention_blocks(model)) == sites


def test_stages_pick_the_slots_of_those_stages():
    blocks = attention_blocks(build_model("resnet18", "se", width=WIDTH, placement="block@24"))
    assert list(blocks) == slots("resnet18", "block", "24")
    assert {name.split(".")[1] for name in blocks} == {"1", "3"}


@pytest.mark.parametrize(("attention", "given", "resolved"), [
    ("se", None, "block"), ("se", "block@4321", "block"), ("se", "block@21", "block@12"),
    ("se", "stage@11", "stage@1"), ("se", "head", "head"),
    ("none", None, ""), ("none", "stage@12", ""), ("none", "", "")])
def test_placements_have_one_spelling(attention, given, resolved):
    assert resolve_placement(attention, "resnet18", given) == resolved


@pytest.mark.parametrize("attention", ["se", "none"])
@pytest.mark.parametrize("placement", ["everywhere", "block@9", "block@0", "block@", "head@1",
                                       "block@1x", "Block"])
def test_impossible_placements_are_refused(attention, placement):
    with pytest.raises(ValueError, match="resnet18"):
        build_model("resnet18", attention, placement=placement)


@pytest.mark.parametrize(("backbone", "attention", "own", "words"), [
    ("squeezenet", "se", {"placement": "post_add"},
     f"post_add.*{'.*'.join(BACKBONES['squeezenet'].placements)}"),
    ("resnet18", "se", {"placement": "replace"}, "se cannot replace .*; valid: .*aa.*sk"),
    ("squeezenet", "aa", {}, "squeezenet has none marked; valid: resnet18, resnet50"),
    ("resnet19", "none", {}, f"resnet19.*{'.*'.join(BACKBONES)}"),
    ("resnet18", "sea", {}, f"sea.*{'.*'.join(ATTENTION)}"),
    ("resnet18", "se(ratio=8)", {}, "option"), ("resnet18(depth=3)", "se", {}, "option"),
    ("resnet18", "none(x=1)", {}, "option"), ("resnet18", "se(channels=3)", {}, "option"),
    ("resnet18", "se(reduction=yes)", {}, "option"),
    *(("resnet18", "none", {name: value}, f"{name}={value}") for name, value in (
        ("image_size", 27), ("image_size", 225), ("num_classes", 0), ("in_channels", -1),
        ("width", 0), ("width", -0.5), ("width", float("nan")), ("width", float("inf"))))])
def test_what_cannot_be_says_what_can(backbone, attention, own, words):
    with pytest.raises(ValueError, match=words):
        build_model(backbone, attention, **own)


def test_canonical_names():
    assert canonical_attention("cbam( reduction=16, gamma = 1 )", "resnet18") == "cbam(gamma=1.0)"
    assert canonical_attention("se(bias=False)", "vgg16") == "se"
    assert canonical_backbone("vgg16( norm = False, dropout=.5 )") == "vgg16(norm=False)"


@pytest.mark.parametrize(("given", "normed", "bare"), [
    ("cbam", "cbam", "cbam"),
    ("cbam(gate_init=half)", "cbam", "cbam(gate_init=half)"),
    ("cbam(gate_init=open)", "cbam(gate_init=open)", "cbam"),
    ("simam", "simam", "simam"),
])
def test_a_gates_own_start_is_the_networks(given, normed, bare):
    for backbone, wanted in {"alexnet": normed, "alexnet(norm=False)": bare}.items():
        assert canonical_attention(given, backbone) == wanted
        assert canonical_attention(wanted, backbone) == wanted
        one, other = (build_model(backbone, a, width=WIDTH).eval() for a in (given, wanted))
        assert torch.equal(one(images()), other(images()))


# --- speednet ---


def test_speednet_has_the_size_by_hand():
    c = (64, 128, 128)
    convolutions = 9 * (24 * c[0] + c[0] ** 2 + c[0] * c[1] + c[1] ** 2 + c[1] * c[2] + c[2] ** 2)
    counted = cost(build_model("speednet"), (3, 32, 32))
    assert counted["params"] == 24 + convolutions + 2 * 2 * sum(c) + 10 * c[2]
    macs = 31 ** 2 * (12 * 24 + 9 * 24 * c[0])
    for side, here, after in ((15, c[0], c[1]), (7, c[1], c[2])):
        macs += 9 * side ** 2 * (here ** 2 + here * after)
    assert counted["macs"] == macs + 9 * 3 ** 2 * c[2] ** 2 + 10 * c[2]


def test_speednet_takes_the_images_that_grow():
    net = build_model("speednet", width=WIDTH).eval()
    assert all(net(images(2, 3, side, side)).shape == (2, 10) for side in (20, 32))


def test_a_speed_group_is_its_formula():
    group = SpeedGroup(5, 7, 1).eval()
    x = torch.rand(2, 5, 9, 9)
    group.conv1.reset_parameters()                # filters that pass their input on, first
    assert torch.equal(group.conv1(x)[:, :5], x)
    z = nn.functional.conv2d(x, group.conv1.weight, padding=1)
    z = z.unfold(2, 2, 2).unfold(3, 2, 2).amax((4, 5))
    z = nn.functional.gelu(z / (1 + 1e-5) ** 0.5)
    z = nn.functional.gelu(nn.functional.conv2d(z, group.conv2.weight, padding=1)
                           / (1 + 1e-5) ** 0.5)
    assert torch.allclose(group(x), z, atol=1e-5)


def test_the_whitening_makes_patches_uncorrelated_with_variance_one():
    torch.manual_seed(0)
    stem, rng = Whitening(3), torch.Generator().manual_seed(0)
    x = nn.functional.avg_pool2d(torch.randn(400, 3, 12, 12, generator=rng), 3, 1) * 3
    stem.whiten(x)
    y = stem.conv(x).permute(1, 0, 2, 3).flatten(1)                    # [24, patches]
    assert torch.allclose(y[:12] @ y[:12].T / y.shape[1], torch.eye(12), atol=0.02)
    assert torch.equal(y[:12], -y[12:])
    before = stem.conv.weight.clone()
    stem.whiten(x)
    assert torch.equal(before, stem.conv.weight) and not stem.conv.weight.requires_grad

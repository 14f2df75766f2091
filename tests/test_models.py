"""Networks with attention in them: sizes from the literature, pairing by seed, names refused."""
import copy
import functools
import itertools

import pytest
import torch

from attnlib.attention import ATTENTION
from attnlib.backbones import BACKBONES, BasicBlock, Fire, Slot, Stem
from attnlib.models import attention_blocks, build_model, canonical, cost, resolve_placement

EVERY = list(itertools.product(BACKBONES, ATTENTION))
WIDTH = 1 / 8


@functools.cache
def plain(backbone: str, seed: int = 0) -> torch.nn.Module:
    return build_model(backbone, width=WIDTH, seed=seed)


@pytest.fixture(scope="module", params=EVERY, ids=" + ".join)
def attended(request) -> tuple[str, str, dict[str, torch.nn.Module]]:
    """A network and a block, together in every placement."""
    backbone, attention = request.param
    return backbone, attention, {
        place: build_model(backbone, attention, width=WIDTH, placement=place)
        for place in BACKBONES[backbone].placements}


def slots(backbone: str, place: str, stages: str = "1234567") -> list[str]:
    """Where the plain network has slots of that place."""
    return [name for name, module in plain(backbone).named_modules()
            if isinstance(module, Slot) and place in module.placements
            and (not module.stage or str(module.stage) in stages)]


# --- Sizes ---


@pytest.mark.parametrize(("options", "shape", "params", "gmacs"), [
    ({}, (3, 32, 32), 11_173_962, 0.555),
    ({"num_classes": 100}, (3, 32, 32), 11_220_132, 0.555),
    ({"in_channels": 1, "image_size": 28}, (1, 28, 28), 11_172_810, 0.456),
])
def test_resnet18_has_the_known_size(options, shape, params, gmacs):
    with torch.device("meta"):
        counted = cost(build_model("resnet18", **options), shape)
    assert counted["params"] == params and counted["attention_params"] == counted["sites"] == 0
    assert counted["macs"] / 1e9 == pytest.approx(gmacs, abs=5e-4)


@pytest.mark.parametrize(("attention", "added"), [("se", 87_040), ("cbam", 89_880),
                                                  ("hybrid", 87_040 + 89_880)])
def test_what_attention_adds_to_resnet18(attention, added):
    with torch.device("meta"):
        counted = cost(build_model("resnet18", attention), (3, 32, 32))
    assert counted["attention_params"] == added and counted["sites"] == 8
    assert counted["params"] == 11_173_962 + added


def test_parameters_equal_those_of_torchvisions_resnet18():
    """But for the stem, 3×3 here and 7×7 there."""
    from torchvision.models import resnet18
    with torch.device("meta"):
        theirs = sum(p.numel() for p in resnet18(num_classes=10).parameters())
    assert theirs - 64 * 3 * (7 * 7 - 3 * 3) == 11_173_962


def test_macs_of_one_convolution_by_hand():
    with torch.device("meta"):
        narrow = cost(build_model("resnet18", width=WIDTH), (3, 32, 32))["macs"]
        grey = cost(build_model("resnet18", width=WIDTH, in_channels=1), (1, 32, 32))["macs"]
    assert narrow - grey == 2 * 8 * 3 * 3 * 32 * 32          # two channels less in, eight out


def test_cost_leaves_the_model_as_it_was():
    model = build_model("squeezenet", "sa", width=WIDTH)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    cost(model, (3, 32, 32))
    assert model.training and all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


# --- Every row of every table ---


@torch.no_grad()
def test_every_placement_runs_and_fills_its_slots(attended):
    backbone, attention, models = attended
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for place, model in models.items():
        y = model.train()(x)
        assert y.shape == (2, 10) and y.isfinite().all(), place
        wanted = [] if attention == "none" else slots(backbone, place)
        assert list(attention_blocks(model)) == wanted, place


def test_attention_never_moves_the_backbones_weights(attended):
    backbone, attention, models = attended
    alone = dict(plain(backbone).named_parameters())
    for place, model in models.items():
        state = model.state_dict()
        assert plain(backbone).state_dict().keys() <= state.keys()
        assert all(torch.equal(state[name], p) for name, p in alone.items()), place


@torch.no_grad()
@pytest.mark.parametrize(("backbone", "attention"), EVERY)
def test_every_block_runs_on_small_grey_images(backbone, attention):
    """Its own placement, and two that hold maps of every size: 28 (or 14) to 4, and 1."""
    x = torch.randn(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    for place in (None, "stage", "head_post"):
        model = build_model(backbone, attention, num_classes=7, in_channels=1, image_size=28,
                            width=WIDTH, placement=place).eval()
        y = model(x)
        assert y.shape == (2, 7) and y.isfinite().all(), place


@torch.no_grad()
@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_slot_is_on_the_way_through_the_network(backbone):
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    model = copy.deepcopy(plain(backbone))
    seen = []
    for name, module in model.named_modules():
        if isinstance(module, Slot):
            module.register_forward_hook(
                lambda slot, args, y, name=name: seen.append((name, slot.channels, y.shape[1])))
    model(x)
    assert sorted(name for name, _, _ in seen) == sorted(
        name for name, module in model.named_modules() if isinstance(module, Slot))
    assert all(channels == actual for _, channels, actual in seen)


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
def test_slots_of_a_residual_block():
    x = torch.randn(2, 8, 4, 4, generator=torch.Generator().manual_seed(0))
    for slot, value, wanted in [
        ("attention", 0.5, (x + 0.5).relu()),      # after the second norm, before the sum
        ("after_conv2", 0.0, (x + 1).relu()),      # before the second norm
        ("post_add", -1.0, torch.zeros_like(x)),   # after the sum, before the ReLU
        ("post_add", 2.0, torch.full_like(x, 2)),
    ]:
        block = shifted(BasicBlock(8, 8, 1, 1))
        setattr(block, slot, Always(value))
        torch.testing.assert_close(block(x), wanted, msg=slot)
    block = shifted(BasicBlock(8, 8, 1, 1))
    block.after_conv1 = Always(0.0)                # before the first norm: conv2 then sees ones
    ones = block.norm2(block.conv2(torch.ones_like(x)))
    torch.testing.assert_close(block(x), (x + ones).relu())


@torch.no_grad()
def test_slots_of_a_fire_module_a_stem_and_a_net():
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    fire = shifted(Fire(3, 4, 8, 1))
    fire.attention = Always(-1.0)                  # after both ReLUs
    assert (fire(x) == -1).all()
    stem = shifted(Stem(3, 8))
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
        if a.ndim > 1:                                             # not the norms' ones and zeros
            assert not torch.equal(a, b), name


def test_layers_of_one_shape_differ_from_each_other():
    weights = [p for p in plain("resnet18").parameters() if p.shape == (8, 8, 3, 3)]
    assert len(weights) == 4
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(weights, 2))


@pytest.mark.parametrize("attention", ATTENTION)
def test_weights_come_from_the_seed_alone(attention):
    torch.manual_seed(1)
    one = build_model("squeezenet", attention, width=WIDTH).state_dict()
    torch.manual_seed(2)
    other = build_model("squeezenet", attention, width=WIDTH).state_dict()
    assert all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("attention", ATTENTION)
def test_build_model_leaves_the_global_random_state_alone(attention):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    build_model("squeezenet", attention, width=WIDTH)
    assert torch.equal(torch.get_rng_state(), before)


def test_an_option_reaches_its_blocks():
    blocks = attention_blocks(build_model("resnet18", "se(reduction=2)", width=WIDTH)).values()
    assert [b.mlp[0].out_channels for b in blocks] == [4, 4, 8, 8, 16, 16, 32, 32]


# --- Placements ---


@pytest.mark.parametrize(("placement", "sites"), [
    (None, 8), ("block", 8), ("block@1", 2), ("block@134", 6), ("post_add", 8), ("stage", 4),
    ("stage@12", 2), ("conv", 16), ("inner", 8), ("stem", 1), ("head", 1), ("head_post", 1),
])
def test_sites_in_resnet18(placement, sites):
    model = build_model("resnet18", "se", width=WIDTH, placement=placement)
    assert len(attention_blocks(model)) == sites


def test_stages_pick_the_slots_of_those_stages():
    model = build_model("resnet18", "se", width=WIDTH, placement="block@24")
    assert list(attention_blocks(model)) == slots("resnet18", "block", "24")
    assert {name.split(".")[1] for name in attention_blocks(model)} == {"1", "3"}


@pytest.mark.parametrize(("given", "resolved"), [
    (None, "block"), ("block@4321", "block"), ("block@21", "block@12"), ("stage@11", "stage@1"),
    ("head", "head"),
])
def test_placements_have_one_spelling(given, resolved):
    assert resolve_placement("se", "resnet18", given) == resolved


def test_a_block_that_prefers_post_add_falls_back_to_block(monkeypatch):
    monkeypatch.setitem(ATTENTION, "se", ATTENTION["se"]._replace(placement="post_add@12"))
    assert resolve_placement("se", "resnet18", None) == "post_add@12"
    assert resolve_placement("se", "squeezenet", None) == "block@12"


@pytest.mark.parametrize("given", [None, "stage@12", ""])
def test_no_attention_has_no_placement(given):
    assert resolve_placement("none", "resnet18", given) == ""


@pytest.mark.parametrize("attention", ["se", "none"])
@pytest.mark.parametrize("placement", ["everywhere", "block@9", "block@0", "block@", "head@1",
                                       "block@1x", "Block"])
def test_impossible_placements_are_refused(attention, placement):
    with pytest.raises(ValueError, match="resnet18"):
        build_model("resnet18", attention, placement=placement)


def test_a_placement_that_the_network_lacks_lists_those_it_has():
    with pytest.raises(ValueError) as error:
        build_model("squeezenet", "se", placement="post_add")
    assert "post_add" in str(error.value)
    assert all(place in str(error.value) for place in BACKBONES["squeezenet"].placements)


# --- Names and numbers ---


def test_unknown_names_list_the_valid_ones():
    with pytest.raises(ValueError) as error:
        build_model("resnet19")
    assert "resnet19" in str(error.value) and all(b in str(error.value) for b in BACKBONES)
    with pytest.raises(ValueError) as error:
        build_model("resnet18", "sea")
    assert "sea" in str(error.value) and all(a in str(error.value) for a in ATTENTION)


@pytest.mark.parametrize(("backbone", "attention"), [
    ("resnet18", "se(ratio=8)"), ("resnet18(depth=3)", "se"), ("resnet18", "none(x=1)"),
    ("resnet18", "se(channels=3)"), ("resnet18", "se(reduction=yes)"),
])
def test_unknown_or_odd_options_are_refused(backbone, attention):
    with pytest.raises(ValueError, match="option"):
        build_model(backbone, attention)


@pytest.mark.parametrize(("name", "value"), [
    ("image_size", 27), ("image_size", 65), ("num_classes", 0), ("in_channels", -1), ("width", 0),
    ("width", -0.5), ("width", float("nan")), ("width", float("inf")),
])
def test_numbers_out_of_range_are_named(name, value):
    with pytest.raises(ValueError, match=f"{name}={value}"):
        build_model("resnet18", **{name: value})


def test_canonical_names():
    assert canonical("attention", "cbam( reduction=16, gamma = 1 )", ATTENTION) == "cbam(gamma=1.0)"
    assert canonical("attention", "se(bias=False)", ATTENTION) == "se"

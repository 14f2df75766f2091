"""Networks with attention in them: sizes from the literature, pairing by seed, names refused."""
import copy
import functools
import itertools

import pytest
import torch

from attnlib.attention import ATTENTION
from attnlib.backbones import BACKBONES, Slot
from attnlib.models import attention_blocks, build_model, canonical, cost, resolve_placement

EVERY = list(itertools.product(BACKBONES, ATTENTION))
WIDTH = 1 / 8


@functools.lru_cache(maxsize=16)
def plain(backbone: str, seed: int = 0) -> torch.nn.Module:
    return build_model(backbone, width=WIDTH, seed=seed)


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
@pytest.mark.parametrize(("channels", "size"), [(3, 32), (1, 28)])
@pytest.mark.parametrize(("backbone", "attention"), EVERY)
def test_every_placement_builds_and_runs(backbone, attention, channels, size):
    x = torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(0))
    for place in BACKBONES[backbone].placements if attention != "none" else [None]:
        model = build_model(backbone, attention, in_channels=channels, image_size=size,
                            width=WIDTH, placement=place).eval()
        y = model(x)
        assert y.shape == (2, 10) and y.isfinite().all(), place
        wanted = slots(backbone, place) if place else []
        assert list(attention_blocks(model)) == wanted, place


@pytest.mark.parametrize(("backbone", "attention"), EVERY)
def test_attention_never_moves_the_backbones_weights(backbone, attention):
    alone = plain(backbone).state_dict()
    for place in BACKBONES[backbone].placements:
        attended = build_model(backbone, attention, width=WIDTH, placement=place).state_dict()
        assert alone.keys() <= attended.keys()
        assert all(torch.equal(attended[key], value) for key, value in alone.items()), place


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

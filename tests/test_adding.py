"""Blocks put into networks that are not ours: where they stand, that nothing else changes, that
they train, and what is refused."""
import copy
import functools
import io
import pickle
import re

import pytest
import torch
import torchvision
from torch import nn

import attnlib
from attnlib.blocks import ATTENTION, Row
from attnlib.blocks.newer import SelfAttention
from attnlib.networks import BACKBONES
from attnlib.networks.build import build_model, resolve_placement, seed_layers
from attnlib.networks.cost import attention_blocks, cost
from attnlib.settings import REPO

PLACES = {         # network -> where=, how many places that is, the first of them
    "resnet18": (None, 8, "layer1.0.bn2"), "resnet50": (None, 16, "layer1.0.bn3"),
    "mobilenet_v2": ("features.*.conv", 17, "features.1.conv"),
    "mobilenet_v3_small": ("features.*.block", 11, "features.1.block")}
EVERY = [("resnet18", "cbam"), ("resnet50", "se(reduction=8)"), ("mobilenet_v2", "cbam"),
         ("mobilenet_v3_small", "se(reduction=8)")]


@functools.cache
def original(name: str) -> nn.Module:
    with torch.device("meta"):                   # not torchvision's initialisation, which is slow
        model = getattr(torchvision.models, name)(weights=None, num_classes=10)
    model.to_empty(device="cpu")
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    momentum = norms[0].momentum
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        seed_layers(model, 0)
        for value in (1.0, momentum):            # statistics of these images, or outputs vanish
            for norm in norms:
                norm.momentum = value
            value == 1 and model.train()(images())
    return model


def theirs(name: str) -> nn.Module:
    """One of torchvision's networks at its real size, always with the same weights."""
    return copy.deepcopy(original(name))


def images(*shape: int) -> torch.Tensor:
    return torch.randn(*shape or (2, 3, 64, 64), generator=torch.Generator().manual_seed(0))


def small() -> nn.Module:
    """A user's network: no name in it is known."""
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True),
                         nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))


def loss_of(model: nn.Module, n: int = 2) -> torch.Tensor:
    """On n images in training mode, with the same dropout each time."""
    torch.manual_seed(0)
    return nn.functional.cross_entropy(model.train()(images(n, 3, 64, 64)), torch.arange(n))


# --- Torchvision's networks ---


@pytest.mark.parametrize(("name", "block"), EVERY)
def test_blocks_stand_in_their_places_the_weights_stay_and_all_train(name, block):
    model, before = theirs(name), original(name).state_dict()
    where, sites, first = PLACES[name]
    assert attnlib.add_attention(model, block, where) is model
    blocks, after = attention_blocks(model), model.state_dict()
    assert len(blocks) == sites and next(iter(blocks)) == first + ".added_attention"
    assert all(torch.equal(after[key], value) for key, value in before.items())
    missing, unexpected = model.load_state_dict(before, strict=False)
    assert not unexpected and all(".added_attention." in key for key in missing)
    counted, plain = cost(model, (3, 64, 64)), cost(original(name), (3, 64, 64))
    assert counted["sites"] == sites and counted["macs"] > plain["macs"]
    assert counted["params"] == plain["params"] + counted["attention_params"]
    # A step of SGD reaches the blocks and lowers the loss.
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-4)
    loss = loss_of(model)
    loss.backward()
    reached = [any(p.grad.any() for p in m.parameters()) for m in blocks.values()]
    assert sum(reached) >= 0.8 * len(reached)           # a narrow MLP may start with all ReLUs off
    optimiser.step()
    assert loss_of(model) < loss


@pytest.mark.parametrize(("name", "block"), EVERY)
def test_zero_init_starts_at_the_pretrained_outputs_exactly(name, block):
    model, x = theirs(name).eval(), images()
    with torch.no_grad():
        wanted = model(x)
        attnlib.add_attention(model, block, PLACES[name][0], zero_init=True)
        assert torch.equal(model(x), wanted)
    loss_of(model).backward()
    for m in attention_blocks(model).values():
        assert m.t.grad and not any(p.grad.any() for p in m.block.parameters())


@pytest.mark.parametrize(("library", "name", "where", "sites"), [
    ("torchvision.models", "alexnet", "features.*", 13),
    ("torchvision.models", "squeezenet1_1", "Fire", 8),
    ("torchvision.models", "densenet121", "_Transition", 3),
    ("torchvision.models", "convnext_tiny", "CNBlock", 18),
    ("torchvision.models", "regnet_y_400mf", "ResBottleneckBlock", 16),
    ("timm", "resnet50", None, 16), ("timm", "efficientnet_b0", "InvertedResidual", 15),
    ("timm", "convnext_atto", "ConvNeXtBlock", 12)])
def test_where_says_it_in_networks_of_torchvision_and_timm(library, name, where, sites):
    library = pytest.importorskip(library)
    make = library.create_model if hasattr(library, "create_model") else library.get_model
    with torch.device("cpu" if name.startswith("regnet") else "meta"):   # it computes its widths
        model = attnlib.add_attention(make(name), "cbam", where)
    assert cost(model, (3, 64, 64))["sites"] == sites


def test_the_block_comes_before_the_sum():
    model = attnlib.add_attention(theirs("resnet18"), "se").eval()
    block, x = model.layer1[0], images(2, 64, 8, 8)
    branch = block.conv2(block.bn1(block.conv1(x)).relu())
    norm = block.bn2.host(branch)
    torch.testing.assert_close(block(x), (block.bn2.added_attention(norm) + x).relu())


# --- Where ---


def test_where_in_resnet50():
    for where, sites in {"Bottleneck": 16, torchvision.models.resnet.Bottleneck: 16, "layer4.*": 3,
                         "layer?.?.bn3": 16, "layer[12].0": 2, "layer4": 1, "Conv2d": 53}.items():
        with torch.device("meta"):
            model = attnlib.add_attention(torchvision.models.resnet50(), "eca", where)
        assert len(attention_blocks(model)) == sites, where


def test_a_sequential_runs_its_block_once_and_last():
    model = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 1)), nn.ReLU())
    x = images(1, 3, 8, 8)
    before = model[0][0](x)
    attnlib.add_attention(model, "ge", "0")
    torch.testing.assert_close(model(x), (before * before.mean((2, 3), keepdim=True).sigmoid())
                               .relu())


def test_subclasses_count_and_no_block_is_put_into_a_block():
    class Own(nn.Conv2d):
        pass
    block = ATTENTION["cbam"].make(8)
    block.is_attention = True
    model = nn.Sequential(Own(3, 8, 1), torchvision.ops.SqueezeExcitation(8, 2), block)
    attnlib.add_attention(model, "cbam", "Conv2d")
    assert list(attention_blocks(model)) == ["0.added_attention", "2"]
    with pytest.raises(ValueError, match="no module of type or name 'ReLU'"):
        attnlib.add_attention(model, "se", "ReLU")       # there are some, in the blocks


def test_our_own_networks_have_it_in_their_slots():
    ours = build_model("resnet18", "se", width=1 / 8).eval()
    model = attnlib.add_attention(build_model("resnet18", width=1 / 8).eval(), "se")
    for added, block in zip(*(attention_blocks(net).values() for net in (model, ours)),
                            strict=True):
        added.load_state_dict(block.state_dict())
    assert torch.equal(model(images(2, 3, 32, 32)), ours(images(2, 3, 32, 32)))


def test_a_module_that_runs_twice_shares_one_block():
    relu = nn.ReLU(True)
    model = nn.Sequential(nn.Conv2d(3, 8, 1), relu, nn.Conv2d(8, 8, 1), relu)
    assert len(attention_blocks(attnlib.add_attention(model, "se", "ReLU"))) == 1
    model(images()).sum().backward()
    relu = nn.ReLU(True)
    model = nn.Sequential(nn.Conv2d(3, 8, 1), relu, nn.Conv2d(8, 16, 1), relu)
    with pytest.raises(ValueError, match=r"1 runs several times, with \[8, 16\] channels"):
        attnlib.add_attention(model, "se", "ReLU")


def test_a_network_of_two_stages_takes_every_block(monkeypatch):
    """bam and nab stand in stages 1 to 3 by default."""
    monkeypatch.setitem(BACKBONES, "two", BACKBONES["resnet18"]._replace(stages=2))
    assert resolve_placement("bam", "two", None) == "stage"
    with pytest.raises(ValueError, match="has stages 12 there"):
        resolve_placement("bam", "two", "stage@123")


def test_a_block_that_replaces_takes_the_convolutions_place(monkeypatch):
    monkeypatch.setitem(ATTENTION, "other", Row(lambda c, k=3: nn.Conv2d(c, c, k, padding=k // 2),
                                                "a test", "replace"))
    with torch.device("meta"):
        model = attnlib.add_attention(torchvision.models.resnet50(), "other(k=5)")
        assert len(attention_blocks(model)) == 13                    # three conv2 have a stride
        assert model.layer1[0].conv2.kernel_size == (5, 5)
    model = attnlib.add_attention(small(), "other", "5")
    assert list(attention_blocks(model)) == ["5"] and model(images()).shape == (2, 10)
    with pytest.raises(ValueError, match="3 is no 3×3 convolution C -> C of stride 1"):
        attnlib.add_attention(small(), "other", "3")
    with pytest.raises(ValueError, match="zero_init"):
        attnlib.add_attention(small(), "other", "5", zero_init=True)


def test_what_replaces_a_convolution_takes_plain_ones_alone():
    for own in ({"groups": 4}, {"dilation": 2, "padding": 2}):
        model = nn.Sequential(nn.Conv2d(8, 8, 3, **{"padding": 1} | own))
        with pytest.raises(ValueError, match="0 is no 3×3 convolution C -> C of stride 1"):
            attnlib.add_attention(model, "sk", "0")


def test_a_users_class_with_a_name_of_ours_is_a_place_like_any_other():
    class Hybrid(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 3)

        def forward(self, x):
            return self.conv(x)
    model = attnlib.add_attention(nn.Sequential(Hybrid()), "se", "Conv2d")
    assert list(attention_blocks(model)) == ["0.conv.added_attention"]
    with pytest.raises(ValueError, match="no module of type or name 'Linear'"):     # has no gate
        attnlib.add_attention(nn.Sequential(SelfAttention(8), nn.Conv2d(3, 8, 3)), "se", "Linear")


def test_a_network_may_freeze_its_norms_in_a_train_that_returns_nothing():
    class Frozen(nn.Sequential):
        def train(self, mode=True):
            super().train(mode)
            self[1].eval()
    model = Frozen(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    model.train()
    attnlib.add_attention(model, "se", "Conv2d")
    assert model.training and not model[1].training and model[0].training


# --- What must not change ---


def test_the_dry_run_leaves_model_and_random_state_alone():
    model = small().train()
    model[1].eval()
    model.register_forward_hook(lambda *_: torch.rand(1) and None)         # draws a number
    before = copy.deepcopy(model.state_dict())
    state, modes = torch.get_rng_state(), [m.training for m in model.modules()]
    attnlib.add_attention(model, "none", "Conv2d")      # adds nothing but is checked like a block
    assert [m.training for m in model.modules()] == modes
    with pytest.raises(ValueError, match="where"):
        attnlib.add_attention(model, "none")
    attnlib.add_attention(model, "cbam", "0")
    attnlib.add_attention(model, "cbam", "1")
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in before.items())
    assert model[0].added_attention.training and not model[1].added_attention.training


def test_weights_come_from_seed_and_name():
    def weights(where, name="5", seed=0):
        torch.manual_seed(seed + 5)
        model = attnlib.add_attention(small(), "cbam", where, seed=seed)
        return model.state_dict()[f"{name}.added_attention.channel.mlp.0.weight"]
    assert torch.equal(weights("5"), weights("Conv2d"))           # other sites do not matter
    assert not torch.equal(weights("5"), weights("5", seed=1))
    assert not torch.equal(weights("5"), weights("4", "4"))


@pytest.mark.parametrize(("block", "zero_init"), [("cbam", True), ("se", False)])
def test_copies_and_files_carry_the_blocks(block, zero_init):
    model = attnlib.add_attention(small(), block, "[05]", zero_init=zero_init).eval()
    if zero_init:
        for m in attention_blocks(model).values():
            nn.init.constant_(m.t, 0.5)
    x, file = images(), io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    loaded = attnlib.add_attention(small(), block, "[05]", zero_init=zero_init, seed=1).eval()
    loaded.load_state_dict(torch.load(file, weights_only=True))
    twin, pickled = copy.deepcopy(model), pickle.loads(pickle.dumps(model))
    for other in (loaded, twin, pickled):
        assert torch.equal(other(x), model(x))
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), model(x))
    with torch.no_grad():
        before = model(x)
        for p in attention_blocks(twin)["0.added_attention"].parameters():
            p.normal_()
    assert torch.equal(model(x), before) and not torch.equal(twin(x), before)


@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16])
def test_blocks_follow_the_models_type(kind):
    model = attnlib.add_attention(small().to(kind).eval(), "cbam", "Conv2d", zero_init=True)
    assert {v.dtype for v in model.state_dict().values() if v.is_floating_point()} == {kind}
    assert model(images().to(kind)).dtype == kind


# --- Errors, after which the model is as it was ---


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x):
        return x, self.conv(x)


class Odd(nn.Module):
    """Has a part that returns two maps, and a layer that never runs."""

    def __init__(self):
        super().__init__()
        self.list, self.never, self.fc = Pair(), nn.Conv2d(3, 3, 1), nn.Linear(3, 2)

    def forward(self, x):
        return self.fc(self.list(x)[1].mean((2, 3)))


@pytest.mark.parametrize(("where", "says"), [
    (None, r"where=None knows no place in Odd.*Conv2d ×2, Pair ×1, Linear ×1.*'list\.\*'"),
    ("Conv3d", "no module of type or name 'Conv3d'.*Conv2d ×2"),
    ("conv?.*", "no module of type or name"), (nn.Conv3d, "no module of type Conv3d.*Conv2d ×2"),
    (7, "where=7 should be a module class"), ("Conv2d", "never run in the dry run: never"),
    ("Linear", r"not \[B, C, H, W\]: the output of fc \(\[1, 2\]\)"),
    ("list", r"not \[B, C, H, W\]: the output of list \(no tensor\)"),
])
def test_what_is_refused_is_named_and_undone(where, says):
    model = Odd()
    keys = model.state_dict().keys()
    with pytest.raises(ValueError, match=says):
        attnlib.add_attention(model, "se", where)
    assert model.state_dict().keys() == keys
    assert not any(m._forward_hooks for m in model.modules())


def test_a_container_that_a_block_breaks_is_named_and_undone():
    class Looped(nn.Module):
        def __init__(self):
            super().__init__()
            self.parts = Parts(nn.Conv2d(3, 3, 1))

        def forward(self, x):
            self.parts(x)
            return [part(x) for part in self.parts][0]

    class Parts(nn.Sequential):
        def forward(self, x):
            return self[0](x)
    model = Looped()
    with pytest.raises(ValueError, match="no block can be put after parts: .*not iterable"):
        attnlib.add_attention(model, "se", "parts")
    assert type(model.parts) is Parts and not attention_blocks(model)


# --- What others do with the network afterwards ---


def frozen(model: nn.Module) -> nn.Module:
    """Its norms as detection networks have them, exchanged by name."""
    for name, norm in list(model.named_modules()):
        if isinstance(norm, nn.BatchNorm2d):
            model.set_submodule(name, torchvision.ops.FrozenBatchNorm2d(norm.num_features))
            model.get_submodule(name).load_state_dict(norm.state_dict())
    return model


@pytest.mark.parametrize(("exchange", "block", "zero_init"), [
    (nn.SyncBatchNorm.convert_sync_batchnorm, "se", False), (frozen, "se", False),
    (nn.SyncBatchNorm.convert_sync_batchnorm, "cbam", True), (frozen, "hybrid", True)])
def test_blocks_stay_where_norms_are_exchanged(exchange, block, zero_init):
    model = attnlib.add_attention(theirs("resnet18").eval(), block, zero_init=zero_init)
    for block in attention_blocks(model).values():
        nn.init.constant_(getattr(block, "t", torch.empty(0)), 0.5)
    wanted, state, ran = model(images()), model.state_dict(), []
    model = exchange(model).eval()
    for block in attention_blocks(model).values():
        block.register_forward_hook(lambda *_: ran.append(1))
    torch.testing.assert_close(model(images()), wanted)
    assert len(ran) == 8
    assert {k for k in state if "num_batches" not in k} <= model.state_dict().keys()


def test_a_norm_with_a_block_behind_it_is_not_merged_away():
    from torch.nn.utils.fusion import fuse_conv_bn_eval
    model = attnlib.add_attention(theirs("resnet18").eval(), "se")
    block, x = model.layer1[0], images()
    wanted = model(x)
    with pytest.raises(AttributeError, match="a block follows this norm.*host"):
        fuse_conv_bn_eval(block.conv2, block.bn2)
    block.conv2, block.bn2.host = fuse_conv_bn_eval(block.conv2, block.bn2.host), nn.Identity()
    torch.testing.assert_close(model(x), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("block", ["se", "cbam", "hybrid"])
@torch.no_grad()
def test_a_traced_a_fused_and_a_cut_network_have_the_blocks(block):
    from torch.fx.experimental.optimization import fuse
    from torchvision.models.feature_extraction import create_feature_extractor
    model, x = attnlib.add_attention(theirs("resnet18").eval(), block), images()
    wanted = model(x)
    cut = create_feature_extractor(model, {"fc": "out"})
    for other in (torch.fx.symbolic_trace(model), fuse(model), lambda x: cut(x)["out"]):
        torch.testing.assert_close(other(x), wanted, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(original("resnet18").eval()(x), wanted, rtol=0.1)


def test_what_is_set_on_a_place_is_set_on_what_stands_there():
    model = attnlib.add_attention(small(), "se", "[01]")
    model[0].stride, model[1].momentum, model[1].mine = (2, 2), 0.5, 7
    model[1].weight = nn.Parameter(torch.zeros(8))
    conv, norm = model[0].host, model[1].host
    assert (conv.stride, norm.momentum, hasattr(norm, "mine")) == ((2, 2), 0.5, False)
    assert norm.weight is model[1].weight and model[1].mine == 7
    assert model[:2](images()).shape == (2, 8, 32, 32)


@pytest.mark.filterwarnings("ignore::FutureWarning")           # TorchScript is deprecated
@pytest.mark.parametrize("how", [torch.compile, torch.jit.script,
                                 lambda model: torch.jit.trace(model.eval(), images())])
def test_a_compiled_model_is_refused_with_what_to_do(how):
    with pytest.raises(ValueError, match=r"compiled.*add_attention\(model\) first"):
        attnlib.add_attention(how(small()), "se", "0")


@pytest.mark.parametrize(("where", "name"), [("LayerNorm", "features.1.0.block.2"),
                                             ("features.?.?.block.5", "features.1.0.block.5")])
def test_channels_that_come_last_are_told_by_a_second_size(where, name):
    for example in (None, torch.zeros(2, 3, 96, 96)):
        with torch.device("meta"), pytest.raises(ValueError, match=f"B, C, H, W.*{name}.*grows"):
            attnlib.add_attention(torchvision.models.convnext_tiny(), "se", where, example=example)


def test_the_branch_of_a_block_with_its_norms_first_ends_in_its_convolution():
    class BasicBlock(nn.Module):
        def __init__(self):
            super().__init__()
            self.bn2, self.conv2 = nn.BatchNorm2d(3), nn.Conv2d(3, 3, 3, padding=1)
            self.downsample = nn.Conv2d(3, 3, 1)

        def forward(self, x):
            return self.downsample(x) + self.conv2(self.bn2(x))
    model = attnlib.add_attention(nn.Sequential(BasicBlock()), "se")
    assert list(attention_blocks(model)) == ["0.conv2.added_attention"]


def test_a_second_block_at_one_place_is_refused():
    model = attnlib.add_attention(small(), "se", "0")
    with pytest.raises(ValueError, match="0 has SE added already"):
        attnlib.add_attention(model, "cbam", "Conv2d")
    attnlib.add_attention(model, "cbam", "5")
    assert len(attention_blocks(model)) == 2


@pytest.mark.parametrize("network", [torchvision.models.resnet18, torchvision.models.resnet50])
def test_a_cell_that_runs_twice_is_refused_and_adds_nothing(network):
    with torch.device("meta"):
        model = network()
    model = attnlib.add_attention(model.to_empty(device="cpu"), "se", zero_init=True)
    before = list(attention_blocks(model))
    with pytest.raises(ValueError, match="FromIdentity added already: take a fresh model"):
        attnlib.add_attention(model, "cbam")
    assert list(attention_blocks(model)) == before


@pytest.mark.parametrize("model", ["resnet18", torchvision.models.resnet18])
def test_what_is_no_network_is_named(model):
    with pytest.raises(ValueError, match="an nn.Module; this is .*resnet18"):
        attnlib.add_attention(model, "se")


def test_an_example_stands_in_for_colour_images_of_64_pixels():
    grey = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU())
    with pytest.raises(ValueError, match=r"the dry run on \[1, 3, 64, 64\] failed.*example="):
        attnlib.add_attention(grey, "se", "Conv2d")
    assert not any(m._forward_hooks for m in grey.modules()) and grey.training
    for example in (torch.zeros(2, 1, 28, 28), (torch.zeros(2, 1, 28, 28),)):
        assert attention_blocks(attnlib.add_attention(copy.deepcopy(grey), "se", "Conv2d",
                                                      example=example))


# --- The README's recipe ---


def test_the_readmes_recipe_runs_and_trains(monkeypatch):
    text = (REPO / "README.md").read_text(encoding="utf-8")
    section = text.split("## A block in your own network")[1].split("\n## ")[0]
    code = re.search(r"```python\n(.*?)```", section, re.DOTALL)[1]
    assert len(code.strip().splitlines()) == 4
    monkeypatch.setattr(torchvision.models, "resnet50", functools.partial(
        lambda make, weights: make(num_classes=10), torchvision.models.resnet50))  # no download
    names = {}
    torch.manual_seed(0)
    exec(code, names)
    model, optimiser = names["model"], names["optimiser"]
    assert len(attention_blocks(model)) == 16
    losses = []
    for _ in range(4):
        losses.append(loss_of(model, 4))
        optimiser.zero_grad()
        losses[-1].backward()
        optimiser.step()
    assert losses[-1] < losses[0]
    assert all(m.t != 0 for m in attention_blocks(model).values())

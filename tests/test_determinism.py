"""ATTNLIB_DETERMINISTIC=1, and operations that have no deterministic form on a GPU."""
import math
import os
import re

import pytest
import torch
from helpers import same_tensors, tiny, weights
from torch.utils._python_dispatch import TorchDispatchMode

from attnlib.__main__ import parser
from attnlib.blocks import ATTENTION
from attnlib.networks import BACKBONES
from attnlib.networks.build import build_model
from attnlib.training.environment import determinism
from attnlib.training.trainer import train

# What raises on CUDA under torch.use_deterministic_algorithms(True), by PyTorch's documentation:
# as the operators that a training step dispatches.
FORBIDDEN = re.compile(
    r"aten::(_?adaptive_avg_pool[23]d_backward|adaptive_max_pool[23]d_backward"
    r"|avg_pool3d_backward|max_pool3d_with_indices_backward|fractional_max_pool[23]d_backward"
    r"|max_unpool[23]d"
    r"|upsample_(linear1d|bilinear2d|bicubic2d|trilinear3d).*_backward"
    r"|reflection_pad[123]d_backward|replication_pad[123]d_backward"
    r"|grid_sampler_[23]d_backward|grid_sampler_2d_backward|nll_loss2d.*|_ctc_loss_backward"
    r"|_embedding_bag.*backward|put_?|histc|bincount|kthvalue|median|nanmedian"
    r"|scatter_reduce.*|resize_?|cumsum)(\.|$)")
# On the meta device a block does what it does on CUDA; these add up in any order there.
UNSTEADY = ("index_add", "index_put", "index_select", "scatter_add", "gather", "cumsum", "adaptive",
            "replication_pad", "reflection_pad", "upsample", "max_pool", "put_", "bincount")


class Seen(TorchDispatchMode):
    """The names of the operators that are called, backward ones too."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func.name())
        return func(*args, **(kwargs or {}))


def step(model, size: int = 32) -> set[str]:
    """The operators of one training step on two images, under the strictest mode."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        with Seen() as seen:
            x = torch.randn(2, 3, size, size)
            loss = torch.nn.functional.cross_entropy(model.train()(x), torch.tensor([1, 2]))
            loss.backward()
    finally:
        torch.use_deterministic_algorithms(before)
    assert math.isfinite(loss.item())
    return seen.names


@pytest.mark.parametrize("name", ATTENTION)
def test_no_block_uses_what_has_no_deterministic_form(name):
    x = torch.randn(2, 16, 9, 8, device="meta", requires_grad=True)
    with Seen() as seen:
        ATTENTION[name].make(16).to("meta")(x).sum().backward()
    assert any("backward" in o or "expand" in o for o in seen.names)
    assert not [o for o in seen.names if FORBIDDEN.match(o) or any(u in o for u in UNSTEADY)]


@pytest.mark.parametrize("backbone", BACKBONES)
def test_no_network_uses_what_has_no_deterministic_form(backbone):
    assert not [n for n in step(build_model(backbone, width=1 / 8)) if FORBIDDEN.match(n)]


@pytest.mark.parametrize("layer", [torch.nn.AdaptiveAvgPool2d(4), torch.nn.AdaptiveMaxPool2d(4),
                                   torch.nn.ReflectionPad2d(1), torch.nn.Upsample(
                                       scale_factor=2, mode="bilinear")])
def test_the_check_finds_what_is_forbidden(layer):
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 3, 3), layer, torch.nn.Flatten(),
                                torch.nn.LazyLinear(10))
    assert [name for name in step(model) if FORBIDDEN.match(name)]


@pytest.mark.parametrize("before", [False, True])
def test_with_the_switch_it_holds_while_training_and_no_longer(monkeypatch, before):
    monkeypatch.setenv("ATTNLIB_DETERMINISTIC", "1")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    torch.use_deterministic_algorithms(before)
    try:
        with determinism():
            assert torch.are_deterministic_algorithms_enabled()
            assert not torch.backends.cudnn.benchmark
            assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
        assert torch.are_deterministic_algorithms_enabled() == before
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("recipe", ["P0", "strong+cutmix", "swift"])
def test_it_trains_so_and_the_record_says_it(monkeypatch, recipe):
    run = tiny(recipe=recipe, attention="cbam")
    assert train(run, "one")["env"]["deterministic"] is False
    monkeypatch.setenv("ATTNLIB_DETERMINISTIC", "1")
    assert train(run, "other")["env"]["deterministic"] is True
    assert same_tensors(weights(run, "one"), weights(run, "other"))
    monkeypatch.setenv("ATTNLIB_DETERMINISTIC", "yes")
    with pytest.raises(ValueError, match="ATTNLIB_DETERMINISTIC='yes' should be 0 or 1"):
        train(run)


@pytest.mark.parametrize("command", [["train"], ["study", "se"], ["notebooks", "run"]])
def test_the_commands_take_the_switch(command):
    assert parser().parse_args([*command, "--deterministic"]).deterministic

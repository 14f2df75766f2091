"""What only a GPU can show; skipped where there is none."""
import copy

import pytest
import torch
from helpers import COMPUTING, comparable, same_tensors, stop_after, tiny, weights

from attnlib.blocks import ATTENTION
from attnlib.experiments import grid, planning
from attnlib.networks.build import build_model
from attnlib.settings import checkpoints_dir
from attnlib.training import together
from attnlib.training.environment import Machine
from attnlib.training.run import Run
from attnlib.training.together import train_together
from attnlib.training.trainer import train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
GPU = Machine("cuda", torch.bfloat16, True)


@pytest.fixture(autouse=True)
def on_the_gpu(monkeypatch, on_the_cpu):
    for module in (*COMPUTING, grid, planning, together):
        monkeypatch.setattr(module, "machine", lambda: GPU)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.mark.parametrize("name", ATTENTION)
def test_a_block_computes_the_same_on_the_gpu(name):
    """Outputs and the gradients of input and weights, float32 and channels_last."""
    torch.manual_seed(0)
    here = ATTENTION[name].make(16).eval()
    there = copy.deepcopy(here).cuda().to(memory_format=torch.channels_last)
    x = torch.randn(4, 16, 9, 8)
    results = []
    for block, device in ((here, "cpu"), (there, "cuda")):
        leaf = x.to(device, copy=True).requires_grad_()
        y = block(leaf)
        y.square().sum().backward()
        grads = {n: p.grad for n, p in block.named_parameters() if p.grad is not None}
        results.append({"y": y.detach(), "x": leaf.grad} | grads)
    assert results[0].keys() == results[1].keys()
    for key, expected in results[0].items():
        scale = expected.abs().max().clamp_min(1e-3)
        torch.testing.assert_close(results[1][key].cpu() / scale, expected / scale,
                                   rtol=1e-3, atol=1e-4, msg=lambda m, key=key: f"{key}: {m}")


@pytest.mark.parametrize("name", ATTENTION)
def test_a_step_of_training_is_deterministic(name, monkeypatch):
    """In bfloat16, in PyTorch's strictest mode: twice the same weights, bit for bit."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        first, second = (stepped(name) for _ in range(2))
    finally:
        torch.use_deterministic_algorithms(before)
    assert same_tensors(first, second)
    assert all(v.isfinite().all() for v in first.values())


def stepped(name: str) -> dict:
    model = build_model("resnet18", name, num_classes=10, in_channels=3, image_size=32,
                        width=0.125, placement="block@34" if name == "aa" else None, seed=0)
    model = model.cuda().to(memory_format=torch.channels_last).train()
    x = torch.randn(16, 3, 32, 32, generator=torch.Generator().manual_seed(1)).cuda()
    for _ in range(2):
        torch.manual_seed(2)
        with torch.autocast("cuda", torch.bfloat16):
            loss = model(x).float().logsumexp(1).mean()
        model.zero_grad()
        loss.backward()
        with torch.no_grad():
            for p in model.parameters():
                if p.grad is not None:
                    p -= 0.1 * p.grad
    return {k: v.cpu() for k, v in model.state_dict().items()}


def test_interrupted_and_resumed_it_ends_the_same(monkeypatch):
    monkeypatch.setenv("ATTNLIB_DETERMINISTIC", "1")
    run = tiny(epochs=3)
    whole = train(run, "smoke")
    assert whole["env"]["device"] == torch.cuda.get_device_name()
    assert whole["env"]["precision"] == "bfloat16"
    stop_after(run, 1)
    assert checkpoints_dir("own", run.id).exists()
    parts = train(run, "own")
    assert comparable(parts)["history"] == comparable(whole)["history"]
    assert same_tensors(weights(run, "smoke"), weights(run, "own"))


@pytest.mark.parametrize(("recipe", "lr"), [
    ("swift", 0.01), ("strong+cutmix", 0.01), ("P2", 0.001), ("plain", 0.001)])
def test_captured_and_side_by_side_it_trains_as_alone(recipe, lr):
    """The same losses, epoch by epoch, but for rounding, which Adam makes much of; images grow in
    ``swift``."""
    runs = [Run(backbone="resnet18", attention=a, seed=seed, recipe=recipe, width=0.25, epochs=4,
                n_train=1280, n_val=200, n_test=200, lr=lr)
            for a in ("none", "cbam", "hybrid") for seed in (0, 1)]
    train_together(runs, "smoke")
    for run in runs:
        side, alone = train(run, "smoke"), train(run, "own")
        assert side["env"]["together"] == len(runs)
        for a, b in zip(side["history"], alone["history"], strict=True):
            assert a["lr"] == pytest.approx(b["lr"])
            assert a["loss"] == pytest.approx(b["loss"], abs=0.03)
        assert abs(side["history"][0]["loss"] - alone["history"][0]["loss"]) < 0.01

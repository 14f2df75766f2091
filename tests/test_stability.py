"""Every block in every network starts in a way that trains, and what happens where it does not."""
import pytest
import torch
from torch.nn import functional as F

from attnlib.blocks import ATTENTION
from attnlib.networks.build import build_model

NETWORKS = ("resnet18", "resnet50", "resnet50_slim", "mobilenetv2", "squeezenet",
            "vgg16(dropout=0.0)", "vgg19(dropout=0.0)", "alexnet(dropout=0.0)",
            "cnn3(dropout=0.0)")
KINDS = ("resnet18", "mobilenetv2", "vgg16(dropout=0.0)", "squeezenet(norm=False)",
         "alexnet(norm=False,dropout=0.0)")     # every block in these, the headline's in all
BARE = ("vgg16(norm=False,dropout=0.0)", "vgg19(norm=False,dropout=0.0)",
        "alexnet(norm=False,dropout=0.0)", "squeezenet(norm=False)",
        "cnn3(norm=False,dropout=0.0)")
ENOUGH, MOST_STEPS = 0.92, 80         # the slowest took 16 on one processor, 59 on another


def ten_images() -> torch.Tensor:
    """One of each class: coarse patterns under noise, 28×28, one channel."""
    draw = torch.Generator().manual_seed(0)
    coarse = torch.randn(10, 1, 7, 7, generator=draw)
    return F.interpolate(coarse, scale_factor=4) + torch.randn(10, 1, 28, 28, generator=draw) / 2


def steps_to_learn(backbone: str, attention: str) -> int | None:
    """Adam steps at an eighth of the width until the loss on ten images has fallen by 8 %; None if
    `MOST_STEPS` are not enough."""
    model = build_model(backbone, attention, in_channels=1, image_size=28, width=1 / 8)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    x, y, first = ten_images(), torch.arange(10), None
    for step in range(MOST_STEPS + 1):
        loss = F.cross_entropy(model(x), y)
        first = first or loss.item()
        if loss.item() < ENOUGH * first:
            return step
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return None


PAIRS = [(b, a) for b in NETWORKS + BARE for a in ATTENTION
         if b in KINDS or a in ("none", "se", "cbam", "hybrid")]


@pytest.mark.parametrize(("backbone", "attention"), [
    (b, a) if n % 4 == 0 else pytest.param(b, a, marks=pytest.mark.slow)
    for n, (b, a) in enumerate(PAIRS)])                    # a fourth of them; all with -m slow
def test_blocks_learn_within_a_few_steps_in_every_network(backbone, attention):
    if ATTENTION[attention].placement == "replace" and not backbone.startswith(("resnet", "vgg")):
        with pytest.raises(ValueError, match="replaces a 3×3 convolution"):
            build_model(backbone, attention)
        return
    assert steps_to_learn(backbone, attention)


@pytest.mark.parametrize("attention", ["cbam", "hybrid"])
@pytest.mark.parametrize("backbone", ["squeezenet(norm=False)", "vgg16(norm=False,dropout=0.0)",
                                      "alexnet(norm=False,dropout=0.0)"])
def test_half_open_gates_without_norms_hold_learning_up(backbone, attention):
    """The papers' start stays selectable; the hybrid in SqueezeNet does not get going at all."""
    half = steps_to_learn(backbone, f"{attention}(gate_init=half)")
    assert half is None or half > 1.3 * steps_to_learn(backbone, attention)
    assert half or (backbone, attention) == ("squeezenet(norm=False)", "hybrid")


def test_what_half_open_gates_leave_of_an_image():
    def left(attention):
        model = build_model("alexnet(norm=False,dropout=0.0)", attention, width=1 / 2).eval()
        seen = []
        model.neck.register_forward_hook(lambda module, args, y: seen.append(y.std().item()))
        with torch.no_grad():
            model(torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
        return seen[0]
    alone = left("none")
    assert left("cbam(gate_init=half)") / alone == pytest.approx(2 ** -10, rel=0.5)
    assert left("hybrid(gate_init=half)") / alone == pytest.approx(2 ** -15, rel=0.5)
    assert left("hybrid") / alone > 0.1

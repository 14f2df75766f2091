"""Gates replaced at test time: what must change nothing, and what must change everything."""
import numpy as np
import pytest
import torch
from torch import nn

import attnlib
from attnlib.blocks import ATTENTION
from attnlib.explain import interventions
from attnlib.networks.cost import attention_blocks

NO_GATE = ("none", "gc", "aa", "sk", "mhsa")                    # they add, attend or mix
RNG = torch.Generator().manual_seed(3)


def small(attention: str, **own) -> nn.Module:
    """A narrow ResNet-18 whose every parameter has moved from its start, as training moves it."""
    model = attnlib.build_model("resnet18", attention, width=0.125, image_size=28, **own)
    with torch.no_grad():
        for p in model.parameters():
            p += 0.1 * torch.randn(p.shape, generator=RNG)
    return model.eval()


def images(n: int = 6) -> torch.Tensor:
    return torch.randn(n, 3, 28, 28, generator=RNG)


def table(found: dict) -> dict:
    """scope -> mode -> points lost"""
    out = {}
    for row in interventions.swap_rows(found):
        out.setdefault(row["scope"], {})[row["mode"]] = row["lost"]
    return out


@pytest.mark.parametrize("name", [n for n in ATTENTION if n not in NO_GATE])
def test_every_gated_block_is_found_and_its_own_gate_changes_nothing(name):
    model, x = small(name), images(3)
    usual, own = interventions.observed(model, x)
    assert own.keys() == interventions.gate_sites(model).keys()
    assert all(any(f"{s}.".startswith(f"{n}.") for s in own) for n in attention_blocks(model))
    with torch.no_grad():
        torch.testing.assert_close(usual, model(x.to(memory_format=torch.channels_last)))
    assert torch.equal(interventions.replaced(model, x, own), usual)
    if name != "layerscale":
        other = {site: gate.roll(1, 0) for site, gate in own.items()}
        assert not torch.allclose(interventions.replaced(model, x, other), usual)


def test_a_gate_that_feeds_another_is_no_site_and_without_a_gate_nothing_is_replaced():
    for name, sites in {"se": 1, "cbam": 2, "hybrid": 3, "new": 1, "hybrid_sum": 3, "hybrid_par": 1,
                        "triplet": 1, **dict.fromkeys(NO_GATE, 0)}.items():
        assert len(interventions.gate_sites(small(name))) == 8 * sites, name
        if not sites:
            assert interventions.measure_swaps(small(name), images(2), [0, 1]) == {}


def test_a_gate_that_is_the_same_for_every_image_is_worth_nothing():
    """Layerscale's, and SE's with an MLP of zeros: to the bit, under the mean and another's."""
    still = small("se")
    for name, p in still.named_parameters():
        if "attention" in name:
            nn.init.zeros_(p)
    for model in (small("layerscale"), still):
        x = images(23)
        right = model(x).argmax(1).numpy()               # so that each change of a class is a loss
        for scope, modes in table(interventions.measure_swaps(model, x, right)).items():
            assert modes["mean"] == 0 and modes["other"] == 0, scope


class Decides(nn.Module):
    """A gate that opens one of ten channels, that of the image's brightness, 1 to 10."""

    def gate(self, x):
        return nn.functional.one_hot(x[:, 0, 0, 0].long() - 1, 10)[:, :, None, None].to(x.dtype)

    def forward(self, x):
        return x * self.gate(x)


def test_a_gate_that_decides_the_class_is_worth_all():
    """Logits are the means of ten channels behind `Decides`, which all bear the same brightness."""
    labels = np.arange(1000) % 10
    x = torch.tensor(labels + 1.0, dtype=torch.float32)[:, None, None, None].expand(-1, 10, 2, 2)
    model = nn.Sequential(Decides(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model[0].is_attention = True
    lost = table(interventions.measure_swaps(model, x, labels))
    assert list(lost) == ["all", "0"]
    for scope in lost:
        assert lost[scope]["other"] == 100
        assert lost[scope]["mean"] == 90 == lost[scope]["one"]      # one class for all is right


def test_pictures_are_of_the_last_gate_over_places_of_each_stage():
    model, x = small("cbam"), images(3)
    found, own = interventions.gate_pictures(model, x), interventions.observed(model, x)[1]
    assert list(found) == [f"gate_map_stage{k}" for k in (1, 2, 3, 4)]
    np.testing.assert_allclose(found["gate_map_stage3"],
                               own["stages.2.1.attention.spatial"][:, 0], atol=1e-3)
    assert interventions.gate_pictures(small("se"), x) == {}


def test_loss_is_what_replacing_by_hand_loses():
    model, x = small("cbam"), images(15)
    labels = model(x).argmax(1).detach().numpy()
    found = table(interventions.measure_swaps(model, x, labels))
    own = interventions.observed(model, x)[1]
    changed = interventions.replaced(model, x, {
        n: gate.mean(0, keepdim=True) for n, gate in own.items() if n.endswith("spatial")})
    assert found["spatial gates"]["mean"] == pytest.approx(
        100 * (changed.argmax(1).numpy() != labels).mean())
    assert list(found) == ["all", "stage1", "stage2", "stage3", "stage4", "channel gates",
                           "spatial gates"]


def test_no_image_is_alone_in_a_batch():
    for n, sizes in ((201, [101, 100]), (3, [3])):
        assert [len(part) for part in interventions.batches(torch.zeros(n))] == sizes

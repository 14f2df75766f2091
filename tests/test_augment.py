"""Augmentation: each function against its rule by hand or torchvision's own, and its statistics."""
import numpy as np
import pytest
import torch

from attnlib.data.augment import AUGMENTATIONS, FULL, OPERATIONS, operate
from attnlib.data.batches import Batches

B, SIDE, CLASSES = 64, 32, 10
FILL = torch.tensor([120.0, 110.0, 100.0])[:, None, None]
AMOUNT = {"randaugment": 9, "cutout": 16, "erasing": 0.5, "mixup": 0.5, "cutmix": 0.5}
SIGNED = OPERATIONS[1:10]                       # those that also go the other way
# What no random image holds, so that a filled pixel is told from one of the image.
UNIT = torch.zeros(3, 1, 1) - 1


def images(n: int = B, channels: int = 3, side: int = SIDE) -> torch.Tensor:
    rng = torch.Generator().manual_seed(n + channels)
    x = torch.randint(256, (n, channels, side, side), generator=rng).float()
    x[1] = torch.arange(float(side)).expand(channels, side, side) * 3 + 20     # of low contrast
    return x


def labels(n: int = B) -> torch.Tensor:
    return torch.eye(CLASSES)[torch.arange(n) % CLASSES]


def uniform(name: str, n: int = B, seed: int = 0) -> torch.Tensor:
    return torch.rand(n, AUGMENTATIONS[name].draws, generator=torch.Generator().manual_seed(seed))


def applied(name, amount=None, u=None, x=None, fill=FILL):
    x = images() if x is None else x
    u = uniform(name, len(x)) if u is None else u
    return AUGMENTATIONS[name].apply(x, labels(len(x)), u, amount or AMOUNT[name], fill)


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("channels", [1, 3])
def test_levels_stay_in_range_and_weights_sum_to_one(name, channels):
    x, y = applied(name, x=images(channels=channels), fill=FILL[:channels])
    assert x.shape == (B, channels, SIDE, SIDE) and x.dtype == torch.float32
    assert 0 <= x.min() and x.max() <= 255
    torch.testing.assert_close(y.sum(1), torch.ones(B))
    assert torch.equal(y, labels()) != AUGMENTATIONS[name].mixes
    u, whole = uniform(name), images()                  # alike in any batch; the input is left
    x, _ = applied(name, x=whole, u=u)
    some, _ = applied(name, x=whole[10:20], u=u[10:20])
    assert torch.equal(x[10:20], some) or AUGMENTATIONS[name].mixes
    assert torch.equal(whole, images())


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_nothing_reads_a_value_back(name):
    """Tensors without values refuse `.item()`, masks as an index and the like: what would make the
    host wait for the device."""
    x, y, u = (t.to("meta") for t in (images(8), labels(8), uniform(name, 8)))
    x, y = AUGMENTATIONS[name].apply(x, y, u, AMOUNT[name], FILL.to("meta"))
    assert x.shape == (8, 3, SIDE, SIDE) and y.shape == (8, CLASSES)


def filled(name, amount, n=4000, side=16) -> torch.Tensor:
    """Which pixels [n, side, side] were filled."""
    x, _ = applied(name, amount, uniform(name, n), images(n, 1, side), UNIT[:1])
    return x[:, 0] == -1


def is_rectangle(mask: torch.Tensor) -> bool:
    rows, columns = mask.any(1), mask.any(0)
    return torch.equal(mask, rows[:, None] & columns[None])


def test_cutout_is_a_square_about_any_pixel_cut_at_the_edge():
    """A pixel is filled by the centres that reach it: fewer near an edge."""
    squares = filled("cutout", 4)
    assert all(is_rectangle(square) for square in squares[:50])
    share = squares.float().mean(0)
    reach = torch.tensor([sum(c - 2 <= i < c + 2 for c in range(16)) / 16 for i in range(16)])
    assert (share - reach[:, None] * reach).abs().max() < 0.03


def test_erasing_takes_its_share_of_images_and_of_area():
    masks = filled("erasing", 0.3)
    hit = masks.any((1, 2))
    assert abs(hit.float().mean() - 0.3) < 0.03
    area = masks[hit].float().mean((1, 2))
    assert area.min() > 0 and area.max() < 0.45 and abs(area.mean() - 0.21) < 0.02
    aspect = (masks[hit].any(2).sum(1) / masks[hit].any(1).sum(1)).log()
    assert abs(aspect.mean()) < 0.05 and aspect.abs().max() < 2.5
    assert all(is_rectangle(mask) for mask in masks[hit][:50])
    assert masks.any(0).all()                                               # at any place


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_labels_weigh_as_the_images_do(name):
    """Images of one level each: their mean tells how much of the partner is in them."""
    levels = torch.arange(float(B)) * 4
    x, y = applied(name, 1.0, x=levels[:, None, None, None].expand(B, 3, SIDE, SIDE))
    before = levels.roll(1)
    other = (x.mean((1, 2, 3)) - levels) / (before - levels)
    wanted = labels() * (1 - other[:, None]) + labels().roll(1, 0) * other[:, None]
    torch.testing.assert_close(y, wanted, atol=1e-4, rtol=0)
    assert 0 < other.min() + 1e-6 and other.max() <= 1 and other.std() > 0.1
    if name == "mixup":
        assert (other.quantile(torch.tensor([0.25, 0.5, 0.75]))
                - torch.tensor([0.25, 0.5, 0.75])).abs().max() < 0.12         # uniform
    x = images(2000, 1, 8)                                   # a share is mixed, the rest is not
    mixed, y = applied(name, 0.3, x=x)
    same = (mixed == x).all((1, 2, 3))
    assert abs((~same).float().mean() - 0.3) < 0.06          # a small cutmix may paste nothing
    assert torch.equal(y[same], labels(2000)[same])


def one_operation(name: str, strength: float, x=None) -> torch.Tensor:
    x = images(8) if x is None else x
    of_all = torch.full((len(x),), OPERATIONS.index(name))
    return operate(x, of_all, torch.full((len(x),), strength), torch.zeros(x.shape[1], 1, 1))


@pytest.mark.parametrize("name", [n for n in OPERATIONS if n not in ("autocontrast", "equalize")])
def test_strength_zero_is_the_image_itself(name):
    assert torch.equal(one_operation(name, 0.0, images(8)), images(8))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_are_torchvisions(name, channels):
    """Its own dispatcher on one image at a time. Both truncate, so that where a mixture is a whole
    number a rounding error is a level; and it counts a solarised level from 255 on."""
    pytest.importorskip("torchvision")
    from torchvision.transforms import InterpolationMode, RandAugment
    from torchvision.transforms.autoaugment import _apply_op
    theirs = {"autocontrast": "AutoContrast", "equalize": "Equalize"}.get(
        name, "".join(word.capitalize() for word in name.split("_")))
    magnitudes, signed = RandAugment()._augmentation_space(FULL + 1, (SIDE, SIDE))[theirs]
    assert signed == (name in SIGNED)
    x = images(8, channels)
    for level in (3, 9, 30):
        for sign in (1, -1) if signed else (1,):
            magnitude = sign * float(magnitudes[level]) if magnitudes.ndim else 0.0
            wanted = torch.stack([_apply_op(image.byte(), theirs, magnitude,
                                            InterpolationMode.NEAREST, None) for image in x])
            off = (one_operation(name, sign * level / FULL, x) - wanted).abs()
            assert off.max() <= (name in ("color", "sharpness")) or name == "solarize"
            assert (off > 0).float().mean() < 0.1, (level, sign)


def test_what_moves_in_is_the_fill():
    x = torch.zeros(1, 3, SIDE, SIDE)
    for name in OPERATIONS[1:6]:
        out = operate(x, torch.tensor([OPERATIONS.index(name)]), torch.ones(1), FILL)
        assert {tuple(pixel) for pixel in out[0].flatten(1).T.tolist()} == {
            (0.0, 0.0, 0.0), (120.0, 110.0, 100.0)}, name


def test_randaugment_is_two_operations_drawn_alike():
    n = 4200
    x = torch.arange(256.0).repeat(4).reshape(1, 1, SIDE, SIDE).expand(n, 1, SIDE, SIDE)
    u = uniform("randaugment", n)
    out, _ = applied("randaugment", 9, u, x, FILL[:1])
    first, second = ((u[:, k] * len(OPERATIONS)).long() for k in (0, 2))
    counts = torch.bincount(first, minlength=len(OPERATIONS))
    assert counts.min() > 0.7 * n / len(OPERATIONS)
    twice_nothing = (first == 0) & (second == 0)
    assert twice_nothing.any() and torch.equal(out[twice_nothing], x[twice_nothing])
    by_hand = x[:20]
    for k, operation in ((1, first), (3, second)):
        sign = torch.where(u[:20, k] < 0.5, -1.0, 1.0)
        by_hand = operate(by_hand, operation[:20], sign * 0.3, FILL[:1])
    assert torch.equal(out[:20], by_hand)


SMALL = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), dtype=np.uint8)


def loader(**options) -> Batches:
    return Batches(SMALL, np.arange(40) % CLASSES, (0.5, 0.3, 0.4), (0.2, 0.25, 0.3),
                   **{"batch_size": 10, "crop": 2, "flip": True, "classes": CLASSES, **options})


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_an_epoch_is_a_function_of_seed_and_epoch(name):
    options = {"augment": {name: 4 if name == "cutout" else AMOUNT[name]}}
    first = list(loader(**options).epoch(3))
    batches = loader(**options)
    list(batches.epoch(2))
    for (x, y), (again, y_again) in zip(first, batches.epoch(3), strict=True):
        assert torch.equal(x, again) and torch.equal(y, y_again)
        assert x.is_contiguous(memory_format=torch.channels_last)
        assert y.shape == ((10, CLASSES) if AUGMENTATIONS[name].mixes else (10,))
    assert not torch.equal(first[0][0], next(loader(**options).epoch(4))[0])
    assert not torch.equal(first[0][0], next(loader(seed=1, **options).epoch(3))[0])


def test_an_augmentation_moves_no_other():
    """Order, crop and mirror, and what other augmentations draw, are as without it."""
    plain = [y for _, y in loader().epoch(0)]
    mixed = [y for _, y in loader(augment={"cutmix": 1e-9}).epoch(0)]
    assert all(torch.equal(a, b.argmax(1)) for a, b in zip(plain, mixed, strict=True))
    x, _ = next(loader(augment={"erasing": 1e-9, "cutout": 4}).epoch(0))
    y, _ = next(loader(augment={"cutout": 4}).epoch(0))
    torch.testing.assert_close(x, y)

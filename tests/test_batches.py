"""The loader: each batch against crops and mirrors cut by hand, one image at a time."""
import numpy as np
import pytest
import torch

from attnlib.data.batches import Batches, as_input, shrunk, side_at
from attnlib.data.datasets import load_dataset

N, SIDE, CROP = 40, 8, 2
MEAN, STD = (0.5, 0.3, 0.4), (0.2, 0.25, 0.3)
IMAGES = np.random.default_rng(0).integers(0, 256, (N, SIDE, SIDE, 3), dtype=np.uint8)
INDEX = np.arange(N)                               # labels that tell which image is which


def loader(n: int = N, **options) -> Batches:
    return Batches(IMAGES[:n], INDEX[:n], MEAN, STD, **{"batch_size": 10, **options})


def pixels(x: torch.Tensor) -> np.ndarray:
    """uint8 [B, H, W, C] of a normalised batch."""
    x = x.permute(0, 2, 3, 1).numpy() * np.array(STD) + np.array(MEAN)
    return (255 * x).round().astype(np.uint8)


def views(image: np.ndarray) -> dict[bytes, tuple[int, int, bool]]:
    """Every crop of the padded image, mirrored or not, and how it was cut."""
    colour = np.round(255 * np.array(MEAN, np.float32)).astype(np.uint8)
    padded = np.tile(colour, (SIDE + 2 * CROP, SIDE + 2 * CROP, 1))
    padded[CROP:-CROP, CROP:-CROP] = image
    out = {}
    for down, right in np.ndindex(2 * CROP + 1, 2 * CROP + 1):
        cut = padded[down:down + SIDE, right:right + SIDE]
        out |= {cut.tobytes(): (down, right, False), cut[:, ::-1].tobytes(): (down, right, True)}
    return out


VIEWS = [views(image) for image in IMAGES]


def cuts(batches: Batches, epoch: int) -> dict[int, tuple[int, int, bool]]:
    """How each image of an epoch was cut; a KeyError where it is no view of its image."""
    return {int(k): VIEWS[k][image.tobytes()] for x, y in batches.epoch(epoch)
            for image, k in zip(pixels(x), y.tolist(), strict=True)}


def order(batches: Batches, epoch: int) -> list[int]:
    return [int(k) for _, y in batches.epoch(epoch) for k in y]


def test_crops_and_mirrors_are_uniform():
    """And of the image itself: any other is a KeyError."""
    batches = loader(crop=CROP, flip=True)
    seen = [cut for epoch in range(25) for cut in cuts(batches, epoch).values()]     # 1,000
    downs, rights, mirrors = map(np.array, zip(*seen, strict=True))
    for offsets in (downs, rights):
        assert (abs(np.bincount(offsets, minlength=5) / len(seen) - 0.2) < 0.05).all()
    assert abs(mirrors.mean() - 0.5) < 0.06
    for a, b in ((downs, rights), (downs, mirrors), (rights, mirrors)):
        assert abs(np.corrcoef(a, b)[0, 1]) < 0.12


def test_order_depends_on_seed_and_epoch_and_on_nothing_else():
    first = order(loader(seed=1), 5)
    torch.manual_seed(99)
    before = torch.get_rng_state()
    assert order(loader(seed=1, crop=CROP, flip=True, batch_size=8), 5) == first
    assert order(loader(seed=1), 6) != first and order(loader(seed=2), 5) != first
    batches = loader(seed=1)
    order(batches, 4)
    assert order(batches, 5) == first, "an epoch depends on the one before it"
    assert torch.equal(torch.get_rng_state(), before), "the global state is left alone"


def test_an_image_is_cut_alike_in_any_batch():
    one, other = (loader(crop=CROP, flip=True, batch_size=size) for size in (8, 20))
    assert cuts(one, 2) == cuts(other, 2) != cuts(one, 3)


@pytest.mark.parametrize(("n", "batch_size", "sizes"), [
    (40, 10, [10, 10, 10, 10]), (39, 10, [10, 10, 10]), (7, 10, [7])])
def test_a_last_short_batch_is_left_out(n, batch_size, sizes):
    batches = loader(n, batch_size=batch_size)
    assert [len(y) for _, y in batches.epoch(0)] == sizes and len(batches) == len(sizes)


def test_ordered_gives_the_images_normalised_in_their_order():
    parts = list(loader(crop=CROP, flip=True).ordered(batch_size=15))
    assert [len(y) for _, y in parts] == [15, 15, 10]
    x, y = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    assert x.dtype == torch.float32 and y.dtype == torch.int64 and np.array_equal(y, INDEX)
    wanted = (IMAGES / 255 - np.array(MEAN)) / np.array(STD)
    np.testing.assert_allclose(x.permute(0, 2, 3, 1), wanted, atol=1e-5)


def test_large_images_are_evaluated_few_at_once():
    """500 of 64 × 64 pixels take some GiB of memory; 500 of 224 × 224 take twelve times it."""
    most = {side: Batches(np.zeros((2, side, side, 3), np.uint8), np.zeros(2, np.int64), MEAN,
                          STD).most() for side in (32, 64, 224)}
    assert most == {32: 2000, 64: 500, 224: 40}
    with pytest.raises(ValueError, match=r"\[N, H, W, 3\], not uint8 \[32, 32, 3\]"):
        as_input(np.zeros((32, 32, 3), np.uint8), load_dataset("shapetex", sizes={"test": 1}))


def test_grey_images():
    batches = Batches(IMAGES[..., :1], INDEX, (0.5,), (0.2,), crop=CROP, flip=True, batch_size=10)
    x, _ = next(batches.epoch(0))
    assert x.shape == (10, 1, SIDE, SIDE)
    np.testing.assert_array_equal(next(batches.ordered(5))[0][:, 0],
                                  (torch.tensor(IMAGES[:5, :, :, 0]) - 127.5) * (1 / 51))


def test_with_alternate_each_image_is_mirrored_in_every_second_epoch():
    batches = loader(crop=CROP, flip=True, alternate=True)
    mirrored = [{k: cut[2] for k, cut in cuts(batches, epoch).items()} for epoch in range(4)]
    assert mirrored[0] == mirrored[2] != mirrored[1] == mirrored[3]
    assert all(mirrored[0][k] != mirrored[1][k] for k in mirrored[0])
    assert 10 <= sum(mirrored[0].values()) <= 30                       # of 40: half, by chance
    other = loader(crop=CROP, flip=True)
    assert order(batches, 3) == order(other, 3), "order and crops are as without it"
    assert {k: c[:2] for k, c in cuts(batches, 3).items()} == {
        k: c[:2] for k, c in cuts(other, 3).items()}


def test_a_shrunk_image_is_the_weighed_mean_of_its_pixels():
    x = torch.rand(2, 3, 8, 8)
    half = shrunk(x, 4)
    weights = torch.tensor([1, 3, 3, 1]) / 8           # a triangle of twice the pixel's width
    inner = (slice(1, 5), slice(3, 7))                 # of the second and third pixel
    rows = torch.stack([(x[:, :, s] * weights[:, None]).sum(2) for s in inner], 2)
    by_hand = torch.stack([(rows[..., s] * weights).sum(-1) for s in inner], 3)
    assert torch.allclose(half[:, :, 1:3, 1:3], by_hand, atol=1e-6)


@pytest.mark.parametrize(("full", "epochs"), [(32, 13), (28, 13), (33, 13), (29, 13), (32, 1)])
def test_images_grow_to_full_size_and_no_map_gets_too_small(full, epochs):
    sides = [side_at(epoch, epochs, full, 0.6) for epoch in range(epochs)]
    assert sides == sorted(sides) and sides[0] == 2 * round(0.6 * full / 2)
    assert epochs < 4 or sides[-1] == full
    assert sides[0] >= 16                               # three halvings leave 2 at least
    assert {side_at(epoch, epochs, full, 0.0) for epoch in range(epochs)} == {full}


def test_an_epoch_comes_at_the_size_that_was_asked_for():
    batches = loader()
    assert {x.shape[2:] for x, _ in batches.epoch(0, 6)} == {(6, 6)}
    full = next(batches.epoch(0, SIDE))[0]
    assert torch.equal(full, next(batches.epoch(0))[0])
    assert torch.allclose(next(batches.epoch(0, 6))[0], shrunk(full, 6))

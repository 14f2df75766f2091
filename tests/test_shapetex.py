"""ShapeTex-32: what its users rely on, stated as tests."""
import hashlib

import numpy as np
import pytest

from attnlib.data.shapetex import INTERVENTIONS, SPLITS, ShapeTex, make_shapetex

OPTIONS = {"rho": 0.95, "distractors": 5, "contrast": 0.1, "clutter": 2.0, "label": "bg"}


@pytest.fixture(scope="module")
def base() -> ShapeTex:
    return make_shapetex(300)


def same(a: ShapeTex, b: ShapeTex) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def grow(mask: np.ndarray, pixels: int, outside: bool = False) -> np.ndarray:
    """Every pixel within a square of that radius; `outside` is the mask beyond the border."""
    side = mask.shape[1]
    margins = ((0, 0), (pixels, pixels), (pixels, pixels))
    wide = np.pad(mask, margins, constant_values=outside)
    shifts = range(2 * pixels + 1)
    return np.any([wide[:, i : i + side, j : j + side] for i in shifts for j in shifts], axis=0)


@pytest.mark.parametrize(("option", "listed"), [
    ({"split": "dev"}, list(SPLITS)),
    ({"intervene": ("remove_object", "no_noise")}, list(INTERVENTIONS)),
    ({"n": 2.5}, ["n must", "integer"]), ({"rho": float("nan")}, ["rho must", "0..1"]),
    ({"contrast": "high"}, ["contrast must", "0..1"]),
    ({"distractors": 7}, ["distractors must", "0..6"])])
def test_errors_are_one_line_and_list_the_choices(option, listed):
    with pytest.raises(ValueError) as error:
        make_shapetex(**{"n": 5} | option)
    text = str(error.value)
    assert "\n" not in text
    for word in [next(iter(option)), *listed]:
        assert word in text


def test_known_data():
    """The data set is the one that published numbers were measured on.

    Labels and styles are exact integer functions of the random stream, so they are hashed. Pixels
    are not: sin and cos may differ in the last bit between CPUs and turn over a rounding, hence
    coarse statistics with a tolerance far below what any change of the generator would cause.
    """
    digest = hashlib.sha256()
    for split in SPLITS:
        d = make_shapetex(100, split=split, rho=0.5)
        digest.update(np.stack([d.labels, d.background]).astype(np.uint8).tobytes())
    assert digest.hexdigest() == "29deeb2a3d10aa2906e793a88022781a6a4e2bd6a2ec89351039fd0904209373"
    d = make_shapetex(100)
    assert d.images.mean(axis=(0, 1, 2)) == pytest.approx([129.88, 125.98, 126.23], abs=0.01)
    assert d.images.std() == pytest.approx(46.04, abs=0.01)
    assert d.mask.sum() == pytest.approx(12382, abs=3)
    assert d.distractor_mask.sum() == pytest.approx(6307, abs=3)
    where = [np.argwhere(mask).mean(axis=0) for mask in d.mask[:3]]
    assert np.allclose(where, [[11.69, 19.75], [11.33, 20.06], [11.05, 7.6]], atol=0.05)


def test_same_call_same_data_other_split_other_data(base):
    assert same(base, make_shapetex(300))
    assert base.images.dtype == np.uint8 and base.labels.dtype == base.background.dtype == np.int64
    other = make_shapetex(300, split="val")
    assert not np.array_equal(base.labels, other.labels)
    assert (base.images == other.images).mean() < 0.05


def test_a_smaller_set_is_a_prefix_of_a_larger_one():
    options = {"distractors": 4, "rho": 0.5}
    large = make_shapetex(1003, **options)
    for k in (1, 7, 133, 1001):
        assert same(make_shapetex(k, **options), ShapeTex(*(field[:k] for field in large)))


def test_chunks_differ_and_each_is_balanced():
    d = make_shapetex(1200, distractors=0)
    assert not np.array_equal(d.labels[:200], d.labels[1000:])
    assert not np.array_equal(d.mask[:200], d.mask[1000:])
    for part in (d.labels[:1000], d.labels[1000:], d.labels[:50]):
        assert len(set(np.bincount(part, minlength=10))) == 1


@pytest.mark.parametrize("option", OPTIONS)
def test_objects_stay_when_an_option_changes(base, option):
    d = make_shapetex(300, **{option: OPTIONS[option]})
    assert np.array_equal(d.mask, base.mask)
    if option != "distractors":
        assert np.array_equal(d.distractor_mask, base.distractor_mask)
    if option != "rho":
        assert np.array_equal(d.background, base.background)
    assert np.array_equal(d.labels, base.background if option == "label" else base.labels)
    assert np.array_equal(d.images, base.images) == (option == "label")


def test_more_distractors_leave_the_first_where_they_are():
    sets = [make_shapetex(100, distractors=count) for count in range(7)]
    assert not sets[0].distractor_mask.any()
    for fewer, more in zip(sets, sets[1:], strict=False):
        assert not (fewer.distractor_mask & ~more.distractor_mask).any()
        assert more.distractor_mask.sum() > fewer.distractor_mask.sum()
        new = grow(more.distractor_mask & ~fewer.distractor_mask, 2)
        assert np.array_equal(fewer.images[~new], more.images[~new])


def test_style_follows_rho_and_split():
    def match(**options):
        d = make_shapetex(400, clutter=0, distractors=0, **options)
        return (d.background == d.labels).mean()
    for rho, expected in [(0.0, 0.1), (0.5, 0.55), (0.95, 0.955), (1.0, 1.0)]:
        assert match(rho=rho) == pytest.approx(expected, abs=0.05)
    assert match(rho=0.95, split="test") > 0.9
    assert match(rho=0.95, split="flip") == 0
    assert match(rho=0.95, split="uniform") == pytest.approx(0.1, abs=0.05)
    styles = make_shapetex(500, split="flip").background
    assert np.bincount(styles, minlength=10).min() > 25


def test_objects_are_equally_large_whatever_their_shape():
    d = make_shapetex(1000)
    area = d.mask.mean(axis=(1, 2))
    by_shape = np.array([area[d.labels % 5 == shape].mean() for shape in range(5)])
    assert area.mean() == pytest.approx(0.12, abs=0.005)
    assert abs(by_shape / area.mean() - 1).max() < 0.05
    assert area.min() > 0.05 and area.max() < 0.2
    stand_in = make_shapetex(1000, intervene="texture_only").mask.mean()
    assert stand_in == pytest.approx(area.mean(), rel=0.05)


@pytest.mark.parametrize("distractors", [1, 6])
def test_distractors_keep_clear_of_the_object(distractors):
    d = make_shapetex(500, distractors=distractors)
    assert not (grow(d.mask, 2) & d.distractor_mask).any()
    assert d.distractor_mask.any(axis=(1, 2)).mean() > 0.98
    d = make_shapetex(500, distractors=distractors, intervene="texture_only")
    assert not (d.mask & d.distractor_mask).any()


def test_interventions_compose():
    both = make_shapetex(300, intervene=("remove_object", "remove_distractors"))
    assert same(both, make_shapetex(300, intervene="remove_object", distractors=0))
    assert not both.mask.any() and not both.distractor_mask.any()


# The pixels that an intervention is to change, of the images before and after.
TOUCHES = {
    "remove_object": lambda a, b: a.mask,
    "remove_distractors": lambda a, b: a.distractor_mask,
    "shape_only": lambda a, b: a.mask,
    "texture_only": lambda a, b: a.mask | b.mask,
    "swap_background": lambda a, b: ~(a.mask | a.distractor_mask),
}


@pytest.mark.parametrize("name", INTERVENTIONS)
def test_an_intervention_leaves_the_rest_bit_identical(base, name):
    d = make_shapetex(300, intervene=name)
    core = TOUCHES[name](base, d)
    changed = (d.images != base.images).any(axis=-1)
    # Anti-aliased edges reach beyond a mask, at tips and corners by up to two pixels; the
    # background goes on outside of the image.
    assert not (changed & ~grow(core, 2, outside=name == "swap_background")).any()
    assert changed[core].mean() > 0.5
    assert np.array_equal(d.labels, base.labels)
    assert np.array_equal(d.background, base.background) == (name != "swap_background")


def test_what_each_intervention_does(base):
    inside = ~grow(~base.mask, 1)

    def spread(d):
        return np.mean([d.images[i][inside[i]].std(axis=0).mean() for i in range(100)])
    assert spread(make_shapetex(300, intervene="shape_only")) < 0.3 * spread(base)
    swapped = make_shapetex(300, intervene="swap_background")
    assert (swapped.background != base.background).all()
    assert set(swapped.background) == set(range(10))
    assert (make_shapetex(300, intervene="texture_only").mask != base.mask).any(axis=(1, 2)).all()


def probe(train: ShapeTex, test: ShapeTex, ridge: float = 300.0) -> float:
    """Test accuracy of ridge regression from all pixels to the one-hot class."""
    x, z = (d.images.reshape(len(d.images), -1).astype(np.float32) / 128 - 1 for d in (train, test))
    mean = x.mean(axis=0)
    x, z = x - mean, z - mean
    gram = x.T @ x
    gram[np.diag_indices_from(gram)] += ridge
    weights = np.linalg.solve(gram, x.T @ np.eye(10, dtype=np.float32)[train.labels])
    return ((z @ weights).argmax(axis=1) == test.labels).mean()


@pytest.mark.parametrize(("rho", "n", "low", "high"), [
    (0, 4000, 0.06, 0.16), (0.95, 2000, 0.25, 0.7)])
def test_pixels_are_linearly_useless_unless_the_background_tells(rho, n, low, high):
    accuracy = probe(make_shapetex(n, rho=rho), make_shapetex(1000, split="test", rho=rho))
    assert low < accuracy < high

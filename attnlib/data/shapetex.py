"""ShapeTex-32: a synthetic data set in which the cause of every label is known to the pixel.

One object of class ``shape + 5 * texture`` stands on a cluttered background, beside distractors
that carry a shape or a texture but never both. The class needs both cues of the one object, so its
mask is the complete answer to "where should a network look?". With ``rho`` > 0 the background's
style predicts the class, with ``label="bg"`` the style *is* the class, and INTERVENTIONS change one
cause at a time; all else stays bit-identical. Prior art: BAM 1907.09701, Waterbirds 1911.08731.

Images have 32 × 32 pixels; lengths are in pixels, grey levels in 0..1."""
from collections.abc import Iterable
from numbers import Integral, Real
from typing import NamedTuple

import numpy as np

from ..names import choose
from . import sprites
from .sprites import HALF_DISC, PIXELS, SHAPES, SIDE, TARGETS, TEXTURES, Sprite

CLASS_NAMES = tuple(f"{texture} {shape}" for texture in TEXTURES for shape in TARGETS)

CHUNK = 1000  # images drawn together; a part of the data set's identity, as is FACTORS' order
FACTORS = ("label", "geometry", "colour", "style", "field", "swapped field", "distractors", "noise")
MAX_DISTRACTORS = 6
TRIES = 64  # places tried for a distractor before it is left out
GAP = 3.0  # between distractors and object
HUE, GRATING, GRATING_PERIOD, SENSOR_NOISE = 0.18, 0.06, 8.0, 0.03
OCTAVES = ((8, 1, 0.12), (4, 3, 0.10), (2, 1, 0.05))  # cell, channels, sd at clutter 1


def one_of(u, count: int):
    return (u * count).astype(np.int64)


def between(u, low: float, high: float):
    return low + (high - low) * u


SPLITS = {  # how the style follows the class y [n]; u [n, 2] is uniform in 0..1
    **dict.fromkeys(("train", "val", "test"),
                    lambda y, u, rho: np.where(u[:, 1] < rho, y, one_of(u[:, 0], 10))),
    "flip": lambda y, u, rho: (y + 1 + one_of(u[:, 0], 9)) % 10,
    "uniform": lambda y, u, rho: one_of(u[:, 0], 10),
}
INTERVENTIONS = {
    "remove_object": "background where the object stood; its mask is empty",
    "remove_distractors": "background where they stood; their mask is empty",
    "shape_only": "the object without its texture",
    "texture_only": "the object's texture and colour on a half-disc, which is no class's shape",
    "swap_background": "the same objects on another field of another style",
}
CHOICES = {"split": tuple(SPLITS), "label": ("object", "bg"), "intervene": tuple(INTERVENTIONS)}
RANGES = {"n": (1, 10_000_000, Integral), "distractors": (0, MAX_DISTRACTORS, Integral),
          "rho": (0, 1, Real), "contrast": (0, 1, Real), "clutter": (0, 4, Real)}


class ShapeTex(NamedTuple):
    """n images with their causes: ``images`` uint8 [n, 32, 32, 3], ``labels`` int64 [n], the
    object's ``mask`` and that of all distractors, bool [n, 32, 32], and the ``background``'s style
    int64 [n], 0..9 = hue + 5 * direction of the grating."""
    images: np.ndarray
    labels: np.ndarray
    mask: np.ndarray
    distractor_mask: np.ndarray
    background: np.ndarray


def make_shapetex(n: int, split: str = "train", rho: float = 0.0, distractors: int = 2,
                  contrast: float = 0.5, clutter: float = 1.0, label: str = "object",
                  intervene: str | Iterable[str] = ()) -> ShapeTex:
    """n images of one split, the same on every call; the first k of them are `make_shapetex(k)`.

    rho: probability that the style is set to the class, else it is uniform ("flip", where they
    never agree, and "uniform" ignore it). distractors: how many to place, where there is room.
    contrast: of the texture. clutter: multiplies the background's noise. label: "object" (the
    class) or "bg" (the style). intervene: one or several of INTERVENTIONS; "swap_background" takes
    any other style, in "flip" too. Every factor has random numbers of its own, so that changing
    one option leaves all else as it was. A bad option is a ``ValueError`` that lists the choices or
    the range."""
    wanted = (intervene,) if isinstance(intervene, str) else tuple(intervene)
    for name, value in (("n", n), ("split", split), ("rho", rho), ("distractors", distractors),
                        ("contrast", contrast), ("clutter", clutter), ("label", label),
                        *(("intervene", name) for name in wanted)):
        check_option(name, value)
    chunks = []
    for start in range(0, n, CHUNK):
        # A generator for each factor, asked once, for an array with the images as its first axis:
        # fewer images read a prefix of the same numbers, which makes the set prefix-stable.
        keys = ((list(SPLITS).index(split), k, start // CHUNK) for k in range(len(FACTORS)))
        streams = {factor: np.random.Generator(np.random.PCG64(
            np.random.SeedSequence(0, spawn_key=key)))
            for factor, key in zip(FACTORS, keys, strict=True)}
        every_ten = streams["label"].random((CHUNK // 10, 10)).argsort(axis=1)  # each class once
        y = every_ten.reshape(-1)[: n - start]
        style, image = backgrounds(streams, y, split, rho, clutter, wanted)
        thing, others, placed = things_of(streams, y, distractors, contrast)
        masks = paint_things(image, thing, others, placed, wanted)
        image += np.float32(SENSOR_NOISE) * streams["noise"].standard_normal(
            image.shape, np.float32)
        image = (np.clip(image, 0, 1) * 255 + np.float32(0.5)).astype(np.uint8)
        chunks.append((image, style if label == "bg" else y, *masks, style))
    return ShapeTex(*(np.concatenate(parts) for parts in zip(*chunks, strict=True)))


def check_option(name: str, value) -> None:
    """``ValueError`` that lists the choices or the range of an option of `make_shapetex`."""
    if name in CHOICES:
        choose(name, value, CHOICES[name])
        return
    low, high, kind = RANGES[name]
    if not (isinstance(value, kind) and low <= value <= high):
        noun = "an integer" if kind is Integral else "a number"
        raise ValueError(f"{name} must be {noun} in {low}..{high}, not {value!r}")


def backgrounds(streams, y, split, rho, clutter, wanted) -> tuple[np.ndarray, np.ndarray]:
    """Style [n] and its float32 image [n, 32, 32, 3]: hue, noise and a weak grating."""
    u = streams["style"].random((len(y), 4))
    style, field = SPLITS[split](y, u, rho), "field"
    if "swap_background" in wanted:
        style, field = (style + 1 + one_of(u[:, 2], 9)) % 10, "swapped field"
    image = value_noise(streams[field], len(y), clutter)
    hue = 2 * np.pi * ((style % 5)[:, None] / 5 + np.arange(3) / 3)  # [n, 3]
    image += (0.5 + HUE * np.cos(hue)).astype(np.float32)[:, None, None]
    phase = PIXELS / GRATING_PERIOD + u[:, 3:]
    wave = (GRATING * np.sin(2 * np.pi * phase)).astype(np.float32)  # [n, 32]
    upright = (style >= 5)[:, None, None]
    image += np.where(upright, wave[:, None, :], wave[:, :, None])[..., None]
    return style, image


def value_noise(rng: np.random.Generator, n: int, clutter: float) -> np.ndarray:
    """Bilinear value noise, the OCTAVES summed, float32 [n, 32, 32, 3]."""
    shapes = [(32 // cell + 1, 32 // cell + 1, channels) for cell, channels, _ in OCTAVES]
    ends = np.cumsum([np.prod(shape) for shape in shapes])
    parts = np.split(rng.standard_normal((n, ends[-1])), ends[:-1], axis=1)
    image = np.zeros((n, SIDE, SIDE, 3), np.float32)
    for (cell, _, sd), shape, part in zip(OCTAVES, shapes, parts, strict=True):
        lattice = (clutter * sd * part).astype(np.float32).reshape(n, *shape)
        at = PIXELS / cell
        low = at.astype(np.int64)
        t = (at - low).astype(np.float32)[:, None]
        # Lerps, not matrix products: BLAS may round otherwise when n changes.
        rows = lattice[:, low] + t[:, None] * (lattice[:, low + 1] - lattice[:, low])
        image += rows[:, :, low] + t * (rows[:, :, low + 1] - rows[:, :, low])
    return image


def things_of(streams, y, distractors, contrast) -> tuple[Sprite, Sprite, np.ndarray]:
    """The object [n], the distractors [n, distractors], and which of these found a place."""
    u, colour = streams["geometry"].random((len(y), 6)), streams["colour"].random((len(y), 3))
    thing = Sprite(
        shape=y % 5, texture=y // 5, amplitude=np.full(len(y), 0.5 * contrast),
        radius=between(u[:, 2], 5.5, 8), turn=between(u[:, 3], -0.35, 0.35),
        centre=between(u[:, :2], 8, 24), phase=u[:, 4:], colour=between(colour, 0.3, 0.7))
    # All six are drawn and cut, so that more distractors leave the first ones where they are.
    u = streams["distractors"].random((len(y), MAX_DISTRACTORS, 10 + 2 * TRIES))[:, :distractors]
    textured = np.arange(distractors) % 2 == 1
    others = Sprite(
        shape=np.where(textured, HALF_DISC, one_of(u[..., 0], len(TARGETS))),
        texture=one_of(u[..., 1], len(TEXTURES)),
        amplitude=textured * thing.amplitude[:, None],
        # A half-disc is a fifth larger: below that it is lower than a period and shows no texture.
        radius=between(u[..., 2], 2.5, 3.8) * np.where(textured, 1.2, 1.0),
        turn=between(u[..., 3], -0.35, 0.35) + np.pi * one_of(u[..., 4], 2),
        centre=between(u[..., 10:], 2, 30),  # the tries, until `place_distractors` chooses
        phase=u[..., 5:7], colour=between(u[..., 7:10], 0.3, 0.7))
    centre, placed = place_distractors(thing, others)
    return thing, others._replace(centre=centre), placed


def place_distractors(thing: Sprite, others: Sprite) -> tuple[np.ndarray, np.ndarray]:
    """For each distractor the first try that clears the object and the distractors before it."""
    n, count = others.shape.shape
    tries = others.centre.reshape(n, count, TRIES, 2)
    reach = np.array([shape.k * shape.reach for shape in SHAPES.values()])
    reach = reach[others.shape] * others.radius  # [n, count]
    # They may come nearer to the object's stand-in under "texture_only", but not touch it.
    stand_in = thing._replace(shape=np.full_like(thing.shape, HALF_DISC))
    x, y = sprites.local(thing, *np.moveaxis(tries.reshape(n, -1, 2), 2, 0))
    room = np.minimum(sprites.distance(thing, x, y) - GAP, sprites.distance(stand_in, x, y) - 1)
    clear = room.reshape(n, count, TRIES) > reach[..., None]
    centre, placed = np.zeros((n, count, 2)), np.zeros((n, count), bool)
    for j in range(count):
        step = tries[:, j, :, None] - centre[:, None, :j]  # [n, TRIES, j, 2]
        between_centres = sprites.length(step[..., 0], step[..., 1])
        apart = between_centres > (reach[:, :j] + reach[:, j, None])[:, None]
        free = clear[:, j] & (apart | ~placed[:, None, :j]).all(axis=2)
        placed[:, j] = free.any(axis=1)
        centre[:, j] = tries[np.arange(n), j, free.argmax(axis=1)]
    return centre, placed


def paint_things(image, thing, others, placed, wanted) -> tuple[np.ndarray, np.ndarray]:
    """Paint all things on the background, in place; mask and distractor mask [n, 32, 32]."""
    if "shape_only" in wanted:
        thing = thing._replace(amplitude=0 * thing.amplitude)
    if "texture_only" in wanted:
        thing = thing._replace(shape=np.full_like(thing.shape, HALF_DISC))
    placed = placed & ("remove_distractors" not in wanted)
    distractor_mask = np.zeros(image.shape[:3], bool)
    for j in range(placed.shape[1]):
        one = Sprite(*(values[:, j] for values in others))
        distractor_mask |= sprites.paint_sprites(image, one, placed[:, j])
    shown = np.full(len(image), "remove_object" not in wanted)
    return sprites.paint_sprites(image, thing, shown), distractor_mask

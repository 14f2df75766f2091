"""Picture files as the arrays that networks take: any type that Pillow reads, any size."""
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path

import numpy as np

# Formats that Pillow hands to other programs, or knows without being able to read them.
NOT_READ = ("BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF")


@cache
def formats() -> tuple[str, ...]:
    """The formats that Pillow reads by itself."""
    from PIL import Image  # here: training needs no Pillow
    Image.init()
    return tuple(name for name in Image.OPEN if name not in NOT_READ)


@cache
def endings() -> frozenset[str]:
    """The endings of their files' names, such as ``.png``; an MPO is a JPEG with more behind it."""
    from PIL import Image
    known = (*formats(), "MPO")
    return frozenset(end for end, name in Image.registered_extensions().items() if name in known)


def read_picture(path: str | Path, size: int, channels: int,
                 levels: dict | None = None) -> np.ndarray:
    """The picture in a file as uint8 [size, size, channels], ``channels`` 3 (colour) or 1 (grey).

    It is turned as its camera says (EXIF), laid on white where it is transparent, and the largest
    square in its middle is resized; one that has that size already is left as it is, pixel for
    pixel. More than 8 bits are brought to 8 by the ``levels`` of `common_levels`, else by its own;
    of an animation the first frame is read. ``ValueError`` says what is wrong with the file,
    without its name."""
    from PIL import Image, ImageOps
    try:
        with Image.open(path, formats=formats()) as opened:
            limit, pixels = Image.MAX_IMAGE_PIXELS, opened.width * opened.height
            if limit and pixels > limit:            # Pillow itself warns here, and raises at twice
                raise ValueError(f"{pixels:,} pixels, and {limit:,} are Pillow's limit")
            opened.draft(None, (2 * size, 2 * size))        # JPEG: decoded at a fraction, faster
            image = eight_bits(ImageOps.exif_transpose(opened), levels)
            image = image.convert("RGB" if channels == 3 else "L")
            side = min(image.size)
            left, top = ((length - side) // 2 for length in image.size)
            image = image.crop((left, top, left + side, top + side))
            image = image.resize((size, size), Image.Resampling.BILINEAR)
    except MemoryError:                     # no fault of the file's
        raise
    except Exception as error:              # a torn or hostile file makes Pillow raise many kinds
        words = f"it cannot be read: {getattr(error, 'strerror', None) or error}"
        if isinstance(error, Image.UnidentifiedImageError):
            words = "it is not a picture of a type that Pillow reads"
        raise ValueError(words) from error
    return np.array(image).reshape(size, size, channels)


def eight_bits(image, levels: dict | None):
    """A Pillow image in one of the modes that converts to grey or colour without a surprise."""
    from PIL import Image
    x, mode = deep_levels(image), image.mode[0]
    if x is not None:                                           # Pillow would clip these at 255
        low, high = (levels or {}).get(mode) or span(mode, x.min(), x.max())
        x = (x - low) * (255 / (high - low))
        return Image.fromarray(x.round().clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image


def deep_levels(image) -> np.ndarray | None:
    """Levels that are whole numbers of 16 or 32 bits (mode I…) or floats (mode F), else None."""
    if image.mode[0] in "IF":
        return np.nan_to_num(np.asarray(image).astype(np.float64), nan=0, posinf=0, neginf=0)


def span(mode: str, low: float, top: float) -> tuple[float, float]:
    """The levels that become 0 and 255: from 0, or the lowest below it, to the largest number of as
    many bits as the highest needs, 8 at least; or to 1, where floats stay below 2."""
    high = 2.0 ** max(8, int(top).bit_length()) - 1
    return min(0.0, low), 1.0 if mode == "F" and top < 2 else high


def common_levels(paths) -> tuple[dict[str, tuple[float, float]], list[str]]:
    """The `span` of all pictures of mode I and of mode F, that the same level be the same grey in
    the whole set; and in words how many there are. {} where all have 8 bits."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        deep = list(filter(None, pool.map(extremes, paths)))
    out, notes = {}, []
    for mode in sorted({mode for mode, *_ in deep}):
        lows, tops = zip(*(ends for kind, *ends in deep if kind == mode), strict=True)
        low, high = out[mode] = span(mode, min(lows), max(tops))
        notes.append(f"{len(lows)} pictures have more than 8 bits: levels {low:g} to {high:g} "
                     "become 0 to 255")
    return out, notes


def extremes(path: Path) -> tuple[str, float, float] | None:
    """(I or F, lowest, highest level) of a picture of more than 8 bits, None of others."""
    from PIL import Image
    with suppress(Exception), Image.open(path, formats=formats()) as image:   # told when it is read
        x = deep_levels(image)
        return None if x is None else (image.mode[0], x.min(), x.max())


def attempts(paths, size: int, channels: int, levels: dict | None = None) -> Iterator[tuple]:
    """(path, array, "") of each picture, or (path, None, why there is no array)."""
    def attempt(path):
        try:
            return path, read_picture(path, size, channels, levels), ""
        except ValueError as error:
            return path, None, str(error)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(attempt, paths)

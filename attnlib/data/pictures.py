"""Picture files as the arrays that networks take: any type that Pillow reads, any size."""
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
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


def read_picture(path: str | Path, size: int, channels: int, levels: dict | None = None):
    """The picture in a file as uint8 [size, size, channels], ``channels`` 3 (colour) or 1 (grey).

    It is turned as its camera says (EXIF), laid on white where it is transparent, and the largest
    square in its middle is resized; one that has that size already is left as it is, pixel for
    pixel. Levels that are no bytes are brought to bytes by the `common_levels` of its set, else by
    its own; of an animation the first frame is read. ``ValueError`` says what is wrong with the
    file, without its name."""
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
    except FileNotFoundError:
        raise ValueError("there is no such file") from None
    except IsADirectoryError:
        raise ValueError("it is a folder; name the pictures in it") from None
    except Image.UnidentifiedImageError:
        if not Path(path).stat().st_size:
            raise ValueError("the file is empty") from None
        raise ValueError("it is not a picture of a type that Pillow reads") from None
    except Exception as error:              # a torn or hostile file makes Pillow raise many kinds
        raise ValueError(f"it cannot be read: {error}") from error
    return np.array(image).reshape(size, size, channels)


def deep_levels(image) -> np.ndarray | None:
    """Levels that are whole numbers of 16 or 32 bits (mode I…) or floats (mode F), else None."""
    if image.mode[0] in "IF":
        return np.nan_to_num(np.asarray(image).astype(np.float64), nan=0, posinf=0, neginf=0)


def eight_bits(image, levels: dict | None):
    """A Pillow image in one of the modes that converts to grey or colour without a surprise."""
    from PIL import Image
    x = deep_levels(image)
    if x is not None:                                           # Pillow would clip these at 255
        levels = levels or common_levels([(image.mode[0], x.min(), x.max())])
        low, high = levels[image.mode[0]]
        x = (x - low) * (255 / (high - low))
        return Image.fromarray(x.round().clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image


def extremes(path: Path) -> tuple[str, float, float] | None:
    """(I or F, lowest, highest level) of a picture whose levels are no bytes, None of others."""
    from PIL import Image
    try:
        with Image.open(path, formats=formats()) as image:
            x = deep_levels(image)
    except Exception:                       # `read_picture` says what is wrong with it
        return None
    return None if x is None else (image.mode[0], x.min(), x.max())


def common_levels(found: list[tuple[str, float, float]]) -> dict[str, tuple[float, float]]:
    """The levels that become 0 and 255, for all pictures of mode I and of mode F: from 0, or the
    lowest below it, to the largest number of as many bits as the highest needs, 8 at least, or to 1
    where floats stay below. One scale for a set: the same level is the same grey in all of it."""
    out = {}
    for mode in sorted({mode for mode, *_ in found}):
        low = min(0.0, *(low for kind, low, _ in found if kind == mode))
        top = max(top for kind, _, top in found if kind == mode)
        bits = max(8, int(top).bit_length())
        out[mode] = low, 1.0 if mode == "F" and top <= 1 else 2.0**bits - 1
    return out


def attempts(paths, size: int, channels: int, levels: dict | None = None) -> Iterator:
    """Of each picture its array, or in words why there is none."""
    def attempt(path):
        try:
            return read_picture(path, size, channels, levels)
        except ValueError as error:
            return str(error)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(attempt, paths)


def read_pictures(paths, size: int, channels: int) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """(path -> its array, path -> what is wrong) of many files, in their order."""
    found = dict(zip(map(str, paths), attempts(paths, size, channels), strict=True))
    return ({path: x for path, x in found.items() if not isinstance(x, str)},
            {path: words for path, words in found.items() if isinstance(words, str)})

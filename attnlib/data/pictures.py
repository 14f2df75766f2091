"""Picture files as the arrays that networks take: any type that Pillow reads, any size."""
from functools import cache
from pathlib import Path

import numpy as np

UNSAFE = ("EPS", "WMF")         # formats that Pillow hands to other programs


@cache
def formats() -> tuple[str, ...]:
    """The formats that Pillow reads by itself."""
    from PIL import Image  # here: training needs no Pillow
    Image.init()
    return tuple(name for name in Image.OPEN if name not in UNSAFE)


@cache
def endings() -> frozenset[str]:
    """The endings of their files' names, such as ``.png``."""
    from PIL import Image
    known = formats()
    return frozenset(end for end, name in Image.registered_extensions().items() if name in known)


def read_picture(path: str | Path, size: int, channels: int) -> np.ndarray:
    """The picture in a file as uint8 [size, size, channels], ``channels`` 3 (colour) or 1 (grey).

    It is turned as its camera says (EXIF), laid on white where it is transparent, and the largest
    square in its middle is resized; one that has that size already is left as it is, pixel for
    pixel. 16-bit and float pictures are brought to 8 bits; of an animation the first frame is read.
    ``ValueError`` says what is wrong with the file, without its name."""
    from PIL import Image, ImageOps
    try:
        with Image.open(path, formats=formats()) as opened:
            limit, pixels = Image.MAX_IMAGE_PIXELS, opened.width * opened.height
            if limit and pixels > limit:            # Pillow itself warns here, and raises at twice
                raise ValueError(f"{pixels:,} pixels, and {limit:,} are Pillow's limit")
            opened.draft(None, (2 * size, 2 * size))        # JPEG: decoded at a fraction, faster
            image = ImageOps.exif_transpose(opened)
            image = eight_bits(image).convert("RGB" if channels == 3 else "L")
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


def eight_bits(image):
    """A Pillow image in one of the modes that converts to grey or colour without a surprise."""
    from PIL import Image
    if image.mode == "F" or image.mode.startswith("I"):         # Pillow would clip these at 255
        x = np.nan_to_num(np.asarray(image).astype(np.float64))
        top = x.max(initial=0)
        scale = 255 if image.mode == "F" and top <= 1 else 1 if top <= 255 else 1 / 257
        return Image.fromarray((x * scale).round().clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image


def read_pictures(paths, size: int, channels: int) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """(path -> its array, path -> what is wrong) of many files, in their order: every bad file is
    found in one go."""
    good, bad = {}, {}
    for path in map(str, paths):
        try:
            good[path] = read_picture(path, size, channels)
        except ValueError as error:
            bad[path] = str(error)
    return good, bad

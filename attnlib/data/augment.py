"""Batched augmentation on the device: each image gets its own, in a few operations a batch.

Images ``x`` are float32 [B, C, H, W] with levels 0..255, ``y`` [B, classes] the labels' weights,
``fill`` [C, 1, 1] the mean colour. All chance comes in as ``u``, uniform in 0..1, one row an image:
the functions are pure, an image is treated alike in any batch (but for the partner it is mixed
with, the one before it in the shuffled batch), and nothing waits for the device."""
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F


def crop_flip(images, chosen, offset, mirror, size: int) -> torch.Tensor:
    """Cut size × size from the ``chosen`` of the padded ``images`` [N, H, W, C] in one look-up:
    at ``offset`` [2, N] pixels down and right, mirrored where ``mirror`` [N] says so."""
    ahead = torch.arange(size, device=images.device)
    rows = ahead + offset[0, chosen, None]                                      # [B, H]
    across = torch.where(mirror[chosen, None], ahead.flip(0), ahead)
    columns = across + offset[1, chosen, None]                                  # [B, W]
    return images[chosen[:, None, None], rows[:, :, None], columns[:, None, :]]


def box(x, top, left, height, width) -> torch.Tensor:
    """True inside each image's rectangle, [B, 1, H, W]; what hangs over the edge is cut off."""
    rows, columns = (torch.arange(n, device=x.device) for n in x.shape[2:])
    down = (rows >= top[:, None]) & (rows < (top + height)[:, None])
    across = (columns >= left[:, None]) & (columns < (left + width)[:, None])
    return (down[:, :, None] & across[:, None, :])[:, None]


def box_about(x, u, height, width) -> torch.Tensor:
    """The rectangle about the pixel that ``u`` [B, 2] picks, any one alike."""
    middle_y, middle_x = (u[:, 0] * x.shape[2]).floor(), (u[:, 1] * x.shape[3]).floor()
    return box(x, middle_y - (height / 2).floor(), middle_x - (width / 2).floor(), height, width)


def cutout(x, y, u, side: int, fill):
    """A square of ``side`` pixels about any pixel is filled (DeVries & Taylor 2017)."""
    sides = torch.full_like(u[:, 0], side)
    return torch.where(box_about(x, u, sides, sides), fill, x), y


def erasing(x, y, u, share: float, fill):
    """In a ``share`` of images a rectangle of 2 to 40 % of the area is filled (Zhong et al. 2020).

    As in torchvision the aspect, 0.3 to 1/0.3, is log-uniform: tall is as likely as wide. A side
    longer than the image's is cut where the paper draws again; filled with the mean (RE-M)."""
    high, wide = x.shape[2:]
    area, aspect = high * wide * (0.02 + 0.38 * u[:, 1]), 0.3 ** (1 - 2 * u[:, 2])
    height = (area * aspect).sqrt().round().clamp(1, high)
    width = (area / aspect).sqrt().round().clamp(1, wide)
    top, left = (u[:, 3] * (high - height + 1)).floor(), (u[:, 4] * (wide - width + 1)).floor()
    erased = box(x, top, left, height, width) & (u[:, 0] < share)[:, None, None, None]
    return torch.where(erased, fill, x), y


def mixup(x, y, u, share: float, fill):
    """λ x + (1-λ) partner for images and labels of a ``share`` of images, λ ~ U(0, 1), the paper's
    on CIFAR (Zhang et al. 2018). One λ an image where the paper has one a batch."""
    other = torch.where(u[:, 0] < share, u[:, 1], 0.0)
    return (torch.lerp(x, x.roll(1, 0), other[:, None, None, None]),
            torch.lerp(y, y.roll(1, 0), other[:, None]))


def cutmix(x, y, u, share: float, fill):
    """A rectangle of the partner, of area 1-λ, λ ~ U(0, 1), about any pixel, in a ``share`` of
    images; the labels weigh as the pixels do (Yun et al. 2019, their values on CIFAR). One
    rectangle an image where the paper has one a batch."""
    high, wide = ((side * u[:, 1].sqrt()).floor() for side in x.shape[2:])
    pasted = box_about(x, u[:, 2:], high, wide) & (u[:, 0] < share)[:, None, None, None]
    other = pasted.float().mean((1, 2, 3))
    return torch.where(pasted, x.roll(1, 0), x), torch.lerp(y, y.roll(1, 0), other[:, None])


OPERATIONS = ("identity", "shear_x", "shear_y", "translate_x", "translate_y", "rotate",
              "brightness", "color", "contrast", "sharpness", "posterize", "solarize",
              "autocontrast", "equalize")
AN_IMAGE = 2                        # operations, one after the other: torchvision's default
FULL = 30                           # the magnitude at which the strengths below are reached
SHEAR, TRANSLATE, ROTATE = 0.3, 150 / 331, 30.0        # ratio, share of the side, degrees
BLEND, BITS = 0.9, 4                # factors 0.1 to 1.9; bits dropped. All five are torchvision's


def randaugment(x, y, u, magnitude: int, fill):
    """Two of 14 operations an image, each of the same ``magnitude`` (Cubuk et al. 2020), as
    torchvision has them. Differences from it: what moves in is the mean colour, solarising starts
    at 256 and not at 255 (magnitude 0 changes nothing); from the paper: nearest sampling, and crop
    and mirror come before."""
    for step in range(AN_IMAGE):
        operation = (u[:, 2 * step] * len(OPERATIONS)).long()
        sign = torch.where(u[:, 2 * step + 1] < 0.5, -1.0, 1.0)
        x = operate(x, operation, sign * (magnitude / FULL), fill)
    return x, y


def operate(x, operation, strength, fill) -> torch.Tensor:
    """One operation an image: its index [B] in OPERATIONS, its signed strength [B] in -1..1."""
    picked = {name: operation == k for k, name in enumerate(OPERATIONS)}
    return moved(blended(tabled(x, picked, strength), picked, strength), picked, strength, fill)


def grey_of(x) -> torch.Tensor:
    """The luma of colour images in whole levels, [B, 1, H, W]; grey ones are their own."""
    if x.shape[1] != 3:
        return x
    red, green, blue = x.unbind(1)
    return (0.2989 * red + 0.587 * green + 0.114 * blue).floor()[:, None]


def tabled(x, picked: dict, strength) -> torch.Tensor:
    """The operations that look at one level alone, as one table of 256 an image and channel."""
    level = torch.arange(256.0, device=x.device)
    signed, size = strength[:, None, None], strength.abs()[:, None, None]
    factor, step = 1 + BLEND * signed, 2 ** (BITS * size).round()
    at = x.flatten(2).long()                                                    # [B, C, H·W]
    low, high = (f(2, keepdim=True).float() for f in (at.amin, at.amax))
    tables = {
        "brightness": factor * level,
        "contrast": factor * level + (1 - factor) * grey_of(x).flatten(2).mean(2, keepdim=True),
        "posterize": (level / step).floor() * step,
        "solarize": torch.where(level >= 256 * (1 - size), 255 - level, level),
        "autocontrast": torch.where(high > low, (level - low) * (255 / (high - low)), level),
        "equalize": equalised(at, high, level)}
    table = level.expand(*x.shape[:2], 256)
    for name, values in tables.items():
        table = torch.where(picked[name][:, None, None], values, table)
    return table.clamp(0, 255).floor().gather(2, at).view_as(x)


def equalised(at, high, level) -> torch.Tensor:
    """The table [B, C, 256] that spreads each channel's levels evenly, in Pillow's whole-number
    rule. Sums of counts, so that their order does not matter."""
    counts = torch.zeros(*at.shape[:2], 256, dtype=torch.long, device=at.device)
    counts = counts.scatter_add_(2, at, torch.ones_like(at))
    step = (at.shape[2] - counts.gather(2, high.long())) // 255
    below = counts.cumsum(2) - counts
    return torch.where(step > 0, (below + step // 2) // step.clamp(min=1), level)


def blended(x, picked: dict, strength) -> torch.Tensor:
    """Colour towards or away from grey, sharpness from a 3×3 blur, whose edge is the image's."""
    either = picked["color"] | picked["sharpness"]
    factor = torch.where(either, 1 + BLEND * strength, 1.0)[:, None, None, None]
    three = x[:, :, :-2] + x[:, :, 1:-1] + x[:, :, 2:]
    nine = three[..., :-2] + three[..., 1:-1] + three[..., 2:]
    blur = ((nine + 4 * x[:, :, 1:-1, 1:-1]) / 13).round()
    blur = torch.cat([x[:, :, :1], torch.cat([x[:, :, 1:-1, :1], blur, x[:, :, 1:-1, -1:]], 3),
                      x[:, :, -1:]], 2)
    base = torch.where(picked["color"][:, None, None, None], grey_of(x), blur)
    return (base + factor * (x - base)).clamp(0, 255).floor()


def moved(x, picked: dict, strength, fill) -> torch.Tensor:
    """Shears (about the upper left corner), shifts and rotations (about the middle) of square
    images as one look-up of the nearest pixel, each image with its own matrix."""
    def of(name, full):
        return torch.where(picked[name], strength * full, 0.0)
    side, angle = x.shape[-1], of("rotate", math.radians(ROTATE))
    shear_x, shear_y = of("shear_x", SHEAR), of("shear_y", SHEAR)
    shift_x, shift_y = (of(f"translate_{axis}", TRANSLATE * side).trunc() * (2 / side)
                        for axis in "xy")
    cos, sin = angle.cos(), angle.sin()
    where_from = torch.stack([torch.stack([cos, shear_x - sin, shear_x - shift_x], 1),
                              torch.stack([sin + shear_y, cos, shear_y - shift_y], 1)], 1)
    grid = F.affine_grid(where_from, list(x.shape), align_corners=False)
    return F.grid_sample(x - fill, grid, "nearest", "zeros", align_corners=False) + fill


class Augmentation(NamedTuple):
    """``apply(x, y, u, amount, fill) -> (x, y)``, with ``draws`` uniform numbers an image and the
    recipe's ``amount`` of that name."""
    draws: int
    apply: Callable
    mixes: bool = False             # labels too


# In the order in which they are applied, after crop and mirror.
AUGMENTATIONS = {
    "randaugment": Augmentation(2 * AN_IMAGE, randaugment),
    "cutout": Augmentation(2, cutout),
    "erasing": Augmentation(5, erasing),
    "mixup": Augmentation(2, mixup, mixes=True),
    "cutmix": Augmentation(4, cutmix, mixes=True),
}

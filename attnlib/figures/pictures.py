"""Sheets of images, with maps over them and their objects outlined."""
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np

from .style import short


class Tile(NamedTuple):
    """One picture: an image uint8 [H, W, C], a raw map [h, w] over it, drawn bilinearly or as
    cells, the mask bool [H, W] of its object, and a title."""
    image: np.ndarray
    map: np.ndarray | None = None
    mask: np.ndarray | None = None
    title: str = ""
    smooth: bool = True


def sheet(rows: list[list[Tile | None]], width: float = 1.15, height: float = 1.32) -> plt.Figure:
    """Rows of tiles, None for an empty place; ``width`` and ``height`` of a tile in inches."""
    across = max(map(len, rows))
    figure, axes = plt.subplots(len(rows), across, squeeze=False,
                                figsize=(width * across, height * len(rows)))
    for axis in axes.flat:
        axis.axis("off")
    for line, row in zip(axes, rows, strict=True):
        for axis, tile in zip(line, row, strict=False):
            if tile is not None:
                draw(axis, tile)
    return figure


def draw(axis, tile: Tile) -> None:
    show(axis, tile.image)
    if tile.map is not None:
        heat(axis, tile.map, tile.image.shape[:2], tile.smooth)
    if tile.mask is not None:
        outline(axis, tile.mask)
    axis.set_title(tile.title, fontsize=7.5, pad=2)


def show(axis, image) -> None:
    axis.imshow(image.squeeze(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axis.axis("off")


def heat(axis, small_map, size, smooth: bool = True) -> None:
    """A native-resolution map [h, w] over an image, scaled to its maximum, cells in place."""
    small_map = np.asarray(small_map, np.float32)
    axis.imshow(small_map / (small_map.max() or 1), cmap="inferno", alpha=0.55, vmin=0, vmax=1,
                interpolation="bilinear" if smooth else "nearest", extent=extent(size))


def extent(size) -> tuple[float, float, float, float]:
    """Where a map lies that covers an image of this height and width."""
    return -0.5, size[1] - 0.5, size[0] - 0.5, -0.5


def outline(axis, mask) -> None:
    if mask.any():
        axis.contour(mask, levels=[0.5], colors="white", linewidths=1.2)


def pictures(images, titles=None, masks=None, columns: int = 10, size: float = 1.0) -> plt.Figure:
    """A sheet of images uint8 [N, H, W, C]; masks [N, H, W] are drawn as white outlines."""
    tiles = [Tile(image, mask=None if masks is None else masks[k], title=titles[k] if titles else
                  "") for k, image in enumerate(images)]
    rows = [tiles[k:k + columns] for k in range(0, len(tiles), columns)]
    rows[-1] += [None] * (columns - len(rows[-1]))
    return sheet(rows, size, size + 0.22 * bool(titles))


def overlays(images, maps: dict, masks=None, notes: dict | None = None,
             titles=None, smooth=None) -> plt.Figure:
    """The same images (rows of the first column) under the class activation map of every arm.

    ``maps``: arm -> [N, h, w] raw maps at native resolution, each scaled to its own maximum for the
    picture and drawn bilinearly, or where ``smooth`` [N] is false as cells; ``notes``: arm -> N
    short texts, such as the predicted class."""
    rows = []
    for i, image in enumerate(images):
        row = [Tile(image, title=titles[i] if titles else "")]
        mask = None
        if masks is not None:
            mask = masks[i]
            row.append(Tile(np.where(mask, 255, 0)))
        row += [Tile(image, maps[arm][i], mask, notes[arm][i] if notes else "",
                     smooth is None or smooth[i]) for arm in maps]
        rows.append(row)
    heads = ["image", *([] if masks is None else ["object mask"]), *map(short, maps)]
    rows[0] = [tile._replace(title=f"{bold(head)}\n{tile.title}")
               for tile, head in zip(rows[0], heads, strict=True)]
    return sheet(rows)


def bold(text: str) -> str:
    return "$\\bf{" + text.replace(" ", "\\ ") + "}$"


def class_sheet(at_hand: dict) -> plt.Figure:
    """One test image of each of the first ten classes, one row a data set that is here."""
    rows = []
    for data in filter(None, at_hand.values()):
        images, labels = data.images["test"], data.labels["test"]
        firsts = [images[np.flatnonzero(labels == label)[0]] for label in range(10)]
        rows.append([Tile(image, title=name)
                     for image, name in zip(firsts, data.classes, strict=False)])
    return sheet(rows, 1.0, 1.22)

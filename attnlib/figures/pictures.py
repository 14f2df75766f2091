"""Sheets of images, with maps over them and their objects outlined."""
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np

from .style import PAGE, broken, short

CHARACTER, LINE = 0.068, 0.16       # inches of a title's character and line


class Tile(NamedTuple):
    """One picture: an image uint8 [H, W, C], a raw map [h, w] over it, drawn bilinearly or as
    cells, the mask bool [H, W] of its object, and a title. With ``limits`` the map hides the image
    and has these ends of its colour scale."""
    image: np.ndarray
    map: np.ndarray | None = None
    mask: np.ndarray | None = None
    title: str = ""
    smooth: bool = True
    limits: tuple[float, float] | None = None


def sheet(rows: list[list[Tile]], heads: list[str] | None = None, most: float = 1.2) -> plt.Figure:
    """Rows of tiles, each at most ``most`` inches wide; ``heads``: a line over each row."""
    across, heads = max(map(len, rows)), heads or [""] * len(rows)
    size = min(most, PAGE / across)
    titles = [[broken(tile.title, size / CHARACTER) for tile in row] for row in rows]
    tall = [size + LINE * max(1 + title.count("\n") if title else 0 for title in [*line, head])
            for line, head in zip(titles, heads, strict=True)]
    figure, axes = plt.subplots(len(rows), across, squeeze=False, height_ratios=tall,
                                figsize=(size * across, sum(tall)))
    for axis in axes.flat:
        axis.axis("off")
        axis.set(xticks=[], yticks=[])      # ticks that nobody sees take a third of the time
    for line, row, own, head in zip(axes, rows, titles, heads, strict=True):
        for axis, tile, title in zip(line, row, own, strict=False):
            draw(axis, tile)
            axis.set_title(title, fontsize=9, pad=2, parse_math=False)
        line[0].set_title(head, fontsize=9, pad=2, loc="left")
    return figure


def draw(axis, tile: Tile) -> None:
    axis.imshow(tile.image.squeeze(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    if tile.map is not None:
        small, (height, width) = np.asarray(tile.map, np.float32), tile.image.shape[:2]
        over = {"cmap": "inferno", "alpha": 0.55, "vmin": 0, "vmax": small.max() or 1}
        if tile.limits:
            over = {"cmap": "viridis", "vmin": tile.limits[0], "vmax": tile.limits[1]}
        axis.imshow(small, interpolation="bilinear" if tile.smooth else "nearest",
                    extent=(-0.5, width - 0.5, height - 0.5, -0.5), **over)
    if tile.mask is not None and tile.mask.any():
        axis.contour(tile.mask, levels=[0.5], colors="white", linewidths=1.2)


def pictures(images, titles=None, masks=None, columns: int = 5) -> plt.Figure:
    """A sheet of images uint8 [N, H, W, C]; masks [N, H, W] are drawn as white outlines."""
    tiles = [Tile(image, mask=None if masks is None else masks[k],
                  title=titles[k] if titles else "") for k, image in enumerate(images)]
    return sheet([tiles[k:k + columns] for k in range(0, len(tiles), columns)])


def overlays(images, maps: dict, masks, titles, notes: dict | None = None) -> plt.Figure:
    """The same images, a row each, under the class activation map of every arm. ``maps``: arm ->
    [N, h, w] raw, each scaled to its own maximum; ``masks`` [N], each may be None; ``notes``: arm
    -> N short texts, such as the predicted class."""
    heads = ["image", *(["object mask"] if masks[0] is not None else []), *map(short, maps)]
    rows = []
    for k, (image, mask) in enumerate(zip(images, masks, strict=True)):
        outline = [Tile(np.where(mask, 255, 0))] if mask is not None else []
        rows.append([Tile(image, title=titles[k]), *outline,
                     *(Tile(image, own[k], mask, notes[arm][k] if notes else "")
                       for arm, own in maps.items())])
    rows[0] = [tile._replace(title=f"{head.upper()}\n{tile.title}".strip())
               for tile, head in zip(rows[0], heads, strict=True)]
    return sheet(rows)


def map_rows(images, maps: dict, masks, **how) -> plt.Figure:
    """The images in one row, and below it a row for each of ``maps``: heading -> [N, h, w]."""
    rows = [[Tile(image, own, mask, **how)
             for image, own, mask in zip(images, found, masks, strict=False)]
            for found in maps.values()]
    return sheet([[Tile(image) for image in images], *rows], ["images", *maps])


def class_sheet(at_hand: dict) -> plt.Figure:
    """One test image of each of the first ten classes, two rows a data set that is here."""
    shown = [(data.images["test"][list(data.labels["test"]).index(label)], data.classes[label])
             for data in at_hand.values() for label in range(min(10, len(data.classes)))]
    return pictures(*zip(*shown, strict=True))

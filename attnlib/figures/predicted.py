"""Pictures of what a trained network says of pictures, and where it looks."""
import hashlib
import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from ..data.batches import as_input
from ..data.pictures import read_picture
from ..explain.cam import make, pass_of
from ..files import write_atomic
from ..settings import out_dir, shortened
from .pictures import Tile, sheet
from .style import png

SEEN = 256                      # pixels of a photo in our picture of it
SHOWN = 8                       # pictures of either kind in an evaluation's sheet


def activation_maps(model, images: np.ndarray, classes) -> np.ndarray:
    """Raw Grad-CAM maps [N, h, w] for those classes, at the last stage but one."""
    return make("grad_cam", pass_of(model, as_input(images, model), classes, -2))


def save_sheet(figure: plt.Figure, folder: str, name: str) -> Path:
    """Write a figure to ``results/<folder>/<name>.png``."""
    path = out_dir() / "results" / folder / f"{name}.png"
    write_atomic(path, png(figure, 240))
    plt.close(figure)
    return path


def draw_photo(model, path: str, image: np.ndarray, probs: np.ndarray) -> Path:
    """The photo, what the network is shown of it, and its activation map over the photo, in
    ``results/predict``; its name is the photo's, with six digits of the photo's path."""
    photo = read_picture(path, SEEN, model.channels)
    likely = "\n".join(f"{model.classes[c]} {100 * probs[c]:.0f} %" for c in (-probs).argsort()[:2])
    found = activation_maps(model, image[None], [probs.argmax()])[0]
    figure = sheet([[Tile(photo, title="the picture,\ncut to a square"),
                     Tile(image, title="what the network\nis shown"),
                     Tile(photo, found, title=likely)]], most=3)
    digits = hashlib.sha256(os.fsencode(path)).hexdigest()[:6]
    return save_sheet(figure, "predict", f"{shortened(Path(path).stem, 100)}-{digits}-{model.id}")


def draw_evaluation(model, split: str, images, labels, probs, masks=None) -> Path:
    """Up to SHOWN images that the network gets right and as many that it gets wrong, the first of
    the split, each above its activation map for what the network says; masks are outlined."""
    rows, said = [], probs.argmax(1)
    for word, among in (("right", said == labels), ("wrong", said != labels)):
        pick = np.flatnonzero(among)[:SHOWN]
        if len(pick):
            maps = activation_maps(model, images[pick], said[pick])
            rows.append([Tile(images[i], title=f"{word}\n{model.classes[labels[i]]}")
                         for i in pick])
            rows.append([Tile(images[i], found, None if masks is None else masks[i],
                              f"{model.classes[said[i]]} {100 * probs[i, said[i]]:.0f} %")
                         for i, found in zip(pick, maps, strict=True)])
    return save_sheet(sheet(rows), "evaluate", f"{model.id}-{split}")

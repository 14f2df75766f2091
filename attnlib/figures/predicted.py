"""Pictures of what a trained network says of pictures, and where it looks."""
import hashlib
import io
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

from ..data.pictures import read_picture
from ..experiments.predict import normalised
from ..explain.cam import make, passes
from ..files import write_atomic
from ..settings import out_dir
from .pictures import heat, outline, show

SEEN = 256                      # pixels of a photo in our picture of it
SHEET = 8                       # pictures a row of an evaluation's sheet


def activation_maps(model, images: np.ndarray, classes) -> np.ndarray:
    """Raw Grad-CAM maps [N, h, w] for those classes, at the last stage but one."""
    x = torch.cat(list(normalised(model.cpu(), images)))
    return make("grad_cam", passes(model, x, classes, (-2,))[-2])


def save(figure, path: Path) -> Path:
    """A figure as a PNG file, whole or not at all."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    plt.close(figure)
    write_atomic(path, buffer.getvalue())
    return path


def draw_photo(model, path: str, image: np.ndarray, probs: np.ndarray) -> Path:
    """The photo, what the network is shown of it, and its activation map over the photo, in
    ``results/predict``; its name is the photo's, with six digits of the photo's path."""
    photo = read_picture(path, SEEN, model.channels)
    title = " · ".join(f"{model.classes[c]} {100 * probs[c]:.0f} %"
                       for c in np.argsort(-probs)[:3])
    figure, axes = plt.subplots(1, 3, figsize=(9, 3.3), layout="constrained")
    for axis, picture, words in zip(axes, (photo, image, photo), (
            "the picture, cut to a square", "what the network is shown", title), strict=True):
        show(axis, picture)
        axis.set_title(words, fontsize=9, parse_math=False)
    heat(axes[2], activation_maps(model, image[None], [probs.argmax()])[0], photo.shape[:2])
    digits = hashlib.sha256(str(path).encode()).hexdigest()[:6]
    name = f"{Path(path).stem[:100]}-{digits}-{model.id}.png"
    return save(figure, out_dir() / "results" / "predict" / name)


def draw_evaluation(model, split: str, images, labels, probs, masks=None) -> Path:
    """Up to SHEET images that the network gets right and as many that it gets wrong, the first of
    the split, each above its activation map for what the network says; masks are outlined."""
    good = probs.argmax(1) == labels
    rows = [("right", np.flatnonzero(good)[:SHEET]), ("wrong", np.flatnonzero(~good)[:SHEET])]
    figure, axes = plt.subplots(4, SHEET, figsize=(1.35 * SHEET, 6.4), layout="constrained")
    for axis in axes.flat:
        axis.axis("off")
    for top, (word, pick) in zip((0, 2), rows, strict=True):
        if not len(pick):
            continue
        said = probs[pick].argmax(1)
        maps = activation_maps(model, images[pick], said)
        for k, (i, label) in enumerate(zip(pick, said, strict=True)):
            upper, lower = axes[top:top + 2, k]
            for axis in (upper, lower):
                show(axis, images[i])
            heat(lower, maps[k], images.shape[1:3])
            if masks is not None:
                outline(lower, masks[i])
            upper.set_title(f"{word}\n{model.classes[labels[i]]}", fontsize=8, parse_math=False)
            lower.set_title(f"{model.classes[label]} {100 * probs[i, label]:.0f} %", fontsize=8,
                            parse_math=False)
    return save(figure, out_dir() / "results" / "evaluate" / f"{model.id}-{split}.png")

"""What a trained network says of pictures: of the user's own, and of a split again."""
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from ..data.batches import Batches
from ..data.pictures import read_pictures
from ..settings import shown
from ..training import store
from ..training.environment import machine
from ..training.optim import scores
from ..training.run import Run
from ..training.trainer import data_of
from .weights import assembled, find, load_model


def normalised(model, images: np.ndarray, device: str = "cpu"):
    """Images uint8 [N, H, W, C] as batches float32 [B, C, H, W], the way the network was trained.
    ``ValueError`` for any other type."""
    if images.dtype != np.uint8:
        raise ValueError(f"pictures should be uint8 from 0 to 255, [N, H, W, C]; got {images.dtype}"
                         ": give (255 * light).round().astype(np.uint8)")
    nothing = np.zeros(len(images), np.int64)
    batches = Batches(images, nothing, model.mean, model.std, device=device)
    return (x for x, _ in batches.ordered())


@torch.no_grad()
def probabilities(model, images: np.ndarray, device: str = "cpu") -> np.ndarray:
    """Class probabilities float32 [N, classes] of images uint8 [N, H, W, C]."""
    model.to(device)
    return np.concatenate([model(x).float().softmax(1).cpu().numpy()
                           for x in normalised(model, images, device)])


def predict(run_or_id, paths, top: int = 5, draw: Callable[..., Path] | None = None) -> int:
    """Print the ``top`` likeliest classes of each picture file. ``draw(model, path, image, probs)``
    makes a picture of it and returns its path. Files that cannot be read are named all together,
    the others are still predicted. Returns how many were bad."""
    model = load_model(run_or_id)
    good, bad = read_pictures(paths, model.size, model.channels)
    print(f"{model.id}: shown {model.size}×{model.size} pixels, "
          f"{'colour' if model.channels == 3 else 'grey'}; it knows {len(model.classes)} classes "
          "and always names one of them")
    all_probs = probabilities(model, np.stack(list(good.values()))) if good else ()
    for (path, image), probs in zip(good.items(), all_probs, strict=True):
        print(path)
        for k in np.argsort(-probs, kind="stable")[:top]:
            print(f"  {100 * probs[k]:5.1f} %  {model.classes[k]}")
        if draw:
            print(f"  where it looks: {shown(draw(model, path, image, probs))}")
    if bad:
        print(f"error: {len(bad)} of {len(bad) + len(good)} pictures could not be used:\n"
              + "\n".join(f"  {path}: {why}" for path, why in bad.items()), file=sys.stderr)
    return len(bad)


def evaluate(run_or_id, split: str = "test", draw: Callable[..., Path] | None = None) -> dict:
    """Score the stored weights of a run on a split again: ``accuracy`` and ``nll`` (nats) over
    ``n`` images, ``per_class`` accuracy (NaN for a class that is not there), ``recorded`` the
    record's accuracy on that split, None where it has none. ``draw(model, split, images, labels,
    probs, masks)`` makes a picture of it, whose path goes to ``sheet``."""
    header, state = find(run_or_id)
    model, run = assembled(header, state), Run(**header["run"])
    data = data_of(run)
    images, labels = data.split(split, getattr(run, f"n_{split}"))
    probs = probabilities(model, images, machine().device)
    right = probs.argmax(1) == labels
    out = scores(torch.from_numpy(probs), torch.from_numpy(labels)) | {
        "id": header["id"], "split": split, "recorded": recorded_accuracy(header, split),
        "per_class": {name: float(right[labels == k].mean()) if (labels == k).any() else np.nan
                      for k, name in enumerate(data.classes)}}
    if draw:
        masks = data.extras.get(split, {}).get("mask")
        out["sheet"] = draw(model, split, images, labels, probs, masks)
    return out


def recorded_accuracy(header: dict, split: str) -> float | None:
    """What the record says of a split: the test accuracy, or the kept epoch's on validation."""
    if split == "test":
        return header["test"]["accuracy"]
    record = store.read_record(store.record_path(header["profile"], header["id"]))
    if split != "val" or not record:
        return None
    kept = record.get("selected_epoch", len(record["history"]))
    return record["history"][kept - 1].get("val_accuracy")

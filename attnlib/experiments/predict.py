"""What a trained network says of pictures: of the user's own, and of a split again."""
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from ..data.batches import normalised
from ..data.pictures import attempts
from ..networks.insert import untouched
from ..training import store
from ..training.environment import machine
from ..training.optim import scores
from ..training.run import Run
from ..training.trainer import data_of
from .weights import assembled, find


@torch.no_grad()
def probabilities(model, images: np.ndarray) -> np.ndarray:
    """Class probabilities float32 [N, classes] of images uint8 [N, H, W, C], computed where the
    network stands and with its type of numbers; it is left as it was."""
    like = next(model.parameters())
    with untouched(model):
        return np.concatenate([model(x.to(like)).float().softmax(1).cpu().numpy()
                               for x in normalised(images, model, like.device)])


def predict(model, paths) -> list[tuple]:
    """(path, what the network is shown uint8 [S, S, C], class probabilities, "") of each picture
    file, or (path, None, None, what is wrong with it)."""
    found = list(attempts(paths, model.size, model.channels, model.levels))
    good = [image for _, image, why in found if not why]
    probs = iter(probabilities(model, np.stack(good)) if good else ())
    return [(path, image, None if why else next(probs), why) for path, image, why in found]


def evaluate(run_or_id, split: str = "test", draw: Callable[..., Path] | None = None) -> dict:
    """Score the stored weights of a run on a split again: ``accuracy`` and ``nll`` (nats) over
    ``n`` images, ``per_class`` accuracy (NaN for a class that is not there), ``recorded`` the
    record's accuracy on that split, None where it has none. ``draw(model, split, images, labels,
    probs, masks)`` makes a picture of it, whose path goes to ``sheet``."""
    header, state = find(run_or_id)
    model, run = assembled(header, state).to(machine().device), Run(**header["run"])
    data = data_of(run)
    images, labels = data.split(split, getattr(run, f"n_{split}"))
    probs = probabilities(model, images)
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
    record = store.read_record(header["profile"], header["id"])
    if split != "val" or not record:
        return None
    kept = record.get("selected_epoch", len(record["history"]))
    return record["history"][kept - 1].get("val_accuracy")

"""What 01_data shows of the data sets: tables as Markdown, pictures as arrays."""
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd

from .arrays import SPLITS, DataMissing, measured
from .batches import Batches
from .datasets import DATASETS, Dataset, load_dataset
from .shapetex import CLASS_NAMES, make_shapetex

MADE = {"train": 2000, "val": 500, "test": 1000}          # of ShapeTex, to look at


def at_hand() -> dict[str, Dataset | None]:
    """Every data set whose files are here; None for one that is not. Downloads nothing."""
    out = dict.fromkeys(DATASETS)
    for name in DATASETS:
        with suppress(DataMissing):
            out[name] = load_dataset(name, download=False, sizes=MADE)
    return out


def markdown(rows: list[dict]) -> str:
    return pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True)


def overview(found: dict) -> str:
    """One row a data set: what it is, its images, whether it is here."""
    return markdown([{
        "data set": f"`{name}`", "images": row.says,
        "pixels": f"{row.size}×{row.size}×{row.channels}", "classes": row.num_classes,
        "here": "no: `make data`, or put its npz into the data folder" if found[name] is None
        else "made on the spot" if name == "shapetex" else "yes"}
        for name, row in DATASETS.items()])


def constants(found: dict) -> str:
    """The constants we normalise with beside the training images' own."""
    rows = []
    for name, data in found.items():
        if data:
            mean, std = measured(data.images["train"], data.images["val"])
            values = {"mean used": data.mean, "mean measured": mean, "std used": data.std,
                      "std measured": std}
            rows.append({"data set": name} | {
                key: ", ".join(f"{v:.4f}" for v in three) for key, three in values.items()})
    return markdown(rows)


def splits(found: dict) -> str:
    """Sizes of the splits and how balanced they are: smallest and largest class share."""
    rows = []
    for name, data in found.items():
        for split, y in (data.labels if data else {}).items():
            row = {"data set": name, "split": split, "images": f"{len(y):,}"}
            for key, n in (("class shares", len(y)), ("in its first tenth", len(y) // 10 or 1)):
                share = 100 * np.bincount(y[:n], minlength=len(data.classes)) / n
                row[key] = f"{share.min():.1f} to {share.max():.1f} %"
            rows.append(row)
    return markdown(rows)


def interventions(n: int = 8) -> np.ndarray:
    """Eight images as they are, then with one thing changed a row: uint8 [5 n, H, W, 3]."""
    changes = ({}, {"intervene": "remove_distractors"}, {"contrast": 0.2},
               {"intervene": "swap_background"}, {"intervene": "remove_object"})
    return np.concatenate([make_shapetex(n, split="test", **change).images for change in changes])


def probe(levels=(0.0, 0.5, 0.95), n: int = 1500, ridge: float = 300.0) -> str:
    """Test accuracy of ridge regression on raw pixels, trained and tested with each ``rho``."""
    rows = []
    for rho in levels:
        train = make_shapetex(n, split="train", rho=rho)
        test = make_shapetex(n // 2, split="test", rho=rho)
        x, z = (p.images.reshape(len(p.images), -1) / 255 - 0.5 for p in (train, test))
        kernel = x @ x.T + ridge * np.eye(n)
        weights = x.T @ np.linalg.solve(kernel, np.eye(10)[train.labels])
        right = ((z @ weights).argmax(1) == test.labels).mean()
        rows.append({"rho": rho, "background agrees with the class":
                     f"{100 * (train.background == train.labels).mean():.0f} %",
                     "linear probe on pixels": f"{100 * right:.0f} %"})
    return markdown(rows)


def write_examples(place: str, n: int = 120) -> None:
    """ShapeTex as a user's own files below ``place``: ``photos/<class>/<number>.png`` of 60×48
    pixels, and ``mine.npz`` as MedMNIST has it, grey and 28×28, with labels [N, 1]."""
    from PIL import Image  # here: nothing else writes pictures
    parts = {split: make_shapetex(n, split=split) for split in SPLITS}
    for k, (x, label) in enumerate(zip(parts["train"].images, parts["train"].labels, strict=True)):
        folder = Path(place, "photos", CLASS_NAMES[label])
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.pad(x, ((0, 0), (4, 4), (0, 0)), "edge")).resize((60, 48)).save(
            folder / f"{k}.png")
    arrays = {}
    for split, part in parts.items():
        arrays |= {f"{split}_images": part.images[:, 2:-2, 2:-2].mean(-1).astype(np.uint8),
                   f"{split}_labels": part.labels[:, None].astype(np.uint8)}
    np.savez_compressed(Path(place, "mine.npz"), **arrays)


def augmented(data: Dataset, n: int = 8, epochs: int = 4) -> np.ndarray:
    """The first images of the training split as four epochs show them: uint8 [4 n, H, W, C]."""
    images, _ = data.split("train", n)
    out = []
    batches = Batches(images, np.arange(n), data.mean, data.std, batch_size=n, crop=4, flip=True)
    for epoch in range(epochs):
        x, order = next(batches.epoch(epoch))
        pixels = x.permute(0, 2, 3, 1) / batches.scale + batches.mean
        out.append(pixels[order.argsort()].round().clamp(0, 255).byte().numpy())
    return np.concatenate(out)

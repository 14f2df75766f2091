"""What 01_data shows of the data sets, as DataFrames."""
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd

from .arrays import SPLITS, DataMissing, measured
from .datasets import DATASETS, Dataset, load_dataset
from .shapetex import CLASS_NAMES, make_shapetex

MADE = {"train": 2000, "val": 500, "test": 1000}          # of ShapeTex, to look at


def at_hand() -> dict[str, Dataset]:
    """Every data set whose files are here. Downloads nothing."""
    out = {}
    for name in DATASETS:
        with suppress(DataMissing):
            out[name] = load_dataset(name, download=False, sizes=MADE)
    return out


def overview(found: dict) -> pd.DataFrame:
    """One row a data set: what it is, and whether it is here."""
    return pd.DataFrame([{
        "data set": name, "images": row.says, "pixels": f"{row.size}×{row.size}×{row.channels}",
        "classes": row.num_classes, "here": name in found} for name, row in DATASETS.items()])


def constants(found: dict) -> pd.DataFrame:
    """The constants we normalise with beside the training images' own, a row a channel."""
    rows = []
    for name, data in found.items():
        mean, std = measured(data.images["train"], data.images["val"])
        rows.append(pd.DataFrame({"data set": name, "mean used": data.mean, "mean measured": mean,
                                  "std used": data.std, "std measured": std}))
    return pd.concat(rows, ignore_index=True).round(4)


def splits(found: dict) -> pd.DataFrame:
    """Sizes of the splits, and the smallest and the largest class's share of each and of its first
    tenth, in percent."""
    rows = []
    for name, data in found.items():
        for split, y in data.labels.items():
            row = {"data set": name, "split": split, "images": len(y)}
            for key, n in (("classes", len(y)), ("in its first tenth", len(y) // 10 or 1)):
                share = 100 * np.bincount(y[:n], minlength=len(data.classes)) / n
                row |= {f"{key}, least %": share.min(), f"{key}, most %": share.max()}
            rows.append(row)
    return pd.DataFrame(rows).round(1)


def write_examples(place: str) -> None:
    """ShapeTex as a user's own files below ``place``: ``photos/<class>/<number>.png`` of 60×48
    pixels, and ``mine.npz`` as MedMNIST has it, grey and 28×28, with labels [N, 1]."""
    from PIL import Image  # here: nothing else writes pictures
    parts = {split: make_shapetex(120, split=split) for split in SPLITS}
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

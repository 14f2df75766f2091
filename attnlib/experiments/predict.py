"""What a trained network says of pictures: of the user's own, and of a split again."""
import io
import sys
from pathlib import Path

import numpy as np
import torch

from .. import files
from ..data.batches import Batches
from ..data.pictures import read_picture, read_pictures
from ..paths import out_dir, shown
from ..training import store
from .weights import load_model

SEEN = 256                      # pixels of a photo in our picture of it
SHEET = 8                       # pictures a row of an evaluation's sheet


def normalised(model, images: np.ndarray, device: str = "cpu"):
    """Images uint8 [N, H, W, C] as batches float32 [B, C, H, W], the way the network was trained.
    """
    nothing = np.zeros(len(images), np.int64)
    batches = Batches(images, nothing, model.mean, model.std, device=device)
    return (x for x, _ in batches.ordered())


@torch.no_grad()
def probabilities(model, images: np.ndarray, device: str = "cpu") -> np.ndarray:
    """Class probabilities float32 [N, classes] of images uint8 [N, H, W, C]."""
    model.to(device)
    return np.concatenate([model(x).float().softmax(1).cpu().numpy()
                           for x in normalised(model, images, device)])


def activation_maps(model, images: np.ndarray, classes) -> np.ndarray:
    """Raw Grad-CAM maps [N, h, w] for those classes, at the last stage but one."""
    from ..explain.cam import grad_cam
    x = torch.cat(list(normalised(model.cpu(), images)))
    return grad_cam(model, x.contiguous(), classes, stage=-2)


def predict(run_or_id, paths, top: int = 5, gradcam: bool = False) -> int:
    """Print the likeliest classes of each picture file; with ``gradcam`` also draw where the
    network looks, into ``results/predict/``. Files that cannot be read are named all together,
    the others are still predicted. Returns how many were bad."""
    model = load_model(run_or_id)
    good, bad = read_pictures(paths, model.size, model.channels)
    print(f"{model.id}: shown {model.size}×{model.size} pixels, "
          f"{'colour' if model.channels == 3 else 'grey'}; it knows {len(model.classes)} classes "
          "and always names one of them")
    images = np.stack(list(good.values())) if good else ()
    probs = probabilities(model, images) if good else ()
    maps = activation_maps(model, images, probs.argmax(1)) if good and gradcam else ()
    taken: set[Path] = set()
    for k, path in enumerate(good):
        print(f"{path}\n" + ranking(model.classes, probs[k], top))
        if gradcam:
            target = place_for(path, model.id, taken)
            words = [f"{model.classes[c]} {100 * probs[k][c]:.0f} %"
                     for c in np.argsort(-probs[k])[:3]]
            photo = read_picture(path, SEEN, model.channels)
            save(photo_figure(photo, images[k], maps[k], words), target)
            print(f"  where it looks: {shown(target)}")
    return bad_ones(bad, len(good))


def bad_ones(bad: dict[str, str], good: int) -> int:
    """Name the files that could not be read on stderr; returns how many there are."""
    if bad:
        print(f"error: {len(bad)} of {len(bad) + good} pictures could not be used:\n"
              + "\n".join(f"  {path}: {why}" for path, why in bad.items()), file=sys.stderr)
    return len(bad)


def ranking(classes, probs: np.ndarray, top: int) -> str:
    """The ``top`` likeliest classes, one a line."""
    return "\n".join(f"  {100 * probs[k]:5.1f} %  {classes[k]}"
                     for k in np.argsort(-probs, kind="stable")[:top])


def place_for(path: str, run_id: str, taken: set) -> Path:
    """``results/predict/<stem>-<id>.png``; numbered where another picture of this call has it."""
    stem, k = Path(path).stem[:100], 1
    while (target := out_dir() / "results" / "predict" /
           f"{stem}{f'-{k}' if k > 1 else ''}-{run_id}.png") in taken:
        k += 1
    taken.add(target)
    return target


def save(figure, path: Path) -> None:
    """A figure as a PNG file, whole or not at all."""
    import matplotlib.pyplot as plt
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    plt.close(figure)
    files.write_atomic(path, buffer.getvalue())


def photo_figure(photo, image, small_map, words: list[str]):
    """The photo, what the network is shown of it, and its activation map over the photo."""
    import matplotlib.pyplot as plt

    from ..figures.plots import heat, show
    figure, axes = plt.subplots(1, 3, figsize=(9, 3.3), layout="constrained")
    for axis, picture, title in zip(axes, (photo, image, photo), (
            "the picture, cut to a square", "what the network is shown", " · ".join(words)),
            strict=True):
        show(axis, picture)
        axis.set_title(title, fontsize=9, parse_math=False)
    heat(axes[2], small_map, photo.shape[:2])
    return figure


def evaluate(run_or_id, split: str = "test", gradcam: bool = False) -> dict:
    """Score the stored weights of a run on a split again: ``accuracy`` and ``nll`` (nats) over
    ``n`` images, ``per_class`` accuracy (NaN for a class that is not there), ``recorded`` the
    record's accuracy on that split, None where it has none. With ``gradcam`` a sheet of right and
    wrong ones goes to ``results/evaluate/``, its path to ``sheet``."""
    from ..training.run import Run
    from ..training.trainer import data_of, machine, scores
    from .weights import assembled, find
    header, state = find(run_or_id)
    model, run = assembled(header, state), Run(**header["run"])
    data = data_of(run)
    images, labels = data.split(split, getattr(run, f"n_{split}"))
    probs = probabilities(model, images, machine().device)
    said = probs.argmax(1)
    counts = np.bincount(labels, minlength=len(data.classes))
    right = np.bincount(labels[said == labels], minlength=len(data.classes))
    out = scores(torch.from_numpy(probs), torch.from_numpy(labels)) | {
        "id": header["id"], "split": split, "recorded": recorded_accuracy(header, split),
        "per_class": {name: float(r / n) if n else float("nan")
                      for name, r, n in zip(data.classes, right, counts, strict=True)}}
    if gradcam:
        out["sheet"] = out_dir() / "results" / "evaluate" / f"{header['id']}-{split}.png"
        mask = data.extras.get(split, {}).get("mask")
        save(evaluation_sheet(model, images, labels, probs, mask), out["sheet"])
    return out


def recorded_accuracy(header: dict, split: str) -> float | None:
    """What the record says of a split: the test accuracy, or the kept epoch's on validation."""
    if split == "test":
        return header["test"]["accuracy"]
    record = store.read_record(store.record_path(header["profile"], header["id"]))
    if split != "val" or not record:
        return None
    return record["history"][record.get("selected_epoch", len(record["history"])) - 1].get(
        "val_accuracy")


def evaluation_sheet(model, images, labels, probs, masks=None):
    """Up to SHEET images that the network gets right and as many that it gets wrong, the first of
    the split, each above its activation map for what the network says; masks are outlined."""
    import matplotlib.pyplot as plt

    from ..figures.plots import heat, outline, show
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
    return figure

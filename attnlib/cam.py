"""Where a network looks: class activation maps at native resolution, stored beside the records.

Maps come from pytorch-grad-cam's classes, raw: its own pictures are min-max scaled per image, which
would make every share of mass meaningless. The target is a stage's output after its ReLU and its
slots, so that every block's gates count alike. Grad-CAM: Selvaraju et al. 2017, arXiv:1610.02391:
map = relu(Σ_k w_k A_k), w_k = mean over the map of ∂(logit of the class)/∂A_k."""
import numpy as np
import torch

from . import store
from .batches import Batches
from .grid import collect, load_model, study
from .run import Run
from .train import data_of

IMAGES = 100                  # the first of the test split: balanced over the classes
STAGES = (-2, -1)             # on 32 pixels 8×8 and 4×4 cells: the last is too coarse by itself


def grad_cam(model: torch.nn.Module, x: torch.Tensor, classes, stage: int = -1) -> np.ndarray:
    """Raw Grad-CAM maps [N, h, w] ≥ 0 of normalised images x [N, C, H, W] for the logit of each
    image's class in ``classes`` [N], at the output of ``model.stages[stage]``."""
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
    layer = model.stages[stage]
    targets = [ClassifierOutputTarget(int(c)) for c in classes]
    with torch.enable_grad(), GradCAM(model=model, target_layers=[layer]) as cam:
        cam(input_tensor=x, targets=targets)
        activations = cam.activations_and_grads.activations[0].numpy()       # [N, K, h, w]
        gradients = cam.activations_and_grads.gradients[0].numpy()
        raw = cam.get_cam_image(x, layer, targets, activations, gradients)
    return np.maximum(raw, 0)


def inputs(run: Run, n: int = IMAGES):
    """The first ``n`` test images of a run's data, as uint8, normalised, and their labels."""
    data = data_of(run)
    images, labels = data.split("test", min(n, len(data.labels["test"])))
    x, _ = next(Batches(images, labels, data.mean, data.std).ordered(len(images)))
    return images, x.contiguous(), labels


def focus(run: Run, profile: str) -> bool:
    """Compute the maps of a finished run's first test images for their true class and store them as
    ``<id>.cam.npz``; the record then holds the file's SHA-256. False where they were there already.
    Raises ``LookupError`` where the run has no record or its weights are not here."""
    record = store.read_record(store.record_path(profile, run.id))
    if record is None:
        raise LookupError(f"{run.id} has no finished record in profile {profile!r}")
    if record["status"] != "done" or "cam" in record["arrays"]:
        return False
    model = load_model(run, profile)
    _, x, labels = inputs(run)
    with torch.no_grad():
        probs = model(x).softmax(1)
    arrays = {f"stage{stage}": grad_cam(model, x, labels, stage).astype(np.float16)
              for stage in STAGES}
    small = np.min_scalar_type(len(model.classes) - 1)
    arrays |= {"prediction": probs.argmax(1).numpy().astype(small),
               "confidence": probs.max(1).values.numpy().astype(np.float16),
               "label": labels.astype(small)}
    record["arrays"]["cam"] = store.write_arrays(profile, f"{run.id}.cam", arrays)
    store.write_record(profile, record)
    return True


def focus_study(name: str, profile: str) -> None:
    """`focus` for every finished run of a study whose weights are here; says what it did."""
    made = there = without = 0
    for run in study(name, profile):
        try:
            fresh = focus(run, profile)
            made, there = made + fresh, there + (not fresh)
        except LookupError:
            without += 1
    print(f"class activation maps: made {made}, found {there}"
          + (f", {without} without record or weights" if without else ""), flush=True)


def stored_maps(df) -> dict[str, dict]:
    """id -> arrays of ``<id>.cam.npz`` for the finished runs of a `collect` table that have one."""
    out = {}
    for row in df[df.status == "done"].itertuples():
        record = store.read_record(store.record_path(row.profile, row.id))
        arrays = store.read_arrays(row.profile, f"{row.id}.cam", record["arrays"].get("cam"))
        if arrays:
            out[row.id] = arrays
    return out


def share_on_mask(maps: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The share [N] of each map's mass inside its mask [N, H, W]: Σ_mask M / Σ M,
    NaN where a map has no mass at all. A cell counts by the part of it that the mask covers."""
    n, h, w = maps.shape
    side_h, side_w = mask.shape[1] // h, mask.shape[2] // w
    cover = mask[:, :h * side_h, :w * side_w].reshape(n, h, side_h, w, side_w).mean((2, 4))
    total = maps.sum((1, 2), dtype=np.float64)
    inside = (maps * cover).sum((1, 2), dtype=np.float64)
    return np.divide(inside, total, out=np.full(n, np.nan), where=total > 0)


def mass_table(name: str, profile: str, stage: int = -2):
    """One row per run of a study's headline with stored maps: the mean share of Grad-CAM mass on
    ShapeTex's object (``mass``) over correctly classified images, and that of a uniform map."""
    import pandas as pd
    df = collect(name, profile)
    df = df[df.dataset.str.startswith("shapetex") & (df.backbone == df.backbone.iloc[0])]
    if not len(df):
        return pd.DataFrame(columns=["attention", "arm", "seed", "mass", "uniform", "images"])
    runs = {run.id: run for run in study(name, profile)}
    rows = []
    for run_id, arrays in stored_maps(df).items():
        mask = data_of(runs[run_id]).extras["test"]["mask"][:len(arrays["label"])]
        right = arrays["prediction"] == arrays["label"]
        if right.any():
            share = share_on_mask(arrays[f"stage{stage}"].astype(np.float32)[right], mask[right])
            arm = runs[run_id].attention
            rows.append({"attention": arm, "arm": arm, "seed": runs[run_id].seed,
                         "mass": np.nanmean(share), "uniform": mask[right].mean(),
                         "images": int(right.sum())})
    return pd.DataFrame(rows, columns=["attention", "arm", "seed", "mass", "uniform", "images"])


def gates(model: torch.nn.Module, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """The gate of every attention module on images x: name -> [N, C or 1, h or 1, w or 1]."""
    out, hooks = {}, []
    for name, module in model.named_modules():
        if hasattr(module, "gate"):
            hooks.append(module.register_forward_pre_hook(
                lambda m, args, name=name: out.__setitem__(name, m.gate(args[0]).detach())))
    try:
        with torch.no_grad():
            model.eval()(x)
    finally:
        for hook in hooks:
            hook.remove()
    return out

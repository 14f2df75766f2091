"""ShapeTex, one cause changed at a time: how right a trained network still is, and where it looks.

All else in the images stays as it was, bit by bit. Where the background's style was tied to the
class in training (``rho`` > 0), two groups of test images tell what a network leans on: those whose
style is that of their class, and those where it is another's. The accuracy in the worse of the two
is the worst-group accuracy: Sagawa et al. 2020, arXiv:1911.08731."""
from functools import lru_cache

import numpy as np
import torch

from ..data.batches import as_input
from ..data.datasets import DATASETS, SHAPETEX_OPTIONS
from ..data.shapetex import INTERVENTIONS, make_shapetex
from ..names import parse
from ..training.run import Run
from .cam import focus_stage, logits_of, make, pass_of
from .focus import energy, finite_mean

SHAPETEX = DATASETS["shapetex"]              # its row
IMAGES, SPLIT_IMAGES = 300, 1000
SPLITS = ("test", "flip", "uniform")         # of the background's style: see shapetex.SPLITS
GROUPS = ("aligned", "conflicting")          # the style is that of the class; it is another's
PROBES = {f"split={split}": {"split": split} for split in ("test", "flip")} | {
    name: {"intervene": name} for name in INTERVENTIONS}        # -> the options that it changes
# Over all images, rightly classified or not: accuracy, %; the share of Grad-CAM's mass on the
# object, the object's share of the image, and the mass on distractors.
COLUMNS = ("accuracy", "object", "object_area", "distractors")


shapetex_images = lru_cache(64)(make_shapetex)          # a millisecond each, the same for every run


def groups(model, options: dict) -> np.ndarray:
    """Accuracy in % of each of GROUPS, over all SPLITS: given the group, images are drawn alike."""
    drawn = [shapetex_images(SPLIT_IMAGES, **options | {"split": split}) for split in SPLITS]
    conflicting = np.concatenate([data.background != data.labels for data in drawn]).astype(int)
    hit = np.concatenate([logits_of(model, as_input(data.images, SHAPETEX)).argmax(1).cpu().numpy()
                          == data.labels for data in drawn])
    return 100 * np.bincount(conflicting, hit, 2) / np.bincount(conflicting, minlength=2)


def measure_probes(model: torch.nn.Module, run: Run, n: int = IMAGES) -> dict[str, np.ndarray]:
    """Probe a network trained on ShapeTex with the run's options, on n test images a probe:
    ``probe_name`` [P] and ``probe_<c>`` [P], c in COLUMNS; ``probe_groups`` [2] the accuracy in
    each of GROUPS, %. {} for a run on other data."""
    base, own = parse(run.dataset)
    if base != "shapetex":
        return {}
    plain = SHAPETEX_OPTIONS | own | {"split": "test"}
    stage = focus_stage(model, as_input(shapetex_images(n, **plain).images, SHAPETEX))
    rows = []
    for changes in PROBES.values():
        data = shapetex_images(n, **plain | changes)
        found = pass_of(model, as_input(data.images, SHAPETEX), data.labels, stage)
        maps, right = make("grad_cam", found), found.logits.argmax(1) == data.labels
        rows.append([100 * right.mean(), finite_mean(energy(maps, data.mask)), data.mask.mean(),
                     finite_mean(energy(maps, data.distractor_mask))])
    return {"probe_name": np.array(list(PROBES), "S"),
            "probe_groups": groups(model, plain).astype(np.float32),
            **dict(zip((f"probe_{c}" for c in COLUMNS), np.array(rows, "f4").T, strict=True))}


def probe_rows(arrays: dict) -> list[dict]:
    """What `measure_probes` stored of one run, a dict of COLUMNS for each probe."""
    return [{"probe": name.decode(), **{c: float(arrays[f"probe_{c}"][k]) for c in COLUMNS}}
            for k, name in enumerate(arrays.get("probe_name", ()))]


def group_row(arrays: dict) -> list[dict]:
    """One dict of a run's two groups, [] where it has none: the accuracy in each of GROUPS, and the
    mass on the object (``object``) and on neither object nor distractors (``background``), %, where
    the style is the usual one and (``…_flip``) never that of the class."""
    if "probe_groups" not in arrays:
        return []
    row = dict(zip(GROUPS, map(float, arrays["probe_groups"]), strict=True))
    by_name = {found["probe"]: found for found in probe_rows(arrays)}
    for split, ending in (("split=test", ""), ("split=flip", "_flip")):
        on_object, on_distractors = (100 * by_name[split][c] for c in ("object", "distractors"))
        row |= {f"object{ending}": on_object,
                f"background{ending}": 100 - on_object - on_distractors}
    return [row]

"""ShapeTex, one cause changed at a time: how right a trained network still is, and where it looks.

All else in the images stays as it was, bit by bit. Where the background's style was tied to the
class in training (``rho`` > 0), two groups of test images tell what a network leans on: those whose
style is that of their class, and those where it is another's. The accuracy in the worse of the two
is the worst-group accuracy: Sagawa et al. 2020, arXiv:1911.08731."""
from functools import lru_cache

import numpy as np
import torch

from ..data.batches import Batches
from ..data.datasets import DATASETS, SHAPETEX_OPTIONS
from ..data.shapetex import INTERVENTIONS, ShapeTex, make_shapetex
from ..names import parse
from ..training.run import Run
from .cam import deepest, logits_of, make, passes
from .focus import divisor, energy, finite_mean

IMAGES, SPLIT_IMAGES = 300, 1000
LEVELS = {"clutter": (0, 0.5, 1, 2), "contrast": (0.25, 0.35, 0.5, 1),
          "distractors": (0, 2, 4, 6)}
SPLITS = ("test", "flip", "uniform")         # of the background's style: see shapetex.SPLITS
GROUPS = ("aligned", "conflicting")          # the style is that of the class; it is another's
SAYS = {          # the probes that a table shows; the first three changes are no cause of the label
    "split=test": "as they are", "clutter=2": "twice the clutter",
    "distractors=6": "six distractors", "swap_background": "another background",
    "texture_only": "the texture on a half-disc, no class's shape",
    "shape_only": "the object without its texture", "remove_object": "no object"}
COLUMNS = ("accuracy", "style", "object", "object_area", "distractors", "distractors_area")


def conditions() -> dict[str, dict]:
    """Name of a probe -> the options of `make_shapetex` that it changes."""
    levels = {f"{option}={level:g}": {option: level}
              for option, values in LEVELS.items() for level in values}
    return ({f"split={split}": {"split": split} for split in SPLITS} | levels
            | {name: {"intervene": name} for name in INTERVENTIONS})


@lru_cache(maxsize=64)
def shapetex_images(n: int, **options) -> ShapeTex:
    """The same images for every network; about a millisecond each to make."""
    return make_shapetex(n, **options)


def shapetex_input(images: np.ndarray) -> torch.Tensor:
    row, labels = DATASETS["shapetex"], np.zeros(len(images), np.int64)
    return next(Batches(images, labels, row.mean, row.std).ordered(len(images)))[0]


def answers(model, images: np.ndarray) -> np.ndarray:
    """The classes [N] that a network gives ShapeTex's images."""
    return logits_of(model, shapetex_input(images)).argmax(1).cpu().numpy()


def looks(model, data: ShapeTex, stage: int) -> tuple[np.ndarray, np.ndarray]:
    """The predicted classes [N], and Grad-CAM's maps [N, h, w] of a stage for the true ones."""
    found = passes(model, shapetex_input(data.images), data.labels, (stage,))[stage]
    return found.logits.argmax(1), make("grad_cam", found)


def probe_once(model, options: dict, n: int, stage: int) -> dict[str, float]:
    """COLUMNS of one condition, over all images, rightly classified or not: accuracy, %; the share
    of images that are given the class of their background's style; the shares of Grad-CAM's mass on
    the object and on the distractors, and these things' shares of the image."""
    data = shapetex_images(n, **options)
    found, maps = looks(model, data, stage)
    return {"accuracy": 100 * (found == data.labels).mean(),
            "style": (found == data.background).mean(),
            "object": finite_mean(energy(maps, data.mask)), "object_area": data.mask.mean(),
            "distractors": finite_mean(energy(maps, data.distractor_mask)),
            "distractors_area": data.distractor_mask.mean()}


def groups(model, options: dict) -> dict[str, np.ndarray]:
    """``probe_groups`` [2], accuracy in % of each of GROUPS, and how many images each has, pooled
    over SPLITS: given the group, their images are drawn alike."""
    drawn = [shapetex_images(SPLIT_IMAGES, **options | {"split": split}) for split in SPLITS]
    conflicting = np.concatenate([data.background != data.labels for data in drawn]).astype(int)
    hit = np.concatenate([answers(model, data.images) == data.labels for data in drawn])
    seen = np.bincount(conflicting, minlength=2)
    return {"probe_groups": (100 * np.bincount(conflicting, hit, 2) / seen).astype(np.float32),
            "probe_groups_images": seen.astype(np.int32)}


def measure_probes(model: torch.nn.Module, run: Run, n: int = IMAGES) -> dict[str, np.ndarray]:
    """Probe a network trained on ShapeTex with the run's options, on n test images a condition.

    ``probe_name`` [P] and ``probe_<c>`` [P], c in COLUMNS; ``probe_images`` n; ``probe_groups`` [2]
    the accuracy in each of GROUPS, %. A condition that changes nothing about the run's own images
    has their values. {} for a run on other data."""
    base, own = parse(run.dataset)
    if base != "shapetex":
        return {}
    plain = SHAPETEX_OPTIONS | own | {"split": "test"}
    stage = deepest(model, shapetex_input(shapetex_images(n, **plain).images))[0]
    keys = {name: tuple(sorted((plain | changes).items()))
            for name, changes in conditions().items()}
    found = {key: probe_once(model, dict(key), n, stage) for key in set(keys.values())}
    return {"probe_name": np.array(list(keys), dtype="S"), "probe_images": np.int32(n),
            **{f"probe_{c}": np.array([found[key][c] for key in keys.values()], np.float32)
               for c in COLUMNS}, **groups(model, plain)}


def probe_rows(arrays: dict) -> list[dict]:
    """What `measure_probes` stored of one run, a dict for each probe: COLUMNS, and ``lift``, the
    object's share of the map's mass over its share of the image."""
    columns = {c: arrays.get(f"probe_{c}", np.empty(0)).astype(float) for c in COLUMNS}
    columns["lift"] = columns["object"] / divisor(columns["object_area"])
    names = [name.decode() for name in arrays.get("probe_name", ())]
    return [{"probe": name, **{c: float(values[k]) for c, values in columns.items()}}
            for k, name in enumerate(names)]


def group_row(arrays: dict) -> list[dict]:
    """One dict of a run's two groups, [] where it has none: the accuracy in each of GROUPS, %, and
    in the ``worst``; the mass on the object (``object``) and on neither object nor distractors
    (``background``), and the answers that are the background's class (``style``), %, where the
    style is the usual one and (``…_flip``) never that of the class."""
    if "probe_groups" not in arrays:
        return []
    row = dict(zip(GROUPS, map(float, arrays["probe_groups"]), strict=True))
    row["worst"] = min(row.values())
    by_name = {found["probe"]: found for found in probe_rows(arrays)}
    for split, ending in (("split=test", ""), ("split=flip", "_flip")):
        share = {c: 100 * by_name[split][c] for c in ("object", "distractors", "style")}
        row |= {f"object{ending}": share["object"], f"style{ending}": share["style"],
                f"background{ending}": 100 - share["object"] - share["distractors"]}
    return [row]

"""``python -m attnlib focus STUDY``: measures where a run's network looks while its weights are
here, and stores that beside the record as ``<id>.cam.npz``, so that a reader without weights, data
or GPU sees it all.

The file's arrays, for the stages named in ``stages`` (finest first) and the true class:

- ``map_<method>_<stage>`` [16, h, w] float16: the first test images' maps by every method of MAPS
- ``<measure>_<stage>`` [n] float16: Grad-CAM's, of the first n ≤ 500 test images, with the names of
  `focus.measures`, and ``drop`` and ``increase``; ``road_<stage>`` of the first ROAD_IMAGES
- ``curve_<order>_<stage>`` [9]: the mean probabilities behind ROAD, ``morf`` and ``lerf``
- ``mean_<measure>_<stage>`` [methods]: the same for every method of ``methods``, its mean over the
  images that the network classifies correctly; what runs the network again (``drop``,
  ``increase``, ``road``) over those among the first FEW, ``road`` at the finest stage alone
- ``sanity_<method>`` [levels, 16]: see `sanity`, at the finest stage
- ``label``, ``prediction`` and ``confidence`` [n]; ``version``
- ``gate_…``, ``swap_…`` and ``probe_…``: see `gatestats`, `interventions` and `probes`"""
import time

import numpy as np
import torch
from scipy.special import softmax

from ..experiments.planning import status_of, study
from ..experiments.weights import load_model
from ..training import store
from ..training.environment import machine
from ..training.run import Run
from ..training.trainer import data_of
from . import gatestats, interventions, probes
from .cam import MAPS, deepest, enlarged, fitting, inputs, make, methods_for, passes
from .focus import drop_and_increase, finite_mean, measures
from .road import combined, road
from .sanity import randomised

VERSION = 3
IMAGES, PICTURES = 500, 16    # measured, and kept as maps
ROAD_IMAGES, FEW = 150, 40    # what needs the network again: of Grad-CAM, of each other method
SANITY = ("grad_cam", "eigen_cam", "input_gradient")


def focus(run: Run, profile: str) -> bool:
    """Measure a finished run and store what was seen; the record then holds the file's SHA-256.
    False where this version of it was there already. Raises ``LookupError`` where the run has no
    record or its weights are not here."""
    record = store.read_record(store.record_path(profile, run.id))
    if record is None:
        raise LookupError(f"{run.id} has no finished record in profile {profile!r}")
    if record["status"] != "done" or arrays_of(record):
        return False
    arrays = measure_run(load_model(run, profile).to(machine().device), run)
    digest = store.write_arrays(profile, f"{run.id}.cam", arrays)
    store.write_record(profile, record | {"arrays": record["arrays"] | {"cam": digest}})
    return True


def arrays_of(record: dict) -> dict | None:
    """What was seen of a run; None where nothing was, or only by an earlier version of `focus`."""
    arrays = store.read_arrays(record["profile"], f"{record['id']}.cam",
                               record["arrays"].get("cam"))
    return arrays if arrays and int(arrays.get("version", 0)) == VERSION else None


def measure_run(model: torch.nn.Module, run: Run) -> dict[str, np.ndarray]:
    """Everything that is stored of a trained network, which may be on any device."""
    many, classes = inputs(run, interventions.IMAGES)[1:]
    many = fitting(model, many)
    x, labels = many[:IMAGES], classes[:IMAGES]
    masks = {key: v[:len(x)] for key, v in data_of(run).extras.get("test", {}).items()}
    stages = deepest(model, x)
    seen = passes(model, x, labels, stages, at_input=True)
    probs = softmax(seen[stages[0]].logits, 1)
    small = np.min_scalar_type(probs.shape[1] - 1)
    out = {"version": np.int32(VERSION), "stages": np.array(stages, np.int8),
           "methods": np.array(list(MAPS), "S"), "label": labels.astype(small),
           "prediction": probs.argmax(1).astype(small),
           "confidence": probs.max(1).astype(np.float16)}
    cams = {}
    for stage in stages:
        maps = {name: make(name, seen[stage]) for name in methods_for(seen[stage])}
        cams[f"stage{stage}"] = maps["grad_cam"]
        found = at_stage(model, run, x, labels, probs, maps, masks, stage == stages[0])
        out |= {f"{name}_{stage}": values for name, values in found.items()}
    changed = randomised(model, run, x[:PICTURES], labels[:PICTURES], stages[0], SANITY)
    return (out | {f"sanity_{name}": v.astype(np.float16) for name, v in changed.items()}
            | gatestats.measure_gates(model, x, labels, masks.get("mask"), cams)
            | interventions.measure_swaps(model, many, classes)
            | probes.measure_probes(model, run, min(probes.IMAGES, len(many) // 3)))


def at_stage(model, run: Run, x: torch.Tensor, labels, probs, maps: dict, masks: dict,
             finest: bool) -> dict[str, np.ndarray]:
    """What is stored of one stage, by its name without the stage, from its ``maps`` by method."""
    data, out, means, n = data_of(run), {}, {}, len(x)
    right, few = probs.argmax(1) == labels, min(FEW, max(n // 10, 1))
    for method, own in maps.items():
        main = method == "grad_cam"
        found = measures(own, masks.get("mask"), masks.get("distractor_mask"))
        k = n if main else few
        found |= drop_and_increase(model, x[:k], own[:k], labels[:k],
                                   probs[np.arange(k), labels[:k]], data.mean, data.std)
        k = min(ROAD_IMAGES, n // 3) if main else few * finest
        if k:
            scores = road(model, x[:k], enlarged(own[:k], x.shape[2:]), labels[:k])
            found["road"] = combined(scores)
        out[f"map_{method}"] = own[:PICTURES].astype(np.float16)
        means[method] = {name: finite_mean(v[right[:len(v)]]) for name, v in found.items()}
        if main:
            out |= {name: v.astype(np.float16) for name, v in found.items()}
            out |= {f"curve_{order}": p[right[:k]].mean(0) for order, p in scores.items()}
    return out | {f"mean_{name}": np.array([means.get(m, {}).get(name, np.nan) for m in MAPS],
                                           np.float32) for name in means["grad_cam"]}


def focus_study(name: str, profile: str) -> None:
    """`focus` for every finished run of a study whose weights are here; says what it does."""
    made, there, without, started = 0, 0, 0, time.monotonic()
    runs = [run for run in study(name, profile) if status_of(run, profile) == "done"]
    for k, run in enumerate(runs, 1):
        try:
            began = time.monotonic()
            fresh = focus(run, profile)
            made, there = made + fresh, there + (not fresh)
            if fresh:
                each = (time.monotonic() - started) / made
                print(f"{run.id}: {time.monotonic() - began:.0f} s; {k} of {len(runs)}, at most "
                      f"{each * (len(runs) - k):.0f} s left", flush=True)
        except LookupError:
            without += 1
    print(f"class activation maps: made {made}, found {there}"
          + (f", {without} without weights" if without else ""), flush=True)


def stored_maps(df) -> dict[str, dict]:
    """id -> arrays of ``<id>.cam.npz`` for the finished runs of a `collect` table that have one of
    this version."""
    out = {}
    for row in df[df.status == "done"].itertuples():
        arrays = arrays_of(store.read_record(store.record_path(row.profile, row.id)))
        if arrays:
            out[row.id] = arrays
    return out

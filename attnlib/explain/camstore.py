"""``python -m attnlib focus STUDY``: measures where a run's network looks while its weights are
here, and stores that beside the record as ``<id>.cam.npz``, so that a reader without weights, data
or GPU sees it all.

The file's arrays, for the stage in ``stages`` and the true class:

- ``map_<method>_<stage>`` [16, h, w] float16: the first test images' maps by every method of MAPS
- ``<measure>_<stage>`` [n] float16: Grad-CAM's, of the first n ≤ 500 test images, with the names of
  `focus.measures`, and ``drop``; ``road_<stage>`` of the first ROAD_IMAGES
- ``mean_<measure>_<stage>`` [methods]: of every method of ``methods``, the mean over those of the
  images that the network classifies correctly
- ``sanity_<method>`` [levels, 16]: see `sanity`
- ``label``, ``prediction`` and ``confidence`` [n]; ``version``
- ``gate_map_…``, ``swap_…`` and ``probe_…``: see `interventions` and `probes`"""
import os
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack

import numpy as np
import torch
from scipy.special import softmax

from ..data.arrays import DataBad, DataMissing
from ..experiments.grid import jobs_for
from ..experiments.planning import status_of, study
from ..experiments.weights import load_model
from ..experiments.workers import process_context, settle
from ..training import store
from ..training.environment import machine
from ..training.run import Run
from ..training.trainer import data_of
from . import interventions, probes
from .cam import MAPS, enlarged, fitting, focus_stage, inputs, make, pass_of
from .focus import average_drop, finite_mean, measures
from .road import combined, road
from .sanity import randomised

VERSION = 3
IMAGES, PICTURES = 500, 16    # measured, and kept as maps
SEEDS = 3                     # enough for an interval; each takes half as long as its training
ROAD_IMAGES, GATES = 150, 6    # imputed again and again; whose gates are kept
MEASURED = ("grad_cam", "centre")           # methods; the second knows nothing of the image
SANITY = ("grad_cam", "eigen_cam", "input_gradient")


def focus(run: Run, profile: str) -> bool:
    """Measure a finished run and store what was seen; the record then holds the file's SHA-256.
    False where it was there already. ``LookupError`` where its record or weights are not here."""
    record = store.read_record(profile, run.id)
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
    stage = focus_stage(model, x)
    seen = pass_of(model, x, labels, stage, at_input=True)
    probs = softmax(seen.logits, 1)
    small = np.min_scalar_type(probs.shape[1] - 1)
    maps = {method: make(method, seen) for method in MAPS}
    own = worth(model, run, x, labels, probs, maps)
    changed = randomised(model, run, x[:PICTURES], labels[:PICTURES], stage, SANITY)
    return ({"version": np.int32(VERSION), "stages": np.array([stage], np.int8),
             "methods": np.array(MEASURED, "S"), "label": labels.astype(small),
             "prediction": probs.argmax(1).astype(small),
             "confidence": probs.max(1).astype(np.float16)}
            | {f"{name}_{stage}": values for name, values in own.items()}
            | {f"map_{name}_{stage}": m[:PICTURES].astype(np.float16) for name, m in maps.items()}
            | {f"sanity_{name}": v.astype(np.float16) for name, v in changed.items()}
            | interventions.gate_pictures(model, x[:GATES])
            | interventions.measure_swaps(model, many, classes)
            | probes.measure_probes(model, run, min(probes.IMAGES, max(1, len(many) // 3))))


def worth(model, run: Run, x: torch.Tensor, labels, probs, maps: dict) -> dict[str, np.ndarray]:
    """Every measure [n] of the Grad-CAM ``maps``, and ``mean_<measure>`` of each of MEASURED."""
    data, n, k = data_of(run), len(x), min(ROAD_IMAGES, max(1, len(x) // 3))
    masks = {key: v[:n] for key, v in data.extras.get("test", {}).items()}
    right, sure = probs.argmax(1) == labels, probs[np.arange(n), labels]
    found = [measures(own, masks.get("mask"), masks.get("distractor_mask")) | {
        "drop": average_drop(model, x, own, labels, sure, data.mean, data.std),
        "road": combined(road(model, x[:k], enlarged(own[:k], x.shape[2:]), labels[:k]))}
        for own in (maps[method] for method in MEASURED)]
    means = {f"mean_{name}": np.array([finite_mean(own[name][right[:len(own[name])]])
                                       for own in found], np.float32) for name in found[0]}
    return means | {name: v.astype(np.float16) for name, v in found[0].items()}


def focus_study(name: str, profile: str) -> None:
    """`focus` for a study's finished runs of the first SEEDS seeds whose weights are here, in as
    many processes as ATTNLIB_JOBS says; says what it does."""
    runs = [run for run in study(name, profile)
            if run.seed < SEEDS and status_of(run, profile) == "done"]
    unseen = [run for run in runs if not arrays_of(store.finished_record(profile, run.id))]
    jobs = jobs_for(unseen) if machine().device == "cpu" else 1
    made, without, started, waiting = 0, 0, time.monotonic(), {}
    with ExitStack() as stack:
        if jobs > 1:
            pool = ProcessPoolExecutor(jobs, process_context(), settle, (dict(os.environ),))
            stack.callback(pool.shutdown, cancel_futures=True)
            waiting = {run.id: pool.submit(focus, run, profile) for run in unseen}
        for k, run in enumerate(unseen, 1):
            try:
                waiting[run.id].result() if waiting else focus(run, profile)
            except (KeyError, IndexError):                      # a mistake of ours
                raise
            except LookupError:
                without += 1
                continue
            except (DataMissing, DataBad) as error:
                print(f"skipped {run.id}: {error}", flush=True)
                continue
            made += 1
            each = (time.monotonic() - started) / made
            print(f"{run.id}: {k} of {len(unseen)}, at most {each * (len(unseen) - k):.0f} s left",
                  flush=True)
    lacking = f", {without} without weights" if without else ""
    print(f"class activation maps: made {made}, found {len(runs) - len(unseen)}{lacking}",
          flush=True)


def stored_maps(df) -> dict[str, dict]:
    """id -> what was seen of the finished runs of a `collect` table, by this version."""
    found = {row.id: arrays_of(store.read_record(row.profile, row.id))
             for row in df[df.status == "done"].itertuples()}
    return {run_id: arrays for run_id, arrays in found.items() if arrays}

"""What the gates of a trained network do: how open they are, how much they follow the image, its
class, its object, and what the class activation map shows.

A gate g [N, C or 1, h or 1, w or 1] is read as up to two things: ``channels`` [N, C], its mean over
places, and ``places`` [N, h, w], its mean over channels. Per site and reading, over units u (the
channels, or the places):

    spread         √ mean_u var_n g_nu                how far an image's gate is from the usual one
    input          mean_u var_n g_nu / var_nu g_nu    0: the same for every image, 1: nothing else
    selectivity    mean_u (var between classes of g_u) / mean_u var_n g_nu, channels alone

The between-class variance is freed of what chance adds: (SS_between − (k − 1) MS_within) / SS_total
(ε², Kelley 1935, doi:10.1073/pnas.21.9.554)."""
from collections import defaultdict
from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from ..blocks.channel import SER
from ..blocks.combined import BAM, SCSE, New
from ..blocks.controls import LayerScale
from .cam import BATCH
from .focus import correlation, cover, lift
from .interventions import gate_sites, observed, part_of

ENDS = 0.05                  # within this share of its range's ends a gate counts as saturated
RANGES = {SER: (1, 2), BAM: (1, 2), SCSE: (0, 2), New: (0, 2), LayerScale: (-np.inf, np.inf)}
SHOWN, CHANNELS, CLASSES = 6, 64, 10          # what is kept for pictures: images, channels, classes
FLAT = 1e-6                  # a gate whose values differ by less is one number, and has no pattern
STATISTICS = ("mean", "spread", "spread_units", "saturated", "input", "selectivity",
              "cam_pearson", "mask_lift")


def saturated(gate: torch.Tensor, site: nn.Module) -> torch.Tensor:
    """The share of each image's gate values that lie at the ends of the site's range, [N]; NaN for
    a range without ends."""
    low, high = next((ends for kind, ends in RANGES.items() if isinstance(site, kind)), (0, 1))
    edge = ENDS * (high - low)
    if np.isinf(edge):
        return gate.new_full((len(gate),), np.nan)
    return ((gate < low + edge) | (gate > high - edge)).float().mean((1, 2, 3))


def read_gates(model: nn.Module, x: torch.Tensor) -> dict[str, dict[str, np.ndarray]]:
    """Site -> ``channels``, ``places`` and ``saturated`` of its gates on images x, as there are;
    averaged batch by batch, as whole gates would fill memory."""
    sites = gate_sites(model)
    out = {name: defaultdict(list) for name in sites}

    def see(name, gate):
        gate = gate.float()
        out[name]["saturated"].append(saturated(gate, sites[name]))
        if gate.shape[1] > 1:
            out[name]["channels"].append(gate.mean((2, 3)))
        if gate[0, 0].numel() > 1:
            out[name]["places"].append(gate.mean(1))
    for part in x.split(BATCH):
        observed(model, part, see)
    return {name: {kind: torch.cat(parts).double().cpu().numpy() for kind, parts in found.items()}
            for name, found in out.items()}


def measure_gates(model: nn.Module, x: torch.Tensor, labels, mask: np.ndarray | None = None,
                  cams: dict[str, np.ndarray] | None = None) -> dict[str, np.ndarray]:
    """Statistics of every gate of a network on normalised images x [N, C, H, W] with labels [N];
    ``mask`` bool [N, H, W]; ``cams``: raw class activation maps [≤ N, h, w] of any stages.

    ``gate_site`` [S] and ``gate_kind`` [S] (channels or places) name the rows of ``gate_<s>`` [S],
    s in STATISTICS, NaN where one means nothing there. For pictures of the last site of each stage:
    ``gate_map_<stage>`` float16 [SHOWN, h, w], and ``gate_classes_<stage>`` float16 [classes,
    channels], mean channel gates of the first classes. {} for a network without gates."""
    labels, rows, out = np.asarray(labels), [], {}
    for name, found in read_gates(model, x).items():
        part, own = part_of(name), {"site": name, "saturated": found.pop("saturated").mean()}
        if "channels" in found:
            values = found["channels"]
            rows.append(own | moments(values) | {
                "kind": "channels", "selectivity": selectivity(values, labels)})
            out[f"gate_classes_{part}"] = np.stack(
                [values[labels == c, :CHANNELS].mean(0) for c in np.unique(labels)[:CLASSES]])
        if "places" in found:
            values = found["places"]
            rows.append(own | moments(values) | {
                "kind": "places", "cam_pearson": cam_agreement(values, cams or {}),
                "mask_lift": on_mask(values, mask)})
            out[f"gate_map_{part}"] = values[:SHOWN]
    if not rows:
        return {}
    return {key: picture.astype(np.float16) for key, picture in out.items()} | {
        f"gate_{key}": np.array([row[key] for row in rows], "S") for key in ("site", "kind")} | {
        f"gate_{key}": np.array([row.get(key, np.nan) for row in rows], np.float32)
        for key in STATISTICS}


def moments(values: np.ndarray) -> dict[str, float]:
    """Mean, spreads and input dependence of gates [N, …]; spread_units: over channels or places, of
    the mean gate. Input dependence is NaN for a gate that is one number."""
    flat = values.reshape(len(values), -1)
    within, among = flat.var(0).mean(), flat.mean(0).var()
    return {"mean": flat.mean(), "spread": within ** 0.5, "spread_units": among ** 0.5,
            "input": within / (within + among) if within + among > FLAT ** 2 else np.nan}


def selectivity(values: np.ndarray, labels: np.ndarray) -> float:
    """ε² of channel gates [N, C] by class, the sums of squares added over channels; about 0 where
    the class says nothing, 1 where it says all. NaN where no gate follows the image."""
    classes = np.unique(labels)
    total = ((values - values.mean(0)) ** 2).sum()
    within = sum(((own - own.mean(0)) ** 2).sum() for own in (values[labels == c] for c in classes))
    free = len(values) - len(classes)
    if total <= values.size * FLAT ** 2 or free < 1:
        return np.nan
    return (total - within - (len(classes) - 1) * within / free) / total


def cam_agreement(values: np.ndarray, cams: dict[str, np.ndarray]) -> float:
    """Pearson's correlation of gate maps [N, h, w] with the finest class activation map whose
    cells are whole ones of theirs, at its resolution: the mean over the images where both vary; NaN
    where there are none."""
    fitting = [m for m in cams.values()
               if m[0].size > 1 and not any(np.array(values.shape[1:]) % m.shape[1:])]
    if not fitting:
        return np.nan
    target = max(fitting, key=lambda m: m[0].size)
    gate = cover(values[:len(target)], target.shape[1:])
    varies = (np.ptp(gate, (1, 2)) > FLAT) & (np.ptp(target, (1, 2)) > 0)
    return correlation(gate[varies], target[varies]).mean() if varies.any() else np.nan


def on_mask(values: np.ndarray, mask: np.ndarray | None) -> float:
    """The mean gate [N, h, w] on the object over that of the whole map (1: uniform), cells counted
    by the part that the mask [N, H, W] covers (`focus.cover`): the mean over the images that have
    an object; NaN where none has."""
    if mask is None or not mask.any():
        return np.nan
    has = mask.any((1, 2))
    return lift(values[has], mask[has]).mean()


def gate_rows(arrays: dict) -> Iterator[dict]:
    """The stored statistics of one run, a dict for each site and reading."""
    for k, site in enumerate(arrays.get("gate_site", ())):
        name = site.decode()
        yield {"site": name, "stage": part_of(name), "kind": arrays["gate_kind"][k].decode(),
               **{key: float(arrays[f"gate_{key}"][k]) for key in STATISTICS}}

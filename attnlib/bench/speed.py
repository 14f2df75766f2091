"""What the stored benchmarks say, as tables and a figure. Ratios are taken repeat by repeat, then
their median and quartiles: [low, high] is the middle half of the repeats."""
import math

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from ..analysis.stats import mean_effect
from ..analysis.words import interval, name
from ..blocks import ATTENTION
from ..figures import style
from ..training import store
from .measure import bench_dir, ratio, spread

NOTHING = "No benchmark is stored yet: `make bench` measures this machine."


def stored() -> list[dict]:
    """Every stored benchmark, one a kind of machine; `--quick` ones are left out."""
    found = (store.read_sealed(path) for path in sorted(bench_dir().glob("*.json"))
             if path.name != "quick.json")
    return [body for body in found if body]


def rows(body: dict, kind: str) -> list[dict]:
    return [r for r in body["rows"].values() if r["kind"] == kind and "failed" not in r]


def largest_first() -> list[dict]:
    """The stored benchmarks, those of GPUs first."""
    return sorted(stored(), key=lambda body: "cores" in body["id"])


def steps_table(body: dict):
    """One row a network and block, as a DataFrame: `spread`s of images/s and of the two ratios, of
    the plain loop where it was measured; the share of the machine's matrix products that training
    makes use of (a multiply-accumulate is two operations, a backward pass twice a forward pass);
    and the peak memory in MiB."""
    matrix = next((r["flops_per_second"] for r in rows(body, "matrix")), {})
    peak = matrix.get(body["env"]["precision"], math.nan)
    memory = {(r["backbone"], r["width"]): r["peak_bytes"] for r in rows(body, "memory")}
    out = []
    for r in rows(body, "training"):
        ours, plain = r["images_per_second"]["ours"], r["images_per_second"]["plain"]
        bytes_of = memory.get((r["backbone"], r["width"]), {})
        for arm in sorted(ours, key=list(ATTENTION).index):
            rate = spread(ours[arm])
            out.append({
                "backbone": r["backbone"], "width": r["width"], "attention": arm, "ours": rate,
                "plain": spread(plain[arm]) if arm in plain else None,
                "faster": ratio(ours[arm], plain[arm]) if arm in plain else None,
                "step": ratio(ours["none"], ours[arm]),
                "share": 2 * 3 * r["macs"][arm] * rate["median"] / peak,
                **{f"{loop}_memory": bytes_of.get(f"{loop} {arm}", math.nan) / 2**20
                   for loop in ("ours", "plain")}})
    return pd.DataFrame(out)


def steps() -> dict[tuple, float]:
    """(network, width, block) -> median of a training step as a ratio to none's beside it."""
    return {(r.backbone, r.width, r.attention): r.step["median"]
            for body in reversed(largest_first()) for r in steps_table(body).itertuples()}


# --- Tables as text ---


def middle(s: dict | None, digits: int = 2) -> str:
    """``2.10 [2.05, 2.14]``"""
    if s is None:
        return ""
    return f"{s['median']:.{digits}f} [{s['low']:.{digits}f}, {s['high']:.{digits}f}]"


def digits3(value: float) -> str:
    """Three digits, or all before the point."""
    if math.isnan(value):
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def network_of(r: dict) -> str:
    return f"{name(r['backbone'])}, width {r['width']:g}"


def training_table(body: dict):
    """Training in both loops, and what each block adds to a step."""
    return pd.DataFrame([{
        "network": network_of(r), "block": name(r["attention"]),
        "images/s": digits3(r["ours"]["median"]),
        "plain loop": digits3(r["plain"]["median"]) if r["plain"] else "",
        "ratio": middle(r["faster"]),
        "step ÷ plain network's": middle(r["step"]) if r["attention"] != "none" else "",
        "of the matrix rate, %": digits3(100 * r["share"]),
        "peak memory, MiB": digits3(r["ours_memory"]), "plain loop's": digits3(r["plain_memory"])}
        for r in steps_table(body).to_dict("records")])


def inference_table(body: dict):
    """ms an image in eval mode, and as a ratio to none's in the same repeats."""
    out = []
    for r in rows(body, "inference"):
        for arm in sorted(r["ms_per_image"]["1"], key=list(ATTENTION).index):
            row = {"network": network_of(r), "block": name(arm)}
            for size, times in r["ms_per_image"].items():
                again = r["repeats"][size]
                row[f"ms/image, batch {size}"] = middle(times[arm])
                row[f"÷ none's, batch {size}"] = "" if arm == "none" else \
                    middle(ratio(again[arm], again["none"]))
            out.append(row)
    return pd.DataFrame(out)


KINDS = ("cpu", "cpu with bfloat16", "cuda")


def kind_of(body: dict) -> str:
    """Only CUDA computes in half precision with channels_last (`environment.machine`)."""
    if body["env"]["precision"] == "float32":
        return KINDS[0]
    return KINDS[2] if body["env"]["channels_last"] else KINDS[1]


def step_of(arm: str):
    return lambda body, steps: [r["step"]["median"] for r in steps if r["attention"] == arm]


READINGS = {    # what -> (its targets for KINDS, 0: none; what a benchmark and its steps say of it)
    "training rate ÷ the plain loop's": ("at least", (0, 2, 3), lambda body, steps: [
        r["faster"]["median"] for r in steps if r["faster"]]),
    "input pipeline ÷ the plain one": ("at least", (5, 5, 0), lambda body, steps: [
        ratio(r["images_per_second"]["ours"], r["images_per_second"]["plain"])["median"]
        for r in rows(body, "pipeline")]),
    "SE's step ÷ plain network's": ("at most", (1.15, 1.15, 1.1), step_of("se")),
    "CBAM's step ÷ plain network's": ("at most", (1.25, 1.25, 1.25), step_of("cbam")),
    "the hybrid's step ÷ plain network's": ("at most", (0, 0, 1.25), step_of("hybrid")),
    "a notebook whose records are there, s": ("at most", (15, 15, 15), lambda body, steps: [
        r["wall_seconds"] for r in rows(body, "notebook")])}


def targets_table(body: dict):
    """Every reading, its target on this kind of machine, and of how many it is met; and the paired
    difference of the two loops' accuracies over seeds."""
    out, steps = [], steps_table(body).to_dict("records")
    for what, (word, bounds, measured) in READINGS.items():
        found, bound = measured(body, steps), bounds[KINDS.index(kind_of(body))]
        row = {"what": what, "measured": "", "target": "", "met": ""}
        if found:
            row["measured"] = " to ".join(dict.fromkeys(map(digits3, (min(found), max(found)))))
        if found and bound:
            met = [x >= bound if word == "at least" else x <= bound for x in found]
            row |= {"target": f"{word} {bound:g}", "met": f"{sum(met)} of {len(met)}"}
        out.append(row)
    for r in rows(body, "agreement"):
        gap = mean_effect(100 * np.subtract(r["accuracy"]["ours"], r["accuracy"]["plain"]))
        out.append({"what": f"accuracy − the plain loop's, points, {gap.n} seeds",
                    "measured": interval(gap.mean, gap.low, gap.high),
                    "target": "0 in the interval", "met": f"{int(gap.low <= 0 <= gap.high)} of 1"})
    return pd.DataFrame(out).fillna("")


def benches_markdown() -> str:
    """Markdown: of every stored machine what it is, the targets, and its tables."""
    parts = []
    for body in stored():
        env = body["env"]
        peaks = [f"{flops / 1e12:.3g} TFLOP/s in {kind}" for r in rows(body, "matrix")
                 for kind, flops in r["flops_per_second"].items()]
        loads = [r["load"][0] for r in rows(body, "training") if r.get("load")]
        failed = [f"{key} failed" for key, r in body["rows"].items() if "failed" in r]
        parts.append(", ".join([
            f"**{env['device']}**: {env['cores']} cores, {env['threads']} threads, torch "
            f"{env['torch']}, {env['precision']}", *(f"matrix products {p}" for p in peaks),
            f"load before {max(loads, default=math.nan):g}", f"{name(body['data'])} images",
            *failed]) + ".")
        parts += [found.to_markdown(index=False, disable_numparse=True) for found in (
            targets_table(body), training_table(body), inference_table(body))
            if len(found)]
    return "\n\n".join(parts) or NOTHING


# --- The figure ---


def figure(bodies: list[dict] | None = None) -> plt.Figure:
    """How many times as fast as the plain loop each network trains, and how many times none's step
    each block takes: medians and quartiles of the ratios repeat by repeat; two panels a machine."""
    panels = []
    for body in bodies or stored():
        found = steps_table(body).to_dict("records")
        for what, says in (("faster", "training rate ÷ usual loop's"),
                           ("step", "training step ÷ plain network's")):
            shown = [{"network": network_of(r), "arm": r["attention"], "says": says} | r[what]
                     for r in found if r[what] and (what, r["attention"]) != ("step", "none")]
            panels += [(body["env"]["device"], pd.DataFrame(shown))] if shown else []

    def draw(axis, found):
        style.reference(axis, 1, vertical=True)
        style.interval_bars(axis, found, "median", "network")
        axis.set_xlabel(found.says.iloc[0])
    return style.stacked(panels, draw, "network", nothing=NOTHING)

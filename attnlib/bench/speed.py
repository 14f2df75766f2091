"""What the stored benchmarks say: sentences, tables and the figure. Ratios are taken repeat by
repeat, then their median and quartiles: [low, high] is the middle half of the repeats."""
import math
import os
from typing import NamedTuple

from ..analysis.words import interval, name, plural
from ..blocks import ATTENTION
from ..figures import plots
from ..training import store
from .bench import bench_dir
from .measure import ratio, spread

NOTHING = "No benchmark is stored yet: `make bench` measures this machine."


def stored() -> list[dict]:
    """Every stored benchmark, one a kind of machine; `--quick` ones are left out."""
    folder = bench_dir()
    files = sorted(e.name for e in os.scandir(folder)) if folder.is_dir() else []
    read = (store.read_sealed(folder / f) for f in files
            if f.endswith(".json") and f != "quick.json")
    return [body for body in read if body]


def rows(body: dict, kind: str) -> list[dict]:
    return [r for r in body["rows"].values() if r["kind"] == kind and "failed" not in r]


def in_order(arms) -> list[str]:
    """As in the table of blocks, none first: files sort their keys."""
    return sorted(arms, key=list(ATTENTION).index)


def middle(s: dict, digits: int = 2) -> str:
    """``2.10 [2.05, 2.14]``"""
    return f"{s['median']:.{digits}f} [{s['low']:.{digits}f}, {s['high']:.{digits}f}]"


def share(body: dict, rate: float, macs: int) -> float:
    """The part of the machine's matrix products that training at ``rate`` images/s makes use of:
    a multiply-accumulate is two operations, a backward pass twice a forward pass."""
    found = rows(body, "matrix")
    peak = found[0]["flops_per_second"].get(body["env"]["precision"]) if found else None
    return 2 * 3 * macs * rate / peak if peak else math.nan


def table(body: dict):
    """One row a network and block, as a DataFrame: `spread`s of images/s and of the two ratios, and
    the share of the matrix rate."""
    import pandas as pd
    out = []
    for r in rows(body, "training"):
        ours, plain = r["images_per_second"]["ours"], r["images_per_second"]["plain"]
        for arm in in_order(ours):
            rate = spread(ours[arm])
            out.append({"backbone": r["backbone"], "width": r["width"], "attention": arm,
                        "ours": rate, "plain": spread(plain[arm]),
                        "faster": ratio(ours[arm], plain[arm]),
                        "step": ratio(ours["none"], ours[arm]),
                        "share": share(body, rate["median"], r["macs"][arm])})
    return pd.DataFrame(out)


def markdown(out: list[dict]) -> str:
    import pandas as pd
    return pd.DataFrame(out).to_markdown(index=False, disable_numparse=True)


def largest_first() -> list[dict]:
    """The stored benchmarks, those of GPUs first."""
    return sorted(stored(), key=lambda body: "cores" in body["id"])


def latencies(batch: str = "64") -> dict[tuple, float]:
    """(network, width, block) -> median ms an image in eval mode."""
    return {(row["backbone"], row["width"], arm): times["median"]
            for body in reversed(largest_first()) for row in rows(body, "inference")
            for arm, times in row["ms_per_image"].get(batch, {}).items()}


def steps() -> dict[tuple, float]:
    """(network, width, block) -> median of a training step as a ratio to none's beside it."""
    return {(r.backbone, r.width, r.attention): r.step["median"]
            for body in reversed(largest_first()) for r in table(body).itertuples()}


def training_table(body: dict) -> str:
    """Markdown: training in both loops, and what each block adds to a step."""
    return markdown([{
        "network": f"{name(r['backbone'])}, width {r['width']:g}", "block": name(r["attention"]),
        "images/s": f"{r['ours']['median']:,.0f}",
        "plain loop": f"{r['plain']['median']:,.0f}", "ratio": middle(r["faster"]),
        "step ÷ none's": middle(r["step"]) if r["attention"] != "none" else "",
        "of the matrix rate": f"{100 * r['share']:.0f} %",
        "peak memory, MiB": memory_cell(body, r)}
        for r in table(body).to_dict("records")])


def inference_table(body: dict) -> str:
    """Markdown: ms an image in eval mode, and as a ratio to none's in the same repeats."""
    out = []
    for r in rows(body, "inference"):
        for arm in in_order(r["ms_per_image"]["1"]):
            row = {"network": f"{name(r['backbone'])}, width {r['width']:g}", "block": name(arm)}
            for size, times in r["ms_per_image"].items():
                again = r["repeats"][size]
                row |= {f"ms/image, batch {size}": middle(times[arm]),
                        f"÷ none's, batch {size}": "" if arm == "none" else
                        middle(ratio(again[arm], again["none"]))}
            out.append(row)
    return markdown(out)


def reading(body: dict) -> str:
    """Sentences: the machine, the headline ratio, and everything that has no row in the table."""
    parts = [machine_words(body), *(SAYS[k](r) for k in SAYS for r in rows(body, k)[:1])]
    found = table(body)
    if len(found):
        medians = [s["median"] for s in found.faster]
        parts.insert(1, f"Training is {min(medians):.2f} to {max(medians):.2f} times as fast as "
                        f"the plain loop over {plural(len(found), 'pair')} of network and block.")
    if of := next((r["of"] for r in rows(body, "memory")), ""):
        parts.append(f"Peak memory is that of {of}.")
    failed = [key for key, r in body["rows"].items() if "failed" in r]
    if failed:
        parts.append("Not measured, for an error: " + ", ".join(failed) + ".")
    return " ".join(parts)


TIMED = ("training", "inference", "pipeline", "matrix", "road")


def machine_words(body: dict) -> str:
    env = body["env"]
    peaks = [f"{rate / 1e12:.3g} TFLOP/s in {kind}" for r in rows(body, "matrix")
             for kind, rate in r["flops_per_second"].items()]
    cores = f"{env['cores']} cores, {plural(env['threads'], 'thread')}"
    loads = [r["load"][0] for kind in TIMED for r in rows(body, kind) if r.get("load")]
    return (f"**{env['device']}** ({cores}; torch {env['torch']}, training in {env['precision']}"
            + (f"; matrix products reach {' and '.join(peaks)}" if peaks else "")
            + f"; load average before the start {max(loads, default=math.nan):.2f}), "
            f"on {name(body['data'])} images.")


def pipeline_words(r: dict) -> str:
    rate = r["images_per_second"]
    ours, plain = (spread(rate[k])["median"] for k in ("ours", "plain"))
    return (f"The input pipeline alone gives {ours:,.0f} images/s, the plain one {plain:,.0f} "
            f"(ratio {middle(ratio(rate['ours'], rate['plain']), 1)}).")


class SameAccuracy(NamedTuple):
    """The paired difference of the two loops over seeds, in points: in words, and whether it lies
    ``inside`` what seeds alone do, whose sd ``noise`` is that of the noisier loop."""
    ours: float
    plain: float
    gap: str
    noise: float
    inside: bool


def same_accuracy(r: dict) -> SameAccuracy:
    import numpy as np

    from ..analysis.inference import t_half_width
    from ..analysis.stats import MIN_SEEDS
    ours, plain = (100 * np.array(r["accuracy"][k]) for k in ("ours", "plain"))
    gaps, n = ours - plain, len(ours)
    half = t_half_width(gaps.std(ddof=1), n) if n >= MIN_SEEDS else math.nan
    noise = max(ours.std(ddof=1), plain.std(ddof=1)) if n > 1 else math.nan
    return SameAccuracy(ours.mean(), plain.mean(),
                        interval(gaps.mean(), gaps.mean() - half, gaps.mean() + half), noise,
                        bool(abs(gaps.mean()) <= half and abs(gaps.mean()) <= 2 * noise))


def agreement_words(r: dict) -> str:
    """The paired difference of the two loops over seeds, against how far seeds alone move one."""
    found, n = same_accuracy(r), len(r["accuracy"]["ours"])
    verdict = ("within seed noise, which is not yet shown to be equal" if found.inside
               else "**more than seed noise**")
    return (f"Same accuracy? After {plural(r['epochs'], 'epoch')} of {r['n_train']:,} "
            f"images (`{r['recipe']}`, {name(r['backbone'])}, width {r['width']:g}) ours reaches "
            f"{found.ours:.1f} %, the plain loop {found.plain:.1f} %; the paired difference over "
            f"{plural(n, 'seed')} is {found.gap} points, {verdict} (sd over seeds "
            f"{found.noise:.1f}).")


def import_words(r: dict) -> str:
    took = {key: spread(times)["median"] for key, times in r["seconds_beyond_torch"].items()}
    return (f"`import attnlib` adds {took['bare']:.3f} s to torch and numpy, "
            f"{took['whole']:.2f} s with every name of its interface.")


def notebook_words(r: dict) -> str:
    return (f"`{r['notebook']}` with its records at hand (profile `{r['profile']}`) runs in "
            f"{r['wall_seconds']:.0f} s.")


def memory_cell(body: dict, row: dict) -> str:
    """Peak memory in training of one network and block, of none also in the plain loop, MiB."""
    found = next((r["peak_bytes"] for r in rows(body, "memory")
                  if (r["backbone"], r["width"]) == (row["backbone"], row["width"])), {})
    ours, plain = (f"{found[key] / 2**20:,.0f}" if key in found else ""
                   for key in (f"ours {row['attention']}", f"plain {row['attention']}"))
    return f"{ours} (plain loop {plain})" if plain else ours


ROAD_NOTHING = "ROAD's speed has not been measured here: `python -m attnlib bench` does."


def road_words() -> str:
    """How much faster ROAD is than pytorch-grad-cam's, on every machine that measured it."""
    found = [(body, r) for body in stored() for r in rows(body, "road")]
    return " ".join(road_row(r, body) for body, r in found) or ROAD_NOTHING


def road_row(r: dict, body: dict | None = None) -> str:
    """One machine's ROAD: imputation alone, and with the network."""
    ms = {key: 1e3 * spread(r[key])["median"] for key in r if isinstance(r[key], list)}
    env = body["env"] if body else {}
    where = f" ({env['device']}, {plural(env['threads'], 'thread')})" if env else ""
    return (f"ROAD{where}: filling in the removed pixels at all percentiles takes {ms['ours']:.1f} "
            f"ms an image, pytorch-grad-cam's way {ms['theirs']:.1f} ms, "
            f"{middle(ratio(r['theirs'], r['ours']), 1)} times as long; with the answers of a "
            f"{name(r['backbone'])} of width {r['width']:g}, which both wait for, "
            f"{ms['ours_whole']:.0f} against {ms['theirs_whole']:.0f} ms, "
            f"{middle(ratio(r['theirs_whole'], r['ours_whole']), 1)} times. The filled images "
            f"differ by at most {r['difference']:.1g}; the noise that both add has sd "
            f"{r['noise']:g}.")


SAYS = {"pipeline": pipeline_words, "agreement": agreement_words, "import": import_words,
        "notebook": notebook_words, "road": road_row}


def summary() -> str:
    """Markdown for the README and 02_baselines: every stored machine's reading, what it reaches of
    the targets, and its tables."""
    from .targets import targets_table
    parts = []
    for body in stored():
        parts += [reading(body), targets_table(body)]
        parts += [make(body) for kind, make in TABLES.items() if rows(body, kind)]
    return "\n\n".join(parts) if parts else NOTHING


TABLES = {"training": training_table, "inference": inference_table}


def figure(bodies: list[dict] | None = None):
    """Left: how many times as fast as the plain loop each network and block trains. Right: how
    many times none's step each block takes. Points are medians of the ratios repeat by repeat,
    bars their quartiles; a row of panels a machine."""
    import matplotlib.pyplot as plt
    bodies = [b for b in (stored() if bodies is None else bodies) if rows(b, "training")]
    if not bodies:
        image, axes = plots.panels(1)
        axes[0].axis("off")
        axes[0].text(0.5, 0.5, "no benchmark stored", ha="center", va="center", color="#777777")
        return image
    tables = [table(body) for body in bodies]
    image, axes = plt.subplots(len(bodies), 2, layout="constrained", squeeze=False, sharey="row",
                               figsize=(plots.PAGE, sum(1.1 + 0.26 * len(t) for t in tables)))
    for (left, right), found, body in zip(axes, tables, bodies, strict=True):
        dots(left, found, "faster")
        dots(right, found[found.attention != "none"], "step")
        nets = {key: -sum(cell.index) / len(cell)
                for key, cell in found.groupby(["backbone", "width"], sort=False)}
        left.set_yticks(list(nets.values()), [f"{name(b)}\nwidth {w:g}" for b, w in nets])
        left.set_ylim(0.6 - len(found), 0.6)
        for first in list(found.groupby(["backbone", "width"], sort=False).head(1).index)[1:]:
            for axis in (left, right):
                axis.axhline(0.5 - first, color="#cccccc", linewidth=0.8)
        left.set(xlabel="training rate ÷ plain loop's", title=body["env"]["device"])
        right.set(xlabel="training step ÷ none's", title="what attention costs")
        right.tick_params(labelleft=False)
        handles = {arm: left.plot([], [], plots.look(arm).marker, color=plots.look(arm).colour,
                                  label=plots.short(arm))[0] for arm in found.attention.unique()}
        right.legend(handles=list(handles.values()), fontsize=8.5, loc="center left",
                     bbox_to_anchor=(1, 0.5))
    return image


def dots(axis, found, what: str) -> None:
    """Medians and quartiles of one column from top to bottom; 1 is a line, and in the picture."""
    axis.axvline(1, color="#888888", linewidth=1)
    for r in found.itertuples():
        s, look = getattr(r, what), plots.look(r.attention)
        bars = [[s["median"] - s["low"]], [s["high"] - s["median"]]]
        axis.errorbar(s["median"], -r.Index, xerr=bars, fmt=look.marker, color=look.colour,
                      capsize=3)
    axis.grid(axis="y", visible=False)

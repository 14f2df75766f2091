"""Keeps the README's results, costs, speed and pictures in step with the records: text between
marks."""
import json
import math
import re
from pathlib import Path

import numpy as np

from .. import files
from ..analysis.stats import MIN_SEEDS, tested_gains
from ..analysis.words import (
    accuracy_table,
    counted_verdicts,
    interval,
    networks_table,
    place,
    reading,
)
from ..bench import speed
from ..blocks import ATTENTION
from ..experiments.planning import estimate_seconds, resolve_profile, study
from ..experiments.reading import collect
from ..experiments.studies import PROFILES, STUDIES, plans
from ..explain.camstore import PICTURES, stored_maps
from ..figures import plots
from ..networks.build import build_model
from ..networks.cost import cost
from ..settings import REPO
from ..training.trainer import data_of


def update(path: Path | None = None) -> Path:
    """Rewrite each ``<!-- name --> … <!-- /name -->`` block of the README, and its picture where
    the embedded study's maps are at hand. Raises ``ValueError`` where a mark is missing."""
    path = path or REPO / "README.md"
    text = path.read_text(encoding="utf-8")
    for name, make in {"results": results, "costs": costs, "blocks": blocks,
                       "networks": networks_table, "expect": expect, "bench": bench,
                       "faults": faults}.items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        if not pattern.search(text):
            raise ValueError(f"{path.name} has no marks <!-- {name} --> and <!-- /{name} -->")
        body = make()
        text = pattern.sub(lambda m, body=body: f"{m[1]}\n{body}\n\n{m[2]}", text)
    files.write_atomic(path, text.encode())
    picture()
    return path


def results() -> str:
    """The headline study from its best profile: its reading, what the gates' start does to it, and
    its table."""
    from .article import open_words
    profile = resolve_profile("best", "hybrid")
    df = collect("hybrid", profile)
    begun = df[df.status == "done"].groupby(["dataset", "backbone"]).size().index
    if len(begun):
        df = df[[cell in begun for cell in zip(df.dataset, df.backbone, strict=True)]]
    why = open_words(resolve_profile("best", "controls"))
    return "\n\n".join(filter(None, (reading(df, profile), why, accuracy_table(df))))


def expect() -> str:
    """What a block did in the headline study's own records, for readers who think of adding one."""
    profile = resolve_profile("best", "hybrid")
    df = collect("hybrid", profile)
    rows = tested_gains(df)
    if not len(rows):
        return f"Profile `{profile}` has no comparison over {MIN_SEEDS} seeds yet."
    counts = counted_verdicts(rows)
    where = ", ".join(dict.fromkeys(place(r) for r in rows.itertuples()))
    gains = " to ".join(interval(g, math.nan, math.nan) for g in (rows.gain.min(), rows.gain.max()))
    more = 100 * (df.attention_params / (df.params - df.attention_params))[df.attention_params > 0]
    return (f"From scratch, in our records ({where}; profile `{profile}`): {len(rows)} comparisons "
            f"of a block with none over {MIN_SEEDS} seeds or more, {counts}; mean gains from "
            f"{gains} points, for {more.min():.1f} to {more.max():.1f} % more parameters. "
            "Pretrained networks were not measured.")


def costs() -> str:
    """What each profile trains and about how long that takes; folded below, study by study."""
    import pandas as pd
    rows = []
    for profile, row in PROFILES.items():
        runs = list(dict.fromkeys(r for name in STUDIES for r in study(name, profile)))
        hours = sum(estimate_seconds(r) for r in runs) / 3600
        took = f"{max(1, 60 * hours):.0f} min" if hours < 2 else f"{hours:.0f} h"
        rows.append({"profile": f"`{profile}`", "what it is": row.says, "runs": len(runs),
                     "training on two CPU cores without bf16, about":
                         took if profile != "full" else "not on a CPU"})
    return (pd.DataFrame(rows).to_markdown(index=False)
            + "\n\n<details><summary>Each study, its question and its cost</summary>\n\n"
            + study_costs() + "\n\n</details>")


def study_costs(profiles: tuple[str, ...] = ("small", "pilot", "real", "full")) -> str:
    """Markdown: every study, its question, and for each profile its runs and about how long they
    train, if no other study has trained them yet: on two CPU cores, ``full`` on one large GPU."""
    import pandas as pd
    rows = []
    for name, row in STUDIES.items():
        cells = {"study": f"`{name}`", "question": row.question}
        for profile in profiles:
            device = "cuda" if profile == "full" else "cpu"
            runs = study(name, profile)
            minutes = sum(estimate_seconds(r, device) for r in runs) / 60
            took = f"{max(1, minutes):.0f} min" if minutes < 120 else f"{minutes / 60:.0f} h"
            cells[f"`{profile}`"] = f"{len(runs)} runs, {took}" if runs else "–"
        rows.append(cells)
    return pd.DataFrame(rows).to_markdown(index=False) + (
        "\n\nTimes are estimates from images and multiply-accumulates: all but `full` at a rate "
        "measured on two CPU cores, that at a guess for one large GPU. Studies share runs, which "
        "are trained once.")


def blocks() -> str:
    """Every block by name: what it does, where it stands by default, its cost in ResNet-18."""
    import pandas as pd
    rows = []
    for name, row in ATTENTION.items():
        c = cost(build_model("resnet18", name), (3, 32, 32))
        rows.append({"name": f"`{name}`", "what it is": row.says,
                     "default place": f"`{row.placement}`" if name != "none" else "",
                     "parameters in ResNet-18": f"{c['attention_params']:,}"})
    return pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True)


def faults(path: Path | None = None) -> str:
    """What the full run of the fault tests did and found, from the result it stored."""
    import pandas as pd
    path = path or REPO / "results" / "faults.json"
    if not path.is_file():
        return "The full counts have not been stored yet: `pytest -m slow tests/faults` does."
    stored = json.loads(path.read_text(encoding="utf-8"))
    rows = [{"": int(number), "fault": row["fault"], "done and found": ", ".join(
        f"{n:,} {word.replace('_', ' ')}" for word, n in row["counts"].items()) or "–",
        "tests": ", ".join(f"{n} {word}" for word, n in row["outcome"].items())}
        for number, row in stored["faults"].items()]
    where = f"{stored['cores']} cores ({stored['os']}, PyTorch {stored['torch']}, seed "
    return (f"{len(rows)} faults in {stored['seconds'] / 60:.0f} minutes on {where}"
            f"{stored['seed']}):\n\n"
            + pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True))


def bench() -> str:
    """The stored benchmarks, and their figure once there is one."""
    if not speed.stored():
        return speed.NOTHING
    plots.use_style()
    plots.save(speed.figure(), "bench", "readme")
    return ("![Training rate over the plain loop's, and each block's step over none's]"
            "(figures/readme/bench.png)\n\n" + speed.summary())


def picture() -> None:
    """``figures/readme/overview.png``: the first test image that every headline arm of the embedded
    study (seed 0) classifies correctly, its mask, and the arms' Grad-CAM."""
    plan = plans("hybrid", "small")[0]
    runs = {r.attention: r for r in study("hybrid", "small")
            if r.seed == 0 and r.backbone == plan.backbone}
    found = stored_maps(collect("hybrid", "small"))
    maps = {arm: found[run.id] for arm, run in runs.items() if run.id in found}
    if len(maps) < len(plan.arms):
        print("README picture left as it is: the maps of profile small are not all here "
              "(make reproduce PROFILE=small makes them)")
        return
    right = np.all([(m["prediction"] == m["label"])[:PICTURES] for m in maps.values()], axis=0)
    if not right.any():
        return
    pick = np.flatnonzero(right)[:2]
    data = data_of(runs["none"])
    images, labels = data.split("test")
    plots.use_style()
    figure = plots.overlays(images[pick], {arm: m["map_grad_cam_-2"][pick].astype(np.float32)
                                           for arm, m in maps.items()},
                            data.extras["test"]["mask"][pick],
                            titles=[data.classes[k] for k in labels[pick]])
    plots.save(figure, "overview", "readme")

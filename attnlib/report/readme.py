"""Keeps the results, costs, speed and pictures of the README and docs/ in step with the records:
text between marks."""
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd

from .. import files
from ..analysis.costs import networks_table
from ..bench import budget, speed
from ..blocks import ATTENTION
from ..experiments.planning import best_profile, estimate_seconds, study
from ..experiments.reading import collect
from ..experiments.studies import COMMITTED, PROFILES, STUDIES, plans
from ..explain.camstore import PICTURES, stored_maps
from ..figures import cards, plots
from ..figures.summary import summary
from ..networks.cost import cost_of
from ..settings import REPO
from ..training.store import all_records
from ..training.trainer import data_of
from .article import full_audit
from .show import as_markdown, claims_headline, claims_table, gains_markdown, short_answer


def update() -> list[Path]:
    """Rewrite each ``<!-- name --> … <!-- /name -->`` block of PAGES, and the README's pictures.
    Raises ``ValueError`` where a mark is missing."""
    plots.use_style()
    for page, marks in PAGES.items():
        path = REPO / page
        text = path.read_text(encoding="utf-8")
        for name, make in marks.items():
            pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
            if not pattern.search(text):
                raise ValueError(f"{page} has no marks <!-- {name} --> and <!-- /{name} -->")
            body = make()
            text = pattern.sub(lambda m, body=body: f"{m[1]}\n{body}\n\n{m[2]}", text)
        files.write_atomic(path, text.encode())
    overview_picture()
    plots.save(summary(), "summary", "readme")
    return [REPO / page for page in PAGES]


def profile_costs() -> str:
    """What each profile trains, what of it a clone has, and about how long that takes."""
    return as_markdown(pd.DataFrame([{
        "profile": f"`{profile}`", "what it is": row.says,
        "finished in a clone": len(all_records(profile)) if profile in COMMITTED else "–",
        "training on two CPU cores without bf16, about": training_of(
            dict.fromkeys(run for name in STUDIES for run in study(name, profile)), profile)}
        for profile, row in PROFILES.items()]))


def study_costs() -> str:
    """Every study, its question, and what each profile trains for it, taken by itself."""
    return as_markdown(pd.DataFrame([{"study": f"`{name}`", "question": row.question} | {
        f"`{profile}`": training_of(study(name, profile), profile)
        for profile in PROFILES if profile != "smoke"} for name, row in STUDIES.items()]))


def training_of(runs, profile: str) -> str:
    """``61 runs, 9 min``, on two CPU cores or, of ``full``, on one large GPU (a guess)."""
    if not runs:
        return "–"
    device, where = ("cuda", " on a GPU") if profile == "full" else ("cpu", "")
    minutes = max(1, sum(estimate_seconds(run, device) for run in runs) / 60)
    took = f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.0f} h"
    return f"{len(runs)} runs, {took}{where}"


def blocks() -> str:
    """Every block by name: what it does, where it stands by default, its cost in ResNet-18."""
    return as_markdown(pd.DataFrame([{
        "name": f"`{name}`", "what it is": row.says,
        "default place": f"`{row.placement}`" if name != "none" else "",
        "parameters in ResNet-18": cost_of("resnet18", name)["attention_params"]}
        for name, row in ATTENTION.items()]))


def faults(path: Path | None = None) -> str:
    """What the full run of the fault tests did and found, from the result it stored: by the machine
    that stands in the last row."""
    path = path or REPO / "results" / "faults.json"
    if not path.is_file():
        return "–"
    stored = json.loads(path.read_text(encoding="utf-8"))

    def counts(found: dict) -> str:
        return ", ".join(f"{n:,} {word.replace('_', ' ')}" for word, n in found.items()) or "–"
    rows = [{"": number, "fault": row["fault"], "done and found": counts(row["counts"]),
             "tests": counts(row["outcome"])} for number, row in stored["faults"].items()]
    rows.append({"": "", "fault": f"seed {stored['seed']}, {stored['seconds'] / 60:.0f} min",
                 "done and found": f"{stored['cores']} cores, {stored['os']}",
                 "tests": f"PyTorch {stored['torch']}"})
    return as_markdown(pd.DataFrame(rows))


def bench_results() -> str:
    """The stored benchmarks, and their figure once there is one."""
    if not speed.stored():
        return speed.NOTHING
    plots.save(speed.figure(), "bench", "readme")
    return ("![Training rate over the plain loop's, and each block's step over the plain network's]"
            "(../figures/readme/bench.png)\n\n" + speed.benches_markdown())


def budget_results() -> str:
    """What accuracy costs in core minutes: the figure and its table."""
    table = budget.budget_table()
    plots.save(budget.budget_figure(table), "budget", "readme")
    return ("![Test accuracy of plain networks on CIFAR-10 against core minutes]"
            "(../figures/readme/budget.png)\n\n" + budget.budget_markdown(table))


def overview_picture() -> None:
    """``figures/readme/overview.png``: the first two test images that every headline arm of the
    embedded study (seed 0) classifies correctly, their masks, and the arms' Grad-CAM."""
    plan, found = plans("hybrid", "small")[0], stored_maps(collect("hybrid", "small"))
    runs = {r.attention: r for r in study("hybrid", "small")
            if r.seed == 0 and r.backbone == plan.backbone}
    maps = {arm: found[run.id] for arm, run in runs.items() if run.id in found}
    if len(maps) < len(plan.arms):
        print("README picture left as it is: the maps of profile small are not all here "
              "(make reproduce PROFILE=small makes them)")
        return
    right = np.all([(m["prediction"] == m["label"])[:PICTURES] for m in maps.values()], axis=0)
    pick, data = np.flatnonzero(right)[:2], data_of(runs["none"])
    images, labels = data.split("test")
    figure = plots.overlays(images[pick], {arm: m["map_grad_cam_-2"][pick].astype(np.float32)
                                           for arm, m in maps.items()},
                            data.extras["test"]["mask"][pick],
                            titles=[data.classes[k] for k in labels[pick]])
    plots.save(figure, "overview", "readme")


PAGES = {
    "README.md": {"answer": short_answer, "claims": lambda: claims_headline(full_audit()),
                  "costs": profile_costs, "results": lambda: gains_markdown(
                      collect("headline", best_profile("headline")))},
    "docs/studies.md": {"studies": study_costs},
    "docs/blocks.md": {"blocks": blocks, "networks": lambda: as_markdown(networks_table()),
                       "cards": cards.all_cards},
    "docs/own-network.md": {"finetune": lambda: gains_markdown(collect("finetune", "real"))},
    "docs/claims.md": {"claims": lambda: as_markdown(claims_table(full_audit()))},
    "docs/speed.md": {"bench": bench_results, "budget": budget_results},
    "docs/reliability.md": {"faults": faults}}

"""The golden tables: what every network costs, and what every run is called and computes.

``python tests/golden.py`` writes golden_models.json and golden_runs.json again and names the rows
that changed. Do that for a new row of a table; a changed row means that older records no longer
describe the code: raise the ``version`` of its block, network or data set first."""
import dataclasses
import json
from pathlib import Path

import numpy as np
import torch
from helpers import compute_on_cpu, train_module

from attnlib.blocks import ATTENTION
from attnlib.networks import BACKBONES
from attnlib.networks.build import build_model
from attnlib.networks.cost import cost
from attnlib.training.recipes import RECIPES
from attnlib.training.run import Run

FOLDER = Path(__file__).resolve().parent
MODELS, RUNS = FOLDER / "golden_models.json", FOLDER / "golden_runs.json"
CANONICAL = (
    {},
    {"attention": "se", "seed": 1},
    {"attention": "cbam", "dataset": "cifar10"},
    {"attention": "hybrid", "dataset": "fashionmnist", "backbone": "squeezenet"},
    {"attention": "layerscale", "backbone": "squeezenet"},
    {"attention": "shuffled", "backbone": "squeezenet", "batch_size": 64},
    {"attention": "ca", "backbone": "squeezenet", "placement": "stage@12"},
    {"attention": "sa", "backbone": "squeezenet", "lr": 0.05, "weight_decay": 0.0},
    {"attention": "se(reduction=8,bias=True)", "dataset": "cifar100", "placement": "conv"},
    {"attention": "cbam(gamma=1)", "backbone": "squeezenet", "placement": "head"},
    {"attention": "hybrid", "dataset": "shapetex(rho=0.95,label=bg)", "backbone": "squeezenet"},
    {"attention": "se", "dataset": "cifar10", "width": 0.25, "epochs": 8, "n_train": 10_000,
     "n_val": 2_000},
    *({"backbone": "squeezenet", "attention": "se", "recipe": recipe} for recipe in RECIPES
      if recipe != "strong"),
)

PAIRS = [(b, a) for b, network in BACKBONES.items() for a, block in ATTENTION.items()
         if block.placement != "replace" or "replace" in network.placements]


def model_row(backbone: str, attention: str) -> dict[str, int]:
    """Parameters, MACs and sites at full width on 32×32×3; nothing is computed or allocated."""
    with torch.device("meta"):
        counted = cost(build_model(backbone, attention), (3, 32, 32))
    return {key: counted[key] for key in ("params", "attention_params", "macs", "sites")}


def model_table() -> dict[str, dict[str, int]]:
    return {f"{b} + {a}": model_row(b, a) for b, a in PAIRS}


def three_losses(fields: dict, twin: int = 0) -> list[float]:
    """The losses of the run's first three steps, made small: ShapeTex, an eighth of the width, 16
    images, an epoch a step, float32 on the CPU. A ``twin``'s weights are off by a rounding."""
    run = Run(**fields)
    dataset = run.dataset if run.dataset.startswith("shapetex") else "shapetex"
    run = dataclasses.replace(run, dataset=dataset, width=0.125, epochs=3, n_train=16, n_val=10,
                              n_test=10, batch_size=16)
    trainer = train_module.Trainer(run, train_module.data_of(run))
    rng = torch.Generator().manual_seed(twin)
    for p in trainer.model.parameters() if twin else ():
        p.data *= 1 + 1e-7 * torch.randn(p.shape, generator=rng)
    return [round(trainer.epoch(epoch)["loss"], 6) for epoch in range(3)]


def run_table() -> list[dict]:
    """A stored row whose losses differ by rounding alone, as on another machine, stays."""
    old = {json.dumps(row["run"]): row for row in json.loads(RUNS.read_text())}
    rows = [{"run": fields, "id": Run(**fields).id, "losses": three_losses(fields)}
            for fields in CANONICAL]
    stays = [(old.get(json.dumps(row["run"]), row), row) for row in rows]
    return [was if was["id"] == row["id"] and np.allclose(was["losses"], row["losses"], rtol=2e-4)
            else row for was, row in stays]


def write(path: Path, table) -> None:
    def rows(t):
        return t if isinstance(t, dict) else {json.dumps(row["run"]): row for row in t}
    old = rows(json.loads(path.read_text())) if path.is_file() else {}
    new = rows(table)
    for name in [*new, *(n for n in old if n not in new)]:
        if old.get(name) != new.get(name):
            print(f"{path.name}: {name}: {old.get(name)} -> {new.get(name)}")
    lines = [f"  {json.dumps(name)}: {json.dumps(row)}" for name, row in table.items()] \
        if isinstance(table, dict) else [f"  {json.dumps(row)}" for row in table]
    first, last = "{}" if isinstance(table, dict) else "[]"
    path.write_text("\n".join([first, ",\n".join(lines), last, ""]))


if __name__ == "__main__":
    compute_on_cpu()
    write(MODELS, model_table())
    write(RUNS, run_table())

"""The weight files that come with the repository, their index and their cards."""
import json
import re
from pathlib import Path
from statistics import mean, stdev
from string import Template

from ..files import sha256_of, write_atomic
from ..settings import REPO
from ..training import store
from ..training.run import Run
from .formats import export_as
from .planning import study
from .predict import evaluate
from .weights import weights_dir

PROFILE = "real"
SEEDS = {"none": 0, "se": 4, "cbam": 0, "hybrid": 0}     # of its headline's ResNet-18 on CIFAR-10
TOLERANCE = 0.1                         # points that float16 may cost or gain on the test split
MAX_BYTES = 1_500_000
TEMPLATE = Path(__file__).with_name("modelcard.md")
PERCENT = ("accuracy", "recorded", "val_accuracy")
MARKS = re.compile("(<!-- weights -->\n).*?(<!-- /weights -->)", re.DOTALL)
COLUMNS = ("file", "block", "parameters", "MB", "test accuracy, %", "in the record, %",
           "mean of all seeds, %")


def planned() -> list[Run]:
    """All seeds of the networks whose weights are in the repository."""
    return [run for run in study("hybrid", PROFILE) if run.attention in SEEDS
            and (run.dataset, run.backbone) == ("cifar10", "resnet18")]


def published() -> list[Run]:
    """The runs whose weights are in the repository."""
    return [run for arm, seed in SEEDS.items() for run in planned()
            if (run.attention, run.seed) == (arm, seed)]


def mean_of_seeds(block: str) -> str:
    """The recorded test accuracy of all finished seeds of a network: ``88.27 ± 0.32 (4)``."""
    records = [store.read_record(PROFILE, run.id) for run in planned() if run.attention == block]
    found = [100 * r["test"]["accuracy"] for r in records if r and r["status"] == "done"]
    return f"{mean(found):.2f} ± {stdev(found) if len(found) > 1 else 0:.2f} ({len(found)})"


def publish() -> list[Path]:
    """Export the published runs, score each file on its test split, write its card, ``index.json``
    and the table of the folder's ``README.md``; returns the weight files. ``ValueError`` where
    float16 moves an accuracy by more than TOLERANCE or a file is too large for the repository."""
    files, rows = [], []
    for run in published():
        files.append(export_as(run)[0])
        found = evaluate(files[-1])
        rows.append({"id": run.id, "file": files[-1].name, "bytes": files[-1].stat().st_size,
                     "sha256": sha256_of(files[-1])}
                    | {key: found[key] for key in ("n", "accuracy", "nll", "recorded")}
                    | {"all_seeds": mean_of_seeds(run.attention)})
        check_publishable(rows[-1])
        record = store.read_record(PROFILE, run.id)
        write_atomic(files[-1].with_suffix(".md"), model_card(rows[-1], record).encode())
    index = {"tolerance_points": TOLERANCE, "weights": rows}
    write_atomic(weights_dir() / "index.json", (json.dumps(index, indent=1) + "\n").encode())
    card = (REPO / "results" / "weights" / "README.md").read_text(encoding="utf-8")
    text = MARKS.sub(lambda marks: marks[1] + card_table(rows) + marks[2], card)
    write_atomic(weights_dir() / "README.md", text.encode())
    return files


def check_publishable(row: dict) -> None:
    """``ValueError`` says what keeps a weight file from being published."""
    moved = 100 * abs(row["accuracy"] - row["recorded"])
    if moved > TOLERANCE:
        raise ValueError(f"{row['file']}: float16 moves its accuracy by {moved:.2f} points")
    if row["bytes"] > MAX_BYTES:
        raise ValueError(f"{row['file']}: {row['bytes']:,} bytes are more than {MAX_BYTES:,}")


def card_table(rows: list[dict]) -> str:
    """The card's table in Markdown, from the index's rows and the records of their runs."""
    lines = [COLUMNS, (":--", ":--", *("--:",) * 5)]
    for row in rows:
        record = store.read_record(PROFILE, row["id"])
        lines.append((f"`{row['file']}`", Run(**record["run"]).attention,
                      f"{record['model']['params']:,}", f"{row['bytes'] / 1e6:.2f}",
                      f"{100 * row['accuracy']:.2f}", f"{100 * row['recorded']:.2f}",
                      row["all_seeds"]))
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def model_card(row: dict, record: dict) -> str:
    """The card in Markdown, of a row of ``index.json`` and its run's record. ``KeyError`` where the
    record lacks what the card says."""
    run = Run(**record["run"])
    values = record["env"] | record["model"] | record["data"] | vars(run) | row | {
        "epochs": run.how.epochs,
        "val_accuracy": record["history"][-1]["val_accuracy"], "nll": f"{row['nll']:.3f}",
        "classes": ", ".join(record["classes"]), "entry": entry_name(row["id"]),
        "settings": ", ".join(f"{name} {value}" for name, value in
                              record["resolved"]["recipe"].items())}
    values |= {name: f"{100 * values[name]:.2f}" for name in PERCENT}
    values |= {name: f"{value:,}" for name, value in values.items() if type(value) is int}
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        values, placement=run.placement or "none")


def entry_name(run_id: str) -> str:
    """What torch.hub calls a run: its id without seed and digits, such as cifar10_resnet18_cbam."""
    return run_id.rsplit("-", 2)[0].replace("-", "_")

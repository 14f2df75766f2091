"""The card of a published weight file: modelcard.md with the values of its record."""
from pathlib import Path
from string import Template

from ..training.run import Run

TEMPLATE = Path(__file__).with_suffix(".md")
PERCENT = ("accuracy", "recorded", "val_accuracy")


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

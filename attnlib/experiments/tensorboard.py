"""TensorBoard's event files, from the histories of records."""
import dataclasses
import shutil
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from ..settings import out_dir, part
from ..training.run import Run

TAGS = {"loss": "loss/train", "train_accuracy": "accuracy/train", "val_accuracy": "accuracy/val",
        "test_accuracy": "accuracy/test", "val_nll": "nll/val", "lr": "rate",
        "seconds": "seconds an epoch"}


def write_events(record: dict) -> Path:
    """Write a record's curves, one step an epoch, to ``results/tensorboard/<profile>/<id>`` in
    place of what is there; returns that folder. *Relative* time is the seconds of training; the
    run's fields and its test scores are its row among TensorBoard's HPARAMS."""
    folder = out_dir() / "results" / "tensorboard" / part(record["profile"]) / part(record["id"])
    shutil.rmtree(folder, ignore_errors=True)
    fields = {field.name: field.default for field in dataclasses.fields(Run)} | record["run"]
    fields = {name: value for name, value in fields.items() if isinstance(value, (str, int, float))}
    scores = {f"test/{name}": value for name, value in (record.get("test") or {}).items()}
    with SummaryWriter(str(folder)) as writer:
        passed = 0.0
        for epoch, row in enumerate(record["history"], 1):
            passed += row.get("seconds", 0.0)
            for name, value in row.items():
                writer.add_scalar(TAGS.get(name, name), value, epoch, walltime=passed)
        writer.add_hparams(fields, scores, run_name=".", global_step=len(record["history"]))
    return folder

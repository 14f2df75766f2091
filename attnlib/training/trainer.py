"""``train(run) -> record``: one loop, resumed at the last whole epoch after any interruption."""
import copy
import math
import time
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ..data.arrays import DataRow
from ..data.augment import AUGMENTATIONS
from ..data.batches import Batches, side_at
from ..data.datasets import DATASETS, Dataset, load_dataset
from ..names import derive, form, parse
from ..networks.build import build_model, gate_start
from ..networks.cost import cost
from ..networks.insert import add_attention
from ..settings import checkpoints_dir, data_dir
from . import optim, store
from .environment import determinism, machine, peak_memory, surroundings
from .optim import average, best_epoch, ending, is_over, pairs, progress_line, scores
from .run import Run, versions
from .start import load_start

WHITENED = 5000         # training images that a whitening stem is fitted to


class TimeUp(Exception):
    """The time budget is spent; everything is saved up to the last whole epoch."""


@lru_cache(maxsize=4)
def dataset_of(name: str, folder: Path, n_train, n_val, n_test) -> Dataset:
    """The data of a run, kept for the next run on the same; ShapeTex makes only what is asked."""
    return load_dataset(name, data_dir=folder,
                        sizes={"train": n_train, "val": n_val, "test": n_test})


def data_of(run: Run) -> Dataset:
    return dataset_of(run.dataset, data_dir(), run.n_train, run.n_val, run.n_test)


def about(run: Run) -> DataRow:
    """What a run's data are: the row of the data set, or what your own files give."""
    return DATASETS.get(parse(run.dataset)[0]) or data_of(run).row


def network(run: Run, row: DataRow) -> nn.Module:
    """The untrained network of a run, for data of that kind, on the CPU."""
    block, place = ("none", None) if run.start else (run.attention, run.placement or None)
    model = build_model(run.backbone, block, num_classes=row.num_classes, in_channels=row.channels,
                        image_size=row.size, width=run.width, placement=place, seed=run.seed)
    if run.start:
        example = torch.zeros(1, row.channels, row.size, row.size)
        name, options = parse(run.attention)
        block = form(name, options | gate_start(run.attention, run.backbone))
        add_attention(model, block, zero_init=True, seed=run.seed, example=example)
    return model


def train(run: Run, profile: str = "own", *, deadline: float | None = None) -> dict:
    """Train ``run`` and return its record; one that is finished is returned as it is, one that
    failed is tried again. An interrupted run goes on from its last whole epoch and ends
    bit-identical to one that was not interrupted (same machine, same threads). ``deadline``: a
    `time.monotonic` value after which `TimeUp` is raised at an epoch's end. Raises `store.Busy`
    where another process trains it."""
    if record := store.finished_record(profile, run.id):
        return record
    with store.lock(profile, run.id), determinism():     # first: a death in loading counts, too
        if record := store.finished_record(profile, run.id):
            return record
        trainer = Trainer(run, data_of(run))
        return conclude(trainer, profile, fit(trainer, profile, deadline))


class Trainer:
    """The model and optimiser of one run; `state` and `resume` are all that going on needs.

    ``judged`` is the network that is validated, tested and kept: the model itself, or with ``ema``
    the running average of it. ``best``: its weights at the best epoch, where the recipe keeps
    them. When to stop and how to step follow from the history alone."""

    def __init__(self, run: Run, data: Dataset, like: "Trainer | None" = None):
        """``like``: a trainer on the same data and recipe, whose images are shared."""
        self.run, self.how, self.machine = run, run.how, machine()
        device = self.machine.device
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        self.row = row = data.row
        self.classes = list(data.classes)
        self.model = network(run, row)
        self.cost = cost(self.model, (row.channels, row.size, row.size))
        self.started = {"start_sha256": load_start(self.model, run.start)} if run.start else {}
        self.model.to(device)
        if self.machine.channels_last:
            self.model.to(memory_format=torch.channels_last)
        self.best: dict = {}
        optim.load_dynamo()
        self.optimizer = optim.make_optimizer(self.model, self.how)
        half = self.machine.autocast is torch.float16
        self.scaler = torch.amp.GradScaler(device, enabled=half)
        self.batches = dict(like.batches) if like else self.batches_of(data)
        if like:                                             # the same images in another order
            self.batches["train"] = copy.copy(like.batches["train"])
            self.batches["train"].seed = run.seed
        if hasattr(self.model.stem, "whiten") and not run.start:
            most = min(WHITENED, 3 * self.batches["train"].most())      # unfolded, in double
            self.model.stem.whiten(next(self.batches["train"].ordered(most))[0])
        self.judged = copy.deepcopy(self.model) if self.how.ema else self.model
        self.averaging = pairs(self.judged, self.model)
        self.steps = len(self.batches["train"])
        self.history: list[dict] = []

    def batches_of(self, data: Dataset) -> dict[str, Batches]:
        run, how = self.run, self.how
        train = {"crop": how.crop, "flip": how.flip, "alternate": how.alternate, "seed": run.seed,
                 "augment": {name: getattr(how, name) for name in AUGMENTATIONS},
                 "classes": len(data.classes)}
        return {s: Batches(*data.split(s, getattr(run, f"n_{s}")), data.mean, data.std,
                           batch_size=how.batch_size, device=self.machine.device, **own)
                for s, own in (("train", train), ("val", {}), ("test", {}))}

    def state(self) -> dict:
        return {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(), "history": self.history, "best": self.best,
                "average": self.judged.state_dict() if self.how.ema else {}}

    def resume(self, folder: Path) -> None:
        """Go on from the newest good checkpoint, if there is one."""
        if state := store.load_checkpoint(folder):
            for part in ("model", "optimizer", "scaler"):
                getattr(self, part).load_state_dict(state[part])
            self.history, self.best = state["history"], state["best"]
            if self.how.ema:
                self.judged.load_state_dict(state["average"])

    def autocast(self):
        return torch.autocast(self.machine.device, self.machine.autocast,
                              enabled=self.machine.autocast is not None)

    def epoch(self, epoch: int) -> dict:
        """One pass over the training split; nothing waits for the device before its end."""
        torch.manual_seed(derive("train", self.run.seed, epoch))        # dropout, if there is any
        self.model.train()
        started = time.perf_counter()
        loss_sum, right = torch.zeros(2, device=self.machine.device)
        side = side_at(epoch, self.how.epochs, self.row.size, self.how.grow_from)
        for step, (x, y) in enumerate(self.batches["train"].epoch(epoch, side)):
            progress = (epoch + step / self.steps) / self.how.epochs
            optim.set_lr(self.optimizer, self.how, progress, self.history)
            loss, hits = self.forward(x, y)
            self.optimizer.zero_grad(set_to_none=True)
            self.scaler.scale(loss).backward()
            self.scaler.step(self.optimizer)
            self.scaler.update()
            if self.how.ema:
                average(*self.averaging, self.how.ema, epoch * self.steps + step)
            loss_sum += loss.detach()
            right += hits
        return self.epoch_row(loss_sum, right, started)

    def forward(self, x, y) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss of a batch, and how many of its images are classified right."""
        try:
            with self.autocast():
                logits = self.model(x)
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise ValueError(f"{self.run.backbone} with {self.run.attention} has a norm of one "
                             f"value an image and cannot be trained on {len(x)} image at a time: "
                             "give --batch-size 2 or more") from error
        loss = F.cross_entropy(logits.float(), y, label_smoothing=self.how.label_smoothing)
        label = y if y.ndim == 1 else y.argmax(1)                # of mixed images the heavier one
        return loss, (logits.detach().argmax(1) == label).sum()

    def epoch_row(self, loss_sum, right, started: float) -> dict:
        """What an epoch adds to the history. Waits for the device."""
        seen = min(self.steps * self.how.batch_size, len(self.batches["train"].labels))
        return {"loss": (loss_sum / self.steps).item(), "train_accuracy": right.item() / seen,
                "lr": self.optimizer.param_groups[0]["lr"],
                "seconds": time.perf_counter() - started}

    @torch.no_grad()
    def predict(self, split: str) -> torch.Tensor:
        """Class probabilities [N, classes] of a split, in its fixed order."""
        self.judged.eval()
        at_once, batches = 500 if self.machine.device == "cpu" else 1000, self.batches[split]
        with self.autocast():
            return torch.cat([self.judged(x).float().softmax(1) for x, _ in batches.ordered(
                min(at_once, batches.most()))])

    def score(self, split: str) -> dict:
        """``accuracy`` in 0..1 and ``nll`` in nats of a split."""
        return scores(self.predict(split), self.batches[split].labels)


def fit(trainer: Trainer, profile: str, deadline: float | None = None) -> str:
    """Train the epochs that are left, saving each; returns ``done`` or ``diverged``. Where time is
    up it has trained one epoch at least: many short budgets come to an end, too."""
    run_id, how, folder = trainer.run.id, trainer.how, checkpoints_dir(profile, trainer.run.id)
    trainer.resume(folder)
    if begun := len(trainer.history):
        print(f"{run_id}: going on after epoch {begun}", flush=True)
    for epoch in range(begun, how.epochs):
        if is_over(trainer.history, how):
            break
        if deadline is not None and time.monotonic() > deadline and epoch > begun:
            raise TimeUp(f"{run_id}: stopped after epoch {epoch}, all saved")
        if not judge(trainer, trainer.epoch(epoch)):
            return "diverged"
        store.save_checkpoint(folder, f"ckpt-{epoch + 1}", trainer.state())
        print(progress_line(run_id, how, trainer.history), flush=True)
    if trainer.best:
        trainer.judged.load_state_dict(trainer.best)
    return "done"


def judge(trainer: Trainer, row: dict) -> bool:
    """Add the row of a trained epoch to the history, with its scores; False where it diverged."""
    run, how = trainer.run, trainer.how
    if math.isfinite(row["loss"]):                  # its last step may have broken the weights
        row |= {f"val_{k}": v for k, v in trainer.score("val").items() if k != "n"}
    if not all(map(math.isfinite, row.values())):
        trainer.history.append({k: v for k, v in row.items() if math.isfinite(v)})
        print(f"{run.id}: the loss is not finite in epoch {len(trainer.history)}; diverged")
        return False
    if run.track_test:
        row["test_accuracy"] = trainer.score("test")["accuracy"]
    trainer.history.append(row)
    if how.keep_best and best_epoch(trainer.history, how) == len(trainer.history) - 1:
        trainer.best = copy.deepcopy(trainer.judged.state_dict())
    return True


def train_weights(record: dict) -> float:
    """Train a finished run again for its weights, which are not in git. The record is left as it
    is; returns by how many points the test accuracy differs from it (0 on the same machine)."""
    if record["status"] != "done":
        raise ValueError(f"{record['id']} is {record['status']}: it has no weights")
    run = Run(**record["run"])
    if run.id != record["id"]:
        raise ValueError(f"{record['id']} was trained by another version: it would be {run.id} now")
    profile = record["profile"]
    with store.lock(profile, run.id), determinism():
        trainer = Trainer(run, data_of(run))
        if fit(trainer, profile) != "done":
            raise ValueError(f"{run.id} diverged this time: no weights are stored")
        store.save_checkpoint(checkpoints_dir(profile, run.id), "final",
                              {"model": trainer.judged.state_dict()})
        store.drop_checkpoints(profile, run.id)
        return 100 * (trainer.score("test")["accuracy"] - record["test"]["accuracy"])


def conclude(trainer: Trainer, profile: str, status: str, together: int = 1) -> dict:
    """Score the test split and store the record. ``together``: so many runs shared the device."""
    run = trainer.run
    body = {"schema": store.SCHEMA, "id": run.id, "run": run.as_dict(), "resolved": run.resolved(),
            "versions": versions(run), "profile": profile, "status": status,
            "env": surroundings() | ({"together": together} if together > 1 else {}),
            "model": trainer.cost, "classes": trainer.classes, **trainer.started,
            "data": trainer.row.facts(), "history": trainer.history, "test": None, "arrays": {},
            "seconds": sum(h["seconds"] for h in trainer.history),
            "peak_memory": peak_memory(trainer.machine.device) // together}
    if status == "done":
        probs, labels = trainer.predict("test"), trainer.batches["test"].labels
        body["test"] = scores(probs, labels)
        body |= ending(trainer.history, run.how)
        top = probs.max(1)
        small = np.min_scalar_type(len(trainer.classes) - 1)      # uint8 up to 256 classes
        body["arrays"]["predictions"] = store.write_arrays(profile, run.id, {
            "prediction": top.indices.cpu().numpy().astype(small),
            "confidence": top.values.cpu().numpy().astype(np.float16),
            "label": labels.cpu().numpy().astype(small)})
        store.save_checkpoint(checkpoints_dir(profile, run.id), "final",
                              {"model": trainer.judged.state_dict()})
    store.write_record(profile, body)                    # only then are the states dispensable
    store.drop_checkpoints(profile, run.id)
    return body

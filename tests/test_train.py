"""Training: the same numbers every time, after any interruption; and every end is recorded."""
import copy
import math
import os

import pytest
import torch
from helpers import comparable, same_tensors, tiny, train_module, weights
from naive import FAMILIES

from attnlib.blocks import ATTENTION
from attnlib.data.datasets import load_dataset
from attnlib.networks import BACKBONES
from attnlib.networks.build import build_model
from attnlib.networks.cost import attention_blocks
from attnlib.settings import checkpoints_dir, runs_dir
from attnlib.training import store
from attnlib.training.optim import make_optimizer, scores, set_lr
from attnlib.training.run import Run
from attnlib.training.trainer import TimeUp, train, train_weights


def epochs_saved(run: Run) -> list[str]:
    files = store.list_files(checkpoints_dir("own", run.id), store.CHECKPOINT)
    return [file.name.split("-")[1] for file in files]


def test_a_finished_run_leaves_its_record_predictions_and_weights():
    run = tiny(attention="cbam")
    record = train(run)
    assert record == store.read_record("own", run.id)
    assert record["status"] == "done" and record["id"] == run.id
    assert Run(**record["run"]) == run and record["resolved"] == run.resolved()
    assert [set(row) for row in record["history"]] == 2 * [
        {"loss", "train_accuracy", "lr", "seconds", "val_accuracy", "val_nll"}]
    assert record["model"]["sites"] == 8 and record["model"]["attention_params"] > 0
    assert record["versions"] == {"dataset": 1, "backbone": BACKBONES["squeezenet"].version,
                                  "attention": 1}
    assert record["env"]["device"] and record["env"]["precision"] == "float32"
    arrays = store.read_arrays("own", run.id, record["arrays"]["predictions"])
    labels = load_dataset(run.dataset, sizes={"train": 1, "val": 1, "test": 20}).labels["test"]
    assert (arrays["label"] == labels).all() and record["test"]["n"] == 20
    assert (arrays["prediction"] == labels).mean() == pytest.approx(record["test"]["accuracy"])
    assert (arrays["confidence"] >= 0.1 - 1e-3).all() and (arrays["confidence"] <= 1).all()
    assert sorted(os.listdir(runs_dir("own"))) == [f"{run.id}.json", f"{run.id}.npz"]
    assert epochs_saved(run) == [] and weights(run)


def test_the_same_run_twice_is_the_same_and_so_with_the_test_split_tracked(monkeypatch):
    run = tiny(attention="hybrid")
    one, other = train(run, "one"), train(tiny(attention="hybrid", track_test=True), "other")
    assert same_tensors(weights(run, "one"), weights(run, "other"))
    tests = [row.pop("test_accuracy") for row in other["history"]]
    assert tests[-1] == other["test"]["accuracy"]
    assert comparable(one) == comparable(other | {"run": one["run"]})
    # A finished record is returned without training.
    monkeypatch.setattr(train_module, "Trainer", lambda *args: pytest.fail("trained again"))
    monkeypatch.setattr(train_module, "data_of", lambda *args: pytest.fail("read again"))
    assert train(run, "one") == one


@pytest.mark.parametrize("attention", [
    name if name in (*FAMILIES, "frozen", "hybrid") else pytest.param(name, marks=pytest.mark.slow)
    for name in ATTENTION])
def test_every_block_trains(attention):
    replaces = ATTENTION[attention].placement == "replace"
    backbone = "resnet18" if replaces else "squeezenet"
    run = tiny(attention=attention, backbone=backbone, epochs=1, n_train=48)
    record = train(run)
    assert record["status"] == "done" and math.isfinite(record["history"][0]["loss"])
    before, after = build_model(backbone, attention, width=run.width), weights(run)
    for name, p in before.named_parameters():
        moved = not torch.equal(p, after[name])
        if name.startswith("stem") or not p.requires_grad:
            assert moved == p.requires_grad, name
    for name, block in attention_blocks(before).items():          # in part a ReLU may be dead
        trainable = [k for k, p in block.named_parameters(name) if p.requires_grad]
        assert not trainable or any(not torch.equal(before.get_parameter(k), after[k])
                                    for k in trainable), name


def test_a_run_learns():
    record = train(tiny(n_train=20, batch_size=20, epochs=24, n_val=20, attention="se"))
    losses = [row["loss"] for row in record["history"]]
    assert sum(losses[-3:]) / 3 < losses[0] - 0.1


def test_what_cannot_be_trained_says_why_before(monkeypatch):
    with store.lock("own", tiny().id), pytest.raises(store.Busy, match=tiny().id):
        train(tiny())
    data = load_dataset("shapetex", sizes={"train": 40, "val": 20, "test": 20})
    monkeypatch.setattr(train_module, "data_of", lambda run: data)
    with pytest.raises(ValueError, match="n_train=41: shapetex has 1 to 40 train images"):
        train(tiny(n_train=41))
    record = {"id": tiny().id, "run": tiny().as_dict(), "profile": "own", "status": "diverged"}
    with pytest.raises(ValueError, match="diverged"):
        train_weights(record)
    with pytest.raises(ValueError, match="shapetex-older was trained by another version: it would"):
        train_weights(record | {"id": "shapetex-older", "status": "done"})
    assert store.read_record("own", tiny().id) is None


@pytest.mark.parametrize(("attention", "backbone"), [("bam", "squeezenet"), ("srm", "squeezenet"),
                                                     ("sk", "resnet18")])
def test_a_block_that_needs_two_images_says_so(attention, backbone):
    run = tiny(attention=attention, backbone=backbone, batch_size=1, epochs=1, n_train=4)
    with pytest.raises(ValueError, match=f"{backbone} with {attention} .*--batch-size 2"):
        train(run)
    assert train(tiny(attention="se", batch_size=1, epochs=1, n_train=4))["status"] == "done"


def test_out_of_time_it_saves_and_later_goes_on(capsys):
    run = tiny(attention="se")
    unharmed = train(run, "whole")
    with pytest.raises(TimeUp, match="stopped after epoch 1, all saved"):
        train(run, deadline=0.0)                    # however late, a start trains an epoch
    assert epochs_saved(run) == ["1"]
    assert store.read_record("own", run.id) is None
    record = train(run, deadline=0.0)               # and so the last one ends the run
    assert "going on after epoch 1" in capsys.readouterr().out
    assert comparable(record) == comparable(unharmed)
    assert same_tensors(weights(run), weights(run, "whole"))


def test_weights_that_break_in_an_epochs_last_step_are_recorded_as_diverged(monkeypatch):
    """The losses of that epoch are still finite, the scores after it are not."""
    def broken(self, epoch):
        with torch.no_grad():
            self.model.classifier.weight.fill_(math.nan)
        return {"loss": 2.0, "train_accuracy": 0.1, "lr": 0.1, "seconds": 0.1}
    monkeypatch.setattr(train_module.Trainer, "epoch", broken)
    record = train(tiny(epochs=1))
    assert record["status"] == "diverged" and record["test"] is None
    assert record["history"][0]["loss"] == 2.0 and "val_nll" not in record["history"][0]
    with pytest.raises(ValueError, match="diverged this time"):         # where it once did not
        train_weights(record | {"status": "done"})
    assert not store.list_files(checkpoints_dir("own", record["id"]), store.WEIGHTS)


def test_scores_by_hand():
    probs = torch.tensor([[0.7, 0.3], [0.4, 0.6], [0.9, 0.1], [1.0, 0.0]])
    got = scores(probs, torch.tensor([0, 1, 1, 0]))
    wanted = -(math.log(0.7) + math.log(0.6) + math.log(0.1) + math.log(1)) / 4
    assert got == {"accuracy": 0.75, "nll": pytest.approx(wanted), "n": 4}


def test_an_epochs_loss_is_the_mean_over_its_steps():
    """One epoch of the trainer against the loop written out."""
    run = tiny(attention="se", backbone="resnet18", epochs=1)
    trainer = train_module.Trainer(run, train_module.data_of(run))
    by_hand = copy.deepcopy(trainer.model).train()
    optimizer, losses = make_optimizer(by_hand, run.how), []
    for step, (x, y) in enumerate(trainer.batches["train"].epoch(0)):
        set_lr(optimizer, run.how, step / 2)
        logits = by_hand(x)
        smooth = torch.full_like(logits, 0.1 / 10).scatter(1, y[:, None], 0.9 + 0.1 / 10)
        loss = -(smooth * logits.log_softmax(1)).sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert len(losses) == 2
    assert trainer.epoch(0)["loss"] == pytest.approx(sum(losses) / 2, rel=1e-5)
    for ours, theirs in zip(trainer.model.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)

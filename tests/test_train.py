"""Training: the same numbers every time, after any interruption; and every end is recorded."""
import copy
import math
import os

import pytest
import torch
from helpers import (
    COMPUTING,
    CPU,
    comparable,
    same_tensors,
    tiny,
    train_module,
    weights,
    without_seconds,
)
from torch import nn

from attnlib.blocks import ATTENTION
from attnlib.data.datasets import load_dataset
from attnlib.networks import BACKBONES
from attnlib.networks.build import build_model
from attnlib.networks.cost import attention_blocks
from attnlib.settings import checkpoints_dir, runs_dir
from attnlib.training import store
from attnlib.training.optim import cosine, make_optimizer, scores, set_lr
from attnlib.training.recipes import RECIPES, Recipe
from attnlib.training.run import Run
from attnlib.training.trainer import TimeUp, train, train_weights


def newest_epoch(run: Run) -> int:
    files = store.list_files(checkpoints_dir("own", run.id), store.CHECKPOINT)
    return int(files[0].name.split("-")[1]) if files else 0


# --- What a run leaves ---


def test_a_finished_run_leaves_its_record_predictions_and_weights():
    run = tiny(attention="cbam")
    record = train(run)
    assert record == store.read_record(store.record_path("own", run.id))
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
    assert newest_epoch(run) == 0 and weights(run)


def test_the_same_run_twice_is_the_same():
    run = tiny(attention="hybrid")
    one, other = train(run, "one"), train(run, "other")
    assert comparable(one) == comparable(other)
    assert same_tensors(weights(run, "one"), weights(run, "other"))


def test_tracking_the_test_split_changes_nothing_else():
    run, tracked = tiny(), tiny(track_test=True)
    one, other = train(run, "one"), train(tracked, "other")
    assert same_tensors(weights(run, "one"), weights(run, "other"))
    tests = [row.pop("test_accuracy") for row in other["history"]]
    assert tests[-1] == other["test"]["accuracy"] == one["test"]["accuracy"]
    assert without_seconds(one["history"]) == without_seconds(other["history"])


def test_a_finished_record_is_returned_without_training(monkeypatch):
    record = train(tiny())

    def refuse(*args):
        pytest.fail("trained again")
    monkeypatch.setattr(train_module, "Trainer", refuse)
    monkeypatch.setattr(train_module, "data_of", refuse)
    assert train(tiny()) == record


@pytest.mark.parametrize("attention", ATTENTION)
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


def test_a_run_that_another_process_trains_is_busy():
    with store.lock("own", tiny().id), pytest.raises(store.Busy, match=tiny().id):
        train(tiny())
    assert store.read_record(store.record_path("own", tiny().id)) is None


def test_more_images_than_there_are_is_refused_before_training(monkeypatch):
    data = load_dataset("shapetex", sizes={"train": 40, "val": 20, "test": 20})
    monkeypatch.setattr(train_module, "data_of", lambda run: data)
    with pytest.raises(ValueError, match="n_train=41: shapetex has 1 to 40 train images"):
        train(tiny(n_train=41))


@pytest.mark.parametrize(("attention", "backbone"), [("bam", "squeezenet"), ("srm", "squeezenet"),
                                                     ("sk", "resnet18")])
def test_a_block_that_needs_two_images_says_so(attention, backbone):
    run = tiny(attention=attention, backbone=backbone, batch_size=1, epochs=1, n_train=4)
    with pytest.raises(ValueError, match=f"{backbone} with {attention} .*--batch-size 2"):
        train(run)
    assert train(tiny(attention="se", batch_size=1, epochs=1, n_train=4))["status"] == "done"


# --- Interruptions ---


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    """A run of two epochs that nothing interrupts: the run, its record, its weights."""
    run = tiny(attention="se")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ATTNLIB_OUT", str(tmp_path_factory.mktemp("whole")))
        for module in COMPUTING:                           # no test's own settings reach here
            patch.setattr(module, "machine", lambda: CPU)
        return run, train(run), weights(run)


def test_out_of_time_it_saves_and_later_goes_on(whole_run, capsys):
    run, unharmed, wanted = whole_run
    with pytest.raises(TimeUp, match="stopped after epoch 1, all saved"):
        train(run, deadline=0.0)                    # however late, a start trains an epoch
    assert newest_epoch(run) == 1
    assert store.read_record(store.record_path("own", run.id)) is None
    record = train(run, deadline=0.0)               # and so the last one ends the run
    assert "going on after epoch 1" in capsys.readouterr().out
    assert comparable(record) == comparable(unharmed) and same_tensors(weights(run), wanted)


# --- Divergence ---


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


# --- Weights again ---


def test_weights_are_trained_again_and_the_record_stays():
    run = tiny(attention="se")
    record, wanted = train(run), weights(run)
    path = store.record_path("own", run.id)
    before = path.read_bytes()
    for file in list(checkpoints_dir("own", run.id).iterdir()):
        file.unlink()
    assert train_weights(record) == 0
    assert same_tensors(weights(run), wanted) and path.read_bytes() == before


def test_there_are_no_weights_of_a_run_that_did_not_finish():
    record = {"id": tiny().id, "run": tiny().as_dict(), "profile": "own", "status": "diverged",
              "test": None}
    with pytest.raises(ValueError, match="diverged"):
        train_weights(record)


# --- Optimiser, schedule, scores ---


def test_the_schedule_rises_in_a_line_and_falls_in_half_a_cosine():
    how = Recipe(warmup=0.2)
    assert cosine(0, how) == pytest.approx(0.01)
    assert cosine(0.1, how) == pytest.approx(0.505)
    assert cosine(0.2, how) == 1
    assert cosine(0.6, how) == pytest.approx(0.5)
    assert cosine(1, how) == pytest.approx(0)
    falls = [cosine(p / 100, how) for p in range(20, 101)]
    assert falls == sorted(falls, reverse=True)


def test_the_learning_rate_reaches_every_group():
    how = RECIPES["strong"]
    optimizer = make_optimizer(build_model("squeezenet", "cbam", width=1 / 8), how)
    set_lr(optimizer, how, 0.15)
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.1]


@pytest.mark.parametrize("attention", ["none", "cbam(gamma=1.0)", "aa", "layerscale"])
def test_weight_decay_is_for_weights_of_convolutions_and_linear_layers_alone(attention):
    model = build_model("resnet18", attention, width=1 / 8)
    optimizer = make_optimizer(model, RECIPES["strong"])
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups
             for p in group["params"]}
    assert len(decay) == len(list(model.parameters()))
    for name, p in model.named_parameters():
        module = model.get_submodule(name.rpartition(".")[0])
        weight = isinstance(module, nn.Conv2d | nn.Linear) and name.endswith(".weight")
        assert decay[id(p)] == (5e-4 if weight else 0), name


def test_one_step_is_nesterovs():
    """Against the rule by hand: v = 0.9 v + g, p -= lr (g + 0.9 v)."""
    model = nn.Linear(2, 1, bias=False)
    p = model.weight.detach().clone()
    optimizer = make_optimizer(model, Recipe(lr=0.1, weight_decay=0.0))
    v = torch.zeros_like(p)
    for _ in range(3):
        g = torch.ones_like(p)
        model.weight.grad = g.clone()
        optimizer.step()
        v = 0.9 * v + g
        p = p - 0.1 * (g + 0.9 * v)
    torch.testing.assert_close(model.weight.detach(), p)


def test_an_unknown_optimiser_lists_the_known_ones():
    with pytest.raises(ValueError, match="adamw.*sgd"):
        make_optimizer(nn.Linear(2, 1), Recipe(optimizer="adamw"))


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

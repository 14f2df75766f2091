"""Recipes: each ends the same after any interruption; what the validation split decides; averages;
optimisers and schedules against their rules and the projects' own logs."""
import copy
import dataclasses
from math import cos, pi

import pytest
import torch
from helpers import comparable, same_tensors, stop_after, tiny, train_module, weights
from torch import nn

from attnlib.experiments.reading import row_of
from attnlib.networks.build import build_model
from attnlib.settings import checkpoints_dir
from attnlib.training import optim, store
from attnlib.training.optim import best_epoch, cosine, halving, is_over, make_optimizer, plateau
from attnlib.training.recipes import RECIPES, Recipe
from attnlib.training.run import Run
from attnlib.training.trainer import train, train_weights


def trainer_of(run: Run) -> train_module.Trainer:
    return train_module.Trainer(run, train_module.data_of(run))


@pytest.mark.parametrize("recipe", [
    name if name in ("plain", "swift", "strong+cutmix", "strong+ema", "P0", "P1-vgg") else
    pytest.param(name, marks=pytest.mark.slow) for name in RECIPES])
def test_interrupted_or_not_every_recipe_ends_the_same(recipe):
    """The weights that are kept, the history and what the record says; batches of 16."""
    run = tiny(recipe=recipe, attention="se", epochs=3)
    whole = train(run, "whole")
    stop_after(run, 1)
    stop_after(run, 1, before=1)
    assert comparable(train(run)) == comparable(whole)
    assert same_tensors(weights(run), weights(run, "whole"))


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_stopped_early_and_interrupted_it_ends_the_same(ema, monkeypatch):
    """The checkpoint holds the best weights, which are older than the model's."""
    run = hasty(monkeypatch, ema=ema)
    whole = train(run, "whole")
    best, end = whole["selected_epoch"], len(whole["history"])
    assert whole["early_stopped"] and 1 < best == end - 2 < run.how.epochs - 2
    stop_after(run, best)
    stop_after(run, 1, before=best)
    record = train(run)
    assert comparable(record) == comparable(whole)
    assert same_tensors(weights(run), weights(run, "whole"))


def hasty(monkeypatch, **own) -> Run:
    """`plain`, but it goes by the loss, as so few images are right by chance alone, and stops after
    two epochs without a better one: here after the seventh of twelve."""
    monkeypatch.setitem(RECIPES, "hasty", dataclasses.replace(
        RECIPES["plain"], watch="val_nll", patience=2))
    return tiny(recipe="hasty", epochs=12, lr=0.004, **own)


def test_the_best_epochs_weights_are_kept_and_tested(monkeypatch):
    run = hasty(monkeypatch)
    record = train(run)
    losses = [row["val_nll"] for row in record["history"]]
    assert 1 < record["selected_epoch"] == losses.index(min(losses)) + 1 == len(losses) - 2
    trainer = trainer_of(run)
    for epoch in range(record["selected_epoch"]):
        trainer.epoch(epoch)
    assert same_tensors(trainer.model.state_dict(), weights(run))
    assert trainer.score("test") == record["test"]
    path = store.record_path("own", run.id)
    before, wanted = path.read_bytes(), trainer.model.state_dict()
    for file in list(checkpoints_dir("own", run.id).iterdir()):
        file.unlink()
    assert train_weights(record) == 0 and path.read_bytes() == before
    assert same_tensors(weights(run), wanted)
    assert row_of(record)["val_accuracy"] == 100 * trainer.score("val")["accuracy"]


def test_only_recipes_that_watch_say_what_they_chose():
    history = rows([0.5, 0.6])
    assert optim.ending(history, Recipe()) == {}
    assert optim.ending(history, Recipe(watch="val_accuracy", epochs=2)) == {
        "selected_epoch": 2, "early_stopped": False}


def rows(values: list[float], key: str = "val_accuracy") -> list[dict]:
    return [{key: value} for value in values]


def test_patience_counts_epochs_since_the_first_best():
    how = Recipe(watch="val_accuracy", patience=2)
    assert not is_over([], how) and not is_over(rows([0.5, 0.4]), how)
    assert is_over(rows([0.5, 0.5, 0.4]), how)                     # as good is not better
    assert not is_over(rows([0.5, 0.4, 0.6, 0.5]), how)
    assert best_epoch(rows([0.5, 0.6, 0.6]), how) == 1
    assert not is_over(rows([0.5] * 9), Recipe(watch="val_accuracy"))
    # Of the loss less is better.
    assert best_epoch(rows([2.0, 1.0, 1.5], "val_nll"), Recipe(watch="val_nll")) == 1
    with pytest.raises(ValueError, match="val_accuracy, val_nll"):
        best_epoch([{}], Recipe(watch="test_accuracy"))


# P0's SqueezeNet with SE and P2's plain ResNet-50: the validation losses that their notebooks
# print, the epochs (from 1) after which the rate was cut, and where they stopped.
PRINTED = {
    "P0": ([1.2085, .9344, .9223, .9029, .7607, .7342, .6585, .6585, .6349, .6156, .5654, .5700,
            .6083, .5514, .5112, .5605, .5704, .5469, .5320, .4487, .4728, .4512, .4488, .4549,
            .4223, .4573, .4479, .4338, .4940, .4616], (19, 24, 29), 30),
    "P2": ([2.1196, 1.5964, 1.5034, .9121, 1.1842, 1.1276, 1.0903, 1.3035, .6034, .6444, .7358,
            .8445, .9453, .9166, .9259, .9382, .9498], (8, 13, 17), 17),
}


@pytest.mark.parametrize("name", PRINTED)
def test_the_rate_falls_and_the_run_ends_where_the_projects_own_did(name):
    losses, cuts, end = PRINTED[name]
    how, history = RECIPES[name], rows(losses, "val_nll")
    factors = [plateau(0.0, how, history[:k]) for k in range(len(history) + 1)]
    fell = [k for k in range(1, len(factors)) if factors[k] < factors[k - 1]]
    assert tuple(fell) == cuts
    assert factors[-1] == pytest.approx(how.plateau_factor ** len(cuts))
    assert [is_over(history[:k], how) for k in range(len(history) + 1)].index(True) == end


def test_a_plateau_cuts_the_rate_of_the_next_epoch():
    trainer = trainer_of(tiny(recipe="P0", epochs=6))
    for epochs, lr in ((4, 3e-3), (5, 1.5e-3)):
        trainer.history = rows([1.0] + [2.0] * (epochs - 1), "val_nll")
        assert trainer.epoch(epochs)["lr"] == lr


def test_the_seconds_left_know_that_images_grow_and_that_runs_share_a_gpu():
    how = dataclasses.replace(RECIPES["swift"], epochs=2, grow_from=0.5)       # sides 50, 82 %
    history = [{"loss": 1.0, "train_accuracy": 0.5, "val_accuracy": 0.5, "seconds": 10.0}]
    assert "27 s left" in optim.progress_line("a", how, history)
    assert "108 s left" in optim.progress_line("a", how, history, 4)


def test_the_average_is_the_rule_by_hand():
    """Weights and statistics; the model itself trains as it does without one."""
    alone, trainer = (trainer_of(tiny(attention="se", epochs=1, recipe=recipe))
                      for recipe in ("strong", "strong+ema"))
    by_hand, step = copy.deepcopy(trainer.model.state_dict()), 0
    real = train_module.average

    def slowly(*args):
        nonlocal step
        real(*args)
        keep = min(0.999, (1 + step) / (10 + step))
        for name, now in trainer.model.state_dict().items():
            by_hand[name] = keep * by_hand[name] + (1 - keep) * now \
                if now.is_floating_point() else now.clone()
        step += 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_module, "average", slowly)
        trainer.epoch(0)
    alone.epoch(0)
    assert step == 2 and same_tensors(alone.model.state_dict(), trainer.model.state_dict())
    for name, value in trainer.judged.state_dict().items():
        torch.testing.assert_close(value, by_hand[name], rtol=1e-5, atol=1e-6)


def test_the_average_is_what_is_validated_tested_and_kept():
    run = tiny(recipe="strong+ema", epochs=1)
    record = train(run)
    trainer = trainer_of(run)
    trainer.epoch(0)
    assert same_tensors(trainer.judged.state_dict(), weights(run))
    assert not same_tensors(trainer.model.state_dict(), weights(run))
    assert trainer.score("test") == record["test"]


@pytest.mark.parametrize("optimizer", ["sgd", "heavyball", "adam"])
def test_three_steps_are_the_rule_by_hand(optimizer):
    """Adam: m / (sqrt(v) + 1e-8), both without their bias; the decay is in the gradient."""
    model, decay = nn.Linear(2, 1, bias=False), 0.5 if optimizer == "adam" else 0.0
    p = model.weight.detach().clone()
    stepper = make_optimizer(model, Recipe(optimizer=optimizer, lr=0.1, weight_decay=decay))
    m = v = torch.zeros_like(p)
    for step in (1, 2, 3):
        model.weight.grad = torch.ones_like(p)
        stepper.step()
        g = 1 + decay * p
        if optimizer == "adam":
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
            p = p - 0.1 * (m / (1 - 0.9 ** step)) / ((v / (1 - 0.999 ** step)).sqrt() + 1e-8)
        else:
            v = 0.9 * v + g
            p = p - 0.1 * (g + 0.9 * v if optimizer == "sgd" else v)
    torch.testing.assert_close(model.weight.detach(), p)
    with pytest.raises(ValueError, match="adamw.*sgd"):
        make_optimizer(model, Recipe(optimizer="adamw"))


@pytest.mark.parametrize("attention", ["none", "cbam(gamma=1.0)", "aa", "layerscale"])
def test_weight_decay_is_for_weights_of_convolutions_and_linear_layers_alone(attention):
    """But where a recipe decays every parameter."""
    model = build_model("resnet18", attention, width=1 / 8)
    for recipe, others in (("strong", 0), ("P1", 5e-4)):
        decay = {id(p): group["weight_decay"] for group in
                 make_optimizer(model, RECIPES[recipe]).param_groups for p in group["params"]}
        assert len(decay) == len(list(model.parameters()))
        for name, p in model.named_parameters():
            module = model.get_submodule(name.rpartition(".")[0])
            weight = isinstance(module, nn.Conv2d | nn.Linear) and name.endswith(".weight")
            assert decay[id(p)] == (5e-4 if weight else others), name


def test_mixed_images_weigh_the_loss_by_their_labels():
    trainer = trainer_of(tiny(recipe="strong+cutmix", epochs=1))
    by_hand = copy.deepcopy(trainer.model).train()
    x, y = next(trainer.batches["train"].epoch(0))
    smooth = 0.9 * y + 0.1 / 10
    loss = -(smooth * by_hand(x).log_softmax(1)).sum(1).mean()
    trainer.steps = 1
    trainer.batches["train"].epoch = lambda epoch, side: iter([(x, y)])
    assert trainer.epoch(0)["loss"] == pytest.approx(loss.item(), rel=1e-5)


def test_the_schedule_rises_in_a_line_and_falls_in_half_a_cosine():
    how = Recipe(warmup=0.2)
    rates = [cosine(p, how) for p in (0, 0.1, 0.2, 0.6, 1)]
    assert rates == pytest.approx([0.01, 0.505, 1, 0.5, 0])
    falls = [cosine(p / 100, how) for p in range(20, 101)]
    assert falls == sorted(falls, reverse=True)
    optimizer = make_optimizer(build_model("squeezenet", "cbam", width=1 / 8), RECIPES["strong"])
    optim.set_lr(optimizer, RECIPES["strong"], 0.15)
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.1]


def test_halving():
    assert [halving(epoch / 300, Recipe()) for epoch in (0, 29, 30, 59, 60, 299)] == [
        1, 1, 0.5, 0.5, 0.25, 0.5 ** 9]


def test_with_a_tail_the_cosine_ends_early_and_a_hundredth_of_the_rate_stays():
    how, plain = Recipe(warmup=0.2, tail=0.2), Recipe(warmup=0.2)
    rates = [cosine(k / 100, how) for k in range(101)]
    assert rates[80:] == [0.01] * 21 and min(rates) == 0.01 and max(rates) == rates[16]
    assert rates[40] == pytest.approx(cosine(0.5, plain))
    assert rates[40] == pytest.approx(0.5 * (1 + cos(3 * pi / 8)))
    assert [cosine(k / 100, plain) for k in (0, 100)] == [0.01, 0]


def test_the_whitening_is_fitted_and_then_stays():
    run = tiny(backbone="speednet", recipe="swift+full", epochs=1)
    trainer = trainer_of(run)
    stem = trainer.model.stem.conv
    before = stem.weight.clone()
    assert not torch.equal(before, build_model("speednet", width=run.width).stem.conv.weight)
    trainer.epoch(0)
    assert torch.equal(stem.weight, before) and stem.bias.abs().max() > 0

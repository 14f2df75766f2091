"""Many runs side by side come to what each comes to alone."""
import math
from dataclasses import replace
from unittest.mock import Mock

import pytest
import torch
from helpers import put_record, same_tensors, stop_after, tiny, train_module, weights

from attnlib.experiments import workers
from attnlib.networks.build import build_model
from attnlib.settings import checkpoints_dir
from attnlib.training import store, together
from attnlib.training.optim import descend, make_optimizer
from attnlib.training.recipes import RECIPES
from attnlib.training.together import Lane, train_together
from attnlib.training.trainer import TimeUp, train


@pytest.fixture(autouse=True)
def there_too(monkeypatch, on_the_cpu):
    monkeypatch.setattr(together, "machine", lambda: train_module.machine())


@pytest.mark.parametrize("recipe", ["strong", "swift", "P1", "P0", "P2"])
def test_its_step_is_the_optimizers_own(recipe):
    models = [build_model("resnet18", "se", width=0.0625).double() for _ in range(2)]
    how = RECIPES[recipe]
    ours, theirs = (make_optimizer(model, how) for model in models)
    for step in range(3):
        for model in models:
            model.zero_grad()
            x = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(step))
            model(x.double()).square().sum().backward()
        for group in theirs.param_groups:
            group["lr"] = 0.01 * (step + 1)
        descend(ours, torch.tensor(0.01 * (step + 1)))
        theirs.step()
    for a, b in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("recipe", "images"), [
    ("swift", 32), ("strong+cutmix", 32), ("swift", 8), ("P2", 32), ("plain", 32)])
def test_side_by_side_is_one_after_the_other(recipe, images):
    """Two steps an epoch, or one of less than a batch: rounding has not grown yet. Adam's steps are
    as long where a gradient is but rounding, so that its weights are not compared."""
    runs = [tiny(recipe=recipe, n_train=images, attention=a, seed=seed, lr=0.001)
            for a in ("none", "cbam") for seed in (0, 1)]
    train_together(runs, "smoke")
    adam = runs[0].how.optimizer == "adam"
    for run in runs:
        side, alone = store.finished_record("smoke", run.id), train(run, "own")
        assert side["env"]["together"] == 4 and "together" not in alone["env"]
        for a, b in zip(side["history"], alone["history"], strict=True):
            close = math.isclose(a["loss"], b["loss"], rel_tol=3e-4 if adam else 1e-4)
            assert a["lr"] == b["lr"] and close
        for key, value in () if adam else weights(run, "smoke").items():
            torch.testing.assert_close(value, weights(run, "own")[key], rtol=1e-3, atol=1e-4)


def test_out_of_time_all_is_saved_and_goes_on():
    runs = [tiny(attention=a, epochs=3) for a in ("none", "se")]
    train_together(runs, "smoke")
    with pytest.raises(TimeUp, match="2 runs stopped after epoch 1, all saved"):
        train_together(runs, "own", deadline=0.0)
    train_together(runs, "own")
    for run in runs:
        assert same_tensors(weights(run, "smoke"), weights(run, "own"))
        assert len(store.finished_record("own", run.id)["history"]) == 3


def test_one_that_diverges_stops_no_other(monkeypatch):
    good, bad = tiny(epochs=2), tiny(epochs=2, seed=1)
    step = Lane.compute

    def broken(lane):
        step(lane)
        if lane.trainer.run == bad:
            lane.held["loss"] += math.inf
    monkeypatch.setattr(Lane, "compute", broken)
    train_together([good, bad], "smoke")
    assert store.finished_record("smoke", good.id)["status"] == "done"
    assert store.finished_record("smoke", bad.id)["status"] == "diverged"


def test_what_goes_together_shares_data_and_recipe_and_dropout_goes_alone():
    """Its draws come from one generator, and would depend on the neighbours."""
    runs = [tiny(), tiny(seed=1), tiny(attention="se"), tiny(lr=0.3), tiny(lr=0.3, seed=1),
            tiny(recipe="strong+ema"), tiny(recipe="strong+ema", seed=1)]
    mixed = [tiny(backbone="alexnet"), tiny(), tiny(backbone="alexnet", seed=1),
             tiny(backbone="alexnet(dropout=0.0)"), tiny(seed=1)]
    for some, most, sizes in ((runs, 16, [3, 2, 1, 1]), (runs[:3], 2, [2, 1]),
                              (mixed, 16, [1, 1, 1, 2])):
        assert [len(bundle) for bundle in workers.bundles(some, most)] == sizes


def test_one_that_the_validation_split_ends_leaves_the_others_and_keeps_its_best(monkeypatch):
    monkeypatch.setitem(RECIPES, "plain", replace(RECIPES["plain"], patience=1))
    seen = {0: [0.1, 0.3, 0.2, 0.9], 1: [0.1, 0.2, 0.3, 0.4]}
    monkeypatch.setattr(train_module.Trainer, "score", lambda trainer, split: {
        "accuracy": seen[trainer.run.seed][len(trainer.history)], "nll": 1.0})
    runs = [tiny(recipe="plain", epochs=4, seed=seed) for seed in seen]
    train_together(runs, "smoke")
    for run, epochs, best in zip(runs, (3, 4), (2, 4), strict=True):
        record = store.finished_record("smoke", run.id)
        assert [len(record["history"]), record["selected_epoch"]] == [epochs, best]
        steps = next(v for k, v in weights(run, "smoke").items() if "num_batches_tracked" in k)
        assert steps == 2 * best


def test_a_run_whose_last_epoch_was_saved_trains_no_more():
    """Killed between its last epoch and its record."""
    whole, other = tiny(), tiny(seed=1)
    train(whole, "smoke")
    stop_after(whole, 1)
    folder = checkpoints_dir("own", whole.id)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(train_module, "conclude", Mock(side_effect=KeyboardInterrupt))
        train(whole)
    assert store.list_files(folder, store.CHECKPOINT)[0].name.startswith("ckpt-2-")
    train_together([whole, other], "own")
    assert len(store.finished_record("own", whole.id)["history"]) == 2
    assert same_tensors(weights(whole, "smoke"), weights(whole, "own"))


def test_what_time_stops_was_begun(monkeypatch):
    monkeypatch.setattr(workers, "train_together", Mock(side_effect=TimeUp("all saved")))
    put_record(tiny(), "smoke")
    assert [said for _, said in workers.attempt_together([tiny(), tiny(seed=1)], "smoke", None)] \
        == [("trained", ""), ("time up", "")]


def test_where_they_do_not_go_together_they_go_alone(monkeypatch):
    monkeypatch.setattr(workers, "train_together", Mock(
        side_effect=torch.OutOfMemoryError("CUDA out of memory")))
    runs = [tiny(), tiny(seed=1)]
    assert [said for _, said in workers.attempt_together(runs, "smoke", None)] == \
        [("trained", "")] * 2

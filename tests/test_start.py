"""Fine-tuning: a run that starts from another run's weights."""
import pytest
import torch
from helpers import same_tensors, stop_after, tiny, weights

from attnlib.data.arrays import DataMissing
from attnlib.experiments.planning import study
from attnlib.experiments.weights import load_model, shipped
from attnlib.experiments.workers import attempt
from attnlib.networks.attended import FromIdentity
from attnlib.training.start import load_start
from attnlib.training.trainer import Trainer, about, data_of, network, train


@pytest.fixture
def parent(out):
    run = tiny(epochs=1)
    train(run)
    return run


def test_it_starts_as_the_network_that_it_starts_from(parent):
    x = torch.randn(4, 3, 32, 32)
    for block in ("none", "cbam", "hybrid(gate_init=open)"):
        run = tiny(epochs=1, seed=7, attention=block, start=parent.id)
        trainer = Trainer(run, data_of(run))
        found = trainer.model.eval()(x)
        torch.testing.assert_close(found, load_model(parent)(x), rtol=0, atol=1e-6, msg=block)
        assert (trainer.cost["sites"] > 0) == (block != "none")


def test_the_blocks_learn_and_the_record_says_where_it_began(parent):
    run = tiny(epochs=2, attention="cbam", start=parent.id, recipe="finetune")
    record = train(run)
    assert record["status"] == "done" and record["run"]["start"] == parent.id
    assert record["start_sha256"] == load_start(network(run, about(run)), parent.id)
    model = load_model(run)
    openings = [float(v) for k, v in model.state_dict().items() if k.endswith("added_attention.t")]
    assert openings and all(openings), "t left its zero"
    assert not torch.equal(model.state_dict()["classifier.weight"],
                           load_model(parent).state_dict()["classifier.weight"])


def test_where_nothing_is_normed_its_gates_start_open():
    run = tiny(backbone="squeezenet(norm=False)", attention="ca", start="a-run")
    blocks = [m.block for m in network(run, about(run)).modules() if isinstance(m, FromIdentity)]
    for block in blocks:
        assert block.gate(torch.zeros(1, block.mlp[0].in_channels, 2, 2)).mean() > 0.7
    assert len(blocks) > 1


def test_interrupted_it_ends_the_same(parent):
    run = tiny(epochs=3, attention="se", start=parent.id)
    train(run, "smoke")
    stop_after(run, 1)
    train(run)
    assert same_tensors(weights(run), weights(run, "smoke"))


def test_the_start_is_part_of_the_id_and_sets_runs_apart():
    plain, tuned = tiny(), tiny(start="a-run")
    assert plain.id != tuned.id != tiny(start="another").id
    assert plain.setting != tuned.setting == tiny(attention="se", start="a-run").setting
    assert "start" not in plain.resolved() and tuned.as_dict()["start"] == "a-run"


@pytest.mark.parametrize("fields, words", [
    ({"start": "../x"}, "finished run"), ({"start": ""}, "finished run"),
    ({"start": "a", "attention": "cbam", "placement": "head"}, "placement block")])
def test_what_it_cannot_start_from_is_refused(fields, words):
    with pytest.raises(ValueError, match=words):
        tiny(**fields)


def test_weights_that_are_missing_or_of_another_network_are_named(parent):
    run = tiny(start="cifar10-no-such-run")
    with pytest.raises(DataMissing, match="train cifar10-no-such-run --weights"):
        Trainer(run, data_of(run))
    assert attempt(run.as_dict(), "own")[0] == "no data", "the other runs of a grid go on"
    with pytest.raises(DataMissing, match=r"start=\*"):               # no pattern
        Trainer(run := tiny(start="*"), data_of(run))
    run = tiny(start=parent.id, backbone="resnet18")
    with pytest.raises(ValueError, match="another network"):
        Trainer(run, data_of(run))


def test_the_study_starts_from_a_network_of_the_repository():
    runs = study("finetune", "real")
    assert {run.start for run in runs} < set(shipped()) and len(runs) == 10
    assert len({run.setting for run in runs}) == 1 and len({run.id for run in runs}) == 10

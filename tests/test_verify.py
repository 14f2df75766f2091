"""Records checked against their files and against a second training."""
import numpy as np
import pytest
from helpers import tiny

from attnlib.__main__ import main
from attnlib.experiments import verify
from attnlib.settings import checkpoints_dir, runs_dir
from attnlib.training import store
from attnlib.training.trainer import train


def change(run, **own) -> dict:
    """Write a run's record anew, sealed, with other content."""
    record = store.read_record("own", run.id) | own
    store.write_record("own", record)
    return record


@pytest.fixture
def record():
    return train(tiny())


def test_a_run_trained_again_gives_its_record_and_leaves_nothing(record, capsys):
    before = sorted(p.name for p in runs_dir("own").iterdir())
    found = verify.train_again(record)
    assert (found.points, found.loss, found.allowed) == (0, 0, verify.SAME) and found.good
    assert sorted(p.name for p in runs_dir("own").iterdir()) == before
    assert not runs_dir(verify.ASIDE).exists()
    assert main(["verify", "--profile", "own", "--minutes", "0.01"]) == 0
    assert "good" in capsys.readouterr().out
    assert verify.verify("own", 0) == 0 and "no record trained again" in capsys.readouterr().out


def test_a_score_that_does_not_come_out_again_is_bad(record, capsys):
    test = record["test"] | {"accuracy": record["test"]["accuracy"] + 0.1}
    found = verify.train_again(change(tiny(), test=test))
    assert found.points == pytest.approx(-10) and not found.good
    assert verify.verify("own", 0.01) == 2                  # the predictions, and the training
    said = capsys.readouterr().out
    assert "BAD" in said and "the predictions give" in said
    diverges = tiny(lr=1e11)
    assert not verify.train_again(record | {"run": diverges.as_dict(), "id": diverges.id}).good


def test_a_record_of_another_machine_may_differ_as_seeds_do():
    records = [train(tiny(seed=seed), "own") for seed in range(3)]
    there = records[0]["env"] | {"device": "another"}
    found = verify.train_again(change(tiny(seed=0), env=there))
    sd = np.std([100 * r["test"]["accuracy"] for r in records], ddof=1)
    assert found.allowed == pytest.approx(max(1, 4 * 2 ** 0.5 * sd))


@pytest.mark.parametrize("key", ("device", "precision", "channels_last", "torch", "together"))
def test_records_of_one_kind_agree_in_what_changes_numbers(record, key):
    assert verify.same_kind(record["env"], record["env"])
    assert not verify.same_kind(record["env"] | {key: "another"}, record["env"])


def test_other_devices_seconds_are_not_believed(record):
    there = record["env"] | {"device": "a GPU", "together": 16}
    guess = verify.seconds_again(record | {"env": there, "seconds": 1e-9})
    assert verify.seconds_again(record) == record["seconds"] and guess > 1e-3


def test_the_sample_is_spread_and_within_its_minutes():
    for seed in range(2):
        for block in ("none", "se", "cbam"):
            train(tiny(seed=seed, attention=block), "own")
            change(tiny(seed=seed, attention=block), seconds=60.0)
    three = verify.sample("own", 3)
    assert len(three) == 3 and len({r["run"].get("attention", "none") for r in three}) == 3
    assert [len(verify.sample("own", minutes)) for minutes in (0.1, 1, 99)] == [1, 1, 6]
    change(tiny(), env=three[0]["env"] | {"device": "another"})
    assert verify.sample("own", 99)[-1]["id"] == tiny().id, "other machines come last"
    store.write_record("own", change(tiny()) | {"run": {"attention": "of another session"}})
    with pytest.warns(UserWarning, match="left out"):
        assert len(verify.sample("own", 99)) == 5


def test_an_interrupted_check_goes_on(record, monkeypatch):
    steps, save = [], store.save_checkpoint

    def stop_once(folder, name, state):
        save(folder, name, state)
        steps.append(folder)
        if len(steps) == 1:
            raise KeyboardInterrupt
    monkeypatch.setattr(store, "save_checkpoint", stop_once)
    with pytest.raises(KeyboardInterrupt):
        verify.train_again(record)
    assert "verify" in str(steps[0]) and "verify" not in str(checkpoints_dir("own", tiny().id))
    assert verify.train_again(record).points == 0

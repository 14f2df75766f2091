"""The mirror: every finished epoch has a twin that outlives the machine."""
import os
import shutil

import pytest
from helpers import comparable, same_tensors, stop_after, tiny, weights

from attnlib.__main__ import main
from attnlib.experiments import mirror, store
from attnlib.paths import checkpoints_dir, runs_dir
from attnlib.training.trainer import train


@pytest.fixture
def drive(tmp_path, monkeypatch):
    folder = tmp_path / "My Drive" / "attnlib"
    monkeypatch.setenv("ATTNLIB_MIRROR", str(folder))
    return folder


def files_of(folder) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*"))
            if p.is_file() and p.suffix != ".lock"}


def test_a_run_goes_on_bit_identically_on_a_new_machine(drive, out, monkeypatch):
    run = tiny(attention="se", epochs=3)
    stop_after(run, 2)
    assert files_of(drive) == files_of(out / "results") and files_of(drive)
    shutil.rmtree(out)                                  # the connection is lost, and the machine
    assert mirror.restore() == len(files_of(drive)) == 2
    record, moved = train(run), weights(run)
    assert files_of(drive) == files_of(out / "results")         # the states are dropped in both
    monkeypatch.delenv("ATTNLIB_MIRROR")
    shutil.rmtree(out)
    assert comparable(record) == comparable(train(run))
    assert same_tensors(moved, weights(run))


def test_only_what_is_missing_is_brought_back(drive, out):
    run = tiny(epochs=1)
    train(run)
    assert mirror.restore() == 0
    path = store.record_path("own", run.id)
    (drive / "runs" / "own" / path.name).write_bytes(b"other")
    (drive / "runs" / "own" / ".x.json.7.tmp").write_bytes(b"half")
    (drive / "runs" / "own" / "note.txt").write_bytes(b"the user's own")
    assert mirror.restore() == 0 and store.read_record(path)
    path.unlink()
    assert mirror.restore() == 1                        # and is found to be harmed when it is read
    with pytest.warns(UserWarning, match="torn or was changed"):
        assert store.read_record(path) is None
    assert not (out / "results" / "runs" / "own" / "note.txt").exists()


@pytest.mark.filterwarnings("ignore:still in the mirror")
def test_a_mirror_that_fails_costs_a_warning_and_no_training(tmp_path, monkeypatch):
    (tmp_path / "full").write_text("a file where the folder should be")
    monkeypatch.setenv("ATTNLIB_MIRROR", str(tmp_path / "full"))
    run = tiny(epochs=1)
    with pytest.warns(UserWarning, match="not in the mirror"):
        record = train(run)
    assert record["status"] == "done" and store.read_record(store.record_path("own", run.id))
    assert mirror.restore() == 0


def test_without_a_mirror_nothing_is_done(out):
    assert mirror.mirror_dir() is None and mirror.restore() == 0
    assert mirror.twin(runs_dir("own") / "x.json") is None


def test_what_is_not_evidence_has_no_twin(drive, out):
    assert mirror.twin(checkpoints_dir("own", "x") / store.LOCK) is None
    assert mirror.twin(out / "figures" / "x.npz") is None
    assert mirror.twin(out / "results" / "bench" / "x.json") is None
    assert mirror.twin(runs_dir("own") / "x.json") == drive / "runs" / "own" / "x.json"


def test_commands_begin_by_bringing_back(drive, out, capsys):
    run = tiny(epochs=1)
    train(run)
    shutil.rmtree(out)
    capsys.readouterr()
    assert main(["runs", "list", "--profile", "own"]) == 0
    text = capsys.readouterr().out
    assert "3 files brought back" in text and run.id in text
    assert not any(name.endswith(".tmp") for _, _, names in os.walk(drive) for name in names)


def test_a_failed_run_that_is_planned_again_does_not_come_back(drive, out):
    from attnlib.experiments.repair import repair
    run = tiny(epochs=1)
    record = train(run) | {"status": "failed", "arrays": {}}
    store.write_record("own", record)
    assert repair("own")["failed"] == 1
    assert not mirror.twin(store.record_path("own", run.id)).exists()
    mirror.restore()
    assert store.read_record(store.record_path("own", run.id)) is None

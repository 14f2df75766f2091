"""``runs list | check | repair``: everything is said, what can be mended is, nothing is deleted."""
import json

import pytest
from helpers import tiny

from attnlib import files
from attnlib.__main__ import main
from attnlib.experiments.repair import check, repair
from attnlib.report.readme import faults
from attnlib.settings import checkpoints_dir, runs_dir
from attnlib.training import store
from attnlib.training.trainer import train

DONE, FAILED, BEGUN = tiny(epochs=1), tiny(seed=1, epochs=1), tiny(seed=2, epochs=1)


@pytest.fixture
def messy(out):
    """One good run among all that can be found: {kind: how many}."""
    record = train(DONE)
    store.write_record("own", record | {"id": FAILED.id, "run": FAILED.as_dict(), "arrays": {},
                                        "status": "failed", "error": "it broke", "test": None})
    files.write_atomic(runs_dir("own") / "torn-12345678.json", b"{")
    files.write_atomic(runs_dir("own") / f".{BEGUN.id}.json.7.tmp", b"half")
    folder = checkpoints_dir("own", BEGUN.id)
    store.save_checkpoint(folder, "ckpt-1", {"epoch": 1})
    store.save_checkpoint(folder, "ckpt-2", {"epoch": 2})
    store.list_files(folder, store.CHECKPOINT)[0].write_bytes(b"harmed")
    files.write_atomic(folder / ".ckpt-3-abc.pt.7.tmp", b"half")
    store.save_checkpoint(checkpoints_dir("own", DONE.id), "ckpt-1", {"epoch": 1})
    return {"corrupt": 2, "leftover": 3, "failed": 1}


def everything(out) -> dict:
    """Every file below a folder and its bytes; locks are no content."""
    return {str(path): path.read_bytes() for path in out.rglob("*")
            if path.is_file() and path.name != store.LOCK}


def test_a_dry_run_and_check_say_everything_and_change_nothing(out, messy, capsys):
    before = everything(out)
    assert repair("own", dry_run=True) == messy
    said = capsys.readouterr().out
    assert said.count("would be set aside") == 2 and said.count("would be removed") == 3
    assert "failed: it broke; would be planned again" in said
    assert check("own") == (2, 6)
    assert main(["runs", "check", "--profile", "own"]) == 1
    assert "own: 2 good records, 6 things to see to" in capsys.readouterr().out
    assert everything(out) == before


def test_repair_mends_it_and_loses_nothing(out, messy, capsys):
    before = everything(out)
    assert repair("own") == messy
    after = everything(out)
    gone = sorted(set(before.values()) - set(after.values()))
    assert gone == [b"half"] or len(gone) == 2               # leftovers alone: halves and a state
    assert len([p for p in after if p.endswith(".corrupt")]) == 2
    assert [p for p in after if p.endswith(".failed")]
    capsys.readouterr()
    assert repair("own") == {} and check("own") == (1, 0)
    assert main(["runs", "repair", "--profile", "own"]) == 0
    assert "own: nothing to repair" in capsys.readouterr().out
    assert store.load_checkpoint(checkpoints_dir("own", BEGUN.id))["epoch"] == 1
    assert train(FAILED)["status"] == "done"


def test_a_run_that_is_being_trained_is_left_to_its_process(out, messy, capsys):
    with store.lock("own", FAILED.id):
        counts = repair("own")
    assert counts["failed"] == 0 and counts["corrupt"] == 2
    assert f"left alone: {FAILED.id}" in capsys.readouterr().out
    assert store.record_path("own", FAILED.id).exists()


def test_states_of_a_finished_run_that_is_trained_again_for_its_weights_stay(out):
    train(DONE)
    folder = checkpoints_dir("own", DONE.id)
    for path in store.list_files(folder, store.WEIGHTS):
        path.unlink()
    store.save_checkpoint(folder, "ckpt-1", {"epoch": 1})
    assert repair("own") == {} and store.list_files(folder, store.CHECKPOINT)


# --- What the README says of the faults ---


def test_the_readmes_table_is_made_of_the_stored_result(tmp_path):
    path = tmp_path / "faults.json"
    assert faults(path) == "–"
    path.write_text(json.dumps({"seed": 7, "torch": "2", "os": "Linux", "cores": 2, "seconds": 300,
                                "faults": {"1": {"fault": "a kill", "outcome": {"passed": 1},
                                                 "counts": {"kills": 1300, "good_loads": 3}}}}))
    said = faults(path)
    assert "seed 7, 5 min" in said and "2 cores, Linux" in said and "PyTorch 2" in said
    assert "1,300 kills, 3 good loads" in said and "1 passed" in said

"""Records and checkpoints: there whole or not at all, and never believed when they changed."""
import os
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from helpers import hold_lock, start, try_lock

from attnlib import files
from attnlib.settings import checkpoints_dir, runs_dir
from attnlib.training import store

BODY = {"schema": store.SCHEMA, "id": "a-run-12345678", "run": {"seed": 3}, "status": "done",
        "history": [{"loss": 2.25, "val_accuracy": 0.1}], "words": "é, ü", "nothing": None}
NAME = BODY["id"]


def state(epoch: int) -> dict:
    return {"model": {"weight": torch.full((3, 4), float(epoch))}, "history": [{"loss": 1.5}],
            "epoch": epoch}


def save(epoch: int):
    store.save_checkpoint(folder(), f"ckpt-{epoch}", state(epoch))


def folder():
    return checkpoints_dir("own", NAME)


def names(where) -> list[str]:
    return sorted(os.listdir(where))


def test_a_file_is_written_whole_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "new folder" / "a file"
    files.write_atomic(path, b"first")
    files.write_atomic(path, b"second")
    assert path.read_bytes() == b"second" and names(path.parent) == ["a file"]
    for step in ("fsync", "replace"):           # a write that fails keeps it and leaves nothing
        with pytest.MonkeyPatch.context() as patch, pytest.raises(OSError, match="No space left"):
            patch.setattr(os, step, Mock(side_effect=OSError("No space left on device")))
            files.write_atomic(path, b"third")
        assert path.read_bytes() == b"second" and names(path.parent) == ["a file"]


def test_record_round_trip(recwarn):
    assert store.read_record("own", NAME) is None and not recwarn.list
    store.write_record("own", BODY)
    assert store.read_record("own", NAME) == BODY
    assert store.all_records("own") == [BODY] and store.all_records("pilot") == []
    assert names(runs_dir("own")) == [f"{NAME}.json"]


def test_nan_never_gets_into_a_record():
    with pytest.raises(ValueError):
        store.write_record("own", BODY | {"loss": float("nan")})
    assert not runs_dir("own").exists()


def test_arrays_round_trip_by_their_digest():
    arrays = {"prediction": np.arange(5, dtype=np.uint8), "confidence": np.ones(5, np.float16)}
    digest = store.write_arrays("own", NAME, arrays)
    read = store.read_arrays("own", NAME, digest)
    assert read.keys() == arrays.keys()
    assert all(np.array_equal(read[k], v) and read[k].dtype == v.dtype for k, v in arrays.items())
    assert store.read_arrays("own", NAME, None) is None
    assert store.read_arrays("own", "another-run", digest) is None


def same(a: dict, b: dict) -> bool:
    return a["epoch"] == b["epoch"] and torch.equal(a["model"]["weight"], b["model"]["weight"])


def test_the_newest_checkpoint_is_loaded_and_two_are_kept():
    assert store.load_checkpoint(folder()) is None
    for epoch in range(1, 12):                      # 10 and 11 come after 9 as numbers, not as text
        save(epoch)
    assert same(store.load_checkpoint(folder()), state(11))
    assert [name.split("-")[1] for name in names(folder())] == ["10", "11"]
    for name in ("ckpt-12.pt", "ckpt-12-abc.pt", f".ckpt-12-{'0' * 64}.pt.1.tmp", "notes.txt",
                 f"final-{'0' * 64}.pt"):           # other files are no checkpoints
        (folder() / name).write_bytes(b"x")
    assert same(store.load_checkpoint(folder()), state(11))


def test_final_weights_stay_when_the_checkpoints_are_dropped():
    save(1)
    for epoch in (6, 7, 5):                         # trained again the bits may be others
        store.save_checkpoint(folder(), "final", state(epoch))
    store.drop_checkpoints("own", NAME)
    assert len(names(folder())) == 1
    assert store.load_checkpoint(folder()) is None
    assert same(store.load_checkpoint(folder(), store.WEIGHTS), state(5))


def test_the_locks_holder_sweeps_what_a_killed_process_left():
    others = ".another-run.json.7.tmp"
    for path in (folder() / ".ckpt-1-abc.pt.7.tmp", runs_dir("own") / f".{NAME}.json.7.tmp",
                 runs_dir("own") / f".{NAME}.npz.7.tmp", runs_dir("own") / others):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
    with store.lock("own", NAME):
        assert names(folder()) == ["run.lock"] and names(runs_dir("own")) == [others]


def test_the_lock_refuses_a_second_process(out):
    with store.lock("own", NAME):
        second = start(try_lock, str(out), NAME)
        second.join()
        assert second.exitcode == 7
        with pytest.raises(store.Busy, match=NAME), store.lock("own", NAME):
            pytest.fail("held twice")
        with store.lock("own", "another-run"):
            pass
    free = start(try_lock, str(out), NAME)
    free.join()
    assert free.exitcode == 0


def test_the_kernel_frees_the_lock_of_a_process_that_was_killed(out):
    import multiprocessing
    held = multiprocessing.get_context("forkserver").Event()
    process = start(hold_lock, str(out), NAME, held)
    held.wait(60)
    with pytest.raises(store.Busy), store.lock("own", NAME):
        pytest.fail("held twice")
    process.kill()
    process.join()
    with store.lock("own", NAME):
        assert not process.is_alive()

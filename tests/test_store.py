"""Records and checkpoints: there whole or not at all, and never believed when they changed."""
import os
import random
import warnings

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


def save(epoch: int, **options):
    store.save_checkpoint(folder(), f"ckpt-{epoch}", state(epoch), **options)


def folder():
    return checkpoints_dir("own", NAME)


def names(where) -> list[str]:
    return sorted(os.listdir(where))


# --- Writing ---


def test_a_file_is_written_whole_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "new folder" / "a file"
    files.write_atomic(path, b"first")
    files.write_atomic(path, b"second")
    assert path.read_bytes() == b"second" and names(path.parent) == ["a file"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_write_that_fails_keeps_the_old_file_and_leaves_nothing(tmp_path, monkeypatch, step):
    def fail(*args):
        raise OSError("No space left on device")
    path = tmp_path / "a file"
    files.write_atomic(path, b"old")
    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="No space left"):
        files.write_atomic(path, b"new")
    assert path.read_bytes() == b"old" and names(tmp_path) == ["a file"]


def test_a_full_disk_is_an_error_and_leaves_nothing(tmp_path):
    """A real limit on the size of files, which Python reports as an OSError."""
    resource = pytest.importorskip("resource")
    import signal
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
        with pytest.raises(OSError):
            files.write_atomic(tmp_path / "a file", bytes(5000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert names(tmp_path) == []


# --- Records ---


def test_record_round_trip():
    store.write_record("own", BODY)
    assert store.read_record(store.record_path("own", NAME)) == BODY
    assert store.all_records("own") == [BODY] and store.all_records("pilot") == []
    assert names(runs_dir("own")) == [f"{NAME}.json"]


def test_a_record_that_is_not_there_is_none_without_a_word(recwarn):
    assert store.read_record(store.record_path("own", NAME)) is None and not recwarn.list


def test_nan_never_gets_into_a_record():
    with pytest.raises(ValueError):
        store.write_record("own", BODY | {"loss": float("nan")})
    assert not runs_dir("own").exists()


def test_a_flipped_bit_is_found_or_changes_nothing():
    """Of a number such as 1e5 one bit makes 1E5, which reads the same."""
    store.write_record("own", BODY)
    path = store.record_path("own", NAME)
    raw, found, flips = path.read_bytes(), 0, random.Random(0)
    for _ in range(200):
        bit = flips.randrange(8 * (len(raw) - 1))
        bad = bytearray(raw)
        bad[bit // 8] ^= 1 << bit % 8
        path.write_bytes(bad)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            read = store.read_sealed(path, store.is_record)
        assert read in (None, BODY), bit
        if read is None:
            assert names(path.parent) == [f"{NAME}.json.corrupt"]
            assert len(caught) == 1 and path.name in str(caught[0].message)
            (path.parent / f"{NAME}.json.corrupt").unlink()
            found += 1
    assert found >= 195


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"null", b'"text"', b"\xff\xfe", b"{}",
                                 b'{"body": 3, "sha256": "x"}', b'{"body": {}, "sha256": NaN}'])
def test_what_is_no_record_is_set_aside_with_a_warning(raw):
    path = store.record_path("own", NAME)
    files.write_atomic(path, raw)
    with pytest.warns(UserWarning, match=f"{NAME}.json.*set aside"):
        assert store.read_record(path) is None
    assert names(path.parent) == [f"{NAME}.json.corrupt"]
    assert (path.parent / f"{NAME}.json.corrupt").read_bytes() == raw


@pytest.mark.parametrize("change", [{"schema": 99}, {"id": "another-run-12345678"}])
def test_a_record_of_another_schema_or_name_is_not_believed(change):
    store.write_record("own", BODY | change)
    written, = runs_dir("own").iterdir()
    written.rename(store.record_path("own", NAME))
    with pytest.warns(UserWarning, match="set aside"):
        assert store.read_record(store.record_path("own", NAME)) is None


# --- Arrays ---


def test_arrays_round_trip_by_their_digest():
    arrays = {"prediction": np.arange(5, dtype=np.uint8), "confidence": np.ones(5, np.float16)}
    digest = store.write_arrays("own", NAME, arrays)
    read = store.read_arrays("own", NAME, digest)
    assert read.keys() == arrays.keys()
    assert all(np.array_equal(read[k], v) and read[k].dtype == v.dtype for k, v in arrays.items())
    assert store.read_arrays("own", NAME, None) is None
    assert store.read_arrays("own", "another-run", digest) is None


def test_arrays_that_changed_are_set_aside():
    digest = store.write_arrays("own", NAME, {"a": np.arange(5)})
    path = runs_dir("own") / f"{NAME}.npz"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.warns(UserWarning, match="SHA-256"):
        assert store.read_arrays("own", NAME, digest) is None
    assert names(path.parent) == [f"{NAME}.npz.corrupt"]


# --- Checkpoints ---


def same(a: dict, b: dict) -> bool:
    return a["epoch"] == b["epoch"] and torch.equal(a["model"]["weight"], b["model"]["weight"])


def test_the_newest_checkpoint_is_loaded_and_two_are_kept():
    assert store.load_checkpoint(folder()) is None
    for epoch in range(1, 12):                      # 10 and 11 come after 9 as numbers, not as text
        save(epoch)
    assert same(store.load_checkpoint(folder()), state(11))
    assert [name.split("-")[1] for name in names(folder())] == ["10", "11"]


def test_the_digest_in_the_name_is_that_of_the_file():
    import hashlib
    save(1)
    path, = folder().iterdir()
    assert path.name == f"ckpt-1-{hashlib.sha256(path.read_bytes()).hexdigest()}.pt"


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("harm", ["flip", "truncate", "empty"])
def test_a_harmed_checkpoint_is_set_aside_and_the_one_before_it_used(harm, seed):
    save(1)
    save(2)
    newest = store.list_files(folder(), store.CHECKPOINT)[0]
    raw, rng = bytearray(newest.read_bytes()), random.Random(seed)
    if harm == "flip":
        raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
    newest.write_bytes(raw if harm == "flip" else
                       raw[:rng.randrange(len(raw))] if harm == "truncate" else b"")
    with pytest.warns(UserWarning, match=f"{newest.name}.*set aside"):
        assert same(store.load_checkpoint(folder()), state(1))
    assert newest.name + ".corrupt" in names(folder())


def test_every_flipped_bit_of_a_checkpoint_is_found():
    save(1)
    path, = folder().iterdir()
    raw, rng = path.read_bytes(), random.Random(0)
    for _ in range(200):
        bad = bytearray(raw)
        bad[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
        path.write_bytes(bad)
        with pytest.warns(UserWarning, match="set aside"):
            assert store.load_checkpoint(folder()) is None


def test_two_harmed_checkpoints_mean_a_fresh_start():
    save(1)
    save(2)
    for path in list(folder().iterdir()):
        path.write_bytes(b"harmed")
    with pytest.warns(UserWarning) as caught:
        assert store.load_checkpoint(folder()) is None
    assert len(caught) == 2


def test_times_of_files_have_no_effect():
    save(1)
    save(2)
    for path, when in zip(store.list_files(folder(), store.CHECKPOINT), (0, 4e9), strict=True):
        os.utime(path, (when, when))
    assert same(store.load_checkpoint(folder()), state(2))


def test_other_files_are_no_checkpoints():
    save(1)
    for name in ("ckpt-9.pt", "ckpt-9-abc.pt", f".ckpt-9-{'0' * 64}.pt.1.tmp", "notes.txt",
                 f"final-{'0' * 64}.pt"):
        (folder() / name).write_bytes(b"x")
    assert same(store.load_checkpoint(folder()), state(1))


def test_final_weights_stay_when_the_checkpoints_are_dropped():
    save(1)
    store.save_checkpoint(folder(), "final", state(5))
    store.drop_checkpoints("own", NAME)
    assert store.load_checkpoint(folder()) is None
    assert same(store.load_checkpoint(folder(), store.WEIGHTS), state(5))


def test_nothing_in_a_checkpoint_is_executed(tmp_path):
    """A pickle that would make a file, under a right name and digest: refused."""
    import hashlib
    import pickle

    class Hostile:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)
    raw = pickle.dumps(Hostile(), protocol=2)
    files.write_atomic(folder() / f"ckpt-1-{hashlib.sha256(raw).hexdigest()}.pt", raw)
    with pytest.warns(UserWarning, match="not a state of ours"):
        assert store.load_checkpoint(folder()) is None
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("name", ["a [bracket] * ?", "spaces and é", "x" * 200, "#%&$"])
def test_odd_folder_names(tmp_path, monkeypatch, name):
    monkeypatch.setenv("ATTNLIB_OUT", str(tmp_path / name))
    save(1)
    save(2)
    save(3)
    store.write_record("own", BODY)
    assert same(store.load_checkpoint(folder()), state(3)) and len(names(folder())) == 2
    assert store.all_records("own") == [BODY]


# --- The lock ---


def test_the_locks_holder_sweeps_what_a_killed_process_left():
    others = ".another-run.json.7.tmp"
    for path in (folder() / ".ckpt-1-abc.pt.7.tmp", runs_dir("own") / f".{NAME}.json.7.tmp",
                 runs_dir("own") / f".{NAME}.npz.7.tmp", runs_dir("own") / others):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
    with store.lock("own", NAME):
        assert names(folder()) == ["run.holder", "run.lock"] and names(runs_dir("own")) == [others]


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

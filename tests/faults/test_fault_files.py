"""Harmed files, full and read-only disks, wrong clocks, odd paths: found, said, mended."""
import hashlib
import json
import os
import shutil
import signal
import time
import warnings
from pathlib import Path

import faults
import helpers
import pytest
from faults import flip, newest_epoch, temporaries, truncate
from helpers import comparable, compute_on_cpu, same_tensors, stop_after, tiny, weights

from attnlib import files
from attnlib.__main__ import main
from attnlib.experiments.grid import run_grid
from attnlib.experiments.reading import collect, histories
from attnlib.experiments.repair import check, repair
from attnlib.settings import checkpoints_dir, runs_dir
from attnlib.training import store
from attnlib.training.run import canonical_json
from attnlib.training.trainer import train

RUN = tiny(attention="se", epochs=3)


@pytest.fixture(scope="module")
def unharmed(tmp_path_factory):
    """The record and weights of a run that nothing happened to."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ATTNLIB_OUT", str(tmp_path_factory.mktemp("unharmed")))
        compute_on_cpu(patch.setattr)                      # no test's own settings reach here
        return train(RUN), weights(RUN)


def ends_like(unharmed) -> bool:
    """Train on; whether all is as if nothing had happened."""
    record, wanted = unharmed
    return comparable(train(RUN)) == comparable(record) and same_tensors(weights(RUN), wanted)


# --- 4, 5: checkpoints ---


@pytest.mark.fault(4)
@pytest.mark.parametrize("harm", [flip, truncate])
def test_a_harmed_checkpoint_is_found_and_the_one_before_it_used(harm, pick, moments, count,
                                                                 unharmed, capsys):
    stop_after(RUN, 2)
    folder = checkpoints_dir("own", RUN.id)
    newest = store.list_files(folder, store.CHECKPOINT)[0]
    raw = newest.read_bytes()
    for k in range(pick(20, 200)):
        newest.write_bytes(raw)
        where = harm(newest, moments)
        with pytest.warns(UserWarning, match=f"{newest.name}.*set aside") as caught:
            state = store.load_checkpoint(folder)
        assert len(caught) == 1 and len(state["history"]) == 1, where
        aside = folder / f"{newest.name}.corrupt"
        count(harmed=1, found=1)
        if k:
            aside.unlink()
    capsys.readouterr()
    assert ends_like(unharmed)
    assert "going on after epoch 1" in capsys.readouterr().out


@pytest.mark.fault(5)
def test_with_both_checkpoints_bad_it_starts_from_zero(pick, moments, count, unharmed, capsys):
    for _ in range(pick(2, 20)):
        shutil.rmtree(os.environ["ATTNLIB_OUT"], ignore_errors=True)
        stop_after(RUN, 2)
        for path in store.list_files(checkpoints_dir("own", RUN.id), store.CHECKPOINT):
            moments.choice([flip, truncate])(path, moments)
        capsys.readouterr()
        with pytest.warns(UserWarning, match="set aside") as caught:
            assert ends_like(unharmed)
        assert len(caught) == 2 and "going on" not in capsys.readouterr().out
        count(harmed=2, found=len(caught), ends_bit_identical=1)


# --- 6, 7: records ---


@pytest.mark.fault(6)
def test_a_record_with_a_flipped_bit_is_set_aside_and_run_again(pick, moments, count, unharmed):
    record = train(RUN)
    path = store.record_path("own", RUN.id)
    raw = path.read_bytes()
    for _ in range(pick(50, 2000)):
        path.write_bytes(raw)
        bit = flip(path, moments)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            read = store.read_sealed(path, store.is_record)   # a cache knows times
        # One bit makes 1e5 of 1E5, or a blank of the last line's end: they read the same.
        assert read in (None, record), bit
        assert (read is None) == bool(caught) == (not path.exists())
        if read is None:
            path.with_name(f"{path.name}.corrupt").unlink()
        count(flipped=1, found=int(read is None), read_the_same=int(read is not None))
    path.unlink(missing_ok=True)
    assert ends_like(unharmed)


def forged(**changes) -> bytes:
    """A record with the right digest and the wrong content."""
    body = {"schema": store.SCHEMA, "id": RUN.id, "run": RUN.as_dict(), "status": "done",
            "history": []} | changes
    text = canonical_json({k: v for k, v in body.items() if v is not ...})
    return json.dumps({"body": json.loads(text),
                       "sha256": hashlib.sha256(text.encode()).hexdigest()}).encode()


BAD_RECORDS = {
    "empty": b"", "half": b'{"body": {"id": "x", "his', "not UTF-8": b"\xff\xfe\x00{",
    "a list": b"[]", "deep": b"[" * 100_000, "no digest": b'{"body": {}}',
    "NaN": b'{"body": {"schema": 1, "loss": NaN}, "sha256": "00"}',
    "another schema": forged(schema=99), "another id": forged(id="another-run-12345678"),
    "no status": forged(status=...), "an unknown status": forged(status="fine"),
    "a run that is text": forged(run="resnet18"), "arrays as a list": forged(arrays=[])}


@pytest.mark.fault(7)
def test_bad_records_are_counted_skipped_and_set_aside(count, capsys):
    good = train(tiny(epochs=1))
    for k, (name, raw) in enumerate(BAD_RECORDS.items()):
        path = store.record_path("own", RUN.id)
        files.write_atomic(path, raw)
        assert check("own") == (1, 1), name
        with pytest.warns(UserWarning, match=f"{path.name}.*set aside"):
            assert [record["id"] for record in store.all_records("own")] == [good["id"]], name
        aside = [n for n in os.listdir(runs_dir("own")) if n.endswith(".corrupt")]
        assert len(aside) == k + 1, "one that was set aside before was lost"
        count(bad_records=1, set_aside=1)
    path.mkdir()                                                # a folder in place of a record
    files.write_atomic(store.record_path("own", "gone"), forged(id="gone", run={"attention": "x"}))
    capsys.readouterr()
    with pytest.warns(UserWarning) as caught:
        assert main(["runs", "list", "--profile", "own"]) == 0
    said = " ".join(str(one.message) for one in caught)
    assert "set aside" in said and "left out" in said
    out = capsys.readouterr().out
    assert f"own: {len(BAD_RECORDS) + 1} files set aside" in out and good["id"] in out


@pytest.mark.fault(7)
def test_predictions_that_are_missing_or_wrong(moments, count, capsys):
    run = tiny(epochs=1)
    record = train(run)
    path, digest = runs_dir("own") / f"{run.id}.npz", record["arrays"]["predictions"]
    raw = path.read_bytes()
    for harm in (os.remove, lambda file: flip(file, moments), lambda file: truncate(file, moments),
                 lambda file: file.write_bytes(b"PK")):
        path.write_bytes(raw)
        harm(path)
        assert main(["runs", "check", "--profile", "own"]) == 1
        assert f"{run.id}.npz" in capsys.readouterr().out
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert store.read_arrays("own", run.id, digest) is None
        df = collect(profile="own")
        assert list(df.status) == ["done"] and len(histories(df)) == 1
        count(bad_predictions=1, told=1)


# --- 8: disk full ---


@pytest.mark.fault(8)
def test_a_limit_on_the_size_of_files(out, tmp_path, count, unharmed):
    """One clear line; the old checkpoint intact, nothing half beside it; later it goes on."""
    resource = pytest.importorskip("resource", reason="this system has no limit on file sizes")
    stop_after(RUN, 1)
    before = newest_epoch(RUN)
    limit = store.list_files(checkpoints_dir("own", RUN.id), store.CHECKPOINT)[0].stat().st_size
    args = ["train", "--profile", "own", *helpers.as_options(RUN)]
    assert faults.in_child(limited_command, str(out), args, resource.RLIMIT_FSIZE, limit // 2,
                           said=tmp_path / "said") == 2
    said = (tmp_path / "said").read_text().splitlines()
    errors = [line for line in said if line.startswith("error")]
    assert len(errors) == 1 and errors[0].startswith("error: cannot write results/checkpoints/own/")
    assert "File too large" in errors[0] and "ATTNLIB_OUT" in errors[0] and errors[0] == said[-1]
    assert not any("Traceback" in line for line in said)
    assert newest_epoch(RUN) == before == 1 and not temporaries()
    assert store.load_checkpoint(checkpoints_dir("own", RUN.id)) is not None
    assert ends_like(unharmed)
    count(refused_writes=1, resumed=1)


def limited_command(out: str, args: list[str], which: int, limit: int) -> None:
    """``python -m attnlib ARGS`` in this process, under a limit of its own."""
    import resource
    os.environ["ATTNLIB_OUT"] = out
    compute_on_cpu()
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(which, (limit, limit))
    raise SystemExit(main(args))


# --- 9: read-only ---


@pytest.fixture
def read_only(out):
    """The shell text after which the output folder is read-only."""
    out.mkdir(parents=True, exist_ok=True)
    if faults.may_mount():
        yield ('mount --bind "$ATTNLIB_OUT" "$ATTNLIB_OUT" && '
               'mount -o remount,bind,ro "$ATTNLIB_OUT" || exit 99;')
    elif os.geteuid() == 0:
        pytest.skip("root may not mount here, and no mode keeps root from writing")
    else:
        folders = [folder for folder, _, _ in os.walk(out)]
        for folder in folders:
            os.chmod(folder, 0o500)
        yield ""
        for folder in folders:
            os.chmod(folder, 0o700)


@pytest.mark.fault(9)
def test_read_only_results_are_read_and_nothing_is_trained(count, request):
    done = tiny(epochs=1)
    train(done)
    torn = store.record_path("own", RUN.id)
    torn.write_text("{")
    code = ("import sys; from attnlib.__main__ import main; "
            "assert main(['runs', 'list', '--profile', 'own']) == 0; "
            "sys.exit(main(['train', *sys.argv[1:]]))")
    read = faults.python(code, *helpers.as_options(tiny(seed=1)),
                         wrap=request.getfixturevalue("read_only"))
    assert done.id in read.stdout and "left where it is" in read.stderr and torn.exists(), read
    assert read.returncode == 2 and "epoch 1/" not in read.stdout
    assert read.stderr.splitlines()[-1].startswith("error: cannot write results/")
    count(refused_before_the_first_epoch=1)


# --- 11: clocks ---


@pytest.mark.fault(11)
def test_times_of_files_and_clocks_have_no_effect(out, moments, count, unharmed, monkeypatch):
    stop_after(RUN, 2)
    now = moments.choice([0.0, 4e9])
    monkeypatch.setattr(time, "time", lambda: now)
    monkeypatch.setattr(time, "time_ns", lambda: int(now))

    def set_times(*times):
        for path in filter(Path.is_file, out.rglob("*")):
            os.utime(path, (moments.choice(times),) * 2)
            count(times_changed=1)
    set_times(0, 3_976_000_000)                                   # 1970, 2096
    assert newest_epoch(RUN) == 2 and ends_like(unharmed)
    set_times(0)
    assert check("own") == (1, 0) and list(run_grid([RUN], "own").status) == ["done"]


# --- 17: paths ---


@pytest.mark.fault(17)
@pytest.mark.parametrize("name", ["naïve — ü 日本 [bracket] {brace} * ?", "x" * 200,
                                  "-rf ' \" $HOME `id` %s #\na line"])
def test_any_folder_will_do(tmp_path, monkeypatch, name, count, unharmed):
    """Stop, harm, go on, list, repair."""
    monkeypatch.setenv("ATTNLIB_OUT", str(tmp_path / name))
    monkeypatch.setenv("ATTNLIB_DATA", str(tmp_path / name / "data"))
    stop_after(RUN, 2)
    assert newest_epoch(RUN) == 2
    newest = store.list_files(checkpoints_dir("own", RUN.id), store.CHECKPOINT)[0]
    newest.write_bytes(b"harmed")
    with pytest.warns(UserWarning, match="set aside"):
        assert ends_like(unharmed)
    files.write_atomic(store.record_path("own", "torn-12345678"), b"{")
    assert repair("own") == {"corrupt": 1}
    assert list(collect(profile="own").status) == ["done"]
    count(paths=1)

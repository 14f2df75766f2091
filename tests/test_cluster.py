"""A dask cluster of real processes on 127.0.0.1, and docs/cluster.md, command by command."""
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import helpers
import numpy as np
import pytest
from helpers import code_blocks, page, same_tensors, shell_commands, tiny, wait_until, weights

from attnlib.__main__ import main
from attnlib.experiments.grid import run_grid
from attnlib.experiments.repair import check
from attnlib.settings import REPO, checkpoints_dir, runs_dir
from attnlib.training import store
from attnlib.training.run import canonical_json

distributed = pytest.importorskip("distributed", reason="the extra [cluster] is not installed")
from attnlib.experiments import cluster  # noqa: E402

BIN = f"{Path(sys.executable).parent}/"
PRELOAD = ("from helpers import compute_on_cpu\n"
           "def dask_setup(worker):\n    compute_on_cpu()\n")


@pytest.fixture
def start(tmp_path):
    """Start a command in a folder and environment of its own; all are ended with the test."""
    started = []

    def begin(command, name="", **own):
        folder = tmp_path / (name or f"process{len(started)}")
        folder.mkdir(exist_ok=True)
        (folder / "cpu.py").write_text(PRELOAD)
        paths = os.pathsep.join([str(REPO), str(REPO / "tests"), *sys.path])
        env = os.environ | {"ATTNLIB_OUT": str(folder / "out"), "ATTNLIB_PROFILE": "smoke",
                            "PYTHONPATH": paths, "OMP_NUM_THREADS": "1",
                            "DASK_DISTRIBUTED__WORKER__PRELOAD": "cpu.py"} | own
        started.append(subprocess.Popen(command, cwd=folder, env=env, start_new_session=True))
        return started[-1]
    yield begin
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture
def address():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{free.getsockname()[1]}"


def scheduler(start, address, **own):
    port = address.rpartition(":")[2]
    return start([sys.executable, "-m", "dask", "scheduler", "--host", "127.0.0.1", "--port", port,
                  "--no-dashboard"], "scheduler", **own)


def worker(start, address, name, **own):
    """Without a nanny, so that its death is final."""
    return start([sys.executable, "-m", "dask", "worker", address, "--nthreads", "1",
                  "--memory-limit", "0", "--no-nanny", "--no-dashboard"], name, **own)


def kills(process, tmp_path) -> threading.Thread:
    """Kills a process once worker a has finished an epoch."""
    def kill():
        wait_until(lambda: list((tmp_path / "a" / "out").rglob("ckpt-*.pt")))
        process.kill()
    return threading.Thread(target=kill)


def test_two_workers_that_share_nothing_one_killed(start, address, tmp_path, capsys, monkeypatch):
    """Every run is there once, as one process makes it; no data set needs to be here."""
    monkeypatch.setenv("ATTNLIB_DATA", str(tmp_path / "ours"))
    x, y = np.zeros((60, 32, 32, 3), np.uint8), np.arange(60) % 10
    for folder, name in (("theirs", "cifar10"), ("ours", "mine")):
        (tmp_path / folder).mkdir()
        np.savez(tmp_path / folder / f"{name}.npz", train_images=x, train_labels=y, test_images=x,
                 test_labels=y)
    runs = [tiny(seed=seed, n_train=200, epochs=3) for seed in range(5)]
    there = tiny(dataset="cifar10", n_train=32, n_val=6, epochs=1)
    nowhere = tiny(dataset="npz:mine.npz", n_train=32, n_val=6, epochs=1)
    scheduler(start, address)
    data = {"ATTNLIB_DATA": str(tmp_path / "theirs")}
    pair = {name: worker(start, address, name, **data) for name in ("a", "b")}

    killer = kills(pair["a"], tmp_path)
    with cluster.cluster(address) as executor:
        wait_until(lambda: len(executor.client.nthreads()) == 2)
        killer.start()
        df = run_grid([*runs, there, nowhere], "smoke", executor=executor)
    killer.join()
    said = capsys.readouterr().out
    assert pair["a"].wait(10) == -signal.SIGKILL and pair["b"].poll() is None
    assert list(df.status) == ["done"] * 6 + ["missing"] and "no data: " in said
    assert said.splitlines()[-1] == "trained 6, found 0, missing 1"
    assert check("smoke") == (6, 0)                          # with their arrays, each once
    assert len(list(runs_dir("smoke").iterdir())) == 12
    run_grid(runs, "own")
    for run in runs:
        ours, theirs = (store.read_record(profile, run.id)
                        for profile in ("own", "smoke"))
        assert helpers.comparable(theirs) | {"env": 0} == helpers.comparable(ours) | {"env": 0}
        assert theirs["env"]["threads"] == 1
        assert same_tensors(weights(run, "smoke"), weights(run, "own"))


def test_a_scheduler_that_dies_fails_no_run(start, address, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cluster, "PATIENCE", 3)
    dies = scheduler(start, address)
    worker(start, address, "a")
    runs = [tiny(seed=seed, epochs=500) for seed in range(2)]

    kills(dies, tmp_path).start()
    with cluster.cluster(address) as executor:
        df = run_grid(runs, "smoke", executor=executor)
    assert list(df.status) == ["missing"] * 2
    assert "2 runs are left" in capsys.readouterr().out


def test_what_does_not_fit_is_refused():
    run, other = tiny(epochs=1), tiny(epochs=1, seed=1)
    good, foreign = (cluster.train_there(r.as_dict(), "own", None)[1] for r in (run, other))
    npz, record = f"{run.id}.npz", f"{run.id}.json"
    final = next(name for name in good if name.endswith(".pt"))
    torn = {name: good[name][:-1] + b"?" for name in good}
    body = json.loads(good[record])["body"]
    astray = f"{run.id}.x/../../../../elsewhere.npz"
    body["arrays"]["x/../../../../elsewhere"] = hashlib.sha256(b"").hexdigest()
    bad = [{}, foreign, good | {record: store.sealed(canonical_json(body).encode()), astray: b""},
           good | {record: torn[record]}, good | {npz: torn[npz]}, good | {final: torn[final]},
           good | {"../../elsewhere.npz": b""},
           {name: good[name] for name in (record, final)},
           good | {record: foreign[f"{other.id}.json"]}]
    for files in bad:
        assert cluster.keep(run.id, "smoke", files)
    assert not runs_dir("smoke").exists()
    store.save_checkpoint(checkpoints_dir("smoke", run.id), "final", {})    # its record was lost
    assert cluster.keep(run.id, "smoke", good) == ""
    assert [p.name for p in checkpoints_dir("smoke", run.id).iterdir()] == [final]
    assert (runs_dir("smoke") / npz).read_bytes() == good[npz]


@pytest.mark.parametrize(("address", "words"), [
    ("local:0", "local:N wants a number"),
    ("tcp://127.0.0.1:1", "127.0.0.1:1"), ("nonsense://x", "nonsense"),
    ("tls://127.0.0.1:1", "TLS")])
def test_a_bad_address_is_one_line(address, words, capsys, monkeypatch):
    monkeypatch.setattr(cluster, "PATIENCE", 1)
    assert main(["study", "hybrid", "--cluster", address]) == 2
    error, = capsys.readouterr().err.splitlines()[-1:]
    assert error.startswith("error: ") and words in error


# --- The page ---


@pytest.mark.parametrize("title", ["This machine", "Several machines", "TLS"])
def test_the_commands_of_the_page(title, start, address, tmp_path):
    """In turn, in one folder; a scheduler and workers go on beside the rest."""
    text = page("cluster").replace("HOST", "127.0.0.1").replace(
        "8786", address.rpartition(":")[2]).replace(".venv/bin/", BIN)
    (tmp_path / "here").mkdir()
    for config in code_blocks(text, "yaml", title):
        (tmp_path / "here" / "tls.yaml").write_text(config)
    for words in shell_commands(text, title):
        own = {}
        while "=" in words[0]:
            name, _, own[name] = words.pop(0).partition("=")
        process = start(words, "here", **own)
        assert words[0] == f"{BIN}dask" or process.wait(240) == 0, words
    assert len(list((tmp_path / "here/out/results/runs/smoke").glob("*.json"))) == 2
    if title == "TLS":                                       # whoever has no certificate stays out
        with pytest.raises(OSError):
            distributed.Client(address, timeout=3)

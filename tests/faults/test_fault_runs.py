"""Runs that cannot be: no memory, no finite loss; and notebooks that are stopped."""
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import faults
import nbformat
import psutil
import pytest
import torch
from faults import REPO, newest_epoch, record_of
from helpers import compute_on_cpu, notebook, tiny, train_module, wait_until

from attnlib.__main__ import main
from attnlib.experiments import workers
from attnlib.experiments.grid import run_grid
from attnlib.report.show import accuracy_table
from attnlib.training import store
from attnlib.training.run import Run
from attnlib.training.trainer import train

# --- 13: out of memory ---


HUGE = {"backbone": "resnet18", "width": 1.0, "epochs": 1, "n_train": 6000, "n_val": 10,
        "n_test": 10, "batch_size": 6000}  # the first map alone has 1.5 GiB


@pytest.mark.fault(13)
def test_a_run_that_wants_more_memory_than_there_is_fails_alone(out, tmp_path, count):
    """A real limit on a child's memory; the run after it is trained, no batch size is changed."""
    pytest.importorskip("resource", reason="this system has no limit on memory")
    if not Path("/proc/self/status").exists():
        pytest.skip("how much memory is in use cannot be read on this system")
    runs = [Run(**HUGE), tiny(epochs=1)]
    assert faults.in_child(grid_with_little_memory, str(out), [r.as_dict() for r in runs],
                           said=tmp_path / "said") == 0
    records = [record_of(run, "smoke") for run in runs]
    assert [r["status"] for r in records] == ["failed", "done"]
    assert "--batch-size" in records[0]["error"] and "none is changed" in records[0]["error"]
    assert Run(**records[0]["run"]) == runs[0]
    assert "failed 1" in (tmp_path / "said").read_text()
    assert records[0]["env"]["torch"] == torch.__version__
    count(out_of_memory=1, other_runs_done=1)


def grid_with_little_memory(out: str, runs: list[dict]) -> None:
    """The grid where 1 GiB more than now can be had."""
    import resource
    os.environ["ATTNLIB_OUT"] = out
    compute_on_cpu()
    used = next(int(line.split()[1]) * 1024 for line in open("/proc/self/status")
                if line.startswith("VmSize"))
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**30,) * 2)
    run_grid([Run(**fields) for fields in runs], "smoke")


@pytest.mark.fault(13)
@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory. Tried 2 GiB"),
                                   MemoryError(), RuntimeError("std::bad_alloc")], ids=str)
def test_every_word_for_it_is_understood_and_repair_plans_it_again(error, count, monkeypatch,
                                                                   capsys):
    def fails(*args, **options):
        raise error
    run = tiny(epochs=1)
    with monkeypatch.context() as patch:
        patch.setattr(workers, "train", fails)
        assert list(run_grid([run], "smoke").status) == ["failed"]
    assert "--batch-size" in record_of(run, "smoke")["error"]
    assert list(run_grid([run], "smoke").status) == ["failed"], "tried again, unasked"
    assert "1 failed earlier; `python -m attnlib runs repair" in capsys.readouterr().out
    assert main(["runs", "repair", "--profile", "smoke"]) == 0
    assert "smoke: 1 planned again" in capsys.readouterr().out
    assert list(run_grid([run], "smoke").status) == ["done"]
    kept, = (n for n in os.listdir(store.runs_dir("smoke")) if n.endswith(".failed"))
    assert kept.startswith(run.id)
    count(out_of_memory=1, planned_again=1)


# --- 14: NaN and infinity ---


@pytest.mark.fault(14)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_ends_the_run_within_an_epoch(value, moments, count, monkeypatch):
    run, when = tiny(epochs=4), moments.randrange(4)
    real, fatal, steps = torch.nn.functional.cross_entropy, 2 * when + moments.choice([1, 2]), []

    def broken(*args, **options):
        steps.append(1)
        return real(*args, **options) * (value if len(steps) == fatal else 1)  # two steps an epoch
    monkeypatch.setattr(train_module.F, "cross_entropy", broken)
    df = run_grid([run], "own")
    assert list(df.status) == ["diverged"] and df.accuracy.isna().all()
    record = record_of(run)
    assert len(record["history"]) == when + 1 and "loss" not in record["history"][-1]
    assert train(run) == record, "trained again"
    assert accuracy_table(df).n.sum() == 0
    count(diverged=1)


# --- 18: notebooks ---


CELL = """
import os, attnlib
print("kernel", os.getpid(), flush=True)
os.environ["ATTNLIB_JOBS"] = os.environ["FAULT_JOBS"]
attnlib.run_grid([attnlib.Run(**fields) for fields in {runs}], "smoke")
"""
COMMAND = ("import signal, sys; from pathlib import Path; from attnlib import settings; "
           "from attnlib.report import notebooks; "
           # a shell starts what runs in its background deaf to SIGINT
           "signal.signal(signal.SIGINT, signal.default_int_handler); "
           "settings.REPO = Path(sys.argv[1]); sys.exit(notebooks.run_books(jobs='2'))")


@pytest.mark.fault(18)
@pytest.mark.skipif(os.name != "posix", reason="these signals are POSIX's")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGKILL"])
def test_a_notebook_that_is_stopped_leaves_no_orphan_and_loses_at_most_an_epoch(
        tmp_path, monkeypatch, name, pick, moments, count):
    """With a kernel and worker processes at work; the stored notebook is as it was."""
    monkeypatch.setenv("FAULT_JOBS", pick("1" if name == "SIGTERM" else "2", "2"))
    home = tmp_path / "home"
    (home / "notebooks").mkdir(parents=True)
    monkeypatch.setenv("ATTNLIB_OUT", str(home))
    book = home / "notebooks" / "01_long.ipynb"
    cell = CELL.format(runs=[tiny(epochs=400, seed=seed).as_dict() for seed in (0, 1)])
    nbformat.write(notebook(cell), book)
    before = book.read_bytes()
    process = subprocess.Popen([sys.executable, "-c", COMMAND, str(home)], cwd=REPO, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        kernel = next(int(line.split()[1]) for line in process.stdout if line.startswith("kernel"))
        # of one process, the first run alone
        runs = [tiny(epochs=400, seed=seed) for seed in range(int(os.environ["FAULT_JOBS"]))]
        wait_until(lambda: all(newest_epoch(run, "smoke") for run in runs))
        family = {kernel, *(child.pid for child in psutil.Process(kernel).children(recursive=True))}
        time.sleep(moments.uniform(0, 0.3))
        epochs = [newest_epoch(run, "smoke") for run in runs]
        process.send_signal(getattr(signal, name))
        process.communicate(timeout=60)
    finally:
        process.kill()
    wait_until(lambda: not any(map(alive, family)), seconds=20)
    assert book.read_bytes() == before
    assert process.returncode == 130 if name == "SIGINT" else process.returncode != 0
    left = {path.name for path in (home / "results" / "executed").glob("*.ipynb")}
    assert left == ({"01_long.failed.ipynb"} if name == "SIGINT" else set())
    for run, epoch in zip(runs, epochs, strict=True):
        assert newest_epoch(run, "smoke") >= epoch
        assert store.load_checkpoint(store.checkpoints_dir("smoke", run.id)) is not None
    count(stopped=1, processes_ended=len(family), orphans=sum(map(alive, family)))


def alive(pid: int) -> bool:
    """A zombie is dead, and only waits to be noticed."""
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE

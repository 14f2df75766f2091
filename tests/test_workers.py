"""Executors: which GPU a worker gets, how workers end, and what their executors may throw."""
import os
import pickle
import time
from concurrent.futures import BrokenExecutor, Future, ThreadPoolExecutor

import pytest
import torch
from helpers import tiny, where_am_i

from attnlib import files
from attnlib.experiments import grid, workers
from attnlib.experiments.grid import run_grid
from attnlib.training import store
from attnlib.training.environment import Machine
from attnlib.training.trainer import train

# --- One process a GPU ---


@pytest.mark.parametrize(("allowed", "count", "names"), [
    (None, 0, []), (None, 2, ["0", "1"]), ("3, 5", 2, ["3", "5"]), ("GPU-a,GPU-b", 2,
    ["GPU-a", "GPU-b"]), ("0,1,-1,2", 2, ["0", "1"]), ("", 0, [])])
def test_the_gpus_are_those_that_this_process_may_use(monkeypatch, allowed, count, names):
    """Without a GPU at hand: torch's count is ours to set."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if allowed is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", allowed)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    assert workers.gpus() == names


@pytest.mark.parametrize(("gpus", "runs", "jobs"), [(0, 5, 1), (1, 5, 1), (2, 5, 2), (8, 3, 3)])
def test_auto_is_one_process_a_gpu(monkeypatch, gpus, runs, jobs):
    monkeypatch.setenv("ATTNLIB_JOBS", "auto")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(grid, "machine", lambda: Machine("cuda", None, True))
    assert grid.jobs_for([tiny(epochs=10**7, seed=seed) for seed in range(runs)]) == jobs


@pytest.mark.parametrize("jobs", ["0", "-1", "two", "1.5"])
def test_a_number_of_jobs_that_is_none_is_refused(monkeypatch, jobs):
    monkeypatch.setenv("ATTNLIB_JOBS", jobs)
    with pytest.raises(ValueError, match="ATTNLIB_JOBS.*auto or a number above 0"):
        run_grid([tiny()], "smoke")


def test_every_worker_has_its_own_gpu_in_its_environment(monkeypatch):
    """Real processes; the names of the GPUs are made up, and no CUDA is asked."""
    monkeypatch.setattr(workers, "gpus", lambda: ["7", "9"])
    seen = {}
    with workers.pool(2) as executor:
        deadline = time.monotonic() + 60
        while len(seen) < 2 and time.monotonic() < deadline:
            answers = [executor.submit(where_am_i) for _ in range(4)]
            seen |= dict(a.result() for a in answers)
    assert sorted(seen.values()) == ["7", "9"] and os.getpid() not in seen


# --- Ends ---


def test_leaving_with_an_exception_ends_workers_in_the_middle_of_their_work():
    """Ctrl-C in a notebook, say: what is saved is saved, nobody waits for the rest."""
    with pytest.raises(KeyboardInterrupt), workers.pool(1) as executor:
        assert executor.submit(int, "7").result() == 7            # it is up
        busy = executor.submit(time.sleep, 600)
        while not busy.running():
            time.sleep(0.01)
        began = time.monotonic()
        raise KeyboardInterrupt
    assert time.monotonic() - began < 20
    assert isinstance(busy.exception(), BrokenExecutor)


def test_a_full_disk_stops_the_grid_and_leaves_a_lent_executor_alone(monkeypatch):
    def full(*args, **options):
        raise files.Unwritable(store.runs_dir("smoke"), OSError(28, "No space left on device"))
    monkeypatch.setattr(workers, "train", full)
    with ThreadPoolExecutor(1) as executor:
        with pytest.raises(files.Unwritable, match="results/runs/smoke: No space left on device"):
            run_grid([tiny(seed=s) for s in range(3)], "smoke", executor=executor)
        assert executor.submit(int, "7").result() == 7
    assert not store.all_records("smoke")


def test_a_full_disk_says_so_across_processes():
    error = files.Unwritable(store.runs_dir("smoke"), OSError(28, "No space left on device"))
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert "No space left" in str(error) and "ATTNLIB_OUT" in str(error)


class KilledWorker(Exception):
    """What an executor may say of a task that killed its workers."""


class Poisoned(ThreadPoolExecutor):
    """Like dask's: one task ends in an exception of its own, the others are done."""

    def submit(self, call, fields, *args):
        if fields.get("seed") == 1:
            future = Future()
            future.set_exception(KilledWorker("it died 4 times"))
            return future
        return super().submit(call, fields, *args)


def test_an_executors_own_exception_fails_that_run_alone(capsys):
    with Poisoned(1) as executor:
        df = run_grid([tiny(seed=s, epochs=1) for s in range(3)], "smoke", executor=executor)
    assert list(df.status) == ["done", "failed", "done"]
    record = store.read_record(store.record_path("smoke", tiny(seed=1, epochs=1).id))
    assert record["error"] == "KilledWorker: it died 4 times"
    assert "failed 1" in capsys.readouterr().out.splitlines()[-1]


def test_a_run_that_another_process_did_meanwhile_is_not_trained_again(monkeypatch):
    run = tiny(epochs=1)
    train(run, "smoke")
    monkeypatch.setattr(workers, "train", lambda *a, **o: pytest.fail("trained again"))
    assert workers.attempt(run.as_dict(), "smoke") == ("there", "")


def test_a_busy_run_whose_holder_dies_is_done_in_the_end(monkeypatch, capsys):
    """Busy at first, free when the others are done."""
    first, second = tiny(epochs=1), tiny(epochs=1, seed=1)
    real, asked = workers.train, []

    def busy_once(run, *args, **options):
        asked.append(run.seed)
        if asked == [0]:
            raise store.Busy("held")
        return real(run, *args, **options)
    monkeypatch.setattr(workers, "train", busy_once)
    assert list(run_grid([first, second], "smoke").status) == ["done", "done"]
    assert asked == [0, 1, 0]

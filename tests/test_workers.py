"""Worker processes and executors: which GPU a worker gets, how workers end, what goes wrong."""
import os
import pickle
import time
from concurrent.futures import BrokenExecutor, Future, ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import torch
from helpers import last_line, tiny

from attnlib import files
from attnlib.experiments import grid, workers
from attnlib.experiments.grid import run_grid
from attnlib.training import store
from attnlib.training.environment import Machine
from attnlib.training.run import Run
from attnlib.training.trainer import train


def three() -> list[Run]:
    return [tiny(seed=seed, epochs=1) for seed in range(3)]


# --- How many, and where ---


@pytest.mark.parametrize(("allowed", "count", "names"), [
    (None, 0, []), (None, 2, ["0", "1"]), ("3, 5", 2, ["3", "5"]), ("0,1,-1,2", 2, ["0", "1"])])
def test_the_gpus_are_those_that_this_process_may_use(monkeypatch, allowed, count, names):
    """Without a GPU at hand: torch's count is ours to set."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if allowed is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", allowed)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    assert workers.gpus() == names


@pytest.mark.parametrize(("asked", "device", "gpus", "run", "jobs"), [
    ("", "cpu", 0, {}, 1), ("3", "cpu", 0, {}, 3), ("auto", "cpu", 0, {}, 1),
    ("auto", "cpu", 0, {"n_train": 10**9}, 2), ("auto", "cuda", 1, {"n_train": 10**9}, 1),
    ("auto", "cuda", 2, {"n_train": 10**9}, 2), ("auto", "cuda", 8, {"n_train": 10**9}, 2)])
def test_how_many_processes_for_two_runs(monkeypatch, asked, device, gpus, run, jobs):
    monkeypatch.setenv("ATTNLIB_JOBS", asked)
    monkeypatch.setattr(grid, "machine", lambda: Machine(device, None, True))
    monkeypatch.setattr(workers, "cores", lambda: 8)
    monkeypatch.setattr(workers, "gpus", lambda: list(map(str, range(gpus))))
    assert grid.jobs_for([tiny(**run), tiny(seed=1, **run)]) == jobs
    for wrong in ("0", "-1", "two", "1.5"):
        monkeypatch.setenv("ATTNLIB_JOBS", wrong)
        with pytest.raises(ValueError, match="ATTNLIB_JOBS.*auto or a number above 0"):
            run_grid([tiny()], "smoke")


def where_am_i(fields: dict, profile: str, end=None) -> tuple[str, str]:
    """Stands in for `workers.attempt`. Slow enough that another worker gets the next run."""
    time.sleep(0.3)
    return "told", f"{os.getpid()} {os.environ.get('CUDA_VISIBLE_DEVICES')}"


def test_workers_are_processes_with_a_gpu_each_and_end_with_the_grid(monkeypatch):
    """Real processes; the names of the GPUs are made up, and no CUDA is asked."""
    monkeypatch.setattr(workers, "gpus", lambda: ["7", "9"])
    monkeypatch.setattr(workers, "attempt", where_am_i)
    told = {}
    for _, (_, words) in workers.in_processes(three() * 2, "smoke", None, 2):
        pid, gpu = words.split()
        told[int(pid)] = gpu
    assert sorted(told.values()) == ["7", "9"] and os.getpid() not in told
    for pid in told:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_new_worker_gets_the_gpu_of_a_dead_one(monkeypatch):
    monkeypatch.setattr(workers, "gpus", lambda: ["7", "9"])
    started = {k: SimpleNamespace(name=name, is_alive=lambda alive=alive: alive)
               for k, (name, alive) in enumerate([("7", True), ("9", False)])}
    process = started[workers.start(started)]
    process.kill()
    assert process.name == "9"


# --- A lent executor ---


def test_any_executor_carries_the_runs(capsys):
    with ThreadPoolExecutor(1) as executor:
        df = run_grid(three(), "smoke", executor=executor)
        assert executor.submit(int, "7").result() == 7, "a lent executor was shut down"
    assert last_line(capsys) == "trained 3, found 0"
    assert list(df.seed) == [0, 1, 2] and set(df.status) == {"done"}
    alone = train(three()[0], "own")
    assert df.nll[0] == alone["test"]["nll"]


def test_a_pool_of_threads_trains_one_run_at_a_time(monkeypatch):
    """The initial weights come from torch's generator, which all threads share."""
    inside, most = [], []

    def slow(run, profile, deadline=None):
        inside.append(run)
        most.append(len(inside))
        time.sleep(0.05)
        inside.remove(run)
    monkeypatch.setattr(workers, "train", slow)
    with ThreadPoolExecutor(3) as executor:
        list(executor.map(lambda run: workers.attempt(run.as_dict(), "smoke"), three()))
    assert most == [1, 1, 1]


@pytest.mark.parametrize(("breaks", "status", "tells"), [
    ([2], "done", "trained 3, found 0"),
    ([1] * workers.TRIES, "missing", "trained 0, found 0, missing 3")])
def test_a_broken_executor_means_to_plan_again_and_in_the_end_to_give_up(capsys, monkeypatch,
                                                                         breaks, status, tells):
    """It breaks when it is given its n-th run, time after time."""
    given, left, submit = [], list(breaks), ThreadPoolExecutor.submit

    def may_break(*args):
        given.append(1)
        if left and len(given) == left[0]:
            given.clear()
            left.pop(0)
            raise BrokenExecutor("a worker died")
        return submit(*args)
    monkeypatch.setattr(ThreadPoolExecutor, "submit", may_break)
    with ThreadPoolExecutor(1) as executor:
        df = run_grid(three(), "smoke", executor=executor)
    said = capsys.readouterr().out
    assert set(df.status) == {status} and said.splitlines()[-1] == tells
    assert said.count("the executor broke; going on") == len(breaks)


class KilledWorker(Exception):
    """What an executor may say of a task that killed its workers."""


def test_an_executors_own_exception_fails_that_run_alone(capsys):
    """Like dask's: one task ends in an exception of its own, the others are done."""
    class Poisoned(ThreadPoolExecutor):
        def submit(self, call, fields, *args):
            if fields.get("seed") != 1:
                return super().submit(call, fields, *args)
            future = Future()
            future.set_exception(KilledWorker("it died 4 times"))
            return future
    with Poisoned(1) as executor:
        df = run_grid(three(), "smoke", executor=executor)
    assert list(df.status) == ["done", "failed", "done"]
    record = store.read_record("smoke", tiny(seed=1, epochs=1).id)
    assert record["error"] == "KilledWorker: it died 4 times"
    assert "failed 1" in last_line(capsys)


def test_a_full_disk_stops_the_grid_and_leaves_a_lent_executor_alone(monkeypatch):
    error = files.Unwritable(store.runs_dir("smoke"), OSError(28, "No space left on device"))
    assert str(pickle.loads(pickle.dumps(error))) == str(error) and "ATTNLIB_OUT" in str(error)

    def full(*args, **options):
        raise error
    monkeypatch.setattr(workers, "train", full)
    with ThreadPoolExecutor(1) as executor:
        with pytest.raises(files.Unwritable, match="results/runs/smoke: No space left on device"):
            run_grid(three(), "smoke", executor=executor)
        assert executor.submit(int, "7").result() == 7
    assert not store.all_records("smoke")


def test_a_busy_run_whose_holder_dies_is_done_in_the_end(monkeypatch):
    """Busy at first, free when the others are done."""
    real, asked = workers.train, []

    def busy_once(run, *args, **options):
        asked.append(run.seed)
        if asked == [0]:
            raise store.Busy("held")
        return real(run, *args, **options)
    monkeypatch.setattr(workers, "train", busy_once)
    assert list(run_grid(three()[:2], "smoke").status) == ["done", "done"]
    assert asked == [0, 1, 0]

"""SIGKILL at any moment, and several processes at once: nothing is lost and nothing comes twice."""
import contextlib
import os
import random
import signal
import time
import warnings

import faults
import pytest
from faults import newest_epoch, record_of, temporaries, train_to_point
from helpers import comparable, same_tensors, save_without_end, start, tiny, weights

from attnlib.experiments import workers
from attnlib.experiments.grid import run_grid
from attnlib.experiments.repair import findings
from attnlib.settings import checkpoints_dir
from attnlib.training import store
from attnlib.training.recipes import RECIPES
from attnlib.training.trainer import train

NAME = "a-run-12345678"


# --- 1: while saving ---


@pytest.mark.fault(1)
def test_killed_while_saving(out, pick, moments, count):
    """Never a bad file, the epoch never goes back, and the lock's holder sweeps the leftovers."""
    reached, folder = 0, checkpoints_dir("own", NAME)
    for _ in range(pick(20, 300)):
        process = start(save_without_end, str(out), NAME, reached + 1)
        while not (files := store.list_files(folder, store.CHECKPOINT)) or \
                int(files[0].name.split("-")[1]) <= reached:
            assert process.is_alive()
            time.sleep(0.002)
        faults.kill_after(process, moments.uniform(0, 0.02))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            loaded = store.load_checkpoint(folder)
        assert loaded["epoch"] > reached and (loaded["model"] == loaded["epoch"]).all()
        reached = loaded["epoch"]
        count(kills=1, good_loads=1)
    count(leftovers_swept=len(temporaries()))
    with store.lock("own", NAME):
        assert not temporaries()


# --- 2: in training, every recipe ---


@pytest.mark.fault(2)
@pytest.mark.parametrize("recipe", [*RECIPES, "everything"])
def test_killed_at_random_moments_and_resumed_it_ends_the_same(out, recipe, pick, moments, count,
                                                               monkeypatch):
    """Bit for bit, against a child process that nobody killed: weights, history, test scores."""
    monkeypatch.setitem(RECIPES, "everything", faults.EVERYTHING)         # gone after the test
    few = 8 if recipe in ("strong", "everything") else 4
    run = tiny(recipe=recipe, attention="cbam", epochs=pick(few, 12))
    unharmed, wanted = whole(out, run)
    epoch_seconds = unharmed["seconds"] / len(unharmed["history"])
    kills, least = 0, pick(5, 20) if recipe == "strong" else pick(1, 6)
    for lap in range(1000):
        os.environ["ATTNLIB_OUT"] = str(out / f"killed {lap}")
        done = killed_until_done(run, moments, epoch_seconds, least - kills)
        count(kills=done, ends_bit_identical=1)
        kills += done
        assert same_tensors(weights(run), wanted)
        assert comparable(record_of(run)) == comparable(unharmed)
        if kills >= least:
            break
    count(recipes=1, stopped_early_by_a_recipe=int(unharmed.get("early_stopped", False)))


def whole(out, run) -> tuple[dict, dict]:
    """The record and weights of a run that nobody interrupts."""
    os.environ["ATTNLIB_OUT"] = str(out / "whole")
    assert faults.in_child(faults.train_with_everything, str(out / "whole"), run.as_dict()) == 0
    return record_of(run), weights(run)


def killed_until_done(run, moments: random.Random, epoch_seconds: float, most: int) -> int:
    """Train in children, up to ``most`` of them killed before there is a record: how many were."""
    kills = 0
    while not record_of(run):
        before = newest_epoch(run)
        child = start(faults.train_with_everything, os.environ["ATTNLIB_OUT"], run.as_dict())
        if kills >= most:
            child.join(120)
            assert child.exitcode == 0
            continue
        if moments.random() < 0.8:                       # else at its start, before any new epoch
            while newest_epoch(run) <= before and child.is_alive():
                time.sleep(0.002)
        faults.kill_after(child, moments.uniform(0, 1.5 * epoch_seconds))
        kills += record_of(run) is None
        assert newest_epoch(run) >= before or record_of(run)
    return kills


# --- 3: at named points ---


POINTS = [("save_checkpoint", 2, "before"), ("save_checkpoint", 2, "after"),
          ("write_arrays", 1, "after"),
          ("save_checkpoint", 3, "after"), ("write_record", 1, "before"),
          ("drop_checkpoints", 1, "before"), ("drop_checkpoints", 1, "after")]


@pytest.mark.fault(3)
def test_killed_at_a_named_point_the_next_start_completes(out, count):
    """Before and after each checkpoint, between checkpoint and record, after the record."""
    run = tiny(attention="se")
    unharmed, wanted = whole(out, run)
    for step, call, when in POINTS:
        folder = out / f"{step} {call} {when}"
        os.environ["ATTNLIB_OUT"] = str(folder)
        code = faults.in_child(train_to_point, str(folder), run.as_dict(), step, call, when)
        assert code == -signal.SIGKILL, (step, call, when)
        if (step, when) == ("drop_checkpoints", "before"):
            assert [found.kind for found in findings("own", run.id)] == ["leftover", "leftover"]
        assert comparable(train(run)) == comparable(unharmed), (step, call, when)
        assert same_tensors(weights(run), wanted), (step, call, when)
        assert not temporaries()
        count(kills=1, equal_records=1)


# --- 10: three processes on one grid ---


@pytest.mark.fault(10)
def test_three_processes_on_one_grid_and_one_of_them_killed(out, tmp_path, pick, moments, count):
    for lap in range(pick(1, 3)):
        os.environ["ATTNLIB_OUT"] = folder = str(out / f"lap {lap}")
        log = tmp_path / f"log {lap}"
        runs = [tiny(seed=seed, epochs=3) for seed in range(6)]
        children = [start(faults.grid_in_child, folder, str(log), [r.as_dict() for r in runs])
                    for _ in range(3)]
        while faults.in_log(log).total() < 3 and all(child.is_alive() for child in children):
            time.sleep(0.01)
        faults.kill_after(moments.choice(children), moments.uniform(0, 0.5))
        for child in children:
            child.join(120)
        assert sorted(c.exitcode for c in children) == [-signal.SIGKILL, 0, 0]
        assert all(record_of(run, "smoke")["status"] == "done" for run in runs)
        words = faults.in_log(log)
        begun = [words[f"begins {run.id}"] for run in runs]
        assert all(words[f"ends {run.id}"] <= 1 for run in runs), "trained twice"
        assert sorted(begun)[:-1] == [1] * 5 and max(begun) <= 2
        count(kills=1, runs_done=6, begun_again=max(begun) - 1)


# --- 12: workers ---


@pytest.mark.fault(12)
def test_a_worker_that_dies_once_and_a_run_that_always_kills_its_worker(
        out, tmp_path, monkeypatch, pick, count, capfd):
    """The first run ends as if nothing had been, the second fails alone, none is done twice."""
    log = tmp_path / "log"
    monkeypatch.setenv("FAULT_LOG", str(log))
    monkeypatch.setenv("ATTNLIB_JOBS", "2")
    monkeypatch.setattr(workers, "attempt", faults.deadly_attempt)
    runs = [tiny(seed=seed) for seed in range(4)]
    with pick(faults.quick_pools, contextlib.nullcontext)():
        df = run_grid(runs, "smoke")
    assert list(df.status) == ["done", "failed", "done", "done"]
    record = record_of(runs[1], "smoke")
    assert "died 3 times" in record["error"] and record["env"]["cores"]
    words = faults.in_log(log)
    assert words[f"begins {runs[1].id}"] == 3 and words[f"begins {runs[2].id}"] == 2
    assert all(words[f"ends {run.id}"] == (run.seed != 1) for run in runs)
    said = capfd.readouterr().out
    assert "a worker process died" in said and "failed 1" in said.splitlines()[-1]
    unharmed = whole(out, runs[2])[0]
    os.environ["ATTNLIB_OUT"] = str(out)
    ignored = {"env": 0}                            # how many worked at the time
    assert comparable(record_of(runs[2], "smoke")) | ignored == comparable(unharmed) | ignored
    count(workers_killed=4, runs_done=3, runs_failed=1)

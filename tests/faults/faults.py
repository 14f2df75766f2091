"""The faults that must be survived, what must be true after each, and how to make some of them."""
import contextlib
import dataclasses
import functools
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from helpers import compute_on_cpu, start, train_in_child, train_module

from attnlib.experiments import workers
from attnlib.experiments.grid import run_grid
from attnlib.settings import checkpoints_dir
from attnlib.training import store
from attnlib.training.recipes import RECIPES
from attnlib.training.run import Run
from attnlib.training.trainer import train

REPO = Path(__file__).resolve().parents[2]
FAULTS = {
    1: "SIGKILL while saving",
    2: "SIGKILL in training at random moments, every recipe",
    3: "SIGKILL at named points of the end of an epoch and of a run",
    4: "a checkpoint truncated or with a flipped bit",
    5: "both checkpoints bad",
    6: "a record with a flipped bit",
    7: "records and predictions that are empty, half, of another schema, missing",
    8: "disk full",
    9: "results read-only",
    10: "three processes on one grid, one of them killed",
    11: "clocks and file times wrong",
    12: "a worker dies; a run that always kills its worker",
    13: "out of memory",
    14: "NaN or infinite loss",
    15: "data missing, half, wrong, or cut off on the way",
    16: "wrong shapes, types, channels, labels, lengths; a class missing",
    17: "paths with spaces, unicode, brackets, 200 characters",
    18: "Ctrl-C, SIGTERM, SIGKILL of a running notebook",
    19: "one run spelt in several ways",
    20: "hostile checkpoint, archive, names",
}


def record_of(run: Run, profile: str = "own") -> dict | None:
    return store.read_record(profile, run.id)


def newest_epoch(run: Run, profile: str = "own") -> int:
    files = store.list_files(checkpoints_dir(profile, run.id), store.CHECKPOINT)
    return int(files[0].name.split("-")[1]) if files else 0


def temporaries() -> list[str]:
    """Half files anywhere in the output folder."""
    return [name for _, _, names in os.walk(os.environ["ATTNLIB_OUT"]) for name in names
            if name.endswith((".tmp", ".part"))]


# Averaged weights, mixed images, the best epoch kept and the run ended early, all in one recipe.
EVERYTHING = dataclasses.replace(RECIPES["strong"], ema=0.9, cutmix=0.5, watch="val_nll",
                                 patience=2, keep_best=True)


def train_with_everything(out: str, fields: dict) -> None:
    """`train_in_child` where the recipe ``everything`` is known."""
    RECIPES["everything"] = EVERYTHING
    train_in_child(out, fields)


# --- Harm ---


def flip(path: Path, moments: random.Random) -> int:
    """Flip one bit of a file; which."""
    raw = bytearray(path.read_bytes())
    bit = moments.randrange(8 * len(raw))
    raw[bit // 8] ^= 1 << bit % 8
    path.write_bytes(raw)
    return bit


def truncate(path: Path, moments: random.Random) -> int:
    """Cut a file off; where."""
    size = moments.randrange(path.stat().st_size)
    os.truncate(path, size)
    return size


# --- Child processes ---


def kill_after(process, seconds: float) -> None:
    time.sleep(seconds)
    process.kill()
    process.join()


def train_to_point(out: str, fields: dict, step: str, call: int, when: str) -> None:
    """Train, and die by SIGKILL before or after the ``call``-th call of a function of the store."""
    os.environ["ATTNLIB_OUT"] = out
    compute_on_cpu()
    real, calls = getattr(store, step), []

    def deadly(*args, **options):
        calls.append(step)
        if len(calls) == call and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        answer = real(*args, **options)
        if len(calls) == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer
    setattr(store, step, deadly)
    train(Run(**fields), "own")


def logged(log: str) -> None:
    """Write a line for each training that begins and for each that ends, with the process."""
    begin, end = train_module.fit, train_module.conclude

    def note(word, run):
        with open(log, "a") as file:
            file.write(f"{word} {run.id} {os.getpid()}\n")

    def fit(trainer, *args):
        note("begins", trainer.run)
        return begin(trainer, *args)

    def conclude(trainer, *args):
        record = end(trainer, *args)
        note("ends", trainer.run)
        return record
    train_module.fit, train_module.conclude = fit, conclude


def in_log(log: Path) -> Counter:
    """How often each training began and ended: ``begins <id>`` -> count."""
    lines = log.read_text().splitlines() if log.exists() else ()
    return Counter(line.rpartition(" ")[0] for line in lines)


def grid_in_child(out: str, log: str, runs: list[dict]) -> None:
    """One of several processes on one grid."""
    os.environ["ATTNLIB_OUT"] = out
    compute_on_cpu()
    logged(log)
    run_grid([Run(**fields) for fields in runs], "smoke")


def deadly_attempt(fields: dict, profile: str, end=None):
    """`workers.attempt` in a worker process, its begin and end written to FAULT_LOG. A run of seed
    1 kills its worker in its second epoch, every time, one of seed 2 the first time."""
    compute_on_cpu()
    log = os.environ["FAULT_LOG"]
    if train_module.fit.__module__ != __name__:
        logged(log)
        real = train_module.Trainer.epoch

        def epoch(self, k):
            begun = in_log(Path(log))[f"begins {self.run.id}"]
            if k == 1 and (self.run.seed == 1 or self.run.seed == 2 and begun == 1):
                os.kill(os.getpid(), signal.SIGKILL)
            return real(self, k)
        train_module.Trainer.epoch = epoch
    return workers.attempt(fields, profile, end)


def in_child(target, *args, timeout: float = 120, said: Path | None = None) -> int:
    """Run a function in a child of its own to its end; its exit code. ``said``: the file that takes
    what it prints."""
    process = start(redirected, str(said), target, *args) if said else start(target, *args)
    process.join(timeout)
    if process.is_alive():
        process.kill()
        pytest.fail(f"{target.__name__} takes more than {timeout} s")
    return process.exitcode


def redirected(said: str, target, *args) -> None:
    """Call a function whose output goes to a file."""
    with open(said, "w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    target(*args)


@contextlib.contextmanager
def quick_pools():
    """Worker processes from a server that has imported PyTorch: a tenth of a second instead of
    five, and nothing else is different."""
    context = multiprocessing.get_context("forkserver")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workers, "get_context", lambda name: context)
        patch.setattr(workers, "serve", functools.partial(serve_with, dict(os.environ)))
        yield


def serve_with(environment: dict, *args) -> None:
    """`workers.serve` in a child that has the server's environment and wants ours."""
    os.environ.update(environment)
    workers.serve(*args)


def python(code: str, *args: str, wrap: str = ""):
    """A line of Python in a process of its own, its output captured. ``wrap``: shell text that
    precedes it in a mount namespace of its own, so that it may mount things."""
    command = [sys.executable, "-c", code, *args]
    if wrap:
        command = ["unshare", "-m", "sh", "-c", f'{wrap} exec "$@"', "sh", *command]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=REPO,
                          env={**os.environ, "PYTHONPATH": os.pathsep.join([str(REPO), *sys.path])})


def may_mount() -> bool:
    """Whether this user may mount in a namespace of its own."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"],
                              capture_output=True, timeout=20).returncode == 0
    return False


def to_json(value) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"

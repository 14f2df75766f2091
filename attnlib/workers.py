"""Doing one run, here or in another process: what goes wrong becomes a word, not a traceback."""
import os
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import torch

from . import store
from .data import DataBad, DataMissing
from .run import Run
from .train import TimeUp, train, versions


def attempt(fields: dict, profile: str, end: float | None = None) -> tuple[str, str]:
    """Train ``Run(**fields)`` and say how it went: ``trained``, ``no data``, ``busy``, ``time up``
    or ``failed``, and a line for people. ``end``: the clock time to stop at, all saved. Takes and
    gives plain values, so that any ``concurrent.futures.Executor`` can carry it anywhere."""
    run = Run(**fields)
    deadline = None if end is None else time.monotonic() + end - time.time()
    if deadline is not None and time.monotonic() > deadline:
        return "time up", f"{run.id}: not begun"
    try:
        train(run, profile, deadline=deadline)
        return "trained", ""
    except (DataMissing, DataBad) as error:
        return "no data", str(error)
    except store.Busy as error:
        return "busy", str(error)
    except TimeUp as stop:
        return "time up", str(stop)
    except (RuntimeError, MemoryError, ValueError) as error:
        return "failed", record_failure(run, profile, error)


def record_failure(run: Run, profile: str, error: Exception) -> str:
    """A failed run is a result too. Out of memory: say what helps, and never shrink the batch."""
    words = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
    if isinstance(error, MemoryError) or "out of memory" in words.lower():
        words += "; use a smaller --batch-size, --width or another device (none is changed for you)"
    store.write_record(profile, {
        "schema": store.SCHEMA, "id": run.id, "run": run.as_dict(), "resolved": run.resolved(),
        "versions": versions(run), "profile": profile, "status": "failed", "error": words,
        "history": [], "test": None, "arrays": {}})
    return f"{run.id}: {words}"


def pool(jobs: int) -> ProcessPoolExecutor:
    """``jobs`` processes of one thread each. For narrow networks on a CPU two such processes train
    more images a second than one process with two threads, and do not stall when the machine has
    other work. Spawned, as CUDA needs; a worker ends itself when its parent is gone."""
    return ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=start,
                               initargs=(os.getpid(),))


def start(parent: int) -> None:
    torch.set_num_threads(1)
    threading.Thread(target=end_with, args=(parent,), daemon=True).start()


def end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    sys.stdout.flush()
    os._exit(1)

"""Doing one run, here or in another process: what goes wrong becomes a word, not a traceback."""
import contextlib
import os
import signal
import sys
import threading
import time
from collections import Counter
from concurrent.futures import BrokenExecutor, Executor, Future, as_completed
from itertools import groupby
from multiprocessing import connection, get_context, parent_process

import torch

from ..data.arrays import DataBad, DataMissing
from ..training import store
from ..training.environment import surroundings
from ..training.run import Run, versions
from ..training.together import alike, fits, train_together
from ..training.trainer import TimeUp, train

OUTCOMES = {DataMissing: "no data", DataBad: "no data", store.Busy: "busy", TimeUp: "time up"}
ONE = threading.RLock()         # a process trains one run at a time: torch's generator is global
TRIES = 3               # so often may an executor break, or a run kill its worker
DEADLY = (f"its worker process died {TRIES} times, often for want of memory; use a smaller "
          "--batch-size, --width or fewer JOBS")


def attempt(fields: dict, profile: str, end: float | None = None) -> tuple[str, str]:
    """Train ``Run(**fields)`` and say how it went: ``trained``, ``there`` (another process was
    faster), ``no data``, ``busy``, ``time up``, ``not begun`` or ``failed``, and a line for people.
    ``end``: the clock time to stop at, all saved. Takes and gives plain values, so that any
    ``concurrent.futures.Executor`` can carry it anywhere. A disk that takes nothing raises
    `files.Unwritable`: no other run would fare better."""
    run = Run(**fields)
    deadline = None if end is None else time.monotonic() + end - time.time()
    if deadline is not None and time.monotonic() > deadline:
        return "not begun", ""
    if store.read_record(profile, run.id):
        return "there", ""
    try:
        with ONE:
            train(run, profile, deadline=deadline)
        return "trained", ""
    except tuple(OUTCOMES) as error:
        return OUTCOMES[type(error)], str(error)
    except Exception as error:                      # whatever a block of one's own may raise
        return "failed", record_failure(run, profile, error)


def attempt_together(runs: list[Run], profile: str, end: float | None):
    """Yield (run, `attempt`'s answer) for runs that one GPU trains at once, or else one by one."""
    deadline, late = None if end is None else time.monotonic() + end - time.time(), False
    if len(runs) > 1 and (deadline is None or time.monotonic() < deadline):
        try:
            train_together(runs, profile, deadline=deadline)
        except TimeUp as stop:
            print(stop, flush=True)
            late = True
        except (RuntimeError, MemoryError, ValueError, DataMissing) as error:
            print(f"{len(runs)} runs do not go together, so one by one: {error}", flush=True)
    for run in runs:
        if len(runs) > 1 and store.read_record(profile, run.id):
            yield run, ("trained", "")
        else:
            yield run, ("time up", "") if late else attempt(run.as_dict(), profile, end)


def bundles(runs: list[Run], most: int) -> list[list[Run]]:
    """The runs in their order, those in a row that may go together in one list of ``most``."""
    out = []
    for _, group in groupby(runs, lambda run: alike(run) if fits(run) else run.id):
        group = list(group)
        out += [group[k:k + most] for k in range(0, len(group), most)]
    return out


def record_failure(run: Run, profile: str, error: Exception) -> str:
    """A failed run is a result too. Out of memory: say what helps, and never shrink the batch. A
    disk or GPU that answers no more, or a missing module, is raised: the other runs would fail."""
    if isinstance(error, (OSError, ImportError)) or "CUDA error" in str(error):
        raise error
    words = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
    if store.lacks_memory(error):
        words += "; use a smaller --batch-size, --width or another device (none is changed for you)"
    with contextlib.suppress(store.Busy), store.lock(profile, run.id):
        if not store.finished_record(profile, run.id):
            store.write_record(profile, {
                "schema": store.SCHEMA, "id": run.id, "run": run.as_dict(),
                "resolved": run.resolved(), "versions": versions(run), "profile": profile,
                "status": "failed", "error": words, "env": surroundings(), "history": [],
                "test": None, "arrays": {}})
    return f"{run.id}: {words}"


def unfinished(runs: list[Run], profile: str) -> list[Run]:
    """The runs without a good record: planned from what is stored, never from what was started."""
    return [run for run in runs if store.read_record(profile, run.id) is None]


def through(executor: Executor, todo: list[Run], profile: str, end: float | None):
    """Yield (run, `attempt`'s answer) as a lent executor's tasks end. Where it breaks, what has no
    record is planned again."""
    for _ in range(TRIES):
        futures = {}
        try:
            for run in todo:
                futures[executor.submit(attempt, run.as_dict(), profile, end)] = run
            for future in as_completed(futures):
                yield futures[future], answer_of(future, futures[future], profile)
            return
        except BrokenExecutor:
            print("the executor broke; going on with what is left", flush=True)
            todo = unfinished(todo, profile)
        finally:
            for future in futures:
                future.cancel()
    print(f"the executor broke {TRIES} times; {len(todo)} runs are left", flush=True)


def answer_of(future: Future, run: Run, profile: str) -> tuple[str, str]:
    """`attempt`'s answer. An exception of the executor's own, such as dask's KilledWorker, is its
    word that the run cannot be done there: the run failed. Ours and Python's are raised."""
    try:
        return future.result()
    except Exception as error:
        if type(error).__module__.split(".")[0] in ("builtins", "attnlib", "concurrent"):
            raise
        words = RuntimeError(f"{type(error).__name__}: {error}")
        return "failed", record_failure(run, profile, words)


def in_processes(todo: list[Run], profile: str, end: float | None, jobs: int):
    """Yield (run, `attempt`'s answer) as runs end in ``jobs`` processes of one thread each, in turn
    on the GPUs where there are any. For narrow networks on a CPU two such processes train more
    images a second than one process with two threads, and do not stall when the machine has other
    work. A run whose process dies goes to a new one, TRIES times in all; the others go on."""
    print(f"{len(todo)} runs, {jobs} at a time", flush=True)
    waiting, idle, busy, deaths, started = list(reversed(todo)), [], {}, Counter(), {}
    try:
        while waiting or busy:
            while waiting and len(busy) < jobs:
                pipe = idle.pop() if idle else start(started)
                busy[pipe] = waiting.pop()
                with contextlib.suppress(OSError):          # one that died idle: seen below
                    pipe.send((attempt, (busy[pipe].as_dict(), profile, end)))
            for pipe in connection.wait(busy):
                run = busy.pop(pipe)
                try:
                    said, error = pipe.recv()
                except (EOFError, OSError):
                    print("a worker process died; going on in a new one", flush=True)
                    started[pipe].join()                    # until then its lock may still be held
                    deaths[run.id] += 1
                    if deaths[run.id] < TRIES:
                        waiting.append(run)
                    else:
                        yield run, ("failed", record_failure(run, profile, RuntimeError(DEADLY)))
                    continue
                if error:
                    raise error
                idle.append(pipe)
                yield run, said
    finally:                                # also where the caller stops in the middle of a run
        for process in started.values():
            process.kill()
            process.join()


def start(started: dict):
    """Start a worker, on the GPU that has the fewest and by its name, and return the pipe to it."""
    living, context = Counter(p.name for p in started.values() if p.is_alive()), process_context()
    device = min(gpus(), key=lambda name: living[name], default=None)
    own = {} if device is None else {"CUDA_VISIBLE_DEVICES": device}
    pipe, theirs = context.Pipe()
    started[pipe] = context.Process(
        target=serve, args=(theirs, dict(os.environ) | own), name=device, daemon=True)
    started[pipe].start()
    theirs.close()                          # else its death would not be noticed
    return pipe


def process_context():
    """How processes start. Importing PyTorch takes seconds, so without a GPU, which cannot be
    shared so, they are forked from one that did it; they begin with `settle`."""
    if gpus() or sys.platform != "linux":
        return get_context("spawn")
    context = get_context("forkserver")
    context.set_forkserver_preload(["torch._dynamo", __name__])       # optimisers want the former
    return context


def settle(environment: dict) -> None:
    os.environ.clear()                      # a forked one has what its server was started with
    os.environ.update(environment)
    torch.set_num_threads(1)


def serve(pipe, environment: dict) -> None:
    """A worker: do what comes through the pipe, until it is killed or its parent is gone."""
    settle(environment)
    signal.signal(signal.SIGINT, signal.SIG_IGN)            # Ctrl-C is the parent's to take
    threading.Thread(target=end_with_parent, daemon=True).start()
    while True:
        call, args = pipe.recv()
        try:
            said = call(*args), None
        except Exception as error:
            said = None, error
        pipe.send(said)


def end_with_parent() -> None:
    parent_process().join()
    os._exit(1)


def gpus() -> list[str]:
    """The names of the GPUs that this process may use, as CUDA_VISIBLE_DEVICES takes them."""
    count = torch.cuda.device_count()
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [n.strip() for n in allowed.split(",")] if allowed else map(str, range(count))
    return list(names)[:count]


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()

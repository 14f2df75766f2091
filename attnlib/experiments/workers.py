"""Doing one run, here or in another process: what goes wrong becomes a word, not a traceback."""
import contextlib
import os
import sys
import threading
import time
from collections import Counter
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    Executor,
    Future,
    ProcessPoolExecutor,
    wait,
)
from multiprocessing import current_process, get_context

import torch

from ..data.arrays import DataBad, DataMissing
from ..training import store
from ..training.environment import surroundings
from ..training.run import Run, versions
from ..training.together import alike, fits, train_together
from ..training.trainer import TimeUp, train

TRIES = 3               # so often may an executor break unexplained, or a run kill its worker
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
    if store.read_record(store.record_path(profile, run.id)):
        return "there", ""
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


def attempt_together(runs: list[Run], profile: str, end: float | None):
    """Yield (run, `attempt`'s answer) for runs that one GPU trains at once; one by one where that
    does not go."""
    deadline = None if end is None else time.monotonic() + end - time.time()
    if len(runs) > 1 and (deadline is None or time.monotonic() < deadline):
        try:
            train_together(runs, profile, deadline=deadline)
        except TimeUp as stop:
            print(stop, flush=True)
        except (RuntimeError, MemoryError, ValueError) as error:
            print(f"{len(runs)} runs do not go together, so one by one: {error}", flush=True)
    for run in runs:
        done = len(runs) > 1 and store.read_record(store.record_path(profile, run.id))
        yield run, ("trained", "") if done else attempt(run.as_dict(), profile, end)


def bundles(runs: list[Run], most: int) -> list[list[Run]]:
    """The runs in their order, those in a row that may go together in one list of ``most``."""
    out = []
    for run in runs:
        last = out[-1] if out else ()
        if 0 < len(last) < most and alike(last[0]) == alike(run) and fits(last[0]) and fits(run):
            out[-1].append(run)
        else:
            out.append([run])
    return out


def record_failure(run: Run, profile: str, error: Exception) -> str:
    """A failed run is a result too. Out of memory: say what helps, and never shrink the batch."""
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
    return [run for run in runs if store.read_record(store.record_path(profile, run.id)) is None]


def side_by_side(todo, profile, end, executor, jobs):
    """Yield (run, (outcome, words)) as runs end. When the executor breaks, plan again from the
    records.

    All runs that were in hand when a worker died are suspects, as one death ends its neighbours
    too. From then on each suspect runs alone, so that the next death is known to be its own."""
    deaths, unexplained = Counter(), 0
    while todo and unexplained < TRIES:
        alone = [run for run in todo if deaths[run.id]]
        batch = alone or todo
        marks = {run.id: store.holder(profile, run.id) for run in batch}
        print(f"{len(batch)} runs" + (", one at a time: a worker died of one of them" if alone else
                                      "" if executor else f", {jobs} at a time"), flush=True)
        ended = set()
        try:
            ours = None if executor else pool(1 if alone else jobs)
            with ours or contextlib.nullcontext(executor) as workers:
                for run, said in answers(workers, batch, profile, end, 1 if alone else None):
                    ended.add(run.id)
                    yield run, said
        except BrokenExecutor:
            print("a worker process died; going on with what is left", flush=True)
            dead = [run for run in unfinished(batch, profile) if run.id not in ended
                    and store.was_killed(profile, run.id, marks[run.id])]
            unexplained = 0 if dead else unexplained + 1
            for run in dead:
                deaths[run.id] += 1
                if deaths[run.id] == TRIES:
                    yield run, ("failed", record_failure(run, profile, RuntimeError(DEADLY)))
                    ended.add(run.id)
        todo = unfinished([run for run in todo if run.id not in ended], profile)
    if todo:
        print(f"the executor broke {TRIES} times in a row; {len(todo)} runs are left", flush=True)


def answers(workers: Executor, runs: list[Run], profile: str, end: float | None, most: int | None):
    """Yield (run, `attempt`'s answer) as the runs end, ``most`` of them in hand at a time. What is
    not begun is taken back where the caller stops or an answer is an exception."""
    waiting, futures = list(reversed(runs)), {}
    try:
        while waiting or futures:
            while waiting and (most is None or len(futures) < most):
                run = waiting.pop()
                futures[workers.submit(attempt, run.as_dict(), profile, end)] = run
            for future in wait(futures, return_when=FIRST_COMPLETED).done:
                run = futures.pop(future)
                yield run, answer(future, run, profile)
    except BrokenExecutor:
        wait(futures, timeout=600)                       # of a lent one some may still be at work
        raise
    finally:
        for future in futures:
            future.cancel()


def answer(future: Future, run: Run, profile: str) -> tuple[str, str]:
    """`attempt`'s answer. An exception of the executor's own, such as dask's KilledWorker, is its
    word that the run cannot be done there: the run failed. Ours and Python's are raised."""
    try:
        return future.result()
    except Exception as error:
        if type(error).__module__.split(".")[0] in ("builtins", "attnlib", "concurrent"):
            raise
        words = RuntimeError(f"{type(error).__name__}: {error}")
        return "failed", record_failure(run, profile, words)


@contextlib.contextmanager
def pool(jobs: int):
    """``jobs`` processes of one thread each, in turn on the GPUs where there are any. For narrow
    networks on a CPU two such processes train more images a second than one process with two
    threads, and do not stall when the machine has other work. Spawned, as CUDA needs.

    A worker ends itself when its parent is gone, or left this context with an exception."""
    context = get_context("spawn")
    theirs, ours = context.Pipe(duplex=False)
    executor = ProcessPoolExecutor(jobs, mp_context=context, initializer=start,
                                   initargs=(theirs, gpus()))
    try:
        yield executor
    except BaseException:
        ours.close()                                     # they need not finish what they are at
        raise
    finally:
        executor.shutdown(cancel_futures=True)
        ours.close()
        theirs.close()


def gpus() -> list[str]:
    """The names of the GPUs that this process may use, as CUDA_VISIBLE_DEVICES takes them."""
    count = torch.cuda.device_count()
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [n.strip() for n in allowed.split(",")] if allowed else map(str, range(count))
    return list(names)[:count]


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def start(pipe, devices: list[str]) -> None:
    """What a worker does first, before it touches a GPU: it takes the next one in turn, by the
    number in its process's name (``SpawnProcess-3``)."""
    torch.set_num_threads(1)
    threading.Thread(target=end_with, args=(os.getppid(), pipe), daemon=True).start()
    if devices:
        number = int(current_process().name.rpartition("-")[2])
        os.environ["CUDA_VISIBLE_DEVICES"] = devices[number % len(devices)]


def end_with(parent: int, pipe) -> None:
    """Wait for the parent's end, or for its word: the pipe that closes in both cases, unless a
    process that the parent forked has it, too."""
    while os.getppid() == parent and not pipe.poll(1):
        pass
    with contextlib.suppress(Exception):
        sys.stdout.flush()
    os._exit(1)

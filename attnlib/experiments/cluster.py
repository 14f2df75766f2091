"""Runs on the workers of a dask cluster, which need share no disk with this process.

A worker trains as usual, into its own ATTNLIB_OUT, and returns the bytes of what it stored: the
record, its arrays and the final weights. Here each is checked by its SHA-256 and stored."""
import contextlib
import hashlib
import time
from concurrent.futures import BrokenExecutor, Executor, Future
from functools import partial

from distributed import Client, LocalCluster

from ..data.arrays import DataBad, DataMissing
from ..files import write_atomic
from ..settings import checkpoints_dir, plain, runs_dir
from ..training import store
from ..training.run import Run
from .reading import outdated
from .repair import array_files
from .workers import ONE, attempt

PATIENCE = 20                   # seconds to wait for a scheduler


@contextlib.contextmanager
def cluster(address: str):
    """An executor for `run_grid`: ``local:4`` starts four workers on this machine, anything else is
    a scheduler's address, such as ``tcp://host:8786``. ``ValueError`` for a bad number, ``OSError``
    where no scheduler answers."""
    scheme, _, count = address.partition(":")
    with contextlib.ExitStack() as stack:
        if scheme == "local":
            if not (count.isdecimal() and int(count)):
                raise ValueError(f"--cluster {address}: local:N wants a number of workers above 0")
            address = stack.enter_context(LocalCluster(
                n_workers=int(count), threads_per_worker=1, memory_limit=0,
                dashboard_address=None))
        try:
            client = stack.enter_context(Client(address, timeout=PATIENCE))
        except TypeError as error:                      # of tls:// without certificates
            raise ValueError(f"--cluster {address}: {error}") from error
        print(f"cluster {client.scheduler.address}: {len(client.nthreads())} workers", flush=True)
        yield DaskExecutor(client)


class DaskExecutor(Executor):
    """What `run_grid` asks of an executor, by a dask client. A run whose worker dies is begun again
    on another one; dask gives up on one that killed four (its ``allowed-failures``)."""
    has_own_data = True             # `run_grid` leaves it to the workers to find or fetch them

    def __init__(self, client: Client):
        self.client = client

    def submit(self, call, fields: dict, profile: str, end: float | None) -> Future:
        """Have `train_there` do it; ``call`` is `attempt`, which it calls there."""
        while self.client.status == "connecting":       # again, for PATIENCE seconds
            time.sleep(0.1)
        if self.client.status != "running":             # what is given to it now would never end
            raise BrokenExecutor("the scheduler is gone")
        ours = Future()
        theirs = self.client.submit(train_there, fields, profile, end, pure=False)
        ours.add_done_callback(lambda f: f.cancelled() and theirs.cancel())
        theirs.add_done_callback(partial(bring, ours, Run(**fields).id, profile))
        return ours


def train_there(fields: dict, profile: str, end: float | None) -> tuple[tuple, dict[str, bytes]]:
    """On a worker: `attempt`'s answer, and name -> bytes of the files that it stored. One that
    failed there earlier is tried again."""
    try:
        run = Run(**fields)                             # your own files are read for their identity
    except (DataMissing, DataBad) as error:
        return ("no data", str(error)), {}
    path = store.record_path(profile, run.id)
    with ONE:
        if store.read_record(profile, run.id) and not store.finished_record(profile, run.id):
            path.unlink()
        answer = attempt(fields, profile, end)
    record = store.read_record(profile, run.id)
    if record is None:
        return answer, {}
    weights = store.list_files(checkpoints_dir(profile, run.id), store.WEIGHTS)[:1]
    there = [*weights, *(path.with_name(name) for name in array_files(record)), path]
    return answer, {file.name: file.read_bytes() for file in there if file.is_file()}


def bring(ours: Future, run_id: str, profile: str, theirs) -> None:
    """Store what came back from a worker and pass its answer on; of refused files nothing stays."""
    if not ours.set_running_or_notify_cancel():
        return
    try:
        if theirs.status in ("cancelled", "lost"):
            raise BrokenExecutor("the scheduler is gone")
        answer, files = theirs.result()
        problem = keep(run_id, profile, files) if files else ""
        ours.set_result(("refused", f"{run_id}: {problem}") if problem else answer)
    except ImportError as error:
        ours.set_exception(LookupError(f"a worker lacks this version of attnlib: {error}"))
    except Exception as error:
        ours.set_exception(error)


def keep(run_id: str, profile: str, files: dict[str, bytes]) -> str:
    """Store a run's files where each is what it should be; returns what is wrong, "" if nothing."""
    name = f"{run_id}.json"
    record = store.checked(files.get(name, b""), run_id)
    if record is None:
        return "its record is torn, or another run's"
    if changed := outdated(record):
        return f"its worker has another version of attnlib ({changed})"
    stated = array_files(record) | {file: match[2] for file in files
                                    if (match := store.WEIGHTS.fullmatch(file))}
    if files.keys() != {*stated, name} or not all(map(plain, files)):
        return f"{', '.join(files.keys() ^ {*stated, name})} came back without need or not at all"
    for file, digest in stated.items():
        if hashlib.sha256(files[file]).hexdigest() != digest:
            return f"{file} is not under its SHA-256"
    for file in [*stated, name]:                        # the record last: then the run is finished
        folder = checkpoints_dir(profile, run_id) if file.endswith(".pt") else runs_dir(profile)
        write_atomic(folder / file, files[file])
    for old in store.list_files(checkpoints_dir(profile, run_id), store.WEIGHTS):
        if old.name not in stated:                      # only now: a full disk loses nothing
            old.unlink()
    return ""

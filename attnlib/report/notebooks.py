"""Runs, publishes and checks the notebooks.

`run_books` executes them into ``results/executed/`` and touches no stored one; `publish_books`
alone refreshes those and never trains; `check_books` names what is wrong with them."""
import ast
import hashlib
import json
import os
import re
import sys
import time
from pathlib import Path
from subprocess import DEVNULL
from tempfile import TemporaryDirectory

import nbformat
import papermill
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpecManager
from nbclient.exceptions import DeadKernelError
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, papermill_engines
from papermill.exceptions import PapermillExecutionError
from traitlets.config import Config

from .. import settings
from ..experiments.grid import jobs_for
from ..experiments.planning import profile_to_train
from ..files import write_atomic
from ..names import choose, coerce, literal
from .colab import addressed
from .page import last_line, notebooks_dir, notebooks_in, outputs, profile_of, read_notebook, report

MAX_KB = 900                                # GitHub shows notebooks well under about 1 MB


class Failed(RuntimeError):
    """A notebook did not get through; the message is one line for people."""


def chosen_books(names=None) -> list[Path]:
    """The stored notebooks of these names (``03_se`` or ``03``), in order; without names all.
    ``ValueError`` lists the valid names."""
    found = notebooks_in(notebooks_dir())
    known = {p.stem: p for p in found} | {p.stem[:2]: p for p in found}
    return sorted({choose("notebook", name, known) for name in names}) if names else found


# --- Parameters ---


def parameters_of(nb) -> dict:
    """Names and default values in the cell tagged ``parameters``. ``ValueError`` where there is no
    such cell, or where it holds more than lines ``name: type = literal  # help``."""
    cells = [c for c in nb.cells
             if c.cell_type == "code" and "parameters" in c.metadata.get("tags", ())]
    found = {}
    try:
        for line in ast.parse(cells[0].source).body:
            target, = getattr(line, "targets", None) or [line.target]
            found[target.id] = ast.literal_eval(line.value)
    except (IndexError, SyntaxError, ValueError, AttributeError, TypeError):
        raise ValueError("no cell tagged `parameters` that has lines `name: type = literal` alone"
                         ) from None
    return found


def fitted(given: dict, own: dict, stem: str) -> dict:
    """The given parameters as values of the notebook's own kinds. papermill pastes them as code:
    a name must be the notebook's, a value plain. ``ValueError`` names the notebook and what it
    takes."""
    out = {}
    for name, value in given.items():
        default = choose(f"parameter of {stem}:", name, own)
        if isinstance(value, str) and not isinstance(default, str):
            value = literal(value)     # from a command line
        try:
            out[name] = json.loads(json.dumps(coerce(value, default), allow_nan=False))
        except (TypeError, ValueError):
            raise ValueError(f"{stem}: {name} is like {default!r}, not {value!r}") from None
    return out


# --- Running ---


def kernel_environment(**own: str) -> dict[str, str]:
    """What a kernel inherits. Folders are absolute, since it works in notebooks/; attnlib is found
    though it be not installed; MPLBACKEND would hide every figure."""
    search = filter(None, [str(settings.REPO), os.environ.get("PYTHONPATH")])
    environment = os.environ | {
        "ATTNLIB_DATA": str(settings.data_dir()), "ATTNLIB_OUT": str(settings.out_dir()),
        "PYTHONPATH": os.pathsep.join(search), "PYDEVD_DISABLE_FILE_VALIDATION": "1"} | own
    environment.pop("MPLBACKEND", None)
    return environment


class Engine(NBClientEngine):
    """papermill's own, but the kernel's environment is given and its standard output unwanted:
    what cells and their worker processes print reaches us as messages."""

    @classmethod
    def execute_managed_notebook(cls, nb_man, kernel_name, environment=None, **kwargs):
        config = Config({"KernelManager": {"transport_encryption": "auto"}})     # else a warning
        kernel = AsyncKernelManager(            # this Python, whatever else is called python3 here
            kernel_name=kernel_name, config=config,
            kernel_spec_manager=KernelSpecManager(kernel_dirs=[]))
        PapermillNotebookClient(
            nb_man, km=kernel, resources={"metadata": {"path": str(notebooks_dir())}},
            stdout_file=sys.stdout, stderr_file=sys.stderr, record_timing=False,
            coalesce_streams=True, shutdown_kernel="immediate",
            startup_timeout=300, iopub_timeout=120          # the defaults fail on a busy machine
            ).execute(env=environment, stdout=DEVNULL, cleanup_kc=True)


papermill_engines.register("attnlib", Engine)


def execute(book: Path, parameters: dict, folder: Path, **environment: str) -> Path:
    """Execute a notebook into ``folder`` and return the file. Raises `Failed` and leaves what
    there is as ``NN_x.failed.ipynb``, also on Ctrl-C. However we end, the kernel ends with us."""
    done, failed = folder / book.name, folder / f"{book.stem}.failed.ipynb"
    with TemporaryDirectory() as place:                     # papermill writes cell by cell
        output = Path(place) / book.name
        paths = (str(path).replace("{", "{{").replace("}", "}}") for path in (book, output))
        try:
            papermill.execute_notebook(                     # which formats paths
                *paths, parameters, engine_name="attnlib", kernel_name="python3", language="python",
                progress_bar=False, environment=kernel_environment(**environment))
        except BaseException as error:
            if output.exists():
                write_atomic(failed, output.read_bytes())
            if isinstance(error, Exception):                # of this notebook; the others go on
                raise Failed(f"{reason(error)}; see {settings.shown(failed)}") from error
            raise
        write_atomic(done, output.read_bytes())
    failed.unlink(missing_ok=True)
    return done


def reason(error: Exception) -> str:
    """The cell and the exception's last line."""
    if isinstance(error, PapermillExecutionError):
        first = (error.source.strip().splitlines() or [""])[0][:60]
        return f"In [{error.exec_count}] `{first}`: {error.ename}: {last_line(error.evalue)}"
    hint = " (often for want of memory)" if isinstance(error, DeadKernelError) else ""
    return f"{type(error).__name__}: {last_line(error)}{hint}"


def each(books: list[Path], work) -> int:
    """Do ``work`` for each notebook and say how it went: 0, or 1 where one failed, or what a shell
    gives for Ctrl-C."""
    start, failed = time.monotonic(), 0
    for k, book in enumerate(books, 1):
        print(f"{book.stem} starts ({k} of {len(books)})", flush=True)
        began, says = time.monotonic(), ""
        try:
            work(book)
        except (Failed, OSError) as error:                  # a full disk is one line, too
            failed, says = failed + 1, f": failed: {error}"
        except KeyboardInterrupt:
            print(f"{book.stem} … stopped; every finished epoch is kept", flush=True)
            return 130
        print(f"{book.stem} … {time.monotonic() - began:.0f} s{says}", flush=True)
    print(f"{len(books) - failed} of {len(books)} notebooks done, {failed} failed, "
          f"{time.monotonic() - start:.0f} s", flush=True)
    return int(failed > 0)


def run_books(names=None, profile: str = "auto", seeds: int | None = None,
        parameters: dict | None = None, jobs: str = "1") -> int:
    """Execute notebooks into ``results/executed/`` and render them there; returns the exit code.
    ``seeds``: no more than this many an arm; ``jobs``: see `grid.jobs_for`. ``ValueError`` for an
    unknown name, profile or parameter, or a value of another kind, before anything is executed."""
    given, folder = dict(parameters or {}), settings.out_dir() / "results" / "executed"
    if profile != "auto":
        given.setdefault("profile", profile)
    trained = profile_to_train(given.get("profile", "auto"))
    books = chosen_books(names)
    plan = {book: fitted(given, parameters_of(read_notebook(book)), book.stem) for book in books}
    jobs_for([], jobs)                          # raises where it is neither auto nor a number
    if seeds is not None and seeds < 1:
        raise ValueError(f"seeds={seeds} should be at least 1")
    limits = {"ATTNLIB_JOBS": str(jobs), "ATTNLIB_PROFILE": trained}
    limits |= {"ATTNLIB_SEEDS": str(seeds)} if seeds else {}
    code = each(books, lambda book: execute(book, plan[book], folder, **limits))
    if code == 0:
        print(f"report: {settings.shown(report(folder, folder / 'report.html'))}", flush=True)
    return code


# --- Publishing and checking ---


def publish_books(names=None) -> int:
    """Execute the stored notebooks from the records alone and replace them, then render the report.
    One that fails, or that `check_books` objects to, stays as it was. The exit code."""
    code = each(chosen_books(names), publish_one)
    if code <= 1:
        print(f"report: {settings.shown(report())}", flush=True)
    return code


def publish_one(book: Path) -> None:
    before = book.read_bytes()
    done = execute(book, {}, settings.out_dir() / "results" / "executed" / "publish",
                   ATTNLIB_TRAIN="0", ATTNLIB_PROFILE="auto")
    nb = with_outputs_marked(addressed(read_notebook(done), book.stem))
    text = (nbformat.writes(nb).rstrip("\n") + "\n").encode()
    found = problems(nb, len(text))
    if book.read_bytes() != before:
        found.append("it was edited meanwhile")
    if found:
        raise Failed(f"not published: {'; '.join(found)}; see {settings.shown(done)}")
    write_atomic(book, text)


def with_outputs_marked(nb):
    """Without what papermill added, and with what `check_books` compares."""
    nb.metadata.pop("papermill", None)
    for cell in nb.cells:
        cell.metadata.pop("papermill", None)
        if not cell.metadata.get("tags", True):
            del cell.metadata["tags"]                       # papermill adds empty ones
    nb.metadata["attnlib"] = {"profile": profile_of(nb), "source_sha": source_sha(nb)}
    return nb


def source_sha(nb) -> str:
    """SHA-256 over the code cells' sources: do the stored outputs belong to this code?"""
    sources = [c.source for c in nb.cells if c.cell_type == "code"]
    return hashlib.sha256(json.dumps(sources).encode()).hexdigest()


def machine_paths() -> re.Pattern:
    """What a path of somebody's machine looks like, this one's folders included."""
    here = (Path.home(), settings.REPO, settings.out_dir(), settings.data_dir())
    own = "".join(re.escape(str(p)) + r"(?![\w-])|" for p in here if len(p.parts) > 1)
    return re.compile(rf"(?<![\w.<+-])(?:{own}/tmp/|/root\b|/home/\w|/Users/\w|/var/folders/"
                      r"|[A-Za-z]:\\+Users)[^\s\"'<>]*")


def problems(nb, size: int) -> list[str]:
    """What is wrong with a stored notebook of that size in bytes, one line for each."""
    stored, shown = nb.metadata.get("attnlib", {}).get("source_sha"), outputs(nb)
    code = [(k, c) for k, c in enumerate(nb.cells, 1) if c.cell_type == "code" and c.source.strip()]
    mimes = [mime for _, out, _ in shown for mime in out.get("data", {})]
    found = [words for bad, words in (
        (not stored, "it was never published"),
        (stored and stored != source_sha(nb), "its code cells have changed since it was executed"),
        (not shown, "it has no outputs"),
        (size > MAX_KB * 1000, f"it has {size // 1000} kB, more than {MAX_KB}"),
        (nb.metadata.get("kernelspec", {}).get("name") != "python3", "its kernel is not python3"),
        ("widgets" in nb.metadata or any("widget" in mime for mime in mimes), "it stores widgets"),
    ) if bad]
    try:
        parameters_of(nb)
    except ValueError as error:
        found.append(str(error))
    found += [f"cell {k} was not executed" for k, c in code if c.execution_count is None]
    machine = machine_paths()
    for k, out, text in shown:
        if out.output_type == "error":
            found.append(f"cell {k} ended in {out.ename}")
        if match := machine.search(text):
            found.append(f"cell {k} shows a path of a machine: {match[0][:60]}")
    return found


def check_books(names=None) -> int:
    """Print what is wrong with the stored notebooks; 0 if nothing is, else 1."""
    count, books = 0, chosen_books(names)
    for book in books:
        try:
            found = problems(read_notebook(book), book.stat().st_size)
        except ValueError as error:
            found = [str(error)]
        count += len(found)
        print("".join(f"{book.stem}: {line}\n" for line in found), end="")
    print(f"{len(books)} notebooks, {count} problems")
    return int(count > 0)

"""Runs, publishes and checks the notebooks.

`run` executes them into ``results/executed/`` and touches no stored one; `publish` alone refreshes
those and never trains; `check` names what is wrong with them. A notebook is executed under a
temporary name and renamed when it has succeeded: papermill's own metadata do not prove that."""
import ast
import contextlib
import hashlib
import json
import os
import re
import signal
import sys
import threading
import time
from pathlib import Path

from .. import settings
from ..names import choose, coerce, literal

PROFILE = re.compile(r"profile: (\w+)")     # what a notebook's import cell prints
MAX_KB = 900                                # GitHub shows notebooks well under about 1 MB


class Failed(RuntimeError):
    """A notebook did not get through; the message is one line for people."""


def notebooks_dir() -> Path:
    return settings.REPO / "notebooks"


def executed_dir() -> Path:
    return settings.out_dir() / "results" / "executed"


def listed(folder: Path) -> list[Path]:
    """The notebooks of a folder, in order. No glob: a folder's name may hold brackets."""
    names = sorted(os.listdir(folder)) if folder.is_dir() else []
    found = [folder / name for name in names if re.fullmatch(r"\d\d_\w+\.ipynb", name)]
    if not found:
        raise ValueError(f"no notebooks NN_name.ipynb in {settings.shown(folder)}")
    return found


def chosen(names=None) -> list[Path]:
    """The stored notebooks of these names (``03_se`` or ``03``), in order; without names all.
    ``ValueError`` lists the valid names."""
    found = listed(notebooks_dir())
    for name in names or ():
        if not any(name in (p.stem, p.stem[:2]) for p in found):
            choose("notebook", name, [p.stem for p in found])
    return [p for p in found if not names or {p.stem, p.stem[:2]} & set(names)]


def read(path: Path):
    """A notebook. ``ValueError`` where the file is none."""
    import nbformat
    try:
        return nbformat.read(path, as_version=4)
    except Exception as error:              # a broken file makes nbformat raise many kinds
        raise ValueError(f"{path.stem} is not a readable notebook: {last_line(error)}") from None


def last_line(error) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()[:300]


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
    """The given parameters as values of the notebook's own kinds. papermill pastes names, and
    values of kinds it does not know, as code: a name must be the notebook's, a value plain.
    ``ValueError`` names the notebook and what it takes."""
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


@contextlib.contextmanager
def surroundings(**environment: str):
    """What kernels inherit, and how they end. Folders become absolute, since a kernel works in
    notebooks/; attnlib is found though it be not installed; MPLBACKEND goes, it would hide every
    figure. SIGTERM and a closed terminal end the work as Ctrl-C does, with the kernel. (After
    SIGKILL the kernel ends itself: ipykernel watches its parent.)"""
    def stop(number, frame):
        raise KeyboardInterrupt(number)
    before = dict(os.environ)
    search = filter(None, [str(settings.REPO), os.environ.get("PYTHONPATH")])
    os.environ.update(ATTNLIB_DATA=str(settings.data_dir()), ATTNLIB_OUT=str(settings.out_dir()),
                      PYTHONPATH=os.pathsep.join(search), **environment)
    os.environ.pop("MPLBACKEND", None)
    main = threading.current_thread() is threading.main_thread()    # elsewhere Python forbids it
    numbers = [getattr(signal, n) for n in ("SIGTERM", "SIGHUP") if main and hasattr(signal, n)]
    handlers = {n: signal.signal(n, stop) for n in numbers}
    try:
        with own_stdout():
            yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        os.environ.clear()
        os.environ.update(before)


@contextlib.contextmanager
def own_stdout():
    """Keep our standard output from the kernels: what their worker processes print would come
    twice, from the kernel itself and, through papermill, from us."""
    if sys.stdout is not sys.__stdout__:                    # captured, by pytest for one
        yield
        return
    sys.stdout.flush()
    kept = os.dup(1)
    with open(os.devnull, "w") as nowhere, \
            os.fdopen(os.dup(1), "w", 1, sys.stdout.encoding, "replace") as ours:
        os.dup2(nowhere.fileno(), 1)
        sys.stdout = ours
        try:
            yield
        finally:
            sys.stdout = sys.__stdout__
            os.dup2(kept, 1)
            os.close(kept)


def take(file) -> None:
    """Lock an open file until it is closed or we die. `Failed` if another process has it."""
    try:
        import fcntl
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:                     # Windows: one process at a time, please
        pass
    except OSError:
        raise Failed("another process is executing it") from None


def execute(book: Path, parameters: dict, folder: Path) -> Path:
    """Execute a notebook into ``folder`` and return the file. Raises `Failed`, and leaves what
    there is as ``NN_x.failed.ipynb``, also when stopped."""
    import papermill
    from jupyter_client import AsyncKernelManager
    from jupyter_client.kernelspec import KernelSpecManager
    from traitlets.config import Config
    folder.mkdir(parents=True, exist_ok=True)
    config = Config()
    config.KernelManager.transport_encryption = "auto"      # else ipykernel warns about plain TCP
    kernel = AsyncKernelManager(                # this Python, whatever else is named python3 here
        kernel_name="python3", config=config, kernel_spec_manager=KernelSpecManager(kernel_dirs=[]))
    temporary = folder / f".{book.stem}.ipynb"              # one that was killed is written over
    done, failed = folder / book.name, folder / f"{book.stem}.failed.ipynb"
    source, output = (str(p).replace("{", "{{").replace("}", "}}")      # papermill formats paths
                      for p in (book, temporary))
    with open(temporary, "a") as held:
        take(held)
        held.truncate(0)
        try:
            papermill.execute_notebook(
                source, output, parameters, kernel_name="python3", language="python",
                cwd=str(notebooks_dir()), progress_bar=False, km=kernel, coalesce_streams=True,
                stdout_file=sys.stdout, stderr_file=sys.stderr, shutdown_kernel="immediate",
                start_timeout=300, iopub_timeout=120)       # the defaults fail on a busy machine
        except BaseException as error:
            os.replace(temporary, failed)
            if isinstance(error, Exception):                # of this notebook; the others go on
                raise Failed(f"{reason(error)}; see {settings.shown(failed)}") from error
            raise
        os.replace(temporary, done)
        failed.unlink(missing_ok=True)
    return done


def reason(error: Exception) -> str:
    """The cell and the exception's last line."""
    if hasattr(error, "ename"):                             # papermill's: an error in a cell
        first = (error.source.strip().splitlines() or [""])[0][:60]
        return f"In [{error.exec_count}] `{first}`: {error.ename}: {last_line(error.evalue)}"
    hint = " (often for want of memory)" if "ernel died" in str(error) else ""
    return f"{type(error).__name__}: {last_line(error)}{hint}"


def each(books: list[Path], work) -> int:
    """Do ``work`` for each notebook and say how it went: 0, or 1 where one failed, or what a shell
    gives for the signal that stopped us."""
    start, failed = time.monotonic(), 0
    for k, book in enumerate(books, 1):
        print(f"{book.stem} starts ({k} of {len(books)})", flush=True)
        began, says = time.monotonic(), ""
        try:
            work(book)
        except (Failed, OSError) as error:                  # a full disk is one line, too
            failed, says = failed + 1, f": failed: {error}"
        except KeyboardInterrupt as stop:
            print(f"{book.stem} … stopped; every finished epoch is kept", flush=True)
            return 128 + (stop.args[0] if stop.args else signal.SIGINT)
        print(f"{book.stem} … {time.monotonic() - began:.0f} s{says}", flush=True)
    print(f"{len(books) - failed} of {len(books)} notebooks done, {failed} failed, "
          f"{time.monotonic() - start:.0f} s", flush=True)
    return int(failed > 0)


def run(names=None, profile: str = "auto", seeds: int | None = None,
        parameters: dict | None = None, jobs: str = "1") -> int:
    """Execute notebooks into ``results/executed/`` and render them there; returns the exit code.
    ``seeds``: no more than this many an arm; ``jobs``: training processes side by side, a number or
    ``auto`` (one a core on a CPU). ``ValueError`` for an unknown name, profile or
    parameter, or a value of another kind, before anything is executed."""
    from .page import report
    if seeds is not None and seeds < 1:
        raise ValueError(f"seeds={seeds} should be at least 1")
    given, folder = dict(parameters or {}), executed_dir()
    from ..experiments.studies import PROFILES
    if profile != "auto":
        given.setdefault("profile", profile)
    asked = given.get("profile", os.environ.get("ATTNLIB_PROFILE", "auto"))
    choose("profile", asked, (*PROFILES, "auto", "best"))
    books = chosen(names)
    own = {book: parameters_of(read(book)) for book in books}
    plan = {book: fitted(given, own[book], book.stem) for book in books}
    if not (jobs == "auto" or str(jobs).isdecimal() and int(jobs)):
        raise ValueError(f"jobs={jobs!r} should be auto or a number above 0")
    limit = {"ATTNLIB_JOBS": str(jobs)} | ({"ATTNLIB_SEEDS": str(seeds)} if seeds else {})
    with surroundings(**limit):
        code = each(books, lambda book: execute(book, plan[book], folder))
    if code == 0:
        print(f"report: {settings.shown(report(folder, folder / 'report.html'))}", flush=True)
    return code


def publish(names=None) -> int:
    """Execute the stored notebooks from the records alone and replace them, then render the report
    and write ``arms.csv`` beside it. One that fails, or that `check` would object to, stays as it
    was. Returns the exit code."""
    from . import article
    from .page import report
    folder = executed_dir() / "publish"
    with surroundings(ATTNLIB_TRAIN="0", ATTNLIB_PROFILE="best"):
        code = each(chosen(names), lambda book: publish_one(book, folder))
    if code <= 1:
        page = report()
        article.write_csv(page.parent / "arms.csv")
        print(f"report: {settings.shown(page)}", flush=True)
    return code


def publish_one(book: Path, folder: Path) -> None:
    import nbformat

    from ..files import write_atomic
    before = book.read_bytes()
    done = execute(book, {}, folder)
    nb = stripped(read(done))
    text = (nbformat.writes(nb).rstrip("\n") + "\n").encode()
    found = problems(nb, len(text))
    if book.read_bytes() != before:
        found.append("it was edited meanwhile")
    if found:
        raise Failed(f"not published: {'; '.join(found)}; see {settings.shown(done)}")
    write_atomic(book, text)


def stripped(nb):
    """Without what papermill and the clock added, and with what `check` compares."""
    nb.metadata.pop("papermill", None)
    for cell in nb.cells:
        for key in ("papermill", "execution", "ExecuteTime"):
            cell.metadata.pop(key, None)
        if not cell.metadata.get("tags", True):
            del cell.metadata["tags"]                       # papermill adds empty ones
    nb.metadata["attnlib"] = {"profile": profile_of(nb), "source_sha": source_sha(nb)}
    return nb


def source_sha(nb) -> str:
    """SHA-256 over the code cells' sources: do the stored outputs belong to this code?"""
    sources = [c.source for c in nb.cells if c.cell_type == "code"]
    return hashlib.sha256(json.dumps(sources).encode()).hexdigest()


def outputs(nb) -> list:
    """(cell number from 1, output, its text) for every output; no pictures but SVG."""
    return [(k, out, "\n".join([out.get("text", ""), *out.get("traceback", ()), *(
        v if isinstance(v, str) else json.dumps(v) for mime, v in out.get("data", {}).items()
        if not mime.startswith("image/") or "svg" in mime)]))
        for k, cell in enumerate(nb.cells, 1) for out in cell.get("outputs", ())]


def profile_of(nb) -> str | None:
    return next((m[1] for _, _, text in outputs(nb) if (m := PROFILE.search(text))), None)


def machine_paths() -> re.Pattern:
    """What a path of somebody's machine looks like, this one's folders included."""
    here = (Path(os.path.expanduser("~")), settings.REPO, settings.out_dir(), settings.data_dir())
    own = "".join(re.escape(str(p)) + r"(?![\w-])|" for p in here if len(p.parts) > 1)
    return re.compile(rf"(?<![\w.<+-])(?:{own}/tmp/|/root\b|/home/\w|/Users/\w|/var/folders/"
                      r"|[A-Za-z]:\\+Users)[^\s\"'<>]*")


def problems(nb, size: int) -> list[str]:
    """What is wrong with a stored notebook of that size in bytes, one line for each."""
    stored, shown = nb.metadata.get("attnlib", {}).get("source_sha"), outputs(nb)
    found = [words for bad, words in (
        (not stored, "it was never published"),
        (stored and stored != source_sha(nb), "its code cells have changed since it was executed"),
        (not shown, "it has no outputs"),
        (size > MAX_KB * 1000, f"it has {size // 1000} kB, more than {MAX_KB}"),
        (nb.metadata.get("kernelspec", {}).get("name") != "python3", "its kernel is not python3"),
        ("widgets" in nb.metadata or any("widget" in mime for _, out, _ in shown
                                         for mime in out.get("data", ())), "it stores widgets"),
    ) if bad]
    try:
        parameters_of(nb)
    except ValueError as error:
        found.append(str(error))
    code = [(k, c) for k, c in enumerate(nb.cells, 1) if c.cell_type == "code" and c.source.strip()]
    for words, cells in (
        ("were not executed", [k for k, c in code if c.execution_count is None and not c.outputs]),
        ("have outputs and no execution_count",
         [k for k, c in code if c.execution_count is None and c.outputs])):
        if cells:
            found.append(f"cells {', '.join(map(str, cells))} {words}")
    machine = machine_paths()
    for k, out, text in shown:
        if out.output_type == "error":
            found.append(f"cell {k} ended in {out.ename}")
        if match := machine.search(text):
            found.append(f"cell {k} shows a path of a machine: {match[0][:60]}")
    return found


def check(names=None) -> int:
    """Print what is wrong with the stored notebooks; 0 if nothing is, else 1."""
    count, books = 0, chosen(names)
    for book in books:
        try:
            found = problems(read(book), book.stat().st_size)
        except ValueError as error:
            found = [str(error)]
        count += len(found)
        print("".join(f"{book.stem}: {line}\n" for line in found), end="")
    print(f"{len(books)} notebooks, {count} problems")
    return int(count > 0)

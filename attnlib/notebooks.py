"""Runs, publishes, checks and renders the notebooks.

`run` executes them into ``results/executed/`` and touches nothing that git tracks; `publish` alone
refreshes the stored ones and never trains; `check` names what is wrong with them; `report` renders
them as one page that works offline. A notebook is executed under a temporary name and renamed when
it has succeeded: papermill's own metadata do not prove that it did."""
import ast
import contextlib
import hashlib
import html
import json
import os
import re
import signal
import sys
import threading
import time
from pathlib import Path

from . import paths, spec

PROFILE = re.compile(r"profile: (\w+)")     # what a notebook's import cell prints
MAX_KB = 900                                # GitHub shows notebooks well under about 1 MB


class Failed(RuntimeError):
    """A notebook did not get through; the message is one line for people."""


def notebooks_dir() -> Path:
    return paths.REPO / "notebooks"


def executed_dir() -> Path:
    return paths.out_dir() / "results" / "executed"


def listed(folder: Path) -> list[Path]:
    """The notebooks of a folder, in order. No glob: a folder's name may hold brackets."""
    names = sorted(os.listdir(folder)) if folder.is_dir() else []
    found = [folder / name for name in names if re.fullmatch(r"\d\d_\w+\.ipynb", name)]
    if not found:
        raise ValueError(f"no notebooks NN_name.ipynb in {paths.shown(folder)}")
    return found


def chosen(names=None) -> list[Path]:
    """The stored notebooks of these names (``03_se`` or ``03``), in order; without names all.
    ``ValueError`` lists the valid names."""
    found = listed(notebooks_dir())
    for name in names or ():
        if not any(name in (p.stem, p.stem[:2]) for p in found):
            spec.choose("notebook", name, [p.stem for p in found])
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
        default = spec.choose(f"parameter of {stem}:", name, own)
        if isinstance(value, str) and not isinstance(default, str):
            value = spec.literal(value)     # from a command line
        try:
            out[name] = json.loads(json.dumps(spec.coerce(value, default), allow_nan=False))
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
    search = filter(None, [str(paths.REPO), os.environ.get("PYTHONPATH")])
    os.environ.update(ATTNLIB_DATA=str(paths.data_dir()), ATTNLIB_OUT=str(paths.out_dir()),
                      PYTHONPATH=os.pathsep.join(search), **environment)
    os.environ.pop("MPLBACKEND", None)
    main = threading.current_thread() is threading.main_thread()    # elsewhere Python forbids it
    numbers = [getattr(signal, n) for n in ("SIGTERM", "SIGHUP") if main and hasattr(signal, n)]
    handlers = {n: signal.signal(n, stop) for n in numbers}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        os.environ.clear()
        os.environ.update(before)


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
    from traitlets.config import Config
    folder.mkdir(parents=True, exist_ok=True)
    config = Config()
    config.KernelManager.transport_encryption = "auto"      # else ipykernel warns about plain TCP
    temporary = folder / f".{book.stem}.ipynb"              # one that was killed is written over
    done, failed = folder / book.name, folder / f"{book.stem}.failed.ipynb"
    source, output = (str(p).replace("{", "{{").replace("}", "}}")      # papermill formats paths
                      for p in (book, temporary))
    with open(temporary, "a") as held:
        take(held)
        try:
            papermill.execute_notebook(
                source, output, parameters, kernel_name="python3", language="python",
                cwd=str(notebooks_dir()), progress_bar=False, config=config, coalesce_streams=True,
                stdout_file=sys.stdout, stderr_file=sys.stderr, shutdown_kernel="immediate",
                start_timeout=300, iopub_timeout=120)       # the defaults fail on a busy machine
        except BaseException as error:
            os.replace(temporary, failed)
            if isinstance(error, Exception):                # of this notebook; the others go on
                raise Failed(f"{reason(error)}; see {paths.shown(failed)}") from error
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
        except Failed as error:
            failed, says = failed + 1, f": failed: {error}"
        except KeyboardInterrupt as stop:
            print(f"{book.stem} … stopped; every finished epoch is kept", flush=True)
            return 128 + (stop.args[0] if stop.args else signal.SIGINT)
        print(f"{book.stem} … {time.monotonic() - began:.0f} s{says}", flush=True)
    print(f"{len(books) - failed} of {len(books)} notebooks done, {failed} failed, "
          f"{time.monotonic() - start:.0f} s", flush=True)
    return int(failed > 0)


def run(names=None, profile: str = "auto", seeds: int | None = None, parameters: dict | None = None,
        jobs: int = 1) -> int:
    """Execute notebooks into ``results/executed/`` and render them there; returns the exit code.
    ``seeds`` and ``jobs`` go to those notebooks that have such a parameter. ``ValueError`` for an
    unknown name, profile or parameter, or a value of another kind, before anything is executed."""
    given, folder = dict(parameters or {}), executed_dir()
    if profile != "auto":
        from .grid import PROFILES
        spec.choose("profile", given.setdefault("profile", profile), PROFILES)
    books = chosen(names)
    own = {book: parameters_of(read(book)) for book in books}
    some = {k: v for k, v in {"seeds": seeds, "jobs": jobs if jobs > 1 else None}.items() if v}
    for name in some:                                       # one notebook at least must have it
        spec.choose("parameter", name, sorted(set().union(*own.values())))
    plan = {book: fitted({k: v for k, v in some.items() if k in own[book]} | given, own[book],
                         book.stem) for book in books}
    with surroundings():
        code = each(books, lambda book: execute(book, plan[book], folder))
    if code == 0:
        print(f"report: {paths.shown(report(folder, folder / 'report.html'))}", flush=True)
    return code


def publish(names=None) -> int:
    """Execute the stored notebooks from the records alone and replace them, then render the report.
    One that fails, or that `check` would object to, stays as it was. Returns the exit code."""
    folder = executed_dir() / "publish"
    with surroundings(ATTNLIB_TRAIN="0", ATTNLIB_PROFILE="best"):
        code = each(chosen(names), lambda book: publish_one(book, folder))
    if code <= 1:
        print(f"report: {paths.shown(report())}", flush=True)
    return code


def publish_one(book: Path, folder: Path) -> None:
    import nbformat

    from .store import write_atomic
    before = book.read_bytes()
    done = execute(book, {}, folder)
    nb = stripped(read(done))
    text = (nbformat.writes(nb).rstrip("\n") + "\n").encode()
    found = problems(nb, len(text))
    if book.read_bytes() != before:
        found.append("it was edited meanwhile")
    if found:
        raise Failed(f"not published: {'; '.join(found)}; see {paths.shown(done)}")
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
    here = (Path(os.path.expanduser("~")), paths.REPO, paths.out_dir(), paths.data_dir())
    own = "".join(re.escape(str(p)) + r"(?![\w-])|" for p in here if len(p.parts) > 1)
    return re.compile(rf"(?<![\w.<+-])(?:{own}/tmp/|/root\b|/home/\w|/Users/\w|/var/folders/"
                      r"|[A-Za-z]:\\+Users)[^\s\"'<>]*")


def defines(source: str) -> bool:
    """Whether a cell defines a function or class; lines of IPython's own are left out."""
    try:
        nodes = ast.walk(ast.parse(re.sub(r"(?m)^(\s*)[%!].*$", r"\1pass", source)))
        return any(isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
                   for n in nodes)
    except SyntaxError:
        return bool(re.search(r"(?m)^\s*(?:async\s+def|def|class)\s+\w", source))


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
    for k, cell in enumerate(nb.cells, 1):
        if cell.cell_type == "code" and cell.source.strip():
            if cell.execution_count is None:
                found.append(f"cell {k} has outputs without an execution_count" if cell.outputs
                             else f"cell {k} was not executed")
            if defines(cell.source):
                found.append(f"cell {k} defines a function or class: that belongs in attnlib")
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


TITLE = "Does attention help small-image CNNs?"
PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>
body {{ max-width: 50em; margin: 2em auto; padding: 0 1em; color: #1f2328; background: #fff;
  font: 17px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif }}
h1, h2, h3, h4 {{ line-height: 1.25; margin: 1.6em 0 .5em }} a {{ color: #0a58a6 }}
nav ul {{ list-style: none; padding: 0 }} img {{ max-width: 100%; height: auto }}
section {{ margin-top: 3em; border-top: 2px solid #d0d7de }} section h2 {{ margin-top: .3em }}
.note, blockquote {{ color: #59636e }}
pre, code {{ font: .85em/1.45 ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace }}
pre {{ background: #f6f8fa; padding: .7em 1em; border-radius: 6px; overflow: auto }}
pre {{ max-height: 26em }} .output_stderr pre {{ background: #fff4e5 }}
:not(pre) > code {{ background: #eff1f3; padding: .1em .3em; border-radius: 4px }}
table {{ border-collapse: collapse; border: 0; display: block; overflow-x: auto; margin: 1em 0;
  font-size: .85em; font-variant-numeric: tabular-nums }} .output_html {{ background: none }}
th, td {{ padding: .35em .7em; border: 0; border-bottom: 1px solid #d0d7de; vertical-align: top }}
details {{ border: 1px solid #d0d7de; border-radius: 6px; padding: .5em 1em; margin: 1em 0 }}
summary {{ cursor: pointer; font-weight: 600 }} blockquote {{ margin: 1em }}
.math {{ display: block; overflow-x: auto; overflow-y: hidden; margin: 1em 0 }}
mtd[columnalign=right] {{ text-align: right }} mtd[columnalign=left] {{ text-align: left }}
@media print {{ body {{ max-width: none; font-size: 10.5pt; margin: 0 }}
  section {{ break-before: page; border: 0 }} h2, h3, h4 {{ break-after: avoid }}
  img, tr, .math {{ break-inside: avoid }} pre {{ white-space: pre-wrap; max-height: none }}
  details::details-content {{ display: block; content-visibility: visible }} }}
</style></head><body><h1>{title}</h1>
<p class="note">The notebooks of attnlib with their results, without their code.</p>
<nav><ul>{contents}</ul></nav>
{sections}
</body></html>
"""


def report(source: Path | None = None, target: Path | None = None) -> Path:
    """Render a folder of executed notebooks as one self-contained page: notebooks/ and
    ``results/report/index.html`` by default. ``ValueError`` where there are none."""
    from .store import write_atomic
    target = Path(target or paths.out_dir() / "results" / "report" / "index.html").resolve()
    books = [(p.stem, read(p)) for p in listed(Path(source or notebooks_dir()))]
    convert, sections, contents = exporter(), "", ""
    for stem, nb in books:
        title, body = section(stem, convert(nb), dict(books), target)
        profile = f" · profile {profile_of(nb)}" if profile_of(nb) else ""
        contents += f'\n<li><a href="#{stem}">{html.escape(title)}</a></li>'
        sections += f'<section id="{stem}">\n<p class="note">{stem}{profile}</p>\n{body}</section>\n'
    write_atomic(target, PAGE.format(title=TITLE, contents=contents, sections=sections).encode())
    return target


def section(stem: str, text: str, books, target: Path) -> tuple[str, str]:
    """The title and HTML of one notebook: made to stand in one page with the others, offline."""
    from bs4 import BeautifulSoup
    soup = BeautifulSoup(text, "html.parser")
    for tag in soup.find_all(["script", "link", "iframe"]):
        tag.decompose()
    for tag in soup.select(".code_cell"):
        if not tag.text.strip() and not tag.find("img"):
            tag.decompose()                                 # a cell without outputs
    heading = title = ""
    for tag in soup.find_all([re.compile("^h[1-6]$"), "img", "a"]):
        if tag.name == "a":
            tag["href"] = local_link(tag.get("href", ""), stem, books, target)
        elif tag.name == "img" and not tag.get("src", "").startswith("data:"):
            tag.replace_with(tag.get("alt", ""))            # a badge or a file: not in this page
        elif tag.name == "img":
            if tag.get("alt", "").startswith("No description"):     # nbconvert's stopgap
                tag["alt"] = f"Figure in “{heading}”"
        else:
            heading = tag.text.strip()
            title = title or heading
            tag["id"] = f"{stem}-{heading.replace(' ', '-')}"
            tag.name = f"h{min(6, int(tag.name[1]) + 1)}"   # the page's own title is h1
    return title or stem, re.sub(r' id="cell-id=[^"]*"', "", str(soup))


def local_link(href: str, stem: str, books, target: Path) -> str:
    """A notebook's link as it must read in the page: into the page where it leads to a notebook."""
    if not href or re.match(r"[a-z]+:|//", href):
        return href
    path, _, fragment = href.partition("#")
    book = Path(path).stem if path else stem
    if book in books:
        return f"#{book}-{fragment}" if fragment else f"#{book}"
    return Path(os.path.relpath(notebooks_dir() / href, target.parent)).as_posix()


def exporter():
    """A function notebook -> HTML: nbconvert's plainest, without the code, equations as MathML."""
    from nbconvert import HTMLExporter
    from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

    class Renderer(IPythonRenderer):
        def inline_math(self, body):
            return mathml(body, "inline")

        def block_math(self, body):
            return f'<span class="math">{mathml(body, "block")}</span>'

        def latex_environment(self, name, body):
            return self.block_math(f"\\begin{{{name}}}{body}\\end{{{name}}}")

    def markdown(text):
        renderer = Renderer(escape=False, exclude_anchor_links=True)
        return MarkdownWithMath(renderer=renderer).render(text)

    out = HTMLExporter(template_name="basic", exclude_input=True, exclude_output_prompt=True,
                       exclude_input_prompt=True, filters={"markdown2html": markdown})
    return lambda nb: out.from_notebook_node(nb)[0]


def mathml(tex: str, display: str) -> str:
    """TeX as MathML, which browsers draw offline; what cannot be converted stays as TeX."""
    from latex2mathml.converter import convert
    known = tex.replace("{aligned}", "{align*}").replace(r"\operatorname*", r"\operatorname")
    try:
        return convert(known, display=display)
    except Exception:                                       # of many kinds, with no common base
        return f"<code>{html.escape(tex)}</code>"

"""Renders executed notebooks as pages that work offline: equations as MathML, pictures embedded, of
the code only what explains. The article, 07_report, is the first page, the others lie beside it."""
import html
import json
import os
import re
from pathlib import Path
from urllib.parse import quote

import nbformat
from bs4 import BeautifulSoup
from jinja2 import Template
from latex2mathml.converter import convert
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

from .. import settings
from ..files import write_atomic

ARTICLE = "07_report"       # the first page
SHOWN_LINES = 4             # code of so many lines explains something, and is shown
PROFILE = re.compile(r"profile: (\w+)")     # what a notebook's import cell prints
PAGE = Template(Path(__file__).with_name("page.html.j2").read_text(encoding="utf-8"),
                autoescape=True)


def notebooks_dir() -> Path:
    return settings.REPO / "notebooks"


def notebooks_in(folder: Path) -> list[Path]:
    """The notebooks of a folder, in order."""
    found = sorted(p for p in folder.glob("*.ipynb") if re.fullmatch(r"\d\d_\w+", p.stem))
    if not found:
        raise ValueError(f"no notebooks NN_name.ipynb in {settings.shown(folder)}")
    return found


def read_notebook(path: Path):
    """A notebook. ``ValueError`` where the file is none."""
    try:
        return nbformat.read(path, as_version=4)
    except Exception as error:              # a broken file makes nbformat raise many kinds
        raise ValueError(f"{path.stem} is not a readable notebook: {last_line(error)}") from None


def last_line(error) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()[:300]


def outputs(nb) -> list:
    """(cell number from 1, output, its text) for every output; no pictures but SVG."""
    return [(k, out, "\n".join([out.get("text", ""), *out.get("traceback", ()), *(
        v if isinstance(v, str) else json.dumps(v) for mime, v in out.get("data", {}).items()
        if not mime.startswith("image/") or "svg" in mime)]))
        for k, cell in enumerate(nb.cells, 1) for out in cell.get("outputs", ())]


def profile_of(nb) -> str | None:
    return next((m[1] for _, _, text in outputs(nb) if (m := PROFILE.search(text))), None)


def report(source: Path | None = None, target: Path | None = None) -> Path:
    """Render a folder of executed notebooks as self-contained pages: notebooks/ by default, the
    article as ``results/report/index.html``, each other notebook beside it. Without an article the
    last notebook is the first page. ``ValueError`` where there are none."""
    target = Path(target or settings.out_dir() / "results" / "report" / "index.html").resolve()
    books = {p.stem: read_notebook(p) for p in notebooks_in(Path(source or notebooks_dir()))}
    first = ARTICLE if ARTICLE in books else list(books)[-1]
    files = {stem: target.name if stem == first else f"{stem}.html" for stem in books}
    markdown = MarkdownWithMath(renderer=Renderer(escape=False, exclude_anchor_links=True))
    exporter = HTMLExporter(template_name="basic", exclude_output_prompt=True,
                            exclude_input_prompt=True, filters={"markdown2html": markdown.render})
    for stem, nb in books.items():
        for cell in nb.cells:       # code that sets up, loads and shows is hidden, no definition
            folded = cell.metadata.get("jupyter", {}).get("source_hidden")
            if cell.cell_type == "code" and (folded or len(cell.source.splitlines()) < SHOWN_LINES):
                cell.metadata["transient"] = {"remove_source": True}        # nbconvert's own mark
        text = exporter.from_notebook_node(nb)[0]
        title, body = standalone(text, stem, files, target)
        page = PAGE.render(title=title, stem=stem, files=files, body=body, profile=profile_of(nb))
        write_atomic(target.parent / files[stem], page.encode())
    return target


def standalone(text: str, stem: str, files: dict, target: Path) -> tuple[str, str]:
    """The title and HTML of one notebook, made to stand offline beside the pages ``files``."""
    soup = BeautifulSoup(text, "html.parser")
    for tag in soup.find_all(["script", "link", "iframe"]):
        tag.decompose()
    for tag in soup.select(".code_cell"):
        if not tag.text.strip() and not tag.find("img"):
            tag.decompose()                                 # a cell without outputs
    heading, title = "", ""
    for tag in soup.find_all([re.compile("^h[1-6]$"), "img", "a"]):
        if tag.name == "a":
            tag["href"] = local_link(tag.get("href", ""), stem, files, target)
        elif tag.name != "img":
            heading = tag.text.strip()
            title = title or heading
            tag["id"] = heading.replace(" ", "-")
        elif not tag.get("src", "").startswith("data:"):
            tag.replace_with(tag.get("alt", ""))            # a badge or a file: not in this page
        elif tag.get("alt", "").startswith("No description"):           # nbconvert's stopgap
            tag["alt"] = f"Figure in “{heading}”"
    return title or stem, re.sub(r' id="cell-id=[^"]*"', "", str(soup))


def local_link(href: str, stem: str, files: dict, target: Path) -> str:
    """A notebook's link as it must read in its page: to a page where it leads to a notebook."""
    if not href or re.match(r"[a-z]+:|//", href):
        return href
    path, _, fragment = href.partition("#")
    book = Path(path).stem if path else stem
    if book in files:
        page = "" if book == stem else files[book]
        return f"{page}#{fragment}" if fragment or not page else page
    there = Path(os.path.relpath(notebooks_dir() / path, target.parent))
    return quote(there.as_posix()) + f"#{fragment}" * bool(fragment)


# --- Markdown ---


class Renderer(IPythonRenderer):
    """nbconvert's, with equations as MathML."""

    def inline_math(self, body):
        return mathml(body, "inline")

    def block_math(self, body):
        return f'<span class="math">{mathml(body, "block")}</span>'

    def latex_environment(self, name, body):
        return self.block_math(f"\\begin{{{name}}}{body}\\end{{{name}}}")


def mathml(tex: str, display: str) -> str:
    """TeX as MathML, which browsers draw offline; what cannot be converted stays as TeX."""
    known = tex.replace("{aligned}", "{align*}").replace(r"\operatorname*", r"\operatorname")
    try:
        return convert(known, display=display)
    except Exception:                                       # of many kinds, with no common base
        return f"<code>{html.escape(tex)}</code>"

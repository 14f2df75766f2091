"""Renders executed notebooks as pages that work offline: equations as MathML, pictures embedded, of
the code only what explains. The article, 07_report, is the first page, the others lie beside it;
and the article's tables are files of their own."""
import csv
import html
import io
import os
import re
from pathlib import Path

from .. import settings
from .notebooks import listed, notebooks_dir, profile_of, read

ARTICLE = "07_report"       # the first page, whose tables become files
FOLDED = "folded"           # tag of a cell whose code the pages leave out
SHOWN_LINES = 4             # code of so many lines explains something, and is shown
PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>
body {{ max-width: 50em; margin: 2em auto; padding: 0 1em; color: #1f2328; background: #fff;
  font: 17px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif }}
h1, h2, h3, h4 {{ line-height: 1.25; margin: 1.6em 0 .5em }} a {{ color: #0a58a6 }}
nav {{ font-size: .82em }} nav a {{ margin-right: 1em; white-space: nowrap }}
img {{ max-width: 100%; height: auto }}
.note, blockquote {{ color: #59636e }}
pre, code {{ font: .85em/1.45 ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace }}
pre {{ background: #f6f8fa; padding: .7em 1em; border-radius: 6px; overflow: auto }}
pre {{ max-height: 44em }} .output_stderr pre {{ background: #fff4e5 }}
:not(pre) > code {{ background: #eff1f3; padding: .1em .3em; border-radius: 4px }}
table {{ border-collapse: collapse; border: 0; display: block; overflow-x: auto; margin: 1em 0;
  font-size: .82em; font-variant-numeric: tabular-nums }} div.output_html {{ background: none }}
th, td {{ padding: .35em .55em; border: 0; border-bottom: 1px solid #d0d7de; vertical-align: top }}
td:first-child {{ white-space: nowrap }} th {{ vertical-align: bottom }}
details {{ border: 1px solid #d0d7de; border-radius: 6px; padding: .5em 1em; margin: 1em 0 }}
summary {{ cursor: pointer; font-weight: 600 }}
blockquote {{ margin: 1em; padding-left: 1em; border-left: 3px solid #d0d7de }}
.math {{ display: block; overflow-x: auto; overflow-y: hidden; margin: 1em 0 }}
mtd[columnalign=right] {{ text-align: right; text-align: -webkit-right; padding-right: 0 }}
mtd[columnalign=left] {{ text-align: left; text-align: -webkit-left; padding-left: 0 }}
@media print {{ body {{ max-width: none; font-size: 10.5pt; margin: 0 }}
  nav {{ display: none }} h2, h3, h4 {{ break-after: avoid }}
  img, tr, .math {{ break-inside: avoid }} table {{ font-size: 7.5pt }}
  pre {{ white-space: pre-wrap; max-height: none }}
  details::details-content {{ display: block; content-visibility: visible }} }}
</style></head><body><nav>{pages}</nav>
{body}
<p class="note">{note}</p></body></html>
"""


def report(source: Path | None = None, target: Path | None = None) -> Path:
    """Render a folder of executed notebooks as self-contained pages: notebooks/ by default, the
    article as ``results/report/index.html``, each other notebook beside it, and the article's
    tables in ``tables/``, as CSV and Markdown. Without an article the last notebook is the first
    page. ``ValueError`` where there are none."""
    from ..files import write_atomic
    target = Path(target or settings.out_dir() / "results" / "report" / "index.html").resolve()
    books = {p.stem: read(p) for p in listed(Path(source or notebooks_dir()))}
    first = ARTICLE if ARTICLE in books else list(books)[-1]
    files = {stem: target.name if stem == first else f"{stem}.html" for stem in books}
    convert, tables = exporter(), {}
    for stem, nb in books.items():
        title, body, found = section(stem, convert(explaining(nb)), files, target)
        tables |= found if stem == ARTICLE else {}
        links = " ".join(f'<a href="{file}">{html.escape(other.replace("_", " "))}</a>'
                         for other, file in files.items())
        note = f"{stem} · profile {profile_of(nb) or 'not stated'}"
        text = PAGE.format(title=html.escape(title), pages=links, body=body, note=note)
        write_atomic(target.parent / files[stem], text.encode())
    write_tables(target.parent / "tables", tables)
    return target


def explaining(nb):
    """The notebook with the code hidden that sets up, loads and shows; what defines stays."""
    for cell in nb.cells:
        hidden = cell.metadata.get("jupyter", {}).get("source_hidden") or \
            len(cell.source.splitlines()) < SHOWN_LINES
        if cell.cell_type == "code" and hidden:
            cell.metadata["tags"] = [*cell.metadata.get("tags", ()), FOLDED]
    return nb


def write_tables(folder: Path, tables: dict[str, list[list[str]]]) -> None:
    """Each table as ``<name>.csv``, with plain minus signs, and ``<name>.md``; files of tables that
    are no more go."""
    from ..files import write_atomic
    for name, rows in tables.items():
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(
            [cell.replace("−", "-") for cell in row] for row in rows)
        write_atomic(folder / f"{name}.csv", text.getvalue().encode())
        lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"
                 for row in rows]
        lines.insert(1, "|" + " --- |" * len(rows[0]))
        write_atomic(folder / f"{name}.md", ("\n".join(lines) + "\n").encode())
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.suffix in (".csv", ".md") and path.stem not in tables:
            path.unlink()


def section(stem: str, text: str, books, target: Path) -> tuple[str, str, dict]:
    """The title and HTML of one notebook, made to stand offline beside the pages ``books``; and its
    computed tables by the heading they stand under: rows of text, the head first."""
    from bs4 import BeautifulSoup
    soup = BeautifulSoup(text, "html.parser")
    for tag in soup.find_all(["script", "link", "iframe"]):
        tag.decompose()
    for tag in soup.select(".code_cell"):
        if not tag.text.strip() and not tag.find("img"):
            tag.decompose()                                 # a cell without outputs
    heading, title, tables = "", "", {}
    for tag in soup.find_all([re.compile("^h[1-6]$"), "img", "a", "table"]):
        if tag.name == "table":
            if tag.find_parent(class_="code_cell") and heading != "Try it":
                tables[free(heading, tables)] = [
                    [" ".join(cell.text.split()) for cell in row.find_all(["th", "td"])]
                    for row in tag.find_all("tr")]
        elif tag.name == "a":
            tag["href"] = local_link(tag.get("href", ""), stem, books, target)
        elif tag.name == "img" and not tag.get("src", "").startswith("data:"):
            tag.replace_with(tag.get("alt", ""))            # a badge or a file: not in this page
        elif tag.name == "img":
            if tag.get("alt", "").startswith("No description"):     # nbconvert's stopgap
                tag["alt"] = f"Figure in “{heading}”"
        else:
            heading = tag.text.strip()
            title = title or heading
            tag["id"] = heading.replace(" ", "-")
    return title or stem, re.sub(r' id="cell-id=[^"]*"', "", str(soup)), tables


def free(heading: str, taken) -> str:
    """A file's name from a heading, numbered where one of that name is there."""
    stem = "-".join(re.findall(r"[a-z0-9]+", heading.lower())[:8])
    return next(name for k in range(1, len(taken) + 2)
                if (name := stem + (f"-{k}" if k > 1 else "")) not in taken)


def local_link(href: str, stem: str, books, target: Path) -> str:
    """A notebook's link as it must read in its page: to a page where it leads to a notebook."""
    if not href or re.match(r"[a-z]+:|//", href):
        return href
    path, _, fragment = href.partition("#")
    book = Path(path).stem if path else stem
    if book in books:
        return ("" if book == stem else books[book]) + (f"#{fragment}" if fragment else "") or "#"
    return Path(os.path.relpath(notebooks_dir() / href, target.parent)).as_posix()


def exporter():
    """A function notebook -> HTML: nbconvert's plainest, equations as MathML."""
    from nbconvert import HTMLExporter
    from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
    from nbconvert.preprocessors import TagRemovePreprocessor

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

    out = HTMLExporter(template_name="basic", exclude_output_prompt=True,
                       exclude_input_prompt=True, filters={"markdown2html": markdown})
    out.register_preprocessor(TagRemovePreprocessor(remove_input_tags={FOLDED}), enabled=True)
    return lambda nb: out.from_notebook_node(nb)[0]


def mathml(tex: str, display: str) -> str:
    """TeX as MathML, which browsers draw offline; what cannot be converted stays as TeX."""
    from latex2mathml.converter import convert
    known = tex.replace("{aligned}", "{align*}").replace(r"\operatorname*", r"\operatorname")
    try:
        return convert(known, display=display)
    except Exception:                                       # of many kinds, with no common base
        return f"<code>{html.escape(tex)}</code>"

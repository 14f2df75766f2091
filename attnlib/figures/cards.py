"""A card for every block: its equation, what its docstring says, its diagram, its source. They make
docs/blocks.md, shelf by shelf.

A diagram is drawn from the block's trace, so that it cannot drift from the source, as a Mermaid
flowchart, which GitHub and JupyterLab show as a picture. Tinted boxes have parameters; ``→`` is the
shape of a step's result where none of what it reads has the same.

In the equations x is one map [C, H, W], a its channels' means, m their maxima, σ the
sigmoid, K a convolution, and a product runs over the sizes that one side lacks."""
import inspect
import re

import matplotlib.pyplot as plt
import numpy as np

from ..analysis.words import name as said
from ..blocks import BLOCKS, source
from ..explain.tracing import shape_text, trace
from .style import GREY, PAGE, look, per_cell

LINKS = {r"doi:([\w./-]*\w)": r"[doi:\1](https://doi.org/\1)",
         r"arXiv:(\d{4}\.\d{4,5})": r"[arXiv:\1](https://arxiv.org/abs/\1)",
         r"(?<!/)github\.com/([\w-]+/[\w-]+)": r"[github.com/\1](https://github.com/\1)",
         r"PMLR 139": "[PMLR 139](https://proceedings.mlr.press/v139/yang21o.html)"}
OUTLINES = {"x": '([{}])', "y": '([{}])', "sign": '(({}))'}       # of a step; else a box
LEARNED = ("conv", "block", "parameter")


def all_cards() -> str:
    """Markdown: every block, shelf by shelf."""
    parts, shelves = [], list(dict.fromkeys(row.shelf for row in BLOCKS.values() if row.shelf))
    for shelf in shelves:
        parts.append(f"## {shelf[0].upper()}{shelf[1:]}")
        parts += [card_text(name) for name, row in BLOCKS.items() if row.shelf == shelf]
    return "\n\n".join(parts)


def card_text(name: str) -> str:
    """Markdown: heading, equation, docstring with its papers as links, diagram, folded source."""
    text = inspect.getdoc(BLOCKS[name].make)
    for pattern, link in LINKS.items():
        text = re.sub(pattern, link, text)
    return (f"### {said(name)} · `{name}`\n\n$$ {BLOCKS[name].equation} $$\n\n{text}\n\n"
            f"```mermaid\n{flowchart(name)}\n```\n\n"
            f"<details><summary>Source</summary>\n\n```python\n{source(name)}\n```\n\n"
            "</details>")


def flowchart(name: str) -> str:
    """Mermaid: the steps of a block from x to y."""
    nodes = trace(name)
    numbers = {node: f"n{k}" for k, node in enumerate(nodes)}
    colour = look(name).colour
    lines = ["flowchart TD", f"classDef learned fill:{colour}38,stroke:{colour}"]
    for node, number in numbers.items():
        shape = shape_text(node.shape)
        told = (not shape or node.kind == "y" or node.lines == ["split"]
                or any(node.shape == read.shape for read in node.reads))
        result = [] if told else [f"→ {shape}"]
        text = "<br>".join([*node.lines, *result]).replace(" ", "\N{NO-BREAK SPACE}")
        box = OUTLINES.get(node.kind, "[{}]").format(f'"{text}"')
        reads = " & ".join(numbers[read] for read in node.reads)
        lines.append((f"{reads} --> " if reads else "") + number + box
                     + (":::learned" if node.kind in LEARNED else ""))
    return "\n".join(lines)


def diagrams(*names: str) -> plt.Figure:
    """The steps of blocks from x to y, a block a row, each step with the shape of its result."""
    def draw(axis, group):
        (name, at), boxes = group, {}
        for node, (column, row) in at.items():
            colour = look(name).colour + "38" if node.kind in LEARNED else "white"
            boxes[node] = axis.text(
                column, -row, "\n".join([*node.lines, shape_text(node.shape)]).strip(), ha="center",
                va="center", fontsize=7, bbox={"boxstyle": "round", "fc": colour, "ec": GREY})
            for read in node.reads:
                start, above = at[read]
                bow = (column - start > 1) * (0.25 if above > row else -0.25)   # past other boxes
                axis.annotate("", (column, -row), (start, -above), arrowprops={
                    "arrowstyle": "->", "patchA": boxes[read].get_bbox_patch(), "color": GREY,
                    "patchB": boxes[node].get_bbox_patch(), "connectionstyle": f"arc3,rad={bow}"})
        right, down = np.max([*at.values()], 0)
        axis.set(xlim=(-0.5, right + 0.5), ylim=(-down - 0.6, 1.1))
        axis.axis("off")
    return per_cell([(said(name), (name, laid_out(name))) for name in names], draw, PAGE,
                    lambda group: 1.45 + 0.55 * max(row for _, row in group[1].values()))


def laid_out(name: str) -> dict:
    """Step of a block -> (column, row): right of all that it reads, in the first row left free."""
    at = {}
    for node in trace(name):
        column = 1 + max((at[read][0] for read in node.reads), default=-1)
        at[node] = column, sum(other == column for other, _ in at.values())
    return at

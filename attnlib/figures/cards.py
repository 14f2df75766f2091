"""A card for every block: its equation, what its docstring says, its picture, its source. They make
docs/blocks.md, shelf by shelf.

In the equations of cards.csv x is one map [C, H, W], a its channels' means, m their maxima, σ the
sigmoid, K a convolution, and a product runs over the sizes that one side lacks."""
import csv
import inspect
import re
from pathlib import Path

import matplotlib.pyplot as plt

from .. import blocks, files
from ..analysis.words import name as said
from ..settings import figures_dir
from .diagrams import diagram
from .style import png

CARDS = list(csv.DictReader(Path(__file__).with_suffix(".csv").open(encoding="utf-8", newline="")))
LINKS = {r"doi:([\w./-]*\w)": r"[doi:\1](https://doi.org/\1)",
         r"arXiv:(\d{4}\.\d{4,5})": r"[arXiv:\1](https://arxiv.org/abs/\1)",
         r"(?<!/)github\.com/([\w-]+/[\w-]+)": r"[github.com/\1](https://github.com/\1)",
         r"PMLR 139": "[PMLR 139](https://proceedings.mlr.press/v139/yang21o.html)"}


def all_cards() -> str:
    """Markdown: every block, shelf by shelf."""
    parts, shelf = [], ""
    for card in CARDS:
        if card["shelf"] != shelf:
            shelf = card["shelf"]
            parts.append(f"## {shelf[0].upper()}{shelf[1:]}")
        parts.append(card_text(card["block"], card["equation"]))
    return "\n\n".join(parts)


def card_text(name: str, equation: str) -> str:
    """Markdown: heading, equation, docstring with its papers as links, picture, folded source."""
    text = inspect.getdoc(blocks.BLOCKS[name].make)
    for pattern, link in LINKS.items():
        text = re.sub(pattern, link, text)
    return (f"### {said(name)} · `{name}`\n\n$$ {equation} $$\n\n{text}\n\n"
            f"![What {said(name)} computes, step by step](../figures/readme/block_{name}.png)\n\n"
            f"<details><summary>Source</summary>\n\n```python\n{blocks.source(name)}\n```\n\n"
            "</details>")


def save_diagrams() -> None:
    """The pictures of the cards, in ``figures/readme``."""
    for card in CARDS:
        figure = diagram(card["block"])
        path = figures_dir("readme") / f"block_{card['block']}.png"
        files.write_atomic(path, png(figure, 90))
        plt.close(figure)

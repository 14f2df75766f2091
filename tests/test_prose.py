"""Numbers that a record could contradict are never typed: decimals, percentages and ± stand in
prose only where code put them."""
import re

import pytest

from attnlib import settings
from attnlib.report import notebooks

MEASURED = re.compile(r"(?<![\w.])\d+\.\d+(?![\w.]*\w)|\d+(?:\.\d+)?\s?(?:%|per cent)|±\s?\d")
NOT_PROSE = [                           # in this order
    r"(?s)<!-- ([\w-]+) -->.*?<!-- /\1 -->",            # what `make publish` writes into the README
    r"(?s)```.*?```", r"`[^`]*`",                       # code
    r"(?s)\$\$.*?\$\$", r"\$[^$\n]+\$",                 # mathematics
    r"!?\[[^\]]*\]\([^)]*\)", r"https?://\S+",          # links: arXiv:1709.01507 is a name
]
EXCEPTIONS = {                          # phrase -> why it may be typed
    "95 % interval": "the level of every interval, a constant of the method",
    "at 95 %": "the same",
    "Python 3.11": "a version: the one that pyproject.toml requires",
    "15 % fewer epochs": "a project's claim, in its words",
    "confidence of 80 %": "an example of what calibration means",
    "get 80 % right": "the same",
    "the 23 % that a project claims": "its number, which the section tests",
    "the lowest 40 %": "an example of what ties do",
    "width 0.25": "a setting of the profiles",
    "speednet 0.5": "the same",
    "claims 0.8": "the number that a claim has in the audit",
    "near 0.88": "the sigmoid of two, an initial value: mathematics",
    "near 0.2 a channel": "in an exercise: what a public project does, no result of ours",
}


def typed(text: str) -> list[str]:
    """The numbers that somebody typed into prose, each with the words around it."""
    for pattern in NOT_PROSE:
        text = re.sub(pattern, " ", text)
    for phrase in EXCEPTIONS:
        text = text.replace(phrase, " ")
    return [text[max(0, m.start() - 40):m.end() + 30].replace("\n", " ")
            for m in MEASURED.finditer(text)]


@pytest.mark.parametrize("book", notebooks.chosen_books(), ids=lambda path: path.stem)
def test_notebooks_take_their_numbers_from_code(book):
    cells = notebooks.read_notebook(book).cells
    found = {k: words for k, cell in enumerate(cells, 1)
             if cell.cell_type == "markdown" and (words := typed(cell.source))}
    assert not found


@pytest.mark.parametrize("page", ["README.md", *(
    f"docs/{path.name}" for path in sorted((settings.REPO / "docs").glob("*.md")))])
def test_pages_take_their_numbers_from_code(page):
    assert not typed((settings.REPO / page).read_text(encoding="utf-8"))


def test_what_is_found_and_what_is_not():
    for text in ("reaches 93.4 of", "gains 2 %.", "gains 15%", "a 0.5.", "± 1", "10 per cent",
                 "from −0.4 to", "<!-- a --> x <!-- /b --> 1.5"):
        assert typed(text), text
    for text in ("`lr=0.1`", "$t_{0.975} = 4.30$", "$$1 - 0.95^4$$", "```\n0.5 %\n```",
                 "3 seeds, 32×32", "[arXiv:1709.01507](https://arxiv.org/abs/1709.01507)",
                 "10,000 of", "v1.2.3", "mean ± sd", "the 95 % interval", "10 of 20.",
                 "<!-- results -->\n\n62.1 ± 0.4 %\n\n<!-- /results -->"):
        assert not typed(text), text

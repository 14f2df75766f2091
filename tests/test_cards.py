"""Cards, diagrams, looks, and the tables of costs."""
import re

import pytest
from torch import nn

from attnlib.analysis import costs
from attnlib.blocks import ATTENTION
from attnlib.explain.tracing import trace
from attnlib.figures import cards, style
from attnlib.networks import BACKBONES
from attnlib.networks import build as models

BLOCKS = [name for name in models.BLOCKS if name != "none"]


# --- Every block has its place in every table ---

def test_every_block_has_a_title_a_shelf_and_an_equation_that_is_closed():
    for name in BLOCKS:
        row = models.BLOCKS[name]
        assert row.title and row.shelf, name
        text = row.equation
        assert text.startswith("y") and text.count("{") == text.count("}")
        assert text.count(r"\left") - text.count(r"\leftrightarrow") == text.count(r"\right")
        assert not set("*$") & set(text), "Markdown reads these before TeX does"


@pytest.mark.parametrize("name", BLOCKS)
def test_a_card_has_equation_paper_and_source(name):
    card = cards.card_text(name)
    own = models.BLOCKS[name].make.__name__
    assert f"$$ {models.BLOCKS[name].equation} $$" in card and f"class {own}(" in card
    assert not re.search(r"(?<!\[)arXiv:\d", card.partition("<details>")[0]), "a paper unlinked"
    assert card.count("<details>") == card.count("</details>") == 1


# --- Diagrams ---


def leaves(block: nn.Module) -> list[nn.Module]:
    """Convolutions outside other attention blocks: each must be in the picture."""
    classes = tuple({row.make for row in models.BLOCKS.values()} - {nn.Identity})
    inside = {m for part in list(block.modules())[1:] if type(part) in classes
              for m in part.modules()}
    return [m for m in block.modules() if isinstance(m, nn.Conv2d) and m not in inside]


def test_a_picture_has_a_box_a_step_right_of_what_it_reads_and_none_on_another():
    for name in BLOCKS:
        at = cards.laid_out(name)
        assert len(set(at.values())) == len(at)
        assert all(at[read][0] < at[node][0] for node in at for read in node.reads), name
    se, cbam = cards.diagrams("se", "cbam").axes
    assert len(se.texts) == sum(1 + len(node.reads) for node in cards.laid_out("se"))
    assert "channel part" in cbam.texts[1].get_text() and cbam.get_title() == "CBAM"


@pytest.mark.parametrize("name", BLOCKS)
def test_a_diagram_has_every_leaf_and_leads_from_x_to_y(name):
    nodes = trace(name)
    assert nodes[0].kind == "x" and nodes[-1].kind == "y"
    assert sum(n.kind == "conv" for n in nodes) >= len(leaves(models.BLOCKS[name].make(64)))
    head, _, *lines = cards.flowchart(name).splitlines()
    assert head == "flowchart TD"
    ends, starts = [], set()
    for line in lines:
        reads, _, step = line.rpartition(" --> ")
        number = re.fullmatch(r'(n\d+)(\(\["[^"]+"\]\)|\(\("[^"]+"\)\)|\["[^"]+"\])(:::learned)?',
                              step)[1]
        starts |= set(reads.split(" & ")) - {""}
        assert starts <= set(ends)                                   # each edge leads downwards
        ends.append(number)
    assert ends == [f"n{k}" for k in range(len(nodes))]
    assert starts == set(ends[:-1])                                  # each step leads somewhere


def test_a_diagram_says_what_a_block_does():
    def texts(name, *kinds):
        return ["|".join(n.lines) for n in trace(name) if n.kind in kinds or not kinds]
    assert texts("se") == ["x", "mean|over hw", "conv 1×1|ReLU", "conv 1×1", "σ", "×", "y"]
    assert sorted(texts("sa", "pool")) == ["max|over c", "mean|over c"]
    assert texts("cbam", "block") == ["channel part", "spatial part"]
    assert texts("hybrid", "block") == ["SE", "CBAM"]


# --- One look for each block ---


def test_no_two_blocks_look_alike():
    looks = [style.look(name) for name in [*ATTENTION, "none wider"]]
    assert len({look.colour for look in looks}) == len(looks)
    assert {n: style.look(n).colour for n in ("none", "se", "cbam", "hybrid")} == {
        "none": "#555555", "se": "#0072B2", "cbam": "#D55E00", "hybrid": "#009E73"}
    assert style.look("se(reduction=4)") == style.look("se")


# --- The tables of costs ---


def test_the_table_of_costs_names_every_network():
    parameters = costs.networks_table().set_index("network").parameters
    assert list(parameters.index) == [f"`{name}`" for name in BACKBONES]
    assert parameters["`resnet18`"] == 11_173_962

"""Cards, diagrams, looks, and the tables of costs."""
import io
import re

import matplotlib.pyplot as plt
import pytest
from PIL import Image
from torch import nn

from attnlib.analysis import costs
from attnlib.blocks import ATTENTION
from attnlib.explain.tracing import trace
from attnlib.figures import cards, diagrams, plots, style
from attnlib.figures.cards import EQUATIONS, SHELVES
from attnlib.networks import BACKBONES
from attnlib.networks import build as models

BLOCKS = [name for name in models.BLOCKS if name != "none"]


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


# --- Every block has its place in every table ---


def test_every_block_stands_on_one_shelf_and_has_an_equation():
    shelved = [name for names in SHELVES.values() for name in names]
    assert len(set(shelved)) == len(shelved)
    assert set(BLOCKS) <= set(shelved) and set(BLOCKS) <= set(EQUATIONS)


@pytest.mark.parametrize("name", EQUATIONS)
def test_an_equation_is_closed(name):
    text = EQUATIONS[name]
    assert text.startswith("y") and text.count("{") == text.count("}")
    assert text.count(r"\left") - text.count(r"\leftrightarrow") == text.count(r"\right")
    assert not set("*$") & set(text), "Markdown reads these before TeX does"


@pytest.mark.parametrize("name", BLOCKS)
def test_a_card_has_equation_paper_and_source(name):
    card = cards.card_text(name)
    own = models.BLOCKS[name].make.__name__
    assert f"$$ {EQUATIONS[name]} $$" in card and f"class {own}(" in card
    assert not re.search(r"(?<!\[)arXiv:\d", card.partition("<details>")[0]), "a paper unlinked"
    assert card.count("<details>") == card.count("</details>") == 1


# --- Diagrams ---


def leaves(block: nn.Module) -> list[nn.Module]:
    """Convolutions outside other attention blocks: each must be in the picture."""
    classes = {row.make for row in models.BLOCKS.values() if row.make is not nn.Identity}
    inside = {id(m) for part in list(block.modules())[1:] if type(part) in classes
              for m in part.modules()}
    return [m for m in block.modules() if isinstance(m, nn.Conv2d) and id(m) not in inside]


@pytest.mark.parametrize("name", [name for name in BLOCKS if name not in cards.UNDRAWN])
def test_a_diagram_has_every_leaf_keeps_its_size_and_its_boxes_apart(name):
    nodes = trace(name)
    assert [n.kind for n in nodes].count("x") == [n.kind for n in nodes].count("y") == 1
    drawn = [n for n in nodes if n.kind == "conv"]
    assert len(drawn) >= len(leaves(models.BLOCKS[name].make(64)))
    width, height = diagrams.diagram(name).get_size_inches()
    assert 1 < width < 13 and 0.3 < height < 5
    routes, column, top = diagrams.routed(nodes)
    x, y = diagrams.across(column), diagrams.down(routes, column, top)
    nodes = [n for n in column if n.kind != "bend"]
    for k, a in enumerate(nodes):
        for b in nodes[:k]:
            aside = x[a][0] >= x[b][1] - 1e-6 or x[b][0] >= x[a][1] - 1e-6
            apart = (diagrams.size_of(a)[1] + diagrams.size_of(b)[1]) / 2 - 1e-6
            assert aside or abs(y[a] - y[b]) >= apart, (a.lines, b.lines)


@pytest.mark.parametrize(("name", "boxes"), [
    ("cbam", ["channel part", "spatial part"]), ("hybrid", ["SE", "CBAM"]), ("se_sa", ["SER",
                                                                             "spatial part"])])
def test_a_chain_is_drawn_as_its_blocks(name, boxes):
    assert [n.lines[0] for n in trace(name) if n.kind == "block"] == boxes


def test_a_diagram_says_what_a_block_does():
    texts = ["|".join(n.lines) for n in trace("se")]
    assert texts == ["x", "mean|over hw", "conv 1×1|ReLU", "conv 1×1", "σ", "×", "y"]
    pools = {"|".join(n.lines) for n in trace("sa") if n.kind == "pool"}
    assert pools == {"max|over c", "mean|over c"}


def test_a_figure_is_small_and_in_colour():
    data = style.png(diagrams.diagram("cbam"), 90, "what it shows")
    assert data[:4] == b"\x89PNG" and 1_000 < len(data) < 40_000
    assert Image.open(io.BytesIO(data)).text == {"Description": "what it shows"}


# --- One look for each block ---


def test_no_two_blocks_look_alike():
    looks = [plots.look(name) for name in [*ATTENTION, "none wider"]]
    assert len({look.colour for look in looks}) == len(looks)
    assert {n: plots.look(n).colour for n in ("none", "se", "cbam", "hybrid")} == {
        "none": "#555555", "se": "#0072B2", "cbam": "#D55E00", "hybrid": "#009E73"}
    assert plots.look("se(reduction=4)") == plots.look("se")


def test_families_have_hues_of_their_own():
    hues = [hue for hue, _ in style.FAMILIES.values()]
    assert len(set(hues)) == len(hues)


# --- The tables of costs ---


def test_tables_of_costs_name_every_network_and_block():
    networks, added = costs.networks_table(), costs.added_table(("resnet18",))
    assert list(networks.network) == [f"`{name}`" for name in BACKBONES]
    assert networks.set_index("network").parameters["`resnet18`"] == 11_173_962
    assert list(added.block) == [f"`{name}`" for name in ATTENTION if name != "none"]
    se = costs.cost_of("resnet18", "se")["attention_params"]
    assert added.set_index("block")["`resnet18`"]["`se`"] == pytest.approx(se / 1e3)

"""A diagram of every block, drawn from its trace, so that the picture cannot drift from the source.

Steps stand from top to bottom, x's shortest way to y on a straight line at the left. Tinted boxes
have parameters; at a step's exit stands the shape of its result where that is another one."""
from collections import Counter
from itertools import pairwise

import matplotlib.pyplot as plt
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path

from ..explain.tracing import Node, shape_text, trace
from .style import look

# All lengths are inches.
LINE, CHARACTER, PADDING = 0.16, 0.08, 0.13       # a line and a character at 9 points, a box's rim
GUTTER, BETWEEN, LETTER = 0.26, 0.2, 0.07         # between rows and lanes; a character of a label
SIGN, RIM = 0.27, 0.1
LEARNED = ("conv", "block", "parameter")


def diagram(name: str) -> plt.Figure:
    """The block's diagram at its natural size."""
    routes, row, first = routed(trace(name))
    y, x = down(row), across(routes, row, first)
    wide = [(x[node] - half_width(node), x[node] + half_width(node)) for node in row]
    left, right = min(a for a, _ in wide) - RIM, max(b for _, b in wide) + RIM
    top, bottom = -RIM, max(end for _, end in y.values()) + RIM
    figure = plt.figure(layout="none", figsize=(right - left, bottom - top))
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set(xlim=(left, right), ylim=(bottom, top))
    axis.axis("off")
    for route in routes:
        edge(axis, [(x[node], *y[node]) for node in route])
    for node in row:
        if node.kind != "bend":
            draw_box(axis, node, x[node], sum(y[node]) / 2, look(name).colour)
            aside = any(x[way[1]] > x[node] + 0.1 for way in routes if way[0] is node)
            axis.text(x[node] + (-0.05 if aside else 0.05), y[node][1] + 0.03, label_of(node),
                      fontsize=8, color="#555555", ha="right" if aside else "left", va="top")
    return figure


def size_of(node: Node) -> tuple[float, float]:
    """Width and height of its box."""
    if node.kind == "bend":
        return 0.0, 0.0
    if node.kind == "sign":
        return SIGN, SIGN
    return (max(SIGN, max(map(len, node.lines)) * CHARACTER + PADDING),
            len(node.lines) * LINE + PADDING)


def half_width(node: Node) -> float:
    """Of its box or of the label beside its exit."""
    return max(size_of(node)[0] / 2, len(label_of(node)) * LETTER + 0.05)


def label_of(node: Node) -> str:
    """The shape at its exit, where none of what it reads has the same."""
    if node.kind in ("y", "bend") or node.lines == ["split"]:
        return ""
    same = any(node.shape == read.shape for read in node.reads)
    return "" if same else shape_text(node.shape)


# --- Where everything stands ---


def rows_of(nodes: list[Node]) -> dict[Node, int]:
    """The longest way from x; a parameter stands just before what reads it."""
    row = {}
    for node in nodes:
        row[node] = max((row[read] + 1 for read in node.reads), default=0)
    for node in nodes:
        if node.kind == "parameter":
            row[node] = min(row[reader] for reader in nodes if node in reader.reads) - 1
    return row


def routed(nodes: list[Node]) -> tuple[list[list[Node]], dict[Node, int], set[Node]]:
    """Each edge as a route from a node to its reader with a bend in every row between; the row of
    every node and bend; and those on x's shortest way to y."""
    row, straight = rows_of(nodes), shortest(nodes)
    routes, first = [], set()
    for node in nodes:
        for read in node.reads:
            bends = {Node("bend", [""]): k for k in range(row[read] + 1, row[node])}
            routes.append([read, *bends, node])
            row |= bends
            if (read, node) in pairwise(straight):
                first |= set(routes[-1])
    return routes, row, first


def shortest(nodes: list[Node]) -> list[Node]:
    """The way from x to y with the fewest steps."""
    best = {nodes[0]: [nodes[0]]}
    for node in nodes[1:]:
        ways = [best[read] for read in node.reads if read in best]
        if ways:
            best[node] = min(ways, key=len) + [node]
    return best[nodes[-1]]


def down(row: dict[Node, int]) -> dict[Node, tuple[float, float]]:
    """Top and bottom of every node, downwards; bends run straight through their row."""
    top, y = 0.0, {}
    for k in range(max(row.values()) + 1):
        heights = {node: size_of(node)[1] for node in row if row[node] == k}
        tall = max(heights.values())
        y |= {node: (top, top + (tall if node.kind == "bend" else own))
              for node, own in heights.items()}
        top += tall + GUTTER
    return y


def across(routes, row: dict[Node, int], first: set[Node]) -> dict[Node, float]:
    """The middle of every node: x's straight way to y at 0; every other chain of steps in the first
    lane right of it that is free from the chain's first row to its last."""
    taken: list[set[int]] = []                                  # the rows of each further lane
    lane = dict.fromkeys(first, 0)
    for chain in chains(routes, row, first):
        span = set(range(row[chain[0]], row[chain[-1]] + 1))
        k = next((k for k, rows in enumerate(taken) if not rows & span), len(taken))
        if k == len(taken):
            taken.append(set())
        taken[k] |= span
        lane |= dict.fromkeys(chain, k + 1)
    half = [max(half_width(node) for node in lane if lane[node] == k)
            for k in range(len(taken) + 1)]
    middle = [0.0]
    for one, other in pairwise(half):
        middle.append(middle[-1] + one + BETWEEN + other)
    return {node: middle[k] for node, k in lane.items()}


def chains(routes, row: dict[Node, int], first: set[Node]) -> list[list[Node]]:
    """The nodes beside the first lane, put together where one leads to the next and nowhere else,
    from top to bottom."""
    steps = [pair for route in routes for pair in pairwise(route)]
    outs, ins = Counter(a for a, _ in steps), Counter(b for _, b in steps)
    after = {a: b for a, b in steps if outs[a] == ins[b] == 1 and not {a, b} & first}
    found = []
    for node in sorted(row, key=row.get):
        if node not in first and node not in after.values():
            found.append([node])
            while found[-1][-1] in after:
                found[-1].append(after[found[-1][-1]])
    return found


# --- Ink ---


def draw_box(axis, node: Node, x: float, y: float, colour: str) -> None:
    width, height = size_of(node)
    if node.kind in ("x", "y"):
        axis.text(x, y, node.lines[0], ha="center", va="center", fontsize=12, style="italic")
        return
    learned = node.kind in LEARNED
    for filled in ({"facecolor": "white", "edgecolor": "none"},
                   {"facecolor": colour if learned else "none", "alpha": 0.22, "edgecolor": "none"},
                   {"facecolor": "none", "edgecolor": colour if learned else "#777777"}):
        shape = FancyBboxPatch((x - width / 2, y - height / 2), width, height, zorder=2, **filled,
                               boxstyle="round,pad=0,rounding_size=0.05")
        if node.kind == "sign":
            shape = Circle((x, y), width / 2, zorder=2, **filled)
        axis.add_patch(shape)
    axis.text(x, y + 0.01, "\n".join(node.lines), ha="center", va="center", fontsize=9,
              linespacing=1.15, zorder=4)


def edge(axis, points: list[tuple[float, float, float]]) -> None:
    """An arrow through (middle, top, bottom) of a route's nodes: straight in a node's row, an S
    between two rows."""
    path, codes = [(points[0][0], points[0][2])], [Path.MOVETO]
    for (x0, _, y0), (x1, y1, bottom) in pairwise(points):
        middle = (y0 + y1) / 2
        path += [(x0, middle), (x1, middle), (x1, y1), (x1, bottom)]
        codes += [Path.CURVE4] * 3 + [Path.LINETO]
    axis.add_patch(FancyArrowPatch(path=Path(path[:-1], codes[:-1]), arrowstyle="-|>",
                                   mutation_scale=7, color="#555555", linewidth=0.9, shrinkA=0,
                                   shrinkB=0, zorder=1))

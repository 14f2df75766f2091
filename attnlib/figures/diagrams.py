"""A diagram of every block, drawn from its trace, so that the picture cannot drift from the source.

Steps stand from left to right, x's shortest way to y on a straight line at the top. Tinted boxes
have parameters; at a step's exit stands the shape of its result where that is another one."""
from collections import Counter

import matplotlib.pyplot as plt
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path

from ..explain.tracing import Node, shape_text, trace
from .style import look

# All lengths are inches.
LINE, CHARACTER, PADDING = 0.15, 0.072, 0.13      # a line and a character at 8 points, a box's rim
GUTTER, BETWEEN, LETTER = 0.3, 0.26, 0.058        # between columns and rows; a character of a label
LEARNED = ("conv", "block", "parameter")


def diagram(name: str) -> plt.Figure:
    """The block's diagram at its natural size."""
    figure = plt.figure(layout="none")
    figure.set_size_inches(*paint(figure.add_axes((0, 0, 1, 1)), name))
    return figure


def paint(axis: plt.Axes, name: str) -> tuple[float, float]:
    """Draw a block's diagram on axes in units of inches; returns the width and height it needs."""
    routes, column, top = routed(trace(name))
    x, y = across(column), down(routes, column, top)
    for route in routes:
        edge(axis, [(*x[n], y[n]) for n in route])
    for node in column:
        if node.kind != "bend":
            draw_box(axis, node, x[node][0], y[node], look(name).colour)
            label(axis, node, x[node][1], y[node], [y[r[1]] for r in routes if r[0] is node])
    left, right = -0.15, max(end for _, end in x.values()) + 0.1
    ends = [y[n] + side * size_of(n)[1] / 2 for n in column for side in (-1, 1)]
    low, high = min(ends) - 0.12, max(ends) + 0.12
    axis.set(xlim=(left, right), ylim=(low, high))
    axis.axis("off")
    return right - left, high - low


def size_of(node: Node) -> tuple[float, float]:
    """Width and height of its box."""
    if node.kind in ("sign", "bend"):
        return (0.27, 0.27) if node.kind == "sign" else (0.0, 0.0)
    return (max(0.27, max(map(len, node.lines)) * CHARACTER + PADDING),
            len(node.lines) * LINE + PADDING)


def label_of(node: Node) -> str:
    """The shape at its exit, where none of what it reads has the same."""
    several = node.lines == ["split"]
    same = node.kind == "y" or any(node.shape == read.shape for read in node.reads)
    return "" if several or same else shape_text(node.shape)


# --- Where everything stands ---


def columns(nodes: list[Node]) -> dict[Node, int]:
    """The longest way from x; a parameter stands just before what reads it."""
    column = {}
    for node in nodes:
        column[node] = max((column[r] + 1 for r in node.reads), default=0)
    for node in nodes:
        if node.kind == "parameter":
            column[node] = min(column[n] for n in nodes if node in n.reads) - 1
    return column


def routed(nodes: list[Node]) -> tuple[list[list[Node]], dict[Node, int], set[Node]]:
    """Each edge as a route from a node to its reader with a bend in every column between; the
    column of every node and bend; and those on x's shortest way to y."""
    column, straight = columns(nodes), shortest(nodes)
    on_top = set(zip(straight, straight[1:], strict=False))
    routes, top = [], set()
    for node in nodes:
        for read in node.reads:
            bends = {Node("bend", [""]): k for k in range(column[read] + 1, column[node])}
            routes.append([read, *bends, node])
            column |= bends
            top |= set(routes[-1]) if (read, node) in on_top else set()
    return routes, column, top


def shortest(nodes: list[Node]) -> list[Node]:
    """The way from x to y with the fewest steps."""
    best = {nodes[0]: [nodes[0]]}
    for node in nodes[1:]:
        ways = [best[read] for read in node.reads if read in best]
        if ways:
            best[node] = min(ways, key=len) + [node]
    return best[nodes[-1]]


def across(column: dict[Node, int]) -> dict[Node, tuple[float, float]]:
    """Left and right end of every node: columns as wide as their widest, through which bends run
    straight; gutters as wide as their labels ask."""
    start, x = 0.0, {}
    for k in range(max(column.values()) + 1):
        widths = {n: size_of(n)[0] for n in column if column[n] == k}
        width = max(widths.values())
        x |= {n: (start, start + (width if n.kind == "bend" else own)) for n, own in widths.items()}
        room = max(len(label_of(n)) * LETTER - (start + width - x[n][1]) for n in widths)
        start += width + max(GUTTER, room + 0.16)
    return x


def down(routes, column: dict[Node, int], top: set[Node]) -> dict[Node, float]:
    """The height of every node: x's straight way to y at 0; every other chain of steps in the first
    row below it that is free from the chain's first column to its last."""
    taken: list[set[int]] = []                                  # the columns of each row below
    row = dict.fromkeys(top, 0)
    for chain in chains(routes, column, top):
        span = set(range(column[chain[0]], column[chain[-1]] + 1))
        k = next((k for k, columns in enumerate(taken) if not columns & span), len(taken))
        if k == len(taken):
            taken.append(set())
        taken[k] |= span
        row |= dict.fromkeys(chain, k + 1)
    high = [max((size_of(n)[1] for n in row if row[n] == k), default=0.0)
            for k in range(len(taken) + 1)]
    level = [0.0]
    for above, below in zip(high, high[1:], strict=False):
        level.append(level[-1] - (above + below) / 2 - BETWEEN)
    return {node: level[k] for node, k in row.items()}


def chains(routes, column: dict[Node, int], top: set[Node]) -> list[list[Node]]:
    """The nodes below the top line, put together where one leads to the next and nowhere else, from
    left to right."""
    steps = [pair for route in routes for pair in zip(route, route[1:], strict=False)]
    outs, ins = Counter(a for a, _ in steps), Counter(b for _, b in steps)
    after = {a: b for a, b in steps if outs[a] == ins[b] == 1 and not {a, b} & top}
    found = []
    for node in sorted(column, key=column.get):
        if node not in top and node not in after.values():
            found.append([node])
            while found[-1][-1] in after:
                found[-1].append(after[found[-1][-1]])
    return found


# --- Ink ---


def draw_box(axis, node: Node, x: float, y: float, colour: str) -> None:
    width, height = size_of(node)
    if node.kind in ("x", "y"):
        axis.text(x + width / 2, y, node.lines[0], ha="center", va="center", fontsize=11,
                  style="italic")
        return
    learned = node.kind in LEARNED
    for look_of in ({"facecolor": "white", "edgecolor": "none"},
                    {"facecolor": colour if learned else "none", "alpha": 0.22,
                     "edgecolor": "none"},
                    {"facecolor": "none", "edgecolor": colour if learned else "#777777"}):
        shape = (Circle((x + width / 2, y), width / 2, zorder=2, **look_of)
                 if node.kind == "sign" else
                 FancyBboxPatch((x, y - height / 2), width, height, zorder=2, **look_of,
                                boxstyle="round,pad=0,rounding_size=0.05"))
        axis.add_patch(shape)
    axis.text(x + width / 2, y - 0.01, "\n".join(node.lines), ha="center", va="center", fontsize=8,
              linespacing=1.15, zorder=4)


def label(axis, node: Node, x: float, y: float, targets: list[float]) -> None:
    """The shape just after a step, over the line unless the line goes up."""
    up = any(target > y + 0.15 for target in targets)
    axis.text(x + 0.05, y + (-0.04 if up else 0.04), label_of(node), fontsize=6.5, color="#555555",
              ha="left", va="top" if up else "bottom", zorder=5)


def edge(axis, points: list[tuple[float, float, float]]) -> None:
    """An arrow through (left, right, height) of a route's nodes: straight in a node's column, an
    S between two columns."""
    path, codes = [(points[0][1], points[0][2])], [Path.MOVETO]
    for k, ((_, x0, y0), (x1, right, y1)) in enumerate(zip(points, points[1:], strict=False), 2):
        middle = (x0 + x1) / 2
        path += [(middle, y0), (middle, y1), (x1, y1)]
        codes += [Path.CURVE4] * 3
        if right > x1 and k < len(points):
            path.append((right, y1))
            codes.append(Path.LINETO)
    axis.add_patch(FancyArrowPatch(path=Path(path, codes), arrowstyle="-|>", mutation_scale=7,
                                   color="#555555", linewidth=0.9, shrinkA=0, shrinkB=0, zorder=1))

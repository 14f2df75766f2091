"""What a figure shows, in words for who cannot see it: from its own titles, labels and legends."""
import re

LIMIT = 200                                     # characters


def describe(figure) -> str:
    """Panels, axes and what is told apart; of pictures, how many and how named; in fewer than LIMIT
    characters, so of long lists the first names and how many more."""
    axes = [axis for axis in figure.axes if axis.get_visible()]
    plots = [axis for axis in axes if axis.axison]
    titles = unique(axis.get_title() or axis.get_title("left") for axis in axes)
    notes = unique(text.get_text() for axis in axes if not axis.axison for text in axis.texts)
    pictures = sum(bool(axis.images) for axis in axes)
    kind = f"{pictures} pictures" if pictures > 1 else "a picture" * pictures
    if plots:
        kind = f"{len(plots)} panels" if len(plots) > 1 else "a plot"
    ways = (" by ".join(filter(None, [axis.get_ylabel(), axis.get_xlabel()])) for axis in plots)
    lists = [notes, titles, unique(ways), told_apart(figure, plots)]
    for most in range(30, 0, -1):
        text = ". ".join(filter(None, [kind, *(first_of(texts, most) for texts in lists)]))
        if len(text) < LIMIT:
            break
    return (text[:1].upper() + text[1:LIMIT - 1]) or "An empty figure"


def told_apart(figure, axes) -> list[str]:
    """The legends' entries and the names along the axes, not their numbers."""
    legends = [*figure.legends, *(a.get_legend() for a in axes if a.get_legend())]
    names = [text.get_text() for legend in legends for text in legend.texts]
    for axis in (part for a in axes for part in (a.xaxis, a.yaxis)):
        names += [text for label in axis.get_ticklabels() if (text := label.get_text())
                  and not re.fullmatch(r"\$.*\$|[−+-]?[\d.,\s%−-]+", text)]
    return unique(names)


def unique(texts) -> list[str]:
    """Each text once, in one line."""
    return list(dict.fromkeys(filter(None, (" ".join(text.split()) for text in texts))))


def first_of(texts: list[str], most: int) -> str:
    more = len(texts) - most
    return "; ".join(texts[:most]) + (f"; {more} more" if more > 0 else "")

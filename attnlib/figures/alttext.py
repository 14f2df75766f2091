"""What a figure shows, in words for who cannot see it: from its own titles, labels and legends."""
import re

MOST = 30               # names listed; more are counted


def describe(figure) -> str:
    """One to four sentences: panels, axes, what is compared; of pictures, how many and how named.
    """
    axes = [a for a in figure.axes if a.get_visible()]
    titles = unique(plain_label(a.get_title()) for a in axes)
    notes = unique(plain_label(t.get_text()) for a in axes if not a.axison for t in a.texts)
    drawn = [a for a in axes if a.axison]
    if not drawn:
        count = sum(bool(a.images) for a in axes)
        pictures = "One picture" if count == 1 else f"{count} pictures"
        parts = [pictures + (f": {joined(titles)}" if titles else "") if count else "", *notes]
        return ". ".join(filter(None, parts)) or "A figure without text"
    panels = "" if len(drawn) == 1 else f"{len(drawn)} panels: "
    parts = [panels + joined(titles) if titles else panels.rstrip(": ")]
    parts += [f"{word}: {joined(found)}" for word, found in (
        ("Vertical", unique(plain_label(a.get_ylabel()) for a in drawn)),
        ("Horizontal", unique(plain_label(a.get_xlabel()) for a in drawn)),
        ("Shown", told_apart(figure, drawn)), ("Notes", notes)) if found]
    return ". ".join(filter(None, parts)) or "A plot without labels"


def told_apart(figure, axes) -> list[str]:
    """What is told apart: the legends' entries and the names along the axes, not their numbers."""
    legends = [*figure.legends, *(a.get_legend() for a in axes if a.get_legend())]
    names = [plain_label(t.get_text()) for legend in legends for t in legend.texts]
    for axis in (part for a in axes for part in (a.xaxis, a.yaxis)):
        names += [text for t in axis.get_ticklabels() if (text := plain_label(t.get_text()))
                  and not re.fullmatch(r"[−+-]?[\d.,×^{}\s%−-]+", text)]
    return unique(names)


def plain_label(text: str) -> str:
    """A label in one line, without TeX's marks: a screen reader would spell them out."""
    text = re.sub(r"\\(?:bf|mathdefault|mathrm)|[${}]", "", text).replace("\\ ", " ")
    return " ".join(text.split())


def unique(texts) -> list[str]:
    return list(dict.fromkeys(filter(None, texts)))


def joined(texts: list[str]) -> str:
    more = len(texts) - MOST
    return "; ".join(texts[:MOST]) + (f"; and {more} more" if more > 0 else "")

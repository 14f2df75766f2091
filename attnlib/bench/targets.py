"""What the study should cost, and whether a stored benchmark reaches it: targets as data, set
before anything was measured. A target that the machine is not meant for says so and is not judged.
"""
from collections.abc import Callable
from typing import NamedTuple

from ..analysis.words import name
from .measure import ratio, spread
from .speed import markdown, rows, same_accuracy, table


class Target(NamedTuple):
    """``found(benchmark)`` gives {where: number}; every number is to be ``at least`` or ``at most``
    the bound of this kind of machine (``cpu``, ``cpu with bfloat16``, ``cuda``)."""
    says: str
    found: Callable[[dict], dict[str, float]]
    bounds: dict[str, float]
    least: bool = False
    unit: str = ""


EVERYWHERE = ("cpu", "cpu with bfloat16", "cuda")


def kind_of(body: dict) -> str:
    """Only CUDA computes in half precision with channels_last (`train.machine`)."""
    env = body["env"]
    if env["precision"] == "float32":
        return "cpu"
    return "cuda" if env["channels_last"] else "cpu with bfloat16"


def where(r: dict) -> str:
    return f"{name(r['backbone'])}, width {r['width']:g}"


def faster(body: dict) -> dict[str, float]:
    return {f"{where(r)}, {name(r['attention'])}": r["faster"]["median"]
            for r in table(body).to_dict("records")}


def step(*arms: str) -> Callable[[dict], dict[str, float]]:
    """The steps of these blocks over none's."""
    return lambda body: {f"{where(r)}, {name(r['attention'])}": r["step"]["median"]
                         for r in table(body).to_dict("records") if r["attention"] in arms}


def whole_network(body: dict) -> dict[str, float]:
    return {where(r): r["ours"]["median"] for r in table(body).to_dict("records")
            if (r["backbone"], r["width"], r["attention"]) == ("resnet18", 1, "none")}


def pipeline(body: dict) -> dict[str, float]:
    return {r["kind"]: ratio(r["images_per_second"]["ours"],
                             r["images_per_second"]["plain"])["median"]
            for r in rows(body, "pipeline")}


def pipeline_share(body: dict) -> dict[str, float]:
    """Percent of none's step that the input takes."""
    inputs = [spread(r["images_per_second"]["ours"])["median"] for r in rows(body, "pipeline")[:1]]
    return {where(r): 100 * r["ours"]["median"] / rate for rate in inputs
            for r in table(body).to_dict("records") if r["attention"] == "none"}


def imported(body: dict) -> dict[str, float]:
    return {r["kind"]: spread(r["seconds_beyond_torch"]["bare"])["median"]
            for r in rows(body, "import")}


def notebook(body: dict) -> dict[str, float]:
    return {f"`{r['notebook']}`": r["wall_seconds"] for r in rows(body, "notebook")}


TARGETS = (
    Target("training rate ÷ the plain loop's", faster, {"cpu with bfloat16": 2.0, "cuda": 3.0},
           least=True, unit="×"),
    Target("input pipeline ÷ the plain one", pipeline, {"cpu": 5.0, "cpu with bfloat16": 5.0},
           least=True, unit="×"),
    Target("input pipeline, of a step", pipeline_share, {"cuda": 3.0}, unit=" %"),
    Target("images/s in training, `none`", whole_network, {"cuda": 25_000}, least=True),
    Target("SE's step ÷ none's", step("se"), {"cuda": 1.10}, unit="×"),
    Target("CBAM's and the hybrid's step ÷ none's", step("cbam", "hybrid"),
           {"cpu": 1.5, "cpu with bfloat16": 1.5, "cuda": 1.25}, unit="×"),
    Target("`import attnlib` beyond torch", imported, dict.fromkeys(EVERYWHERE, 0.5), unit=" s"),
    Target("a notebook whose records are there", notebook, dict.fromkeys(EVERYWHERE, 15),
           unit=" s"),
)


def targets_table(body: dict) -> str:
    """Markdown: every target, what was measured, and whether it is met; where not everywhere, the
    networks and blocks that miss it."""
    kind, out = kind_of(body), []
    for t in TARGETS:
        found, bound = t.found(body), t.bounds.get(kind)
        out.append({"what": t.says, "measured": measured(found, t.unit),
                    "target": bound_words(t, bound), "met": met(t, found, bound)})
    accuracy = [same_accuracy(r) for r in rows(body, "agreement")]
    out.append({"what": "accuracy − the plain loop's, points",
                "measured": accuracy[0].gap if accuracy else "not measured",
                "target": "within seed noise",
                "met": "" if not accuracy else "yes" if accuracy[0].inside else "**no**"})
    return markdown(out)


def measured(found: dict[str, float], unit: str) -> str:
    if not found:
        return "not measured"
    low, high = number(min(found.values())), number(max(found.values()))
    return (low if low == high else f"{low} to {high}") + unit


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def bound_words(t: Target, bound: float | None) -> str:
    word = "at least" if t.least else "at most"
    if bound is not None:
        return f"{word} {bound:,g}{t.unit}"
    return "; ".join(f"{word} {b:,g}{t.unit} ({'GPU' if kind == 'cuda' else kind})"
                     for kind, b in t.bounds.items())


def met(t: Target, found: dict[str, float], bound: float | None) -> str:
    """``yes``; or how many reach it and which do not; nothing where it is not for this machine."""
    if bound is None:
        return "not for this machine"
    if not found:
        return ""
    missed = {key: v for key, v in found.items() if (v < bound if t.least else v > bound)}
    if not missed:
        return "yes"
    which = "; ".join(f"{key} {number(v)}" for key, v in missed.items())
    if len(missed) == len(found):
        return "**no**" + (f": {which}" if len(found) > 1 else "")
    return f"in {len(found) - len(missed)} of {len(found)}; not {which}"

"""What the stored gates, interventions and probes of `camstore` say: tables and sentences. They
need neither weights nor data."""
import math

import pandas as pd

from ..analysis.stats import CELL, MIN_SEEDS, paired, t_half_width
from ..analysis.words import interval, name, place, plural
from ..experiments.studies import margin_of
from .camstore import stored_maps
from .gatestats import gate_rows
from .probes import COLUMNS, GROUPS

CHANCE = 10                                 # %, of ShapeTex's ten classes
WHO = ["id", "profile", *CELL, "attention", "arm", "seed", "status"]


def nothing(df, what: str) -> str:
    """The sentence for a reader whose records hold no ``what``."""
    where = f" in profile `{df.profile.iloc[0]}`" if len(df) else ""
    return (f"No {what} are stored{where}: `python -m attnlib focus STUDY` measures them where a "
            "run's weights are.")


def unpacked(df, rows_of) -> pd.DataFrame:
    """``rows_of(arrays)`` of every finished run of a `collect` table that was looked at, beside who
    it is."""
    who = {row["id"]: row for row in df[WHO].to_dict("records")}
    return pd.DataFrame([who[run_id] | row for run_id, arrays in stored_maps(df).items()
                         for row in rows_of(arrays)])


def gate_table(df) -> pd.DataFrame:
    """One row per run, site and reading (channels or places): see `gatestats.measure`."""
    return unpacked(df, gate_rows)


def swap_table(df) -> pd.DataFrame:
    """One row per run, scope and mode: ``lost``, in points, ``changed``, ``plain``, ``images``."""
    def rows_of(a):
        return [{"scope": scope.decode(), "mode": mode.decode(),
                 "lost": float(a["swap_lost"][i, j]), "changed": float(a["swap_changed"][i, j]),
                 "plain": float(a["swap_accuracy"]), "images": int(a["swap_images"][i])}
                for i, scope in enumerate(a.get("swap_scope", ()))
                for j, mode in enumerate(a["swap_mode"])]
    return unpacked(df, rows_of)


def probe_table(df) -> pd.DataFrame:
    """One row per run and probe: `probes.COLUMNS`, and ``lift``, the object's share of the map's
    mass over its share of the image."""
    def rows_of(a):
        rows = [{"probe": probe.decode(), **{c: float(a[f"probe_{c}"][k]) for c in COLUMNS}}
                for k, probe in enumerate(a.get("probe_name", ()))]
        return [row | {"lift": row["object"] / row["object_area"] if row["object_area"] else
                       math.nan} for row in rows]
    return unpacked(df, rows_of)


def group_table(df) -> pd.DataFrame:
    """One row per run: the accuracy in each of `probes.GROUPS`, %, and in the ``worst``; the mass
    on the object (``object``) and on neither object nor distractors (``background``), %, where the
    style is the usual one and (``…_flip``) never that of the class."""
    def rows_of(a):
        if "probe_groups" not in a:
            return []
        row = dict(zip(GROUPS, map(float, a["probe_groups"]), strict=True))
        row["worst"] = min(row.values())
        names = [n.decode() for n in a["probe_name"]]
        for split, ending in (("test", ""), ("flip", "_flip")):
            k = names.index(f"split={split}")
            things = {c: 100 * float(a[f"probe_{c}"][k]) for c in ("object", "distractors")}
            row |= {f"object{ending}": things["object"],
                    f"background{ending}": 100 - sum(things.values()),
                    f"style{ending}": 100 * float(a["probe_style"][k])}
        return [row]
    return unpacked(df, rows_of)


def by_cell(table):
    """(words for the cell, its rows) of a table, in its order."""
    return [(place(rows.iloc[0]), rows) for _, rows in table.groupby(CELL, sort=False)]


def percent(x: float) -> str:
    return "–" if math.isnan(x) else f"{100 * x:.0f} %"


def number(x: float, digits: int = 2) -> str:
    return "–" if math.isnan(x) else f"{x:.{digits}f}".replace("-", "−")


def gates_markdown(df) -> str:
    """Markdown: the statistics of every arm's gates by stage, means over sites and seeds."""
    table = gate_table(df)
    if not len(table):
        return nothing(df, "gates")
    rows = []
    for where, cell in by_cell(table):
        for (arm, kind, stage), part in cell.groupby(["arm", "kind", "stage"], sort=False):
            m = part.mean(numeric_only=True)
            rows.append({
                "where": where, "block": name(arm), "gate over": kind, "stage": stage[5:] or stage,
                "mean": number(m["mean"]), "sd between images": number(m.spread, 3),
                "sd between units": number(m.spread_units, 3), "input": percent(m.input),
                "saturated": percent(m.saturated), "class": percent(m.selectivity),
                "r with Grad-CAM": number(m.cam_pearson), "open on the object":
                    "–" if math.isnan(m.mask_lift) else f"× {m.mask_lift:.2f}"})
    out = pd.DataFrame(rows).sort_values(["where", "block", "gate over"], kind="stable")
    if out["where"].nunique() == 1:
        out = out.drop(columns="where")
    if (out["open on the object"] == "–").all():
        out = out.drop(columns="open on the object")
    return out.to_markdown(index=False, disable_numparse=True)


def gates_answer(df) -> str:
    """How open the gates of each arm are, how far they follow image, class, map and object."""
    table = gate_table(df)
    if not len(table):
        return nothing(df, "gates")
    out = []
    for where, cell in by_cell(table):
        lines = [f"**{where}** (profile `{cell.profile.iloc[0]}`, "
                 f"{plural(cell.seed.nunique(), 'seed')}):"]
        for arm, mine in cell.groupby("arm", sort=False):
            parts = [SAYS[kind](rows) for kind, rows in mine.groupby("kind")]
            lines.append(f"- {name(arm)}: " + "; ".join(parts) + ".")
        out.append("\n".join(lines))
    return "\n\n".join(out)


def ends(rows, value: str) -> tuple[float, float]:
    """A statistic in the first and in the last stage that has the gate."""
    by_stage = rows.groupby("stage")[value].mean()
    return by_stage.iloc[0], by_stage.iloc[-1]


def says_channels(rows) -> str:
    first, last = ends(rows, "selectivity")
    return (f"its channel gates average {number(rows['mean'].mean())} and move by "
            f"{number(rows.spread.mean(), 3)} from image to image, {percent(rows.input.mean())} of "
            f"their variance; the class explains {percent(first)} of that in the first stage and "
            f"{percent(last)} in the last")


def says_places(rows) -> str:
    text = (f"its gates over places average {number(rows['mean'].mean())} and move by "
            f"{number(rows.spread.mean(), 3)}, {percent(rows.input.mean())} of their variance; "
            f"they correlate with Grad-CAM by {number(rows.cam_pearson.mean())} on average over "
            f"sites ({number(rows.cam_pearson.min())} to {number(rows.cam_pearson.max())})")
    lift = rows.mask_lift.mean()
    return text if math.isnan(lift) else text + (
        f", and are {number(lift)} times as open on the object as on the whole image")


SAYS = {"channels": says_channels, "places": says_places}


def loss(rows) -> tuple[float, float]:
    """Mean accuracy lost over seeds, and half the width of its 95 % interval, NaN for few seeds.
    All seeds lose on the same N images, so what other images would give is added: at most
    1.96 √(changed / N), as each image adds −1, 0 or 1 and 0 where its class does not change."""
    if len(rows) < MIN_SEEDS:
        return rows.lost.mean(), math.nan
    images = 196 * math.sqrt(rows.changed.mean() / rows.images.mean())
    return rows.lost.mean(), math.hypot(t_half_width(rows.lost.std(ddof=1), len(rows)), images)


def worth(mean: float, half: float, margin: float) -> str:
    """What the accuracy lost with the mean in place of the gates says."""
    if math.isnan(half):
        return "too few seeds to say what that is worth"
    if mean + half <= margin:
        return f"so for accuracy, to within {margin:g}, its gates might as well be constants"
    if mean - half > 0:
        return "so this trained network relies on what its gates see in the image"
    return "undecided"


def swap_answer(df) -> str:
    """The points of accuracy that each arm loses when its gates stop following the image."""
    table = swap_table(df)
    if not len(table):
        return nothing(df, "interventions on gates")
    out = []
    for where, cell in by_cell(table):
        margin = margin_of(cell.profile.iloc[0], cell.dataset.iloc[0])
        lines = [f"**{where}** (profile `{cell.profile.iloc[0]}`), points of accuracy lost on "
                 f"{int(cell.images.max()):,} test images [95 % interval over seeds and images]:"]
        for arm, mine in cell.groupby("arm", sort=False):
            lost = {mode: loss(rows) for mode, rows in mine[mine.scope == "all"].groupby("mode")}
            said = {mode: interval(m, m - h, m + h) for mode, (m, h) in lost.items()}
            stages = mine[mine["mode"].eq("mean") & mine.scope.ne("all")].groupby("scope").lost
            worst = stages.mean().sort_values(ascending=False)
            text = (f"- {name(arm)} ({plural(mine.seed.nunique(), 'seed')}): "
                    f"{said['mean']} with every gate at its mean over images, "
                    f"{said['other']} with another image's, "
                    f"{said['one']} without any: {worth(*lost['mean'], margin)}")
            if len(worst) > 1 and lost["mean"][0] - lost["mean"][1] > 0:
                most = "As much" if worst.iloc[0] >= lost["mean"][0] else "Most of it"
                text += (f". {most} goes with {worst.index[0].replace('stage', 'stage ')}: "
                         f"{worst.iloc[0]:.1f} alone")
            lines.append(text + ".")
        lines.append("\nA network that relies on its gates need not be better for having them. "
                     "Without any gate the scale of every branch changes, too, so part of that "
                     "loss is not attention's.")
        out.append("\n".join(lines))
    return "\n\n".join(out)


def against_none(table, metric: str, unit: str = "") -> str:
    """Each arm's mean of a metric and its paired difference to ``none``, for one cell."""
    parts = []
    for arm in table.arm.unique():
        values = table[table.arm == arm][metric]
        text = f"{name(arm)} {number(values.mean(), 1)}{unit}"
        if arm != "none" and "none" in set(table.arm):
            d = paired(table, arm, metric=metric)
            text += f" ({interval(d.mean, d.low, d.high)})"
        parts.append(text)
    return "; ".join(parts)


NUISANCES = ("clutter=2", "distractors=6", "swap_background")       # not causes of the label
PROBES = {"clutter=2": "twice the clutter", "distractors=6": "six distractors for two",
          "swap_background": "another background", "texture_only": "the object's texture on a "
          "half-disc, no class's shape", "shape_only": "the object without its texture",
          "remove_object": "no object at all"}


def costs(cell, probes) -> list[str]:
    """For each probe the points of accuracy that each arm of one cell loses, against ``none``."""
    plain = cell[cell.probe == "split=test"].set_index(["arm", "seed"]).accuracy
    out = []
    for probe in probes:
        rows = cell[cell.probe == probe]
        before = plain.reindex(pd.MultiIndex.from_frame(rows[["arm", "seed"]])).to_numpy()
        out.append(f"- {PROBES[probe]}: "
                   + against_none(rows.assign(cost=before - rows.accuracy), "cost"))
    return out


def probes_answer(df) -> str:
    """What each change of the images costs each arm, beside what it costs ``none``."""
    table = probe_table(df)
    if not len(table):
        return nothing(df, "probes")
    out = []
    for where, cell in by_cell(table):
        def right(probe, cell=cell):
            return against_none(cell[cell.probe == probe], "accuracy")
        out.append("\n".join([
            f"**{where}** (profile `{cell.profile.iloc[0]}`). In brackets: paired difference to "
            f"none, with its 95 % interval from {MIN_SEEDS} seeds on. Accuracy on the images as "
            f"they are, %: {right('split=test')}. Points lost to what is no cause of the "
            "label:", "", *costs(cell, NUISANCES), "",
            f"Accuracy left, %, where a cause is gone (guessing: {CHANCE}):", "",
            *(f"- {PROBES[p]}: {right(p)}" for p in PROBES if p not in NUISANCES)]))
    return "\n\n".join(out)


SHORTCUT = {"aligned": "accuracy where the background agrees with the class",
            "worst": "in the worse of the two groups, background agreeing or not",
            "style_flip": "given the background's class, where that is wrong",
            "object": "Grad-CAM's mass on the object, on the usual images",
            "background": "on neither object nor distractors"}


def shortcut_answer(df) -> str:
    """Who leans on a background that gives the class away: worst-group accuracy, and the mass of
    the maps, for every arm against ``none``."""
    table = group_table(df)
    table = table[table.dataset.str.contains("rho")] if len(table) else table
    if not len(table):
        return nothing(df, "probes of the spurious background")
    out, probes = [], probe_table(df)
    for where, cell in by_cell(table):
        floor = cell.groupby("arm").worst.mean()
        lines = [f"**{where}** (profile `{cell.profile.iloc[0]}`), in %; in brackets: paired "
                 f"difference to none, with its 95 % interval from {MIN_SEEDS} seeds on."]
        lines += [f"- {says}: {against_none(cell, key)}" for key, says in SHORTCUT.items()]
        if (floor < CHANCE + 5).all():
            lines.append(f"\nIn the worst group all are within 5 points of guessing ({CHANCE} %): "
                         "every arm has learned the background, and at such a floor blocks cannot "
                         "be told apart.")
        same = probes[(probes[CELL] == cell[CELL].iloc[0]).all(axis=1)]
        lines += ["\nWhat these networks read their answer from, in points lost on the usual "
                  "images with:\n",
                  *costs(same, ("swap_background", "texture_only", "shape_only"))]
        out.append("\n".join(lines[:1] + [""] + lines[1:]))
    return "\n\n".join(out)

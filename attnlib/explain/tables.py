"""What was seen of a study's runs, as tables: maps, gates, interventions and probes, from what
`camstore` stored. They need neither weights nor data.

Every function takes a `collect` table. A table without rows means that nothing is stored:
``python -m attnlib focus STUDY`` measures it where a run's weights are. Of Grad-CAM, ``stage`` 0 is
the finest stored one, 1 the next. Intervals are 95 % ones, NaN below MIN_SEEDS seeds."""
import math

import pandas as pd

from ..analysis.inference import t_half_width
from ..analysis.stats import CELL, MIN_SEEDS, arms_table, paired
from ..analysis.words import name, place
from ..experiments.studies import margin_of
from . import gatestats, interventions, probes, sharper
from .cam import MAPS
from .camstore import stored_maps
from .focus import finite_mean

WHO = ["id", "profile", *CELL, "attention", "arm", "seed", "status", "accuracy"]
# Measures of a map by their names in the stored arrays, and how they are called.
MEASURES = {
    "entropy": "entropy", "gini": "Gini", "lift": "mass on the object ÷ its area",
    "pointing": "pointing game", "best_iou": "best IoU", "average_precision": "PR-AUC",
    "on_distractors": "mass on distractors", "on_background": "mass on the background",
    "road": "ROAD", "drop": "average drop", "increase": "increase"}
SHORTCUT = {"aligned": "accuracy, background agrees, %", "worst": "accuracy, worse group, %",
            "style_flip": "told the background's class, %", "object": "mass on the object, %",
            "background": "mass on neither object nor distractors, %"}


# --- One row a run, or a run and what was measured ---


def unpacked(df, rows_of) -> pd.DataFrame:
    """``rows_of(arrays)`` of every finished run that was looked at, beside who it is."""
    who = {row["id"]: row for row in df[WHO].to_dict("records")}
    rows = [who[run_id] | row for run_id, arrays in stored_maps(df).items()
            for row in rows_of(arrays)]
    return pd.DataFrame(rows, columns=None if rows else WHO)


def run_table(df, stage: int = 0) -> pd.DataFrame:
    """One row a run: its test accuracy in %, and every measure of Grad-CAM, its mean over the
    images that it classifies correctly."""
    return unpacked(df, lambda arrays: [means(arrays, stage).loc["grad_cam"].to_dict()])


def means(arrays: dict, stage: int = 0) -> pd.DataFrame:
    """Method × measure: the stored means of one run."""
    ending = f"_{arrays['stages'][stage]}"
    found = {m: arrays[f"mean_{m}{ending}"] for m in MEASURES if f"mean_{m}{ending}" in arrays}
    return pd.DataFrame(found, [method.decode() for method in arrays["methods"]], dtype=float)


def gate_statistics(df) -> pd.DataFrame:
    """One row per run, site and reading (channels or places): see `gatestats.measure_gates`."""
    return unpacked(df, gatestats.gate_rows)


def swap_table(df) -> pd.DataFrame:
    """One row per run, scope and mode: ``lost``, in points, ``changed``, ``images``."""
    return unpacked(df, interventions.swap_rows)


def probe_table(df) -> pd.DataFrame:
    """One row per run and probe: `probes.COLUMNS`, and ``lift``, the object's share of the map's
    mass over its share of the image."""
    return unpacked(df, probes.probe_rows)


def group_table(df) -> pd.DataFrame:
    """One row per run on ShapeTex with a spurious background: see `probes.group_row`."""
    return unpacked(df[df.dataset.str.contains("rho")], probes.group_row)


# --- One row a block: what the notebooks show ---


def by_arm(table: pd.DataFrame):
    """(place and block as columns, the cell's rows, the arm's) for every cell and arm."""
    for _, cell in table.groupby(CELL, sort=False):
        for arm, rows in cell.groupby("arm", sort=False):
            yield {"place": place(cell.iloc[0]), "block": name(arm)}, cell, rows


def map_measures(df) -> pd.DataFrame:
    """Every measure of Grad-CAM, mean over seeds, a row a cell and block."""
    table = run_table(df)
    shown = {"accuracy": "accuracy, %"} | {m: text for m, text in MEASURES.items() if m in table}
    rows = [who | {"seeds": len(runs)} | {text: runs[m].mean() for m, text in shown.items()}
            for who, _, runs in by_arm(table)]
    return pd.DataFrame(rows).round(3)


def map_methods(df) -> pd.DataFrame:
    """Every map of `cam.MAPS` of the plain network by every measure, at the finest stage, means
    over the seeds of the first cell that has any."""
    table = unpacked(df[df.arm == "none"], lambda arrays: [{"means": means(arrays)}])
    if not len(table):
        return pd.DataFrame()
    found = table[(table[CELL] == table[CELL].iloc[0]).all(axis=1)].means
    out = (sum(found) / len(found)).dropna(how="all").rename(columns=MEASURES)
    return out.rename({key: row.says for key, row in MAPS.items()}).round(3)


def map_verdicts(df) -> pd.DataFrame:
    """Whether each block looks better than ``none``, see `sharper`, and what it does to accuracy,
    in points."""
    found, rows = sharper.comparisons(df), []
    accuracy = arms_table(df).set_index([*CELL, "arm"]) if found else None
    for c in found:
        own = accuracy.loc[(*c.cell, c.arm)]
        rows.append(place_and_block(c) | {"seeds": c.seeds, "image pairs": c.images}
                    | c.verdicts | {"looks better": c.verdict, "accuracy gain": own.gain,
                                    "low": own.low, "high": own.high})
    return pd.DataFrame(rows).round(2)


def map_gains(df) -> pd.DataFrame:
    """What each block gains over none, in per cent of its value, positive where it is better:
    sharpness, localisation, and ROAD as a share of the network's confidence."""
    return pd.DataFrame([place_and_block(c) | gain_columns(c, m)
                         for c in sharper.comparisons(df) for m in c.gain]).round(3)


def map_claim(df, arm: str = "hybrid") -> pd.DataFrame:
    """The audited claim, "23 % sharper" than SE or CBAM alone, in both readings of sharpness:
    ``holds`` where the interval lies above half of it, ``not reproduced`` where below."""
    rows = [place_and_block(c) | {"against": name(base)} | gain_columns(c, m)
            | {"claim": sharper.sharpness_verdict(c.gain[m])} for base in ("se", "cbam")
            for c in sharper.comparisons(df[df.arm.isin((arm, base))], base=base)
            for m in sharper.SHARPNESS if m in c.gain]
    return pd.DataFrame(rows).round(3)


def place_and_block(c: sharper.Comparison) -> dict:
    return {"place": place(pd.Series(dict(zip(CELL, c.cell, strict=True)))), "block": name(c.arm)}


def gain_columns(c: sharper.Comparison, metric: str) -> dict:
    gain = c.gain[metric]
    return {"measure": MEASURES[metric], "base": c.base[metric], "gain, %": gain.value,
            "low": gain.low, "high": gain.high}


def map_beyond(df, metric: str = "lift") -> pd.DataFrame:
    """What a point of accuracy, and each block at equal accuracy, adds to a measure, by
    `sharper.beyond_accuracy`; ``overlap``: whether any run of the block is as accurate as one of
    none. Where none is, the regression extrapolates and decides nothing."""
    table, rows = run_table(df), []
    if metric not in table:
        return pd.DataFrame()
    for _, cell in table.groupby(CELL, sort=False):
        low, high = (cell.groupby("arm").accuracy.agg(f) for f in ("min", "max"))
        for key, e in sharper.beyond_accuracy(cell, metric).items():
            of, overlap = "a point of accuracy", ""
            if key != "accuracy":
                meets = low[key] <= high["none"] and low["none"] <= high[key]
                of, overlap = name(key), "yes" if meets else "no"
            rows.append({"place": place(cell.iloc[0]), "runs": len(cell), "adds": e.value,
                         "low": e.low, "high": e.high, "of": of, "overlap": overlap})
    return pd.DataFrame(rows).round(3)


def map_sanity(df) -> pd.DataFrame:
    """Spearman's correlation with the trained network's map after its classifier, and after all
    its layers, were set back, by method; means over runs."""
    def rows_of(arrays):
        return [{"map": MAPS[key.removeprefix("sanity_")].says,
                 "new classifier": finite_mean(alike[0]), "everything new": finite_mean(alike[-1])}
                for key, alike in arrays.items() if key.startswith("sanity_")]
    table = unpacked(df, rows_of)
    if not len(table):
        return pd.DataFrame()
    groups = table.groupby("map", sort=False)
    return groups[["new classifier", "everything new"]].mean().round(2).assign(
        runs=groups.id.nunique())


def gate_summary(df) -> pd.DataFrame:
    """The statistics of every block's gates by stage, means over sites and seeds."""
    shown = {"mean": "mean", "spread": "sd between images", "spread_units": "sd between units",
             "input": "input", "saturated": "saturated", "selectivity": "class",
             "cam_pearson": "r with Grad-CAM", "mask_lift": "open on the object"}
    rows = [who | {"gate over": kind, "stage": stage.removeprefix("stage")}
            | {text: part[key].mean() for key, text in shown.items()}
            for who, _, mine in by_arm(gate_statistics(df))
            for (kind, stage), part in mine.groupby(["kind", "stage"], sort=False)]
    return pd.DataFrame(rows).dropna(axis=1, how="all").round(3)


def swap_summary(df) -> pd.DataFrame:
    """Points of accuracy that each block loses with all its gates replaced, by what; and of the
    means in their place, whether the trained network relies on its gates: ``yes`` where it loses
    for certain, ``no`` where no more than the margin of equivalence."""
    rows, table = [], swap_table(df)
    for who, cell, mine in by_arm(table) if len(table) else ():
        margin = margin_of(cell.profile.iloc[0], cell.dataset.iloc[0])
        for mode, part in mine[mine.scope == "all"].groupby("mode", sort=False):
            mean, half = lost_with(part)
            rows.append(who | {
                "in its place": interventions.SAYS[mode], "seeds": len(part), "points lost": mean,
                "low": mean - half, "high": mean + half,
                "relies on it": relies(mean, half, margin) if mode == "mean" else ""})
    return pd.DataFrame(rows).round(2)


def lost_with(rows) -> tuple[float, float]:
    """Mean accuracy lost over seeds, and half the width of its 95 % interval, NaN for few seeds.
    All seeds lose on the same N images, so what other images would give is added: at most
    1.96 √(changed / N), as each image adds −1, 0 or 1 and 0 where its class does not change."""
    if len(rows) < MIN_SEEDS:
        return rows.lost.mean(), math.nan
    images = 196 * math.sqrt(rows.changed.mean() / rows.images.mean())
    return rows.lost.mean(), math.hypot(t_half_width(rows.lost.std(ddof=1), len(rows)), images)


def relies(mean: float, half: float, margin: float) -> str:
    if math.isnan(half):
        return "too few seeds"
    if mean + half <= margin:
        return "no"
    return "yes" if mean - half > 0 else "undecided"


def against_none(cell, own, metric: str) -> dict:
    """An arm's mean of a metric, and its paired difference to ``none`` of the same cell."""
    out, arm = {"mean": own[metric].mean()}, own.arm.iloc[0]
    if arm != "none" and "none" in set(cell.arm):
        d = paired(cell, arm, metric=metric)
        out |= {"over none": d.mean, "low": d.low, "high": d.high}
    return out


def probe_summary(df) -> pd.DataFrame:
    """What each change of the images costs each block in points of accuracy, beside what it costs
    ``none``; first the accuracy on the images as they are, in %."""
    table = probe_table(df)
    if not len(table):
        return pd.DataFrame()
    usual = table.accuracy.where(table.probe == "split=test").groupby(table.id).transform("first")
    table["accuracy"] = table.accuracy.where(table.probe == "split=test", usual - table.accuracy)
    rows = [{"place": who["place"], "images": text, "block": who["block"]}
            | against_none(here, own, "accuracy") for _, cell in table.groupby(CELL, sort=False)
            for probe, text in probes.SAYS.items()
            for who, here, own in by_arm(cell[cell.probe == probe])]
    return pd.DataFrame(rows).round(2)


def shortcut_summary(df) -> pd.DataFrame:
    """Who leans on a background that gives the class away: accuracy of the groups of test images,
    and where the maps' mass lies, for every block beside ``none``."""
    rows = [{"place": who["place"], "what": text, "block": who["block"]}
            | against_none(cell, own, key)
            for key, text in SHORTCUT.items() for who, cell, own in by_arm(group_table(df))]
    return pd.DataFrame(rows).round(2)

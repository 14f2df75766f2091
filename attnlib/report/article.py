"""The tables of the report, 07_report, from the records of the studies' chosen profiles."""
import math

import numpy as np
import pandas as pd

from ..analysis import claims, stats
from ..analysis.curves import order_interval
from ..analysis.inference import Effect
from ..bench.speed import largest_first, rows
from ..experiments.planning import study
from ..experiments.reading import collect
from ..experiments.studies import CONTROLS, STUDIES, margin_of
from ..explain.sharper import comparisons
from ..training import store

# --- The claims, with what other rooms measure ---


def focus_effect(claim, cell) -> Effect:
    """How much sharper the arm's maps are than the base's, or how much more of them lies on the
    object, in % of the base's: `sharper.comparisons`, at the finest stored stage."""
    for found in comparisons(cell[cell.arm.isin((claim.arm, claim.base))], base=claim.base):
        if claim.metric in found.gain:
            return found.gain[claim.metric]
    return stats.NOTHING


def at_its_size(claim) -> tuple[Effect, str]:
    """Time an image as a percentage of the base's, and what it was measured on: at the size at
    which the claim is made, from the stored benchmark, a GPU's where there is one. The median over
    the repeats, each a call of every arm in turn, with its order-statistic interval."""
    for body in largest_first():
        for row in rows(body, "claimed"):
            times = row["repeats"]
            if {claim.arm, claim.base} <= set(times):
                over = 100 * (np.divide(times[claim.arm], times[claim.base]) - 1)
                c, h, w = row["shape"]
                return (Effect(float(np.median(over)), *order_interval(over), len(over)),
                        f"{h}×{w}×{c} pixels, batch {row['batch']}, width {row['width']:g}, on "
                        f"{body['env']['device']}, in turns at a load of {row['load'][0]:g}")
    return stats.NOTHING, ""


MEASURED = claims.MEASURED | {"entropy": focus_effect, "lift": focus_effect, "latency": at_its_size}


def full_audit(profile: str | None = None, *projects: str):
    """`claims.audit` with everything that is measured here."""
    return claims.audit(profile, *projects, measures=MEASURED)


# --- The studies ---


def compared_runs(profile: str):
    """A profile's runs of every study that compares, each run once; without variants of too few
    seeds for an interval, where others have one."""
    parts = [collect(key, profile) for key, study in STUDIES.items() if study.compare]
    runs = pd.concat(parts, ignore_index=True).drop_duplicates("id", ignore_index=True)
    tried = runs.assign(tried=runs.status != "missing").groupby([*stats.CELL, "arm"]).tried
    seeds = tried.transform("sum")
    return runs[seeds >= min(seeds.max(), stats.MIN_SEEDS)].reset_index(drop=True)


def over_table(study_name: str, profile: str, bases=(*CONTROLS, "none wider")):
    """One row a block and base of a study: the block over that base, by default a control, with an
    interval that holds for all blocks of a network against one base together."""
    df = collect(study_name, profile)
    done, out = df[df.status == "done"], []
    blocks = stats.cell_runs(done).query("arm != 'none'")       # plain is no block of the family
    for _, cell in blocks.groupby(stats.CELL, sort=False):
        for base in bases:
            out += [difference(cell, arm, base, effect)
                    for arm, effect in stats.compared(cell, base=base).items()
                    if arm in set(done.arm) - {*bases} and not math.isnan(effect.mean)]
    return pd.DataFrame(out)


def open_table(profile: str):
    """One row a block whose gates start open: its difference to the same block whose gates start
    half open, by the study ``hybrid``."""
    df, out = collect("hybrid", profile), []
    for _, cell in stats.all_seeds(df[df.status == "done"]).groupby(stats.CELL, sort=False):
        for arm in cell.arm.unique():
            base, two = arm.partition("(")[0], cell[cell.arm.isin((arm, arm.partition("(")[0]))]
            if "gate_init=open" in arm and base in set(two.arm):
                out.append(difference(cell, arm, base, stats.compared(two, base=base)[arm]))
    return pd.DataFrame(out)


def difference(cell, arm: str, base: str, effect: Effect) -> dict:
    """A row: what ``arm`` has over ``base`` in a cell, and in training accuracy."""
    first, fitted = cell.iloc[0], cell.groupby("arm").train_accuracy.mean()
    return {key: first[key] for key in (*stats.CELL, "profile")} | {
        "arm": arm, "over": base, "n": effect.n, "difference": effect.mean, "low": effect.low,
        "high": effect.high, "train": fitted[arm] - fitted[base],
        "verdict": stats.verdict(effect, margin_of(first.profile))}


# --- Limits and provenance ---


def tuning_table():
    """Validation accuracy of the headline's variants at each rate that study ``rates`` tried."""
    df = collect("rates", "real")
    df = df.assign(rate=[f"at rate {run.how.lr:g}, %" for run in study("rates", "real")])
    return df[df.status == "done"].pivot(index="arm", columns="rate",
                                         values="val_accuracy").reset_index()


def provenance(df):
    """Hardware, versions, seeds, compute and splits of the finished runs of a table, and what
    became of the others."""
    found = [store.read_record(row.profile, row.id)
             for row in df[df.status == "done"].itertuples()]
    if not found:
        return pd.DataFrame()
    (r, pairs), plain = stats.pairing(df), ((df.arm == "none") & (df.status == "done")).sum()
    chance = df.accuracy < df.dataset.map(lambda dataset: 1.5 if dataset == "cifar100" else 15.0)
    rows = {"finished runs": [len(found)],
            "runs that diverged, failed, stayed near chance": [" / ".join(map(str, (
                (df.status == "diverged").sum(), (df.status == "failed").sum(), chance.sum())))],
            "correlation of two runs of one seed": [
                f"{r:.2f}, of {pairs} pairs with {plain} plain runs"],
            "hours of training": [round(sum(r["seconds"] for r in found) / 3600, 1)],
            "seeds": {r["run"].get("seed", 0) for r in found},
            "commit": {(r["env"].get("commit") or "unknown")[:7] for r in found}}
    for key in ("device", "precision", "threads", "torch", "python", "os"):
        rows[key] = {r["env"][key] for r in found}
    for r in found:
        key = f"train / validation / test images, {r['resolved']['dataset']}"
        sizes = r["resolved"].get("n_train"), r["resolved"].get("n_val"), r["test"]["n"]
        rows.setdefault(key, set()).add(" / ".join("all" if n is None else f"{n:,}" for n in sizes))
    return pd.DataFrame([{"what": what, "of the records": ", ".join(map(str, sorted(values)))}
                         for what, values in rows.items()])

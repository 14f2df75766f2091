"""The words and tables of the report, 07_report: each computed from the records of the studies'
chosen profiles; what is missing is a sentence."""
import math
from dataclasses import replace
from pathlib import Path
from statistics import median

from .. import files
from ..analysis import claims
from ..analysis.certainty import scatter
from ..analysis.inference import seeds_needed
from ..analysis.stats import (
    CELL,
    MIN_SEEDS,
    STILL_RISING,
    all_seeds,
    arms_table,
    behind,
    cell_runs,
    compared,
    tested_gains,
    verdict,
)
from ..analysis.words import (
    all_runs,
    counted_verdicts,
    empty_slots,
    interval,
    items,
    name,
    outcome,
    place,
    plural,
    provenance,
)
from ..bench.speed import steps
from ..experiments.planning import estimate_seconds, finished, resolve_profile, study
from ..experiments.reading import collect
from ..experiments.studies import PROFILES, STUDIES, margin_of
from ..training import store
from ..training.run import Run

ADVICE = {
    "better": "use it where its cost fits",
    "equivalent": "no reason to: it gains nothing here",
    "worse": "not here",
}
# they cost as much as a block and look at nothing, or at another image
CONTROLS = ("layerscale", "shuffled", "frozen", "none wider")
CALLED = {"none": "the plain network", "none wider": "a wider one"}
WITHOUT_SKIPS = ("alexnet", "squeezenet", "vgg16")


def abstract(chosen: dict[str, str], audit) -> str:
    """The report in a paragraph: what was trained, what the blocks gained, what became of the
    claims (`claims.audit`), which block to use."""
    df = all_runs(chosen)
    done = df[df.status == "done"]
    profile = chosen["hybrid"]
    if not len(done):
        return (f"No run of profile `{profile}` has finished yet, so there is nothing to report. "
                + claims.headline(audit))
    where = ", ".join(place(cell.iloc[0]) for _, cell in done.groupby(CELL, sort=False))
    tested = tested_gains(df)
    gains = counted_verdicts(tested) if len(tested) else "none has enough seeds yet"
    text = (f"Does attention help small-image CNNs? {plural(len(done), 'network')} were trained "
            f"(profile `{profile}`: {PROFILES[profile].says}): {where}. Each block is compared "
            f"with the plain network of the same cell. Of {plural(len(tested), 'tested gain')}: "
            f"{gains}. ")
    if len(tested):
        best = tested.loc[tested.gain.idxmax()]
        worst = tested.loc[tested.gain.idxmin()]
        text += (f"They reach from {interval(worst.gain, worst.low, worst.high)} points "
                 f"({name(worst.arm)}, {place(worst)}, {outcome(worst)}) to "
                 f"{interval(best.gain, best.low, best.high)} ({name(best.arm)}, {place(best)}, "
                 f"{outcome(best)}). ")
    return f"{text}{open_words(chosen['controls'])} **{claims.headline(audit)}** {advice(df)}"


def advice(df) -> str:
    """Which block to use, in a few sentences, from the verdicts on its gains: for the networks that
    had learned what they could."""
    tested = tested_gains(df)
    if not len(tested):
        return (f"No block has {MIN_SEEDS} finished seeds yet, so none can be recommended: use the "
                "plain network.")
    settled = tested[(tested.rise <= STILL_RISING) & (tested.family == "blocks")]
    sure, waits = settled[settled.verdict == "better"], unsettled(tested)
    if not len(settled):
        return waits
    if not len(sure):
        return ("No block shows a gain: use the plain network, and spend the effort on its recipe. "
                + waits).strip()
    return ("Recommended, where its cost fits: " + "; ".join(
        f"{name(r.arm)} ({interval(r.gain, r.low, r.high)} points, {outcome(r)}, {place(r)})"
        for r in sure.sort_values("gain", ascending=False).itertuples()) + f". {waits}").strip()


def unsettled(tested) -> str:
    """A sentence on the cells of `tested_gains` whose plain network still learns, or says nothing
    of its validation: no advice follows from them; "" if none does."""
    where = [place(r) + ("" if math.isnan(r.rise) else f" ({r.rise:+.1f} points)")
             for r in tested[~(tested.rise <= STILL_RISING)].drop_duplicates(CELL).itertuples()]
    return (f"No advice follows from {', '.join(where)}: the plain network's validation accuracy "
            f"still rose by more than {STILL_RISING:g} points over the last two epochs."
            ) if where else ""


def advice_table(df) -> str:
    """Markdown: each block's gain and cost, and what follows for somebody who has to choose, where
    the plain network had learned what it could."""
    import pandas as pd
    table, measured, rows = arms_table(df), steps(), []
    tested = table[table.gain.notna()] if len(table) else table
    if not len(tested):
        return "No block has a finished run beside the plain network yet."
    runs = all_seeds(df)
    runs = runs[runs.status == "done"]
    settled = tested[(tested.rise <= STILL_RISING) & (tested.family == "blocks")]
    for r in settled.itertuples():
        cell = runs[(runs[CELL] == [r.dataset, r.backbone, r.recipe]).all(axis=1)]
        mine, plain = (cell[cell.arm == arm] for arm in (r.arm, "none"))
        step = measured.get((r.backbone, plain.width.iloc[0], r.arm))
        says = "not at this length: it had not fitted as far" if behind(r) else \
            ADVICE.get(r.verdict)
        if r.verdict == "undecided":
            arms = int((settled[CELL] == [r.dataset, r.backbone, r.recipe]).all(axis=1).sum())
            need = seeds_needed(r.sd_diff, r.margin, arms)
            says = (f"unknown: about {need:,} seeds would show a gain of the margin"
                    if need > r.n else "unknown: a gain of the margin would probably show")
        rows.append({
            "where": place(r), "block": name(r.arm),
            "gain, points": interval(r.gain, r.low, r.high),
            "training": interval(r.train, math.nan, math.nan),
            "parameters": f"{100 * (mine.params.iloc[0] / plain.params.iloc[0] - 1):+.1f} %",
            "MACs": f"{100 * (mine.macs.iloc[0] / plain.macs.iloc[0] - 1):+.1f} %",
            "training step, in the bench": f"× {step:.2f}" if step else "–",
            "advice": says or "too few seeds to say"})
    text = pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True) if rows else ""
    return "\n\n".join(filter(None, (text.replace("-0.0 %", "0.0 %"), unsettled(tested))))


def and_smaller(profile: str) -> list[str]:
    """A profile, and those that stand in for it; none do for ``smoke``."""
    return list(dict.fromkeys((profile, *(("real", "pilot", "small") if profile != "smoke"
                                          else ()))))


def with_runs(key: str, profile: str, enough) -> tuple[str, object]:
    """(profile, finished runs) of a study: from the profile asked for, or, where those are not
    ``enough``, from a smaller one that has enough; the asked one's if none has."""
    tables = {p: df[df.status == "done"] for p in and_smaller(profile)
              if len(df := collect(key, p))}
    found = next((p for p, done in tables.items() if enough(done)), profile)
    return found, tables.get(found, collect(key, profile).iloc[:0])


def recipe_words(profile: str) -> str:
    """`recipewords.recipe_answer` of the study ``recipe``, from a profile that has its runs."""
    from ..analysis.recipewords import recipe_answer
    profile, done = with_runs("recipe", profile, lambda d: d.recipe.nunique() > 1)
    return recipe_answer(profile, done)


def gates_of(attention: str) -> int:
    """How many gates a block multiplies its input by, one after another."""
    import torch

    from ..blocks import BLOCKS
    with torch.device("meta"):
        block = BLOCKS[attention].make(64)
    return sum(hasattr(m, "gate") and not any(hasattr(child, "gate") for child in m.children())
               for m in block.modules())


def gate_table(blocks=("se", "cbam", "hybrid")) -> str:
    """Markdown: 2^−k, what is left of a signal that passes k gates that start half open: of a
    residual block's branch, and of all that networks without skips pass on."""
    import pandas as pd
    rows = []
    for block in blocks:
        k = gates_of(block)
        rows.append({"block": name(block), "gates in a row": str(k),
                     "left of a residual block's branch": power(k)}
                    | {f"left at the end of {name(b)}": power(k * sites(b)) for b in WITHOUT_SKIPS})
    return pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True)


def sites(backbone: str) -> int:
    """In how many places a block stands whose place is ``block``."""
    return sum("block" in slot.placements for slot in empty_slots(backbone))


def power(k: int) -> str:
    """2 to the −k, as text."""
    return "2" + f"-{k}".translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def open_words(profile: str) -> str:
    """What opening the gates at the start changes, by the study ``controls``; "" without runs."""
    profile, done = with_runs("controls", profile, lambda d: d.arm.str.contains("=open").any())
    parts = []
    for _, cell in all_seeds(done).groupby(CELL, sort=False):
        for arm in (a for a in cell.arm.unique() if "gate_init=open" in a):
            base = arm.partition("(")[0]
            both = cell[cell.arm.isin((arm, base)) & (cell.status == "done")]
            d = compared(both, base=base)[arm]
            if not math.isnan(d.mean):
                margin = margin_of(profile, cell.dataset.iloc[0])
                fitted = both.groupby("arm").train_accuracy.mean()
                parts.append(f"gates that start open change {name(base)} in "
                             f"{place(cell.iloc[0])} by {interval(d.mean, d.low, d.high)} points "
                             f"over {plural(d.n, 'seed')}, {verdict(d, margin)} (training "
                             f"{interval(fitted[arm] - fitted[base], math.nan, math.nan)})")
    return (f"Blocks start with their gates half open; by the study `controls` (profile "
            f"`{profile}`), {'; '.join(parts)}.") if parts else ""


def controls_table(profile: str) -> str:
    """Markdown: every block against every control of the study ``controls``; intervals hold for all
    blocks of a network against one control together."""
    import pandas as pd
    profile, done = with_runs("controls", profile, lambda d: d.arm.isin(CONTROLS).any())
    rows, shown = [], set(done.arm)
    for _, cell in cell_runs(done).groupby(CELL, sort=False):
        over = {control: compared(cell, base=control) for control in ("none", *CONTROLS)}
        margin = margin_of(profile, cell.dataset.iloc[0])
        for arm in (a for a in cell.arm.unique() if a in shown and a not in over):
            row = {"where": place(cell.iloc[0]), "profile": profile, "block": name(arm)}
            for control, found in over.items():
                d = found[arm]
                row[f"over {CALLED.get(control, name(control))}"] = "–" if math.isnan(d.mean) \
                    else f"{interval(d.mean, d.low, d.high)}, {verdict(d, margin)}"
            rows.append(row)
    if not rows:
        return f"The study `controls` has no finished runs in profile `{profile}` yet."
    found = pd.DataFrame(rows)
    found = found.loc[:, [not (found[c] == "–").all() for c in found]]
    cells = found.filter(like="over ").to_numpy().ravel()
    tested = [cell for cell in cells if cell != "–" and "too few" not in cell]
    counts = {word: sum(cell.endswith(f", {word}") for cell in tested)
              for word in ("better", "worse", "equivalent", "undecided")}
    return (found.to_markdown(index=False, disable_numparse=True)
            + f"\n\nOf {plural(len(tested), 'comparison')} with an interval: "
            + ", ".join(f"{n} {word}" for word, n in counts.items() if n) + ".")


def why_words(df) -> str:
    """Seed noise against the gains that people hope for, a sentence a cell."""
    lines = [f"{where}: the sd of a difference of two runs is {sd:.2f} points, so one pair of runs "
             f"shows a gain of {2 * sd:.1f} or a loss of as much now and then with no effect at "
             f"all; {seeds_needed(sd, margin, arms)} seeds an arm see a gain of {margin:g}."
             for where, sd, arms, _, margin in scatter(df)]
    return items(lines) or "Too few finished runs to know the noise of a difference."


def remaining(df) -> str:
    """Markdown: what of ``full`` has no record yet, and what a run of the plain network takes: on
    the device that the given records come from, by its own measured speed, and by a guess on a
    large GPU."""
    import pandas as pd
    factor, device = speed_of(df)
    there, rows = finished("full"), []
    for key in STUDIES:
        runs = study(key, "full")
        todo = [r for r in runs if r.id not in there]
        plain = {replace(r, attention="none", placement=None, seed=0) for r in todo}
        if runs:
            rows.append({
                "study": f"`{key}`", "runs missing": f"{len(todo)} of {len(runs)}",
                f"a run on {device}": spread([factor * estimate_seconds(r, "cpu") for r in plain]),
                "a run on one large GPU (a guess)": spread([estimate_seconds(r, "cuda")
                                                            for r in plain])})
    return pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True)


def spread(seconds: list[float]) -> str:
    """``33 to 47 h``, ``2 min``; a dash for nothing."""
    if not seconds:
        return "–"
    size, unit = (3600, "h") if max(seconds) >= 7200 else (60, "min")
    low, high = (f"{max(1, s / size):.0f}" for s in (min(seconds), max(seconds)))
    return f"{low} {unit}" if low == high else f"{low} to {high} {unit}"


def speed_of(df) -> tuple[float, str]:
    """The median factor by which the runs of a table took longer than `estimate_seconds` says for a
    CPU, and the devices they ran on; 1 without any."""
    factors, devices = [], set()
    for r in df[df.status == "done"].itertuples():
        record = store.read_record(store.record_path(r.profile, r.id))
        factors.append(record["seconds"] / estimate_seconds(Run(**record["run"]), "cpu"))
        devices.add(record["env"]["device"])
    return (median(factors), ", ".join(sorted(devices))) if factors else (1.0, "two CPU cores")


def reproducibility(df) -> str:
    """Hardware, versions, seeds, compute, splits, and what the test split was used for."""
    done = df[df.status == "done"]
    sizes, commits = {}, set()
    for r in done.itertuples():
        record = store.read_record(store.record_path(r.profile, r.id))
        own = record["resolved"] if "resolved" in record else record["run"]
        sizes.setdefault(r.dataset, (own.get("n_train"), own.get("n_val"),
                                     record["test"].get("n")))
        commits.add((record["env"].get("commit") or "unknown")[:7])
    if not sizes:
        return "No finished runs."
    splits = "; ".join(f"{name(d)} {' / '.join('all' if n is None else f'{n:,}' for n in three)}"
                       for d, three in sizes.items())
    return (f"{provenance(df)} Code: {plural(len(commits), 'commit')} "
            f"({', '.join(sorted(commits))}). Images for training / validation / test, the same "
            f"for every seed: {splits}. The test split was scored once a run, with the last "
            "epoch's weights, and no choice was made by it; the runs of the study `selection` also "
            "recorded its curve, for the section on selection alone.")


def selection_words(profile: str) -> str:
    """`selection.reading` of the study ``selection`` in every profile that has its runs, the one
    asked for first: each recipe has a schedule of its own, and the bias goes with that."""
    from ..analysis import selection
    tables = {p: collect("selection", p) for p in and_smaller(profile)}
    return "\n\n".join(f"Profile `{p}`.\n\n{selection.reading(df)}" for p, df in tables.items()
                       if (df.status == "done").any()) or \
        "No run of the study `selection` has finished yet."


def write_csv(path: Path) -> None:
    """What every table here is made from, for other programs: `arms_table` of each profile's own
    studies, one row an arm, in six digits."""
    import pandas as pd
    chosen = {key: resolve_profile("best", key) for key in STUDIES}
    parts = []
    for profile in dict.fromkeys(chosen.values()):
        runs = [collect(key, p) for key, p in chosen.items()
                if p == profile and STUDIES[key].compare]
        df = pd.concat(runs).drop_duplicates("id", ignore_index=True)
        parts.append(arms_table(df).assign(profile=profile))
    text = pd.concat(parts)[lambda d: d.n > 0].to_csv(
        index=False, lineterminator="\n", float_format="%.6g")
    files.write_atomic(path, text.encode())


def failures(chosen: dict[str, str]) -> str:
    """Runs that diverged, failed or stayed near chance, and the blocks that made networks worse."""
    import pandas as pd
    df = pd.concat([collect(key, p) for key, p in chosen.items()]).drop_duplicates(
        ["profile", "id"])
    lines = [f"{plural(int((df.status == s).sum()), 'run')} {s}" for s in ("diverged", "failed")]
    done = df[df.status == "done"]
    chance = done[done.accuracy < done.dataset.map(lambda d: 1.5 if d == "cifar100" else 15.0)]
    low = "; ".join(f"{name(arm)} in {name(net)}" for (net, arm), _ in
                    chance.groupby(["backbone", "arm"], sort=False))
    lines.append(f"{len(chance)} of {plural(len(done), 'finished run')} stayed near chance"
                 + (f" ({low})" if low else ""))
    table = arms_table(all_runs(chosen))
    worse = table[table.verdict == "worse"]
    text = "; ".join(lines) + "."
    if len(worse):
        text += " Worse than the plain network: " + "; ".join(
            f"{name(r.arm)} {interval(r.gain, r.low, r.high)} points ({place(r)}), {outcome(r)}"
            for r in worse.itertuples()) + "."
    return text

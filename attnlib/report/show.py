"""Tables and sentences for readers. Every number comes from a table of `analysis`."""
import math

import pandas as pd
from IPython.display import Markdown

from ..analysis import claims, stats
from ..analysis.inference import MOST_SEEDS
from ..analysis.words import interval, name, place, plural
from ..bench import speed
from ..experiments.grid import may_train
from ..experiments.planning import READ_FIRST, asked, best_profile, plan_table, resolve_profile
from ..experiments.reading import collect
from ..experiments.studies import PROFILES, STUDIES, margin_of

NO_BREAK = "\N{NO-BREAK SPACE}"        # keeps an interval on one line of a narrow column
NOTHING = "Nothing of this kind among the finished runs."
TITLES = {
    "arm": "block", "n": "seeds", "gain": "gain over the plain network, points [95 % interval]",
    "mean": "mean [95 % interval]", "train": "training, points", "score": "test accuracy, %",
    "plain": "plain network, %", "val_nll": "validation loss", "params": "parameters",
    "alone": "Welch's interval, alone", "tau": "τ, points", "i2": "I², %",
    "buys": "buys, points [95 % interval]", "difference": "difference, points [95 % interval]",
    "moves": "moves a gain by at most, points", "surplus": "confidence − accuracy, points",
    "nll": "test loss, nats", "nll_gain": "− plain network's [95 % interval], nats",
    "ece": "calibration error, points", "ece_gain": "− plain network's [95 % interval], points"}
FORMATS = {                 # of the others: ``+.2f`` with an interval, else ``.1f``, whole ones 0f
    "nll": ".3f", "nll_gain": "+.3f", "moves": ".2f", "sd": ".2f", "i2": ".0f", "score": ".2f",
    "sd of a difference": ".2f", "by chance": ".2f", "p": ".3f", "accuracy": ".1f",
    "sd over seeds": ".2f", "lowest": ".2f", "highest": ".2f", "tau": ".2f", "train": "+.2f",
    "surplus": "+.1f", "plain": ".2f", "loss": ".3f", "val_nll": ".3f"}
NAMED = ("arm", "base", "dataset", "backbone", "over")      # columns of names
ADVICE = {"better": "better: use it where its cost fits",
          "equivalent": "equivalent: no gain that matters",
          "worse": "worse: not here (†: had not fitted as far)",
          "undecided": "undecided: cannot be told yet"}
SHORT = ("se", "cbam", "hybrid", "eca", "cbam(gate_init=open)", "hybrid(gate_init=open)")


def status_line(study_name: str, profile: str) -> str:
    """What a notebook prints before a study: profile, records found and missing, minutes."""
    used, told = resolve_profile(profile, study_name), best_profile(study_name, READ_FIRST[1:])
    runs, missing, minutes = plan_table(study_name, used)[["runs", "missing", "minutes"]].sum()
    cost = f"about {minutes / 60:.0f} h" if minutes > 120 else f"about {minutes} min"
    cost += " to train on this machine"
    if not may_train():
        cost = "training is off (ATTNLIB_TRAIN=0)"
    elif asked(profile) == "auto":
        cost += f": profile = \"{used}\" would, with what the other studies here lack"
    return (f"profile: {used} ({PROFILES[used].says})\n"
            f"study {study_name}: {runs - missing} records found, {missing} missing"
            + f"; {cost}" * bool(missing) + f"\nthe text describes the results of {told}; those "
            f"below are of {used}" * (used != told))


# --- Tables ---


def table(df) -> Markdown:
    """A table of `analysis` as a notebook shows it (see `as_markdown`)."""
    return Markdown(as_markdown(df))


def as_markdown(df) -> str:
    """A DataFrame as a Markdown table: the cell in one column, blocks by their names, a value with
    its ``low`` and ``high`` as one interval, with its ``sd`` as mean ± sd; NaN is a dash."""
    if not len(df):
        return NOTHING
    out, columns = {}, list(df.columns)
    if set(stats.CELL) <= set(columns):
        out["where"] = [place(row) for row in df.itertuples()]
        columns = [column for column in columns if column not in stats.CELL]
    while columns:
        column, ends = columns.pop(0), []
        while columns and columns[0].rpartition("_")[2] in ("low", "high", "sd"):
            ends.append(columns.pop(0))
        out[TITLES.get(column, column.replace("_", " "))] = column_cells(df, column, ends)
    return pd.DataFrame(out).to_markdown(index=False, disable_numparse=True)


def column_cells(df, column: str, ends: list[str]) -> list[str]:
    """A column's values as text, with their ``ends``: low and high, or the sd."""
    values = df[column]
    if pd.api.types.is_bool_dtype(values):
        return ["✓" if value else "" for value in values]
    if not pd.api.types.is_numeric_dtype(values):
        return [name(value) if column in NAMED else str(value).replace("|", "·")
                for value in values]
    whole = (values.dropna() % 1 == 0).all()
    form = FORMATS.get(column, "+.2f" if len(ends) == 2 else ".0f" if whole else ".1f")
    mean = form.replace("+", "+z")                         # no −0.00; of an end it says the side
    texts = [[formatted(value, form if c in ends else mean) for value in df[c]]
             for c in (column, *ends)]
    if column.startswith("seeds"):
        return [f"over {MOST_SEEDS:,}" if value >= MOST_SEEDS else text
                for value, text in zip(values, texts[0], strict=True)]
    joined = {0: "{}", 1: "{} ± {}", 2: "{} [{}, {}]"}[len(ends)]
    return [joined.format(*row).replace(" ± –", "").replace(" [–, –]", "").replace(" ", NO_BREAK)
            for row in zip(*texts, strict=True)]


def formatted(value: float, form: str) -> str:
    if math.isnan(value):
        return "–"
    return f"{value:{form.replace('.', ',.')}}".replace("-", "−").replace("inf", "∞")


def accuracy_table(df):
    """The columns of `arms_table` that a reader looks for first, with parameters and MACs."""
    arms = stats.arms_table(df).rename(columns={"mean": "score"})
    costs = df.groupby([*stats.CELL, "arm"], sort=False)[["params", "macs"]].first().astype(float)
    arms = arms.join(costs, on=[*stats.CELL, "arm"])
    return arms[[*stats.CELL, "arm", "n", "score", "sd", "gain", "low", "high", "train"]].assign(
        verdict=[verdict_of(row) for row in arms.itertuples()], parameters=arms.params,
        million_MACs=arms.macs / 1e6)


# --- Sentences ---


def gain_of(row) -> str:
    return f"{name(row.arm)} {interval(row.gain, row.low, row.high)}"


def placed(row) -> str:
    """A row of `arms_table` in words: ``CBAM +0.3 [−0.2, +0.8] points over 8 seeds, equivalent
    (training −0.1), ResNet-18 on CIFAR-10``."""
    train = "" if math.isnan(row.train) else f" (training {interval(row.train)})"
    return (f"{gain_of(row)} points over {plural(row.n, 'seed')}, {verdict_of(row)}{train}, "
            f"{place(row)}")


def verdict_of(row) -> str:
    """The verdict, and whether a block that is worse is as far behind in training, or the plain
    network still learns."""
    if stats.behind(row):
        return f"{row.verdict} (had not fitted as far)"
    learns = row.verdict in ("better", "worse") and row.rise > stats.STILL_RISING
    return f"{row.verdict} (still learning)" if learns else row.verdict


def answer(study_name: str, profile: str = "auto") -> Markdown:
    """The study's question and what its records say."""
    df = collect(study_name, resolve_profile(profile, study_name))
    return Markdown(f"**{STUDIES[study_name].question}**\n\n{gains_markdown(df)}")


def gains_markdown(df) -> str:
    """`accuracy_table` of what has finished runs, and how to read its columns; 02_baselines says
    what the verdicts mean."""
    arms = accuracy_table(df)
    if arms.low.isna().all():
        return as_markdown(arms[arms.n > 0])
    shown = arms[arms.n >= stats.MIN_SEEDS]
    few = "; ".join(f"{'; '.join(rows.arm.map(name))} in {place(rows.iloc[0])}" for _, rows in
                    stats.each_cell(arms[(arms.n > 0) & (arms.n < stats.MIN_SEEDS)]))
    left = f" Left out, with fewer than {stats.MIN_SEEDS} seeds: {few}." if few else ""
    return (f"{as_markdown(shown)}\n\nIntervals at 95 % for all blocks of a network and data set "
            "together (Dunnett's); *equivalent*: within "
            f"±{margin_of(df.profile.iloc[0]):g} points. ±: standard deviation over seeds. "
            "*Training*: the gain in training accuracy; a block that is worse and as far behind "
            "there *had not fitted as far*; where the plain network was *still learning*, a block "
            f"may only be faster or slower.{left}")


def short_answer(profile: str | None = None) -> str:
    """For each data set whether any block is better; for each network what each block gains, by its
    verdict; what a short training shows; and what blocks cost."""
    profile = profile or best_profile("headline")
    runs = stats.cell_runs(collect("headline", profile))
    arms = stats.arms_table(runs)
    tested = arms[arms.low.notna() & (arms.family == "blocks")]
    if not len(tested):
        return f"No block has {stats.MIN_SEEDS} finished seeds in profile `{profile}` yet."
    out = []
    for dataset, rows in tested.groupby("dataset", sort=False):
        better = "; ".join(map(placed, rows[rows.verdict == "better"].itertuples()))
        where = " and ".join(rows.backbone.map(name).unique())
        out.append(f"- **On {name(dataset)} "
                   f"{better or 'no block is shown to raise the test accuracy'}** ({where}): "
                   f"mean gains from {interval(rows.gain.min())} to {interval(rows.gain.max())} "
                   f"points, no interval beyond {interval(rows.high.max())}.")
    early = stats.arms_table(collect("schedule", "pilot")).dropna(subset="low")
    if len(early) and profile != "pilot":
        low = early.arm[early.gain.idxmin()].partition("(")[0]
        both = early[early.arm.isin((low, f"{low}(gate_init=open)"))]
        out.append("- After a shorter training on fewer images, which ranks blocks by how fast "
                   f"they start (`pilot`, {place(early.iloc[0])}): "
                   f"{', '.join(map(gain_of, both.itertuples()))} points.")
    return "\n".join([*out, *costs_of(runs), "", as_markdown(advice(arms))])


def costs_of(runs) -> list[str]:
    """How much longer blocks make a step of some runs' networks, by the stored benchmark."""
    steps, out = speed.steps(), []
    for key, _ in runs.groupby(["backbone", "width"], sort=False):
        if found := {arm: steps[*key, arm] for arm in SHORT if (*key, arm) in steps}:
            times = ", ".join(f"{step:.2f} with {name(arm)}" for arm, step in found.items())
            out.append(f"{times} ({name(key[0])})")
    if not out:
        return []
    env = speed.largest_first()[0]["env"]
    return [f"- **A training step** takes, in steps of the plain network, {'; '.join(out)}; by "
            f"`make bench` on {env['device']} in {env['precision']}."]


# --- The claims ---


def claims_table(audit):
    """`claims.audit`, claim by claim, as text: its words, the number claimed, the number measured
    with its interval, on what, and the verdict."""
    rows = []
    for r in audit.itertuples():
        unit = "repeats" if r.metric == "latency" else "seeds"
        needs = "more" if math.isnan(r.needs) else f"about {r.needs:,.0f}"
        why = f": needs {needs} {unit}" if r.verdict == "undecided" else ""
        digits = {"points": 2, "%": 1, "parameters": 0}.get(r.unit, 3)
        measured = f"{r.estimate:,.{digits}f}" if r.kind == "count" else \
            interval(r.estimate, r.low, r.high, digits)
        judged = r.setting == claims.OURS and r.verdict in ("holds", "not reproduced")
        rows.append({
            "": r.number, "claim": f"“{r.quote}” ({r.source}, {r.read}): {r.says}"
                                   + ", metric ours" * r.ours,
            "claimed": "" if math.isnan(r.claimed) else formatted(r.claimed, ".10g") + f" {r.unit}",
            "measured [95 % interval]": "" if math.isnan(r.estimate) else (
                measured + " %" * (r.unit == "%")),
            "seeds": f"{r.n} repeats" if r.metric == "latency" and r.n else r.n or "",
            "measured on": ", ".join(filter(None, (
                f"`{r.profile}`" * bool(r.profile), r.recipe, r.scope))),
            "verdict": r.verdict + (": the training is too short" if r.short else why)
            + " under our protocol" * judged,
            "in the project's own files": r.note})
    return pd.DataFrame(rows)


def claims_headline(audit) -> str:
    """How many claims hold, the same in every clone."""
    count = claims.tally(audit)
    words = ", ".join(f"{count[word].sum()} {said} ({count.loc[claims.SAME, word]} in their own "
                      "setting)" for word, said in (
                          ("holds", "hold"), ("not reproduced", "are not reproduced"),
                          ("undecided", "are undecided")))
    every, untested = count.values.sum(), count.loc[claims.UNTESTED, claims.UNTESTED]
    return (f"Of {every} testable claims of four public projects {every - untested} were tested: "
            f"{words}.")


def advice(arms):
    """One row a network with tested blocks (rows of `arms_table`): its accuracy without a block,
    and each block's gain in the column of its verdict. Where it still learns, its validation
    accuracy rising by more than STILL_RISING points over the last two epochs, all are undecided."""
    rows = []
    for key, cell in stats.each_cell(arms):
        tested = cell[cell.low.notna() & (cell.family == "blocks")]
        for plain in cell[cell.arm == "none"].itertuples() if len(tested) else ():
            learns = not plain.rise <= stats.STILL_RISING      # NaN: not known to have learned
            rows.append(key | {"plain": plain.mean, "plain_sd": plain.sd, "its_seeds": plain.n} | {
                words: "; ".join(
                    f"{name(row.arm)}{NO_BREAK}{interval(row.gain)}{'†' * stats.behind(row)}"
                    for row in tested.itertuples()
                    if verdict == ("undecided" if learns else row.verdict)) or "–"
                for verdict, words in ADVICE.items()})
    return pd.DataFrame(rows)

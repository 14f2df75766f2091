"""Tables and sentences for readers. Every number comes from a table of `analysis`."""
import math
from itertools import takewhile

import pandas as pd
from IPython.display import Markdown

from ..analysis import claims
from ..analysis.inference import MOST_SEEDS
from ..analysis.stats import CELL, MIN_SEEDS, STILL_RISING, arms_table, behind, in_cell
from ..analysis.words import interval, items, name, place, plural, plus_minus
from ..experiments.planning import resolve_profile, status_line  # noqa: F401, for notebooks
from ..experiments.reading import collect
from ..experiments.studies import PROFILES, STUDIES, margin_of

NOTHING = "Nothing of this kind among the finished runs."
TITLES = {"arm": "block", "n": "seeds", "gain": "gain over none, points [95 % interval]",
          "mean": "mean [95 % interval]", "train": "training, points", "macs": "MACs",
          "welch": "Welch's verdict, alone", "tau": "τ, points", "i2": "I², %",
          "ratio": "epochs ÷ none's [95 % interval]", "level": "validation accuracy, 0..1",
          "buys": "buys, points [95 % interval]",
          "difference": "difference, points [95 % interval]",
          "moves": "moves a gain by at most, points",
          "accuracy": "test accuracy, % [95 % interval]", "nll": "test loss, nats",
          "nll_gain": "− none's [95 % interval], nats", "ece": "calibration error, points",
          "ece_gain": "− none's [95 % interval], points",
          "surplus": "confidence − accuracy, points",
          "score": "test accuracy, %", "seconds": "training, s", "label": "class"}
DIGITS = {"nll": 3, "nll_gain": 3, "ratio": 2, "buys": 2, "moves": 2, "sd": 2,
          "sd of a difference": 2, "sampling error": 2, "level": 2, "i2": 0,
          "correlation": 2, "seconds": 0}
SHORT = ("se", "cbam", "hybrid", "cbam(gate_init=open)", "hybrid(gate_init=open)")
UNSIGNED, SIGNED = ("ratio", "accuracy"), ("train", "surplus")


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
    parts = [c for c in columns if c.rpartition("_")[2] in ("low", "high", "sd")]
    if set(CELL) <= set(columns):
        out["where"] = [place(row) for row in df.itertuples()]
    for k, column in enumerate(columns):
        if column in parts or "where" in out and column in CELL:
            continue
        after = list(takewhile(parts.__contains__, columns[k + 1:]))
        digits = DIGITS.get(column, 1)
        if len(after) == 2:
            cells = [interval(*values, digits).replace("inf", "∞")
                     for values in df[[column, *after]].to_numpy()]
            if column in UNSIGNED:
                cells = [cell.replace("+", "") for cell in cells]
        elif after:
            cells = [plus_minus(*values, digits) for values in df[[column, *after]].to_numpy()]
        else:
            cells = written(df[column], column, digits)
        out[TITLES.get(column, column.replace("_", " "))] = cells
    return pd.DataFrame(out).to_markdown(index=False, disable_numparse=True)


def written(values, column: str, digits: int) -> list[str]:
    """A column's values as text."""
    if column in ("arm", "base", "dataset", "backbone", "over") and \
            not pd.api.types.is_numeric_dtype(values):
        return [name(value) for value in values]
    if pd.api.types.is_bool_dtype(values):
        return ["✓" if value else "" for value in values]
    if not pd.api.types.is_numeric_dtype(values):
        return [str(value).replace("|", "·") for value in values]
    if column == "p":
        return ["–" if math.isnan(p) else "<0.001" if p < 0.001 else f"{p:.3f}" for p in values]
    if column in SIGNED:
        return [interval(value, math.nan, math.nan, digits) for value in values]
    digits = 0 if (values.dropna() % 1 == 0).all() else digits
    return ["–" if math.isnan(value) else f"over {MOST_SEEDS:,}"
            if column.startswith("seeds") and value >= MOST_SEEDS
            else f"{value:,.{digits}f}".replace("-", "−").replace("inf", "∞") for value in values]


def accuracy_table(df):
    """The columns of `arms_table` that a reader looks for first, with parameters and MACs."""
    arms = arms_table(df).rename(columns={"mean": "score"})
    costs = df.groupby([*CELL, "arm"], sort=False)[["params", "macs"]].first()
    arms = arms.join(costs, on=[*CELL, "arm"])
    arms["verdict"] = [verdict_of(row) for row in arms.itertuples()]
    return arms[[*CELL, "arm", "n", "score", "sd", "gain", "low", "high", "train", "verdict"]
                ].assign(parameters=arms.params.astype(float), M_MACs=arms.macs.astype(float) / 1e6)


# --- Sentences ---


def sentence(row) -> str:
    """A row of `arms_table` in words: ``CBAM +0.3 [−0.2, +0.8] points over 8 seeds, equivalent
    (training −0.1)``. A block that is worse by no more than it is behind in training has not fitted
    as far."""
    ahead = interval(row.train, math.nan, math.nan)
    train = "" if math.isnan(row.train) else f" (training {ahead})"
    return (f"{name(row.arm)} {interval(row.gain, row.low, row.high)} points over "
            f"{plural(row.n, 'seed')}, {verdict_of(row)}{train}")


def verdict_of(row) -> str:
    """The verdict, and of a worse one that is behind in training as well that it is."""
    return row.verdict + (" (had not fitted as far)" if behind(row) else "")


def counted_verdicts(tested) -> str:
    """``11 worse (7 of them had not fitted as far), 2 equivalent``, of rows of `arms_table`."""
    late = sum(behind(row) for row in tested.itertuples())
    note = f" ({late} of them had not fitted as far)" if late else ""
    return ", ".join(f"{n} {word}{note if word == 'worse' else ''}"
                     for word, n in tested.verdict.value_counts().items())


def answer(study_name: str, profile: str = "auto") -> Markdown:
    """The study's question and what its records say."""
    df = collect(study_name, resolve_profile(profile, study_name))
    return Markdown(f"**{STUDIES[study_name].question}**\n\n{gains_in_words(df)}")


def short_answer(profile: str | None = None) -> str:
    """A few sentences for each data set: whether any block is better, the blocks of the network
    with the most seeds, with open gates too, and what ``pilot`` would have said."""
    profile = profile or resolve_profile("best", "headline")
    arms = arms_table(collect("headline", profile))
    tested = arms[arms.low.notna() & (arms.family == "blocks")]
    if not len(tested):
        return f"No block has {MIN_SEEDS} finished seeds in profile `{profile}` yet."
    early = arms_table(collect("hybrid", "pilot")) if profile != "pilot" else tested.iloc[:0]
    out = []
    for dataset, rows in tested.groupby("dataset", sort=False):
        better = [f"{sentence(row)} in {name(row.backbone)}"
                  for row in rows[rows.verdict == "better"].itertuples()]
        claim = "; ".join(better) or "no block is shown to raise the test accuracy"
        cells = arms[(arms.arm == "none") & (arms.dataset == dataset) & (arms.n > 0)]
        networks = " and ".join(f"{name(r.backbone)} ({r.n} seeds, {plus_minus(r.mean, r.sd)} %)"
                                for r in cells.itertuples())
        most = rows[rows.backbone == rows.loc[rows.n.idxmax(), "backbone"]].set_index("arm")
        gains = [f"{name(arm)} {interval(r.gain, r.low, r.high)}, {verdict_of(r)}"
                 for arm, r in most.loc[[a for a in SHORT if a in most.index]].iterrows()]
        text = (f"**On {name(dataset)}: {claim}.** The plain networks are {networks}. In "
                f"{name(most.backbone.iloc[0])}, in points: {'; '.join(gains)}.")
        before = early[(early.dataset == dataset) & early.low.notna()]
        if len(before):
            worst = before.loc[before.gain.idxmin()]
            text += (" A shorter training on fewer images, with another recipe (`pilot`), said "
                     f"{name(worst.arm)} {interval(worst.gain, worst.low, worst.high)}.")
        out.append(text)
    return "\n\n".join(out)


def gains_in_words(df) -> str:
    """One sentence per cell: each arm's gain, its interval and what follows; then the rule."""
    if not len(df):
        return "This study is not in this profile."
    out, arms = [], arms_table(df)
    for _, cell in arms.groupby(CELL, sort=False):
        first = cell.iloc[0]
        text, base = f"In {place(first)} (profile `{first.profile}`)", cell[cell.arm == "none"]
        if not base.n.sum():
            out.append(f"{text}: no finished runs yet.")
            continue
        base, others = base.iloc[0], cell[cell.arm != "none"]
        plain = in_cell(df, first)[lambda runs: runs.arm == "none"]
        sizes = plain[["width", "epochs"]].drop_duplicates()
        size = "" if len(sizes) != 1 else (f" at width {sizes.width.iloc[0]:g} after "
                                           f"{plural(int(sizes.epochs.iloc[0]), 'epoch')}")
        parts = [f"{text}, `none` reaches {plus_minus(base['mean'], base.sd)} % over "
                 f"{plural(base.n, 'seed')}{size}",
                 *(sentence(row) for row in others[others.n > 0].itertuples())]
        if (others.n == 0).any():
            parts.append("no finished runs yet: "
                         + ", ".join(name(arm) for arm in others.arm[others.n == 0]))
        out.append("; ".join(parts) + ".")
    return items(out) + ("\n\n" + rule(df) if arms.low.notna().any() else "")


def rule(df) -> str:
    """How the verdicts on the runs of a table are found."""
    margin = margin_of(df.profile.iloc[0], df.dataset.iloc[0])
    return ("Intervals at 95 % for all blocks of a network and data set together (Dunnett). "
            f"Verdicts, the first that fits: *equivalent* = the interval lies within ±{margin:g} "
            "points; *better* or *worse* = it excludes zero (*had not fitted as far*: its training "
            "accuracy is behind by as much); *undecided* = neither, which is not "
            "\"no effect\": it is too few seeds or too much noise.")


# --- The claims ---


def claims_table(audit):
    """`claims.audit`, claim by claim, as text: its words, the number claimed, the number measured
    with its interval, on what, and the verdict."""
    needs = ["more" if math.isnan(n) else f"about {n:,.0f}" for n in audit.needs]
    unit = ["repeats" if metric == "latency" else "seeds" for metric in audit.metric]
    audit = audit.assign(verdict=[f"{word}: needs {n} {u}" if word == "undecided" else word
                                  for word, n, u in zip(audit.verdict, needs, unit, strict=True)])
    rows = []
    for r in audit.itertuples():
        digits = {"points": 1, "%": 1}.get(r.unit, 3)
        measured = interval(r.estimate, r.low, r.high, digits) if r.kind != "count" else \
            f"{r.estimate:,.{0 if r.unit == 'parameters' else 3}f}"
        ours = ", metric ours" if r.ours else ""
        under = " under our protocol" if r.setting == claims.OURS and r.verdict in (
            "holds", "not reproduced") else ""
        rows.append({
            "": r.number, "claim": f"“{r.quote}” ({r.source}, {r.read}): {r.says}{ours}",
            "claimed": "" if math.isnan(r.claimed) else
            f"{r.claimed:,.10g} {r.unit}".replace("-", "−"),
            "measured [95 % interval]": "" if math.isnan(r.estimate) else measured,
            "seeds": r.n or "", "measured on": ", ".join(filter(None, (
                r.profile and f"`{r.profile}`", r.recipe, r.scope))),
            "verdict": r.verdict + under, "in the project's own files": r.note})
    return pd.DataFrame(rows)


def claims_headline(audit) -> str:
    """The audit in a few sentences, the same in every clone."""
    count = claims.tally(audit)
    same, ours = (f"{count.loc[setting, 'holds']} hold, {count.loc[setting, 'not reproduced']} are "
                  f"not reproduced, {count.loc[setting, 'undecided']} are undecided"
                  for setting in (claims.SAME, claims.OURS))
    tested = audit[audit.profile.isin(claims.COMMITTED)
                   & ~audit.difference.isin(("", "too few seeds"))]
    gains = ((tested.verdict == "holds") & tested.kind.isin(("gain", "order"))
             & ~(tested.claimed < 0)).sum()
    tested = tested.drop_duplicates(["dataset", "backbone", "recipe", "arm", "base"])
    words = ", ".join(f"{n} {word}" for word, n in tested.difference.value_counts().items())
    return (f"Of {count.values.sum()} testable claims in four public projects, in the project's "
            f"own setting {same}; under our protocol, which is another in size, schedule, "
            f"metric or machine, {ours}; {count.loc[claims.UNTESTED, claims.UNTESTED]} are not "
            f"tested here (run `make reproduce`). Of those that hold {gains} are of a gain in "
            f"accuracy. Of the {len(tested)} differences in accuracy that were tested against the "
            f"margin: {words or 'none yet'}.")


# --- The report in a paragraph ---


def abstract(df, audit) -> Markdown:
    """What was trained, what the blocks gained, what became of the claims (`claims.audit`), which
    block to use: from one `collect` table, of one profile."""
    arms = arms_table(df)
    cells = arms[(arms.arm == "none") & (arms.n > 0)]
    if not len(cells):
        return Markdown(f"{NOTHING} {claims_headline(audit)}")
    tested, profile = arms[arms.low.notna()], arms.profile.iloc[0]
    text = (f"Does attention help small-image CNNs? {plural(arms.n.sum(), 'network')} were trained "
            f"(profile `{profile}`: {PROFILES[profile].says}): "
            f"{', '.join(place(row) for row in cells.itertuples())}. Each block is compared with "
            f"the plain network of the same cell. Of {plural(len(tested), 'tested gain')}: "
            f"{counted_verdicts(tested) or 'none has enough seeds yet'}. ")
    if len(tested):
        ends = [tested.loc[tested.gain.idxmin()], tested.loc[tested.gain.idxmax()]]
        text += "They reach from " + " to ".join(
            f"{sentence(row)}, {place(row)}" for row in ends) + ". "
    return Markdown(f"{text}**{claims_headline(audit)}** {advice(arms)}")


def advice(arms) -> str:
    """Which block to use, from the verdicts on its gains (rows of `arms_table`): for the networks
    that had learned what they could; from a network that still learns no advice follows."""
    tested = arms[arms.low.notna()]
    if not len(tested):
        return (f"No block has {MIN_SEEDS} finished seeds yet, so none can be recommended: use the "
                "plain network.")
    late = tested[~(tested.rise <= STILL_RISING)].drop_duplicates(CELL)
    waits = (f" No advice follows from {', '.join(place(row) for row in late.itertuples())}: the "
             f"plain network's validation accuracy still rose by more than {STILL_RISING:g} points "
             "over the last two epochs.") if len(late) else ""
    settled = tested[(tested.rise <= STILL_RISING) & (tested.family == "blocks")]
    if not len(settled):
        return waits.strip()
    sure = settled[settled.verdict == "better"].sort_values("gain", ascending=False)
    if not len(sure):
        return ("No block shows a gain: use the plain network, and spend the effort on its recipe."
                + waits)
    return "Recommended, where its cost fits: " + "; ".join(
        f"{sentence(row)}, {place(row)}" for row in sure.itertuples()) + f".{waits}"

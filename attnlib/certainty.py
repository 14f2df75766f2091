"""The statistics of a table of runs in words and Markdown: how sure, how noisy, how many seeds."""
import math
from itertools import combinations

import numpy as np

from . import store
from .inference import (
    MOST_SEEDS,
    bca,
    hierarchical,
    mcnemar,
    seeds_for_equivalence,
    seeds_needed,
    smallest_p,
)
from .stats import CELL, MIN_SEEDS, arms_table, gaps, tested_gains
from .words import interval, items, name, place, plural

GAINS = (0.2, 0.5, 1.0, 2.0)        # points that `power_table` gives the number of seeds for


HOW_TO_READ = (
    "*BCa*: a bootstrap interval that follows skew, too short with few seeds. *Seeds and images*: "
    "both resampled, as if another test set had been drawn, too. *g*: the gain in standard "
    "deviations of a paired difference. *P(A > B)*: the share of seeds on which the block is "
    "higher, and Wilson's interval. *TOST*: p of \"it differs by the margin or more\"; small means "
    "equivalent.")


def cells_of(df) -> list:
    """(the cell's first row, its runs) for every data set, network and recipe of a table."""
    return [(cell.iloc[0], cell) for _, cell in df.groupby(CELL, sort=False)]


def answers(cell, arm: str) -> dict[int, np.ndarray]:
    """Seed -> bool [images], whether the finished runs of an arm were right on each test image,
    from the predictions stored beside the records; seeds without them are left out."""
    out = {}
    for r in cell[(cell.arm == arm) & (cell.status == "done")].itertuples():
        record = store.read_record(store.record_path(r.profile, r.id))
        found = record and store.read_arrays(r.profile, r.id, record["arrays"].get("predictions"))
        if found:
            out[r.seed] = found["prediction"] == found["label"]
    return out


def seeds_and_images(cell, arm: str, base: str = "none") -> tuple[float, float, float]:
    """`hierarchical` of an arm and ``none`` over the seeds that both have predictions of; NaN where
    fewer than three."""
    mine, others = answers(cell, arm), answers(cell, base)
    both = sorted(mine.keys() & others.keys())
    if len(both) < MIN_SEEDS:
        return math.nan, math.nan, math.nan
    return hierarchical([mine[s] for s in both], [others[s] for s in both])


def evidence_table(df, metric: str = "accuracy", digits: int = 1) -> str:
    """Markdown: one row an arm with finished pairs, and all that can be said about its paired
    difference to ``none``."""
    import pandas as pd
    tables = dict(list(df.groupby(CELL, sort=False)))
    rows = []
    for r in arms_table(df, metric).itertuples():
        if r.arm == "none" or not r.pairs:
            continue
        cell = tables[(r.dataset, r.backbone, r.recipe)]
        enough = r.pairs >= MIN_SEEDS
        low, high = bca(gaps(cell, r.arm, metric=metric)) if enough else (math.nan, math.nan)
        both = seeds_and_images(cell, r.arm) if metric == "accuracy" else (math.nan,) * 3
        rows.append({
            "where": place(r), "block": name(r.arm), "pairs": str(r.pairs),
            "gain [t, 95 %]": interval(r.gain, r.low, r.high, digits),
            "BCa": bracket(low, high, digits),
            "seeds and images": bracket(both[1], both[2], digits),
            "p, sign flips": p_value(r.p), "p, Holm": p_value(r.p_holm),
            "g": interval(r.g, math.nan, math.nan),
            "P(A > B)": share(r.prob_better, r.prob_low, r.prob_high),
            "p, TOST": p_value(r.tost_p), "verdict": r.reading})
    if not rows:
        return "No arm has a finished pair yet."
    return pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True)


def number(value: float, digits: int) -> str:
    return "–" if math.isnan(value) else f"{value:.{digits}f}".replace("-", "−")


def p_value(p: float) -> str:
    return "<0.001" if p < 0.001 else number(p, 3)


def bracket(low: float, high: float, digits: int) -> str:
    return "–" if math.isnan(low) else interval(0, low, high, digits).partition(" ")[2]


def share(value: float, low: float, high: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f} [{low:.2f}, {high:.2f}]"


def evidence_words(df) -> str:
    """How to read `evidence_table`, and what its seeds can reach at best."""
    tested = tested_gains(df)
    if not len(tested):
        return f"No arm has {MIN_SEEDS} finished pairs yet, so there is nothing to test."
    clear = tested[tested.verdict.isin(("better", "worse"))]
    kept = clear[clear.p_holm < 0.05]
    most = int(tested.pairs.max())
    floor = smallest_p(most)
    verb = "excludes" if len(clear) == 1 else "exclude"
    text = (f"Of {plural(len(tested), 'gain')} with {MIN_SEEDS} pairs or more, {len(clear)} {verb} "
            f"zero by the 95 % interval; {len(kept)} stay clear when all blocks of a cell "
            "are counted as one family (Holm). ")
    if floor > 0.05 / max(tested.groupby(CELL).size()):
        text += (f"The sign-flip test assumes least and is bounded by the number of seeds: with "
                 f"{most}, the most there are here, no p can be below {p_value(floor)}, and "
                 "Holm's factor comes on top. ")
    return text + HOW_TO_READ


def power_table(df) -> str:
    """Markdown: for each cell, the observed scatter of paired differences and how many seeds it
    takes to see a gain (80 % power, 5 % level) or to call none of it equivalent."""
    import pandas as pd
    rows = []
    for where, sd, arms, pairs, margin in scatter(df):
        rows.append({"where": where, "arms": str(arms), "most pairs": str(pairs),
                     "sd of a paired difference": number(sd, 2)}
                    | {f"seeds to see {g:g}": count(seeds_needed(sd, g)) for g in GAINS}
                    | {f"seeds to call equivalent (±{margin:g})":
                       count(seeds_for_equivalence(sd, margin))})
    if not rows:
        return f"No arm has {MIN_SEEDS} finished pairs yet: their scatter is not known."
    return pd.DataFrame(rows).fillna("").to_markdown(index=False, disable_numparse=True)


def count(n: int) -> str:
    return f"{n:,}" if n < MOST_SEEDS else f"over {MOST_SEEDS:,}"


def scatter(df) -> list[tuple]:
    """(where, sd of a paired difference: the root mean square over arms, arms, most pairs, margin)
    of every cell with an arm of three pairs."""
    from .studies import margin_of
    table, out = tested_gains(df), []
    for (dataset, *_), cell in table.groupby(CELL, sort=False) if len(table) else ():
        sd = math.sqrt((cell.sd_diff ** 2).mean())
        out.append((place(cell.iloc[0]), sd, len(cell), int(cell.pairs.max()),
                    margin_of(df.profile.iloc[0], dataset)))
    return out


def noise_words(df) -> str:
    """What seed noise is made of: the plain network's spread over seeds, what the test set's size
    alone gives, and how often two seeds of the *same* network differ by McNemar's test."""
    sentences = []
    for first, cell in cells_of(df):
        plain = cell[(cell.arm == "none") & (cell.status == "done")]
        right = answers(plain, "none")
        if len(plain) < 2 or len(right) < 2:
            continue
        images = len(next(iter(right.values())))
        mean, sd = plain.accuracy.mean() / 100, plain.accuracy.std(ddof=1)
        sampling = 100 * math.sqrt(mean * (1 - mean) / images)
        p = [mcnemar(a, b) for a, b in combinations(right.values(), 2)]
        differ = np.mean([(a != b).mean() for a, b in combinations(right.values(), 2)])
        called = sum(q < 0.05 for q in p)
        sentences.append(
            f"{place(first)}: seeds alone spread the plain network by {number(sd, 2)} points (sd, "
            f"n = {len(plain)}); {images:,} test images give any one network a sampling error of "
            f"{number(sampling, 2)}. Two seeds of the same network disagree on being right on "
            f"{100 * differ:.0f} % of the images, and McNemar's test calls {called} of "
            f"{plural(len(p), 'such pair')} different at 5 %.")
    return items(sentences, "McNemar's test compares two networks, not two methods.") \
        if sentences else "Too few finished runs with stored predictions to see noise."

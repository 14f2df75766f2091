"""The statistics of a table of runs in words and Markdown: how sure, how noisy, how many seeds."""
import math
from itertools import combinations

import numpy as np

from ..training import store
from .inference import MOST_SEEDS, mcnemar, random_effects, seeds_for_equivalence, seeds_needed
from .stats import CELL, MIN_SEEDS, all_seeds, arms_table, pairing, tested_gains
from .words import counted_verdicts, interval, items, name, place, plural

GAINS = (0.2, 0.5, 1.0, 2.0)        # points that `power_table` gives the number of seeds for


def cells_of(df) -> list:
    """(the cell's first row, its runs) for every data set, network and recipe of a table."""
    return [(cell.iloc[0], cell) for _, cell in all_seeds(df).groupby(CELL, sort=False)]


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


def evidence_table(df) -> str:
    """Markdown: one row an arm with finished runs: its gain over ``none`` by Dunnett's rule,
    Welch's interval as a check, and the difference in training accuracy."""
    import pandas as pd
    rows = []
    for r in arms_table(df).itertuples():
        if r.arm == "none" or math.isnan(r.gain):
            continue
        rows.append({
            "where": place(r), "block": name(r.arm), "family": r.family, "seeds": str(r.n),
            "gain, points [95 %, all of a family]": interval(r.gain, r.low, r.high),
            "p": p_value(r.p), "training": interval(r.train, math.nan, math.nan),
            "Welch, alone [95 %]": bracket(r.welch_low, r.welch_high), "verdict": r.verdict,
            "Welch's, where it differs": r.welch if r.welch != r.verdict else ""})
    if not rows:
        return "No arm has a finished run beside the plain network yet."
    return pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True)


def number(value: float, digits: int) -> str:
    return "–" if math.isnan(value) else f"{value:.{digits}f}".replace("-", "−")


def p_value(p: float) -> str:
    return "<0.001" if p < 0.001 else number(p, 3)


def bracket(low: float, high: float) -> str:
    return "–" if math.isnan(low) else interval(0, low, high).partition(" ")[2]


def evidence_words(df) -> str:
    """How many gains are clear, how many another test would call otherwise, and whether runs of one
    seed have noise in common."""
    tested = tested_gains(df)
    if not len(tested):
        return f"No arm has {MIN_SEEDS} finished seeds yet, so there is nothing to test."
    other = tested[tested.welch != tested.verdict]
    r, pairs, arms = pairing(df)
    return (f"Of {plural(len(tested), 'gain')} over {MIN_SEEDS} seeds or more: "
            f"{counted_verdicts(tested)}. Welch's interval, of one block at a time and without a "
            f"common variance, gives another verdict in {len(other)}. Runs of one seed correlate "
            f"by {interval(r, math.nan, math.nan, 2)} between an arm and the plain network "
            f"({plural(pairs, 'pair')} of {plural(arms, 'arm')}).")


# --- One block over all cells ---


def mean_gains(df):
    """One row an arm that was tested in two cells or more, blocks first: `random_effects` of its
    gains over all of them, points."""
    import pandas as pd
    table = arms_table(df)
    plain = table[table.arm == "none"].set_index(CELL).n
    rows = []
    tested = table[table.low.notna()].sort_values("family", kind="stable")
    for arm, own in tested.groupby("arm", sort=False):
        base = own[CELL].apply(lambda cell: plain[tuple(cell)], axis=1)
        errors = own.sd_diff / 2 ** 0.5 * (1 / own.n + 1 / base) ** 0.5
        if len(own) > 1 and (errors > 0).all():
            rows.append({"arm": arm, **random_effects(own.gain, errors)._asdict()})
    return pd.DataFrame(rows, columns=["arm", "mean", "low", "high", "tau", "i2", "cells"])


def mean_gains_table(df) -> str:
    """Markdown of `mean_gains`."""
    import pandas as pd
    rows = [{"block": name(r.arm), "cells": str(r.cells),
             "mean gain, points [95 %]": interval(r.mean, r.low, r.high),
             "τ, points": number(r.tau, 1), "I²": f"{r.i2:.0f} %"}
            for r in mean_gains(df).itertuples()]
    return pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True) if rows else \
        "No block has been tested in two cells yet."


# --- How many seeds ---


def seeds_table(df) -> str:
    """Markdown: for each undecided gain the seeds an arm with which its family's rule would show,
    four times in five, a gain as large as the observed one, and one as large as the margin."""
    import pandas as pd
    tested, rows = tested_gains(df), []
    for _, family in tested.groupby([*CELL, "family"], sort=False) if len(tested) else ():
        for r in family[family.verdict == "undecided"].itertuples():
            seen = seeds_needed(r.sd_diff, r.gain, len(family)) if r.gain else MOST_SEEDS
            rows.append({"where": place(r), "block": name(r.arm), "seeds": str(r.n),
                         "gain, points": interval(r.gain, r.low, r.high),
                         "seeds, if it is the observed gain": count(seen),
                         "seeds, if it is the margin": count(
                             seeds_needed(r.sd_diff, r.margin, len(family)))})
    return pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True) if rows else \
        "No gain is undecided."


def power_table(df) -> str:
    """Markdown: for each cell, the observed scatter of a difference of two runs and how many seeds
    an arm it takes to see a gain (80 % power, all blocks together at 5 %) or to call none of it
    equivalent."""
    import pandas as pd
    rows = []
    for where, sd, arms, seeds, margin in scatter(df):
        rows.append({"where": where, "blocks": str(arms), "most seeds": str(seeds),
                     "sd of a difference": number(sd, 2)}
                    | {f"seeds to see {g:g}": count(seeds_needed(sd, g, arms)) for g in GAINS}
                    | {f"seeds to call equivalent (±{margin:g})":
                       count(seeds_for_equivalence(sd, margin, arms))})
    if not rows:
        return f"No arm has {MIN_SEEDS} finished seeds yet: their scatter is not known."
    return pd.DataFrame(rows).fillna("").to_markdown(index=False, disable_numparse=True)


def count(n: int) -> str:
    return f"{n:,}" if n < MOST_SEEDS else f"over {MOST_SEEDS:,}"


def scatter(df) -> list[tuple]:
    """(where, sd of a difference of two runs, blocks, most seeds, margin) of every cell with a
    block of three seeds."""
    tested, out = tested_gains(df), []
    blocks = tested[tested.family == "blocks"] if len(tested) else tested
    for _, cell in blocks.groupby(CELL, sort=False) if len(blocks) else ():
        r = cell.iloc[0]
        out.append((place(r), r.sd_diff, len(cell), int(cell.n.max()), r.margin))
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

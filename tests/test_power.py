"""The tables of certainty, from records made for the purpose."""
import math
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from helpers import stored
from test_stats import frame

from attnlib.analysis import inference, power, stats
from attnlib.experiments.reading import table_of
from attnlib.training.run import Run


def test_welchs_other_interval_is_in_the_table():
    """A noisy arm widens the family's other intervals, and has too narrow a one itself."""
    rng = np.random.default_rng(0)
    df = frame(none=60 + rng.normal(0, 0.3, 4), se=62 + rng.normal(0, 0.3, 4),
               nab=[40.0, 45.0, 55.0, 60.0])
    row = stats.arms_table(df).set_index("arm").loc["se"]
    assert row.verdict == "undecided" and row.low < 0 < row.margin < row.welch_low


def test_mean_gains_are_over_cells():
    rng, cells = np.random.default_rng(2), []
    for k, net in enumerate(("resnet18", "vgg16", "alexnet")):
        base = rng.normal(60, 0.5, 6)
        own = frame(none=base, se=rng.normal(61 + k, 0.5, 4), **{"ca": base[:3]} if k == 0 else {})
        cells.append(own.assign(backbone=net, id=own.id + net))
    df = pd.concat(cells, ignore_index=True)
    rows, found = stats.arms_table(df), power.mean_gains(df).set_index("arm")
    se = rows[rows.arm == "se"]
    errors = se.sd_diff / 2 ** 0.5 * (1 / 4 + 1 / 6) ** 0.5
    assert list(found.index) == ["se"]
    assert found.loc["se"].to_list() == pytest.approx(
        list(inference.random_effects(se.gain, errors).values()))
    assert power.mean_gains(cells[0]).empty


def test_power_is_of_the_observed_scatter():
    rng = np.random.default_rng(3)
    df = frame(none=rng.normal(60, 1, 4), se=rng.normal(60.9, 1, 4), cbam=rng.normal(75, 1, 3))
    row, = power.power_table(df).to_dict("records")
    sd = stats.arms_table(df).set_index("arm").sd_diff["se"]
    equivalent = inference.seeds_needed(sd, 1.0, 2, inference.power_of_equivalence)
    assert row.items() >= {"blocks": 2, "most seeds": 4, "margin": 1.0, "sd of a difference": sd,
                           "seeds to see 0.5": inference.seeds_needed(sd, 0.5, 2),
                           "seeds to call equivalent": equivalent}.items()


def test_power_counts_every_block_whose_intervals_hold_together(monkeypatch):
    """Also those that another study has: the table shows one block, the family has two."""
    df = frame(none=[60.0, 61.0, 62.0], se=[61.0, 62.0, 63.5], cbam=[60.5, 61.0, 62.0])
    monkeypatch.setattr(stats, "collect", lambda **_: df)
    row, = power.power_table(df[df.arm != "cbam"]).to_dict("records")
    assert row["blocks"] == 2


def test_noise_compares_seeds_of_one_network():
    rng = np.random.default_rng(1)
    right = [rng.uniform(size=1000) < share for share in (0.5, 0.5, 0.7)]
    runs = [stored(Run("cifar10", seed=seed), r) for seed, r in enumerate(right)]
    df = table_of(runs, "pilot")
    row, = power.noise_table(df).to_dict("records")
    assert row["pairs"] == 3 and row["McNemar calls different"] == 2
    apart = [(a != b).mean() for a, b in combinations(right, 2)]
    assert row["differ on, %"] == pytest.approx(100 * np.mean(apart))
    assert row["by chance"] == pytest.approx(100 * math.sqrt(np.mean(apart) / 1000))
    assert row["sd of a difference"] == pytest.approx(2 ** 0.5 * df.accuracy.std(ddof=1))

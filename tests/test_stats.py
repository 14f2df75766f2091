"""Comparisons against closed forms and scipy."""
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from helpers import put_record
from scipy import stats as reference

from attnlib import collect
from attnlib.analysis import inference, stats
from attnlib.analysis.inference import Effect
from attnlib.experiments.planning import study
from attnlib.experiments.reading import table_of
from attnlib.training.run import Run


def frame(**arms) -> pd.DataFrame:
    """A `collect`-like table: one list of accuracies an arm, seeds 0, 1, …; all have fitted their
    training images alike, and the plain network has learned what it could."""
    rows = [{"id": f"{arm}-{seed}", "dataset": "cifar10", "backbone": "resnet18",
             "recipe": "strong", "attention": arm, "arm": arm, "seed": seed,
             "status": "missing" if math.isnan(value) else "done", "accuracy": value,
             "profile": "pilot", "width": 0.25, "epochs": 8, "params": 1000,
             "macs": 2_000_000, "setting": "made up", "train_accuracy": 90.0, "rise": 0.1}
            for arm, values in arms.items() for seed, value in enumerate(values)]
    return pd.DataFrame(rows)


def put(run, accuracy: float, profile: str = "pilot") -> None:
    put_record(run, profile, test={"accuracy": accuracy, "nll": 1.0, "n": 10},
               history=[{"val_accuracy": y, "train_accuracy": 0.9} for y in (0.5, 0.6, 0.7)])


# --- One estimate a comparison ---


def test_a_comparison_is_the_same_in_every_studys_table():
    """Seeds that one study trained count in the others, too, and the family is the profile's."""
    rng = np.random.default_rng(0)
    for name in ("hybrid", "cbam", "controls"):
        for run in study(name, "pilot"):
            put(run, 0.6 + rng.normal(0, 0.01) + 0.1 * (run.attention == "sa"))
    tables = [stats.arms_table(collect(name, "pilot")).set_index([*stats.CELL, "arm"]).loc[
        ("cifar10", "resnet18", "strong")] for name in ("hybrid", "cbam", "controls", "schedule")]
    found = [t.loc["cbam", ["n", "mean", "gain", "low", "high", "p", "verdict"]].to_list()
             for t in tables]
    assert found[0][0] == 6 and all(row == found[0] for row in found)
    assert set(tables[2].index[tables[2].family == "controls"]) == {
        "layerscale", "shuffled", "frozen", "none wider"}


def test_the_family_is_dunnetts_of_all_blocks_and_controls_are_another():
    rng = np.random.default_rng(3)
    arms = {a: rng.normal(60, 1, n) for a, n in (("se", 6), ("cbam", 3), ("frozen", 3), ("ca", 2))}
    base = rng.normal(60, 1, 6)
    rows = stats.arms_table(frame(none=base, **arms)).set_index("arm")
    alone, = inference.dunnett([arms["frozen"]], base)
    effects = pd.DataFrame([*inference.dunnett([arms["se"], arms["cbam"]], base), alone],
                           ["se", "cbam", "frozen"])
    ours = rows.loc[effects.index, ["gain", "low", "high", "n", "p", "sd_diff"]]
    np.testing.assert_allclose(ours, effects.iloc[:, :6])
    assert alone.p == pytest.approx(reference.ttest_ind(arms["frozen"], base).pvalue, abs=1e-4)
    welch = reference.ttest_ind(arms["se"], base, equal_var=False).confidence_interval()
    assert rows.loc["se", ["welch_low", "welch_high"]].to_list() == pytest.approx(list(welch))
    assert rows.verdict["ca"] == "too few seeds" and math.isnan(rows.low["ca"])
    assert rows.gain["ca"] == pytest.approx(arms["ca"].mean() - base.mean())


def test_runs_under_other_settings_are_not_mixed_in():
    runs = [r for r in study("hybrid", "pilot") if r.dataset == "cifar10" and r.seed < 3]
    for run in runs:
        put(run, 0.6)
    for other in ({"lr": 0.05}, {"epochs": 4}, {"n_train": 5000}, {"recipe": "plain"}):
        for run in runs:
            put(replace(run, **other), 0.9)
    rows = stats.arms_table(table_of(runs, "pilot"))
    assert set(rows.n) == {3} and rows["mean"].to_list() == pytest.approx([60.0] * 4)
    put(replace(runs[0], seed=7), 0.7)                      # a seed that nothing planned
    put(replace(runs[0], seed=8), 0.7, profile="real")
    again = stats.arms_table(table_of(runs, "pilot")).set_index("arm")
    assert again.n["none"] == 4 and again["mean"]["none"] == 62.5
    assert set(stats.all_seeds(table_of(runs, "pilot")).arm) == {"none", "se", "cbam", "hybrid"}


def test_families():
    families = {"blocks": ("se", "cbam(gate_init=open) head", "replica_cbam_p2"),
                "controls": ("frozen", "layerscale", "none wider")}
    assert all(stats.family_of(arm) == family for family, arms in families.items() for arm in arms)


# --- Pairs ---


def test_pairing_is_the_correlation_within_arms():
    rng = np.random.default_rng(5)
    shared = rng.normal(size=400)
    arms = {a: 60 + k + 0.6 ** 0.5 * shared + 0.4 ** 0.5 * rng.normal(size=400)
            for k, a in enumerate(("none", "se", "cbam"))}
    r, pairs = stats.pairing(frame(**arms))
    assert r == pytest.approx(0.6, abs=0.08) and pairs == 800
    one = stats.pairing(frame(none=arms["none"], se=arms["se"]))[0]
    assert one == pytest.approx(np.corrcoef(arms["none"], arms["se"])[0, 1])
    assert math.isnan(stats.pairing(frame(none=[1.0, 2.0]))[0])


# --- Verdicts ---


@pytest.mark.parametrize(("low", "high", "says"), [
    (0.1, 3.0, "better"), (-3.0, -0.1, "worse"), (-0.9, 0.9, "equivalent"),
    (0.1, 0.9, "equivalent"), (-0.5, 1.5, "undecided")])
def test_verdicts(low, high, says):
    assert stats.verdict(Effect((low + high) / 2, low, high, 6), 1.0) == says


def test_runs_of_two_settings_or_one_seed_twice_are_not_compared():
    """A trial of four epochs is no further seed of a run of sixteen."""
    df = frame(none=[60.0, 61.0, 62.0], se=[61.0, 62.0, 63.0])
    other = df.assign(setting=np.where(df.seed == 2, "another", df.setting))
    for call in (stats.arms_table, stats.pairing):
        with pytest.raises(ValueError, match="several runs of one arm and seed"):
            call(pd.concat([df, df]))
        for mixed in (other, df.assign(width=np.where(df.seed == 2, 0.125, 0.25))):
            with pytest.raises(ValueError, match="'cifar10', 'resnet18', 'strong'.*several set"):
                call(mixed)


def test_runs_of_another_width_stay_out_of_a_table(out):
    for width, score in ((1.0, 0.9), (0.25, 0.7)):
        for seed in range(3 if width == 1 else 1):
            put_record(Run("cifar10", width=width, seed=seed), "own",
                       test={"accuracy": score, "nll": 1.0, "n": 10})
    df = collect(profile="own")
    with pytest.raises(ValueError, match="several settings, such as epochs or width"):
        stats.arms_table(df)
    assert stats.arms_table(df[df.width == 1])[["n", "mean"]].values.tolist() == [[3, 90]]

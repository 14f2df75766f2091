"""What the recipe buys against what the block buys, from tables whose answers are known."""
import pandas as pd
import pytest
from scipy import stats as reference
from test_stats import frame

from attnlib.analysis import stats
from attnlib.analysis.factors import factor_table
from attnlib.figures.charts import factor_lines

NOISE = (-0.2, 0.0, 0.2)


def invented(seeds=3, **accuracies) -> pd.DataFrame:
    """``plain_none=60``: the mean over seeds of that recipe and arm."""
    parts = [frame(none=[0])[:0]]
    for key, mean in accuracies.items():
        recipe, arm = key.split("_")
        parts.append(frame(**{arm: [mean + wobble for wobble in NOISE[:seeds]]}).assign(
            recipe=recipe, setting=f"made up {recipe}"))
        parts[-1]["id"] += recipe
    return pd.concat(parts, ignore_index=True)


CROSSED = {"strong_none": 70, "strong_cbam": 71, "plain_none": 64, "plain_cbam": 66}


def test_effects_are_differences_of_means():
    found = factor_table(invented(**CROSSED)).set_index(["kind", "arm", "under"])
    expected = {("recipe", "none", "strong"): 6, ("block", "cbam", "strong"): 1,
                ("block", "cbam", "plain"): 2, ("interaction", "cbam", "strong"): -1}
    assert found["mean"].to_dict() == pytest.approx(expected)
    assert (found.n == 3).all()
    two, four = (reference.t.ppf(0.975, 2 * groups) * 0.2 * (groups / 3) ** 0.5
                 for groups in (2, 4))                               # groups of three, sd 0.2
    half = dict(zip(expected, (two, two, two, four), strict=True))
    assert ((found.high - found.low) / 2).to_dict() == pytest.approx(half, rel=1e-3)
    found = found.droplevel("arm").verdict
    assert found["recipe", "strong"] == "better" and found["interaction", "strong"] == "worse"
    assert set(factor_table(invented(seeds=2, **CROSSED)).verdict) == {"too few seeds"}


def test_a_blocks_gain_is_that_of_every_other_table():
    df = invented(**CROSSED | {"strong_se": 70.4})
    rows = stats.arms_table(df).set_index(["recipe", "arm"])
    found = factor_table(df).query("kind == 'block'").set_index(["under", "arm"])
    assert found.loc[("strong", "cbam"), ["mean", "low", "high"]].to_list() == \
        rows.loc[("strong", "cbam"), ["gain", "low", "high"]].to_list()


def test_without_plain_the_profiles_own_recipe_is_the_base():
    df = invented(**{"swift+cutmix_none": 87}, swift_none=88, swift_se=88.5)
    found = factor_table(df).set_index("kind")
    assert found.loc["recipe", ["under", "base", "mean"]].to_list() == ["swift+cutmix", "swift", -1]
    assert found.loc["block", ["under", "mean"]].to_list() == ["swift", 0.5]


def test_one_recipe_is_no_comparison():
    for df in (invented(), invented(strong_none=70, strong_cbam=71), invented(plain_none=60)):
        assert factor_table(df).empty and len(factor_lines(df).axes) == 1


def test_a_recipe_without_the_block_and_a_run_that_did_not_finish_are_not_compared():
    df = invented(**CROSSED | {"strong+cutmix_none": 72})
    df.loc[(df.recipe == "plain") & (df.seed == 0), "status"] = "diverged"
    found = factor_table(df)
    assert set(found[found.under == "strong+cutmix"].kind) == {"recipe"}
    assert set(found[found.kind == "recipe"].n) == {2}
    axis, = factor_lines(df).axes
    assert [t.get_text() for t in axis.get_xticklabels()] == ["plain", "strong", "strong+cutmix"]

"""What the recipe buys against what the block buys, from tables whose answers are known."""
import pandas as pd
import pytest

from attnlib import recipewords as rw

NOISE = (-0.2, 0.0, 0.2)


def invented(seeds=3, **accuracies) -> pd.DataFrame:
    """``plain_none=60``: the mean over seeds of that recipe and arm; noise that pairing removes."""
    rows = [{"status": "done", "dataset": "cifar10", "backbone": "resnet18", "recipe": recipe,
             "arm": arm, "seed": s, "epochs": 8, "accuracy": mean + NOISE[s]}
            for key, mean in accuracies.items() for recipe, arm in [key.split("_")]
            for s in range(seeds)]
    columns = ["status", "dataset", "backbone", "recipe", "arm", "seed", "epochs", "accuracy"]
    return pd.DataFrame(rows, columns=columns)


CROSSED = {"strong_none": 70, "strong_cbam": 71, "plain_none": 64, "plain_cbam": 66}


def test_effects_are_paired_differences():
    found = rw.effects(invented(**CROSSED)).set_index(["kind", "arm", "recipe"])
    expected = {("recipe", "none", "strong"): 6, ("block", "cbam", "strong"): 1,
                ("block", "cbam", "plain"): 2, ("interaction", "cbam", "strong"): -1}
    assert found["mean"].to_dict() == pytest.approx(expected)
    assert (found.n == 3).all() and found.high.sub(found.low).abs().max() < 1e-9


def test_the_answer_says_what_moves_more():
    text = rw.recipe_answer("pilot", invented(**CROSSED))
    assert "`strong` over `plain` +6.0" in text and "CBAM under `plain` +2.0" in text
    assert "strong` −1.0" in text and "so the block's gain depends on the recipe" in text
    assert "the recipe moves more." in text and "at most 8 epochs" in text
    other = rw.recipe_answer("pilot", invented(**CROSSED | {"strong_none": 63.5}))
    assert "`strong` over `plain` −0.5" in other and "the block moves more." in other


def test_two_seeds_decide_nothing():
    text = rw.recipe_answer("pilot", invented(seeds=2, **CROSSED))
    assert "too few seeds to say" in text and "By their means alone" in text and "[" not in text


def test_one_recipe_is_no_comparison():
    for df in (invented(), invented(strong_none=70, strong_cbam=71), invented(plain_none=60)):
        assert rw.recipe_answer("pilot", df) == rw.recipe_table(df) == rw.NOTHING
        assert len(rw.recipe_figure(df).axes) == 1


def test_a_recipe_without_the_block_is_shown_and_not_compared():
    df = invented(**CROSSED | {"strong+cutmix_none": 72})
    found = rw.effects(df)
    assert set(found[found.recipe == "strong+cutmix"].kind) == {"recipe"}
    lines = rw.recipe_table(df).splitlines()
    assert "70.0 ± 0.2 (3)" in lines[2] and "+6.0" in lines[2] and "–" in lines[3]
    axis, = rw.recipe_figure(df).axes
    assert [t.get_text() for t in axis.get_xticklabels()] == ["plain", "strong", "strong+cutmix"]


def test_runs_that_did_not_finish_are_left_out():
    df = invented(**CROSSED)
    df.loc[(df.recipe == "plain") & (df.seed == 0), "status"] = "diverged"
    assert set(rw.effects(df).query("kind == 'recipe'").n) == {2}

"""Convergence, selection bias, calibration and cost, each on made-up runs with known answers."""
import math

import numpy as np
import pandas as pd
import pytest
from helpers import least_text_on_a_phone, put_record
from matplotlib.figure import Figure
from scipy import stats as reference

from attnlib import collect
from attnlib.analysis import calibration, costs, curves, inference
from attnlib.bench.measure import bench_dir
from attnlib.figures import charts
from attnlib.figures.alttext import describe
from attnlib.training import store
from attnlib.training.run import Run

FIELDS = {"width": 0.25, "n_train": 10_000, "n_val": 2_000}


def put(arm: str, accuracies, right=0.5, arrays=None, tests=(), **own) -> None:
    """Records of profile own: a list of validation accuracies a seed; the test score ``right``, and
    of every epoch ``tests``."""
    for seed, curve in enumerate(accuracies):
        run = Run("cifar10", attention=arm, seed=seed, epochs=len(curve), **FIELDS)
        history = [{"val_accuracy": y, "val_nll": 2 - y, "loss": 1.0} for y in curve]
        for row, value in zip(history, tests, strict=False):
            row["test_accuracy"] = value + seed / 100
        found = {"predictions": store.write_arrays("own", run.id, arrays)} if arrays else {}
        put_record(run, "own", history=history, classes=["cat", "dog"], arrays=found,
                   test={"accuracy": right + seed / 100, "nll": 1.0, "n": 10},
                   model={"params": 100, "macs": 1000}, seconds=1.0, **own)


def runs():
    return collect(profile="own")


# --- Convergence ---


@pytest.mark.parametrize(("curve", "level", "epoch"), [
    ([0.1, 0.5, 0.7], 0.5, 2.0), ([0.1, 0.5, 0.7], 0.3, 1.5), ([0.4, 0.5], 0.3, 1.0),
    ([0.1, 0.2], 0.3, math.inf), ([0.1, 0.6, 0.2, 0.9], 0.6, 2.0)])
def test_the_epoch_at_which_a_curve_first_reaches_a_level(curve, level, epoch):
    assert curves.epochs_to(curve, level) == pytest.approx(epoch)


def test_the_ratio_is_of_geometric_means_with_dunnetts_interval_of_the_logarithms():
    a, b, c = (np.array(x) for x in ([2.0, 3.0, 5.0, 4.0], [2.5, 3.0, 7.0, 6.0], [2.0, 2.0, 3.0]))
    epochs = pd.DataFrame({"se": a, "none": b, "sa": [*c, math.nan], "ca": [math.inf] * 4})
    r = curves.epochs_ratio(epochs, "se")
    expected = inference.dunnett([np.log(a), np.log(c)], np.log(b))[0]
    assert r.mean == pytest.approx(reference.gmean(a) / reference.gmean(b)) and r.n == 4
    assert (r.low, r.high) == pytest.approx((math.exp(expected.low), math.exp(expected.high)))


def test_a_run_that_never_gets_there_counts_as_infinitely_late():
    epochs = pd.DataFrame({"se": [2.0, 3.0, 2.0, math.inf, 2.0, 2.0], "none": [2.0] * 6})
    r = curves.epochs_ratio(epochs, "se")
    assert r[:4] == (1.0, 1.0, math.inf, 6)
    few = curves.epochs_ratio(epochs.tail(4), "se")         # four values bound no median at 95 %
    assert (few.low, few.high) == (0.0, math.inf)
    assert math.isnan(curves.epochs_ratio(epochs * math.inf, "se").mean)     # nobody: says nothing
    assert curves.epochs_ratio(epochs, "cbam").n == 0


def test_the_interval_of_a_median_covers_it_at_least_95_times_in_100():
    rng = np.random.default_rng(0)
    for n in (6, 9, 20):
        draws = rng.exponential(size=(1500, n))
        bounds = np.array([curves.order_interval(row) for row in draws])
        inside = (bounds[:, 0] <= math.log(2)) & (math.log(2) <= bounds[:, 1])
        assert inside.mean() > 0.95 - 3 * math.sqrt(0.05 * 0.95 / 1500)


# --- Selection ---


def test_selection_bias_from_records():
    assert curves.selection_table(runs()).empty and curves.selection_bias(runs()).empty
    put("none", [[0.2, 0.4, 0.6]] * 3, tests=[0.3, 0.7, 0.6])
    put("se", [[0.2, 0.6, 0.5]] * 3, tests=[0.3, 0.7, 0.6])
    put("sa", [[0.2, 0.4, 0.6]] * 3)                             # recorded no test curve
    put("eca", [[0.2, 0.4]] * 3, tests=[0.3, 0.7], status="diverged")
    found = curves.selection_table(runs())
    assert set(found.arm) == {"none", "se"} and len(found) == 6
    for arm, scores in (("none", [60, 60, 70]), ("se", [60, 70, 70])):
        assert list(found.loc[found.arm == arm, [*curves.RULES]].iloc[0]) == pytest.approx(scores)
    bias = curves.selection_bias(runs()).set_index(["habit", "in place of"])
    assert bias.buys[curves.ON_TEST, curves.ON_VAL] == pytest.approx(5)
    assert bias.loc[(curves.ON_TEST, curves.LAST), ["runs", "buys", "moves"]].to_list() == \
        pytest.approx([6, 10, 0])


# --- Calibration ---


def arrays(prediction, confidence, label) -> dict:
    return {"prediction": np.array(prediction, np.uint8), "label": np.array(label, np.uint8),
            "confidence": np.array(confidence, np.float16)}


def test_calibration_error_by_hand():
    found = arrays([0, 0, 0, 0], [0.5, 0.5, 1.0, 1.0], [0, 1, 0, 1])
    n, *means = calibration.bins(found)
    assert n.nonzero()[0].tolist() == [7, 14] and list(n[[7, 14]]) == [2, 2]
    assert [list(values[[7, 14]]) for values in means] == [[0.5, 0.5], [0.5, 1.0]]
    assert calibration.ece(found) == pytest.approx(0.25)
    edge = arrays([0], [1.0], [0]) | {"confidence": np.array([6 / 15])}
    assert calibration.bins(edge)[0].nonzero()[0].tolist() == [5]      # (5/15, 6/15] has its end
    assert calibration.ece(arrays([0] * 4, [1.0] * 4, [0] * 4)) == 0.0
    rng = np.random.default_rng(0)                          # of a calibrated network: noise alone
    p = rng.uniform(0.1, 1, 20_000)
    calibrated, surer = (arrays(0 * p, said, rng.random(20_000) > p) for said in (p, p**0.5))
    assert calibration.ece(calibrated) < 0.02 and calibration.ece(surer) > 0.1


def test_calibration_from_records():
    label = [0, 0, 0, 0, 1, 1, 1, 1]
    put("none", [[0.5]] * 3, 0.5, arrays([0, 0, 1, 1, 1, 1, 0, 0], [1.0] * 8, label))
    put("se", [[0.5]] * 3, 0.75, arrays([0, 0, 0, 0, 1, 1, 0, 0], [1.0] * 8, label))
    put("sa", [[0.5]] * 3)                                       # without stored predictions
    table = calibration.calibration_table(runs()).set_index("arm")
    assert set(table.index) == {"none", "se"} and set(table.n) == {3}
    for column in (table.ece, table.surplus):
        assert column.to_dict() == pytest.approx({"none": 50, "se": 25})
    assert list(table.filter(like="ece_gain").loc["se"]) == pytest.approx([-25] * 3)


# --- Cost ---


def test_the_front_is_what_no_other_dominates():
    nan = math.nan
    assert costs.front([70, 71, 71, 69, 90], [1, 2, 3, 1, nan]) == [True, True, False, False,
                                                                     False]
    assert costs.front([70, 70], [1, 1]) == [True, True]        # equals do not dominate


# --- Figures ---


def text(figure: Figure) -> str:
    return " ".join(t.get_text() for axis in figure.axes for t in [*axis.texts, axis.title])


@pytest.mark.parametrize("chart", [charts.epochs, charts.reliability, charts.fronts])
def test_a_figure_names_its_cell_and_draws_each_arm(chart):
    assert "no finished runs" in text(chart(runs()))
    found = arrays([0, 1, 1, 1] * 10, [0.9] * 40, [0, 0, 1, 1] * 10)
    for arm in ("none", "se", "cbam"):
        never = [[0.1, 0.2], [0.2, 0.3]] if arm == "cbam" else [[0.4, 0.6], [0.5, 0.6]]
        put(arm, never, arrays=found, tests=[0.3, 0.5])
    figure = chart(runs())
    assert "ResNet-18 on CIFAR-10" in text(figure)
    legend, = figure.legends
    drawn = [t.get_text() for t in legend.get_texts()]
    assert {"SE", "CBAM"} <= set(drawn) and len(drawn) == len(set(drawn))
    assert "SE" in describe(figure) and least_text_on_a_phone(figure) >= 7


def test_inference_time_without_and_with_a_benchmark():
    assert "no finished runs" in text(charts.inference_time())
    times = {arm: {"median": m, "low": m, "high": m} for arm, m in (("se", 2.0), ("none", 1.0))}
    row = {"kind": "inference", "backbone": "resnet18", "width": 0.25, "repeats": {},
           "ms_per_image": {"64": times}}
    store.write_sealed(bench_dir() / "x-2-cores.json", {
        "schema": store.SCHEMA, "id": "x-2-cores", "env": {"precision": "float32"},
        "rows": {"i": row}})
    axis = charts.inference_time().axes[0]
    assert [t.get_text() for t in axis.get_yticklabels()] == ["plain", "SE"]
    assert [bar.lines[0].get_xdata()[0] for bar in axis.containers] == [1.0, 2.0]

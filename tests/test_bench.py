"""The bench measures, stores and is read. What it measures is the machine's business: nothing here
looks at how long anything took."""
import dataclasses
import platform
import re

import pytest
from helpers import CPU, correct, stored

from attnlib.__main__ import main
from attnlib.bench import bench, budget, measure, plainloop, rows, speed
from attnlib.data.datasets import load_dataset
from attnlib.experiments.planning import study
from attnlib.settings import REPO
from attnlib.training import store
from attnlib.training.run import Run

NET = {"backbone": "squeezenet", "width": 0.125}


@pytest.fixture(scope="module")
def data():
    return load_dataset("shapetex", sizes={"train": 600, "val": 20, "test": 64})


@pytest.fixture(autouse=True)
def small(monkeypatch, data):
    for module in (bench, plainloop, rows):
        monkeypatch.setattr(module, "machine", lambda: CPU)
    monkeypatch.setattr(bench, "images", lambda: data)
    monkeypatch.setattr(rows, "BATCH", 16)


def invented(**own) -> dict:
    """A stored benchmark with round numbers."""
    rates = {"ours": {"none": [40, 20, 30], "se": [20, 10, 10]},
             "plain": {"none": [20, 10, 10], "se": [10, 10, 10]}}
    own = own or {"training": {"kind": "training", "steps": 1, "images_per_second": rates,
                                "macs": {"none": 1000, "se": 1000}} | NET,
                   "matrix": {"kind": "matrix", "flops_per_second": {"float32": 1e6}}}
    return {"schema": store.SCHEMA, "id": "here", "data": "shapetex", "minutes": 1, "rows": own,
            "env": {"device": "a processor", "cores": 2, "threads": 1, "torch": "2",
                    "precision": "float32", "channels_last": True, "load": [0.0, 0.0, 0.0]}}


def test_both_loops_start_from_the_same_weights_and_the_plain_one_learns(data):
    pair = rows.contestants([("ours", "se"), ("plain", "se")], data, 3, **NET)
    ours, plain = pair.values()
    assert len(ours.batches["train"]) == len(plain.batches)
    states = [t.model.state_dict() for t in (ours, plain)]
    assert all((states[0][key] == states[1][key]).all() for key in states[0])
    run = Run("shapetex", epochs=3, n_train=192, n_test=64, batch_size=32, lr=0.02, **NET)
    loop = plainloop.PlainLoop(run, data)
    losses = [loop.epoch(k)["loss"] for k in range(3)]
    assert losses[-1] < losses[0] and 0 <= loop.score("test")["accuracy"] <= 1


def test_a_quick_bench_is_stored_and_read(monkeypatch, out):
    row = bench.BenchRow("training", 1, NET | {"arms": ("none", "se")})
    monkeypatch.setattr(bench, "quick_plan", lambda: [row])
    assert main(["bench", "--quick", "--minutes", "0.001"]) == 0
    path = out / "results" / "bench" / "quick.json"
    body = store.read_sealed(path)
    assert body["rows"]["training"]["images_per_second"]["ours"].keys() == {"none", "se"}
    text = path.read_text()
    assert platform.node() not in text and str(REPO) not in text and "/tmp" not in text
    assert not re.search(r"/(root|home|Users)\b", text)
    assert list(speed.training_table(body).block) == ["plain", "SE"]
    assert len(speed.figure([body]).axes) == 2
    assert speed.stored() == []                                      # a quick one is not shown


def test_the_other_rows_measure(data):
    kinds = {"claimed": {"arms": ("none", "cbam head_post"), "batch": 2, "width": 0.125},
             "pipeline": {"batches": 2}, "matrix": {"sizes": (128,)},
             "inference": NET | {"arms": ("none", "se"), "batches": (1, 4)},
             "agreement": {"backbone": "squeezenet", "n_train": 32, "n_test": 20, "epochs": 1}}
    found = {name: bench.KINDS[name](data, 0, **options) for name, options in kinds.items()}
    body = invented(**bench.rounded({k: {"kind": k} | result for k, result in found.items()}))
    assert rows.few_steps("ours", steps=1, attention="none", **NET) > 1e8
    read = speed.targets_table(body).set_index("what").measured
    assert float(read["input pipeline ÷ the plain one"].replace(",", "")) > 0
    assert "accuracy − the plain loop's, points, 3 seeds" in read
    assert "ms/image, batch 4" in speed.inference_table(body)


def test_ratios_are_taken_repeat_by_repeat():
    row = speed.steps_table(invented()).set_index("attention")
    assert row.faster["none"] == {"median": 2, "low": 2, "high": 2.5, "n": 3}
    assert row.step["se"]["median"] == 2
    assert row.share["none"] == pytest.approx(2 * 3 * 1000 * 30 / 1e6)


def test_turns_go_back_and_forth():
    calls = []
    took = measure.in_turns({name: lambda name=name: calls.append(name) for name in "ab"}, 0)
    assert "".join(calls) == "ab" + "abbaab" and len(took["a"]) == len(took["b"]) == 3


def test_peaks_of_memory_come_from_processes_of_their_own(data, monkeypatch):
    monkeypatch.setattr(rows, "few_steps", dict)            # training takes long to be imported
    assert rows.memory(data, 0, **NET, arms=("se",))["peak_bytes"] == {
        f"{loop} {arm}": {"loop": loop, "attention": arm} | NET
        for loop, arm in (("ours", "se"), ("plain", "none"))}


def test_a_row_that_fails_leaves_the_others_and_a_short_bench_what_was_measured_for_longer(
        monkeypatch):
    def measured(value, again=False):
        def matrix(data, seconds):
            if value is None:
                raise RuntimeError("out of memory")
            return {"value": value}
        monkeypatch.setitem(bench.KINDS, "matrix", matrix)
        monkeypatch.setitem(bench.KINDS, "pipeline", lambda data, seconds: {})
        plan = [bench.BenchRow("matrix", 0), bench.BenchRow("pipeline")]
        path = bench.run_bench(plan, 0.001, "here", again)
        return path, store.read_sealed(path)

    path, body = measured(None)
    assert body["rows"]["matrix"]["failed"] == "RuntimeError" and "pipeline" in body["rows"]
    path, body = measured(1)
    assert body["rows"]["matrix"]["value"] == 1                     # better than a failed one
    body["rows"]["matrix"]["seconds"] = 100.0
    body["rows"]["other"] = {"kind": "import", "seconds": 1.0}
    store.write_sealed(path, body)
    for value in (None, 2):
        assert measured(value)[1]["rows"]["matrix"]["value"] == 1   # it took much less long
    assert measured(3, again=True)[1]["rows"]["matrix"]["value"] == 3
    assert "other" in measured(4)[1]["rows"]                        # what it does not measure stays
    body["env"]["torch"] = "1"
    store.write_sealed(path, body)
    assert "other" not in measured(5)[1]["rows"]                    # another torch, another speed


def test_what_accuracy_costs_is_read_from_records_of_one_core():
    cpu = {"precision": "float32", "channels_last": True, "threads": 1}
    first = study("baselines", "pilot")[0]
    for seed, right, seconds, env in ((0, 60, 600.0, cpu), (1, 61, 540.0, cpu),
                                      (5, 90, 1.0, cpu | {"precision": "bfloat16"})):
        stored(dataclasses.replace(first, seed=seed), correct(right), env=env, seconds=seconds)
    table = budget.budget_table()
    row, = table.to_dict("records")
    assert (row["seeds"], row["accuracy"], row["minutes"]) == (2, pytest.approx(60.5), 9)
    assert row["front"] and "9.0" in budget.budget_markdown(table)
    assert budget.budget_figure(table).axes[0].get_xscale() == "log"

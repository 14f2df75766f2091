"""Studies and the grid: what is planned, what is trained, and what is told about it."""
import re

import pytest
import torch
from helpers import last_line, put_record, tiny
from torch import nn

from attnlib import blocks
from attnlib.blocks import ATTENTION, Row
from attnlib.data.datasets import DATASETS
from attnlib.experiments import grid, planning, studies, workers
from attnlib.experiments.grid import run_grid
from attnlib.experiments.planning import (
    best_profile,
    estimate_seconds,
    profile_to_train,
    resolve_profile,
    study,
)
from attnlib.experiments.reading import collect
from attnlib.experiments.studies import PROFILES, STUDIES, plans
from attnlib.names import parse
from attnlib.networks import BACKBONES
from attnlib.training import optim, store
from attnlib.training.environment import Machine
from attnlib.training.run import Run
from attnlib.training.trainer import train

PLANNED = [(name, profile) for name, row in STUDIES.items()
           for profile in PROFILES if ("small" if profile == "smoke" else profile) in row.plans]


# --- The plans ---


def test_any_prefix_of_a_study_is_balanced():
    """All arms of the first seed, then of the next: no seed begins before the one before it is
    done, but where the plans take turns. Every name is a row of its table."""
    for name, profile in PLANNED:
        runs, rows = study(name, profile), studies.plans(name, profile)
        assert runs and len({run.id for run in runs}) == len(runs)
        seeds = [run.seed for run in runs]
        falls = sum(after < before for before, after in zip(seeds, seeds[1:], strict=False))
        assert falls <= len({plan.turn for plan in rows}) - 1
        for plan in rows:
            assert parse(plan.dataset)[0] in DATASETS and parse(plan.backbone)[0] in BACKBONES
            for seed in plan.seed_list:
                arms = [run.attention for run in runs if run.seed == seed
                        and (run.dataset, run.backbone) == (plan.dataset, plan.backbone)]
                assert set(plan.arms) <= set(arms)
        assert [run.attention for run in runs[:len(rows[0].arms)]] == list(rows[0].arms)
    real = [plan for row in STUDIES.values() for plan in row.plans.get("real", ())]
    assert {*ATTENTION} <= {parse(arm)[0] for plan in real for arm in plan.arms}, "a block alone"


def test_smoke_is_two_arms_a_plan_and_one_seed_of_easy_images():
    for name, row in STUDIES.items():
        runs, rows = study(name, "smoke"), row.plans.get("small", ())
        assert {(run.seed, parse(run.dataset)[0]) for run in runs} <= {(0, "shapetex")}
        assert bool(rows) <= len(runs) <= 2 * len(rows)


@pytest.mark.parametrize("profile", [p for p, row in PROFILES.items() if row.budget])
def test_the_estimated_cost_is_within_the_budget(profile):
    runs = {run for name in STUDIES for run in study(name, profile)}
    assert 0 < sum(map(estimate_seconds, runs)) / 60 <= PROFILES[profile].budget


def test_fewer_seeds_on_request_and_what_is_asked_wrongly(monkeypatch):
    for asked, known in ((("everything", "small"), STUDIES), (("hybrid", "tiny"), PROFILES)):
        with pytest.raises(ValueError) as error:
            study(*asked)
        assert all(name in str(error.value) for name in known)
    monkeypatch.setenv("ATTNLIB_SEEDS", "2")
    assert {run.seed for run in study("hybrid", "small")} == {0, 1}
    monkeypatch.setenv("ATTNLIB_TOGETHER", "0")
    monkeypatch.setattr(grid, "machine", lambda: Machine("cuda", None, True))
    with pytest.raises(ValueError, match="ATTNLIB_TOGETHER=0 should be a number above 0"):
        list(grid.train_missing(study("hybrid", "smoke"), "smoke", None, None, 1))
    monkeypatch.setenv("ATTNLIB_SEEDS", "few")
    with pytest.raises(ValueError, match="ATTNLIB_SEEDS=few should be a number"):
        study("hybrid", "small")


# --- Which profile ---


@pytest.mark.parametrize(("device", "files", "profile"), [
    ("cpu", ("cifar10", "fashionmnist"), "small"), ("cuda", ("cifar10", "fashionmnist"), "pilot"),
    ("cuda", ("cifar10",), "small"), ("cuda", (), "small")])
def test_auto_trains_pilot_with_gpu_and_files(tmp_path, monkeypatch, device, files, profile):
    monkeypatch.delenv("ATTNLIB_PROFILE", raising=False)
    monkeypatch.setenv("ATTNLIB_DATA", str(tmp_path))
    monkeypatch.setattr(planning, "machine", lambda: Machine(device, None, True))
    for name in files:
        (tmp_path / f"{name}.npz").touch()
    assert profile_to_train("auto") == profile and profile_to_train("full") == "full"
    monkeypatch.setenv("ATTNLIB_PROFILE", "real")
    assert profile_to_train() == resolve_profile() == "real"


def test_best_is_the_first_whose_headline_arms_have_three_seeds(capsys, monkeypatch):
    def finish(profile, seeds, arms=("none", "se", "cbam", "hybrid"), **own):
        for seed in seeds:
            for arm in arms:
                put_record(Run(dataset="cifar10", attention=arm, seed=seed,
                               **PROFILES[profile].fields), profile, **own)
    assert best_profile("hybrid") == "small"
    finish("pilot", range(2))
    assert best_profile("hybrid") == "small"
    finish("pilot", [2], arms=("none", "se", "cbam"))
    assert best_profile("hybrid") == "small", "one arm has two seeds only"
    finish("pilot", [5], arms=("hybrid",))
    assert best_profile("hybrid") == "pilot"
    monkeypatch.delenv("ATTNLIB_PROFILE")
    assert resolve_profile("auto", "hybrid") == "pilot"
    monkeypatch.setenv("ATTNLIB_SEEDS", "1")             # how much to train, not what to show
    assert best_profile("hybrid") == "pilot"
    for status, best in (("failed", "pilot"), ("diverged", "pilot"), ("done", "full")):
        finish("full", range(3), status=status)          # results, and only one is evidence
        assert best_profile("hybrid") == best, status


def test_only_baselines_is_shown_for_plain_networks_alone():
    """A profile is chosen by its first plan, so the first plan of any other study has blocks."""
    assert {name for name in STUDIES for profile in PROFILES
            if plans(name, profile)[:1] and plans(name, profile)[0].arms == ("none",)
            } == {"baselines"}


# --- Running ---


def test_only_what_is_missing_is_trained(capsys):
    none, se, ca = (tiny(attention=arm, epochs=1) for arm in ("none", "se", "ca"))
    train(se, "smoke")
    before = store.record_path("smoke", se.id).read_bytes()
    df = run_grid([none, se, none, ca], "smoke")
    assert last_line(capsys) == "trained 2, found 1"
    assert list(df.attention) == ["none", "se", "ca"] and set(df.status) == {"done"}
    assert df.accuracy.between(0, 100).all() and (df.profile == "smoke").all()
    assert store.record_path("smoke", se.id).read_bytes() == before

    again = run_grid([none, se, ca], "smoke")
    assert last_line(capsys) == "trained 0, found 3"
    assert again.equals(df)


def test_a_bad_data_file_or_no_time_leaves_runs_missing(capsys, monkeypatch, tmp_path):
    """It is the file that failed: once it is mended, the runs are still to do."""
    monkeypatch.setenv("ATTNLIB_DATA", str(tmp_path))
    (tmp_path / "fashionmnist.npz").write_bytes(b"torn")
    df = run_grid([tiny(dataset="fashionmnist"), tiny(epochs=1)], "smoke")
    assert "fashionmnist.npz is no readable npz file" in capsys.readouterr().out
    assert list(df.status) == ["missing", "done"]
    df = run_grid([tiny(), tiny(seed=1)], "smoke", time_budget=0)
    said = capsys.readouterr().out
    assert "time up: 2 runs were not begun" in said and "run 1 of 2" not in said
    assert list(df.status) == ["missing", "missing"]


class Breaks(torch.nn.Module):
    def __init__(self, channels: int):
        super().__init__()

    def forward(self, x):
        raise TypeError("a mistake of the user's")


def test_a_block_of_ones_own_that_breaks_fails_its_run_alone(monkeypatch):
    monkeypatch.setitem(ATTENTION, "breaks", Row(Breaks, "a test", "block"))
    df = run_grid([tiny(attention="breaks"), tiny(epochs=1)], "smoke")
    assert list(df.status) == ["failed", "done"]


def test_a_gpu_that_is_lost_stops_the_grid_and_nothing_is_recorded(monkeypatch):
    def lost(*_, **__):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")
    monkeypatch.setattr(workers, "train", lost)
    with pytest.raises(RuntimeError, match="CUDA error"):
        run_grid([tiny(), tiny(seed=1)], "smoke")
    assert not store.all_records("smoke")


def test_an_import_that_was_cut_short_stops_the_grid_and_fails_no_run(monkeypatch):
    def broken(name):
        raise AttributeError("module 'sympy' has no attribute 'logic'")
    monkeypatch.setattr(optim.importlib, "import_module", broken)
    with pytest.raises(ImportError, match="restart Python"):
        run_grid([tiny(), tiny(seed=1)], "smoke")
    assert not store.all_records("smoke")


def test_auto_shows_what_is_stored_and_a_named_profile_trains(monkeypatch, capsys):
    assert set(grid.results("se", "smoke").status) == {"done"}
    capsys.readouterr()
    monkeypatch.delenv("ATTNLIB_PROFILE")
    df = grid.results("se")
    assert set(df.profile) == {"small"} and set(df.status) == {"missing"}
    assert not capsys.readouterr().out, "nothing is trained"


# --- Reading ---


def test_collect_of_a_study_is_exactly_its_plan():
    runs = study("se", "smoke")
    put_record(runs[1], "smoke")
    put_record(tiny(seed=9), "smoke")                                     # of no study
    df = collect("se", "smoke")
    assert list(df.id) == [run.id for run in runs]
    assert list(df.status) == ["missing", "done"]
    assert len(collect(profile="smoke")) == 2
    assert list(collect(profile="own").columns) == list(df.columns), "of nothing, too"


def test_records_of_what_is_not_here_tell_nothing_of_the_speed():
    env = {"device": planning.environment()["device"]}
    put_record(tiny(), "smoke", env=env, seconds=3 * estimate_seconds(tiny()))
    for seed, own in enumerate(({"attention": "of another session"},
                                {"dataset": "npz(content=x0):gone.npz"}), 1):
        record = put_record(tiny(seed=seed), "smoke", env=env, seconds=1.0)
        store.write_record("smoke", record | {"run": own})
    assert planning.speed_here("smoke") == pytest.approx(3)


def test_records_of_an_older_version_are_listed_as_stale_and_not_mixed(monkeypatch, capsys):
    put_record(tiny(), "smoke")
    old = put_record(tiny(attention="se"), "smoke")["id"]
    monkeypatch.setitem(ATTENTION, "se", ATTENTION["se"]._replace(version=2))
    df = collect(profile="smoke").set_index("id")
    assert df.status[old] == "stale" and df.status[tiny().id] == "done"
    monkeypatch.setenv("ATTNLIB_TRAIN", "0")
    assert list(run_grid([tiny(attention="se")], "smoke").status) == ["missing"]


# --- The tables together ---


def test_a_try_trains_the_block_and_the_plain_network_and_no_other(capsys):
    rows = grid.try_it("eca", "smoke")
    said = capsys.readouterr().out
    assert said.startswith("training 6 networks, about ") and said.count("epoch 1/1") == 6
    assert "left out, without a finished run here: se (missing)" in said
    assert list(rows.columns) == ["arm", "accuracy", "sd", "seeds", "params", "seconds", "yours"]
    assert dict(zip(rows.arm, rows.yours, strict=True)) == {"eca": True, "none": False}
    assert rows.sd.notna().all() and (rows.seeds == 3).all()
    grid.try_it("eca", "smoke")
    assert "epoch" not in capsys.readouterr().out, "nothing is trained twice"
    planned = {run.id for run in study("hybrid", "smoke")}
    assert {r["id"] for r in store.all_records("smoke")} <= planned, "what is one's own is apart"
    other = grid.try_it("se", "smoke", seeds=1, lr=0.2)
    assert set(other.arm) == {"se", "none"} and (other.seeds == 1).all()
    for wrong in ({"attention": "ec"}, {"attention": "eca", "seeds": 0},
                  {"attention": "eca", "seed": 3}):
        with pytest.raises(ValueError, match="eca|seeds="):
            grid.try_it(profile="smoke", **wrong)


BODY = "\n        return self.half"
OWN = """
import torch
from torch import nn
SCALE = 1


class Part(nn.Module):
    def forward(self, x):
        return x * SCALE


class Mine(nn.Module):
    how = {"a", "b", "c"}

    def __init__(self, channels, start=1, act=lambda x: x):
        super().__init__()
        self.part, self.act = Part(), act

    @torch.no_grad()
    def seen(self, x):
        return [x.mean() for _ in range(2)]

    @staticmethod
    def half(x):
        return x / 2

    def forward(self, x):
        return self.half(self.act(self.part(x)))
"""


def test_a_block_of_ones_own_has_another_name_when_its_code_changes(monkeypatch):
    monkeypatch.setattr(blocks, "ATTENTION", {})

    def name_of(text):
        module = {"__name__": "mine"}
        exec(compile(text, "cell", "exec"), module)
        return blocks.own_block(module["Mine"])
    first = name_of(OWN)
    assert re.fullmatch("mine_[0-9a-f]{6}", first)
    assert name_of(OWN) == name_of("\n# lines above it do not matter\n" + OWN) == first
    changes = (("SCALE = 1", "SCALE = 2"), ("x * SCALE", "x + SCALE"), ("start=1", "start=2"),
               ("lambda x: x", "lambda x: -x"), ("x.mean()", "x.amax()"), ("x / 2", "x / 3"),
               ('"c"', '"d"'), (f"(self, x):{BODY}", f"(self, *x):{BODY}"))
    others = [name_of(OWN.replace(*change)) for change in changes]
    assert len({first, *others}) == 1 + len(changes)

    def made(power):
        return lambda channels: nn.Softmax(power)
    names = [blocks.own_block(made(power)) for power in (1, 2, 1)]
    assert names[0] == names[2] != names[1] and blocks.ATTENTION[names[0]].title == "your block"
    for wrong in (nn.Identity(), "se"):
        with pytest.raises(ValueError, match="should be a class"):
            blocks.own_block(wrong)


def test_an_error_in_ones_own_block_is_raised_and_does_not_stick(monkeypatch):
    monkeypatch.setitem(ATTENTION, "wrong", ATTENTION["se"]._replace(make=lambda c: 1 / 0))
    with pytest.raises(ZeroDivisionError):
        grid.try_it("wrong", "smoke", seeds=1)
    monkeypatch.setitem(ATTENTION, "wrong", ATTENTION["se"])
    assert "wrong" in set(grid.try_it("wrong", "smoke", seeds=1).arm)

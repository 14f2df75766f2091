"""What every test starts from: one thread, the smoke profile, float32 on the CPU, and an output
folder of its own, so that no test can touch the real results."""
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")              # before torch is imported
os.environ.setdefault("ATTNLIB_PROFILE", "smoke")

import pytest  # noqa: E402
import torch  # noqa: E402
from helpers import COMPUTING, CPU  # noqa: E402

from attnlib.experiments import grid, planning  # noqa: E402

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def out(tmp_path, monkeypatch):
    """ATTNLIB_OUT: records, checkpoints and figures of one test."""
    folder = tmp_path / "out"
    monkeypatch.setenv("ATTNLIB_OUT", str(folder))
    for name in ("ATTNLIB_SEEDS", "ATTNLIB_TRAIN", "ATTNLIB_JOBS"):
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working directory, and a data folder beside it."""
    monkeypatch.setenv("ATTNLIB_DATA", str(tmp_path / "data"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch):
    """float32 on the CPU, whatever the machine has: the only place that is alike everywhere."""
    for module in (*COMPUTING, grid, planning):
        monkeypatch.setattr(module, "machine", lambda: CPU)

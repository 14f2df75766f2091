"""Runs small enough for tests, and child processes that tests may kill."""
import multiprocessing
import os
import re
import shlex
import time
import types

import numpy as np
import pytest
import torch
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from PIL import Image

from attnlib.settings import REPO, checkpoints_dir
from attnlib.training import environment, store
from attnlib.training import trainer as train_module
from attnlib.training.environment import Machine
from attnlib.training.run import Run
from attnlib.training.trainer import TimeUp, train

CPU = Machine("cpu", None, True)
COMPUTING = (train_module, environment)            # where the machine is asked for, in training
CLOCKS = ("seconds", "peak_memory", "profile")
TINY = {"backbone": "squeezenet", "width": 0.125, "epochs": 2, "n_train": 32, "n_val": 20,
        "n_test": 20, "batch_size": 16}


def tiny(**own) -> Run:
    """A run of two epochs of two steps on ShapeTex: a third of a second."""
    return Run(**{**TINY, **own})


def as_options(run: Run) -> list[str]:
    """The command line of a run."""
    return [word for key, value in run.as_dict().items()
            for word in (f"--{key.replace('_', '-')}", str(value))]


def put_record(run: Run, profile: str, **own) -> dict:
    """A finished record without the training."""
    body = {"schema": store.SCHEMA, "id": run.id, "run": run.as_dict(), "profile": profile,
            "resolved": run.resolved(), "versions": train_module.versions(run), "status": "done",
            "history": [], "test": {"accuracy": 0.5, "nll": 1.0, "n": 10}, "arrays": {}} | own
    store.write_record(profile, body)
    return body


def weights(run: Run, profile: str = "own") -> dict[str, torch.Tensor]:
    """The stored final weights of a run."""
    return store.load_checkpoint(checkpoints_dir(profile, run.id), store.WEIGHTS)["model"]


def notebook(*sources: str, parameters: str = "profile: str = 'auto'"):
    """A notebook of a title, a cell of parameters and code cells."""
    cells = [new_markdown_cell("# A title"), *map(new_code_cell, (parameters, *sources))]
    cells[1].metadata["tags"] = ["parameters"]
    kernel = {"name": "python3", "language": "python", "display_name": "Python 3"}
    return new_notebook(cells=cells, metadata={"kernelspec": kernel})


def photo(path) -> str:
    """A picture of 90×60 pixels of noise; its name."""
    noise = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    return path.name


def noisy_cifar10(folder, n: int) -> None:
    """A CIFAR-10 file of n images of noise a split, all classes alike often."""
    x = np.random.default_rng(0).integers(0, 256, (n, 32, 32, 3), np.uint8)
    y = np.arange(n) % 10
    np.savez(folder / "cifar10.npz", train_images=x, train_labels=y, test_images=x, test_labels=y)


def same_tensors(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def without_seconds(history: list[dict]) -> list[dict]:
    """A history without the one column that no two runs share."""
    return [{k: v for k, v in row.items() if k != "seconds"} for row in history]


def comparable(record: dict) -> dict:
    """A record without what no two runs share."""
    return {k: v for k, v in record.items() if k not in CLOCKS} | {
        "history": without_seconds(record["history"])}


def stop_after(run: Run, epochs: int, before: int = 0) -> None:
    """Train so many epochs more, then run out of time. The clock ticks once an epoch."""
    ticks = iter(range(1000))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_module, "time", types.SimpleNamespace(
            monotonic=lambda: next(ticks), perf_counter=time.perf_counter))
        with pytest.raises(TimeUp, match=f"{run.id}: stopped after epoch {before + epochs}, all"):
            train(run, deadline=epochs - 0.5)


def page(name: str) -> str:
    return (REPO / "docs" / f"{name}.md").read_text(encoding="utf-8")


def code_blocks(text: str, language: str, section: str = "") -> list[str]:
    """The blocks of code of a page, or of its section of that title."""
    if section:
        text = re.search(rf"\n## {section}\n(.*?)(?=\n## |\Z)", text, re.DOTALL)[1]
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def shell_commands(text: str, section: str = "") -> list[list[str]]:
    """The words of each line of its shell blocks, without comments, continued lines joined."""
    lines = "\n".join(code_blocks(text, "bash", section)).replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def attnlib_commands(text: str, section: str = "") -> list[list[str]]:
    """The arguments of its commands of attnlib."""
    return [words[3:] for words in shell_commands(text, section) if words[1:3] == ["-m", "attnlib"]]


def last_line(capsys) -> str:
    return capsys.readouterr().out.strip().splitlines()[-1]


def wait_until(true, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.02)


def start(target, *args) -> multiprocessing.Process:
    """A started child process. A server imports torch once and forks the children from there."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(                            # counting MACs needs both
        ["attnlib.training.trainer", "torch._dynamo", "helpers", "faults"])
    process = context.Process(target=target, args=args, daemon=True)
    process.start()
    return process


def compute_on_cpu(put=setattr) -> None:
    """The settings of conftest, for a process of its own."""
    torch.set_num_threads(1)
    for module in COMPUTING:
        put(module, "machine", lambda: CPU)


def train_in_child(out: str, fields: dict) -> None:
    """Train one run in this process, with the settings of conftest."""
    os.environ["ATTNLIB_OUT"] = out
    compute_on_cpu()
    train_module.train(Run(**fields), "own")


def hold_lock(out: str, run_id: str, held) -> None:
    """Take a run's lock, say so, and keep it until killed."""
    os.environ["ATTNLIB_OUT"] = out
    with store.lock("own", run_id):
        held.set()
        time.sleep(600)


def try_lock(out: str, run_id: str) -> None:
    """Exit with 7 where another process holds the lock."""
    os.environ["ATTNLIB_OUT"] = out
    try:
        with store.lock("own", run_id):
            raise SystemExit(0)
    except store.Busy:
        raise SystemExit(7) from None


def save_without_end(out: str, run_id: str, first: int) -> None:
    """Save epoch after epoch until killed."""
    os.environ["ATTNLIB_OUT"] = out
    folder, epoch = checkpoints_dir("own", run_id), first
    while True:
        store.save_checkpoint(folder, f"ckpt-{epoch}", {"epoch": epoch,
                                                        "model": torch.full((20_000,), epoch)})
        epoch += 1


def correct(percent: float, n: int = 400) -> np.ndarray:
    return np.arange(n) < percent * n / 100


def stored(run: Run, right, profile: str = "pilot", **own) -> Run:
    """A finished run that was right on those test images (bool [N]): its record and predictions, as
    if it had been trained."""
    label = right.astype("uint8")
    digest = store.write_arrays(profile, run.id, {
        "label": label, "prediction": label * 0 + 1, "confidence": label * 0.5})
    put_record(run, profile, **{
        "history": [{}], "arrays": {"predictions": digest}, "seconds": 60.0,
        "test": {"accuracy": float(right.mean()), "nll": 1.0, "n": len(right)},
        "model": {"params": 1000, "macs": 10_000},
        "env": {"device": "a slow one", "precision": "float32", "threads": 1, "torch": "2",
                "python": "3", "os": "Linux", "commit": "0123456789"}} | own)
    return run


def least_text_on_a_phone(figure) -> float:
    """Pixels of the smallest text that a figure shows where it is 356 pixels wide."""
    from matplotlib.text import Text
    figure.draw_without_rendering()
    width = figure.get_tightbbox(figure.canvas.get_renderer()).width + 0.06         # inches
    return min(text.get_fontsize() / 72 * 356 / width for text in figure.findobj(Text)
               if text.get_text().strip() and text.get_visible())


def counts(data) -> dict[str, list[int]]:
    """The images of each class, by split."""
    return {split: np.bincount(y).tolist() for split, y in data.labels.items()}


RNG = np.random.default_rng(0)


def picture(width: int = 40, height: int = 50) -> Image.Image:
    """Dark noise, another one each time."""
    return Image.fromarray(RNG.integers(0, 60, (height, width, 3), dtype=np.uint8))


def put_pictures(root, counts: dict[str, int], size=(40, 50)) -> None:
    """``{"train/cats": 5, …}``: so many PNG files there."""
    for folder, n in counts.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        for k in range(n):
            picture(*size).save(root / folder / f"{k}.png")

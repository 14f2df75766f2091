"""What measures the rows of the benchmark: ``function(data, seconds, **options) -> dict``, each
within about so many seconds."""
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

import numpy as np
import torch

from ..data.batches import Batches
from ..data.datasets import DATASETS, Dataset
from ..networks.build import build_model
from ..training.environment import machine, peak_memory
from ..training.run import Run
from ..training.trainer import Trainer
from .measure import in_turns, matrix_rate, spread
from .plainloop import PlainLoop, loader

LOOPS = {"ours": Trainer, "plain": PlainLoop}
BATCH = 128                         # the recipe's


# --- Training: ours against the plain loop, every block beside every other ---


def training(data: Dataset, seconds: float, backbone: str, width: float, arms) -> dict:
    """Images/s of every arm in our loop and of none in the plain one, repeat by repeat. A turn is
    one epoch of so many steps that the plain loader's first batch, waited for, is little."""
    steps = 100 if machine().device == "cuda" else 10
    names = [("ours", arm) for arm in arms] + [("plain", "none")]
    ready = contestants(names, data, steps, backbone=backbone, width=width)
    took = in_turns({name: lambda t=trainer: t.epoch(0) for name, trainer in ready.items()},
                    seconds, machine().device, most=15)
    rates = {loop: {arm: [steps * BATCH / t for t in took[loop, arm]]
                    for own, arm in names if own == loop} for loop in LOOPS}
    macs = {arm: ready["ours", arm].cost["macs"] for arm in arms}
    return {"backbone": backbone, "width": width, "batch_size": BATCH, "steps": steps,
            "images_per_second": rates, "macs": macs}


def contestants(names: list[tuple[str, str]], data: Dataset, steps: int, **fields) -> dict:
    """A training of ``steps`` batches an epoch for each (loop, block)."""
    fields |= {"epochs": 100, "n_train": steps * BATCH, "n_val": 10, "n_test": 10}
    return {(loop, arm): LOOPS[loop](Run(data.name, attention=arm, **fields), data)
            for loop, arm in names}


def pipeline(data: Dataset, seconds: float, batches: int = 80) -> dict:
    """Images/s of the input alone, from stored images to normalised batches on the device."""
    device, run = machine().device, Run(data.name, n_train=batches * BATCH)
    ours = Batches(*data.split("train", run.n_train), data.mean, data.std, crop=run.how.crop,
                   flip=run.how.flip, batch_size=BATCH, device=device)
    plain = loader(run, data)
    took = in_turns({"ours": lambda: sum(len(y) for _, y in ours.epoch(0)),
                     "plain": lambda: [(x.to(device), y.to(device)) for x, y in plain]},
                    seconds, device, most=15, warm=2)
    n = len(plain) * BATCH
    return {"images": n, "images_per_second": {k: [n / t for t in v] for k, v in took.items()}}


# --- Inference, memory, and the machine itself ---


def eval_times(arms, x, seconds: float, backbone: str, width: float) -> dict[str, list[float]]:
    """ms an image in eval mode of each arm (``block``, or ``block placement``), call by call."""
    how, models = machine(), {}
    layout = torch.channels_last if how.channels_last else torch.contiguous_format
    x = x.to(how.device, memory_format=layout)
    for arm in arms:
        block, _, placement = arm.partition(" ")
        model = build_model(backbone, block, width=width, in_channels=x.shape[1],
                            image_size=x.shape[2], placement=placement or None)
        models[arm] = model.eval().to(how.device, memory_format=layout)

    def call(model):
        with torch.inference_mode(), torch.autocast(how.device, how.autocast,
                                                    enabled=how.autocast is not None):
            model(x)
    took = in_turns({arm: partial(call, model) for arm, model in models.items()}, seconds,
                    how.device, least=10, warm=5)
    return {arm: [1e3 * t / len(x) for t in times] for arm, times in took.items()}


def inference(data: Dataset, seconds: float, backbone: str, width: float, arms,
              batches=(1, 64)) -> dict:
    """ms an image in eval mode of batches of that size: each call, and their spread."""
    test = Batches(*data.split("test", max(batches)), data.mean, data.std)
    took = {str(size): eval_times(arms, next(test.ordered(size))[0], seconds / len(batches),
                                  backbone, width) for size in batches}
    return {"backbone": backbone, "width": width, "repeats": took, "ms_per_image": {
        size: {arm: spread(t) for arm, t in times.items()} for size, times in took.items()}}


def claimed(data: Dataset, seconds: float, arms=("none", "cbam head_post", "se", "cbam"),
            batch: int = 64, width: float = 1.0) -> dict:
    """As `inference`, at the size at which the Fashion-MNIST report states its times; of one thread
    on a CPU: on a busy machine no thread then waits for another."""
    threads, shape = torch.get_num_threads(), (1, 28, 28)
    torch.set_num_threads(1)
    try:
        took = eval_times(arms, torch.randn(batch, *shape), seconds, "resnet18", width)
    finally:
        torch.set_num_threads(threads)
    return {"backbone": "resnet18", "width": width, "threads": 1, "shape": list(shape),
            "batch": batch, "repeats": took}


def memory(data: Dataset, seconds: float, backbone: str, width: float, arms) -> dict:
    """Peak bytes of three training steps, each in its own process: our arms, and the plain loop."""
    fixed, peak = {"backbone": backbone, "width": width}, {}
    for loop, arm in [*(("ours", arm) for arm in arms), ("plain", "none")]:
        with ProcessPoolExecutor(1, get_context("spawn")) as new:
            took = new.submit(few_steps, loop=loop, attention=arm, **fixed)
            peak[f"{loop} {arm}"] = took.result()
    of = "the device" if machine().device == "cuda" else "the process"
    return fixed | {"batch_size": BATCH, "peak_bytes": peak, "of": of}


def few_steps(loop: str, steps: int = 3, **fields) -> int:
    """Train a few steps on noise (a real set's files would fill the memory first); peak bytes."""
    row, rng, n = DATASETS["cifar10"], np.random.default_rng(0), steps * BATCH
    x = rng.integers(0, 256, (n, row.size, row.size, row.channels), dtype=np.uint8)
    parts = ("train", "val", "test")
    data = Dataset("cifar10", tuple("0123456789"), row.mean, row.std, dict.fromkeys(parts, x),
                   dict.fromkeys(parts, np.arange(n) % 10))
    LOOPS[loop](Run("cifar10", n_train=n, n_val=10, n_test=10, **fields), data).epoch(0)
    return peak_memory(machine().device)


def matrix(data: Dataset, seconds: float, sizes=()) -> dict:
    """FLOP/s of large matrix products, in training's precision and in float32."""
    how = machine()
    sizes = sizes or ((512, 1024, 2048) if how.device == "cpu" else (2048, 4096, 8192))
    return {"flops_per_second": {
        str(dtype).removeprefix("torch."): matrix_rate(how.device, dtype, sizes)
        for dtype in {how.autocast or torch.float32, torch.float32}}}


# --- Do both loops learn the same? ---


def agreement(data: Dataset, seconds: float, backbone: str, n_train: int = 2000,
              n_test: int = 2000, epochs: int = 4) -> dict:
    """Test accuracy, 0..1, of both loops after the same epochs, for each of three seeds."""
    found, width = {loop: [] for loop in LOOPS}, 0.125
    for seed in range(3):
        run = Run(data.name, backbone, seed=seed, width=width, epochs=epochs,
                  n_train=n_train, n_val=10, n_test=n_test)
        for loop, make in LOOPS.items():
            trainer = make(run, data)
            for epoch in range(epochs):
                trainer.epoch(epoch)
            found[loop].append(trainer.score("test")["accuracy"])
    return {"backbone": backbone, "width": width, "epochs": epochs, "n_train": n_train,
            "n_test": n_test, "recipe": run.recipe, "accuracy": found}

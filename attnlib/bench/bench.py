"""``python -m attnlib bench``: our training side by side with `plainloop`, what attention costs,
and whether both loops learn the same. One JSON file a kind of machine, saved after every row."""
import os
import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from ..data.arrays import DataMissing
from ..data.batches import Batches
from ..data.datasets import DATASETS, Dataset, load_dataset
from ..networks.build import build_model
from ..networks.cost import cost
from ..settings import out_dir, shown
from ..training import store
from ..training.environment import environment, machine
from ..training.run import Run
from ..training.trainer import Trainer
from . import measure
from .plainloop import PlainLoop, loader
from .road import road_speed

ARMS = ("none", "se", "cbam", "hybrid")
NETWORKS = ("resnet18", "squeezenet", "vgg16")
LOOPS = {"ours": Trainer, "plain": PlainLoop}
REPEATS = (5, 3)                    # wanted, and where time is short
LEAST_STEPS = 10                    # a turn: the loader's first batch, waited for, is then little
BATCH = 128                         # the recipe's


class Row(NamedTuple):
    """One row of the plan: its name in the file, what measures it, its share of the time, and what
    the measuring function takes."""
    name: str
    kind: str
    share: float
    options: dict


def plan(widths=(0.25,), networks=NETWORKS, arms=ARMS, notebook: str = "") -> list[Row]:
    """The headline first: what is cut short has measured that."""
    rows = [Row("matrix", "matrix", 0, {})]
    for width in widths:
        for k, backbone in enumerate(networks):
            net, where = {"backbone": backbone, "width": width}, f"{backbone}-w{width:g}"
            rows += [Row(f"training-{where}", "training", 10, net | {"arms": arms}),
                     Row(f"inference-{where}", "inference", 3, net | {"arms": arms})]
            if k == 0 and width == widths[0]:
                rows += [Row("pipeline", "pipeline", 1.5, {}),
                         Row("agreement", "agreement", 8, {"backbone": backbone}),
                         Row("road", "road", 1, net)]
        rows += [Row(f"memory-{b}-w{width:g}", "memory", 1.5,
                     {"backbone": b, "width": width, "arms": arms}) for b in networks]
    rows += [Row("claimed", "claimed", 3, {}), Row("import", "import", 1, {})]
    return rows + [Row("notebook", "notebook", 1, {"name": notebook})] * bool(notebook)


def quick_plan() -> list[Row]:
    """Everything once, tiny: to see that it works."""
    small = {"agreement": {"n_train": 256, "n_test": 200, "epochs": 1},
             "claimed": {"arms": ARMS[:2], "batch": 2, "width": 0.125},
             "pipeline": {"batches": 4}, "import": {"repeats": 1}, "road": {"images": 2}}
    rows = plan((0.125,), ("squeezenet",), ARMS[:2])
    return [r._replace(options=r.options | small.get(r.kind, {})) for r in rows]


def run(rows: list[Row], minutes: float, name: str = "", again: bool = False) -> Path:
    """Measure the rows within about so many minutes and return the file. The time left is shared
    out again after every row, and a row's own least work is done even where it takes longer.

    A row goes into what is stored of this machine; one that was measured for longer stays, but with
    ``again``. Rows of another torch, Python, precision or data set are dropped."""
    env, data = surroundings(), images()
    path = bench_dir() / f"{name or slug(env)}.json"
    body = {"schema": store.SCHEMA, "env": env, "minutes": minutes, "id": path.stem,
            "data": data.name, "rows": earlier(path, env, data.name)}
    end = time.monotonic() + 60 * minutes
    for k, row in enumerate(rows):
        left, started = max(end - time.monotonic(), 0), time.monotonic()
        share = row.share / max(sum(r.share for r in rows[k:]), 1e-9)
        try:
            result = KINDS[row.kind](data, share * left, **row.options)
        except (RuntimeError, OSError) as error:        # out of memory, say: the others go on
            print(f"{row.name}: {error}", flush=True)
            result = {"failed": type(error).__name__}
        seconds = round(time.monotonic() - started, 1)
        result = {"kind": row.kind, "seconds": seconds, "load": env["load"]} | result
        kept = not again and outlasts(body["rows"].get(row.name), result)
        if not kept:
            body["rows"][row.name] = result
        store.write_sealed(path, rounded(body))
        print(f"{row.name} … {seconds:.0f} s ({k + 1} of {len(rows)})"
              + (", and the stored one, measured for longer, stays" if kept else ""), flush=True)
    print(f"saved: {shown(path)}", flush=True)
    return path


def earlier(path: Path, env: dict, data: str) -> dict:
    """The rows that are stored of the same machine, versions, threads, precision and images."""
    body = store.read_sealed(path) if path.is_file() else None
    same = ("device", "cores", "threads", "precision", "channels_last", "torch", "python")
    fits = body and body["data"] == data and all(body["env"].get(k) == env.get(k) for k in same)
    return body["rows"] if fits else {}


def outlasts(old: dict | None, new: dict) -> bool:
    """A good row that was measured for clearly longer is the better one."""
    return bool(old) and "failed" not in old and \
        ("failed" in new or old["seconds"] > 1.25 * new["seconds"])


def bench_dir() -> Path:
    return out_dir() / "results" / "bench"


def rounded(value, digits: int = 5):
    """Floats to five significant digits: a stopwatch has no more."""
    if isinstance(value, dict):
        return {k: rounded(v, digits) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(v, digits) for v in value]
    return float(f"{value:.{digits}g}") if isinstance(value, float) else value


def surroundings() -> dict:
    """`train.environment` with what else decides speed: cores, torchvision, and the load averages
    (1, 5 and 15 minutes) before we start: above zero, somebody else was computing."""
    from importlib.metadata import version
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = [round(x, 2) for x in os.getloadavg()] if hasattr(os, "getloadavg") else None
    return environment() | {"cores": cores, "load": load, "threads": torch.get_num_threads(),
                            "torchvision": version("torchvision")}


def slug(env: dict) -> str:
    """One file a kind of machine: its processor and cores, or its GPU; never its name."""
    words = env["device"] + ("" if machine().device == "cuda" else f" {env['cores']} cores")
    return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")


def images() -> Dataset:
    """CIFAR-10 where it is on disk, else ShapeTex images of the same shape."""
    try:
        return load_dataset("cifar10", download=False)
    except DataMissing:
        return load_dataset("shapetex", sizes={"train": 10_240, "val": 500, "test": 2_000})


# --- Training: ours against the plain loop, every block beside every other ---


def training(data: Dataset, seconds: float, backbone: str, width: float, arms) -> dict:
    """Images/s of every arm in both loops, repeat by repeat. A turn is one epoch of so many steps;
    two short epochs of each, not counted, warm the machine up and say how many steps fit."""
    names = [(loop, arm) for arm in arms for loop in LOOPS]
    shape = data.images["train"].shape[1:]
    fixed = {"backbone": backbone, "width": width}
    ready = contestants(names, data, 2, **fixed)
    for name in names:
        ready[name].epoch(0)
    step = sum(ready[name].epoch(1)["seconds"] for name in names) / 2
    wanted, least = REPEATS
    repeats = wanted if seconds / (wanted * step) >= LEAST_STEPS else least
    steps = int(seconds / (repeats * step))
    steps = min(max(steps, LEAST_STEPS), len(data.labels["train"]) // BATCH)
    ready = contestants(names, data, steps, **fixed)
    rates = {loop: {arm: [] for arm in arms} for loop in LOOPS}
    for k, (loop, arm) in enumerate(measure.turns(names, repeats)):
        row = ready[loop, arm].epoch(k // len(names))
        rates[loop][arm].append(steps * BATCH / row["seconds"])
    macs = {arm: cost(build_model(backbone, arm, width=width, in_channels=shape[2]),
                      (shape[2], *shape[:2]))["macs"] for arm in arms}
    return fixed | {"batch_size": BATCH, "steps": steps, "images_per_second": rates, "macs": macs}


def contestants(names: list[tuple[str, str]], data: Dataset, steps: int, **fields) -> dict:
    """A training of ``steps`` batches an epoch for each (loop, block); all plain ones share their
    loader, so that no idle workers pile up."""
    runs = {name: Run(data.name, attention=name[1], epochs=100, n_train=steps * BATCH,
                      n_val=10, n_test=10, **fields) for name in names}
    shared = loader(next(iter(runs.values())), data, "train")
    next(iter(shared))                                      # its workers start here, untimed
    return {name: PlainLoop(run, data, shared) if name[0] == "plain" else Trainer(run, data)
            for name, run in runs.items()}


def pipeline(data: Dataset, seconds: float, batches: int = 80) -> dict:
    """Images/s of the input alone, from stored images to normalised batches on the device."""
    device, how = machine().device, Run(data.name).how
    n = min(batches * BATCH, len(data.labels["train"]))
    run = Run(data.name, n_train=n)
    ours = Batches(*data.split("train", n), data.mean, data.std, crop=how.crop, flip=how.flip,
                   batch_size=BATCH, device=device)
    plain = loader(run, data, "train")
    passes = {"ours": lambda: sum(len(y) for _, y in ours.epoch(0)),
              "plain": lambda: sum(len(y.to(device)) for x, y in plain if len(x.to(device)))}
    once = sum(measure.warm_up(work, 2, 5, device) for work in passes.values())
    repeats = int(min(max(seconds / once, REPEATS[1]), 15))
    rates = {loop: [] for loop in passes}
    for loop in measure.turns(list(passes), repeats):
        took = measure.seconds_of(passes[loop], device)
        rates[loop].append(n // BATCH * BATCH / took)
    return {"images": n, "images_per_second": rates}


# --- Inference, memory, and the machine itself ---


def inference(data: Dataset, seconds: float, backbone: str, width: float, arms,
              batches=(1, 64), warm: float = 2) -> dict:
    """ms an image in eval mode: of each arm the spread over all calls, and the median of every
    repeat, which overhead is taken from. Untimed first: 20 calls, or what fits ``warm`` seconds."""
    how, shape = machine(), data.images["test"].shape[1:]
    models = {arm: build_model(backbone, arm, width=width, in_channels=shape[2]).eval().to(
        how.device) for arm in arms}
    if how.channels_last:
        models = {arm: m.to(memory_format=torch.channels_last) for arm, m in models.items()}
    test = Batches(*data.split("test", 64), data.mean, data.std, device=how.device)
    out = {"backbone": backbone, "width": width, "ms_per_image": {}, "repeats": {}}
    for size in batches:
        x = next(test.ordered(size))[0]

        def call(arm, x=x):
            with torch.inference_mode(), torch.autocast(how.device, how.autocast,
                                                        enabled=how.autocast is not None):
                models[arm](x)
        once = sum(measure.warm_up(lambda arm=arm: call(arm), 20, warm, how.device) for arm in arms)
        repeats = REPEATS[0]
        calls = int(min(max(seconds / len(batches) / repeats / once, 3), 200))
        times = {arm: [] for arm in arms}
        for arm in measure.turns(list(arms), repeats):
            times[arm].append([1e3 / size * measure.seconds_of(lambda arm=arm: call(arm),
                                                               how.device) for _ in range(calls)])
        out["ms_per_image"][str(size)] = {a: measure.spread(sum(t, [])) for a, t in times.items()}
        out["repeats"][str(size)] = {a: [float(np.median(r)) for r in t] for a, t in times.items()}
    return out


def claimed(data: Dataset, seconds: float, arms=("none", "cbam head_post", "se", "cbam"),
            shape=(1, 28, 28), batch: int = 64, width: float = 1.0) -> dict:
    """As `inference`, at the size at which the Fashion-MNIST report states its times. Each arm has
    one call a turn, of one thread on a CPU: on a busy machine neighbours in time are slowed alike,
    and no thread waits for another."""
    how, threads = machine(), torch.get_num_threads()
    torch.set_num_threads(1)
    layout = torch.channels_last if how.channels_last else torch.contiguous_format
    models = {arm: build_model("resnet18", arm.split()[0], width=width, in_channels=shape[0],
                               image_size=shape[1], placement="".join(arm.split()[1:]) or None)
              .eval().to(how.device, memory_format=layout) for arm in arms}
    x = torch.randn(batch, *shape, device=how.device).to(memory_format=layout)

    def call(arm):
        with torch.inference_mode(), torch.autocast(how.device, how.autocast,
                                                    enabled=how.autocast is not None):
            models[arm](x)
    once = sum(measure.warm_up(lambda arm=arm: call(arm), 20, 2, how.device) for arm in arms)
    times = {arm: [] for arm in arms}
    for arm in measure.turns(list(arms), int(max(seconds / once, 2 * REPEATS[0]))):
        took = measure.seconds_of(lambda arm=arm: call(arm), how.device)
        times[arm].append(1e3 * took / batch)
    torch.set_num_threads(threads)
    return {"backbone": "resnet18", "width": width, "threads": 1, "shape": list(shape),
            "batch": batch, "repeats": times}


PEAK = """
from attnlib.bench import few_steps
print(few_steps(**given))
"""


def memory(data: Dataset, seconds: float, backbone: str, width: float, arms) -> dict:
    """Peak bytes of three training steps, each in a process of its own: our arms, and the plain
    loop (without its workers) with none."""
    jobs = [("ours", arm) for arm in arms] + [("plain", "none")]
    fixed = {"backbone": backbone, "width": width}
    peak = {f"{loop} {arm}": int(measure.fresh(PEAK, loop=loop, attention=arm, **fixed)[0])
            for loop, arm in jobs}
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
    return measure.peak_bytes(machine().device)


def matrix(data: Dataset, seconds: float, sizes=()) -> dict:
    """FLOP/s of large matrix products, in training's precision and in float32."""
    how = machine()
    dtypes = {str(d).removeprefix("torch."): d for d in (how.autocast or torch.float32,
                                                         torch.float32)}
    sizes = sizes or ((512, 1024, 2048) if how.device == "cpu" else (2048, 4096, 8192))
    return {"flops_per_second": {name: measure.matrix_rate(how.device, dtype, sizes)
                                 for name, dtype in dtypes.items()}}


def imports(data: Dataset, seconds: float, repeats: int = 5) -> dict:
    bare, whole = measure.import_seconds(repeats)
    return {"seconds_beyond_torch": {"bare": bare, "whole": whole}}


def notebook(data: Dataset, seconds: float, name: str) -> dict:
    """Wall seconds of a notebook whose records are there: it reads and draws, and trains nothing.
    """
    from ..report import notebooks as books
    book, = books.chosen([name])
    with tempfile.TemporaryDirectory() as folder, \
            books.surroundings(ATTNLIB_TRAIN="0", ATTNLIB_PROFILE="best"):
        took = measure.seconds_of(lambda: books.execute(book, {}, Path(folder)))
        profile = books.profile_of(books.read(Path(folder) / book.name))
    return {"notebook": name, "profile": profile, "wall_seconds": took}


# --- Do both loops learn the same? ---


def agreement(data: Dataset, seconds: float, backbone: str, width: float = 0.125,
              n_train: int = 2000, n_test: int = 2000, epochs: int = 4, most: int = 6) -> dict:
    """Test accuracy, 0..1, of both loops after the same epochs, seed by seed: three seeds, and up
    to ``most`` while there is time."""
    found, spent = {loop: [] for loop in LOOPS}, time.monotonic()
    for seed in range(most):
        each = (time.monotonic() - spent) / max(seed, 1)
        if seed >= REPEATS[1] and (seed + 1) * each > seconds:
            break
        run = Run(data.name, backbone, seed=seed, width=width, epochs=epochs,
                  n_train=n_train, n_val=10, n_test=n_test)
        for loop in LOOPS:
            found[loop].append(learnt(loop, run, data))
    return {"backbone": backbone, "width": width, "epochs": epochs, "n_train": n_train,
            "n_test": n_test, "recipe": run.recipe, "accuracy": found}


def learnt(loop: str, run: Run, data: Dataset) -> float:
    trainer = LOOPS[loop](run, data)
    for epoch in range(run.how.epochs):
        trainer.epoch(epoch)
    return trainer.accuracy("test") if loop == "plain" else trainer.score("test")["accuracy"]


KINDS: dict[str, Callable] = {
    "training": training, "pipeline": pipeline, "inference": inference, "claimed": claimed,
    "memory": memory, "matrix": matrix, "import": imports, "notebook": notebook,
    "agreement": agreement, "road": road_speed}

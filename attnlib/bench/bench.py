"""``python -m attnlib bench``: our training side by side with `plainloop`, what attention costs,
and whether both loops learn the same. One JSON file a kind of machine, saved after every row."""
import json
import os
import re
import tempfile
import time
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import NamedTuple

from ..data.arrays import DataMissing
from ..data.datasets import Dataset, load_dataset
from ..experiments.workers import cores
from ..settings import shown
from ..training import environment, store
from ..training.environment import machine
from .measure import bench_dir, seconds_of
from .rows import agreement, claimed, inference, matrix, memory, pipeline, training

ARMS = ("none", "se", "cbam", "hybrid")
NETWORKS = {"resnet18": 1, "speednet": 2, "squeezenet": 1}     # × the width, as the studies do
SAME = ("device", "cores", "threads", "precision", "channels_last", "torch", "python")


class BenchRow(NamedTuple):
    """One row of the plan: its name in the file, which begins with what measures it, its share of
    the time, and what the measuring function takes."""
    name: str
    share: float = 1.0
    options: dict = {}

    @property
    def kind(self) -> str:
        return self.name.partition("-")[0]


def plan(widths=(0.25,), networks=NETWORKS, arms=ARMS, notebook: str = "") -> list[BenchRow]:
    """The headline first: what is cut short has measured that."""
    rows = [BenchRow("matrix", 0)]
    for width, backbone in product(widths, networks):
        net = {"backbone": backbone, "width": width * networks[backbone], "arms": arms}
        rows += [BenchRow(f"{kind}-{backbone}-w{net['width']:g}", share, net)
                 for kind, share in (("training", 10), ("inference", 3), ("memory", 1.5))]
    rows += [BenchRow("pipeline", 1.5),
             BenchRow("agreement", 8, {"backbone": next(iter(networks))}),
             BenchRow("claimed", 3)]
    if notebook:
        rows.append(BenchRow("notebook", options={"name": notebook}))
    return rows


def quick_plan() -> list[BenchRow]:
    """Everything once, tiny: to see that it works."""
    small = {"agreement": {"n_train": 256, "n_test": 200, "epochs": 1},
             "claimed": {"arms": ARMS[:2], "batch": 2, "width": 0.125}, "pipeline": {"batches": 4}}
    rows = plan((0.125,), {"squeezenet": 1}, ARMS[:2])
    return [r._replace(options=r.options | small.get(r.kind, {})) for r in rows]


def run_bench(rows: list[BenchRow], minutes: float, name: str = "", again: bool = False) -> Path:
    """Measure the rows within about so many minutes and return the file. The time left is shared
    out again after every row, and a row's own least work is done even where it takes longer.

    A row goes into what is stored of this machine; a good one that was measured for clearly longer
    stays, but with ``again``. Rows of another torch, Python, precision or data set are dropped."""
    env, data = bench_surroundings(), images()
    path = bench_dir() / f"{name or slug(env)}.json"
    body = {"schema": store.SCHEMA, "env": env, "minutes": minutes, "id": path.stem,
            "data": data.name, "rows": earlier(path, env, data.name)}
    end = time.monotonic() + 60 * minutes
    for k, row in enumerate(rows, 1):
        left, started = max(end - time.monotonic(), 0), time.monotonic()
        share = row.share / max(sum(r.share for r in rows[k - 1:]), 1e-9)
        try:
            result = KINDS[row.kind](data, share * left, **row.options)
        except (RuntimeError, OSError) as error:        # out of memory, say: the others go on
            print(f"{row.name}: {error}", flush=True)
            result = {"failed": type(error).__name__}
        seconds = round(time.monotonic() - started, 1)
        result = {"kind": row.kind, "seconds": seconds, "load": env["load"]} | result
        old = body["rows"].get(row.name, {"failed": "never measured"})
        kept = not again and "failed" not in old and (
            "failed" in result or old["seconds"] > 1.25 * seconds)
        if not kept:
            body["rows"][row.name] = result
        store.write_sealed(path, rounded(body))
        print(f"{row.name} … {seconds:.0f} s ({k} of {len(rows)})"
              + (", and the stored one, measured for longer, stays" if kept else ""), flush=True)
    print(f"saved: {shown(path)}", flush=True)
    return path


def earlier(path: Path, env: dict, data: str) -> dict:
    """The rows that are stored of the same machine, versions, threads, precision and images."""
    body = store.read_sealed(path)
    fits = body and body["data"] == data and all(body["env"].get(k) == env.get(k) for k in SAME)
    return body["rows"] if fits else {}


def rounded(body: dict) -> dict:
    """Floats to five significant digits: a stopwatch has no more."""
    return json.loads(json.dumps(body), parse_float=lambda text: float(f"{float(text):.5g}"))


def bench_surroundings() -> dict:
    """Versions and hardware, with what else decides speed: threads, torchvision, and the load
    averages (1, 5 and 15 minutes) before we start: above zero, somebody else was computing."""
    load = [round(x, 2) for x in os.getloadavg()] if hasattr(os, "getloadavg") else None
    return environment.surroundings() | {"cores": cores(), "load": load,
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
        return load_dataset("shapetex", sizes={"train": 12_800, "val": 500, "test": 2_000})


def notebook(data: Dataset, seconds: float, name: str) -> dict:
    """Wall seconds of a notebook that only reads its records and draws."""
    from ..report import notebooks as books
    book, = books.chosen_books([name])
    with tempfile.TemporaryDirectory() as folder:
        took = seconds_of(lambda: books.execute(book, {}, Path(folder), ATTNLIB_TRAIN="0",
                                                ATTNLIB_PROFILE="auto"))
        profile = books.profile_of(books.read_notebook(Path(folder) / book.name))
    return {"notebook": name, "profile": profile, "wall_seconds": took}


KINDS = {measure.__name__: measure for measure in (
    training, pipeline, inference, claimed, memory, matrix, agreement, notebook)}

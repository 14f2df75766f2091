"""Stopwatches: what a piece of work costs in seconds and bytes, and what the machine could do.

Everything is timed in turns (a, b, c, then c, b, a, …), so that a machine that slows down slows all
contestants alike; and a spread stands beside every median, never a best run."""
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from ..settings import out_dir


def bench_dir() -> Path:
    return out_dir() / "results" / "bench"


def wait_for(device: str) -> None:
    """Until the device has done all that it was asked: CUDA returns before the work is done."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()


def seconds_of(work: Callable, device: str = "cpu") -> float:
    """Wall seconds of one call of ``work()``."""
    wait_for(device)
    started = time.perf_counter()
    work()
    wait_for(device)
    return time.perf_counter() - started


def in_turns(works: dict, seconds: float, device: str = "cpu", least: int = 3, most: int = 50,
             warm: int = 1) -> dict[object, list[float]]:
    """Seconds of every call of each piece of work, called in turns, every second turn backwards,
    ``least`` to ``most`` times as fits ``seconds``; first ``warm`` times untimed."""
    once = sum([seconds_of(work, device) for _ in range(warm) for work in works.values()]
               [-len(works):])
    took = {name: [] for name in works}
    for turn in range(int(min(max(seconds / once, least), most))):
        for name in works if turn % 2 == 0 else reversed(works):
            took[name].append(seconds_of(works[name], device))
    return took


def spread(values) -> dict[str, float]:
    """``median`` and quartiles ``low`` and ``high`` of the values, and their number ``n``."""
    low, median, high = np.percentile(list(values), (25, 50, 75))
    return {"median": float(median), "low": float(low), "high": float(high), "n": len(values)}


def ratio(top, bottom) -> dict[str, float]:
    """`spread` of top / bottom, taken repeat by repeat: what slows a whole repeat cancels."""
    return spread([a / b for a, b in zip(top, bottom, strict=True)])


def matrix_rate(device: str, dtype: torch.dtype, sizes) -> float:
    """The machine's matrix products in FLOP/s: 2 n³ over the median time of an n×n product, the
    best of several n. What training could reach if it did nothing but multiply large matrices."""
    rates = []
    for n in sizes:
        a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
        took, = in_turns({n: lambda a=a, b=b: a @ b}, 0.5, device, warm=3).values()
        rates.append(2 * n ** 3 / spread(took)["median"])
    return max(rates)

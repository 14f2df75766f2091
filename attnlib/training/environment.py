"""Where and how a run computes: device, precision, versions, what a record says of them."""
import contextlib
import os
import platform
import subprocess
from functools import cache
from typing import NamedTuple

import numpy as np
import torch

from ..settings import REPO


class Machine(NamedTuple):
    """Where and how precisely to compute. bf16 only where the hardware has it (emulated, it is many
    times slower than float32); channels_last where it was measured to be faster."""
    device: str
    autocast: torch.dtype | None
    channels_last: bool


@cache
def machine() -> Machine:
    if torch.cuda.is_available():
        half = torch.bfloat16 if torch.cuda.is_bf16_supported(False) else torch.float16
        return Machine("cuda", half, True)
    if torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported():
        return Machine("cpu", torch.bfloat16, False)
    return Machine("cpu", None, True)


@contextlib.contextmanager
def determinism():
    """With ATTNLIB_DETERMINISTIC=1: PyTorch's strictest mode while training, in which an operation
    without a deterministic form raises. What was set before is set again afterwards."""
    asked = os.environ.get("ATTNLIB_DETERMINISTIC") or "0"
    if asked not in ("0", "1"):
        raise ValueError(f"ATTNLIB_DETERMINISTIC={asked!r} should be 0 or 1")
    if asked == "0":
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")      # read by cuBLAS at its start
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.benchmark = before[1]


def surroundings() -> dict:
    """`environment`, and what may change from one run to the next in a process."""
    return environment() | {"threads": torch.get_num_threads(),
                            "deterministic": torch.are_deterministic_algorithms_enabled()}


@cache
def environment() -> dict:
    """What the numbers came from: versions, hardware, precision, commit."""
    m, commit = machine(), None
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        command = ["git", "-C", str(REPO), "rev-parse", "-q", "--verify", "HEAD"]
        commit = subprocess.run(command, capture_output=True, text=True,
                                timeout=10).stdout.strip() or None
    return {"python": platform.python_version(), "torch": torch.__version__,
            "numpy": np.__version__, "os": platform.system(), "machine": platform.machine(),
            "device": torch.cuda.get_device_name() if m.device == "cuda" else cpu_name(),
            "precision": str(m.autocast or torch.float32).removeprefix("torch."),
            "channels_last": m.channels_last, "cores": os.cpu_count(), "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(), "commit": commit}


def cpu_name() -> str:
    name = platform.processor() or "CPU"
    with contextlib.suppress(OSError, StopIteration), open("/proc/cpuinfo") as file:
        name = next(line.split(":")[1].strip() for line in file if line.startswith("model name"))
    return f"{name}, {torch.backends.cpu.get_cpu_capability()}"


def peak_memory(device: str) -> int:
    """Bytes: with CUDA the device's peak since the newest `Trainer` was made; on a CPU the most
    that this process held so far, with Python and torch themselves."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    with contextlib.suppress(OSError, StopIteration), open("/proc/self/status") as file:
        return 1024 * int(next(line for line in file if line.startswith("VmHWM")).split()[1])
    with contextlib.suppress(ImportError):          # elsewhere; of Windows nothing is known
        import resource
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return used if platform.system() == "Darwin" else used * 1024
    return 0

"""A trained network in the formats of others, each file loaded again and compared.

safetensors holds the weights, in float16. ONNX and TorchScript hold the whole network, from images
float32 [N, C, S, S] in 0..1 to class probabilities [N, classes], normalisation inside, for any N.
In all of them the text ``attnlib`` says the rest: the weight file's header, as JSON."""
import contextlib
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ..files import make_writable
from ..training.run import Run, canonical_json
from ..training.trainer import data_of
from .weights import assembled, find, load_model, weights_dir, write_weights

SUFFIX = {"safetensors": ".safetensors", "onnx": ".onnx", "torchscript": ".ts"}
OPSET = 18                      # ONNX's operators of December 2022: onnxruntime 1.14 and later
TOLERANCE = {".safetensors": 1e-2, ".onnx": 1e-5, ".ts": 1e-5}       # off by, in probabilities
CALIBRATION = 500               # training images that int8's ranges are measured on
REPEATS = 100                   # images that latency is the median over


class Deployed(nn.Module):
    """p = softmax(net((x − mean) / std)), x in 0..1, [N, C, S, S]."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(getattr(net, name)).view(-1, 1, 1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.net((image - self.mean) / self.std).softmax(1)


def export_as(run_or_id, form: str = "safetensors",
              output: str | Path | None = None) -> tuple[Path, float]:
    """Write a trained run in a format of SUFFIX, as ``results/weights/<id>.<ending>`` or
    ``output``; returns the file and by how much at most the probabilities of what is loaded from it
    differ from the network's, on random images. Raises as `find` does, and ``ValueError`` beyond
    TOLERANCE (then nothing is written) or for another ending of ``output``."""
    header, state = find(run_or_id)
    path = Path(output) if output else weights_dir() / f"{header['id']}{SUFFIX[form]}"
    if path.suffix != SUFFIX[form]:
        raise ValueError(f"--output {path.name}: the name of a {form} file ends in {SUFFIX[form]}")
    make_writable(path.parent)
    fresh = path.with_name(f".{os.getpid()}.{path.name}")   # checked before it replaces another
    model = Deployed(assembled(header, state)).eval()
    images = torch.rand(16, model.net.channels, model.net.size, model.net.size,
                        generator=torch.Generator().manual_seed(0))
    try:
        if form == "safetensors":
            write_weights(fresh, header, state)
        elif form == "torchscript":
            traced = torch.jit.trace(model, images[:2])
            torch.jit.save(traced, fresh, _extra_files={"attnlib": canonical_json(header)})
        else:
            write_onnx(fresh, model, images[:2], canonical_json(header))
        with torch.no_grad():
            expected = model(images).numpy()
        off = float(np.abs(load_file(fresh)(images.numpy()) - expected).max())
        if not off <= TOLERANCE[path.suffix]:
            raise ValueError(f"{path.name} is not written: loaded again its probabilities differ "
                             f"by {off:.1e}, more than {TOLERANCE[path.suffix]:.0e}")
        fresh.replace(path)
    finally:
        with contextlib.suppress(OSError):
            fresh.unlink()
    return path, off


def write_onnx(path: Path, model: Deployed, images: torch.Tensor, header: str) -> None:
    """Write an ONNX file; the images show the exporter the way."""
    import onnxscript  # noqa: F401        torch's exporter needs it, and says so late
    program = torch.onnx.export(
        model, (images,), dynamo=True, opset_version=OPSET, verbose=False,
        dynamic_shapes=({0: torch.export.Dim("n")},), input_names=["image"],
        output_names=["probabilities"])
    for node in program.model.graph:                # the exporter's stack traces, paths and all
        node.metadata_props.clear()
    program.model.metadata_props["attnlib"] = header
    program.save(path)


def load_file(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Images [N, C, S, S] in 0..1 -> probabilities, from a file alone; ONNX on one thread."""
    if path.suffix == ".onnx":
        import onnxruntime
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return lambda images: session.run(None, {"image": images})[0]
    model = torch.jit.load(path) if path.suffix == ".ts" else Deployed(load_model(path)).eval()
    return torch.no_grad()(lambda images: model(torch.from_numpy(images)).numpy())


def export_int8(run_or_id, path: Path) -> list[dict]:
    """Write ``….int8.onnx`` beside a run's ONNX file: weights and activations in 8 bits, their
    ranges from training images. A row for each: ``path``, ``accuracy`` on the test split of ``n``
    images, ``latency`` in seconds an image, one at a time on one thread (median)."""
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process
    run = Run(**find(run_or_id)[0]["run"])
    data = data_of(run)
    images = as_floats(data.split("train")[0][:CALIBRATION])
    batches = iter(np.array_split(images, min(10, len(images))))

    class Reader(quantization.CalibrationDataReader):
        def get_next(self):
            return next(({"image": batch} for batch in batches), None)
    small = path.with_suffix(".int8.onnx")
    quant_pre_process(path, small, skip_symbolic_shape=True)    # the exporter's shapes are enough
    quantization.quantize_static(small, small, Reader(), per_channel=True,      # the faster type
                                 activation_type=quantization.QuantType.QUInt8)
    images, labels = data.split("test", run.n_test)
    return compare_files([path, small], as_floats(images), labels)


def as_floats(images: np.ndarray) -> np.ndarray:
    """uint8 [N, H, W, C] -> float32 [N, C, H, W] in 0..1."""
    return images.transpose(0, 3, 1, 2).astype(np.float32) / 255


def compare_files(paths: list[Path], images: np.ndarray, labels: np.ndarray) -> list[dict]:
    """The files in turn on the same images, so that other work on the machine slows all alike."""
    models, times = [load_file(path) for path in paths], [[] for _ in paths]
    for k in range(REPEATS):
        for model, seconds in zip(models, times, strict=True):
            started = time.perf_counter()
            model(images[k % len(images)][None])
            seconds.append(time.perf_counter() - started)
    parts = np.array_split(images, len(images) // 500 + 1)
    return [{"path": path, "n": len(labels), "latency": statistics.median(seconds), "accuracy":
             float((np.concatenate([model(x).argmax(1) for x in parts]) == labels).mean())}
            for path, model, seconds in zip(paths, models, times, strict=True)]

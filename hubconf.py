"""For torch.hub, from a clone: ``torch.hub.load(REPO, "cifar10_resnet18_cbam", source="local")``.

One entry for each weight file in results/weights: the trained network in eval mode, with its
``classes``, ``mean``, ``std`` (of images in 0..1), ``size`` and ``channels``. Its logits are
[N, classes], its input normalised images [N, channels, size, size]."""
import json as _json
from pathlib import Path as _Path

from attnlib.experiments.published import entry_name as _entry_name
from attnlib.experiments.weights import load_model as _load_model

dependencies = ["torch", "numpy", "filelock", "safetensors"]
_FOLDER = _Path(__file__).resolve().parent / "results" / "weights"


def _entry(name, row):
    def load():
        return _load_model(_FOLDER / row["file"])
    load.__name__ = name
    load.__doc__ = (f"{row['id']}: test accuracy {100 * row['accuracy']:.2f} % on {row['n']:,} "
                    "images; its card lies beside the weights.")
    return load


for _row in _json.loads((_FOLDER / "index.json").read_text(encoding="utf-8"))["weights"]:
    _name = _entry_name(_row["id"])
    globals()[_name] = _entry(_name, _row)

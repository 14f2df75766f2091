"""attnlib: does attention help small-image CNNs, where, by how much, and at what cost?

The names that notebooks and users rely on; each is imported when it is first used, for torch alone
takes seconds."""
import importlib
import os

# Read when torch is first imported: waiting threads sleep, not spin. As fast on an idle machine,
# and half as fast again beside other work (measured: 222 against 148 images/s).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Read when numpy is: its matrices here are small, and beside other work two spinning threads took
# 50 to 200 times as long over one's singular values (measured: 253 against 4.6 ms).
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

__version__ = "0.1.0"
HOME = {
    "ATTENTION": "blocks", "own_block": "blocks", "BACKBONES": "networks",
    "DATASETS": "data.datasets", "RECIPES": "training.recipes", "STUDIES": "experiments.studies",
    "PROFILES": "experiments.studies", "Run": "training.run",
    "build_model": "networks.build", "add_attention": "networks.insert",
    "cost": "networks.cost", "load_dataset": "data.datasets", "train": "training.trainer",
    "study": "experiments.planning", "resolve_profile": "experiments.planning",
    "run_grid": "experiments.grid", "results": "experiments.grid", "try_it": "experiments.grid",
    "collect": "experiments.reading", "histories": "experiments.reading",
    "load_model": "experiments.weights",
}


def __getattr__(name):
    if name not in HOME:
        raise AttributeError(f"attnlib has no {name!r}; it has {', '.join(HOME)}")
    value = getattr(importlib.import_module(f".{HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__():
    return [*HOME, "__version__"]

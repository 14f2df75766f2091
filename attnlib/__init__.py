"""attnlib: does attention help small-image CNNs, where, by how much, and at what cost?

The names that notebooks and users rely on; each is imported when it is first used."""
import importlib
import os
import sys

# Read when torch is first imported: waiting threads sleep, not spin. As fast on an idle machine,
# and half as fast again beside other work (measured: 222 against 148 images/s).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Read when numpy is: its matrices here are small, and beside other work two spinning threads took
# 50 to 200 times as long over one's singular values (measured: 253 against 4.6 ms).
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
from types import ModuleType

__version__ = "0.1.0"
HOME = {
    "ATTENTION": "attention", "BACKBONES": "backbones", "DATASETS": "data", "RECIPES": "recipes",
    "STUDIES": "studies", "PROFILES": "studies", "Run": "run", "build_model": "models",
    "add_attention": "adding", "cost": "models",
    "load_dataset": "data", "train": "train", "study": "grid", "run_grid": "grid",
    "collect": "grid", "load_model": "grid", "resolve_profile": "grid", "histories": "grid",
    "try_it": "grid",
}


def __getattr__(name):
    if name not in HOME:
        raise AttributeError(f"attnlib has no {name!r}; it has {', '.join(HOME)}")
    value = getattr(importlib.import_module(f".{HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__():
    return [*HOME, "__version__"]


class Package(ModuleType):
    """Importing the module ``attnlib.train`` would put it where the function of that name belongs.
    """

    def __setattr__(self, name, value):
        if name in HOME and isinstance(value, ModuleType):
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = Package

"""Does a map depend on what the network has learnt? Its layers are set back to their initial state
one after the other, from the classifier down, and each time the map is compared with the trained
network's. A map that stays the same shows edges, not reasons. Adebayo et al. 2018,
arXiv:1810.03292."""
import copy
from dataclasses import replace

import numpy as np
import torch
from scipy.stats import rankdata
from torch import nn

from ..names import derive
from ..training.run import Run
from ..training.trainer import data_of, model_of
from .cam import make, passes
from .focus import correlation


def reset_order(model: nn.Module) -> list[str]:
    """The parts that are set back, in their order: classifier, neck and head, stages, stem."""
    stages = [f"stages.{k}" for k in reversed(range(len(model.stages)))]
    return ["classifier", *stages, "stem"]


def cascade(model: nn.Module, run: Run):
    """Yield (level, network with that level and all above it in another seed's initial state)."""
    fresh = model_of(replace(run, seed=derive("sanity", run.seed) % 2**31), data_of(run)).eval()
    fresh.to(next(model.parameters()).device)
    model = copy.deepcopy(model)
    above = ("neck", "head", "head_post")                # what lies between, with the classifier
    for level in reset_order(model):
        for name in (level, *(above if level == "classifier" else ())):
            model.get_submodule(name).load_state_dict(fresh.get_submodule(name).state_dict())
        yield level, model


def rank_correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Spearman's rank correlation [N] of maps [N, h, w]; NaN where one is constant."""
    return correlation(*(rankdata(m.reshape(len(m), -1), axis=1) for m in (a, b)))


def randomised(model: nn.Module, run: Run, x: torch.Tensor, classes, stage: int,
               methods=("grad_cam",)) -> dict[str, np.ndarray]:
    """Method -> [levels, N]: how alike its map of each image is to the trained network's, with that
    level and all above it set back."""
    before = passes(model, x, classes, (stage,))[stage]
    out = {name: [] for name in methods}
    for _, broken in cascade(model, run):
        after = passes(broken, x, classes, (stage,))[stage]
        for name in methods:
            out[name].append(rank_correlation(make(name, before), make(name, after)))
    return {name: np.stack(rows) for name, rows in out.items()}

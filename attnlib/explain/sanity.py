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
from ..training.trainer import about, network
from .cam import make, pass_of
from .focus import divisor


def cascade(model: nn.Module, run: Run):
    """Yield (level, network with that level and all above it in another seed's initial state)."""
    fresh = network(replace(run, seed=derive("sanity", run.seed) % 2**31), about(run))
    fresh.to(next(model.parameters()))
    model = copy.deepcopy(model)
    levels = [("classifier", "neck", "head", "head_post"),
              *((f"stages.{k}",) for k in reversed(range(len(model.stages)))), ("stem",)]
    for names in levels:
        for name in names:
            model.get_submodule(name).load_state_dict(fresh.get_submodule(name).state_dict())
        yield names[0], model


def rank_correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Spearman's rank correlation [N] of maps [N, h, w]; NaN where one is constant."""
    a, b = (rankdata(m.reshape(len(m), -1), axis=1) for m in (a, b))
    a, b = (ranks - ranks.mean(1, keepdims=True) for ranks in (a, b))
    return (a * b).sum(1) / divisor(np.sqrt((a * a).sum(1) * (b * b).sum(1)))


def randomised(model: nn.Module, run: Run, x: torch.Tensor, classes, stage: int,
               methods: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Method -> [levels, N]: how alike its map of each image is to the trained network's, with that
    level and all above it set back."""
    def maps(network):
        found = pass_of(network, x, classes, stage, at_input=True)
        return {name: make(name, found) for name in methods}
    before, levels = maps(model), [maps(broken) for _, broken in cascade(model, run)]
    return {name: np.stack([rank_correlation(before[name], after[name]) for after in levels])
            for name in methods}

"""Fine-tuning: a run that starts from the weights of a finished one."""
import hashlib

import torch
from torch import nn

from ..data.arrays import DataMissing
from ..networks.attended import KEY
from ..settings import REPO, out_dir, part
from . import store


def load_start(model: nn.Module, start: str) -> str:
    """Load the weights of run ``start`` into a model that may have blocks added; returns their
    SHA-256. `DataMissing` where there are none, ``ValueError`` for those of another network."""
    state = start_state(start)
    try:
        missing, unknown = model.load_state_dict(state, strict=False)
    except RuntimeError:                                    # other shapes
        missing, unknown = [], [start]
    if unknown or not all(KEY in name for name in missing):
        raise ValueError(f"start={start}: those are weights of another network; backbone, width "
                         "and data have to be that run's, and it has to be one without attention")
    digest = hashlib.sha256()
    for name, x in sorted(state.items()):
        digest.update(name.encode() + x.contiguous().numpy().tobytes())
    return digest.hexdigest()


def start_state(start: str) -> dict[str, torch.Tensor]:
    """The final weights of a run, float32: those that come with the repository, so that all who
    start from them start alike, else those that were trained here."""
    for folder in (REPO, out_dir()):
        path = folder / "results" / "weights" / f"{part(start)}.safetensors"
        if path.is_file():
            from safetensors.torch import load_file  # here: a bare GPU machine trains without it
            return {name: x.float() if x.dtype == torch.float16 else x
                    for name, x in load_file(path).items()}
    for folder in sorted((out_dir() / "results" / "checkpoints").glob("*")):
        if state := store.load_checkpoint(folder / part(start), store.WEIGHTS):
            return state["model"]
    raise DataMissing(f"start={start}: no weights of that run are on this machine; "
                      f"`python -m attnlib train {start} --weights` trains them")

"""Trained networks found by id, and as small files to give away.

A weight file is a safetensors file, in which no code can hide: the tensors of the network, float16
where they are matrices or kernels, and as metadata ``attnlib``, a JSON text with all that is needed
to use them (the run, the versions of its rows, classes, normalisation, picture size, test scores)
and the SHA-256 over it and the tensors."""
import hashlib
import json
from collections import defaultdict
from pathlib import Path

import torch
from torch import nn

from ..data.arrays import DataRow
from ..files import write_atomic
from ..settings import REPO, checkpoints_dir, out_dir, plain, runs_dir, shown
from ..training import store
from ..training.run import Run, canonical_json
from ..training.trainer import about, network
from .reading import outdated
from .studies import PROFILES

SCHEMA = 2
ENDING = ".safetensors"
HALF_MAX = 6e4                      # float16 ends at 65,504
SHOWN = 12                          # ids in an error message


def weights_dir() -> Path:
    """Where weight files lie: ``results/weights``."""
    return out_dir() / "results" / "weights"


def weight_files() -> dict[str, Path]:
    """Id -> weight file, of those in ``results/weights``, the repository's own included."""
    return {path.stem: path for folder in (REPO / "results" / "weights", weights_dir())
            for path in sorted(folder.glob(f"*{ENDING}"))}


def shipped() -> list[str]:
    """The ids of the networks that come with the repository; none where it is not here."""
    index = REPO / "results" / "weights" / "index.json"
    rows = json.loads(index.read_bytes())["weights"] if index.is_file() else []
    return [row["id"] for row in rows]


def recorded(profile: str | None = None) -> dict[str, list[str]]:
    """Id -> profiles with such a record, ``own`` first; of one profile where it is named."""
    out = defaultdict(list)
    for name in [profile] if profile else ["own", *PROFILES]:
        for path in runs_dir(name).glob("*.json"):
            out[path.stem].append(name)
    return out


def usable() -> list[str]:
    """The ids of all networks whose weights are here."""
    with_state = [run_id for run_id, profiles in recorded().items() for profile in profiles
                  if store.list_files(checkpoints_dir(profile, run_id), store.WEIGHTS)]
    return sorted({*weight_files(), *with_state})


def full_id(name: str, profile: str | None = None) -> str:
    """The id that ``name`` is or begins: where it begins several, the one of them that comes with
    the repository. ``LookupError`` lists what there is: the ids that fit where several do, else
    those whose weights are here."""
    ids = {*recorded(profile), *({} if profile else weight_files())}
    if name in ids:
        return name
    fitting = sorted(i for i in ids if plain(name) and i.startswith(name))
    ours = sorted({*fitting} & {*shipped()})
    for sure in (fitting, ours):
        if len(sure) == 1:
            return sure[0]
    if fitting:
        raise LookupError(f"{name!r} is the beginning of {len(fitting)} ids: "
                          f"{listed(list(dict.fromkeys([*ours, *fitting])))}")
    raise LookupError(f"no record {name!r}; weights are here of: {listed(usable())} "
                      "(`python -m attnlib runs list` names every record)")


def listed(ids: list[str]) -> str:
    more = f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else ""
    return ", ".join(ids[:SHOWN] or ["none"]) + more


def find(run_or_id, profile: str | None = None) -> tuple[dict, dict]:
    """(header, state dict) of a `Run`, an id or the beginning of one, or a weight file's path.
    ``LookupError`` where there is no such run, or no weights of it: then it names the command that
    makes them. ``ValueError`` for a bad weight file."""
    if str(run_or_id).endswith((ENDING, ".npz")):
        return read(Path(run_or_id))
    run_id = full_id(run_or_id.id if isinstance(run_or_id, Run) else str(run_or_id), profile)
    for name in recorded(profile).get(run_id, ()):
        record = store.read_record(name, run_id)
        state = record and store.load_checkpoint(checkpoints_dir(name, run_id), store.WEIGHTS)
        if state and (changed := outdated(record)):
            raise ValueError(f"{run_id} was trained by another version ({changed}): train it again")
        if state:
            about_it = ("id", "run", "versions", "profile", "classes", "test")
            facts = record.get("data") or about(Run(**record["run"])).facts()
            return {key: record[key] for key in about_it} | {"data": facts}, state["model"]
    if run_id in weight_files():
        return read(weight_files()[run_id])
    raise LookupError(f"the weights of {run_id} are not on this machine (they are not in git); "
                      f"`python -m attnlib train {run_id} --weights` trains them")


def load_model(run_or_id, profile: str | None = None) -> nn.Module:
    """The trained network of a `Run`, an id or the beginning of one, or a file that ``export``
    wrote; in eval mode, on the CPU, with ``id``, ``classes``, ``mean`` and ``std`` (a channel,
    0..1), ``size`` and ``channels`` of its images attached. Raises as `find` does."""
    return assembled(*find(run_or_id, profile))


def assembled(header: dict, state: dict) -> nn.Module:
    """`load_model`'s network from what `find` found."""
    row = DataRow("", **header["data"])
    model = network(Run(**header["run"]), row)
    model.load_state_dict(state)
    model.id, model.classes, model.size, model.channels = (
        header["id"], header["classes"], row.size, row.channels)
    model.mean, model.std, model.levels = tuple(row.mean), tuple(row.std), row.levels
    return model.eval()


def write_weights(path: Path, header: dict, state: dict) -> None:
    """Write the weight file of what `find` found."""
    from safetensors.torch import save  # here: a bare GPU machine trains without it
    text = canonical_json(header | {"schema": SCHEMA})
    tensors = {name: halved(tensor).contiguous() for name, tensor in state.items()}
    sealed = f'{{"body":{text},"sha256":"{digest(text, tensors)}"}}'
    write_atomic(path, save(tensors, {"attnlib": sealed}))


def halved(x: torch.Tensor) -> torch.Tensor:
    """float16 for kernels and matrices; norms, biases and counts are few and stay as they are."""
    fits = x.dtype == torch.float32 and x.ndim > 1 and x.abs().max() < HALF_MAX
    return x.half() if fits else x


def digest(text: str, tensors: dict[str, torch.Tensor]) -> str:
    """SHA-256 of a header's text and the tensors."""
    from safetensors.torch import save
    return hashlib.sha256(text.encode() + save(tensors)).hexdigest()


def read(path: Path) -> tuple[dict, dict]:
    """(header, state dict of float32 tensors) of a weight file; nothing in it is ever executed.
    ``LookupError`` where there is none; ``ValueError`` where it is none of ours, was changed since
    it was written, or is of another version of its network."""
    from safetensors import safe_open
    if not path.is_file():
        raise LookupError(f"no weight file {shown(path)}; weights are here of: {listed(usable())}")
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}
            sealed = json.loads(file.metadata()["attnlib"])
        header, stated = sealed["body"], sealed["sha256"]
        good = header["schema"] == SCHEMA and digest(canonical_json(header), tensors) == stated
    except Exception as error:              # a torn or hostile file makes safetensors raise many
        raise ValueError(f"{shown(path)} is no weight file of attnlib, or of an older one that "
                         f"wrote .npz ({error}); `python -m attnlib export RUN` makes one"
                         ) from error
    if not good:
        raise ValueError(f"{shown(path)}: its SHA-256 is not the one it holds; fetch it again, or "
                         "make it again with `python -m attnlib export RUN`")
    if changed := outdated(header):
        raise ValueError(f"{shown(path)} was made by another version ({changed}): train it again")
    return header, {name: t.float() if t.dtype == torch.float16 else t
                    for name, t in tensors.items()}

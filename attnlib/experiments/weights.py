"""Trained networks found by id, and as small files to give away.

A weight file is an npz archive that nothing can hide code in: one array for each tensor of the
network, float16 where it is a matrix or kernel, and ``header``, the bytes of a JSON text with all
that is needed to use it: the run, the versions of its rows, classes, normalisation, picture size,
test scores, and the SHA-256 of everything else in the file."""
import hashlib
import io
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from torch import nn

from .. import files
from ..data.arrays import Row
from ..settings import REPO, checkpoints_dir, out_dir, plain, runs_dir, shown
from ..training import store
from ..training.run import Run, canonical_json
from ..training.trainer import about, network
from .reading import outdated
from .studies import PROFILES

SCHEMA = 1
HALF_MAX = 6e4                      # float16 ends at 65,504
SHOWN = 12                          # ids in an error message


def weights_dir() -> Path:
    """Where weight files lie: ``results/weights``."""
    return out_dir() / "results" / "weights"


def exported() -> dict[str, Path]:
    """Id -> weight file, of those in ``results/weights``, the repository's own included."""
    return {path.stem: path for folder in (REPO / "results" / "weights", weights_dir())
            for path in sorted(folder.glob("*.npz"))}


def recorded(profile: str | None = None) -> dict[str, list[str]]:
    """Id -> profiles with a record of that name, ``own`` first; of one profile where it is named.
    """
    out = defaultdict(list)
    for name in [profile] if profile else ["own", *PROFILES]:
        for path in runs_dir(name).glob("*.json"):
            out[path.stem].append(name)
    return out


def usable() -> list[str]:
    """The ids of all networks whose weights are here."""
    with_state = [run_id for run_id, profiles in recorded().items() for profile in profiles
                  if store.list_files(checkpoints_dir(profile, run_id), store.WEIGHTS)]
    return sorted({*exported(), *with_state})


def full_id(name: str, profile: str | None = None) -> str:
    """The id that ``name`` is or alone begins with ``name``. ``LookupError`` lists what there is:
    the ids that fit where several do, else those whose weights are here."""
    ids = {*recorded(profile), *({} if profile else exported())}
    if name in ids:
        return name
    fitting = sorted(i for i in ids if plain(name) and i.startswith(name))
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise LookupError(f"{name!r} is the beginning of {len(fitting)} ids: {listed(fitting)}")
    raise LookupError(f"no record {name!r}; weights are here of: {listed(usable()) or 'none'} "
                      "(`python -m attnlib runs list` names every record)")


def listed(ids: list[str]) -> str:
    more = f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else ""
    return ", ".join(ids[:SHOWN]) + more


def find(run_or_id, profile: str | None = None) -> tuple[dict, dict]:
    """(header, state dict) of a `Run`, an id or the beginning of one, or a weight file's path.
    ``LookupError`` where there is no such run, or no weights of it: then it names the command that
    makes them. ``ValueError`` for a bad weight file."""
    if str(run_or_id).endswith(".npz"):
        return read(Path(run_or_id))
    name = run_or_id.id if isinstance(run_or_id, Run) else str(run_or_id)
    here = [run_id for run_id in ([] if profile else usable()) if run_id.startswith(name)]
    run_id = here[0] if len(here) == 1 else full_id(name, profile)
    for name in recorded(profile).get(run_id, ()):
        record = store.read_record(store.record_path(name, run_id))
        state = record and store.load_checkpoint(checkpoints_dir(name, run_id), store.WEIGHTS)
        if state:
            return header_of(record), state["model"]
    if run_id in exported():
        return read(exported()[run_id])
    raise LookupError(f"the weights of {run_id} are not on this machine (they are not in git); "
                      f"`python -m attnlib train {run_id} --weights` trains them")


def load_model(run_or_id, profile: str | None = None) -> nn.Module:
    """The trained network of a `Run`, an id or the beginning of one, or a file that ``export``
    wrote; in eval mode, on the CPU, with ``classes``, ``mean``, ``std``, ``size`` and ``channels``
    attached. ``LookupError`` where its weights are not here: it names the command that makes them.
    """
    return assembled(*find(run_or_id, profile))


def header_of(record: dict) -> dict:
    """What a weight file says of itself, from the run's record."""
    return {key: record[key] for key in ("id", "run", "versions", "profile", "classes", "test")
            } | {"data": record.get("data") or about(Run(**record["run"])).facts()}


def assembled(header: dict, state: dict) -> nn.Module:
    """The trained network in eval mode, on the CPU, with ``id``, ``classes``, ``mean`` and ``std``
    (a channel, 0..1), ``size`` and ``channels`` of its images attached."""
    row = Row("", **header["data"])
    model = network(Run(**header["run"]), row)
    model.load_state_dict(state)
    model.id, model.classes, model.size, model.channels = (
        header["id"], header["classes"], row.size, row.channels)
    model.mean, model.std = tuple(row.mean), tuple(row.std)
    return model.eval()


def export(run_or_id, output: str | Path | None = None) -> Path:
    """Write the weight file of a trained run: ``results/weights/<id>.npz``, or ``output``, whose
    name must end in .npz. Raises as `find` does, and ``ValueError`` for another ending."""
    header, state = find(run_or_id)
    path = Path(output) if output else weights_dir() / f"{header['id']}.npz"
    if path.suffix != ".npz":
        raise ValueError(f"--output {path.name}: a weight file's name ends in .npz")
    arrays = {name: halved(tensor.numpy()) for name, tensor in state.items()}
    body = {key: value for key, value in header.items() if key != "sha256"} | {"schema": SCHEMA}
    body["sha256"] = digest(body, arrays)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, header=np.frombuffer(canonical_json(body).encode(), np.uint8),
                        **arrays)
    files.write_atomic(path, buffer.getvalue())
    return path


def halved(x: np.ndarray) -> np.ndarray:
    """float16 for kernels and matrices; norms, biases and counts are few and stay as they are."""
    fits = x.dtype == np.float32 and x.ndim > 1 and np.abs(x).max(initial=0) < HALF_MAX
    return x.astype(np.float16) if fits else x


def digest(body: dict, arrays: dict[str, np.ndarray]) -> str:
    """SHA-256 over the header without its digest and every array's name, type, shape and bytes."""
    out = hashlib.sha256(canonical_json(body).encode())
    for name, x in sorted(arrays.items()):
        out.update(f"\n{name} {x.dtype.str} {x.shape} ".encode())
        out.update(np.ascontiguousarray(x).tobytes())
    return out.hexdigest()


def read(path: Path) -> tuple[dict, dict]:
    """(header, state dict of float32 tensors) of a weight file; nothing in it is ever executed.
    ``LookupError`` where there is none; ``ValueError`` where it is none of ours, was changed since
    it was written, or is of another version of its network."""
    if not path.is_file():
        raise LookupError(f"no weight file {shown(path)}; weights are here of: "
                          f"{listed(usable()) or 'none'}")
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        header = json.loads(arrays.pop("header").tobytes())
        good = header["schema"] == SCHEMA
        stated = header.pop("sha256")
    except Exception as error:              # a torn or hostile archive makes numpy raise many kinds
        raise ValueError(f"{shown(path)} is no weight file of attnlib ({error})") from error
    if not good or digest(header, arrays) != stated:
        raise ValueError(f"{shown(path)}: its SHA-256 is not the one it holds; fetch it again, or "
                         "make it again with `python -m attnlib export RUN`")
    if changed := outdated(header):
        raise ValueError(f"{shown(path)} was made by another version ({changed}): train it again")
    tensors = {name: torch.from_numpy(x) for name, x in arrays.items()}
    return header, {name: t.float() if t.dtype == torch.float16 else t
                    for name, t in tensors.items()}

"""Looks through what is stored, and puts right what kills and bad disks have left."""
import contextlib
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from ..files import free_name, half_files, sha256_of
from ..settings import checkpoints_dir, runs_dir, shown
from ..training import store


class Finding(NamedTuple):
    """One thing that is not as it should be. ``kind`` is a row of FIXES, or can only be told."""
    kind: str
    path: Path
    says: str


FIXES = {           # what `repair` does, and its word for it
    "corrupt": ("set aside", lambda path: path.rename(free_name(path, ".corrupt"))),
    "failed": ("planned again", lambda path: path.rename(free_name(path, ".failed"))),
    "leftover": ("removed", Path.unlink),
    "told": ("left", lambda path: None),
}


def known_ids(profile: str) -> list[str]:
    """The ids of which there is any file, in order: records, their arrays, checkpoints."""
    folders = runs_dir(profile), checkpoints_dir(profile, "x").parent
    names = [path.name for folder in folders for path in folder.glob("*")]
    return sorted({name.lstrip(".").split(".")[0] for name in names})


def array_files(record: dict) -> dict[str, str]:
    """Name -> SHA-256 of the files beside a record."""
    return {f"{record['id']}{'' if kind == 'predictions' else f'.{kind}'}.npz": digest
            for kind, digest in record.get("arrays", {}).items()}


def findings(profile: str, run_id: str) -> list[Finding]:
    """What is wrong with the files of one run. Reads, and changes nothing."""
    folder, path = checkpoints_dir(profile, run_id), store.record_path(profile, run_id)
    found = [Finding("leftover", half, "half a file, of a process that was killed")
             for half in half_files(runs_dir(profile), f".{run_id}.") + half_files(folder, ".")]
    record = store.checked(path.read_bytes(), run_id) if path.is_file() else None
    if path.exists() and not record:
        found.append(Finding("corrupt", path, "the record is torn or was changed"))
    if record and record["status"] == "failed":
        found.append(Finding("failed", path, f"failed: {record.get('error', 'no reason stored')}"))
    for name, digest in array_files(record).items() if record else ():
        file = path.with_name(name)
        if not file.is_file():
            found.append(Finding("told", file, "it is missing"))
        elif sha256_of(file) != digest:
            found.append(Finding("corrupt", file, "its SHA-256 is not the one in the record"))
        elif file.stem == run_id and record["status"] == "done":
            arrays = store.read_arrays(profile, run_id, digest)
            counted = float((arrays["prediction"] == arrays["label"]).mean())
            if abs(counted - record["test"]["accuracy"]) > 1e-6:
                found.append(Finding("told", path, f"the predictions give {counted:.4f}, the "
                                     f"record says {record['test']['accuracy']:.4f}"))
    for pattern in (store.CHECKPOINT, store.WEIGHTS):
        for file in store.list_files(folder, pattern):
            if sha256_of(file) != pattern.fullmatch(file.name)[2]:
                found.append(Finding("corrupt", file, "its SHA-256 is not the one in its name"))
            elif pattern is store.CHECKPOINT and record and (record["status"] == "diverged" or (
                    record["status"] == "done" and store.list_files(folder, store.WEIGHTS))):
                found.append(Finding("leftover", file, "a state of a run that is finished"))
    return found


def check(profile: str) -> tuple[int, int]:
    """Print what is wrong with a profile's files and change nothing: (good records, findings)."""
    good = bad = 0
    for run_id in known_ids(profile):
        found, path = findings(profile, run_id), store.record_path(profile, run_id)
        for finding in found:
            print(f"{shown(finding.path)}: {finding.says}")
        good += path.exists() and ("corrupt", path) not in [f[:2] for f in found]
        bad += len(found)
    advice = " (`python -m attnlib runs repair --dry-run` says how)" if bad else ""
    print(f"{profile}: {good} good records, {bad} things to see to{advice}", flush=True)
    return good, bad


def repair(profile: str, dry_run: bool = False) -> Counter:
    """Set corrupt files aside, remove leftovers, and move the records of failed runs out of the
    way, so that the grid has them run again; how many of each kind. A run that a process is at
    work on is left to it. ``dry_run``: only say what would be done."""
    counts = Counter()
    for run_id in filter(lambda run_id: findings(profile, run_id), known_ids(profile)):
        try:
            with contextlib.nullcontext() if dry_run else store.lock(profile, run_id, tidy=False):
                for kind, path, says in findings(profile, run_id):
                    word, mend = FIXES[kind]
                    print(f"{shown(path)}: {says}; {'would be ' * dry_run}{word}")
                    counts[kind] += 1
                    if not dry_run:
                        mend(path)
        except store.Busy as error:
            print(f"left alone: {error}")
    return counts

"""The weight files that come with the repository, their index and their card: all from records."""
import hashlib
import json
from pathlib import Path

from ..analysis.words import name
from ..networks.build import build_model
from ..networks.cost import cost
from ..training import store
from ..training.run import Run
from .planning import study
from .predict import evaluate
from .studies import plans
from .weights import export, header_of, weights_dir

ARMS = ("none", "cbam", "hybrid")       # of the headline of profile pilot on CIFAR-10, seed 0
TOLERANCE = 0.1                         # points that float16 may cost or gain on the test split
MAX_BYTES = 1_500_000
CARD = """# Weights that come with the repository

Written by `python -m attnlib export --published` from the records; `index.json` has the SHA-256
of each file.

{table}

**What they are.** {networks} at width {width:g} for {size}×{size} pixels in {colour}: a baseline
and two with attention, all of seed {seed}. Kernels and matrices are float16, the rest float32; an
npz file holds no code. The accuracies are measured with these files, and lie within {tolerance:g}
points of the record's (largest difference: {largest:.2f}).

**Data.** {data}: {n_train:,} of its training images, {n_val:,} others to validate on; scored on
its {n_test:,} test images. {epochs} epochs of the recipe `{recipe}`.

**Use.** To try `predict`, `evaluate` and the activation maps right after cloning:

```bash
python -m attnlib predict {prefix} photo.jpg --gradcam
```

**Not for** anything that matters: these are small networks from a short training, meant for
comparing blocks and not for the best accuracy. {limits} Which block is better is not to be read off
three networks of one seed: the README's table has the seeds.

**Limits.** They know {count} classes ({classes}) and always name one of them, with a confidence
that nothing has calibrated. A photo is cut to its middle square and shrunk to {size}×{size} pixels;
what is small in it is gone. What the pictures of the data set have in common (a centred object,
backgrounds that go with a class) they may have learnt as well.

**Licence.** The weights: MIT, as the code. {source}

**Made again** by `python -m attnlib train RUN --weights` for each run, and then the command at the
top.
"""
SOURCES = {"cifar10": """CIFAR-10 (Krizhevsky 2009, *Learning multiple layers of features from tiny
images*) was chosen and labelled from the Tiny Images collection of pictures from the web. Its
authors ask to be cited and state no licence for the pictures; Tiny Images itself was withdrawn in
2020 by those who made it, for offensive labels and pictures."""}


def published() -> list[Run]:
    """The runs whose weights are in the repository."""
    first = plans("hybrid", "pilot")[0]
    return [run for arm in ARMS for run in study("hybrid", "pilot")
            if run.seed == 0 and run.attention == arm and run.dataset == first.dataset]


def publish() -> list[Path]:
    """Export the published runs, score each file on its test split, write ``index.json`` and the
    card ``README.md`` beside them; returns the weight files. ``ValueError`` where float16 moves an
    accuracy by more than TOLERANCE or a file is too large for the repository."""
    files, rows = [], []
    for run in published():
        record = store.read_record(store.record_path("pilot", run.id))
        if record is None:
            raise LookupError(f"no record of {run.id}; `python -m attnlib study hybrid --profile "
                              "pilot` makes it")
        path = export(run)
        found = evaluate(path)
        rows.append({"id": run.id, "file": path.name, "bytes": path.stat().st_size,
                     "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
                     "n": found["n"], "accuracy": found["accuracy"], "nll": found["nll"],
                     "recorded": record["test"]["accuracy"]})
        problem = wrong(rows[-1])
        if problem:
            raise ValueError(f"{path.name}: {problem}")
        files.append(path)
    index = {"tolerance_points": TOLERANCE, "weights": rows}
    files.write_atomic(weights_dir() / "index.json", (json.dumps(index, indent=1) + "\n").encode())
    files.write_atomic(weights_dir() / "README.md", card(rows).encode())
    return files


def wrong(row: dict) -> str:
    """What keeps a weight file from being published; "" if nothing does."""
    moved = 100 * abs(row["accuracy"] - row["recorded"])
    if moved > TOLERANCE:
        return f"float16 moves its accuracy by {moved:.2f} points"
    if row["bytes"] > MAX_BYTES:
        return f"{row['bytes']:,} bytes are more than {MAX_BYTES:,}"
    return ""


def card(rows: list[dict]) -> str:
    """The model card, from the index's rows and the records of their runs."""
    import pandas as pd
    runs = {run.id: run for run in published()}
    lines = []
    for row in rows:
        run = runs[row["id"]]
        model = build_model(run.backbone, run.attention, width=run.width)
        lines.append({"file": f"`{row['file']}`", "block": name(run.attention),
                      "parameters": f"{cost(model, (3, 32, 32))['params']:,}",
                      "MB": f"{row['bytes'] / 1e6:.2f}",
                      "test accuracy, %": f"{100 * row['accuracy']:.2f}",
                      "in the record, %": f"{100 * row['recorded']:.2f}"})
    run = runs[rows[0]["id"]]
    header = header_of(store.read_record(store.record_path("pilot", run.id)))
    data = header["data"]
    best = max(row["accuracy"] for row in rows)
    return CARD.format(
        table=pd.DataFrame(lines).to_markdown(index=False, disable_numparse=True),
        networks=f"{name(run.backbone)}s", width=run.width, size=data["size"], seed=run.seed,
        colour="colour" if data["channels"] == 3 else "grey", tolerance=TOLERANCE,
        largest=max(100 * abs(row["accuracy"] - row["recorded"]) for row in rows),
        data=name(run.dataset), n_train=run.n_train, n_val=run.n_val, n_test=rows[0]["n"],
        epochs=run.how.epochs, recipe=run.recipe, source=SOURCES[run.dataset],
        prefix=rows[1]["id"].rpartition("-")[0], classes=", ".join(header["classes"]),
        count=len(header["classes"]),
        limits=f"Even the best of the three is wrong about {100 - 100 * best:.0f} of 100 images of "
               "the test split, and photos of your own are harder: they look otherwise.")

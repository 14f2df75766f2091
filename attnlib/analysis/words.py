"""Tables and sentences computed from records: no number in a notebook or the README is typed."""
import math
from functools import cache

from ..experiments.planning import minutes_here, resolve_profile, speed_here, study
from ..experiments.reading import collect
from ..experiments.studies import PROFILES, RATES, STUDIES, margin_of
from .stats import CELL, MIN_SEEDS, all_seeds, arms_table, behind

NAMES = {
    "none": "none", "se": "SE", "ca": "channel part", "sa": "spatial part", "cbam": "CBAM",
    "hybrid": "SE→CBAM hybrid", "layerscale": "LayerScale (control)",
    "shuffled": "shuffled SE (control)", "frozen": "frozen SE (control)",
    "none wider": "a wider plain network", "ser": "SER",
    "sec": "SEC", "se_sa": "SE_SA", "sec_sa": "SEC_SA", "new": "NEW", "nab": "NAB",
    "bam": "BAM", "scse": "scSE", "eca": "ECA", "simam": "SimAM", "ge": "Gather-Excite",
    "cbam_avg": "CBAM without maximum", "hybrid_p0": "hybrid, as in the project",
    "hybrid_sum": "hybrid, summed", "hybrid_par": "hybrid, side by side",
    "aa": "Attention-augmented", "sk": "Selective Kernel",
    "replica_cbam_p2": "CBAM with its bottleneck lost (replica)",
    "replica_cbam_p2_intended": "CBAM with a ReLU too many (replica)",
    "replica_aa_p1": "Attention-augmented, mixed up (replica)",
    "coord": "Coordinate", "triplet": "Triplet", "gc": "Global Context", "srm": "SRM",
    "resnet18": "ResNet-18", "squeezenet": "SqueezeNet", "vgg16": "VGG-16", "vgg19": "VGG-19",
    "resnet50": "ResNet-50", "resnet50_slim": "slim ResNet-50", "alexnet": "AlexNet",
    "cnn3": "CNN of three layers", "mobilenetv2": "MobileNetV2", "shapetex": "ShapeTex",
    "cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "fashionmnist": "Fashion-MNIST"}


LATER = ("ROAD as a share of the network's confidence, as the measure of what a map is needed for",
         "ρ = 0.8 for ShapeTex's shortcut study",
         "open gates as arms of the headline",
         "the rule for verdicts, Dunnett's intervals with a pooled variance, in place of sign "
         "flips with Holm's correction, which six seeds cannot pass",
         "the margins of equivalence",
         "the levels of the convergence study, for profile `pilot`")


def name(key: str) -> str:
    """How a block, arm, network or data set is called in text; options stay as written."""
    if key in NAMES:
        return NAMES[key]
    block, _, rest = key.partition(" ")
    block, is_open, _ = block.partition("(gate_init=open)")
    return (NAMES.get(block, block) + ", gates open" * bool(is_open)
            + (f" {rest}" if rest else ""))


def place(row) -> str:
    """The cell that a row stands in: network on data set, and the recipe where it is another than
    ``strong``."""
    own = "" if row.recipe == "strong" else f", recipe `{row.recipe}`"
    return f"{name(row.backbone)} on {name(row.dataset)}{own}"


def plus_minus(mean: float, sd: float, digits: int = 1) -> str:
    if math.isnan(mean):
        return "–"
    return f"{mean:.{digits}f}" + ("" if math.isnan(sd) else f" ± {sd:.{digits}f}")


def items(sentences: list[str], note: str = "") -> str:
    """Markdown: a single sentence as it is, several as a list, and after them a note to all."""
    if len(sentences) > 1:
        return "\n".join(f"- {s}" for s in sentences) + (f"\n\n{note}" if note else "")
    return " ".join(filter(None, (*sentences, note)))


def plural(n: int, noun: str) -> str:
    return f"{n} {noun}" + ("" if n == 1 else "s")


def interval(mean: float, low: float, high: float, digits: int = 1) -> str:
    """``+0.8 [−0.2, +1.8]``; without an interval where there are too few seeds."""
    if math.isnan(mean):
        return "–"
    out = f"{mean:+.{digits}f}"
    if not math.isnan(low):
        out += f" [{low:+.{digits}f}, {high:+.{digits}f}]"
    return out.replace("-", "−")


def status_line(studies: str | list[str], profile: str = "auto") -> str:
    """What a notebook prints first: profile, why, records found and missing, minutes to train."""
    studies = [studies] if isinstance(studies, str) else studies
    chosen = resolve_profile(profile, studies[0])
    runs = list(dict.fromkeys(r for s in studies for r in study(s, chosen)))
    rows = _status(runs, chosen)
    todo = [r for r, there in zip(runs, rows, strict=True) if not there]
    cost = (f"; about {math.ceil(minutes_here(todo, speed_here(chosen)))} min to train on this "
            "machine, and less than one for the Try it cell") if todo else ""
    return (f"profile: {chosen} ({PROFILES[chosen].says})\n"
            f"records: {len(runs) - len(todo)} found, {len(todo)} missing{cost}")


def _status(runs, profile) -> list[bool]:
    from ..experiments.planning import finished
    done = finished(profile)
    return [run.id in done for run in runs]


def accuracy_table(df) -> str:
    """Markdown: accuracy of every arm as mean ± sd (n), its gain over ``none`` and, beside it, what
    it does to the training accuracy."""
    import pandas as pd
    rows = []
    for r in arms_table(df).itertuples():
        first = df[(df.arm == r.arm) & (df[CELL] == [r.dataset, r.backbone, r.recipe]).all(axis=1)
                   ].dropna(subset=["params"])
        rows.append({
            "data set": name(r.dataset), "network": name(r.backbone), "recipe": r.recipe,
            "block": name(r.arm), "test accuracy, %": plus_minus(r.mean, r.sd),
            "seeds": f"{r.n} of {r.planned}",
            "gain over none, points [95 % interval]":
                "" if r.arm == "none" else interval(r.gain, r.low, r.high),
            "training": "" if r.arm == "none" else interval(r.train, math.nan, math.nan),
            "verdict": r.verdict,
            "parameters": f"{int(first.params.iloc[0]):,}" if len(first) else "–",
            "M MACs": f"{first.macs.iloc[0] / 1e6:.1f}" if len(first) else "–"})
    table = pd.DataFrame(rows)
    if (table.recipe == "strong").all():
        table = table.drop(columns="recipe")
    return table.to_markdown(index=False, disable_numparse=True)


def answer(study_name: str, profile: str = "auto") -> str:
    """The study's question and what its records say, in words with their numbers."""
    chosen = resolve_profile(profile, study_name)
    df = collect(study_name, chosen)
    return f"**{STUDIES[study_name].question}**\n\n{reading(df, chosen)}"


def reading(df, profile: str) -> str:
    """One sentence per network and data set: each arm's gain, its interval and what follows."""
    if not len(df):
        return f"This study is not in profile `{profile}`."
    sentences = []
    table = arms_table(df)
    for _, cell in table.groupby(CELL, sort=False):
        where = f"In {place(cell.iloc[0])} (profile `{profile}`)"
        base = cell[cell.arm == "none"]
        if not base.n.sum():
            sentences.append(f"{where}: no finished runs yet.")
            continue
        base = base.iloc[0]
        parts = [f"{name(r.arm)} {interval(r.gain, r.low, r.high)} points over "
                 f"{plural(r.n, 'seed')}, {outcome(r)}" for r in cell.itertuples()
                 if r.arm != "none" and r.n]
        text = (f"{where}, `none` reaches {plus_minus(base['mean'], base.sd)} % over "
                f"{plural(base.n, 'seed')}{sizes(df, cell)}")
        if parts:
            text += "; " + "; ".join(parts)
        bare = [name(r.arm) for r in cell.itertuples() if r.arm != "none" and not r.n]
        if bare:
            text += f"; no finished runs yet: {', '.join(bare)}"
        if any(0 < r.n < MIN_SEEDS for r in cell.itertuples()):
            text += f". Fewer than {MIN_SEEDS} seeds give no interval and decide nothing"
        sentences.append(text + ".")
    tested = table[table.low.notna()]
    if not len(tested):
        return items(sentences)
    late = (" *Had not fitted as far* = worse, and its training accuracy is behind by as much."
            if any(behind(r) for r in tested.itertuples()) else "")
    return items(sentences) + (
        "\n\nIntervals at 95 % for all blocks of a network and data set together (Dunnett). "
        "Verdicts, the first that fits: *equivalent* = the interval lies within "
        f"±{margin_of(profile, df.dataset.iloc[0]):g} points; *better* or *worse* = it excludes "
        "zero; *undecided* = neither, which is not \"no effect\": it is too few seeds or too much "
        "noise." + late)


def outcome(row) -> str:
    """What became of a gain, a row of `arms_table`: the verdict, and in brackets the difference in
    training accuracy, points. A block that is worse by no more than it is behind in training has
    not fitted as far."""
    word = "had not fitted as far" if behind(row) else row.verdict
    return word + ("" if math.isnan(row.train) else
                   f" (training {interval(row.train, math.nan, math.nan)})")


def counted_verdicts(tested) -> str:
    """``11 worse (7 of them had not fitted as far), 2 equivalent``, of the rows of `tested_gains`.
    """
    late = sum(behind(r) for r in tested.itertuples())
    return ", ".join(f"{n} {word}" + (f" ({late} of them had not fitted as far)"
                                      if word == "worse" and late else "")
                     for word, n in tested.verdict.value_counts().items())


def sizes(df, cell) -> str:
    """Width and epochs of a cell's runs, where they all have the same."""
    own = df[(df[CELL] == [cell[key].iloc[0] for key in CELL]).all(axis=1) & (df.arm == "none")]
    found = own.reindex(columns=["width", "epochs"]).dropna().drop_duplicates()
    if len(found) != 1:
        return ""
    return f" at width {found.width.iloc[0]:g} after {plural(int(found.epochs.iloc[0]), 'epoch')}"


def seed_noise(df) -> str:
    """How far seeds alone move a network: the yardstick for every gain."""
    sentences, note = [], ""
    plain = all_seeds(df[df.arm == "none"])
    for r in arms_table(plain).itertuples():
        done = plain[(plain[CELL] == [r.dataset, r.backbone, r.recipe]).all(axis=1)
                     ].accuracy.dropna()
        if r.n < 2:
            sentences.append(f"{place(r)}: "
                             f"{plural(r.n, 'finished seed')}, too few to see noise.")
            continue
        sentences.append(
            f"{place(r)}: {r.n} seeds of one network reach {done.min():.1f} to {done.max():.1f} %, "
            f"sd {r.sd:.1f}. Two single runs of the *same* network differ by about "
            f"{2 ** 0.5 * r.sd:.1f} points (one sd of a difference).")
        note = "A gain of that size, seen once, is nothing."
    return items(sentences, note)


def cost_table(backbone: str, arms: list[str], image: tuple[int, int, int] = (3, 32, 32)) -> str:
    """Markdown: parameters, the block's own, MACs and sites of full-width networks."""
    import pandas as pd

    from ..networks.build import build_model
    from ..networks.cost import cost
    rows = []
    for arm in arms:
        c = cost(build_model(backbone, arm, in_channels=image[0], image_size=image[1]), image)
        rows.append({"network": name(backbone), "block": name(arm),
                     "parameters": f"{c['params']:,}", "of the block": f"{c['attention_params']:,}",
                     "M MACs": f"{c['macs'] / 1e6:.1f}", "sites": str(c["sites"])})
    return pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True)


@cache
def counted(backbone: str, attention: str = "none", placement: str | None = None) -> dict:
    """`models.cost` of a full-width network for 32×32×3, ten classes; nothing is computed or
    allocated."""
    import torch

    from ..networks.build import build_model
    from ..networks.cost import cost
    with torch.device("meta"):
        return cost(build_model(backbone, attention, placement=placement), (3, 32, 32))


def block_cost(attention: str, backbone: str = "resnet18") -> str:
    """Markdown: one row, what a block adds to a network, where it stands by default and how often.
    """
    import pandas as pd

    from ..networks.build import resolve_placement
    plain, own = counted(backbone), counted(backbone, attention)
    added = {key: own[key] - plain[key] for key in ("params", "macs")}
    row = {f"trained parameters added to {name(backbone)}": f"{added['params']:+,}",
           "of its own": f"{100 * added['params'] / plain['params']:+.2f} %",
           "M MACs added": f"{added['macs'] / 1e6:+.2f}", "sites": str(own["sites"]),
           "placement": f"`{resolve_placement(attention, backbone, None)}`"}
    return pd.DataFrame([row]).to_markdown(index=False, disable_numparse=True)


@cache
def added(backbone: str, attention: str) -> int | None:
    """Parameters, trained or not, that a block in its own place adds to a full-width network; None
    where it has no place there. Summed over the slots, which is quicker than building; a block that
    replaces a layer is built."""
    import torch

    from ..networks.build import build_model, resolve_placement, split_placement
    try:
        place, stages = split_placement(resolve_placement(attention, backbone, None))
    except ValueError:
        return None
    if place == "replace":
        with torch.device("meta"):
            networks = [build_model(backbone, block) for block in (attention, "none")]
        own, plain = (sum(p.numel() for p in network.parameters()) for network in networks)
        return own - plain
    return sum(parameters(attention, slot.channels) for slot in empty_slots(backbone)
               if place in slot.placements and (not stages or str(slot.stage) in stages))


@cache
def empty_slots(backbone: str) -> list:
    import torch

    from ..networks.build import build_model
    from ..networks.slots import Slot
    with torch.device("meta"):
        return [m for m in build_model(backbone).modules() if isinstance(m, Slot)]


@cache
def parameters(attention: str, channels: int) -> int:
    """Parameters of one block."""
    import torch

    from ..blocks import BLOCKS
    with torch.device("meta"):
        return sum(p.numel() for p in BLOCKS[attention].make(channels).parameters())


def networks_table() -> str:
    """Markdown: every network without a block, at full width, and in how many places SE stands."""
    import pandas as pd

    from ..networks import BACKBONES
    rows = [{"network": f"`{key}`", "parameters": f"{counted(key)['params']:,}",
             "M MACs": f"{counted(key)['macs'] / 1e6:,.1f}", "stages": str(row.stages),
             "sites of `block`": str(counted(key, "se", "block")["sites"]),
             "placements": ", ".join(f"`{p}`" for p in row.placements)}
            for key, row in BACKBONES.items()]
    return pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True)


def added_table() -> str:
    """Markdown: the thousands of parameters that every block, in its own place, adds to every
    network; a dash where it has none there."""
    import pandas as pd

    from ..blocks import ATTENTION
    from ..networks import BACKBONES
    rows = []
    for block in ATTENTION:
        if block != "none":
            counts = {b: added(b, block) for b in BACKBONES}
            rows.append({"block": f"`{block}`"} | {
                f"`{b}`": "–" if n is None else f"{n / 1e3:+,.1f}".replace("-", "−") if n else "0"
                for b, n in counts.items()})
    return pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True)


def glance(df) -> str:
    """Markdown: what each block of a table with one seed reached, in the table's order. No gain, no
    interval and no ranking: one seed has none."""
    import pandas as pd

    from ..blocks import BLOCKS
    from ..names import parse
    done = df[df.status == "done"]
    if not len(done):
        return "No block has a finished run yet."
    rows = [{"block": name(r.attention), "what it is": BLOCKS[parse(r.attention)[0]].says,
             "test accuracy, %": plus_minus(r.accuracy, math.nan),
             "parameters": f"{int(r.params):,}", "M MACs": f"{r.macs / 1e6:.1f}"}
            for r in done.itertuples()]
    first = done.iloc[0]
    return (f"{len(done)} of {plural(len(df), 'planned run')} finished; profile `{first.profile}`, "
            f"{name(first.backbone)} on {name(first.dataset)}, "
            f"{plural(int(first.epochs), 'epoch')}, {plural(done.seed.nunique(), 'seed')}: **read "
            "it as a look, not as a ranking**. A block that stands at chance level here may need "
            "more than these few epochs in so narrow a network.\n\n"
            + pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True))


def recipe_table(run) -> str:
    """Markdown: the recipe's values for one run but for what is off, and which of them the profile
    sets."""
    import dataclasses

    import pandas as pd

    from ..training.recipes import RECIPES, Recipe
    plain = dataclasses.asdict(RECIPES[run.recipe])
    rows = [{"value of": f"`{key}`", "here": str(value),
             "": "" if value == plain[key] else f"the profile's; {plain[key]} in `{run.recipe}`"}
            for key, value in dataclasses.asdict(run.how).items()
            if value or getattr(Recipe, key)]
    return pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True)


def time_table(df) -> str:
    """Markdown: training seconds of each arm and their ratio to ``none`` of the same seed."""
    import pandas as pd
    done = df[df.status == "done"]
    rows = []
    for (dataset, backbone, _), cell in done.groupby(CELL, sort=False):
        wide = cell.pivot(index="seed", columns="arm", values="seconds")
        for arm in cell.arm.unique():
            ratio = (wide[arm] / wide["none"]).dropna() if "none" in wide else wide[arm].iloc[:0]
            rows.append({"data set": name(dataset), "network": name(backbone), "block": name(arm),
                         "median training, s": f"{wide[arm].median():.0f}",
                         "ratio to none seed by seed, median [least, most]":
                             f"{ratio.median():.2f} [{ratio.min():.2f}, {ratio.max():.2f}]"
                             if len(ratio) else "–"})
    return (pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True)
            + "\n\nThe machine may have had other work: what a block costs is measured side by "
              "side in 02_baselines." if rows else "No finished runs yet.")


def studies_table(chosen: dict[str, str]) -> str:
    """Markdown: every study, its question, the profile it is shown from, runs finished."""
    import pandas as pd
    rows = []
    for key, profile in chosen.items():
        df = collect(key, profile)
        rows.append({"study": f"`{key}`", "question": STUDIES[key].question, "profile": profile,
                     "finished runs": f"{(df.status == 'done').sum()} of {len(df)}",
                     "diverged or failed": int(df.status.isin(("diverged", "failed")).sum())})
    return pd.DataFrame(rows).to_markdown(index=False)


def all_runs(chosen: dict[str, str]):
    """The runs of every study that compares, from the headline's profile, each run once."""
    import pandas as pd
    profile = chosen["hybrid"]
    parts = [collect(key, profile) for key, own in chosen.items()
             if own == profile and STUDIES[key].compare]
    return pd.concat(parts, ignore_index=True).drop_duplicates("id", ignore_index=True)


def provenance(df) -> str:
    """Hardware, versions and compute spent, from the records."""
    from ..training import store
    done = df[df.status == "done"]
    if not len(done):
        return "No finished runs."
    envs = [store.read_record(store.record_path(r.profile, r.id))["env"] for r in done.itertuples()]
    def values(key):
        return ", ".join(sorted({str(e[key]) for e in envs}))
    hours = done.seconds.sum() / 3600
    return (f"{plural(len(done), 'run')}, {hours:.1f} hours of training in all. "
            f"Device: {values('device')}; precision: {values('precision')}; threads: "
            f"{values('threads')}; torch {values('torch')}, Python {values('python')}, "
            f"{values('os')}. Seeds: {', '.join(map(str, sorted(done.seed.unique())))}.")


def limits(chosen: dict[str, str]) -> str:
    """What the shown records cannot say: missing runs, few seeds, small sizes, choices made late;
    and how the rates were tuned."""
    missing, shown = [], {}
    for key, profile in chosen.items():
        df = collect(key, profile)
        lacking = int((df.status != "done").sum())
        missing += [f"`{key}` {lacking} of {len(df)} (`{profile}`)"] if lacking else []
        shown.setdefault(profile, []).append(f"`{key}`")
    lines = [f"- Without a finished record yet, of the planned runs: {', '.join(missing)}."
             ] if missing else []
    lines += [f"- Shown from `{profile}`, {PROFILES[profile].says}: {', '.join(keys)}. Its "
              "networks and schedules are smaller than those of published results, so its gains "
              "are not theirs." for profile, keys in shown.items() if profile != "full"]
    lines.append(f"- Chosen after the first records were read: {'; '.join(LATER)}.")
    return "\n".join([*lines, f"- {tuning_words()}"])


def tuning_words() -> str:
    """How the variants of the headline were tuned, all alike, by the study ``rates``: the best rate
    of each on the validation split, as far as its runs have finished."""
    from ..training import store
    runs, tried = study("rates", "real"), {}
    for run in runs:
        record = store.finished_record("real", run.id)
        if record and record["status"] == "done":
            score = record["history"][-1]["val_accuracy"]
            tried.setdefault(run.attention, {})[run.lr or run.how.lr] = score
    text = (f"Every variant of the headline {{}} at the same rates, {', '.join(map(str, RATES))}: "
            f"seed {runs[0].seed}, which no comparison has, {plural(runs[0].epochs, 'epoch')}, by "
            "the validation split alone")
    if not tried:
        return text.format("is to be tried") + "; none of these runs has finished yet."
    best = "; ".join(f"{name(arm)} {max(own, key=own.get):g}" for arm, own in tried.items())
    count = sum(map(len, tried.values()))
    return text.format("was tried") + f" ({count} of {len(runs)} runs finished). Best: {best}."

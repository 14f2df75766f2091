"""The studies and the profiles, as data: which runs answer which question, at which size."""
import csv
from pathlib import Path
from typing import NamedTuple

from ..names import choose, literal
from ..settings import above_zero
from ..training.run import Run


class Profile(NamedTuple):
    """Sizes, never code. ``fields``: what every run of the profile has; ``margin``: the smallest
    difference in percentage points that is worth a word; ``budget``: minutes on two CPU cores."""
    says: str
    fields: dict
    margin: float
    budget: float | None


PROFILES = {
    "smoke": Profile("tests: everything, tiny", dict(
        width=0.125, epochs=1, n_train=192, n_val=100, n_test=200, batch_size=32), 1.0, 4),
    "small": Profile("the embedded default: a small study on ShapeTex, no download, no GPU", dict(
        width=0.25, recipe="brisk", n_train=1500, n_val=500, n_test=1000), 1.0, 10),
    "pilot": Profile("the real data sets, 10,000 images, narrow networks, a short training", dict(
        width=0.25, epochs=8, n_train=10_000, n_val=2_000), 1.0, None),
    "real": Profile("the real data sets, whole, narrow networks: a CPU or Colab", dict(
        width=0.25, recipe="swift"), 0.5, None),
    "full": Profile("the real data sets, whole, at full width: a modern GPU", dict(epochs=40),
                    0.2, None),
}
COMMITTED = ("pilot", "real", "full")        # the profiles whose records a clone has
CONTROLS = ("layerscale", "shuffled", "frozen")


class Plan(NamedTuple):
    """Arms × seeds of one network on one data set; ``own`` goes before the profile's fields. Plans
    of a lower ``turn`` are trained first, those of one turn seed by seed."""
    dataset: str
    backbone: str
    arms: tuple[str, ...]
    seeds: int
    own: dict = {}
    turn: int = 0
    first_seed: int = 0

    @property
    def seed_list(self) -> range:
        return range(self.first_seed, self.first_seed + self.seeds)


class Study(NamedTuple):
    """A question and, for each profile, the plans that answer it; the first plan is the headline,
    and only with its runs is a profile good enough to be shown. A study that does not ``compare``
    is kept out of the tables that pool studies: it has too few seeds for a word about differences,
    or asks about another kind of training."""
    question: str
    plans: dict[str, tuple[Plan, ...]]
    compare: bool = True


QUESTIONS = {
    "headline": "Does attention help, and does it matter how open the gates start?",
    "hybrid": "Does chaining SE and CBAM help more than either?",
    "baselines": "How good is a plain network, and how far do seeds alone move it?",
    "se": "Does squeeze-and-excitation help, and because its gate sees the image?",
    "cbam": "Which part of CBAM helps: channels, places, or both?",
    "networks": "Does the hybrid help in the networks that its project names?",
    "controls": "Does a block beat controls that keep a part of it but cannot learn to attend?",
    "positions": "Where should a block stand, and is NEW the best of its project's blocks?",
    "resnet50": "Do SE and CBAM help a ResNet-50, and the narrow copy that a project ran?",
    "fashion": "Does CBAM help on Fashion-MNIST, in the blocks or before the classifier?",
    "recipe": "What does the recipe buy, and what does the block buy?",
    "finetune": "Does CBAM help when it is put into a network that is trained already?",
    "rates": "Does a block want another learning rate than the plain network?",
    "schedule": "Does a short training rank blocks by how fast their gates open?",
    "relatives": "Does any other block help?",
    "convergence": "Does a block reach a given accuracy in fewer epochs?",
    "selection": "What does choosing the epoch by its test accuracy buy?",
    "shortcut": "Does a block lean less on a background that gives the class away?",
}


def read_studies(path: Path) -> dict[str, Study]:
    """The studies of a table with a row for each plan; arms, and fields such as ``width=0.5``, are
    set apart by blanks."""
    studies = {name: Study(question, {}, compare=name not in ("rates", "finetune"))
               for name, question in QUESTIONS.items()}
    for row in csv.DictReader(path.read_text(encoding="utf-8").splitlines()):
        fields = dict(pair.split("=", 1) for pair in row["fields"].split())
        plan = Plan(row["dataset"], row["network"], tuple(row["arms"].split()), int(row["seeds"]),
                    {key: literal(value) for key, value in fields.items()},
                    int(row["turn"] or 0), int(row["first_seed"] or 0))
        plans = choose("study of studies.csv (a question in QUESTIONS makes one)", row["study"],
                       studies).plans
        plans[row["profile"]] = (*plans.get(row["profile"], ()), plan)
    return studies


STUDIES = read_studies(Path(__file__).with_name("studies.csv"))


def plans(name: str, profile: str) -> tuple[Plan, ...]:
    """A study's plans in a profile, of no more seeds than ATTNLIB_SEEDS. ``smoke`` is ``small``,
    cut to two arms and one seed."""
    row = choose("study", name, STUDIES)
    choose("profile", profile, PROFILES)
    most = above_zero("ATTNLIB_SEEDS", 1_000_000)
    if profile == "smoke":
        return tuple(p._replace(arms=p.arms[:2], seeds=1) for p in row.plans.get("small", ()))
    return tuple(p._replace(seeds=min(p.seeds, most)) for p in row.plans.get(profile, ()))


def run_of(plan: Plan, profile: str, arm: str, seed: int) -> Run:
    fields = PROFILES[profile].fields | plan.own
    return Run(dataset=plan.dataset, backbone=plan.backbone, attention=arm, seed=seed, **fields)


def margin_of(profile: str) -> float:
    """The equivalence margin in points; 1 for a profile that has none of its own."""
    return PROFILES[profile].margin if profile in PROFILES else 1.0

"""The studies and the profiles, as data: which runs answer which question, at which size."""
import os
from typing import NamedTuple

from ..blocks import ATTENTION, NEWER
from ..names import choose
from ..training.run import Run


class Profile(NamedTuple):
    """Sizes, never code. ``fields``: what every run of the profile has; ``margin``: the smallest
    difference in percentage points that is worth a word; ``budget``: minutes on two CPU cores."""
    says: str
    fields: dict
    margin: float
    budget: float | None


# Faint textures and more distractors than by default, so that blocks can differ.
SMALL = "shapetex(contrast=0.15,distractors=4)"
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
    """A question and, for each profile, the plans that answer it; the first plan is the headline.
    One that does not ``compare`` is to be looked at: too few seeds for a word about differences,
    and kept out of the tables that pool studies."""
    question: str
    plans: dict[str, tuple[Plan, ...]]
    compare: bool = True


HEADLINE = ("none", "se", "cbam", "hybrid")
OPEN = ("hybrid(gate_init=open)", "cbam(gate_init=open)")
SIX = (*HEADLINE, *reversed(OPEN))
CONTROLS = ("layerscale", "shuffled", "frozen")
RATES = (0.15, 0.3, 0.6)    # that every variant of the headline is tried at
HALF = {"width": 0.5, "recipe": "swift+full"}       # speednet: 32, 64 and 64 channels
FAST = Plan("cifar10", "speednet", (*SIX, "eca", *CONTROLS), 10, HALF)
P1_BLOCKS = ("se_sa", "sec_sa", "new", "nab")
SIXTEENTH = 17 / 16         # the widened control: more parameters and MACs than any block adds
PLAIN = {"recipe": "plain", "track_test": True}     # every plain run feeds the selection-bias meter
FIRST = {"small": Plan(SMALL, "speednet", (*HEADLINE, OPEN[0]), 5),
         "pilot": Plan("cifar10", "resnet18", HEADLINE, 6),
         "real": Plan("cifar10", "resnet18", SIX, 8),
         "full": Plan("cifar10", "resnet18", HEADLINE, 20)}
PLAIN_PLANS = {
    "small": (Plan(SMALL, "speednet", ("none", "cbam"), 3, PLAIN | {"epochs": 8}),),
    "pilot": (Plan("cifar10", "resnet18", ("none", "cbam"), 3, PLAIN),),
    "full": (Plan("cifar10", "resnet18", ("none", "se", "cbam"), 6, PLAIN),)}


def at(placement: str) -> dict:
    return {"placement": placement}


def own(recipe: str) -> dict:
    """A project's own recipe, with its own epochs."""
    return {"recipe": recipe, "epochs": None, "track_test": True}


def watched(plan: Plan) -> Plan:
    """The same runs with the test accuracy of every epoch recorded."""
    return plan._replace(own=plan.own | {"track_test": True})


STUDIES = {
    "headline": Study("Does attention help, and does it matter how open the gates start?", {
        "real": (watched(FIRST["real"]._replace(arms=("none", "cbam"))), FIRST["real"],
                 FAST._replace(turn=1),
                 Plan("cifar100", "resnet18", SIX, 3, turn=2),
                 Plan("cifar100", "resnet18", SIX, 6, turn=3),
                 Plan("fashionmnist", "resnet18", ("none", "se", "cbam", OPEN[0]), 6, turn=4),
                 *(Plan("fashionmnist", "resnet18", ("cbam",), 6, at(place), turn=4)
                   for place in ("head", "head_post")))}),
    "hybrid": Study("Does chaining SE and CBAM help more than either?", {
        "small": (FIRST["small"],),
        "pilot": (FIRST["pilot"], Plan("fashionmnist", "resnet18", HEADLINE, 6)),
        "real": (FIRST["real"], FAST._replace(arms=SIX), Plan("cifar100", "resnet18", SIX, 6)),
        "full": (FIRST["full"],
                 Plan("cifar100", "resnet18", HEADLINE, 6),
                 Plan("fashionmnist", "resnet18", HEADLINE, 6))}),
    "baselines": Study("How good is a plain network, and how far do seeds alone move it?", {
        "small": (Plan(SMALL, "speednet", ("none",), 5),),
        "pilot": (Plan("cifar10", "resnet18", ("none",), 6),
                 Plan("fashionmnist", "resnet18", ("none",), 6),
                 Plan("cifar10", "alexnet", ("none",), 4)),
        "real": (FIRST["real"]._replace(arms=("none",)), FAST._replace(arms=("none",)),
                 Plan("cifar100", "resnet18", ("none",), 6),
                 Plan("fashionmnist", "resnet18", ("none",), 6)),
        "full": (Plan("cifar10", "resnet18", ("none",), 20),
                 Plan("fashionmnist", "resnet18", ("none",), 6),
                 *(Plan("cifar10", b, ("none",), 6)
                   for b in ("squeezenet", "alexnet", "vgg16", "vgg19", "resnet50")),
                 Plan("cifar100", "resnet18", ("none",), 6))}),
    "se": Study("Does squeeze-and-excitation help, and because its gate sees the image?", {
        "small": (Plan(SMALL, "speednet", ("none", "se", "layerscale", "shuffled"), 3),),
        "pilot": (Plan("cifar10", "resnet18", ("none", "se"), 6),
                 Plan("cifar10", "resnet18", ("none", "se", "layerscale", "shuffled"), 3)),
        "real": (FIRST["real"]._replace(arms=("none", "se")),
                 FAST._replace(arms=("none", "se", "eca", *CONTROLS)),
                 Plan("cifar100", "resnet18", ("none", "se"), 6),
                 Plan("fashionmnist", "resnet18", ("none", "se"), 6)),
        "full": (Plan("cifar10", "resnet18", ("none", "se", "layerscale", "shuffled"), 6),
                 Plan("fashionmnist", "resnet18", ("none", "se"), 6),
                 Plan("cifar10", "resnet18", ("none", "se", "ser", "eca", "ge", "gc", "srm"), 6))}),
    "cbam": Study("Which part of CBAM helps: channels, places, or both?", {
        "small": (Plan(SMALL, "speednet", ("none", "ca", "sa", "cbam"), 3),),
        "pilot": (Plan("cifar10", "resnet18", ("none", "cbam"), 6),
                 Plan("cifar10", "resnet18", ("none", "ca", "sa", "cbam"), 3)),
        "real": (FIRST["real"]._replace(arms=("none", "cbam", OPEN[1])),
                 FAST._replace(arms=("none", "ca", "sa", "cbam", OPEN[1]), seeds=3),
                 Plan("cifar100", "resnet18", ("none", "cbam", OPEN[1]), 6)),
        "full": (Plan("cifar10", "resnet18", ("none", "ca", "sa", "cbam"), 6),
                 Plan("fashionmnist", "resnet18", ("none", "cbam"), 6),
                 Plan("cifar10", "resnet18",
                      ("none", "cbam", "cbam_avg", "bam", "scse", "coord", "triplet", "simam"),
                      6))}),
    "networks": Study("Does the hybrid help in the networks that its project names?", {
        "pilot": (Plan("cifar10", "alexnet", HEADLINE, 4),
                 Plan("cifar10", "squeezenet", HEADLINE, 3)),
        "real": (*(Plan("cifar10", b, SIX, 3) for b in ("alexnet", "squeezenet", "vgg16")),
                 Plan("cifar10", "resnet18", ("none", "hybrid", "hybrid_sum", "hybrid_par"), 3),
                 *(Plan("cifar10", b, ("none", "hybrid_p0"), 3, at(place) | own("P0"), turn=1)
                   for b, place in (("resnet18", "stem"), ("alexnet(norm=False)", "conv"),
                                    ("squeezenet(norm=False)", "stem")))),
        "full": (*(Plan("cifar10", b, HEADLINE, 6) for b in ("alexnet", "squeezenet", "vgg16")),
                 Plan("cifar10", "resnet18",
                      ("none", "hybrid", "hybrid_p0", "hybrid_sum", "hybrid_par"), 6),
                 # as its notebooks have it: one site in ResNet-18, a small network, its recipe
                 Plan("cifar10", "resnet18", ("hybrid_p0",), 6, at("stem")),
                 Plan("cifar10", "cnn3", ("none", "hybrid_p0"), 20, at("conv")),
                 Plan("cifar10", "resnet18", ("none", "hybrid_p0"), 6, at("stem") | own("P0")))}),
    "controls": Study("Does a block beat what costs as much and looks at nothing?", {
        "small": (Plan(SMALL, "speednet", (*HEADLINE, "layerscale", "shuffled", "frozen"), 3),
                  Plan(SMALL, "speednet", OPEN, 3)),
        "pilot": (Plan("cifar10", "resnet18", (*HEADLINE, "layerscale", "shuffled", "frozen"), 3),
                 Plan("cifar10", "resnet18", OPEN, 3),
                 Plan("cifar10", "resnet18", ("none",), 3, {"width": 0.25 * SIXTEENTH})),
        "real": (FAST,),
        "full": (Plan("cifar10", "resnet18", (*HEADLINE, "layerscale", "shuffled", "frozen"), 6),
                 Plan("cifar10", "resnet18", OPEN, 6),
                 Plan("cifar10", "resnet18", ("none",), 6, {"width": SIXTEENTH}))}),
    "positions": Study("Where should a block stand, and is NEW the best of its project's blocks?", {
        "pilot": (Plan("cifar10", "resnet18", ("none", "cbam", *P1_BLOCKS), 3),),
        "real": (Plan("cifar100", "resnet18", ("none",), 3),
                 *(Plan("cifar100", "resnet18", ("cbam(gamma=1.0)", "new", "se_sa", "sec_sa"), 3,
                        at(f"post_add@{stages}")) for stages in ("12", "1", "123"))),
        "full": (Plan("cifar100", "resnet18", ("none", "cbam", *P1_BLOCKS), 6),
                 *(Plan("cifar100", "resnet18", ("se", "sa", "cbam", "new"), 6,
                        at(f"post_add@{stages}")) for stages in ("1", "12", "123", "34")),
                 *(Plan("cifar100", "resnet18", ("se", "sa", "cbam"), 6, at(f"block@{stages}"))
                   for stages in ("1", "12", "123", "34")),
                 Plan("cifar10", "vgg19", ("none",), 6),
                 *(Plan("cifar100", "resnet18", ("cbam(gamma=1.0)", "se_sa", "sec_sa"), 6,
                        at(f"post_add@{stages}")) for stages in ("1", "12", "123")),
                 Plan("cifar10", "vgg19", ("se_sa", "sec_sa", "cbam(gamma=1.0)", "new"), 6,
                      at("block@1")),
                 Plan("cifar10", "resnet18", ("none", "aa", "nab"), 3))}),
    "resnet50": Study("Do SE and CBAM help a ResNet-50, and the narrow copy that a project ran?", {
        "real": (Plan("cifar10", "resnet50_slim", ("none", "se", "replica_cbam_p2"), 3,
                      own("P2")),),
        "full": (Plan("cifar10", "resnet50", ("none", "se", "cbam"), 6),
                 Plan("cifar10", "resnet50_slim", ("none", "se", "cbam", "replica_cbam_p2"), 6),
                 Plan("cifar10", "resnet50_slim", ("none", "se", "replica_cbam_p2"), 3,
                      own("P2")))}),
    "fashion": Study("Does CBAM help on Fashion-MNIST, in the blocks or before the classifier?", {
        "pilot": (Plan("fashionmnist", "resnet18", ("none", "se", "cbam"), 6),
                 *(Plan("fashionmnist", "resnet18", ("cbam",), 3, at(place))
                   for place in ("head", "head_post"))),
        "real": (Plan("fashionmnist", "resnet18", ("none", "se", "cbam", OPEN[0]), 6),
                 *(Plan("fashionmnist", "resnet18", ("cbam",), 6, at(place))
                   for place in ("head", "head_post")),
                 Plan("fashionmnist", "resnet18", ("none", "se", "cbam"), 3, own("plain"), 1),
                 Plan("fashionmnist", "resnet18", ("cbam",), 3, at("head_post") | own("plain"),
                      1)),
        "full": (Plan("fashionmnist", "resnet18", ("none", "se", "cbam"), 6),
                 *(Plan("fashionmnist", "resnet18", ("cbam",), 6, at(place))
                   for place in ("head", "head_post")),
                 Plan("fashionmnist", "resnet18", ("none", "se", "cbam"), 6, own("plain")),
                 Plan("fashionmnist", "resnet18", ("cbam",), 6, at("head_post") | own("plain")))}),
    "recipe": Study("What does the recipe buy, and what does the block buy?", {
        # plain first: only with its runs is a profile good enough to be shown
        profile: (*PLAIN_PLANS[profile],
                  Plan(data, network, ("none", "cbam"), 6 if profile == "full" else 3), *more)
        for profile, data, network, more in (
            ("small", SMALL, "speednet", ()), ("pilot", "cifar10", "resnet18", ()),
            ("full", "cifar10", "resnet18",
             tuple(Plan("cifar10", "resnet18", ("none", "se", "cbam"), 6,
                        {"recipe": f"strong+{extra}"}) for extra in ("cutmix", "randaugment"))))
        } | {
        # another recipe than the profile's first, likewise
        "real": tuple(Plan("cifar10", "resnet18", ("none", "se", "cbam"), 3, {"recipe": recipe})
                      for recipe in ("swift+cutmix", "swift+randaugment", "swift+full", "swift"))}),
    "rates": Study("Does a block want another learning rate than the plain network?", {
        "real": tuple(Plan("cifar10", "resnet18", SIX, 1, {"lr": rate, "epochs": 4},
                           first_seed=100) for rate in RATES)}, compare=False),
    "schedule": Study("Does a short training rank blocks by how fast their gates open?", {
        "pilot": (Plan("cifar10", "resnet18", ("none", "cbam", "hybrid", *OPEN), 3),),
        "real": (FIRST["real"]._replace(arms=("none", "cbam", "hybrid", *OPEN)),)}),
    "relatives": Study("Does any other block help?", {
        "real": (FAST._replace(arms=("none", *(name for name in ATTENTION
                                               if name not in (*FAST.arms, *NEWER))), seeds=3),)}),
    "convergence": Study("Does a block reach a given accuracy in fewer epochs?",
                         {profile: (plan,) for profile, plan in FIRST.items()}),
    "selection": Study("What does choosing the epoch by its test accuracy buy?", PLAIN_PLANS | {
        "real": (watched(FIRST["real"]._replace(arms=("none", "cbam"))),)}),
    "shortcut": Study("Does a block lean less on a background that gives the class away?", {
        "small": (Plan(SMALL.replace(")", ",rho=0.8)"), "speednet", HEADLINE, 3),)}),
}


def plans(name: str, profile: str) -> tuple[Plan, ...]:
    """A study's plans in a profile. ``smoke`` is ``small``, cut to two arms and one seed, easy."""
    row = choose("study", name, STUDIES)
    choose("profile", profile, PROFILES)
    if profile == "smoke":
        rows = tuple(p._replace(arms=p.arms[:2], seeds=1) for p in row.plans.get("small", ()))
    else:
        rows = row.plans.get(profile, ())
    most = int(os.environ.get("ATTNLIB_SEEDS") or 0) or 10**6         # make reproduce SEEDS=n
    return tuple(p._replace(seeds=min(p.seeds, most)) for p in rows)


def run_of(plan: Plan, profile: str, arm: str, seed: int) -> Run:
    fields = PROFILES[profile].fields | plan.own
    return Run(dataset=plan.dataset, backbone=plan.backbone, attention=arm, seed=seed, **fields)


def margin_of(profile: str, dataset: str = "") -> float:
    """The equivalence margin in points; 1 for a profile that has none of its own."""
    return PROFILES[profile].margin if profile in PROFILES else 1.0

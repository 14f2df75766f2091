"""What four public projects claim, as data, and what the records say to each claim.

A claim is about a procedure, so seeds are the unit. It is judged in the project's *own setting*
where network, place, recipe, image size and pretraining are the project's, else *under our
protocol*: a narrow network, trained from scratch at 32 pixels, cannot refute what is said of a
pretrained one at 224."""
import math
from functools import cache
from typing import NamedTuple

from ..experiments.planning import FOR_READING, resolve_profile
from ..experiments.reading import arm_of
from ..experiments.studies import PROFILES, margin_of
from ..names import parse
from ..training.recipes import RECIPES
from . import stats
from .evidence import Finding, at_its_size, counted, finding, matching, runs_of
from .projects import PRETRAINED, WORDS

SAME, OURS, UNTESTED = "same setting", "our setting", "not tested"
COMMITTED = ("full", "real", "pilot")       # the profiles whose records a clone has, best first
KINDS = {
    "gain": "arm − base is the claimed number",
    "percent": "arm is the claimed percentage above base",
    "order": "arm is better than base, by no stated number",
    "no gain": "arm is not better than base",
    "level": "arm's own score is the claimed number; judged in the same setting alone",
    "count": "an exact number, decided by building the networks",
    "may": "a possibility that the project names: measured, not judged",
    "text": "no measurement decides it",
}
UNJUDGED = ("may", "text")
# metric -> (unit, +1 where more is better, else -1); of entropy what it is lower is counted
METRICS = {"accuracy": ("points", 1), "nll": ("nats", -1), "train_accuracy": ("points", 1),
           "loss": ("nats", -1), "epochs": ("%", -1), "latency": ("%", -1), "entropy": ("%", 1),
           "lift": ("%", 1), "parameters": ("million", 1), "flops": ("billion", 1),
           "added": ("parameters", 1), "ms": ("ms", -1)}


class Claim(NamedTuple):
    """One claim: its number, its own words and where they stand; what it says in ours; how it is
    decided: by which study, in which cell, between which arms. ``own``: the project's own recipe;
    ``than``: the second data set of a contrast; ``ours``: the project names no metric, so the one
    here is ours. ``note``: what the project's own files show."""
    number: str
    quote: str
    says: str
    kind: str = "gain"
    claimed: float | None = None
    study: str = ""
    dataset: str = "cifar10"
    backbone: str = "resnet18"
    arm: str = ""
    base: str = "none"
    metric: str = "accuracy"
    own: str = ""
    than: str = ""
    source: str = "README"
    ours: bool = False
    note: str = ""

    @property
    def project(self) -> str:
        return f"P{self.number[0]}"

    @property
    def judged(self) -> bool:
        return self.kind not in UNJUDGED

    @property
    def words(self) -> str:
        """The commit of the file that is quoted, or the day on which it was read."""
        return WORDS[self.project, self.source.replace(";", ",").split(",")[0]]


RESNET, VGG = "ResNet18: 81.22% → 90.71%", "VGG16: 55.78 → 70.17"
SQUEEZE, ALEX = "SqueezeNet: 71.91% → 78.29% (+6.3%)", "AlexNet: 62.67% → 71.82% (+12.5%)"
ARTICLE = "article, abstract"
GRADCAM = "23% sharper Grad-CAM focus compared to individual attention mechanisms"
NO_METRIC = "which metric is meant, and on which images, is not stated; the entropy is our choice"
ON_IMAGES = ("said of fifteen images of three animals, seen by eye; the share on the object, on "
             "images whose object is known, is our choice")
OTHER_START = "pretrained, at 224 pixels"
BEST = "Our model shows overall higher accuracy than other models."
CONCLUSION = "demo_training.ipynb, conclusion"
POSITIONS = "at different positions in ResNet18 and VGG19"
STAGE_1 = "last epochs in the figure: about 78.76, 78.37, 78.47 for stages 1, 12, 123"
P1_CBAM = "cbam(gamma=1.0)"         # its spatial part's norm starts at one, as torch has it
ORIGINAL = "Original: 0.0213 | 0.9993 | 0.9498 | 0.8202"
SE_ROW = "SE: 0.0162 | 1.0000 | 0.7298 | 0.8451"
CBAM_ROW = "CBAM: 0.0161 | 1.0000 | 0.7674 | 0.8360"
P2_CBAM = "replica_cbam_p2"
P2_LAST = "the notebooks show these numbers: last epochs, with the test set as validation"
OVERFIT = "training accuracy is 1, or nearly: all overfit"
SLIM = {"study": "resnet50", "backbone": "resnet50_slim", "own": "P2"}
FASHION = {"study": "fashion", "dataset": "fashionmnist", "own": "plain"}
HIGHEST = "achieved the highest test accuracy (93.27%)"
SIMPLE = "did not yield significant accuracy improvements on this simple grayscale dataset"
TABLE_3 = "93.27, 93.18, 92.70, 92.59: baseline, cbam_classifier, se, cbam_blocks"
TIMES_3 = "0.06, 0.07, 0.07, 0.09 ms/img: baseline, cbam_classifier, se, cbam_blocks"
ONE_SEED = ("one seed; the differences lie near the binomial error of 0.25 points. Pixels are "
            "scaled by 0.5 and 0.5 there, by the set's mean and deviation here: behind a batch "
            "norm the two differ at the image's border alone")
TIMES = ("on an RTX 4070; rounded to hundredths, 0.07 against 0.06 is anything from 0 to 36 %, "
         "0.09 against 0.06 from 31 to 73 %")
RICHER = "attention may yield more benefits in datasets with higher visual complexity"

CLAIMS = [
    Claim("0.1a", RESNET, "our hybrid, SE and the whole of CBAM, over none in ResNet-18", "gain",
          9.49, "hybrid", arm="hybrid", note="the published notebooks end at 84.65 for none and "
          "85.26 for the hybrid, one run each, " + OTHER_START),
    Claim("0.1b", RESNET, "the same for the block that its notebooks run, at their one place",
          "gain", 9.49, "networks", arm="hybrid_p0 stem", own="P0",
          source="README; FIinal.ipynb", note="two channel gates from the mean, then a "
          "spatial one without a norm, once, behind the first convolution"),
    Claim("0.1c", "ResNet18: 77.93 → 90.71", "the same for the article's hybrid, a learned sum",
          "gain", 12.78, "networks", arm="hybrid_sum", source=ARTICLE, note="another baseline than "
          "the README's; the abstract alone was read: five folds, p < 0.001"),
    Claim("0.1d", RESNET, "the plain ResNet-18's accuracy", "level", 81.22, "networks", arm="none",
          own="P0", note=f"84.65 in the published notebook, {OTHER_START}"),
    Claim("0.1e", "ResNet18: 77.93 → 90.71", "the plain ResNet-18's accuracy", "level", 77.93,
          "networks", arm="none", own="P0", source=ARTICLE, note="its setting is not in the "
          "abstract"),
    Claim("0.2a", SQUEEZE, "our hybrid over none in SqueezeNet", "gain", 6.38, "networks",
          backbone="squeezenet", arm="hybrid", note="also in the article. One notebook has the "
          "hybrid at 10.00, at chance; the other 82.96 for none, 87.05 for SE alone, 86.18 for "
          "the hybrid"),
    Claim("0.2b", SQUEEZE, "the same for the block that its notebooks run, at their one place",
          "gain", 6.38, "networks", backbone="squeezenet(norm=False)", arm="hybrid_p0 stem",
          own="P0", note="a Fire module is no convolution to their loop: one site"),
    Claim("0.2c", SQUEEZE, "the plain SqueezeNet's accuracy", "level", 71.91, "networks",
          backbone="squeezenet(norm=False)", arm="none", own="P0",
          note="70.54 and 82.96 in the published notebooks"),
    Claim("0.3a", ALEX, "our hybrid over none in AlexNet", "gain", 9.15, "networks",
          backbone="alexnet", arm="hybrid", note="also in the article. From 62.67 to 71.82 is "
          "+9.15 points or 14.6 %; the notebook has 60.94, SE 68.39, CBAM 79.43, the hybrid 75.51"),
    Claim("0.3b", ALEX, "the same for the block that its notebooks run, behind every convolution",
          "gain", 9.15, "networks", backbone="alexnet(norm=False)", arm="hybrid_p0 conv", own="P0",
          note="60.94 for none, 75.51 for the hybrid in the notebook"),
    Claim("0.3c", ALEX, "the plain AlexNet's accuracy", "level", 62.67, "networks",
          backbone="alexnet(norm=False)", arm="none", own="P0",
          note="60.94 in the published notebook"),
    Claim("0.4a", "significantly enhancing their performance", "our hybrid over none in VGG-16",
          "order", None, "networks", backbone="vgg16", arm="hybrid",
          note="the notebook's plain VGG-16 stays at 10.00 for 19 epochs; VGG16.ipynb is empty"),
    Claim("0.4b", VGG, "the same, by the article's number", "gain", 14.39, "networks",
          backbone="vgg16", arm="hybrid", source=ARTICLE, note="the abstract alone was read"),
    Claim("0.4c", VGG, "the plain VGG-16's accuracy", "level", 55.78, "networks", backbone="vgg16",
          arm="none", source=ARTICLE, note="its setting is not in the abstract"),
    Claim("0.5", "cnn_senet_cbam_model = HybridCNN()", "the hybrid over none in the small network",
          "order", None, "networks", backbone="cnn3", arm="hybrid_p0 conv",
          source="AlidortoGPU_tran_Set.ipynb, cell 1", note="the networks called SE, CBAM and both "
          "are one class: six runs of it end at 74.90 to 79.89, its seed noise"),
    Claim("0.6", "15% fewer epochs needed (40 vs. 50 epochs)", "epochs to a fixed validation "
          "accuracy, the hybrid against none, one schedule", "percent", -15.0, "convergence",
          arm="hybrid", metric="epochs", ours=True, note="needed for what is not stated, so the "
          "level is our choice; 40 for 50 is 20 % fewer; the notebooks stop early on the test "
          "loss, the hybrid at 21 and none at 19 epochs"),
    Claim("0.7a", "Reduced Validation Loss: 0.545 → 0.533 (ResNet18)", "test loss, our hybrid "
          "against none", "gain", -0.012, "hybrid", arm="hybrid", metric="nll",
          note="in the notebook 0.5339 is the last loss of none; the hybrid's is 0.5184"),
    Claim("0.7b", "Reduced Validation Loss: 0.545 → 0.533 (ResNet18)", "the plain ResNet-18's "
          "loss", "level", 0.545, "networks", arm="none", metric="nll", own="P0",
          note=f"0.5339 in the published notebook, {OTHER_START}"),
    Claim("0.8a", GRADCAM, "by how much the maps' entropy is lower, our hybrid against SE", "gain",
          23.0, "hybrid", arm="hybrid", base="se", metric="entropy", ours=True, note=NO_METRIC),
    Claim("0.8b", GRADCAM, "by how much the maps' entropy is lower, our hybrid against CBAM",
          "gain", 23.0, "hybrid", arm="hybrid", base="cbam", metric="entropy", ours=True,
          note=NO_METRIC),
    Claim("0.9", "synergistic fusion has remained largely unexplored", "few had combined SE and "
          "CBAM", "text", note="SE_SA of the project with different positions is nearly that"),
    Claim("1.1a", "Test Accuracy with Cifar10 in VGG19", "NEW in stage 1 over none in VGG-19",
          "gain", 0.63, "positions", backbone="vgg19", arm="new block@1", source="README, figure",
          note="mean of the last ten epochs: NEW 94.10, none 93.47; a second run of the same "
          "configuration and seed differs by up to 0.2"),
    Claim("1.1b", "Test Accuracy with Cifar10 in VGG19", "NEW over CBAM in stage 1 of VGG-19",
          "gain", 0.19, "positions", backbone="vgg19", arm="new block@1",
          base=f"{P1_CBAM} block@1", source="README, figure", note="NEW 94.10, CBAM 93.91; in the "
          "README's figure a variant of SE_SA ends higher than NEW"),
    Claim("1.2a", BEST, "NEW over none in ResNet-18, stages 1 and 2", "gain", 0.51, "positions",
          "cifar100", arm="new post_add@12", source=CONCLUSION,
          note="mean of the last ten epochs: none 77.90, NEW 78.41"),
    Claim("1.2b", BEST, "NEW over CBAM in ResNet-18, stages 1 and 2", "gain", 0.26, "positions",
          "cifar100", arm="new post_add@12", base=f"{P1_CBAM} post_add@12", source=CONCLUSION,
          note="CBAM 78.15, NEW 78.41"),
    Claim("1.2c", BEST, "NEW over SEC_SA in ResNet-18, stages 1 and 2", "order", None, "positions",
          "cifar100", arm="new post_add@12", base="sec_sa post_add@12", source=CONCLUSION,
          note="SEC_SA 78.97, NEW 78.41: SEC_SA's curve is commented out of the figure"),
    Claim("1.2d", BEST, "NEW over SE_SA in ResNet-18, stages 1 and 2", "gain", 0.09, "positions",
          "cifar100", arm="new post_add@12", base="se_sa post_add@12", source=CONCLUSION,
          note="SE_SA 78.32, NEW 78.41"),
    Claim("1.3a", "Test Accuracy with Cifar100 in ResNet18", "NEW in stage 1 over NEW in stages 1 "
          "and 2", "gain", 0.39, "positions", "cifar100", arm="new post_add@1",
          base="new post_add@12", source="README, figure", note=STAGE_1),
    Claim("1.3b", "Test Accuracy with Cifar100 in ResNet18", "NEW in stage 1 over NEW in stages 1 "
          "to 3", "gain", 0.29, "positions", "cifar100", arm="new post_add@1",
          base="new post_add@123", source="README, figure", note=STAGE_1),
    Claim("1.4", POSITIONS, "places early and channels late", "text", note="implied by the list of "
          "configurations; no sentence and no table says it"),
    Claim("1.5", "Comparison of CBAM and our model by using GradCAM", "the two are set side by "
          "side; that one looks better is not said", "text", ours=True,
          note="four images from one checkpoint each; any metric would be ours"),
    Claim("1.6", "Attention Augmented Convolutional Networks", "AA and NAB are among the blocks",
          "text", note="no results of either; NAB's names build NEW in ResNet, and AA's code mixes "
          "channels with places"),
    Claim("2.1a", SE_ROW, "SE over none in the slim ResNet-50", "gain", 2.49, arm="se", **SLIM,
          note=P2_LAST),
    Claim("2.1b", CBAM_ROW, "their CBAM over none in the slim ResNet-50", "gain", 1.58,
          arm=P2_CBAM, **SLIM, note="the notebooks show these numbers; the block is not quite "
          "CBAM, see 2.4c"),
    Claim("2.1c", ORIGINAL, "the plain slim ResNet-50's accuracy", "level", 82.02, arm="none",
          **SLIM, note=P2_LAST),
    Claim("2.2a", SE_ROW, "loss, SE against none", "gain", -0.22, arm="se", metric="nll", **SLIM,
          note=f"{OVERFIT}; the lowest losses are 0.5726 and 0.6034"),
    Claim("2.2b", CBAM_ROW, "loss, their CBAM against none", "gain", -0.1824, arm=P2_CBAM,
          metric="nll", **SLIM, note="by lowest loss their CBAM, 0.6412, is worse than none, "
          "0.6034"),
    Claim("2.2c", ORIGINAL, "the plain slim ResNet-50's loss", "level", 0.9498, arm="none",
          metric="nll", **SLIM, note=P2_LAST),
    Claim("2.3", "just a little bit better compared to the original and the one with SE",
          "their CBAM over SE", "order", None, arm=P2_CBAM, base="se", **SLIM,
          source="Resnet50_CBAM/README.md",
          note="in the same project's table SE has 0.8451, CBAM 0.8360"),
    Claim("2.4a", "with better results using CBAM", "share of the maps on the object, CBAM over "
          "none", "order", None, "hybrid", "shapetex", arm="cbam", metric="lift", ours=True,
          note=ON_IMAGES),
    Claim("2.4b", "heatmaps have a better location with the CBAM approach", "share of the maps on "
          "the object, CBAM over SE", "order", None, "hybrid", "shapetex", arm="cbam", base="se",
          metric="lift", ours=True, note=ON_IMAGES),
    Claim("2.4c", "with a CBAM (Convolutional Block Attention Module)", "the 913,304 parameters "
          "that their network has more are those of CBAM as published", "count", 913_304,
          backbone="resnet50_slim", arm="cbam", metric="added", ours=True, note="the count is our "
          "test. 14,813,538 − 13,900,234; a misspelt variable drops the bottleneck, and twelve "
          "blocks without it have exactly as many"),
    Claim("2.5a", ORIGINAL, "the plain slim ResNet-50's training loss", "level", 0.0213,
          arm="none", metric="loss", **SLIM, note=OVERFIT),
    Claim("2.5b", ORIGINAL, "its training accuracy", "level", 99.93, arm="none",
          metric="train_accuracy", **SLIM, note=OVERFIT),
    Claim("2.5c", SE_ROW, "training loss, SE against none", "gain", -0.0051, arm="se",
          metric="loss", **SLIM, note=OVERFIT),
    Claim("2.5d", CBAM_ROW, "training loss, their CBAM against none", "gain", -0.0052,
          arm=P2_CBAM, metric="loss", **SLIM, note=OVERFIT),
    Claim("2.5e", SE_ROW, "training accuracy, SE over none", "gain", 0.07, arm="se",
          metric="train_accuracy", **SLIM, note=OVERFIT),
    Claim("2.5f", CBAM_ROW, "training accuracy, their CBAM over none", "gain", 0.07, arm=P2_CBAM,
          metric="train_accuracy", **SLIM, note=OVERFIT),
    Claim("3.1a", TABLE_3, "SE against none", "gain", -0.57, arm="se", **FASHION, note=ONE_SEED),
    Claim("3.1b", TABLE_3, "CBAM in the blocks against none", "gain", -0.68, arm="cbam",
          **FASHION, note=ONE_SEED),
    Claim("3.1c", TABLE_3, "CBAM before the classifier against none", "gain", -0.09,
          arm="cbam head_post", **FASHION, note=ONE_SEED),
    Claim("3.1d", SIMPLE, "SE is no better than none", "no gain", None, arm="se", **FASHION,
          note=ONE_SEED),
    Claim("3.1e", SIMPLE, "CBAM is no better than none", "no gain", None, arm="cbam", **FASHION,
          note=ONE_SEED),
    Claim("3.1f", "still doesn't outperform the baseline", "CBAM before the classifier is no "
          "better than none", "no gain", None, arm="cbam head_post", **FASHION, note=ONE_SEED),
    Claim("3.1g", TABLE_3, "CBAM before the classifier over SE", "gain", 0.48,
          arm="cbam head_post", base="se", **FASHION, note=ONE_SEED),
    Claim("3.1h", TABLE_3, "SE over CBAM in the blocks", "gain", 0.11, arm="se", base="cbam",
          **FASHION, note=ONE_SEED),
    Claim("3.1i", HIGHEST, "the plain ResNet-18's accuracy", "level", 93.27, arm="none",
          **FASHION, note=ONE_SEED),
    Claim("3.2", "Parameter and FLOP counts remain largely unchanged", "parameters 11.17, 11.21, "
          "11.26, 11.26 M", "count", 11.26, dataset="fashionmnist", arm="cbam",
          metric="parameters", note="no code is published; the counts fit the usual blocks"),
    Claim("3.3", "Parameter and FLOP counts remain largely unchanged", "0.92 billion FLOPs for all "
          "four", "count", 0.92, dataset="fashionmnist", arm="cbam", metric="flops",
          note="two FLOPs a multiply-accumulate, at 28 pixels; ours leave norms out and agree "
          "within 1 %"),
    Claim("3.4a", "the most efficient in inference speed", "inference time, none against SE",
          "order", None, arm="none", base="se", metric="latency", note=TIMES),
    Claim("3.4b", "adding CBAM in every block led to a measurable increase in inference time",
          "inference time, CBAM in the blocks against none", "percent", 50.0, arm="cbam",
          metric="latency", note=TIMES),
    Claim("3.4c", "the most efficient in inference speed", "inference time, none against CBAM "
          "before the classifier", "order", None, arm="none", base="cbam head_post",
          metric="latency", note=TIMES),
    Claim("3.4d", TIMES_3, "inference time, SE against CBAM in the blocks", "order", None,
          arm="se", base="cbam", metric="latency", note=TIMES),
    Claim("3.4e", TIMES_3, "the plain ResNet-18's milliseconds an image", "level", 0.06,
          arm="none", metric="ms", note="a time is that of its machine: an RTX 4070"),
    Claim("3.5a", RICHER, "SE's gain on CIFAR-10 over that on Fashion-MNIST", "may", None,
          "hybrid", arm="se", than="fashionmnist", note="offered as a thought, not tested there"),
    Claim("3.5b", RICHER, "CBAM's gain on CIFAR-10 over that on Fashion-MNIST", "may", None,
          "hybrid", arm="cbam", than="fashionmnist",
          note="offered as a thought, not tested there"),
    Claim("3.6", "Combine SE/CBAM with advanced augmentation strategies like CutMix or RandAugment",
          "future work", "text", note="the study `recipe` does"),
]


@cache
def planned(name: str, profile: str) -> frozenset:
    """The (data set, network, recipe, arm) that a study has in a profile."""
    return frozenset((r.dataset, r.backbone, r.recipe, arm_of(r)) for r in runs_of(name, profile))


def cells_of(claim: Claim) -> list[tuple[str, str]]:
    """The (profile, recipe), best first, in which the claim's study has all that decides it: of a
    profile the project's own recipe goes before the profile's."""
    arms = {claim.arm} if claim.kind == "level" else {claim.arm, claim.base}
    sets = filter(None, (claim.dataset, claim.than))
    wanted = [(dataset, arm) for dataset in sets for arm in arms]
    return [(p, recipe) for p in reversed(PROFILES) if claim.study
            for recipe in dict.fromkeys((claim.own, PROFILES[p].fields.get("recipe", "strong")))
            if all((dataset, claim.backbone, recipe, arm) in planned(claim.study, p)
                   for dataset, arm in wanted)]


def answer(claim: Claim, profile: str | None = None, resolve=resolve_profile) -> tuple:
    """(profile, recipe, `Finding`): of the first cell that has three seeds, else of the one that
    has most. Looked into are the profile that was asked for, and, where that is none by name, those
    whose records are committed; the same in every clone where none is asked for."""
    asked = [] if profile in (None, FOR_READING) or not claim.study else [
        resolve(profile, claim.study)]
    names = asked if profile in PROFILES else [*asked, *COMMITTED]
    best = ("", "", Finding())
    for p, recipe in sorted(cells_of(claim), key=lambda cell: cell[0] not in asked):
        if p in names and best[2].d.n < stats.MIN_SEEDS:
            found = finding(claim, p, recipe)
            best = (p, recipe, found) if found.d.n > best[2].d.n else best
    return best


def judge(claim: Claim, profile: str | None = None, resolve=resolve_profile) -> dict:
    """What is known of one claim: where from, the difference with its interval, the verdict."""
    unit, sign = METRICS[claim.metric]
    row = {"number": claim.number, "project": claim.project, "quote": claim.quote,
           "source": claim.source, "words": claim.words, "says": claim.says, "kind": claim.kind,
           "unit": unit, "claimed": math.nan if claim.claimed is None else claim.claimed,
           "study": claim.study, "dataset": claim.dataset, "backbone": claim.backbone,
           "arm": claim.arm, "base": claim.base, "metric": claim.metric, "ours": claim.ours,
           "profile": "", "recipe": "", "setting": UNTESTED if claim.judged else "", "scope": "",
           "n": 0, "estimate": math.nan, "low": math.nan, "high": math.nan,
           "verdict": UNTESTED if claim.judged else "not judged", "difference": "",
           "note": claim.note}
    if claim.kind == "count":
        value, agrees = counted(claim)
        return row | {"estimate": value, "setting": OURS if claim.ours else SAME,
                      "scope": "width 1, built and counted",
                      "verdict": "holds" if agrees else "not reproduced"}
    if claim.metric == "latency":
        found, scope = at_its_size(claim)
        where, recipe, run, of = "", "", "", "repeats"
    else:
        of = "seeds"
        where, recipe, found = answer(claim, profile, resolve)
        run = matching(claim, where, recipe)[0] if where else ""
        scope = run and scope_of(run) + ", still rising" * bool(found.rise > stats.STILL_RISING)
    same = run and same_setting(claim, run)
    if not found.d.n or claim.kind == "level" and not same:
        return row
    d, margin = found.d, margin_of(where, claim.dataset) if claim.metric == "accuracy" else 0.0
    row |= {"profile": where, "recipe": recipe, "scope": scope, "n": d.n, "estimate": d.mean,
            "low": d.low, "high": d.high}
    return row if not claim.judged else row | {
        "setting": SAME if same else OURS,
        "verdict": verdict(claim, found, margin, sign).replace("seeds", of),
        "difference": stats.verdict(d, margin) if margin and claim.kind != "level" else ""}


def same_setting(claim: Claim, run) -> bool:
    """Whether a run is what the project ran: its recipe, whole, at full width on all images, and
    judged by a metric that it names itself. What a project pretrained is never met here."""
    return (run.recipe == claim.own and run.how == RECIPES[claim.own] and run.width == 1
            and not run.n_train and claim.project not in PRETRAINED and not claim.ours)


def scope_of(run) -> str:
    """What a verdict is about: ``10,000 images, 8 epochs, width 0.25, batch norm``; *still rising*
    stands behind it where the networks were not done learning."""
    from ..training.trainer import about
    most = "at most " * bool(run.how.patience)
    norm = "batch norm" if parse(run.backbone)[1].get("norm", True) else "no norm"
    return (f"{run.n_train or about(run).train:,} images, {most}{run.how.epochs} epochs, "
            f"width {run.width:g}, {norm}")


def verdict(claim: Claim, found, margin: float, sign: int = 1) -> str:
    """``holds``, ``not reproduced`` or ``undecided: needs about n seeds``.

    With a claimed number, by half of it (`stats.claim_verdict`). Without one: a claim of *better*
    holds where the whole interval is on its side, and is not reproduced where no gain beyond the
    margin is left in it; a claim of *no better* holds where none is left, and is not reproduced
    where the whole interval lies beyond the margin. A level holds where it is one that another run
    would have (`evidence.level`)."""
    d, sd = found.d, found.sd
    if claim.kind in ("gain", "percent"):
        return stats.claim_verdict(d, claim.claimed, sd)
    low, high = sorted((sign * d.low, sign * d.high))
    if claim.kind == "level":
        yes = d.low <= claim.claimed <= d.high
        no = claim.claimed < d.low or claim.claimed > d.high
    elif claim.kind == "no gain":
        yes, no = high <= margin, low > margin
    else:
        yes, no = low > 0, high <= margin
    if yes or no:
        return "holds" if yes else "not reproduced"
    if math.isnan(sd):
        return "undecided: needs more seeds"
    needed = stats.seeds_needed(sd, margin or d.mean or 1.0)
    return f"undecided: needs about {max(needed, d.n + 1, stats.MIN_SEEDS):,} seeds"


def audit(profile: str | None = None, *projects: str):
    """One row a claim of these projects (``"P0"`` …), or of all, as a DataFrame: the claim, where
    the answer is from, the difference of its arms with the 95 % interval, and the verdict.
    ``profile``: as for `resolve_profile`; without one what a clone has."""
    import pandas as pd
    resolve = cache(resolve_profile)                # it may read every record
    return pd.DataFrame([judge(claim, profile, resolve) for claim in CLAIMS
                         if not projects or claim.project in projects])


def said(row) -> str:
    """The verdict in words that claim no more than the setting allows."""
    end = " under our protocol" if row.setting == OURS else ""
    return row.verdict + (end if row.verdict in ("holds", "not reproduced") else "")


def amount(row) -> str:
    """The measured number with its interval and unit; "" where there is none."""
    from .words import interval
    if math.isnan(row.estimate):
        return ""
    if math.isinf(row.estimate):
        return "does not get there"
    if row.kind == "count":
        return f"{row.estimate:,.0f}" if row.unit == "parameters" else f"{row.estimate:.3f}"
    digits = {"points": 1, "nats": 3, "%": 1}[row.unit]
    return interval(row.estimate, row.low, row.high, digits)


def table(df=None) -> str:
    """Markdown: the audit, claim by claim."""
    import pandas as pd
    rows = []
    for r in (audit() if df is None else df).itertuples():
        claimed = "" if math.isnan(r.claimed) else \
            f"{r.claimed:,.0f} {r.unit}" if r.kind == "count" and r.claimed > 1e3 else \
            f"{r.claimed:g} {r.unit}" if r.kind in ("count", "level") else \
            f"{r.claimed:+g} {r.unit}".replace("-", "−")
        scope = ", ".join(filter(None, (r.profile and f"`{r.profile}`", r.recipe, r.scope)))
        rows.append({"": r.number, "claim": f"“{r.quote}” ({r.source}, {r.words}): {r.says}"
                     .replace("|", "·") + ", metric ours" * r.ours,
                     "claimed": claimed, "measured [95 % interval]": amount(r),
                     "seeds": r.n or "", "measured on": scope, "verdict": said(r),
                     "in the project's own files": r.note})
    return pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True)


def tally(df):
    """How many claims hold, are not reproduced or undecided: a DataFrame setting × verdict, of what
    a clone can compute. An answer from other records counts as not tested."""
    import pandas as pd
    df = df[~df.kind.isin(UNJUDGED)]
    known = df.profile.isin(("", *COMMITTED))
    word = df.verdict.str.partition(":")[0]
    return pd.crosstab(df.setting.where(known, UNTESTED), word.where(known, UNTESTED)).reindex(
        index=(SAME, OURS, UNTESTED), columns=("holds", "not reproduced", "undecided", UNTESTED),
        fill_value=0)


def headline(df=None) -> str:
    """The audit in a few sentences, the same in every clone."""
    df = audit() if df is None else df
    count = tally(df)
    ways = [f"{count.loc[s, 'holds']} hold, {count.loc[s, 'not reproduced']} are not reproduced, "
            f"{count.loc[s, 'undecided']} are undecided" for s in (SAME, OURS)]
    tested = df[df.profile.isin(COMMITTED) & ~df.difference.isin(("", "too few seeds"))]
    gains = ((tested.verdict == "holds") & tested.kind.isin(("gain", "order"))
             & ~(tested.claimed < 0)).sum()
    tested = tested.drop_duplicates(["dataset", "backbone", "recipe", "arm", "base"])
    words = ", ".join(f"{n} {word}" for word, n in tested.difference.value_counts().items())
    return (f"Of {count.values.sum()} testable claims in four public projects, in the project's "
            f"own setting {ways[0]}; under our protocol, which is another in size, schedule, "
            f"metric or machine, {ways[1]}; {count.loc[UNTESTED, UNTESTED]} are not tested here "
            f"(run `make reproduce`). Of those that hold {gains} are of a gain in accuracy. Of the "
            f"{len(tested)} differences in accuracy that were tested against the margin: "
            f"{words or 'none yet'}.")

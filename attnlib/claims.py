"""What four public projects claim, as data, and what the records say to each claim.

A claim is about a procedure, so seeds are the unit. One that a study of ours can meet only at 32
pixels and from scratch is answered *under our protocol*: a network trained so cannot refute what
is said of a pretrained one at 224 pixels."""
import math
from functools import cache
from typing import NamedTuple

from . import stats
from .evidence import counted, finding
from .grid import FOR_READING, arm_of, resolve_profile, study
from .studies import PROFILES, margin_of

SAME = "same protocol"
OURS = "our protocol: 32 pixels, from scratch"
KINDS = {
    "gain": "arm − base is the claimed number",
    "percent": "arm is the claimed percentage above base",
    "order": "arm is better than base, by no stated number",
    "no gain": "arm is not better than base",
    "contrast": "arm's gain over base is larger here than on the second data set",
    "count": "an exact number, decided by building the networks",
    "text": "no measurement decides it",
}
# metric -> (unit, +1 where more is better, else -1); of entropy what it is lower is counted
METRICS = {"accuracy": ("points", 1), "nll": ("nats", -1), "epochs": ("%", -1),
           "latency": ("%", -1), "entropy": ("%", 1), "lift": ("%", 1),
           "parameters": ("million", 1), "flops": ("billion", 1), "added": ("parameters", 1)}


class Claim(NamedTuple):
    """One claim: its number, its own words and where they stand; what it says in ours; how it is
    decided: by which study, in which cell, between which arms. ``own``: the project's own recipe,
    where a study runs it. ``note``: what the project's own files show."""
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
    note: str = ""

    @property
    def project(self) -> str:
        return f"P{self.number[0]}"

    @property
    def quantitative(self) -> bool:
        return self.kind != "text"

    @property
    def scope(self) -> str:
        return SAME if self.own or self.kind == "count" else OURS if self.quantitative else ""


GRADCAM = "23% sharper Grad-CAM focus compared to individual attention mechanisms"
NO_NUMBER = "no number and no metric in the files; three images"
BEST = "Our model shows overall higher accuracy than other models."
POSITIONS = "at different positions in ResNet18 and VGG19"
STAGE_1 = "last epochs in the figure: about 78.76, 78.37, 78.47 for stages 1, 12, 123"
SIMPLE = "did not yield significant accuracy improvements on this simple grayscale dataset"
HIGHEST = "achieved the highest test accuracy (93.27%)"
ONE_SEED = "one seed; the differences lie near the binomial error of 0.25 points"
TIMES = "how the times were measured is not stated"

CLAIMS = [
    Claim("0.1", "ResNet18: 81.22% → 90.71%", "the hybrid over none in ResNet-18", "gain", 9.49,
          "hybrid", arm="hybrid", note="not supported by the published notebooks: there the last "
          "epochs are 84.65 for none and 85.26 for the hybrid, one run each"),
    Claim("0.1b", "ResNet18: 81.22% → 90.71%", "the same for the block that its notebooks run, at "
          "their one place", "gain", 9.49, "networks", arm="hybrid_p0 stem", own="P0",
          source="README; FIinal.ipynb", note="two channel gates from the mean, then a "
          "spatial one without a norm, once, behind the first convolution"),
    Claim("0.2", "SqueezeNet: 71.91% → 78.29% (+6.3%)", "the hybrid over none in SqueezeNet",
          "gain", 6.38, "networks", backbone="squeezenet", arm="hybrid",
          note="not supported by the published notebooks: one has the hybrid at 10.00, at chance; "
          "the other 82.96 for none, 87.05 for SE alone, 86.18 for the hybrid"),
    Claim("0.3", "AlexNet: 62.67% → 71.82% (+12.5%)", "the hybrid over none in AlexNet", "gain",
          9.15, "networks", backbone="alexnet", arm="hybrid", note="from 62.67 to 71.82 is +9.15 "
          "points or 14.6 %; the notebook has 60.94, SE 68.39, CBAM 79.43, the hybrid 75.51"),
    Claim("0.4", "significantly enhancing their performance", "the hybrid over none in VGG-16",
          "order", None, "networks", backbone="vgg16", arm="hybrid",
          note="the notebook's plain VGG-16 stays at 10.00 for 19 epochs; VGG16.ipynb is empty"),
    Claim("0.5", "cnn_senet_cbam_model = HybridCNN()", "the hybrid over none in the small network",
          "order", None, "networks", backbone="cnn3", arm="hybrid_p0 conv",
          source="AlidortoGPU_tran_Set.ipynb, cell 1", note="the networks called SE, CBAM and both "
          "are one class: six runs of it end at 74.90 to 79.89, its seed noise"),
    Claim("0.6", "15% fewer epochs needed (40 vs. 50 epochs)", "epochs to a fixed validation "
          "accuracy, the hybrid against none, one schedule", "percent", -15.0, "convergence",
          arm="hybrid", metric="epochs", note="40 for 50 is 20 % fewer; the notebooks stop early "
          "on the test loss, the hybrid at 21 and none at 19 epochs"),
    Claim("0.7", "Reduced Validation Loss: 0.545 → 0.533 (ResNet18)", "test loss, the hybrid "
          "against none", "gain", -0.012, "hybrid", arm="hybrid", metric="nll",
          note="in the notebook 0.5339 is the last loss of none; the hybrid's is 0.5184"),
    Claim("0.8a", GRADCAM, "by how much the maps' entropy is lower, the hybrid against SE", "gain",
          23.0, "hybrid", arm="hybrid", base="se", metric="entropy", note=NO_NUMBER),
    Claim("0.8b", GRADCAM, "by how much the maps' entropy is lower, the hybrid against CBAM",
          "gain", 23.0, "hybrid", arm="hybrid", base="cbam", metric="entropy", note=NO_NUMBER),
    Claim("0.9", "synergistic fusion has remained largely unexplored", "nobody had combined SE and "
          "CBAM", "text", note="SE_SA of the project with different positions is nearly that"),
    Claim("1.1a", "Test Accuracy with Cifar10 in VGG19", "NEW in stage 1 over none in VGG-19",
          "order", None, "positions", backbone="vgg19", arm="new block@1", source="README, figure",
          note="mean of the last ten epochs: NEW 94.10, none 93.47; a second run of the same "
          "configuration and seed differs by up to 0.2"),
    Claim("1.1b", "Test Accuracy with Cifar10 in VGG19", "NEW over CBAM in stage 1 of VGG-19",
          "order", None, "positions", backbone="vgg19", arm="new block@1", base="cbam block@1",
          source="README, figure", note="NEW 94.10, CBAM 93.91; in the README's figure a variant "
          "of SE_SA ends higher than NEW"),
    Claim("1.2a", BEST, "NEW over none in ResNet-18, stages 1 and 2", "order", None, "positions",
          "cifar100", arm="new post_add@12", source="demo_training.ipynb, conclusion",
          note="mean of the last ten epochs: none 77.90, NEW 78.41"),
    Claim("1.2b", BEST, "NEW over CBAM in ResNet-18, stages 1 and 2", "order", None, "positions",
          "cifar100", arm="new post_add@12", base="cbam post_add@12",
          source="demo_training.ipynb, conclusion", note="CBAM 78.15, NEW 78.41"),
    Claim("1.2c", BEST, "NEW over SEC_SA in ResNet-18, stages 1 and 2", "order", None, "positions",
          "cifar100", arm="new post_add@12", base="sec_sa post_add@12",
          source="demo_training.ipynb, conclusion", note="SEC_SA 78.97, NEW 78.41: SEC_SA's curve "
          "is commented out of the figure"),
    Claim("1.3a", "Test Accuracy with Cifar100 in ResNet18", "NEW in stage 1 over NEW in stages 1 "
          "and 2", "order", None, "positions", "cifar100", arm="new post_add@1",
          base="new post_add@12", source="README, figure", note=STAGE_1),
    Claim("1.3b", "Test Accuracy with Cifar100 in ResNet18", "NEW in stage 1 over NEW in stages 1 "
          "to 3", "order", None, "positions", "cifar100", arm="new post_add@1",
          base="new post_add@123", source="README, figure", note=STAGE_1),
    Claim("1.4", POSITIONS, "places early and channels late", "text", note="implied by the list of "
          "configurations; no sentence and no table says it"),
    Claim("1.5", "Comparison of CBAM and our model by using GradCAM", "NEW looks better than CBAM",
          "text", note="four images from one checkpoint each, and no metric"),
    Claim("1.6", "Attention Augmented Convolutional Networks", "AA and NAB are among the blocks",
          "text", note="no results of either; NAB's names build NEW in ResNet, and AA's code mixes "
          "channels with places"),
    Claim("2.1a", "0.0162 | 1.0000 | 0.7298 | 0.8451", "SE over none in the slim ResNet-50", "gain",
          2.49, "resnet50", backbone="resnet50_slim", arm="se", own="P2",
          note="the notebooks show these numbers: last epochs, with the test set as validation"),
    Claim("2.1b", "0.0161 | 1.0000 | 0.7674 | 0.8360", "their CBAM over none in the slim ResNet-50",
          "gain", 1.58, "resnet50", backbone="resnet50_slim", arm="replica_cbam_p2", own="P2",
          note="the notebooks show these numbers; the block is not CBAM, see 2.4c"),
    Claim("2.2a", "0.0162 | 1.0000 | 0.7298 | 0.8451", "loss, SE against none", "gain", -0.22,
          "resnet50", backbone="resnet50_slim", arm="se", metric="nll", own="P2",
          note="training accuracy is 1: all overfit; the lowest losses are 0.5726 and 0.6034"),
    Claim("2.2b", "0.0161 | 1.0000 | 0.7674 | 0.8360", "loss, their CBAM against none", "gain",
          -0.1824, "resnet50", backbone="resnet50_slim", arm="replica_cbam_p2", metric="nll",
          own="P2", note="by lowest loss their CBAM, 0.6412, is worse than none, 0.6034"),
    Claim("2.3", "just a little bit better compared to the original and the one with SE",
          "their CBAM over SE", "order", None, "resnet50", backbone="resnet50_slim",
          arm="replica_cbam_p2", base="se", own="P2", source="Resnet50_CBAM/README.md",
          note="in the same project's table SE has 0.8451, CBAM 0.8360"),
    Claim("2.4a", "with better results using CBAM", "share of the maps on the object, CBAM over "
          "none", "order", None, "hybrid", "shapetex", arm="cbam", metric="lift",
          note="fifteen images of three animals, and no metric"),
    Claim("2.4b", "heatmaps have a better location with the CBAM approach", "share of the maps on "
          "the object, CBAM over SE", "order", None, "hybrid", "shapetex", arm="cbam", base="se",
          metric="lift", note="fifteen images of three animals, and no metric"),
    Claim("2.4c", "with a CBAM (Convolutional Block Attention Module)", "their network's 913,304 "
          "added parameters are CBAM's", "count", 913_304, backbone="resnet50_slim", arm="cbam",
          metric="added", note="14,813,538 − 13,900,234; a misspelt variable drops the bottleneck, "
          "and twelve blocks without it have exactly as many"),
    Claim("3.1a", HIGHEST, "SE against none", "gain", -0.57, "fashion", "fashionmnist", arm="se",
          own="plain", note=ONE_SEED),
    Claim("3.1b", HIGHEST, "CBAM in the blocks against none", "gain", -0.68, "fashion",
          "fashionmnist", arm="cbam", own="plain", note=ONE_SEED),
    Claim("3.1c", HIGHEST, "CBAM before the classifier against none", "gain", -0.09, "fashion",
          "fashionmnist", arm="cbam head_post", own="plain", note=ONE_SEED),
    Claim("3.1d", SIMPLE, "SE is no better than none", "no gain", None, "fashion", "fashionmnist",
          arm="se", own="plain", note=ONE_SEED),
    Claim("3.1e", SIMPLE, "CBAM is no better than none", "no gain", None, "fashion", "fashionmnist",
          arm="cbam", own="plain", note=ONE_SEED),
    Claim("3.2", "Parameter and FLOP counts remain largely unchanged", "parameters 11.17, 11.21, "
          "11.26, 11.26 M", "count", 11.26, dataset="fashionmnist", arm="cbam",
          metric="parameters", note="no code is published; the counts fit the usual blocks"),
    Claim("3.3", "Parameter and FLOP counts remain largely unchanged", "0.92 billion FLOPs for all "
          "four", "count", 0.92, dataset="fashionmnist", arm="cbam", metric="flops",
          note="two FLOPs a multiply-accumulate, at 28 pixels; ours leave norms out and agree "
          "within 1 %"),
    Claim("3.4a", "se | 92.70 | 11.26 | 0.92 | 0.07", "inference time, SE against none", "percent",
          16.7, arm="se", metric="latency", note=TIMES),
    Claim("3.4b", "adding CBAM in every block led to a measurable increase in inference time",
          "inference time, CBAM against none", "percent", 50.0, arm="cbam", metric="latency",
          note=TIMES),
    Claim("3.5a", "attention may yield more benefits in datasets with higher visual complexity",
          "SE's gain on CIFAR-10 over that on Fashion-MNIST", "contrast", None, "hybrid",
          arm="se", than="fashionmnist", note="not tested there"),
    Claim("3.5b", "attention may yield more benefits in datasets with higher visual complexity",
          "CBAM's gain on CIFAR-10 over that on Fashion-MNIST", "contrast", None, "hybrid",
          arm="cbam", than="fashionmnist", note="not tested there"),
    Claim("3.6", "Combine SE/CBAM with advanced augmentation strategies like CutMix or RandAugment",
          "future work", "text", note="the study `recipe` does"),
]


@cache
def planned(name: str, profile: str) -> frozenset:
    """The (data set, network, recipe, arm) that a study has in a profile."""
    return frozenset((r.dataset, r.backbone, r.recipe, arm_of(r)) for r in study(name, profile))


def profiles_of(claim: Claim) -> list[str]:
    """The profiles, largest first, whose study has both arms of the claim in its cell."""
    wanted = {(d, claim.backbone, "strong", arm) for arm in (claim.arm, claim.base)
              for d in filter(None, (claim.dataset, claim.than))}
    return [p for p in reversed(PROFILES) if claim.study and wanted <= planned(claim.study, p)]


def profile_for(claim: Claim, profile: str | None = None, resolve=resolve_profile) -> str:
    """The profile that a claim is answered from: the one that was asked for; else its study's best
    one, or the smallest that has the claim's cell. "" where none has."""
    able, asked = profiles_of(claim), resolve(profile or FOR_READING, claim.study)
    if asked in able:
        return asked
    return "" if profile in PROFILES or not able else [p for p in able if p != "smoke"][-1]


def judge(claim: Claim, profile: str | None = None, resolve=resolve_profile) -> dict:
    """What is known of one claim: where from, the difference with its interval, the verdict."""
    unit, sign = METRICS[claim.metric] if claim.quantitative else ("", 1)
    row = {"number": claim.number, "project": claim.project, "quote": claim.quote,
           "source": claim.source, "says": claim.says, "kind": claim.kind, "unit": unit,
           "claimed": math.nan if claim.claimed is None else claim.claimed, "study": claim.study,
           "dataset": claim.dataset, "backbone": claim.backbone, "arm": claim.arm,
           "base": claim.base, "metric": claim.metric, "profile": "", "recipe": "",
           "scope": claim.scope, "n": 0, "estimate": math.nan, "low": math.nan, "high": math.nan,
           "verdict": "not testable", "difference": "", "note": claim.note}
    if not claim.quantitative:
        return row
    if claim.kind == "count":
        value, agrees = counted(claim)
        return row | {"estimate": value, "verdict": "holds" if agrees else "not reproduced"}
    where = "" if claim.metric == "latency" else profile_for(claim, profile, resolve)
    if not where and claim.metric != "latency":
        return row | {"verdict": "no data yet"}
    found = finding(claim, where)
    d, margin = found.d, margin_of(where, claim.dataset) if claim.metric == "accuracy" else 0.0
    same = claim.own and found.recipe == claim.own
    return row | {"profile": where, "recipe": found.recipe, "scope": SAME if same else OURS,
                  "n": d.n, "estimate": d.mean, "low": d.low, "high": d.high,
                  "verdict": verdict(claim, found, margin, sign),
                  "difference": stats.verdict(d, margin) if margin and d.n else ""}


def verdict(claim: Claim, found, margin: float, sign: int = 1) -> str:
    """``holds``, ``not reproduced``, ``undecided: needs about n seeds`` or ``no data yet``.

    With a claimed number, by half of it (`stats.claim_verdict`). Without one: a claim of *better*
    holds where the whole interval is on its side, and is not reproduced where no gain beyond the
    margin is left in it; a claim of *no better* holds where none is left, and is not reproduced
    where the whole interval lies beyond the margin."""
    d, sd = found.d, found.sd
    if not d.n:
        return "no data yet"
    if claim.kind in ("gain", "percent"):
        return stats.claim_verdict(d, claim.claimed, sd)
    low, high = sorted((sign * d.low, sign * d.high))
    if claim.kind == "no gain":
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
    ``profile``: as for `resolve_profile`; without one each study's best."""
    import pandas as pd
    resolve = cache(resolve_profile)                # it may read every record
    return pd.DataFrame([judge(claim, profile, resolve) for claim in CLAIMS
                         if not projects or claim.project in projects])


def said(row) -> str:
    """The verdict in words that claim no more than the protocol allows."""
    end = " under our protocol" if row.scope == OURS else ""
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
            f"{r.claimed:g} {r.unit}" if r.kind == "count" else \
            f"{r.claimed:+g} {r.unit}".replace("-", "−")
        rows.append({"": r.number, "claim": f"“{r.quote}” ({r.source}): {r.says}".replace("|", "·"),
                     "claimed": claimed, "measured [95 % interval]": amount(r),
                     "pairs": r.n or "", "from": r.profile and f"`{r.profile}`",
                     "verdict": said(r), "in the project's own files": r.note})
    return pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True)


def headline(df=None) -> str:
    """The audit in one sentence."""
    df = audit() if df is None else df
    quantitative = df[df.kind != "text"]
    count = quantitative.verdict.value_counts()
    open_ = int(quantitative.verdict.str.startswith("undecided").sum())
    without = int(count.get("no data yet", 0))
    tested = quantitative[quantitative.difference.isin(("better", "worse", "equivalent",
                                                        "undecided"))]
    tested = tested[tested.kind.isin(("gain", "order", "no gain"))]
    tested = tested.drop_duplicates(["dataset", "backbone", "recipe", "arm", "base"])
    held = quantitative[quantitative.verdict == "holds"]
    gains = int(held.kind.isin(("gain", "order")).sum())
    ways = ", ".join(f"{n} {word}" for word, n in tested.difference.value_counts().items())
    return (f"Of {len(quantitative)} testable claims in four public projects, "
            f"{len(held)} hold ({gains} of them of a gain, {len(held) - gains} of a cost or of no "
            f"gain), {count.get('not reproduced', 0)} are not reproduced, "
            f"{open_ + without} are undecided ({without} of them without data yet). "
            f"Of the {len(tested)} differences in accuracy that they rest on and that were tested "
            f"against the margin: {ways or 'none yet'}.")

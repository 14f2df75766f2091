"""How things are called in tables and plots, and how numbers are written."""
import math

from ..blocks import BLOCKS

# of networks and data sets; blocks have a title in their own table
NAMES = {
    "none wider": "a wider plain network",
    "resnet18": "ResNet-18", "squeezenet": "SqueezeNet", "vgg16": "VGG-16", "vgg19": "VGG-19",
    "resnet50": "ResNet-50", "resnet50_slim": "slim ResNet-50", "alexnet": "AlexNet",
    "cnn3": "CNN of three layers", "mobilenetv2": "MobileNetV2", "shapetex": "ShapeTex",
    "shapetex(contrast=0.15,distractors=4)": "ShapeTex",
    "shapetex(contrast=0.15,distractors=4,rho=0.8)": "ShapeTex, ρ = 0.8",
    "cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "fashionmnist": "Fashion-MNIST"}


def name(key: str) -> str:
    """How a block, arm, network or data set is called in text; options stay as written."""
    if key in NAMES:
        return NAMES[key]
    block, _, rest = key.partition(" ")
    block, is_open, _ = block.partition("(gate_init=open)")
    title = (BLOCKS[block].title if block in BLOCKS else "") or NAMES.get(block, block)
    return " ".join([title + (", gates open" if is_open else ""), rest]).strip()


USUAL = ("strong", "swift", "brisk")        # the recipes that profiles use throughout


def place(row) -> str:
    """The cell that a row stands in: network on data set, and the recipe unless it is usual."""
    own = "" if row.recipe in USUAL else f", recipe `{row.recipe}`"
    return f"{name(row.backbone)} on {name(row.dataset)}{own}"


def plural(n: int, noun: str) -> str:
    return f"{n} {noun}" + ("" if n == 1 else "s")


def interval(mean: float, low: float = math.nan, high: float = math.nan, digits: int = 2) -> str:
    """``+0.81 [−0.22, +1.84]``; without an interval where there are too few seeds."""
    if math.isnan(mean):
        return "–"
    out = f"{mean:+z.{digits}f}"
    if not math.isnan(low):
        out += f" [{low:+.{digits}f}, {high:+.{digits}f}]"       # −0.00 lies below zero
    return out.replace("-", "−")

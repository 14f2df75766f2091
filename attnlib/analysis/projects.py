"""What four student projects call their networks, and what they are called here: data, and a table
of them. A test builds every row. Sources: their code and notebooks; P3 has a report alone."""
from typing import NamedTuple

from ..blocks import BLOCKS
from ..names import option_defaults, parse
from ..networks import BACKBONES

PROJECTS = {
    "P0": "[the hybrid of SENet and CBAM](https://github.com/FrereAlidor/"
          "Hybrid_Attention_Mechanism_CNN_SENet_CBAM)",
    "P1": "[blocks at different positions](https://github.com/jaekyeongg/deeplearning)",
    "P2": "[three ResNet50s](https://github.com/Dalejan/Resnet50_Attention)",
    "P3": "the Fashion-MNIST report",
}
# (project, file) -> the commit whose file has the words that are quoted, or the day it was read
READ = "read 2026-11-21"
WORDS = {
    ("P0", "README"): "69e8b4d", ("P0", "AlidortoGPU_tran_Set.ipynb"): "fe959ed",
    ("P0", "article"): READ,        # synapsesocial.com/de/papers/6a168b770c924ddd1bd5a3d2
    ("P1", "README"): READ, ("P1", "demo_training.ipynb"): "3e874ec",
    ("P2", "README"): "028e880", ("P2", "Resnet50_CBAM/README.md"): "0a4a824",
    ("P3", "README"): READ,
}
PRETRAINED = ("P0",)                # on ImageNet, at 224 pixels: not repeated here


class Row(NamedTuple):
    """One network of a project: its name there, and `build_model`'s arguments here."""
    project: str
    theirs: str
    backbone: str
    attention: str
    placement: str | None
    note: str = ""


# Their block -> (ours, stages in ResNet-18, stages in VGG19); SE_12 is their SE in stages 1 and 2.
P1_BLOCKS = {
    "CA": ("ca", "12 23 34", "123 234 345"),
    "SA": ("sa(bias=True,gamma=1)", "1 12 123 23", "1 12 23 123"),
    "SE": ("ser", "12 23 34", "123 234 345"),
    "SEC": ("sec", "12 23 34", "12 123 234 345"),
    "AA": ("aa", "1 12 123 23", "1 12 23 123"),
    "SE_SA": ("se_sa", "1 12 123", "1 12 123"),
    "SEC_SA": ("sec_sa", "1 12 123", "1 12 123"),
    "CBAM": ("cbam(gamma=1)", "1 12 123", "1 12 123"),
    "NEW": ("new", "1 12 23 123", "1 12 123"),
    "NAB": ("nab", "1 12 123", "1 12 123"),
}
P1_NOTES = {
    "AA": "takes a convolution's place here; theirs follows the sum and ends the identity path",
    "SE": "their SE adds the input, so it is SER",
    "resnet18 NAB": "their table builds NEW under this name",
    "vgg19 SEC_345": "their stage 5 has SE by mistake",
}


def p1_rows() -> list[Row]:
    """P1: after the residual sum in ResNet-18, at the end of a stage in VGG19."""
    rows = [Row("P1", "RESNET", "resnet18", "none", None),
            Row("P1", "VGG19", "vgg19", "none", None)]
    for backbone, place, column in (("resnet18", "post_add", 1), ("vgg19", "block", 2)):
        for theirs, row in P1_BLOCKS.items():
            ours = row[0]
            if (backbone, theirs) == ("resnet18", "NAB"):
                ours = "new"
            for stages in row[column].split():
                full = f"{theirs}_{stages}"
                note = next((P1_NOTES[key] for key in (f"{backbone} {full}", f"{backbone} {theirs}",
                                                       theirs) if key in P1_NOTES), "")
                own = "replace" if ours == "aa" else place
                rows.append(Row("P1", full, backbone, ours, f"{own}@{stages}", note))
    return rows


P0_BLOCKS = {"SENet": "se", "CBAM": "cbam_avg", "hybrid": "hybrid_p0"}
P0_NETWORKS = {       # its name -> (the plain network, the attended one, placement, note)
    "ResNet18": ("resnet18", "resnet18", "stem", "one site, before the stem's norm"),
    "SqueezeNet": ("squeezenet(norm=False)", "squeezenet(norm=False)", "stem",
                   "a Fire module is no convolution to their loop: one site"),
    "VGG16": ("vgg16(norm=False)", "vgg16(norm=False)", "conv", "before every ReLU"),
    "AlexNet": ("alexnet(norm=False)", "alexnet(norm=False)", "conv", "before every ReLU"),
    "small CNN": ("cnn3", "cnn3(dropout=0,norm=False)", "conv",
                  "theirs builds one and the same network three times"),
}


def p0_rows() -> list[Row]:
    """P0: after each of the network's own convolutions that its loop finds."""
    return [Row("P0", f"{net} + {block}" if block else net, attended if block else plain, ours,
                place if block else None, note if block else "")
            for net, (plain, attended, place, note) in P0_NETWORKS.items()
            for block, ours in {"": "none", **P0_BLOCKS}.items()]


ROWS = [
    *p0_rows(),
    *p1_rows(),
    Row("P2", "Original", "resnet50_slim", "none", None),
    Row("P2", "SE", "resnet50_slim", "se", "block", "not in a stage's first bottleneck"),
    Row("P2", "CBAM", "resnet50_slim", "replica_cbam_p2", "block",
        "a misspelt variable drops the bottleneck; `cbam` is what was meant"),
    Row("P3", "baseline", "resnet18", "none", None),
    Row("P3", "se", "resnet18", "se", "block"),
    Row("P3", "cbam_blocks", "resnet18", "cbam", "block"),
    Row("P3", "cbam_classifier", "resnet18", "cbam", "head_post",
        "as written; on a 1×1 map mean and maximum are one"),
    Row("P3", "cbam_classifier", "resnet18", "cbam", "head", "the sensible reading"),
]


def known(row: Row) -> bool:
    """Whether the tables have the row's network and block, with the options it names."""
    for text, table in ((row.backbone, BACKBONES), (row.attention, BLOCKS)):
        name, options = parse(text)
        if name not in table or not set(options) <= set(option_defaults(table[name].make)):
            return False
    return True


def table(*projects: str) -> str:
    """Markdown: the rows of these projects, or of all, and who they are; a block in one row for all
    its stages. A tick: the tables have that network and block."""
    import pandas as pd
    groups = {}
    for row in ROWS:
        if not projects or row.project in projects:
            base, _, stages = (row.placement or "").partition("@")
            key = (row.project, row.theirs.removesuffix(f"_{stages}"), row.backbone, row.attention,
                   base, row.note, known(row))
            groups.setdefault(key, []).append(stages)
    rows = [{"project": project, "their name": theirs + stages_text(stages, "_"),
             "network": f"`{backbone}`", "block": f"`{attention}`",
             "placement": f"`{base}{stages_text(stages, '@')}`" if base else "",
             "here": "✓" if here else "–", "note": note}
            for (project, theirs, backbone, attention, base, note, here), stages in groups.items()]
    legend = "; ".join(f"{key}: {PROJECTS[key]}" for key in projects or PROJECTS)
    return legend + ".\n\n" + pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True)


def stages_text(stages: list[str], mark: str) -> str:
    """``_1, _12`` for ``["1", "12"]``; "" where a row names no stages."""
    return ", ".join(mark + s for s in stages) if any(stages) else ""

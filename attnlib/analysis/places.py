"""Where to find here what four public projects have there: each file, plot and claim of theirs, and
the notebook section that has its counterpart. A test looks up every section."""
from typing import NamedTuple

from .claims import CLAIMS
from .projects import PROJECTS

# notebook, section: the headings as they stand in the notebooks
CURVES = ("05_hybrid", "Loss and accuracy curves")
NETWORKS = ("05_hybrid", "The networks that the project names")
MAPS = ("06_gradcam", "The maps")
SELECTION = ("02_baselines", "What choosing the best epoch on the test set buys")
RECIPE = ("02_baselines", "The recipe")
CBAM_BLOCK = ("04_cbam", "The block, in full")
WHO = ("04_cbam", "Who calls what CBAM?")
WHOSE = ("05_hybrid", "Whose network is which?")
POSITIONS = ("04_cbam", "Positions: NEW and its rivals")
FASHION = ("04_cbam", "Fashion-MNIST: in the blocks, or before the classifier?")
DEEP = ("04_cbam", "ResNet-50 and its slim copy")
CLAIMED = "What was claimed, and what the records say"


class Place(NamedTuple):
    """What a project has, and the (notebook, section) that has it here; ``note`` where they are not
    the same thing."""
    project: str
    theirs: str
    ours: tuple[str, str]
    note: str = ""


P0_MODELS = tuple(f"models/{net}_hybrid.py" for net in ("resnet", "alexnet", "vgg", "squeezenet"))
P0_IMAGES = ("Map_Hybrid", "image", "CNN+SENet+BAM", "output6")
P2_ANIMALS = "Grad-CAM/Test_images, RESNET_ORI, ResNet_SE, ResNet_CBAM"

PLACES = [
    Place("P0", "AlidortoGPU_tran_Set.ipynb", ("05_hybrid", "The answer"),
          "its three small networks are one; here each arm is another"),
    Place("P0", "FIinal.ipynb", NETWORKS),
    Place("P0", "AlexNet.ipynb", NETWORKS),
    Place("P0", "Squeezenet.ipynb", NETWORKS),
    Place("P0", "VGG16.ipynb", NETWORKS, "empty there; runs at full size here"),
    Place("P0", "Fine-Tuning.ipynb", WHOSE, "there the blocks never enter the forward pass"),
    Place("P0", "Grad-cam.ipynb", MAPS),
    Place("P0", "README.md: Performance Improvements", ("05_hybrid", CLAIMED)),
    Place("P0", "train_hybrid_attention.py", ("05_hybrid", "The runs"), "named in its README; not "
          "in the repository"),
    Place("P0", "evaluate_model.py", MAPS, "named in its README; not in the repository"),
    *(Place("P0", file, ("05_hybrid", "The block"), "named in its README; not in the repository")
      for file in P0_MODELS),
    Place("P0", "images/", MAPS, "named in its README; not in the repository"),
    *(Place("P0", f"plot {plot}", MAPS) for plot in P0_IMAGES),
    *(Place("P0", f"plot Loss_Acc_{net}", CURVES)
      for net in ("ResNetHybrid", "AlexNetBase", "Hybrid")),
    Place("P1", "block.py", ("05_hybrid", "The blocks, one by one")),
    Place("P1", "demo_training.ipynb", POSITIONS),
    Place("P1", "demo_inference.ipynb", MAPS),
    Place("P1", "demo.pdf", ("04_cbam", CLAIMED)),
    Place("P1", "resnet_cifar/main.py", POSITIONS),
    Place("P1", "resnet_cifar/inference.py", MAPS),
    Place("P1", "resnet_cifar/resnet.py", WHO),
    Place("P1", "vgg_cifar/main.py", POSITIONS, "VGG-19 runs at full size"),
    Place("P1", "vgg_cifar/inference.py", MAPS),
    Place("P1", "vgg_cifar/vgg.py", WHO),
    Place("P1", "plot fig/CAM.png", CBAM_BLOCK),
    Place("P1", "plot fig/SEblock.png", ("03_se", "The block, in full")),
    Place("P1", "plot fig/SAM.png", CBAM_BLOCK),
    Place("P1", "plot fig/our_block.png", ("05_hybrid", "The blocks, one by one")),
    Place("P1", "plot fig/experiment.png", POSITIONS),
    Place("P1", "plot fig/experiment2.png", POSITIONS),
    Place("P1", "plot fig/GradCam.png", MAPS),
    Place("P2", "Resnet50_Original/ResNet50Ori_CIFAR10.ipynb", DEEP),
    Place("P2", "Resnet50_SE/ResNet50+SE_CIFAR10.ipynb", DEEP),
    Place("P2", "Resnet50_CBAM/ResNet50+CBAM_CIFAR10.ipynb", DEEP,
          "its CBAM is `replica_cbam_p2` here"),
    Place("P2", "README.md: Performance metrics", ("04_cbam", CLAIMED)),
    *(Place("P2", f"plot {folder}/{plot}", ("04_cbam", "Loss and accuracy curves"),
            "of ResNet-18; those of ResNet-50 are at full size")
      for folder in ("Resnet50_Original", "Resnet50_SE", "Resnet50_CBAM")
      for plot in ("acc.png", "loss.png")),
    *(Place("P2", f"plot {plot}", MAPS) for plot in
      ("Resnet50_Original/ori.jpg", "Resnet50_SE/se.jpg", "Resnet50_CBAM/cbam.jpg",
       "authors_gradcam.jpg")),
    Place("P2", P2_ANIMALS, ("06_gradcam", "The numbers"),
          "fifteen pictures there; images with known masks here"),
    Place("P3", "section 2, Dataset: Fashion MNIST", ("01_data", "What is at hand")),
    Place("P3", "section 3, Model Architecture", WHO),
    Place("P3", "section 4, Training Configuration", RECIPE, "its recipe is `plain`"),
    Place("P3", "section 5, Evaluation Metrics", FASHION),
    Place("P3", "section 6, Results", FASHION),
    Place("P3", "plot Test Accuracy", ("04_cbam", "Test accuracy")),
    Place("P3", "plot Inference Time", ("04_cbam", "Inference time")),
    Place("P3", "plot Accuracy vs. Parameter Count", ("04_cbam", "Accuracy against parameters")),
    Place("P3", "section 7, Analysis and Interpretation", ("04_cbam", CLAIMED)),
    Place("P3", "section 9, Future Work", MAPS, "Grad-CAM; other data sets, augmentation and "
          "precision are studies, recipes and a setting here"),
    *(Place(c.project, f"claim {c.number}: {c.says}",
            ("05_hybrid" if c.project == "P0" else "04_cbam", CLAIMED)) for c in CLAIMS),
    Place("P0", "23% sharper Grad-CAM focus", ("06_gradcam", "The claim: sharper?")),
    Place("P0", "early stopping by the test loss", SELECTION),
    Place("P2", "early stopping by the test loss", SELECTION),
]


def table(*projects: str) -> str:
    """Markdown: what each project has, and where that is here, with a link; a section in one row
    for all that it is the counterpart of."""
    import pandas as pd
    groups = {}
    for p in PLACES:
        if not projects or p.project in projects:
            groups.setdefault((p.project, *p.ours, p.note), []).append(p.theirs)
    rows = [{"project": project, "there": "; ".join(theirs),
             "here": f"[{book}]({book}.ipynb#{anchor(heading)}), {heading}", "note": note}
            for (project, book, heading, note), theirs in groups.items()]
    legend = "; ".join(f"{key}: {PROJECTS[key]}" for key in projects or PROJECTS)
    return legend + ".\n\n" + pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True)


def anchor(heading: str) -> str:
    """A heading as the fragment that notebooks link it by."""
    return heading.replace(" ", "-")

"""What four student projects call their networks, and what they are called here (projects.csv), and
where their files and plots have their counterparts (places.csv). A test builds every network and
looks up every section. Sources: their code and notebooks; P3 has a report alone."""
from pathlib import Path

import pandas as pd

PROJECTS = {
    "P0": "[the hybrid of SENet and CBAM](https://github.com/FrereAlidor/"
          "Hybrid_Attention_Mechanism_CNN_SENet_CBAM)",
    "P1": "[blocks at different positions](https://github.com/jaekyeongg/deeplearning)",
    "P2": "[three ResNet50s](https://github.com/Dalejan/Resnet50_Attention)",
    "P3": "the Fashion-MNIST report",
}


def read_table(name: str):
    """A data file of this folder as a DataFrame of text."""
    return pd.read_csv(Path(__file__).with_name(name), dtype=str, keep_default_na=False)


def projects_table(*projects: str):
    """The networks of these projects, or of all: each block at all of its stages in one row."""
    rows = []
    for row in read_table("projects.csv").itertuples():
        if not projects or row.project in projects:
            stages = row.stages.split()
            place = row.placement + ", ".join(f"@{s}" for s in stages)
            rows.append({"project": PROJECTS[row.project],
                         "their name": row.theirs + ", ".join(f"_{s}" for s in stages),
                         "network": f"`{row.backbone}`", "here": f"`{row.attention}`",
                         "placement": f"`{place}`" if place else "", "note": row.note})
    return pd.DataFrame(rows)

"""What four student projects call their networks, and what they are called here (projects.csv), and
where their files and plots have their counterparts (places.csv). A test builds every network and
looks up every section. Sources: their code and notebooks; P3 has a report alone."""
import csv
from pathlib import Path

import pandas as pd

PROJECTS = {
    "P0": "[the hybrid of SENet and CBAM](https://github.com/FrereAlidor/"
          "Hybrid_Attention_Mechanism_CNN_SENet_CBAM)",
    "P1": "[blocks at different positions](https://github.com/jaekyeongg/deeplearning)",
    "P2": "[three ResNet50s](https://github.com/Dalejan/Resnet50_Attention)",
    "P3": "the Fashion-MNIST report",
}


def read_rows(name: str) -> list[dict]:
    """The rows of a data file of this folder, as text."""
    with open(Path(__file__).with_name(name), encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def projects_table(*projects: str):
    """The networks of these projects, or of all: each block at all of its stages in one row."""
    rows = []
    for row in read_rows("projects.csv"):
        if not projects or row["project"] in projects:
            stages = row["stages"].split()
            names = ", ".join(f"_{s}" for s in stages)
            places = ", ".join(f"@{s}" for s in stages)
            rows.append({"project": PROJECTS[row["project"]], "their name": row["theirs"] + names,
                         "network": f"`{row['backbone']}`", "here": f"`{row['attention']}`",
                         "placement": f"`{row['placement']}{places}`" if row["placement"] else "",
                         "note": row["note"]})
    return pd.DataFrame(rows)


def networks_of_projects() -> list[tuple[str, str, str | None]]:
    """`build_model`'s (network, block, placement) of every network of every project."""
    return [(row["backbone"], row["attention"], f"{row['placement']}@{stage}".rstrip("@") or None)
            for row in read_rows("projects.csv") for stage in row["stages"].split() or [""]]

"""What the report adds to its notebooks: words for pictures."""
import base64
import io

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from IPython.core.formatters import DisplayFormatter
from IPython.core.pylabtools import print_figure
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from attnlib.figures import plots
from attnlib.figures.alttext import describe
from attnlib.report import page as report
from attnlib.settings import figures_dir


@pytest.fixture
def figure():
    rows = [{"dataset": "cifar10", "backbone": "resnet18", "recipe": "strong", "attention": arm,
             "arm": arm, "seed": seed, "status": "done", "accuracy": 60.0 + seed,
             "profile": "pilot", "id": f"{arm}-{seed}", "setting": "one", "width": 0.25}
            for arm in ("none", "se") for seed in range(3)]
    return plots.accuracy(pd.DataFrame(rows))


@pytest.fixture
def book(tmp_path, figure):
    """A folder with one notebook: a saved figure's output as a kernel makes it."""
    as_shown = DisplayFormatter(active_types=["image/png", "text/plain"])
    as_shown.formatters["image/png"].for_type(
        plt.Figure, lambda f: print_figure(f, "png", base64=True))
    data, metadata = as_shown.format(plots.save(figure, "one", "pilot"))
    shown = new_output("execute_result", data=data, metadata=metadata, execution_count=1)
    nb = new_notebook(cells=[new_markdown_cell("# T"), new_code_cell("1", outputs=[shown])])
    nbformat.write(nb, tmp_path / f"{report.ARTICLE}.ipynb")
    return tmp_path


def test_a_figures_own_words_become_the_alternative_text(book, figure):
    page = report.report(book, book / "index.html").read_text()
    image = BeautifulSoup(page, "html.parser").find("img")
    assert image["src"].startswith("data:image/png") and image["alt"] == describe(figure)
    assert image["alt"] == "A plot. ResNet-18 on CIFAR-10. test accuracy, %. plain; SE"
    assert describe(figure) in (figures_dir("pilot") / "one.svg").read_text()
    png = Image.open(io.BytesIO(base64.b64decode(image["src"].partition(",")[2])))
    assert png.mode == "P", "few colours: the kernel's own drawing has three times the size"


def test_words_of_pictures_and_of_nothing():
    sheet = plots.pictures([np.zeros((4, 4, 3), np.uint8)] * 3, ["cat", "$5", "cat"])
    assert describe(sheet) == "3 pictures. cat; $5"
    assert describe(plt.figure()) == "An empty figure"
    bare, axis = plt.subplots()
    assert describe(bare) == "A plot"
    axis.set(title="two words\nbelow", xlabel="epoch", ylabel="loss, nats")
    assert describe(bare) == "A plot. two words below. loss, nats by epoch"
    plt.close("all")

"""The summary figure shows each block once, from the runs that are comparable."""
import matplotlib.pyplot as plt
from helpers import correct, stored

from attnlib.experiments.planning import study
from attnlib.figures.summary import summary


def test_panels_hold_the_studies_runs_and_no_trial_of_another_length():
    assert not [axis for axis in summary().axes if axis.get_title()]            # without runs
    for run in study("headline", "real"):
        if run.dataset == "cifar10" and run.seed < 3:
            stored(run, correct(80 + run.seed + (run.attention == "se")), "real")
    for run in study("rates", "real"):
        stored(run, correct(10), "real")
    figure = summary()
    panels = [axis for axis in figure.axes if axis.get_title()]
    assert [axis.get_title().split("\n")[0] for axis in panels] == [
        "ResNet-18 on CIFAR-10", "speednet on CIFAR-10"]
    assert all("3 seeds" in axis.get_title() for axis in panels)
    assert [t.get_text() for t in panels[0].get_yticklabels()] == ["SE", "CBAM", "hybrid"]
    gains = {round(float(bar.lines[0].get_xdata()[0]), 1) for axis in panels
             for bar in axis.containers}
    assert gains == {0.0, 1.0}
    plt.close("all")

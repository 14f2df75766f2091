"""The figure of recipes against blocks."""
import matplotlib.pyplot as plt
import numpy as np

from ..analysis.factors import crossed
from ..analysis.words import name
from .style import empty, legend, look, panels, short


def factor_lines(df) -> plt.Figure:
    """Test accuracy under every recipe: a dot a seed, a line through the means of each arm. Steep
    lines are what recipes buy, the distance between lines is what blocks buy."""
    groups = list(crossed(df))
    figure, axes = panels(len(groups))
    for axis, ((dataset, backbone), runs, recipes, arms) in zip(axes, groups, strict=False):
        for k, arm in enumerate(arms):
            there = [i for i, r in enumerate(recipes) if (r, arm) in runs]
            x = np.array(there) + 0.12 * (k - (len(arms) - 1) / 2)
            y = [runs[recipes[i], arm] for i in there]
            for at, values in zip(x, y, strict=True):
                axis.plot(np.full(len(values), at), values, look(arm).marker, linestyle="",
                          color=look(arm).colour, alpha=0.45, markersize=4)
            axis.plot(x, [values.mean() for values in y], marker=look(arm).marker,
                      color=look(arm).colour, linestyle=look(arm).line, label=short(arm))
        axis.set_xticks(range(len(recipes)), recipes)
        axis.set_xlim(-0.4, len(recipes) - 0.6)
        axis.set(title=f"{name(backbone)} on {name(dataset)}", xlabel="recipe",
                 ylabel="test accuracy, %")
    if not groups:
        empty(figure, axes[0])
    legend(figure)
    return figure

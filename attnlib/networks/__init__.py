"""The networks for small images, as a table."""
from collections.abc import Callable
from typing import NamedTuple

from torch import nn

from .fast import speednet
from .plain import alexnet, cnn3, squeezenet, vgg16, vgg19
from .residual import mobilenetv2, resnet18, resnet50, resnet50_slim


class NetworkRow(NamedTuple):
    """One row of BACKBONES. ``make(num_classes, in_channels, width, **options)``; the placements
    it has slots for; its number of stages; ``version`` as in ATTENTION."""
    make: Callable[..., nn.Module]
    placements: tuple[str, ...]
    stages: int
    version: int = 1


EVERYWHERE = ("stem", "stage", "head", "head_post")
RESIDUAL = ("block", "post_add", "conv", "inner", "replace", *EVERYWHERE)
BACKBONES = {
    "resnet18": NetworkRow(resnet18, RESIDUAL, 4),
    "resnet50": NetworkRow(resnet50, RESIDUAL, 4),
    "vgg16": NetworkRow(vgg16, ("block", "conv", "replace", *EVERYWHERE), 5),
    "vgg19": NetworkRow(vgg19, ("block", "conv", "replace", *EVERYWHERE), 5),
    "alexnet": NetworkRow(alexnet, ("block", "conv", *EVERYWHERE), 5),
    "squeezenet": NetworkRow(squeezenet, ("block", "conv", *EVERYWHERE), 3, 2),
    "resnet50_slim": NetworkRow(resnet50_slim, RESIDUAL, 4),
    "cnn3": NetworkRow(cnn3, ("block", "conv", *EVERYWHERE), 3),
    "mobilenetv2": NetworkRow(mobilenetv2, ("block", "post_add", "conv", "inner", *EVERYWHERE), 7),
    "speednet": NetworkRow(speednet, ("block", "conv", "replace", *EVERYWHERE), 3),
}

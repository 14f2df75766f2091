"""Training recipes as data. A run's identity holds a recipe's values, not its name."""
from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """One way to train. A field added later takes a default that changes no older recipe."""
    optimizer: str = "sgd"          # with Nesterov momentum
    lr: float = 0.1                 # the peak
    momentum: float = 0.9
    weight_decay: float = 5e-4      # on the weights of convolutions and linear layers alone
    batch_size: int = 128
    epochs: int = 30
    schedule: str = "cosine"        # linear warm-up, then half a cosine down to zero
    warmup: float = 0.15            # share of all steps
    label_smoothing: float = 0.0
    crop: int = 0                   # pixels of padding for the random crop; 0: none
    flip: bool = False              # horizontal mirror with probability 1/2


RECIPES = {
    "strong": Recipe(label_smoothing=0.1, crop=4, flip=True),
}

"""`Run`: the frozen identity of one training, and its id."""
import dataclasses
import hashlib
import json
import re
import unicodedata
from dataclasses import dataclass

from ..blocks import BLOCKS
from ..data.datasets import SETS, canonical_dataset, identity
from ..names import choose, parse
from ..networks import BACKBONES
from ..networks.build import canonical_attention, canonical_backbone, resolve_placement
from ..settings import plain
from .recipes import RECIPES, Recipe


@dataclass(frozen=True)
class Run:
    """One training, fully named. ``None`` means the recipe's or the data set's own value.

    Names are put in canonical form and placements resolved at once, so that two spellings of one
    run are equal. ``ValueError`` lists the valid names. ``start``: the id of a finished run without
    attention whose weights this one goes on from; its block is added to the residual branches by
    `add_attention` with ``zero_init``, so that at first nothing changes. ``track_test`` records the
    test accuracy of every epoch, to study selection bias; it changes neither a result nor an id."""
    dataset: str = "shapetex"
    backbone: str = "resnet18"
    attention: str = "none"
    placement: str | None = None
    recipe: str = "strong"
    seed: int = 0
    epochs: int | None = None
    width: float = 1.0
    n_train: int | None = None
    n_val: int | None = None
    n_test: int | None = None
    lr: float | None = None
    weight_decay: float | None = None
    batch_size: int | None = None
    ema: float | None = None
    start: str | None = None
    track_test: bool = dataclasses.field(default=False, compare=False)

    def __post_init__(self):
        choose("recipe", self.recipe, RECIPES)
        for name, kind in NUMBERS.items():
            value = getattr(self, name)
            if value is not None:
                self._set(name, checked_number(name, value, kind))
        self._set("placement", resolve_placement(text(self.attention), text(self.backbone),
                                                 self.placement))
        self._set("dataset", canonical_dataset(self.dataset))
        self._set("backbone", canonical_backbone(text(self.backbone)))
        self._set("attention", canonical_attention(text(self.attention), self.backbone))
        if self.start is not None and (not plain(self.start)
                                       or self.placement not in ("", "block")):
            raise ValueError(f"start={self.start!r} should be the id of a finished run, its block "
                             "one that stands in the branches (placement block)")

    def _set(self, name, value):
        object.__setattr__(self, name, value)

    @property
    def how(self) -> Recipe:
        """The recipe with this run's own values in it."""
        own = {f.name: getattr(self, f.name) for f in dataclasses.fields(Recipe)
               if getattr(self, f.name, None) is not None}
        return dataclasses.replace(RECIPES[self.recipe], **own)

    def resolved(self) -> dict:
        """What makes two runs the same: canonical names, the recipe's values, row versions; every
        field that stands at its default is left out, so a field added later renames nothing."""
        out = {name: getattr(self, name) for name in
               ("backbone", "attention", "placement", "seed", "width", "n_train", "n_val", "n_test",
                "start")}
        out = {k: v for k, v in out.items() if v not in (None, "") and (k, v) != ("width", 1.0)}
        how = self.how
        out["recipe"] = {f.name: getattr(how, f.name) for f in dataclasses.fields(Recipe)
                         if getattr(how, f.name) != f.default}
        return out | {"dataset": identity(self.dataset)} | {
            f"{kind}_version": version for kind, version in versions(self).items() if version > 1}

    @property
    def setting(self) -> str:
        """Eight digits that runs share where they differ in nothing but seed, block, its place, and
        width (which is part of an arm's name where a profile has several)."""
        own = {"seed", "attention", "placement", "attention_version", "width"}
        same = {k: v for k, v in self.resolved().items() if k not in own}
        return hashlib.sha256(canonical_json(same).encode()).hexdigest()[:8]

    @property
    def id(self) -> str:
        """``cifar10-resnet18-se-s0-1a2b3c4d``: readable, and unique by its last eight digits."""
        digest = hashlib.sha256(canonical_json(self.resolved()).encode()).hexdigest()[:8]
        words = [identity(self.dataset), self.backbone, self.attention, f"s{self.seed}"]
        if self.placement not in ("", "block"):
            words.insert(3, self.placement)
        slug = "-".join(re.sub(r"[^a-z0-9]+", "_", w.lower()).strip("_")[:40] for w in words)
        return f"{slug}-{digest}"

    def as_dict(self) -> dict:
        """The fields that differ from their defaults: ``Run(**run.as_dict()) == run``."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)
                if getattr(self, f.name) != f.default and not
                (f.name == "placement" and self.placement == "")}


def versions(run: Run) -> dict[str, int]:
    """The versions of the rows that the run used: a record below the current ones is stale."""
    tables = {"dataset": SETS, "backbone": BACKBONES, "attention": BLOCKS}
    return {kind: table[parse(getattr(run, kind))[0]].version for kind, table in tables.items()}


NUMBERS = {"seed": int, "epochs": int, "n_train": int, "n_val": int, "n_test": int,
           "batch_size": int, "width": float, "lr": float, "weight_decay": float,
           "ema": float}
MAY_BE_ZERO = ("seed", "weight_decay", "ema")
BELOW = {"ema": 1, "width": 32}             # the others below a million million


def checked_number(name: str, value, kind: type):
    """``value`` as an int or float within its range; anything else is a ``ValueError``."""
    limit, zero = BELOW.get(name, 10**12), name in MAY_BE_ZERO
    try:
        out = kind(value) + 0                                      # -0.0 is 0.0
        good = not isinstance(value, bool) and out == float(value) and 0 <= out < limit
    except (TypeError, ValueError, OverflowError):
        good = False
    if not good or (out == 0 and not zero):
        raise ValueError(f"{name}={value!r} should be {'a whole' if kind is int else 'a'} number "
                         f"{'at least' if zero else 'above'} 0 and below {limit:,}")
    return out


def text(value: str) -> str:
    """One spelling of composed characters."""
    return unicodedata.normalize("NFC", str(value))


def canonical_json(value) -> str:
    """The one JSON text of a value: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False,
                      allow_nan=False)

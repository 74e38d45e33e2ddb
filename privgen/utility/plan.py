"""What a run of augment-bench will do, and the checks made before anything is trained."""

import difflib
import math
from dataclasses import dataclass

import numpy as np

from privgen.data.splits import require_disjoint
from privgen.data.tileset import TileSet
from privgen.errors import ConfigError, InputError, SplitError
from privgen.utility.arms import ARMS, BASELINE
from privgen.utility.classifiers import FAMILIES, SIZES
from privgen.utility.fitting import Recipe


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One training: a family in an arm, at a ratio, with a seed."""

    family: str
    arm: str
    ratio: float | None
    seed: int

    @property
    def label(self) -> str:
        """The arm as the tables call it: `real`, `real+synthetic x0.5`."""
        return self.arm if self.ratio is None else f"{self.arm} x{self.ratio:g}"

    @property
    def name(self) -> str:
        """Unique within a run."""
        return f"{self.family}, {self.label}, seed {self.seed}"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The options of one run, checked."""

    families: tuple[str, ...]
    ratios: tuple[float, ...]
    seeds: tuple[int, ...]
    arms: tuple[str, ...]
    recipe: Recipe
    size: str
    device: str
    seed: int

    def __post_init__(self) -> None:
        _require_known("families", self.families, FAMILIES)
        _require_known("arms", self.arms, tuple(ARMS))
        _require_known("size", (self.size,), SIZES)
        lists: dict[str, tuple[object, ...]] = {
            "families": self.families,
            "arms": self.arms,
            "ratios": self.ratios,
            "seeds": self.seeds,
        }
        for name, given in lists.items():
            if not given or len(set(given)) < len(given):
                raise ConfigError(f"{name} must be one or more different ones: got {given}.")
        if BASELINE not in self.arms:
            raise ConfigError(
                f"arms must hold {BASELINE!r}, which the others are compared with: got "
                f"{', '.join(self.arms)}."
            )
        if not all(math.isfinite(ratio) and ratio > 0 for ratio in self.ratios):
            raise ConfigError(f"ratios must be above 0: got {self.ratios}.")
        if len(self.seeds) < 2 or min(self.seeds) < 0:
            raise ConfigError(
                f"seeds must be 2 or more, from 0: got {self.seeds}. One training does not show "
                "how much the next would differ."
            )
        for name, value, least in (
            ("batch", self.recipe.batch, 2),
            ("evaluations", self.recipe.evaluations, 2),
            ("updates", self.recipe.updates, self.recipe.evaluations),
            ("seed", self.seed, 0),
        ):
            if value < least:
                raise ConfigError(f"{name} must be {least} or more: got {value}.")

    def cells(self) -> list[Cell]:
        """Every training, families first, then arms and ratios, then seeds."""
        return [
            Cell(family=family, arm=arm, ratio=ratio, seed=seed)
            for family in self.families
            for arm in self.arms
            for ratio in (self.ratios if ARMS[arm].scales else (None,))
            for seed in self.seeds
        ]


def _require_known(name: str, given: tuple[str, ...], known: tuple[str, ...]) -> None:
    for one in given:
        if one not in known:
            near = difflib.get_close_matches(one, known, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise ConfigError(f"{name} must be of {', '.join(known)}: got {one!r}.{hint}")


def check_splits(*, train: TileSet, validation: TileSet, test: TileSet, synthetic: TileSet) -> None:
    """Refuse splits and synthetic tiles that would make the figures meaningless.

    Raises:
      InputError: a class is missing or unknown, validation is empty, or test has one patient.
      SplitError: two splits share a patient, a picture or pixels, or synthetic tiles stand in one.
    """
    if len(train.classes) < 2:
        raise InputError(
            f"classifiers need 2 classes or more: the training split has {len(train.classes)}."
        )
    for name, tiles in (("validation", validation), ("test", test), ("synthetic", synthetic)):
        unknown = sorted(set(tiles.classes) - set(train.classes))
        if unknown:
            raise InputError(
                f"every {name} class must be among the training split's: {', '.join(unknown)} is "
                f"not ({', '.join(train.classes)} are). Correct the labels, or split again."
            )
    missing = sorted(set(train.classes) - set(test.classes))
    if missing:
        raise InputError(
            f"every class must be in the test split: {', '.join(missing)} is missing. Split "
            "again, or leave the class out."
        )
    if len(validation) == 0:
        raise InputError("the validation split must hold tiles: got none. Split again.")
    if len(np.unique(test.groups)) < 2:
        raise InputError(
            f"the test split needs 2 {test.group_unit}s or more: got 1. Add {test.group_unit}s."
        )
    require_disjoint(train=train, validation=validation, test=test)
    for name, tiles in (("validation", validation), ("test", test)):
        shared = np.intersect1d(synthetic.digests, tiles.digests)
        if len(shared):
            raise SplitError(
                f"synthetic tiles may not stand in the {name} split: {len(shared)} do, pixel for "
                "pixel. The generator must be trained on the training split alone."
            )

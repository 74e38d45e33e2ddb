"""What a run of augment-bench will do: its options, checked, and every training they ask for."""

import difflib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from privgen.benefit.arms import ARMS, BASELINE, FILTERED, Arm
from privgen.benefit.requests import FULL
from privgen.benefit.trials.classifiers import FAMILIES, MODELS, SIZES
from privgen.benefit.trials.fitting import Recipe
from privgen.errors import ConfigError

RATIOS = FULL.ratios
"""Synthetic tiles for each real one, where none are asked for."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One training.

    Attributes:
      regime: share of the real training tiles.
      model: of `classifiers.MODELS`.
      arm: of `arms.ARMS`.
      ratio: synthetic tiles for each real one; None where the arm has none.
      seed: of initial weights, batches and the draw of tiles.
      generator: whose synthetic tiles, from 0; None where the arm trains on none.
    """

    regime: float
    model: str
    arm: str
    ratio: float | None
    seed: int
    generator: int | None

    @property
    def label(self) -> str:
        """The arm as the tables call it: `real`, `real+synthetic x0.5`."""
        return self.arm if self.ratio is None else f"{self.arm} x{self.ratio:g}"

    @property
    def name(self) -> str:
        """Unique within a run."""
        made = "" if self.generator is None else f", generator {self.generator}"
        return f"regime {self.regime:g}, {self.model}, {self.label}{made}, seed {self.seed}"


@dataclass(frozen=True, kw_only=True)
class BenchPlan:
    """The options of one run, checked.

    Attributes:
      models: of `classifiers.MODELS`.
      ratios: synthetic tiles for each real training tile.
      seeds: of the trainings, 2 or more; the same initial weights and test patients in every arm.
      arms: of `arms.ARMS`; `real` must be among them.
      recipe: of every training.
      size: of the networks that are named by family alone, see `classifiers`.
      weights: pairs of a model and what it starts from, see `pretrained`; from scratch without.
      device: "auto", "cpu", "cuda" or "cuda:N".
      seed: of everything random, together with `seeds`.
    """

    models: tuple[str, ...] = FAMILIES
    ratios: tuple[float, ...] = RATIOS
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    arms: tuple[str, ...] = tuple(ARMS)
    recipe: Recipe
    size: str = "small"
    weights: tuple[tuple[str, str], ...] = ()
    device: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        _require_known("models", self.models, tuple(MODELS))
        _require_known("arms", self.arms, tuple(ARMS))
        _require_known("size", (self.size,), SIZES)
        _require_known("models with weights", tuple(dict(self.weights)), self.models)
        lists: dict[str, tuple[object, ...]] = {
            "models": self.models,
            "arms": self.arms,
            "ratios": self.ratios,
            "seeds": self.seeds,
        }
        for name, given in lists.items():
            told = {f"{one:g}" if isinstance(one, float) else one for one in given}
            if not given or len(told) < len(given):
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

    @classmethod
    def of(
        cls,
        *,
        updates: int = 150,
        batch: int = 32,
        evaluations: int = 3,
        weights: Mapping[str, str] | None = None,
        **options: Any,
    ) -> Self:
        """A plan from plain values.

        Args:
          updates: optimiser updates of every training.
          batch: tiles per update.
          evaluations: checkpoints compared on the validation split, 2 or more.
          weights: what to start models from, see `pretrained`; from scratch where it names none.
          options: other fields of this class.

        Raises:
          ConfigError: an option is unknown or out of range.
        """
        recipe = Recipe(updates=updates, batch=batch, evaluations=evaluations)
        lists: dict[str, Any] = {
            name: tuple(options.pop(name))
            for name in ("models", "ratios", "seeds", "arms")
            if name in options
        }
        known = {field.name for field in fields(cls)}
        for name in options:
            if name not in known:
                raise ConfigError(f"augment_bench has no parameter {name!r}.")
        pairs = tuple(sorted((weights or {}).items()))
        return cls(recipe=recipe, weights=pairs, **lists, **options)

    @property
    def primary_ratio(self) -> float:
        """The ratio nearest to as many synthetic tiles as real ones; of two, the smaller."""
        return min(self.ratios, key=lambda ratio: (abs(math.log(ratio)), ratio))

    def weights_of(self, model: str) -> str | None:
        """What a model starts from; None from scratch."""
        return dict(self.weights).get(model)

    @property
    def filters(self) -> bool:
        """Whether synthetic tiles are filtered."""
        return FILTERED in self.arms

    def cells(self, generators: Mapping[float, int]) -> list[Cell]:
        """Every training: regimes first, then models, arms and ratios, generators, seeds.

        Args:
          generators: how many each regime has, by its share.
        """
        return [
            Cell(regime=regime, model=model, arm=name, ratio=ratio, seed=seed, generator=made)
            for regime, count in generators.items()
            for model in self.models
            for name in self.arms
            for ratio in self._ratios(ARMS[name])
            for made in (range(count) if ARMS[name].synthetic else (None,))
            for seed in self.seeds
        ]

    def _ratios(self, arm: Arm) -> tuple[float | None, ...]:
        if not arm.sized:
            return (None,)
        return self.ratios if arm.scales else (self.primary_ratio,)

    def to_dict(self) -> dict[str, object]:
        """Plain JSON-able data."""
        return asdict(self)


def _require_known(name: str, given: tuple[str, ...], known: tuple[str, ...]) -> None:
    for one in given:
        if one not in known:
            near = difflib.get_close_matches(one, known, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise ConfigError(f"{name} must be of {', '.join(known)}: got {one!r}.{hint}")

"""What augment-bench keeps and reports: one training, one arm, one comparison, one whole run.

Everything but `CellResult` is an aggregate over the test split: no record speaks of a single tile.
Figures are fractions; `statistics` says how their intervals are made.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from audits.results import Estimate
from privgen.benefit.plan import Cell
from privgen.benefit.trials.fitting import CurvePoint
from privgen.reporting.bench_sections import BenchConfig, BenchCounts, BenchDict

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Point:
    """One generator's tiles, with or without the filter.

    Attributes:
      regime: share of the real training tiles it was trained on.
      generator: its name.
      filtered: whether these are the tiles the filter kept.
      gain: balanced accuracy above real tiles alone, at the primary ratio, mean over models.
      outcome: of the privacy audit of these tiles; None where there was none.
      mdl80: smallest share of copies that audit finds with power .8; None where it finds none of
        the shares it tried, or there was no audit.
      undominated: whether no other audited point is better, see `undominated`; None without an
        audit, or before the points were compared.
    """

    regime: float
    generator: str
    filtered: bool
    gain: Estimate
    outcome: str | None
    mdl80: float | None
    undominated: bool | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class CellResult:
    """What one training gave.

    Attributes:
      cell: which.
      train_tiles: tiles in its training set, repeats counted.
      updates: optimiser updates made.
      chosen: update of the checkpoint chosen on the validation split.
      curve: its evaluations.
      train_accuracy: of the last checkpoint.
      probabilities: on the test split, shape (n, classes).
      stressed: the same under each of `stress.STRESSES`.
    """

    cell: Cell
    train_tiles: int
    updates: int
    chosen: int
    curve: tuple[CurvePoint, ...]
    train_accuracy: float
    probabilities: Floats
    stressed: Mapping[str, Floats]


@dataclass(frozen=True, kw_only=True)
class Convergence:
    """How far training had come, means over seeds and generators.

    Attributes:
      curve: evaluations during training.
      train_accuracy: share of training tiles the last checkpoint gets right.
      chosen: of each training the update of the chosen checkpoint.
      still_improving: validation balanced accuracy rose by more than a point between the last two
        evaluations.
    """

    curve: tuple[CurvePoint, ...]
    train_accuracy: float
    chosen: tuple[int, ...]
    still_improving: bool


@dataclass(frozen=True, kw_only=True)
class ArmRow:
    """One model in one arm of one regime.

    Attributes:
      regime, model: which.
      arm: as the tables call it, with its ratio.
      ratio: synthetic tiles for each real one; None without.
      role: of the arm: "baseline", "comparison", "tested" or "control".
      train_tiles: tiles in its training set; the mean, rounded, where generators differ.
      updates: optimiser updates, the same in every arm.
      seeds, generators: how many of each were crossed; one generator where the arm has none.
      metrics: on the test split, means over seeds and generators.
      robustness: balanced accuracy under each stress, likewise.
      convergence: of its trainings.
    """

    regime: float
    model: str
    arm: str
    ratio: float | None
    role: str
    train_tiles: int
    updates: int
    seeds: int
    generators: int
    metrics: Mapping[str, Estimate]
    robustness: Mapping[str, Estimate]
    convergence: Convergence


@dataclass(frozen=True, kw_only=True)
class Difference:
    """An arm less the arm of real tiles alone, same regime and model, paired by seed and tile.

    Attributes:
      regime, model, arm, ratio, role: of the arm.
      estimate: in balanced accuracy.
      metrics: in every metric; for ECE less is better.
      robustness: in balanced accuracy under each stress.
      p: two-sided, before adjustment.
      p_holm: after Holm over all tested comparisons of the regime; None unless tested.
      verdict: "helps", "harms" or "no evidence of benefit" of a tested arm; else its role.
      detectable: smallest true gain this comparison would have found with power .8, before Holm;
        None where nothing varied.
    """

    regime: float
    model: str
    arm: str
    ratio: float | None
    role: str
    estimate: Estimate
    metrics: Mapping[str, Estimate]
    robustness: Mapping[str, Estimate]
    p: float
    p_holm: float | None
    verdict: str
    detectable: float | None


@dataclass(frozen=True, kw_only=True)
class HistogramRow:
    """The control that sees colours only, in one regime.

    Attributes:
      regime: which.
      metrics: on the test split.
    """

    regime: float
    metrics: Mapping[str, Estimate]


@dataclass(frozen=True, kw_only=True)
class GeneratorRow:
    """One generator of a regime.

    Attributes:
      name: as the tables call it.
      synthetic: tiles it made.
      kept: of these after the filter; None without a filter, like the two that follow.
      dropped_confidence: left out because a classifier doubts their class.
      dropped_distance: left out because they lie far from the real tiles of their class.
    """

    name: str
    synthetic: int
    kept: int | None
    dropped_confidence: int | None
    dropped_distance: int | None


@dataclass(frozen=True, kw_only=True)
class RegimeRow:
    """One share of the real training tiles.

    Attributes:
      share: of the training tiles.
      tiles, patients: how many that is.
      generators: each trained on these tiles alone.
    """

    share: float
    tiles: int
    patients: int
    generators: tuple[GeneratorRow, ...]


@dataclass(frozen=True, kw_only=True)
class BenchReport:
    """Everything one benchmark found; aggregates only.

    Attributes:
      rows: every model in every arm of every regime.
      differences: of every arm but the baseline.
      histograms: the colour histogram of each regime.
      regimes: what stood in each, and its generators.
      plane: gain and leak of each generator.
      conclusion: one paragraph for a reader who is no statistician.
      warnings: what limits the figures; to be read with them.
      classes: names, sorted.
      counts: tiles and patients of the validation and the test split.
      group_unit: what "patient" really is in these data.
      config: every setting.
      seed: of every random draw.
    """

    rows: tuple[ArmRow, ...]
    differences: tuple[Difference, ...]
    histograms: tuple[HistogramRow, ...]
    regimes: tuple[RegimeRow, ...]
    plane: tuple[Point, ...]
    conclusion: str
    warnings: tuple[str, ...]
    classes: tuple[str, ...]
    counts: BenchCounts
    group_unit: str
    config: BenchConfig
    seed: int

    def to_dict(self) -> BenchDict:
        """Plain JSON-able data, keys as the attributes."""
        return cast(BenchDict, asdict(self))

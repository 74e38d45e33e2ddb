"""From trained and tested classifiers to the report of augment-bench."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audits.results import Estimate
from privgen.utility.arms import ARMS, BASELINE
from privgen.utility.fitting import CurvePoint
from privgen.utility.plan import Cell
from privgen.utility.statistics import (
    PRIMARY,
    Resamples,
    arm_differences,
    arm_metrics,
    metric_draws,
    verdicts,
)

CONTROL = "control"
"""Verdict of a difference that is shown and not tested."""

_RISE = 0.01  # validation balanced accuracy between the last two evaluations


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
    """

    cell: Cell
    train_tiles: int
    updates: int
    chosen: int
    curve: tuple[CurvePoint, ...]
    train_accuracy: float
    probabilities: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Convergence:
    """How far training had come, means over seeds.

    Attributes:
      curve: evaluations during training.
      train_accuracy: share of training tiles the last checkpoint gets right.
      chosen: for each seed the update of the chosen checkpoint.
      still_improving: validation balanced accuracy rose by more than a point between the last two
        evaluations.
    """

    curve: tuple[CurvePoint, ...]
    train_accuracy: float
    chosen: tuple[int, ...]
    still_improving: bool


@dataclass(frozen=True, kw_only=True)
class ArmRow:
    """One family in one arm.

    Attributes:
      family, arm: as the tables call them; `arm` names the ratio.
      ratio: synthetic tiles for each real one; None without.
      control: whether the arm is a control.
      train_tiles: tiles in its training set.
      updates: optimiser updates, the same in every arm.
      metrics: on the test split, means over seeds.
      convergence: of its trainings.
    """

    family: str
    arm: str
    ratio: float | None
    control: bool
    train_tiles: int
    updates: int
    metrics: Mapping[str, Estimate]
    convergence: Convergence


@dataclass(frozen=True, kw_only=True)
class Difference:
    """An arm less the arm of real tiles alone, paired by seed and tile.

    Attributes:
      family, arm, ratio, control: of the arm.
      estimate: in balanced accuracy.
      metrics: in every metric; for ECE less is better.
      p: two-sided, before adjustment.
      p_holm: after Holm over all families and ratios; None for a control.
      verdict: "helps", "harms", "no evidence of benefit", or "control".
    """

    family: str
    arm: str
    ratio: float | None
    control: bool
    estimate: Estimate
    metrics: Mapping[str, Estimate]
    p: float
    p_holm: float | None
    verdict: str


@dataclass(frozen=True, kw_only=True)
class BenchReport:
    """Everything one benchmark found; aggregates only.

    Attributes:
      rows: every family in every arm.
      differences: of every arm but the baseline.
      colour_histogram: metrics of the control that sees colours only.
      warnings: what limits the figures; to be read with them.
      classes: names, sorted.
      counts: tiles, and where they are known patients, of each split.
      group_unit: what "patient" really is in these data.
      config: every setting.
      seed: of every random draw.
    """

    rows: tuple[ArmRow, ...]
    differences: tuple[Difference, ...]
    colour_histogram: Mapping[str, Estimate]
    warnings: tuple[str, ...]
    classes: tuple[str, ...]
    counts: Mapping[str, Mapping[str, int]]
    group_unit: str
    config: Mapping[str, Any]
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-able data, keys as the attributes."""
        return asdict(self)


def summarise(
    results: Sequence[CellResult], *, labels: NDArray[np.intp], resamples: Resamples
) -> tuple[tuple[ArmRow, ...], tuple[Difference, ...]]:
    """Rows and differences of all trainings.

    Args:
      results: every family in the same arms with the same seeds; grouped in this order.
      labels: true class of each test tile, shape (n,).
      resamples: of the same tiles, shared by all arms so that differences are paired.
    """
    trained: dict[tuple[str, str], list[CellResult]] = {}
    for result in results:
        trained.setdefault((result.cell.family, result.cell.label), []).append(result)
    draws = {
        key: _stack([metric_draws(labels, one.probabilities, resamples) for one in group])
        for key, group in trained.items()
    }
    rows = tuple(_row(group, draws[key], resamples) for key, group in trained.items())
    compared = [
        (row, *arm_differences(draws[row.family, row.arm], draws[row.family, BASELINE], resamples))
        for row in rows
        if row.arm != BASELINE
    ]
    decided = verdicts(
        {
            f"{row.family}, {row.arm}": (metrics[PRIMARY], p)
            for row, metrics, p in compared
            if not row.control
        }
    )
    return rows, tuple(
        _difference(row, metrics, p, decided.get(f"{row.family}, {row.arm}"))
        for row, metrics, p in compared
    )


def _stack(seeds: Sequence[Mapping[str, NDArray[np.float64]]]) -> dict[str, NDArray[np.float64]]:
    """For each metric the draws of all seeds, shape (seeds, draws + 1)."""
    return {metric: np.stack([one[metric] for one in seeds]) for metric in seeds[0]}


def _row(
    group: Sequence[CellResult], draws: Mapping[str, NDArray[np.float64]], resamples: Resamples
) -> ArmRow:
    cell = group[0].cell
    return ArmRow(
        family=cell.family,
        arm=cell.label,
        ratio=cell.ratio,
        control=ARMS[cell.arm].control,
        train_tiles=group[0].train_tiles,
        updates=group[0].updates,
        metrics=arm_metrics(draws, resamples),
        convergence=_convergence(group),
    )


def _convergence(group: Sequence[CellResult]) -> Convergence:
    curve = tuple(
        CurvePoint(
            update=points[0].update,
            train_loss=float(np.mean([p.train_loss for p in points])),
            validation_loss=float(np.mean([p.validation_loss for p in points])),
            validation_balanced_accuracy=float(
                np.mean([p.validation_balanced_accuracy for p in points])
            ),
        )
        for points in zip(*(one.curve for one in group), strict=True)
    )
    accuracy = [point.validation_balanced_accuracy for point in curve]
    return Convergence(
        curve=curve,
        train_accuracy=float(np.mean([one.train_accuracy for one in group])),
        chosen=tuple(one.chosen for one in group),
        still_improving=accuracy[-1] - accuracy[-2] > _RISE,
    )


def _difference(
    row: ArmRow, metrics: dict[str, Estimate], p: float, decided: tuple[float, str] | None
) -> Difference:
    p_holm, verdict = decided or (None, CONTROL)
    return Difference(
        family=row.family,
        arm=row.arm,
        ratio=row.ratio,
        control=row.control,
        estimate=metrics[PRIMARY],
        metrics=metrics,
        p=p,
        p_holm=p_holm,
        verdict=verdict,
    )

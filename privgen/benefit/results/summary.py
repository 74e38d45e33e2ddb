"""From trained and tested classifiers to the tables of augment-bench.

Everything here is an aggregate over the test split: no record speaks of a single tile. Figures are
fractions; `statistics` says how their intervals are made.

Source: docs/methods.md#classifier-benefit.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from audits.results import Estimate
from privgen.benefit.arms import ARMS, BASELINE
from privgen.benefit.results.metrics import METRICS, balanced_accuracy_draws, metric_draws
from privgen.benefit.results.records import (
    ArmRow,
    CellResult,
    Convergence,
    Difference,
    HistogramRow,
)
from privgen.benefit.results.statistics import (
    PRIMARY,
    SIGNIFICANCE,
    Crossed,
    Resamples,
    arm_differences,
    arm_estimates,
    verdicts,
)
from privgen.benefit.trials.fitting import CurvePoint

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]
Plain = str | int | float | None

_CELL = (
    *("regime", "model", "arm", "ratio", "seed", "generator", "role", "train_tiles", "updates"),
    *("chosen", "train_accuracy"),
)
_RISE = 0.01  # validation balanced accuracy between the last two evaluations


def summarise(
    results: Sequence[CellResult],
    *,
    labels: Indices,
    resamples: Resamples,
    significance: float = SIGNIFICANCE,
) -> tuple[tuple[ArmRow, ...], tuple[Difference, ...]]:
    """Rows and differences of all trainings.

    Args:
      results: seeds and generators fully crossed in every arm, the same seeds in each; rows come in
        this order.
      labels: true class of each test tile, shape (n,).
      resamples: of the same tiles, shared by all arms so that differences are paired.
      significance: family-wise, over the tested comparisons of one regime.
    """
    trained: dict[tuple[float, str, str], list[CellResult]] = {}
    for result in results:
        cell = result.cell
        trained.setdefault((cell.regime, cell.model, cell.label), []).append(result)
    baselines = {
        (regime, model): _draws(group, labels, resamples)
        for (regime, model, label), group in trained.items()
        if label == BASELINE
    }
    rows: list[ArmRow] = []
    compared: list[tuple[ArmRow, dict[str, Crossed]]] = []
    for (regime, model, label), group in trained.items():
        baseline = baselines[regime, model]
        draws = baseline if label == BASELINE else _draws(group, labels, resamples)
        rows.append(_row(group, draws, resamples))
        if label != BASELINE:
            compared.append((rows[-1], arm_differences(draws, baseline, resamples)))
    return tuple(rows), _decided(compared, significance)


def histogram_row(
    regime: float, probabilities: Floats, *, labels: Indices, resamples: Resamples
) -> HistogramRow:
    """Metrics of the colour histogram's probabilities on the test split, shape (n, classes)."""
    draws = metric_draws(labels, probabilities, resamples)
    return HistogramRow(
        regime=regime,
        metrics=arm_estimates({name: one[None, None] for name, one in draws.items()}, resamples),
    )


def _draws(group: Sequence[CellResult], labels: Indices, resamples: Resamples) -> dict[str, Floats]:
    """Every metric, and balanced accuracy by stress, shape (seeds, generators, draws + 1) each."""
    ordered = sorted(group, key=lambda one: (one.cell.seed, one.cell.generator or 0))
    seeds = len({one.cell.seed for one in group})
    found = [
        metric_draws(labels, one.probabilities, resamples)
        | {
            stress: balanced_accuracy_draws(labels, probabilities, resamples)
            for stress, probabilities in one.stressed.items()
        }
        for one in ordered
    ]
    return {
        name: np.stack([one[name] for one in found]).reshape(seeds, len(group) // seeds, -1)
        for name in found[0]
    }


def _split(found: Mapping[str, Estimate]) -> dict[str, dict[str, Estimate]]:
    """Metrics apart from stresses."""
    return {
        "metrics": {name: found[name] for name in METRICS},
        "robustness": {name: one for name, one in found.items() if name not in METRICS},
    }


def _row(group: Sequence[CellResult], draws: Mapping[str, Floats], resamples: Resamples) -> ArmRow:
    cell = group[0].cell
    seeds, generators = draws[PRIMARY].shape[:2]
    return ArmRow(
        regime=cell.regime,
        model=cell.model,
        arm=cell.label,
        ratio=cell.ratio,
        role=ARMS[cell.arm].role,
        train_tiles=round(float(np.mean([one.train_tiles for one in group]))),
        updates=group[0].updates,
        seeds=seeds,
        generators=generators,
        convergence=_convergence(group),
        **_split(arm_estimates(draws, resamples)),
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


def _decided(
    compared: Sequence[tuple[ArmRow, dict[str, Crossed]]], significance: float
) -> tuple[Difference, ...]:
    """Differences with their verdicts; the tested ones of a regime are one family."""
    decided: dict[tuple[float, str, str], tuple[float, str]] = {}
    for regime in {row.regime for row, _ in compared}:
        decided |= verdicts(
            {
                (row.regime, row.model, row.arm): found[PRIMARY]
                for row, found in compared
                if row.regime == regime and row.role == "tested"
            },
            significance=significance,
        )
    differences = []
    for row, found in compared:
        p_holm, verdict = decided.get((row.regime, row.model, row.arm), (None, row.role))
        differences.append(
            Difference(
                regime=row.regime,
                model=row.model,
                arm=row.arm,
                ratio=row.ratio,
                role=row.role,
                estimate=found[PRIMARY].estimate,
                p=found[PRIMARY].p,
                p_holm=p_holm,
                verdict=verdict,
                detectable=found[PRIMARY].detectable,
                **_split({name: one.estimate for name, one in found.items()}),
            )
        )
    return tuple(differences)


def cells_table(
    results: Sequence[CellResult], *, labels: Indices
) -> tuple[tuple[str, ...], list[tuple[Plain, ...]]]:
    """Every training as a row of plain values: aggregates over the test split, without intervals.

    Args:
      results: one or more, with the same stresses each.
      labels: true class of each test tile, shape (n,).

    Returns:
      Names of the columns, and the rows in the order of the results.
    """
    whole = Resamples(owner=np.zeros(len(labels), dtype=np.intp), weights=np.ones((1, 1)))
    stresses = tuple(results[0].stressed)
    columns = (*_CELL, *METRICS, *(f"{PRIMARY}_{stress}" for stress in stresses))
    table: list[tuple[Plain, ...]] = []
    for one in results:
        found = metric_draws(labels, one.probabilities, whole)
        stressed = (
            balanced_accuracy_draws(labels, one.stressed[stress], whole) for stress in stresses
        )
        table.append(
            (
                *(one.cell.regime, one.cell.model, one.cell.arm, one.cell.ratio, one.cell.seed),
                *(one.cell.generator, ARMS[one.cell.arm].role, one.train_tiles, one.updates),
                *(one.chosen, one.train_accuracy),
                *(float(found[metric][0]) for metric in METRICS),
                *(float(draws[0]) for draws in stressed),
            )
        )
    return columns, table

"""The privacy-utility plane: what a generator's tiles gain, and what they give away.

A point is one generator's tiles, all of them or those the filter kept. Its gain is the balanced
accuracy that they add to real tiles alone at the primary ratio, mean over the models that were
asked for; the models are chosen, not drawn, so only patients and classifier seeds count as chance.
Its leak is the verdict of the privacy audit of the same tiles.

Gains of different regimes are gains over different baselines, so points are compared within one.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from audits.results import Estimate, Outcome
from privgen.benefit.arms import ARMS, BASELINE, FILTERED
from privgen.benefit.results.metrics import balanced_accuracy_draws
from privgen.benefit.results.records import CellResult, Point
from privgen.benefit.results.statistics import Floats, Indices, Resamples, crossed_estimate

_WORSE = {Outcome.NO_LEAK_FOUND: 0, Outcome.INCONCLUSIVE: 1, Outcome.LEAK: 2}


def undominated(points: Sequence[Point]) -> tuple[Point, ...]:
    """The same points, each with whether another one dominates it.

    A point dominates another of its regime if its gain is not lower, its verdict not worse (NO LEAK
    FOUND before INCONCLUSIVE before LEAK) and its MDL80 not larger (None is the largest), and one
    of them better. Intervals are not looked at: a point that is undominated by a hair is shown with
    the interval that says so.
    """
    return tuple(
        replace(
            point,
            undominated=None
            if point.outcome is None
            else not any(_dominates(other, point) for other in points),
        )
        for point in points
    )


def _dominates(one: Point, other: Point) -> bool:
    ours, theirs = _costs(one), _costs(other)
    if ours is None or theirs is None or one.regime != other.regime:
        return False
    return ours != theirs and all(a <= b for a, b in zip(ours, theirs, strict=True))


def _costs(point: Point) -> tuple[float, float, float] | None:
    """What should be low: minus the gain, how bad the verdict is, MDL80; None without an audit."""
    if point.outcome is None:
        return None
    smallest = math.inf if point.mdl80 is None else point.mdl80
    return -point.gain.value, _WORSE[Outcome(point.outcome)], smallest


def gains(
    results: Sequence[CellResult],
    *,
    labels: Indices,
    resamples: Resamples,
    primary_ratio: float,
) -> dict[tuple[float, int, bool], Estimate]:
    """Gain of each generator's tiles over real tiles alone.

    Args:
      results: of all trainings; every tested arm with the same models and seeds as the baseline.
      labels: true class of each test tile, shape (n,).
      resamples: of the same tiles.
      primary_ratio: the ratio to look at.

    Returns:
      By regime, generator and whether filtered.
    """
    draws = {
        one.cell: balanced_accuracy_draws(labels, one.probabilities, resamples)
        for one in results
        if one.cell.arm == BASELINE
        or (ARMS[one.cell.arm].role == "tested" and one.cell.ratio == primary_ratio)
    }
    above: dict[tuple[float, int, bool], dict[int, list[Floats]]] = {}
    for cell, own in draws.items():
        if cell.generator is None:
            continue
        baseline = draws[replace(cell, arm=BASELINE, ratio=None, generator=None)]
        key = cell.regime, cell.generator, cell.arm == FILTERED
        above.setdefault(key, {}).setdefault(cell.seed, []).append(own - baseline)
    return {
        key: crossed_estimate(
            np.stack([np.mean(models, axis=0)[np.newaxis] for models in by_seed.values()]),
            resamples,
            bounds=(-1.0, 1.0),
        ).estimate
        for key, by_seed in above.items()
    }

import numpy as np
import pytest
from numpy.typing import NDArray

from audits.results import Estimate
from privgen.benefit.plan import Cell
from privgen.benefit.results.records import (
    CellResult,
    Point,
)
from privgen.benefit.results.statistics import resample_patients
from privgen.benefit.results.tradeoff import (
    gains,
    undominated,
)

LEAK, UNSURE, CLEAN = "LEAK", "INCONCLUSIVE", "NO LEAK FOUND"


def point(
    gain: float, outcome: str | None = CLEAN, mdl80: float | None = 0.01, regime: float = 1.0
) -> Point:
    return Point(
        regime=regime,
        generator="cdcgan, seed 0",
        filtered=False,
        gain=Estimate(value=gain, low=gain - 0.1, high=gain + 0.1, n=6, unit="patient"),
        outcome=outcome,
        mdl80=mdl80,
    )


def kept(*points: Point) -> list[bool | None]:
    return [one.undominated for one in undominated(points)]


def test_a_single_audited_point_is_undominated() -> None:
    assert kept(point(-0.2, LEAK, None)) == [True]


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (point(0.2), point(0.1)),
        (point(0.1, CLEAN), point(0.1, UNSURE)),
        (point(0.1, UNSURE), point(0.1, LEAK)),
        (point(0.1, CLEAN, 0.01), point(0.1, CLEAN, 0.02)),
        (point(0.1, CLEAN, 0.5), point(0.1, CLEAN, None)),
    ],
)
def test_one_better_figure_and_none_worse_dominates(better: Point, worse: Point) -> None:
    assert kept(better, worse) == [True, False]
    assert kept(worse, better) == [False, True]


@pytest.mark.parametrize(
    "pair",
    [
        (point(0.2, LEAK), point(0.1, CLEAN)),
        (point(0.2, CLEAN, 0.02), point(0.1, CLEAN, 0.01)),
        (point(0.1), point(0.1)),
    ],
)
def test_a_trade_off_and_a_tie_leave_both(pair: tuple[Point, Point]) -> None:
    assert kept(*pair) == [True, True]


def test_points_without_an_audit_take_no_part() -> None:
    assert kept(point(0.9, None, None), point(0.1)) == [None, True]


def test_regimes_are_compared_each_for_itself() -> None:
    assert kept(point(0.9, regime=0.1), point(0.1, regime=1.0)) == [True, True]


LABELS = np.tile([0, 1], 20)
RESAMPLES = resample_patients(
    np.repeat(np.arange(5), 8).astype(str), draws=100, rng=np.random.default_rng(0)
)


def answers(right: int) -> NDArray[np.float64]:
    """The first `right` of 20 tiles of each class called as they are."""
    called = np.where(np.arange(40) < 2 * right, LABELS, 1 - LABELS)
    return np.eye(2)[called]


def result(
    arm: str,
    right: int,
    *,
    model: str = "resnet",
    seed: int = 0,
    ratio: float | None = None,
    generator: int | None = None,
) -> CellResult:
    return CellResult(
        cell=Cell(regime=0.1, model=model, arm=arm, ratio=ratio, seed=seed, generator=generator),
        train_tiles=1,
        updates=1,
        chosen=1,
        curve=(),
        train_accuracy=1.0,
        probabilities=answers(right),
        stressed={},
    )


def test_gain_is_the_mean_over_models_and_seeds_at_the_primary_ratio() -> None:
    results = []
    for seed in (0, 1):
        for model, real in (("resnet", 10), ("densenet", 12)):
            cell = {"model": model, "seed": seed}
            results += [
                result("real", real + seed, **cell),
                result("oversampled", 20, ratio=1.0, **cell),
                result("shuffled", 20, ratio=1.0, generator=0, **cell),
                result("synthetic", 20, ratio=1.0, generator=0, **cell),
                result("real+synthetic", 20, ratio=3.0, generator=0, **cell),
                result("real+synthetic", real + 2, ratio=1.0, generator=0, **cell),
                result("real+synthetic", real - 3, ratio=1.0, generator=1, **cell),
                result("real+filtered", real + 4, ratio=1.0, generator=1, **cell),
            ]
    found = gains(results, labels=LABELS, resamples=RESAMPLES, primary_ratio=1.0)
    # Of 20 tiles per class: seed 0 +2, -3, +4 and seed 1 one less, in both models.
    assert {key: one.value for key, one in found.items()} == pytest.approx(
        {(0.1, 0, False): 1.5 / 20, (0.1, 1, False): -3.5 / 20, (0.1, 1, True): 3.5 / 20}
    )
    for one in found.values():
        assert one.low is not None
        assert one.low < one.value
        assert (one.n, one.unit) == (5, "patient")


def test_models_that_disagree_do_not_widen_the_interval_of_their_mean() -> None:
    results = [
        result(arm, right, model=model, seed=seed, ratio=ratio, generator=made)
        for seed in (0, 1)
        for model, gain in (("resnet", 0), ("densenet", 10))
        for arm, right, ratio, made in (
            ("real", 0, None, None),
            ("real+synthetic", 2 * gain, 1.0, 0),
        )
    ]
    (found,) = gains(results, labels=LABELS, resamples=RESAMPLES, primary_ratio=1.0).values()
    # 0 and 1 in both seeds and every patient: nothing that was drawn varies.
    assert (found.value, found.low, found.high) == (0.5, 0.5, 0.5)

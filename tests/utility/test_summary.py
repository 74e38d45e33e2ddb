import json
from dataclasses import asdict

import numpy as np
import pytest
from numpy.typing import NDArray

from privgen.utility.fitting import CurvePoint
from privgen.utility.plan import Cell
from privgen.utility.statistics import HARMS, HELPS, NO_EVIDENCE, resample_patients
from privgen.utility.summary import CONTROL, ArmRow, CellResult, Difference, summarise

LABELS = np.tile([0, 1], 40)
RESAMPLES = resample_patients(
    np.repeat(np.arange(10), 8).astype(str), draws=300, rng=np.random.default_rng(0)
)


def answers(right: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Probabilities that name the true class with probability `right`."""
    correct = rng.random(len(LABELS)) < right
    return np.where(np.eye(2)[LABELS].astype(bool) == correct[:, np.newaxis], 0.8, 0.2)


def result(
    arm: str, ratio: float | None, seed: int, right: float, validation: tuple[float, ...]
) -> CellResult:
    rng = np.random.default_rng([seed, int(100 * right), len(arm)])
    return CellResult(
        cell=Cell(family="resnet", arm=arm, ratio=ratio, seed=seed),
        train_tiles=20,
        updates=30,
        chosen=30,
        curve=tuple(
            CurvePoint(
                update=10 * (k + 1),
                train_loss=1.0 + seed,
                validation_loss=1.0,
                validation_balanced_accuracy=accuracy,
            )
            for k, accuracy in enumerate(validation)
        ),
        train_accuracy=0.5 + 0.1 * seed,
        probabilities=answers(right, rng),
    )


def run(
    synthetic: float, oversampled: float = 0.6
) -> tuple[dict[str, ArmRow], dict[str, Difference]]:
    results = [
        result(arm, ratio, seed, right, (0.4, 0.5, 0.505))
        for arm, ratio, right in (
            ("real", None, 0.6),
            ("real+synthetic", 1.0, synthetic),
            ("oversampled", 1.0, oversampled),
        )
        for seed in (0, 1, 2)
    ]
    rows, differences = summarise(results, labels=LABELS, resamples=RESAMPLES)
    return {row.arm: row for row in rows}, {d.arm: d for d in differences}


@pytest.mark.parametrize(("right", "word"), [(1.0, HELPS), (0.2, HARMS), (0.62, NO_EVIDENCE)])
def test_verdict_follows_the_test_split(right: float, word: str) -> None:
    rows, differences = run(right)
    found = differences["real+synthetic x1"]
    assert found.verdict == word
    gap = (
        rows["real+synthetic x1"].metrics["balanced_accuracy"].value
        - rows["real"].metrics["balanced_accuracy"].value
    )
    assert found.estimate.value == pytest.approx(gap)
    assert found.estimate == found.metrics["balanced_accuracy"]


def test_controls_are_shown_and_never_in_the_tested_family() -> None:
    _, differences = run(0.62, oversampled=1.0)
    control = differences["oversampled x1"]
    assert (control.verdict, control.p_holm) == (CONTROL, None)
    assert control.p < 0.05
    # A family of one: nothing to adjust for.
    assert differences["real+synthetic x1"].p_holm == differences["real+synthetic x1"].p


def test_the_baseline_has_a_row_and_no_difference() -> None:
    rows, differences = run(0.7)
    assert list(rows) == ["real", "real+synthetic x1", "oversampled x1"]
    assert list(differences) == ["real+synthetic x1", "oversampled x1"]


def test_convergence_is_the_mean_over_seeds() -> None:
    rows, _ = run(0.7)
    convergence = rows["real"].convergence
    assert convergence.train_accuracy == pytest.approx(0.6)
    assert [point.train_loss for point in convergence.curve] == pytest.approx([2.0] * 3)
    assert convergence.chosen == (30, 30, 30)


@pytest.mark.parametrize(
    ("validation", "improving"), [((0.4, 0.5, 0.505), False), ((0.4, 0.5, 0.52), True)]
)
def test_still_improving_means_a_point_in_the_last_interval(
    validation: tuple[float, ...], improving: bool
) -> None:
    results = [result("real", None, seed, 0.6, validation) for seed in (0, 1)]
    rows, differences = summarise(results, labels=LABELS, resamples=RESAMPLES)
    assert rows[0].convergence.still_improving is improving
    assert differences == ()


def test_everything_is_finite_json() -> None:
    rows, differences = run(0.7)

    for item in (*rows.values(), *differences.values()):
        json.dumps(asdict(item), allow_nan=False)

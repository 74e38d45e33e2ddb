import json
from dataclasses import asdict

import numpy as np
import pytest
from numpy.typing import NDArray

from privgen.benefit.plan import Cell
from privgen.benefit.results.metrics import METRICS
from privgen.benefit.results.records import (
    ArmRow,
    BenchReport,
    CellResult,
    Difference,
    GeneratorRow,
    RegimeRow,
)
from privgen.benefit.results.statistics import HARMS, HELPS, NO_EVIDENCE, resample_patients
from privgen.benefit.results.summary import cells_table, histogram_row, summarise
from privgen.benefit.trials.fitting import CurvePoint

LABELS = np.tile([0, 1], 40)
RESAMPLES = resample_patients(
    np.repeat(np.arange(10), 8).astype(str), draws=300, rng=np.random.default_rng(0)
)


def answers(right: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Probabilities that name the true class with probability `right`."""
    correct = rng.random(len(LABELS)) < right
    return np.where(np.eye(2)[LABELS].astype(bool) == correct[:, np.newaxis], 0.8, 0.2)


def result(
    arm: str,
    ratio: float | None,
    seed: int,
    right: float,
    *,
    generator: int | None = None,
    regime: float = 1.0,
    validation: tuple[float, ...] = (0.4, 0.5, 0.505),
) -> CellResult:
    rng = np.random.default_rng([seed, int(100 * right), len(arm), generator or 0])
    return CellResult(
        cell=Cell(
            regime=regime, model="resnet", arm=arm, ratio=ratio, seed=seed, generator=generator
        ),
        train_tiles=20 + 3 * (generator or 0),
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
        stressed={"blur": answers(right - 0.2, rng)},
    )


def trained(
    synthetic: float, oversampled: float = 0.6, classical: float = 0.6, regime: float = 1.0
) -> list[CellResult]:
    return [
        result(arm, ratio, seed, right, generator=generator, regime=regime)
        for arm, ratio, right, generators in (
            ("real", None, 0.6, (None,)),
            ("real+classical", None, classical, (None,)),
            ("real+synthetic", 1.0, synthetic, (0, 1)),
            ("oversampled", 1.0, oversampled, (None,)),
        )
        for generator in generators
        for seed in (0, 1, 2)
    ]


def run(
    synthetic: float, oversampled: float = 0.6, classical: float = 0.6
) -> tuple[dict[str, ArmRow], dict[str, Difference]]:
    rows, differences = summarise(
        trained(synthetic, oversampled, classical), labels=LABELS, resamples=RESAMPLES
    )
    return {row.arm: row for row in rows}, {one.arm: one for one in differences}


@pytest.mark.parametrize(("right", "word"), [(1.0, HELPS), (0.2, HARMS), (0.62, NO_EVIDENCE)])
def test_verdict_follows_the_test_split(right: float, word: str) -> None:
    rows, differences = run(right)
    found = differences["real+synthetic x1"]
    assert found.verdict == word
    for metric in METRICS:
        gap = rows["real+synthetic x1"].metrics[metric].value - rows["real"].metrics[metric].value
        assert found.metrics[metric].value == pytest.approx(gap)
    assert found.estimate == found.metrics["balanced_accuracy"]


def test_robustness_is_balanced_accuracy_under_each_stress() -> None:
    rows, differences = run(1.0)
    for row in rows.values():
        assert list(row.robustness) == ["blur"]
        stressed = row.robustness["blur"].value
        assert stressed < row.metrics["balanced_accuracy"].value
    gap = rows["real+synthetic x1"].robustness["blur"].value - rows["real"].robustness["blur"].value
    assert differences["real+synthetic x1"].robustness["blur"].value == pytest.approx(gap)


def test_seeds_and_generators_are_crossed_in_any_order_of_results() -> None:
    results = trained(0.7)
    rows, _ = summarise(results, labels=LABELS, resamples=RESAMPLES)
    assert [(row.arm, row.seeds, row.generators) for row in rows] == [
        ("real", 3, 1),
        ("real+classical", 3, 1),
        ("real+synthetic x1", 3, 2),
        ("oversampled x1", 3, 1),
    ]
    assert [row.train_tiles for row in rows] == [20, 20, 22, 20]
    again, _ = summarise(results[::-1], labels=LABELS, resamples=RESAMPLES)
    assert {row.arm: row.metrics for row in again} == {row.arm: row.metrics for row in rows}


def test_an_interval_counts_generators_that_differ() -> None:
    def half(rights: tuple[float, float]) -> float:
        results = [result("real", None, seed, 0.6) for seed in (0, 1, 2)] + [
            result("real+synthetic", 1.0, seed, right, generator=generator)
            for generator, right in enumerate(rights)
            for seed in (0, 1, 2)
        ]
        _, (found,) = summarise(results, labels=LABELS, resamples=RESAMPLES)
        assert found.estimate.high is not None
        return found.estimate.high - found.estimate.value

    assert half((0.99, 0.41)) > 3 * half((0.7, 0.7))


def test_controls_and_comparisons_are_shown_and_never_in_the_tested_family() -> None:
    _, differences = run(0.62, oversampled=1.0, classical=1.0)
    for arm, role in (("oversampled x1", "control"), ("real+classical", "comparison")):
        assert (differences[arm].role, differences[arm].verdict) == (role, role)
        assert differences[arm].p_holm is None
        assert differences[arm].p < 0.05
    # A family of one: nothing to adjust for.
    assert differences["real+synthetic x1"].p_holm == differences["real+synthetic x1"].p


def test_each_regime_is_a_family_of_its_own() -> None:
    results = trained(1.0, regime=0.1) + trained(0.7, regime=1.0)
    extra = [
        result("real+synthetic", 2.0, seed, 0.65, generator=made, regime=1.0)
        for made in (0, 1)
        for seed in (0, 1, 2)
    ]
    _, differences = summarise(results + extra, labels=LABELS, resamples=RESAMPLES)
    tested = {(one.regime, one.ratio): one for one in differences if one.role == "tested"}
    assert list(tested) == [(0.1, 1.0), (1.0, 1.0), (1.0, 2.0)]
    assert tested[0.1, 1.0].p_holm == tested[0.1, 1.0].p
    pair = sorted((tested[1.0, 1.0], tested[1.0, 2.0]), key=lambda one: one.p)
    assert pair[0].p_holm == pytest.approx(min(1.0, 2 * pair[0].p))


def test_the_significance_asked_for_decides() -> None:
    _, differences = summarise(trained(1.0), labels=LABELS, resamples=RESAMPLES, significance=1e-9)
    assert {one.verdict for one in differences if one.role == "tested"} == {NO_EVIDENCE}


def test_a_detectable_gain_is_wider_than_the_interval() -> None:
    _, differences = run(0.7)
    found = differences["real+synthetic x1"]
    assert found.detectable is not None
    assert found.estimate.high is not None
    assert found.detectable > found.estimate.high - found.estimate.value


def test_the_baseline_has_a_row_and_no_difference() -> None:
    rows, differences = run(0.7)
    assert rows["real"].role == "baseline"
    assert list(differences) == ["real+classical", "real+synthetic x1", "oversampled x1"]


def test_convergence_is_the_mean_over_seeds() -> None:
    rows, _ = run(0.7)
    convergence = rows["real"].convergence
    assert convergence.train_accuracy == pytest.approx(0.6)
    assert [point.train_loss for point in convergence.curve] == pytest.approx([2.0] * 3)
    assert convergence.chosen == (30, 30, 30)
    assert len(rows["real+synthetic x1"].convergence.chosen) == 6


@pytest.mark.parametrize(
    ("validation", "improving"), [((0.4, 0.5, 0.505), False), ((0.4, 0.5, 0.52), True)]
)
def test_still_improving_means_a_point_in_the_last_interval(
    validation: tuple[float, ...], improving: bool
) -> None:
    results = [result("real", None, seed, 0.6, validation=validation) for seed in (0, 1)]
    rows, differences = summarise(results, labels=LABELS, resamples=RESAMPLES)
    assert rows[0].convergence.still_improving is improving
    assert differences == ()


def test_the_colour_histogram_has_intervals_over_patients_alone() -> None:
    found = histogram_row(
        0.1, answers(0.7, np.random.default_rng(5)), labels=LABELS, resamples=RESAMPLES
    )
    assert found.regime == 0.1
    assert list(found.metrics) == list(METRICS)
    estimate = found.metrics["balanced_accuracy"]
    assert estimate.low is not None
    assert 0 < estimate.low < estimate.value < 1


def test_every_cell_is_a_row_of_plain_values() -> None:
    perfect = result("real", None, 0, 1.0)
    made = result("real+synthetic", 1.0, 2, 0.0, generator=1, regime=0.1)
    columns, rows = cells_table([perfect, made], labels=LABELS)
    first, second = (dict(zip(columns, row, strict=True)) for row in rows)
    blurred = (perfect.stressed["blur"].argmax(axis=1) == LABELS).reshape(-1, 2).mean(axis=0)
    assert first == {
        "regime": 1.0,
        "model": "resnet",
        "arm": "real",
        "ratio": None,
        "seed": 0,
        "generator": None,
        "role": "baseline",
        "train_tiles": 20,
        "updates": 30,
        "chosen": 30,
        "train_accuracy": 0.5,
        "balanced_accuracy": 1.0,
        "macro_f1": 1.0,
        "auroc": 1.0,
        "ece": pytest.approx(0.2),
        "worst_class_recall": 1.0,
        "balanced_accuracy_blur": pytest.approx(blurred.mean()),
    }
    assert (second["arm"], second["ratio"], second["generator"]) == ("real+synthetic", 1.0, 1)
    assert (second["role"], second["balanced_accuracy"]) == ("tested", 0.0)
    assert all(type(value) in (str, int, float, type(None)) for row in rows for value in row)


def test_everything_is_finite_json() -> None:
    rows, differences = run(0.7)
    for item in (*rows.values(), *differences.values()):
        json.dumps(asdict(item), allow_nan=False)


def test_a_report_is_plain_data_under_its_own_names() -> None:
    rows, differences = summarise(trained(0.7), labels=LABELS, resamples=RESAMPLES)
    made = GeneratorRow(
        name="cdcgan, seed 0", synthetic=8, kept=6, dropped_confidence=2, dropped_distance=0
    )
    report = BenchReport(
        rows=rows,
        differences=differences,
        histograms=(),
        regimes=(RegimeRow(share=1.0, tiles=8, patients=2, generators=(made,)),),
        plane=(),
        conclusion="",
        warnings=(),
        classes=("a", "b"),
        counts={"test": {"tiles": 80, "patients": 10}},
        group_unit="patient",
        config={},
        seed=0,
    ).to_dict()
    read = json.loads(json.dumps(report, allow_nan=False))
    assert read["regimes"][0]["generators"][0]["kept"] == 6
    assert set(read["differences"][0]) == {
        *("regime", "model", "arm", "ratio", "role", "estimate", "metrics", "robustness"),
        *("p", "p_holm", "verdict", "detectable"),
    }

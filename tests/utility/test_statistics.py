"""Oracles: values by hand, scikit-learn, brute force over repeated tiles, null calibration."""

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics as reference

from audits.results import Estimate
from privgen.utility.statistics import (
    HARMS,
    HELPS,
    METRICS,
    NO_EVIDENCE,
    Resamples,
    arm_differences,
    arm_metrics,
    crossed_estimate,
    metric_draws,
    resample_patients,
    verdicts,
)


def certain(predicted: list[int], classes: int = 3) -> NDArray[np.float64]:
    return np.eye(classes)[predicted]


def point(labels: list[int], probabilities: NDArray[np.float64]) -> dict[str, float]:
    """The metrics themselves, every tile its own patient."""
    groups = np.arange(len(labels)).astype(str)
    resamples = resample_patients(groups, draws=2, rng=np.random.default_rng(0))
    found = metric_draws(np.array(labels), probabilities, resamples)
    return {name: float(values[0]) for name, values in found.items()}


def random_case(
    n: int, classes: int, patients: int, rng: np.random.Generator
) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.str_]]:
    labels = rng.integers(0, classes, n)
    logits = rng.normal(0, 1, (n, classes)) + 1.5 * np.eye(classes)[labels]
    # Rounding makes ties, which the rank statistic must halve.
    probabilities = np.round(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), 1) + 0.05
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    return labels, probabilities, rng.integers(0, patients, n).astype(str)


def test_balanced_accuracy_and_worst_class_by_hand() -> None:
    found = point([0, 0, 0, 1, 1, 2], certain([0, 0, 1, 1, 2, 2]))
    assert found["balanced_accuracy"] == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    assert found["worst_class_recall"] == pytest.approx(1 / 2)
    # F1 = 2 TP / (2 TP + FP + FN): 4/5, 2/4, 2/3.
    assert found["macro_f1"] == pytest.approx((4 / 5 + 2 / 4 + 2 / 3) / 3)


def test_expected_calibration_error_by_hand() -> None:
    probabilities = np.array([[0.95, 0.05], [0.95, 0.05], [0.55, 0.45], [0.55, 0.45]])
    found = point([0, 1, 0, 0], probabilities)
    # The bin of .95 is right in 1 of 2, the bin of .55 in 2 of 2; half the tiles each.
    assert found["ece"] == pytest.approx(0.5 * abs(0.95 - 0.5) + 0.5 * abs(0.55 - 1.0))


def test_confidence_of_one_falls_into_the_last_bin() -> None:
    assert point([0, 1], certain([0, 1], 2))["ece"] == 0.0


def test_certain_and_right_is_perfect() -> None:
    found = point([0, 1, 2], certain([0, 1, 2]))
    assert found == {
        "balanced_accuracy": 1.0,
        "macro_f1": 1.0,
        "auroc": 1.0,
        "ece": 0.0,
        "worst_class_recall": 1.0,
    }


@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_scikit_learn_with_ties(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels, probabilities, _ = random_case(150, 4, 10, rng)
    found = point(list(labels), probabilities)
    predicted = probabilities.argmax(axis=1)
    assert found["balanced_accuracy"] == pytest.approx(
        reference.balanced_accuracy_score(labels, predicted)
    )
    assert found["macro_f1"] == pytest.approx(
        reference.f1_score(labels, predicted, average="macro")
    )
    assert found["auroc"] == pytest.approx(
        reference.roc_auc_score(labels, probabilities, multi_class="ovr", average="macro")
    )


def test_each_draw_is_the_metric_of_the_repeated_tiles() -> None:
    rng = np.random.default_rng(7)
    labels, probabilities, groups = random_case(80, 3, 6, rng)
    resamples = resample_patients(groups, draws=12, rng=rng)
    found = metric_draws(labels, probabilities, resamples)
    for draw, weights in enumerate(resamples.weights):
        rows = np.repeat(np.arange(80), weights[resamples.owner].astype(int))
        expected = point(list(labels[rows]), probabilities[rows])
        for metric in METRICS:
            assert found[metric][draw] == pytest.approx(expected[metric]), (draw, metric)


def test_a_class_that_a_draw_does_not_hold_is_left_out_of_its_mean() -> None:
    labels, groups = np.array([0, 0, 1, 1]), np.array(["a", "a", "b", "b"])
    resamples = Resamples(owner=np.array([0, 0, 1, 1]), weights=np.array([[1.0, 1.0], [2.0, 0.0]]))
    assert np.array_equal(np.unique(groups, return_inverse=True)[1], resamples.owner)
    found = metric_draws(labels, certain([0, 1, 1, 1], 2), resamples)
    assert found["balanced_accuracy"].tolist() == [0.75, 0.5]
    assert found["worst_class_recall"].tolist() == [0.5, 0.5]
    assert np.isnan(found["auroc"][1])


def test_resampling_draws_as_many_patients_as_there_are() -> None:
    groups = np.array(["p", "q", "p", "r"])
    resamples = resample_patients(groups, draws=50, rng=np.random.default_rng(0))
    assert resamples.weights.shape == (51, 3)
    assert np.array_equal(resamples.weights[0], np.ones(3))
    assert np.all(resamples.weights.sum(axis=1) == 3)
    assert np.array_equal(resamples.owner, [0, 1, 0, 2])


def test_identical_arms_differ_by_exactly_nothing() -> None:
    rng = np.random.default_rng(3)
    labels, probabilities, groups = random_case(60, 3, 8, rng)
    resamples = resample_patients(groups, draws=100, rng=rng)
    one = metric_draws(labels, probabilities, resamples)
    arm = {metric: np.stack([one[metric], one[metric]]) for metric in METRICS}
    difference, p = arm_differences(arm, arm, resamples)
    assert p == 1.0
    for metric in METRICS:
        estimate = difference[metric]
        assert (estimate.value, estimate.low, estimate.high) == (0.0, 0.0, 0.0)


def test_a_constant_difference_never_has_p_zero() -> None:
    resamples = Resamples(owner=np.arange(3), weights=np.ones((101, 3)))
    estimate, p = crossed_estimate(np.full((2, 101), 0.5), resamples, bounds=(-1.0, 1.0))
    assert estimate.value == 0.5
    assert 0 < p < 0.05


def test_difference_is_arm_less_baseline_averaged_over_paired_seeds() -> None:
    resamples = Resamples(owner=np.arange(4), weights=np.ones((3, 4)))
    arm = {metric: np.array([[0.9] * 3, [0.5] * 3]) for metric in METRICS}
    baseline = {metric: np.array([[0.8] * 3, [0.4] * 3]) for metric in METRICS}
    difference, _ = arm_differences(arm, baseline, resamples)
    estimate = difference["balanced_accuracy"]
    # The seeds differ by .4, their differences by nothing: pairing takes the noise away.
    assert (estimate.value, estimate.high) == (pytest.approx(0.1), pytest.approx(0.1))
    unpaired = arm_metrics(arm, resamples)["balanced_accuracy"]
    assert unpaired.high is not None
    assert unpaired.high - unpaired.value > 0.2
    assert (estimate.n, estimate.unit, estimate.confidence) == (4, "patient", 0.95)


def test_two_seeds_give_student_s_interval_with_one_degree_of_freedom() -> None:
    resamples = Resamples(owner=np.arange(50), weights=np.ones((3, 50)))
    estimate, p = crossed_estimate(np.array([[0.1] * 3, [0.3] * 3]), resamples, bounds=(-9.0, 9.0))
    # mean .2, standard error .1, t(.975, 1) = 12.706; p = 2 P(t > 2) = 1 - 2 atan(2) / pi.
    assert estimate.high == pytest.approx(0.2 + 12.7062 * 0.1, abs=1e-4)
    assert p == pytest.approx(1 - 2 * np.arctan(2) / np.pi)


def test_intervals_stay_inside_their_bounds() -> None:
    resamples = Resamples(owner=np.arange(3), weights=np.ones((3, 3)))
    estimate, _ = crossed_estimate(np.array([[0.5] * 3, [1.0] * 3]), resamples, bounds=(0.0, 1.0))
    assert estimate.high == 1.0
    assert estimate.low == 0.0


def simulate(
    rng: np.random.Generator,
    *,
    patients: int,
    seeds: int,
    by_patient: float,
    by_seed: float,
    both: float,
) -> tuple[Estimate, float]:
    """A statistic of mean 0 that varies by patient, by seed and by both together."""
    effect = (
        rng.normal(0, by_patient, patients)
        + rng.normal(0, by_seed, (seeds, 1))
        + rng.normal(0, both, (seeds, patients))
    )
    groups = np.arange(patients).astype(str)
    resamples = resample_patients(groups, draws=200, rng=rng)
    weights = resamples.weights / resamples.weights.sum(axis=1, keepdims=True)
    return crossed_estimate(effect @ weights.T, resamples, bounds=(-99.0, 99.0))


@pytest.mark.parametrize(
    ("by_patient", "by_seed", "both"),
    [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (1.0, 0.5, 0.5)],
)
def test_intervals_cover_and_p_rejects_at_their_level_without_an_effect(
    by_patient: float, by_seed: float, both: float
) -> None:
    rng = np.random.default_rng(11)
    rejected = 0
    for _ in range(500):
        estimate, p = simulate(
            rng, patients=10, seeds=3, by_patient=by_patient, by_seed=by_seed, both=both
        )
        assert estimate.low is not None
        assert estimate.high is not None
        assert (p <= 0.05) == (not estimate.low <= 0 <= estimate.high)
        rejected += p <= 0.05
    # 5 % of 500 is 25; 44 is four standard errors above. Resampling 3 seeds would reject in 125.
    assert rejected <= 44


def test_a_real_effect_is_found() -> None:
    rng = np.random.default_rng(2)
    found = 0
    for _ in range(50):
        effect = 1.0 + rng.normal(0, 0.3, (3, 1)) + rng.normal(0, 0.5, 10)
        resamples = resample_patients(np.arange(10).astype(str), draws=200, rng=rng)
        weights = resamples.weights / resamples.weights.sum(axis=1, keepdims=True)
        found += crossed_estimate(effect @ weights.T, resamples, bounds=(-9.0, 9.0))[1] <= 0.05
    assert found >= 40


def estimate(value: float) -> Estimate:
    return Estimate(value=value, low=value - 0.1, high=value + 0.1, n=9, unit="patient")


def test_verdicts_are_holm_adjusted_and_signed() -> None:
    decided = verdicts(
        {
            "a": (estimate(0.3), 0.001),
            "b": (estimate(-0.3), 0.01),
            "c": (estimate(0.2), 0.03),
            "d": (estimate(0.0), 0.9),
        }
    )
    assert {name: p for name, (p, _) in decided.items()} == pytest.approx(
        {"a": 0.004, "b": 0.03, "c": 0.06, "d": 0.9}
    )
    assert [word for _, word in decided.values()] == [HELPS, HARMS, NO_EVIDENCE, NO_EVIDENCE]

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
    Crossed,
    Resamples,
    arm_differences,
    arm_estimates,
    balanced_accuracy_draws,
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


def test_auroc_is_the_same_with_a_table_of_patients_and_without(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(8)
    labels, probabilities, groups = random_case(90, 3, 7, rng)
    resamples = resample_patients(groups, draws=40, rng=rng)
    found = []
    for limit in (0, 10**6):
        monkeypatch.setattr("privgen.utility.statistics._TABLE", limit)
        found.append(metric_draws(labels, probabilities, resamples)["auroc"])
    assert len(np.unique(found[0])) > 20
    assert np.array_equal(*found, equal_nan=True)


def test_balanced_accuracy_alone_is_the_one_among_all_metrics() -> None:
    rng = np.random.default_rng(9)
    labels, probabilities, groups = random_case(60, 3, 5, rng)
    resamples = resample_patients(groups, draws=30, rng=rng)
    every = metric_draws(labels, probabilities, resamples)["balanced_accuracy"]
    assert np.array_equal(balanced_accuracy_draws(labels, probabilities, resamples), every)


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
    arm = {metric: np.stack([one[metric], one[metric]])[:, None] for metric in METRICS}
    for difference in arm_differences(arm, arm, resamples).values():
        estimate = difference.estimate
        assert (estimate.value, estimate.low, estimate.high) == (0.0, 0.0, 0.0)
        assert difference.p == 1.0
        assert difference.detectable is None


def test_a_constant_difference_never_has_p_zero() -> None:
    resamples = Resamples(owner=np.arange(3), weights=np.ones((101, 3)))
    found = crossed_estimate(np.full((2, 1, 101), 0.5), resamples, bounds=(-1.0, 1.0))
    assert found.estimate.value == 0.5
    assert 0 < found.p < 0.05


def still(values: list[list[float]], draws: int = 3) -> NDArray[np.float64]:
    """Cells whose bootstrap draws never move, shape (seeds, generators, draws)."""
    return np.repeat(np.array(values)[:, :, np.newaxis], draws, axis=2)


def test_difference_is_arm_less_baseline_averaged_over_paired_seeds() -> None:
    resamples = Resamples(owner=np.arange(4), weights=np.ones((3, 4)))
    arm, baseline = {"auroc": still([[0.9], [0.5]])}, {"auroc": still([[0.8], [0.4]])}
    estimate = arm_differences(arm, baseline, resamples)["auroc"].estimate
    # The seeds differ by .4, their differences by nothing: pairing takes the noise away.
    assert (estimate.value, estimate.high) == (pytest.approx(0.1), pytest.approx(0.1))
    unpaired = arm_estimates(arm, resamples)["auroc"]
    assert unpaired.high is not None
    assert unpaired.high - unpaired.value > 0.2
    assert (estimate.n, estimate.unit, estimate.confidence) == (4, "patient", 0.95)


def test_one_baseline_stands_against_every_generator_seed_by_seed() -> None:
    resamples = Resamples(owner=np.arange(4), weights=np.ones((3, 4)))
    arm = {"hue": still([[0.9, 0.7], [0.5, 0.3]])}
    baseline = {"hue": still([[0.8], [0.4]])}
    found = arm_differences(arm, baseline, resamples)["hue"]
    # Less the baseline: +.1 and -.1 of the two generators, in both seeds.
    assert found.estimate.value == pytest.approx(0.0)
    assert found.error == pytest.approx(0.1)
    assert found.freedom == pytest.approx(1.0)


def test_two_seeds_give_student_s_interval_with_one_degree_of_freedom() -> None:
    resamples = Resamples(owner=np.arange(50), weights=np.ones((3, 50)))
    found = crossed_estimate(still([[0.1], [0.3]]), resamples, bounds=(-9.0, 9.0))
    # mean .2, standard error .1, t(.975, 1) = 12.706; p = 2 P(t > 2) = 1 - 2 atan(2) / pi.
    assert found.estimate.high == pytest.approx(0.2 + 12.7062 * 0.1, abs=1e-4)
    assert found.p == pytest.approx(1 - 2 * np.arctan(2) / np.pi)
    # t(.8, 1) = tan(.3 pi) = 1.3764.
    assert found.detectable == pytest.approx((12.7062 + 1.3764) * 0.1, abs=1e-4)


def test_seeds_and_generators_are_two_layers_of_chance() -> None:
    resamples = Resamples(owner=np.arange(50), weights=np.ones((3, 50)))
    found = crossed_estimate(
        still([[0.1, 0.3, 0.8], [0.5, 0.1, 0.6]]), resamples, bounds=(-9.0, 9.0)
    )
    # Seeds' means .4 and .4, generators' means .3, .2, .7: variances 0 and .07.
    assert found.estimate.value == pytest.approx(0.4)
    assert found.error == pytest.approx(np.sqrt(0.07 / 3))
    assert found.freedom == pytest.approx(2.0)


def test_degrees_of_freedom_are_satterthwaite_s() -> None:
    resamples = Resamples(owner=np.arange(50), weights=np.ones((3, 50)))
    found = crossed_estimate(
        still([[0.1, 0.3], [0.5, 0.7], [0.6, 0.8]]), resamples, bounds=(-9.0, 9.0)
    )
    # Seeds' means .2, .6, .7: .07 / 3 with 2; generators' .4, .6: .02 / 2 with 1.
    a, b = 0.07 / 3, 0.01
    assert found.error == pytest.approx(np.sqrt(a + b))
    assert found.freedom == pytest.approx((a + b) ** 2 / (a**2 / 2 + b**2))


def test_intervals_stay_inside_their_bounds() -> None:
    resamples = Resamples(owner=np.arange(3), weights=np.ones((3, 3)))
    estimate = crossed_estimate(still([[0.5], [1.0]]), resamples, bounds=(0.0, 1.0)).estimate
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
    generators: int = 1,
    by_generator: float = 0.0,
) -> Crossed:
    """A statistic of mean 0 that varies by patient, seed and generator, and by all together."""
    effect = (
        rng.normal(0, by_patient, patients)
        + rng.normal(0, by_seed, (seeds, 1, 1))
        + rng.normal(0, by_generator, (generators, 1))
        + rng.normal(0, both, (seeds, generators, patients))
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
        found = simulate(
            rng, patients=10, seeds=3, by_patient=by_patient, by_seed=by_seed, both=both
        )
        assert found.estimate.low is not None
        assert found.estimate.high is not None
        assert (found.p <= 0.05) == (not found.estimate.low <= 0 <= found.estimate.high)
        rejected += found.p <= 0.05
    # 5 % of 500 is 25; 44 is four standard errors above. Resampling 3 seeds would reject in 125.
    assert rejected <= 44


@pytest.mark.parametrize("by_generator", [0.0, 0.5, 5.0])
def test_generators_that_differ_without_an_effect_reject_at_about_the_level(
    by_generator: float,
) -> None:
    rng = np.random.default_rng(12)
    rejected = sum(
        simulate(
            rng,
            patients=6,
            seeds=5,
            by_patient=1.0,
            by_seed=0.15,
            both=0.3,
            generators=3,
            by_generator=by_generator,
        ).p
        <= 0.05
        for _ in range(500)
    )
    # Rates of .04 to .07 are documented: 35 of 500 and four standard errors. Taking the
    # generators for one would reject in 80 with sd .5 and in 350 with sd 5.
    assert rejected <= 58


def test_a_detectable_effect_is_found_four_times_in_five() -> None:
    rng = np.random.default_rng(13)
    found, size = 0, 0.0
    for _ in range(400):
        null = simulate(rng, patients=16, seeds=5, by_patient=1.0, by_seed=0.3, both=0.2)
        size += (null.detectable or 0.0) / 400
    for _ in range(400):
        shifted = simulate(rng, patients=16, seeds=5, by_patient=1.0, by_seed=0.3, both=0.2)
        found += abs(shifted.estimate.value + size) / shifted.error > 2.1
    assert 0.7 < found / 400 < 0.9


def test_a_real_effect_is_found() -> None:
    rng = np.random.default_rng(2)
    found = 0
    for _ in range(50):
        effect = 1.0 + rng.normal(0, 0.3, (3, 1, 1)) + rng.normal(0, 0.5, 10)
        resamples = resample_patients(np.arange(10).astype(str), draws=200, rng=rng)
        weights = resamples.weights / resamples.weights.sum(axis=1, keepdims=True)
        found += crossed_estimate(effect @ weights.T, resamples, bounds=(-9.0, 9.0)).p <= 0.05
    assert found >= 40


def crossed(value: float, p: float) -> Crossed:
    estimate = Estimate(value=value, low=value - 0.1, high=value + 0.1, n=9, unit="patient")
    return Crossed(estimate=estimate, p=p, error=0.05, freedom=8.0)


def test_verdicts_are_holm_adjusted_and_signed() -> None:
    decided = verdicts(
        {
            "a": crossed(0.3, 0.001),
            "b": crossed(-0.3, 0.01),
            "c": crossed(0.2, 0.03),
            "d": crossed(0.0, 0.9),
        }
    )
    assert {name: p for name, (p, _) in decided.items()} == pytest.approx(
        {"a": 0.004, "b": 0.03, "c": 0.06, "d": 0.9}
    )
    assert [word for _, word in decided.values()] == [HELPS, HARMS, NO_EVIDENCE, NO_EVIDENCE]


def test_the_significance_asked_for_decides() -> None:
    assert verdicts({"a": crossed(0.3, 0.03)}, significance=0.01)["a"][1] == NO_EVIDENCE
    assert verdicts({"a": crossed(0.3, 0.03)}, significance=0.05)["a"][1] == HELPS

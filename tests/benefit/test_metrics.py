"""Oracles: values by hand, scikit-learn, brute force over repeated tiles."""

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics as reference

from privgen.benefit.results.metrics import METRICS, balanced_accuracy_draws, metric_draws
from privgen.benefit.results.statistics import Resamples, resample_patients


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
        monkeypatch.setattr("privgen.benefit.results.metrics._TABLE", limit)
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

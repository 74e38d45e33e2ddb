"""Intervals against SciPy, published examples, textbook formulas and simulated coverage."""

import numpy as np
import pytest
from scipy import stats

from audits.intervals import (
    clopper_pearson,
    clustered_mean,
    effective_size,
    jackknife,
    newcombe,
    wilson,
)

COUNTS = [(0, 1), (1, 1), (0, 20), (3, 20), (20, 20), (17, 400)]


@pytest.mark.parametrize(("count", "n"), COUNTS)
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_clopper_pearson_equals_scipy(count: int, n: int, confidence: float) -> None:
    expected = stats.binomtest(count, n).proportion_ci(confidence, method="exact")
    assert clopper_pearson(count, n, confidence=confidence) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("count", "n"), COUNTS)
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_wilson_equals_scipy(count: int, n: int, confidence: float) -> None:
    expected = stats.binomtest(count, n).proportion_ci(confidence, method="wilson")
    assert wilson(count / n, n, confidence=confidence) == pytest.approx(expected, abs=1e-12)


def test_wilson_narrows_continuously_with_a_fractional_size() -> None:
    widths = [np.ptp(wilson(0.1, n)) for n in (10.0, 10.5, 11.0)]
    assert widths[0] > widths[1] > widths[2]


@pytest.mark.parametrize(
    ("first", "second", "low", "high"),
    [
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((6, 7), (2, 7), 0.0582, 0.8062),
        ((5, 56), (0, 29), -0.0381, 0.1926),
        ((0, 10), (0, 20), -0.1611, 0.2775),
        ((0, 10), (0, 10), -0.2775, 0.2775),
        ((10, 10), (0, 20), 0.6791, 1.0000),
        ((10, 10), (0, 10), 0.6075, 1.0000),
    ],
)
def test_newcombe_reproduces_the_paper(
    first: tuple[int, int], second: tuple[int, int], low: float, high: float
) -> None:
    """Newcombe 1998, Statistics in Medicine 17:873-890, Table II, method 10."""
    got = newcombe(first[0] / first[1], first[1], second[0] / second[1], second[1])
    assert got == pytest.approx((low, high), abs=6e-5)


def test_newcombe_changes_sign_when_the_sides_are_swapped() -> None:
    low, high = newcombe(0.3, 40, 0.1, 90)
    assert newcombe(0.1, 90, 0.3, 40) == pytest.approx((-high, -low))


def test_effective_size_is_the_number_of_patients_when_hits_are_whole_patients() -> None:
    """Ten patients of 50 tiles, two of them hit throughout: as good as 10 tiles, less 1 for p."""
    patients = np.repeat(np.arange(10).astype(np.str_), 50)
    hits = np.isin(patients, ["3", "7"])
    # excess: 2 patients 50 * .8, 8 patients 50 * .2; variance = sum / 500^2 * 10/9
    variance = (2 * 40**2 + 8 * 10**2) / 500**2 * 10 / 9
    assert effective_size(hits, patients) == pytest.approx(0.2 * 0.8 / variance)
    assert effective_size(hits, patients) == pytest.approx(9.0)


def test_effective_size_never_exceeds_the_tiles_and_is_all_of_them_without_information() -> None:
    patients = np.repeat(np.arange(10).astype(np.str_), 20)
    even = np.tile(np.arange(20) < 2, 10)
    assert effective_size(even, patients) == 200
    assert effective_size(np.zeros(200, dtype=bool), patients) == 200
    assert effective_size(np.ones(200, dtype=bool), patients) == 200
    assert effective_size(even, np.full(200, "one")) == 200


def test_clustered_mean_with_one_tile_a_patient_is_the_textbook_t_interval() -> None:
    values = np.array([1.0, 2.0, 4.0, 8.0, 9.5])
    mean, low, high = clustered_mean(values, np.arange(5).astype(np.str_))
    expected = stats.t.interval(0.95, 4, loc=values.mean(), scale=stats.sem(values))
    assert (mean, low, high) == pytest.approx((values.mean(), *expected))


def test_clustered_mean_of_equal_patients_is_the_t_interval_of_their_means(
    rng: np.random.Generator,
) -> None:
    values = rng.normal(size=(6, 10))
    patients = np.repeat(np.arange(6).astype(np.str_), 10)
    means = values.mean(axis=1)
    expected = stats.t.interval(0.95, 5, loc=means.mean(), scale=stats.sem(means))
    assert clustered_mean(values.ravel(), patients)[1:] == pytest.approx(expected)


def test_clustered_mean_covers_the_truth_under_strong_clustering() -> None:
    rng = np.random.default_rng(5)
    patients = np.repeat(np.arange(12).astype(np.str_), 15)
    covered = naive = 0
    for _ in range(400):
        values = np.repeat(rng.normal(size=12), 15) + 0.5 * rng.normal(size=180)
        _, low, high = clustered_mean(values, patients)
        covered += low <= 0 <= high
        _, low, high = clustered_mean(values, np.arange(180).astype(np.str_))
        naive += low <= 0 <= high
    assert 0.92 < covered / 400 < 0.98
    assert naive / 400 < 0.7


def test_clustered_mean_of_a_single_patient_or_tile_falls_back_to_tiles() -> None:
    values = np.array([0.0, 1.0, 1.0, 2.0])
    one, tiles = np.full(4, "p"), np.arange(4).astype(np.str_)
    assert clustered_mean(values, one) == pytest.approx(clustered_mean(values, tiles))
    assert clustered_mean(np.array([3.0]), np.array(["p"])) == (3.0, 3.0, 3.0)


def test_jackknife_of_a_mean_is_the_textbook_t_interval(rng: np.random.Generator) -> None:
    values = rng.normal(size=9)
    got = jackknife(lambda keep: float(values[keep].mean()), np.arange(9))
    expected = stats.t.interval(0.95, 8, loc=values.mean(), scale=stats.sem(values))
    assert got == pytest.approx((values.mean(), *expected))


def test_jackknife_of_a_difference_adds_both_variances_and_takes_the_smaller_freedom(
    rng: np.random.Generator,
) -> None:
    x, y = rng.normal(size=6), rng.normal(size=20)
    value, low, high = jackknife(
        lambda keep_x, keep_y: float(x[keep_x].mean() - y[keep_y].mean()),
        np.arange(6),
        np.arange(20),
        confidence=0.9,
    )
    half = stats.t.ppf(0.95, 5) * np.hypot(stats.sem(x), stats.sem(y))
    assert value == pytest.approx(x.mean() - y.mean())
    assert (low, high) == pytest.approx((value - half, value + half))


def test_jackknife_deletes_whole_groups(rng: np.random.Generator) -> None:
    values, owner = rng.normal(size=(5, 8)), np.repeat(np.arange(5), 8)
    got = jackknife(lambda keep: float(values.ravel()[keep].mean()), owner)
    means = values.mean(axis=1)
    expected = stats.t.interval(0.95, 4, loc=means.mean(), scale=stats.sem(means))
    assert got[1:] == pytest.approx(expected)

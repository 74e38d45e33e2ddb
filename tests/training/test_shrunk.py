"""The shrunk Frechet distance: closed forms, limits, and choices that are even."""

import numpy as np
import pytest

from audits.frechet import frechet_distance
from privgen.training.shrunk import Space, even_order, mean_distance


def _features(seed: int, n: int, d: int, shift: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    spread = np.linspace(3, 0.2, d)
    return (rng.standard_normal((n, d)) * spread + shift).astype(np.float32)


def test_with_all_components_it_is_the_frechet_distance() -> None:
    x, y = _features(0, 60, 5), _features(1, 40, 5, shift=0.3)
    space = Space.of(x, y, components=5)
    assert space.distance(x, y) == pytest.approx(frechet_distance(x, y), rel=1e-6)


def test_outside_the_components_means_and_total_variances_count() -> None:
    # Components: the first axis alone. Outside: means (0, 0) and (1, 0), variances 2 and 8.
    axis = np.array([-10.0, 10.0, -10.0, 10.0])
    x = np.stack([axis, [1, 1, -1, -1], [-1, -1, 1, 1]], axis=1).astype(np.float32)
    y = np.stack([axis, [3, 3, -1, -1], [-2, -2, 2, 2]], axis=1).astype(np.float32)
    space = Space.of(x, y, components=1)
    np.testing.assert_allclose(np.abs(space.axes[:, 0]), [1, 0, 0], atol=1e-6)
    root_x, root_y = (8 / 3) ** 0.5, (32 / 3) ** 0.5  # variances with n - 1 = 3
    assert space.distance(x, y) == pytest.approx(1 + (root_x - root_y) ** 2, rel=1e-6)


def test_leaving_the_space_of_real_tissue_is_seen() -> None:
    real = _features(0, 40, 8)
    real[:, 4:] = 0
    away = real.copy()
    away[:, 6] = 5
    space = Space.of(real, real[::-1], components=8)
    assert space.axes.shape == (8, 4)
    assert space.distance(real, real) == pytest.approx(0, abs=1e-9)
    assert space.distance(away, real) == pytest.approx(25, rel=1e-6)


def test_each_set_weighs_the_same_whatever_its_size() -> None:
    x, y = _features(0, 30, 6), _features(1, 20, 6, shift=1.0)
    few, many = Space.of(x, y, components=2), Space.of(np.repeat(x, 7, axis=0), y, components=2)
    np.testing.assert_allclose(few.centre, many.centre, atol=1e-6)
    np.testing.assert_allclose(np.abs((few.axes * many.axes).sum(axis=0)), 1, atol=1e-6)


def test_of_few_tiles_in_many_dimensions_it_is_less_biased_than_the_full_covariance() -> None:
    # Two samples of one law: the truth is 0, and what is found is bias.
    rng = np.random.default_rng(3)
    spread = 10 * np.arange(1, 401) ** -0.7
    real, held, ours = (
        (rng.standard_normal((n, 400)) * spread).astype(np.float32) for n in (300, 300, 100)
    )
    found = Space.of(real, held, components=32).distance(ours, held)
    assert found < 0.6 * frechet_distance(ours, held)


def test_mean_distance_is_that_of_different_rows() -> None:
    corners = np.array([[0, 0], [3, 4], [0, 4]], dtype=np.float32)
    assert mean_distance(corners) == pytest.approx((5 + 4 + 3) / 3)
    assert mean_distance(corners[:1]) is None


def test_every_beginning_is_in_proportion_and_takes_patients_in_turns() -> None:
    labels = np.array(["a"] * 60 + ["b"] * 30)
    patients = np.array(["p0"] * 50 + ["p1"] * 8 + ["p2"] * 2 + ["p0"] * 15 + ["p3"] * 15)
    order = even_order(labels, patients, np.random.default_rng(0))
    assert sorted(order) == list(range(90))
    for count in (9, 18, 30, 45):
        share = (labels[order[:count]] == "a").sum()
        assert abs(share - count * 2 / 3) <= 1
    first = [row for row in order if labels[row] == "a"][:6]
    assert sorted(patients[first]) == ["p0", "p0", "p1", "p1", "p2", "p2"]
    np.testing.assert_array_equal(order, even_order(labels, patients, np.random.default_rng(0)))
    assert (order != even_order(labels, patients, np.random.default_rng(1))).any()

"""balance.py: the search against brute force, and what it must never do."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from privgen.data.balance import _Objective, _Sparse, assign, spread


def worst_class_error(
    counts: NDArray[np.int64], role: NDArray[np.intp], shares: NDArray[np.float64]
) -> float:
    """Largest gap between a role's share of a class and the share asked for."""
    held = np.stack([counts[role == r].sum(axis=0) for r in range(len(shares))])
    return float(np.abs(held / counts.sum(axis=0) - shares[:, np.newaxis]).max())


def squared_error(
    counts: NDArray[np.int64], role: NDArray[np.intp], shares: NDArray[np.float64]
) -> float:
    """The documented objective, written out again: classes (mean), all tiles, all patients."""
    total = 0.0
    for r, share in enumerate(shares):
        mine = counts[role == r]
        by_class = mine.sum(axis=0) / counts.sum(axis=0)
        total += float(((by_class - share) ** 2).mean())
        total += float((mine.sum() / counts.sum() - share) ** 2)
        total += float((len(mine) / len(counts) - share) ** 2)
    return total


def acceptable(counts: NDArray[np.int64], role: NDArray[np.intp], roles: int) -> bool:
    """No role empty, and each class in train, and in holdout when two patients have it."""
    if len(set(role)) < roles:
        return False
    bearers = (counts > 0).sum(axis=0)
    for r in range(roles):
        missing = counts[role == r].sum(axis=0) == 0
        if (missing & (bearers > r)).any():
            return False
    return True


@pytest.mark.parametrize("seed", range(6))
def test_search_comes_close_to_the_best_of_all_assignments(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shares = np.array([0.65, 0.35])
    counts = rng.integers(0, 60, (10, 3)) * (rng.random((10, 3)) < 0.5)
    counts[:, 0] += counts.sum(axis=1) == 0
    every = [np.array(role) for role in product((0, 1), repeat=10)]
    best = min(squared_error(counts, role, shares) for role in every if acceptable(counts, role, 2))
    found = assign(counts, shares, np.random.default_rng(0))
    assert acceptable(counts, found, 2)
    assert squared_error(counts, found, shares) <= 1.3 * best + 1e-3


def test_equal_patients_are_cut_exactly() -> None:
    counts = np.full((20, 4), 5)
    role = assign(counts, np.array([0.5, 0.3, 0.2]), np.random.default_rng(1))
    assert np.bincount(role).tolist() == [10, 6, 4]


def test_class_of_one_patient_goes_to_train() -> None:
    counts = np.array([[10, 0], [10, 0], [10, 0], [10, 7]])
    for seed in range(10):
        role = assign(counts, np.array([0.5, 0.5]), np.random.default_rng(seed))
        assert role[3] == 0


def test_holdout_gets_a_patient_even_where_each_class_has_one() -> None:
    for seed in range(10):
        role = assign(np.diag([50, 1, 1]), np.array([0.9, 0.1]), np.random.default_rng(seed))
        assert sorted(set(role)) == [0, 1]


def test_thousands_of_single_tiles_are_cut_to_the_tile() -> None:
    counts = np.eye(5, dtype=np.int64)[np.random.default_rng(0).integers(0, 5, 30_000)]
    shares = np.array([0.65, 0.35])
    role = assign(counts, shares, np.random.default_rng(0))
    assert worst_class_error(counts, role, shares) < 1e-3


@settings(max_examples=150, deadline=None)
@given(
    counts=st.integers(1, 4).flatmap(
        lambda classes: st.lists(
            st.lists(st.integers(0, 30), min_size=classes, max_size=classes).filter(any),
            min_size=3,
            max_size=12,
        )
    ),
    roles=st.sampled_from([2, 3]),
    seed=st.integers(0, 2**32 - 1),
)
def test_no_role_is_ever_empty(counts: list[list[int]], roles: int, seed: int) -> None:
    shares = np.array([0.6, 0.3, 0.1][:roles]) / sum([0.6, 0.3, 0.1][:roles])
    table = np.array(counts)
    table = table[:, table.sum(axis=0) > 0]
    role = assign(table, shares, np.random.default_rng(seed))
    assert set(role) == set(range(roles))
    again = assign(table, shares, np.random.default_rng(seed))
    np.testing.assert_array_equal(role, again)


def test_spread_is_as_even_as_the_groups_allow_and_takes_each_row_once() -> None:
    groups = np.array(["a"] * 10 + ["b"] * 3 + ["c"] * 2)
    for seed in range(5):
        rows = spread(groups, np.arange(14), 8, np.random.default_rng(seed))
        assert list(rows) == sorted(set(rows)), "once each, sorted"
        assert [int((groups[rows] == name).sum()) for name in "abc"] == [4, 3, 1]
    assert list(spread(groups, np.arange(3), 8, np.random.default_rng(0))) == [0, 1, 2]


@pytest.mark.parametrize("units", [600, 3000])
def test_many_classes_are_dealt_out_as_few_are(units: int) -> None:
    rng = np.random.default_rng(1)
    counts = np.zeros((units, 100), dtype=np.int64)
    for unit in range(units):
        counts[unit, rng.choice(100, 1 + 300 // units)] = rng.integers(1, 30)
    shares = np.array([0.6, 0.3, 0.1])
    role = assign(counts, shares, np.random.default_rng(0))
    held = np.stack([counts[role == r].sum() for r in range(3)]) / counts.sum()
    assert np.abs(held - shares).max() < 0.05
    bearers = (counts > 0).sum(axis=0)
    for r in range(2):
        missing = counts[role == r].sum(axis=0) == 0
        assert (missing & (bearers > 5)).mean() < 0.03
    np.testing.assert_array_equal(role, assign(counts, shares, np.random.default_rng(0)))


def test_gains_of_many_classes_are_those_of_any_objective() -> None:
    rng = np.random.default_rng(2)
    counts = rng.integers(1, 9, (20, 40)) * (rng.random((20, 40)) < 0.2)
    counts[:, 0] += 1
    shares = np.array([0.6, 0.3, 0.1])
    role = rng.integers(0, 3, 20)
    dense, sparse = _Objective(counts, shares), _Sparse(counts, shares)
    sums = np.stack([dense.columns[role == r].sum(axis=0) for r in range(3)])
    others = np.arange(3) != role[:, np.newaxis]
    np.testing.assert_allclose(
        sparse.gains(sums, role)[others], dense.gains(sums, role)[others], atol=1e-12
    )

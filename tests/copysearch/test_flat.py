"""The exact search among whole numbers against brute force, ties included."""

import numpy as np
import pytest
from numpy.typing import NDArray

from privgen.copysearch import flat
from privgen.copysearch.flat import FlatIndex

Floats = NDArray[np.float32]


def whole(rng: np.random.Generator, rows: int, *, high: int = 200) -> Floats:
    return rng.integers(-high, high, size=(rows, 8)).astype(np.float32)


def brute_force(
    queries: Floats, base: Floats, k: int
) -> tuple[NDArray[np.int64], NDArray[np.intp]]:
    """Nearest first, the earlier row first among equals."""
    difference = queries.astype(np.int64)[:, None] - base.astype(np.int64)
    squared = (difference**2).sum(axis=2)
    order = np.argsort(squared, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(squared, order, axis=1), order


@pytest.mark.parametrize("rows", [40, 63, 64, 65, 500, 1000])
@pytest.mark.parametrize("high", [3, 200], ids=["ties by the dozen", "hardly any ties"])
def test_it_finds_what_brute_force_finds(
    monkeypatch: pytest.MonkeyPatch, rows: int, high: int
) -> None:
    monkeypatch.setattr(flat, "_STEP", 64)
    rng = np.random.default_rng(rows)
    base, queries = whole(rng, rows, high=high), whole(rng, 30, high=high)
    squared, found = FlatIndex(base).search(queries, 32)
    expected, order = brute_force(queries, base, 32)
    np.testing.assert_array_equal(squared, expected)
    np.testing.assert_array_equal(found, order)


def test_as_many_neighbours_as_rows_is_every_row() -> None:
    base = whole(np.random.default_rng(0), 5)
    squared, found = FlatIndex(base).search(base, 5)
    assert (np.sort(found, axis=1) == np.arange(5)).all()
    assert (squared[:, 0] == 0).all()


def test_sums_that_would_be_rounded_are_refused() -> None:
    fits = np.full((1, 1), 2047, dtype=np.float32)
    assert len(FlatIndex(fits)) == 1
    with pytest.raises(AssertionError, match="exact"):
        FlatIndex(fits + 1)

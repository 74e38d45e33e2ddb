"""Exact nearest neighbours.

Search runs in float32 over centred embeddings (FAISS, flat L2), because an offset of the embeddings
costs float32 its precision; some candidates more than `k` are then re-ranked with float64
distances. A query is certified when no row outside its candidates can be nearer, whatever float32
rounded; the few others (near-duplicates by the dozen, tight clusters far apart, extreme scales) are
searched again in float64. So results depend neither on rounding nor on block size, and of equally
near rows the first is named first.
"""

from dataclasses import dataclass

import faiss
import numpy as np
from numpy.typing import NDArray

from audits.errors import AuditInputError

_SLACK = 4
_BLOCK = 4096
_BLOCK_AGAIN = 256
_BLOCK_BYTES = 2**26
_BEYOND_FLOAT32 = 1.001


@dataclass(frozen=True)
class Neighbors:
    """Neighbours of each query, nearest first.

    Attributes:
      distances: Euclidean, float64, shape (n, k).
      indices: rows of the base, shape (n, k).
    """

    distances: NDArray[np.float64]
    indices: NDArray[np.intp]


def nearest(queries: NDArray[np.float32], base: NDArray[np.float32], *, k: int) -> Neighbors:
    """The `k` nearest rows of `base` for each query, exactly.

    Args:
      queries: shape (n, d).
      base: shape (m, d), m >= k.
      k: neighbours wanted.

    Raises:
      AuditInputError: fewer than `k` rows in `base`.

    Source: docs/methods.md#exact-search.
    """
    if len(base) < k:
        raise AuditInputError(f"{k} neighbours asked for among {len(base)} tiles: give more tiles.")
    # A rounded centre shifts every row alike and so changes no distance.
    centre = base.mean(axis=0, dtype=np.float64).astype(np.float32)
    centred = _centred(base, centre)
    index = faiss.IndexFlatL2(centred.shape[1])
    index.add(centred)
    reach = _longest(centred)
    del centred
    wanted = min(k + _SLACK, len(base))
    distances = np.empty((len(queries), k))
    indices = np.empty((len(queries), k), dtype=np.intp)
    certified = np.empty(len(queries), dtype=np.bool_)
    for start in range(0, len(queries), _BLOCK):
        block = queries[start : start + _BLOCK]
        shifted = _centred(block, centre)
        squared, candidates = index.search(shifted, wanted)
        exact = _exact_distances(block, base, candidates)
        order = np.lexsort((candidates, exact), axis=1)[:, :k]
        rows = slice(start, start + len(block))
        distances[rows] = np.take_along_axis(exact, order, axis=1)
        indices[rows] = np.take_along_axis(candidates, order, axis=1)
        rounding = _rounding(_lengths(shifted) + reach, base.shape[1], np.float32)
        certified[rows] = (candidates >= 0).all(axis=1) & (
            (wanted == len(base)) | (distances[rows, -1] ** 2 + rounding < squared[:, -1])
        )
    again = np.flatnonzero(~certified)
    distances[again], indices[again] = _search_again(queries[again], base, centre, k)
    return Neighbors(distances, indices)


def nearest_others(tiles: NDArray[np.float32], *, k: int) -> Neighbors:
    """The `k` nearest *other* rows of each row, exactly; equal rows are others, at distance 0.

    Args:
      tiles: shape (n, d), n > k.
      k: neighbours wanted.

    Raises:
      AuditInputError: fewer than `k` other rows.
    """
    found = nearest(tiles, tiles, k=k + 1)
    itself = found.indices == np.arange(len(tiles))[:, None]
    # Among many equal rows per row itself may not be listed: then the last one goes.
    itself[~itself.any(axis=1), -1] = True
    shape = (len(tiles), k)
    return Neighbors(found.distances[~itself].reshape(shape), found.indices[~itself].reshape(shape))


def group_distances(
    queries: NDArray[np.float32],
    base: NDArray[np.float32],
    groups: NDArray[np.intp],
) -> NDArray[np.float32]:
    """Distance of each query to the nearest row of each group of `base`, shape (n, g), float32.

    One pass answers "how near is the nearest train tile" for every way of choosing which groups
    (patients) make up the train set. Rounded to float32 and so for comparing groups, not for
    telling a copy from a near-copy.

    Args:
      queries: shape (n, d).
      base: shape (m, d).
      groups: 0..g-1, each at least once, shape (m,).
    """
    order = np.argsort(groups, kind="stable")
    starts = np.searchsorted(groups[order], np.arange(int(groups.max()) + 1))
    centre = base.mean(axis=0, dtype=np.float64).astype(np.float32)
    b = _centred(base[order], centre)
    lengths_b = np.einsum("ij,ij->i", b, b)
    result = np.empty((len(queries), len(starts)), dtype=np.float32)
    block = max(1, _BLOCK_BYTES // (4 * len(b)))
    for start in range(0, len(queries), block):
        rows = slice(start, start + block)
        q = _centred(queries[rows], centre)
        squared = q @ b.T
        squared *= -2
        squared += lengths_b
        nearest_in = np.minimum.reduceat(squared, starts, axis=1)
        nearest_in += np.einsum("ij,ij->i", q, q)[:, None]
        result[rows] = np.sqrt(np.maximum(nearest_in, 0))
    return result


def _centred(rows: NDArray[np.float32], centre: NDArray[np.float32]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(rows - centre)


def _lengths(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    lengths: NDArray[np.float64] = np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64))
    return lengths


def _longest(rows: NDArray[np.float32]) -> float:
    """An upper bound on the length of the longest row; infinite where float32 overflows."""
    with np.errstate(over="ignore"):
        squared = np.einsum("ij,ij->i", rows, rows).max()
    return float(np.sqrt(np.float64(squared))) * _BEYOND_FLOAT32


def _rounding(
    scale: NDArray[np.float64], width: int, kind: type[np.floating]
) -> NDArray[np.float64]:
    """Bound on the rounding of `|q|^2 + |b|^2 - 2 q.b` computed in `kind`, |q| + |b| <= scale."""
    numbers = np.finfo(kind)
    return (width + 8) * (float(numbers.eps) * scale**2 + float(numbers.tiny))


def _search_again(
    queries: NDArray[np.float32], base: NDArray[np.float32], centre: NDArray[np.float32], k: int
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Every row within float64 rounding of the k-th nearest is measured by its exact difference."""
    distances = np.empty((len(queries), k))
    indices = np.empty((len(queries), k), dtype=np.intp)
    if len(queries) == 0:
        return distances, indices
    b = base.astype(np.float64) - centre
    lengths_b = np.einsum("ij,ij->i", b, b)
    for start in range(0, len(queries), _BLOCK_AGAIN):
        q = queries[start : start + _BLOCK_AGAIN].astype(np.float64) - centre
        lengths_q = np.einsum("ij,ij->i", q, q)
        squared = lengths_q[:, None] + lengths_b - 2 * q @ b.T
        rounding = _rounding(
            np.sqrt(lengths_q) + np.sqrt(lengths_b.max()), base.shape[1], np.float64
        )
        limit = np.partition(squared, k - 1, axis=1)[:, k - 1] + 2 * rounding
        for row in range(len(q)):
            near = np.flatnonzero(squared[row] <= limit[row])
            exact = _apart(queries[start + row], base[near])
            order = np.lexsort((near, exact))[:k]
            distances[start + row], indices[start + row] = exact[order], near[order]
    return distances, indices


def _exact_distances(
    block: NDArray[np.float32], base: NDArray[np.float32], candidates: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Float64 distances from each row of `block` to its candidates, one rank at a time."""
    exact = np.empty(candidates.shape)
    for rank in range(candidates.shape[1]):
        exact[:, rank] = _apart(block, base[candidates[:, rank]])
    return exact


def _apart(ones: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float64]:
    """Distance of each pair of rows: the same bits whichever pairs stand beside it.

    A row must be summed in one way, or the pieces a search is cut into would show. `einsum` sums
    rows of more than 8192 columns by where they lie in its buffer.
    """
    difference = np.subtract(ones, others, dtype=np.float64, order="C")
    lengths: NDArray[np.float64] = np.linalg.norm(difference, axis=1)
    return lengths

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

_SLACK = 8
_BLOCK = 4096
_BLOCK_AGAIN = 256


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

    Source: METHODS.md 0 (float32 offset, exact default).
    """
    if len(base) < k:
        raise AuditInputError(f"{k} neighbours asked for among {len(base)} tiles: give more tiles.")
    centre = base.mean(axis=0, dtype=np.float64)
    centred = _centred(base, centre)
    index = faiss.IndexFlatL2(centred.shape[1])
    index.add(centred)
    reach = _norms(base, centre).max()
    wanted = min(k + _SLACK, len(base))
    distances = np.empty((len(queries), k))
    indices = np.empty((len(queries), k), dtype=np.intp)
    certified = np.empty(len(queries), dtype=np.bool_)
    for start in range(0, len(queries), _BLOCK):
        block = queries[start : start + _BLOCK]
        squared, candidates = index.search(_centred(block, centre), wanted)
        exact = _exact_distances(block, base, candidates)
        order = np.lexsort((candidates, exact), axis=1)[:, :k]
        rows = slice(start, start + len(block))
        distances[rows] = np.take_along_axis(exact, order, axis=1)
        indices[rows] = np.take_along_axis(candidates, order, axis=1)
        rounding = _rounding(_norms(block, centre) + reach, base.shape[1], np.float32)
        certified[rows] = (candidates >= 0).all(axis=1) & (
            (wanted == len(base)) | (distances[rows, -1] ** 2 + rounding < squared[:, -1])
        )
    again = np.flatnonzero(~certified)
    distances[again], indices[again] = _search_again(queries[again], base, centre, k)
    return Neighbors(distances, indices)


def _centred(rows: NDArray[np.float32], centre: NDArray[np.float64]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(rows - centre, dtype=np.float32)


def _norms(rows: NDArray[np.float32], centre: NDArray[np.float64]) -> NDArray[np.float64]:
    """Length of each centred row."""
    lengths: NDArray[np.float64] = np.linalg.norm(rows - centre, axis=1)
    return lengths


def _rounding(
    scale: NDArray[np.float64], width: int, kind: type[np.floating]
) -> NDArray[np.float64]:
    """Bound on the rounding of `|q|^2 + |b|^2 - 2 q.b` computed in `kind`, |q| + |b| <= scale."""
    numbers = np.finfo(kind)
    return (width + 8) * (float(numbers.eps) * scale**2 + float(numbers.tiny))


def _search_again(
    queries: NDArray[np.float32], base: NDArray[np.float32], centre: NDArray[np.float64], k: int
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Every row within float64 rounding of the k-th nearest is measured by its exact difference."""
    distances = np.empty((len(queries), k))
    indices = np.empty((len(queries), k), dtype=np.intp)
    if len(queries) == 0:
        return distances, indices
    b = base - centre
    lengths_b = np.einsum("ij,ij->i", b, b)
    for start in range(0, len(queries), _BLOCK_AGAIN):
        q = queries[start : start + _BLOCK_AGAIN] - centre
        lengths_q = np.einsum("ij,ij->i", q, q)
        squared = lengths_q[:, None] + lengths_b - 2 * q @ b.T
        rounding = _rounding(
            np.sqrt(lengths_q) + np.sqrt(lengths_b.max()), base.shape[1], np.float64
        )
        limit = np.partition(squared, k - 1, axis=1)[:, k - 1] + 2 * rounding
        for row in range(len(q)):
            near = np.flatnonzero(squared[row] <= limit[row])
            query = queries[start + row].astype(np.float64)
            exact = np.linalg.norm(query - base[near], axis=1)
            order = np.lexsort((near, exact))[:k]
            distances[start + row], indices[start + row] = exact[order], near[order]
    return distances, indices


def _exact_distances(
    block: NDArray[np.float32], base: NDArray[np.float32], candidates: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Float64 distances from each row of `block` to its candidates, one rank at a time."""
    exact = np.empty(candidates.shape)
    for rank in range(candidates.shape[1]):
        difference = block.astype(np.float64) - base[candidates[:, rank]]
        exact[:, rank] = np.sqrt(np.einsum("ij,ij->i", difference, difference))
    return exact

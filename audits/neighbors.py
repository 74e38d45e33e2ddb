"""Exact nearest neighbours.

Search runs in float32 over centred embeddings (FAISS, flat L2), because an offset of the embeddings
costs float32 its precision; the candidates are then re-ranked with float64 distances. Slack
candidates beyond `k` keep a near-tie from being decided by rounding. Results do not depend on block
size.
"""

from dataclasses import dataclass

import faiss
import numpy as np
from numpy.typing import NDArray

from audits.errors import AuditInputError

_SLACK = 8
_BLOCK = 4096


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
    centred = np.ascontiguousarray(base - centre, dtype=np.float32)
    index = faiss.IndexFlatL2(centred.shape[1])
    index.add(centred)
    wanted = min(k + _SLACK, len(base))
    distances = np.empty((len(queries), k))
    indices = np.empty((len(queries), k), dtype=np.intp)
    for start in range(0, len(queries), _BLOCK):
        block = queries[start : start + _BLOCK]
        _, candidates = index.search(np.ascontiguousarray(block - centre, dtype=np.float32), wanted)
        exact = _exact_distances(block, base, candidates)
        order = np.lexsort((candidates, exact), axis=1)[:, :k]
        rows = slice(start, start + len(block))
        distances[rows] = np.take_along_axis(exact, order, axis=1)
        indices[rows] = np.take_along_axis(candidates, order, axis=1)
    return Neighbors(distances, indices)


def _exact_distances(
    block: NDArray[np.float32], base: NDArray[np.float32], candidates: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Float64 distances from each row of `block` to its candidates, one candidate rank at a "
    "time."""
    exact = np.empty(candidates.shape)
    for rank in range(candidates.shape[1]):
        difference = block.astype(np.float64) - base[candidates[:, rank]]
        exact[:, rank] = np.sqrt(np.einsum("ij,ij->i", difference, difference))
    return exact

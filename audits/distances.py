"""Kernel distance, and precision, recall, density and coverage, from one pass over all pairs.

All of them are sums over inner products of tiles, by far their dearest part: each pair of roles is
multiplied once, in squares small enough to stay in cache, and a role with itself only half.

Conventions: features (tiles, features), float64 inside, centred before they are multiplied, and
scaled so that a product is x.y / d. A group is a jackknife block of tiles. A tile on the very rim
of a ball is outside, whatever rounding says.
Source: Binkowski et al. 2018, arXiv:1801.01401; Kynkaanniemi et al. 2019, arXiv:1904.06991;
Naeem et al. 2020, arXiv:2002.09797; docs/methods.md#fidelity.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audits.inputs import Floats
from audits.intervals import jackknife

NEIGHBORS = 5

_ROWS = 256
_RIM = 1e-12
"""Added to squared lengths, relative: far above float64 rounding, far below any real gap."""


@dataclass(frozen=True)
class _Centred:
    """Rows about a centre.

    Attributes:
      rows: `(x - centre) / sqrt(d)`, shape (n, d).
      lengths: their squared lengths, shape (n,).
      shifts: what to add, once for either row, to a product of rows to get `x.y / d + 1`.
    """

    rows: Floats
    lengths: Floats
    shifts: Floats

    @classmethod
    def about(cls, x: NDArray[np.floating], centre: Floats) -> "_Centred":
        root = np.sqrt(x.shape[1])
        rows = (x - centre) / root
        shifts = rows @ (centre / root) + (centre @ centre / x.shape[1] + 1) / 2
        return cls(rows, np.einsum("ij,ij->i", rows, rows), shifts)


def _squares(x: Floats, y: Floats) -> Iterator[tuple[slice, slice, Floats]]:
    """Products of rows in squares; of a set with itself those on and above the diagonal."""
    for top in range(0, len(x), _ROWS):
        for left in range(top if x is y else 0, len(y), _ROWS):
            rows, columns = slice(top, top + _ROWS), slice(left, left + _ROWS)
            yield rows, columns, x[rows] @ y[columns].T


def _kernel(products: Floats, shifts_x: Floats, shifts_y: Floats) -> Floats:
    base = products + shifts_x[:, None]
    base += shifts_y
    cubed: Floats = base * base
    cubed *= base
    return cubed


def _squared_distances(products: Floats, lengths_x: Floats, lengths_y: Floats) -> Floats:
    squared = products * -2.0
    squared += lengths_x[:, None]
    squared += lengths_y
    return squared


class Cloud:
    """One role's tiles, with what every comparison needs to know about their own pairs.

    Args:
      features: shape (n, d), n >= 2, n > k.
      groups: jackknife block of each tile, 0..g-1, shape (n,); one block when None.
      k: neighbours that set the radius of a tile's ball.

    Attributes:
      features, groups: as given.
      kernel_sums: kernel summed over the pairs of different tiles in each pair of blocks, (g, g).
      radii: squared distance of each tile to its k-th nearest other, over d, shape (n,).
    """

    def __init__(
        self,
        features: NDArray[np.floating],
        *,
        groups: NDArray[np.intp] | None = None,
        k: int = NEIGHBORS,
    ) -> None:
        self.features = np.asarray(features)
        self.groups = np.zeros(len(self.features), dtype=np.intp) if groups is None else groups
        self.k = k
        self.centre: Floats = self.features.mean(axis=0, dtype=np.float64)
        self.membership: Floats = np.eye(int(self.groups.max()) + 1)[self.groups]
        centred = _Centred.about(self.features, self.centre)
        self.kernel_sums = np.zeros((self.membership.shape[1],) * 2)
        nearest = np.full((len(centred.rows), k), np.inf)
        for rows, columns, products in _squares(centred.rows, centred.rows):
            kernel = _kernel(products, centred.shifts[rows], centred.shifts[columns])
            squared = _squared_distances(products, centred.lengths[rows], centred.lengths[columns])
            if rows == columns:
                np.fill_diagonal(kernel, 0.0)
                np.fill_diagonal(squared, np.inf)
            sums = self.membership[rows].T @ (kernel @ self.membership[columns])
            self.kernel_sums += sums
            _lower(nearest, rows, squared)
            if rows != columns:
                self.kernel_sums += sums.T
                _lower(nearest, columns, squared.T)
        self.radii: Floats = np.maximum(nearest.max(axis=1, initial=0.0), 0.0)


def _lower(nearest: Floats, rows: slice, found: Floats) -> None:
    """Keep in `nearest`, shape (n, k), the k smallest of each of its `rows` and of `found`."""
    k = nearest.shape[1]
    if k == 0:
        return
    changed = np.flatnonzero(found.min(axis=1) < nearest[rows].max(axis=1))
    both = np.concatenate([nearest[rows][changed], found[changed]], axis=1)
    nearest[rows.start + changed] = np.partition(both, k - 1, axis=1)[:, :k]


@dataclass(frozen=True)
class Comparison:
    """What the pairs of tiles of two roles say.

    Attributes:
      first, second: the two.
      kernel_sums: kernel summed over the tiles of each pair of blocks, shape (g, h).
      scores: per-tile terms, as `manifold_scores` returns them, the second role the real one.
    """

    first: Cloud
    second: Cloud
    kernel_sums: Floats
    scores: dict[str, Floats]

    def kernel_distance(self) -> tuple[float, float, float]:
        """As the function of this name; leaving a block out leaves out its sums."""

        def kept_blocks(cloud: Cloud, keep: NDArray[np.bool_]) -> NDArray[np.bool_]:
            return np.bincount(cloud.groups[keep], minlength=len(cloud.kernel_sums)) > 0

        def within(cloud: Cloud, blocks: NDArray[np.bool_], n: int) -> float:
            return float(cloud.kernel_sums[np.ix_(blocks, blocks)].sum()) / (n * (n - 1))

        def statistic(keep_x: NDArray[np.bool_], keep_y: NDArray[np.bool_]) -> float:
            n, m = int(keep_x.sum()), int(keep_y.sum())
            blocks_x, blocks_y = kept_blocks(self.first, keep_x), kept_blocks(self.second, keep_y)
            between = float(self.kernel_sums[np.ix_(blocks_x, blocks_y)].sum()) / (n * m)
            within_x, within_y = within(self.first, blocks_x, n), within(self.second, blocks_y, m)
            return within_x + within_y - 2 * between

        return jackknife(statistic, self.first.groups, self.second.groups)


def compare(first: Cloud, second: Cloud, *, scores: bool = True) -> Comparison:
    """One pass over the pairs of two roles, equally wide and made with the same k.

    Args:
      first, second: the roles; the second is the real one.
      scores: whether the manifold scores are wanted; there are none otherwise.
    """
    x = _Centred.about(first.features, second.centre)
    y = _Centred.about(second.features, second.centre)
    lengths_x, lengths_y = x.lengths * (1 + _RIM), y.lengths * (1 + _RIM)
    sums = np.zeros((first.membership.shape[1], second.membership.shape[1]))
    inside = np.zeros(len(x.rows))
    recall, coverage = np.zeros((2, len(y.rows)), dtype=np.bool_)
    for rows, columns, products in _squares(x.rows, y.rows):
        kernel = _kernel(products, x.shifts[rows], y.shifts[columns])
        sums += first.membership[rows].T @ (kernel @ second.membership[columns])
        if scores:
            squared = _squared_distances(products, lengths_x[rows], lengths_y[columns])
            in_second = squared < second.radii[columns]
            inside[rows] += in_second.sum(axis=1)
            coverage[columns] |= in_second.any(axis=0)
            recall[columns] |= (squared < first.radii[rows, None]).any(axis=0)
    if not scores:
        return Comparison(first, second, sums, {})
    terms = {
        "precision": (inside > 0).astype(np.float64),
        "recall": recall.astype(np.float64),
        "density": inside / first.k,
        "coverage": coverage.astype(np.float64),
    }
    return Comparison(first, second, sums, terms)


def kernel_distance(
    x: NDArray[np.floating],
    y: NDArray[np.floating],
    *,
    groups_x: NDArray[np.intp],
    groups_y: NDArray[np.intp],
) -> tuple[float, float, float]:
    """KID: unbiased squared maximum mean discrepancy, kernel `(x.y / d + 1)^3`, with its interval.

    The full U-statistic over all pairs, not an average over random subsets.

    Args:
      x, y: features, shapes (n, d) and (m, d), n, m >= 2.
      groups_x, groups_y: jackknife block of each tile, 0..g-1, at least two on each side; two tiles
        must remain without any one of them.

    Returns:
      (value, low, high); the value may be negative when the laws are equal.

    Source: Binkowski et al. 2018, arXiv:1801.01401; docs/methods.md#fidelity.
    """
    clouds = Cloud(x, groups=groups_x, k=0), Cloud(y, groups=groups_y, k=0)
    return compare(*clouds, scores=False).kernel_distance()


def manifold_scores(
    real: NDArray[np.floating], synthetic: NDArray[np.floating], *, k: int = NEIGHBORS
) -> dict[str, Floats]:
    """Per-tile terms of precision, recall, density and coverage; a metric is its terms' mean.

    Args:
      real: features, shape (n, d), n > k.
      synthetic: features, shape (m, d), m > k.
      k: neighbours that set the radius of a manifold ball.

    Returns:
      "precision" and "density" of shape (m,), "recall" and "coverage" of shape (n,). For identical
      laws density tends to 1 and coverage to 1 - 2^-k.

    Source: Kynkaanniemi et al. 2019, arXiv:1904.06991; Naeem et al. 2020, arXiv:2002.09797.
    """
    return compare(Cloud(synthetic, k=k), Cloud(real, k=k)).scores

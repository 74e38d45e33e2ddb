"""Frechet distance of two sets of features: its value, its interval, its limit for many tiles.

Conventions: features (tiles, features), float64 inside. A covariance stands as a factor F with
F'F = S, and the trace of the root of a product as a nuclear norm, so that singular covariances
cost no precision. A group is a jackknife block: whole patients, or tiles where there are none.
Source: Heusel et al. 2017, arXiv:1706.08500; Chong & Forsyth 2020, arXiv:1911.07023;
docs/methods.md#fidelity.
"""

from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, stats

from audits.errors import AuditInputError
from audits.inputs import Floats
from audits.intervals import jackknife

FEWEST_GROUPS = 4
"""Groups a side that `frechet_infinity` needs: halves must remain when one is left out."""

_MOST_GROUPS = 12
"""Groups a side that it takes: all halves of them are looked through once."""

_PIVOT = 1e-9
"""Below this share of the largest squared pivot a Cholesky factor is not trusted."""

_Moments = tuple[Floats, Floats]
"""Mean, shape (d,), and a factor of the covariance, shape (r, d)."""


def _moments(x: NDArray[np.floating]) -> _Moments:
    """Moments from the rows themselves: backward stable whatever the rank; r = min(n, d)."""
    mean = x.mean(axis=0, dtype=np.float64)
    factor = (x - mean) / np.sqrt(len(x) - 1)
    if factor.shape[0] > factor.shape[1]:
        factor = linalg.qr(factor, mode="r", check_finite=False)[0][: factor.shape[1]]
    return mean, factor


def _distance(first: _Moments, second: _Moments) -> float:
    (mean_x, a), (mean_y, b) = first, second
    cross = linalg.svdvals(a @ b.T, check_finite=False).sum()
    spread = (a**2).sum() + (b**2).sum() - 2 * cross
    return float(((mean_x - mean_y) ** 2).sum() + max(spread, 0.0))


def frechet_distance(x: NDArray[np.floating], y: NDArray[np.floating]) -> float:
    """Frechet distance of two Gaussians fitted to `x` and `y`.

    `|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2))`. With S1 = A'A and S2 = B'B the last trace is the
    nuclear norm of AB', which needs no matrix square root and stays exact when covariances are
    singular.

    Args:
      x: features, shape (n, d), n >= 2.
      y: features, shape (m, d), m >= 2.

    Source: Heusel et al. 2017, arXiv:1706.08500; docs/methods.md#fidelity.
    """
    return _distance(_moments(np.asarray(x)), _moments(np.asarray(y)))


class _Groups:
    """Moments of any union of a sample's groups, from sums taken once over each group.

    With more tiles than features a union's covariance is a sum of the groups' outer products and
    its factor a Cholesky factor. Where that is singular or nearly so, or the tiles are few, the
    rows are factored instead.
    """

    def __init__(self, x: NDArray[np.floating], groups: NDArray[np.intp]) -> None:
        self.x, self.groups = x, groups
        self.sizes = np.bincount(groups)
        width = x.shape[1]
        self._centre = x.mean(axis=0, dtype=np.float64)
        many = len(x) > width
        self._sums = np.empty((len(self.sizes), width))
        self._products = np.empty((len(self.sizes) if many else 0, width, width))
        for group in range(len(self.sizes)):
            rows = x[groups == group] - self._centre
            self._sums[group] = rows.sum(axis=0)
            if many:
                self._products[group] = rows.T @ rows
        self._whole = self._union(np.ones(len(self.sizes), dtype=np.bool_))

    def moments(self, kept: NDArray[np.bool_]) -> _Moments:
        """Of the tiles whose group is kept, `kept` of shape (g,)."""
        return self._whole if kept.all() else self._union(kept)

    def of_tiles(self, keep: NDArray[np.bool_]) -> _Moments:
        """Of the tiles kept, `keep` of shape (n,): whole groups or none of a group."""
        return self.moments(np.bincount(self.groups[keep], minlength=len(self.sizes)) > 0)

    def _union(self, kept: NDArray[np.bool_]) -> _Moments:
        n = int(self.sizes[kept].sum())
        if len(self._products) and n > self.x.shape[1]:
            mean = self._sums[kept].sum(axis=0) / n
            products = np.tensordot(kept.astype(np.float64), self._products, axes=1)
            factor = _cholesky((products - n * np.outer(mean, mean)) / (n - 1))
            if factor is not None:
                return self._centre + mean, factor
        return _moments(self.x[kept[self.groups]])


def _cholesky(covariance: Floats) -> Floats | None:
    """Upper factor, or None where rounding could show in it."""
    try:
        factor: Floats = linalg.cholesky(covariance, check_finite=False)
    except linalg.LinAlgError:
        return None
    pivots = np.diagonal(factor) ** 2
    return factor if pivots.min() >= _PIVOT * pivots.max() else None


def frechet_interval(
    x: NDArray[np.floating],
    y: NDArray[np.floating],
    *,
    groups_x: NDArray[np.intp],
    groups_y: NDArray[np.intp],
) -> tuple[float, float, float]:
    """`frechet_distance` with its delete-one-group interval: (value, low, high).

    Args:
      x, y: features, shapes (n, d) and (m, d); two tiles must remain without any one group.
      groups_x, groups_y: jackknife block of each tile, 0..g-1, no number left out.

    Source: docs/methods.md#fidelity; `intervals.jackknife` says why not a bootstrap.
    """
    first, second = _Groups(np.asarray(x), groups_x), _Groups(np.asarray(y), groups_y)
    return jackknife(
        lambda keep_x, keep_y: _distance(first.of_tiles(keep_x), second.of_tiles(keep_y)),
        groups_x,
        groups_y,
    )


def frechet_infinity(
    x: NDArray[np.floating],
    y: NDArray[np.floating],
    *,
    groups_x: NDArray[np.intp],
    groups_y: NDArray[np.intp],
    rng: np.random.Generator,
    confidence: float = 0.95,
) -> tuple[float, float, float]:
    """Frechet distance extrapolated to infinitely many tiles (and patients): (value, low, high).

    The finite-sample bias falls like 1/N. Groups of both sides, paired at random, stand on a
    circle; distances over all unions of half of them, of all but one, and of all, are regressed on
    1/n + 1/m, and the value is the intercept. Taking whole patients away removes the bias of few
    patients along with that of few tiles. The value may be negative when the laws are equal.

    The interval is a jackknife over the pairs of groups: the same regression over those unions that
    leave one pair out. It carries the noise that extrapolation adds, which the residuals of the
    regression do not (its unions share tiles).

    Args:
      x, y: features, shapes (n, d) and (m, d).
      groups_x, groups_y: block of each tile, 0..g-1, the same g of 4 to 12 on both sides, two
        tiles or more in each; halves of all tiles should outnumber the features.
      rng: pairs the groups and lays them on the circle.
      confidence: two-sided; Student's t on g - 1 degrees of freedom.

    Raises:
      AuditInputError: too few or too many groups, unequal numbers of them, or a group of fewer
        than 2 tiles.

    Source: Chong & Forsyth 2020, arXiv:1911.07023; docs/methods.md#fidelity.
    """
    sides = (_Groups(np.asarray(x), groups_x), _Groups(np.asarray(y), groups_y))
    counts = [len(side.sizes) for side in sides]
    fewest = min(int(side.sizes.min()) for side in sides)
    if counts[0] != counts[1] or not FEWEST_GROUPS <= counts[0] <= _MOST_GROUPS or fewest < 2:
        raise AuditInputError(
            f"FD-infinity needs as many groups on both sides, {FEWEST_GROUPS} to {_MOST_GROUPS}, "
            f"of 2 tiles or more: got {counts[0]} and {counts[1]} groups, the smallest of {fewest} "
            "tiles. Give more patients, or regroup."
        )
    count = counts[0]
    orders = [rng.permutation(count) for _ in sides]
    unions = _unions(count)
    distances, inverse_sizes = np.empty(len(unions)), np.empty(len(unions))
    for row, union in enumerate(unions):
        kept = [union[order] for order in orders]
        moments = [side.moments(some) for side, some in zip(sides, kept, strict=True)]
        distances[row] = _distance(*moments)
        inverse_sizes[row] = sum(
            1 / side.sizes[some].sum() for side, some in zip(sides, kept, strict=True)
        )
    value = _intercept(inverse_sizes, distances)
    left_out = np.empty(count)
    for place in range(count):
        without = ~unions[:, place]
        left_out[place] = _intercept(inverse_sizes[without], distances[without])
    variance = (count - 1) / count * float(((left_out - left_out.mean()) ** 2).sum())
    half = float(stats.t.ppf(0.5 + confidence / 2, count - 1) * np.sqrt(variance))
    return value, value - half, value + half


def _unions(count: int) -> NDArray[np.bool_]:
    """Places to regress over: about half of them, all but one, and all; shape (unions, count).

    The halves are the rotations of one set of places, that whose differences are the most even:
    then any two places meet about equally often, and so they do among the halves without a third.
    """
    places = np.arange(count)

    def unevenness(chosen: tuple[int, ...]) -> float:
        differences = np.subtract.outer(chosen, chosen) % count
        return float(np.bincount(differences.ravel(), minlength=count)[1:].var())

    base = min(combinations(range(count), (count + 1) // 2), key=unevenness)
    turned = (places[:, None] - places) % count
    return np.concatenate([np.isin(turned, base), turned != 0, np.ones((1, count), dtype=np.bool_)])


def _intercept(at: Floats, values: Floats) -> float:
    """Of the least-squares line through `values` at `at`."""
    slope = np.cov(at, values)[0, 1] / np.var(at, ddof=1)
    return float(values.mean() - slope * at.mean())

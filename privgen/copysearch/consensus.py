"""The transform most key points of two tiles agree on.

Key points of a query tile, and of its mirror image, are matched with those of a candidate. Every
match proposes a similarity by itself, as a key point has a place, a size and a direction; all are
tried, the best few are fitted by least squares, and the one with most inliers wins. Where 6 or more
carry it, an affine transform takes its place. There is no random draw.

Conventions: coordinates are tile pixels with pixel centres at whole numbers; transforms lead from
the query to the candidate.

Sources: Lowe 2004 (SIFT matching); Philbin et al. 2007 (one match, one hypothesis);
docs/methods.md#alignment.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from privgen.copysearch.descriptors import MIRROR, VECTOR_LENGTH, Descriptors

Floats = NDArray[np.float64]

MAX_SCALE = 4.6
"""Largest enlargement or shrinking: a crop of a quarter of the side comes back enlarged 4 times."""

TOLERANCE = 0.02
"""How far an inlier may lie from where the transform puts it, as a share of the side."""

MAX_STRETCH = 1.8
"""Largest ratio of the scales along two directions: pictures of 4 to 3 made square differ by up to
16 to 9."""

_RATIO = 0.9
_FEWEST = 3
_TURN = np.radians(30.0)
_RESIZE = np.log(1.6)
_LEVERAGE = 0.15
_STARTS = 4
_FITS = 4
_CELL = 1 / 64
_CARRY_STRETCH = 6
_FULL = 2 * VECTOR_LENGTH**2
_HALF = np.flatnonzero(np.arange(len(MIRROR)) < MIRROR)


@dataclass(frozen=True)
class Fit:
    """How two tiles fit together.

    Attributes:
      inliers: distinct key points that agree on the transform, 0 without one.
      transform: query to candidate, shape (2, 3); NaN without one.
      mirrored: whether it turns the tile over.
      points, targets: x, y of the key points that agree, in the query and in the candidate, shapes
        (k, 2); several may share a place, so k >= inliers.
    """

    inliers: int
    transform: Floats
    mirrored: bool
    points: Floats
    targets: Floats


NO_FIT = Fit(0, np.full((2, 3), np.nan), False, np.empty((0, 2)), np.empty((0, 2)))


def fit_pair(queries: Descriptors, tile: int, base: Descriptors, candidate: int) -> Fit:
    """The better of the plain and the mirrored fit of two tiles, plain among equals.

    Args:
      queries, tile: the query tile's place.
      base, candidate: the other's.
    """
    return next(fits(queries, tile, base, np.array([candidate])), NO_FIT)


def fits(
    queries: Descriptors, tile: int, base: Descriptors, candidates: NDArray[np.intp]
) -> Iterator[Fit]:
    """How a query tile fits each of some candidates, plain or mirrored; `NO_FIT` where it does not.

    Args:
      queries, tile: the query tile's place.
      base, candidates: theirs, shape (k,).
    """
    points = queries.points[queries.rows(tile)].astype(np.float64)
    even, odd = _parts(queries.vectors[queries.rows(tile)])
    mirror = _mirror_points(points, queries.side)
    for candidate in candidates:
        rows = base.rows(int(candidate))
        targets = base.points[rows].astype(np.float64)
        best = NO_FIT
        if min(len(points), len(targets)) >= _FEWEST:
            their_even, their_odd = _parts(base.vectors[rows])
            alike, opposed = even @ their_even.T, odd @ their_odd.T
            for mirrored, seen in ((False, points), (True, mirror)):
                mine, its = _matches(alike - opposed if mirrored else alike + opposed)
                if len(mine) <= best.inliers or len(mine) < _FEWEST:
                    continue
                count, matrix, inside = _consensus(seen[mine], targets[its], base.side)
                if count > best.inliers:
                    best = Fit(
                        inliers=count,
                        transform=_with_mirror(matrix, queries.side, mirrored),
                        mirrored=mirrored,
                        points=points[mine[inside], :2],
                        targets=targets[its[inside], :2],
                    )
        yield best


def _parts(vectors: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What the mirror keeps of each vector and what it turns round, shapes (m, 64).

    With v = (e + o) / 2 the products of all vectors with all others, and with their mirror images,
    are (ee' + oo') / 2 and (ee' - oo') / 2: two small products instead of two large ones, of whole
    numbers below 2^24, so exact in any order.
    """
    straight = vectors[:, _HALF].astype(np.float32)
    turned = vectors[:, MIRROR[_HALF]].astype(np.float32)
    return straight + turned, straight - turned


def _matches(product: NDArray[np.float32]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Pairs of rows that are each other's nearest and clearly nearer than the second nearest.

    Args:
      product: twice the inner products, shape (ours, theirs); overwritten.
    """
    its = product.argmax(axis=1)
    mine = np.arange(len(product))
    first = product[mine, its]
    mutual = first == product.max(axis=0)[its]
    product[mine, its] = 0
    second = product.max(axis=1)
    clear = _FULL - first <= _RATIO**2 * (_FULL - second)
    kept = np.flatnonzero(mutual & clear)
    return kept, its[kept]


def _consensus(ours: Floats, theirs: Floats, side: int) -> tuple[int, Floats, NDArray[np.bool_]]:
    """The transform most matches agree on: distinct inliers, (2, 3) matrix, which matches agree.

    Points as complex numbers: a similarity is `a z + b`.
    """
    z, w = ours[:, 0] + 1j * ours[:, 1], theirs[:, 0] + 1j * theirs[:, 1]
    size = np.log(theirs[:, 2] / ours[:, 2])
    turn = theirs[:, 3] - ours[:, 3]
    a = np.exp(size + 1j * turn)
    alike = np.abs(size - size[:, None]) < _RESIZE
    alike &= np.cos(turn - turn[:, None]) > np.cos(_TURN)
    alike &= (np.abs(size) < np.log(MAX_SCALE))[:, None]
    reach = np.abs(a)[:, None] * np.abs(z - z[:, None])
    miss = np.abs(w - w[:, None] - a[:, None] * (z - z[:, None]))
    supporters = alike & (miss < 2 * TOLERANCE * side + _LEVERAGE * reach)
    support = supporters.sum(axis=1)
    best, answer, agreeing = 0, NO_FIT.transform, np.zeros(len(z), dtype=np.bool_)
    for start in np.argsort(-support, kind="stable")[:_STARTS]:
        inside = supporters[start]
        if inside.sum() <= best or inside.sum() < _FEWEST:
            continue
        for fit in range(_FITS):
            slope, shift = _least_squares(z[inside], w[inside])
            if not 1 / MAX_SCALE < abs(slope) < MAX_SCALE:
                break
            allowed = TOLERANCE * side * min(1.0, np.sqrt(abs(slope)))
            allowed *= 2.0 if fit == 0 else 1.0
            inside = np.abs(slope * z + shift - w) < allowed
            inside &= np.abs(size - np.log(abs(slope))) < _RESIZE
            inside &= np.cos(turn - np.angle(slope)) > np.cos(_TURN)
            if inside.sum() < _FEWEST:
                break
        else:
            count = min(distinct(ours[inside], side), distinct(theirs[inside], side))
            if count > best and count >= _FEWEST:
                best, agreeing = count, inside
                answer = np.array(
                    [
                        [slope.real, -slope.imag, shift.real],
                        [slope.imag, slope.real, shift.imag],
                    ]
                )
    return _stretched(ours, theirs, side, best, answer, agreeing)


def _stretched(
    ours: Floats,
    theirs: Floats,
    side: int,
    best: int,
    answer: Floats,
    agreeing: NDArray[np.bool_],
) -> tuple[int, Floats, NDArray[np.bool_]]:
    """The same with an affine transform, where enough matches carry it and none is lost by it.

    Pictures are resized to squares, tissue is stretched by the knife: a similarity then fits a part
    of the tile only, and what lies beyond it looks like disagreement.
    """
    if best < _CARRY_STRETCH:
        return best, answer, agreeing
    size = np.log(theirs[:, 2] / ours[:, 2])
    turn = theirs[:, 3] - ours[:, 3]
    points = np.column_stack([ours[:, :2], np.ones(len(ours))])
    inside = agreeing
    for _ in range(_FITS):
        solved, _, rank, _ = np.linalg.lstsq(points[inside], theirs[inside, :2], rcond=None)
        left, (longer, shorter), right = np.linalg.svd(solved[:2].T)
        if rank < 3 or longer > MAX_STRETCH * shorter or np.linalg.det(left @ right) < 0:
            return best, answer, agreeing
        scale = np.sqrt(longer * shorter)
        rotation = left @ right
        inside = np.linalg.norm(points @ solved - theirs[:, :2], axis=1) < (
            TOLERANCE * side * min(1.0, np.sqrt(scale))
        )
        inside &= np.abs(size - np.log(scale)) < _RESIZE
        inside &= np.cos(turn - np.arctan2(rotation[1, 0], rotation[0, 0])) > np.cos(_TURN)
        if inside.sum() < _CARRY_STRETCH or not 1 / MAX_SCALE < scale < MAX_SCALE:
            return best, answer, agreeing
    count = min(distinct(ours[inside], side), distinct(theirs[inside], side))
    if count < best:
        return best, answer, agreeing
    return count, np.asarray(solved.T, dtype=np.float64), inside


def _least_squares(z: NDArray[np.complex128], w: NDArray[np.complex128]) -> tuple[complex, complex]:
    """a, b of the smallest sum of |a z + b - w|^2; a is 0 where all z are equal."""
    centre, goal = z.mean(), w.mean()
    spread = float((np.abs(z - centre) ** 2).sum())
    if spread < 1e-9:
        return 0j, goal
    slope = complex(((z - centre).conj() * (w - goal)).sum() / spread)
    return slope, complex(goal - slope * centre)


def distinct(points: Floats, side: int) -> int:
    """Places among some points, in cells of 1/64 of the side: one corner gives several key points.

    Args:
      points: x, y first, shape (k, 2 or more).
      side: of their tile, pixels.
    """
    cells = np.floor((points[:, :2] + 0.5) / (_CELL * side)).astype(np.int64)
    return len(np.unique(cells[:, 0] * 4096 + cells[:, 1]))


def _mirror_points(points: Floats, side: int) -> Floats:
    """Key points of the image turned over along x."""
    x, y, size, angle = points.T
    return np.stack([side - 1 - x, y, size, np.pi - angle], axis=1)


def _with_mirror(similarity: Floats, side: int, mirrored: bool) -> Floats:
    """The similarity after x -> side - 1 - x, as one matrix."""
    if not mirrored:
        return similarity
    whole = similarity.copy()
    whole[:, 2] += similarity[:, 0] * (side - 1)
    whole[:, 0] *= -1
    return whole

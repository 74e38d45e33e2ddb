"""Alignment: geometry proves what an embedding or votes only propose.

Key points of a query tile, and of its mirror image, are matched with those of a candidate. Every
match proposes a similarity by itself, as a key point has a place, a size and a direction; all are
tried, the best few are fitted by least squares, and the one with most inliers wins. There is no
random draw, so the same pair gives the same answer, whatever else is computed and on how many
threads. A copy may be mirrored, turned by any angle, enlarged or shrunk by up to 3.2, cropped,
re-stained, blended or slightly warped.

Inliers alone can be chance (nuclei make similar corners everywhere). `agreement` asks whether the
tissue between the key points agrees too: the correlation of optical densities where the tiles
overlap, each brought to local mean 0 and local contrast 1. That takes the stain out, and slow
shades with it; it is near 1 for a copy and near 0 for chance.

Conventions: coordinates are tile pixels with pixel centres at whole numbers; transforms lead from
the query to the candidate.

Sources: Lowe 2004 (SIFT matching); Philbin et al. 2007 (one match, one hypothesis); METHODS.md 1.3.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from privgen.errors import InputError
from privgen.evidence.descriptors import (
    MIRROR,
    PATCH_SIDE,
    VECTOR_LENGTH,
    Descriptors,
    one_thread_each,
)

Floats = NDArray[np.float64]

MAX_SCALE = 3.2
"""Largest enlargement or shrinking: a crop of a third comes back enlarged 3 times."""

TOLERANCE = 0.02
"""How far an inlier may lie from where the transform puts it, as a share of the side."""

FULL_OVERLAP = 0.5
"""Overlap, as a share of the query, from which an agreement counts in full."""

_RATIO = 0.9
_FEWEST = 3
_TURN = np.radians(30.0)
_RESIZE = np.log(1.6)
_LEVERAGE = 0.15
_STARTS = 4
_FITS = 4
_CELL = 1 / 64
_FULL = 2 * VECTOR_LENGTH**2
_HALF = np.flatnonzero(np.arange(len(MIRROR)) < MIRROR)
_SMOOTH = 1 / 64
_LOCAL = 1 / 12
_FLAT = 0.02
_WORKERS = os.cpu_count() or 1


@dataclass(frozen=True)
class Alignments:
    """The best alignment of each query tile; row i speaks of query tile i.

    Attributes:
      candidates: the base tile it was aligned with, -1 where no candidate had matches, shape (n,).
      inliers: distinct key points that agree on the transform, 0 without an alignment, shape (n,).
      transforms: query to candidate, tile pixels, shape (n, 2, 3); NaN without an alignment.
      mirrored: whether it turns the tile over, shape (n,).
      rotations: degrees in (-180, 180], x towards y, after the mirroring of x, shape (n,).
      scales: candidate pixels a query pixel, shape (n,).
      overlaps: share of the query tile that lies inside the candidate, shape (n,).
      agreements: correlation of the local structure where they overlap, -1 to 1, shape (n,), times
        sqrt(2 overlap) where less than half of the query overlaps; 0 without an alignment.
      featureless: query tiles without key points, which cannot be aligned at all, shape (n,).
    """

    candidates: NDArray[np.intp]
    inliers: NDArray[np.intp]
    transforms: Floats
    mirrored: NDArray[np.bool_]
    rotations: Floats
    scales: Floats
    overlaps: Floats
    agreements: Floats
    featureless: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.inliers)


@dataclass(frozen=True)
class Alignment:
    """The alignment of one pair; the attributes of `Alignments` in the singular."""

    inliers: int
    transform: Floats
    mirrored: bool
    rotation: float
    scale: float
    overlap: float
    agreement: float


@dataclass(frozen=True)
class _Fit:
    inliers: int
    transform: Floats
    mirrored: bool


_NONE = _Fit(0, np.full((2, 3), np.nan), False)


def align(query: Descriptors, candidate: Descriptors) -> Alignment:
    """Align one tile with another.

    Args:
      query, candidate: described tiles, one each (`Descriptors.subset`).

    Returns:
      The transform with most inliers; 0 inliers where fewer than 3 key points match.

    Raises:
      InputError: not one tile each.

    Source: METHODS.md 1.3.
    """
    if (len(query), len(candidate)) != (1, 1):
        raise InputError(
            f"align takes one tile and one candidate: got {len(query)} and {len(candidate)}. Use "
            "best_alignments for many."
        )
    found = best_alignments(query, candidate, np.zeros((1, 1), dtype=np.intp))
    return Alignment(
        inliers=int(found.inliers[0]),
        transform=found.transforms[0],
        mirrored=bool(found.mirrored[0]),
        rotation=float(found.rotations[0]),
        scale=float(found.scales[0]),
        overlap=float(found.overlaps[0]),
        agreement=float(found.agreements[0]),
    )


def best_alignments(
    queries: Descriptors, base: Descriptors, candidates: NDArray[np.intp]
) -> Alignments:
    """For each query tile the candidate that aligns with most inliers, the first among equals.

    Args:
      queries: n tiles.
      base: tiles the candidates are taken from.
      candidates: positions in `base`, -1 for none, shape (n, k); from `shortlist`, an embedding, or
        both side by side.

    Raises:
      InputError: `candidates` does not fit the tiles.

    Source: METHODS.md 1.3.
    """
    if candidates.ndim != 2 or len(candidates) != len(queries):
        raise InputError(
            f"candidates must have one row a query tile: got shape {candidates.shape} for "
            f"{len(queries)} tiles."
        )
    if candidates.size and not -1 <= candidates.min() <= candidates.max() < len(base):
        raise InputError(
            f"candidates must be -1 to {len(base) - 1}: got {candidates.min()} to "
            f"{candidates.max()}."
        )
    n = len(queries)
    found = Alignments(
        candidates=np.full(n, -1, dtype=np.intp),
        inliers=np.zeros(n, dtype=np.intp),
        transforms=np.full((n, 2, 3), np.nan),
        mirrored=np.zeros(n, dtype=np.bool_),
        rotations=np.full(n, np.nan),
        scales=np.full(n, np.nan),
        overlaps=np.zeros(n),
        agreements=np.zeros(n),
        featureless=queries.featureless,
    )

    def fill(tile: int) -> None:
        chosen = np.unique(candidates[tile])
        best, where = _NONE, -1
        for candidate in chosen[chosen >= 0]:
            fit = _fit_pair(queries, tile, base, int(candidate))
            if fit.inliers > best.inliers:
                best, where = fit, int(candidate)
        if best.inliers == 0:
            return
        linear = best.transform[:, :2]
        # Undo the mirroring of x to read off the angle.
        first = linear[:, 0] * (-1 if best.mirrored else 1)
        found.candidates[tile], found.inliers[tile] = where, best.inliers
        found.transforms[tile], found.mirrored[tile] = best.transform, best.mirrored
        found.rotations[tile] = np.degrees(np.arctan2(first[1], first[0]))
        found.scales[tile] = np.hypot(first[0], first[1])
        found.overlaps[tile] = overlap(best.transform, queries.side, base.side)
        found.agreements[tile] = _agreement(
            queries.patches[tile], base.patches[where], best.transform, queries.side, base.side
        )

    with one_thread_each(), ThreadPoolExecutor(_WORKERS) as pool:
        for _ in pool.map(fill, range(n)):
            pass
    return found


def overlap(transform: Floats, query_side: int, candidate_side: int) -> float:
    """Share of the query tile's area that the transform puts inside the candidate.

    Args:
      transform: query to candidate, shape (2, 3), tile pixels.
      query_side, candidate_side: sides of the two tiles, pixels.
    """
    low, high = -0.5, query_side - 0.5
    corners = np.array([[low, low], [high, low], [high, high], [low, high]])
    moved = (corners @ transform[:, :2].T + transform[:, 2]).astype(np.float32)
    far = candidate_side - 0.5
    frame = np.array([[low, low], [far, low], [far, far], [low, far]], dtype=np.float32)
    whole = abs(np.linalg.det(transform[:, :2])) * query_side**2
    shared, _ = cv2.intersectConvexConvex(moved, frame)
    return float(min(1.0, max(0.0, shared / whole)))


def _fit_pair(queries: Descriptors, tile: int, base: Descriptors, candidate: int) -> _Fit:
    """The better of the plain and the mirrored fit, plain among equals."""
    rows, others = queries.rows(tile), base.rows(candidate)
    if rows.start == rows.stop or others.start == others.stop:
        return _NONE
    points = queries.points[rows].astype(np.float64)
    targets = base.points[others].astype(np.float64)
    even, odd = _parts(queries.vectors[rows])
    their_even, their_odd = _parts(base.vectors[others])
    alike, opposed = even @ their_even.T, odd @ their_odd.T
    best = _NONE
    for mirrored in (False, True):
        mine, its = _matches(alike - opposed if mirrored else alike + opposed)
        if len(mine) <= best.inliers or len(mine) < _FEWEST:
            continue
        seen = _mirror_points(points, queries.side) if mirrored else points
        count, similarity = _consensus(seen[mine], targets[its], base.side)
        if count > best.inliers:
            best = _Fit(count, _with_mirror(similarity, queries.side, mirrored), mirrored)
    return best


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


def _consensus(ours: Floats, theirs: Floats, side: int) -> tuple[int, Floats]:
    """The similarity most matches agree on: number of distinct inliers and (2, 3) matrix.

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
    best, answer = 0, np.full((2, 3), np.nan)
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
            count = min(_distinct(ours[inside], side), _distinct(theirs[inside], side))
            if count > best and count >= _FEWEST:
                best = count
                answer = np.array(
                    [
                        [slope.real, -slope.imag, shift.real],
                        [slope.imag, slope.real, shift.imag],
                    ]
                )
    return best, answer


def _least_squares(z: NDArray[np.complex128], w: NDArray[np.complex128]) -> tuple[complex, complex]:
    """a, b of the smallest sum of |a z + b - w|^2; a is 0 where all z are equal."""
    centre, goal = z.mean(), w.mean()
    spread = float((np.abs(z - centre) ** 2).sum())
    if spread < 1e-9:
        return 0j, goal
    slope = complex(((z - centre).conj() * (w - goal)).sum() / spread)
    return slope, complex(goal - slope * centre)


def _distinct(points: Floats, side: int) -> int:
    """Places, in cells of 1/64 of the side: one corner gives several key points."""
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


def _agreement(
    query: NDArray[np.uint8],
    candidate: NDArray[np.uint8],
    transform: Floats,
    query_side: int,
    candidate_side: int,
) -> float:
    """Correlation of the local structure of two density patches where they overlap."""
    inside_query, inside_candidate = query_side / PATCH_SIDE, candidate_side / PATCH_SIDE
    linear = transform[:, :2] * inside_query / inside_candidate
    # Pixel centres of the patch: x_tile = (x_patch + .5) * unit - .5, on both sides.
    centre = transform[:, :2] @ np.full(2, 0.5 * inside_query - 0.5) + transform[:, 2]
    shift = (centre + 0.5) / inside_candidate - 0.5
    matrix = np.column_stack([linear, shift])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    size = (PATCH_SIDE, PATCH_SIDE)
    both = np.stack([candidate.astype(np.float32), np.ones(size, dtype=np.float32)], axis=2)
    warped, inside = np.moveaxis(cv2.warpAffine(both, matrix, size, flags=flags), 2, 0)
    mask = np.asarray(inside > 0.999, dtype=np.float32)
    share = float(mask.mean())
    if share == 0:
        return 0.0
    ours = _local_structure(query.astype(np.float32), mask)
    theirs = _local_structure(np.asarray(warped, dtype=np.float32), mask)
    norm = float(np.sqrt((ours**2).sum() * (theirs**2).sum()))
    if norm == 0:
        return 0.0
    # A few pixels agree by chance, and the fewer the better.
    return float((ours * theirs).sum() / norm * np.sqrt(min(1.0, share / FULL_OVERLAP)))


def _local_structure(density: NDArray[np.float32], mask: NDArray[np.float32]) -> Floats:
    """Smoothed density with local mean 0 and local contrast 1 inside the mask, 0 outside."""

    def blurred(image: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
        width = sigma * PATCH_SIDE
        share = cv2.GaussianBlur(mask, (0, 0), width)
        soft = cv2.GaussianBlur(image * mask, (0, 0), width)
        return np.asarray(soft / np.maximum(share, 1e-3), dtype=np.float32)

    smooth = blurred(density, _SMOOTH)
    detail = smooth - blurred(smooth, _LOCAL)
    contrast = np.sqrt(blurred(detail**2, _LOCAL)) + _FLAT * 80
    structure = np.where(mask > 0, detail / contrast, 0.0)
    structure -= np.where(mask > 0, structure.sum() / mask.sum(), 0.0)
    return structure.astype(np.float64)

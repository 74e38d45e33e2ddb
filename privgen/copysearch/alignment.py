"""Alignment: geometry proves what an embedding or votes only propose.

A copy may be mirrored, turned by any angle, enlarged or shrunk by up to 4.6, cropped, re-stained,
blended, warped, or only a piece of the tile. `poses` finds how a candidate lies on a tile and how
well it fits; here this is done for many tiles. No random draw takes part, so the same pair gives
the same answer, whatever else is computed and on how many threads.

Conventions: coordinates are tile pixels with pixel centres at whole numbers; transforms lead from
the query to the candidate.

Sources: docs/methods.md#alignment, docs/methods.md#proof-by-alignment.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from audits import Estimate
from privgen.compute.cores import cores
from privgen.copysearch.descriptors import Descriptors, one_thread_each
from privgen.copysearch.poses import BaseMarks, best_pose
from privgen.errors import InputError
from privgen.phases import phase

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

FEW_KEYPOINTS = 10
"""Key points below which a tile that is not proven a copy cannot be cleared either."""

_FLIP = (np.eye(2), np.diag([-1.0, 1.0]))


@dataclass(frozen=True)
class Alignments:
    """The best alignment of each query tile; row i speaks of query tile i.

    Attributes:
      candidates: the base tile it was aligned with, -1 where no candidate had matches, shape (n,).
      inliers: distinct key points that agree on the transform, marks left out; 0 without any, shape
        (n,).
      transforms: query to candidate, tile pixels, shape (n, 2, 3); NaN without an alignment.
      mirrored: whether it turns the tile over, shape (n,).
      rotations: degrees in (-180, 180], x towards y, after the mirroring of x, shape (n,).
      scales: candidate pixels per query pixel, the geometric mean over directions, shape (n,).
      overlaps: share of the query tile that lies inside the candidate, shape (n,).
      agreements: correlation of the local structure where they overlap, -1 to 1, shape (n,), times
        sqrt(2 overlap) where less than half of the query overlaps; 0 without an alignment.
      strengths: standard deviations of chance that the structure agrees by, over the whole overlap
        or around the agreeing key points, shape (n,); 0 without an alignment.
      marked: share of the query patch set aside because it shows marks, shape (n,).
      featureless: query tiles with fewer than 10 key points: hardly anything to be seen, shape
        (n,).
      recall: of the list of candidates, where an approximate search made it.
    """

    candidates: NDArray[np.intp]
    inliers: NDArray[np.intp]
    transforms: Floats
    mirrored: NDArray[np.bool_]
    rotations: Floats
    scales: Floats
    overlaps: Floats
    agreements: Floats
    strengths: Floats
    marked: Floats
    featureless: NDArray[np.bool_]
    recall: Estimate | None = None

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
    strength: float


def align(query: Descriptors, candidate: Descriptors) -> Alignment:
    """Align one tile with another.

    Args:
      query, candidate: described tiles, one each (`Descriptors.subset`).

    Returns:
      The pose with the highest score; 0 inliers where fewer than 3 key points match.

    Raises:
      InputError: not one tile each.

    Source: docs/methods.md#alignment.
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
        strength=float(found.strengths[0]),
    )


def best_alignments(
    queries: Descriptors,
    base: Descriptors,
    candidates: Ints,
    *,
    marks: BaseMarks | None = None,
) -> Alignments:
    """For each query tile the candidate that aligns with the highest score, the first among equals.

    Args:
      queries: n tiles.
      base: tiles the candidates are taken from.
      candidates: positions in `base`, -1 for none, shape (n, k); from `shortlist`, an embedding, or
        both side by side.
      marks: of the base; None sets nothing aside.

    Raises:
      InputError: `candidates` does not fit the tiles.

    Source: docs/methods.md#alignment.
    """
    if candidates.ndim != 2 or len(candidates) != len(queries):
        raise InputError(
            f"candidates must have one row per query tile: got shape {candidates.shape} for "
            f"{len(queries)} tiles."
        )
    _require_places(candidates, -1, base)
    chosen = [np.unique(row[row >= 0]) for row in candidates]
    return _aligned(queries, base, np.arange(len(queries)), chosen, marks)


def align_pairs(
    queries: Descriptors, base: Descriptors, pairs: Ints, *, marks: BaseMarks | None = None
) -> Alignments:
    """Align each of some pairs of tiles; row j of the answer speaks of pair j.

    Args:
      queries, base: the tiles.
      pairs: position in `queries` and in `base`, shape (m, 2).
      marks: of the base; None sets nothing aside.

    Raises:
      InputError: a position is out of range.

    Source: docs/methods.md#alignment.
    """
    _require_places(pairs[:, 0], 0, queries)
    _require_places(pairs[:, 1], 0, base)
    return _aligned(queries, base, pairs[:, 0], [pair[1:] for pair in pairs], marks)


def _require_places(places: Ints, lowest: int, base: Descriptors) -> None:
    if places.size and not lowest <= places.min() <= places.max() < len(base):
        raise InputError(
            f"candidates must be {lowest} to {len(base) - 1}: got {places.min()} to {places.max()}."
        )


def _aligned(
    queries: Descriptors,
    base: Descriptors,
    tiles: Ints,
    candidates: Sequence[Ints],
    marks: BaseMarks | None,
) -> Alignments:
    """Row i: the best alignment of query tile `tiles[i]` with any of `candidates[i]`."""
    n = len(tiles)
    found = Alignments(
        candidates=np.full(n, -1, dtype=np.intp),
        inliers=np.zeros(n, dtype=np.intp),
        transforms=np.full((n, 2, 3), np.nan),
        mirrored=np.zeros(n, dtype=np.bool_),
        rotations=np.full(n, np.nan),
        scales=np.full(n, np.nan),
        overlaps=np.zeros(n),
        agreements=np.zeros(n),
        strengths=np.zeros(n),
        marked=np.zeros(n),
        featureless=queries.counts[tiles] < FEW_KEYPOINTS,
    )

    def fill(row: int) -> None:
        best = best_pose(queries, int(tiles[row]), base, candidates[row], marks)
        if best is None:
            return
        # Undo the mirroring of x; the nearest rotation has none of the stretch.
        left, stretch, right = np.linalg.svd(best.transform[:, :2] @ _FLIP[best.mirrored])
        first = (left @ right)[:, 0]
        found.candidates[row], found.inliers[row] = best.candidate, best.inliers
        found.transforms[row], found.mirrored[row] = best.transform, best.mirrored
        found.rotations[row] = np.degrees(np.arctan2(first[1], first[0]))
        found.scales[row] = np.sqrt(stretch.prod())
        found.overlaps[row] = overlap(best.transform, queries.side, base.side)
        found.agreements[row] = best.whole.discounted
        found.strengths[row], found.marked[row] = best.strength, best.marked

    with (
        one_thread_each(),
        ThreadPoolExecutor(cores()) as pool,
        phase("aligning tiles", total=n) as aligning,
    ):
        for _ in pool.map(fill, range(n)):
            aligning.advance()
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

"""Poses: how a candidate lies on a query tile, and how well it fits there.

Poses come from two sides: `consensus` finds the transform most key points agree on, and `structure`
the symmetry under which two tiles look most alike as whole pictures, for copies that have lost
their key points. `agreement` then asks how strongly the tissue agrees, over the whole overlap and
around the agreeing key points; whichever is stronger counts. Inliers and strength make one score
(`audits.proof.joint_score`), and the pose with the highest wins. Where it is high, `marks` that
recur in other patients are set aside and the pose is scored again without them.

Conventions: coordinates are tile pixels with pixel centres at whole numbers; transforms lead from
the query to the candidate.

Sources: docs/methods.md#alignment, docs/methods.md#proof-by-alignment.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from audits.proof import joint_score
from privgen.copysearch.agreement import NOTHING, Agreement, Overlay, patch_transform
from privgen.copysearch.consensus import NO_FIT, Fit, distinct, fits
from privgen.copysearch.descriptors import PATCH_SIDE, Descriptors
from privgen.copysearch.marks import Marks, Mask
from privgen.copysearch.structure import structure, turn_matrix, turns
from privgen.encoders.orbit import SYMMETRIES

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

SUSPICIOUS = 5.0
"""Joint score from which marks are looked for: one real tile in twenty reaches it by chance."""

PICTURED = 2
"""Candidates that are also tried as whole pictures, those that look most alike."""

_FEWEST = 3


class BaseMarks:
    """The marks of base tiles, found when first asked for.

    Args:
      base: the tiles.
      groups: their patients, shape (len(base),).
      marks: real tiles in which a mark may recur.
    """

    def __init__(self, base: Descriptors, groups: NDArray[np.str_], marks: Marks) -> None:
        self._base, self._groups, self._marks = base, groups, marks
        self._found: dict[int, Mask] = {}

    def of(self, tile: int) -> Mask:
        """Where a base tile shows marks, shape (96, 96)."""
        # Tiles are aligned by several threads: two may find the same mask at once, to no harm.
        if tile not in self._found:
            self._found[tile] = self._marks.of(self._base.patches[tile], str(self._groups[tile]))
        return self._found[tile]


@dataclass(frozen=True)
class Pose:
    """One way to lay a candidate on the query tile, and how well it fits."""

    candidate: int
    transform: Floats
    mirrored: bool
    inliers: int
    whole: Agreement
    strength: float
    marked: float = 0.0

    @property
    def score(self) -> float:
        return float(joint_score(np.array([self.inliers]), np.array([self.strength]))[0])


def best_pose(
    queries: Descriptors,
    tile: int,
    base: Descriptors,
    candidates: Ints,
    marks: BaseMarks | None,
) -> Pose | None:
    """The pose with the highest score once marks are set aside, the first among equals.

    Args:
      queries, tile: the query tile's place.
      base, candidates: theirs, shape (k,).
      marks: of the base; None sets nothing aside.

    Returns:
      None where there is no candidate, or nothing to be seen.
    """
    tried: list[tuple[Pose, Fit]] = []
    for candidate, fit in zip(candidates, fits(queries, tile, base, candidates), strict=True):
        if fit.inliers:
            tried.append((_scored(queries, tile, base, int(candidate), fit), fit))
    for candidate, turn in _pictured(queries, tile, base, candidates):
        matrix = turn_matrix(turn, queries.side)
        matrix = matrix * (base.side / queries.side)
        matrix[:, 2] += (base.side / queries.side - 1) / 2
        fit = Fit(0, matrix, turn >= SYMMETRIES // 2, NO_FIT.points, NO_FIT.targets)
        tried.append((_scored(queries, tile, base, candidate, fit), fit))
    tried.sort(key=lambda each: -each[0].score)
    best: Pose | None = None
    for pose, fit in tried:
        if best is not None and pose.score <= best.score:
            break  # the rest scores less even with its marks
        if marks is not None and pose.score >= SUSPICIOUS:
            ignored = marks.of(pose.candidate)
            if ignored.any():
                pose = _scored(queries, tile, base, pose.candidate, fit, ignored)
        if best is None or pose.score > best.score:
            best = pose
    return best


def _scored(
    queries: Descriptors,
    tile: int,
    base: Descriptors,
    candidate: int,
    fit: Fit,
    ignored: Mask | None = None,
) -> Pose:
    """How well a fit holds, without what is ignored of the candidate's patch."""
    points, inliers, marked = fit.points, fit.inliers, 0.0
    if ignored is not None:
        places = np.rint((fit.targets + 0.5) * (PATCH_SIDE / base.side) - 0.5).astype(np.intp)
        x, y = np.clip(places, 0, PATCH_SIDE - 1).T
        kept = ~ignored[y, x]
        points = fit.points[kept]
        inliers = min(distinct(points, queries.side), distinct(fit.targets[kept], base.side))
        inliers = inliers if inliers >= _FEWEST else 0
        matrix = patch_transform(fit.transform, queries.side, base.side)
        flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
        marked = float(
            cv2.warpAffine(ignored.astype(np.uint8), matrix, ignored.shape, flags=flags).mean()
        )
    overlay = Overlay(
        queries.patches[tile],
        base.patches[candidate],
        fit.transform,
        query_side=queries.side,
        candidate_side=base.side,
        ignored=ignored,
    )
    whole = overlay.whole()
    part = overlay.around(points) if inliers else NOTHING
    return Pose(
        candidate=candidate,
        transform=fit.transform,
        mirrored=fit.mirrored,
        inliers=inliers,
        whole=whole,
        strength=max(whole.strength, part.strength),
        marked=marked,
    )


def _pictured(
    queries: Descriptors, tile: int, base: Descriptors, candidates: Ints
) -> list[tuple[int, int]]:
    """The candidates that look most like the tile as whole pictures, each with the best turn."""
    if len(candidates) == 0:
        return []
    mine = turns(queries.patches[tile : tile + 1])[:, 0]
    likeness = mine @ structure(base.patches[candidates]).T
    if not mine.any():
        return []
    first = np.argsort(-likeness.max(axis=0), kind="stable")[:PICTURED]
    return [(int(candidates[place]), int(likeness[:, place].argmax())) for place in first]

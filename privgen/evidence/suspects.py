"""Suspects: the synthetic tiles a person should look at, each with the train tile it may show.

The report counts; this names. Proven copies come first, then what merely looks close, and the list
goes on to the next nearest tiles, so that a reader sees what the top of the list is like when
nothing was proven. Everything here concerns single tiles of single patients, so it is for a private
page only.

Conventions: rows are positions in the sets that were audited; coordinates are pixels at the audit's
side; transforms lead from the synthetic tile to the train tile.

Source: docs/methods.md#alignment, docs/methods.md#proof-by-alignment; the phantom rate is the share
of the proof's own null.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import cv2
import numpy as np
from numpy.typing import NDArray

from audits import Aligned, AuditData, AuditResult
from audits.copy_evidence import CopyScoring
from audits.proof import MIN_STRENGTH, Tail, alike, joint_score
from privgen.copysearch.alignment import align_pairs
from privgen.copysearch.consensus import fit_pair
from privgen.copysearch.searching import base_marks, search
from privgen.evidence.collect import Evidence

MOST = 24
"""Most suspects of one page: what a person can look at."""

Floats = NDArray[np.float64]
Marks = NDArray[np.bool_]


class Reason(StrEnum):
    """Why a tile is a suspect, strongest first; only the first two are proof."""

    ALIGNED = "proven by alignment"
    EQUAL = "proven by equal pixels"
    CLOSE_FIT = "aligns well"
    TAIL = "nearer than the holdout"
    NEXT = "next nearest"


PROOFS = (Reason.ALIGNED, Reason.EQUAL)


@dataclass(frozen=True, kw_only=True, eq=False)
class Suspect:
    """One synthetic tile and the train tile it may show.

    Attributes:
      synthetic, train: rows of the two tiles.
      reasons: all that apply, strongest first; `Reason.NEXT` alone where no other does.
      inliers, agreement, strength: of the alignment of the two, 0 where they do not align.
      score: the two together, as `audits.proof.joint_score`.
      transform: synthetic to train, shape (2, 3), pixels; NaN where they do not align.
      mirrored, rotation, scale, overlap: of the transform, as in `Alignments`.
      points, targets: x, y of the key points that agree, in the synthetic and in the train tile,
        shape (k, 2).
      distance: of the synthetic tile to the nearest train tile, embedding units.
      nearest: that train tile's row.
      ratio: that distance over those to the next nearest, as in `CopyScores`.
      beaten, ratio_beaten: holdout tiles with a larger distance, and with a larger ratio.
      phantoms: null tiles with at least this score.
      chance: P(a tile aligns as well by chance), from the tail fitted to the null; None where there
        is no tail or the score lies below it.
    """

    synthetic: int
    train: int
    reasons: tuple[Reason, ...]
    inliers: int
    agreement: float
    strength: float
    score: float
    transform: Floats
    mirrored: bool
    rotation: float
    scale: float
    overlap: float
    points: Floats
    targets: Floats
    distance: float
    nearest: int
    ratio: float
    ratio_beaten: int
    beaten: int
    phantoms: int
    chance: float | None

    @property
    def proven(self) -> bool:
        """Whether it is a copy beyond doubt, and not merely close."""
        return self.reasons[0] in PROOFS

    @property
    def fits(self) -> bool:
        """Whether the tissue agrees enough for the warped train tile to be worth a look."""
        return self.strength >= MIN_STRENGTH


@dataclass(frozen=True, kw_only=True, eq=False)
class Suspects:
    """The suspects of one audit, strongest first.

    Attributes:
      chosen: at most `MOST`, or what was asked for.
      counts: synthetic tiles each reason applies to, shown or not.
      holdout: distances of the holdout tiles with texture to their nearest train tiles, shape (h,).
      null_tiles: real tiles aligned with tiles of other patients: what `phantoms` counts among.
      proof: the report's `aligned_copies`, with the thresholds it used.
    """

    chosen: tuple[Suspect, ...]
    counts: Mapping[Reason, int]
    holdout: Floats
    null_tiles: int
    proof: AuditResult


def choose(
    evidence: Evidence, proof: AuditResult, copies: CopyScoring, *, most: int = MOST
) -> Suspects:
    """The strongest suspects of an audit that aligned its tiles.

    A proven or well-aligned tile is shown with the train tile it aligns with, one of equal pixels
    with the first such train tile, any other with the nearest train tile.

    Args:
      evidence: collected with `align`.
      proof: `aligned_copies` of the same audit's report.
      copies: scores of the same tiles.
      most: suspects wanted.

    Source: docs/methods.md#tail-count, docs/methods.md#alignment,
      docs/methods.md#proof-by-alignment.
    """
    data = evidence.data
    assert data.alignment is not None
    ours, others = copies.scores, copies.holdout
    marks = _marks(data, proof)
    marks[Reason.TAIL] = copies.first
    marks[Reason.NEXT] = copies.textured

    held = np.stack([marks[reason] for reason in Reason])
    strongest = np.where(held.any(axis=0), held.argmax(axis=0), len(Reason))
    order = list(Reason)
    by_distance = np.minimum(
        np.searchsorted(np.sort(others.nearest), ours.nearest),
        np.searchsorted(np.sort(others.ratio), ours.ratio),
    )
    by_score = strongest <= order.index(Reason.CLOSE_FIT)
    scores = _scores(data.alignment.synthetic)
    strength = np.where(by_score, -scores, by_distance)
    rows = np.lexsort((ours.nearest, strength, strongest))
    rows = rows[strongest[rows] < len(Reason)][:most]

    partners = _partners(evidence, rows, [order[strongest[row]] for row in rows], ours.source)
    synthetic = evidence.searched["synthetic"].descriptors
    base = evidence.searched["train"]
    train = base.descriptors
    found = align_pairs(
        synthetic, train, np.stack([rows, partners], axis=1), marks=base_marks(base)
    )
    null = data.alignment.null
    kept = ~null.featureless & ~data.alignment.null_duplicates
    kept &= ~alike(null.inliers, null.strength)
    counted = _scores(null)[kept]
    chosen = []
    for place, (row, partner) in enumerate(zip(rows, partners, strict=True)):
        fit = fit_pair(synthetic, int(row), train, int(partner))
        inliers, strengths = found.inliers[place : place + 1], found.strengths[place : place + 1]
        score = float(joint_score(inliers, strengths)[0])
        reasons = [reason for reason in order[:-1] if marks[reason][row]]
        chosen.append(
            Suspect(
                synthetic=int(row),
                train=int(partner),
                reasons=tuple(reasons) or (Reason.NEXT,),
                inliers=int(inliers[0]),
                agreement=float(found.agreements[place]),
                strength=float(strengths[0]),
                score=score,
                transform=found.transforms[place],
                mirrored=bool(found.mirrored[place]),
                rotation=float(found.rotations[place]),
                scale=float(found.scales[place]),
                overlap=float(found.overlaps[place]),
                points=fit.points,
                targets=fit.targets,
                distance=float(ours.nearest[row]),
                nearest=int(ours.source[row]),
                ratio=float(ours.ratio[row]),
                ratio_beaten=int((others.ratio > ours.ratio[row]).sum()),
                beaten=int((others.nearest > ours.nearest[row]).sum()),
                phantoms=int((counted >= score).sum()),
                chance=_chance(proof, score),
            )
        )
    return Suspects(
        chosen=tuple(chosen),
        counts={reason: int(marks[reason].sum()) for reason in order[:-1]},
        holdout=others.nearest,
        null_tiles=len(counted),
        proof=proof,
    )


def _marks(data: AuditData, proof: AuditResult) -> dict[Reason, Marks]:
    """The tiles that are proven, equal, or align above the fixed floors."""
    assert data.alignment is not None
    found = data.alignment.synthetic
    close = alike(found.inliers, found.strength)
    proven = np.zeros(len(close), dtype=np.bool_)
    if proof.rejected is not None:
        proven = close & alike(found.inliers, found.strength, needed=proof.details["needed_score"])
    equal = np.isin(_prints(data.synthetic.fingerprints), _prints(data.train.fingerprints))
    return {
        Reason.ALIGNED: proven,
        Reason.EQUAL: equal & data.synthetic.textured,
        Reason.CLOSE_FIT: close & ~proven,
    }


def _prints(fingerprints: NDArray[np.str_] | None) -> NDArray[np.str_]:
    assert fingerprints is not None
    return fingerprints


def _partners(
    evidence: Evidence,
    rows: NDArray[np.intp],
    reasons: list[Reason],
    nearest: NDArray[np.intp],
) -> NDArray[np.intp]:
    """The train tile to show beside each of these synthetic tiles, shape (k,)."""
    partners = nearest[rows].copy()
    ours, theirs = (
        _prints(tiles.fingerprints) for tiles in (evidence.data.synthetic, evidence.data.train)
    )
    for place, (row, reason) in enumerate(zip(rows, reasons, strict=True)):
        if reason is Reason.EQUAL:
            partners[place] = np.flatnonzero(theirs == ours[row])[0]
    aligned = [
        place
        for place, reason in enumerate(reasons)
        if reason in (Reason.ALIGNED, Reason.CLOSE_FIT)
    ]
    if aligned:
        # The judge keeps counts, not partners; a search of a few tiles is cheaper than keeping all.
        again = search(
            evidence.searched["synthetic"].subset(rows[aligned]), evidence.searched["train"]
        )
        found = again.candidates
        partners[aligned] = np.where(found < 0, partners[aligned], found)
    return partners


def _scores(found: Aligned) -> Floats:
    return joint_score(found.inliers, found.strength)


def _chance(proof: AuditResult, score: float) -> float | None:
    """P(chance exceeds this score) from the tail the proof fitted."""
    known = proof.details
    if proof.rejected is None or score <= known["tail_threshold"]:
        return None
    tail = Tail(
        threshold=known["tail_threshold"],
        rate=known["tail_exceedances"] / known["null_scores"],
        shape=known["tail_shape"],
        scale=known["tail_scale"],
        best_scale=known["tail_scale"],
        exceedances=known["tail_exceedances"],
        fit=known["goodness_of_fit_p"],
    )
    return tail.exceedance(score)


def warped(train: NDArray[np.uint8], transform: Floats) -> NDArray[np.uint8]:
    """A train tile as the synthetic tile would show it.

    Args:
      train: uint8, shape (h, h, 3), at the audit's side.
      transform: synthetic to train, shape (2, 3).

    Returns:
      uint8, shape (h, h, 3); pixels the train tile does not reach repeat its border.
    """
    how = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    size = (train.shape[1], train.shape[0])
    seen = cv2.warpAffine(train, transform, size, flags=how, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(seen, dtype=np.uint8)


def frame(transform: Floats, side: int) -> Floats:
    """Corners of the train tile as they lie on the synthetic tile, x and y, shape (4, 2)."""
    low, high = -0.5, side - 0.5
    corners = np.array([[low, low], [high, low], [high, high], [low, high]])
    seen: Floats = (corners - transform[:, 2]) @ np.linalg.inv(transform[:, :2]).T
    return seen

"""Alignments as between unrelated tiles, and a search among them."""

import numpy as np
from numpy.typing import NDArray

from audits.proof import (
    CHANCE_INLIERS,
    INLIER_DECADES,
    MIN_SCORE,
    MIN_STRENGTH,
    Tail,
    proven_copies,
)
from audits.results import AuditResult

Counts = NDArray[np.intp]
Floats = NDArray[np.float64]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def chance(n: int, seed: int = 0) -> tuple[Counts, Floats]:
    """Inliers and strengths as between GlaS tiles of different patients, the best of 9."""
    draw = rng(seed)
    inliers = np.where(draw.random(n) < 0.5, 0, 2 + draw.geometric(0.8, n))
    return inliers, draw.normal(3.3, 0.6, n)


def exponential(rate: float = 0.5, scale: float = 1.0, threshold: float = 3.0) -> Tail:
    return Tail(
        threshold=threshold,
        rate=rate,
        shape=0.0,
        scale=scale,
        best_scale=scale,
        exceedances=50,
        fit=0.5,
    )


def inliers_of(score: float) -> int:
    """Fewest inliers that reach this score by themselves."""
    return int(np.ceil(CHANCE_INLIERS + score / INLIER_DECADES - 1e-9))


def strength_of(score: float) -> float:
    """The strength that reaches this score by itself."""
    return float(np.sqrt(2 * np.log(10) * score))


def search(
    inliers: list[int] | Counts,
    *,
    strength: float | list[float] | Floats = 12.0,
    null: tuple[Counts, Floats] | None = None,
    duplicates: NDArray[np.bool_] | None = None,
    featureless: NDArray[np.bool_] | None = None,
) -> AuditResult:
    counts = np.asarray(inliers, dtype=np.intp)
    null_inliers, null_strength = chance(400) if null is None else null
    return proven_copies(
        inliers=counts,
        strength=np.broadcast_to(np.asarray(strength, dtype=float), counts.shape),
        null_inliers=null_inliers,
        null_strength=null_strength,
        null_duplicates=duplicates,
        featureless=featureless,
        rng=rng(),
    )


def with_copies(copies: int, *, inliers: int = 60, strength: float = 15.0) -> tuple[Counts, Floats]:
    """A null of 400 in which some pairs of patients show the same tissue."""
    counts, strengths = chance(400)
    counts[:copies], strengths[:copies] = inliers, strength
    return counts, strengths


def heavy_null() -> tuple[Counts, Floats]:
    """A null whose scores come near the floor, so that more than the floor is needed."""
    inliers, strength = chance(400)
    near = int(MIN_SCORE / INLIER_DECADES * 0.7)
    inliers[:12] = CHANCE_INLIERS + np.arange(12) % near
    strength[:12] = MIN_STRENGTH * 0.9
    return inliers, strength

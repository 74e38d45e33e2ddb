"""Proof of a copy: an alignment too good to be chance, tile by tile.

With a few hundred tiles, counting against the holdout cannot see three copies. Aligning can: chance
alignments of tiles of different patients share a handful of key points and a faint likeness, a copy
shares dozens of key points, or agrees in its tissue many standard deviations beyond chance, or some
of both. The two are judged together, as one score. How high a score is too high for chance is
learned from a null of real tiles against tiles of *other* patients.

Real tiles of different patients may themselves be copies of each other: a mislabelled patient, a
field cut twice. Such null scores are no chance; they are set aside and reported, and what is left
decides. Nor can a few scores below them move the threshold far: it is at most twice the largest.

The null's tail is extrapolated by peaks over a threshold: scores above it follow a generalised
Pareto law. Chance scores add up many rare coincidences and their tail is no heavier than
exponential, so the shape is kept at 0 or above, where the law has no end point; the scale enters at
its upper confidence limit.

Conventions: higher = more likely a copy; scores are powers of ten.

Sources: Pickands 1975 (peaks over threshold); Davison & Smith 1990;
docs/methods.md#proof-by-alignment.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from audits.errors import AuditInputError
from audits.inputs import Floats
from audits.intervals import clopper_pearson
from audits.results import AuditResult, Estimate, Harm

Counts = NDArray[np.intp]

PROOF_LEVEL = 1e-3
"""Family-wise chance of a false proof, over all query tiles of one search."""

MIN_SCORE = 14.0
"""Smallest score that is ever called proof, whatever the null says. A null score that reaches it is
no chance: the two patients' tiles show the same tissue. Two crypts of different GlaS patients that
happen to have one outline reach 10.6, beyond what a tail fitted to 292 null tiles foresees."""

MIN_STRENGTH = 3.0
"""Smallest photometric strength, standard deviations of chance, that is ever called proof."""

MOST_STRETCH = 2.0
"""Largest score that can be needed, as a multiple of the largest null score left."""

MOST_ALIKE = 0.05
"""Largest share of null tiles that may show the tissue of other patients; beyond it the null says
nothing about chance."""

MIN_NULL = 100
"""Fewest null scores a threshold is drawn from; below it there is no proof, only a count."""

MIN_FIT = 0.01
"""Smallest goodness of fit, a p-value, at which the tail is believed."""

INLIER_DECADES = 1.0
"""What each key point beyond the chance ones adds to the score. Between tiles of different GlaS
patients each is six to thirty times rarer than the last."""

CHANCE_INLIERS = 3
"""Key points on which any two tiles agree somewhere."""

_TAIL_SHARE = 0.1
_MIN_EXCEEDANCES = 30
_SCALE_CONFIDENCE = 0.95
_REFITS = 199
_SHAPES: Floats = np.linspace(0.0, 1.0, 51)
_SCALES: Floats = np.geomspace(0.02, 50.0, 400)


def joint_score(inliers: Counts, strength: Floats) -> Floats:
    """How rare an alignment is among tiles of different patients, roughly, in powers of ten.

    Each agreeing key point beyond three is rarer than the last by a fixed factor, and the strength
    is a normal deviate: -log10 of its tail is z^2 / (2 ln 10) up to a slow term. The score orders
    alignments; what it means is learned from the null.

    Args:
      inliers: key points that agree on one transform, shape (n,).
      strength: standard deviations of chance by which the tissue agrees, shape (n,).

    Returns:
      Shape (n,), 0 or more.
    """
    counted = INLIER_DECADES * np.maximum(inliers - CHANCE_INLIERS, 0)
    scores: Floats = counted + np.maximum(strength, 0.0) ** 2 / (2 * np.log(10))
    return scores


def alike(inliers: Counts, strength: Floats, *, needed: float = MIN_SCORE) -> NDArray[np.bool_]:
    """Alignments whose score and strength suffice; by default above the fixed floors.

    Args:
      inliers, strength: shapes (n,).
      needed: smallest score.
    """
    return (joint_score(inliers, strength) >= needed) & (strength >= MIN_STRENGTH)


@dataclass(frozen=True, kw_only=True)
class Tail:
    """The upper tail of a law of scores: P(X > u + x) = rate * (1 + shape x / scale)^(-1 / shape).

    Attributes:
      threshold: u; scores above it are the tail.
      rate: P(X > u), the share of null scores above u.
      shape: of the generalised Pareto law, 0 (exponential) to 1; maximum likelihood.
      scale: upper 95 % limit at that shape (profile likelihood).
      best_scale: maximum likelihood.
      exceedances: null scores above u.
      fit: p-value of the goodness of fit; small = the law does not describe the tail.
    """

    threshold: float
    rate: float
    shape: float
    scale: float
    best_scale: float
    exceedances: int
    fit: float

    def exceedance(self, score: float) -> float:
        """P(X > score) for a score at or above the threshold, with the cautious scale."""
        beyond = np.array([score - self.threshold])
        return self.rate * float(_survival(beyond, self.shape, self.scale)[0])


def fit_tail(scores: Floats, *, rng: np.random.Generator) -> Tail:
    """Fit the tail of a null's scores.

    The threshold u is the largest score that leaves at least a tenth of the scores, and 30, above.

    Args:
      scores: of null tiles, shape (m,), m > 30.
      rng: parametric bootstrap of the goodness of fit.

    Raises:
      AuditInputError: 30 scores or fewer, or too many equal ones for a tail.

    Source: docs/methods.md#proof-by-alignment.
    """
    if len(scores) <= _MIN_EXCEEDANCES:
        raise AuditInputError(
            f"a tail is fitted to more than {_MIN_EXCEEDANCES} null scores: got {len(scores)}. "
            "Give more real tiles."
        )
    wanted = max(_MIN_EXCEEDANCES, int(np.ceil(_TAIL_SHARE * len(scores))))
    ordered = np.sort(scores)
    threshold = float(ordered[-wanted - 1])
    if threshold == ordered[-wanted]:  # equal scores: the next lower one leaves enough above
        lower = ordered[ordered < threshold]
        threshold = float(lower[-1]) if len(lower) else threshold - 1e-9
    beyond = scores[scores > threshold] - threshold
    shape, best, cautious = _fit(beyond)
    distance = _anderson_darling(beyond, shape, best)
    hits = 0
    for _ in range(_REFITS):
        drawn = _draw(len(beyond), shape, best, rng)
        refitted = _fit(drawn)
        hits += _anderson_darling(drawn, refitted[0], refitted[1]) >= distance - 1e-12
    return Tail(
        threshold=threshold,
        rate=len(beyond) / len(scores),
        shape=shape,
        scale=cautious,
        best_scale=best,
        exceedances=len(beyond),
        fit=(1 + hits) / (1 + _REFITS),
    )


def needed_score(tail: Tail, *, searched: int, level: float = PROOF_LEVEL) -> float:
    """Score that chance exceeds in any of the searched tiles with probability <= `level`.

    Bonferroni over the tiles; never below `MIN_SCORE`.

    Args:
      tail: of the null.
      searched: query tiles that were aligned, at least 1.
      level: family-wise.
    """
    rarity = max(1.0, searched * tail.rate / level)
    if tail.shape < 1e-9:
        beyond = tail.scale * np.log(rarity)
    else:
        beyond = tail.scale * np.expm1(tail.shape * np.log(rarity)) / tail.shape
    return max(MIN_SCORE, tail.threshold + float(beyond))


def proven_copies(
    *,
    inliers: Counts,
    strength: Floats,
    null_inliers: Counts,
    null_strength: Floats,
    null_duplicates: NDArray[np.bool_] | None = None,
    featureless: NDArray[np.bool_] | None = None,
    rng: np.random.Generator,
) -> AuditResult:
    """Synthetic tiles that align with a train tile better than chance allows.

    A tile is proven when its joint score exceeds what chance would show in one search of a
    thousand and its strength reaches 3. Null tiles that align with another patient's tile as copies
    do are set aside first, and counted.

    Args:
      inliers: of each synthetic tile's best alignment with a train tile, 0 where nothing aligned,
        shape (s,).
      strength: photometric strength of that alignment, shape (s,).
      null_inliers, null_strength: the same for real tiles against tiles of *other* patients, best
        per tile, searched the same way, shape (m,).
      null_duplicates: null scores to leave out, because the same tissue is known to stand in the
        data twice, shape (m,); none when None.
      featureless: synthetic tiles with hardly any key points, shape (s,): they can be proven, but
        not cleared, and those not proven are left out of the share. None when None.
      rng: bootstrap of the goodness of fit.

    Returns:
      Share of the searched tiles that are proven copies, with a Clopper-Pearson interval;
      `rejected` is true when there is any. With fewer than 100 null scores, more than 5 % of them
      set aside, a tail the law does not fit (p < .01), or no tile to search, nothing can be proven:
      `rejected` is None and the share is that of tiles above the fixed floors, a count without a
      known error rate. `details["needed_score"]` is the threshold, `details["above_floors"]` the
      tiles that align as copies do, proven or not.

    Raises:
      AuditInputError: no synthetic tiles, shapes that do not match, negative or non-integer counts,
        strengths that are not finite.

    Source: docs/methods.md#proof-by-alignment.
    """
    _check("synthetic", inliers, strength, featureless, "featureless")
    _check("null", null_inliers, null_strength, null_duplicates, "duplicates")
    if len(inliers) == 0:
        raise AuditInputError("a proof of copies needs synthetic tiles: got none.")
    blank = np.zeros(len(inliers), dtype=np.bool_) if featureless is None else featureless
    known = (
        np.zeros(len(null_inliers), dtype=np.bool_) if null_duplicates is None else null_duplicates
    )
    copied = alike(null_inliers, null_strength) & ~known
    null = joint_score(null_inliers, null_strength)[~known & ~copied]
    asked = len(null) + int(copied.sum())
    needed = MIN_SCORE
    details: dict[str, object] = {
        "null_scores": len(null),
        "null_duplicates_removed": int(known.sum()),
        "null_alike": int(copied.sum()),
        "level": PROOF_LEVEL,
    }
    trouble = ""
    if blank.all() and not alike(inliers, strength).any():
        trouble = "every synthetic tile is featureless"
    elif len(null) < MIN_NULL:
        trouble = f"{len(null)} null scores are too few ({MIN_NULL} needed)"
    elif copied.sum() > MOST_ALIKE * asked:
        trouble = (
            f"{copied.sum()} of {asked} real tiles show the tissue of another patient's tile, so "
            "that chance cannot be told: run `data check`, and keep one patient of each pair"
        )
    else:
        tail = fit_tail(null, rng=rng)
        details |= {
            "tail_threshold": tail.threshold,
            "tail_exceedances": tail.exceedances,
            "tail_shape": tail.shape,
            "tail_scale": tail.scale,
            "goodness_of_fit_p": tail.fit,
            "null_largest": float(null.max()),
        }
        if tail.fit < MIN_FIT:
            trouble = f"the null's tail does not fit (p = {tail.fit:.3f}): look for near-duplicates"
        else:
            chance = needed_score(tail, searched=len(inliers))
            needed = max(MIN_SCORE, min(chance, MOST_STRETCH * float(null.max())))
    proven = alike(inliers, strength, needed=needed)
    close = alike(inliers, strength)
    found, n = int(proven.sum()), int((~blank | proven).sum())
    low, high = clopper_pearson(found, n) if n else (0.0, 1.0)
    details |= {
        "searched": n,
        "featureless": int((blank & ~proven).sum()),
        "proven": None if trouble else found,
        "above_floors": int(close.sum()),
        "needed_score": needed,
    }
    return AuditResult(
        name="aligned_copies",
        harm=Harm.COPYING,
        statistic=Estimate(value=found / n if n else 0.0, low=low, high=high, n=n, unit="tile"),
        rejected=None if trouble else found > 0,
        details=details,
        note=f"Only a count, no proof: {trouble}."
        if trouble
        else "Proof by alignment, tile by tile; not a test of the registered family.",
    )


def _check(
    role: str, counts: Counts, strength: Floats, mask: NDArray[np.bool_] | None, mask_name: str
) -> None:
    if counts.ndim != 1 or counts.dtype.kind not in "iu" or (counts < 0).any():
        raise AuditInputError(
            f"{role} inliers must be counts, one per tile, 0 or more: got {counts.dtype} of shape "
            f"{counts.shape}. Give 0 where nothing aligned."
        )
    if strength.shape != counts.shape or (mask is not None and mask.shape != counts.shape):
        raise AuditInputError(
            f"{role} strength and {mask_name} must hold one entry per tile: got {strength.shape} "
            f"and {None if mask is None else mask.shape} for {counts.shape} inliers."
        )
    if not np.isfinite(strength).all():
        raise AuditInputError(
            f"{role} strength must be finite: got NaN or infinity. Give 0 where nothing aligned."
        )


def _survival(beyond: Floats, shape: float | Floats, scale: float | Floats) -> Floats:
    """P(Y > x) of the generalised Pareto law; broadcasts."""
    safe = np.maximum(shape, 1e-9)
    power: Floats = np.exp(-np.log1p(safe * beyond / scale) / safe)
    return power


def _likelihood(beyond: Floats) -> Floats:
    """Log-likelihood of excesses at every (shape, scale) of the grid."""
    shapes, scales = np.maximum(_SHAPES, 1e-9)[:, None, None], _SCALES[None, :, None]
    terms = (1 + 1 / shapes) * np.log1p(shapes * beyond / scales) + np.log(scales)
    total: Floats = -terms.sum(axis=2)
    return total


def _fit(beyond: Floats) -> tuple[float, float, float]:
    """Shape and scale of maximum likelihood, and the scale's upper limit at that shape."""
    likelihood = _likelihood(beyond)
    shape, scale = np.unravel_index(int(likelihood.argmax()), likelihood.shape)
    drop = float(stats.norm.ppf(_SCALE_CONFIDENCE)) ** 2 / 2
    likely = np.flatnonzero(likelihood[shape] >= likelihood[shape, scale] - drop)
    upper = min(int(likely[-1]) + 1, len(_SCALES) - 1)
    return float(_SHAPES[shape]), float(_SCALES[scale]), float(_SCALES[upper])


def _anderson_darling(beyond: Floats, shape: float, scale: float) -> float:
    """Distance of the two distribution functions, most weight in the tails."""
    n = len(beyond)
    above = np.clip(_survival(np.sort(beyond), shape, scale), 1e-12, 1 - 1e-12)
    weights = 2 * np.arange(1, n + 1) - 1
    return float(-n - (weights * (np.log1p(-above) + np.log(above[::-1]))).mean())


def _draw(n: int, shape: float, scale: float, rng: np.random.Generator) -> Floats:
    """Excesses from the law."""
    safe = max(shape, 1e-9)
    drawn: Floats = scale * np.expm1(-safe * np.log(1.0 - rng.random(n))) / safe
    return drawn

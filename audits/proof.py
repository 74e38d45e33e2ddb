"""Proof of a copy: an alignment too good to be chance, tile by tile.

With a few hundred tiles, counting against the holdout cannot see three copies. Aligning can: chance
alignments of tiles of different patients share a handful of key points, a copy shares dozens. How
many are too many for chance is learned from a null of real tiles against tiles of *other* patients.

The null's tail is extrapolated by peaks over a threshold: counts above it follow a generalised
Pareto law, here in its discrete form, since counts are whole numbers. Chance counts add up many
rare coincidences and their tail is no heavier than exponential, so the shape is kept at 0 or above,
where the law has no end point; the scale enters at its upper confidence limit.

Conventions: higher counts and agreements = more likely a copy; "exceed" means strictly above.

Sources: Pickands 1975 (peaks over threshold); Choulakian, Lockhart & Stephens 1994
(Anderson-Darling for counts); METHODS.md 1.8.
"""

from bisect import bisect_left
from dataclasses import dataclass
from typing import Any

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

MIN_INLIERS = 10
"""Fewest inliers that are ever called proof, whatever the null says."""

MIN_AGREEMENT = 0.3
"""Smallest photometric agreement that is ever called proof."""

AGREEMENT_QUANTILE = 0.99
"""Quantile of the null's agreements that a proof exceeds as well."""

MIN_NULL = 100
"""Fewest null scores a threshold is drawn from; below it there is no proof, only a count."""

MIN_FIT = 0.01
"""Smallest goodness of fit, a p-value, at which the tail is believed."""

_TAIL_SHARE = 0.1
_MIN_EXCEEDANCES = 30
_SCALE_CONFIDENCE = 0.95
_REFITS = 199
_SHAPES: Floats = np.linspace(0.0, 1.0, 51)
_SCALES: Floats = np.geomspace(0.05, 200.0, 400)


def alike(
    inliers: Counts,
    agreement: Floats,
    *,
    needed: int = MIN_INLIERS,
    needed_agreement: float = MIN_AGREEMENT,
) -> NDArray[np.bool_]:
    """Alignments with enough inliers whose tissue agrees; by default above the fixed floors.

    Args:
      inliers, agreement: shapes (n,).
      needed: fewest inliers.
      needed_agreement: agreement to be exceeded.
    """
    return (inliers >= needed) & (agreement > needed_agreement)


@dataclass(frozen=True, kw_only=True)
class Tail:
    """The upper tail of a law of counts: P(X > u + k) = rate * (1 + shape k / scale)^(-1 / shape).

    Attributes:
      threshold: u; counts above it are the tail.
      rate: P(X > u), the share of null scores above u.
      shape: of the generalised Pareto law, 0 (exponential) to 1; maximum likelihood.
      scale: upper 95 % limit at that shape (profile likelihood), counts.
      best_scale: maximum likelihood.
      exceedances: null scores above u.
      fit: p-value of the goodness of fit; small = the law does not describe the tail.
    """

    threshold: int
    rate: float
    shape: float
    scale: float
    best_scale: float
    exceedances: int
    fit: float

    def exceedance(self, count: int) -> float:
        """P(X > count) for a count at or above the threshold, with the cautious scale."""
        beyond = np.array([count - self.threshold], dtype=np.float64)
        return self.rate * float(_survival(beyond, self.shape, self.scale)[0])


def fit_tail(counts: Counts, *, rng: np.random.Generator) -> Tail:
    """Fit the tail of a null's counts.

    The threshold u is the largest that leaves at least a tenth of the scores, and 30, above it.

    Args:
      counts: scores of null tiles, shape (m,), m >= 30.
      rng: parametric bootstrap of the goodness of fit.

    Raises:
      AuditInputError: fewer than 30 scores.

    Source: METHODS.md 1.8.
    """
    if len(counts) < _MIN_EXCEEDANCES:
        raise AuditInputError(
            f"a tail is fitted to at least {_MIN_EXCEEDANCES} null scores: got {len(counts)}. Give "
            "more real tiles."
        )
    wanted = max(_MIN_EXCEEDANCES, int(np.ceil(_TAIL_SHARE * len(counts))))
    threshold = int(np.sort(counts)[-wanted]) - 1
    beyond = counts[counts > threshold] - threshold
    shape, best, cautious = _fit(beyond)
    distance = _anderson_darling(beyond, shape, best)
    hits = 0
    for _ in range(_REFITS):
        drawn = _draw(len(beyond), shape, best, rng)
        refitted = _fit(drawn)
        hits += _anderson_darling(drawn, refitted[0], refitted[1]) >= distance - 1e-12
    return Tail(
        threshold=threshold,
        rate=len(beyond) / len(counts),
        shape=shape,
        scale=cautious,
        best_scale=best,
        exceedances=len(beyond),
        fit=(1 + hits) / (1 + _REFITS),
    )


def needed_inliers(tail: Tail, *, searched: int, level: float = PROOF_LEVEL) -> int:
    """Smallest count that chance reaches in any of the searched tiles with probability <= `level`.

    Bonferroni over the tiles; never below `MIN_INLIERS`.

    Args:
      tail: of the null.
      searched: query tiles that were aligned, at least 1.
      level: family-wise.
    """
    least = max(MIN_INLIERS, tail.threshold + 1)
    highest = least
    while searched * tail.exceedance(highest - 1) > level:
        highest = 2 * highest
    counts = range(least, highest + 1)
    # The chance falls with the count, so the first that is rare enough is found by halving.
    return counts[
        bisect_left(counts, True, key=lambda c: searched * tail.exceedance(c - 1) <= level)
    ]


def proven_copies(
    *,
    inliers: Counts,
    agreement: Floats,
    null_inliers: Counts,
    null_agreement: Floats,
    null_duplicates: NDArray[np.bool_] | None = None,
    featureless: NDArray[np.bool_] | None = None,
    rng: np.random.Generator,
) -> AuditResult:
    """Synthetic tiles that align with a train tile better than chance allows.

    A tile is proven when its inliers reach what chance would show in one search of a thousand, and
    are more than any null score, *and* its agreement exceeds that of 99 % of the null and .3.

    Args:
      inliers: of each synthetic tile's best alignment with a train tile, 0 where nothing aligned,
        shape (s,).
      agreement: photometric agreement of that alignment, -1 to 1, shape (s,).
      null_inliers, null_agreement: the same for real tiles against tiles of *other* patients, best
        per tile, searched the same way, shape (m,). Near-duplicates left in raise the threshold, so
        they cost power and never a false proof.
      null_duplicates: null scores to leave out, because the same tissue stands in the data twice,
        shape (m,); none when None.
      featureless: synthetic tiles without key points, neither proven nor cleared, shape (s,); left
        out of the share. None when None.
      rng: bootstrap of the goodness of fit.

    Returns:
      Share of the searched tiles that are proven copies, with a Clopper-Pearson interval;
      `rejected` is true when there is any. With fewer than 100 null scores, a tail the law does
      not fit (p < .01), or no tile to search, nothing can be proven: `rejected` is None and the
      share is that of tiles above the fixed floors, a count without a known error rate.

    Raises:
      AuditInputError: no synthetic tiles, shapes that do not match, negative or non-integer counts,
        agreements outside -1 to 1 or not finite.

    Source: METHODS.md 1.8.
    """
    _check("synthetic", inliers, agreement, featureless, "featureless")
    _check("null", null_inliers, null_agreement, null_duplicates, "duplicates")
    if len(inliers) == 0:
        raise AuditInputError("a proof of copies needs synthetic tiles: got none.")
    blank = np.zeros(len(inliers), dtype=np.bool_) if featureless is None else featureless
    twice = (
        np.zeros(len(null_inliers), dtype=np.bool_) if null_duplicates is None else null_duplicates
    )
    counts, agrees = inliers[~blank], agreement[~blank]
    null, null_agrees = null_inliers[~twice], null_agreement[~twice]
    needed, needed_agreement = MIN_INLIERS, MIN_AGREEMENT
    details: dict[str, object] = {
        "searched": len(counts),
        "featureless": int(blank.sum()),
        "null_scores": len(null),
        "null_duplicates_removed": int(twice.sum()),
        "level": PROOF_LEVEL,
    }
    trouble = "every synthetic tile is featureless" if len(counts) == 0 else ""
    if len(null) < MIN_NULL:
        trouble = f"{len(null)} null scores are too few ({MIN_NULL} needed)"
    elif not trouble:
        tail = fit_tail(null, rng=rng)
        details |= {
            "tail_threshold": tail.threshold,
            "tail_exceedances": tail.exceedances,
            "tail_shape": tail.shape,
            "tail_scale": tail.scale,
            "goodness_of_fit_p": tail.fit,
        }
        if tail.fit < MIN_FIT:
            trouble = f"the null's tail does not fit (p = {tail.fit:.3f}): look for near-duplicates"
        else:
            chance = needed_inliers(tail, searched=len(counts))
            needed = max(chance, int(null.max()) + 1)
            beyond = float(np.quantile(null_agrees, AGREEMENT_QUANTILE, method="higher"))
            needed_agreement = max(MIN_AGREEMENT, beyond)
    proven = alike(counts, agrees, needed=needed, needed_agreement=needed_agreement)
    found, n = int(proven.sum()), len(counts)
    low, high = clopper_pearson(found, n) if n else (0.0, 1.0)
    details |= {
        "proven": None if trouble else found,
        "above_floors": int(alike(counts, agrees).sum()),
        "needed_inliers": needed,
        "needed_agreement": needed_agreement,
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
    role: str, counts: Counts, agreement: Floats, mask: NDArray[np.bool_] | None, mask_name: str
) -> None:
    if counts.ndim != 1 or counts.dtype.kind not in "iu" or (counts < 0).any():
        raise AuditInputError(
            f"{role} inliers must be counts, one a tile, 0 or more: got {counts.dtype} of shape "
            f"{counts.shape}. Give 0 where nothing aligned."
        )
    if agreement.shape != counts.shape or (mask is not None and mask.shape != counts.shape):
        raise AuditInputError(
            f"{role} agreement and {mask_name} must hold one entry a tile: got {agreement.shape} "
            f"and {None if mask is None else mask.shape} for {counts.shape} inliers."
        )
    if not (np.abs(agreement) <= 1 + 1e-6).all():
        raise AuditInputError(
            f"{role} agreement must lie in -1 to 1: got a value outside or NaN. Give 0 where "
            "nothing aligned."
        )


def _survival(
    beyond: NDArray[np.floating[Any]], shape: float | Floats, scale: float | Floats
) -> Floats:
    """P(Y > k) of the generalised Pareto law; broadcasts."""
    safe = np.maximum(shape, 1e-9)
    power: Floats = np.exp(-np.log1p(safe * beyond / scale) / safe)
    return power


def _likelihood(beyond: Counts) -> Floats:
    """Log-likelihood of counts 1, 2, ... at every (shape, scale) of the grid."""
    values, times = np.unique(beyond, return_counts=True)
    shapes, scales = _SHAPES[:, None, None], _SCALES[None, :, None]
    above, at = _survival(values - 1.0, shapes, scales), _survival(values * 1.0, shapes, scales)
    mass = above - at
    total: Floats = np.log(np.maximum(mass, 1e-300)) @ times.astype(np.float64)
    return total


def _fit(beyond: Counts) -> tuple[float, float, float]:
    """Shape and scale of maximum likelihood, and the scale's upper limit at that shape."""
    likelihood = _likelihood(beyond)
    shape, scale = np.unravel_index(int(likelihood.argmax()), likelihood.shape)
    drop = float(stats.norm.ppf(_SCALE_CONFIDENCE)) ** 2 / 2
    likely = np.flatnonzero(likelihood[shape] >= likelihood[shape, scale] - drop)
    upper = min(int(likely[-1]) + 1, len(_SCALES) - 1)
    return float(_SHAPES[shape]), float(_SCALES[scale]), float(_SCALES[upper])


def _anderson_darling(beyond: Counts, shape: float, scale: float) -> float:
    """Squared differences of the two distribution functions, most weight in the tails."""
    steps = np.arange(1, int(beyond.max()) + 1)
    above = _survival(steps * 1.0, shape, scale)
    mass = _survival(steps - 1.0, shape, scale) - above
    observed = np.cumsum(np.bincount(beyond, minlength=len(steps) + 1)[1:]) / len(beyond)
    spread = np.maximum(above * (1 - above), 1e-12)
    return float(len(beyond) * ((observed - (1 - above)) ** 2 * mass / spread).sum())


def _draw(n: int, shape: float, scale: float, rng: np.random.Generator) -> Counts:
    """Counts 1, 2, ... from the discrete law."""
    uniform = 1.0 - rng.random(n)
    safe = max(shape, 1e-9)
    beyond = scale * np.expm1(-safe * np.log(uniform)) / safe
    return np.maximum(1, np.ceil(np.minimum(beyond, 1e4))).astype(np.intp)

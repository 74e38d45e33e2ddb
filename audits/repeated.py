"""Repeated training: what being in training does to a patient's score, by the auditor's own coins.

Every patient is in some of the runs and out of the others, and is compared with herself. What makes
patients differ from each other, or runs from each other, cancels; the p-value comes from tossing
the design's coins again and is exact whatever the scores are.

The test adds up what in-runs score more than out-runs: where a few patients are given away much and
others not at all, sums see more than ranks. The interval inverts that test under a stated model:
being in training adds the same amount to every score of every patient. Both are told on the scale
of the within-patient AUROC: how often a patient's score under a run that had her is above her score
under a run that had not.

Conventions: scores have shape (K, P), runs by patients, higher = more likely a member; strata are
class groups of patients, numbered from 0.
Source: docs/methods.md#repeated-training.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from audits.coins import Coins, Included
from audits.errors import AuditInputError
from audits.inputs import Floats

Indices = NDArray[np.intp]

RETOSSES = 9_999

CONFIDENCE = 0.95
"""Of two-sided intervals, and of the one-sided bound that a verdict rests on."""

SMALLEST_STRATUM = 4
"""Class groups with fewer patients share their run means with others."""

_MOST_CELLS = 2**27
_STEPS = 20
_ROUNDING = 1e-6


@dataclass(frozen=True, kw_only=True, eq=False)
class Retossed:
    """How the coins could have fallen, for some or all of the patients.

    Attributes:
      included: shape (draws, K, P).
      exact: whether these are all arrangements there are, the one that fell among them.
    """

    included: Included
    exact: bool

    @classmethod
    def of(cls, coins: Coins, rng: np.random.Generator, *, draws: int = RETOSSES) -> "Retossed":
        """All arrangements where they are no more than `draws`, else so many at random.

        Args:
          coins: that fell.
          rng: of the random ones.
          draws: how many; fewer, but at least 999, where runs and patients are very many.
        """
        every = coins.design.arrangements(draws)
        if every is not None:
            return cls(included=every, exact=True)
        most = max(999, _MOST_CELLS // coins.included.size)
        return cls(included=coins.design.retoss(min(draws, most), rng), exact=False)

    def of_patients(self, chosen: Indices | NDArray[np.bool_]) -> "Retossed":
        """The same for these patients alone."""
        if np.all(chosen) and np.asarray(chosen).dtype == np.bool_:
            return self
        return Retossed(included=self.included[:, :, chosen], exact=self.exact)

    @cached_property
    def _flat(self) -> NDArray[np.float32]:
        return self.included.reshape(len(self.included), -1).astype(np.float32)

    @cached_property
    def _sizes(self) -> tuple[Floats, Floats]:
        """Of each draw: by what its rank sum exceeds the pairs won, and how many pairs it has."""
        inside = self.included.sum(axis=1, dtype=np.int64)
        runs = self.included.shape[1]
        least = (inside * (inside + 1) // 2).sum(axis=1)
        pairs = (inside * (runs - inside)).sum(axis=1)
        return least.astype(np.float64), pairs.astype(np.float64)

    def aurocs(self, ranks: Floats) -> Floats:
        """Within-patient AUROC of every arrangement, shape (draws,); .5 where nobody has a pair."""
        least, pairs = self._sizes
        sums = self._flat @ ranks.ravel().astype(np.float32)
        # Ranks are halves of whole numbers: their sums are exact in float32 up to 2^23.
        won = sums.astype(np.float64) - least
        shares: Floats = np.divide(won, pairs, out=np.full(len(won), 0.5), where=pairs > 0)
        return shares

    def sums(self, residuals: Floats) -> Floats:
        """What in-runs score more than out-runs under every arrangement, added up, (draws,)."""
        found: Floats = (self._flat @ residuals.ravel().astype(np.float32)).astype(np.float64)
        return found

    def p_values(self, residuals: Floats, included: Included) -> tuple[float, float]:
        """One-sided p of "no lower" and of "no higher" than what the coins that fell give.

        Args:
          residuals: as `centred` gives them, shape (K, P).
          included: the coins that fell.
        """
        drawn, observed = self.sums(residuals), excess(residuals, included)
        rounding = _ROUNDING * float(np.abs(residuals).sum())
        above = int((drawn >= observed - rounding).sum())
        below = int((drawn <= observed + rounding).sum())
        if self.exact:
            return above / len(drawn), below / len(drawn)
        return (above + 1) / (len(drawn) + 1), (below + 1) / (len(drawn) + 1)

    def p_of(self, scores: Floats, included: Included, strata: Indices) -> float:
        """One-sided p of "in-runs score higher", of scores of shape (K, P)."""
        return self.p_values(centred(scores, strata), included)[0]

    @property
    def smallest_p(self) -> float:
        """The smallest p that any scores could give."""
        return 1 / len(self.included) if self.exact else 1 / (len(self.included) + 1)


def centred(scores: Floats, strata: Indices) -> Floats:
    """Scores without patient and run effects, shape (K, P).

    Of each patient her mean over the runs is taken away, then of each run its mean over the
    patients of the same class group. The coins are not looked at, so that re-tossing them stays
    exact.

    Args:
      scores: shape (K, P).
      strata: shape (P,).
    """
    own = scores - scores.mean(axis=0)
    groups = joined_strata(strata)
    rest: Floats = np.empty_like(own)
    for group in range(int(groups.max()) + 1):
        inside = groups == group
        rest[:, inside] = own[:, inside] - own[:, inside].mean(axis=1, keepdims=True)
    return rest


def joined_strata(strata: Indices) -> Indices:
    """Class groups numbered anew, those of fewer than 4 patients joined; one where that is not
    enough."""
    sizes = np.bincount(strata)
    large = np.flatnonzero(sizes >= SMALLEST_STRATUM)
    if len(large) < 2 or 0 < sizes[sizes < SMALLEST_STRATUM].sum() < SMALLEST_STRATUM:
        large = large[:0]
    place = np.full(len(sizes), len(large))
    place[large] = np.arange(len(large))
    return np.asarray(np.unique(place[strata], return_inverse=True)[1], dtype=np.intp)


def excess(residuals: Floats, included: Included) -> float:
    """The statistic of the test: residuals of all in-runs, added up.

    A patient's residuals add up to 0, so it is what her in-runs score more than her out-runs.
    """
    return float(residuals[included].sum())


def ranked(residuals: Floats) -> Floats:
    """Rank of each run among all runs of the same patient, ties shared, shape (K, P)."""
    ranks: Floats = stats.rankdata(residuals, axis=0)
    return ranks


def within_patient_auroc(ranks: Floats, included: Included) -> float:
    """Share of pairs of an in-run and an out-run of one patient in which the in-run is higher.

    Args:
      ranks: of the runs within each patient, shape (K, P).
      included: shape (K, P).
    """
    inside = included.sum(axis=0, dtype=np.int64)
    pairs = int((inside * (len(included) - inside)).sum())
    if not pairs:
        return 0.5
    won = float(ranks[included].sum()) - float((inside * (inside + 1) / 2).sum())
    return won / pairs


@dataclass(frozen=True, kw_only=True, eq=False)
class Effect:
    """What being in training does to the scores of an attack.

    Attributes:
      auroc: within patient.
      low, high: two-sided 95 % interval.
      upper: one-sided 95 % upper bound, on which a verdict rests.
      p_value: one-sided, of "no effect at all".
      null_mean, null_sd: of the AUROC over re-tossed coins: the negative control and its spread.
      smallest_p: that any scores could have given.
      patients, runs: P and K.
      observed: statistic of the test, see `excess`.
      drawn: the same of every re-tossed design, shape (draws,).
    """

    auroc: float
    low: float
    high: float
    upper: float
    p_value: float
    null_mean: float
    null_sd: float
    smallest_p: float
    patients: int
    runs: int
    observed: float
    drawn: Floats


def effect(scores: Floats, included: Included, strata: Indices, retossed: Retossed) -> Effect:
    """Test and interval of one attack's scores.

    Args:
      scores: finite, shape (K, P).
      included: the coins that fell, shape (K, P).
      strata: shape (P,).
      retossed: of the same patients.

    Raises:
      AuditInputError: wrong shapes, or a score that is no finite number.

    Source: docs/methods.md#repeated-training.
    """
    _check(scores, included, strata)
    residuals = centred(scores, strata)
    ranks = ranked(residuals)
    under_nothing = retossed.aurocs(ranks)
    outer, inner = (1 - CONFIDENCE) / 2, 1 - CONFIDENCE

    def limit(level: float, *, upper: bool) -> float:
        return _limit(scores, included, strata, retossed, level, upper=upper)

    value = within_patient_auroc(ranks, included)
    high = limit(outer, upper=True)
    return Effect(
        auroc=value,
        low=min(value, limit(outer, upper=False)),
        high=max(value, high),
        upper=max(value, min(high, limit(inner, upper=True))),
        p_value=retossed.p_values(residuals, included)[0],
        null_mean=float(under_nothing.mean()),
        null_sd=float(under_nothing.std()),
        smallest_p=retossed.smallest_p,
        patients=included.shape[1],
        runs=included.shape[0],
        observed=excess(residuals, included),
        drawn=retossed.sums(residuals),
    )


def upper_bound(scores: Floats, included: Included, strata: Indices, retossed: Retossed) -> float:
    """`Effect.upper` alone, for simulations."""
    limit = _limit(scores, included, strata, retossed, 1 - CONFIDENCE, upper=True)
    return max(within_patient_auroc(ranked(centred(scores, strata)), included), limit)


def _check(scores: Floats, included: Included, strata: Indices) -> None:
    if scores.ndim != 2 or scores.shape != included.shape or len(strata) != scores.shape[1]:
        raise AuditInputError(
            "scores, coins and class groups must be of the same runs and patients: got shapes "
            f"{scores.shape}, {included.shape} and {np.shape(strata)}."
        )
    if not np.isfinite(scores).all():
        raise AuditInputError("scores must be finite numbers: got NaN or infinity.")


def _limit(
    scores: Floats,
    included: Included,
    strata: Indices,
    retossed: Retossed,
    level: float,
    *,
    upper: bool,
) -> float:
    """AUROC under the first shift that a one-sided test at `level` refuses, by bisection."""
    spread = float(np.abs(centred(scores, strata)).max())
    if spread == 0:  # nothing was measured, so nothing is excluded
        return 1.0 if upper else 0.0
    side = 1 if upper else -1
    kept, refused = -2.0 * side * spread, 4.0 * side * spread
    for _ in range(_STEPS):
        middle = (kept + refused) / 2
        residuals = centred(scores - middle * included, strata)
        p = retossed.p_values(residuals, included)[1 if upper else 0]
        kept, refused = (middle, refused) if p > level else (kept, middle)
    return _auroc_under(refused, scores, included, strata)


def _auroc_under(shift: float, scores: Floats, included: Included, strata: Indices) -> float:
    """Within-patient AUROC where being in training adds `shift`, over all pairs of runs."""
    residuals = centred(scores - shift * included, strata)
    groups = joined_strata(strata)
    # A run's mean over n patients takes 1/n of the shift along, and 1/n of the noise's variance.
    seen = shift * np.sqrt(1 - 1 / np.bincount(groups)[groups])
    below = residuals[:, None, :] + seen > residuals[None, :, :] + 1e-12
    equal = np.abs(residuals[:, None, :] + seen - residuals[None, :, :]) <= 1e-12
    apart = ~np.eye(len(scores), dtype=np.bool_)
    return float((below + 0.5 * equal)[apart].mean())


@dataclass(frozen=True, kw_only=True, eq=False)
class StandingOut:
    """How many patients stand out by themselves; never which.

    Attributes:
      patients: rejected at the family-wise level, so with 95 % confidence at least so many are
        given away.
      p_value: of the patient who stands out most, among all of them.
      largest: difference of that patient.
      drawn: the largest difference under every re-tossed design, shape (draws,).
      smallest_p: that one patient could have at most; above the level nobody could stand out.
    """

    patients: int
    p_value: float
    largest: float
    drawn: Floats
    smallest_p: float


def standing_out(
    scores: Floats,
    included: Included,
    strata: Indices,
    retossed: Retossed,
    *,
    paired: bool,
    level: float = 1 - CONFIDENCE,
) -> StandingOut:
    """Patients whose own in-runs score above their own out-runs, by step-down max-T.

    Args:
      scores, included, strata, retossed: as `effect`.
      paired: whether one coin governs two runs.
      level: family-wise over the patients.

    Source: Westfall & Young 1993; docs/methods.md#repeated-training.
    """
    _check(scores, included, strata)
    residuals = centred(scores, strata)
    observed = _differences(residuals, included[None])[0]
    drawn = _differences(residuals, retossed.included)
    order = np.argsort(-observed)
    # The largest difference among the patients not rejected yet, from the last to the first.
    largest = np.maximum.accumulate(drawn[:, order[::-1]], axis=1)[:, ::-1]
    extra = 0 if retossed.exact else 1
    reached = (largest >= observed[order] - 1e-12).sum(axis=0)
    p_values = (reached + extra) / (len(drawn) + extra)
    count = int(np.argmax(np.append(p_values, 1.0) > level))
    runs = len(included)
    ways = 2.0 ** -(runs // 2) if paired else 2.0**-runs
    return StandingOut(
        patients=count,
        p_value=float(p_values[0]),
        largest=float(observed.max()),
        drawn=largest[:, 0],
        smallest_p=max(ways, retossed.smallest_p),
    )


def _differences(residuals: Floats, included: Included) -> Floats:
    """Mean of a patient's in-runs less that of her out-runs, shape (draws, P); 0 without both."""
    inside = included.sum(axis=1, dtype=np.int64)
    outside = included.shape[1] - inside
    total = np.einsum("dkp,kp->dp", included.astype(np.float32), residuals.astype(np.float32))
    both = (inside > 0) & (outside > 0)
    # Residuals of a patient add up to hardly more than nothing, but not to nothing.
    rest = residuals.sum(axis=0) - total
    mean_in = np.divide(total, inside, out=np.zeros_like(rest), where=both)
    mean_out = np.divide(rest, outside, out=np.zeros_like(rest), where=both)
    difference: Floats = mean_in - mean_out
    return difference

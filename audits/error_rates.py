"""Epsilon from an attack's error rates on canaries that were scored independently of each other.

`epsilon >= max(log((TPR_lo - delta) / FPR_hi), log((TNR_lo - delta) / FNR_hi))` with exact limits
(Clopper-Pearson; Nasr et al. 2021, arXiv:2101.04535). A threshold chosen on the scores it is
measured on makes that false; the strategies here pay for the choice, or choose elsewhere.

Conventions: a canary is called a member when its score is at least the threshold.
Source: docs/methods.md#epsilon-lower-bounds.
"""

from functools import lru_cache
from typing import TypedDict

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from audits.canaries import (
    Bonferroni,
    FixedThreshold,
    MultiSplit,
    Split,
    Threshold,
    Unit,
    check_level,
    check_unit,
    finite_scores,
    first_part,
    lower_bound_result,
    random_part,
)
from audits.errors import AuditInputError
from audits.inputs import Floats
from audits.results import AuditResult


class ErrorCounts(TypedDict):
    """Errors of one threshold, and the bound it would have had without any."""

    threshold: float
    missed: int
    included: int
    false_alarms: int
    excluded: int
    ceiling: float


def rates_lower_bound(
    *,
    missed: ArrayLike,
    included: int,
    false_alarms: ArrayLike,
    excluded: int,
    delta: float = 0.0,
    significance: float = 0.05,
) -> Floats:
    """Epsilon lower bound of one registered decision rule, from its two kinds of error.

    `max(log((TPR_lo - delta) / FPR_hi), log((TNR_lo - delta) / FNR_hi))`, never below 0, with
    Clopper-Pearson limits at half the significance each.

    Args:
      missed: included canaries not called members, 0..included.
      included: included canaries, at least 1.
      false_alarms: excluded canaries called members, 0..excluded; broadcast with `missed`.
      excluded: excluded canaries, at least 1.
      delta: in [0, 1).
      significance: the bound exceeds the true epsilon with at most this probability.

    Raises:
      AuditInputError: a value outside its range.

    Source: Nasr et al. 2021, arXiv:2101.04535; docs/methods.md#epsilon-lower-bounds.
    """
    check_level(delta, significance)
    fn, fp = np.asarray(missed), np.asarray(false_alarms)
    for name, count, total in (("missed", fn, included), ("false_alarms", fp, excluded)):
        if not np.isin(count, np.arange(total + 1)).all() or total == 0:
            raise AuditInputError(
                f"{name} must be whole numbers between 0 and their total of at least 1, {total}: "
                f"got {count}."
            )
    tail = significance / 2
    ratio = _log_ratio(_upper(fn, included, tail), _upper(fp, excluded, tail), delta)
    return np.maximum(0.0, ratio)


def rates_audit(
    *,
    included: ArrayLike,
    excluded: ArrayLike,
    threshold: Threshold,
    unit: Unit,
    delta: float = 0.0,
    significance: float = 0.05,
) -> AuditResult:
    """Epsilon lower bound from independent scores of included and excluded canaries.

    `Bonferroni()` is exact at every threshold at once: with k of n scores beyond the threshold the
    true rate is bounded by an order statistic, whose beta law is that of the Clopper-Pearson limit
    of k in n, so n limits at a level n times finer suffice.

    Args:
      included, excluded: scores, shapes (i,) and (e,); each from a run of its own. `join_scores`
        gives both sides when scores come with ids.
      threshold: how the threshold was, or is to be, chosen.
      unit: what was put in or left out: "patient" or "tile".
      delta: in [0, 1).
      significance: the bound exceeds the true epsilon with at most this probability.

    Returns:
      The bound with threshold, error counts, delta and ceiling in `details`; those of a MultiSplit
      are of its median split.

    Raises:
      AuditInputError: an empty side, a score that is no finite number, or too few to split.

    Source: docs/methods.md#epsilon-lower-bounds.
    """
    check_level(delta, significance)
    check_unit(unit)
    members = np.sort(finite_scores(included, "included scores"))
    others = np.sort(finite_scores(excluded, "excluded scores"))
    half = significance / 2
    match threshold:
        case FixedThreshold():
            bound, counts = _measure(members, others, threshold.value, (half, half), delta)
        case Bonferroni():
            if threshold.thresholds is None:
                candidates, tails = members, (half / len(members), half / len(others))
            else:
                candidates = np.array(threshold.thresholds, dtype=np.float64)
                tails = (half / len(candidates), half / len(candidates))
            cut = _best(members, others, candidates, tails, delta)
            bound, counts = _measure(members, others, cut, tails, delta)
        case Split():
            rng = np.random.default_rng(threshold.seed)
            bound, counts = _split(members, others, threshold.fraction, rng, (half, half), delta)
        case MultiSplit():
            rng = np.random.default_rng(threshold.seed)
            tried = [
                _split(members, others, threshold.fraction, rng, (half / 2, half / 2), delta)
                for _ in range(threshold.splits)
            ]
            bound, counts = sorted(tried, key=lambda one: one[0])[(threshold.splits - 1) // 2]
        case _:
            raise AuditInputError(
                "threshold must be FixedThreshold, Bonferroni, Split or MultiSplit: "
                f"got {threshold!r}."
            )
    return lower_bound_result(
        "epsilon_rates",
        bound,
        len(members) + len(others),
        unit,
        significance,
        note="Holds only if canaries were scored independently, as in runs of their own.",
        details={
            **counts,
            "delta": delta,
            "strategy": type(threshold).__name__,
        },
    )


def _log_ratio(fnr_high: Floats, fpr_high: Floats, delta: float) -> Floats:
    """The larger of both log ratios, from upper limits of the two error rates; may be negative."""
    with np.errstate(divide="ignore"):
        ratio: Floats = np.maximum(
            np.log(np.maximum(1 - fnr_high - delta, 0)) - np.log(fpr_high),
            np.log(np.maximum(1 - fpr_high - delta, 0)) - np.log(fnr_high),
        )
    return ratio


def _upper(count: ArrayLike, n: int, tail: float) -> Floats:
    """Clopper-Pearson upper limits of `count` successes in `n`, each missed with chance `tail`."""
    hits = np.asarray(count)
    inner = np.minimum(hits, n - 1)
    limits: Floats = special.betaincinv(inner + 1.0, n - inner, 1 - tail)
    return np.where(hits == n, 1.0, limits)


@lru_cache(maxsize=16)
def _limits(n: int, tail: float) -> Floats:
    table = _upper(np.arange(n + 1), n, tail)
    table.setflags(write=False)
    return table


def _best(
    members: Floats, others: Floats, candidates: Floats, tails: tuple[float, float], delta: float
) -> float:
    """The candidate threshold with the largest bound on these sorted scores."""
    fnr = _limits(len(members), tails[0])[np.searchsorted(members, candidates)]
    fpr = _limits(len(others), tails[1])[len(others) - np.searchsorted(others, candidates)]
    return float(candidates[np.argmax(_log_ratio(fnr, fpr, delta))])


def _measure(
    members: Floats, others: Floats, threshold: float, tails: tuple[float, float], delta: float
) -> tuple[float, ErrorCounts]:
    """The bound of one threshold on sorted scores, with the counts and the ceiling behind it."""
    n, k = len(members), len(others)
    missed = int(np.searchsorted(members, threshold))
    false_alarms = k - int(np.searchsorted(others, threshold))
    ceiling, bound = (
        max(0.0, float(_log_ratio(_upper(a, n, tails[0]), _upper(b, k, tails[1]), delta)))
        for a, b in ((0, 0), (missed, false_alarms))
    )
    return bound, {
        "threshold": threshold,
        "missed": missed,
        "included": n,
        "false_alarms": false_alarms,
        "excluded": k,
        "ceiling": ceiling,
    }


def _split(
    members: Floats,
    others: Floats,
    fraction: float,
    rng: np.random.Generator,
    tails: tuple[float, float],
    delta: float,
) -> tuple[float, ErrorCounts]:
    """Choose the threshold on a random part, half way down to the next lower score; measure."""
    ours = random_part(
        len(members), first_part(len(members), fraction, 1, "included canaries"), rng
    )
    theirs = random_part(
        len(others), first_part(len(others), fraction, 1, "excluded canaries"), rng
    )
    best = _best(members[ours], others[theirs], members[ours], tails, delta)
    seen = np.sort(np.concatenate([members[ours], others[theirs]]))
    below = seen[max(int(np.searchsorted(seen, best)) - 1, 0)]
    return _measure(members[~ours], others[~theirs], float(best / 2 + below / 2), tails, delta)

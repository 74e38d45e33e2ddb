"""Epsilon from below: what an attack on canaries proves about the differential privacy of training.

The door to both bounds. *One run*, here: many canaries, each in training by its own fair coin,
guessed from one trained model (Steinke, Nasr & Jagielski 2023, arXiv:2305.08846). *Rates*, in
`audits.error_rates`: true and false positive rates of canaries scored independently.

Conventions: higher score = more likely a member; a lower bound of 0 certifies nothing; epsilon is
in nats and belongs to the `unit` that a coin put in or left out, never to anything larger.
Source: docs/methods.md#epsilon-lower-bounds.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from audits.canaries import (
    Bonferroni,
    Counts,
    FixedThreshold,
    GuessCounts,
    Guesses,
    MultiSplit,
    ScoredCanaries,
    Split,
    Threshold,
    Unit,
    check_coins,
    check_level,
    check_unit,
    correct_guesses,
    first_part,
    guess_ladder,
    guess_orders,
    join_scores,
    lower_bound_result,
    random_part,
)
from audits.error_rates import rates_audit, rates_lower_bound
from audits.errors import AuditInputError
from audits.inputs import Floats
from audits.results import AuditResult

__all__ = [
    "Bonferroni",
    "FixedThreshold",
    "GuessCounts",
    "Guesses",
    "MultiSplit",
    "ScoredCanaries",
    "Split",
    "Threshold",
    "Unit",
    "join_scores",
    "one_run_audit",
    "one_run_ceiling",
    "one_run_lower_bound",
    "one_run_p",
    "rates_audit",
    "rates_lower_bound",
]

_HALVINGS = 36


def one_run_p(
    epsilon: ArrayLike,
    *,
    canaries: int,
    guesses: ArrayLike,
    correct: ArrayLike,
    delta: float = 0.0,
) -> Floats:
    """P-value of "training is (epsilon, delta)-DP" after `correct` of `guesses` came true.

    `min(1, beta + 2 m delta alpha)` with q = 1 / (1 + exp(-epsilon)), beta = P[Bin(r, q) >= v]
    and alpha = max over i of P[v > Bin(r, q) >= v - i] / i. Rises with epsilon.

    Args:
      epsilon: 0 or more; broadcast with `guesses` and `correct`.
      canaries: m, each in training by its own fair coin.
      guesses: r, between 1 and m, fixed before the scores were seen.
      correct: v, between 0 and r.
      delta: in [0, 1).

    Raises:
      AuditInputError: a value outside its range.

    Source: Steinke, Nasr & Jagielski 2023, theorem 5.2; docs/methods.md#epsilon-lower-bounds.
    """
    check_level(delta, significance=0.05)
    eps = np.asarray(epsilon, dtype=np.float64)
    if not np.isfinite(eps).all() or (eps < 0).any():
        raise AuditInputError(f"epsilon must be finite and 0 or more: got {eps}.")
    r, v = _guess_counts(canaries, guesses, correct)
    return _one_run_p(eps, r, v, 2 * canaries * delta)


def one_run_lower_bound(
    *,
    canaries: int,
    guesses: ArrayLike,
    correct: ArrayLike,
    delta: float = 0.0,
    significance: float = 0.05,
) -> Floats:
    """Largest epsilon that `one_run_p` still refutes, exact to 1e-9; 0 when it refutes none.

    Args:
      canaries, guesses, correct, delta: as in `one_run_p`.
      significance: the bound exceeds the true epsilon with at most this probability.

    Raises:
      AuditInputError: a value outside its range.

    Source: docs/methods.md#epsilon-lower-bounds.
    """
    check_level(delta, significance)
    r, v = _guess_counts(canaries, guesses, correct)
    highest = _pure_bound(r, v, significance)
    if delta == 0:
        return highest
    low, step = np.zeros_like(highest), highest / 2
    for _ in range(_HALVINGS):
        p = _one_run_p(low + step, r, v, 2 * canaries * delta)
        low, step = low + step * np.heaviside(significance - p, 0.0), step / 2
    return low


def one_run_ceiling(
    canaries: int,
    *,
    guesses: int | None = None,
    delta: float = 0.0,
    significance: float = 0.05,
) -> float:
    """The bound if every guess were correct: no attack on these canaries can certify more.

    Args:
      canaries: m.
      guesses: r; all canaries when None.
      delta, significance: as in `one_run_lower_bound`.

    Raises:
      AuditInputError: a value outside its range.
    """
    made = canaries if guesses is None else guesses
    return float(
        one_run_lower_bound(
            canaries=canaries, guesses=made, correct=made, delta=delta, significance=significance
        )
    )


def one_run_audit(
    *,
    canary_ids: ArrayLike,
    included: ArrayLike,
    score_ids: ArrayLike,
    scores: ArrayLike,
    guesses: Guesses,
    unit: Unit,
    delta: float = 0.0,
    significance: float = 0.05,
) -> AuditResult:
    """Epsilon lower bound from one trained model whose canaries each had their own fair coin.

    Ties are broken against the auditor. `MultiSplit` chooses the guess counts from `GUESS_LADDER`
    on one part of the canaries and measures on the rest; with delta > 0 its p-value is
    beta + 2 m delta (alpha replaced by its limit 1), because which count is chosen may depend on
    the very event of probability delta. Registered `GuessCounts` are nearly always stronger.

    Args:
      canary_ids, included, score_ids, scores: as in `join_scores`.
      guesses: `GuessCounts` registered beforehand, or `MultiSplit`.
      unit: what one coin put in or left out: "patient" or "tile".
      delta: in [0, 1).
      significance: the bound exceeds the true epsilon with at most this probability.

    Returns:
      The bound with its counts, delta, and ceiling in `details`; the counts of a MultiSplit are
      those of its median split.

    Raises:
      AuditInputError: ids that do not join, more guesses than canaries, too few canaries to split,
        or inclusion so uneven that no fair coins can have made it.

    Source: docs/methods.md#epsilon-lower-bounds.
    """
    check_level(delta, significance)
    check_unit(unit)
    joined = join_scores(
        canary_ids=canary_ids, included=included, score_ids=score_ids, scores=scores
    )
    flags = joined.included
    check_coins(flags)
    m, inside = len(flags), int(flags.sum())
    high, low = guess_orders(joined)
    match guesses:
        case GuessCounts():
            plan, measured, made = guesses, m, guesses.guessed_in + guesses.guessed_out
            if made > m:
                raise AuditInputError(
                    f"no canary can be guessed twice: {made} guesses were registered for {m} "
                    "canaries."
                )
            correct = int(correct_guesses(flags[high], flags[low], [plan])[0])
            outcomes = np.array([correct, made])
            bound, ceiling = one_run_lower_bound(
                canaries=m, guesses=made, correct=outcomes, delta=delta, significance=significance
            ).tolist()
        case MultiSplit():
            bound, ceiling, plan, correct, measured = _split_guesses(
                flags, high, low, guesses, delta, significance
            )
        case _:
            raise AuditInputError(f"guesses must be GuessCounts or MultiSplit: got {guesses!r}.")
    return lower_bound_result(
        "epsilon_one_run",
        bound,
        m,
        unit,
        significance,
        note="Holds only if every canary had its own fair coin; a split of fixed size is not that.",
        details={
            "canaries": m,
            "included": inside,
            "measured": measured,
            "guesses": plan.guessed_in + plan.guessed_out,
            "guessed_in": plan.guessed_in,
            "guessed_out": plan.guessed_out,
            "correct": correct,
            "delta": delta,
            "ceiling": ceiling,
            "strategy": type(guesses).__name__,
        },
    )


def _tail(at_least: Counts, guesses: Counts, epsilon: Floats) -> Floats:
    """P[Bin(guesses, 1 / (1 + exp(-epsilon))) >= at_least]."""
    k = np.maximum(at_least, 1)
    upper: Floats = special.betaincc(guesses - k + 1.0, k, special.expit(-epsilon))
    return np.where(at_least > 0, upper, 1.0)


def _alpha(guesses: Counts, correct: Counts, epsilon: Floats) -> Floats:
    """Largest mean of the binomial probabilities of i consecutive counts, `correct` - 1 downwards.

    The probabilities rise to one mode and fall, so a longer window is better up to one best length,
    which is found by bisection: the largest i whose mean is no less than that of i - 1.
    """
    beta = _tail(correct, guesses, epsilon)
    most = np.maximum(correct, 1)
    length = np.ones(np.broadcast_shapes(beta.shape, most.shape), dtype=np.int64)
    for bit in reversed(range(int(most.max()).bit_length())):
        longer = np.minimum(length + 2**bit, most)
        whole = _tail(correct - longer, guesses, epsilon) - beta
        shorter = _tail(correct - longer + 1, guesses, epsilon) - beta
        gain = (longer - 1) * whole - longer * shorter
        length = np.where(gain >= 0, longer, length)
    return (_tail(correct - length, guesses, epsilon) - beta) / length


def _one_run_p(epsilon: Floats, guesses: Counts, correct: Counts, budget: float) -> Floats:
    beta = _tail(correct, guesses, epsilon)
    if budget == 0:
        return beta
    return np.minimum(1.0, beta + budget * _alpha(guesses, correct, epsilon))


def _pure_bound(guesses: Counts, correct: Counts, significance: float) -> Floats:
    """Largest epsilon with P[Bin >= correct] below the significance, 0 when there is none."""
    v = np.maximum(correct, 1)
    wrong = special.betainccinv(guesses - v + 1.0, v, significance)
    with np.errstate(divide="ignore"):
        bound: Floats = np.maximum(0.0, np.log1p(-wrong) - np.log(wrong))
    return bound


def _split_guesses(
    flags: NDArray[np.bool_],
    high: NDArray[np.intp],
    low: NDArray[np.intp],
    split: MultiSplit,
    delta: float,
    significance: float,
) -> tuple[float, float, GuessCounts, int, int]:
    """(bound, ceiling, plan, correct guesses, canaries measured) of the median split."""
    first = first_part(len(flags), split.fraction, 2, "canaries")
    rest = len(flags) - first
    trials, plans = guess_ladder(first), guess_ladder(rest)
    tried, made = (
        np.array([plan.guessed_in + plan.guessed_out for plan in ladder])
        for ladder in (trials, plans)
    )
    rng = np.random.default_rng(split.seed)
    seen, measured = [], []
    for _ in range(split.splits):
        part = random_part(len(flags), first, rng)
        by_high, by_low = part[high], part[low]
        seen.append(correct_guesses(flags[high][by_high], flags[low][by_low], trials))
        measured.append(correct_guesses(flags[high][~by_high], flags[low][~by_low], plans))

    level = significance / 2
    paid = max(0.0, level - 2 * rest * delta)
    chosen = _pure_bound(tried, np.array(seen), level).argmax(axis=1)
    correct = np.array(measured)[np.arange(split.splits), chosen]
    low_bounds = _pure_bound(made[chosen], correct, paid)
    median = int(np.argsort(low_bounds, kind="stable")[(split.splits - 1) // 2])
    ceiling = float(_pure_bound(made, made, paid).max())
    return float(low_bounds[median]), ceiling, plans[chosen[median]], int(correct[median]), rest


def _guess_counts(canaries: int, guesses: ArrayLike, correct: ArrayLike) -> tuple[Counts, Counts]:
    made, right = np.asarray(guesses), np.asarray(correct)
    whole = made.dtype.kind in "iu" and right.dtype.kind in "iu"
    if not whole or (made < 1).any() or (made > canaries).any():
        raise AuditInputError(
            f"guesses must be whole numbers between 1 and the {canaries} canaries: got {made}."
        )
    if (right < 0).any() or (right > made).any():
        raise AuditInputError(
            f"correct guesses must lie between 0 and the guesses made, {made}: got {right}."
        )
    return made.astype(np.int64), right.astype(np.int64)

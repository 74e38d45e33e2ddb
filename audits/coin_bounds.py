"""Lower bounds of epsilon from coins: scores, and what each coin decided.

Used wherever coins were tossed beforehand: by repeated training (`audits.recipe_results`) and for
the canaries of one training (`audits.canary_results`). How many coins are guessed, those of the
highest scores as "in" and those of the lowest as "out", was registered beforehand.

Source: docs/methods.md#epsilon-lower-bounds.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from audits.canaries import GuessCounts, ScoredCanaries, correct_guesses, guess_orders
from audits.epsilon import one_run_ceiling, one_run_lower_bound
from audits.f_dp import f_dp_lower_bound
from audits.inputs import Floats
from audits.results import AuditResult, Estimate

DELTA = 1e-5
"""Of the f-DP bound; the bound after Steinke et al. is of pure differential privacy."""

SIGNIFICANCE = 0.05
"""A bound exceeds the true epsilon with at most this probability."""


def coin_bounds(
    scores: Floats, included: NDArray[np.bool_], *, guesses: GuessCounts, whose: str, paid: float
) -> list[AuditResult]:
    """Both bounds, each with its assumption in its note.

    Args:
      scores: one for each coin, shape (m,); higher = more likely in training.
      included: what each coin decided, shape (m,).
      guesses: how many coins are guessed either way.
      whose: epsilon this is, "of ..., for ...".
      paid: level of each bound; below `SIGNIFICANCE` where tosses were restricted, because
        P(bound too high | tosses taken) <= P(bound too high) / P(taken).
    """
    m = len(included)
    made = guesses.guessed_in + guesses.guessed_out
    high, low = guess_orders(ScoredCanaries(scores=scores, included=included))
    correct = int(correct_guesses(included[high], included[low], [guesses])[0])
    fair = "" if paid == SIGNIFICANCE else " Tosses were restricted, which the level pays for."
    counts = {
        "coins": m,
        "guesses": made,
        "correct": correct,
        "level": paid,
        "confidence": 1 - SIGNIFICANCE,
    }
    pure = float(one_run_lower_bound(canaries=m, guesses=made, correct=correct, significance=paid))
    gaussian = f_dp_lower_bound(
        canaries=m, guesses=made, correct=correct, delta=DELTA, significance=paid
    )
    return [
        _bound(
            "epsilon_one_run",
            pure,
            m,
            {**counts, "delta": 0.0},
            one_run_ceiling(m, guesses=made, significance=paid),
            f"Pure epsilon {whose}; assumes nothing but a fair coin.{fair}",
        ),
        _bound(
            "epsilon_f_dp",
            gaussian,
            m,
            {**counts, "delta": DELTA},
            f_dp_lower_bound(
                canaries=m, guesses=made, correct=made, delta=DELTA, significance=paid
            ),
            f"Epsilon at delta {DELTA:g} {whose}; holds only if training is a Gaussian "
            f"mechanism.{fair}",
        ),
    ]


def _bound(
    name: str, value: float, m: int, details: Mapping[str, object], ceiling: float, note: str
) -> AuditResult:
    return AuditResult(
        name=name,
        harm=None,
        statistic=Estimate(value=value, low=value, high=None, n=m, unit="fair coin"),
        details={**details, "ceiling": ceiling},
        note=f"At most {ceiling:.3g} could have been certified. {note}",
    )

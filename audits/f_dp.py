"""Epsilon from below under the hypothesis that training is a Gaussian mechanism.

One run with many canaries, as in `audits.epsilon`, but refuting a trade-off curve instead of pure
or approximate differential privacy (Mahloujifar, Melis & Chaudhuri 2025, "Auditing f-differential
privacy in one run"). Stronger, and worth nothing where training is no Gaussian mechanism: the
sentence of every result says so.

Source: docs/methods.md#epsilon-lower-bounds.
"""

import math

from scipy import optimize, special

from audits.canaries import check_level
from audits.errors import AuditInputError

_LARGEST_MU = 64.0
_TOLERANCE = 1e-10


def gaussian_refuted(
    mu: float, *, canaries: int, guesses: int, correct: int, significance: float = 0.05
) -> bool:
    """Whether so many correct guesses refute "training is mu-Gaussian differentially private".

    Args:
      mu: above 0.
      canaries: m, each in training by its own fair coin.
      guesses: r, between 1 and m, fixed before the scores were seen.
      correct: c, between 0 and r.
      significance: level of the test.

    Raises:
      AuditInputError: a value outside its range.

    Source: Mahloujifar et al. 2025, algorithm 3; docs/methods.md#epsilon-lower-bounds.
    """
    _check(canaries, guesses, correct)
    check_level(0.0, significance)
    share = significance / canaries
    right, wrong = share * correct, share * (guesses - correct)
    for left in range(correct - 1, -1, -1):
        grown = max(wrong, float(special.ndtr(special.ndtri(min(1.0, right)) - mu)))
        right = min(1.0, right + left / (guesses - left) * (grown - wrong))
        wrong = grown
    return right + wrong > guesses / canaries


def gaussian_epsilon(mu: float, delta: float) -> float:
    """The epsilon at which a mu-Gaussian mechanism is (epsilon, delta)-DP; 0 or more.

    Source: Dong, Roth & Su 2022, corollary 2.13.
    """

    def excess(epsilon: float) -> float:
        second = math.exp(min(epsilon, 700.0)) * special.ndtr(-epsilon / mu - mu / 2)
        return float(special.ndtr(-epsilon / mu + mu / 2) - second - delta)

    if mu <= 0 or excess(0.0) <= 0:
        return 0.0
    highest = mu * mu / 2 + mu * 40.0
    return float(optimize.brentq(excess, 0.0, highest, xtol=_TOLERANCE))


def f_dp_lower_bound(
    *, canaries: int, guesses: int, correct: int, delta: float, significance: float = 0.05
) -> float:
    """Epsilon at `delta` of the largest mu that the guesses refute; 0 where they refute none.

    Args:
      canaries, guesses, correct, significance: as `gaussian_refuted`.
      delta: in (0, 1): a Gaussian mechanism has no pure epsilon.

    Raises:
      AuditInputError: a value outside its range.

    Source: docs/methods.md#epsilon-lower-bounds.
    """
    check_level(delta, significance)
    if delta == 0:
        raise AuditInputError("delta must be above 0: a Gaussian mechanism has no pure epsilon.")

    def refuted(mu: float) -> bool:
        return gaussian_refuted(
            mu, canaries=canaries, guesses=guesses, correct=correct, significance=significance
        )

    low, high = 0.0, _LARGEST_MU
    while high - low > _TOLERANCE * max(1.0, high):
        middle = (low + high) / 2
        low, high = (middle, high) if refuted(middle) else (low, middle)
    return gaussian_epsilon(low, delta)


def _check(canaries: int, guesses: int, correct: int) -> None:
    if not 1 <= guesses <= canaries:
        raise AuditInputError(
            f"guesses must be between 1 and the {canaries} canaries: got {guesses}."
        )
    if not 0 <= correct <= guesses:
        raise AuditInputError(
            f"correct guesses must be between 0 and the guesses made, {guesses}: got {correct}."
        )

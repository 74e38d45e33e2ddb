"""The law of tail counts: how many synthetic tiles fall below order statistics of the holdout.

Under the null the pooled order of synthetic and holdout tiles is a random sequence of s and h
symbols, so every probability here is exact, whatever the distances are distributed like.

Source: docs/methods.md#tail-count.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import special

from audits.errors import AuditInputError
from audits.inputs import Floats

QUANTILES = (0.0, 0.002, 0.005, 0.01)
"""Pre-registered quantiles of the holdout's distances from which the thresholds are taken.

The first is the smallest distance itself: 9 copies in 3,000 tiles are seen below it and drown among
the innocent tiles below the .002 quantile.
"""

_NEGLIGIBLE = 1e-9


def tail_ranks(holdout: int, quantiles: tuple[float, ...] = QUANTILES) -> tuple[int, ...]:
    """How many holdout tiles lie below each threshold of the grid: max(floor(q h), j) for the j-th.

    The `max` keeps the grid's tests apart when the holdout is small: with 100 tiles the thresholds
    are the first to fourth smallest distance.

    Args:
      holdout: h, more than the length of the grid.
      quantiles: increasing, each below 1.

    Raises:
      AuditInputError: too few holdout tiles for the grid.
    """
    if holdout <= len(quantiles):
        raise AuditInputError(
            f"the copy test needs more than {len(quantiles)} holdout tiles: got {holdout}."
        )
    # The small term keeps a product such as .07 * 100 = 7.000000000000001 - 1e-15 on its integer.
    return tuple(max(int(q * holdout + 1e-9), j) for j, q in enumerate(quantiles))


def tail_thresholds(holdout: Floats, quantiles: tuple[float, ...] = QUANTILES) -> Floats:
    """Thresholds from the holdout alone: its order statistics at `tail_ranks`, shape (q,)."""
    return np.sort(holdout)[list(tail_ranks(len(holdout), quantiles))]


def below(scores: Floats, threshold: float) -> NDArray[np.bool_]:
    """Which scores lie in the tail: strictly below `threshold`, or at it when it is 0.

    At 0 the holdout itself holds exact copies of train tiles; "below" would then find nothing,
    ever.
    """
    return scores <= threshold if threshold == 0 else scores < threshold


def tail_p(synthetic_hits: int, synthetic: int, holdout_hits: int, holdout: int) -> float:
    """Exact hypergeometric tail P(A >= a | a + b) when synthetic and holdout are exchangeable.

    Args:
      synthetic_hits: a, of `synthetic` tiles.
      holdout_hits: b, of `holdout` tiles.

    Source: docs/methods.md#tail-count.
    """
    return float(tail_ps(np.array([synthetic_hits]), synthetic, holdout_hits, holdout)[0])


def tail_ps(
    synthetic_hits: NDArray[np.intp], synthetic: int, holdout_hits: int, holdout: int
) -> Floats:
    """`tail_p` for several counts a at once, shape (c,).

    P(A >= a) is P(B <= b), a sum of b + 1 terms however large the sets are.
    """
    drawn = synthetic_hits + holdout_hits
    total = _log_choose(np.array(synthetic + holdout), drawn)
    tail = np.zeros(len(drawn))
    for b in range(holdout_hits + 1):
        a = drawn - b
        possible = a <= synthetic
        ways = _log_choose(np.array(holdout), np.array(b))
        ways = ways + _log_choose(np.array(synthetic), np.minimum(a, synthetic))
        tail += np.where(possible, np.exp(ways - total), 0.0)
    return np.where(synthetic_hits == 0, 1.0, np.minimum(tail, 1.0))


@lru_cache(maxsize=64)
def _pointwise(synthetic: int, holdout: int, rank: int) -> Floats:
    """`tail_p` for counts a = 0, 1, ... with `rank` holdout tiles below, until it is negligible."""
    window = 64
    while True:
        counts = np.arange(min(window, synthetic) + 1)
        tail = tail_ps(counts, synthetic, rank, holdout)
        if window >= synthetic or tail[-1] < _NEGLIGIBLE:
            return tail
        window *= 2


def _no_rejection(
    synthetic: int, holdout: int, ranks: Sequence[int], limits: Sequence[int]
) -> float:
    """P(a_j < limits[j] for all j), a_j the synthetic tiles below the j-th threshold.

    Under exchangeability the pooled order is a random sequence of s and h symbols; between two
    holdout order statistics lies a negative hypergeometric number of synthetic tiles. Its
    probability is (a function of the count before) times (a function of the difference) times (a
    function of the count after), so that each step is a convolution. The negative binomial law with
    the same rate takes the growth out of all three.
    """
    state, seen = np.ones(1), 0
    log_s = np.log(synthetic / (synthetic + holdout))
    log_h = np.log(holdout / (synthetic + holdout))
    for rank, limit in zip(ranks, limits, strict=True):
        if limit == 0:
            return 0.0
        step = rank + 1 - seen
        before, after = np.arange(len(state)), np.arange(limit)
        log_before = before * log_s - _log_choose(
            synthetic - before + holdout - seen, synthetic - before
        )
        log_after = (
            _log_choose(synthetic - after + holdout - seen - step, synthetic - after)
            - after * log_s
            - step * log_h
        )
        between = np.exp(_log_choose(after + step - 1, after) + after * log_s + step * log_h)
        weighted = state * np.exp(log_before - log_before[0])
        state = np.convolve(weighted, between)[:limit] * np.exp(log_after + log_before[0])
        seen = rank + 1
    return float(state.sum())


def _log_choose(n: NDArray[np.intp], k: NDArray[np.intp]) -> Floats:
    value: Floats = special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(n - k + 1)
    return value


def grid_p(smallest: float, synthetic: int, holdout: int, ranks: Sequence[int]) -> float:
    """Exact p of the smallest pointwise p over the grid, its thresholds being far from independent.

    Bonferroni over three nested thresholds rejects in 1.7 % of leak-free data sets at "5 %"; the
    joint law is known exactly, so nothing need be given away. Bonferroni remains the bound where
    the exact figure drowns in rounding.

    Args:
      smallest: the smallest `tail_p` over the grid.
      synthetic, holdout: s and h.
      ranks: strictly increasing, from `tail_ranks`.
    """
    bound = min(1.0, len(ranks) * smallest)
    if smallest < _NEGLIGIBLE:
        return bound
    limits = [
        int((_pointwise(synthetic, holdout, rank) > smallest * (1 + 1e-9)).sum()) for rank in ranks
    ]
    exact = 1.0 - _no_rejection(synthetic, holdout, ranks, limits)
    return min(bound, max(exact, smallest))


def critical_p(level: float, synthetic: int, holdout: int, ranks: Sequence[int]) -> float:
    """The largest pointwise p whose `grid_p` is at most `level`; 0 when none is."""
    attainable = np.unique(np.concatenate([_pointwise(synthetic, holdout, rank) for rank in ranks]))
    attainable = attainable[(attainable > 0) & (attainable <= level)]
    low, high = 0, len(attainable)
    while low < high:
        middle = (low + high) // 2
        if grid_p(float(attainable[middle]), synthetic, holdout, ranks) <= level:
            low = middle + 1
        else:
            high = middle
    return float(attainable[low - 1]) if low else 0.0

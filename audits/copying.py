"""Copies: does the synthetic set contain training tiles?

The primary test counts. A copy is closer to its training tile than any new tile has a reason to be,
so the extreme low tail of "distance to the nearest train tile" is compared between the synthetic
and the holdout tiles. Averages (C_T, authenticity, DCR share) cannot see 1 % of copies; the tail
can.

Two distances are counted, each a test of its own:
- `nearest`: d(x, t1), the plain distance to the nearest train tile;
- `ratio`: d(x, t1) / mean(d(x, t2) .. d(x, tk)), scale-free, so that dense self-similar tissue or a
  patient who resembles a training patient does not look like a copy (Carlini et al. 2023 use the
  same idea).

Source: METHODS.md 1.1, 1.7, 1.8.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from audits.errors import AuditInputError
from audits.inputs import Floats, Strings
from audits.intervals import clopper_pearson, effective_size, newcombe
from audits.neighbors import Neighbors, nearest
from audits.results import AuditResult, Estimate, Harm

QUANTILES = (0.002, 0.005, 0.01)
"""Pre-registered quantiles of the holdout's distances from which the thresholds are taken."""

_NEGLIGIBLE = 1e-9

RATIO_NEIGHBORS = 10
"""k of the distance ratio: the nearest distance against the mean of the 2nd to 10th."""


@dataclass(frozen=True, kw_only=True)
class CopyScores:
    """How close each tile of one set comes to the train tiles; small = close.

    Attributes:
      nearest: distance to the nearest train tile, shape (n,), embedding units.
      ratio: that distance over the mean of the next ones, shape (n,), 0 for an exact copy.
    """

    nearest: Floats
    ratio: Floats

    def __len__(self) -> int:
        return len(self.nearest)


def copy_scores(queries: NDArray[np.float32], train: NDArray[np.float32]) -> CopyScores:
    """Distances of every query tile to the train tiles, in both forms.

    Args:
      queries: embeddings, shape (n, d).
      train: embeddings, shape (m, d), m >= 2.
    """
    found = nearest(queries, train, k=min(RATIO_NEIGHBORS, len(train)))
    return scores_from_neighbors(found)


def scores_from_neighbors(found: Neighbors) -> CopyScores:
    """Both forms of the score from neighbours already searched, shape (n, k >= 2).

    A tile at distance 0 from every neighbour (train tiles repeated k times) has ratio 0.
    """
    if found.distances.shape[1] < 2:
        raise AuditInputError("the distance ratio needs at least 2 train tiles: got 1.")
    rest = found.distances[:, 1:].mean(axis=1)
    first = found.distances[:, 0]
    ratio = np.divide(first, rest, out=np.zeros_like(first), where=rest > 0)
    return CopyScores(nearest=first, ratio=ratio)


def tail_ranks(holdout: int, quantiles: tuple[float, ...] = QUANTILES) -> tuple[int, ...]:
    """How many holdout tiles lie below each threshold of the grid: max(floor(q h), j) for the j-th.

    The `max` keeps the grid's tests apart when the holdout is small: with 100 tiles the thresholds
    are the first, second and third smallest distance.

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

    Source: METHODS.md 1.1.
    """
    hits = synthetic_hits + holdout_hits
    return float(stats.hypergeom.sf(synthetic_hits - 1, synthetic + holdout, hits, synthetic))


@lru_cache(maxsize=64)
def _pointwise(synthetic: int, holdout: int, rank: int) -> Floats:
    """`tail_p` for counts a = 0, 1, ... with `rank` holdout tiles below, until it is negligible."""
    window = 64
    while True:
        counts = np.arange(min(window, synthetic) + 1)
        tail: Floats = stats.hypergeom.sf(counts - 1, synthetic + holdout, counts + rank, synthetic)
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


def tail_count(
    name: str,
    synthetic: Floats,
    holdout: Floats,
    *,
    holdout_patients: Strings,
    quantiles: tuple[float, ...] = QUANTILES,
    confidence: float = 0.95,
) -> AuditResult:
    """Tail-count copy test over the registered grid of quantiles.

    Args:
      name: registered name of the result.
      synthetic: score of each synthetic tile, shape (s,); small = close to a train tile.
      holdout: the same for each holdout tile, shape (h,).
      holdout_patients: patient of each holdout tile, shape (h,).
      quantiles: the grid; p is exact for the smallest pointwise p over it (`grid_p`).
      confidence: of the interval, also Bonferroni-adjusted, since the threshold with the smallest p
        is shown.

    Returns:
      Copied fraction f = a/s - b/h, in [-1, 1], with a Newcombe interval whose holdout side uses
      the effective size of the clustered tiles; its upper end is the bound to quote when nothing is
      found.

    Raises:
      AuditInputError: no synthetic tiles, or too few holdout tiles.

    Source: METHODS.md 1.1.
    """
    if len(synthetic) == 0:
        raise AuditInputError("the copy test needs synthetic tiles with some texture: got none.")
    rows = []
    # The threshold itself is one holdout tile's distance: it stays out of the report.
    for quantile, tau in zip(quantiles, tail_thresholds(holdout, quantiles), strict=True):
        inside = below(holdout, tau)
        a, b = int(below(synthetic, tau).sum()), int(inside.sum())
        rows.append(
            {
                "quantile": quantile,
                "synthetic_hits": a,
                "holdout_hits": b,
                "p": tail_p(a, len(synthetic), b, len(holdout)),
                "effective_holdout": effective_size(inside, holdout_patients),
            }
        )
    best = min(rows, key=lambda row: row["p"])
    share, chance = best["synthetic_hits"] / len(synthetic), best["holdout_hits"] / len(holdout)
    low, high = newcombe(
        share,
        len(synthetic),
        chance,
        best["effective_holdout"],
        confidence=1 - (1 - confidence) / len(quantiles),
    )
    return AuditResult(
        name=name,
        harm=Harm.COPYING,
        statistic=Estimate(
            value=share - chance,
            low=low,
            high=high,
            confidence=confidence,
            n=len(synthetic),
            unit="tile",
        ),
        p_value=grid_p(
            best["p"], len(synthetic), len(holdout), tail_ranks(len(holdout), quantiles)
        ),
        details={"grid": rows, "holdout_tiles": len(holdout)},
    )


def identical_tiles(synthetic: Strings, train: Strings) -> AuditResult:
    """Synthetic tiles whose pixels equal a train tile's under one of the 8 symmetries.

    This is proof, not a test: one identical tile with texture is a LEAK whatever the counts say.

    Args:
      synthetic: fingerprints, shape (s,); "" marks a featureless tile, which proves nothing.
      train: fingerprints, shape (t,).

    Returns:
      Share of synthetic tiles, with a Clopper-Pearson interval; `rejected` is true when any is
      identical.

    Source: METHODS.md 1.8.
    """
    members = np.unique(train[train != ""])
    count = int(np.isin(synthetic[synthetic != ""], members).sum())
    low, high = clopper_pearson(count, len(synthetic))
    return AuditResult(
        name="identical_tiles",
        harm=Harm.COPYING,
        statistic=Estimate(
            value=count / len(synthetic), low=low, high=high, n=len(synthetic), unit="tile"
        ),
        rejected=count > 0,
        details={"identical": count, "featureless_synthetic": int((synthetic == "").sum())},
        note="Proof by equal pixels, up to quarter turns and mirroring; not a statistical test.",
    )

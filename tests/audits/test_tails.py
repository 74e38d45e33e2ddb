"""The law of tail counts against enumeration of every order, and against simulation."""

from itertools import combinations, pairwise
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from audits import AuditInputError
from audits.tails import (
    below,
    critical_p,
    grid_p,
    tail_p,
    tail_ps,
    tail_ranks,
    tail_thresholds,
)

Floats = NDArray[np.float64]


def arrangements(s: int, h: int) -> NDArray[np.bool_]:
    """Every order of s synthetic (true) and h holdout tiles, nearest first."""
    every = np.zeros((comb(s + h, s), s + h), dtype=np.bool_)
    for row, chosen in enumerate(combinations(range(s + h), s)):
        every[row, list(chosen)] = True
    return every


def smallest_p(orders: NDArray[np.bool_], ranks: tuple[int, ...], s: int, h: int) -> Floats:
    """Smallest pointwise p of each order, thresholds at the holdout tiles of these ranks."""
    smallest = np.ones(len(orders))
    for rank in ranks:
        position = np.argmax(np.cumsum(~orders, axis=1) == rank + 1, axis=1)
        a = position - rank
        smallest = np.minimum(smallest, [tail_p(int(x), s, rank, h) for x in a])
    return smallest


class TestThresholds:
    @pytest.mark.parametrize(
        ("holdout", "ranks"),
        [
            (5, (0, 1, 2, 3)),
            (100, (0, 1, 2, 3)),
            (300, (0, 1, 2, 3)),
            (1000, (0, 2, 5, 10)),
            (700, (0, 1, 3, 7)),
        ],
    )
    def test_ranks_by_hand(self, holdout: int, ranks: tuple[int, ...]) -> None:
        assert tail_ranks(holdout) == ranks

    @given(st.integers(5, 20_000))
    @settings(deadline=None)
    def test_ranks_strictly_increase_and_stay_inside(self, holdout: int) -> None:
        ranks = tail_ranks(holdout)
        assert all(a < b for a, b in pairwise(ranks))
        assert ranks[0] >= 0
        assert ranks[-1] < holdout

    def test_too_few_holdout_tiles_is_an_error(self) -> None:
        with pytest.raises(AuditInputError, match="more than 4 holdout tiles: got 4"):
            tail_ranks(4)

    def test_as_many_holdout_tiles_lie_below_as_the_rank_says(
        self, rng: np.random.Generator
    ) -> None:
        holdout = rng.random(1000)
        counts = [int(below(holdout, tau).sum()) for tau in tail_thresholds(holdout)]
        assert counts == [0, 2, 5, 10]

    def test_below_is_strict_except_at_zero(self) -> None:
        scores = np.array([0.0, 0.5, 1.0])
        assert below(scores, 0.5).tolist() == [True, False, False]
        assert below(scores, 0.0).tolist() == [True, False, False]


class TestPValues:
    @pytest.mark.parametrize(("s", "h"), [(5, 6), (7, 4), (3, 9)])
    def test_tail_p_equals_the_share_of_orders_with_as_many_synthetic_tiles(
        self, s: int, h: int
    ) -> None:
        """Counting until the b-th holdout tile, or among the first a + b tiles, is the same."""
        orders = arrangements(s, h)
        for b in range(h):
            position = np.argmax(np.cumsum(~orders, axis=1) == b + 1, axis=1)
            for a in range(s + 1):
                assert tail_p(a, s, b, h) == pytest.approx((position - b >= a).mean())

    @pytest.mark.parametrize(("s", "h"), [(6, 8), (10, 5), (4, 10), (1, 6), (9, 5)])
    def test_grid_p_is_exact_over_all_orders(self, s: int, h: int) -> None:
        ranks = tail_ranks(h)
        smallest = smallest_p(arrangements(s, h), ranks, s, h)
        for value in np.unique(smallest):
            expected = (smallest <= value * (1 + 1e-9)).mean()
            assert grid_p(float(value), s, h, ranks) == pytest.approx(expected, rel=1e-9)

    def test_grid_p_equals_simulation_for_larger_sets(self, rng: np.random.Generator) -> None:
        s, h = 300, 600
        ranks = tail_ranks(h)
        orders = rng.permuted(np.tile(np.arange(s + h) < s, (4000, 1)), axis=1)
        smallest = smallest_p(orders, ranks, s, h)
        for value in (0.003, 0.02, 0.05, 0.2):
            share = (smallest <= value).mean()
            attained = smallest[smallest <= value].max()
            expected = grid_p(float(attained), s, h, ranks)
            assert abs(expected - share) < 4 * np.sqrt(expected * (1 - expected) / 4000)

    @given(st.integers(1, 5000), st.integers(5, 5000), st.floats(1e-12, 1))
    @settings(max_examples=40, deadline=None)
    def test_grid_p_lies_between_the_smallest_p_and_bonferroni(
        self, s: int, h: int, smallest: float
    ) -> None:
        got = grid_p(smallest, s, h, tail_ranks(h))
        assert smallest <= got <= min(1.0, 4 * smallest) + 1e-15

    def test_grid_p_of_large_sets_neither_overflows_nor_leaves_its_bounds(self) -> None:
        for s, h in ((20_000, 400), (5_000, 100_000)):
            assert 1e-4 < grid_p(1e-4, s, h, tail_ranks(h)) < 4e-4

    @pytest.mark.parametrize(("s", "h"), [(200, 150), (1000, 300), (50, 2000)])
    @pytest.mark.parametrize("level", [0.05, 0.0125, 0.001])
    def test_critical_p_is_the_last_p_whose_grid_p_keeps_the_level(
        self, s: int, h: int, level: float
    ) -> None:
        ranks = tail_ranks(h)
        critical = critical_p(level, s, h, ranks)
        assert 0 < critical <= level
        assert grid_p(critical, s, h, ranks) <= level
        larger = [
            p
            for rank in ranks
            for p in (tail_p(a, s, rank, h) for a in range(s + 1))
            if critical * (1 + 1e-9) < p <= level
        ]
        assert all(grid_p(p, s, h, ranks) > level for p in larger)

    def test_critical_p_is_zero_when_nothing_can_reject(self) -> None:
        assert critical_p(0.01, 1, 10, tail_ranks(10)) == 0.0

    @given(st.integers(1, 400), st.integers(1, 400), st.data())
    @settings(max_examples=60, deadline=None)
    def test_tail_ps_equals_the_hypergeometric_tail(
        self, s: int, h: int, data: st.DataObject
    ) -> None:
        b = data.draw(st.integers(0, h))
        counts = np.arange(s + 1)
        expected = stats.hypergeom.sf(counts - 1, s + h, counts + b, s)
        np.testing.assert_allclose(tail_ps(counts, s, b, h), expected, rtol=1e-8, atol=1e-300)

    def test_no_synthetic_tile_in_the_tail_has_p_one_exactly(self) -> None:
        assert tail_p(0, 1000, 7, 300) == 1.0

    def test_tail_ps_of_extreme_sizes_is_finite_and_falls(self) -> None:
        p = tail_ps(np.arange(0, 500, 50), 1_000_000, 3, 2_000)
        assert np.isfinite(p).all()
        assert (np.diff(p) < 0).all()

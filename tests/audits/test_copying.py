"""Copy tests against enumeration, simulation and planted truth."""

from itertools import combinations, pairwise
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from audits import AuditInputError, Harm
from audits.copying import (
    QUANTILES,
    below,
    copy_scores,
    critical_p,
    grid_p,
    identical_tiles,
    scores_from_neighbors,
    tail_count,
    tail_p,
    tail_ranks,
    tail_thresholds,
)
from audits.neighbors import Neighbors
from audits.results import AuditResult

Floats = NDArray[np.float64]


def run(synthetic: Floats, holdout: Floats) -> AuditResult:
    return tail_count(
        "tail_count",
        synthetic,
        holdout,
        holdout_patients=np.arange(len(holdout)).astype(np.str_),
    )


def p_of(synthetic: Floats, holdout: Floats) -> float:
    p = run(synthetic, holdout).p_value
    assert p is not None
    return p


def embeddings(rng: np.random.Generator, rows: int, width: int = 16) -> NDArray[np.float32]:
    return rng.normal(size=(rows, width)).astype(np.float32)


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


class TestScores:
    def test_copies_have_distance_and_ratio_zero(self, rng: np.random.Generator) -> None:
        train = embeddings(rng, 50)
        scores = copy_scores(train[:5], train)
        np.testing.assert_array_equal(scores.nearest, 0)
        np.testing.assert_array_equal(scores.ratio, 0)
        assert len(scores) == 5

    def test_ratio_by_hand(self) -> None:
        found = Neighbors(np.array([[1.0, 2.0, 4.0]]), np.array([[0, 1, 2]]))
        assert scores_from_neighbors(found).ratio[0] == pytest.approx(1 / 3)

    def test_ratio_is_free_of_scale_and_the_distance_is_not(self, rng: np.random.Generator) -> None:
        train, queries = embeddings(rng, 60), embeddings(rng, 20)
        small, large = copy_scores(queries, train), copy_scores(queries * 1024, train * 1024)
        np.testing.assert_allclose(large.ratio, small.ratio, rtol=1e-12)
        np.testing.assert_allclose(large.nearest, 1024 * small.nearest, rtol=1e-12)

    def test_a_tile_repeated_all_over_train_has_ratio_zero_not_nan(self) -> None:
        train = np.ones((12, 3), dtype=np.float32)
        assert copy_scores(train[:1], train).ratio[0] == 0
        assert copy_scores(train[:1] + 1, train).ratio[0] == 1

    def test_one_train_tile_is_an_error(self) -> None:
        with pytest.raises(AuditInputError, match="at least 2 train tiles"):
            copy_scores(np.ones((3, 2), dtype=np.float32), np.ones((1, 2), dtype=np.float32))


class TestThresholds:
    @pytest.mark.parametrize(
        ("holdout", "ranks"),
        [(4, (0, 1, 2)), (100, (0, 1, 2)), (300, (0, 1, 3)), (1000, (2, 5, 10)), (700, (1, 3, 7))],
    )
    def test_ranks_by_hand(self, holdout: int, ranks: tuple[int, ...]) -> None:
        assert tail_ranks(holdout) == ranks

    @given(st.integers(4, 20_000))
    @settings(deadline=None)
    def test_ranks_strictly_increase_and_stay_inside(self, holdout: int) -> None:
        ranks = tail_ranks(holdout)
        assert all(a < b for a, b in pairwise(ranks))
        assert ranks[0] >= 0
        assert ranks[-1] < holdout

    def test_too_few_holdout_tiles_is_an_error(self) -> None:
        with pytest.raises(AuditInputError, match="more than 3 holdout tiles: got 3"):
            tail_ranks(3)

    def test_as_many_holdout_tiles_lie_below_as_the_rank_says(
        self, rng: np.random.Generator
    ) -> None:
        holdout = rng.random(1000)
        counts = [int(below(holdout, tau).sum()) for tau in tail_thresholds(holdout)]
        assert counts == [2, 5, 10]

    def test_synthetic_tiles_never_move_the_thresholds(self, rng: np.random.Generator) -> None:
        holdout = rng.random(400)
        grids = [
            [row["holdout_hits"] for row in run(synthetic, holdout).details["grid"]]
            for synthetic in (rng.random(300), np.zeros(50), rng.random(1000) * 1e-6)
        ]
        assert grids[0] == grids[1] == grids[2] == list(tail_ranks(len(holdout)))

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

    @pytest.mark.parametrize(("s", "h"), [(6, 8), (10, 5), (4, 10), (1, 6), (9, 4)])
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

    @given(st.integers(1, 5000), st.integers(4, 5000), st.floats(1e-12, 1))
    @settings(max_examples=40, deadline=None)
    def test_grid_p_lies_between_the_smallest_p_and_bonferroni(
        self, s: int, h: int, smallest: float
    ) -> None:
        got = grid_p(smallest, s, h, tail_ranks(h))
        assert smallest <= got <= min(1.0, 3 * smallest) + 1e-15

    def test_grid_p_of_large_sets_neither_overflows_nor_leaves_its_bounds(self) -> None:
        for s, h in ((20_000, 400), (5_000, 100_000)):
            assert 1e-4 < grid_p(1e-4, s, h, tail_ranks(h)) < 3e-4

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

    def test_rejects_at_its_level_when_nothing_was_copied(self) -> None:
        rng = np.random.default_rng(12)
        p = np.array([p_of(rng.random(400), rng.random(300)) for _ in range(600)])
        assert 0.02 < (p <= 0.05).mean() <= 0.07
        assert (p <= 0.5).mean() < 0.56


class TestTailCount:
    def test_one_percent_of_copies_in_3000_gives_p_of_about_1e_6(
        self, rng: np.random.Generator
    ) -> None:
        synthetic, holdout = rng.random(3000) + 1e-6, rng.random(3000) + 1e-6
        synthetic[:30] = 0
        p = p_of(synthetic, holdout)
        assert 1e-8 < p < 1e-5

    def test_one_percent_of_copies_is_seen_in_embeddings_in_both_forms(
        self, rng: np.random.Generator
    ) -> None:
        train, holdout, synthetic = (embeddings(rng, n) for n in (1500, 3000, 3000))
        synthetic[:30] = train[rng.choice(1500, 30, replace=False)]
        ours, others = copy_scores(synthetic, train), copy_scores(holdout, train)
        assert p_of(ours.nearest, others.nearest) < 1e-4
        assert p_of(ours.ratio, others.ratio) < 1e-4

    def test_ten_percent_of_copies_is_seen_although_the_rest_is_off_manifold(
        self, rng: np.random.Generator
    ) -> None:
        train, holdout, synthetic = (embeddings(rng, n) for n in (1000, 1000, 1000))
        synthetic += 0.8
        assert (
            p_of(copy_scores(synthetic, train).nearest, copy_scores(holdout, train).nearest) > 0.5
        )
        synthetic[:100] = train[:100]
        assert (
            p_of(copy_scores(synthetic, train).nearest, copy_scores(holdout, train).nearest) < 1e-20
        )

    def test_copies_on_the_other_side_are_no_leak(self, rng: np.random.Generator) -> None:
        train, holdout, synthetic = (embeddings(rng, n) for n in (600, 600, 600))
        synthetic[:60] = train[:60]
        ours, others = copy_scores(synthetic, train), copy_scores(holdout, train)
        assert p_of(ours.nearest, others.nearest) < 1e-10
        assert p_of(others.nearest, ours.nearest) > 0.99, "holdout and synthetic swapped"
        ours, others = copy_scores(synthetic, holdout), copy_scores(train, holdout)
        assert p_of(ours.nearest, others.nearest) > 0.05, "train and holdout swapped"

    def test_holdout_tiles_that_are_copies_put_the_threshold_at_zero_and_ties_count(
        self, rng: np.random.Generator
    ) -> None:
        holdout, synthetic = rng.random(100) + 0.1, rng.random(100) + 0.1
        holdout[:5] = 0
        result = run(synthetic, holdout)
        assert list(tail_thresholds(holdout)) == [0, 0, 0]
        assert [row["holdout_hits"] for row in result.details["grid"]] == [5, 5, 5]
        assert result.p_value == 1.0
        synthetic[:40] = 0
        assert p_of(synthetic, holdout) < 1e-6

    def test_ties_do_not_make_the_test_eager(self) -> None:
        rng = np.random.default_rng(8)
        scores = rng.integers(0, 30, size=(300, 2, 200)).astype(np.float64)
        p = np.array([p_of(synthetic, holdout) for synthetic, holdout in scores])
        assert (p <= 0.05).mean() <= 0.07

    def test_fraction_and_interval_belong_to_the_threshold_with_the_smallest_p(
        self, rng: np.random.Generator
    ) -> None:
        synthetic, holdout = rng.random(1000) + 1e-3, rng.random(500) + 1e-3
        synthetic[:50] = 0
        result = run(synthetic, holdout)
        best = min(result.details["grid"], key=lambda row: row["p"])
        share = best["synthetic_hits"] / 1000 - best["holdout_hits"] / 500
        e = result.statistic
        assert e.value == pytest.approx(share) == pytest.approx(0.05, abs=0.01)
        assert e.low is not None
        assert e.high is not None
        assert e.low < 0.05 < e.high
        assert (e.n, e.unit, result.harm) == (1000, "tile", Harm.COPYING)

    def test_interval_covers_the_copied_share(self) -> None:
        rng = np.random.default_rng(21)
        covered = 0
        for _ in range(200):
            synthetic, holdout = rng.random(1000) + 1e-9, rng.random(1000) + 1e-9
            synthetic[:20] = 0
            e = run(synthetic, holdout).statistic
            assert e.low is not None
            assert e.high is not None
            covered += e.low <= 0.02 <= e.high
        assert covered / 200 >= 0.95

    def test_clustered_holdout_hits_widen_the_interval(self, rng: np.random.Generator) -> None:
        synthetic = rng.random(400) + 0.02
        holdout = rng.random(400) + 0.02
        holdout[:4] = 0.01
        synthetic[:30] = 0.015
        patients = np.repeat(np.arange(20).astype(np.str_), 20)
        alone = tail_count("x", synthetic, holdout, holdout_patients=rng.permutation(patients))
        together = tail_count("x", synthetic, holdout, holdout_patients=patients)
        assert together.p_value == alone.p_value
        assert together.statistic.low is not None
        assert alone.statistic.low is not None
        assert together.statistic.low < alone.statistic.low

    def test_no_synthetic_tiles_is_an_error(self) -> None:
        with pytest.raises(AuditInputError, match="got none"):
            run(np.array([]), np.arange(10.0))

    @given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(4, 60))
    @settings(max_examples=50, deadline=None)
    def test_p_is_a_probability_and_falls_with_every_further_copy(
        self, seed: int, s: int, h: int
    ) -> None:
        rng = np.random.default_rng(seed)
        synthetic, holdout = rng.random(s) + 0.01, rng.random(h) + 0.01
        p = [p_of(np.where(np.arange(s) < copies, 0.0, synthetic), holdout) for copies in range(s)]
        assert all(0 < value <= 1 for value in p)
        assert all(b <= a * (1 + 1e-6) for a, b in pairwise(p))


class TestIdenticalTiles:
    def test_one_equal_fingerprint_is_proof(self) -> None:
        result = identical_tiles(np.array(["a", "x", "y"]), np.array(["a", "b"]))
        assert result.rejected
        assert result.p_value is None
        assert result.statistic.value == pytest.approx(1 / 3)
        assert result.details["identical"] == 1

    def test_featureless_tiles_prove_nothing_and_are_counted(self) -> None:
        result = identical_tiles(np.array(["", "", "y"]), np.array(["", "b"]))
        assert not result.rejected
        assert result.details == {"identical": 0, "featureless_synthetic": 2}

    def test_nothing_identical_still_has_an_upper_bound(self) -> None:
        result = identical_tiles(np.array(["x"] * 100), np.array(["a"]))
        assert result.statistic.high == pytest.approx(1 - 0.025 ** (1 / 100))

    def test_several_copies_of_one_tile_each_count(self) -> None:
        result = identical_tiles(np.array(["a", "a", "q", ""]), np.array(["a", "a"]))
        assert result.details["identical"] == 2


def test_the_registered_grid_is_what_the_methods_say() -> None:
    assert QUANTILES == (0.002, 0.005, 0.01)

"""Copy tests against enumeration, simulation and planted truth."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from audits import AuditInputError, Harm
from audits.copying import (
    copy_scores,
    extraction_ratio,
    identical_tiles,
    own_copy_scores,
    scores_from_neighbors,
    tail_count,
)
from audits.neighbors import Neighbors
from audits.results import AuditResult
from audits.tails import QUANTILES, tail_ranks, tail_thresholds

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

    def test_extraction_ratio_by_hand(self) -> None:
        """Half the mean of the 50 nearest, itself included; further neighbours do not count."""
        distances = np.concatenate([[1.0], np.full(49, 4.0), np.full(10, 100.0)])[None]
        found = Neighbors(distances, np.arange(60)[None])
        assert scores_from_neighbors(found).extraction[0] == pytest.approx(1 / (0.5 * 197 / 50))

    def test_ratio_looks_at_ten_neighbours_only(self) -> None:
        distances = np.concatenate([[1.0], np.full(9, 4.0), np.full(40, 100.0)])[None]
        found = Neighbors(distances, np.arange(50)[None])
        assert scores_from_neighbors(found).ratio[0] == pytest.approx(1 / 4)
        assert scores_from_neighbors(found).source[0] == 0

    def test_own_scores_leave_the_tile_itself_out(self, rng: np.random.Generator) -> None:
        train = embeddings(rng, 70)
        own = own_copy_scores(train)
        for row in (0, 33, 69):
            alone = copy_scores(train[row : row + 1], np.delete(train, row, axis=0))
            assert own.nearest[row] == alone.nearest[0]
            assert own.ratio[row] == alone.ratio[0]
            assert own.source[row] == alone.source[0] + (alone.source[0] >= row)

    def test_own_scores_of_repeated_tiles_are_zero(self) -> None:
        own = own_copy_scores(np.repeat(np.eye(3, dtype=np.float32), 30, axis=0))
        assert (own.nearest == 0).all()

    def test_one_train_tile_is_an_error(self) -> None:
        with pytest.raises(AuditInputError, match="at least 2 train tiles"):
            copy_scores(np.ones((3, 2), dtype=np.float32), np.ones((1, 2), dtype=np.float32))


class TestTailCount:
    def test_synthetic_tiles_never_move_the_thresholds(self, rng: np.random.Generator) -> None:
        holdout = rng.random(400)
        grids = [
            [row["holdout_hits"] for row in run(synthetic, holdout).details["grid"]]
            for synthetic in (rng.random(300), np.zeros(50), rng.random(1000) * 1e-6)
        ]
        assert grids[0] == grids[1] == grids[2] == list(tail_ranks(len(holdout)))

    def test_rejects_at_its_level_when_nothing_was_copied(self) -> None:
        rng = np.random.default_rng(12)
        p = np.array([p_of(rng.random(400), rng.random(300)) for _ in range(600)])
        assert 0.02 < (p <= 0.05).mean() <= 0.07
        assert (p <= 0.5).mean() < 0.56

    def test_one_percent_of_copies_in_3000_gives_p_of_about_1e_6(
        self, rng: np.random.Generator
    ) -> None:
        synthetic, holdout = rng.random(3000) + 1e-6, rng.random(3000) + 1e-6
        synthetic[:30] = 0
        patients = np.arange(3000).astype(np.str_)
        published = tail_count(
            "x", synthetic, holdout, holdout_patients=patients, quantiles=(0.002, 0.005, 0.01)
        )
        assert published.p_value is not None
        assert 1e-8 < published.p_value < 1e-5
        assert p_of(synthetic, holdout) < 1e-7, "the smallest distance sees them best"

    def test_nine_copies_in_3000_are_seen_below_the_smallest_distance_alone(
        self, rng: np.random.Generator
    ) -> None:
        synthetic, holdout = rng.random(3000) + 1e-6, rng.random(3000) + 1e-6
        synthetic[:9] = 0
        rows = run(synthetic, holdout).details["grid"]
        assert rows[0]["p"] < 0.003 < 0.01 < min(row["p"] for row in rows[1:])

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
        assert list(tail_thresholds(holdout)) == [0, 0, 0, 0]
        assert [row["holdout_hits"] for row in result.details["grid"]] == [5, 5, 5, 5]
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

    def test_upper_bound_with_nothing_found_is_three_over_n(self) -> None:
        result = run(np.full(3000, 9.0), np.arange(500.0))
        assert result.details["upper_bound"] == pytest.approx(3 / 3000, rel=0.01)

    def test_own_tiles_are_a_second_control_and_leave_p_alone(
        self, rng: np.random.Generator
    ) -> None:
        synthetic, holdout = rng.random(500) + 1, rng.random(500) + 2
        patients = np.arange(500).astype(np.str_)
        close, far = (
            tail_count("x", synthetic, holdout, holdout_patients=patients, own=own)
            for own in (rng.random(500), rng.random(500) + 2)
        )
        assert close.p_value == far.p_value
        assert close.details["own_p"] == 1.0
        assert far.details["own_p"] < 1e-6
        assert "own_p" not in run(synthetic, holdout).details

    def test_no_synthetic_tiles_is_an_error(self) -> None:
        with pytest.raises(AuditInputError, match="got none"):
            run(np.array([]), np.arange(10.0))

    @given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(5, 60))
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


def test_the_registered_grid_is_the_smallest_distance_and_the_quantiles_of_the_methods() -> None:
    assert QUANTILES == (0.0, 0.002, 0.005, 0.01)


class TestExtractionRatio:
    def test_share_below_one_less_the_holdouts_share(self) -> None:
        ours, others = np.array([0.5, 0.99, 1.0, 3.0]), np.array([0.2, 1.0, 1.5, 2.0, 9.0])
        result = extraction_ratio(ours, others, holdout_patients=np.array(list("aabbc")))
        assert result.details == {"synthetic_share": 0.5, "holdout_share": 0.2}
        e = result.statistic
        assert e.low is not None
        assert e.high is not None
        assert e.value == pytest.approx(0.3)
        assert e.low < 0.3 < e.high
        assert (result.p_value, result.harm, e.n) == (None, None, 4)

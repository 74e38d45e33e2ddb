"""Attack scores against hand-computed values, brute force, closed forms and simulated nulls."""

import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from audits import AuditInputError, attacks
from audits.attacks import (
    OUTSIDE_ATTACKS,
    OutsideScores,
    calibrated,
    density_ratio,
    full_black_box,
    median_epsilon,
    monte_carlo,
    shadow,
)
from audits.permutation import auroc

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Attack = Callable[[Singles, Singles, Singles], Floats]

EMBEDDED: dict[str, Attack] = {
    "full_black_box": lambda t, s, r: full_black_box(t, s),
    "calibrated": calibrated,
    "density_ratio": density_ratio,
    "monte_carlo": lambda t, s, r: monte_carlo(t, s),
}
SCALES = {"full_black_box": 1, "calibrated": 1, "density_ratio": 0, "monte_carlo": 0}
"""Power of the embeddings' scale that each score carries."""

every_attack = pytest.mark.parametrize("name", EMBEDDED)


def rows(*points: tuple[float, ...]) -> Singles:
    return np.array(points, dtype=np.float32)


def normal(rng: np.random.Generator, n: int, width: int, scale: float = 1.0) -> Singles:
    """Normal values on a grid of 1/1024, which small shifts keep exact."""
    values: Singles = (np.round(rng.normal(size=(n, width)) * scale * 1024) / 1024).astype("f4")
    return values


def distances(x: Singles, y: Singles) -> Floats:
    result: Floats = np.linalg.norm(x[:, None].astype("f8") - y[None], axis=2)
    return result


class TestEveryAttack:
    @every_attack
    def test_members_and_nonmembers_of_one_law_average_one_half(self, name: str) -> None:
        rng = np.random.default_rng(3)
        area = np.empty(150)
        for run in range(150):
            tiles, synthetic, reference = (normal(rng, n, 4) for n in (60, 60, 60))
            scores = EMBEDDED[name](tiles, synthetic, reference)
            area[run] = auroc(scores[:30], scores[30:])
        assert abs(area.mean() - 0.5) < 4 * area.std() / np.sqrt(150) < 0.04

    @every_attack
    def test_copied_members_score_higher(self, name: str, rng: np.random.Generator) -> None:
        tiles, reference = normal(rng, 80, 6), normal(rng, 200, 6)
        near = np.repeat(tiles[:40], 5, axis=0) + normal(rng, 200, 6, 0.1)
        scores = EMBEDDED[name](tiles, near, reference)
        assert scores.dtype == np.float64
        assert auroc(scores[:40], scores[40:]) > 0.95

    @every_attack
    def test_each_tile_has_its_own_score_whatever_the_order(
        self, name: str, rng: np.random.Generator
    ) -> None:
        tiles, synthetic, reference = (normal(rng, n, 6) for n in (30, 50, 40))
        scores = EMBEDDED[name](tiles, synthetic, reference)
        order = rng.permutation(30)
        np.testing.assert_allclose(
            EMBEDDED[name](tiles[order], synthetic, reference), scores[order], rtol=1e-5, atol=1e-5
        )
        again = EMBEDDED[name](tiles, rng.permutation(synthetic), rng.permutation(reference))
        np.testing.assert_allclose(again, scores, rtol=1e-5, atol=1e-5)

    @every_attack
    def test_a_shift_changes_nothing_and_a_scale_only_units(
        self, name: str, rng: np.random.Generator
    ) -> None:
        sets = [normal(rng, n, 6) for n in (30, 50, 40)]
        scores = EMBEDDED[name](*sets)
        shifted = EMBEDDED[name](*(x + np.float32(100) for x in sets))
        np.testing.assert_allclose(shifted, scores, rtol=1e-5, atol=1e-5)
        for scale in (2.0**-90, 2.0**90):
            scaled = EMBEDDED[name](*(x * np.float32(scale) for x in sets))
            np.testing.assert_allclose(scaled / scale ** SCALES[name], scores, rtol=1e-5, atol=1e-5)

    @every_attack
    def test_bad_embeddings_are_errors(self, name: str) -> None:
        good = np.arange(24, dtype=np.float32).reshape(12, 2)
        infinite = good.copy()
        infinite[3, 1] = np.inf
        bad = {
            "finite": infinite,
            "shape": good[:0],
            "embedded alike": np.ones((12, 3), dtype=np.float32),
            "shape (tiles": np.ones(12, dtype=np.float32),
        }
        for message, x in bad.items():
            pattern = message.replace("(", r"\(")
            with pytest.raises(AuditInputError, match=pattern):
                EMBEDDED[name](x, good, good)
            with pytest.raises(AuditInputError, match=pattern):
                EMBEDDED[name](good, x, good)
            if name in ("calibrated", "density_ratio"):
                with pytest.raises(AuditInputError, match=pattern):
                    EMBEDDED[name](good, good, x)


class TestFullBlackBox:
    def test_is_minus_the_distance_to_the_nearest_synthetic_tile(
        self, rng: np.random.Generator
    ) -> None:
        tiles, synthetic = normal(rng, 20, 3), normal(rng, 30, 3)
        expected = -distances(tiles, synthetic).min(axis=1)
        np.testing.assert_allclose(full_black_box(tiles, synthetic), expected, rtol=1e-6)

    def test_linear_form_ranks_where_the_exponential_underflows(self) -> None:
        rng = np.random.default_rng(8)
        tiles, synthetic = normal(rng, 60, 800), normal(rng, 30, 800)
        tiles[:30] = synthetic + (tiles[:30] - synthetic) * np.float32(0.85)
        scores = full_black_box(tiles, synthetic)
        exponential = np.exp(-(scores**2))
        assert auroc(scores[:30], scores[30:]) == 1.0
        assert auroc(exponential[:30], exponential[30:]) == 0.5


class TestCalibrated:
    def test_by_hand(self) -> None:
        """The tile at 0 lies 3 from S and 5 from R; the one at 10, 7 and 4."""
        got = calibrated(rows((0.0, 0.0), (10.0, 0.0)), rows((3.0, 0.0)), rows((0.0, 5.0), (10, 4)))
        np.testing.assert_allclose(got, [5.0 - 3.0, 4.0 - 7.0])

    def test_removes_the_density_that_passes_for_membership(self) -> None:
        """Members mostly of crowded, nonmembers mostly of thin tissue, and no leak."""
        rng = np.random.default_rng(12)

        def tissue(crowded: int, thin: int) -> Singles:
            return np.concatenate([normal(rng, crowded, 2, 0.1), normal(rng, thin, 2, 3.0) + 20])

        tiles = np.concatenate([tissue(160, 40), tissue(40, 160)])
        synthetic, reference = tissue(300, 300), tissue(300, 300)
        fooled, honest = full_black_box(tiles, synthetic), calibrated(tiles, synthetic, reference)
        assert auroc(fooled[:200], fooled[200:]) > 0.7
        assert abs(auroc(honest[:200], honest[200:]) - 0.5) < 0.08


class TestDensityRatio:
    def test_by_hand(self) -> None:
        """Second nearest: 3 away in S, sqrt 18 in R. 2 (log sqrt 18 - log 3) + log(3/2) = log 3."""
        synthetic, reference = rows((0, 0), (0, 4)), rows((3, 0), (3, 4), (6, 6))
        got = density_ratio(rows((0, 1)), synthetic, reference, k=2)
        assert got == pytest.approx([np.log(3)], abs=1e-6)

    def test_first_neighbour_on_a_line_by_hand(self) -> None:
        """1 away from S, 8 from R; one dimension although the rows hold two."""
        synthetic, reference = rows((0, 5), (1, 5)), rows((10, 5), (12, 5), (13, 5), (14, 5))
        got = density_ratio(rows((2, 5)), synthetic, reference, k=1, dims=1)
        assert got == pytest.approx([np.log(8) + np.log(4 / 2)], abs=1e-6)
        wide = density_ratio(rows((2, 5)), synthetic, reference, k=1)
        assert wide == pytest.approx(got, abs=1e-6)

    @pytest.mark.parametrize("k", [5, 20])
    def test_follows_the_true_log_ratio_of_two_gaussians(self, k: int) -> None:
        rng = np.random.default_rng(21)
        synthetic = (rng.normal(size=(3000, 2)) + np.array([2.0, 0.0])).astype("f4")
        reference = (rng.normal(size=(1500, 2)) * 1.5).astype("f4")
        tiles = (rng.normal(size=(400, 2)) + np.array([1.0, 0.0])).astype("f4")
        true = stats.multivariate_normal([2.0, 0.0], np.eye(2)).logpdf(tiles)
        true -= stats.multivariate_normal([0.0, 0.0], 2.25 * np.eye(2)).logpdf(tiles)
        got = density_ratio(tiles, synthetic, reference, k=k)
        assert stats.spearmanr(got, true).statistic > {5: 0.85, 20: 0.95}[k]
        assert abs(np.median(got - true)) < 0.1

    def test_components_weigh_both_sets_equally_whatever_their_sizes(self) -> None:
        """S varies along y, R less along x but with 50 times the tiles: the axis is y."""
        line = np.linspace(-1, 1, 500)
        reference = np.stack([line, 0 * line], axis=1).astype("f4")
        synthetic = rows(*((0.0, y) for y in np.linspace(-2, 2, 10)))
        one, other = density_ratio(rows((0.3, 1.9), (0.9, 1.9)), synthetic, reference, k=1, dims=1)
        assert one == other
        up, down = density_ratio(rows((0.3, 1.9), (0.3, 0.0)), synthetic, reference, k=1, dims=1)
        assert up > down + 1

    def test_keeps_the_leading_components_only(self, rng: np.random.Generator) -> None:
        """40 independent columns, the last 8 narrow: 32 components are the first 32 columns."""
        spread = np.r_[np.full(32, 1.0), np.full(8, 1e-3)].astype("f4")
        tiles, synthetic, reference = (normal(rng, n, 40) * spread for n in (20, 300, 300))
        scores = density_ratio(tiles, synthetic, reference)
        radius = [
            np.sort(distances(tiles[:, :32], x[:, :32]))[:, 4] for x in (reference, synthetic)
        ]
        np.testing.assert_allclose(
            scores, 32 * (np.log(radius[0]) - np.log(radius[1])), rtol=0, atol=0.01
        )

    def test_dimensions_that_the_data_do_not_span_are_not_counted(
        self, rng: np.random.Generator
    ) -> None:
        """3 dimensions turned into 40: what float32 rounds is no dimension."""
        flat = [normal(rng, n, 3) for n in (20, 60, 60)]
        turn = np.linalg.qr(rng.normal(size=(40, 3)))[0].T
        turned = [(x @ turn).astype("f4") for x in flat]
        np.testing.assert_allclose(density_ratio(*turned), density_ratio(*flat), atol=1e-4)

    def test_candidates_take_no_part_in_the_fit(self, rng: np.random.Generator) -> None:
        tiles, synthetic, reference = (normal(rng, n, 6) for n in (20, 60, 60))
        alone = density_ratio(tiles[:1], synthetic, reference, dims=2)
        beside = density_ratio(
            np.concatenate([tiles[:1], tiles[1:] * [1, 1, 1, 1, 1, 1000]]).astype("f4"),
            synthetic,
            reference,
            dims=2,
        )
        np.testing.assert_allclose(beside[:1], alone, rtol=1e-5)

    def test_duplicates_stay_finite_and_ordered(self, rng: np.random.Generator) -> None:
        """Five copies each of two tiles: both outscore a near copy, the one far from R most."""
        tiles, reference = normal(rng, 400, 16), normal(rng, 300, 16)
        tiles[1] = reference[0] + np.float32(0.01)
        tiles[0] = 6.0
        tiles[2] = tiles[0] + np.float32(0.001)
        synthetic = np.concatenate([normal(rng, 200, 16), np.repeat(tiles[:2], 5, axis=0)])
        scores = density_ratio(tiles, synthetic, reference)
        assert np.isfinite(scores).all()
        assert scores.argsort()[::-1][:2].tolist() == [0, 1]
        assert scores[0] > scores[2] > scores[3:].max()

    def test_all_copies_share_one_floor_of_eight_float32_units(
        self, rng: np.random.Generator
    ) -> None:
        """Rounding of the projection tells copies apart by up to 10 in the logarithm, times D."""
        synthetic, reference = normal(rng, 301, 30), normal(rng, 200, 30) * np.float32(2)
        centre = (synthetic.mean(axis=0) + reference.mean(axis=0)) / 2
        spread = [((x - centre) ** 2).sum(axis=1).mean() for x in (synthetic, reference)]
        far = distances(synthetic, reference).min(axis=1) / np.sqrt(np.mean(spread))
        expected = 30 * np.log(far / (8 * 2.0**-23)) + np.log(200 / 301)
        got = density_ratio(synthetic, synthetic, reference, k=1)
        np.testing.assert_allclose(got, expected, rtol=1e-6)

    def test_duplicates_of_everything_score_the_ratio_of_the_sizes(self) -> None:
        point, other = rows(*[(1.0, 1.0)] * 5), rows(*[(4.0, 5.0)] * 5)
        both = np.concatenate([point, other])
        got = density_ratio(point[:1], both, np.concatenate([both, both]))
        assert got == pytest.approx([np.log(2)])

    def test_a_tile_out_of_all_proportion_has_a_finite_score(
        self, rng: np.random.Generator
    ) -> None:
        small = normal(rng, 20, 3) * np.float32(1e-30)
        got = density_ratio(np.full((1, 3), 3e38, dtype="f4"), small, small)
        assert np.isfinite(got).all()

    @pytest.mark.parametrize(("k", "dims"), [(0, 32), (5, 0)])
    def test_no_neighbour_or_no_component_is_an_error(self, k: int, dims: int) -> None:
        x = np.arange(24, dtype=np.float32).reshape(12, 2)
        assert np.isfinite(density_ratio(x, x[::-1] + 1, x + 3, k=1, dims=1)).all()
        with pytest.raises(AuditInputError, match=f"at least 1: got k={k}, dims={dims}"):
            density_ratio(x, x, x, k=k, dims=dims)

    def test_too_few_tiles_or_a_single_point_are_errors(self) -> None:
        x = np.arange(24, dtype=np.float32).reshape(12, 2)
        with pytest.raises(AuditInputError, match="5 neighbours asked for among 4"):
            density_ratio(x, x[:4], x)
        assert len(density_ratio(x, x[:5], x)) == 12
        with pytest.raises(AuditInputError, match="all one point"):
            density_ratio(x, np.ones((9, 2), dtype="f4"), np.ones((9, 2), dtype="f4"))


class TestMonteCarlo:
    @pytest.mark.parametrize("blocks", [None, (7, 5, 8)])
    def test_equals_brute_force_in_any_blocks(
        self,
        rng: np.random.Generator,
        monkeypatch: pytest.MonkeyPatch,
        blocks: tuple[int, int, int] | None,
    ) -> None:
        if blocks:
            for name, size in zip(("_ROWS", "_QUERIES", "_CELLS"), blocks, strict=True):
                monkeypatch.setattr(attacks, name, size)
        tiles, synthetic = normal(rng, 40, 3), normal(rng, 90, 3)
        between = distances(tiles, synthetic)
        for epsilon in (0.3, 1.0, 2.5, 100.0, *between[0, :9]):
            expected = (between <= epsilon * (1 + 1e-9)).mean(axis=1)
            np.testing.assert_array_equal(monte_carlo(tiles, synthetic, epsilon=epsilon), expected)

    @pytest.mark.parametrize("offset", [0, 100, 4096])
    def test_a_distance_equal_to_the_radius_is_within_by_hand(self, offset: int) -> None:
        """(3, 4) is 5 away, (0, 5) too, (6, 0) is not."""
        synthetic = rows((3, 4), (0, 5), (6, 0), (50, 50)) / np.float32(64) + np.float32(offset)
        tile = rows((0, 0)) + np.float32(offset)
        assert monte_carlo(tile, synthetic, epsilon=5 / 64) == [0.5]
        assert monte_carlo(tile, synthetic, epsilon=5 / 64 * (1 - 1e-13)) == [0.5]
        assert monte_carlo(tile, synthetic, epsilon=5 / 64 * (1 - 1e-10)) == [0.0]
        assert monte_carlo(tile, synthetic, epsilon=6 / 64) == [0.75]

    def test_tight_clusters_far_apart_are_counted_to_the_last_tile(
        self, rng: np.random.Generator
    ) -> None:
        """Within a cluster squared distances are 1e-14 of the squared distance to the centre."""
        side = np.where(np.arange(70) < 25, 4096, -4096)[:, None]
        tiles = (rng.integers(0, 3, size=(70, 4)) / 1024 + side).astype("f4")
        between = distances(tiles, tiles)
        for steps in (1, 2, 3):
            expected = (between <= steps / 1024).mean(axis=1)
            got = monte_carlo(tiles, tiles, epsilon=steps / 1024)
            np.testing.assert_array_equal(got, expected)
            assert len(np.unique(got)) > 2

    def test_radius_zero_counts_exact_copies(self, rng: np.random.Generator) -> None:
        tiles = normal(rng, 9, 50) + np.float32(1000)
        synthetic = np.concatenate([tiles[:3], tiles[:1], tiles[3:7] + np.float32(0.001)])
        got = monte_carlo(tiles, synthetic, epsilon=0.0)
        assert (got * 8).tolist() == [2, 1, 1, 0, 0, 0, 0, 0, 0]
        assert monte_carlo(tiles[:1], tiles[:1], epsilon=0.0) == [1.0]

    def test_radius_is_the_median_of_all_candidates_by_hand(self) -> None:
        """Nearest distances 1, 2, 4 and 10: the median is 3."""
        tiles, synthetic = rows((1,), (-2,), (4,), (-10,)), rows((0,), (1e6,))
        assert median_epsilon(tiles, synthetic) == 3.0
        assert monte_carlo(tiles, synthetic).tolist() == [0.5, 0.5, 0.0, 0.0]
        assert monte_carlo(tiles, synthetic, epsilon=4.0).tolist() == [0.5, 0.5, 0.5, 0.0]

    def test_the_median_tile_itself_is_within(self, rng: np.random.Generator) -> None:
        tiles, synthetic = normal(rng, 101, 64), normal(rng, 80, 64)
        assert (monte_carlo(tiles, synthetic) > 0).sum() == 51

    def test_memory_stays_bounded(self, rng: np.random.Generator) -> None:
        tiles, synthetic = normal(rng, 3000, 2), normal(rng, 9000, 2)
        tracemalloc.start()
        monte_carlo(tiles, synthetic, epsilon=0.01)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 3000 * 9000 * 8 / 2

    @pytest.mark.parametrize("epsilon", [-1e-9, float("nan"), float("inf")])
    def test_a_radius_that_is_none_is_an_error(self, epsilon: float) -> None:
        with pytest.raises(AuditInputError, match="epsilon must be a distance"):
            monte_carlo(rows((1.0,)), rows((1.0,)), epsilon=epsilon)


class TestShadow:
    def test_pooled_variance_by_hand(self) -> None:
        """Means 1 and 10, variances 2 and 8, pooled 5."""
        got = shadow(np.array([3.0, 10.0]), np.array([[0.0, 2.0], [8.0, 12.0]]))
        np.testing.assert_allclose(got, [stats.norm.cdf(2 / np.sqrt(5)), 0.5])

    @pytest.mark.parametrize(("shadows", "pooled"), [(63, True), (64, False)])
    def test_a_tile_has_its_own_variance_from_64_shadows_on(
        self, rng: np.random.Generator, shadows: int, pooled: bool
    ) -> None:
        out = rng.normal(size=(5, shadows)) * np.arange(1.0, 6.0)[:, None]
        observed = rng.normal(size=5)
        variance = out.var(axis=1, ddof=1)
        if pooled:
            variance[:] = variance.mean()
        expected = stats.norm.cdf((observed - out.mean(axis=1)) / np.sqrt(variance))
        np.testing.assert_allclose(shadow(observed, out), expected)

    def test_null_scores_are_uniform_and_members_stand_out(self) -> None:
        rng = np.random.default_rng(2)
        level = rng.normal(size=800) * 5
        out = level[:, None] + rng.normal(size=(800, 64))
        scores = shadow(level + rng.normal(size=800) + 2 * (np.arange(800) < 400), out)
        assert stats.kstest(scores[400:], "uniform").pvalue > 0.01
        assert auroc(scores[:400], scores[400:]) > 0.88

    def test_constant_shadows_are_an_error_unless_the_pool_varies(self) -> None:
        out = np.full((3, 64), 0.1)
        out[1:] += np.linspace(0, 1, 64)
        assert np.isfinite(shadow(np.zeros(3), out[:, :63])).all()
        with pytest.raises(AuditInputError, match="1 of 3 tiles do not"):
            shadow(np.zeros(3), out)
        with pytest.raises(AuditInputError, match="3 of 3 tiles do not"):
            shadow(np.zeros(3), np.full((3, 3), 0.1))
        with pytest.raises(AuditInputError, match="2 of 2 tiles do not"):
            shadow(np.zeros(2), np.array([[1e308, -1e308], [0.0, 1.0]]))

    @pytest.mark.parametrize(
        ("observed", "out", "message"),
        [
            (np.zeros(3), np.zeros((2, 5)), r"\(3,\) and \(2, 5\)"),
            (np.zeros(3), np.zeros(3), r"\(3,\) and \(3,\)"),
            (np.zeros((3, 1)), np.zeros((3, 5)), r"\(3, 1\) and"),
            (np.zeros(0), np.zeros((0, 5)), r"\(0,\) and"),
            (np.zeros(2), np.zeros((2, 1)), "needs 2 retrained generators per tile: got 1"),
            (np.array([0.0, np.nan]), np.eye(2), "must be finite"),
            (np.zeros(2), np.array([[0.0, np.inf], [1.0, 2.0]]), "must be finite"),
        ],
    )
    def test_bad_scores_are_errors(self, observed: Floats, out: Floats, message: str) -> None:
        with pytest.raises(AuditInputError, match=message):
            shadow(observed, out)


class TestOutsideScores:
    def make(self, ids: list[str], scores: list[float], name: str = "white_box") -> OutsideScores:
        return OutsideScores(name=name, ids=np.array(ids), scores=np.array(scores))

    def test_joins_by_id_never_by_position(self, rng: np.random.Generator) -> None:
        ids = np.array([f"tile-{i}" for i in range(50)])
        scores, asked = rng.normal(size=50), rng.permutation(50)[:30]
        expected = scores[asked]
        for _ in range(5):
            order = rng.permutation(50)
            outside = OutsideScores(name="discriminator", ids=ids[order], scores=scores[order])
            np.testing.assert_array_equal(outside.for_tiles(ids[asked]), expected)

    def test_numbers_are_ids_too_and_nothing_asked_is_nothing_got(self) -> None:
        outside = OutsideScores(name="shadow", ids=np.array([10, 9]), scores=np.array([1, 2]))
        got = outside.for_tiles([9, 10])
        assert got.tolist() == [2.0, 1.0]
        assert got.dtype == np.float64
        assert outside.for_tiles([]).shape == (0,)

    def test_scores_are_kept_as_given(self) -> None:
        mine = np.array([1.0, 2.0])
        outside = OutsideScores(name="shadow", ids=np.array(["a", "b"]), scores=mine)
        mine[:] = 9.0
        outside.for_tiles(["a"])[:] = 7.0
        assert outside.for_tiles(["a", "b"]).tolist() == [1.0, 2.0]

    def test_registered_names(self) -> None:
        assert set(OUTSIDE_ATTACKS) == {"discriminator", "white_box", "partial_black_box", "shadow"}
        for name in OUTSIDE_ATTACKS:
            assert self.make(["a"], [1.0], name).name == name

    @pytest.mark.parametrize(
        ("name", "near"),
        [("whitebox", "white_box"), ("Shadow", "shadow"), ("x", "."), ("", "")],
    )
    def test_an_unknown_name_is_an_error_naming_the_nearest(self, name: str, near: str) -> None:
        with pytest.raises(AuditInputError, match=f"{name!r}: the nearest is '{near}"):
            self.make(["a"], [1.0], name)

    @pytest.mark.parametrize("missing", ["0", "b5", "z"])
    def test_a_tile_without_score_is_an_error(self, missing: str) -> None:
        outside = self.make(["c", "a", "b"], [3.0, 1.0, 2.0])
        with pytest.raises(AuditInputError, match=rf"1 of 3 have no score \(first: {missing}\)"):
            outside.for_tiles(["a", missing, "c"])

    def test_ids_given_or_asked_twice_are_errors(self) -> None:
        with pytest.raises(AuditInputError, match=r"white_box scores .* 1 ids .* \(first: b\)"):
            self.make(["a", "b", "b"], [1.0, 2.0, 2.0])
        with pytest.raises(AuditInputError, match=r"tiles to be scored .* 1 ids .* \(first: a\)"):
            self.make(["a", "b"], [1.0, 2.0]).for_tiles(["a", "a", "b"])

    @pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
    def test_a_score_that_is_no_finite_number_is_an_error(self, bad: float) -> None:
        with pytest.raises(AuditInputError, match="white_box scores must be finite"):
            self.make(["a", "b"], [1.0, bad])

    def test_scores_that_are_words_or_truths_are_errors(self) -> None:
        for scores in (np.array(["1", "2"]), np.array([True, False])):
            with pytest.raises(AuditInputError, match="finite numbers"):
                OutsideScores(name="shadow", ids=np.array(["a", "b"]), scores=scores)

    def test_shapes_that_do_not_fit_are_errors(self) -> None:
        for ids, scores in ((["a", "b"], [1.0]), ([], []), ([["a"]], [[1.0]])):
            with pytest.raises(AuditInputError, match="one score a tile id"):
                OutsideScores(name="shadow", ids=np.array(ids), scores=np.array(scores))
        with pytest.raises(AuditInputError, match=r"got \(1, 1\)"):
            self.make(["a"], [1.0]).for_tiles([["a"]])

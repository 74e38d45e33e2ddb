"""Proof of a copy: the score by hand, the tail against closed forms and SciPy, the verdict at its
boundaries, and a null that holds copies itself."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from audits import AuditInputError
from audits import proof as module
from audits.intervals import clopper_pearson
from audits.proof import (
    CHANCE_INLIERS,
    INLIER_DECADES,
    MIN_FIT,
    MIN_NULL,
    MIN_SCORE,
    MIN_STRENGTH,
    MOST_ALIKE,
    MOST_STRETCH,
    PROOF_LEVEL,
    Tail,
    alike,
    fit_tail,
    joint_score,
    needed_score,
    proven_copies,
)
from audits.results import AuditResult, Harm

Counts = NDArray[np.intp]
Floats = NDArray[np.float64]


@pytest.fixture(autouse=True)
def few_refits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_REFITS", 29)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def chance(n: int, seed: int = 0) -> tuple[Counts, Floats]:
    """Inliers and strengths as between GlaS tiles of different patients, the best of 9."""
    draw = rng(seed)
    inliers = np.where(draw.random(n) < 0.5, 0, 2 + draw.geometric(0.8, n))
    return inliers, draw.normal(3.3, 0.6, n)


def exponential(rate: float = 0.5, scale: float = 1.0, threshold: float = 3.0) -> Tail:
    return Tail(
        threshold=threshold,
        rate=rate,
        shape=0.0,
        scale=scale,
        best_scale=scale,
        exceedances=50,
        fit=0.5,
    )


def inliers_of(score: float) -> int:
    """Fewest inliers that reach this score by themselves."""
    return int(np.ceil(CHANCE_INLIERS + score / INLIER_DECADES - 1e-9))


def strength_of(score: float) -> float:
    """The strength that reaches this score by itself."""
    return float(np.sqrt(2 * np.log(10) * score))


def search(
    inliers: list[int] | Counts,
    *,
    strength: float | list[float] | Floats = 12.0,
    null: tuple[Counts, Floats] | None = None,
    duplicates: NDArray[np.bool_] | None = None,
    featureless: NDArray[np.bool_] | None = None,
) -> AuditResult:
    counts = np.asarray(inliers, dtype=np.intp)
    null_inliers, null_strength = chance(400) if null is None else null
    return proven_copies(
        inliers=counts,
        strength=np.broadcast_to(np.asarray(strength, dtype=float), counts.shape),
        null_inliers=null_inliers,
        null_strength=null_strength,
        null_duplicates=duplicates,
        featureless=featureless,
        rng=rng(),
    )


def with_copies(copies: int, *, inliers: int = 60, strength: float = 15.0) -> tuple[Counts, Floats]:
    """A null of 400 in which some pairs of patients show the same tissue."""
    counts, strengths = chance(400)
    counts[:copies], strengths[:copies] = inliers, strength
    return counts, strengths


class TestScore:
    def test_by_hand(self) -> None:
        inliers = np.array([0, 3, 4, 13, 13, 3])
        strength = np.array([0.0, 0.0, 0.0, 0.0, 2.0, -5.0])
        # z = 2: 4 / (2 ln 10) = 0.8686
        expected = [0, 0, INLIER_DECADES, 10 * INLIER_DECADES, 10 * INLIER_DECADES + 0.8686, 0]
        np.testing.assert_allclose(joint_score(inliers, strength), expected, atol=5e-5)
        assert CHANCE_INLIERS == 3

    def test_strength_counts_as_the_decades_of_a_normal_tail(self) -> None:
        z = np.array([4.0, 6.0, 10.0, 15.0])
        decades = -stats.norm.logsf(z) / np.log(10)
        slow = np.log10(z * np.sqrt(2 * np.pi))  # Mills: sf(z) ~ exp(-z^2 / 2) / (z sqrt(2 pi))
        score = joint_score(np.zeros(4, dtype=np.intp), z)
        np.testing.assert_allclose(score, decades - slow, atol=0.03)

    def test_each_of_the_two_only_raises_it(self) -> None:
        inliers, strength = np.meshgrid(np.arange(40), np.linspace(-3, 12, 61), indexing="ij")
        score = joint_score(inliers, strength)
        assert (np.diff(score, axis=0) >= 0).all()
        assert (np.diff(score, axis=1) >= 0).all()

    def test_one_makes_up_for_the_other_down_to_the_least_strength(self) -> None:
        some = inliers_of(MIN_SCORE)
        counts = np.array([some, 0, some - 1, some + 90, some])
        strengths = np.array(
            [
                MIN_STRENGTH,
                strength_of(MIN_SCORE) + 1e-9,
                MIN_STRENGTH + 2,
                np.nextafter(MIN_STRENGTH, 0),
                0.0,
            ]
        )
        assert alike(counts, strengths).tolist() == [True, True, True, False, False]

    def test_reaching_the_score_is_enough(self) -> None:
        counts, strengths = np.array([20, 20]), np.array([5.0, np.nextafter(5.0, 0)])
        exact = float(joint_score(counts[:1], strengths[:1])[0])
        assert alike(counts, strengths, needed=exact).tolist() == [True, False]
        assert not alike(counts, strengths, needed=np.nextafter(exact, 99)).any()


class TestTail:
    @pytest.mark.parametrize("scale", [0.3, 1.0, 4.0])
    def test_an_exponential_law_is_recovered(
        self, scale: float, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "_REFITS", 0)
        tail = fit_tail(rng().exponential(scale, 20_000), rng=rng())
        assert tail.shape <= 0.06
        assert tail.best_scale == pytest.approx(scale, rel=0.06)
        assert tail.scale > tail.best_scale
        assert tail.threshold == pytest.approx(scale * np.log(10), rel=0.05)

    def test_a_heavy_tail_is_recovered(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "_REFITS", 0)
        drawn = stats.genpareto.rvs(0.4, scale=2.0, size=20_000, random_state=1)
        tail = fit_tail(drawn, rng=rng())
        assert tail.shape == pytest.approx(0.4, abs=0.06)
        # Beyond u the law is one of its own kind, of scale 2 + .4 u.
        assert tail.best_scale == pytest.approx(2 + 0.4 * tail.threshold, rel=0.07)

    @pytest.mark.parametrize(("shape", "scale"), [(0.0, 1.3), (0.25, 0.8), (0.7, 2.0)])
    def test_the_likelihood_is_scipys(self, shape: float, scale: float) -> None:
        drawn = stats.genpareto.rvs(shape, scale=scale, size=80, random_state=2)
        ours = module._likelihood(drawn)
        for i in (0, 5, 30, 50):
            for j in (100, 200, 260):
                law = stats.genpareto(max(module._SHAPES[i], 1e-9), scale=module._SCALES[j])
                assert ours[i, j] == pytest.approx(law.logpdf(drawn).sum(), rel=1e-6)

    @pytest.mark.parametrize("shape", [0.0, 0.2])
    def test_no_law_of_scipys_fit_is_likelier_by_more_than_the_grid(self, shape: float) -> None:
        for seed in range(5):
            drawn = stats.genpareto.rvs(shape, scale=1.5, size=60, random_state=seed)
            ours, best, _ = module._fit(drawn)
            theirs, _, scale = stats.genpareto.fit(drawn, floc=0)
            if theirs < 0:  # SciPy may give the law an end point; ours is exponential there
                assert ours == 0
                assert best == pytest.approx(drawn.mean(), rel=0.02)
                continue
            fitted = stats.genpareto(max(ours, 1e-9), scale=best).logpdf(drawn).sum()
            assert fitted > stats.genpareto(theirs, scale=scale).logpdf(drawn).sum() - 0.02

    @pytest.mark.parametrize(("shape", "scale"), [(0.0, 0.8), (0.3, 2.0)])
    def test_draws_follow_the_law(self, shape: float, scale: float) -> None:
        drawn = module._draw(20_000, shape, scale, rng())
        assert stats.kstest(drawn, stats.genpareto(shape, scale=scale).cdf).pvalue > 0.01

    def test_the_anderson_darling_distance_is_scipys_definition(self) -> None:
        drawn = np.sort(stats.genpareto.rvs(0.2, scale=1.0, size=40, random_state=3))
        u = stats.genpareto(0.2, scale=1.0).cdf(drawn)
        i = np.arange(1, 41)
        expected = -40 - ((2 * i - 1) * (np.log(u) + np.log1p(-u[::-1]))).sum() / 40
        assert module._anderson_darling(drawn[::-1], 0.2, 1.0) == pytest.approx(expected)

    def test_the_threshold_leaves_a_tenth_and_at_least_30(self) -> None:
        scores = np.arange(1000) / 100
        tail = fit_tail(rng().permutation(scores), rng=rng())
        assert (tail.threshold, tail.exceedances, tail.rate) == (8.99, 100, 0.1)
        tail = fit_tail(scores[:120], rng=rng())
        assert (tail.threshold, tail.exceedances, tail.rate) == (0.89, 30, 0.25)

    def test_equal_scores_at_the_threshold_lower_it(self) -> None:
        scores = np.repeat([0.0, 1.0, 2.0, 3.0], [800, 150, 40, 10])
        tail = fit_tail(scores, rng=rng())
        assert (tail.threshold, tail.exceedances, tail.rate) == (0.0, 200, 0.2)
        assert fit_tail(np.repeat([0.0, 1, 2, 3], [800, 100, 90, 10]), rng=rng()).threshold == 1
        assert fit_tail(np.repeat([0.0, 1, 2, 3], [800, 101, 89, 10]), rng=rng()).threshold == 0

    def test_scores_that_are_all_equal_are_all_of_the_tail(self) -> None:
        tail = fit_tail(np.full(50, 2.0), rng=rng())
        assert (tail.exceedances, tail.rate) == (50, 1.0)
        assert tail.threshold == pytest.approx(2.0)
        assert tail.threshold < 2.0

    def test_exceedance_by_hand(self) -> None:
        assert exponential().exceedance(5) == pytest.approx(0.5 * np.exp(-2))
        assert exponential().exceedance(3) == 0.5
        heavy = replace(exponential(rate=0.1, scale=2.0, threshold=4), shape=0.5, best_scale=1.0)
        assert heavy.exceedance(10) == pytest.approx(0.1 * (1 + 0.5 * 6 / 2) ** -2)
        law = stats.genpareto(0.5, loc=4, scale=2.0)
        assert heavy.exceedance(6.5) == pytest.approx(0.1 * law.sf(6.5))

    def test_the_scale_limit_covers(self) -> None:
        covered = []
        for seed in range(300):
            shape, _, limit = module._fit(rng(seed).exponential(1.0, 60))
            covered.append(limit >= 1.0 or shape > 0)
        assert np.mean(covered) > 0.92

    def test_a_law_that_is_no_tail_is_told(self) -> None:
        lumps = np.concatenate([chance_scores(795), np.full(5, 90.0)])
        assert fit_tail(lumps, rng=rng()).fit < 0.05
        assert fit_tail(chance_scores(800), rng=rng()).fit > 0.05

    def test_30_scores_are_refused(self) -> None:
        with pytest.raises(AuditInputError, match="more than 30 null scores: got 30"):
            fit_tail(chance_scores(30), rng=rng())
        assert fit_tail(chance_scores(31), rng=rng()).exceedances == 30


def chance_scores(n: int) -> Floats:
    return rng(5).exponential(0.6, n)


class TestNeededScore:
    def test_by_hand(self) -> None:
        # 1,000 * .5 * exp(-(x - 3)) = 1e-3 where x = 3 + ln(500,000) = 16.12
        assert needed_score(exponential(), searched=1000) == pytest.approx(3 + np.log(500_000))
        assert needed_score(exponential(), searched=100, level=0.5) == MIN_SCORE

    @pytest.mark.parametrize("shape", [0.0, 1e-12, 0.1, 0.5, 1.0])
    def test_chance_exceeds_it_with_just_the_level(self, shape: float) -> None:
        tail = replace(exponential(rate=0.2, scale=1.5, threshold=6.0), shape=shape)
        for searched in (10, 100, 1000, 1_000_000):
            needed = needed_score(tail, searched=searched)
            assert searched * tail.exceedance(needed) == pytest.approx(PROOF_LEVEL, rel=1e-6)

    def test_it_is_scipys_quantile(self) -> None:
        tail = replace(exponential(rate=0.1, scale=0.7, threshold=5.0), shape=0.3)
        law = stats.genpareto(0.3, loc=5.0, scale=0.7)
        expected = law.isf(PROOF_LEVEL / (300 * 0.1))
        assert needed_score(tail, searched=300) == pytest.approx(expected)

    def test_a_level_that_the_threshold_itself_keeps_asks_for_no_more(self) -> None:
        tail = exponential(rate=1e-6, threshold=40.0)
        assert needed_score(tail, searched=1) == 40.0


class TestProvenCopies:
    def test_a_few_copies_among_many_are_proven_one_by_one(self) -> None:
        counts, strengths = chance(325, 1)
        found = search(
            np.concatenate([counts, [40, 60, 200]]),
            strength=np.concatenate([strengths, [9.0, 20.0, 60.0]]),
        )
        assert found.rejected is True
        assert found.details["proven"] == 3
        assert (found.name, found.harm) == ("aligned_copies", Harm.COPYING)
        low, high = clopper_pearson(3, 328)
        estimate = found.statistic
        assert (estimate.value, estimate.low, estimate.high) == (3 / 328, low, high)
        assert (estimate.n, estimate.unit) == (328, "tile")
        assert (found.p_value, found.p_adjusted) == (None, None)

    def test_no_copies_are_no_leak(self) -> None:
        counts, strengths = chance(300, 2)
        found = search(counts, strength=strengths)
        assert found.rejected is False
        assert found.statistic.value == 0
        assert found.details["above_floors"] == 0

    def test_the_threshold_itself_is_enough_and_less_is_not(self) -> None:
        needed = search([3, 3, 3]).details["needed_score"]
        assert needed >= MIN_SCORE
        at = strength_of(needed) + 1e-9
        assert search([3, 3, 3], strength=[0, 0, at]).rejected is True
        assert search([3, 3, 3], strength=[0, 0, at - 1e-6]).rejected is False
        exact = inliers_of(needed)
        assert search([3, 3, exact], strength=MIN_STRENGTH).rejected is True

    def test_the_needed_score_is_that_of_the_tail(self) -> None:
        null = chance(400)
        found = search([3] * 250, strength=0.0, null=null)
        tail = fit_tail(joint_score(*null), rng=rng())
        expected = max(MIN_SCORE, needed_score(tail, searched=250))
        largest = float(joint_score(*null).max())
        assert found.details["null_largest"] == largest
        expected = max(MIN_SCORE, min(expected, MOST_STRETCH * largest))
        assert found.details["needed_score"] == expected
        assert found.details["tail_threshold"] == tail.threshold

    @pytest.mark.parametrize("strength", [0.0, 1.0, np.nextafter(MIN_STRENGTH, 0)])
    def test_key_points_alone_prove_nothing(self, strength: float) -> None:
        """Grids, stripes and repeated tissue share key points without being the same."""
        found = search([500, 4], strength=[strength, 0.0])
        assert found.rejected is False
        assert (found.details["proven"], found.details["above_floors"]) == (0, 0)
        assert search([500, 4], strength=[MIN_STRENGTH, 0.0]).rejected is True

    def test_tissue_alone_is_proof_where_it_is_strong_enough(self) -> None:
        """A blurred copy has no key points left."""
        assert search([0, 0], strength=[14.0, 0.5]).details["proven"] == 1

    def test_weak_evidence_of_both_kinds_adds_up(self) -> None:
        needed = search([3]).details["needed_score"]
        half = inliers_of(needed / 2)
        strength = strength_of(needed / 2)
        found = search([half, half, 3], strength=[strength, 0.0, strength])
        assert found.details["proven"] == 1

    def test_known_duplicates_of_the_null_are_left_out(self) -> None:
        counts, strengths = chance(404)
        counts[400:], strengths[400:] = (150, 180, 220, 300), 30.0
        twice = np.arange(404) >= 400
        found = search([60], null=(counts, strengths), duplicates=twice)
        assert found.rejected is True
        assert (found.details["null_scores"], found.details["null_duplicates_removed"]) == (400, 4)
        assert found.details["null_alike"] == 0
        clean = search([60], null=(counts[:400], strengths[:400]))
        assert found.details["needed_score"] == clean.details["needed_score"]

    def test_featureless_tiles_can_be_proven_but_not_cleared(self) -> None:
        found = search(
            [50, 0, 4], strength=[9.0, 0.0, 0.0], featureless=np.array([False, True, False])
        )
        assert (found.statistic.value, found.statistic.n) == (0.5, 2)
        assert (found.details["featureless"], found.details["searched"]) == (1, 2)
        blurred = search(
            [50, 0, 0], strength=[9.0, 14.0, 0.0], featureless=np.array([False, True, True])
        )
        assert (blurred.details["proven"], blurred.details["featureless"]) == (2, 1)
        assert (blurred.statistic.value, blurred.statistic.n) == (1.0, 2)

    def test_where_every_tile_is_featureless_only_a_proof_says_anything(self) -> None:
        blank = np.array([True, True])
        nothing = search([0, 0], strength=0.0, featureless=blank)
        assert nothing.rejected is None
        assert "featureless" in nothing.note
        assert (nothing.statistic.value, nothing.statistic.low, nothing.statistic.high) == (0, 0, 1)
        assert search([0, 0], strength=[14.0, 0.0], featureless=blank).rejected is True

    def test_too_few_null_scores_give_a_count_and_no_proof(self) -> None:
        found = search([50, 3], strength=[9.0, 0.0], null=chance(MIN_NULL - 1))
        assert found.rejected is None
        assert found.statistic.value == 0.5
        assert found.details["proven"] is None
        assert f"{MIN_NULL - 1} null scores are too few ({MIN_NULL} needed)" in found.note
        assert search([50, 3], strength=[9.0, 0.0], null=chance(MIN_NULL)).rejected is True

    def test_above_floors_counts_what_aligns_as_copies_do_proven_or_not(self) -> None:
        floor = inliers_of(MIN_SCORE)
        some = {
            "inliers": [floor, floor - 1, floor, 0, 0],
            "strength": [
                MIN_STRENGTH,
                MIN_STRENGTH * 0.5,
                np.nextafter(MIN_STRENGTH, 0),
                strength_of(MIN_SCORE) + 1e-9,
                strength_of(MIN_SCORE) - 1e-6,
            ],
        }
        few = search(**some, null=chance(20))  # type: ignore[arg-type]
        assert (few.details["above_floors"], few.details["proven"]) == (2, None)
        assert few.statistic.value == pytest.approx(2 / 5)
        assert few.details["needed_score"] == MIN_SCORE
        many = search(**some, null=heavy_null())  # type: ignore[arg-type]
        assert many.details["needed_score"] > joint_score(np.array([floor]), np.array([3.0]))[0]
        assert (many.details["above_floors"], many.details["proven"]) == (2, 0)

    def test_a_tail_that_does_not_fit_proves_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "_REFITS", 199)
        inliers, strength = chance(800)
        inliers[:20], strength[:20] = 400, 1.0  # many key points, but never the same tissue
        found = search([5000], strength=90.0, null=(inliers, strength))
        assert found.rejected is None
        assert "does not fit" in found.note

    @pytest.mark.parametrize(("fit", "believed"), [(MIN_FIT, True), (MIN_FIT * 0.999, False)])
    def test_the_worst_fit_that_is_believed(
        self, fit: float, believed: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "fit_tail", lambda scores, rng: replace(exponential(), fit=fit))
        assert search([50]).rejected is (True if believed else None)

    def test_the_order_of_tiles_does_not_matter(self) -> None:
        null, (counts, strengths) = chance(300), chance(50, 3)
        counts[7], strengths[7] = 44, 9.0
        first = search(counts, strength=strengths, null=null)
        mixed = rng(1).permutation(300)
        second = search(
            counts[::-1], strength=strengths[::-1], null=(null[0][mixed], null[1][mixed])
        )
        assert first.details == second.details

    def test_chance_is_hardly_ever_proven(self) -> None:
        found = []
        for seed in range(60):
            counts, strengths = chance(300, 1000 + seed)
            found.append(search(counts, strength=strengths, null=chance(300, seed)))
        assert sum(each.rejected is True for each in found) <= 1
        assert sum(each.rejected is None for each in found) <= 5

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"inliers": np.array([-1, 3])}, "synthetic inliers must be counts"),
            ({"inliers": np.array([1.0, 3.0])}, "synthetic inliers must be counts"),
            ({"null_inliers": np.full((2, 2), 3)}, "null inliers must be counts"),
            ({"strength": np.zeros(3)}, "synthetic strength and featureless must hold one"),
            ({"featureless": np.zeros(3, dtype=np.bool_)}, "synthetic strength and featureless"),
            ({"null_duplicates": np.zeros(3, dtype=np.bool_)}, "null strength and duplicates"),
            ({"strength": np.array([0.1, np.nan])}, "synthetic strength must be finite"),
            ({"strength": np.array([0.1, np.inf])}, "synthetic strength must be finite"),
            ({"null_strength": np.full(200, -np.inf)}, "null strength must be finite"),
            (
                {"inliers": np.zeros(0, dtype=np.intp), "strength": np.zeros(0)},
                "needs synthetic tiles: got none",
            ),
        ],
    )
    def test_bad_input_is_one_clear_line(self, change: dict[str, object], message: str) -> None:
        given = {
            "inliers": np.array([3, 4]),
            "strength": np.array([0.1, 0.2]),
            "null_inliers": chance(200)[0],
            "null_strength": np.zeros(200),
        }
        with pytest.raises(AuditInputError, match=message):
            proven_copies(**(given | change), rng=rng())  # type: ignore[arg-type]


def heavy_null() -> tuple[Counts, Floats]:
    """A null whose scores come near the floor, so that more than the floor is needed."""
    inliers, strength = chance(400)
    near = int(MIN_SCORE / INLIER_DECADES * 0.7)
    inliers[:12] = CHANCE_INLIERS + np.arange(12) % near
    strength[:12] = MIN_STRENGTH * 0.9
    return inliers, strength


class TestContaminatedNull:
    """Two patients share a field, or one stands there under two names."""

    @pytest.mark.parametrize("copies", [1, 3, 8])
    @pytest.mark.parametrize("inliers", [15, 60, 300])
    def test_some_copies_in_the_null_change_nothing_and_are_counted(
        self, copies: int, inliers: int
    ) -> None:
        """Four copies of other patients' tiles, seen from the side, keep 191 to 280 key points."""
        ours = {"inliers": [191, 220, 250, 280, 3, 4], "strength": [12.0, 14, 9, 15, 0.3, -0.5]}
        found = search(**ours, null=with_copies(copies, inliers=inliers))  # type: ignore[arg-type]
        assert found.rejected is True
        assert found.details["proven"] == 4
        assert (found.details["null_alike"], found.details["null_scores"]) == (copies, 400 - copies)
        counts, strengths = with_copies(copies)
        clean = search(**ours, null=(counts[copies:], strengths[copies:]))  # type: ignore[arg-type]
        assert found.details["needed_score"] == clean.details["needed_score"]

    def test_one_pair_with_sixty_key_points_raises_no_threshold(self) -> None:
        """Once it raised the threshold from 10 to 6,285 key points, with a good fit."""
        found = search([191, 280], null=with_copies(1))
        assert found.rejected is True
        assert found.details["needed_score"] < 2 * MIN_SCORE

    def test_what_does_not_quite_reach_the_floor_moves_it_by_no_more_than_the_stretch(self) -> None:
        counts, strengths = chance(400)
        just = joint_score(np.array([0]), np.array([strength_of(MIN_SCORE * 0.99)]))[0]
        counts[:3], strengths[:3] = 0, strength_of(MIN_SCORE * 0.99)
        found = search([3], strength=0.0, null=(counts, strengths))
        assert found.details["null_alike"] == 0
        assert found.details["null_largest"] == pytest.approx(just)
        assert found.details["needed_score"] <= MOST_STRETCH * just
        proven = search([inliers_of(MOST_STRETCH * MIN_SCORE)], null=(counts, strengths))
        assert proven.rejected is True

    def test_the_stretch_bounds_a_tail_that_leads_far_away(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        far = replace(exponential(scale=40.0), shape=1.0)
        monkeypatch.setattr(module, "fit_tail", lambda scores, rng: far)
        null = heavy_null()
        largest = float(joint_score(*null).max())
        assert needed_score(far, searched=1) > 100
        found = search([3], strength=0.0, null=null)
        assert found.details["needed_score"] == max(MIN_SCORE, MOST_STRETCH * largest)

    def test_many_key_points_that_show_no_same_tissue_stay_in_the_null(self) -> None:
        """The same grid in two patients is chance, as far as the tissue goes."""
        found = search([3], strength=0.0, null=with_copies(3, strength=MIN_STRENGTH * 0.99))
        assert found.details["null_alike"] == 0
        assert found.details["null_scores"] == 400

    def test_a_null_of_which_too_much_shows_other_patients_tissue_tells_nothing(self) -> None:
        most = int(MOST_ALIKE * 400)
        assert search([191], null=with_copies(most)).rejected is True
        found = search([191, 3], strength=[12.0, 0.0], null=with_copies(most + 1))
        assert found.rejected is None
        assert found.details["proven"] is None
        assert found.details["above_floors"] == 1
        assert found.details["null_alike"] == most + 1
        assert f"{most + 1} of 400 real tiles show the tissue of another patient's" in found.note
        assert "run `data check`" in found.note

    def test_known_duplicates_are_not_counted_again(self) -> None:
        null = with_copies(30)
        found = search([191], null=null, duplicates=np.arange(400) < 25)
        assert found.rejected is True
        assert found.details["null_alike"] == 5
        assert found.details["null_duplicates_removed"] == 25
        assert found.details["null_scores"] == 370

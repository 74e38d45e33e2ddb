"""Proof of a copy: the score by hand, and the verdict at its boundaries."""

from dataclasses import replace

import numpy as np
import pytest
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
    MOST_STRETCH,
    alike,
    fit_tail,
    joint_score,
    needed_score,
    proven_copies,
)
from audits.results import Harm
from tests.helpers.proofs import (
    chance,
    exponential,
    heavy_null,
    inliers_of,
    rng,
    search,
    strength_of,
)

pytestmark = pytest.mark.usefixtures("few_refits")


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

"""TPR at FPR: by hand, known answers and simulated nulls."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from audits import AuditInputError
from audits.membership import finest_fpr, tpr_at_fpr, tpr_result

Floats = NDArray[np.float64]


class TestTprAtFpr:
    def test_by_hand(self) -> None:
        """Of 10 nonmembers 2 may pass: the third highest, 8, is the threshold."""
        found = tpr_at_fpr(np.array([7.0, 8.5, 9.5, 11.0]), np.arange(1.0, 11.0), fpr=0.2)
        assert (found.threshold, found.rank) == (8.0, 3)
        assert (found.tpr.value, found.tpr.n, found.tpr.unit) == (0.75, 4, "patient")
        assert (found.fpr.value, found.fpr.n, found.fpr.unit) == (0.2, 10, "patient")

    @pytest.mark.parametrize("confidence", [0.95, 0.8])
    def test_intervals_are_clopper_pearson(self, confidence: float) -> None:
        found = tpr_at_fpr(
            np.array([0.0, 20.0, 20.0]), np.arange(20.0), fpr=0.1, confidence=confidence
        )
        for estimate, count in ((found.tpr, 2), (found.fpr, 2)):
            exact = stats.binomtest(count, estimate.n).proportion_ci(confidence, "exact")
            assert (estimate.low, estimate.high) == pytest.approx((exact.low, exact.high))
            assert estimate.confidence == confidence

    def test_ties_go_against_the_attacker(self) -> None:
        """One of 5 may pass, but two share the highest score: none passes, nor the tied member."""
        found = tpr_at_fpr(np.array([3.0, 3.0, 4.0]), np.array([1.0, 1.0, 2.0, 3.0, 3.0]), fpr=0.2)
        assert found.threshold == 3.0
        assert found.tpr.value == pytest.approx(1 / 3)
        assert found.fpr.value == 0.0

    def test_a_constant_score_finds_nobody(self) -> None:
        found = tpr_at_fpr(np.ones(50), np.ones(50), fpr=0.5)
        assert (found.tpr.value, found.fpr.value) == (0.0, 0.0)

    @pytest.mark.parametrize(("fpr", "n"), [(0.01, 137), (0.05, 20), (0.29, 100), (0.99, 7)])
    def test_no_lower_threshold_keeps_the_rate_and_a_higher_finds_no_more(
        self, rng: np.random.Generator, fpr: float, n: int
    ) -> None:
        members, others = np.round(rng.normal(size=60), 1) + 0.5, np.round(rng.normal(size=n), 1)
        every = np.unique(np.concatenate([members, others, [others.min() - 1]]))
        allowed = [t for t in every if (others > t).mean() <= fpr]
        found = tpr_at_fpr(members, others, fpr=fpr)
        assert found.tpr.value == max((members > t).mean() for t in allowed)
        assert found.fpr.value == (others > found.threshold).mean() <= fpr

    def test_a_rate_is_the_decimal_number_that_was_written(self) -> None:
        """.29 * 100 is 28.999... in floating point; 29 of 100 may pass all the same."""
        assert tpr_at_fpr(np.ones(1), np.arange(100.0), fpr=0.29).fpr.value == 0.29

    @pytest.mark.parametrize(
        ("fpr", "n", "instead"), [(0.01, 100, "0.05"), (0.05, 20, "0.1"), (0.1, 10, "0.2")]
    )
    def test_a_rate_finer_than_one_nonmember_is_refused(
        self, fpr: float, n: int, instead: str
    ) -> None:
        assert tpr_at_fpr(np.ones(3), np.arange(float(n)), fpr=fpr).fpr.value == fpr
        with pytest.raises(AuditInputError) as error:
            tpr_at_fpr(np.ones(3), np.arange(n - 1.0), fpr=fpr, unit="slide")
        assert str(error.value) == (
            f"TPR at FPR {fpr:g} needs {n} nonmember slides: got {n - 1}. "
            f"Add slides or ask for FPR {instead}."
        )

    def test_what_is_needed_is_rounded_up(self) -> None:
        """One of 3 is .33, more than .3."""
        with pytest.raises(AuditInputError, match="needs 4 nonmember patients: got 3"):
            tpr_at_fpr(np.ones(3), np.arange(3.0), fpr=0.3)
        assert tpr_at_fpr(np.ones(3), np.arange(4.0), fpr=0.3).fpr.value == 0.25

    def test_with_four_nonmembers_there_is_no_rate_to_offer(self) -> None:
        with pytest.raises(AuditInputError, match=r"needs 5 .* got 4\. Add patients\.$"):
            tpr_at_fpr(np.ones(3), np.arange(4.0), fpr=0.2)

    def test_finest_rate_by_count(self) -> None:
        counts = (0, 4, 5, 9, 10, 19, 20, 99, 100, 5000)
        got = [finest_fpr(n) for n in counts]
        assert got == [None, None, 0.2, 0.2, 0.1, 0.1, 0.05, 0.05, 0.01, 0.01]

    @pytest.mark.parametrize("share", [0.0, 1.0, -0.1, 1.1, float("nan")])
    def test_a_rate_or_confidence_that_is_none_is_an_error(self, share: float) -> None:
        with pytest.raises(AuditInputError, match="fpr must be a number in"):
            tpr_at_fpr(np.ones(3), np.ones(30), fpr=share)
        with pytest.raises(AuditInputError, match="confidence must be a number in"):
            tpr_at_fpr(np.ones(3), np.ones(30), fpr=0.1, confidence=share)

    @pytest.mark.parametrize("bad", [np.ones(0), np.array([1.0, np.nan]), np.ones((20, 2))])
    def test_scores_that_are_none_are_an_error(self, bad: Floats) -> None:
        with pytest.raises(AuditInputError, match="nonmember scores must be finite"):
            tpr_at_fpr(np.ones(3), bad, fpr=0.2)
        with pytest.raises(AuditInputError, match="member scores must be finite"):
            tpr_at_fpr(bad, np.ones(30), fpr=0.2)

    def test_intervals_hold_the_true_rates(self) -> None:
        """Members at +1, 40 against 40: the threshold moves, and both intervals stand for it."""
        rng = np.random.default_rng(5)
        missed_tpr, missed_fpr = 0, 0
        for _ in range(400):
            found = tpr_at_fpr(rng.normal(size=40) + 1, rng.normal(size=40), fpr=0.1)
            tpr, fpr = stats.norm.sf(found.threshold - 1), stats.norm.sf(found.threshold)
            assert found.tpr.low is not None
            assert found.tpr.high is not None
            assert found.fpr.low is not None
            assert found.fpr.high is not None
            missed_tpr += not found.tpr.low <= tpr <= found.tpr.high
            missed_fpr += not found.fpr.low <= fpr <= found.fpr.high
        assert missed_tpr / 400 <= 0.07
        assert missed_fpr / 400 <= 0.07

    @pytest.mark.parametrize(("n", "fpr"), [(5, 0.2), (20, 0.1), (37, 0.05)])
    def test_a_blind_score_finds_what_chance_says(self, n: int, fpr: float) -> None:
        rng = np.random.default_rng(n)
        found = [tpr_at_fpr(rng.normal(size=30), rng.normal(size=n), fpr=fpr) for _ in range(600)]
        values = np.array([one.tpr.value for one in found])
        error = values.std() / np.sqrt(600)
        assert abs(values.mean() - found[0].chance) < 3.5 * error
        assert values.mean() - found[0].fpr.value > 3.5 * error

    def test_result_tells_the_rate_achieved_and_nobodys_score(self) -> None:
        others = np.array([1.25, 2.25, 3.25, 4.25, 4.25])
        result = tpr_result("tpr_x", np.array([5.25, 0.25]), others, fpr=0.2, unit="patient")
        assert (result.name, result.harm, result.p_value) == ("tpr_x", None, None)
        assert (result.statistic.value, result.statistic.n) == (0.5, 2)
        assert result.note == (
            "FPR achieved 0 (asked 0.2, 5 nonmember patients); a blind score finds 0.333."
        )
        assert result.details == {
            "fpr_asked": 0.2,
            "fpr_achieved": 0.0,
            "fpr_low": 0.0,
            "fpr_high": pytest.approx(1 - 0.025 ** (1 / 5)),
            "tpr_by_chance": 2 / 6,
            "threshold_rank": 2,
            "member_patients": 2,
            "nonmember_patients": 5,
        }
        assert ".25" not in str(result)

    def test_result_over_tiles_says_that_it_describes(self) -> None:
        result = tpr_result("x", np.ones(3), np.arange(5.0), fpr=0.2, unit="tile", confidence=0.9)
        assert "a description" in result.note
        assert result.statistic.unit == "tile"
        assert result.statistic.confidence == 0.9

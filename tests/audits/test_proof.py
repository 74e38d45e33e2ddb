"""Proof of a copy: the tail against closed forms and simulation, the verdict at its boundaries."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from audits import AuditInputError
from audits import proof as module
from audits.intervals import clopper_pearson
from audits.proof import (
    AGREEMENT_QUANTILE,
    MIN_AGREEMENT,
    MIN_FIT,
    MIN_INLIERS,
    MIN_NULL,
    PROOF_LEVEL,
    Tail,
    alike,
    fit_tail,
    needed_inliers,
    proven_copies,
)
from audits.results import AuditResult, Harm

Counts = NDArray[np.intp]


@pytest.fixture(autouse=True)
def few_refits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_REFITS", 29)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def chance(n: int, seed: int = 0, *, again: float = 0.3) -> Counts:
    """Inliers by chance: 3 or more, each further one with probability `again`."""
    return 2 + rng(seed).geometric(1 - again, n)


def exponential(rate: float = 0.5, scale: float = 1.0, threshold: int = 3) -> Tail:
    return Tail(
        threshold=threshold,
        rate=rate,
        shape=0.0,
        scale=scale,
        best_scale=scale,
        exceedances=50,
        fit=0.5,
    )


def search(
    inliers: list[int] | Counts,
    *,
    agreement: float | list[float] = 0.9,
    null: Counts | None = None,
    null_agreement: float = 0.1,
    duplicates: NDArray[np.bool_] | None = None,
    featureless: NDArray[np.bool_] | None = None,
) -> AuditResult:
    counts = np.asarray(inliers, dtype=np.intp)
    null = chance(400) if null is None else null
    return proven_copies(
        inliers=counts,
        agreement=np.broadcast_to(np.asarray(agreement, dtype=float), counts.shape),
        null_inliers=null,
        null_agreement=np.full(len(null), null_agreement),
        null_duplicates=duplicates,
        featureless=featureless,
        rng=rng(),
    )


class TestTail:
    @pytest.mark.parametrize("again", [0.1, 0.3, 0.6])
    def test_a_geometric_law_is_recovered(self, again: float) -> None:
        tail = fit_tail(chance(20_000, again=again), rng=rng())
        assert tail.shape <= 0.06
        if tail.shape == 0:
            assert np.exp(-1 / tail.best_scale) == pytest.approx(again, rel=0.06)
        assert tail.scale > tail.best_scale
        assert tail.fit > 0.01

    def test_a_heavy_tail_is_recovered(self) -> None:
        counts = 3 + module._draw(20_000, 0.4, 2.0, rng())
        tail = fit_tail(counts, rng=rng())
        assert tail.shape == pytest.approx(0.4, abs=0.06)

    @pytest.mark.parametrize(("shape", "scale"), [(0.0, 0.8), (0.3, 2.0)])
    def test_draws_follow_the_law(self, shape: float, scale: float) -> None:
        drawn = module._draw(100_000, shape, scale, rng())
        for k in (1, 2, 4):
            law = np.exp(-k / scale) if shape == 0 else (1 + shape * k / scale) ** (-1 / shape)
            assert (drawn > k).mean() == pytest.approx(law, abs=0.005)

    def test_the_threshold_leaves_a_tenth_and_at_least_30(self) -> None:
        counts = np.repeat([3, 4, 5, 6], [800, 150, 40, 10])
        tail = fit_tail(counts, rng=rng())
        assert (tail.threshold, tail.exceedances, tail.rate) == (3, 200, 0.2)
        counts = np.repeat([3, 4, 5, 6], [800, 100, 90, 10])
        assert fit_tail(counts, rng=rng()).threshold == 4
        counts = np.repeat([3, 4, 5, 6], [800, 101, 89, 10])
        assert fit_tail(counts, rng=rng()).threshold == 3
        few = np.repeat([3, 5], [70, 30])
        assert (fit_tail(few, rng=rng()).threshold, fit_tail(few, rng=rng()).rate) == (4, 0.3)

    def test_exceedance_by_hand(self) -> None:
        assert exponential().exceedance(5) == pytest.approx(0.5 * np.exp(-2))
        assert exponential().exceedance(3) == 0.5
        heavy = Tail(
            threshold=4,
            rate=0.1,
            shape=0.5,
            scale=2.0,
            best_scale=1.0,
            exceedances=50,
            fit=0.5,
        )
        assert heavy.exceedance(10) == pytest.approx(0.1 * (1 + 0.5 * 6 / 2) ** -2)

    def test_the_scale_limit_covers(self) -> None:
        true = -1 / np.log(0.3)
        covered = []
        for seed in range(300):
            shape, _, limit = module._fit(rng(seed).geometric(0.7, 60))
            covered.append(limit >= true or shape > 0)
        assert np.mean(covered) > 0.92

    def test_a_law_that_is_no_tail_is_told(self) -> None:
        counts = np.repeat([3, 4, 5, 200], [600, 180, 45, 5])
        assert fit_tail(counts, rng=rng()).fit < 0.05
        assert fit_tail(chance(800), rng=rng()).fit > 0.05

    def test_fewer_than_30_scores_are_refused(self) -> None:
        with pytest.raises(AuditInputError, match="at least 30 null scores: got 29"):
            fit_tail(chance(29), rng=rng())
        assert fit_tail(chance(30), rng=rng()).exceedances == 30


class TestNeededInliers:
    def test_it_is_the_first_count_that_chance_does_not_reach(self) -> None:
        tail = exponential(rate=0.2, scale=1.5)
        for searched in (10, 100, 1000, 10_000):
            needed = needed_inliers(tail, searched=searched)
            assert searched * tail.exceedance(needed - 1) <= PROOF_LEVEL
            assert searched * tail.exceedance(needed - 2) > PROOF_LEVEL

    def test_a_heavy_tail_needs_no_walk_through_millions_of_counts(self) -> None:
        tail = replace(exponential(rate=0.1, scale=34.0), shape=1.0)
        needed = needed_inliers(tail, searched=1_000_000)
        assert needed > 100_000_000
        assert 1_000_000 * tail.exceedance(needed - 1) <= PROOF_LEVEL
        assert 1_000_000 * tail.exceedance(needed - 2) > PROOF_LEVEL

    def test_by_hand(self) -> None:
        # 100 * .5 * exp(-(x - 1 - 3)) <= 1e-3 when x - 4 >= ln(50,000) = 10.82
        assert needed_inliers(exponential(), searched=100) == 15
        assert needed_inliers(exponential(), searched=100, level=0.5) == MIN_INLIERS

    def test_reaching_the_level_exactly_is_enough(self) -> None:
        tail = exponential()
        level = 100 * tail.exceedance(13)
        assert needed_inliers(tail, searched=100, level=level) == 14
        assert needed_inliers(tail, searched=100, level=level * 0.999) == 15


class TestProvenCopies:
    def test_a_few_copies_among_many_are_proven_one_by_one(self) -> None:
        found = search(np.concatenate([chance(325, 1), [40, 60, 200]]))
        assert found.rejected is True
        assert found.details["proven"] == 3
        assert (found.name, found.harm) == ("aligned_copies", Harm.COPYING)
        low, high = clopper_pearson(3, 328)
        estimate = found.statistic
        assert (estimate.value, estimate.low, estimate.high) == (3 / 328, low, high)
        assert (estimate.n, estimate.unit) == (328, "tile")
        assert (found.p_value, found.p_adjusted) == (None, None)

    def test_no_copies_are_no_leak(self) -> None:
        found = search(chance(300, 2))
        assert found.rejected is False
        assert found.statistic.value == 0

    def test_the_threshold_itself_is_enough_and_one_less_is_not(self) -> None:
        needed = search([3, 3, 3]).details["needed_inliers"]
        assert needed >= MIN_INLIERS
        assert search([3, 3, needed]).rejected is True
        assert search([3, 3, needed - 1]).rejected is False

    def test_a_proof_is_above_every_null_score(self) -> None:
        null = chance(400)
        null[7] = 21
        needed = search([3], null=null).details["needed_inliers"]
        assert needed >= 22

    @pytest.mark.parametrize("null_agreement", [0.1, MIN_AGREEMENT, 0.45])
    def test_agreement_must_exceed_the_null_and_the_floor(self, null_agreement: float) -> None:
        bar = max(null_agreement, MIN_AGREEMENT)
        assert search([50], agreement=bar, null_agreement=null_agreement).rejected is False
        assert search([50], agreement=bar + 1e-9, null_agreement=null_agreement).rejected is True

    def test_the_agreement_bar_is_a_quantile(self) -> None:
        null = chance(200)
        agrees = np.linspace(-0.5, 0.49, 200)
        found = proven_copies(
            inliers=np.array([50]),
            agreement=np.array([0.9]),
            null_inliers=null,
            null_agreement=agrees,
            rng=rng(),
        )
        expected = np.quantile(agrees, AGREEMENT_QUANTILE, method="higher")
        assert found.details["needed_agreement"] == expected

    def test_many_inliers_that_do_not_agree_and_agreement_alone_prove_nothing(self) -> None:
        found = search([200, 4], agreement=[0.2, 1.0])
        assert found.rejected is False
        assert found.details["proven"] == 0

    def test_near_duplicates_of_the_null_are_left_out(self) -> None:
        null = np.concatenate([chance(400), [150, 180, 220, 300]])
        twice = null > 100
        assert search([60], null=null).rejected is not True
        found = search([60], null=null, duplicates=twice)
        assert found.rejected is True
        assert (found.details["null_scores"], found.details["null_duplicates_removed"]) == (400, 4)
        clean = search([60])
        assert found.details["needed_inliers"] == clean.details["needed_inliers"]

    def test_featureless_tiles_are_counted_apart(self) -> None:
        found = search([50, 0, 4], featureless=np.array([False, True, False]))
        assert (found.statistic.value, found.statistic.n) == (0.5, 2)
        assert (found.details["featureless"], found.details["searched"]) == (1, 2)
        nothing = search([0, 0], featureless=np.array([True, True]))
        assert nothing.rejected is None
        assert "featureless" in nothing.note
        assert (nothing.statistic.value, nothing.statistic.low, nothing.statistic.high) == (0, 0, 1)

    def test_too_few_null_scores_give_a_count_and_no_proof(self) -> None:
        found = search([50, 3], null=chance(MIN_NULL - 1))
        assert found.rejected is None
        assert found.statistic.value == 0.5
        assert found.details["proven"] is None
        assert "99 null scores are too few (100 needed)" in found.note
        assert search([50, 3], null=chance(MIN_NULL)).rejected is True

    def test_the_count_has_floors_of_its_own(self) -> None:
        few = chance(20)
        found = search(
            [MIN_INLIERS, MIN_INLIERS - 1, MIN_INLIERS],
            agreement=[0.5, 0.5, MIN_AGREEMENT],
            null=few,
        )
        assert found.details["above_floors"] == 1
        assert found.statistic.value == pytest.approx(1 / 3)

    def test_a_tail_that_does_not_fit_proves_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "_REFITS", 199)
        null = np.repeat([0, 3, 4, 5, 200], [100, 600, 180, 45, 5])
        found = search([5000], null=null)
        assert found.rejected is None
        assert "does not fit" in found.note

    @pytest.mark.parametrize(("fit", "believed"), [(MIN_FIT, True), (MIN_FIT * 0.999, False)])
    def test_the_worst_fit_that_is_believed(
        self, fit: float, believed: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "fit_tail", lambda counts, rng: replace(exponential(), fit=fit))
        assert search([50]).rejected is (True if believed else None)

    def test_the_order_of_tiles_does_not_matter(self) -> None:
        null, counts = chance(300), np.concatenate([chance(50, 3), [44]])
        first = search(counts, null=null)
        second = search(counts[::-1], null=rng(1).permutation(null))
        assert first.details == second.details

    def test_chance_is_hardly_ever_proven(self) -> None:
        proven = [
            search(chance(300, 1000 + seed, again=0.4), null=chance(300, seed, again=0.4))
            for seed in range(60)
        ]
        assert sum(found.rejected is True for found in proven) <= 1
        assert sum(found.rejected is None for found in proven) <= 5

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"inliers": np.array([-1, 3])}, "synthetic inliers must be counts"),
            ({"inliers": np.array([1.0, 3.0])}, "synthetic inliers must be counts"),
            ({"null_inliers": np.full((2, 2), 3)}, "null inliers must be counts"),
            ({"agreement": np.zeros(3)}, "synthetic agreement and featureless must hold one"),
            ({"featureless": np.zeros(3, dtype=np.bool_)}, "synthetic agreement and featureless"),
            ({"null_duplicates": np.zeros(3, dtype=np.bool_)}, "null agreement and duplicates"),
            ({"agreement": np.array([0.1, np.nan])}, "synthetic agreement must lie in -1 to 1"),
            ({"agreement": np.array([0.1, 1.1])}, "synthetic agreement must lie in -1 to 1"),
            ({"agreement": np.array([0.1, -1.1])}, "synthetic agreement must lie in -1 to 1"),
            (
                {"inliers": np.zeros(0, dtype=np.intp), "agreement": np.zeros(0)},
                "needs synthetic tiles: got none",
            ),
        ],
    )
    def test_bad_input_is_one_clear_line(self, change: dict[str, object], message: str) -> None:
        given = {
            "inliers": np.array([3, 4]),
            "agreement": np.array([0.1, 0.2]),
            "null_inliers": chance(200),
            "null_agreement": np.zeros(200),
        }
        with pytest.raises(AuditInputError, match=message):
            proven_copies(**(given | change), rng=rng())  # type: ignore[arg-type]

    def test_zero_and_full_agreement_are_allowed(self) -> None:
        assert search([0, 50], agreement=[0.0, 1.0]).details["proven"] == 1
        assert search([0, 50], agreement=[-1.0, 1.0]).details["proven"] == 1


def test_alike_reaches_the_inliers_and_exceeds_the_agreement() -> None:
    counts = np.array([MIN_INLIERS, MIN_INLIERS - 1, MIN_INLIERS])
    agreement = np.array([MIN_AGREEMENT + 1e-9, 1.0, MIN_AGREEMENT])
    assert alike(counts, agreement).tolist() == [True, False, False]
    assert alike(counts, agreement, needed=9, needed_agreement=0.5).tolist() == [False, True, False]

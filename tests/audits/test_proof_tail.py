"""The tail of a proof's null, against closed forms and SciPy, and the score it asks for."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from audits import AuditInputError
from audits import proof as module
from audits.proof import MIN_SCORE, PROOF_LEVEL, fit_tail, needed_score
from tests.helpers.proofs import Floats, exponential, rng

pytestmark = pytest.mark.usefixtures("few_refits")


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

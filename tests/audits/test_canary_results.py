"""Canaries of one training: coins, test, bounds, and what they do to a verdict."""

import math
from dataclasses import replace

import numpy as np
import pytest

from audits import AuditInputError, Harm, Outcome, audit
from audits.canary_results import CANARIES, CanaryScores, accepted, canary_results, told_apart, toss
from audits.epsilon import one_run_lower_bound
from tests.helpers.battery import QUICK, MakeData, by_name, harms


def _found(
    means: np.ndarray, included: np.ndarray, *, tiles: int = 4, artificial: bool = True
) -> CanaryScores:
    """Canaries whose tiles scatter a little around a mean of their own."""
    spread = np.tile(np.linspace(-0.01, 0.01, tiles), len(means))
    return CanaryScores(
        scores=np.repeat(means, tiles) + spread,
        canary=np.repeat(np.arange(len(means)), tiles),
        included=included,
        artificial=artificial,
    )


@pytest.mark.parametrize("count", [8, 12, 40])
def test_both_sides_have_canaries_and_the_accepted_share_is_what_tosses_give(count: int) -> None:
    rng = np.random.default_rng(count)
    for _ in range(300):
        assert 2 <= toss(count, rng).sum() <= count - 2
    inside = rng.binomial(count, 0.5, 200_000)
    share = ((inside >= 2) & (inside <= count - 2)).mean()
    assert accepted(count) == pytest.approx(share, abs=0.002)


def test_seven_canaries_are_too_few() -> None:
    with pytest.raises(AuditInputError, match="canaries must be 8 or more: got 7"):
        toss(7, np.random.default_rng(0))


def test_canaries_without_a_tile_or_all_on_one_side_are_refused() -> None:
    coins = np.array([True, False] * 4)
    with pytest.raises(AuditInputError, match="every one of the 8 canaries needs a tile: 7"):
        CanaryScores(scores=np.zeros(7), canary=np.arange(7), included=coins, artificial=True)
    with pytest.raises(AuditInputError, match="got 7 in training and 1 kept out"):
        _found(np.zeros(8), np.arange(8) > 0)


def test_canaries_that_are_given_away_reach_the_ceiling() -> None:
    coins = np.array([True, False] * 8)
    test, pure, gaussian = canary_results(_found(coins * 1.0, coins), rng=np.random.default_rng(0))
    assert (test.name, test.statistic.value, test.rejected) == (CANARIES, 1.0, None)
    assert test.p_value is not None
    assert test.p_value <= 2 / math.comb(16, 8) + 1e-4
    paid = 0.05 * accepted(16)
    ceiling = float(one_run_lower_bound(canaries=16, guesses=16, correct=16, significance=paid))
    assert pure.statistic.value == pure.details["ceiling"] == pytest.approx(ceiling)
    assert gaussian.statistic.value == gaussian.details["ceiling"] > pure.statistic.value
    assert "artificial patient" in pure.note
    assert told_apart(test).startswith("16 artificial patients whose coins decided")


def test_the_test_keeps_its_level_whatever_canaries_and_their_tiles_are() -> None:
    """Effects of canaries are large, and those with many tiles score higher."""
    rng = np.random.default_rng(1)
    rejected = 0
    for _ in range(400):
        coins, sizes = toss(12, rng), rng.integers(2, 41, 12)
        means = 10 * rng.standard_normal(12) + sizes
        canary = np.repeat(np.arange(12), sizes)
        found = CanaryScores(
            scores=means[canary] + rng.standard_normal(len(canary)),
            canary=canary,
            included=coins,
            artificial=False,
        )
        test = canary_results(found, rng=rng)[0]
        assert test.statistic.n == 12
        rejected += test.p_value <= 0.05
    assert 0.02 * 400 <= rejected <= 0.08 * 400


def test_the_bounds_exceed_the_truth_in_no_more_than_one_run_in_twenty() -> None:
    """Laplace noise of scale 1: epsilon is 1."""
    rng, over = np.random.default_rng(2), 0
    for _ in range(400):
        coins = toss(20, rng)
        found = _found(coins + rng.laplace(size=20), coins)
        over += canary_results(found, rng=rng)[1].statistic.value > 1
    assert over <= 0.05 * 400


def test_canaries_take_a_pass_away_and_are_no_leak(make_data: MakeData) -> None:
    data = make_data(3, patients=40)
    coins = np.array([True, False] * 8)
    plain = audit(data, policy=QUICK)
    quiet = audit(data, policy=QUICK, canaries=_found(np.arange(16.0), coins))
    told = audit(data, policy=QUICK, canaries=_found(coins * 1.0, coins))
    harm = Harm.PATIENT_MEMBERSHIP
    assert harms(plain)[harm] == harms(quiet)[harm]
    assert harms(told)[harm].outcome is Outcome.INCONCLUSIVE
    assert "16 artificial patients whose coins" in harms(told)[harm].reason
    assert CANARIES not in by_name(plain)
    assert {CANARIES, "epsilon_one_run", "epsilon_f_dp"} <= by_name(told).keys()
    assert CANARIES not in told.verdict.family
    for name, result in by_name(plain).items():
        assert by_name(told)[name] == result, name


def test_real_canaries_are_a_leak_also_where_groups_differ(make_data: MakeData) -> None:
    coins = np.array([True, False] * 8)
    given = _found(coins * 1.0, coins, artificial=False)
    quiet = _found(np.arange(16.0), coins, artificial=False)
    plain = make_data(3, patients=40)
    confounded = make_data(4, holdout_shift=3.0)
    harm = Harm.PATIENT_MEMBERSHIP
    for data in (plain, confounded):
        told = audit(data, policy=QUICK, canaries=given)
        assert harms(told)[harm].outcome is Outcome.LEAK
        assert harms(told)[harm].reason.startswith("canaries: 16 patients whose coins")
        assert CANARIES in told.verdict.family
        assert by_name(told)[CANARIES].p_adjusted is not None
    before = harms(audit(plain, policy=QUICK))[harm]
    assert harms(audit(plain, policy=QUICK, canaries=quiet))[harm].outcome is before.outcome


def test_what_canaries_are_is_said(make_data: MakeData) -> None:
    coins = np.array([True, False] * 8)
    rng = np.random.default_rng(0)
    slides = replace(_found(coins * 1.0, coins, artificial=False), unit="slide")
    test, pure, _ = canary_results(slides, rng=rng)
    assert "slides in training" in test.note
    assert "for one slide" in pure.note
    artificial = canary_results(_found(coins * 1.0, coins), rng=rng)[0]
    assert artificial.statistic.unit == "artificial patient"

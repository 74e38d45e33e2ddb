"""Epsilon lower bounds against published values, brute force, known mechanisms and a peer."""

import importlib.util
import json
import math
import sys
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

import audits.canaries
from audits import AuditInputError, AuditResult
from audits.canaries import GUESS_LADDER
from audits.epsilon import (
    Bonferroni,
    FixedThreshold,
    GuessCounts,
    Guesses,
    MultiSplit,
    Split,
    Threshold,
    join_scores,
    one_run_audit,
    one_run_ceiling,
    one_run_lower_bound,
    one_run_p,
    rates_audit,
    rates_lower_bound,
)
from audits.intervals import clopper_pearson


def bound(m: int, r: int, v: int, delta: float = 0.0, significance: float = 0.05) -> float:
    return float(
        one_run_lower_bound(
            canaries=m, guesses=r, correct=v, delta=delta, significance=significance
        )
    )


def brute_force_p(epsilon: float, m: int, r: int, v: int, delta: float) -> float:
    """The definition, term by term."""
    q = 1 / (1 + math.exp(-epsilon))
    mass = [math.comb(r, k) * q**k * (1 - q) ** (r - k) for k in range(r + 1)]
    beta = math.fsum(mass[v:])
    alpha = max((math.fsum(mass[v - i : v]) / i for i in range(1, v + 1)), default=0.0)
    return min(1.0, beta + 2 * m * delta * alpha)


def laplace_run(seed: int, m: int, scale: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """(coins, scores) of m canaries under Laplace noise: epsilon is 1 / scale."""
    rng = np.random.default_rng(seed)
    coins = rng.random(m) < 0.5
    return coins, coins + rng.laplace(scale=scale, size=m)


def audit_one_run(
    coins: np.ndarray, scores: np.ndarray, guesses: Guesses, **options: Any
) -> AuditResult:
    ids = [f"p{i}" for i in range(len(coins))]
    given = {"unit": "patient", **options}
    return one_run_audit(
        canary_ids=ids, included=coins, score_ids=ids, scores=scores, guesses=guesses, **given
    )


def audit_rates(
    coins: np.ndarray, scores: np.ndarray, threshold: Threshold, **options: Any
) -> AuditResult:
    given = {"unit": "patient", **options}
    return rates_audit(
        included=scores[coins], excluded=scores[~coins], threshold=threshold, **given
    )


# One run: p and bound


@pytest.mark.parametrize(
    ("m", "r", "v", "delta", "known"),
    [
        (100, 100, 100, 0.0, 3.4930),
        (1000, 1000, 1000, 0.0, 5.8091),
        (1000, 1000, 1000, 1e-5, 5.7823),
        (1000, 100, 95, 0.0, 2.1724),
        (1000, 100, 95, 1e-5, 2.1652),
        (1000, 100, 75, 0.0, 0.7022),
        (1000, 1000, 600, 0.0, 0.2975),
        (1000, 1000, 525, 0.0, 0.0),
        (5000, 500, 450, 1e-5, 1.9414),
        (20, 20, 20, 0.0, 1.8227),
        (10, 10, 10, 0.0, 1.0519),
    ],
)
def test_one_run_reproduces_the_published_bounds(
    m: int, r: int, v: int, delta: float, known: float
) -> None:
    assert bound(m, r, v, delta) == pytest.approx(known, abs=1e-4)


@given(
    st.integers(1, 40).flatmap(lambda r: st.tuples(st.just(r), st.integers(0, r))),
    st.integers(0, 60),
    st.sampled_from([0.0, 1e-6, 1e-3, 0.02, 0.5]),
    st.floats(0, 6),
)
@settings(max_examples=150, deadline=None)
def test_one_run_p_is_the_definition(
    counts: tuple[int, int], spare: int, delta: float, epsilon: float
) -> None:
    r, v = counts
    got = one_run_p(epsilon, canaries=r + spare, guesses=r, correct=v, delta=delta)
    assert float(got) == pytest.approx(brute_force_p(epsilon, r + spare, r, v, delta), abs=1e-12)


def test_one_run_p_broadcasts_and_is_certain_without_a_correct_guess() -> None:
    correct = np.arange(6)
    got = one_run_p(np.array([[0.0], [1.5]]), canaries=9, guesses=5, correct=correct, delta=1e-3)
    expected = [[brute_force_p(e, 9, 5, v, 1e-3) for v in range(6)] for e in (0.0, 1.5)]
    np.testing.assert_allclose(got, expected, atol=1e-13)
    assert one_run_p(0.0, canaries=3, guesses=3, correct=0) == 1.0
    assert one_run_p(0.0, canaries=3, guesses=3, correct=1) == pytest.approx(7 / 8)


@given(
    st.integers(1, 60).flatmap(lambda r: st.tuples(st.just(r), st.integers(0, r))),
    st.integers(0, 200),
    st.sampled_from([0.0, 1e-6, 1e-4, 1e-2]),
    st.sampled_from([0.001, 0.05, 0.3]),
)
@settings(max_examples=100, deadline=None)
def test_the_bound_is_where_p_crosses_the_significance(
    counts: tuple[int, int], spare: int, delta: float, significance: float
) -> None:
    r, v = counts
    m = r + spare
    got = bound(m, r, v, delta, significance)
    if got > 1e-6:
        assert brute_force_p(got - 1e-6, m, r, v, delta) < significance
    assert brute_force_p(got + 1e-6, m, r, v, delta) >= significance


@given(
    st.integers(2, 80),
    st.integers(0, 100),
    st.sampled_from([1e-6, 1e-3]),
    st.floats(0, 5),
    st.data(),
)
@settings(max_examples=80, deadline=None)
def test_bounds_move_the_right_way(
    r: int, spare: int, delta: float, epsilon: float, data: st.DataObject
) -> None:
    """More correct: higher. More delta, canaries or confidence: lower. P rises with epsilon."""
    v, m = data.draw(st.integers(1, r)), r + spare
    base = bound(m, r, v, delta)
    assert bound(m, r, v - 1, delta) <= base + 1e-9
    assert bound(m, r, v, 2 * delta) <= base + 1e-9 <= bound(m, r, v) + 2e-9
    assert bound(m + 50, r, v, delta) <= base + 1e-9
    assert bound(m, r, v, delta, significance=0.01) <= base + 1e-9
    p = one_run_p(np.array([epsilon, epsilon + 0.1]), canaries=m, guesses=r, correct=v, delta=delta)
    assert p[0] <= p[1] + 1e-12


def test_a_bound_is_strict_at_the_significance() -> None:
    """Four of four at epsilon 0 has p = 1/16 exactly: not below it, and just below the next."""
    assert bound(4, 4, 4, significance=1 / 16) == 0.0
    assert bound(4, 4, 4, significance=0.063) > 0
    assert bound(4, 4, 4, significance=0.062) == 0.0


def test_a_hundred_thousand_canaries_neither_overflow_nor_underflow() -> None:
    m = 100_000
    all_correct = math.log(0.05 ** (1 / m) / -math.expm1(math.log(0.05) / m))
    assert bound(m, m, m) == pytest.approx(all_correct, abs=1e-6)
    for v, delta in ((60_000, 1e-6), (m, 1e-6), (m, 1e-9)):
        found = bound(m, m, v, delta)
        q, i = special.expit(found), np.arange(1, v + 1)
        beta = stats.binom.sf(v - 1, m, q)
        alpha = ((stats.binom.sf(v - i - 1, m, q) - beta) / i).max()
        assert beta + 2 * m * delta * alpha == pytest.approx(0.05, abs=1e-5)


def test_p_sees_the_bulk_far_below_a_count_whose_neighbours_underflow() -> None:
    """At epsilon 0 the nearest 40,000 counts have probability 0.0: only a long window counts."""
    m = 100_000
    got = float(one_run_p(0.0, canaries=m, guesses=m, correct=m, delta=1e-3))
    i = np.arange(1, m + 1)
    expected = 2 * m * 1e-3 * (stats.binom.sf(m - i - 1, m, 0.5) / i).max()
    assert expected > 1e-4
    assert got == pytest.approx(expected, rel=1e-9)


def test_twenty_patients_never_certify_more_than_1_82() -> None:
    assert one_run_ceiling(20) == pytest.approx(1.8227, abs=1e-4)
    assert one_run_ceiling(20, guesses=10) == pytest.approx(1.0519, abs=1e-4)
    assert one_run_ceiling(20, delta=1e-3) < one_run_ceiling(20)
    assert one_run_ceiling(20, significance=0.01) < one_run_ceiling(20)
    best = max(bound(20, r, v) for r in range(1, 21) for v in range(r + 1))
    assert best == one_run_ceiling(20)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"guesses": 0}, "between 1 and"),
        ({"guesses": 11}, "between 1 and"),
        ({"guesses": 5.0}, "whole"),
        ({"correct": -1}, "between 0 and"),
        ({"correct": 6}, "between 0 and"),
        ({"correct": 1.5}, "whole"),
        ({"delta": -1e-9}, "delta"),
        ({"delta": 1.0}, "delta"),
        ({"delta": math.nan}, "delta"),
        ({"epsilon": -1e-9}, "epsilon"),
        ({"epsilon": math.inf}, "epsilon"),
        ({"epsilon": [0.5, math.nan]}, "epsilon"),
    ],
)
def test_one_run_p_refuses_values_out_of_range(changed: dict[str, Any], message: str) -> None:
    values: dict[str, Any] = {"epsilon": 1.0, "canaries": 10, "guesses": 5, "correct": 3}
    values |= {"delta": 0.0, **changed}
    with pytest.raises(AuditInputError, match=message):
        one_run_p(values.pop("epsilon"), **values)


def test_one_run_p_accepts_the_ends_of_its_ranges() -> None:
    assert one_run_p(0, canaries=5, guesses=5, correct=5) == pytest.approx(1 / 32)
    assert one_run_p(0, canaries=5, guesses=1, correct=1) == pytest.approx(1 / 2)


@pytest.mark.parametrize("significance", [0.0, 0.5, -0.1, math.nan])
def test_every_bound_refuses_an_impossible_significance(significance: float) -> None:
    coins, scores = laplace_run(0, 40)
    options = {"significance": significance}
    for call in (
        lambda: bound(10, 5, 5, significance=significance),
        lambda: rates_lower_bound(missed=0, included=9, false_alarms=0, excluded=9, **options),
        lambda: audit_one_run(coins, scores, GuessCounts(5, 5), **options),
        lambda: audit_one_run(coins, scores, MultiSplit(3), **options),
        lambda: audit_rates(coins, scores, Split(), **options),
    ):
        with pytest.raises(AuditInputError, match="significance"):
            call()


# Joining scores


def test_scores_are_joined_by_id_never_by_position() -> None:
    joined = join_scores(
        canary_ids=["b", "a", "c"],
        included=np.array([True, False, False]),
        score_ids=["c", "b", "a"],
        scores=[3.0, 2.0, 1.0],
    )
    assert joined.scores.tolist() == [1.0, 2.0, 3.0]
    assert joined.included.tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"score_ids": ["a", "b", "x"]}, "1 have no score"),
        ({"score_ids": ["a", "b", "c", "x"], "scores": [1.0, 2.0, 3.0, 4.0]}, "no canaries"),
        ({"score_ids": ["a", "b"], "scores": [1.0, 2.0]}, "1 have no score"),
        ({"score_ids": ["a", "b", "b"]}, "score_ids must be unique: 1 repeated"),
        ({"canary_ids": ["a", "a", "c"]}, "canary_ids must be unique: 1 repeated"),
        ({"scores": [1.0, math.nan, 3.0]}, "finite: 1 of 3"),
        ({"scores": [1.0, math.inf, 3.0]}, "finite: 1 of 3"),
        ({"scores": ["1", "2", "3"]}, "real number"),
        ({"scores": [1.0, 2.0]}, "one number an id"),
        ({"scores": [[1.0, 2.0, 3.0]]}, "real number"),
        ({"included": np.array([1, 0, 0])}, "boolean"),
        ({"included": np.array([True, False])}, "boolean"),
        ({"canary_ids": []}, "at least one id"),
        ({"canary_ids": [["a"], ["b"], ["c"]]}, "at least one id"),
    ],
)
def test_scores_that_do_not_join_are_refused(changed: dict[str, Any], message: str) -> None:
    values: dict[str, Any] = {
        "canary_ids": ["a", "b", "c"],
        "included": np.array([True, False, True]),
        "score_ids": ["a", "b", "c"],
        "scores": [1.0, 2.0, 3.0],
    }
    with pytest.raises(AuditInputError, match=message):
        join_scores(**(values | changed))


@pytest.mark.parametrize("guesses", [GuessCounts(30, 30), MultiSplit(9)])
def test_shuffling_either_list_changes_nothing(guesses: Guesses) -> None:
    coins, scores = laplace_run(3, 120, scale=0.2)
    ids = np.array([f"p{i}" for i in range(120)])
    rng = np.random.default_rng(1)
    a, b = rng.permutation(120), rng.permutation(120)
    shuffled = one_run_audit(
        canary_ids=ids[a],
        included=coins[a],
        score_ids=ids[b],
        scores=scores[b],
        guesses=guesses,
        unit="patient",
    )
    assert shuffled == audit_one_run(coins, scores, guesses)
    assert shuffled.statistic.value > 0


@pytest.mark.parametrize("threshold", [FixedThreshold(0.5), Bonferroni(), Split(), MultiSplit(9)])
def test_order_of_scores_changes_no_rate(threshold: Threshold) -> None:
    coins, scores = laplace_run(3, 200, scale=0.2)
    order = np.random.default_rng(1).permutation(200)
    assert audit_rates(coins, scores, threshold) == audit_rates(
        coins[order], scores[order], threshold
    )


# One-run audits


def test_an_audit_counts_the_registered_guesses() -> None:
    """By falling score: in in out in | abstained out in | out in out."""
    coins = np.array([1, 1, 0, 1, 0, 1, 0, 1, 0], dtype=bool)
    scores = np.arange(9, 0, -1.0)
    result = audit_one_run(coins, scores, GuessCounts(4, 3), delta=1e-3, significance=0.4)
    assert {
        k: result.details[k] for k in ("canaries", "measured", "included", "guesses", "correct")
    } == {
        "canaries": 9,
        "measured": 9,
        "included": 5,
        "guesses": 7,
        "correct": 5,
    }
    assert (result.details["guessed_in"], result.details["guessed_out"]) == (4, 3)
    assert result.details["delta"] == 1e-3
    assert result.details["confidence"] == pytest.approx(0.6)
    assert result.details["ceiling"] == one_run_ceiling(9, guesses=7, delta=1e-3, significance=0.4)
    assert result.statistic.value == bound(9, 7, 5, 1e-3, 0.4)
    assert result.statistic.value == result.statistic.low > 0
    assert result.statistic.high is None
    assert (result.statistic.n, result.harm, result.p_value) == (9, None, None)
    json.dumps(asdict(result), allow_nan=False)


def test_ties_are_broken_against_the_auditor() -> None:
    """Constant scores: the top 3 are taken among nonmembers first, the bottom 3 among members."""
    coins = np.array([True] * 4 + [False] * 2)
    details = audit_one_run(coins, np.zeros(6), GuessCounts(3, 3)).details
    assert details["correct"] == 1
    details = audit_one_run(~coins, np.zeros(6), GuessCounts(3, 3)).details
    assert details["correct"] == 1
    details = audit_one_run(coins, np.zeros(6), GuessCounts(2, 4)).details
    assert details["correct"] == 0


def test_guesses_may_fill_the_canaries_and_no_more() -> None:
    coins, scores = laplace_run(0, 12)
    assert audit_one_run(coins, scores, GuessCounts(5, 7)).details["guesses"] == 12
    with pytest.raises(AuditInputError, match="guessed twice"):
        audit_one_run(coins, scores, GuessCounts(6, 7))


def test_inclusion_without_fair_coins_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of 20 happens to fair coins with p = 1.9e-6, all of 21 with 9.5e-7."""
    everyone = np.ones(21, dtype=bool)
    result = audit_one_run(everyone[:20], np.arange(20.0), GuessCounts(20, 0))
    assert result.details["correct"] == 20
    with pytest.raises(AuditInputError, match="fair coin: 21 of 21"):
        audit_one_run(everyone, np.arange(21.0), GuessCounts(20, 0))
    monkeypatch.setattr(audits.canaries, "COIN_P", stats.binomtest(21, 21).pvalue)
    assert audit_one_run(everyone, np.arange(21.0), GuessCounts(20, 0)).details["included"] == 21


def test_the_unit_is_named_and_a_tile_is_no_patient() -> None:
    coins, scores = laplace_run(0, 40)
    for audit, plan in ((audit_one_run, GuessCounts(9, 9)), (audit_rates, FixedThreshold(0.5))):
        patient, tile = (audit(coins, scores, plan, unit=unit) for unit in ("patient", "tile"))
        assert patient.statistic.unit.startswith("patient canary")
        assert tile.statistic.unit.startswith("tile canary")
        assert "nothing about a patient" in tile.note
        assert "nothing about a patient" not in patient.note
        assert f"{patient.details['ceiling']:.4g}" in patient.note
        with pytest.raises(AuditInputError, match="unit"):
            audit(coins, scores, plan, unit="slide")


def test_a_laplace_mechanism_is_certified_close_to_its_epsilon_in_one_run() -> None:
    coins, scores = laplace_run(1, 20_000)
    found = audit_one_run(coins, scores, GuessCounts(6600, 6600)).statistic.value
    assert 0.8 <= found <= 1.0
    chosen = audit_one_run(coins, scores, MultiSplit(21))
    assert 0.8 <= chosen.statistic.value <= found


def test_one_run_seldom_exceeds_the_truth() -> None:
    """200 runs each: 17 above would happen with probability .015 at a true rate of .05."""
    for scale, truth in ((1.0, 1.0), (1e9, 0.0)):
        above = {"registered": 0, "chosen": 0}
        for seed in range(200):
            coins, scores = laplace_run(seed, 300, scale)
            found = audit_one_run(coins, scores, GuessCounts(100, 100)).statistic.value
            above["registered"] += found > truth
            found = audit_one_run(coins, scores, MultiSplit(5, seed=seed)).statistic.value
            above["chosen"] += found > truth
        assert max(above.values()) <= 17


def test_guess_counts_chosen_on_a_part_are_measured_on_the_rest() -> None:
    """At half the level, less 2 m delta, with the m that were measured."""
    coins = np.random.default_rng(0).random(101) < 0.5
    result = audit_one_run(coins, coins * 1.0, MultiSplit(11, fraction=0.3), delta=1e-5)
    details, paid = result.details, 0.025 - 2 * 71 * 1e-5
    made, correct = details["guesses"], details["correct"]
    assert (details["canaries"], details["measured"]) == (101, 71)
    assert made == details["guessed_in"] + details["guessed_out"]
    assert 0.9 * made <= correct <= made
    assert result.statistic.value == pytest.approx(bound(71, made, correct, significance=paid))
    assert details["ceiling"] == pytest.approx(bound(71, 70, 70, significance=paid))
    assert details["guessed_in"] in [int(71 * share) for share in GUESS_LADDER]


def test_one_sided_leaks_are_guessed_on_their_own_side() -> None:
    """Half the members stand out and nothing else does: nobody is called a nonmember."""
    rng = np.random.default_rng(0)
    coins = rng.random(800) < 0.5
    scores = np.where(coins & (rng.random(800) < 0.5), 9.0, rng.random(800))
    details = audit_one_run(coins, scores, MultiSplit(11)).details
    assert details["guessed_out"] == 0
    assert details["correct"] == details["guesses"] == details["guessed_in"]


def test_guess_counts_chosen_on_the_data_certify_nothing_at_a_large_delta() -> None:
    """2 m delta alone reaches half the significance: 50 measured canaries at 2.5e-4."""
    coins = np.random.default_rng(0).random(100) < 0.5
    at = audit_one_run(coins, coins * 1.0, MultiSplit(3), delta=2.5e-4)
    assert at.statistic.value == at.details["ceiling"] == 0.0
    assert audit_one_run(coins, coins * 1.0, MultiSplit(3), delta=2e-4).statistic.value > 0


def test_multisplit_reports_the_lower_median_of_its_splits() -> None:
    coins, scores = laplace_run(5, 200, scale=0.3)
    for audit in (audit_one_run, audit_rates):
        below = 0
        for seed in range(8):
            first, two, three = (
                audit(coins, scores, MultiSplit(n, seed=seed)).statistic.value for n in (1, 2, 3)
            )
            assert two <= min(first, three)
            below += two < first
        assert below > 0


def test_four_canaries_can_be_split_and_three_cannot() -> None:
    coins = np.array([True, False, True, False])
    assert audit_one_run(coins, coins * 1.0, MultiSplit(1)).details["measured"] == 2
    with pytest.raises(AuditInputError, match="at least 2 canaries"):
        audit_one_run(coins[:3], coins[:3] * 1.0, MultiSplit(1))
    with pytest.raises(AuditInputError, match="at least 2 canaries"):
        audit_one_run(coins, coins * 1.0, MultiSplit(1, fraction=0.8))


# Rates


@pytest.mark.parametrize(("fn", "n", "fp", "k"), [(3, 40, 1, 30), (30, 40, 0, 30), (0, 9, 0, 7)])
@pytest.mark.parametrize("delta", [0.0, 0.01])
@pytest.mark.parametrize("significance", [0.05, 0.2])
def test_rates_bound_is_the_formula(
    fn: int, n: int, fp: int, k: int, delta: float, significance: float
) -> None:
    tpr_low, _ = clopper_pearson(n - fn, n, confidence=1 - significance)
    _, fpr_high = clopper_pearson(fp, k, confidence=1 - significance)
    tnr_low, _ = clopper_pearson(k - fp, k, confidence=1 - significance)
    _, fnr_high = clopper_pearson(fn, n, confidence=1 - significance)
    expected = max(math.log((tpr_low - delta) / fpr_high), math.log((tnr_low - delta) / fnr_high))
    options = {"delta": delta, "significance": significance}
    got = rates_lower_bound(missed=fn, included=n, false_alarms=fp, excluded=k, **options)
    assert float(got) == pytest.approx(max(0.0, expected), abs=1e-9)


def test_rates_bound_is_zero_when_the_rates_certify_nothing() -> None:
    got = rates_lower_bound(
        missed=np.array([10, 0, 5, 10]),
        included=10,
        false_alarms=np.array([0, 10, 5, 10]),
        excluded=10,
        delta=0.3,
    )
    assert got.tolist() == [0.0, 0.0, 0.0, 0.0]


@given(st.integers(1, 60), st.integers(1, 60), st.data())
@settings(max_examples=60, deadline=None)
def test_rates_bound_falls_with_errors_delta_and_confidence(
    n: int, k: int, data: st.DataObject
) -> None:
    fn, fp = data.draw(st.integers(0, n - 1)), data.draw(st.integers(0, k - 1))

    def at(missed: int, alarms: int, delta: float = 0.01, significance: float = 0.05) -> float:
        return float(
            rates_lower_bound(
                missed=missed,
                included=n,
                false_alarms=alarms,
                excluded=k,
                delta=delta,
                significance=significance,
            )
        )

    base = at(fn, fp)
    assert at(fn + 1, fp) <= base
    assert at(fn, fp + 1) <= base
    assert at(fn, fp, delta=0.02) <= base
    assert at(fn, fp, significance=0.01) <= base


@pytest.mark.parametrize(
    "changed",
    [{"missed": -1}, {"missed": 10}, {"missed": 0.5}, {"false_alarms": 8}, {"excluded": 0}],
)
def test_rates_bound_refuses_counts_out_of_range(changed: dict[str, Any]) -> None:
    values: dict[str, Any] = {"missed": 0, "included": 9, "false_alarms": 0, "excluded": 7}
    with pytest.raises(AuditInputError, match="whole numbers between 0"):
        rates_lower_bound(**(values | changed))


def test_a_score_at_the_threshold_is_called_a_member() -> None:
    result = rates_audit(
        included=[0.0, 1.0, 2.0],
        excluded=[-1.0, 1.0, 0.5, 0.0],
        threshold=FixedThreshold(1.0),
        unit="patient",
    )
    assert (result.details["missed"], result.details["included"]) == (1, 3)
    assert (result.details["false_alarms"], result.details["excluded"]) == (1, 4)
    json.dumps(asdict(result), allow_nan=False)


def test_bonferroni_shares_the_level_among_the_thresholds_it_was_given() -> None:
    coins, scores = laplace_run(2, 400, scale=0.3)
    tried = (-0.5, 0.5, 1.0, 7.0)
    each = [
        audit_rates(coins, scores, FixedThreshold(t), significance=0.05 / 4).statistic.value
        for t in tried
    ]
    result = audit_rates(coins, scores, Bonferroni(tried))
    assert result.statistic.value == max(each) > 0
    assert result.details["threshold"] == tried[int(np.argmax(each))]


def test_bonferroni_over_all_scores_pays_for_every_order_statistic() -> None:
    coins, scores = laplace_run(2, 300, scale=0.2)
    members, others = scores[coins], scores[~coins]
    n, k = len(members), len(others)
    best = 0.0
    for t in np.concatenate([members, others]):
        tpr, _ = clopper_pearson(int((members >= t).sum()), n, confidence=1 - 0.05 / n)
        _, fpr = clopper_pearson(int((others >= t).sum()), k, confidence=1 - 0.05 / k)
        best = max(best, math.log(max(tpr, 1e-99) / fpr), math.log(max(1 - fpr, 1e-99) / (1 - tpr)))
    found = audit_rates(coins, scores, Bonferroni()).statistic.value
    assert found == pytest.approx(best, abs=1e-9)
    assert found > 1


def test_the_whole_band_of_bonferroni_holds_at_once() -> None:
    """Uniform scores: no threshold may have a true rate beyond its limit in over 5 % of samples."""
    n, misses = 50, 0
    limit = np.array([clopper_pearson(c, n, confidence=1 - 0.1 / n)[1] for c in range(n + 1)])
    for seed in range(400):
        sample = np.sort(np.random.default_rng(seed).random(n))
        # Just above the i-th smallest, n - 1 - i scores remain above.
        misses += bool((1 - sample > limit[n - 1 - np.arange(n)]).any())
    assert 1 <= misses <= 0.05 * 400 + 9


@pytest.mark.parametrize("strategy", [Split(0.25, seed=3), MultiSplit(1, 0.25, seed=3)])
def test_a_split_measures_on_the_rest_only(strategy: Split | MultiSplit) -> None:
    """Separated sides: a threshold chosen on a quarter is at most a few scores off on the rest."""
    rng = np.random.default_rng(0)
    included, excluded = 10 + rng.random(40), rng.random(80)
    result = rates_audit(
        included=included, excluded=excluded, threshold=strategy, unit="patient", delta=0.01
    )
    details = result.details
    assert (details["included"], details["excluded"]) == (30, 60)
    assert (details["missed"], details["false_alarms"]) == (0, 0)
    assert 1 < details["threshold"] < 10
    level = 0.05 if isinstance(strategy, Split) else 0.025
    expected = rates_lower_bound(
        missed=0, included=30, false_alarms=0, excluded=60, delta=0.01, significance=level
    )
    assert result.statistic.value == details["ceiling"] == pytest.approx(float(expected))


def test_a_split_needs_a_canary_of_each_side_in_both_parts() -> None:
    for included, excluded, what in (
        ([1.0], [0.0] * 4, "included"),
        ([1.0] * 4, [0.0], "excluded"),
    ):
        with pytest.raises(AuditInputError, match=f"at least 1 {what}"):
            rates_audit(included=included, excluded=excluded, threshold=Split(), unit="tile")
    result = rates_audit(included=[1.0] * 2, excluded=[0.0] * 2, threshold=Split(), unit="tile")
    assert result.details["included"] == result.details["excluded"] == 1


@pytest.mark.parametrize(
    "threshold", [FixedThreshold(1.0), Bonferroni((0.0, 1.0)), Bonferroni(), Split(), MultiSplit(5)]
)
def test_a_laplace_mechanism_is_certified_close_to_its_epsilon(threshold: Threshold) -> None:
    coins, scores = laplace_run(4, 60_000)
    assert 0.8 <= audit_rates(coins, scores, threshold).statistic.value <= 1.0


@pytest.mark.parametrize(
    "threshold", [FixedThreshold(1.0), Bonferroni((0.0, 1.0)), Bonferroni(), Split(), MultiSplit(5)]
)
@pytest.mark.parametrize(("scale", "truth"), [(1.0, 1.0), (1e9, 0.0)])
def test_rates_seldom_exceed_the_truth(threshold: Threshold, scale: float, truth: float) -> None:
    above = 0
    for seed in range(120):
        coins, scores = laplace_run(seed, 200, scale)
        above += audit_rates(coins, scores, threshold).statistic.value > truth
    assert above <= 12


def test_the_best_threshold_on_the_same_data_exceeds_the_truth_more_often() -> None:
    """What the strategies are for: nothing paid for the choice, and Laplace(1) passes 1."""
    above = 0
    for seed in range(300):
        coins, scores = laplace_run(seed, 2000)
        members, others = np.sort(scores[coins]), np.sort(scores[~coins])
        found = rates_lower_bound(
            missed=np.searchsorted(members, members),
            included=len(members),
            false_alarms=len(others) - np.searchsorted(others, members),
            excluded=len(others),
        )
        above += found.max() > 1
    assert above / 300 > 0.05


# Strategies


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GuessCounts(-1, 2), "guessed_in"),
        (lambda: GuessCounts(2, -1), "guessed_out"),
        (lambda: GuessCounts(0, 0), "number of guesses"),
        (lambda: GuessCounts(1.5, 0), "whole number"),
        (lambda: FixedThreshold(math.nan), "finite"),
        (lambda: Bonferroni(()), "at least one"),
        (lambda: Bonferroni((0.0, math.inf)), "finite"),
        (lambda: Split(0.0), "fraction"),
        (lambda: Split(1.0), "fraction"),
        (lambda: Split(seed=-1), "seed"),
        (lambda: MultiSplit(0), "number of splits"),
        (lambda: MultiSplit(3, 1.0), "fraction"),
        (lambda: MultiSplit(3, seed=-1), "seed"),
    ],
)
def test_impossible_strategies_are_refused(make: Any, message: str) -> None:
    with pytest.raises(AuditInputError, match=message):
        make()


def test_strategies_accept_the_ends_of_their_ranges() -> None:
    assert GuessCounts(1, 0).guessed_in == GuessCounts(0, 1).guessed_out == 1
    assert MultiSplit(1, seed=0).splits == 1


def test_a_strategy_of_the_wrong_type_is_refused() -> None:
    coins, scores = laplace_run(0, 40)
    with pytest.raises(AuditInputError, match="guesses must be"):
        audit_one_run(coins, scores, "all")  # type: ignore[arg-type]
    with pytest.raises(AuditInputError, match="threshold must be"):
        audit_rates(coins, scores, "best")  # type: ignore[arg-type]


# The peer


@pytest.fixture
def peer(monkeypatch: pytest.MonkeyPatch) -> Any:
    """jax-privacy's auditing module; its package is not run, for it would import jax."""
    package = importlib.util.find_spec("jax_privacy")
    if package is not None:
        unrun = importlib.util.module_from_spec(package)
        monkeypatch.setitem(sys.modules, "jax_privacy", unrun)
    return pytest.importorskip("jax_privacy.auditing")


@pytest.mark.peer
def test_bounds_agree_with_jax_privacy(peer: Any) -> None:
    rng = np.random.default_rng(0)
    compared = 0
    for _ in range(25):
        coins, scores = laplace_run(int(rng.integers(1000)), int(rng.integers(60, 600)), 0.4)
        cut, delta = float(rng.uniform(0, 1.5)), float(10 ** rng.uniform(-7, -3))
        auditor = peer.CanaryScoreAuditor(scores[coins], scores[~coins])
        fixed = peer.Explicit(cut)
        theirs = auditor.epsilon_clopper_pearson(0.05, delta, False, threshold_strategy=fixed)
        ours = audit_rates(coins, scores, FixedThreshold(cut), delta=delta).statistic.value
        assert ours == pytest.approx(theirs, abs=1e-9)
        theirs = auditor.epsilon_one_run(0.05, delta, threshold_strategy=fixed)
        called = int((scores >= cut).sum())
        ours = audit_one_run(coins, scores, GuessCounts(called, 0), delta=delta).statistic.value
        assert ours == pytest.approx(theirs, abs=1e-6)
        compared += ours > 0
    assert compared >= 20

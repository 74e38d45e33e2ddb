"""Epsilon lower bounds of one run against published values, brute force, and a peer."""

import importlib.util
import math
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from audits import AuditInputError
from audits.epsilon import (
    Bonferroni,
    FixedThreshold,
    GuessCounts,
    MultiSplit,
    Split,
    one_run_ceiling,
    one_run_p,
    rates_lower_bound,
)
from tests.helpers.canary_runs import audit_one_run, audit_rates, bound, laplace_run


def brute_force_p(epsilon: float, m: int, r: int, v: int, delta: float) -> float:
    """The definition, term by term."""
    q = 1 / (1 + math.exp(-epsilon))
    mass = [math.comb(r, k) * q**k * (1 - q) ** (r - k) for k in range(r + 1)]
    beta = math.fsum(mass[v:])
    alpha = max((math.fsum(mass[v - i : v]) / i for i in range(1, v + 1)), default=0.0)
    return min(1.0, beta + 2 * m * delta * alpha)


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

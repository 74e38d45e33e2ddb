"""Rank statistics against brute force, exact laws and enumeration."""

from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from audits import permutation
from audits.permutation import (
    auroc,
    holm,
    min_p,
    rank_sum_p,
    stratified_auroc,
    stratified_permutation_p,
    studentised_p,
)


def permutation_p(
    members: np.ndarray, others: np.ndarray, rng: np.random.Generator, draws: int = 9_999
) -> float:
    ranks = stats.rankdata(np.concatenate([members, others]))
    return rank_sum_p(ranks, len(members), rng, draws=draws)


SCORES = st.lists(st.integers(0, 5).map(float), min_size=1, max_size=12).map(np.array)


@given(SCORES, SCORES)
@settings(max_examples=60, deadline=None)
def test_auroc_counts_wins_and_half_of_ties(members: np.ndarray, others: np.ndarray) -> None:
    wins = [(a > b) + 0.5 * (a == b) for a in members for b in others]
    assert auroc(members, others) == pytest.approx(np.mean(wins))
    assert auroc(members, others) + auroc(others, members) == pytest.approx(1)


def test_auroc_is_one_for_members_above_and_zero_below() -> None:
    assert auroc(np.array([2.0, 3.0]), np.array([0.0, 1.0])) == 1.0
    assert auroc(np.array([0.0, 1.0]), np.array([2.0, 3.0])) == 0.0


@pytest.mark.parametrize(("m", "n", "shift"), [(4, 5, 0.8), (6, 6, -0.5), (2, 9, 1.5), (9, 3, 0.4)])
def test_permutation_p_is_close_to_the_exact_mann_whitney_p(m: int, n: int, shift: float) -> None:
    rng = np.random.default_rng(m * n)
    members, others = rng.normal(size=m) + shift, rng.normal(size=n)
    exact = stats.mannwhitneyu(members, others, alternative="greater", method="exact").pvalue
    assert permutation_p(members, others, rng, draws=20_000) == pytest.approx(exact, abs=0.012)


def test_permutation_p_with_ties_is_close_to_enumeration(rng: np.random.Generator) -> None:
    members, others = np.array([3.0, 2.0, 2.0, 5.0]), np.array([1.0, 2.0, 3.0, 0.0, 2.0])
    pool = np.concatenate([members, others])
    observed, hits, total = auroc(members, others), 0, 0
    for chosen in combinations(range(9), 4):
        inside = np.isin(np.arange(9), chosen)
        hits += auroc(pool[inside], pool[~inside]) >= observed - 1e-12
        total += 1
    assert permutation_p(members, others, rng) == pytest.approx(hits / total, abs=0.015)


def test_p_is_never_zero_and_counts_the_observed_arrangement(rng: np.random.Generator) -> None:
    members, others = np.arange(100.0) + 1000, np.arange(100.0)
    assert permutation_p(members, others, rng, draws=99) == 1 / 100
    assert permutation_p(others, members, rng, draws=99) == 1.0


def test_permutation_p_rejects_at_its_level_under_the_null() -> None:
    rng = np.random.default_rng(3)
    p = np.array([permutation_p(a, b, rng, 499) for a, b in rng.normal(size=(600, 2, 8))])
    low, high = stats.binom.ppf([0.001, 0.999], 600, 0.05) / 600
    assert low <= (p <= 0.05).mean() <= high
    assert abs((p <= 0.5).mean() - 0.5) < 0.07


@pytest.mark.parametrize("floyd", [0, 10**9])
@pytest.mark.parametrize("size", [2, 9, 19])
def test_random_subsets_are_uniform_whichever_way_they_are_drawn(
    monkeypatch: pytest.MonkeyPatch, floyd: int, size: int
) -> None:
    """Powers of two turn a sum into the subset itself; also across blocks of draws."""
    monkeypatch.setattr(permutation, "_FLOYD", floyd)
    monkeypatch.setattr(permutation, "_CELLS", 20 * 1000)
    rng = np.random.default_rng(size)
    powers = np.exp2(np.arange(20.0))[None]
    sums = permutation._subset_sums(powers, size, 6000, rng)[0].astype(np.int64)
    bits = (sums[:, None] >> np.arange(20)) & 1
    assert (bits.sum(axis=1) == size).all()
    share = size / 20
    sd = np.sqrt(share * (1 - share) / 6000)
    assert np.abs(bits.mean(axis=0) - share).max() < 4.5 * sd
    pairs = (bits.T @ bits / 6000)[np.triu_indices(20, 1)]
    together = share * (size - 1) / 19
    assert np.abs(pairs - together).max() < 5 * np.sqrt(together * (1 - together) / 6000)


def test_stratified_auroc_pairs_only_within_strata() -> None:
    scores = np.array([1.0, 0.0, 9.0, 8.0, 5.0])
    is_member = np.array([True, False, True, False, True])
    concordant, pairs = stratified_auroc(scores, is_member, np.array([0, 0, 1, 1, 2]))
    np.testing.assert_array_equal(concordant, [1, 1, 0])
    np.testing.assert_array_equal(pairs, [1, 1, 0])


def test_stratified_p_is_close_to_full_enumeration(rng: np.random.Generator) -> None:
    strata = np.array([0, 0, 0, 0, 1, 1, 1, 2])
    scores = np.array([0.3, 0.9, 0.1, 0.4, 5.0, 4.0, 6.0, 7.0])
    is_member = np.array([True, True, False, False, True, False, False, True])

    def statistic(members: np.ndarray) -> float:
        return float(stratified_auroc(scores, members, strata)[0].sum())

    observed, hits, total = statistic(is_member), 0, 0
    for first, second in product(combinations(range(4), 2), combinations(range(4, 7), 1)):
        members = np.isin(np.arange(8), (*first, *second, 7))
        hits += statistic(members) >= observed - 1e-12
        total += 1
    assert total == 18
    got = stratified_permutation_p(scores, is_member, strata, rng, draws=20_000)
    assert got == pytest.approx(hits / total, abs=0.012)


def test_stratified_p_ignores_differences_between_strata(rng: np.random.Generator) -> None:
    """Members mostly in the high stratum: the pooled test is fooled, the stratified one is not."""
    strata = np.repeat([0, 1], 40)
    scores = rng.normal(size=80) + 10 * strata
    is_member = np.concatenate([np.arange(40) < 4, np.arange(40) < 36])
    assert permutation_p(scores[is_member], scores[~is_member], rng) < 1e-3
    assert stratified_permutation_p(scores, is_member, strata, rng) > 0.01


def test_stratified_p_without_a_mixed_stratum_is_one(rng: np.random.Generator) -> None:
    scores, is_member = np.arange(4.0), np.array([True, True, False, False])
    assert stratified_permutation_p(scores, is_member, np.array([0, 0, 1, 1]), rng) == 1.0


def test_holm_by_hand() -> None:
    """Sorted .01 .02 .03 .04 times 4 3 2 1 is .04 .06 .06 .04, made monotone: .04 .06 .06 .06."""
    got = holm({"d": 0.04, "a": 0.01, "c": 0.03, "b": 0.02})
    assert got == pytest.approx({"d": 0.06, "a": 0.04, "c": 0.06, "b": 0.06})
    assert list(got) == ["d", "a", "c", "b"]


def test_holm_caps_at_one_and_accepts_no_tests() -> None:
    assert holm({"a": 0.6, "b": 0.9}) == {"a": 1.0, "b": 1.0}
    assert holm({}) == {}


def test_studentised_p_equals_enumeration_of_welchs_t() -> None:
    values = np.array([3.0, 5.0, 4.0, 1.0, 2.5, 0.5, 2.0])

    def t(chosen: tuple[int, ...]) -> float:
        inside = np.isin(np.arange(7), chosen)
        a, b = values[inside], values[~inside]
        return float(stats.ttest_ind(a, b, equal_var=False).statistic)

    every = np.array([t(chosen) for chosen in combinations(range(7), 3)])
    expected = (every >= every[0] - 1e-12).mean()
    got = studentised_p(values, 3, np.random.default_rng(0))
    assert got == pytest.approx(expected, abs=0.01)


def test_studentised_p_of_groups_without_spread_is_extreme_or_one() -> None:
    rng = np.random.default_rng(0)
    apart = np.array([2.0, 2.0, 2.0, 1.0, 1.0, 1.0])
    assert studentised_p(apart, 3, rng) == pytest.approx(1 / 20, abs=0.01)
    assert studentised_p(np.ones(6), 3, rng) == 1.0


def test_min_p_of_one_test_is_its_p() -> None:
    rng = np.random.default_rng(0)
    drawn = rng.normal(size=999)
    found = min_p({"a": 1.5}, {"a": drawn}, {"a": 1.0})
    assert found["a"] == pytest.approx((1 + (drawn >= 1.5).sum()) / 1000)


def test_min_p_of_tests_that_always_agree_costs_nothing() -> None:
    drawn = np.random.default_rng(1).normal(size=999)
    alone = min_p({"a": 2.0}, {"a": drawn}, {"a": 1.0})["a"]
    both = min_p({"a": 2.0, "b": 2.0}, {"a": drawn, "b": drawn}, {"a": 1.0, "b": 1.0})
    assert both == pytest.approx({"a": alone, "b": alone})


def test_min_p_keeps_the_family_wise_level_and_rejects_no_less_than_holm() -> None:
    rng = np.random.default_rng(2)
    weights = {"a": 1.0, "b": 0.5, "c": 0.5}
    rejected, repetitions = 0, 400
    for _ in range(repetitions):
        common = rng.normal(size=400)
        values = {name: common + 0.5 * rng.normal(size=400) for name in weights}
        observed = {name: float(column[0]) for name, column in values.items()}
        drawn = {name: column[1:] for name, column in values.items()}
        found = min_p(observed, drawn, weights)
        rejected += min(found.values()) <= 0.05
        raw = {n: (1 + (drawn[n] >= observed[n]).sum()) / 400 for n in weights}
        by_holm = holm(raw, weights)
        assert all(found[n] >= raw[n] - 1e-12 for n in weights)
        assert min(found.values()) <= min(by_holm.values()) + 0.02
    assert stats.binomtest(rejected, repetitions, 0.05).pvalue > 0.001

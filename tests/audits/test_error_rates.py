"""Epsilon from error rates: the formula, thresholds chosen fairly, known mechanisms."""

import json
import math
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audits import AuditInputError
from audits.epsilon import (
    Bonferroni,
    FixedThreshold,
    MultiSplit,
    Split,
    Threshold,
    rates_audit,
    rates_lower_bound,
)
from audits.intervals import clopper_pearson
from tests.helpers.canary_runs import audit_rates, laplace_run


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

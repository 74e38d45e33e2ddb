"""Canaries of one run: scores joined by id, guesses counted or chosen, known mechanisms."""

import json
import math
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from scipy import stats

import audits.canaries
from audits import AuditInputError
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
)
from tests.helpers.canary_runs import audit_one_run, audit_rates, bound, laplace_run

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

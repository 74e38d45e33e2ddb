"""Within-patient effects: known answers, exact levels, coverage, and what must not matter."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from audits import AuditInputError
from audits.permutation import auroc
from audits.repeated import (
    Retossed,
    centred,
    effect,
    joined_strata,
    ranked,
    standing_out,
    within_patient_auroc,
)
from tests.helpers.recipes import design, strata

RUNS, PATIENTS = 8, 16
DRAWS = 999


def simulated(
    rng: np.random.Generator, included: np.ndarray, shift: float | np.ndarray
) -> np.ndarray:
    """Scores with strong effects of patients, runs and of classes within runs."""
    runs, patients = included.shape
    groups = strata(patients)
    scores = rng.normal(size=(runs, patients)) + shift * included
    scores += 10 * rng.normal(size=patients) + 3 * rng.normal(size=(runs, 1))
    scores += 3 * rng.normal(size=(runs, 2))[:, groups]
    return scores


def test_the_auroc_is_the_mean_of_every_patients_own() -> None:
    rng = np.random.default_rng(1)
    included = design(PATIENTS, RUNS, "independent").toss(rng).included
    scores = rng.normal(size=included.shape).round(1)
    won, pairs = 0.0, 0
    for own, inside in zip(scores.T, included.T, strict=True):
        count = int(inside.sum() * (~inside).sum())
        if count:
            won += count * auroc(own[inside], own[~inside])
            pairs += count
    assert within_patient_auroc(ranked(scores), included) == pytest.approx(won / pairs)


def test_every_arrangement_has_the_auroc_computed_one_by_one() -> None:
    rng = np.random.default_rng(2)
    coins = design(PATIENTS, RUNS, "independent").toss(rng)
    retossed = Retossed.of(coins, rng, draws=50)
    ranks = ranked(rng.normal(size=coins.included.shape))
    alone = [within_patient_auroc(ranks, draw) for draw in retossed.included]
    assert retossed.aurocs(ranks) == pytest.approx(alone)


def test_the_p_value_of_few_coins_is_exact() -> None:
    coins = design(4, 4, classes=1).toss(np.random.default_rng(3))
    retossed = Retossed.of(coins, np.random.default_rng(3))
    assert retossed.exact
    assert len(retossed.included) == 14**2
    scores = coins.included.astype(float)
    found = effect(scores, coins.included, np.zeros(4, dtype=np.intp), retossed)
    assert found.auroc == 1
    assert found.p_value == pytest.approx(1 / 196)
    assert found.smallest_p == pytest.approx(1 / 196)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.floats(-50, 50), st.floats(0.01, 100))
def test_effects_of_patients_and_runs_do_not_matter(seed: int, shift: float, scale: float) -> None:
    rng = np.random.default_rng(seed)
    coins = design(PATIENTS, RUNS).toss(rng)
    retossed = Retossed.of(coins, rng, draws=99)
    scores = rng.normal(size=coins.included.shape)
    moved = scale * (scores + shift * rng.normal(size=PATIENTS) + rng.normal(size=(RUNS, 1)))
    plain = effect(scores, coins.included, strata(PATIENTS), retossed)
    other = effect(moved, coins.included, strata(PATIENTS), retossed)
    assert other.auroc == pytest.approx(plain.auroc, abs=1e-9)
    assert other.p_value == plain.p_value


@pytest.mark.parametrize("scheme", ["complementary", "independent", "balanced"])
def test_without_an_effect_five_in_a_hundred_reject_and_intervals_cover(scheme: str) -> None:
    rng = np.random.default_rng(4)
    made = design(PATIENTS, RUNS, scheme)
    retossed = Retossed.of(made.toss(rng), rng, draws=DRAWS)
    p_values, covered, bounded, repetitions = [], 0, 0, 300
    for _ in range(repetitions):
        included = made.toss(rng).included
        found = effect(simulated(rng, included, 0.0), included, strata(PATIENTS), retossed)
        p_values.append(found.p_value)
        covered += found.low <= 0.5 <= found.high
        bounded += found.upper >= 0.5
        assert found.low <= found.auroc <= found.upper <= found.high
    rejected = int((np.array(p_values) <= 0.05).sum())
    assert stats.binomtest(rejected, repetitions, 0.05).pvalue > 0.001
    assert stats.binomtest(covered, repetitions, 0.95).pvalue > 0.001
    assert stats.binomtest(bounded, repetitions, 0.95).pvalue > 0.001


def test_an_effect_is_found_and_its_interval_covers_it() -> None:
    rng = np.random.default_rng(5)
    made = design(PATIENTS, 16)
    retossed = Retossed.of(made.toss(rng), rng, draws=DRAWS)
    shift = np.sqrt(2) * stats.norm.ppf(0.6)
    rejected = covered = 0
    for _ in range(150):
        included = made.toss(rng).included
        found = effect(simulated(rng, included, shift), included, strata(PATIENTS), retossed)
        rejected += found.p_value <= 0.05
        covered += found.low <= 0.6 <= found.high
    assert rejected / 150 > 0.7
    assert covered / 150 > 0.9


def test_one_patient_who_is_given_away_stands_out_and_the_average_hides_her() -> None:
    rng = np.random.default_rng(6)
    coins = design(PATIENTS, 16).toss(rng)
    retossed = Retossed.of(coins, rng)
    alone = np.zeros(PATIENTS)
    alone[3] = 8.0
    scores = rng.normal(size=coins.included.shape) + alone * coins.included
    found = standing_out(scores, coins.included, strata(PATIENTS), retossed, paired=True)
    assert found.patients == 1
    assert found.p_value <= 0.05
    average = effect(scores, coins.included, strata(PATIENTS), retossed)
    assert average.auroc < 0.6


def test_nobody_stands_out_more_often_than_five_in_a_hundred() -> None:
    rng = np.random.default_rng(7)
    made = design(PATIENTS, 16, "independent")
    retossed = Retossed.of(made.toss(rng), rng, draws=DRAWS)
    out = 0
    for _ in range(300):
        included = made.toss(rng).included
        scores = simulated(rng, included, 0.0)
        out += standing_out(scores, included, strata(PATIENTS), retossed, paired=False).patients > 0
    assert stats.binomtest(out, 300, 0.05).pvalue > 0.001


def test_with_few_runs_nobody_could_stand_out() -> None:
    coins = design(PATIENTS, 4).toss(np.random.default_rng(8))
    retossed = Retossed.of(coins, np.random.default_rng(8))
    scores = 100.0 * coins.included
    found = standing_out(scores, coins.included, strata(PATIENTS), retossed, paired=True)
    assert found.smallest_p == 0.25
    assert found.patients == 0


def test_class_groups_of_few_patients_are_joined() -> None:
    assert joined_strata(np.array([0] * 5 + [1] * 5)).max() == 1
    assert joined_strata(np.array([0] * 5 + [1] * 4 + [2] * 2 + [3] * 2)).max() == 2
    assert joined_strata(np.array([0] * 8 + [1] * 3)).max() == 0
    assert joined_strata(np.array([0, 1, 2, 3])).max() == 0


def test_centring_leaves_neither_patients_nor_classes_of_a_run_a_level_of_their_own() -> None:
    rng = np.random.default_rng(9)
    rest = centred(rng.normal(size=(RUNS, PATIENTS)) + rng.normal(size=PATIENTS), strata(PATIENTS))
    assert rest.mean(axis=0) == pytest.approx(np.zeros(PATIENTS), abs=1e-12)
    for group in (0, 1):
        assert rest[:, strata(PATIENTS) == group].mean(axis=1) == pytest.approx(np.zeros(RUNS))


def test_equal_scores_say_nothing() -> None:
    coins = design().toss(np.random.default_rng(0))
    retossed = Retossed.of(coins, np.random.default_rng(0), draws=99)
    found = effect(np.ones(coins.included.shape), coins.included, strata(16), retossed)
    assert (found.auroc, found.p_value) == (0.5, 1.0)
    assert (found.low, found.upper, found.high) == (0.0, 1.0, 1.0)


def test_scores_that_do_not_fit_are_refused() -> None:
    coins = design().toss(np.random.default_rng(0))
    retossed = Retossed.of(coins, np.random.default_rng(0), draws=99)
    with pytest.raises(AuditInputError, match="same runs and patients"):
        effect(np.ones((3, 3)), coins.included, strata(16), retossed)
    with pytest.raises(AuditInputError, match="finite"):
        effect(np.full(coins.included.shape, np.nan), coins.included, strata(16), retossed)

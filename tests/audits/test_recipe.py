"""The audit of a recipe: what it finds, what it passes, what it says beside the verdict."""

import json
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from audits import AuditInputError, Harm, HarmVerdict, Outcome, Policy
from audits.coins import Design
from audits.recipe import RecipeReport, judge_recipe
from audits.recipe_rules import MEANING, STANDING_OUT, RecipeCase, runs_needed, with_recipe
from audits.recipe_scores import PATIENT, Look, RecipeData
from audits.repeated import centred
from tests.helpers.recipes import experiment


@pytest.fixture(scope="module")
def innocent() -> RecipeReport:
    return judge_recipe(experiment(runs=16))


@pytest.fixture(scope="module")
def leaking() -> RecipeReport:
    return judge_recipe(experiment(runs=16, leak=0.5))


def named(report: RecipeReport, name: str) -> Any:
    return next(result for result in report.results if result.name == name)


def outcome(report: RecipeReport, harm: Harm) -> Outcome:
    return next(one.outcome for one in report.verdict.harms if one.harm is harm)


def test_a_generator_of_fresh_patients_passes(innocent: RecipeReport) -> None:
    assert innocent.verdict.outcome is Outcome.NO_LEAK_FOUND
    assert "excess > 0.1 excluded" in innocent.verdict.sentence
    assert "copying was not asked" in innocent.verdict.sentence


def test_new_tiles_of_its_own_patients_are_a_leak(leaking: RecipeReport) -> None:
    assert outcome(leaking, Harm.PATIENT_MEMBERSHIP) is Outcome.LEAK
    assert outcome(leaking, Harm.TILE_MEMBERSHIP) is Outcome.LEAK
    assert named(leaking, "patient_membership").statistic.value > 0.8


def test_copies_leak_tiles() -> None:
    report = judge_recipe(experiment(runs=16, copied=0.1))
    assert outcome(report, Harm.TILE_MEMBERSHIP) is Outcome.LEAK


def test_one_patient_in_many_is_a_leak_though_the_average_is_small() -> None:
    report = judge_recipe(experiment(runs=16, leak=0.6, given_away=1, patients=24))
    assert named(report, STANDING_OUT).rejected
    assert outcome(report, Harm.PATIENT_MEMBERSHIP) is Outcome.LEAK
    assert named(report, STANDING_OUT).statistic.value == 1


def test_four_runs_of_eight_patients_settle_nothing() -> None:
    report = judge_recipe(experiment(runs=4, patients=8))
    assert report.verdict.outcome is Outcome.INCONCLUSIVE
    remedies = [one.remedy for one in report.verdict.harms if one.remedy]
    assert all("runs of these patients would settle it" in remedy for remedy in remedies)


def test_the_negative_control_is_a_half(innocent: RecipeReport, leaking: RecipeReport) -> None:
    for report in (innocent, leaking):
        for arm in ("tile_membership", "patient_membership"):
            control = named(report, f"control/retossed/{arm}")
            assert control.statistic.value == pytest.approx(0.5, abs=0.01)


def test_planted_leaks_are_found_the_more_the_larger(innocent: RecipeReport) -> None:
    for arm in ("tile_membership", "patient_membership"):
        powers = [
            point.power.value
            for point in sorted(innocent.planted, key=lambda one: one.fraction)
            if point.arm == arm
        ]
        assert powers[-1] >= 0.8
        assert all(more >= less - 0.15 for less, more in pairwise(powers))
        assert innocent.mdl80[arm] in (0.005, 0.01, 0.02, 0.05)


def test_epsilon_is_bounded_below_its_ceiling(leaking: RecipeReport) -> None:
    pure, gaussian = named(leaking, "epsilon_one_run"), named(leaking, "epsilon_f_dp")
    assert 0.5 < pure.statistic.value <= pure.details["ceiling"]
    assert pure.statistic.value < gaussian.statistic.value <= gaussian.details["ceiling"]
    assert pure.statistic.high is None
    assert "both runs of a pair" in pure.note
    assert "Gaussian mechanism" in gaussian.note
    assert pure.details["coins"] == 8 * 16


def test_independent_coins_are_twice_as_many_and_balanced_ones_none() -> None:
    free = judge_recipe(experiment(scheme="independent", leak=0.5))
    assert named(free, "epsilon_one_run").details["coins"] == 8 * 16
    assert "of one run" in named(free, "epsilon_one_run").note
    half = judge_recipe(experiment(scheme="balanced", leak=0.5))
    assert not [result for result in half.results if result.name.startswith("epsilon")]
    assert any("no epsilon bounds" in warning for warning in half.warnings)


def test_lines_of_patients_are_drawn_of_eight_or_more() -> None:
    assert judge_recipe(experiment(patients=7)).lines is None
    lines = judge_recipe(experiment(patients=8, leak=0.5)).lines
    assert lines is not None
    assert len(lines) == 8


def test_without_held_back_tiles_the_patient_arm_says_what_it_rests_on() -> None:
    report = judge_recipe(experiment(runs=16, held_back=0, leak=0.5))
    assert outcome(report, Harm.TILE_MEMBERSHIP) is Outcome.INCONCLUSIVE
    assert outcome(report, Harm.PATIENT_MEMBERSHIP) is Outcome.LEAK
    assert any("No tile was held back" in warning for warning in report.warnings)


def test_a_patient_without_held_back_tiles_is_left_out_and_counted() -> None:
    data = experiment(runs=16)
    held = data.held_back & (data.patients != 3)
    report = judge_recipe(replace(data, held_back=held))
    assert named(report, "patient_membership").statistic.n == 15
    assert any("1 of 16 patients have too few tiles" in warning for warning in report.warnings)


def test_an_arm_of_few_patients_decides_nothing() -> None:
    data = experiment(runs=16, copied=0.3)
    with pytest.raises(AuditInputError, match="four patients in five"):
        replace(data, held_back=data.held_back & (data.patients < 2))
    # All tiles of most patients are held back: there are hardly any to compare with.
    report = judge_recipe(replace(data, held_back=data.held_back | (data.patients > 9)))
    assert outcome(report, Harm.TILE_MEMBERSHIP) is Outcome.INCONCLUSIVE
    assert any("tile membership is not measured" in warning for warning in report.warnings)


def test_with_few_runs_a_pass_would_overlook_single_patients() -> None:
    report = judge_recipe(experiment(patients=40, runs=12))
    verdict = next(v for v in report.verdict.harms if v.harm is Harm.PATIENT_MEMBERSHIP)
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert "would not have stood out" in verdict.reason
    assert verdict.remedy == "Give 16 runs or more."


def test_where_coins_hang_together_only_somebody_stands_out() -> None:
    data = experiment(runs=16, leak=0.6, given_away=1, patients=8)
    tiles = np.column_stack([np.full(8, 20), np.where(np.arange(8) < 2, 9, 0)])
    tied = Design(scheme="complementary", runs=16, class_tiles=tiles)
    assert not tied.free
    coins = tied.toss(np.random.default_rng(1))
    # The first two patients are always on opposite sides.
    assert (coins.included[:, 0] != coins.included[:, 1]).all()
    report = judge_recipe(replace(data, coins=coins))
    assert named(report, STANDING_OUT).statistic.value <= 1
    assert any("not free to be in or out" in warning for warning in report.warnings)


def test_the_order_of_the_lines_is_not_that_of_the_published_seed() -> None:
    data = experiment(leak=0.5)
    lines = judge_recipe(data).lines
    assert lines is not None
    residuals = centred(
        data.scores("full_black_box", np.random.default_rng())[PATIENT], data.strata
    )
    spread, included = residuals.std(), data.coins.included
    true = [
        (own[~inside].mean() / spread, own[inside].mean() / spread)
        for own, inside in zip(residuals.T, included.T, strict=True)
    ]
    stream = np.random.default_rng(0).spawn(5)[3]
    guessed = stream.permutation(np.array(true) + 0.1 * stream.standard_normal((16, 2)))
    assert np.abs(guessed - np.array(lines)).max() > 0.1
    assert judge_recipe(data).lines == lines


def test_other_looks_are_described_and_never_tested() -> None:
    data = experiment(runs=8, leak=0.5)
    blind = Look(
        real=np.ones_like(data.look.real), synthetic=[np.ones((5, 32), dtype=np.float32)] * 8
    )
    report = judge_recipe(replace(data, others={"colour": blind}))
    assert named(report, "look/colour").statistic.value == 0.5
    assert named(report, "look/colour").rejected is None
    assert "look/colour" not in report.verdict.family


def test_the_same_seed_gives_the_same_report_and_it_is_json() -> None:
    first, again = (judge_recipe(experiment(), seed=3).to_dict() for _ in range(2))
    assert json.dumps(first, allow_nan=False) == json.dumps(again, allow_nan=False)


def test_the_family_is_adjusted_together(leaking: RecipeReport) -> None:
    tests = [result for result in leaking.results if result.name in leaking.verdict.family]
    assert len(tests) == 5
    for test in tests:
        assert test.p_value is not None
        assert test.p_adjusted is not None
        assert test.p_adjusted >= test.p_value


def test_data_that_do_not_fit_are_refused() -> None:
    data = experiment()
    look = data.look
    wrong: list[dict[str, Any]] = [
        {"look": Look(real=look.real, synthetic=look.synthetic[:-1])},
        {"look": Look(real=look.real[1:], synthetic=look.synthetic)},
        {"look": Look(real=look.real, synthetic=[*look.synthetic[:-1], look.synthetic[-1][1:]])},
        {"held_back": np.ones_like(data.held_back)},
        {"strata": data.strata[1:]},
    ]
    for changed in wrong:
        with pytest.raises(AuditInputError):
            replace(data, **changed)


# What the recipe decides for a release


def said(outcome: Outcome, harm: Harm = Harm.PATIENT_MEMBERSHIP) -> HarmVerdict:
    return HarmVerdict(harm=harm, outcome=outcome, reason="Because.", gates=True)


LEAK, PASS, OPEN = Outcome.LEAK, Outcome.NO_LEAK_FOUND, Outcome.INCONCLUSIVE


@pytest.mark.parametrize(
    ("by", "release", "recipe", "decided"),
    [
        ("both", OPEN, PASS, PASS),
        ("both", OPEN, LEAK, LEAK),
        ("both", LEAK, PASS, LEAK),
        ("both", PASS, LEAK, LEAK),
        ("both", PASS, OPEN, PASS),
        ("both", OPEN, OPEN, OPEN),
        ("both", LEAK, None, LEAK),
        ("recipe", LEAK, PASS, PASS),
        ("recipe", PASS, OPEN, OPEN),
        ("recipe", PASS, None, OPEN),
        ("release", OPEN, LEAK, OPEN),
    ],
)
def test_a_policy_says_which_audit_decides_membership(
    by: Any, release: Outcome, recipe: Outcome | None, decided: Outcome
) -> None:
    brought = {} if recipe is None else {Harm.PATIENT_MEMBERSHIP: said(recipe)}
    copying = said(OPEN, Harm.COPYING)
    found = with_recipe([copying, said(release)], brought, Policy(membership=by))
    assert found[0] is copying
    assert found[1].outcome is decided
    if recipe is not None and decided is recipe and decided is not release:
        assert found[1].reason.endswith(MEANING)


def test_runs_that_are_needed_follow_from_the_spread() -> None:
    assert runs_needed(8, 0.055, 0.1) == 16
    assert runs_needed(16, 0.2, 0.1) > 64


def test_a_case_without_results_is_not_measured() -> None:
    from audits.recipe_rules import recipe_verdict

    case = RecipeCase(harm=Harm.TILE_MEMBERSHIP, results=[], policy=Policy(), levels={})
    assert recipe_verdict(case).outcome is OPEN


def test_data_keep_every_run_equally_sampled() -> None:
    data: RecipeData = experiment()
    assert {len(tiles) for tiles in data.look.synthetic} == {120}


def test_scores_from_elsewhere_are_a_test_of_the_family() -> None:
    data = experiment(runs=16)
    rng = np.random.default_rng(0)
    inside = data.coins.included[:, data.patients]
    told = [2.0 * row + rng.normal(size=len(row)) for row in inside]
    report = judge_recipe(replace(data, outside={"white_box": told}))
    results = {result.name: result for result in report.results}
    assert results["patient_membership/white_box"].rejected
    assert report.verdict.outcome is Outcome.LEAK
    assert "tile_membership/white_box" in report.verdict.family
    with pytest.raises(AuditInputError, match="white_box must score the same"):
        replace(data, outside={"white_box": told[:-1]})

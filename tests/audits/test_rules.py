"""The tables that judge: each row is reached by a case of its own, and the docs print them."""

from pathlib import Path
from typing import Any

import pytest

from audits import AuditResult, Estimate, Harm, Outcome, Policy
from audits.copying_rules import COPYING_RULES, CopyingCase
from audits.membership_rules import MEMBERSHIP_RULES, MembershipCase
from audits.recipe_rules import RECIPE_RULES, RecipeCase
from audits.rules import as_markdown, first_that_holds, verdict_by

SEEN = dict.fromkeys(Policy().copying_kinds, 0.005)
DOCS = Path(__file__).parents[2] / "docs" / "verdict.md"


def result(name: str, harm: Harm, **settings: Any) -> AuditResult:
    value = settings.pop("statistic", Estimate(value=0.5, low=0.4, high=0.55, n=20, unit="patient"))
    return AuditResult(name=name, harm=harm, statistic=value, **settings)


def counted(rejected: bool, own_p: float = 1e-9) -> AuditResult:
    details = {"own_p": own_p, "upper_bound": 0.001, "holdout_tiles": 90, "own_tiles": 80}
    return result("tail_ratio", Harm.COPYING, rejected=rejected, p_adjusted=0.001, details=details)


IDENTICAL = result("identical_tiles", Harm.COPYING, rejected=True, details={"identical": 1})
COPYING: dict[str, dict[str, Any]] = {
    "proven copy": {"results": {"identical_tiles": IDENTICAL, "tail_ratio": counted(False)}},
    "confounded count": {
        "results": {"tail_ratio": counted(True)},
        "confounded": "Files differ.",
    },
    "counted copies": {"results": {"tail_ratio": counted(True)}},
    "doubt": {"results": {"tail_ratio": counted(True, own_p=0.9)}},
    "too little power": {"results": {"tail_ratio": counted(False)}, "mdl80": {"exact": 0.5}},
    "no copy found": {"results": {"tail_ratio": counted(False)}},
}


def attack(*, high: float = 0.55, rejected: bool = False, smallest: float = 1e-4) -> AuditResult:
    return result(
        "patient_membership",
        Harm.PATIENT_MEMBERSHIP,
        statistic=Estimate(value=0.5, low=0.4, high=high, n=20, unit="patient"),
        rejected=rejected,
        p_adjusted=0.01 if rejected else 1.0,
        details={"smallest_p": smallest},
    )


def coins(*, artificial: bool) -> AuditResult:
    return result(
        "canaries",
        Harm.PATIENT_MEMBERSHIP,
        statistic=Estimate(value=0.9, low=0.7, high=1.0, n=16, unit="patient"),
        rejected=True,
        p_value=0.001,
        p_adjusted=None if artificial else 0.004,
        details={"artificial": artificial},
    )


MEMBERSHIP: dict[str, dict[str, Any]] = {
    "not measured": {"results": []},
    "confounded rejection": {"results": [attack(rejected=True)], "confounded": "Sites differ."},
    "rejection without patients": {"results": [attack(rejected=True)], "lone_tiles": True},
    "members told apart": {"results": [attack(rejected=True)]},
    "canaries told apart": {
        "results": [attack(rejected=True)],
        "confounded": "Sites differ.",
        "canaries": coins(artificial=False),
    },
    "artificial canaries told apart": {
        "results": [attack()],
        "canaries": coins(artificial=True),
    },
    "blind test": {"results": [attack(smallest=0.2)]},
    "blind test, wide bound": {"results": [attack(high=0.9, smallest=0.2)]},
    "wide bound": {"results": [attack(high=0.9)]},
    "pass without patients": {"results": [attack()], "lone_tiles": True},
    "confounded pass": {"results": [attack()], "confounded": "Sites differ."},
    "excess excluded": {"results": [attack()]},
}


def repeated(*, upper: float = 0.55, rejected: bool = False, smallest: float = 1e-4) -> AuditResult:
    return result(
        "patient_membership",
        Harm.PATIENT_MEMBERSHIP,
        rejected=rejected,
        p_adjusted=0.01 if rejected else 1.0,
        details={"upper": upper, "smallest_p": smallest, "runs": 8, "null_sd": 0.05},
    )


def singles(*, smallest: float) -> AuditResult:
    return result(
        "patients_standing_out",
        Harm.PATIENT_MEMBERSHIP,
        rejected=False,
        p_adjusted=1.0,
        details={"smallest_p": smallest, "runs": 8, "runs_needed": 14},
    )


RECIPE: dict[str, dict[str, Any]] = {
    "not measured": {"results": []},
    "members told apart": {"results": [repeated(rejected=True)]},
    "blind test": {"results": [repeated(smallest=0.2)]},
    "wide bound": {"results": [repeated(upper=0.7)]},
    "single patients unseen": {"results": [repeated(), singles(smallest=0.06)]},
    "excess excluded": {"results": [repeated(), singles(smallest=1e-4)]},
}


def recipe(**settings: Any) -> RecipeCase:
    return RecipeCase(
        harm=Harm.PATIENT_MEMBERSHIP,
        policy=Policy(),
        levels={"patient_membership": 0.0125, "patients_standing_out": 0.0125},
        **settings,
    )


def copying(**settings: Any) -> CopyingCase:
    levels = {"tail_ratio": 0.0125}
    return CopyingCase(**{"mdl80": SEEN, "policy": Policy(), "levels": levels, **settings})


def membership(**settings: Any) -> MembershipCase:
    return MembershipCase(
        harm=Harm.PATIENT_MEMBERSHIP,
        policy=Policy(),
        levels={"patient_membership": 0.0125},
        **settings,
    )


@pytest.mark.parametrize("rule", COPYING_RULES, ids=lambda rule: rule.name)
def test_each_rule_on_copying_has_a_case_of_its_own(rule: Any) -> None:
    case = copying(**COPYING[rule.name])
    assert first_that_holds(COPYING_RULES, case) is rule
    assert verdict_by(COPYING_RULES, case).outcome is rule.outcome


@pytest.mark.parametrize("rule", MEMBERSHIP_RULES, ids=lambda rule: rule.name)
def test_each_rule_on_membership_has_a_case_of_its_own(rule: Any) -> None:
    case = membership(**MEMBERSHIP[rule.name])
    assert first_that_holds(MEMBERSHIP_RULES, case) is rule
    assert verdict_by(MEMBERSHIP_RULES, case).outcome is rule.outcome


@pytest.mark.parametrize("rule", RECIPE_RULES, ids=lambda rule: rule.name)
def test_each_rule_on_a_recipe_has_a_case_of_its_own(rule: Any) -> None:
    case = recipe(**RECIPE[rule.name])
    assert first_that_holds(RECIPE_RULES, case) is rule
    assert verdict_by(RECIPE_RULES, case).outcome is rule.outcome


TABLES = pytest.mark.parametrize(
    ("rules", "cases"),
    [
        pytest.param(COPYING_RULES, {k: copying(**v) for k, v in COPYING.items()}, id="copying"),
        pytest.param(
            MEMBERSHIP_RULES, {k: membership(**v) for k, v in MEMBERSHIP.items()}, id="membership"
        ),
        pytest.param(RECIPE_RULES, {k: recipe(**v) for k, v in RECIPE.items()}, id="recipe"),
    ],
)


@TABLES
def test_a_verdict_that_settles_nothing_says_what_would(rules: Any, cases: Any) -> None:
    for rule in rules:
        verdict = verdict_by(rules, cases[rule.name])
        assert bool(verdict.remedy) == (rule.outcome is Outcome.INCONCLUSIVE), rule.name
        assert verdict.reason


def test_only_a_proof_decides_against_the_policy() -> None:
    assert [
        rule.name for rule in (*COPYING_RULES, *MEMBERSHIP_RULES, *RECIPE_RULES) if rule.decides
    ] == ["proven copy"]


@TABLES
def test_the_docs_print_the_table_of_the_code(rules: Any, cases: Any) -> None:
    assert as_markdown(rules) in DOCS.read_text(encoding="utf-8")

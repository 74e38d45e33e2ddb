"""What repeated training measures, as results of a report: tests, controls, looks, epsilon bounds.

Source: docs/methods.md#repeated-training.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from audits.canaries import GuessCounts
from audits.coin_bounds import SIGNIFICANCE, coin_bounds
from audits.family import arm_name
from audits.inputs import Floats
from audits.permutation import min_p
from audits.recipe_arms import Arm
from audits.recipe_rules import STANDING_OUT
from audits.recipe_scores import PATIENT, TILE, RecipeData
from audits.repeated import Effect, centred, standing_out
from audits.results import AuditResult, Estimate, Harm

HARMS = {TILE: Harm.TILE_MEMBERSHIP, PATIENT: Harm.PATIENT_MEMBERSHIP}

_PAYABLE = 1e-6


def _estimate(found: Effect, unit: str) -> Estimate:
    return Estimate(value=found.auroc, low=found.low, high=found.high, n=found.patients, unit=unit)


@dataclass(frozen=True, kw_only=True, eq=False)
class Tested:
    """A test, with what it takes to adjust it together with others.

    Attributes:
      result: its p-value not adjusted.
      observed: its statistic, large values reject.
      drawn: the same under every re-tossed design, shape (draws,).
    """

    result: AuditResult
    observed: float
    drawn: Floats


def adjusted(
    tests: Sequence[Tested], weights: Mapping[str, float], significance: float, *, exact: bool
) -> list[AuditResult]:
    """The tests, adjusted together by the draws they share."""
    p_values = min_p(
        {test.result.name: test.observed for test in tests},
        {test.result.name: test.drawn for test in tests},
        weights,
        exact=exact,
    )
    return [
        replace(
            test.result,
            p_adjusted=p_values[test.result.name],
            rejected=p_values[test.result.name] <= significance,
        )
        for test in tests
    ]


def attack_test(arm: Arm, attack: str, scores: Floats, unit: str) -> Tested:
    """The test of one attack in one arm, from its scores, shape (K, p)."""
    found = arm.effect(scores)
    result = AuditResult(
        name=arm_name(arm.name, attack),
        harm=HARMS[arm.name],
        statistic=_estimate(found, unit),
        p_value=found.p_value,
        details={
            "attack": attack,
            "runs": found.runs,
            "upper": found.upper,
            "null_mean": found.null_mean,
            "null_sd": found.null_sd,
            "smallest_p": found.smallest_p,
            "retosses": len(arm.retossed.included),
            "all_arrangements": arm.retossed.exact,
        },
        note="Within-patient AUROC; the interval assumes that being in training adds the same to "
        "every score.",
    )
    return Tested(result=result, observed=found.observed, drawn=found.drawn)


def retossed_control(test: AuditResult) -> AuditResult:
    """The AUROC where the coins of a test are tossed again, which must be .5."""
    mean, spread = test.details["null_mean"], 1.96 * test.details["null_sd"]
    return AuditResult(
        name=f"control/retossed/{test.name}",
        harm=None,
        statistic=Estimate(
            value=mean,
            low=mean - spread,
            high=mean + spread,
            n=test.details["retosses"],
            unit="re-tossed experiment",
        ),
        details={"null_sd": test.details["null_sd"]},
        note="The same scores against coins that decided nothing: .5, and what chance spreads "
        "around it.",
    )


def single_patients(data: RecipeData, arm: Arm, scores: Floats, *, level: float) -> Tested:
    """The test of single patients: an average over many would hide the few.

    Args:
      data: the runs.
      arm: of patients.
      scores: of the primary attack, shape (K, p).
      level: of this test at Holm's first step.
    """
    design = data.coins.design
    found = standing_out(scores, arm.included, arm.strata, arm.retossed, paired=design.paired)
    # Where coins hang together, what gives one patient away seems to give others away too.
    count = found.patients if design.free else min(found.patients, 1)
    result = AuditResult(
        name=STANDING_OUT,
        harm=Harm.PATIENT_MEMBERSHIP,
        statistic=Estimate(
            value=float(count), low=float(count), high=None, n=arm.patients, unit=data.group_unit
        ),
        p_value=found.p_value,
        details={
            "smallest_p": found.smallest_p,
            "runs": len(arm.included),
            "runs_needed": design.runs_to_stand_out(level),
        },
        note=_of_singles(data, count, arm.patients, seen=found.smallest_p <= level),
    )
    return Tested(result=result, observed=found.largest, drawn=found.drawn)


def _of_singles(data: RecipeData, count: int, patients: int, *, seen: bool) -> str:
    if not seen:
        return "Nobody could stand out: with so few runs nobody's own coins are rare enough."
    unit = data.group_unit.replace("_", " ")
    note = f"With 95 % confidence at least {count} of {patients} {unit}s are given away one by one."
    if count and not data.coins.design.free:
        note += " How many more cannot be said, because their coins hang together."
    return note


_LOOKS = {
    "colour": "The same score on colour alone (mean and spread of optical density).",
    "stain_normalised": "The same score on stain-normalised tiles: what is left is tissue.",
}


def other_looks(data: RecipeData, arm: Arm) -> list[AuditResult]:
    """How much of the effect is colour, and how much is left without it."""
    found = []
    for name in data.others:
        result = arm.effect(data.described(name)[PATIENT])
        found.append(
            AuditResult(
                name=f"look/{name}",
                harm=None,
                statistic=_estimate(result, data.group_unit),
                p_value=result.p_value,
                details={"upper": result.upper, "null_sd": result.null_sd},
                note=_LOOKS.get(name, "The same score in another look at the tiles."),
            )
        )
    return found


def epsilon_bounds(data: RecipeData, arm: Arm, scores: Floats) -> list[AuditResult]:
    """Lower bounds of epsilon from the same coins; none where the coins are not fair and free.

    Args:
      data: the runs.
      arm: of patients.
      scores: of the primary attack, shape (K, p).
    """
    design = data.coins.design
    paid = SIGNIFICANCE * design.accepted
    if not design.coins or paid < _PAYABLE:
        return []
    residuals, included = centred(scores, arm.strata), arm.included
    if design.paired:
        residuals, included = residuals[::2] - residuals[1::2], included[::2]
    runs = "both runs of a pair together" if design.paired else "one run"
    whose = f"of {runs}, for one {data.group_unit.replace('_', ' ')}"
    if data.shared_coins:
        whose += f" or the several that share one of {data.shared_coins} coins"
    quarter = max(1, included.size // 4)
    return coin_bounds(
        residuals.ravel(),
        included.ravel(),
        guesses=GuessCounts(guessed_in=quarter, guessed_out=quarter),
        whose=whose,
        paid=paid,
    )

"""What repeated training measures, as results of a report: tests, controls, looks, epsilon bounds.

Source: docs/methods.md#repeated-training.
"""

from collections.abc import Mapping

from audits.canaries import GuessCounts, ScoredCanaries, correct_guesses, guess_orders
from audits.epsilon import one_run_ceiling, one_run_lower_bound
from audits.f_dp import f_dp_lower_bound
from audits.family import arm_name
from audits.inputs import Floats
from audits.recipe_rules import STANDING_OUT
from audits.recipe_scores import PATIENT, TILE, RecipeData
from audits.repeated import Effect, Retossed, centred, effect, standing_out
from audits.results import AuditResult, Estimate, Harm

HARMS = {TILE: Harm.TILE_MEMBERSHIP, PATIENT: Harm.PATIENT_MEMBERSHIP}

DELTA = 1e-5
"""Of the f-DP bound; the bound after Steinke et al. is of pure differential privacy."""

_SIGNIFICANCE = 0.05
_PAYABLE = 1e-6

Scores = Mapping[str, Floats]
"""Scores of one attack by arm, shape (K, p) each."""


def _of_arm(data: RecipeData, arm: str, retossed: Retossed, scores: Floats) -> Effect:
    chosen = data.arms[arm]
    return effect(
        scores,
        data.coins.included[:, chosen],
        data.strata[chosen],
        retossed.of_patients(chosen),
    )


def _estimate(found: Effect, unit: str) -> Estimate:
    return Estimate(value=found.auroc, low=found.low, high=found.high, n=found.patients, unit=unit)


def attack_test(
    data: RecipeData, arm: str, attack: str, scores: Floats, retossed: Retossed
) -> AuditResult:
    """The test of one attack in one arm, from its scores, shape (K, p)."""
    found = _of_arm(data, arm, retossed, scores)
    return AuditResult(
        name=arm_name(arm, attack),
        harm=HARMS[arm],
        statistic=_estimate(found, data.group_unit),
        p_value=found.p_value,
        details={
            "attack": attack,
            "runs": found.runs,
            "upper": found.upper,
            "null_mean": found.null_mean,
            "null_sd": found.null_sd,
            "smallest_p": found.smallest_p,
            "retosses": len(retossed.included),
            "all_arrangements": retossed.exact,
        },
        note="Within-patient AUROC; the interval assumes that being in training adds the same to "
        "every score.",
    )


def retossed_controls(data: RecipeData, scores: Scores, retossed: Retossed) -> list[AuditResult]:
    """The AUROC where coins are re-tossed, which must be .5."""
    found = []
    for arm, of_arm in scores.items():
        result = _of_arm(data, arm, retossed, of_arm)
        spread = 1.96 * result.null_sd
        found.append(
            AuditResult(
                name=f"control/retossed/{arm}",
                harm=None,
                statistic=Estimate(
                    value=result.null_mean,
                    low=result.null_mean - spread,
                    high=result.null_mean + spread,
                    n=len(retossed.included),
                    unit="re-tossed experiment",
                ),
                details={"null_sd": result.null_sd},
                note="The same scores against coins that decided nothing: .5, and what chance "
                "spreads around it.",
            )
        )
    return found


def single_patients(data: RecipeData, scores: Scores, retossed: Retossed) -> AuditResult:
    """The test of single patients: an average over many would hide the few."""
    chosen = data.arms[PATIENT]
    found = standing_out(
        scores[PATIENT],
        data.coins.included[:, chosen],
        data.strata[chosen],
        retossed.of_patients(chosen),
    )
    count, total = found.patients, int(chosen.sum())
    note = (
        f"With 95 % confidence at least {count} of {total} patients are given away one by one."
        if found.smallest_p <= _SIGNIFICANCE
        else "Nobody could stand out: with so few runs no patient's own coins are rare enough."
    )
    return AuditResult(
        name=STANDING_OUT,
        harm=Harm.PATIENT_MEMBERSHIP,
        statistic=Estimate(
            value=float(count), low=float(count), high=None, n=total, unit=data.group_unit
        ),
        p_value=found.p_value,
        details={"smallest_p": found.smallest_p, "runs": len(data.coins.included)},
        note=note,
    )


_LOOKS = {
    "colour": "The same score on colour alone (mean and spread of optical density).",
    "stain_normalised": "The same score on stain-normalised tiles: what is left is tissue.",
}


def other_looks(data: RecipeData, retossed: Retossed) -> list[AuditResult]:
    """How much of the effect is colour, and how much is left without it."""
    found = []
    for name in data.others:
        result = _of_arm(data, PATIENT, retossed, data.described(name)[PATIENT])
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


def epsilon_bounds(data: RecipeData, scores: Scores) -> list[AuditResult]:
    """Lower bounds of epsilon from the same coins; none where the coins are not fair and free."""
    design, chosen = data.coins.design, data.arms[PATIENT]
    if not design.coins:
        return []
    residuals = centred(scores[PATIENT], data.strata[chosen])
    included = data.coins.included[:, chosen]
    if design.paired:
        residuals, included = residuals[::2] - residuals[1::2], included[::2]
    flags, values = included.ravel(), residuals.ravel()
    m = len(flags)
    plan = GuessCounts(guessed_in=max(1, m // 4), guessed_out=max(1, m // 4))
    made = plan.guessed_in + plan.guessed_out
    high, low = guess_orders(ScoredCanaries(scores=values, included=flags))
    correct = int(correct_guesses(flags[high], flags[low], [plan])[0])
    # P(bound too high | toss accepted) <= P(bound too high) / P(accepted).
    paid = _SIGNIFICANCE * design.acceptance**design.units
    if paid < _PAYABLE:
        return []
    whose = "of both runs of a pair together" if design.paired else "of one run"
    fair = "" if paid == _SIGNIFICANCE else " Tosses were restricted, which the level pays for."
    counts = {
        "coins": m,
        "guesses": made,
        "correct": correct,
        "level": paid,
        "confidence": 1 - _SIGNIFICANCE,
    }
    pure = float(one_run_lower_bound(canaries=m, guesses=made, correct=correct, significance=paid))
    gaussian = f_dp_lower_bound(
        canaries=m, guesses=made, correct=correct, delta=DELTA, significance=paid
    )
    return [
        _bound(
            "epsilon_one_run",
            pure,
            m,
            {**counts, "delta": 0.0},
            one_run_ceiling(m, guesses=made, significance=paid),
            f"Pure epsilon {whose}, for one patient; assumes nothing but her fair coin.{fair}",
        ),
        _bound(
            "epsilon_f_dp",
            gaussian,
            m,
            {**counts, "delta": DELTA},
            f_dp_lower_bound(
                canaries=m, guesses=made, correct=made, delta=DELTA, significance=paid
            ),
            f"Epsilon at delta {DELTA:g} {whose}, for one patient; holds only if training is a "
            f"Gaussian mechanism.{fair}",
        ),
    ]


def _bound(
    name: str, value: float, m: int, details: Mapping[str, object], ceiling: float, note: str
) -> AuditResult:
    return AuditResult(
        name=name,
        harm=None,
        statistic=Estimate(
            value=value, low=value, high=None, n=m, unit="patient coin (lower bound only)"
        ),
        details={**details, "ceiling": ceiling},
        note=f"At most {ceiling:.3g} could have been certified. {note}",
    )

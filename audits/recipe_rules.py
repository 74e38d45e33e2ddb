"""The rules that judge membership by repeated training of a recipe.

The coins are the auditor's own, so nothing is confounded: a rejection is a LEAK. A pass needs the
primary attack to have been able to reject, and its one-sided bound within the policy.

Source: docs/methods.md#repeated-training.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from scipy import stats

from audits.policy import Policy
from audits.results import AuditResult, Harm, HarmVerdict, Outcome
from audits.rules import Rule, verdict_by
from audits.wording import interval

STANDING_OUT = "patients_standing_out"
"""Name of the test that looks at single patients."""


@dataclass(frozen=True, kw_only=True)
class RecipeCase:
    """What is known of one arm.

    Attributes:
      harm: the arm.
      results: one for each attack, the primary first; none where the arm was not measured.
      policy: the excess of AUROC over .5 that must be excluded.
      levels: of each test at Holm's first step.
    """

    harm: Harm
    results: Sequence[AuditResult]
    policy: Policy
    levels: Mapping[str, float]

    @cached_property
    def rejected(self) -> list[AuditResult]:
        return [result for result in self.results if result.rejected]

    @property
    def primary(self) -> AuditResult:
        return self.results[0]

    @property
    def unit(self) -> str:
        return self.primary.statistic.unit.replace("_", " ")

    @property
    def found(self) -> str:
        """The result to speak of: the first that rejects, else the primary."""
        result = self.rejected[0] if self.rejected else self.primary
        if result.name == STANDING_OUT:
            return (
                f"{result.name}: {result.statistic.value:.0f} of {result.statistic.n} {self.unit}s "
                f"or more are given away one by one in {result.details['runs']} runs of the recipe"
            )
        return (
            f"{result.name}: within-patient AUROC {interval(result)} over "
            f"{result.statistic.n} {self.unit}s in {result.details['runs']} runs of the recipe"
        )

    @property
    def excess(self) -> float:
        """Largest excess of AUROC over .5 that the primary attack does not exclude."""
        return float(self.primary.details["upper"]) - 0.5

    @property
    def singles(self) -> AuditResult:
        """The test of single patients, of the arm that has one."""
        return self.results[-1]

    @property
    def singles_unseen(self) -> bool:
        known = self.singles.name == STANDING_OUT
        return known and bool(self.singles.details["smallest_p"] > self.levels[STANDING_OUT])

    @property
    def blind(self) -> bool:
        return bool(self.primary.details["smallest_p"] > self.levels[self.primary.name])


def runs_needed(runs: int, null_sd: float, excess: float) -> int:
    """Even number of runs with which an excess would be excluded four times in five.

    Args:
      runs: of the experiment at hand.
      null_sd: of its AUROC over re-tossed coins; falls as the square root of the runs.
      excess: to be excluded by a one-sided 95 % bound.
    """
    needed: float = runs * ((stats.norm.ppf(0.95) + stats.norm.ppf(0.8)) * null_sd / excess) ** 2
    return 2 * math.ceil(needed / 2)


def _more_runs(case: RecipeCase) -> str:
    runs, spread = int(case.primary.details["runs"]), float(case.primary.details["null_sd"])
    enough = max(runs + 2, runs_needed(runs, spread, case.policy.membership_excess))
    return f"About {enough} runs of these patients would settle it, if there is nothing to find."


RECIPE_RULES: tuple[Rule[RecipeCase], ...] = (
    Rule(
        name="not measured",
        when="no tile was held back from every run, or no patient has both kinds",
        holds=lambda case: not case.results,
        outcome=Outcome.INCONCLUSIVE,
        reason=lambda case: "Not measured by the recipe's audit.",
        remedy=lambda case: "Hold tiles of every patient back from every run.",
    ),
    Rule(
        name="members told apart",
        when="an attack rejects",
        holds=lambda case: bool(case.rejected),
        outcome=Outcome.LEAK,
        reason=lambda case: f"{case.found} (adjusted p = {case.rejected[0].p_adjusted:.2g}).",
    ),
    Rule(
        name="blind test",
        when="the primary attack could not have rejected",
        holds=lambda case: case.blind,
        outcome=Outcome.INCONCLUSIVE,
        reason=lambda case: (
            f"{case.found}: not rejected, but with so few coins it could not have been (smallest "
            f"possible p {case.primary.details['smallest_p']:.2g})."
        ),
        remedy=_more_runs,
    ),
    Rule(
        name="wide bound",
        when="an excess as large as the policy's is not excluded",
        holds=lambda case: case.excess > case.policy.membership_excess,
        outcome=Outcome.INCONCLUSIVE,
        reason=lambda case: (
            f"{case.found}: not rejected, but an excess over .5 of up to {case.excess:.2f} is not "
            f"excluded (policy: {case.policy.membership_excess:g})."
        ),
        remedy=_more_runs,
    ),
    Rule(
        name="single patients unseen",
        when="the excess is excluded on average, but no single patient could have stood out",
        holds=lambda case: case.singles_unseen,
        outcome=Outcome.INCONCLUSIVE,
        reason=lambda case: (
            f"{case.found}: not rejected, and its excess over .5 is at most {case.excess:.2f} on "
            "average; but with so few runs a patient who is given away every time would not have "
            "stood out."
        ),
        remedy=lambda case: f"Give {case.singles.details['runs_needed']} runs or more.",
    ),
    Rule(
        name="excess excluded",
        when="no test rejects, all could have, and the excess is excluded",
        holds=lambda case: True,
        outcome=Outcome.NO_LEAK_FOUND,
        reason=lambda case: (
            f"{case.found}: not rejected, and its excess over .5 is at most {case.excess:.2f}."
        ),
    ),
)


def recipe_verdict(case: RecipeCase) -> HarmVerdict:
    """The verdict of repeated training on one arm."""
    return verdict_by(RECIPE_RULES, case)


MEANING = (
    "The recipe was tried on random parts of the patients; the release is one more draw of it."
)
"""What a recipe's audit says of a release, in one sentence."""


def with_recipe(
    release: Sequence[HarmVerdict], recipe: Mapping[Harm, HarmVerdict], policy: Policy
) -> tuple[HarmVerdict, ...]:
    """The verdicts of a release's audit, those on membership joined with its recipe's.

    Args:
      release: one for each harm.
      recipe: on both arms of membership; empty where no audit of the recipe was brought.
      policy: which of the two counts.
    """
    return tuple(
        one if one.harm is Harm.COPYING else _joined(one, recipe.get(one.harm), policy)
        for one in release
    )


def _joined(release: HarmVerdict, recipe: HarmVerdict | None, policy: Policy) -> HarmVerdict:
    """The verdict on one arm of membership, from the release's audit and its recipe's.

    `both`: either may find a leak, and either may pass what the other could not settle.
    """
    if policy.membership == "release":
        return release
    if recipe is None:
        if policy.membership == "both":
            return release
        return HarmVerdict(
            harm=release.harm,
            outcome=Outcome.INCONCLUSIVE,
            reason="The policy asks for the audit of the recipe, and none was given.",
            remedy="Run `privgen audit-recipe`, and give its folder.",
            gates=release.gates,
        )
    if policy.membership == "recipe":
        decides = recipe
    else:
        order = (Outcome.LEAK, Outcome.NO_LEAK_FOUND, Outcome.INCONCLUSIVE)
        decides = min((recipe, release), key=lambda one: order.index(one.outcome))
    if decides is release:
        return release
    return HarmVerdict(
        harm=release.harm,
        outcome=recipe.outcome,
        reason=f"{recipe.reason} {MEANING}",
        remedy=recipe.remedy,
        gates=release.gates,
    )

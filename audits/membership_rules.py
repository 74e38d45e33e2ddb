"""The rules that judge membership of tiles or of patients.

Four judgements differ from a plain "any rejection is a leak", towards INCONCLUSIVE and never
towards a pass: patient membership between groups that the blind baseline tells apart is confounded;
where every tile counts as a patient of its own, its p-value rests on independence nobody knows; a
bound counts only where the test could have rejected at all; and artificial canaries that are told
apart take a pass away. Real canaries that are told apart are a leak, whatever else tells the groups
apart: coins decided about them, and nothing else did.

Source: docs/methods.md#verdict.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count

from audits.canary_results import told_apart
from audits.permutation import DRAWS
from audits.policy import Policy
from audits.results import AuditResult, Harm, Outcome
from audits.rules import Rule
from audits.wording import LESS_LEARNT, NAME_PATIENTS, SPLIT_AGAIN, inside, interval


@dataclass(frozen=True, kw_only=True)
class MembershipCase:
    """What is known of one arm of membership, over all attacks that gate.

    Attributes:
      harm: the arm.
      results: one for each attack; none where the arm could not be measured.
      policy: the excess of AUROC over .5 that must be excluded.
      levels: of each registered test at Holm's first step.
      confounded: a sentence when the groups differ for other reasons.
      remedy: what would settle that.
      lone_tiles: whether every tile counts as a patient of its own.
      canaries: the test of canaries, which takes part in no pass; None where there are none.
    """

    harm: Harm
    results: Sequence[AuditResult]
    policy: Policy
    levels: Mapping[str, float]
    confounded: str = ""
    remedy: str = SPLIT_AGAIN
    lone_tiles: bool = False
    canaries: AuditResult | None = None

    @cached_property
    def rejected(self) -> list[AuditResult]:
        return [result for result in self.results if result.rejected]

    @cached_property
    def result(self) -> AuditResult:
        """The attack to speak of: the first that rejects, or the one with the widest bound."""
        return self.rejected[0] if self.rejected else max(self.results, key=_upper)

    @property
    def found(self) -> str:
        n = self.result.statistic.n
        return f"{self.result.name}: AUROC {interval(self.result)} over {n} patients"

    def gives_away(self, *, artificial: bool) -> bool:
        """Whether canaries of this kind are told apart."""
        test = self.canaries
        return bool(test and test.rejected and test.details["artificial"] is artificial)

    @property
    def told_apart(self) -> str:
        return "" if self.canaries is None else told_apart(self.canaries)

    @property
    def excess(self) -> float:
        """Largest excess of AUROC over .5 that is not excluded."""
        return _upper(self.result) - 0.5

    @property
    def excluded(self) -> bool:
        return self.excess <= self.policy.membership_excess

    @cached_property
    def blind(self) -> list[AuditResult]:
        """Attacks whose smallest possible p is above their own share of the level."""
        return [r for r in self.results if r.details["smallest_p"] > self.levels[r.name]]

    @property
    def never(self) -> list[AuditResult]:
        """Of these, the ones that could reject under no data at all.

        Holm's later steps give a test up to the whole significance, once others have rejected. A
        test that cannot reach even that could never reject; of one that can, only its own share is
        out of reach.
        """
        whole = self.policy.significance
        return [test for test in self.blind if test.details["smallest_p"] > whole]

    @property
    def blindest(self) -> AuditResult:
        told = self.never or self.blind
        return max(told, key=lambda one: one.details["smallest_p"] / self.levels[one.name])


def _upper(result: AuditResult) -> float:
    """Upper confidence limit of an AUROC; 1 where there is none."""
    return 1.0 if result.statistic.high is None else result.statistic.high


def _missing(case: MembershipCase) -> str:
    missing = (
        "held-back tiles of the training slides (siblings)"
        if case.harm is Harm.TILE_MEMBERSHIP
        else "at least 2 patients in train and in holdout"
    )
    attacks = ", ".join(case.policy.attacks)
    return f"Give {missing}, and what one of the policy's attacks needs ({attacks})."


def _draws_are_few(case: MembershipCase) -> bool:
    return bool(case.blindest.details["smallest_p"] <= 1 / (DRAWS + 1))


def _blindness(case: MembershipCase) -> str:
    """Why tests could not have rejected."""
    test, told = case.blindest, case.never or case.blind
    smallest, own = test.details["smallest_p"], case.levels[test.name]
    if _draws_are_few(case):
        few = f"with {DRAWS:,} permutations"
    elif case.harm is Harm.TILE_MEMBERSHIP:
        few = "with so few held-back tiles"
    else:
        few = "with so few patients"
    all_of_them = len(told) == len(case.results)
    whose = "" if all_of_them else f" in {', '.join(one.name for one in told)}"
    if case.never:
        return (
            f"{few} no data could have rejected{whose} (smallest possible p {smallest:.2g}, whole "
            f"significance {case.policy.significance:g})"
        )
    return (
        f"{few} it could have rejected{whose} only after other tests of the family did (smallest "
        f"possible p {smallest:.2g}, own share of the significance {own:.2g})"
    )


def _sight(case: MembershipCase) -> str:
    """What would let the blindest test reject."""
    test = case.blindest
    smallest, own = test.details["smallest_p"], case.levels[test.name]
    if _draws_are_few(case):
        return f"Give a significance of {case.policy.significance * smallest / own:.2g} or more."
    if case.harm is Harm.TILE_MEMBERSHIP:
        return "Give more held-back tiles of the training slides (siblings)."
    enough = next(n for n in count(4) if math.comb(n, n // 2) * own >= 1)
    return f"Give {enough} patients or more, half of them in the holdout."


def _more_patients(case: MembershipCase) -> str:
    e = case.result.statistic
    half = _upper(case.result) - e.value
    needed = max(e.n + 1, math.ceil(e.n * (half / case.policy.membership_excess) ** 2))
    return f"About {needed} patients would settle it, if there is nothing to find."


MEMBERSHIP_RULES: tuple[Rule[MembershipCase], ...] = (
    Rule(
        name="canaries told apart",
        when="patients of the data whose coins decided who was in training are told apart",
        holds=lambda case: case.gives_away(artificial=False),
        outcome=Outcome.LEAK,
        reason=lambda case: f"canaries: {case.told_apart}.",
    ),
    Rule(
        name="not measured",
        when="the roles that the arm needs were not given",
        holds=lambda case: not case.results,
        outcome=Outcome.INCONCLUSIVE,
        reason=lambda case: "Not measured.",
        remedy=_missing,
    ),
    Rule(
        name="confounded rejection",
        when="an attack rejects, and the groups differ for other reasons",
        holds=lambda case: bool(case.rejected and case.confounded),
        outcome=Outcome.INCONCLUSIVE,
        reason=lambda case: f"{case.found} rejects, but {inside(case.confounded)}",
        remedy=lambda case: case.remedy,
    ),
    Rule(
        name="rejection without patients",
        when="an attack rejects, and every tile counted as a patient of its own",
        holds=lambda case: bool(case.rejected and case.lone_tiles),
        outcome=Outcome.INCONCLUSIVE,
        reason=lambda case: (
            f"{case.found} rejects, but every tile counted as a patient of its own: tiles of one "
            "patient are alike, and the p-value takes them for independent."
        ),
        remedy=lambda case: NAME_PATIENTS,
    ),
    Rule(
        name="members told apart",
        when="an attack rejects",
        holds=lambda case: bool(case.rejected),
        outcome=Outcome.LEAK,
        reason=lambda case: f"{case.found} (adjusted p = {case.result.p_adjusted:.2g}).",
    ),
    Rule(
        name="artificial canaries told apart",
        when="no attack rejects, but artificial patients are told apart",
        holds=lambda case: case.gives_away(artificial=True),
        outcome=Outcome.INCONCLUSIVE,
        reason=lambda case: (
            f"{case.found}: not rejected, but {case.told_apart}. Patients who stand out as they "
            "do would be given away too."
        ),
        remedy=lambda case: LESS_LEARNT,
    ),
    Rule(
        name="blind test",
        when="no attack rejects, and one could not have, though the bound is small enough",
        holds=lambda case: bool(case.blind and case.excluded),
        outcome=Outcome.INCONCLUSIVE,
        reason=lambda case: f"{case.found}: not rejected, but {_blindness(case)}.",
        remedy=_sight,
    ),
    Rule(
        name="blind test, wide bound",
        when="no attack rejects, one could not have, and the bound is too wide",
        holds=lambda case: bool(case.blind),
        outcome=Outcome.INCONCLUSIVE,
        reason=lambda case: f"{case.found}: not rejected, but {_blindness(case)}.",
        remedy=_more_patients,
    ),
    Rule(
        name="wide bound",
        when="no attack rejects, and an excess as large as the policy's is not excluded",
        holds=lambda case: not case.excluded,
        outcome=Outcome.INCONCLUSIVE,
        reason=lambda case: (
            f"{case.found}: not rejected, but an excess over .5 of up to {case.excess:.2f} is not "
            f"excluded (policy: {case.policy.membership_excess:g})."
        ),
        remedy=_more_patients,
    ),
    Rule(
        name="pass without patients",
        when="the excess is excluded, but every tile counted as a patient of its own",
        holds=lambda case: case.lone_tiles,
        outcome=Outcome.INCONCLUSIVE,
        reason=lambda case: (
            f"{case.found}: not rejected, but every tile counted as a patient of its own."
        ),
        remedy=lambda case: NAME_PATIENTS,
    ),
    Rule(
        name="confounded pass",
        when="the excess is excluded, but the groups differ for other reasons",
        holds=lambda case: bool(case.confounded),
        outcome=Outcome.INCONCLUSIVE,
        reason=lambda case: f"{case.found}: not rejected, but {inside(case.confounded)}",
        remedy=lambda case: case.remedy,
    ),
    Rule(
        name="excess excluded",
        when="no attack rejects, all could have, and the excess is excluded",
        holds=lambda case: True,
        outcome=Outcome.NO_LEAK_FOUND,
        reason=lambda case: (
            f"{case.found}: not rejected, and its excess over .5 is at most {case.excess:.2f}."
        ),
    ),
)

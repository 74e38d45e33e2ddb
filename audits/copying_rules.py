"""The rules that judge copying.

A proof of a copy is a LEAK and decides, whatever the policy asks. Where tiles align with train
tiles as copies do and are not proven, copying never passes.

Two judgements differ from a plain "any rejection is a leak", towards INCONCLUSIVE and never
towards a pass: copies are called on the scale-free ratio, confirmed against the training patients'
own tiles at the test's first-step level; and `tail_count` alone also rejects for synthetic tiles
that are merely less varied than real ones.

Source: docs/methods.md#verdict.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from audits.family import CLASS_TEST, COPY_TESTS, confirmed
from audits.kinds import Coverage, kind_name
from audits.policy import Policy
from audits.results import AuditResult, Harm, Outcome
from audits.rules import Rule
from audits.wording import SAME_WAY, inside, interval


@dataclass(frozen=True, kw_only=True)
class CopyingCase:
    """What is known of copies.

    Attributes:
      results: proofs and registered tests, by name.
      mdl80: smallest share seen with power .8, by kind of copy that was planted.
      policy: the share and kinds that must be visible.
      levels: of each registered test at Holm's first step.
      swapped: a sentence when the holdout looks like the train set.
      confounded: a sentence when train and holdout differ for other reasons; proofs stand.
    """

    results: Mapping[str, AuditResult]
    mdl80: Mapping[str, float | None]
    policy: Policy
    levels: Mapping[str, float]
    swapped: str = ""
    confounded: str = ""

    harm = Harm.COPYING

    @cached_property
    def rejected(self) -> list[AuditResult]:
        """Registered copy tests that reject."""
        return [
            test
            for name, test in self.results.items()
            if (name in COPY_TESTS or name.startswith(CLASS_TEST)) and test.rejected
        ]

    @property
    def names(self) -> str:
        return ", ".join(test.name for test in self.rejected)

    @cached_property
    def called(self) -> list[AuditResult]:
        """Tests that reject in scale-free form, and against the training patients' own tiles."""
        return [
            test
            for test in self.rejected
            if test.name != "tail_count" and confirmed(test, self.levels[test.name])
        ]

    @cached_property
    def proofs(self) -> list[str]:
        """A sentence for each proof that copies stand among the synthetic tiles."""
        told = []
        identical, aligned = (
            self.results.get("identical_tiles"),
            self.results.get("aligned_copies"),
        )
        if identical is not None and identical.rejected:
            told.append(
                f"identical_tiles: {identical.details['identical']} of {identical.statistic.n} "
                "synthetic tiles equal a train tile pixel by pixel."
            )
        if aligned is not None and aligned.rejected:
            told.append(
                f"aligned_copies: {aligned.details['proven']} of {aligned.statistic.n} synthetic "
                "tiles show the tissue of a train tile (alignment score above "
                f"{aligned.details['needed_score']:.1f}, which chance passes once in a thousand "
                "such searches)."
            )
        return told

    @cached_property
    def doubts(self) -> list[tuple[str, str]]:
        """Reason and remedy of everything that forbids a pass without being a leak."""
        doubts = [*self._unconfirmed(), *self._unproven()]
        if self.swapped:
            doubts.append((self.swapped, "Check which tiles the generator was trained on."))
        return doubts

    def _unconfirmed(self) -> list[tuple[str, str]]:
        """Where copy tests reject and no copy is called."""
        if not self.rejected:
            return []
        if [test.name for test in self.rejected] == ["tail_count"]:
            why = (
                "by distance alone, not in the scale-free form: copies of repeated train tiles do "
                "that, and so do synthetic tiles less varied than real ones or a holdout of "
                "another source"
            )
        else:
            why = (
                "but no closer than the training patients' own tiles lie to each other: tissue of "
                "these patients, with no tile shown to be copied"
            )
        return [
            (
                f"{self.names}: synthetic tiles lie closer to train tiles than new patients' tiles "
                f"do, {why}.",
                "Look at the closest pairs; draw class frequencies as trained, and take the "
                "holdout from the same source.",
            )
        ]

    def _unproven(self) -> list[tuple[str, str]]:
        """Where tiles align as copies do, with nothing proven.

        Either chance could not be judged, or the null shows as much: an artefact that many tiles
        share, or real tiles of one tissue under two patients. Both can hide copies.
        """
        aligned = self.results.get("aligned_copies")
        if aligned is None or not aligned.details["above_floors"]:
            return []
        count = f"{aligned.details['above_floors']} of {aligned.statistic.n}"
        why = (
            aligned.note
            if aligned.rejected is None
            else "None is proven: real tiles of different patients align as well by the measure "
            "that was learned from them."
        )
        return [
            (
                f"aligned_copies: {count} synthetic tiles align with a train tile as copies do. "
                f"{why}",
                "Look at the pairs (the private page of suspects shows them); give more holdout "
                "tiles, and real tiles without near-duplicates between patients, so that chance "
                "can be judged.",
            )
        ]

    @cached_property
    def unseen(self) -> dict[str, float | None]:
        """Kinds that the policy asks about, seen only above its share, or not at all."""
        return {
            kind: self.mdl80.get(kind)
            for kind in self.policy.copying_kinds
            if (self.mdl80.get(kind) or math.inf) > self.policy.copying_mdl80
        }

    @property
    def ratio(self) -> AuditResult:
        return self.results["tail_ratio"]

    @property
    def bound(self) -> str:
        return (
            f"at most {self.ratio.details['upper_bound']:.2g} of the synthetic tiles (95 % bound) "
            "lie where copies would"
        )


def _proven(case: CopyingCase) -> str:
    also = [f"The copy tests reject too ({case.names})."] if case.rejected else []
    return " ".join([*case.proofs, *also])


def _called(case: CopyingCase) -> str:
    test = case.called[0]
    return (
        f"{test.name}: {interval(test)} of the synthetic tiles lie closer to a train tile than new "
        "patients' tiles do, and than the training patients' own tiles do to each other (adjusted "
        f"p = {test.p_adjusted:.2g})."
    )


def _missed(case: CopyingCase) -> str:
    shown = ", ".join(
        f"{kind_name(kind)} {'not at any share tried' if share is None else format(share, '.3g')}"
        if kind in case.mdl80
        else f"{kind_name(kind)} not planted"
        for kind, share in case.unseen.items()
    )
    return (
        f"No copy was found, but a share of {case.policy.copying_mdl80:g} could have been missed "
        f"(smallest share seen with power .8: {shown}); {case.bound}."
    )


def _see_more(case: CopyingCase) -> str:
    missing = [kind for kind in case.unseen if kind not in case.mdl80]
    remedies = [f"Plant copies of these kinds: {', '.join(missing)}."] if missing else []
    if len(missing) < len(case.unseen):
        details = case.ratio.details
        remedies.append(
            f"More synthetic tiles (now {case.ratio.statistic.n}), or more tiles with texture in "
            f"the smaller of holdout ({details['holdout_tiles']}) and train "
            f"({details.get('own_tiles', 0)}): both are controls."
        )
    return " ".join(remedies)


def _nothing_found(case: CopyingCase) -> str:
    coverage = Coverage.of(case.mdl80, case.policy.copying_mdl80)
    others = [
        f"{len(kinds)} {where}"
        for kinds, where in (
            (coverage.later, "only at larger shares"),
            (coverage.unseen, "at no share tried"),
        )
        if kinds
    ]
    which = f"{len(coverage.seen)} of the {len(case.mdl80)} kinds of copies that were planted"
    return (
        f"No copy was found; a share of {coverage.share:.3g} or more would have been, with power "
        f".8, of {which if others else f'all {len(case.mdl80)} kinds that were planted'}"
        f"{''.join(f', {other}' for other in others)}; {case.bound}."
    )


COPYING_RULES: tuple[Rule[CopyingCase], ...] = (
    Rule(
        name="proven copy",
        when="a synthetic tile equals a train tile pixel by pixel, or aligns with one beyond "
        "chance; decides whatever the policy asks",
        holds=lambda case: bool(case.proofs),
        outcome=Outcome.LEAK,
        reason=_proven,
        decides=True,
    ),
    Rule(
        name="confounded count",
        when="a copy test rejects, and train and holdout differ for other reasons",
        holds=lambda case: bool(case.rejected and case.confounded),
        outcome=Outcome.INCONCLUSIVE,
        reason=lambda case: f"{case.names} rejects, but {inside(case.confounded)}",
        remedy=lambda case: SAME_WAY,
    ),
    Rule(
        name="counted copies",
        when="a scale-free copy test rejects, also against the training patients' own tiles",
        holds=lambda case: bool(case.called),
        outcome=Outcome.LEAK,
        reason=_called,
    ),
    Rule(
        name="doubt",
        when="a copy test rejects otherwise, tiles align as copies do without proof, or the "
        "synthetic tiles copy the holdout",
        holds=lambda case: bool(case.doubts),
        outcome=Outcome.INCONCLUSIVE,
        reason=lambda case: " ".join(reason for reason, _ in case.doubts),
        remedy=lambda case: " ".join(remedy for _, remedy in case.doubts),
    ),
    Rule(
        name="too little power",
        when="nothing was found, but a share as small as the policy's could have been missed",
        holds=lambda case: bool(case.unseen),
        outcome=Outcome.INCONCLUSIVE,
        reason=_missed,
        remedy=_see_more,
    ),
    Rule(
        name="no copy found",
        when="nothing was found, and every kind the policy asks about would have been seen",
        holds=lambda case: True,
        outcome=Outcome.NO_LEAK_FOUND,
        reason=_nothing_found,
    ),
)

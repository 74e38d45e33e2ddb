"""From test results to a verdict for each harm; `sentence.py` puts them together.

A harm that no test rejects passes only when the audit could have seen a leak as small as the policy
demands; otherwise it is INCONCLUSIVE, and the verdict says what would settle it.

A proof of a copy is a LEAK and decides, whatever the policy asks. Where tiles align with train
tiles as copies do and are not proven, copying never passes.

Four judgements differ from a plain "any rejection is a leak", all towards INCONCLUSIVE and never
towards a pass:
- copies are called on the scale-free ratio, confirmed against the training patients' own tiles at
  the test's first-step level; `tail_count` alone also rejects for synthetic tiles that are merely
  less varied than real ones;
- patient membership between groups that the blind baseline tells apart is confounded;
- where every tile counts as a patient of its own, its p-value rests on independence nobody knows;
- a membership bound counts only where the test could have rejected at all.

Source: docs/methods.md#verdict.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import count

from audits.family import CLASS_TEST, COPY_TESTS, confirmed
from audits.kinds import Coverage, kind_name
from audits.permutation import DRAWS
from audits.policy import Policy
from audits.results import AuditResult, Harm, HarmVerdict, Outcome

SPLIT_AGAIN = "Split patients of one source at random into train and holdout; train again."
SAME_WAY = (
    "Give train, holdout and synthetic tiles that were cut, scaled and stored in the same way."
)


def copying_verdict(
    results: Mapping[str, AuditResult],
    mdl80: Mapping[str, float | None],
    policy: Policy,
    levels: Mapping[str, float],
    swapped: str = "",
    confounded: str = "",
) -> HarmVerdict:
    """The verdict on copying; a proof decides even where the policy does not gate on copying.

    Args:
      results: proofs and registered tests, by name.
      mdl80: smallest share seen with power .8, by kind of copy that was planted.
      policy: the share and kinds that must be visible.
      levels: of each registered test at Holm's first step.
      swapped: a sentence when the holdout looks like the train set.
      confounded: a sentence when train and holdout differ for other reasons; proofs stand.
    """
    tests = [r for name, r in results.items() if name in COPY_TESTS or name.startswith(CLASS_TEST)]
    rejected = [test for test in tests if test.rejected]
    leaks = [
        test
        for test in rejected
        if test.name != "tail_count" and confirmed(test, levels[test.name])
    ]

    def verdict(
        outcome: Outcome, reason: str, remedy: str = "", proven: bool = False
    ) -> HarmVerdict:
        return HarmVerdict(
            harm=Harm.COPYING,
            outcome=outcome,
            reason=reason,
            remedy=remedy,
            gates=proven or Harm.COPYING in policy.gates,
        )

    proofs = _proofs(results)
    if proofs:
        if rejected:
            names = ", ".join(test.name for test in rejected)
            proofs.append(f"The copy tests reject too ({names}).")
        return verdict(Outcome.LEAK, " ".join(proofs), proven=True)
    if rejected and confounded:
        names = ", ".join(test.name for test in rejected)
        return verdict(
            Outcome.INCONCLUSIVE, f"{names} rejects, but {_inside(confounded)}", SAME_WAY
        )
    if leaks:
        test = leaks[0]
        return verdict(
            Outcome.LEAK,
            f"{test.name}: {_interval(test)} of the synthetic tiles lie closer to a train tile "
            "than new patients' tiles do, and than the training patients' own tiles do to each "
            f"other (adjusted p = {test.p_adjusted:.2g}).",
        )
    doubts = [*_unconfirmed(rejected), *_unproven(results.get("aligned_copies"))]
    if swapped:
        doubts.append((swapped, "Check which tiles the generator was trained on."))
    if doubts:
        reasons, remedies = zip(*doubts, strict=True)
        return verdict(Outcome.INCONCLUSIVE, " ".join(reasons), " ".join(remedies))
    return _unfound(results["tail_ratio"], mdl80, policy, verdict)


def _proofs(results: Mapping[str, AuditResult]) -> list[str]:
    """A sentence for each proof that copies stand among the synthetic tiles."""
    told = []
    identical, aligned = results.get("identical_tiles"), results.get("aligned_copies")
    if identical is not None and identical.rejected:
        told.append(
            f"identical_tiles: {identical.details['identical']} of {identical.statistic.n} "
            "synthetic tiles equal a train tile pixel by pixel."
        )
    if aligned is not None and aligned.rejected:
        told.append(
            f"aligned_copies: {aligned.details['proven']} of {aligned.statistic.n} synthetic tiles "
            "show the tissue of a train tile (alignment score above "
            f"{aligned.details['needed_score']:.1f}, which chance passes once in a thousand such "
            "searches)."
        )
    return told


def _unconfirmed(rejected: Sequence[AuditResult]) -> list[tuple[str, str]]:
    """Reason and remedy where copy tests reject and no copy is called."""
    if not rejected:
        return []
    names = ", ".join(test.name for test in rejected)
    if [test.name for test in rejected] == ["tail_count"]:
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
            f"{names}: synthetic tiles lie closer to train tiles than new patients' tiles do, "
            f"{why}.",
            "Look at the closest pairs; draw class frequencies as trained, and take the holdout "
            "from the same source.",
        )
    ]


def _unproven(aligned: AuditResult | None) -> list[tuple[str, str]]:
    """Reason and remedy where tiles align as copies do, with nothing proven.

    Either chance could not be judged, or the null shows as much: an artefact that many tiles share,
    or real tiles of one tissue under two patients. Both can hide copies.
    """
    if aligned is None or not aligned.details["above_floors"]:
        return []
    count = f"{aligned.details['above_floors']} of {aligned.statistic.n}"
    why = (
        aligned.note
        if aligned.rejected is None
        else "None is proven: real tiles of different patients align as well by the measure that "
        "was learned from them."
    )
    return [
        (
            f"aligned_copies: {count} synthetic tiles align with a train tile as copies do. {why}",
            "Look at the pairs (the private page of suspects shows them); give more holdout tiles, "
            "and real tiles without near-duplicates between patients, so that chance can be "
            "judged.",
        )
    ]


def _unfound(
    test: AuditResult,
    mdl80: Mapping[str, float | None],
    policy: Policy,
    verdict: Callable[..., HarmVerdict],
) -> HarmVerdict:
    """Nothing was found: could it have been?"""
    bound = (
        f"at most {test.details['upper_bound']:.2g} of the synthetic tiles (95 % bound) lie where "
        "copies would"
    )
    unseen = {
        kind: mdl80.get(kind)
        for kind in policy.copying_kinds
        if (mdl80.get(kind) or math.inf) > policy.copying_mdl80
    }
    if not unseen:
        coverage = Coverage.of(mdl80, policy.copying_mdl80)
        others = [
            f"{len(kinds)} {where}"
            for kinds, where in (
                (coverage.later, "only at larger shares"),
                (coverage.unseen, "at no share tried"),
            )
            if kinds
        ]
        which = f"{len(coverage.seen)} of the {len(mdl80)} kinds of copies that were planted"
        return verdict(
            Outcome.NO_LEAK_FOUND,
            f"No copy was found; a share of {coverage.share:.3g} or more would have been, with "
            f"power .8, of {which if others else f'all {len(mdl80)} kinds that were planted'}"
            f"{''.join(f', {other}' for other in others)}; {bound}.",
        )
    shown = ", ".join(
        f"{kind_name(kind)} {'not at any share tried' if share is None else format(share, '.3g')}"
        if kind in mdl80
        else f"{kind_name(kind)} not planted"
        for kind, share in unseen.items()
    )
    missing = [kind for kind in unseen if kind not in mdl80]
    remedies = []
    if missing:
        remedies.append(f"Plant copies of these kinds: {', '.join(missing)}.")
    if len(missing) < len(unseen):
        remedies.append(
            f"More synthetic tiles (now {test.statistic.n}), or more tiles with texture in the "
            f"smaller of holdout ({test.details['holdout_tiles']}) and train "
            f"({test.details.get('own_tiles', 0)}): both are controls."
        )
    return verdict(
        Outcome.INCONCLUSIVE,
        f"No copy was found, but a share of {policy.copying_mdl80:g} could have been missed "
        f"(smallest share seen with power .8: {shown}); {bound}.",
        " ".join(remedies),
    )


def _inside(sentence: str) -> str:
    """A sentence as the end of another."""
    return f"{sentence[0].lower()}{sentence[1:]}"


def _interval(result: AuditResult) -> str:
    e = result.statistic
    low, high = e.low if e.low is not None else e.value, e.high if e.high is not None else e.value
    return f"{e.value:.3g} [{low:.3g}, {high:.3g}]"


def membership_verdict(
    harm: Harm,
    results: Sequence[AuditResult],
    policy: Policy,
    levels: Mapping[str, float],
    *,
    confounded: str = "",
    remedy: str = SPLIT_AGAIN,
    lone_tiles: bool = False,
) -> HarmVerdict:
    """The verdict on one arm of membership, over all attacks that gate.

    Args:
      harm: the arm.
      results: one for each attack; none where the arm could not be measured.
      policy: the excess of AUROC over .5 that must be excluded.
      levels: of each registered test at Holm's first step.
      confounded: a sentence when the groups differ for other reasons.
      remedy: what would settle that.
      lone_tiles: whether every tile counts as a patient of its own.
    """

    def verdict(outcome: Outcome, reason: str, remedy: str = "") -> HarmVerdict:
        return HarmVerdict(
            harm=harm, outcome=outcome, reason=reason, remedy=remedy, gates=harm in policy.gates
        )

    if not results:
        missing = (
            "held-back tiles of the training slides (siblings)"
            if harm is Harm.TILE_MEMBERSHIP
            else "at least 2 patients in train and in holdout"
        )
        missing += f", and what one of the policy's attacks needs ({', '.join(policy.attacks)})"
        return verdict(Outcome.INCONCLUSIVE, "Not measured.", f"Give {missing}.")
    rejected = [result for result in results if result.rejected]
    result = rejected[0] if rejected else max(results, key=_upper)
    found = f"{result.name}: AUROC {_interval(result)} over {result.statistic.n} patients"
    if rejected and confounded:
        return verdict(
            Outcome.INCONCLUSIVE,
            f"{found} rejects, but {_inside(confounded)}",
            remedy,
        )
    if rejected and lone_tiles:
        return verdict(
            Outcome.INCONCLUSIVE,
            f"{found} rejects, but every tile counted as a patient of its own: tiles of one "
            "patient are alike, and the p-value takes them for independent.",
            "Say which tiles are of one patient.",
        )
    if rejected:
        return verdict(Outcome.LEAK, f"{found} (adjusted p = {result.p_adjusted:.2g}).")
    excess = _upper(result) - 0.5
    blind = [r for r in results if r.details["smallest_p"] > levels[r.name]]
    if excess <= policy.membership_excess and not blind:
        if lone_tiles:
            return verdict(
                Outcome.INCONCLUSIVE,
                f"{found}: not rejected, but every tile counted as a patient of its own.",
                "Say which tiles are of one patient.",
            )
        if confounded:
            return verdict(
                Outcome.INCONCLUSIVE,
                f"{found}: not rejected, but {_inside(confounded)}",
                remedy,
            )
        return verdict(
            Outcome.NO_LEAK_FOUND,
            f"{found}: not rejected, and its excess over .5 is at most {excess:.2f}.",
        )
    if blind:
        why, remedy = _blindness(harm, blind, results, levels, policy.significance)
        if excess <= policy.membership_excess:
            return verdict(Outcome.INCONCLUSIVE, f"{found}: not rejected, but {why}.", remedy)
    else:
        why = (
            f"an excess over .5 of up to {excess:.2f} is not excluded "
            f"(policy: {policy.membership_excess:g})"
        )
    half = _upper(result) - result.statistic.value
    needed = max(
        result.statistic.n + 1,
        math.ceil(result.statistic.n * (half / policy.membership_excess) ** 2),
    )
    return verdict(
        Outcome.INCONCLUSIVE,
        f"{found}: not rejected, but {why}.",
        f"About {needed} patients would settle it, if there is nothing to find.",
    )


def _blindness(
    harm: Harm,
    blind: Sequence[AuditResult],
    results: Sequence[AuditResult],
    levels: Mapping[str, float],
    significance: float,
) -> tuple[str, str]:
    """What tests could have rejected whose smallest p is above their share of the level; a remedy.

    Holm's later steps give a test up to the whole significance, once others have rejected. A test
    that cannot reach even that could reject under no data; one that can is no ground for a pass,
    but it is not true that it could not reject.
    """
    never = [test for test in blind if test.details["smallest_p"] > significance]
    told = never or blind
    test = max(told, key=lambda one: one.details["smallest_p"] / levels[one.name])
    smallest, own = test.details["smallest_p"], levels[test.name]
    if smallest <= 1 / (DRAWS + 1):
        few = f"with {DRAWS:,} permutations"
        remedy = f"Give a significance of {significance * smallest / own:.2g} or more."
    elif harm is Harm.TILE_MEMBERSHIP:
        few = "with so few held-back tiles"
        remedy = "Give more held-back tiles of the training slides (siblings)."
    else:
        few = "with so few patients"
        enough = next(n for n in count(4) if math.comb(n, n // 2) * own >= 1)
        remedy = f"Give {enough} patients or more, half of them in the holdout."
    whose = "" if len(told) == len(results) else f" in {', '.join(one.name for one in told)}"
    if never:
        return (
            f"{few} no data could have rejected{whose} (smallest possible p {smallest:.2g}, whole "
            f"significance {significance:g})",
            remedy,
        )
    return (
        f"{few} it could have rejected{whose} only after other tests of the family did (smallest "
        f"possible p {smallest:.2g}, own share of the significance {own:.2g})",
        remedy,
    )


def _upper(result: AuditResult) -> float:
    """Upper confidence limit of an AUROC; 1 where there is none."""
    return 1.0 if result.statistic.high is None else result.statistic.high

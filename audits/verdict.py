"""From test results to a verdict for each harm, and for the release as a whole.

A harm that no test rejects passes only when the audit could have seen a leak as small as the policy
demands; otherwise it is INCONCLUSIVE, and the verdict says what would settle it.

Four judgements differ from a plain "any rejection is a leak", all towards INCONCLUSIVE and never
towards a pass:
- copies are called on the scale-free ratio, confirmed against the training patients' own tiles at
  the test's first-step level; `tail_count` alone also rejects for synthetic tiles that are merely
  less varied than real ones;
- patient membership between groups that the blind baseline tells apart is confounded;
- where every tile counts as a patient of its own, its p-value rests on independence nobody knows;
- a membership bound counts only where the test could have rejected at all.

Source: METHODS.md 4.
"""

import math
from collections.abc import Callable, Mapping, Sequence

from audits.family import CLASS_TEST, COPY_TESTS, confirmed
from audits.policy import Policy
from audits.results import AuditResult, Harm, HarmVerdict, Outcome, Verdict

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
    """The verdict on copying.

    Args:
      results: proofs and registered tests, by name.
      mdl80: smallest share seen with power .8, by kind of copy.
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

    def verdict(outcome: Outcome, reason: str, remedy: str = "") -> HarmVerdict:
        return HarmVerdict(
            harm=Harm.COPYING,
            outcome=outcome,
            reason=reason,
            remedy=remedy,
            gates=Harm.COPYING in policy.gates,
        )

    reasons = []
    identical, aligned = results.get("identical_tiles"), results.get("aligned_copies")
    if identical is not None and identical.rejected:
        reasons.append(
            f"identical_tiles: {identical.details['identical']} of {identical.statistic.n} "
            "synthetic tiles equal a train tile pixel by pixel."
        )
    if aligned is not None and aligned.rejected:
        reasons.append(
            f"aligned_copies: {aligned.details['proven']} of {aligned.statistic.n} synthetic tiles "
            "show the tissue of a train tile, key point by key point (at least "
            f"{aligned.details['needed_inliers']} where chance reaches that once in a thousand "
            "such searches)."
        )
    if reasons:
        if rejected:
            names = ", ".join(test.name for test in rejected)
            reasons.append(f"The copy tests reject too ({names}).")
        return verdict(Outcome.LEAK, " ".join(reasons))
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
    if rejected:
        names = ", ".join(test.name for test in rejected)
        if rejected == [results["tail_count"]]:
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
        return verdict(
            Outcome.INCONCLUSIVE,
            f"{names}: synthetic tiles lie closer to train tiles than new patients' tiles do, "
            f"{why}.",
            "Look at the closest pairs; draw class frequencies as trained, and take the holdout "
            "from the same source.",
        )
    if aligned is not None and aligned.rejected is None and aligned.details["above_floors"]:
        return verdict(
            Outcome.INCONCLUSIVE,
            f"aligned_copies: {aligned.details['above_floors']} of {aligned.statistic.n} synthetic "
            f"tiles align with a train tile as copies do. {aligned.note}",
            "Look at the pairs; give more holdout tiles, and real tiles without near-duplicates "
            "between patients, so that chance can be judged.",
        )
    if swapped:
        return verdict(
            Outcome.INCONCLUSIVE, swapped, "Check which tiles the generator was trained on."
        )
    return _unfound(results["tail_ratio"], mdl80, policy, verdict)


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
        share = max((mdl80[kind] or 0.0) for kind in policy.copying_kinds)
        return verdict(
            Outcome.NO_LEAK_FOUND,
            f"No copy was found; a share of {share:.3g} or more would have been, with power .8, "
            f"for every kind of copy the policy names; {bound}.",
        )
    shown = ", ".join(
        f"{kind} {'not at any share tried' if share is None else format(share, '.3g')}"
        if kind in mdl80
        else f"{kind} not planted"
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
    blind_to_any = any(r.details["smallest_p"] > levels[r.name] for r in results)
    if excess <= policy.membership_excess and not blind_to_any:
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
    half = max(_upper(result) - result.statistic.value, 1e-3)
    needed = max(
        result.statistic.n + 1,
        math.ceil(result.statistic.n * (half / policy.membership_excess) ** 2),
    )
    why = (
        "with so few patients no data could have rejected"
        if blind_to_any
        else f"an excess over .5 of up to {excess:.2f} is not excluded "
        f"(policy: {policy.membership_excess:g})"
    )
    return verdict(
        Outcome.INCONCLUSIVE,
        f"{found}: not rejected, but {why}.",
        f"About {needed} patients would settle it, if there is nothing to find.",
    )


def _upper(result: AuditResult) -> float:
    """Upper confidence limit of an AUROC; 1 where there is none."""
    return 1.0 if result.statistic.high is None else result.statistic.high


def overall_verdict(
    harms: tuple[HarmVerdict, ...],
    mdl80: Mapping[str, float | None],
    names: tuple[str, ...],
    policy: Policy,
) -> Verdict:
    outcomes = [verdict.outcome for verdict in harms if verdict.gates]
    worst = next(
        outcome
        for outcome in (Outcome.LEAK, Outcome.INCONCLUSIVE, Outcome.NO_LEAK_FOUND)
        if outcome in outcomes
    )
    deciding = ", ".join(v.harm.value for v in harms if v.gates and v.outcome is worst)
    if worst is Outcome.LEAK:
        sentence = f"LEAK: {deciding}."
    elif worst is Outcome.INCONCLUSIVE:
        sentence = f"INCONCLUSIVE: {deciding} could not be settled with these data."
    else:
        bounds = []
        if Harm.COPYING in policy.gates:
            share = max((mdl80[kind] or 0.0) for kind in policy.copying_kinds)
            bounds.append(f"copied share >= {share:.3g} at power .8")
        if {Harm.TILE_MEMBERSHIP, Harm.PATIENT_MEMBERSHIP} & set(policy.gates):
            bounds.append(f"membership AUROC excess > {policy.membership_excess:g} excluded")
        sentence = f"NO LEAK FOUND ({'; '.join(bounds)})."
    return Verdict(
        outcome=worst,
        sentence=sentence,
        harms=harms,
        significance=policy.significance,
        family=names,
    )

"""From test results to a verdict for each harm, and for the release as a whole.

A harm that no test rejects passes only when the audit could have seen a leak as small as the policy
demands; otherwise it is INCONCLUSIVE, and the verdict says what would settle it.

Two judgements differ from a plain "any rejection is a leak", both towards INCONCLUSIVE and never
towards a pass: between groups that the blind baseline tells apart, patient membership is called
confounded, rejected or not; a membership bound counts only where the test could have rejected at
all.

Source: METHODS.md 4.
"""

import math
from collections.abc import Mapping

from audits.copying import QUANTILES
from audits.policy import Policy
from audits.results import AuditResult, Harm, HarmVerdict, Outcome, Verdict

COPY_TESTS = ("tail_count", "tail_ratio")
"""Registered names of the copy tests."""

SPLIT_AGAIN = "Split patients of one source at random into train and holdout; train again."


def copying_verdict(
    results: Mapping[str, AuditResult],
    mdl80: Mapping[str, float | None],
    policy: Policy,
    synthetic: int,
    holdout: int,
    level: float,
) -> HarmVerdict:
    gates = Harm.COPYING in policy.gates
    proof = results.get("identical_tiles")
    if proof is not None and proof.rejected:
        reason = (
            f"identical_tiles: {proof.details['identical']} of {proof.statistic.n} synthetic "
            "tiles equal a train "
            "tile pixel by pixel."
        )
        rejected = [name for name in COPY_TESTS if results[name].rejected]
        if rejected:
            reason += f" The copy tests reject too ({', '.join(rejected)})."
        return HarmVerdict(harm=Harm.COPYING, outcome=Outcome.LEAK, reason=reason, gates=gates)
    for name in COPY_TESTS:
        result = results[name]
        if result.rejected:
            reason = (
                f"{name}: {_interval(result)} of the synthetic tiles lie closer to a train tile "
                "than new patients' "
                f"tiles do (adjusted p = {result.p_adjusted:.2g})."
            )
            return HarmVerdict(harm=Harm.COPYING, outcome=Outcome.LEAK, reason=reason, gates=gates)
    unseen = {
        kind: mdl80.get(kind)
        for kind in policy.copying_kinds
        if (mdl80.get(kind) or math.inf) > policy.copying_mdl80
    }
    if unseen:
        shown = ", ".join(
            f"{kind} {'not at any share tried' if share is None else format(share, '.3g')}"
            if kind in mdl80
            else f"{kind} not planted"
            for kind, share in unseen.items()
        )
        needed = _holdout_needed(policy.copying_mdl80, synthetic, level)
        return HarmVerdict(
            harm=Harm.COPYING,
            outcome=Outcome.INCONCLUSIVE,
            reason="No copy was found, but a share of "
            f"{policy.copying_mdl80:g} could have been missed "
            f"(smallest share seen with power .8: {shown}).",
            remedy=f"With {synthetic} synthetic tiles about {needed} holdout tiles with texture "
            "would do, if copies lie "
            f"closer to their source than any of them (now {holdout}); fewer, if more synthetic "
            "tiles are drawn.",
            gates=gates,
        )
    bound = max((mdl80[kind] or 0.0) for kind in policy.copying_kinds)
    return HarmVerdict(
        harm=Harm.COPYING,
        outcome=Outcome.NO_LEAK_FOUND,
        reason=f"No copy was found; a share of {bound:.3g} or more would have been, with "
        "power .8, for every kind of "
        "copy the policy names.",
        gates=gates,
    )


def _holdout_needed(share: float, synthetic: int, level: float) -> int:
    """Holdout tiles at which `share` copies, all closer than any of them, reject at `level`."""
    copies = max(1, math.ceil(share * synthetic))
    needed: float = synthetic * ((level / len(QUANTILES)) ** (-1 / copies) - 1)
    return math.ceil(needed)


def _interval(result: AuditResult) -> str:
    e = result.statistic
    low, high = e.low if e.low is not None else e.value, e.high if e.high is not None else e.value
    return f"{e.value:.3g} [{low:.3g}, {high:.3g}]"


def membership_verdict(
    harm: Harm, result: AuditResult | None, policy: Policy, level: float, confounded: str
) -> HarmVerdict:
    gates = harm in policy.gates
    if result is None:
        missing = (
            "held-back tiles of the training slides (siblings)"
            if harm is Harm.TILE_MEMBERSHIP
            else "at least 2 patients in train and in holdout"
        )
        return HarmVerdict(
            harm=harm,
            outcome=Outcome.INCONCLUSIVE,
            reason="Not measured.",
            remedy=f"Give {missing}.",
            gates=gates,
        )
    found = f"{result.name}: AUROC {_interval(result)} over {result.statistic.n} patients"
    if result.rejected and confounded:
        return HarmVerdict(
            harm=harm,
            outcome=Outcome.INCONCLUSIVE,
            reason=f"{found} rejects, but {confounded[0].lower()}{confounded[1:]}",
            remedy=SPLIT_AGAIN,
            gates=gates,
        )
    if result.rejected:
        reason = f"{found} (adjusted p = {result.p_adjusted:.2g})."
        return HarmVerdict(harm=harm, outcome=Outcome.LEAK, reason=reason, gates=gates)
    high = 1.0 if result.statistic.high is None else result.statistic.high
    excess = high - 0.5
    blind_to_any = result.details["smallest_p"] > level
    if excess <= policy.membership_excess and not blind_to_any and confounded:
        return HarmVerdict(
            harm=harm,
            outcome=Outcome.INCONCLUSIVE,
            reason=f"{found}: not rejected, but {confounded[0].lower()}{confounded[1:]}",
            remedy=SPLIT_AGAIN,
            gates=gates,
        )
    if excess <= policy.membership_excess and not blind_to_any:
        return HarmVerdict(
            harm=harm,
            outcome=Outcome.NO_LEAK_FOUND,
            reason=f"{found}: not rejected, and its excess over .5 is at most {excess:.2f}.",
            gates=gates,
        )
    half = max(high - result.statistic.value, 1e-3)
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
    return HarmVerdict(
        harm=harm,
        outcome=Outcome.INCONCLUSIVE,
        reason=f"{found}: not rejected, but {why}.",
        remedy=f"About {needed} patients would settle it, if there is nothing to find.",
        gates=gates,
    )


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

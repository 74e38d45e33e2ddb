"""The overall verdict, and the one sentence to sign.

The sentence says what was found, how small a leak would have been seen, and what was not asked: a
reader who sees nothing else must not take it for more than it is. Its clauses stand between
semicolons, so that a page may put each on a line of its own.

A proof of a copy is a LEAK under every policy. `gates` may narrow what decides a pass; it cannot
make a patient's tissue that stands in the release not stand there.

Source: docs/methods.md#verdict.
"""

from collections.abc import Mapping

from audits.kinds import Coverage, name_kinds
from audits.policy import Policy
from audits.results import Harm, HarmVerdict, Outcome, Verdict

_DEFAULT = Policy()


def overall_verdict(
    harms: tuple[HarmVerdict, ...],
    mdl80: Mapping[str, float | None],
    names: tuple[str, ...],
    policy: Policy,
) -> Verdict:
    """The worst of the harms that decide, in one sentence.

    Args:
      harms: one verdict per harm; a proven copy decides whatever the policy says.
      mdl80: smallest share seen with power .8, by planted kind.
      names: of the registered tests.
      policy: what was asked.
    """
    deciding = [verdict for verdict in harms if verdict.gates]
    worst = next(
        outcome
        for outcome in (Outcome.LEAK, Outcome.INCONCLUSIVE, Outcome.NO_LEAK_FOUND)
        if outcome in [verdict.outcome for verdict in deciding]
    )
    which = [verdict.harm for verdict in deciding if verdict.outcome is worst]
    asked = _asked(harms, policy)
    if worst is Outcome.NO_LEAK_FOUND:
        sentence = f"NO LEAK FOUND ({'; '.join([*_bounds(mdl80, policy), *asked])})."
    else:
        found = ", ".join(_told(harm, policy) for harm in which)
        open_ = " could not be settled with these data" if worst is Outcome.INCONCLUSIVE else ""
        sentence = f"{'; '.join([f'{worst.value}: {found}{open_}', *asked])}."
    return Verdict(
        outcome=worst,
        sentence=sentence,
        harms=harms,
        significance=policy.significance,
        family=names,
    )


def _told(harm: Harm, policy: Policy) -> str:
    if harm in policy.gates:
        return harm.value
    return f"{harm.value} (proven, which counts although the policy does not ask about it)"


def _bounds(mdl80: Mapping[str, float | None], policy: Policy) -> list[str]:
    """How small a leak would have been seen, and which kinds of copies would not."""
    clauses = []
    if Harm.COPYING in policy.gates:
        coverage = Coverage.of(mdl80, policy.copying_mdl80)
        clauses.append(
            f"copied share >= {coverage.share or 0.0:.3g} at power .8, of the kinds "
            f"{name_kinds(coverage.seen)}"
        )
        clauses += [*coverage.limits(), "no other kind was tried"]
    if {Harm.TILE_MEMBERSHIP, Harm.PATIENT_MEMBERSHIP} & set(policy.gates):
        clauses.append(f"membership AUROC excess > {policy.membership_excess:g} excluded")
    return clauses


def _asked(harms: tuple[HarmVerdict, ...], policy: Policy) -> list[str]:
    """Where the policy differs from the default: what was asked, and what was not."""
    clauses = []
    membership = {Harm.TILE_MEMBERSHIP, Harm.PATIENT_MEMBERSHIP} & set(policy.gates)
    if set(policy.gates) != set(_DEFAULT.gates):
        clauses.append(f"asked: {', '.join(h.value for h in Harm if h in policy.gates)}")
        left = [verdict for verdict in harms if verdict.harm not in policy.gates]
        for outcome, one, many in (
            (Outcome.NO_LEAK_FOUND, "", ""),
            (Outcome.INCONCLUSIVE, ", which is not settled", ", which are not settled"),
            (Outcome.LEAK, ", which rejects", ", which reject"),
        ):
            same = [v.harm.value for v in left if v.outcome is outcome and not v.gates]
            if same:
                clauses.append(f"not asked: {', '.join(same)}{one if len(same) == 1 else many}")
    if policy.significance != _DEFAULT.significance:
        clauses.append(f"significance {policy.significance:g}")
    if Harm.COPYING in policy.gates and set(policy.copying_kinds) != set(_DEFAULT.copying_kinds):
        clauses.append(f"kinds that had to be seen: {name_kinds(policy.copying_kinds)}")
    if membership and set(policy.attacks) != set(_DEFAULT.attacks):
        attacks = ", ".join(name.replace("_", " ") for name in policy.attacks)
        clauses.append(f"membership attacks that decide: {attacks}")
    return clauses

"""The pre-registered battery: every test, control and description, and the verdict they add up to.

A registered name fixes every parameter of its test. The family is declared from the roles that are
present (`family.py`), before any number is looked at; Holm's adjustment keeps the chance of a false
LEAK over the whole family at the policy's significance. Equal pixels are proof and stand outside
the family.

Source: docs/methods.md#verdict.
"""

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audits.arms import attack_scores, run_arms, tpr_results
from audits.attacks import OutsideScores
from audits.canary_results import CANARIES, CanaryScores, canary_results
from audits.caveats import (
    alike_patients,
    confounded_sentence,
    control_named,
    input_warnings,
    other_ways,
    proof_warnings,
    swapped_sentence,
)
from audits.controls import (
    BLIND,
    attack_minus_blind,
    blind_baseline,
    minimum_detectable,
    split_half,
)
from audits.copy_evidence import (
    CopyEvidence,
    CopyScoring,
    copy_averages,
    copy_tests,
    gather,
    planted_power,
    proofs,
    roles_swapped,
)
from audits.copying_rules import CopyingCase
from audits.family import (
    CLASS_TEST,
    PRIMARY_ATTACK,
    arms_of,
    available_attacks,
    family,
    levels,
)
from audits.fidelity import fidelity
from audits.inputs import AuditData, Floats, textured_only
from audits.membership_rules import MembershipCase
from audits.order import Ordered, in_order
from audits.permutation import holm
from audits.pipeline import pipeline_baseline
from audits.policy import Policy
from audits.recipe_rules import with_recipe
from audits.results import AuditReport, AuditResult, Harm, HarmVerdict
from audits.sentence import overall_verdict
from audits.verdict import copying_verdict, membership_verdict
from audits.wording import SAME_WAY, SPLIT_AGAIN

_STREAMS = (
    *("tests", "member_against_member", "holdout_against_holdout", "blind", "power", "averages"),
    *("fidelity", "proofs", "class_proportions", "roles_swapped", "pipeline", "canaries"),
)
"""Random streams by name, in the order in which they are spawned: a new one goes to the end."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A report, and what whoever shows single tiles must know.

    Attributes:
      report: aggregates.
      copies: scores of single tiles, in the order of the data given. Private.
    """

    report: AuditReport
    copies: CopyScoring


def audit(
    data: AuditData,
    *,
    policy: Policy | None = None,
    rng: int | np.random.Generator = 0,
    features: Mapping[str, Mapping[str, NDArray[np.float32]]] | None = None,
    outside: Sequence[OutsideScores] = (),
    recipe: Mapping[Harm, HarmVerdict] | None = None,
    canaries: CanaryScores | None = None,
) -> AuditReport:
    """Run the whole battery. The report depends on no order of tiles and on no name of a patient.

    Args:
      data: the tiles of every role.
      policy: what gates and how small a leak must be visible; the default policy when None.
      rng: an integer seed, which is recorded in the report, or a generator.
      features: for each encoder by name, its plain outputs of "train", "holdout" and "synthetic";
        no fidelity block when None.
      outside: membership scores of attacks that ran elsewhere, joined by tile id.
      recipe: verdicts on both arms of membership from the audit of the recipe (`audits.recipe`).
      canaries: of the training, with their coins (`audits.canary_results`).

    Returns:
      Aggregates only: nothing in the report speaks of a single real tile.

    Raises:
      AuditInputError: the holdout is the train set, no tile has texture, a set is too small for
        any test, or an outside score is missing.

    Source: docs/methods.md.
    """
    return judge(
        data,
        policy=policy,
        rng=rng,
        features=features,
        outside=outside,
        recipe=recipe,
        canaries=canaries,
    ).report


def judge(
    data: AuditData,
    *,
    policy: Policy | None = None,
    rng: int | np.random.Generator = 0,
    features: Mapping[str, Mapping[str, NDArray[np.float32]]] | None = None,
    outside: Sequence[OutsideScores] = (),
    recipe: Mapping[Harm, HarmVerdict] | None = None,
    canaries: CanaryScores | None = None,
) -> Judged:
    """`audit`, with the copy scores of single tiles beside the report; arguments as there."""
    policy = policy or Policy()
    seed = None if isinstance(rng, np.random.Generator) else operator.index(rng)
    streams = _streams(rng)
    alike = alike_patients(data)  # by the names that were given: codes take their place next
    ordered = in_order(data, features, outside)
    data, outside = ordered.data, ordered.outside
    copies = gather(data, streams["class_proportions"])
    seen = textured_only(data)
    warnings = [*alike, *input_warnings(data, copies.holdout.scores)]
    scores = attack_scores(seen, outside)
    weights = _declare(data, seen, policy, outside)
    coins = _canaries(canaries, policy, streams["canaries"])
    of_coins = [result for result in coins if result.harm is not None]
    weights |= {result.name: 1.0 for result in of_coins}
    level = levels(weights, policy.significance)

    tests, unregistered = _tests(
        Unadjusted(data=data, seen=seen, copies=copies, scores=scores, others=of_coins),
        weights,
        policy.significance,
        streams["tests"],
    )
    proven = proofs(data, streams["proofs"])
    controls = _controls(seen, scores[PRIMARY_ATTACK], streams)
    controls += roles_swapped(data, streams["roles_swapped"])
    controls += _pipeline(data, streams["pipeline"])
    power = planted_power(
        data, copies, policy, level["tail_ratio"], streams["power"], proven_by=proven
    )
    mdl80 = minimum_detectable(power)
    confounded, swapped = (
        confounded_sentence(controls),
        swapped_sentence(controls, [*tests, *unregistered]),
    )
    other_way = other_ways(data, controls)
    warnings += [sentence for sentence in (confounded, swapped) if sentence]
    warnings += proof_warnings(proven)
    warnings += [
        sentence for sentence in dict.fromkeys(other_way.values()) if sentence not in warnings
    ]
    by_name = {result.name: result for result in (*proven, *tests)}
    blind = control_named(controls, BLIND)
    if confounded and blind is not None and "patient_membership" in by_name:
        controls.append(attack_minus_blind(by_name["patient_membership"], blind))

    harms = _harms(
        data,
        by_name,
        mdl80=mdl80,
        policy=policy,
        levels=level,
        found=Reasons(
            confounded=confounded,
            swapped=swapped,
            other_way=other_way,
            canaries=by_name.get(CANARIES) or (coins[0] if coins else None),
        ),
    )
    harms = with_recipe(harms, recipe or {}, policy)
    context = [
        *(result for result in coins if result not in of_coins),
        *copy_averages(data, copies, streams["averages"]),
        *tpr_results(seen, scores[PRIMARY_ATTACK]),
        *unregistered,
        *_fidelity(ordered, streams["fidelity"]),
    ]
    report = AuditReport(
        verdict=overall_verdict(harms, mdl80, tuple(weights), policy),
        warnings=tuple(warnings),
        results=(*proven, *tests, *controls, *context),
        power=power,
        mdl80=mdl80,
        counts={
            role: {
                "tiles": len(tiles),
                "patients": tiles.patient_count if role != "synthetic" else 0,
            }
            for role, tiles in data.roles().items()
        },
        group_unit=data.group_unit,
        encoder=data.encoder,
        policy=policy.to_dict(),
        seed=seed,
    )
    return Judged(
        report=report,
        copies=copies.scoring.as_given(ordered.rows["synthetic"], ordered.rows["train"]),
    )


@dataclass(frozen=True, kw_only=True)
class Reasons:
    """What else than a leak may explain a rejection, sentences; empty where nothing does.

    Attributes:
      confounded: train and holdout patients differ without the synthetic tiles.
      swapped: the holdout looks like the train set.
      other_way: by harm, roles became pixels in different ways.
      canaries: the test of canaries, which nothing else explains.
    """

    confounded: str
    swapped: str
    other_way: Mapping[Harm, str]
    canaries: AuditResult | None


def _canaries(
    found: CanaryScores | None, policy: Policy, rng: np.random.Generator
) -> list[AuditResult]:
    """The test of canaries, and bounds of epsilon; none where there are no canaries.

    Real canaries are patients, and their test belongs to the family. Artificial ones stand outside:
    they can only take a pass away, at the whole significance.
    """
    if found is None:
        return []
    test, *bounds = canary_results(found, rng=rng)
    if found.artificial and test.p_value is not None:
        test = replace(test, rejected=bool(test.p_value <= policy.significance))
    return [test, *bounds]


def _fidelity(ordered: Ordered, rng: np.random.Generator) -> list[AuditResult]:
    """The fidelity block of every encoder whose plain outputs were given."""
    data, found = ordered.data, list[AuditResult]()
    for encoder, outputs in ordered.features.items():
        found += fidelity(
            outputs,
            {"train": data.train.patients, "holdout": data.holdout.patients},
            feature_name=encoder,
            rng=rng,
            labels={
                "train": data.train.labels,
                "holdout": data.holdout.labels,
                "synthetic": data.synthetic.labels,
            },
        )
    return found


def _harms(
    data: AuditData,
    results: Mapping[str, AuditResult],
    *,
    mdl80: Mapping[str, float | None],
    policy: Policy,
    levels: Mapping[str, float],
    found: Reasons,
) -> tuple[HarmVerdict, ...]:
    """The verdict on each harm."""

    def membership(harm: Harm, **settings: Any) -> HarmVerdict:
        arm = [r for r in results.values() if r.harm is harm and r.name != CANARIES]
        return membership_verdict(
            MembershipCase(harm=harm, results=arm, policy=policy, levels=levels, **settings)
        )

    tiles, patients = (
        found.other_way.get(harm, "") for harm in (Harm.TILE_MEMBERSHIP, Harm.PATIENT_MEMBERSHIP)
    )
    return (
        copying_verdict(
            CopyingCase(
                results=results,
                mdl80=mdl80,
                policy=policy,
                levels=levels,
                swapped=found.swapped,
                confounded=found.other_way.get(Harm.COPYING, ""),
            )
        ),
        membership(Harm.TILE_MEMBERSHIP, confounded=tiles, remedy=SAME_WAY),
        membership(
            Harm.PATIENT_MEMBERSHIP,
            confounded=patients or found.confounded or found.swapped,
            remedy=SAME_WAY if patients else SPLIT_AGAIN,
            lone_tiles=not (data.train.patients_known and data.holdout.patients_known),
            canaries=found.canaries,
        ),
    )


def run_family(
    data: AuditData,
    *,
    policy: Policy | None = None,
    rng: int | np.random.Generator = 0,
    outside: Sequence[OutsideScores] = (),
) -> list[AuditResult]:
    """The registered tests alone, Holm-adjusted: no controls, no power, no verdict.

    What a calibration study needs many thousand times; `audit` runs the same tests on the same
    random streams.

    Args:
      data: the tiles of every role.
      policy: its significance and attacks count.
      rng, outside: as in `audit`.

    Raises:
      AuditInputError: as `audit`.
    """
    policy = policy or Policy()
    streams = _streams(rng)
    ordered = in_order(data, outside=outside)
    data, outside = ordered.data, ordered.outside
    seen = textured_only(data)
    weights = _declare(data, seen, policy, outside)
    scores = attack_scores(seen, outside)
    copies = gather(data, streams["class_proportions"])
    unadjusted = Unadjusted(data=data, seen=seen, copies=copies, scores=scores)
    return _tests(unadjusted, weights, policy.significance, streams["tests"])[0]


def _streams(rng: int | np.random.Generator) -> dict[str, np.random.Generator]:
    spawned = np.random.default_rng(rng).spawn(len(_STREAMS))
    return dict(zip(_STREAMS, spawned, strict=True))


def _declare(
    data: AuditData, seen: AuditData, policy: Policy, outside: Sequence[OutsideScores]
) -> dict[str, float]:
    ready = available_attacks(seen, [given.name for given in outside])
    gating = [attack for attack in ready if attack in policy.attacks]
    return family(data, arms=arms_of(seen), attacks=gating, significance=policy.significance)


@dataclass(frozen=True, kw_only=True, eq=False)
class Unadjusted:
    """What the registered tests are made from.

    Attributes:
      data: every tile.
      seen: textured tiles alone.
      copies: evidence of copies.
      scores: of every attack, by attack and role.
      others: tests that were made elsewhere.
    """

    data: AuditData
    seen: AuditData
    copies: CopyEvidence
    scores: Mapping[str, Mapping[str, Floats]]
    others: Sequence[AuditResult] = ()


def _tests(
    given: Unadjusted,
    weights: Mapping[str, float],
    significance: float,
    rng: np.random.Generator,
) -> tuple[list[AuditResult], list[AuditResult]]:
    """The registered tests, adjusted; and the membership arms that do not gate."""
    classes = [name.removeprefix(CLASS_TEST) for name in weights if name.startswith(CLASS_TEST)]
    found = [*copy_tests(given.data, given.copies, tuple(classes)), *given.others]
    streams = rng.spawn(len(given.scores))
    for (attack, by_role), stream in zip(given.scores.items(), streams, strict=True):
        found += run_arms(given.seen, attack, by_role, stream)
    by_name = {result.name: result for result in found}
    raw = {name: by_name[name].p_value for name in weights}
    adjusted = holm({name: p for name, p in raw.items() if p is not None}, weights)
    tests = [
        replace(by_name[name], p_adjusted=adjusted[name], rejected=adjusted[name] <= significance)
        for name in weights
    ]
    return tests, [result for result in found if result.name not in weights]


def _controls(
    data: AuditData,
    scores: Mapping[str, Floats],
    streams: Mapping[str, np.random.Generator],
) -> list[AuditResult]:
    """What the data show when there is nothing to find."""
    controls = [
        split_half(f"control/{name}", scores[role], tiles.patients, streams[name])
        for name, role, tiles in (
            ("member_against_member", "train", data.train),
            ("holdout_against_holdout", "holdout", data.holdout),
        )
        if tiles.patient_count >= 4
    ]
    if min(data.train.patient_count, data.holdout.patient_count) >= 2:
        controls.append(blind_baseline(data.train, data.holdout, streams["blind"]))
    return controls


def _pipeline(data: AuditData, rng: np.random.Generator) -> list[AuditResult]:
    """The control on how tiles became pixels, where that was measured of enough patients."""
    if data.pipeline is None or min(side.patient_count for side in data.pipeline) < 2:
        return []
    return [pipeline_baseline(*data.pipeline, rng)]

"""The pre-registered battery: every test, control and description, and the verdict they add up to.

A registered name fixes every parameter of its test. The family is declared from the roles that are
present (`family.py`), before any number is looked at; Holm's adjustment keeps the chance of a false
LEAK over the whole family at the policy's significance. Equal pixels are proof and stand outside
the family.

Source: docs/methods.md#verdict.
"""

import operator
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from audits.arms import attack_scores, run_arms, tpr_results
from audits.attacks import OutsideScores
from audits.controls import (
    BLIND,
    attack_minus_blind,
    blind_baseline,
    minimum_detectable,
    split_half,
)
from audits.copy_evidence import (
    ALIGNED,
    SWAPPED,
    CopyEvidence,
    copy_averages,
    copy_tests,
    gather,
    planted_power,
    proofs,
    roles_swapped,
)
from audits.copying import CopyScores
from audits.errors import AuditInputError
from audits.family import (
    CLASS_TEST,
    PRIMARY_ATTACK,
    arms_of,
    available_attacks,
    confirmed,
    family,
    levels,
)
from audits.fidelity import fidelity
from audits.inputs import AuditData, Floats, textured_only
from audits.neighbors import nearest
from audits.order import in_order
from audits.patients import alike_within
from audits.permutation import holm
from audits.pipeline import LEVEL, PIPELINE, pipeline_baseline
from audits.policy import Policy
from audits.results import AuditReport, AuditResult, Harm
from audits.sentence import overall_verdict
from audits.verdict import SAME_WAY, SPLIT_AGAIN, copying_verdict, membership_verdict

_FAR_TOO_MANY = 0.5
_SWAPPED_LEVEL = 1e-3
_CONFOUNDED_LEVEL = 0.025
_STREAMS = 11


def audit(
    data: AuditData,
    *,
    policy: Policy | None = None,
    rng: int | np.random.Generator = 0,
    features: Mapping[str, Mapping[str, NDArray[np.float32]]] | None = None,
    outside: Sequence[OutsideScores] = (),
) -> AuditReport:
    """Run the whole battery. The report depends on no order of tiles and on no name of a patient.

    Args:
      data: the tiles of every role.
      policy: what gates and how small a leak must be visible; the default policy when None.
      rng: an integer seed, which is recorded in the report, or a generator.
      features: for each encoder by name, its plain outputs of "train", "holdout" and "synthetic";
        no fidelity block when None.
      outside: membership scores of attacks that ran elsewhere, joined by tile id.

    Returns:
      Aggregates only: nothing in the report speaks of a single real tile.

    Raises:
      AuditInputError: the holdout is the train set, no tile has texture, a set is too small for
        any test, or an outside score is missing.

    Source: docs/methods.md.
    """
    policy = policy or Policy()
    seed = None if isinstance(rng, np.random.Generator) else operator.index(rng)
    streams = np.random.default_rng(rng).spawn(_STREAMS)
    alike = _alike_patients(data)  # by the names that were given: codes take their place next
    data, ordered, outside = in_order(data, features, outside)
    copies = gather(data, streams[8])
    seen = textured_only(data)
    warnings = [*alike, *_input_warnings(data, copies.holdout.scores)]
    scores = attack_scores(seen, outside)
    weights = _declare(data, seen, policy, outside)
    level = levels(weights, policy.significance)

    tests, unregistered = _tests(
        data, seen, copies, scores, weights, policy.significance, streams[0]
    )
    proven = proofs(data, streams[7])
    controls = _controls(seen, scores[PRIMARY_ATTACK], streams[1:4])
    controls += roles_swapped(data, streams[9])
    controls += _pipeline(data, streams[10])
    power = planted_power(data, copies, policy, level["tail_ratio"], streams[4], proven_by=proven)
    mdl80 = minimum_detectable(power)
    confounded, swapped = _confounded(controls), _swapped(controls, [*tests, *unregistered])
    other_way = _other_way(data, controls)
    warnings += [sentence for sentence in (confounded, swapped) if sentence]
    warnings += _proof_warnings(proven)
    warnings += [
        sentence for sentence in dict.fromkeys(other_way.values()) if sentence not in warnings
    ]
    by_name = {result.name: result for result in (*proven, *tests)}
    blind = _control(controls, BLIND)
    if confounded and blind is not None and "patient_membership" in by_name:
        controls.append(attack_minus_blind(by_name["patient_membership"], blind))

    by_harm = {
        harm: [r for r in tests if r.harm is harm]
        for harm in (Harm.TILE_MEMBERSHIP, Harm.PATIENT_MEMBERSHIP)
    }
    lone = not (data.train.patients_known and data.holdout.patients_known)
    harms = (
        copying_verdict(by_name, mdl80, policy, level, swapped, other_way.get(Harm.COPYING, "")),
        membership_verdict(
            Harm.TILE_MEMBERSHIP,
            by_harm[Harm.TILE_MEMBERSHIP],
            policy,
            level,
            confounded=other_way.get(Harm.TILE_MEMBERSHIP, ""),
            remedy=SAME_WAY,
        ),
        membership_verdict(
            Harm.PATIENT_MEMBERSHIP,
            by_harm[Harm.PATIENT_MEMBERSHIP],
            policy,
            level,
            confounded=other_way.get(Harm.PATIENT_MEMBERSHIP, "") or confounded or swapped,
            remedy=SAME_WAY if Harm.PATIENT_MEMBERSHIP in other_way else SPLIT_AGAIN,
            lone_tiles=lone,
        ),
    )
    context = [
        *copy_averages(data, copies, streams[5]),
        *tpr_results(seen, scores[PRIMARY_ATTACK]),
        *unregistered,
    ]
    for encoder, outputs in ordered.items():
        context += fidelity(
            outputs,
            {"train": data.train.patients, "holdout": data.holdout.patients},
            feature_name=encoder,
            rng=streams[6],
            labels={
                "train": data.train.labels,
                "holdout": data.holdout.labels,
                "synthetic": data.synthetic.labels,
            },
        )
    return AuditReport(
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
    streams = np.random.default_rng(rng).spawn(_STREAMS)
    data, _, outside = in_order(data, outside=outside)
    seen = textured_only(data)
    weights = _declare(data, seen, policy, outside)
    scores = attack_scores(seen, outside)
    copies = gather(data, streams[8])
    return _tests(data, seen, copies, scores, weights, policy.significance, streams[0])[0]


def _declare(
    data: AuditData, seen: AuditData, policy: Policy, outside: Sequence[OutsideScores]
) -> dict[str, float]:
    ready = available_attacks(seen, [given.name for given in outside])
    gating = [attack for attack in ready if attack in policy.attacks]
    return family(data, arms=arms_of(seen), attacks=gating, significance=policy.significance)


def _tests(
    data: AuditData,
    seen: AuditData,
    copies: CopyEvidence,
    scores: Mapping[str, Mapping[str, Floats]],
    weights: Mapping[str, float],
    significance: float,
    rng: np.random.Generator,
) -> tuple[list[AuditResult], list[AuditResult]]:
    """The registered tests, adjusted; and the membership arms that do not gate."""
    classes = [name.removeprefix(CLASS_TEST) for name in weights if name.startswith(CLASS_TEST)]
    found = copy_tests(data, copies, tuple(classes))
    for (attack, by_role), stream in zip(scores.items(), rng.spawn(len(scores)), strict=True):
        found += run_arms(seen, attack, by_role, stream)
    by_name = {result.name: result for result in found}
    raw = {name: by_name[name].p_value for name in weights}
    adjusted = holm({name: p for name, p in raw.items() if p is not None}, weights)
    tests = [
        replace(by_name[name], p_adjusted=adjusted[name], rejected=adjusted[name] <= significance)
        for name in weights
    ]
    return tests, [result for result in found if result.name not in weights]


def _input_warnings(data: AuditData, holdout: CopyScores) -> list[str]:
    repeated = int((holdout.nearest == 0).sum())
    if repeated > _FAR_TOO_MANY * len(holdout):
        raise AuditInputError(
            f"train and holdout must differ: {repeated} of {len(holdout)} holdout tiles are exact "
            "copies of "
            "train tiles. Give a holdout of other patients."
        )
    warnings = _unmatched_classes(data)
    for tiles in (data.siblings, data.reference):
        if tiles is None or not tiles.textured.any():
            continue
        # Blank glass is equal in everybody.
        seen = tiles.embeddings[tiles.textured]
        same = int((nearest(seen, data.train.embeddings, k=1).distances == 0).sum())
        if same > _FAR_TOO_MANY * len(seen):
            raise AuditInputError(
                f"train and {tiles.name} must differ: {same} of {len(seen)} {tiles.name} tiles "
                f"are exact copies of train tiles. Give {tiles.name} tiles the generator did not "
                "see."
            )
        if same:
            warnings.append(
                f"{same} {tiles.name} tiles are exact copies of train tiles: membership looks "
                "smaller than it is. Remove them."
            )
    if repeated:
        warnings.append(
            f"{repeated} holdout tiles are exact copies of train tiles: near-duplicates between "
            "the two sides "
            "hide real copies. Remove them and split again."
        )
    if data.group_unit != "patient":
        warnings.append(
            "The data name no patients: the unit of every interval and test is the "
            f"{data.group_unit}. "
            "If one patient gave several, intervals are too narrow and tests too eager."
        )
    else:
        warnings += [
            f"Every {tiles.name} tile counts as a patient of its own: if one patient gave several, "
            "intervals are too narrow and tests too eager."
            for tiles in (data.train, data.holdout)
            if tiles.patient_count == len(tiles)
        ]
    for tiles in (data.synthetic, data.holdout):
        blank = int((~tiles.textured).sum())
        if blank:
            warnings.append(
                f"{blank} of {len(tiles)} {tiles.name} tiles are featureless and were left out: "
                "they cannot be proven copies either way."
            )
    fewest = min(data.train.patient_count, data.holdout.patient_count)
    if fewest < 20:
        warnings.append(
            f"Only {fewest} {data.group_unit}s on the smaller side: patient-level intervals are "
            "wide, and a leak "
            "that concerns few of them can stay unseen."
        )
    return warnings


def _proof_warnings(proofs: Sequence[AuditResult]) -> list[str]:
    """What the alignment left aside: near-duplicates between patients, marks."""
    aligned = next((result for result in proofs if result.name == ALIGNED), None)
    if aligned is None:
        return []
    known, warnings = aligned.details, []
    if known["null_alike"]:
        warnings.append(
            f"{known['null_alike']} of {known['null_scores'] + known['null_alike']} real tiles "
            "show the tissue of another patient's tile, as copies do. They were left out of what "
            "chance shows. One patient may stand there under two names: run `privgen data check`."
        )
    if known["featureless"]:
        warnings.append(
            f"{known['featureless']} of {known['featureless'] + known['searched']} synthetic tiles "
            "show hardly anything to compare: they were searched, but are not cleared."
        )
    if known["marked"] or known["null_marked"]:
        warnings.append(
            f"{known['marked']} synthetic and {known['null_marked']} real tiles align where marks "
            "stand that recur in other patients at the same place, such as frames, captions or "
            "scale bars. What the marks cover was set aside; the rest was compared."
        )
    return warnings


def _alike_patients(data: AuditData) -> list[str]:
    """A warning for each real role that holds patients who may be one person; it names nobody."""
    unit = data.group_unit.replace("_", " ")
    warnings = []
    for tiles in (data.train, data.siblings, data.holdout, data.reference):
        if tiles is None or not tiles.patients_known:
            continue
        groups = alike_within(np.unique(tiles.patients))
        if groups:
            warnings.append(
                f"{sum(map(len, groups))} {tiles.name} {unit}s have names that differ "
                f"only in case, leading zeros or signs from another's: if those are {len(groups)} "
                "written differently, intervals are too narrow and tests too eager."
            )
    return warnings


def _unmatched_classes(data: AuditData) -> list[str]:
    """A warning where copy tests cannot allow for different class proportions."""
    if len(np.unique(data.holdout.labels)) < 2:
        return []
    if np.isin(data.synthetic.labels, data.holdout.labels).any():
        return []
    return [
        "The synthetic tiles name no class that the holdout has: if their class proportions differ "
        "from the holdout's, a rejection of the copy tests may be due to that alone."
    ]


def _controls(
    data: AuditData,
    scores: Mapping[str, Floats],
    streams: Sequence[np.random.Generator],
) -> list[AuditResult]:
    """What the data show when there is nothing to find."""
    controls = [
        split_half(f"control/{name}", scores[role], tiles.patients, stream)
        for name, role, tiles, stream in (
            ("member_against_member", "train", data.train, streams[0]),
            ("holdout_against_holdout", "holdout", data.holdout, streams[1]),
        )
        if tiles.patient_count >= 4
    ]
    if min(data.train.patient_count, data.holdout.patient_count) >= 2:
        controls.append(blind_baseline(data.train, data.holdout, streams[2]))
    return controls


def _control(controls: Sequence[AuditResult], name: str) -> AuditResult | None:
    return next((control for control in controls if control.name == name), None)


def _confounded(controls: Sequence[AuditResult]) -> str:
    """A sentence when the blind baseline tells train from holdout; empty otherwise."""
    blind = _control(controls, BLIND)
    if blind is None or blind.p_value is None or blind.p_value > _CONFOUNDED_LEVEL:
        return ""
    return (
        "Train and holdout patients can be told apart without the synthetic tiles (blind AUROC "
        f"{blind.statistic.value:.2f}, p = {blind.p_value:.2g}): a membership difference between "
        "them is confounded."
    )


def _pipeline(data: AuditData, rng: np.random.Generator) -> list[AuditResult]:
    """The control on how tiles became pixels, where that was measured of enough patients."""
    if data.pipeline is None or min(side.patient_count for side in data.pipeline) < 2:
        return []
    return [pipeline_baseline(*data.pipeline, rng)]


def _other_way(data: AuditData, controls: Sequence[AuditResult]) -> dict[Harm, str]:
    """Why a harm cannot be judged, where its roles became pixels in different ways."""
    found = dict(data.confounded)
    control = _control(controls, PIPELINE)
    if control is not None and control.p_value is not None and control.p_value <= LEVEL:
        sentence = (
            "Train and holdout patients differ in how their tiles became pixels (sharpness, blocks "
            f"or colour detail: AUROC {control.statistic.value:.2f}, p = {control.p_value:.2g}): a "
            "difference between them may be that alone."
        )
        for harm in (Harm.COPYING, Harm.PATIENT_MEMBERSHIP):
            found.setdefault(harm, sentence)
    return found


def _swapped(controls: Sequence[AuditResult], tests: Sequence[AuditResult]) -> str:
    """A sentence when the holdout looks like the train set; empty otherwise."""
    copied = _control(controls, SWAPPED)
    p = 1.0 if copied is None or copied.p_value is None else copied.p_value
    if copied is not None and p <= _SWAPPED_LEVEL and confirmed(copied, _SWAPPED_LEVEL):
        return (
            f"Synthetic tiles copy holdout tiles (p = {p:.2g}): train and holdout may have been "
            "swapped, or the generator saw the holdout."
        )
    for test in tests:
        if test.details.get("reversed_p", 1.0) <= _SWAPPED_LEVEL:
            return (
                f"Holdout patients score as members ({test.name}: AUROC "
                f"{test.statistic.value:.2f}): train and holdout may have been swapped, or differ "
                "in more than having been trained on."
            )
    return ""

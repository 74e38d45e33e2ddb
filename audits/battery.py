"""The pre-registered battery.

A registered name fixes every parameter of its test. The family is declared from the roles that are
present, before any number is looked at; Holm's adjustment keeps the chance of a false LEAK over the
whole family at the policy's significance. Equal pixels are proof and stand outside the family.

Source: METHODS.md 4.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from audits.controls import (
    blind_baseline,
    member_against_member,
    minimum_detectable,
    power_curve,
)
from audits.copying import CopyScores, copy_scores, identical_tiles, tail_count
from audits.errors import AuditInputError
from audits.fidelity import fidelity
from audits.inputs import AuditData, Planted, Tiles
from audits.membership import full_black_box, patient_membership, tile_membership
from audits.permutation import holm
from audits.policy import Policy
from audits.results import AuditReport, AuditResult, Harm, PowerPoint
from audits.verdict import COPY_TESTS, copying_verdict, membership_verdict, overall_verdict

_FAR_TOO_MANY = 0.5


def family(data: AuditData) -> tuple[str, ...]:
    """Names of the registered tests for these roles: decided by which exist, never by values."""
    tests = list(COPY_TESTS)
    if data.siblings is not None:
        tests.append("tile_membership")
    if min(data.train.patient_count, data.holdout.patient_count) >= 2:
        tests.append("patient_membership")
    return tuple(tests)


def audit(
    data: AuditData,
    *,
    policy: Policy | None = None,
    rng: int | np.random.Generator = 0,
    features: Mapping[str, Mapping[str, NDArray[np.float32]]] | None = None,
) -> AuditReport:
    """Run the whole battery.

    Args:
      data: the tiles of every role.
      policy: what gates and how small a leak must be visible; the default policy when None.
      rng: an integer seed, which is recorded in the report, or a generator.
      features: for each encoder by name, its plain outputs of "train", "holdout" and "synthetic";
        no fidelity block when None.

    Returns:
      Aggregates only: nothing in the report speaks of a single real tile.

    Raises:
      AuditInputError: the holdout is the train set, no tile has texture, or a set is too small for
        any test.

    Source: METHODS.md 1 to 4, 6.
    """
    policy = policy or Policy()
    seed = rng if isinstance(rng, int) else None
    streams = np.random.default_rng(rng).spawn(6)
    names = family(data)
    level = policy.significance / len(names)
    synthetic, holdout, textured_holdout = _textured_scores(data)
    warnings = _input_warnings(data, holdout)

    results = _family_results(
        data, synthetic, holdout, textured_holdout, policy.significance, streams[:2]
    )
    proofs = _proofs(data)
    controls = _controls(data, streams[2], streams[3])
    power = _power(data, synthetic, holdout, policy, level, streams[4])
    mdl80 = minimum_detectable(power)
    confounded = _confounded(controls)
    if confounded:
        warnings.append(confounded)

    by_name = {result.name: result for result in (*proofs, *results)}
    harms = (
        copying_verdict(by_name, mdl80, policy, len(synthetic), len(holdout), level),
        membership_verdict(Harm.TILE_MEMBERSHIP, by_name.get("tile_membership"), policy, level, ""),
        membership_verdict(
            Harm.PATIENT_MEMBERSHIP, by_name.get("patient_membership"), policy, level, confounded
        ),
    )
    context: list[AuditResult] = []
    for encoder, outputs in (features or {}).items():
        context += fidelity(
            outputs,
            {"train": data.train.patients, "holdout": data.holdout.patients},
            feature_name=encoder,
            rng=streams[5],
        )
    return AuditReport(
        verdict=overall_verdict(harms, mdl80, names, policy),
        warnings=tuple(warnings),
        results=(*proofs, *results, *controls, *context),
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
    data: AuditData, *, significance: float = 0.05, rng: int | np.random.Generator = 0
) -> list[AuditResult]:
    """The registered tests alone, Holm-adjusted: no controls, no power, no verdict.

    What a calibration study needs many thousand times; `audit` runs the same tests on the same
    random streams.

    Args:
      data: the tiles of every role.
      significance: family-wise.
      rng: as in `audit`.

    Raises:
      AuditInputError: as `audit`.
    """
    streams = np.random.default_rng(rng).spawn(6)
    return _family_results(data, *_textured_scores(data), significance, streams[:2])


def _family_results(
    data: AuditData,
    synthetic: CopyScores,
    holdout: CopyScores,
    holdout_patients: NDArray[np.str_],
    significance: float,
    streams: Sequence[np.random.Generator],
) -> list[AuditResult]:
    results = [
        tail_count(
            "tail_count", synthetic.nearest, holdout.nearest, holdout_patients=holdout_patients
        ),
        tail_count("tail_ratio", synthetic.ratio, holdout.ratio, holdout_patients=holdout_patients),
        *_membership(data, *streams),
    ]
    return _adjust(results, family(data), significance)


def _textured(tiles: Tiles | Planted) -> NDArray[np.bool_]:
    if tiles.fingerprints is None:
        return np.ones(len(tiles.embeddings), dtype=np.bool_)
    textured: NDArray[np.bool_] = tiles.fingerprints != ""
    return textured


def _textured_scores(data: AuditData) -> tuple[CopyScores, CopyScores, NDArray[np.str_]]:
    """Copy scores of synthetic and holdout tiles with texture; blank tiles resemble each other."""
    keep = _textured(data.synthetic), _textured(data.holdout)
    for tiles, rows in zip((data.synthetic, data.holdout), keep, strict=True):
        if not rows.any():
            raise AuditInputError(
                f"all {len(rows)} {tiles.name} tiles are featureless (blank): nothing can be "
                "audited."
            )
    synthetic = copy_scores(data.synthetic.embeddings[keep[0]], data.train.embeddings)
    holdout = copy_scores(data.holdout.embeddings[keep[1]], data.train.embeddings)
    return synthetic, holdout, data.holdout.patients[keep[1]]


def _input_warnings(data: AuditData, holdout: CopyScores) -> list[str]:
    repeated = int((holdout.nearest == 0).sum())
    if repeated > _FAR_TOO_MANY * len(holdout):
        raise AuditInputError(
            f"train and holdout must differ: {repeated} of {len(holdout)} holdout tiles are exact "
            "copies of "
            "train tiles. Give a holdout of other patients."
        )
    warnings = []
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
        blank = int((~_textured(tiles)).sum())
        if blank:
            warnings.append(
                f"{blank} of {len(tiles)} {tiles.name} tiles are featureless and were left out of "
                "the copy tests: "
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


def _membership(
    data: AuditData, rng_tile: np.random.Generator, rng_patient: np.random.Generator
) -> list[AuditResult]:
    """Both arms, as far as the roles allow."""
    synthetic = data.synthetic.embeddings
    train, holdout = (
        full_black_box(tiles.embeddings, synthetic) for tiles in (data.train, data.holdout)
    )
    results = []
    members, owners, source = train, data.train.patients, "train"
    if data.siblings is not None:
        siblings = full_black_box(data.siblings.embeddings, synthetic)
        results.append(
            tile_membership(
                train,
                siblings,
                train_slides=data.train.slides,
                sibling_slides=data.siblings.slides,
                train_patients=data.train.patients,
                sibling_patients=data.siblings.patients,
                rng=rng_tile,
            )
        )
        if data.siblings.patient_count >= 2:
            members, owners, source = siblings, data.siblings.patients, "siblings"
    if "patient_membership" in family(data):
        result = patient_membership(
            "patient_membership",
            members,
            holdout,
            member_patients=owners,
            nonmember_patients=data.holdout.patients,
            rng=rng_patient,
        )
        note = (
            ""
            if source == "siblings"
            else "Train tiles stood in for held-back tiles of training patients: "
            "tile and patient membership are not separated."
        )
        results.append(replace(result, details={**result.details, "members": source}, note=note))
    return results


def _adjust(
    results: list[AuditResult], names: tuple[str, ...], significance: float
) -> list[AuditResult]:
    raw = {result.name: result.p_value for result in results}
    if tuple(raw) != names:
        raise AssertionError(f"the family was declared as {names} and run as {tuple(raw)}")
    adjusted = holm({name: p for name, p in raw.items() if p is not None})
    return [
        replace(r, p_adjusted=adjusted[r.name], rejected=adjusted[r.name] <= significance)
        for r in results
    ]


def _proofs(data: AuditData) -> list[AuditResult]:
    if data.train.fingerprints is None or data.synthetic.fingerprints is None:
        return []
    return [identical_tiles(data.synthetic.fingerprints, data.train.fingerprints)]


def _controls(
    data: AuditData, rng_members: np.random.Generator, rng_blind: np.random.Generator
) -> list[AuditResult]:
    controls = []
    if data.train.patient_count >= 4:
        scores = full_black_box(data.train.embeddings, data.synthetic.embeddings)
        controls.append(member_against_member(scores, data.train.patients, rng_members))
    if min(data.train.patient_count, data.holdout.patient_count) >= 2:
        controls.append(blind_baseline(data.train, data.holdout, rng_blind))
    return controls


def _confounded(controls: list[AuditResult]) -> str:
    """A sentence when the blind baseline tells train from holdout; empty otherwise."""
    for control in controls:
        low = control.statistic.low
        if control.name == "control/blind_baseline" and low is not None and low > 0.5:
            return (
                "Train and holdout patients can be told apart without the synthetic tiles (blind "
                "AUROC "
                f"{control.statistic.value:.2f}, from {low:.2f}): a membership difference between "
                "them is confounded."
            )
    return ""


def _power(
    data: AuditData,
    synthetic: CopyScores,
    holdout: CopyScores,
    policy: Policy,
    level: float,
    rng: np.random.Generator,
) -> tuple[PowerPoint, ...]:
    """Power for every planted kind; exact copies are the train tiles themselves."""
    train = data.train
    kinds = dict(data.planted)
    if "exact" not in kinds:
        kinds["exact"] = Planted(
            embeddings=train.embeddings,
            sources=np.arange(len(train)),
            fingerprints=train.fingerprints,
        )
    scores, proven, patients = {}, {}, {}
    for kind, copies in kinds.items():
        keep = _textured(copies)
        if not keep.any():
            continue
        scores[kind] = copy_scores(copies.embeddings[keep], train.embeddings)
        patients[kind] = train.patients[copies.sources[keep]]
        proven[kind] = np.zeros(int(keep.sum()), dtype=np.bool_)
        if copies.fingerprints is not None and train.fingerprints is not None:
            proven[kind] = np.isin(copies.fingerprints[keep], train.fingerprints)
    return power_curve(
        synthetic,
        holdout,
        scores,
        proven=proven,
        source_patients=patients,
        fractions=policy.fractions,
        significance=level,
        rng=rng,
    )

"""Both arms of every membership attack, and what an attacker finds at a low false-positive rate.

Source: docs/methods.md#membership-attacks, docs/methods.md#patient-as-the-unit,
docs/methods.md#tpr-at-fpr, docs/methods.md#tile-and-patient-membership.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from audits.attacks import (
    OutsideScores,
    calibrated,
    density_ratio,
    full_black_box,
    monte_carlo,
)
from audits.errors import AuditInputError
from audits.family import arm_name, arms_of, available_attacks
from audits.inputs import AuditData, Floats
from audits.membership import (
    draw_size,
    finest_fpr,
    has_enough,
    patient_membership,
    patient_scores,
    tile_membership,
    tpr_result,
)
from audits.results import AuditResult

RoleScores = Mapping[str, Floats]
_ROLES = ("train", "siblings", "holdout")


def attack_scores(
    data: AuditData, outside: Sequence[OutsideScores] = ()
) -> dict[str, dict[str, Floats]]:
    """Scores of every available attack, by attack and role, shape (n_role,) each.

    All roles are scored in one call, so that nothing an attack fits can favour one of them.

    Args:
      data: all roles.
      outside: scores of attacks that ran elsewhere, joined by tile id.

    Raises:
      AuditInputError: an outside attack given twice, or a tile it did not score.
    """
    names = [scores.name for scores in outside]
    if len(set(names)) < len(names):
        raise AuditInputError(f"each outside attack may be given once: got {', '.join(names)}.")
    roles = {role: tiles for role, tiles in data.roles().items() if role in _ROLES}
    tiles = np.concatenate([role.embeddings for role in roles.values()])
    ids = np.concatenate([role.ids for role in roles.values()])
    ends = np.cumsum([len(role) for role in roles.values()])[:-1]
    synthetic = data.synthetic.embeddings
    near = full_black_box(tiles, synthetic)
    scores = {"full_black_box": near}
    scores["monte_carlo"] = monte_carlo(tiles, synthetic, epsilon=float(np.median(-near)))
    for given in outside:
        scores[given.name] = given.for_tiles(ids)
        if (scores[given.name] == scores[given.name][0]).all():
            raise AuditInputError(
                f"{given.name} scores must differ between tiles: all {len(ids)} are equal. Check "
                "the attack that made them."
            )
    if "density_ratio" in available_attacks(data) and data.reference is not None:
        reference = data.reference.embeddings
        scores["density_ratio"] = density_ratio(tiles, synthetic, reference)
        scores["calibrated"] = calibrated(tiles, synthetic, reference)
    return {
        attack: dict(zip(roles, np.split(found, ends), strict=True))
        for attack, found in scores.items()
    }


def run_arms(
    data: AuditData, attack: str, scores: RoleScores, rng: np.random.Generator
) -> list[AuditResult]:
    """The arms these roles allow, for one attack.

    Args:
      data: all roles.
      attack: registered name.
      scores: of each real role's tiles.
      rng: permutations, draws and bootstrap.
    """
    rng_tile, rng_patient = rng.spawn(2)
    results = []
    siblings = data.siblings
    if siblings is not None and "tile_membership" in arms_of(data):
        tile = tile_membership(
            scores["train"],
            scores["siblings"],
            train_slides=data.train.slides,
            sibling_slides=siblings.slides,
            train_patients=data.train.patients,
            sibling_patients=siblings.patients,
            rng=rng_tile,
        )
        results.append(replace(tile, name=arm_name("tile_membership", attack)))
    if "patient_membership" in arms_of(data):
        source = "siblings" if _siblings_stand(data) else "train"
        result = patient_membership(
            arm_name("patient_membership", attack),
            scores[source],
            scores["holdout"],
            member_patients=data.roles()[source].patients,
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


def tpr_results(data: AuditData, scores: RoleScores) -> list[AuditResult]:
    """TPR at the finest FPR the nonmembers can resolve, for the arms these roles allow.

    Args:
      data: all roles.
      scores: of the primary attack.
    """
    results = []
    if data.siblings is not None and (fpr := finest_fpr(len(data.siblings))) is not None:
        results.append(
            tpr_result(
                "tpr_at_fpr/tile_membership",
                scores["train"],
                scores["siblings"],
                fpr=fpr,
                unit="tile",
            )
        )
    if "patient_membership" in arms_of(data):
        source = "siblings" if _siblings_stand(data) else "train"
        members, others = data.roles()[source].patients, data.holdout.patients
        size = draw_size(members, others)
        kept, others_kept = has_enough(members, size), has_enough(others, size)
        ours = patient_scores(scores[source][kept], members[kept], tiles=size)[1]
        theirs = patient_scores(scores["holdout"][others_kept], others[others_kept], tiles=size)[1]
        if (fpr := finest_fpr(len(theirs))) is not None:
            results.append(tpr_result("tpr_at_fpr/patient_membership", ours, theirs, fpr=fpr))
    return results


def _siblings_stand(data: AuditData) -> bool:
    """Whether siblings are enough to speak for the training patients."""
    return data.siblings is not None and data.siblings.patient_count >= 2

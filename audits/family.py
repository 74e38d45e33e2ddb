"""The pre-registered family: which tests judge this audit, and each one's share of the level.

Declared from roles, counts and classes alone, before any distance is looked at. Copy tests and each
arm of each membership attack have weight 1; the per-class copy tests share the weight of one test
between them, so that many classes do not cost the tests of the whole its power.

Source: docs/methods.md#verdict; Tarone 1990 (tests that cannot reject whatever the data take no
share).
"""

from collections.abc import Mapping, Sequence

import numpy as np

from audits.inputs import AuditData
from audits.policy import ATTACKS
from audits.results import AuditResult
from audits.tails import QUANTILES, critical_p, tail_ranks

COPY_TESTS = ("tail_count", "tail_ratio")
"""Registered names of the copy tests over all tiles."""

CLASS_TEST = "tail_ratio/class:"
"""Prefix of the copy test within one class."""

PRIMARY_ATTACK = "full_black_box"
"""The attack whose results carry the plain names of the arms."""

ARMS = ("tile_membership", "patient_membership")

REFERENCE_ATTACKS = ("density_ratio", "calibrated")
"""Attacks that need reference tiles."""

_FEWEST_TILES = 6


def available_attacks(data: AuditData, outside: Sequence[str] = ()) -> tuple[str, ...]:
    """Registered attacks whose inputs are there, in the registered order."""
    known = data.reference is not None and (
        min(len(data.reference), len(data.synthetic)) >= _FEWEST_TILES
    )
    ready = {PRIMARY_ATTACK, "monte_carlo", *outside, *(REFERENCE_ATTACKS if known else ())}
    return tuple(name for name in ATTACKS if name in ready)


def arm_name(arm: str, attack: str) -> str:
    """`patient_membership` for the primary attack, `patient_membership/shadow` for another."""
    return arm if attack == PRIMARY_ATTACK else f"{arm}/{attack}"


def arms_of(data: AuditData) -> tuple[str, ...]:
    """The arms these roles allow."""
    siblings = data.siblings
    tile = siblings is not None and bool(
        {*zip(data.train.patients, data.train.slides, strict=True)}
        & {*zip(siblings.patients, siblings.slides, strict=True)}
    )
    patient = min(data.train.patient_count, data.holdout.patient_count) >= 2
    return tuple(name for name, there in zip(ARMS, (tile, patient), strict=True) if there)


def judged_classes(data: AuditData, significance: float) -> tuple[str, ...]:
    """Classes with a copy test of their own: at least two shared ones, each able to reject.

    Args:
      data: all roles.
      significance: what the classes share between them.
    """
    shared = np.intersect1d(data.synthetic.labels, data.holdout.labels)
    shared = np.intersect1d(shared, data.train.labels)
    if len(shared) < 2:
        return ()

    def can_reject(label: str) -> bool:
        s, h, t = (
            int((tiles.labels == label).sum())
            for tiles in (data.synthetic, data.holdout, data.train)
        )
        if min(h, t) <= len(QUANTILES):
            return False
        return critical_p(significance / len(shared), s, h, tail_ranks(h)) > 0

    return tuple(str(label) for label in shared if can_reject(str(label)))


def family(
    data: AuditData,
    *,
    arms: Sequence[str] | None = None,
    attacks: Sequence[str] = (PRIMARY_ATTACK,),
    significance: float = 0.05,
) -> dict[str, float]:
    """Weight of each registered test, by name, in the order they are reported.

    Args:
      data: the roles; their distances are not looked at.
      arms: those that can be measured; `arms_of` these roles when None.
      attacks: those that gate and whose inputs are there.
      significance: family-wise; decides which classes are large enough to be tested.
    """
    allowed = arms_of(data) if arms is None else arms
    membership = [arm_name(arm, attack) for arm in allowed for attack in attacks]
    whole = len(COPY_TESTS) + len(membership)
    classes = judged_classes(data, significance / (whole + 1))
    weights = dict.fromkeys(COPY_TESTS, 1.0)
    weights |= {f"{CLASS_TEST}{label}": 1 / len(classes) for label in classes}
    return weights | dict.fromkeys(membership, 1.0)


def levels(weights: Mapping[str, float], significance: float) -> dict[str, float]:
    """Share of the family-wise level each test has at Holm's first step."""
    total = sum(weights.values())
    return {name: significance * weight / total for name, weight in weights.items()}


def confirmed(result: AuditResult, level: float) -> bool:
    """Whether a copy test's within-patient check agrees that tiles were copied."""
    return bool(result.details.get("own_p", 1.0) <= level)

"""Verdicts on single harms from results made by hand."""

from audits import AuditResult, Estimate, Harm, HarmVerdict, Policy
from audits.copying_rules import CopyingCase
from audits.membership_rules import MembershipCase
from audits.verdict import copying_verdict, membership_verdict

ALL_SEEN = {"exact": 0.002, "symmetry": 0.003, "odd_rotation": 0.01, "stain": 0.005}
SHIFTED = "Train and holdout patients can be told apart."


def estimate(value: float, low: float | None, high: float | None, n: int = 20) -> Estimate:
    return Estimate(value=value, low=low, high=high, n=n, unit="patient")


LEVELS = {
    "tail_count": 0.0125,
    "tail_ratio": 0.0125,
    "tail_ratio/class:a": 0.004,
    "patient_membership": 0.0125,
    "patient_membership/shadow": 0.0125,
    "tile_membership": 0.0125,
}


def copy_test(name: str, rejected: bool = False, own_p: float = 1e-4) -> AuditResult:
    return AuditResult(
        name=name,
        harm=Harm.COPYING,
        statistic=estimate(0.01, 0.005, 0.02, 3000),
        p_value=1e-4 if rejected else 0.4,
        p_adjusted=4e-4 if rejected else 1.0,
        rejected=rejected,
        details={"own_p": own_p, "holdout_tiles": 800, "own_tiles": 600, "upper_bound": 0.0012},
    )


def proof(identical: int) -> AuditResult:
    return AuditResult(
        name="identical_tiles",
        harm=Harm.COPYING,
        statistic=estimate(identical / 3000, 0.0, 0.01, 3000),
        rejected=identical > 0,
        details={"identical": identical},
    )


def alignment(above_floors: int, rejected: bool | None) -> AuditResult:
    return AuditResult(
        name="aligned_copies",
        harm=Harm.COPYING,
        statistic=estimate(above_floors / 3000, 0.0, 0.01, 3000),
        rejected=rejected,
        details={
            "above_floors": above_floors,
            "proven": above_floors if rejected else None,
            "needed_score": 9.0,
        },
        note="Only a count, no proof: 60 null scores are too few (100 needed).",
    )


def copying(
    *,
    identical: int | None = None,
    aligned: AuditResult | None = None,
    count: bool = False,
    ratio: bool = False,
    one_class: bool = False,
    own_p: float = 1e-4,
    swapped: str = "",
    mdl80: dict[str, float | None] | None = None,
    policy: Policy | None = None,
) -> HarmVerdict:
    results = {
        "tail_count": copy_test("tail_count", count, own_p),
        "tail_ratio": copy_test("tail_ratio", ratio, own_p),
        "tail_ratio/class:a": copy_test("tail_ratio/class:a", one_class, own_p),
    }
    if identical is not None:
        results["identical_tiles"] = proof(identical)
    if aligned is not None:
        results["aligned_copies"] = aligned
    seen: dict[str, float | None] = dict(ALL_SEEN) if mdl80 is None else mdl80
    return copying_verdict(
        CopyingCase(
            results=results,
            mdl80=seen,
            policy=policy or Policy(),
            levels=LEVELS,
            swapped=swapped,
        )
    )


def membership(
    value: float = 0.5,
    high: float | None = 0.58,
    *,
    low: float | None = 0.42,
    rejected: bool = False,
    smallest_p: float = 1e-4,
    confounded: str = "",
    policy: Policy | None = None,
    harm: Harm = Harm.PATIENT_MEMBERSHIP,
    lone_tiles: bool = False,
    scale: float = 1.0,
) -> HarmVerdict:
    result = AuditResult(
        name="patient_membership",
        harm=harm,
        statistic=estimate(value, low, high),
        p_value=0.001 if rejected else 0.5,
        p_adjusted=0.004 if rejected else 1.0,
        rejected=rejected,
        details={"smallest_p": smallest_p},
    )
    return membership_verdict(
        MembershipCase(
            harm=harm,
            results=[result],
            policy=policy or Policy(),
            levels={name: scale * level for name, level in LEVELS.items()},
            confounded=confounded,
            lone_tiles=lone_tiles,
        )
    )

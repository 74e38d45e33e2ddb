"""Three reports with realistic figures, one for each verdict, built from the audit's own types."""

import base64
import json
import math
import struct
import zlib
from typing import Any

from audits import (
    AuditReport,
    AuditResult,
    Estimate,
    Harm,
    HarmVerdict,
    Outcome,
    Policy,
    PowerPoint,
)
from audits.intervals import clopper_pearson
from audits.results import Verdict
from audits.sentence import overall_verdict
from tests.helpers.bench_example import bench

KINDS = ("exact", "symmetry", "odd_rotation", "stain")
CLASSES = ("benign", "malignant")


def estimate(value: float, low: float, high: float, n: int, unit: str = "tile") -> Estimate:
    return Estimate(value=value, low=low, high=high, n=n, unit=unit)


def power_points(synthetic: int, seen_at: dict[str, float]) -> tuple[PowerPoint, ...]:
    """Smooth power curves that reach .8 at `seen_at`; intervals as 400 draws give them."""
    points = []
    for kind, half in seen_at.items():
        for copies in sorted({max(1, round(share * synthetic)) for share in Policy().fractions}):
            share = copies / synthetic
            found = round(400 * (1 - 0.2 ** ((share / half) ** 1.8)))
            low, high = clopper_pearson(found, 400)
            points.append(
                PowerPoint(
                    kind=kind,
                    fraction=share,
                    copies=copies,
                    power=estimate(found / 400, low, high, 400, "draw"),
                )
            )
    return tuple(points)


def mdl80(points: tuple[PowerPoint, ...]) -> dict[str, float | None]:
    return {
        kind: min(
            (p.fraction for p in points if p.kind == kind and p.power.value >= 0.8), default=None
        )
        for kind in dict.fromkeys(p.kind for p in points)
    }


def copy_test(
    name: str, value: float, low: float, high: float, n: int, p: float, adjusted: float
) -> AuditResult:
    row = {
        "quantile": 0.005,
        "synthetic_hits": round(value * n) + 3,
        "holdout_hits": 1,
        "p": p / 3,
        "effective_holdout": 268.0,
    }
    return AuditResult(
        name=name,
        harm=Harm.COPYING,
        statistic=estimate(value, low, high, n),
        p_value=p,
        p_adjusted=adjusted,
        rejected=adjusted <= 0.05,
        details={"grid": [row], "holdout_tiles": 268},
    )


def membership(
    name: str, value: float, low: float, high: float, n: int, p: float, adjusted: float
) -> AuditResult:
    harm = Harm.TILE_MEMBERSHIP if name == "tile_membership" else Harm.PATIENT_MEMBERSHIP
    return AuditResult(
        name=name,
        harm=harm,
        statistic=estimate(value, low, high, n, "patient"),
        p_value=p,
        p_adjusted=adjusted,
        rejected=adjusted <= 0.05,
        details={
            "member_patients": n // 2,
            "nonmember_patients": n - n // 2,
            "members": "siblings",
        },
    )


def controls(n: int, spread: float, blind: tuple[float, float, float, float]) -> list[AuditResult]:
    value, low, high, p = blind
    return [
        AuditResult(
            name="control/member_against_member",
            harm=None,
            statistic=estimate(0.5, 0.5 - spread, 0.5 + spread, n // 2, "patient"),
            details={"splits": 400},
            note="What chance alone does between patients who were all in training.",
        ),
        AuditResult(
            name="control/blind_baseline",
            harm=None,
            statistic=estimate(value, low, high, n, "patient"),
            p_value=p,
        ),
    ]


def fidelity(tiles: int, scale: float) -> list[AuditResult]:
    rows = {
        "fd_effnet_lite0/synthetic_train": (267.4 * scale, 249.1 * scale, 285.7 * scale),
        "fd_effnet_lite0/synthetic_holdout": (281.9 * scale, 261.0 * scale, 302.8 * scale),
        "fd_effnet_lite0/train_holdout": (56.3, 41.2, 71.4),
        "kid_effnet_lite0/synthetic_train": (0.0312 * scale, 0.0281 * scale, 0.0343 * scale),
        "kid_effnet_lite0/synthetic_holdout": (0.0336 * scale, 0.0297 * scale, 0.0375 * scale),
        "kid_effnet_lite0/train_holdout": (0.0021, -0.0004, 0.0046),
        "precision_effnet_lite0/synthetic_holdout": (0.614, 0.58, 0.648),
        "recall_effnet_lite0/synthetic_holdout": (0.371, 0.301, 0.441),
        "density_effnet_lite0/synthetic_holdout": (0.548, 0.49, 0.606),
        "coverage_effnet_lite0/synthetic_holdout": (0.502, 0.431, 0.573),
        "precision_effnet_lite0/train_holdout": (0.873, 0.832, 0.914),
        "recall_effnet_lite0/train_holdout": (0.851, 0.79, 0.912),
        "density_effnet_lite0/train_holdout": (0.936, 0.86, 1.012),
        "coverage_effnet_lite0/train_holdout": (0.912, 0.864, 0.96),
    }
    return [
        AuditResult(name=name, harm=None, statistic=estimate(*figures, tiles), details={"k": 5})
        for name, figures in rows.items()
    ]


def tiles_png(columns: int = 8, rows: int = 3, side: int = 32) -> str:
    """A small grid in the colours of haematoxylin and eosin, as a base64 PNG."""
    lines = []
    for y in range(rows * side):
        line = bytearray([0])
        for x in range(columns * side):
            tile = (x // side) * 7 + (y // side) * 13
            wave = math.sin((x % side) / (3 + tile % 5)) * math.cos((y % side) / (2.5 + tile % 3))
            dark = wave > 0.45
            edge = x % side == 0 or y % side == 0
            colour = (
                (255, 255, 255) if edge else (98, 62, 130) if dark else (228, 170 + tile % 30, 200)
            )
            line += bytes(colour)
        lines.append(bytes(line))

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", columns * side, rows * side, 8, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    png += chunk(b"IDAT", zlib.compress(b"".join(lines), 9)) + chunk(b"IEND", b"")
    return base64.b64encode(png).decode()


def report(audit: AuditReport | None, **parts: Any) -> dict[str, Any]:
    """The report around an audit, as it reads back from report.json."""
    roles = {role: dict(size) for role, size in audit.counts.items()} if audit else {}
    document = {
        "schema": "privgen-report/1",
        "privgen_version": "0.1.0",
        "created": "2026-11-21T04:30:12+00:00",
        "weaker_than_default": [],
        "data": {
            "layout": "CSV manifest",
            "group_unit": audit.group_unit,
            "roles": roles,
            "classes": {
                name: {role: size["tiles"] // 2 for role, size in roles.items()} for name in CLASSES
            },
            "audit_side_px": 64,
            "skipped": 2,
        }
        if audit
        else None,
        "audit": audit.to_dict() if audit else None,
        "augment_bench": None,
        "reproduce": {
            "command": "privgen audit --train TRAIN --holdout HOLDOUT --synthetic SYNTHETIC "
            "--encoder effnet_lite0 --seed 7",
            "seed": 7,
        },
        "generator": None,
        "samples_png": None,
        **parts,
    }
    return dict(json.loads(json.dumps(document)))


def leak() -> dict[str, Any]:
    """A folder into which 3 % exact copies of training tiles were mixed."""
    power = power_points(
        1000, {"exact": 0.0021, "symmetry": 0.0021, "odd_rotation": 0.0072, "stain": 0.0048}
    )
    identical = AuditResult(
        name="identical_tiles",
        harm=Harm.COPYING,
        statistic=estimate(0.03, 0.0203, 0.0426, 1000),
        rejected=True,
        details={"identical": 30, "featureless_synthetic": 4},
        note="Proof by equal pixels, up to rotation by 90 degrees and mirroring; not a "
        "statistical test.",
    )
    harms = (
        HarmVerdict(
            harm=Harm.COPYING,
            outcome=Outcome.LEAK,
            reason="identical_tiles: 30 of 1000 synthetic tiles equal a train tile pixel by pixel. "
            "The copy tests reject too (tail_count, tail_ratio).",
        ),
        HarmVerdict(
            harm=Harm.TILE_MEMBERSHIP,
            outcome=Outcome.INCONCLUSIVE,
            reason="Not measured.",
            remedy="Give held-back tiles of the training slides (siblings).",
        ),
        HarmVerdict(
            harm=Harm.PATIENT_MEMBERSHIP,
            outcome=Outcome.INCONCLUSIVE,
            reason="patient_membership: AUROC 0.635 [0.338, 0.889] over 16 patients: not rejected, "
            "but an excess over .5 of up to 0.39 is not excluded (policy: 0.1).",
            remedy="About 104 patients would settle it, if there is nothing to find.",
        ),
    )
    results = [
        identical,
        copy_test("tail_count", 0.0287, 0.0179, 0.0421, 996, 0.000062, 0.000124),
        copy_test("tail_ratio", 0.0301, 0.0193, 0.0437, 996, 0.0000381, 0.0001143),
        membership("patient_membership", 0.635, 0.338, 0.889, 16, 0.1954, 0.1954),
        *controls(16, 0.31, (0.541, 0.22, 0.83, 0.3312)),
        *fidelity(340, 0.21),
    ]
    return report(
        AuditReport(
            verdict=Verdict(
                outcome=Outcome.LEAK,
                sentence="LEAK: copying.",
                harms=harms,
                significance=0.05,
                family=("tail_count", "tail_ratio", "patient_membership"),
            ),
            warnings=(
                "4 of 1000 synthetic tiles are featureless and were left out of the copy tests: "
                "they cannot be proven copies either way.",
                "Only 7 patients on the smaller side: patient-level intervals are wide, and a leak "
                "that concerns few of them can stay unseen.",
            ),
            results=tuple(results),
            power=power,
            mdl80=mdl80(power),
            counts={
                "train": {"tiles": 340, "patients": 9},
                "holdout": {"tiles": 268, "patients": 7},
                "synthetic": {"tiles": 1000, "patients": 0},
            },
            group_unit="patient",
            encoder="effnet_lite0",
            policy=Policy().to_dict(),
            seed=7,
        )
    )


def no_leak_found() -> dict[str, Any]:
    """A large cohort and a generator that copies nobody."""
    power = power_points(
        4000, {"exact": 0.0012, "symmetry": 0.0014, "odd_rotation": 0.0046, "stain": 0.0027}
    )
    harms = (
        HarmVerdict(
            harm=Harm.COPYING,
            outcome=Outcome.NO_LEAK_FOUND,
            reason="No copy was found; a share of 0.005 or more would have been, with power .8, "
            "of all 4 kinds that were planted; at most 0.0012 of the synthetic tiles (95 % bound) "
            "lie where copies would.",
        ),
        HarmVerdict(
            harm=Harm.TILE_MEMBERSHIP,
            outcome=Outcome.NO_LEAK_FOUND,
            reason="tile_membership: AUROC 0.507 [0.489, 0.526] over 212 patients: not rejected, "
            "and the upper bound of its excess over .5 is 0.03.",
        ),
        HarmVerdict(
            harm=Harm.PATIENT_MEMBERSHIP,
            outcome=Outcome.NO_LEAK_FOUND,
            reason="patient_membership: AUROC 0.521 [0.454, 0.588] over 326 patients: not "
            "rejected, and the upper bound of its excess over .5 is 0.09.",
        ),
    )
    results = [
        AuditResult(
            name="identical_tiles",
            harm=Harm.COPYING,
            statistic=estimate(0.0, 0.0, 0.00092, 4000),
            rejected=False,
            details={"identical": 0, "featureless_synthetic": 0},
        ),
        copy_test("tail_count", 0.0004, -0.0021, 0.0027, 4000, 0.4437, 1.0),
        copy_test("tail_ratio", -0.0011, -0.0038, 0.0014, 4000, 0.8315, 1.0),
        membership("tile_membership", 0.507, 0.489, 0.526, 212, 0.2211, 0.8844),
        membership("patient_membership", 0.521, 0.454, 0.588, 326, 0.2763, 0.8844),
        *controls(326, 0.066, (0.503, 0.438, 0.569, 0.4627)),
        *fidelity(4000, 0.55),
    ]
    return report(
        AuditReport(
            verdict=overall_verdict(
                harms,
                mdl80(power),
                ("tail_count", "tail_ratio", "tile_membership", "patient_membership"),
                Policy(),
            ),
            warnings=(),
            results=tuple(results),
            power=power,
            mdl80=mdl80(power),
            counts={
                "train": {"tiles": 21200, "patients": 212},
                "siblings": {"tiles": 2120, "patients": 212},
                "holdout": {"tiles": 11400, "patients": 114},
                "synthetic": {"tiles": 4000, "patients": 0},
            },
            group_unit="patient",
            encoder="effnet_lite0",
            policy=Policy().to_dict(),
            seed=7,
        ),
        generator={
            "digest": "5e" * 32,
            "truncation": 1.0,
            "family": "cdcgan",
            "resolution": 64,
            "kimg": 412.5,
            "classes": list(CLASSES),
        },
        samples_png=tiles_png(),
        augment_bench=bench(),
    )


def inconclusive() -> dict[str, Any]:
    """A small data set that names slides only, looked at with too few tiles to see enough."""
    power = power_points(
        500, {"exact": 0.0021, "symmetry": 0.003, "odd_rotation": 0.17, "stain": 0.031}
    )
    harms = (
        HarmVerdict(
            harm=Harm.COPYING,
            outcome=Outcome.INCONCLUSIVE,
            reason="No copy was found, but a share of 0.01 could have been missed (smallest share "
            "seen with power .8: odd_rotation not even at the largest share tried, stain 0.05).",
            remedy="With 500 synthetic tiles about 902 holdout tiles with texture would do, if "
            "copies lie closer to their source than any of them (now 131); fewer, if more "
            "synthetic tiles are drawn.",
        ),
        HarmVerdict(
            harm=Harm.TILE_MEMBERSHIP,
            outcome=Outcome.NO_LEAK_FOUND,
            reason="tile_membership: AUROC 0.512 [0.461, 0.563] over 12 patients: not rejected, "
            "and the upper bound of its excess over .5 is 0.06.",
            gates=False,
        ),
        HarmVerdict(
            harm=Harm.PATIENT_MEMBERSHIP,
            outcome=Outcome.INCONCLUSIVE,
            reason="patient_membership: AUROC 0.781 [0.52, 0.98] over 20 patients rejects, but "
            "train and holdout patients can be told apart without the synthetic tiles (blind AUROC "
            "0.84, from 0.62): a membership difference between them is confounded.",
            remedy="Split patients into train and holdout at random, from the same source, and "
            "train again.",
        ),
    )
    results = [
        copy_test("tail_count", 0.0061, -0.0104, 0.0212, 500, 0.2284, 0.4568),
        copy_test("tail_ratio", -0.0023, -0.0204, 0.0118, 500, 0.6712, 0.6712),
        membership("tile_membership", 0.512, 0.461, 0.563, 12, 0.1511, 0.4533),
        membership("patient_membership", 0.781, 0.52, 0.98, 20, 0.0091, 0.0364),
        *controls(24, 0.29, (0.842, 0.621, 0.979, 0.0034)),
        *fidelity(310, 1.0),
    ]
    policy = Policy(gates=(Harm.COPYING, Harm.PATIENT_MEMBERSHIP))
    return report(
        AuditReport(
            verdict=Verdict(
                outcome=Outcome.INCONCLUSIVE,
                sentence="INCONCLUSIVE: copying, patient membership could not be settled with "
                "these data; asked: copying, patient membership; not asked: tile membership.",
                harms=harms,
                significance=0.05,
                family=("tail_count", "tail_ratio", "tile_membership", "patient_membership"),
            ),
            warnings=(
                "The data name no patients: the unit of every interval and test is the slide. If "
                "one patient gave several, intervals are too narrow and tests too eager.",
                "Only 8 slides on the smaller side: patient-level intervals are wide, and a leak "
                "that concerns few of them can stay unseen.",
                "Train and holdout patients can be told apart without the synthetic tiles (blind "
                "AUROC 0.84, from 0.62): a membership difference between them is confounded.",
            ),
            results=tuple(results),
            power=power,
            mdl80=mdl80(power),
            counts={
                "train": {"tiles": 310, "patients": 12},
                "siblings": {"tiles": 34, "patients": 12},
                "holdout": {"tiles": 131, "patients": 8},
                "synthetic": {"tiles": 500, "patients": 0},
            },
            group_unit="slide",
            encoder="effnet_lite0",
            policy=policy.to_dict(),
            seed=7,
        ),
        generator={
            "digest": "5e" * 32,
            "truncation": 1.0,
            "family": "cdcgan",
            "resolution": 64,
            "kimg": 14.1,
            "classes": list(CLASSES),
        },
        weaker_than_default=[
            {"setting": "align", "sentence": "Single copies were not looked for by key points."},
            {"setting": "count", "sentence": "500 synthetic tiles were drawn, not 1,000."},
        ],
        samples_png=tiles_png(),
        augment_bench=bench(
            8,
            models=("resnet", "densenet"),
            audited=False,
            warnings=(
                "real tiles alone were still improving with densenet when training stopped. Give "
                "more updates.",
            ),
        ),
    )


EXAMPLES = {"leak": leak, "no_leak_found": no_leak_found, "inconclusive": inconclusive}

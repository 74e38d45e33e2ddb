"""What a report says of the ways by which tiles became pixels: sentences, and one block of facts.

Only aggregates: kinds of files, qualities, sides, shares.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np

from privgen.pipelines.harmonise import Step
from privgen.pipelines.measuring import Measured

Pair = tuple[str, str]

_MOST = 0.95
_SOME = 0.05
_STRAY = 0.03


@dataclass(frozen=True)
class Difference:
    """A way in which two roles differ.

    Attributes:
      kind: "codec", "resolution" or "scale".
      roles: the two.
      mended: whether the step takes it away.
    """

    kind: str
    roles: Pair
    mended: bool


class RoleFiles(TypedDict):
    """How the tiles of one role became pixels; ranges are least and greatest."""

    kinds: Mapping[str, int]
    measured: int
    coded: float
    quality: Sequence[float] | None
    colour_halved: float | None
    side_px: Sequence[float]
    microns_a_pixel: Sequence[float] | None


class DifferenceDict(TypedDict):
    """Of `Difference`."""

    kind: str
    roles: Sequence[str]
    mended: bool


class CodingDict(TypedDict):
    """A coding that every tile went through once more."""

    quality: int
    sampling: str
    side_px: int


class StepDict(TypedDict):
    """What every tile went through before it was embedded."""

    codings: Sequence[CodingDict]
    detail_px: int


class PipelineDict(TypedDict):
    """The block `pipeline` of report.json."""

    harmonise: str
    roles: Mapping[str, RoleFiles]
    differences: Sequence[DifferenceDict]
    applied: StepDict | None


def warnings(
    measured: Mapping[str, Measured], differences: Sequence[Difference], step: Step
) -> list[str]:
    """For the top of the report: nothing where the roles do not differ."""
    said = []
    mended = [each for each in differences if each.mended]
    left = [each for each in differences if not each.mended]
    if mended:
        said.append(
            f"Tiles of different roles became pixels in different ways ({_shown(measured, mended)})"
            f". Every tile of every role was therefore {_done(step)} before it was embedded; "
            "proofs of copies looked at the tiles as they are."
        )
    if left:
        said.append(
            f"Tiles of different roles became pixels in different ways ({_shown(measured, left)}), "
            "and were left so: what the audit finds between them may be that alone."
        )
    return said


def confounded(
    measured: Mapping[str, Measured], differences: Sequence[Difference], pairs: Sequence[Pair]
) -> str:
    """A sentence where a difference of one of these pairs was left; empty otherwise."""
    for pair in pairs:
        left = [each for each in differences if each.roles == pair and not each.mended]
        if left:
            return (
                f"{pair[0].capitalize()} and {pair[1]} tiles became pixels in different ways "
                f"({_shown(measured, left)}): a difference between them may be that alone."
            )
    return ""


def facts(
    measured: Mapping[str, Measured],
    differences: Sequence[Difference],
    step: Step,
    harmonise: str,
) -> PipelineDict:
    """The block `pipeline` of report.json."""
    return {
        "harmonise": harmonise,
        "roles": {role: _facts(each) for role, each in measured.items()},
        "differences": [
            {"kind": each.kind, "roles": list(each.roles), "mended": each.mended}
            for each in differences
        ],
        "applied": {
            "codings": [
                {"quality": coding.quality, "sampling": coding.sampling, "side_px": side}
                for side, coding in step.codings
            ],
            "detail_px": step.detail,
        }
        if step.changes
        else None,
    }


def _facts(role: Measured) -> RoleFiles:
    coded = {kept: share for kept, share in role.shares().items() if kept is not None}
    total = sum(coded.values())
    common = [coding for (_, coding), share in coded.items() if share > _STRAY * total]
    qualities = [coding.quality for coding in common or [coding for _, coding in coded]]
    halved = sum(share for (_, coding), share in coded.items() if coding.sampling != "4:4:4")
    scales = role.scales[np.isfinite(role.scales)]
    kinds, counts = np.unique(role.kinds, return_counts=True)
    return {
        "kinds": {str(kind): int(count) for kind, count in zip(kinds, counts, strict=True)},
        "measured": len(role.rows),
        "coded": round(min(total, 1.0), 3),
        "quality": [min(qualities), max(qualities)] if qualities else None,
        "colour_halved": round(min(halved / total, 1.0), 3) if total else None,
        "side_px": [int(role.sides.min()), int(role.sides.max())],
        "microns_a_pixel": [float(scales.min()), float(scales.max())] if len(scales) else None,
    }


def _shown(measured: Mapping[str, Measured], differences: Sequence[Difference]) -> str:
    """What differs, in words: the codings of the roles concerned, then the rest by pair."""
    parts = []
    coded = {role for each in differences if each.kind == "codec" for role in each.roles}
    parts += [f"{role}: {_coding(each)}" for role, each in measured.items() if role in coded]
    for each in differences:
        if each.kind == "resolution":
            parts.append(f"{' and '.join(each.roles)} differ in fine detail, as after scaling")
        elif each.kind == "scale":
            parts.append(
                f"{' and '.join(each.roles)} differ in scale: "
                f"{' against '.join(_scale(measured[role]) for role in each.roles)} um per pixel"
            )
    return "; ".join(parts)


def _coding(role: Measured) -> str:
    told = _facts(role)
    if told["coded"] < _SOME or told["quality"] is None:
        return "no JPEG"
    low, high = told["quality"]
    quality = f"{low}" if low == high else f"{low} to {high}"
    share = "" if told["coded"] > _MOST else f"{told['coded']:.2g} of the tiles "
    colour = ", colour halved" if (told["colour_halved"] or 0) > 1 / 2 else ""
    return f"{share}JPEG of quality {quality}{colour}"


def _scale(role: Measured) -> str:
    return f"{np.nanmedian(role.scales):.3g}"


def _done(step: Step) -> str:
    done = [
        f"coded as JPEG of quality {coding.quality}"
        f"{', colour halved,' if coding.sampling != '4:4:4' else ''} at {side} pixels"
        for side, coding in step.codings
    ]
    if step.detail < step.side:
        done.append(f"reduced to {step.detail} pixels and enlarged again")
    return " and ".join(done)

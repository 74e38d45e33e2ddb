"""What `privgen data check` shows a person."""

from collections.abc import Mapping
from typing import Literal

from privgen import console
from privgen.datacheck.document import (
    SIDES,
    CheckDocument,
    FirstPairs,
    FirstStrays,
    GivenSplit,
    Near,
    PairDict,
    Recovery,
    SharedPixels,
    Size,
)

_FIGURES: tuple[Literal["recall", "precision"], ...] = ("recall", "precision")


def print_check(result: CheckDocument) -> None:
    """Show the document of a check (`privgen.datacheck.check.Check`)."""
    unit = result["group_unit"].replace("_", " ")
    console.note(f"{result['tiles']} tiles, {result['groups']} {unit}s: {result['layout']}")
    _counts("Classes", "class", unit, result["classes"])
    if result["split"]:
        _counts("Default split (seed 0)", "role", unit, result["split"])
    repeated = result["repeated"]
    console.note(
        f"equal tiles: {repeated['within_group']} pairs within a {unit}, "
        f"{repeated['across_groups']} across {unit}s, {repeated['across_classes']} across classes"
    )
    blank = result["featureless"]
    if blank["tiles"]:
        console.note(f"featureless tiles, which tie nobody: {blank['tiles']}")
    _overlap(result["overlap"], unit)
    if result["roles"] is not None:
        _roles(result["roles"])
    if result["near"] is not None:
        _near(result["near"], unit)
    if result["skipped"]:
        console.warn(f"{len(result['skipped'])} files skipped")
        for item in result["skipped"][:10]:
            console.note(f"  {item['path']}: {item['rule']}")
    for warning in result["warnings"]:
        console.warn(warning)


def _overlap(overlap: SharedPixels, unit: str) -> None:
    """Say which tiles share pixels, and what the default split does with them."""
    if overlap["pairs"] is None:
        console.note(
            "tiles that share pixels on their slide: unknown, no tile's place is known (slide, x "
            "and y)"
        )
        return
    pairs = overlap["pairs"]
    text = (
        f"tiles that share pixels on their slide: {pairs['within_group']} pairs within a {unit}, "
        f"{pairs['across_groups']} across {unit}s, {pairs['across_classes']} across classes"
    )
    if overlap["tiles"]:
        text += (
            f"; {overlap['tiles']} tiles have up to {overlap['largest']:.0%} of their pixels in "
            f"common with another, typically {overlap['covered']:.0%} with all others together"
        )
    if overlap["unknown"]:
        text += f"; unknown for {overlap['unknown']} tiles without a place"
    console.note(text)
    if overlap["parted"] is not None:
        console.note(f"pairs that share pixels and are parted by the split: {overlap['parted']}")


_SHARED = {
    "patients": "patients",
    "slides": "slides",
    "source_images": "source images",
    "alike": "names that differ only in case, leading zeros or signs",
    "equal": "pictures, pixel for pixel,",
    "overlapping": "pairs of tiles that share pixels",
    "near": "pairs of near-duplicates",
}


def _roles(roles: GivenSplit) -> None:
    """Say what the split that the manifest brings has on several sides."""
    sizes = ", ".join(f"{role} {count}" for role, count in roles["tiles"].items())
    without = f", without a role {roles['without']}" if roles["without"] else ""
    console.note(f"the manifest's own split: {sizes}{without}")
    counts = [
        f"{'unknown' if roles['shared'][key] is None else roles['shared'][key]} {words}"
        for key, words in _SHARED.items()
    ]
    console.note(f"in several of its roles: {'; '.join(counts)}")


def _counts(title: str, first: str, unit: str, counts: Mapping[str, Size]) -> None:
    rows = [[name, str(each["tiles"]), str(each["groups"])] for name, each in counts.items()]
    console.table(title, [first, "tiles", f"{unit}s"], rows)


def _near(near: Near, unit: str) -> None:
    console.table(
        "Pairs that show the same tissue",
        ["kind", f"within a {unit}", f"across {unit}s", "across classes"],
        [[kind, *(str(count[side]) for side in SIDES)] for kind, count in near["pairs"].items()],
    )
    if near["recall"] is not None:
        recall = near["recall"]
        console.note(
            f"approximate search: it lists {recall['value']:.1%} of the first exact candidates "
            f"(95 % CI {recall['low']:.1%} to {recall['high']:.1%}, {recall['n']} tiles)"
        )
    if near["recovery"] is not None:
        _recovery(near["recovery"], unit)
    _disagreements(near["disagreements"], unit)
    if near["strays"] is not None:
        _strays(near["strays"], unit)


def _recovery(recovery: Recovery, unit: str) -> None:
    figures = ", ".join(
        f"{name} {'none' if recovery[name] is None else format(recovery[name], '.4f')}"
        for name in _FIGURES
    )
    console.note(
        f"{unit}s recovered from pixels alone, as tiles joined by near-duplicates: pairwise "
        f"{figures} ({recovery['both']} pairs of {recovery['known']} known and "
        f"{recovery['found']} found)"
    )


def _disagreements(found: FirstPairs, unit: str) -> None:
    if found["count"] == 0:
        return
    console.table(
        f"Pairs to look at: {found['count']}",
        ["tiles", f"{unit}s", "what they are", "evidence"],
        [
            [
                "\n".join(pair["tiles"]),
                _owners(pair),
                f"{pair['kind']}\n{pair['shared']:.0%} shared",
                f"{pair['inliers']} inliers\nagree {pair['agreement']:.2f}",
            ]
            for pair in found["first"]
        ],
    )
    _more(found)


def _owners(pair: PairDict) -> str:
    """Groups of the two tiles; with their labels where these contradict."""
    if not pair["crosses_classes"]:
        return "\n".join(pair["groups"])
    return "\n".join(
        f"{group} ({label})" for group, label in zip(pair["groups"], pair["labels"], strict=True)
    )


def _strays(found: FirstStrays, unit: str) -> None:
    if found["count"] == 0:
        return
    console.table(
        f"Tiles that match no other tile of their {unit}: {found['count']}",
        ["tile", unit, "tiles in it", "matches"],
        [
            [
                each["tile"],
                each["group"],
                str(each["tiles_in_group"]),
                ", ".join(each["matches"]) or "none",
            ]
            for each in found["first"]
        ],
    )
    _more(found)
    console.note("look at them: a wrong name, or a tile stretched or blurred beyond matching")


def _more(found: FirstPairs | FirstStrays) -> None:
    hidden = found["count"] - len(found["first"])
    if hidden:
        console.note(f"and {hidden} more")

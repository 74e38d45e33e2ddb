"""What the reader of a figure has to know about how its tiles were read.

Whatever was joined, guessed or left out is counted and said. A report is for sharing, so what
stands there names no file and no person; the person at the console also gets an example.
"""

from collections.abc import Mapping

import numpy as np

from audits.patients import alike_within
from privgen import console
from privgen.data.owners import Remark
from privgen.data.tileset import TileSet


def cautions(tiles: TileSet) -> list[Remark]:
    """Everything to be said of one set, before it is split."""
    return [*tiles.remarks, *_alike(tiles), *_blank(tiles)]


def by_role(roles: Mapping[str, TileSet]) -> list[str]:
    """What was left out or guessed in the roles of an audit, one line each; it names nobody.

    Examples go to the console. Names that are alike and blank tiles are the audit's own to tell.

    Args:
      roles: tiles by role; roles of one set share its remarks.
    """
    found: dict[Remark, list[str]] = {}
    for role, tiles in roles.items():
        for remark in (*tiles.remarks, *_skipped(tiles)):
            found.setdefault(remark, []).append(role)
    for remark, where in found.items():
        if remark.first:
            console.warn(f"{', '.join(where)}: {remark}.")
    return [f"{', '.join(where)}: {remark.what}." for remark, where in found.items()]


def _skipped(tiles: TileSet) -> list[Remark]:
    if not tiles.skipped:
        return []
    what = f"files that could not be used, left out: {len(tiles.skipped)}"
    return [Remark(what=what, first=tiles.skipped[0][0])]


def _alike(tiles: TileSet) -> list[Remark]:
    """A remark where groups may be one person, written differently."""
    groups = [] if tiles.group_unit == "tile" else alike_within(np.unique(tiles.groups))
    if not groups:
        return []
    unit = tiles.group_unit.replace("_", " ")
    return [
        Remark(
            what=f"{sum(map(len, groups))} {unit}s have names that differ only in case, leading "
            f"zeros or signs from another's, and are kept on one side of a split. Write one {unit} "
            "one way, or rename those who differ",
            first=" / ".join(groups[0]),
        )
    ]


def _blank(tiles: TileSet) -> list[Remark]:
    """A remark where equal tiles of several groups tie nobody, because they show nothing."""
    blank = np.flatnonzero(tiles.featureless)
    owners = set(zip(tiles.digests[blank].tolist(), tiles.groups[blank].tolist(), strict=True))
    shared = len(owners) - len({digest for digest, _ in owners})
    if tiles.group_unit == "tile" or not shared:
        return []
    unit = tiles.group_unit.replace("_", " ")
    return [
        Remark(
            what=f"{len(blank)} tiles are featureless (near-constant), and some are equal in "
            f"several {unit}s: blank glass ties nobody"
        )
    ]

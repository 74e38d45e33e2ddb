"""Near-duplicates against what a manifest says: who shares tissue across groups and classes?

Three things can be wrong. Tiles of different groups or classes show the same tissue: a split by
group leaks, or labels contradict one another. A tile matches none of the other tiles of its group:
it may stand in the wrong one, or be altered beyond what alignment follows (LC25000 has crops that
are stretched to twice their width). And where groups are source images whose tiles are all
versions of one picture, the groups can be recovered from the pixels alone and compared with the
manifest's, pair by pair.

Two tiles count as recovered when a chain of near-duplicates joins them (`Duplicates.pictures`).
Overlapping fields join nothing there: they are neighbours on a slide, not one picture.
"""

from dataclasses import dataclass
from typing import TypedDict, Unpack

import numpy as np
from numpy.typing import NDArray

from privgen.copysearch.searching import Searched
from privgen.data.tileset import TileSet
from privgen.datacheck.document import ACROSS, Crossed, PairDict, Recovery, StrayDict
from privgen.datacheck.duplicates import Duplicates, align_all, pairs_within, shared_field

NEAR, FIELD = "near-duplicate", "overlapping field"
BY_CHAIN, NOT_MATCHED = "joined by a chain", "not matched"
"""What a listed pair is; the last two are pairs on which only the recovered groups disagree."""

Ints = NDArray[np.intp]


class Laid(TypedDict, total=False):
    """How one tile of a pair lies on the other."""

    mirrored: bool
    rotation: float
    scale: float


@dataclass(frozen=True, kw_only=True)
class Kinship:
    """What was found, against what the manifest says.

    Attributes:
      counts: for `NEAR` and `FIELD`, pairs within_group, across_groups and across_classes (a pair
        may stand in both of the first and the last).
      pairs: one row per pair, ready to be listed: kind, tiles, groups, labels (two each), inliers,
        agreement, shared, mirrored, rotation, scale (None where nothing aligns), crosses_groups,
        crosses_classes, disagrees. Disagreements come first, the plainest foremost.
      strays: tiles of a group of several that match none of them: tile, group, tiles_in_group,
        matches (other groups it shares tissue with). None where a group's tiles need not match.
      recovery: known, found and both (pairs of tiles), recall, precision; None likewise.
    """

    counts: dict[str, Crossed]
    pairs: list[PairDict]
    strays: list[StrayDict] | None
    recovery: Recovery | None

    @property
    def disagreements(self) -> list[PairDict]:
        """Pairs a split by group would part, whose labels differ, or that were not recovered."""
        return [pair for pair in self.pairs if pair["disagrees"]]

    @property
    def crosses(self) -> bool:
        """Whether tiles of different groups or classes show the same tissue."""
        return any(count[side] for count in self.counts.values() for side in ACROSS)


def compare(tiles: TileSet, found: Duplicates, searched: Searched) -> Kinship:
    """Hold what was found against the groups and classes of the set.

    Groups are taken for versions of one picture when they are source images in which no tile has a
    place of its own (x, y); only then are strays and recovery given.

    Args:
      tiles: n tiles.
      found: their near-duplicates.
      searched: the same tiles, to measure pairs the manifest names and the search did not find.
    """
    pairs = found.pairs
    crosses_groups = tiles.groups[pairs[:, 0]] != tiles.groups[pairs[:, 1]]
    crosses_classes = tiles.labels[pairs[:, 0]] != tiles.labels[pairs[:, 1]]
    counts: dict[str, Crossed] = {
        kind: {
            "within_group": int((chosen & ~crosses_groups).sum()),
            "across_groups": int((chosen & crosses_groups).sum()),
            "across_classes": int((chosen & crosses_classes).sum()),
        }
        for kind, chosen in ((NEAR, found.near), (FIELD, ~found.near))
    }
    rows = [
        _row(
            tiles,
            pairs[j],
            kind=NEAR if found.near[j] else FIELD,
            inliers=found.inliers[j],
            agreement=found.agreements[j],
            shared=found.shared[j],
            mirrored=bool(found.mirrored[j]),
            rotation=round(float(found.rotations[j]), 1),
            scale=round(float(found.scales[j]), 3),
        )
        for j in range(len(found))
    ]
    strays = recovery = None
    if _versions(tiles):
        known = np.unique(tiles.groups, return_inverse=True)[1]
        rows += _disputed(tiles, found, searched, known)
        strays, recovery = _strays(tiles, found), _recovery(known, found.pictures)
        apart = found.pictures[pairs[:, 0]] != found.pictures[pairs[:, 1]]
        for j in np.flatnonzero(apart):
            rows[j]["disagrees"] = True
    rows.sort(
        key=lambda row: (
            not row["disagrees"],
            not row["crosses_classes"],
            (NEAR, FIELD, BY_CHAIN, NOT_MATCHED).index(row["kind"]),
            -row["inliers"],
        )
    )
    return Kinship(counts=counts, pairs=rows, strays=strays, recovery=recovery)


def _versions(tiles: TileSet) -> bool:
    placed = any(record.x is not None for record in tiles.records)
    return tiles.group_unit == "source_image" and not placed


def _row(
    tiles: TileSet,
    pair: Ints,
    *,
    kind: str,
    inliers: int,
    agreement: float,
    shared: float,
    **how: Unpack[Laid],
) -> PairDict:
    """One pair, ready to be listed."""
    groups = [str(tiles.groups[row]) for row in pair]
    labels = [str(tiles.labels[row]) for row in pair]
    across, contradict = groups[0] != groups[1], labels[0] != labels[1]
    return {
        "kind": kind,
        "tiles": [tiles.records[row].path for row in pair],
        "groups": groups,
        "labels": labels,
        "inliers": int(inliers),
        "agreement": round(float(agreement), 3),
        "shared": round(float(shared), 3),
        "mirrored": how.get("mirrored"),
        "rotation": how.get("rotation"),
        "scale": how.get("scale"),
        "crosses_groups": across,
        "crosses_classes": contradict,
        "disagrees": across or contradict or kind == NOT_MATCHED,
    }


def _disputed(tiles: TileSet, found: Duplicates, searched: Searched, known: Ints) -> list[PairDict]:
    """Pairs on which recovered and known groups disagree without a proof of their own, aligned."""
    chained = pairs_within(found.pictures, but=found.pairs)
    chained = chained[known[chained[:, 0]] != known[chained[:, 1]]]
    alike = pairs_within(known, but=found.pairs)
    alike = alike[found.pictures[alike[:, 0]] != found.pictures[alike[:, 1]]]
    rows = []
    for kind, pairs in ((BY_CHAIN, chained), (NOT_MATCHED, alike)):
        measured = align_all(searched, pairs, title="aligning disputed pairs")
        shared = shared_field(measured)
        rows += [
            _row(
                tiles,
                pair,
                kind=kind,
                inliers=measured.inliers[j],
                agreement=measured.agreements[j],
                shared=shared[j],
            )
            for j, pair in enumerate(pairs)
        ]
    return rows


def _strays(tiles: TileSet, found: Duplicates) -> list[StrayDict]:
    """Tiles of a group of several that match none of them."""
    groups, sizes = np.unique(tiles.groups, return_counts=True)
    size = dict(zip(groups.tolist(), sizes.tolist(), strict=True))
    kin: list[set[str]] = [set() for _ in range(len(tiles))]
    for first, second in found.pairs:
        kin[first].add(str(tiles.groups[second]))
        kin[second].add(str(tiles.groups[first]))
    return [
        {
            "tile": record.path,
            "group": str(group),
            "tiles_in_group": size[str(group)],
            "matches": sorted(kin[row]),
        }
        for row, (record, group) in enumerate(zip(tiles.records, tiles.groups, strict=True))
        if size[str(group)] > 1 and str(group) not in kin[row]
    ]


def _recovery(known: Ints, pictures: Ints) -> Recovery:
    """Pairs of one known group, pairs of one recovered picture, and what they have in common."""
    both = _pairs(np.unique(np.stack([known, pictures]), axis=1, return_inverse=True)[1].ravel())
    of_group, of_picture = _pairs(known), _pairs(pictures)
    return {
        "known": of_group,
        "found": of_picture,
        "both": both,
        "recall": both / of_group if of_group else None,
        "precision": both / of_picture if of_picture else None,
    }


def _pairs(family: Ints) -> int:
    sizes = np.bincount(family)
    return int((sizes * (sizes - 1) // 2).sum())

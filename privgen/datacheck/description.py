"""What a tile set is, and what would make a split of it worthless.

Two equal tiles in different patients put the same pixels on both sides of a split, and so do two
tiles that were cut from a slide with overlap; classes that come from few patients make every
classifier's figure a figure about those patients. Only equal pixels and known places are looked at
here; `privgen.datacheck.duplicates` finds tiles that merely show the same tissue. Featureless tiles
are counted apart: blank glass is equal in everybody and says nothing of whose it is.

A split is not taken at its word: the pairs that it parts are counted, for the default split and for
one that a manifest brings (`role`).
"""

from collections import Counter, defaultdict

import numpy as np
from numpy.typing import NDArray

from privgen.data.overlap import Overlap, find_overlap
from privgen.data.remarks import cautions
from privgen.data.splits import split_by_patient
from privgen.data.tileset import TileSet
from privgen.datacheck.document import (
    ACROSS,
    Crossed,
    GivenSplit,
    SetDescription,
    SharedPixels,
    Size,
)
from privgen.errors import SplitError

Names = NDArray[np.str_]

_FEW_PATIENTS = 5
_NAMED = 9
"""Most classes of few patients that have a warning each."""


def describe_set(tiles: TileSet, *, tied: NDArray[np.intp] | None = None) -> SetDescription:
    """Say what a tile set is.

    Args:
      tiles: the set.
      tied: pairs of tiles that show the same tissue, kept together by the split, shape (k, 2).

    Returns:
      JSON-able: layout, group_unit, tiles, groups, classes (tiles and groups of each), split
      (tiles and groups of each role with the default shares, or None), skipped, warnings and
      - repeated: pairs of equal tiles within and across groups and across classes, featureless
        tiles left out;
      - featureless: near-constant tiles, and pairs of equal ones across groups or classes;
      - overlap: pairs of tiles that share pixels, likewise; tiles concerned; largest share of a
        tile that lies in another, and covered, the median share that lies in all others together;
        pairs parted by the default split; tiles whose place is unknown. Figures are None where no
        place is known, parted also without a split;
      - roles: tiles of each role in the manifest's own split, tiles without one, and what several
        roles share; None where the manifest names none.
    """
    textured = np.flatnonzero(~tiles.featureless)
    repeated = _repeated(tiles, textured)
    blank = _repeated(tiles, np.flatnonzero(tiles.featureless))
    graph = find_overlap(tiles.records)
    sides, refusal = _default_split(tiles, tied)
    overlap = _overlap(tiles, graph, sides)
    roles = _roles(tiles, graph, tied)
    classes = _classes(tiles)
    return {
        "layout": tiles.layout,
        "group_unit": tiles.group_unit,
        "tiles": len(tiles),
        "groups": len(np.unique(tiles.groups)),
        "classes": classes,
        "repeated": repeated,
        "featureless": {
            "tiles": len(tiles) - len(textured),
            "across_groups": blank["across_groups"],
            "across_classes": blank["across_classes"],
        },
        "overlap": overlap,
        "split": None if sides is None else _counted(tiles, sides),
        "roles": roles,
        "skipped": [{"path": path, "rule": rule} for path, rule in tiles.skipped],
        "warnings": [
            *(f"{remark}." for remark in cautions(tiles)),
            *_warnings(tiles, classes, repeated, refusal),
            *_overlap_warnings(tiles, overlap, roles),
        ],
    }


def _classes(tiles: TileSet) -> dict[str, Size]:
    """Tiles and groups of each class."""
    counts = Counter(tiles.labels.tolist())
    both = zip(tiles.labels.tolist(), tiles.groups.tolist(), strict=True)
    groups = Counter(label for label, _ in set(both))
    return {label: {"tiles": counts[label], "groups": groups[label]} for label in tiles.classes}


def leaks(document: SetDescription) -> bool:
    """Whether a described set has the same pixels in several groups, classes or roles.

    Args:
      document: as `describe_set` returns it.
    """
    overlap, roles = document["overlap"], document["roles"]
    counts: list[int | None] = [document["repeated"][side] for side in ACROSS]
    counts += [] if overlap["pairs"] is None else [overlap["pairs"][side] for side in ACROSS]
    counts += [] if roles is None else roles["shared"].values()
    return any([*counts, overlap["parted"]])


def _repeated(tiles: TileSet, rows: NDArray[np.intp]) -> Crossed:
    """Pairs of tiles with equal pixels, of those in `rows`, by what they cross."""
    digests, groups, labels = tiles.digests[rows], tiles.groups[rows], tiles.labels[rows]

    def pairs(*columns: Names) -> int:
        counts = Counter(zip(*map(np.ndarray.tolist, columns), strict=True)).values()
        return sum(count * (count - 1) // 2 for count in counts)

    every = pairs(digests)
    within = pairs(digests, groups)
    return {
        "within_group": within,
        "across_groups": every - within,
        "across_classes": every - pairs(digests, labels),
    }


def _overlap(tiles: TileSet, graph: Overlap, sides: Names | None) -> SharedPixels:
    if graph.unknown == len(tiles):
        return {
            "pairs": None,
            "tiles": None,
            "largest": None,
            "covered": None,
            "parted": None,
            "unknown": graph.unknown,
        }
    across = _differ(tiles.groups, graph.pairs)
    return {
        "pairs": {
            "within_group": len(graph.pairs) - across,
            "across_groups": across,
            "across_classes": _differ(tiles.labels, graph.pairs),
        },
        "tiles": len(np.unique(graph.pairs)),
        "largest": graph.largest,
        "covered": graph.covered(),
        "parted": None if sides is None else _differ(sides, graph.pairs),
        "unknown": graph.unknown,
    }


def _differ(names: Names, pairs: NDArray[np.intp]) -> int:
    """Pairs of tiles whose names differ."""
    return int((names[pairs[:, 0]] != names[pairs[:, 1]]).sum())


def _default_split(tiles: TileSet, tied: NDArray[np.intp] | None) -> tuple[Names | None, str]:
    """Role of each tile in the default split, shape (n,); None and the reason where none is."""
    try:
        roles = split_by_patient(tiles, tied, seed=0).roles()
    except SplitError as error:
        return None, str(error)
    sides = np.empty(len(tiles), dtype=f"<U{max(map(len, roles))}")
    for role, rows in roles.items():
        sides[rows] = role
    return sides, ""


def _counted(tiles: TileSet, sides: Names) -> dict[str, Size]:
    return {
        role: {
            "tiles": int((sides == role).sum()),
            "groups": len(np.unique(tiles.groups[sides == role])),
        }
        for role in ("train", "siblings", "holdout", "reference")
    }


def _roles(tiles: TileSet, graph: Overlap, tied: NDArray[np.intp] | None) -> GivenSplit | None:
    """What the roles that the manifest names share; None where it names none.

    As everywhere, siblings may share patients, slides and source images with train, and nothing
    else. Tiles without a role are on no side.
    """
    roles = np.array([record.role or "" for record in tiles.records], dtype=np.str_)
    given = roles != ""
    if not given.any():
        return None
    shared: dict[str, int | None] = {}
    merged = np.where(roles == "siblings", "train", roles)
    for unit in ("patient", "slide", "source_image"):
        names = [getattr(record, unit) for record in tiles.records]
        known = given & np.array([name is not None for name in names])
        shared[f"{unit}s"] = (
            _in_several(np.array(names)[known], merged[known]) if known.any() else None
        )
    shared["alike"] = None if tiles.group_unit == "tile" else _alike(tiles, given, merged)
    told = given & ~tiles.featureless
    shared["equal"] = _in_several(tiles.digests[told], roles[told])
    known_pairs = {
        "overlapping": graph.pairs if graph.unknown < len(tiles) else None,
        "near": tied,
    }
    for kind, pairs in known_pairs.items():
        shared[kind] = None if pairs is None else _differ(roles, pairs[given[pairs].all(axis=1)])
    return {
        "tiles": {role: int((roles == role).sum()) for role in np.unique(roles[given]).tolist()},
        "without": int((~given).sum()),
        "shared": shared,
    }


def _alike(tiles: TileSet, given: NDArray[np.bool_], roles: Names) -> int:
    """How many names stand in more than one role if those that are alike are one."""
    written: dict[str, set[str]] = defaultdict(set)
    for key, group in zip(tiles.alike[given].tolist(), tiles.groups[given].tolist(), strict=True):
        written[key].add(group)
    several = np.array([len(written.get(key, ())) > 1 for key in tiles.alike.tolist()])
    return _in_several(tiles.alike[given & several], roles[given & several])


def _in_several(names: Names, roles: Names) -> int:
    """How many names stand in more than one role."""
    seen: dict[str, set[str]] = defaultdict(set)
    for name, role in zip(names.tolist(), roles.tolist(), strict=True):
        seen[name].add(role)
    return sum(len(each) > 1 for each in seen.values())


def _warnings(
    tiles: TileSet, classes: dict[str, Size], repeated: Crossed, refusal: str
) -> list[str]:
    warnings = []
    if tiles.group_unit != "patient":
        warnings.append(
            f"no patients known: the {tiles.group_unit} is the unit of splits and tests, and one "
            "patient may stand on both sides. Add a manifest.csv with a patient column."
        )
    few = [label for label, counts in classes.items() if counts["groups"] < _FEW_PATIENTS]
    if tiles.group_unit == "tile":
        few = []
    if len(few) > _NAMED:
        warnings.append(
            f"{len(few)} of {len(classes)} classes come from fewer than {_FEW_PATIENTS} "
            f"{tiles.group_unit}s (first: {few[0]}): what a model learns of them is what those "
            "look like."
        )
        few = []
    for label in few:
        warnings.append(
            f"class {label} comes from {classes[label]['groups']} {tiles.group_unit}s only: what a "
            "model learns of it is what they look like."
        )
    if repeated["across_groups"]:
        warnings.append(
            f"{repeated['across_groups']} pairs of equal tiles belong to different "
            f"{tiles.group_unit}s: correct the manifest, or remove one of each."
        )
    if repeated["across_classes"]:
        warnings.append(
            f"{repeated['across_classes']} pairs of equal tiles carry different labels: "
            "relabel them."
        )
    if refusal:
        warnings.append(f"no patient-disjoint split: {refusal}")
    return warnings


def _overlap_warnings(tiles: TileSet, overlap: SharedPixels, roles: GivenSplit | None) -> list[str]:
    warnings = []
    pairs = overlap["pairs"]
    if pairs and pairs["across_groups"]:
        warnings.append(
            f"{pairs['across_groups']} pairs of tiles share pixels across {tiles.group_unit}s: "
            "group by what is coarser, or cut again without overlap."
        )
    if pairs and pairs["across_classes"]:
        warnings.append(
            f"{pairs['across_classes']} pairs of tiles share pixels and carry different labels: "
            "look whether both can be right."
        )
    if overlap["parted"]:
        warnings.append(f"the default split parts {overlap['parted']} pairs that share pixels.")
    if roles is not None:
        shared = [f"{what} {count}" for what, count in roles["shared"].items() if count]
        if shared:
            warnings.append(
                "the manifest's roles are not apart: what several of them share is "
                f"{', '.join(shared)}. What is measured between them means nothing: split anew."
            )
    return warnings

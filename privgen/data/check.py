"""What a tile set is, and what would make a split of it worthless.

Two equal tiles in different patients put the same pixels on both sides of a split; classes that
come from few patients make every classifier's figure a figure about those patients. Only equal
pixels are looked for here; `privgen.evidence.duplicates` finds tiles that merely show the same
tissue.
"""

from collections import Counter, defaultdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from privgen.data.splits import split_by_patient
from privgen.data.tileset import TileSet
from privgen.errors import SplitError

_FEW_PATIENTS = 5


def describe_set(tiles: TileSet, *, tied: NDArray[np.intp] | None = None) -> dict[str, Any]:
    """Say what a tile set is.

    Args:
      tiles: the set.
      tied: pairs of tiles that show the same tissue, kept together by the split, shape (k, 2).

    Returns:
      JSON-able: layout, group_unit, tiles, groups, classes (tiles and groups of each), repeated
      (pairs of equal tiles within and across groups and classes), split (tiles and groups of each
      role with the default shares, or None), skipped, warnings.
    """
    repeated = _repeated(tiles)
    split, refusal = _default_split(tiles, tied)
    classes = {
        label: {
            "tiles": int((tiles.labels == label).sum()),
            "groups": len(np.unique(tiles.groups[tiles.labels == label])),
        }
        for label in tiles.classes
    }
    return {
        "layout": tiles.layout,
        "group_unit": tiles.group_unit,
        "tiles": len(tiles),
        "groups": len(np.unique(tiles.groups)),
        "classes": classes,
        "repeated": repeated,
        "split": split,
        "skipped": [{"path": path, "rule": rule} for path, rule in tiles.skipped],
        "warnings": _warnings(tiles, classes, repeated, refusal),
    }


def _repeated(tiles: TileSet) -> dict[str, int]:
    """Pairs of tiles with equal pixels, by what they cross."""
    where: dict[str, list[int]] = defaultdict(list)
    for row, digest in enumerate(tiles.digests):
        where[str(digest)].append(row)
    pairs = Counter({"within_group": 0, "across_groups": 0, "across_classes": 0})
    for rows in where.values():
        for position, first in enumerate(rows):
            for second in rows[position + 1 :]:
                same = tiles.groups[first] == tiles.groups[second]
                pairs["within_group" if same else "across_groups"] += 1
                pairs["across_classes"] += bool(tiles.labels[first] != tiles.labels[second])
    return dict(pairs)


def _default_split(
    tiles: TileSet, tied: NDArray[np.intp] | None
) -> tuple[dict[str, dict[str, int]] | None, str]:
    try:
        roles = split_by_patient(tiles, tied, seed=0).roles()
    except SplitError as error:
        return None, str(error)
    described = {
        role: {"tiles": len(rows), "groups": len(np.unique(tiles.groups[rows]))}
        for role, rows in roles.items()
    }
    return described, ""


def _warnings(
    tiles: TileSet, classes: dict[str, dict[str, int]], repeated: dict[str, int], refusal: str
) -> list[str]:
    warnings = []
    if tiles.group_unit != "patient":
        warnings.append(
            f"no patients known: the {tiles.group_unit} is the unit of splits and tests, and one "
            "patient may stand on both sides. Add a manifest.csv with a patient column."
        )
    for label, counts in classes.items():
        if counts["groups"] < _FEW_PATIENTS and tiles.group_unit != "tile":
            warnings.append(
                f"class {label} comes from {counts['groups']} {tiles.group_unit}s only: what a "
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

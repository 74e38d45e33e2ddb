"""`privgen data check`: what a tile set is, and whether a split of it can be trusted.

Real tiles are searched among themselves as the audit searches synthetic ones: tiles that show the
same tissue under different patients, slides or labels make every split and every figure worthless,
and so do tiles cut with overlap when a split parts them. Where there are any, a split that keeps
them together is offered.

Nothing here is kept unless a folder is given. What is written there names tiles and patients and is
private (mode 0600).
"""

import csv
import io
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from privgen import console
from privgen.choices import Icc, OnBadTile
from privgen.data.layouts import is_manifest, open_tiles
from privgen.data.owners import GroupUnit
from privgen.data.splits import split_by_patient, units
from privgen.data.tileset import TileSet
from privgen.datacheck.description import describe_set, leaks
from privgen.datacheck.document import CheckDocument, Near, PairDict
from privgen.datacheck.duplicates import Duplicates, look_at, near_duplicates
from privgen.datacheck.kinship import FIELD, NEAR, Kinship, compare
from privgen.encoders.loading import Encoder, load_encoder
from privgen.errors import ConfigError, SplitError
from privgen.files import PRIVATE, atomic_write, empty_folder

SHOWN = 20
"""Most disagreements that are shown; a folder gets all of them."""

PAIRS_FILE, MANIFEST_FILE = "near_duplicates.csv", "manifest.csv"

_PILOT = 16
"""Tiles that are looked at to learn how fast this machine is at the moment."""

_SEARCHED_AS_LOOKED = 580
"""Tiles of a set whose search among themselves takes as long as looking at them: measured on 100 to
700 tiles, where the search grew with the square of their number."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One finished check.

    Attributes:
      document: JSON-able. What `describe_set` says, and `near` (None where it was not searched):
        pairs by kind and what they cross, disagreements and strays (count, and the first 20 of
        each), recovery, featureless tiles, recall of an approximate search.
      tiles: the set.
      found: its near-duplicates.
      kinship: these against groups and classes, for `write`.
    """

    document: CheckDocument
    tiles: TileSet = field(repr=False)
    found: Duplicates | None = field(default=None, repr=False)
    kinship: Kinship | None = field(default=None, repr=False)

    @property
    def exit_code(self) -> int:
        """1 where tiles of different groups, classes or roles show the same tissue, else 0."""
        found = self.kinship is not None and self.kinship.crosses
        return int(leaks(self.document) or found)

    def write(self, folder: Path) -> None:
        """Write the pairs and the manifest of a split that parts none of them, mode 0600.

        near_duplicates.csv has a row per pair. manifest.csv has the tiles' rows; its group column
        holds the unit that may not be parted, named after one of its groups (for tiles without
        groups the column is source_image), and beside it stand group_before and role, that of the
        default split. Put beside the tiles it makes every command group by that unit.

        Raises:
          OutputError, DiskFullError: it cannot be written.
        """
        assert self.found is not None
        assert self.kinship is not None
        _write_pairs(folder / PAIRS_FILE, self.kinship.pairs)
        _joined(self.tiles, self.found).write_manifest(
            folder / MANIFEST_FILE,
            extra={
                "group_before": [str(group) for group in self.tiles.groups],
                "role": _roles(self.tiles, self.found),
            },
            mode=PRIVATE,
        )


def check_tiles(
    folder: Path,
    *,
    group_by: str | None = None,
    on_bad_tile: OnBadTile = "error",
    icc: Icc = "ignore",
    quick: bool = False,
    approximate: bool = False,
    encoder: str = "effnet_lite0",
    out: Path | None = None,
) -> Check:
    """Open a tile set, describe it, and find the tiles that show the same tissue.

    Args:
      folder: class folders, a manifest or an `.npz`.
      group_by: column that names the patient.
      on_bad_tile: stop at an unusable file, or leave it out and count it.
      icc: as `open_tiles`.
      quick: look for equal pixels only.
      approximate: search an inverted file, for tens of thousands of tiles; its recall is measured.
      encoder: as `encoders.loading.load_encoder`.
      out: empty or new folder for `Check.write`; nothing is written when None.

    Raises:
      ConfigError: a quick check is asked for what only the search can give.
      LayoutError, TileError: the set cannot be opened.
      InputError: all tiles are equal.
      OutputError, DiskFullError: `out` cannot be used.
    """
    if quick and (approximate or out is not None):
        raise ConfigError(
            "a quick check searches no near-duplicates: got "
            f"{'`out`' if out is not None else '`approximate`'} beside `quick`. Leave one out."
        )
    if out is not None:
        empty_folder(out)
    # One class folder is a folder too deep; a manifest of one class says what it means.
    minimum = 1 if is_manifest(folder) else 2
    tiles = open_tiles(
        folder, group_by=group_by, on_bad_tile=on_bad_tile, min_classes=minimum, icc=icc
    )
    if quick:
        return Check(document={**describe_set(tiles), "near": None}, tiles=tiles)
    embed = load_encoder(encoder)
    lasting = _duration(expected_seconds(tiles, embed))
    console.note(
        f"searching {len(tiles)} tiles among themselves: {lasting}; "
        "`quick` looks for equal tiles only"
    )
    searched = look_at(tiles, encoder=embed)
    found = near_duplicates(searched, approximate=approximate)
    kinship = compare(tiles, found, searched)
    described = describe_set(tiles, tied=found.pairs)
    document: CheckDocument = {
        **described,
        "near": _near(found, kinship),
        "warnings": [*described["warnings"], *_warnings(tiles, found, kinship)],
    }
    check = Check(document=document, tiles=tiles, found=found, kinship=kinship)
    if out is not None:
        check.write(out)
    return check


def _near(found: Duplicates, kinship: Kinship) -> Near:
    recall, strays, pairs = found.recall, kinship.strays, kinship.disagreements
    return {
        "pairs": kinship.counts,
        "disagreements": {"count": len(pairs), "first": pairs[:SHOWN]},
        "strays": None if strays is None else {"count": len(strays), "first": strays[:SHOWN]},
        "recovery": kinship.recovery,
        "featureless": int(found.featureless.sum()),
        "recall": None
        if recall is None
        else {"value": recall.value, "low": recall.low, "high": recall.high, "n": recall.n},
    }


def _warnings(tiles: TileSet, found: Duplicates, kinship: Kinship) -> list[str]:
    unit = tiles.group_unit
    warnings = []
    across = sum(count["across_groups"] for count in kinship.counts.values())
    contradict = kinship.counts[NEAR]["across_classes"]
    neighbours = kinship.counts[FIELD]["across_classes"]
    within = kinship.counts[NEAR]["within_group"]
    if across:
        warnings.append(
            f"tiles of different {unit}s show the same tissue ({_pairs(across)}): a split by "
            f"{unit} leaks. `out` FOLDER writes a manifest that keeps them together."
        )
    if contradict:
        warnings.append(
            f"near-duplicates carry different labels ({_pairs(contradict)}): correct the labels."
        )
    if neighbours:
        warnings.append(
            f"overlapping fields carry different labels ({_pairs(neighbours)}): look whether both "
            "can be right."
        )
    if within:
        warnings.append(
            f"near-duplicates lie within a {unit} ({_pairs(within)}): tiles held back from a "
            "training slide would show what was trained on. Train with --siblings 0."
        )
    if found.featureless.any():
        warnings.append(
            f"{int(found.featureless.sum())} tiles have no key points and were not compared."
        )
    return warnings


def _pairs(count: int) -> str:
    return f"{count} pair{'' if count == 1 else 's'}"


def expected_seconds(tiles: TileSet, encoder: Encoder) -> float:
    """Seconds that the search will take, from a few tiles looked at here and now.

    Args:
      tiles: the set.
      encoder: as for `look_at`.

    Returns:
      0 for a set of few tiles, which takes no longer than the trial would.
    """
    _, rows = np.unique(tiles.digests, return_index=True)
    if len(tiles) <= 2 * _PILOT or len(rows) < _PILOT:
        return 0.0
    some = tiles.subset(rows[np.linspace(0, len(rows) - 1, _PILOT).astype(np.intp)])
    start = time.perf_counter()
    look_at(some, encoder=encoder)
    rate = (time.perf_counter() - start) / _PILOT
    return rate * len(tiles) * (1 + len(tiles) / _SEARCHED_AS_LOOKED)


def _duration(seconds: float) -> str:
    return f"about {round(seconds / 60)} min" if seconds > 60 else "less than a minute"


def _roles(tiles: TileSet, found: Duplicates) -> list[str]:
    """Role of each tile in the default split, blank where there is none."""
    roles = [""] * len(tiles)
    try:
        split = split_by_patient(tiles, found.pairs, seed=0)
    except SplitError:
        return roles
    for role, rows in split.roles().items():
        for row in rows:
            roles[row] = role
    return roles


def _joined(tiles: TileSet, found: Duplicates) -> TileSet:
    """The tiles with their units in the place of groups."""
    numbers = units(tiles, found.pairs)
    names: dict[int, str] = {}
    for number, group in sorted(zip(numbers.tolist(), tiles.groups.tolist(), strict=True)):
        names.setdefault(number, group)
    # Versions of one picture are what a source image is.
    unit: GroupUnit = "source_image" if tiles.group_unit == "tile" else tiles.group_unit
    # A unit may reach over what is coarser than the groups that were asked for.
    coarser = ("patient", "slide")[: {"patient": 0, "slide": 1}.get(unit, 2)]
    records = []
    for record, number in zip(tiles.records, numbers.tolist(), strict=True):
        changes: dict[str, Any] = {**dict.fromkeys(coarser), unit: names[number]}
        records.append(replace(record, **changes))
    return replace(tiles, records=tuple(records), group_unit=unit)


def _write_pairs(path: Path, pairs: Sequence[PairDict]) -> None:
    plain = (
        *("kind", "disagrees", "crosses_groups", "crosses_classes"),
        *("inliers", "agreement", "shared", "mirrored", "rotation", "scale"),
    )
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    twice = [f"{name}_{side}" for name in ("tile", "group", "label") for side in "ab"]
    writer.writerow([*twice, *plain])
    for pair in pairs:
        row: Mapping[str, object] = pair
        both = [*pair["tiles"], *pair["groups"], *pair["labels"]]
        writer.writerow([*both, *(row[column] for column in plain)])
    with atomic_write(path, mode=PRIVATE) as stream:
        stream.write(text.getvalue().encode(errors="surrogateescape"))

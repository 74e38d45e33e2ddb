"""Which tile played which part: from a split to a ledger, and back from a ledger to tiles.

The ledger's word counts. Whose a tile is, which class it has and which slide it lies on is taken
from what was written down when training began; what the data set's manifest says today is compared
and the difference said, never used. Otherwise whoever edits a manifest after training decides how
many patients an audit counts.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from privgen.checkpoints.ledger import (
    Ledger,
    LedgerEntry,
)
from privgen.choices import OnBadTile
from privgen.data.canaries import Canaries
from privgen.data.layouts import exists, open_tiles
from privgen.data.owners import GroupUnit
from privgen.data.splits import Split, require_disjoint
from privgen.data.tileset import TileRecord, TileSet
from privgen.errors import InputError

_SIDE = {
    "train": "training",
    "siblings": "training",
    "holdout": "held-out",
    "reference": "held-out",
}
"""Whose tiles a role holds: patients the generator met, or others."""


def ledger_of(
    tiles: TileSet,
    split: Split,
    *,
    parameters: Mapping[str, float],
    group_by: str | None = None,
    on_bad_tile: str = "error",
    canaries: Canaries | None = None,
) -> Ledger:
    """Write down the part of every tile.

    Args:
      tiles: the whole set.
      split: its roles.
      parameters: of the split: seed, holdout, reference, siblings.
      group_by, on_bad_tile: how the set was opened.
      canaries: of the training.
    """
    entries = [
        LedgerEntry(
            role=role,
            path=tiles.records[row].path,
            sha256=str(tiles.digests[row]),
            label=str(tiles.labels[row]),
            group=str(tiles.groups[row]),
            slide=str(tiles.slides[row]),
        )
        for role, rows in split.roles().items()
        for row in rows
    ]
    return Ledger(
        root=None if tiles.source is None else str(tiles.source.resolve()),
        layout=tiles.layout,
        group_unit=tiles.group_unit,
        group_by=group_by,
        on_bad_tile=on_bad_tile,
        icc=tiles.icc,
        split=dict(parameters),
        entries=tuple(entries),
        canaries=canaries,
    )


@dataclass(frozen=True, kw_only=True)
class Matched:
    """A ledger laid on an opened set.

    Attributes:
      roles: tiles of each role, with the labels, groups and slides of the ledger.
      today: the same tiles as the set describes them now.
      differences: what the set says otherwise now; sentences for a report, so without names.
      unlisted: the same of its tiles that the ledger does not name; "" where there are none.
    """

    roles: dict[str, TileSet]
    today: dict[str, TileSet]
    differences: tuple[str, ...]
    unlisted: str

    def require_disjoint_today(self) -> None:
        """Refuse a set that by now puts a patient on both sides: somebody has learned better.

        Raises:
          SplitError: as `splits.require_disjoint`.
        """
        if self.differences:
            require_disjoint(**self.today)


def reopen(ledger: Ledger, data: Path | None = None) -> dict[str, TileSet]:
    """The tiles of each role, after checking that they are the very ones the ledger names.

    Args:
      ledger: from a private checkpoint.
      data: where the set is now; where it was at training when None.

    Raises:
      InputError: the set is gone, or tiles are missing or changed since training.
    """
    return match(ledger, opened_by(ledger, data)).roles


def opened_by(ledger: Ledger, data: Path | None = None) -> TileSet:
    """The whole set of a ledger, opened as it was for training.

    Raises:
      InputError: the set is gone.
    """
    place = data or (None if ledger.root is None else Path(ledger.root))
    if place is None or not exists(place):
        where = "in memory" if place is None else f"at {place}, where nothing is now"
        raise InputError(
            f"the training data were {where}: give `data` with the folder they are in."
        )
    on_bad_tile: OnBadTile = "skip" if ledger.on_bad_tile == "skip" else "error"
    # Which tiles count is the ledger's word, so whatever else lies there by now is none of them.
    return open_tiles(
        place,
        group_by=ledger.group_by,
        on_bad_tile=on_bad_tile,
        min_classes=1,
        whole=False,
        icc="apply" if ledger.icc == "apply" else "ignore",
    )


def match(ledger: Ledger, tiles: TileSet) -> Matched:
    """Pick each role's tiles out of an opened set, by path and by pixels.

    Raises:
      InputError: a tile of the ledger is missing or has other pixels now.
    """
    where = {record.path: row for row, record in enumerate(tiles.records)}
    missing = [entry.path for entry in ledger.entries if entry.path not in where]
    changed = [
        entry.path
        for entry in ledger.entries
        if entry.path in where and tiles.digests[where[entry.path]] != entry.sha256
    ]
    if missing or changed:
        first = (missing or changed)[0]
        raise InputError(
            f"the data are not those of the ledger: of {len(ledger.entries)} tiles {len(missing)} "
            f"are missing, {len(changed)} changed (first: {first}). Give `data` with the original."
        )
    rows: dict[str, list[int]] = {}
    for entry in ledger.entries:
        rows.setdefault(entry.role, []).append(where[entry.path])
    recorded = as_recorded(ledger, tiles)
    return Matched(
        roles={role: recorded.subset(np.array(chosen)) for role, chosen in rows.items()},
        today={role: tiles.subset(np.array(chosen)) for role, chosen in rows.items()},
        differences=tuple(_said_otherwise(ledger, tiles, where)),
        unlisted=_unlisted(ledger, tiles),
    )


def as_recorded(ledger: Ledger, tiles: TileSet) -> TileSet:
    """The set with the ledger's labels, groups and slides; tiles it does not name stay as they are.

    Args:
      ledger: of a training on these tiles.
      tiles: the opened set. Where the ledger's grouping is unknown for a tile that the ledger does
        not name, `groups` of the whole result cannot be had, of parts without it they can.
    """
    entries = {entry.path: entry for entry in ledger.entries}
    unit = cast(GroupUnit, ledger.group_unit)
    records = [
        _recorded(record, entries[record.path], unit) if record.path in entries else record
        for record in tiles.records
    ]
    return replace(tiles, records=tuple(records), group_unit=unit)


def agreed(first: Ledger, *others: Ledger, tiles: TileSet) -> tuple[TileSet, tuple[str, ...]]:
    """One set as several ledgers of trainings on it recorded it.

    Args:
      first, others: the ledgers.
      tiles: the opened set.

    Returns:
      The set, as `as_recorded`; and what it says otherwise now, sentences for a report.

    Raises:
      InputError: tiles are missing or changed, two ledgers contradict each other, or a tile that
        none of them names has no group of their kind.
      SplitError: the set by now puts a patient on both sides of a training.
    """
    merged: dict[str, LedgerEntry] = {}
    for ledger in (first, *others):
        match(ledger, tiles).require_disjoint_today()
        for entry in ledger.entries:
            known = merged.setdefault(entry.path, entry)
            if replace(known, role=entry.role) != entry or ledger.group_unit != first.group_unit:
                raise InputError(
                    "generators that are compared must have been trained on one set: their ledgers "
                    f"contradict each other on {entry.path}, its class, slide or "
                    f"{_noun(ledger.group_unit)}. Give generators of one set."
                )
    whole = replace(first, entries=tuple(merged.values()))
    recorded, said = as_recorded(whole, tiles), match(whole, tiles).differences
    unit = recorded.group_unit
    lost = [r.path for r in recorded.records if unit != "tile" and getattr(r, unit) is None]
    if lost:
        raise InputError(
            f"every tile needs the {_noun(unit)} that the generator's training was split by: "
            f"{len(lost)} tiles that are not in its ledger name none (first: {lost[0]}). Name it "
            "in the manifest, or take them out."
        )
    return recorded, said


def _recorded(record: TileRecord, entry: LedgerEntry, unit: GroupUnit) -> TileRecord:
    said = replace(record, label=entry.label)
    if unit == "patient":
        said = replace(said, patient=entry.group)
    elif unit == "slide":
        said = replace(said, slide=entry.group)
    elif unit == "source_image":
        said = replace(said, source_image=entry.group)
    if entry.slide is None or entry.slide == (said.slide or said.source_image or entry.group):
        return said
    return replace(said, slide=entry.slide)


def _said_otherwise(ledger: Ledger, tiles: TileSet, where: Mapping[str, int]) -> Iterator[str]:
    """What the set says today of the ledger's tiles that the ledger does not."""
    rows = np.array([where[entry.path] for entry in ledger.entries], dtype=np.intp)
    then = [entry.group for entry in ledger.entries]
    unit, known = _noun(ledger.group_unit), len(set(then))
    if tiles.group_unit != ledger.group_unit:
        yield (
            f"The data set groups its tiles by {_noun(tiles.group_unit)} now, the ledger of the "
            f"training by {unit}: the ledger's {known} {unit}s count."
        )
    elif other := _differing(tiles.groups[rows], then):
        now = len(np.unique(tiles.groups[rows]))
        yield (
            f"{other} of {len(rows)} tiles have another {unit} in the data set now than in the "
            f"ledger of the training ({now} {unit}s now, {known} then): the ledger's {unit}s count."
        )
    if other := _differing(tiles.labels[rows], [entry.label for entry in ledger.entries]):
        yield (
            f"{other} of {len(rows)} tiles have another class in the data set now than in the "
            "ledger of the training: the ledger's classes count."
        )
    slides = [entry.slide for entry in ledger.entries]
    if ledger.group_unit not in ("slide", "tile") and (
        other := _differing(tiles.slides[rows], slides)
    ):
        yield (
            f"{other} of {len(rows)} tiles lie on another slide in the data set now than in the "
            "ledger of the training: the ledger's slides count."
        )


def _differing(now: NDArray[np.str_], then: Sequence[str | None]) -> int:
    return sum(
        before is not None and before != after for before, after in zip(then, now, strict=True)
    )


def _noun(unit: str) -> str:
    return unit.replace("_", " ")


def _unlisted(ledger: Ledger, tiles: TileSet) -> str:
    """Tiles of the set that had no part in the training: how many, and whose."""
    listed = {entry.path for entry in ledger.entries}
    rows = [row for row, record in enumerate(tiles.records) if record.path not in listed]
    if not rows:
        return ""
    said = f"{len(rows)} tiles of the data set are not in the ledger of the training"
    if ledger.group_unit == "tile" or tiles.group_unit != ledger.group_unit:
        return f"{said}."
    side = {entry.group: _SIDE[entry.role] for entry in ledger.entries}
    whose = Counter(side.get(str(tiles.groups[row]), "unknown") for row in rows)
    unit = _noun(ledger.group_unit)
    return f"{said}: {', '.join(f'{n} of {who} {unit}s' for who, n in sorted(whose.items()))}."


def compare_given(ledger: Ledger, roles: Mapping[str, TileSet]) -> list[str]:
    """Check tiles that were given role by role against the ledger of the generator's training.

    Args:
      ledger: of the generator that is audited.
      roles: tiles by role, from anywhere; compared by their pixels.

    Returns:
      A sentence where training tiles of the ledger are not among those given.

    Raises:
      InputError: a tile is given in a role that the ledger contradicts.
    """
    part = {entry.sha256: entry.role for entry in ledger.entries}
    for role, tiles in roles.items():
        theirs = Counter(part.get(str(digest), role) for digest in tiles.digests)
        for other, count in theirs.items():
            if _SIDE[other] != _SIDE[role] or (other == "train") != (role == "train"):
                raise InputError(
                    f"the ledger says otherwise: {count} of {len(tiles)} {role} tiles given are "
                    f"its {other} tiles, pixel for pixel. Leave `{role}` out, and the ledger "
                    "finds the tiles; or give the right ones."
                )
    wanted = {entry.sha256 for entry in ledger.entries if entry.role == "train"}
    absent = len(wanted - set(map(str, roles["train"].digests)))
    if not absent:
        return []
    return [
        f"{absent} of {len(wanted)} training tiles of the generator's ledger are not among the "
        "train tiles given, pixel for pixel: copies of those cannot be found."
    ]

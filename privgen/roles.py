"""Which tile played which part: from a split to a ledger, and back from a ledger to tiles."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np

from privgen.data.layouts import open_tiles
from privgen.data.splits import Split
from privgen.data.tileset import TileSet
from privgen.errors import InputError
from privgen.training.state import Ledger, LedgerEntry


def ledger_of(
    tiles: TileSet,
    split: Split,
    *,
    parameters: Mapping[str, float],
    group_by: str | None = None,
    on_bad_tile: str = "error",
) -> Ledger:
    """Write down the part of every tile.

    Args:
      tiles: the whole set.
      split: its roles.
      parameters: of the split: seed, holdout, reference, siblings.
      group_by, on_bad_tile: how the set was opened.
    """
    entries = [
        LedgerEntry(
            role=role,
            path=tiles.records[row].path,
            sha256=str(tiles.digests[row]),
            label=str(tiles.labels[row]),
            group=str(tiles.groups[row]),
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
        split=dict(parameters),
        entries=tuple(entries),
    )


def reopen(ledger: Ledger, data: Path | None = None) -> dict[str, TileSet]:
    """The tiles of each role, after checking that they are the very ones the ledger names.

    Args:
      ledger: from a private checkpoint.
      data: where the set is now; where it was at training when None.

    Raises:
      InputError: the set is gone, or tiles are missing or changed since training.
    """
    return match(ledger, opened_by(ledger, data))


def opened_by(ledger: Ledger, data: Path | None = None) -> TileSet:
    """The whole set of a ledger, opened as it was for training.

    Raises:
      InputError: the set is gone.
    """
    place = data or (None if ledger.root is None else Path(ledger.root))
    if place is None or not place.exists():
        where = "in memory" if place is None else f"at {place}, where nothing is now"
        raise InputError(
            f"the training data were {where}: give --data with the folder they are in."
        )
    on_bad_tile: Literal["error", "skip"] = "skip" if ledger.on_bad_tile == "skip" else "error"
    # Which tiles count is the ledger's word, so whatever else lies there by now is none of them.
    return open_tiles(
        place, group_by=ledger.group_by, on_bad_tile=on_bad_tile, min_classes=1, whole=False
    )


def match(ledger: Ledger, tiles: TileSet) -> dict[str, TileSet]:
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
            f"are missing, {len(changed)} changed (first: {first}). Give --data with the original."
        )
    rows: dict[str, list[int]] = {}
    for entry in ledger.entries:
        rows.setdefault(entry.role, []).append(where[entry.path])
    return {role: tiles.subset(np.array(chosen)) for role, chosen in rows.items()}

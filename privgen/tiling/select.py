"""Thresholds chosen after tiling: the rows of a manifest whose scores pass, as a second manifest.

`privgen tile` keeps every tile's scores beside it, so that a threshold can be tried without cutting
anything again. A selection is a manifest with the same columns beside the first one; the tiles stay
where they are. A limit is inclusive: a tile at the threshold passes.
"""

import math
import stat
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from privgen.data.manifest import SUFFIXES, write_manifest
from privgen.data.tables import PARQUET, Row, reading
from privgen.errors import ConfigError, LayoutError, OutputError

MANIFESTS = ("manifest.csv", "manifest.parquet")

_RULES = {
    "min_tissue": ("tissue", True),
    "max_white": ("white", False),
    "min_sharpness": ("sharpness", True),
    "max_pen": ("pen", False),
    "max_fold": ("fold", False),
}
"""Option, and the score it limits: from below (True) or from above."""

_WHOLE = ("x", "y", "level")
_FRACTIONAL = ("mpp", "xy_mpp", "tissue", "white", "sharpness", "pen", "fold")
_NAMED = 5


class Counts(NamedTuple):
    """Tiles kept and tiles left out."""

    kept: int
    left: int


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What a selection kept and left out.

    Attributes:
      path: the manifest written.
      tiles: all tiles.
      by_class: tiles by label, sorted.
      by_patient: tiles by pseudonym, sorted; "" for tiles without a patient.
      by_rule: tiles that fail each threshold given; a tile may fail several.
      warnings: classes and patients that have no tile left, in words.
    """

    path: Path
    tiles: Counts
    by_class: Mapping[str, Counts]
    by_patient: Mapping[str, Counts]
    by_rule: Mapping[str, int]
    warnings: tuple[str, ...]


def select_tiles(
    folder: Path,
    *,
    out: Path,
    min_tissue: float | None = None,
    max_white: float | None = None,
    min_sharpness: float | None = None,
    max_pen: float | None = None,
    max_fold: float | None = None,
) -> Selection:
    """Write the rows of a tiling's manifest whose scores pass every threshold given.

    Args:
      folder: holds `manifest.csv` or `manifest.parquet`; or that file itself.
      out: the manifest to write, in `folder`, because paths are relative; `.csv` or `.parquet`. It
        is as readable to others as the first one, whose rows and columns keep their order.
      min_tissue, max_white, max_pen, max_fold: shares, 0 to 1; None asks nothing.
      min_sharpness: 0 or more; None asks nothing.

    Raises:
      ConfigError: no threshold is given, one is out of range, or no tile passes them all.
      LayoutError: there is no manifest, or two, or it lacks a score that a threshold needs.
      OutputError: `out` lies elsewhere, has another suffix, or is the tiling's own manifest.
      DiskFullError: as `privgen.files.atomic_write`.
    """
    limits = _checked(
        {
            "min_tissue": min_tissue,
            "max_white": max_white,
            "min_sharpness": min_sharpness,
            "max_pen": max_pen,
            "max_fold": max_fold,
        }
    )
    if folder.name in MANIFESTS:
        folder = folder.parent
    source = _manifest(folder)
    _check_out(folder, out)
    kept: dict[str, list[str]]
    classes: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}
    patients: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}
    failing = Counter(dict.fromkeys(limits, 0))
    try:
        with reading(source) as table:
            _check_columns(source, table.columns, limits)
            kept = {name: [] for name in table.columns}
            for where, row in table.rows:
                where = f"{source.name} {where}"
                cells = _cells(where, row)
                failed = [r for r, limit in limits.items() if _fails(r, limit, cells, where)]
                failing.update(failed)
                classes[not failed][cells["label"]] += 1
                patients[not failed][cells.get("patient", "")] += 1
                if not failed:
                    for name, column in kept.items():
                        column.append(cells[name])
    except OSError as error:
        raise LayoutError(
            f"the manifest {source} cannot be read ({error.strerror or error}). Check it."
        ) from error
    if not classes[True]:
        raise ConfigError(_nothing_left(limits, failing, classes[False].total()))
    write_manifest(out, _typed(kept, out), mode=stat.S_IMODE(source.stat().st_mode))
    by_class, by_patient = _paired(classes), _paired(patients)
    return Selection(
        path=out,
        tiles=Counts(classes[True].total(), classes[False].total()),
        by_class=by_class,
        by_patient=by_patient,
        by_rule=dict(failing),
        warnings=(
            *_gone(by_class, "class", "classes"),
            *_gone({name: n for name, n in by_patient.items() if name}, "patient", "patients"),
        ),
    )


def _checked(given: Mapping[str, float | None]) -> dict[str, float]:
    limits = {rule: limit for rule, limit in given.items() if limit is not None}
    if not limits:
        raise ConfigError(
            f"a selection needs a threshold. Give one of {', '.join(map(_option, _RULES))}."
        )
    for rule, limit in limits.items():
        highest = math.inf if rule == "min_sharpness" else 1.0
        if not (math.isfinite(limit) and 0 <= limit <= highest):
            allowed = "0 or more" if highest > 1 else "from 0 to 1"
            raise ConfigError(f"{_option(rule)} must be {allowed}: got {limit:g}. Correct it.")
    return limits


def _option(rule: str) -> str:
    return f"`{rule}`"


def _manifest(folder: Path) -> Path:
    found = [folder / name for name in MANIFESTS if (folder / name).is_file()]
    if len(found) != 1:
        raise LayoutError(
            f"a folder of tiles holds one of {' and '.join(MANIFESTS)}: {folder} has "
            f"{'both' if found else 'neither'}. "
            + ("Remove the stale one." if found else "Give the folder that privgen tile wrote.")
        )
    return found[0]


def _check_out(folder: Path, out: Path) -> None:
    if out.parent.resolve() != folder.resolve():
        raise OutputError(
            f"a selection stands beside the tiles, because paths are relative to it: {out} is not "
            f"in {folder}. Give a name in that folder."
        )
    if out.suffix.lower() not in SUFFIXES:
        raise OutputError(f"a selection is a .csv or a .parquet: got {out.name}. Rename it.")
    if out.name.casefold() in MANIFESTS:
        raise OutputError(
            f"a selection may not replace the manifest of all tiles: got {out.name}. Give another "
            "name."
        )


def _check_columns(source: Path, columns: list[str], limits: Iterable[str]) -> None:
    for needed in ("label", *(_RULES[rule][0] for rule in limits)):
        if needed not in columns:
            raise LayoutError(
                f"{source.name} has no column {needed}, which the selection needs: it has "
                f"{', '.join(columns)}. Tile again, or leave that threshold out."
            )


def _cells(where: str, row: Row) -> dict[str, str]:
    cells = {name: cell for name, cell in row.items() if name is not None and isinstance(cell, str)}
    if len(cells) < len(row):
        raise LayoutError(f"{where} has more or fewer fields than the header. Correct the row.")
    return cells


def _fails(rule: str, limit: float, cells: Mapping[str, str], where: str) -> bool:
    score, lowest = _RULES[rule]
    value = _number(cells[score])
    if not math.isfinite(value):
        raise LayoutError(
            f"{where}: {score} must be a number, got {cells[score][:80]!r}. Correct it, or leave "
            f"{_option(rule)} out."
        )
    return value < limit if lowest else value > limit


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _nothing_left(limits: Mapping[str, float], failing: Mapping[str, int], tiles: int) -> str:
    if not tiles:
        return "there is no tile to select from. Tile a slide with tissue first."
    removed = ", ".join(
        f"{_option(rule)} {limit:g} removes {failing[rule]:,}" for rule, limit in limits.items()
    )
    return f"no tile passes every threshold: of {tiles:,}, {removed}. Relax the one that says most."


def _typed(columns: Mapping[str, list[str]], out: Path) -> Mapping[str, list[object]]:
    """The cells as they are for a CSV; as numbers, where they are numbers, for Parquet."""
    if out.suffix.lower() != PARQUET:
        return {name: [*cells] for name, cells in columns.items()}
    return {name: [_value(name, cell) for cell in cells] for name, cells in columns.items()}


def _value(name: str, cell: str) -> object:
    if name not in _WHOLE + _FRACTIONAL:
        return cell
    if not cell:
        return None
    value = _number(cell)
    if not math.isfinite(value) or (name in _WHOLE and value != int(value)):
        raise LayoutError(f"{name} must be a number, got {cell[:80]!r}. Correct the manifest.")
    return int(value) if name in _WHOLE else value


def _paired(counts: Mapping[bool, Counter[str]]) -> dict[str, Counts]:
    names = sorted(counts[True].keys() | counts[False].keys())
    return {name: Counts(counts[True][name], counts[False][name]) for name in names}


def _gone(counts: Mapping[str, Counts], one: str, many: str) -> list[str]:
    """A warning where something has no tile left."""
    gone = [name for name, count in counts.items() if not count.kept]
    if not gone:
        return []
    named = ", ".join(gone[:_NAMED]) + (f" and {len(gone) - _NAMED} more" * (len(gone) > _NAMED))
    tiles = sum(counts[name].left for name in gone)
    return [
        f"{len(gone):,} of {len(counts):,} {one if len(counts) == 1 else many} "
        f"{'has' if len(gone) == 1 else 'have'} no tile left ({named}); {tiles:,} tiles left out."
    ]

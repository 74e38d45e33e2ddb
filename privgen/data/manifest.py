"""Reading and writing a manifest: one row per tile, `path,label` and whatever else is known.

A manifest is CSV or Parquet (`privgen.data.tables`) with the same columns and the same rules.
Columns: `path` (relative to the manifest's folder, with `/`; it may lead through a tar, as
`shards/s-000000.tar/000012.png`), `label`, and optionally

- `patient`, `slide`, `source_image`: whose the tile is and what it was cut from, read by
  `audits.patients`: `nan` and the like are nobody, a TCGA barcode is its participant;
- `x`, `y`, `mpp`, `xy_mpp`: pixels left of and above it, micrometres per pixel of the tile, and
  micrometres per pixel of x and y: the scan's for level-0 coordinates, as TRIDENT, CLAM and QuPath
  write them, the tile's own where it is left out, which is then said;
- `sha256`: of the pixels or of the file;
- `role`: its side of a split that somebody made (train, siblings, holdout, reference, val, test),
  which `privgen data check` proves or refutes and nothing else uses;
- `level`, `tissue`, `white`, `sharpness`, `pen`, `fold`: the slide's level it was read from and the
  scores `privgen tile` gave it. They are for choosing rows of a manifest, and not read here.

Other columns are left aside and named, unless one looks like a misspelt column, or like the
patients where no column is called so: reading past `patient_id` or `case` would quietly turn a
split by patient into a split by tile.
"""

import difflib
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from audits import AuditInputError
from audits.patients import Spellings
from privgen.data import class_names
from privgen.data.owners import Remark, spellings_of
from privgen.data.tables import PARQUET, Row, reading, write_table
from privgen.data.tileset import TileRecord
from privgen.errors import LayoutError
from privgen.files import SHARED
from privgen.limits import PATH_BYTES, shown, told

COLUMNS = (
    *("path", "label", "patient", "slide", "source_image", "x", "y", "mpp", "xy_mpp", "sha256"),
)
SCORES = ("level", "tissue", "white", "sharpness", "pen", "fold")
ROLE = "role"
SUFFIXES = (".csv", PARQUET)

_MOST_PIXELS = 2**40

_PATIENTS = frozenset(
    {"case", "caseid", "subject", "subjectid", "participant", "participantid", "donor", "donorid"}
    | {"individual", "individualid", "person", "personid", "pid", "mrn", "patno", "patnr"}
)
"""What else a column of patients is called, lower-case, letters only."""


class Manifest(NamedTuple):
    """What a manifest says.

    Attributes:
      records: of the tiles, in file order.
      left_aside: columns that were not read.
      spellings: by unit, how its ids were written.
      remarks: what was detected, joined or taken for granted.
    """

    records: tuple[TileRecord, ...]
    left_aside: tuple[str, ...]
    spellings: Mapping[str, Spellings]
    remarks: tuple[Remark, ...]


def read_manifest(path: Path) -> Manifest:
    """Read a manifest; the tiles themselves are not looked at.

    Args:
      path: a CSV (UTF-8, with a header), or a Parquet file.

    Raises:
      OSError: the file cannot be read.
      LayoutError: a column or a value is missing or malformed, a path leaves the folder or comes
        twice; the message names the line.
    """
    spellings = spellings_of("patient", "slide", "source_image")
    seen: set[str] = set()
    labels = _Labels()
    records = []
    with reading(path, only=(*COLUMNS, ROLE)) as table:
        left_aside = _check_columns(path, table.columns)
        for where, row in table.rows:
            record = _record(f"{path.name} {where}", row, spellings, labels)
            if record.path in seen:
                raise LayoutError(
                    f"a tile may stand in the manifest once: {path.name} names {record.path} "
                    "twice. Remove one row."
                )
            seen.add(record.path)
            records.append(record)
        said = table.said
    if not records:
        raise LayoutError(f"the manifest {path} names no tile. Add a row per tile.")
    if refused := class_names.refusal_of_all(labels.known.values()):
        raise LayoutError(f"{path.name}: {refused}")
    remarks = [Remark(what=what) for what in said]
    remarks += labels.remarks()
    if not set(SCORES) <= set(table.columns):  # privgen's own, from before it said so
        remarks += _frame(records)
    return Manifest(tuple(records), left_aside, spellings, tuple(remarks))


class _Labels:
    """Reads the names of classes and remembers how they were written."""

    def __init__(self) -> None:
        self.known: dict[str, str] = {}

    def __call__(self, where: str, written: str) -> str:
        label = self.known.get(written)
        if label is None:
            if refused := class_names.refusal(written):
                raise LayoutError(f"{where}: {refused}")
            label = self.known[written] = class_names.plain(written)
        return label

    def remarks(self) -> list[Remark]:
        joined = len(self.known) - len(set(self.known.values()))
        what = f"class names written in two Unicode forms, each taken for one: {joined}"
        return [Remark(what=what)] if joined else []


def _frame(records: Sequence[TileRecord]) -> list[Remark]:
    """A remark where nothing says of which pixels x and y are."""
    guessed = [record for record in records if record.x is not None and record.xy_mpp is None]
    what = (
        "tiles whose x and y have no xy_mpp beside them (micrometres per pixel of x and y), taken "
        f"for pixels of the tiles' own resolution: {len(guessed)}"
    )
    return [Remark(what=what, first=guessed[0].path)] if guessed else []


def write_manifest(path: Path, columns: Mapping[str, Sequence[Any]], *, mode: int = SHARED) -> None:
    """Write a manifest whole or not at all; the same columns give the same bytes.

    Args:
      path: `.csv` or `.parquet`.
      columns: values by column, a value per tile, None where it is unknown.
      mode: permission bits of the file.

    Raises:
      LayoutError: path or label is not among the columns, or `path` has another suffix.
      ValueError: the columns differ in length.
      OutputError, DiskFullError: as `privgen.files.atomic_write`.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise LayoutError(f"a manifest is a .csv or a .parquet: got {path.name}. Rename it.")
    _check_columns(path, list(columns))
    write_table(path, columns, mode=mode)


def _check_columns(path: Path, columns: list[str]) -> tuple[str, ...]:
    for needed in ("path", "label"):
        if needed not in columns:
            raise LayoutError(
                f"a manifest needs the columns path and label: {path.name} has "
                f"{told(', '.join(columns)) if columns else 'no header'}. Add {needed}."
            )
    if len(set(columns)) < len(columns):
        raise LayoutError(
            f"{path.name} has a column twice: {told(', '.join(columns))}. Remove one."
        )
    left_aside = tuple(name for name in columns if name not in (*COLUMNS, *SCORES, ROLE))
    for column in left_aside:
        absent = [name for name in COLUMNS if name not in columns]
        near = difflib.get_close_matches(column.strip().lower(), absent, n=1, cutoff=0.75)
        if near:
            raise LayoutError(
                f"column {shown(column)} of {path.name} is not known; did you mean {near[0]}? "
                "Rename it."
            )
        if "patient" in absent and re.sub(r"[^a-z]", "", column.lower()) in _PATIENTS:
            raise LayoutError(
                f"column {shown(column)} of {path.name} may name the patients, and none is called "
                "patient. Rename it to patient; if it names something else, rename it to that."
            )
    return left_aside


def _record(
    where: str, row: Row, spellings: Mapping[str, Spellings], labels: _Labels
) -> TileRecord:
    if None in row or None in row.values():
        raise LayoutError(f"{where} has more or fewer fields than the header. Correct the row.")
    text = {column: str(row.get(column) or "").strip() for column in (*COLUMNS, ROLE)}
    for needed in ("path", "label"):
        if not text[needed]:
            raise LayoutError(f"{where} has no {needed}. Fill it in or remove the row.")
    if bool(text["x"]) != bool(text["y"]):
        raise LayoutError(f"{where} has one of x and y only. Give both or none.")
    sha256 = text["sha256"].lower()
    if sha256 and not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise LayoutError(
            f"{where}: sha256 must be 64 hex digits, got {sha256[:80]!r}. Correct it."
        )
    scales = {name: _number(where, name, text[name]) for name in ("mpp", "xy_mpp")}
    for name, scale in scales.items():
        if scale is not None and scale <= 0:
            raise LayoutError(f"{where}: {name} must be positive, got {scale}. Correct it.")
    if scales["xy_mpp"] is not None and scales["mpp"] is None:
        raise LayoutError(
            f"{where} has xy_mpp and no mpp, so the size of the tile in pixels of x and y is not "
            "known. Give mpp, micrometres per pixel of the tile."
        )
    try:
        owners = {unit: read(text[unit]) for unit, read in spellings.items()}
    except AuditInputError as error:
        raise LayoutError(f"{where}: {error}") from error
    return TileRecord(
        path=_inside(where, text["path"]),
        label=labels(where, text["label"]),
        patient=owners["patient"],
        slide=owners["slide"],
        source_image=owners["source_image"],
        x=_pixels(where, "x", text["x"]),
        y=_pixels(where, "y", text["y"]),
        mpp=scales["mpp"],
        xy_mpp=scales["xy_mpp"],
        sha256=sha256 or None,
        role=text[ROLE] or None,
    )


def _inside(where: str, text: str) -> str:
    """The path, normalised; refused when it could leave the manifest's folder."""
    path = PurePosixPath(text)
    if path.is_absolute() or ".." in path.parts or "\\" in text or re.match(r"[A-Za-z]:", text):
        raise LayoutError(
            f"{where}: a path must stay inside the manifest's folder and use /: got "
            f"{shown(text)}. Write it relative to that folder."
        )
    if len(text) > PATH_BYTES:
        raise LayoutError(
            f"{where}: a path may have {PATH_BYTES} characters: got {shown(text)}. Rename the file."
        )
    return str(path)


def _number(where: str, column: str, text: str) -> float | None:
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        comma = " with a decimal point" if re.fullmatch(r"-?\d+,\d+", text) else ""
        raise LayoutError(
            f"{where}: {column} must be a number{comma}, got {shown(text)}. Correct it."
        )
    return value


def _pixels(where: str, column: str, text: str) -> int | None:
    value = _number(where, column, text)
    if value is not None and value != int(value):
        raise LayoutError(f"{where}: {column} must be whole pixels, got {shown(text)}. Correct it.")
    if value is not None and abs(value) > _MOST_PIXELS:
        raise LayoutError(f"{where}: {column} may be 2**40, got {shown(text)}. Correct it.")
    return None if value is None else int(value)

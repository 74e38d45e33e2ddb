"""Reading and writing a manifest: one row a tile, `path,label` and whatever else is known.

A manifest is CSV or Parquet (`privgen.data.tables`) with the same columns and the same rules.
Columns: `path` (relative to the manifest's folder, with `/`; it may lead through a tar, as
`shards/s-000000.tar/000012.png`), `label`, and optionally

- `patient`, `slide`, `source_image`: whose the tile is and what it was cut from, read by
  `audits.patients`: `nan` and the like are nobody, a TCGA barcode is its participant;
- `x`, `y`, `mpp`: pixels left of and above it at its own resolution, micrometres a pixel;
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
from privgen.data.owners import spellings_of
from privgen.data.tables import PARQUET, Row, reading, write_table
from privgen.data.tileset import TileRecord
from privgen.errors import LayoutError
from privgen.files import SHARED

COLUMNS = ("path", "label", "patient", "slide", "source_image", "x", "y", "mpp", "sha256")
SCORES = ("level", "tissue", "white", "sharpness", "pen", "fold")
ROLE = "role"
SUFFIXES = (".csv", PARQUET)

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
    """

    records: tuple[TileRecord, ...]
    left_aside: tuple[str, ...]
    spellings: Mapping[str, Spellings]


def read_manifest(path: Path) -> Manifest:
    """Read a manifest; the tiles themselves are not looked at.

    Args:
      path: a CSV (UTF-8, comma-separated, with a header), or a Parquet file.

    Raises:
      OSError: the file cannot be read.
      LayoutError: a column or a value is missing or malformed, a path leaves the folder or comes
        twice; the message names the line.
    """
    spellings = spellings_of("patient", "slide", "source_image")
    with reading(path) as (columns, rows):
        left_aside = _check_columns(path, columns)
        records = tuple(_record(f"{path.name} {where}", row, spellings) for where, row in rows)
    if not records:
        raise LayoutError(f"the manifest {path} names no tile. Add a row a tile.")
    seen: set[str] = set()
    for record in records:
        if record.path in seen:
            raise LayoutError(
                f"a tile may stand in the manifest once: {path.name} names {record.path} twice. "
                "Remove one row."
            )
        seen.add(record.path)
    return Manifest(records, left_aside, spellings)


def write_manifest(path: Path, columns: Mapping[str, Sequence[Any]], *, mode: int = SHARED) -> None:
    """Write a manifest whole or not at all; the same columns give the same bytes.

    Args:
      path: `.csv` or `.parquet`.
      columns: values by column, a value a tile, None where it is unknown.
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
                f"{', '.join(columns) or 'no header'}. Add {needed}."
            )
    if len(set(columns)) < len(columns):
        raise LayoutError(f"{path.name} has a column twice: {', '.join(columns)}. Remove one.")
    left_aside = tuple(name for name in columns if name not in (*COLUMNS, *SCORES, ROLE))
    for column in left_aside:
        absent = [name for name in COLUMNS if name not in columns]
        near = difflib.get_close_matches(column.strip().lower(), absent, n=1, cutoff=0.75)
        if near:
            raise LayoutError(
                f"column {column!r} of {path.name} is not known; did you mean {near[0]}? Rename it."
            )
        if "patient" in absent and re.sub(r"[^a-z]", "", column.lower()) in _PATIENTS:
            raise LayoutError(
                f"column {column!r} of {path.name} may name the patients, and none is called "
                "patient. Rename it to patient; if it names something else, rename it to that."
            )
    return left_aside


def _record(where: str, row: Row, spellings: Mapping[str, Spellings]) -> TileRecord:
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
    mpp = _number(where, "mpp", text["mpp"])
    if mpp is not None and mpp <= 0:
        raise LayoutError(f"{where}: mpp must be positive, got {mpp}. Correct it.")
    try:
        owners = {unit: read(text[unit]) for unit, read in spellings.items()}
    except AuditInputError as error:
        raise LayoutError(f"{where}: {error}") from error
    return TileRecord(
        path=_inside(where, text["path"]),
        label=text["label"],
        patient=owners["patient"],
        slide=owners["slide"],
        source_image=owners["source_image"],
        x=_pixels(where, "x", text["x"]),
        y=_pixels(where, "y", text["y"]),
        mpp=mpp,
        sha256=sha256 or None,
        role=text[ROLE] or None,
    )


def _inside(where: str, text: str) -> str:
    """The path, normalised; refused when it could leave the manifest's folder."""
    path = PurePosixPath(text)
    if path.is_absolute() or ".." in path.parts or "\\" in text or re.match(r"[A-Za-z]:", text):
        raise LayoutError(
            f"{where}: a path must stay inside the manifest's folder and use /: got {text!r}. "
            "Write it relative to that folder."
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
        raise LayoutError(f"{where}: {column} must be a number, got {text!r}. Correct it.")
    return value


def _pixels(where: str, column: str, text: str) -> int | None:
    value = _number(where, column, text)
    if value is not None and value != int(value):
        raise LayoutError(f"{where}: {column} must be whole pixels, got {text!r}. Correct it.")
    return None if value is None else int(value)

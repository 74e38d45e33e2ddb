"""Pictures inside Parquet files, as Hugging Face writes image data sets.

The column `image` is a struct of `bytes` (the encoded file) and `path`; `label` is a number, whose
name stands in the file's own metadata (ClassLabel), or a name. `patient`, `slide` and
`source_image` are read as in any manifest. How a picture is read in place is in
`privgen.data.image_rows`.

Source: the `Image` and `ClassLabel` features of Hugging Face `datasets`, which write Arrow's schema
metadata under the key "huggingface".
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from audits.patients import Spellings
from privgen import limits
from privgen.data import class_names
from privgen.data.image_rows import has_pictures
from privgen.data.owners import spellings_of
from privgen.data.picture_records import UNITS, picture_record
from privgen.data.tables import open_parquet, reading
from privgen.data.tileset import TileRecord
from privgen.documents import DocumentError, parse_json
from privgen.errors import LayoutError

_DIGITS = 9
"""Most digits of the number of a class; Python makes no integer of thousands."""


def read_image_tables(
    root: Path, files: Sequence[Path], *, flat: bool
) -> tuple[tuple[TileRecord, ...], Mapping[str, Spellings]]:
    """Records of every row of the files, in their order.

    Args:
      root: folder that paths are relative to.
      files: Parquet files in it.
      flat: pictures without a class are one class.

    Returns:
      The records, and how their owners' ids were written.

    Raises:
      OSError: a file cannot be read.
      LayoutError: a file is damaged or over a limit, has no pictures, or a label that is none.
    """
    spellings = spellings_of(*UNITS)
    records: list[TileRecord] = []
    for path in files:
        file = open_parquet(path)
        if not has_pictures(file):
            raise LayoutError(
                f"pictures in Parquet stand in a column image of bytes and path: {path.name} has "
                f"{limits.told(', '.join(file.schema_arrow.names))}. Give files of pictures alone."
            )
        names = _class_names(path, file.schema_arrow.metadata or {})
        place = Path(os.path.relpath(path, root)).as_posix()
        with reading(path, only=("label", *UNITS)) as table:
            if "label" not in table.columns and not flat:
                raise LayoutError(
                    f"pictures in Parquet need a column label: {path.name} has none. Add it, or "
                    "give class folders."
                )
            if not set(UNITS) & set(table.columns) and "label" not in table.columns:
                rows: Iterator[Mapping[Any, Any]] = iter([{}] * file.metadata.num_rows)
            else:
                rows = (row for _, row in table.rows)
            for number, row in enumerate(rows):
                where = f"{path.name} row {number + 1}"
                label = _label(where, row.get("label"), names)
                inside = f"{place}/{number:07d}"
                records.append(picture_record(where, inside, label, row, spellings))
    if not records:
        raise LayoutError(f"the files in {root.name} have no row. Give others.")
    if refused := class_names.refusal_of_all(record.label for record in records):
        raise LayoutError(f"{files[0].name}: {refused}")
    return tuple(records), spellings


def _class_names(path: Path, metadata: Mapping[bytes, bytes]) -> list[str] | None:
    """What the numbers of the classes stand for, where the file says it."""
    if b"huggingface" not in metadata:
        return None
    try:
        document = parse_json(metadata[b"huggingface"].decode())
        names = document["info"]["features"]["label"]["names"]
    except (KeyError, TypeError):
        return None
    except (DocumentError, UnicodeDecodeError) as error:
        raise LayoutError(
            f"{path.name}: its description of the classes is damaged: {limits.told(error)}. Write "
            "it again."
        ) from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise LayoutError(f"{path.name}: its names of the classes are none. Write it again.")
    return names


def _label(where: str, written: str | None, names: list[str] | None) -> str:
    if written is None:
        return class_names.FLAT_CLASS
    if names is not None and written.isdecimal():
        if len(written) > _DIGITS or int(written) >= len(names):
            raise LayoutError(
                f"{where}: label {limits.shown(written)} has no name among {len(names)} classes. "
                "Correct it."
            )
        written = names[int(written)]
    if not written:
        raise LayoutError(f"{where} has no label. Fill it in or remove the row.")
    if refused := class_names.refusal(written):
        raise LayoutError(f"{where}: {refused}")
    return class_names.plain(written)

"""Tiles that lie inside other files, as records: what shards and Parquet say beside a picture."""

from collections.abc import Mapping
from typing import Any

from audits import AuditInputError
from audits.patients import Spellings
from privgen import limits
from privgen.data.tileset import TileRecord
from privgen.errors import LayoutError

UNITS = ("patient", "slide", "source_image")
"""Whose a picture is, as far as its file says."""


def picture_record(
    where: str, path: str, label: str, told: Mapping[Any, Any], spellings: Mapping[str, Spellings]
) -> TileRecord:
    """The record of one picture.

    Args:
      where: what to call it in an error.
      path: of the picture, relative to the root of the set.
      label: its class.
      told: what stands beside it, by name; only `UNITS` are read.
      spellings: of each unit, to be told of every id.

    Raises:
      LayoutError: an id cannot be read.
    """
    try:
        owners = {unit: spellings[unit](told.get(unit)) for unit in UNITS}
    except AuditInputError as error:
        raise LayoutError(f"{where}: {limits.told(error)}") from error
    return TileRecord(
        path=path,
        label=label,
        patient=owners["patient"],
        slide=owners["slide"],
        source_image=owners["source_image"],
    )

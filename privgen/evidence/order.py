"""The tiles of an audit in the order of their pixels, so that file names decide nothing.

Which tiles are planted, which make up the null, which are blended or shown is drawn by row. Rows
follow from the pixels here (`audits.order` says why and how), before anything is drawn; the records
keep their names, which only a private page shows.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from audits.order import Known, places
from privgen.data.tileset import TileSet


def in_order(
    roles: Mapping[str, TileSet], synthetic: TileSet
) -> tuple[dict[str, TileSet], TileSet]:
    """Every role with its tiles by digest, then by class, then by what their patient consists of.

    Args:
      roles: the real tiles by role.
      synthetic: the synthetic tiles.

    Returns:
      (roles, synthetic), the same tiles. Tiles of equal pixels, class and patient may change
      places.

    Raises:
      LayoutError, TileError: tiles whose digest is not known cannot be read.
    """
    every = {**roles, "synthetic": synthetic}
    found = places({role: _known(role, tiles) for role, tiles in every.items()})
    ordered = {role: tiles.subset(found[role].rows) for role, tiles in every.items()}
    made = ordered.pop("synthetic")
    return ordered, made


def _known(role: str, tiles: TileSet) -> Known:
    lone = tiles.group_unit == "tile"
    return Known(
        content=tiles.digests,
        labels=tiles.labels,
        rest=np.zeros(len(tiles), dtype=np.int8),
        # Paths stand in for patients where none are named: not the same tile in two folders.
        patients=_within(role, tiles.groups) if lone else tiles.groups,
        slides=_within(role, tiles.slides) if lone else tiles.slides,
    )


def _within(role: str, names: NDArray[np.str_]) -> NDArray[np.str_]:
    return np.char.add(f"{role} ", names)

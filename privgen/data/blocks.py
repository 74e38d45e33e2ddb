"""Reading the tiles of a set a block at a time, so that memory never holds all pixels."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from privgen.data.tileset import TileSet
from privgen.phases import phase

_BLOCK = 128


def native_side(tiles: TileSet) -> int:
    """The shorter side of the smallest tile, pixels."""
    known = [min(r.width, r.height) for r in tiles.records if r.width and r.height]
    if len(known) == len(tiles):
        return min(known)
    rows = range(len(tiles))
    return min(int(min(tiles.subset([row]).load().shape[1:3])) for row in rows)


def in_blocks(
    tiles: TileSet, side: int, title: str, use: Callable[[slice, NDArray[np.uint8]], None]
) -> None:
    """Load tiles per block at a time and hand each block, with its rows, to `use`.

    Args:
      tiles: in their order.
      side: pixels per side they are scaled to.
      title: of the progress bar.
      use: called with the rows of a block and its pixels, shape (k, side, side, 3).
    """
    with phase(title, total=len(tiles)) as reading:
        for start in range(0, len(tiles), _BLOCK):
            rows = slice(start, min(start + _BLOCK, len(tiles)))
            use(rows, tiles.subset(np.arange(rows.start, rows.stop)).load(side))
            reading.advance(rows.stop - rows.start)

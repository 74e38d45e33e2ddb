"""One last step for the tiles of every role, so that no role is known by its files.

JPEG rounds per tile's frequencies to multiples of its steps. Rounded again by the same steps on the
same grid a tile hardly changes, so the tiles that came from such files keep what they had and the
others lose what those had lost. The step is applied to all, whatever they have been through: a rule
for each role would itself tell the roles apart. It is applied at the size that the files had,
before any scaling, because a grid of 8 pixels is none after it. What scaling or blur has taken from
one role is cut off in all.

Conventions: tiles are uint8 RGB, square; the step sees one tile at a time and draws nothing.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from privgen.data.coding import Coding
from privgen.data.images import resize
from privgen.pipelines.traces import recode_at, trace

Tile = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Step:
    """What every tile goes through before it is embedded.

    Attributes:
      side: of the result, pixels.
      codings: what is applied, and the side of the tiles it was found in; largest side first.
      detail: side, at most `side`, to which tiles are reduced and enlarged again.
      off_grid: find each tile's own grid first, where some begin elsewhere than in the corner.
    """

    side: int
    codings: tuple[tuple[int, Coding], ...] = ()
    detail: int
    off_grid: bool = False

    @property
    def changes(self) -> bool:
        """Whether this is more than scaling to `side`."""
        return bool(self.codings) or self.detail < self.side

    def __call__(self, tile: Tile) -> Tile:
        """One tile, shape (h, h, 3), to shape (side, side, 3).

        Raises:
          InputError: the tile is not square.
        """
        for size, coding in self.codings:
            tile = self._coded(tile, size, coding)
        tile = _scaled(tile, self.side)
        if self.detail < self.side:
            tile = _scaled(_scaled(tile, self.detail), self.side)
        return tile

    def apply(self, tiles: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Every tile of shape (n, h, h, 3), as (n, side, side, 3)."""
        changed = np.empty((len(tiles), self.side, self.side, 3), dtype=np.uint8)
        for row, tile in enumerate(tiles):
            changed[row] = self(tile)
        return changed

    def _coded(self, tile: Tile, size: int, coding: Coding) -> Tile:
        """A larger tile is scaled to the size first; a smaller one gets what coding changes.

        Its picture is enlarged and coded; the change is reduced again and added, so that enlarging
        itself leaves nothing.
        """
        if len(tile) >= size:
            tile = _scaled(tile, size)
            found = trace(tile, (coding,)) if self.off_grid else None
            return recode_at(tile, coding, *((found.top, found.left) if found else (0, 0)))
        large = _scaled(tile, size)
        coded, plain = (
            _scaled(picture, len(tile)).astype(np.int16)
            for picture in (recode_at(large, coding, 0, 0), large)
        )
        changed: Tile = np.clip(tile + (coded - plain), 0, 255).astype(np.uint8)
        return changed


def _scaled(tile: Tile, side: int) -> Tile:
    scaled: Tile = resize(tile[np.newaxis], side)[0]
    return scaled

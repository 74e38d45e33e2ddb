"""Constant tiles: what a generator makes that failed, and what nobody can audit.

Black, grey or saturated tiles copy nobody, so an audit of them finds no leak, and says nothing. A
class that is nothing else is refused; single ones are counted. Empty glass is the exception: on
slides that were looked at it is constant too (a spread of 0 to 1.4 grey levels at 64 px), lighter
than 233, and data sets have a class for it.
"""

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from privgen.errors import InputError

CONSTANT = 1.0
"""Spread (standard deviation, grey levels of 0 to 255) that every channel of such a tile is below;
the least of 925 real tiles of two public sets had 1.6."""

GLASS = 220.0
"""Mean grey level from which a constant tile may be empty glass."""

FEWEST = 8
"""Tiles of a class to look at before it is refused."""

_LISTED = 4


class Constants:
    """A count of constant tiles, class by class, over any number of blocks."""

    def __init__(self) -> None:
        self._tiles: Counter[str] = Counter()
        self._constant: Counter[str] = Counter()
        self._dark: Counter[str] = Counter()
        self._grey: Counter[str] = Counter()

    def add(self, tiles: NDArray[np.uint8], labels: NDArray[np.str_]) -> None:
        """Look at further tiles.

        Args:
          tiles: shape (n, h, w, 3).
          labels: class of each, shape (n,).
        """
        channels = tiles.reshape(len(tiles), -1, 3)
        constant = channels.std(axis=1, dtype=np.float32).max(axis=1, initial=0) < CONSTANT
        grey = channels.mean(axis=(1, 2), dtype=np.float32)
        for label, is_constant, level in zip(labels.tolist(), constant, grey, strict=True):
            self._tiles[label] += 1
            if is_constant:
                self._constant[label] += 1
                self._dark[label] += bool(level < GLASS)
                self._grey[label] += int(level)

    def refuse(self) -> None:
        """Refuse tiles of which a whole class is constant.

        Raises:
          InputError: all of at least `FEWEST` tiles of a class are constant, and darker than glass
            or all there is.
        """
        everything = self.count == self._tiles.total() >= FEWEST
        failed = [
            label
            for label, count in self._tiles.items()
            if everything or (self._constant[label] == count >= FEWEST and self._dark[label])
        ]
        if not failed:
            return
        label = failed[0]
        count = self._tiles[label]
        raise InputError(
            f"a synthetic tile must show something: all {count} tiles of class {label} are "
            f"constant, of grey level {self._grey[label] / count:.0f}. Train longer, give another "
            "checkpoint, or other tiles."
        )

    @property
    def count(self) -> int:
        """Constant tiles so far."""
        return self._constant.total()

    def sentence(self) -> str:
        """How many are constant, for a warning; "" where none is."""
        if not self.count:
            return ""
        found = [
            f"{label} {count} of {self._tiles[label]}"
            for label, count in sorted(self._constant.items())
        ]
        more = f" and {len(found) - _LISTED} more" if len(found) > _LISTED else ""
        return (
            f"{self.count} of {self._tiles.total()} synthetic tiles are constant, without any "
            f"structure ({', '.join(found[:_LISTED])}{more})."
        )

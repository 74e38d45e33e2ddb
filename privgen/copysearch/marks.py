"""Marks: structure that stands at one place in tiles of different patients.

Frames, captions, scale bars, pointers, round fields of view, stitching and the blocks of a codec
come from the making of a picture, not from a patient. Two tiles with the same mark align as a copy
does, and prove nothing. A mark is recognised by being where it is: the structure around a place of
a tile also stands at this very place in a tile of another patient. Tissue does that only where the
whole tile is shown twice, and such a pair of tiles says nothing of marks.

What is a mark is decided from real tiles alone: a synthetic tile may repeat a training tile often.

Source: docs/fingerprints.md.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from privgen.copysearch.agreement import structure_of
from privgen.copysearch.descriptors import PATCH_SIDE

SAMPLE = 400
"""Most real tiles among which marks are looked for."""

WINDOW = 16
"""Side of the surroundings compared, patch pixels (of 96)."""

ALIKE, SAME = 0.95, 0.985
"""Correlation of the surroundings from which they are alike, which two other patients must show, or
the same, which one other patient may show; what is alike next to the same is one mark with it.
Among 400 GlaS tiles at 64 px this sets .8 % of the tissue aside by mistake, of one tile a quarter.
"""

DUPLICATE = 0.9
"""Share of a tile's structure that, alike in another tile, makes the two one picture. A black round
field of view with a pen stroke outweighs tissue in four fifths of the places of a tile."""

_FAINT = 0.05
_MARGIN = WINDOW // 2 + 2

Mask = NDArray[np.bool_]
Pictures = NDArray[np.float32]


class Marks:
    """Real tiles in which a mark of another tile may recur.

    Args:
      patches: `Descriptors.patches`, shape (m, 96, 96).
      groups: their patients, shape (m,).
    """

    def __init__(self, patches: NDArray[np.uint8], groups: NDArray[np.str_]) -> None:
        whole = np.ones((PATCH_SIDE, PATCH_SIDE), dtype=np.float32)
        self._groups = groups
        self._pictures = np.array(
            [structure_of(patch.astype(np.float32), whole) for patch in patches],
            dtype=np.float32,
        ).reshape(-1, PATCH_SIDE, PATCH_SIDE)
        self._energy = _surroundings(self._pictures**2)

    def __len__(self) -> int:
        return len(self._groups)

    def of(self, patch: NDArray[np.uint8], group: str) -> Mask:
        """Where a tile shows marks.

        Args:
          patch: its `Descriptors.patches`, shape (96, 96).
          group: its patient, whose own tiles are not looked at.

        Returns:
          Shape (96, 96).
        """
        other = np.flatnonzero(self._groups != group)
        picture = structure_of(
            patch.astype(np.float32), np.ones((PATCH_SIDE, PATCH_SIDE), dtype=np.float32)
        )
        energy = _surroundings(picture[None] ** 2)[0]
        seen = energy > _FAINT
        norm = np.sqrt(energy * np.maximum(self._energy[other], _FAINT))
        likeness = _surroundings(picture * self._pictures[other]) / np.maximum(norm, 1e-6)
        likeness[:, ~seen] = 0
        alike = likeness > ALIKE
        twice = alike.sum(axis=(1, 2)) > DUPLICATE * max(1, int(seen.sum()))
        alike[twice], likeness[twice] = False, 0
        patients = np.zeros((PATCH_SIDE, PATCH_SIDE), dtype=np.intp)
        some = alike.any(axis=(1, 2))
        for name in np.unique(self._groups[other][some]):
            patients += alike[self._groups[other] == name].any(axis=0)
        found = patients >= 2
        for row in np.flatnonzero((likeness > SAME).any(axis=(1, 2))):
            found |= _grown(likeness[row] > SAME, alike[row])
        reach = np.ones((2 * _MARGIN + 1, 2 * _MARGIN + 1), dtype=np.uint8)
        return cv2.dilate(found.astype(np.uint8), reach).astype(np.bool_)


def _grown(seeds: Mask, places: Mask) -> Mask:
    """The connected parts of `places` that hold a seed, shape (96, 96)."""
    _, part = cv2.connectedComponents(places.astype(np.uint8), connectivity=8)
    return np.isin(part, np.unique(part[seeds & places])) & places


def _surroundings(pictures: Pictures) -> Pictures:
    """Mean over the window around each place, shape (n, 96, 96)."""
    means = np.empty_like(pictures)
    for place, picture in enumerate(pictures):
        means[place] = cv2.boxFilter(picture, -1, (WINDOW + 1, WINDOW + 1))
    return means

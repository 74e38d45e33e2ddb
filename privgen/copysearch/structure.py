"""Structure: tiles compared as whole pictures, under the 8 symmetries.

Blended evenly with another tile, or blurred, a copy loses most key points and sits nowhere near its
source in an embedding; its shades still correlate with the source's, pixel by pixel. This finds
such copies where they lie square on their source, at a price next to nothing. Copies turned by odd
angles or cropped are for the votes.

Source: docs/methods.md#alignment (blends are what an embedding's shortlist misses).
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from privgen.copysearch.descriptors import PATCH_SIDE
from privgen.encoders.orbit import SYMMETRIES

SIDE = 24
"""Side of the pictures compared: nuclei of 20x tiles are about one pixel."""

LENGTH = np.float32(2048)
"""Length of a picture: sums stay below 2^23, so float32 holds them exactly."""

_SLOW = 3.0
_TINY = 1e-6

Floats = NDArray[np.float32]


def whole(rows: Floats) -> Floats:
    """Rows brought to length 2048 and rounded: no product of two of them is rounded any more.

    Sums of products then are the same in any order, for any number of rows and threads.

    Args:
      rows: shape (n, d); rows of zeros stay as they are.
    """
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    scaled = np.divide(rows, length, out=np.zeros_like(rows), where=length > _TINY)
    return np.asarray(np.rint(scaled * LENGTH), dtype=np.float32)


def structure(patches: NDArray[np.uint8]) -> Floats:
    """Density at 24 pixels per side without its slow shades, as `whole`; 0 for a blank tile.

    Args:
      patches: `Descriptors.patches`, shape (n, 96, 96).

    Returns:
      Shape (n, 576).
    """
    step = PATCH_SIDE // SIDE
    small = patches.reshape(-1, SIDE, step, SIDE, step).mean(axis=(2, 4), dtype=np.float32)
    small -= ndimage.gaussian_filter(small, (0, _SLOW, _SLOW))
    flat = small.reshape(len(small), -1)
    return whole(flat - flat.mean(axis=1, keepdims=True))


def turns(patches: NDArray[np.uint8]) -> Floats:
    """`structure` of tiles in their 8 symmetric versions.

    Args:
      patches: of n tiles, shape (n, 96, 96).

    Returns:
      Shape (8, n, 576): turned by 0 to 3 quarters against the clock, then the same of the tile
      mirrored from left to right.
    """
    square = structure(patches).reshape(-1, SIDE, SIDE)
    return np.stack(
        [
            np.rot90(version, quarter, axes=(1, 2)).reshape(len(square), -1)
            for version in (square, square[:, :, ::-1])
            for quarter in range(SYMMETRIES // 2)
        ]
    )


def turn_matrix(turn: int, side: int) -> NDArray[np.float64]:
    """The transform that brings a tile into one of its `turns`: query to version, shape (2, 3).

    Args:
      turn: 0 to 7.
      side: of the tile, pixels.
    """
    quarter = np.array([[0.0, 1.0], [-1.0, 0.0]])  # against the clock, y pointing down
    linear = np.linalg.matrix_power(quarter, turn % 4)
    if turn >= SYMMETRIES // 2:
        linear = linear @ np.diag([-1.0, 1.0])
    centre = np.full(2, (side - 1) / 2)
    return np.column_stack([linear, centre - linear @ centre])


def correlations(patches: NDArray[np.uint8], pictures: Floats) -> Floats:
    """How much each tile, turned and mirrored as it fits best, looks like each picture.

    Args:
      patches: of n tiles, shape (n, 96, 96).
      pictures: `structure` of m tiles, shape (m, 576).

    Returns:
      The largest correlation over the 8 symmetries, shape (n, m).
    """
    best = np.full((len(patches), len(pictures)), -1.0, dtype=np.float32)
    for version in turns(patches):
        np.maximum(best, version @ pictures.T / LENGTH**2, out=best)
    return best

"""Reading blocks of a slide and cutting them into tiles.

`read_tiles` gives the same pixels whatever tiles are asked for together, so a tile can be read
again by its manifest row alone (`read_again`). Resampling is Pillow's bicubic filter, widened to
the scale, on the pixels around the tile too: nothing stops at a tile's edge.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from privgen.data import images
from privgen.data.slides import Slide
from privgen.tiling.plan import Plan

Tile = NDArray[np.uint8]


def read_tiles(slide: Slide, plan: Plan, first: int, last: int) -> list[Tile]:
    """Tiles `first` to `last` - 1 of a plan, from one region of the slide.

    Returns:
      uint8 RGB, shape (size, size, 3) each.

    Raises:
      SlideReadError: the slide cannot be read there.
    """
    return _read(
        slide, plan.x[first:last], plan.y[first:last], plan.level, plan.scale, size=plan.size
    )


def read_again(slide: Slide, *, x: int, y: int, level: int, mpp: float, size: int) -> Tile:
    """One tile by its manifest row.

    Args:
      slide: the one it was cut from, open, with the same micrometres a pixel.
      x, y, level, mpp: the row's.
      size: side of the tile, pixels.

    Returns:
      uint8 RGB, shape (size, size, 3): the pixels of the tile's file.

    Raises:
      SlideReadError: the slide cannot be read there.
    """
    scale = mpp / (slide.mpp * slide.levels[level].downsample)
    exact = 1.0 if math.isclose(scale, 1.0, rel_tol=1e-9) else scale
    here = np.array([x]), np.array([y])
    return _read(slide, *here, level, exact, size=size)[0]


def _read(
    slide: Slide,
    x: NDArray[np.int64],
    y: NDArray[np.int64],
    level: int,
    scale: float,
    *,
    size: int,
) -> list[Tile]:
    downsample = slide.levels[level].downsample
    margin = 0 if scale == 1 else math.ceil(images.RESAMPLING_REACH * scale) + 1
    left, right = _extent(x, size, scale, margin)
    top, bottom = _extent(y, size, scale, margin)
    block = slide.read(
        level, round(left * downsample), round(top * downsample), right - left, bottom - top
    )
    if scale == 1:
        return [
            np.ascontiguousarray(block[j - top : j - top + size, i - left : i - left + size])
            for i, j in zip(x.tolist(), y.tolist(), strict=True)
        ]
    corners: Sequence[tuple[float, float]] = [
        (i * scale - left, j * scale - top) for i, j in zip(x.tolist(), y.tolist(), strict=True)
    ]
    return images.resample(block, corners, size * scale, size)


def _extent(start: NDArray[np.int64], size: int, scale: float, margin: int) -> tuple[int, int]:
    """Level pixels that the tiles and their margin cover along one side."""
    low = math.floor(int(start.min()) * scale) - margin
    high = math.ceil((int(start.max()) + size) * scale) + margin
    return low, high

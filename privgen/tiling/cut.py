"""Reading blocks of a slide and cutting them into tiles.

`read_tiles` gives the same pixels whatever tiles are asked for together, so a tile can be read
again by its manifest row alone (`read_again`): each is cut, or resampled, from the pixels that it
would be read from alone. Resampling is Pillow's bicubic filter, widened to the scale, on the pixels
around the tile too: nothing stops at a tile's edge, only at the slide's.
"""

import math

import numpy as np
from numpy.typing import NDArray

from privgen.data import images
from privgen.data.slides import Slide
from privgen.tiling.plan import TilePlan

Tile = NDArray[np.uint8]


def read_tiles(slide: Slide, plan: TilePlan, first: int, last: int) -> list[Tile]:
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
      slide: the one it was cut from, open, with the same micrometres per pixel.
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
    there = slide.levels[level]
    margin = 0 if scale == 1 else math.ceil(images.RESAMPLING_REACH * scale) + 1

    def extent(first: int, last: int, most: int) -> tuple[int, int]:
        """Level pixels that tiles from `first` to `last` and their margin cover on the slide."""
        low = max(0, math.floor(first * scale) - margin)
        return low, min(most, math.ceil((last + size) * scale) + margin)

    left, right = extent(int(x.min()), int(x.max()), there.width)
    top, bottom = extent(int(y.min()), int(y.max()), there.height)
    corner = round(left * there.downsample), round(top * there.downsample)
    block = slide.read(level, *corner, right - left, bottom - top)
    tiles = []
    for i, j in zip(x.tolist(), y.tolist(), strict=True):
        (x0, x1), (y0, y1) = extent(i, i, there.width), extent(j, j, there.height)
        own = np.ascontiguousarray(block[y0 - top : y1 - top, x0 - left : x1 - left])
        if scale != 1:
            own = images.resample(own, i * scale - x0, j * scale - y0, size * scale, size)
        tiles.append(own)
    return tiles

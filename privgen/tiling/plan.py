"""Which tiles a slide is cut into, before any of them is read.

A tile is placed at whole pixels of its own resolution, (x, y) from the slide's upper left corner,
and lies inside the slide as a whole; a strip at the right and lower edge narrower than a tile is
not covered. At a level whose micrometres per pixel are within the tolerance of the target, tiles
are its pixels as they are; otherwise they are resampled from the coarsest finer level, `scale`
level pixels to one of theirs.

Source: docs/methods.md#slides-and-splits.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from privgen.data.slides import Overview, Slide
from privgen.errors import SlideError
from privgen.tiling.settings import TilingSettings

BLOCK = 2048
"""Side of the region that is read at once, level pixels, unless one tile is larger."""

LARGEST = 4096
"""Side of a tile in level pixels before it is resampled: 64 MiB as OpenSlide gives them."""

MAX_CANDIDATES = 4_000_000
"""Most tiles of one slide's grid; 300,000 px per side at 256 have 1.4 million."""

Whole = NDArray[np.int64]
Places = NDArray[np.floating[Any]]


@dataclass(frozen=True, kw_only=True, eq=False)
class TilePlan:
    """The tiles of one slide.

    Attributes:
      level: read from.
      scale: level pixels to a pixel of the tiles; 1 where nothing is resampled.
      downsample: level-0 pixels to a level pixel.
      mpp: micrometres per pixel of the tiles.
      size: side of a tile, its own pixels.
      x, y: pixels left of and above each tile at its own resolution, shape (n,), in reading order.
      tissue: share of each tile on the tissue mask, shape (n,).
      blocks: index of the first tile of each block, and n at the end; tiles of one block are read
        together.
      candidates: tiles of the grid before any rule.
    """

    level: int
    scale: float
    downsample: float
    mpp: float
    size: int
    x: Whole
    y: Whole
    tissue: NDArray[np.float64]
    blocks: Whole
    candidates: int

    def __len__(self) -> int:
        return len(self.x)

    def only(self, wanted: Sequence[bool]) -> "TilePlan":
        """The tiles that are wanted, in their blocks."""
        chosen = np.asarray(wanted, dtype=bool)
        counts = np.add.reduceat(chosen, self.blocks[:-1], dtype=np.int64)
        return replace(
            self,
            x=self.x[chosen],
            y=self.y[chosen],
            tissue=self.tissue[chosen],
            blocks=np.concatenate([[0], np.cumsum(counts[counts > 0])]),
        )

    @property
    def level_0_pixels(self) -> float:
        """Level-0 pixels to a pixel of the tiles."""
        return self.scale * self.downsample


def plan_tiles(
    path: str, slide: Slide, settings: TilingSettings, overview: Overview, mask: NDArray[np.bool_]
) -> TilePlan:
    """Place tiles on a slide.

    Args:
      path: what to call the slide in an error.
      slide: open.
      settings: what is asked for.
      overview: of the slide; gives the mask's scale.
      mask: tissue, shape of the overview.

    Raises:
      SlideError: the scan is coarser than asked for, the slide is smaller than a tile, or no tile
        lies on tissue.
    """
    level, scale, mpp = source_of(slide, settings)
    chosen = slide.levels[level]
    require_readable(path, settings.size, scale, mpp)
    across = _grid(int(chosen.width / scale + 1e-6), settings)
    down = _grid(int(chosen.height / scale + 1e-6), settings)
    if not len(across) or not len(down):
        raise SlideError(
            path,
            f"a slide must hold a whole tile of {settings.size} px: it has "
            f"{chosen.width / scale:.0f}x{chosen.height / scale:.0f} px at {mpp:.3g} um per pixel. "
            "Give a smaller `size` or `mpp`.",
        )
    if len(across) * len(down) > MAX_CANDIDATES:
        raise SlideError(
            path,
            f"its grid would have {len(across) * len(down):,} tiles; the most is "
            f"{MAX_CANDIDATES:,}. Give a larger `stride` or `mpp`.",
        )
    x, y = (axis.ravel() for axis in np.meshgrid(across, down))
    candidates = len(x)
    span = scale * chosen.downsample / overview.scale
    tissue = tissue_share(mask, x * span, y * span, settings.size * span)
    on_tissue = tissue >= settings.min_tissue
    if not on_tissue.any():
        raise SlideError(
            path,
            f"no tile has {settings.min_tissue:g} of tissue: the most of {candidates} is "
            f"{tissue.max():.2f}. Leave the slide out, or give a smaller `min_tissue`.",
        )
    x, y, tissue = x[on_tissue], y[on_tissue], tissue[on_tissue]
    order, blocks = blocks_of(x, y, settings, scale, slide.exact(level))
    return TilePlan(
        level=level,
        scale=scale,
        downsample=chosen.downsample,
        mpp=mpp,
        size=settings.size,
        x=x[order],
        y=y[order],
        tissue=tissue[order],
        blocks=blocks,
        candidates=candidates,
    )


def require_readable(path: str, size: int, scale: float, mpp: float) -> None:
    """Refuse tiles that would be read from too many pixels.

    Raises:
      SlideError: more than `LARGEST` a side.
    """
    if size * scale > LARGEST:
        raise SlideError(
            path,
            f"its coarsest level that is fine enough has {mpp / scale:.3g} um per pixel, and a "
            f"tile of {size} px at {mpp:.3g} would be read from {size * scale:.0f} px "
            f"a side; the most is {LARGEST}. Give a smaller `size` or `mpp`.",
        )


def source_of(slide: Slide, settings: TilingSettings) -> tuple[int, float, float]:
    """Level, level pixels per tile pixel, and micrometres per tile pixel."""
    if settings.mpp is None:
        return 0, 1.0, slide.mpp
    level = slide.level_for(settings.mpp, tolerance=settings.tolerance)
    there = slide.mpp * slide.levels[level].downsample
    if abs(there / settings.mpp - 1) <= settings.tolerance:
        return level, 1.0, there
    return level, settings.mpp / there, settings.mpp


def _grid(length: int, settings: TilingSettings) -> Whole:
    """Where whole tiles start along one side."""
    return np.arange(settings.origin, length - settings.size + 1, settings.stride, dtype=np.int64)


def tissue_share(
    mask: NDArray[np.bool_], left: Places, top: Places, side: float
) -> NDArray[np.float64]:
    """Share of each square, in mask pixels, that is True; edges fall on the nearest pixel."""
    sums = cv2.integral(mask.view(np.uint8))

    def edges(start: Places, length: int) -> tuple[Whole, Whole]:
        low = np.clip(np.rint(start), 0, length - 1).astype(np.int64)
        high = np.clip(np.rint(start + side), 1, length).astype(np.int64)
        return low, np.maximum(high, low + 1)

    x0, x1 = edges(left, mask.shape[1])
    y0, y1 = edges(top, mask.shape[0])
    inside = sums[y1, x1] - sums[y0, x1] - sums[y1, x0] + sums[y0, x0]
    return np.asarray(inside / ((x1 - x0) * (y1 - y0)))


def blocks_of(
    x: Whole, y: Whole, settings: TilingSettings, scale: float, exact: bool
) -> tuple[Whole, Whole]:
    """Order of reading, and where each block starts in it.

    At a level that OpenSlide interpolates (`Slide.exact`) a tile cut from a block would differ from
    the same tile read alone, so every tile is a block there.
    """
    many = max(1, int(BLOCK / scale - settings.size) // settings.stride + 1)
    span = settings.stride * (many if exact else 1)
    column, row = (x - settings.origin) // span, (y - settings.origin) // span
    order = np.lexsort((x, y, column, row))
    key = np.stack([row[order], column[order]])
    starts = np.flatnonzero((key[:, 1:] != key[:, :-1]).any(axis=0)) + 1
    return order, np.concatenate([[0], starts, [len(x)]])

"""A plan of tiles whose places are listed: cut where another tool put them.

The file says how large a tile is; its pixels are read from the level that fits, as for a grid
(`plan`). A place that is no whole pixel of the tiles moves by half of one at most, so that each
tile can be read again by its row; one that reaches beyond the slide is left out. Both are counted.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from privgen.data.slides import Overview, Slide
from privgen.errors import SlideError
from privgen.tiling.coordinates import Coordinates
from privgen.tiling.plan import TilePlan, blocks_of, require_readable, source_of, tissue_share
from privgen.tiling.settings import TilingSettings

KINDS: Mapping[str, str] = {
    "beyond": "reach beyond the slide and were left out",
    "twice": "lie where another does and were cut once",
    "moved": "were moved by half a pixel or less",
}
"""What becomes of listed places that are not cut as they stand, and how it is told."""


@dataclass(frozen=True)
class Listed:
    """A plan, and how many places each of `KINDS` happened to."""

    plan: TilePlan
    counts: Mapping[str, int] = field(default_factory=dict)


def plan_listed(
    path: str,
    slide: Slide,
    settings: TilingSettings,
    coordinates: Coordinates,
    overview: Overview,
    mask: NDArray[np.bool_],
) -> Listed:
    """Place tiles where a list says.

    Args:
      path: what to call the slide in an error.
      slide: open.
      settings: what is asked for; of the scale it says nothing.
      coordinates: the list.
      overview: of the slide; gives the mask's scale.
      mask: tissue, shape of the overview.

    Raises:
      SlideError: the list is of tiles of another size, no tile lies on the slide, or none on
        tissue.
    """
    if coordinates.size != settings.size:
        raise SlideError(
            path,
            f"its coordinates are of tiles of {coordinates.size} px, and {settings.size} were "
            f"asked for. Give `size` {coordinates.size}.",
        )
    target = slide.mpp * coordinates.side / coordinates.size
    level, scale, mpp = source_of(slide, replace(settings, mpp=target))
    chosen = slide.levels[level]
    require_readable(path, settings.size, scale, mpp)
    step = scale * chosen.downsample  # level-0 pixels per pixel of the tiles
    here = np.stack([coordinates.x, coordinates.y])
    most = np.array([[slide.width], [slide.height]])
    inside = ((here >= 0) & (here + coordinates.side <= most + step / 2)).all(axis=0)
    kept = here[:, inside]
    last = [int(side / scale + 1e-6) - settings.size for side in (chosen.width, chosen.height)]
    if not kept.size or min(last) < 0:
        raise SlideError(
            path,
            f"none of its {here.shape[1]} listed tiles lies on the slide's "
            f"{slide.width}x{slide.height} pixels. Give the coordinates of this slide.",
        )
    placed = np.clip(np.rint(kept / step).astype(np.int64), 0, np.array(last)[:, np.newaxis])
    x, y = np.unique(placed, axis=1)
    counts = {
        "beyond": int((~inside).sum()),
        "twice": kept.shape[1] - len(x),
        "moved": int((np.abs(placed * step - kept) > 1e-6).any(axis=0).sum()),
    }
    span = step / overview.scale
    tissue = tissue_share(mask, x * span, y * span, settings.size * span)
    on_tissue = tissue >= settings.min_tissue
    if not on_tissue.any():
        raise SlideError(
            path,
            f"no listed tile has {settings.min_tissue:g} of tissue: the most is "
            f"{tissue.max():.2f}. Give a smaller `min_tissue`.",
        )
    x, y, tissue = x[on_tissue], y[on_tissue], tissue[on_tissue]
    order, blocks = blocks_of(x, y, settings, scale, slide.exact(level))
    if not slide.exact(level):  # there a block is one tile, and places may crowd
        blocks = np.arange(len(x) + 1)
    plan = TilePlan(
        level=level,
        scale=scale,
        downsample=chosen.downsample,
        mpp=mpp,
        size=settings.size,
        x=x[order],
        y=y[order],
        tissue=tissue[order],
        blocks=blocks,
        candidates=here.shape[1],
    )
    return Listed(plan, {kind: counts[kind] for kind in KINDS if counts[kind]})


def warnings(found: list[Mapping[str, int]]) -> list[str]:
    """What should be read of the lists of all slides; it names nobody."""
    total = {kind: sum(one.get(kind, 0) for one in found) for kind in KINDS}
    told = [f"{total[kind]:,} {KINDS[kind]}" for kind in KINDS if total[kind]]
    return [f"of the listed tiles {', '.join(told)}."] if told else []

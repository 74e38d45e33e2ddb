"""The overlap graph: which tiles share pixels, and how much of each.

Two tiles share pixels when they lie on the same slide (or source image) and their rectangles
`[x, x + width) x [y, y + height)` intersect; where all scales on the slide are known, in
micrometres. Where x and y are pixels of another level than the tile (`xy_mpp`), its width and
height are taken there first. Tiles whose place is unknown are counted: nothing is said about them.

The rectangles of a slide are found in a packed R-tree (Leutenegger et al. 1997, "STR: a simple and
efficient algorithm for R-tree packing"), a block at a time, so that time and memory follow the
number of pairs and not the square of the number of tiles.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from privgen.data.tileset import TileRecord

Indices = NDArray[np.intp]
Numbers = NDArray[np.float64]

_BLOCK = 4096

_TOUCHING = 1e-6
"""Share of a side below which two tiles only touch: scales are rounded numbers."""

"""Rectangles that are looked up at once."""

_SAMPLED = 1000
"""Most tiles that are set against all their neighbours together."""


@dataclass(frozen=True, eq=False)
class Overlap:
    """Pairs of tiles that share pixels.

    Attributes:
      pairs: indices of both, the smaller first, in ascending order, shape (k, 2).
      shares: share of each tile's own pixels that lies in the other, shape (k, 2).
      unknown: tiles whose place is not known.
      boxes: near x, near y, far x, far y of each tile, in one unit per slide, NaN where it is not
        known; shape (n, 4).
    """

    pairs: Indices
    shares: Numbers
    unknown: int
    boxes: Numbers

    @property
    def largest(self) -> float:
        """Largest share of a tile's pixels that one other tile has too; 0 without a pair."""
        return float(self.shares.max(initial=0.0))

    def covered(self) -> float:
        """Median share of a tile's pixels that other tiles have too, all of them together.

        Over the tiles that share any, or a thousand of them evenly spaced; 0 where there is none.
        """
        either = np.concatenate([self.pairs, self.pairs[:, ::-1]])
        either = either[np.argsort(either[:, 0], kind="stable")]
        tiles, starts = np.unique(either[:, 0], return_index=True)
        others = np.split(either[:, 1], starts[1:])
        chosen = np.unique(np.linspace(0, len(tiles) - 1, min(len(tiles), _SAMPLED), dtype=np.intp))
        shares = []
        for position in chosen:
            own, near = self.boxes[tiles[position]], self.boxes[others[position]]
            clipped = np.maximum(near[:, :2], own[:2]), np.minimum(near[:, 2:], own[2:])
            common = shapely.union_all(shapely.box(*np.concatenate(clipped, axis=1).T))
            shares.append(common.area / (own[2:] - own[:2]).prod())
        return float(np.median(shares)) if shares else 0.0


def find_overlap(records: Sequence[TileRecord]) -> Overlap:
    """Find every pair of tiles that share pixels.

    Args:
      records: a tile's place is known when its slide or source image, its x and y, and its size
        are.

    Source: docs/methods.md#slides-and-splits.
    """
    inside: dict[str, list[int]] = defaultdict(list)
    boxes: dict[str, list[tuple[float, float, float, float]]] = defaultdict(list)
    scales: dict[str, list[float | None]] = defaultdict(list)
    for index, record in enumerate(records):
        frame = record.slide or record.source_image
        x, y, width, height = record.x, record.y, record.width, record.height
        if frame is None or x is None or y is None or width is None or height is None:
            continue
        inside[frame].append(index)
        # In its own pixels, whatever x and y are counted in.
        own = 1.0 if record.xy_mpp is None or record.mpp is None else record.xy_mpp / record.mpp
        boxes[frame].append((x * own, y * own, x * own + width, y * own + height))
        scales[frame].append(record.mpp)
    pairs, shares = [np.empty((0, 2), dtype=np.intp)], [np.empty((0, 2))]
    every = np.full((len(records), 4), np.nan)
    for frame, members in inside.items():
        box = np.array(boxes[frame], dtype=np.float64)
        known = [scale for scale in scales[frame] if scale is not None]
        if len(known) == len(members):
            box *= np.array(known)[:, np.newaxis]
        every[members] = box
        met, part = _meeting(box)
        pairs.append(np.array(members, dtype=np.intp)[met])
        shares.append(part)
    found, parts = np.concatenate(pairs), np.concatenate(shares)
    order = np.lexsort((found[:, 1], found[:, 0]))
    placed = sum(map(len, inside.values()))
    return Overlap(
        pairs=found[order], shares=parts[order], unknown=len(records) - placed, boxes=every
    )


def _meeting(box: Numbers) -> tuple[Indices, Numbers]:
    """Pairs of rows of `box` whose insides intersect, and the share of each, shapes (k, 2).

    Args:
      box: near x, near y, far x, far y; shape (n, 4).
    """
    rectangles = shapely.box(*box.T)
    tree = shapely.STRtree(rectangles)
    near, far = box[:, :2], box[:, 2:]
    area = (far - near).prod(axis=1)
    pairs, shares = [np.empty((0, 2), dtype=np.intp)], [np.empty((0, 2))]
    for start in range(0, len(box), _BLOCK):
        asked, answered = tree.query(rectangles[start : start + _BLOCK])
        asked = asked + start
        once = asked < answered
        i, j = asked[once], answered[once]
        common = np.minimum(far[i], far[j]) - np.maximum(near[i], near[j])
        side = np.minimum(far[i] - near[i], far[j] - near[j])
        meet = (common > _TOUCHING * side).all(axis=1)
        i, j, common = i[meet], j[meet], common[meet]
        pairs.append(np.stack([i, j], axis=1))
        shares.append(common.prod(axis=1)[:, np.newaxis] / area[pairs[-1]])
    return np.concatenate(pairs), np.concatenate(shares)

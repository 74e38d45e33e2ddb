"""Planted copies of which only pieces are left, moved or set into other tissue.

A generator may paste what it remembers: a gland into new stroma, a corner of one tile beside a
corner of another. Such a tile as a whole resembles nothing; its pieces are a patient's.

Source: docs/methods.md#power.
"""

import numpy as np
from numpy.typing import NDArray

from privgen.data.images import pixel_digest, resize
from privgen.errors import InputError

Pixels = NDArray[np.uint8]

PARTS = 4
"""Pieces a side of a jigsaw and of a mosaic."""


def jigsaw(tiles: Pixels, rng: np.random.Generator) -> Pixels:
    """Cut each tile in 4 x 4 pieces and shuffle them; what 4 does not divide stays in place."""
    copies = tiles.copy()
    piece = tiles.shape[1] // PARTS
    for copy, tile in zip(copies, tiles, strict=True):
        for place, origin in enumerate(rng.permutation(PARTS**2)):
            copy[_cell(place, piece)] = tile[_cell(int(origin), piece)]
    return copies


def mosaic(tiles: Pixels, rng: np.random.Generator) -> Pixels:
    """Of each tile one piece, a quarter of its side, beside pieces of 15 others of `tiles`."""
    copies = tiles.copy()
    piece = tiles.shape[1] // PARTS
    for row, copy in enumerate(copies):
        others = np.delete(np.arange(len(tiles)), row)
        wanted = PARTS**2 - 1
        drawn = rng.choice(others, wanted, replace=len(others) < wanted) if len(others) else [row]
        sources = rng.permutation(np.append(np.resize(drawn, wanted), row))
        for place, source in enumerate(sources):
            copy[_cell(place, piece)] = _anywhere(tiles[source], piece, rng)
    return copies


def inset(tiles: Pixels, rng: np.random.Generator, partners: Pixels, *, share: float) -> Pixels:
    """Each tile, shrunk to `share` of its side, somewhere on a tile of other tissue."""
    side = tiles.shape[1]
    size = max(1, round(share * side))
    copies = others(tiles, rng, partners)
    for copy, small in zip(copies, resize(tiles, size), strict=True):
        top, left = rng.integers(0, side - size + 1, size=2)
        copy[top : top + size, left : left + size] = small
    return copies


def piece(tiles: Pixels, rng: np.random.Generator, partners: Pixels, *, share: float) -> Pixels:
    """A piece of each tile, `share` of its side, at its own size on a tile of other tissue."""
    side = tiles.shape[1]
    size = max(1, round(share * side))
    copies = others(tiles, rng, partners)
    for copy, tile in zip(copies, tiles, strict=True):
        top, left = rng.integers(0, side - size + 1, size=2)
        copy[top : top + size, left : left + size] = _anywhere(tile, size, rng)
    return copies


def half_paste(tiles: Pixels, rng: np.random.Generator, partners: Pixels) -> Pixels:
    """The left half of each tile beside the right half of a tile of other tissue."""
    copies = others(tiles, rng, partners)
    half = tiles.shape[1] // 2
    copies[:, :, :half] = tiles[:, :, :half]
    return copies


def others(tiles: Pixels, rng: np.random.Generator, partners: Pixels) -> Pixels:
    """A partner for each tile, never one of equal pixels; freshly allocated.

    Args:
      tiles: n of them, shape (n, h, h, 3).
      rng: which partner.
      partners: tiles to draw on, of the same size.

    Raises:
      InputError: a tile has no other tile among the partners, or those have another size.
    """
    if partners.shape[1:] != tiles.shape[1:]:
        raise InputError(
            f"tiles to plant copies with must have one size: got {tiles.shape[1:]} and "
            f"{partners.shape[1:]}. Scale them first."
        )
    digests = [pixel_digest(tile) for tile in (*tiles, *partners)]
    _, number = np.unique(digests, return_inverse=True)
    own, theirs = number[: len(tiles)], number[len(tiles) :]
    chosen = np.empty(len(tiles), dtype=np.intp)
    for row, draw in enumerate(rng.random(len(tiles))):
        different = np.flatnonzero(theirs != own[row])
        if len(different) == 0:
            raise InputError(
                f"such a copy needs another tile: got {len(partners)} to draw on, none of other "
                "pixels. Give more tiles."
            )
        chosen[row] = different[int(draw * len(different))]
    return partners[chosen]


def _cell(place: int, size: int) -> tuple[slice, slice]:
    top, left = place // PARTS * size, place % PARTS * size
    return slice(top, top + size), slice(left, left + size)


def _anywhere(tile: Pixels, size: int, rng: np.random.Generator) -> Pixels:
    """A square piece of one tile."""
    top, left = rng.integers(0, len(tile) - size + 1, size=2)
    return tile[top : top + size, left : left + size]

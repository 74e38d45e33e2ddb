"""Tile sets of a few pixels per tile, whose patients, slides and places are given."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from privgen.data.tileset import TileSet


def distinct(count: int, first: int = 0) -> NDArray[np.uint8]:
    """Tiles of four pixels, all different, none of them featureless."""
    numbers = np.arange(first, first + count, dtype=np.uint32)
    tiles = np.zeros((count, 2, 2, 3), dtype=np.uint8)
    tiles[:, 0, 0] = numbers.view(np.uint8).reshape(count, 4)[:, :3]
    tiles[:, 1] = 255
    return tiles


def made(
    patients: list[str],
    labels: list[str] | None = None,
    slides: list[str] | None = None,
    first: int = 0,
) -> TileSet:
    return TileSet.from_arrays(
        distinct(len(patients), first),
        labels or ["x"] * len(patients),
        patients=patients,
        slides=slides or patients,
    )


def placed(tiles: TileSet, places: list[tuple[str, int, int]], side: int = 10) -> TileSet:
    """The same tiles, standing at (slide, x, y) with `side` pixels per side."""
    records = tuple(
        replace(record, slide=slide, x=x, y=y, width=side, height=side)
        for record, (slide, x, y) in zip(tiles.records, places, strict=True)
    )
    return replace(tiles, records=records)

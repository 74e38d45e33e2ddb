"""Generators that are trained within a second, and what they were trained on."""

from dataclasses import dataclass
from pathlib import Path

from privgen.benefit.regimes import Parts
from privgen.data.tileset import TileSet

TINY = {
    "family": "cdcgan",
    "discriminator": "own",
    "resolution": 32,
    "kimg": 0.024,
    "batch": 8,
    "width": 4,
    "head_width": 4,
    "threads": 1,
    "device": "cpu",
}
"""A generator that is trained within a second."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """Generators of two regimes, and what they were trained on."""

    folder: Path
    tiles: TileSet
    parts: Parts
    subsets: dict[float, TileSet]
    runs: dict[float, tuple[Path, ...]]

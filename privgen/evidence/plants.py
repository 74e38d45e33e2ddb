"""Planted copies: train tiles altered in known ways, to learn which leaks an audit would find.

Each kind is a pure function of tiles and a generator of random numbers; a copy keeps shape and
type. A kind's strength is fixed here, since a power curve means nothing without it.

Source: METHODS.md 3.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from privgen.data import stain
from privgen.errors import ConfigError
from privgen.evidence.orbit import SYMMETRIES, symmetries

Tiles = NDArray[np.uint8]

ODD_DEGREES = (10.0, 80.0)
"""Range of odd rotations: at least 10 degrees away from every symmetry of the square."""

STAIN_STRENGTH = 0.3
"""Strength of the stain jitter: plainly another laboratory, still plainly H&E."""


def plant(kind: str, tiles: Tiles, rng: np.random.Generator) -> Tiles:
    """Copies of `tiles`, altered.

    Args:
      kind: one of `KINDS`.
      tiles: uint8, shape (n, h, h, 3).
      rng: draws what the alteration leaves open, for each tile.

    Returns:
      uint8, the shape of `tiles`, freshly allocated; row i is the copy of tile i.

    Raises:
      ConfigError: there is no such kind.
    """
    if kind not in ALTERATIONS:
        raise ConfigError(f"no planted copy is called {kind!r}; there are {', '.join(KINDS)}.")
    return ALTERATIONS[kind](tiles, rng)


def _exact(tiles: Tiles, rng: np.random.Generator) -> Tiles:
    return tiles.copy()


def _symmetry(tiles: Tiles, rng: np.random.Generator) -> Tiles:
    """One of the 7 symmetries other than leaving the tile as it is."""
    chosen = rng.integers(1, SYMMETRIES, size=len(tiles))
    copies = np.empty_like(tiles)
    for index, version in enumerate(symmetries(tiles)):
        copies[chosen == index] = version[chosen == index]
    return copies


def _odd_rotation(tiles: Tiles, rng: np.random.Generator) -> Tiles:
    """Turn each tile about its centre, bicubic, corners filled by reflection at the border.

    Reflection keeps the scale and invents no colour; the largest square free of it would be a crop.
    """
    if len(tiles) == 0:
        return tiles.copy()
    angle = np.radians(rng.uniform(*ODD_DEGREES, size=len(tiles)))
    cos, sin, nil = np.cos(angle), np.sin(angle), np.zeros(len(tiles))
    matrix = np.stack([cos, -sin, nil, sin, cos, nil], axis=1).reshape(-1, 2, 3)
    source = torch.from_numpy(tiles.astype(np.float32)).permute(0, 3, 1, 2)
    grid = F.affine_grid(
        torch.from_numpy(matrix.astype(np.float32)), list(source.shape), align_corners=False
    )
    turned = F.grid_sample(
        source, grid, mode="bicubic", padding_mode="reflection", align_corners=False
    )
    rounded = turned.clamp(0, 255).round().to(torch.uint8)
    return np.ascontiguousarray(rounded.permute(0, 2, 3, 1).numpy())


def _stain(tiles: Tiles, rng: np.random.Generator) -> Tiles:
    return stain.jitter(tiles, rng, strength=STAIN_STRENGTH)


ALTERATIONS: dict[str, Callable[[Tiles, np.random.Generator], Tiles]] = {
    "exact": _exact,
    "symmetry": _symmetry,
    "odd_rotation": _odd_rotation,
    "stain": _stain,
}
"""Kind and the function that makes it."""

KINDS = tuple(ALTERATIONS)

"""Sets of smooth textures in every role, copies among them, and what is collected of them."""

import numpy as np
import pytest
from numpy.typing import NDArray

from privgen.data.images import resize
from privgen.data.tileset import TileSet
from privgen.encoders.loading import Encoder
from privgen.evidence.collect import Evidence, collect

Tiles = NDArray[np.uint8]
SIDE = 32


def textures(count: int, seed: int, side: int = SIDE) -> Tiles:
    """Smooth random colour fields; different seeds share nothing."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(40, 216, (count, 6, 6, 3), dtype=np.uint8)
    return resize(coarse, side)


def tile_set(count: int, seed: int, patients: int, prefix: str, side: int = SIDE) -> TileSet:
    return TileSet.from_arrays(
        textures(count, seed, side),
        [("a", "b")[row % 2] for row in range(count)],
        patients=[f"{prefix}{row % patients}" for row in range(count)],
        slides=[f"{prefix}{row % patients}-{row % 3}" for row in range(count)],
    )


def synthetic_set(tiles: Tiles) -> TileSet:
    return TileSet.from_arrays(tiles, ["a"] * len(tiles))


@pytest.fixture(scope="module")
def train() -> TileSet:
    return tile_set(150, 1, 10, "T")


@pytest.fixture(scope="module")
def holdout() -> TileSet:
    return tile_set(60, 2, 6, "H")


@pytest.fixture(scope="module")
def synthetic(train: TileSet) -> TileSet:
    """40 new tiles, then train tiles 3, 5 and 8: as they are, turned, mirrored."""
    copied = train.subset([3, 5, 8]).load()
    copied[1] = np.rot90(copied[1])
    copied[2] = copied[2][:, ::-1]
    return synthetic_set(np.concatenate([textures(40, 3), copied]))


@pytest.fixture(scope="module")
def evidence(train: TileSet, holdout: TileSet, synthetic: TileSet, pixels: Encoder) -> Evidence:
    return collect(
        train=train,
        holdout=holdout,
        synthetic=synthetic,
        siblings=tile_set(20, 4, 10, "T"),
        reference=tile_set(30, 5, 3, "R"),
        encoder=pixels,
        seed=0,
        planted_per_kind=24,
    )


def distances(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    difference = a.astype(np.float64)[:, None] - b.astype(np.float64)[None]
    return np.asarray(np.linalg.norm(difference, axis=2))

"""Small tiles whose class is a texture, so that a network learns them in a few updates."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from privgen.benefit.generators import train_generators
from privgen.benefit.protocol import BenchReport, augment_bench
from privgen.benefit.regimes import GeneratorTiles, Regime, cut, split
from privgen.data.layouts import open_tiles
from privgen.data.phantom import write_phantom
from privgen.data.tileset import TileSet
from tests.helpers.small_generators import TINY, Trained

CLASSES = ("across", "check", "down")


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def draw(
    labels: NDArray[np.str_], rng: np.random.Generator, *, side: int, tint: NDArray[np.float64]
) -> NDArray[np.uint8]:
    """Stripes across, stripes down or a chequerboard, of random phase, on a tinted ground.

    Args:
      labels: of `CLASSES`, shape (n,).
      rng: phases and noise.
      side: pixels.
      tint: added to each channel, shape (n, 3).
    """
    steps = np.arange(side) // 2
    tiles = np.empty((len(labels), side, side, 3))
    for row, label in enumerate(labels):
        x, y = (steps + rng.integers(2)) % 2, (steps + rng.integers(2)) % 2
        pattern = {
            "across": np.repeat(y[:, np.newaxis], side, axis=1),
            "down": np.repeat(x[np.newaxis, :], side, axis=0),
            "check": (x[np.newaxis, :] + y[:, np.newaxis]) % 2,
        }[label]
        tiles[row] = 100 + 50 * pattern[..., np.newaxis] + tint[row]
    return np.clip(tiles + rng.normal(0, 12, tiles.shape), 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def textures() -> Callable[..., TileSet]:
    """`textures("train", patients=4, each=9)`: a tile set of patients no other name shares."""

    def make(
        name: str,
        *,
        patients: int = 4,
        each: int = 9,
        side: int = 16,
        colour_tells: bool = False,
        classes: tuple[str, ...] = CLASSES,
        grouped: bool = True,
    ) -> TileSet:
        rng = np.random.default_rng(list(name.encode()))
        count = patients * each
        labels = np.resize(np.array(classes), count)
        tint = rng.uniform(-40, 40, (count, 3))
        if colour_tells:
            tint = np.array([[40, -40, -40], [-40, 40, -40], [-40, -40, 40]], dtype=np.float64)[
                [CLASSES.index(label) for label in labels]
            ]
        owners = np.repeat([f"{name}{p}" for p in range(patients)], each)
        return TileSet.from_arrays(
            draw(labels, rng, side=side, tint=tint), labels, patients=owners if grouped else None
        )

    return make


@pytest.fixture(scope="session")
def material(textures: Callable[..., TileSet]) -> Callable[..., dict[str, Any]]:
    """`material(generators=2)`: one regime whose generators are perfect, and the other parts."""

    def make(*, generators: int = 1, **options: Any) -> dict[str, Any]:
        return {
            "regimes": (
                Regime(
                    share=1.0,
                    train=textures("train", **options),
                    generators=tuple(
                        GeneratorTiles(
                            name=f"perfect {number}",
                            tiles=textures(f"made{number}", patients=8, grouped=False),
                        )
                        for number in range(generators)
                    ),
                ),
            ),
            "validation": textures("choose", patients=3),
            "test": textures("test", patients=5),
        }

    return make


@pytest.fixture(scope="session")
def bench(material: Callable[..., dict[str, Any]]) -> Callable[..., BenchReport]:
    """`bench(updates=3)`: a run of a few updates in this process, options changed as given."""

    def run(**changed: Any) -> BenchReport:
        options: dict[str, Any] = {
            "models": ("mobilenet",),
            "seeds": (0, 1),
            "ratios": (1.0,),
            "arms": ("real", "real+synthetic"),
            "updates": 2,
            "batch": 8,
            "evaluations": 2,
            "device": "cpu",
            "jobs": 1,
        }
        return augment_bench(**(material() | options | changed))

    return run


@pytest.fixture(scope="session")
def real_folder(textures: Callable[..., TileSet], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 patients of 9 tiles of 32 px, in class folders."""
    folder = tmp_path_factory.mktemp("real") / "tiles"
    write_phantom(folder, textures("real", patients=12, side=32))
    return folder


@pytest.fixture(scope="session")
def trained(real_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """One tiny generator for a quarter of the known tiles, two for all of them."""
    tiles = open_tiles(real_folder)
    parts = split(tiles, seed=0)
    subsets = cut(parts.known, (0.25, 1.0), seed=0)
    folder = tmp_path_factory.mktemp("generators")
    runs = train_generators(
        tiles, parts, {1.0: subsets[1.0]}, options=TINY, count=2, folder=folder
    ) | train_generators(tiles, parts, {0.25: subsets[0.25]}, options=TINY, count=1, folder=folder)
    return Trained(folder=folder, tiles=tiles, parts=parts, subsets=subsets, runs=runs)

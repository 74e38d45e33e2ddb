"""Stain normalisation: what it moves where, and the tiles it must leave alone."""

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from privgen.data import stain
from privgen.data.images import read_tile, write_png
from privgen.errors import ConfigError, TileError
from privgen.tiling.normalise import Method, load_normaliser

pytest.importorskip("torchstain")

Tile = NDArray[np.uint8]
METHODS: tuple[Method, ...] = ("macenko", "reinhard")
STAINS = stain.RGB_FROM_HED[:2]


def two_stain_tile(seed: int = 0, strength: tuple[float, float] = (1, 1)) -> Tile:
    """Light of 240 through random amounts of haematoxylin and eosin, and nothing else."""
    rng = np.random.default_rng(seed)
    amounts = rng.gamma([1.5, 2.0], [0.35, 0.2], size=(96, 96, 2)).clip(0, 2) * strength
    light = 240 * np.exp(-(amounts @ STAINS)) - 1
    return np.asarray(np.rint(light), dtype=np.uint8)


def mean_density(tile: Tile) -> NDArray[np.float64]:
    return np.asarray(stain.optical_density(tile).mean(axis=(0, 1)), dtype=np.float64)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    write_png(tmp_path / "target.png", two_stain_tile())
    return tmp_path / "target.png"


@pytest.mark.parametrize("method", METHODS)
def test_the_target_itself_stays_as_it_is(method: Method, target: Path) -> None:
    # Macenko: its two stains are all there is, so only the rounding of the input to whole grey
    # levels and the cutting of the output to whole ones remain, less than 1 each; Reinhard: the
    # output's alone.
    tile = read_tile(target)
    moved = load_normaliser(method, target)(tile).astype(float) - tile
    assert np.abs(moved.mean(axis=(0, 1))).max() < 1
    assert np.abs(moved).max() <= 2


@pytest.mark.parametrize("method", METHODS)
def test_a_restained_tile_comes_closer_to_the_target(method: Method, target: Path) -> None:
    normalise = load_normaliser(method, target)
    aim = mean_density(read_tile(target))
    tiles = np.stack([two_stain_tile(seed) for seed in range(1, 7)])
    restained = stain.jitter(tiles, np.random.default_rng(1), strength=0.4)
    before = [float(np.linalg.norm(mean_density(tile) - aim)) for tile in restained]
    after = [float(np.linalg.norm(mean_density(normalise(tile)) - aim)) for tile in restained]
    assert np.mean(after) < 0.5 * np.mean(before)
    assert normalise.failed == 0


def test_macenko_undoes_stronger_and_weaker_stains_pixel_by_pixel(target: Path) -> None:
    # The same tissue, haematoxylin 1.5 times as strong and eosin .7 times: Macenko's model exactly.
    original = read_tile(target).astype(float)
    restained = two_stain_tile(strength=(1.5, 0.7))
    moved = load_normaliser("macenko", target)(restained).astype(float)
    assert np.abs(restained - original).mean() > 10
    assert np.abs(moved - original).mean() < 2


def test_reinhard_gives_the_mean_and_spread_of_the_target(target: Path) -> None:
    aim = read_tile(target).astype(float)
    (tile,) = stain.jitter(two_stain_tile(5)[None], np.random.default_rng(2), strength=0.4)
    moved = load_normaliser("reinhard", target)(tile).astype(float)
    # Equal in CIELAB before clipping and rounding; in RGB near enough to tell the target's mean.
    assert np.abs(moved.mean(axis=(0, 1)) - aim.mean(axis=(0, 1))).max() < 4
    assert np.abs(tile.mean(axis=(0, 1)) - aim.mean(axis=(0, 1))).max() > 8


def untouchable() -> dict[str, Tile]:
    rng = np.random.default_rng(0)
    white = np.full((64, 64, 3), 245, dtype=np.uint8)
    noisy = rng.integers(236, 250, (64, 64, 3), dtype=np.uint8)
    speck = noisy.copy()
    speck[:7, :5] = two_stain_tile()[:7, :5]  # 35 of 4096 pixels: under 1 %
    ink = np.repeat(rng.integers(20, 120, (64, 64, 1), dtype=np.uint8), 3, axis=2)
    return {
        "white": white,
        "pure white": np.full_like(white, 255),
        "black": np.zeros_like(white),
        "noisy white": noisy,
        "a speck on white": speck,
        "one colour": np.full_like(white, (150, 60, 130)),
        "grey ink": ink,
        "one pixel": two_stain_tile()[:1, :1],
    }


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", list(untouchable()))
def test_a_tile_without_stains_is_returned_unchanged_and_counted(
    method: Method, name: str, target: Path
) -> None:
    normalise = load_normaliser(method, target)
    tile = untouchable()[name]
    assert np.array_equal(normalise(tile), untouchable()[name])
    assert normalise.failed == 1
    normalise(two_stain_tile(1))
    assert normalise.failed == 1


@pytest.mark.parametrize("method", METHODS)
def test_a_tile_is_normalised_the_same_whatever_came_before(method: Method, target: Path) -> None:
    tile = two_stain_tile(3)
    first = load_normaliser(method, target)(tile)
    busy = load_normaliser(method, target)
    for other in (*untouchable().values(), two_stain_tile(4)):
        busy(other)
    assert np.array_equal(busy(tile), first)
    assert first.dtype == np.uint8
    assert first.shape == tile.shape
    assert not np.array_equal(first, tile)


@pytest.mark.parametrize("method", METHODS)
def test_threads_share_a_normaliser(method: Method, target: Path) -> None:
    tiles = [two_stain_tile(seed) for seed in range(8)] + list(untouchable().values())
    alone = load_normaliser(method, target)
    expected = [alone(tile) for tile in tiles]
    shared = load_normaliser(method, target)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(shared, tiles))
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))
    assert shared.failed == alone.failed == len(untouchable())


@pytest.mark.parametrize("method", METHODS)
def test_a_target_without_tissue_is_refused(method: Method, tmp_path: Path) -> None:
    write_png(tmp_path / "glass.png", untouchable()["noisy white"])
    with pytest.raises(TileError, match="too little stained tissue") as caught:
        load_normaliser(method, tmp_path / "glass.png")
    assert "glass" not in caught.value.rule


def test_an_unknown_method_is_refused(target: Path) -> None:
    with pytest.raises(ConfigError, match="macenko, reinhard"):
        load_normaliser("vahadane", target)  # type: ignore[arg-type]


def test_without_the_library_the_extra_is_named(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torchstain.numpy.normalizers", None)
    with pytest.raises(ConfigError, match=r"privgen\[stain\]"):
        load_normaliser("macenko", target)


def test_normalising_loads_no_torch(target: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from privgen.tiling.normalise import *\n"
        "assert 'torchstain' not in sys.modules\n"
        "load_normaliser('macenko', Path(sys.argv[1]))\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code, str(target)], check=True)


def test_real_tiles_come_closer_to_a_real_target(real_data: Callable[[str], Path]) -> None:
    folder = real_data("lc25000") / "colon_n"
    files = sorted(p for p in folder.iterdir() if p.suffix in (".jpeg", ".jpg", ".png"))[:6]
    aim = mean_density(read_tile(files[0]))
    for method in METHODS:
        normalise = load_normaliser(method, files[0])
        tiles = [read_tile(file) for file in files[1:]]
        before = np.mean([np.linalg.norm(mean_density(tile) - aim) for tile in tiles])
        after = np.mean([np.linalg.norm(mean_density(normalise(t)) - aim) for t in tiles])
        assert after < before
        assert normalise.failed == 0

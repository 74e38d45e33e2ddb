"""Pixels of tiles: those of the slide, whatever is read together, and again by manifest row."""

import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from privgen.data.phantom import make_phantom
from privgen.data.slides import Slide, overview
from privgen.tiling.cut import read_again, read_tiles
from privgen.tiling.plan import TilePlan, plan_tiles
from privgen.tiling.settings import TilingSettings
from tests.helpers.slide_files import write_slide

WIDTH, HEIGHT = 1501, 1203


@pytest.fixture(scope="module")
def tissue() -> NDArray[np.uint8]:
    """Procedural tissue, 1501 x 1203 px."""
    made = make_phantom(patients=1, tiles_per_patient=30, side=256, seed=4).load()
    rows = [np.concatenate(list(made[i : i + 6]), axis=1) for i in range(0, 30, 6)]
    return np.ascontiguousarray(np.concatenate(rows)[:HEIGHT, :WIDTH])


@pytest.fixture(scope="module")
def slide(tissue: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tissue at .25 um in two levels, every pixel kept."""
    path = tmp_path_factory.mktemp("cut") / "slide.tif"
    write_slide(path, tissue, levels=2, mpp=0.25)
    return path


def plan(slide: Slide, settings: TilingSettings) -> TilePlan:
    seen = overview(slide)
    return plan_tiles("slide", slide, settings, seen, np.ones(seen.pixels.shape[:2], dtype=bool))


def cut(path: Path, settings: TilingSettings) -> tuple[TilePlan, list[NDArray[np.uint8]]]:
    with Slide(path) as slide:
        made = plan(slide, settings)
        blocks = zip(made.blocks, made.blocks[1:], strict=False)
        return made, [tile for a, b in blocks for tile in read_tiles(slide, made, int(a), int(b))]


def test_native_tiles_are_the_pixels_of_the_slide(slide: Path, tissue: NDArray[np.uint8]) -> None:
    made, tiles = cut(slide, TilingSettings(size=96, stride=70, mpp=0.25))
    assert len(tiles) == len(made) == made.candidates
    for x, y, tile in zip(made.x, made.y, tiles, strict=True):
        np.testing.assert_array_equal(tile, tissue[y : y + 96, x : x + 96])


@pytest.mark.parametrize("mpp", [0.4, 0.33])
def test_resampled_tiles_are_cut_from_the_slide_resampled_as_a_whole(
    slide: Path, tissue: NDArray[np.uint8], mpp: float
) -> None:
    made, tiles = cut(slide, TilingSettings(size=96, stride=96, mpp=mpp))
    assert made.level == 0
    scale, side = made.scale, 96
    columns, rows = int(WIDTH / scale), int(HEIGHT / scale)
    whole = np.asarray(
        Image.fromarray(tissue).resize(
            (columns, rows), Image.Resampling.BICUBIC, box=(0, 0, columns * scale, rows * scale)
        )
    ).astype(int)
    inner = 0
    for x, y, tile in zip(made.x, made.y, tiles, strict=True):
        if x + side > columns - 4 or y + side > rows - 4:
            continue  # the whole was cut off there
        inner += 1
        assert abs(tile.astype(int) - whole[y : y + side, x : x + side]).max() <= 1
    assert inner >= 20


@pytest.mark.parametrize(
    "mpp",
    [0.25, 0.5, 0.4, 0.83],  # native, native and interpolated, resampled twice
)
def test_a_tile_read_again_by_its_row_is_the_same(slide: Path, mpp: float) -> None:
    made, tiles = cut(slide, TilingSettings(size=64, stride=50, mpp=mpp))
    with Slide(slide) as opened:
        for number, tile in enumerate(tiles):
            again = read_again(
                opened,
                x=int(made.x[number]),
                y=int(made.y[number]),
                level=made.level,
                mpp=float(repr(made.mpp)),  # as the manifest holds it
                size=64,
            )
            np.testing.assert_array_equal(again, tile)


def test_a_native_tile_equals_what_openslide_alone_reads(slide: Path) -> None:
    openslide = pytest.importorskip("openslide")
    made, tiles = cut(slide, TilingSettings(size=64, stride=64, mpp=0.5))
    assert made.level == 1
    with openslide.OpenSlide(slide) as plain:
        for x, y, tile in zip(made.x, made.y, tiles, strict=True):
            corner = (round(int(x) * made.downsample), round(int(y) * made.downsample))
            read = np.asarray(plain.read_region(corner, 1, (64, 64)).convert("RGB"))
            np.testing.assert_array_equal(tile, read)


def test_real_tiles_read_again_are_identical(real_data: object, tmp_path: Path) -> None:
    folder = real_data("slides")  # type: ignore[operator]
    for name, given in (("CMU-1-Small-Region", None), ("TCGA-CR-7395-01A-01-TS1", 0.25)):
        with Slide(folder / f"{name}.svs", mpp=given) as slide:
            made = plan(slide, TilingSettings())
            for first, last in zip(made.blocks, made.blocks[1:], strict=False):
                for offset, tile in enumerate(read_tiles(slide, made, int(first), int(last))):
                    row = int(first) + offset
                    again = read_again(
                        slide,
                        x=int(made.x[row]),
                        y=int(made.y[row]),
                        level=made.level,
                        mpp=made.mpp,
                        size=256,
                    )
                    np.testing.assert_array_equal(again, tile)


def test_png_bytes_hold_the_pixels_and_nothing_else(tissue: NDArray[np.uint8]) -> None:
    from privgen.data import images

    for shape in ((1, 1), (5, 7), (256, 200)):
        tile = tissue[: shape[0], : shape[1]]
        encoded = images.encode_png(tile)
        with Image.open(io.BytesIO(encoded)) as opened:
            np.testing.assert_array_equal(np.asarray(opened), tile)
            assert not opened.info
        assert encoded != images.encode_png(tile, thorough=True)

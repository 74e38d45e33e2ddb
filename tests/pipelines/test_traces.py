"""Traces: what pixels tell of the files they were in, with the answer known."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from privgen.data.coding import Coding, Sampling
from privgen.data.images import recode, resize
from privgen.data.phantom import make_phantom
from privgen.pipelines.traces import BANDS, MEASURES, Trace, measures, recode_at, spectrum, trace

Tiles = NDArray[np.uint8]


@pytest.fixture(scope="module")
def tiles() -> Tiles:
    """24 tiles of 128 pixels that never were in a lossy file."""
    return make_phantom(
        patients=4, tiles_per_patient=6, side=128, classes=("LYM", "STR", "TUM")
    ).load()


def traced(tiles: Tiles, change: Callable[[Tiles], Tiles]) -> list[Trace]:
    return [trace(change(tile)) for tile in tiles]


def test_tiles_that_never_were_jpeg_show_no_coding(tiles: Tiles) -> None:
    noise = np.random.default_rng(0).integers(20, 235, (12, 64, 64, 3), dtype=np.uint8)
    for every in (tiles, resize(tiles, 64), noise):
        found = traced(every, lambda tile: tile)
        assert all(each.measurable for each in found)
        assert [each.coding for each in found] == [None] * len(every)


@pytest.mark.parametrize("sampling", ["4:2:0", "4:4:4"])
@pytest.mark.parametrize("quality", [10, 30, 50, 75, 90])
def test_the_quality_of_a_file_is_read_from_its_pixels(
    tiles: Tiles, quality: int, sampling: Sampling
) -> None:
    coding = Coding.standard(quality, sampling)
    found = traced(tiles, lambda tile: recode(tile, coding))
    right = [each.coding is not None and each.coding.quality == quality for each in found]
    assert np.mean(right) >= 0.9
    colour = [each.coding.sampling == sampling for each in found if each.coding is not None]
    assert np.mean(colour) >= 0.9
    assert all((each.top, each.left) == (0, 0) for each in found)


def test_a_coarse_coding_shows_through_a_fine_one(tiles: Tiles) -> None:
    """Saved again at quality 95: the header says 95, the pixels 30."""
    first, second = Coding.standard(30, "4:2:0"), Coding.standard(95, "4:4:4")
    found = traced(tiles, lambda tile: recode(recode(tile, first), second))
    assert np.mean([each.coding is not None and each.coding.quality == 30 for each in found]) > 0.9


def test_a_grid_that_begins_elsewhere_is_found(tiles: Tiles) -> None:
    coding = Coding.standard(40, "4:2:0")
    found = traced(tiles, lambda tile: recode(tile, coding)[5:, 3:])
    places = [(each.top, each.left) for each in found if each.coding is not None]
    assert len(places) > 0.8 * len(tiles)
    assert np.mean([place == (11, 13) for place in places]) > 0.8


def test_recoded_on_its_own_grid_a_tile_hardly_changes(tiles: Tiles) -> None:
    coding = Coding.standard(40, "4:4:4")
    for tile in tiles[:4]:
        cut = recode(tile, coding)[8 - 2 :, 8 - 7 :]
        same, other = recode_at(cut, coding, 2, 7), recode_at(cut, coding, 0, 0)
        assert same.shape == cut.shape
        change, shifted = (
            np.abs(again.astype(int) - cut)[16:-16, 16:-16].mean() for again in (same, other)
        )
        assert change < 0.2 * shifted


def test_tables_of_ones_own_are_found_where_they_are_known(tiles: Tiles) -> None:
    own = Coding(
        luma=tuple(int(step) for step in np.random.default_rng(1).permutation(np.arange(7, 71))),
        chroma=(20,) * 64,
        sampling="4:2:0",
    )
    coded = [recode(tile, own) for tile in tiles]
    assert np.mean([trace(tile, (own,)).coding == own for tile in coded]) > 0.9
    assert np.mean([trace(tile).coding is None for tile in coded]) > 0.5


def test_white_tiles_cannot_be_measured() -> None:
    assert trace(np.full((64, 64, 3), 255, dtype=np.uint8)) == Trace(measurable=False)


def test_scaling_and_blur_cut_the_spectrum_where_they_should(tiles: Tiles) -> None:
    def mean(change: Callable[[Tiles], Tiles]) -> NDArray[np.float64]:
        found = np.stack([spectrum(change(tile)) for tile in tiles]).mean(axis=0)
        return found - found[1:4].mean()

    def half(tile: Tiles) -> Tiles:
        return resize(resize(tile[np.newaxis], 64), 128)[0]

    def blurred(tile: Tiles) -> Tiles:
        soft = ndimage.gaussian_filter(tile.astype(float), (1, 1, 0))
        return np.asarray(np.rint(soft), dtype=np.uint8)

    plain = mean(lambda tile: tile)
    assert plain.shape == (BANDS,)
    scaled = mean(half) - plain
    assert np.abs(scaled[:5]).max() < 2
    assert scaled[9:].max() < -6
    # A Gaussian of 1 pixel leaves exp(-(2 pi f)^2) of the power at f cycles a pixel.
    soft = mean(blurred) - plain
    middle = (np.arange(BANDS) + 0.5) / BANDS / 2
    expected = -10 * np.log10(np.e) * (2 * np.pi * middle) ** 2
    # A ring is a square: its corners lie farther out and are blurred more.
    assert np.all(soft[3:7] < expected[3:7] + 1.5)
    assert np.all(soft[3:7] > 2 * expected[3:7] - 1.5)


def test_measures_say_blur_blocks_and_lost_colour(tiles: Tiles) -> None:
    def mean(change: Callable[[Tiles], Tiles]) -> dict[str, float]:
        found = np.stack([measures(change(tile)) for tile in tiles]).mean(axis=0)
        return dict(zip(MEASURES, found.tolist(), strict=True))

    plain = mean(lambda tile: tile)
    coarse = mean(lambda tile: recode(tile, Coding.standard(10, "4:4:4")))
    halved = mean(lambda tile: recode(tile, Coding.standard(95, "4:2:0")))
    small = mean(lambda tile: resize(resize(tile[np.newaxis], 64), 128)[0])
    assert coarse["blocks"] > plain["blocks"] + 0.2
    assert halved["colour detail"] < plain["colour detail"] - 1
    assert small["finest detail"] < plain["finest detail"] - 6
    assert small["medium detail"] > small["finest detail"]

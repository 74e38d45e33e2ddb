"""The common step: it repeats without change, and after it no role is known by its files."""

import numpy as np
import pytest
from numpy.typing import NDArray

from privgen.data.coding import Coding
from privgen.data.images import recode, resize
from privgen.data.phantom import make_phantom
from privgen.errors import InputError
from privgen.pipelines.harmonise import Step
from privgen.pipelines.traces import trace

Tiles = NDArray[np.uint8]
HALVED = Coding.standard(40, "4:2:0")


@pytest.fixture(scope="module")
def tiles() -> Tiles:
    return make_phantom(
        patients=4, tiles_per_patient=4, side=128, classes=("LYM", "STR", "TUM")
    ).load()


def apart(ours: Tiles, theirs: Tiles) -> float:
    """Mean difference of two sets of tiles, grey levels."""
    return float(np.abs(ours.astype(np.int16) - theirs).mean())


@pytest.mark.parametrize("quality", [30, 75])
@pytest.mark.parametrize("sampling", ["4:2:0", "4:4:4"])
def test_a_tile_that_had_the_coding_hardly_changes(
    tiles: Tiles, quality: int, sampling: str
) -> None:
    coding = Coding.standard(quality, "4:2:0" if sampling == "4:2:0" else "4:4:4")
    step = Step(side=128, detail=128, codings=((128, coding),))
    once = step.apply(tiles)
    twice = step.apply(once)
    first, second = apart(once, tiles), apart(twice, once)
    assert second < 0.2 * first
    assert apart(step.apply(twice), twice) <= second


def test_lossless_tiles_become_what_their_files_would_have_been(tiles: Tiles) -> None:
    step = Step(side=128, detail=128, codings=((128, HALVED),))
    files = np.stack([recode(tile, HALVED) for tile in tiles])
    np.testing.assert_array_equal(step.apply(tiles), files)


def test_the_coding_is_applied_before_scaling(tiles: Tiles) -> None:
    step = Step(side=32, detail=32, codings=((128, HALVED),))
    files = np.stack([recode(tile, HALVED) for tile in tiles])
    np.testing.assert_array_equal(step.apply(tiles), resize(files, 32))


def test_a_larger_tile_is_scaled_to_the_size_of_the_files_first(tiles: Tiles) -> None:
    step = Step(side=64, detail=64, codings=((64, HALVED),))
    files = np.stack([recode(tile, HALVED) for tile in resize(tiles, 64)])
    np.testing.assert_array_equal(step.apply(tiles), files)


def test_a_smaller_tile_gets_what_coding_changes_and_no_blur(tiles: Tiles) -> None:
    """Tiles of 64 pixels beside files of 128: near to the files once these are scaled down."""
    step = Step(side=64, detail=64, codings=((128, HALVED),))
    small = resize(tiles, 64)
    files = step.apply(tiles)
    assert apart(step.apply(small), files) < 0.75 * apart(small, files)
    # A coding that rounds nothing away leaves the tile as it is, but for rounding.
    finest = Step(side=64, detail=64, codings=((128, Coding.standard(100, "4:4:4")),))
    assert apart(finest.apply(small), small) < 0.5


def test_a_tile_with_a_grid_of_its_own_is_coded_on_it(tiles: Tiles) -> None:
    cut = np.stack([recode(tile, HALVED)[5:101, 3:99] for tile in tiles])
    found = [trace(tile) for tile in cut]
    on_grid = np.array([each.coding == HALVED and each.top == 11 for each in found])
    assert on_grid.mean() > 0.7
    corner = Step(side=96, detail=96, codings=((96, HALVED),))
    own = Step(side=96, detail=96, codings=((96, HALVED),), off_grid=True)
    assert apart(own.apply(cut[on_grid]), cut[on_grid]) < 0.4 * apart(
        corner.apply(cut[on_grid]), cut[on_grid]
    )


def test_cut_detail_is_gone_from_sharp_and_blurred_tiles_alike(tiles: Tiles) -> None:
    blurred = resize(resize(tiles, 64), 128)
    step = Step(side=128, detail=48)
    assert apart(step.apply(blurred), step.apply(tiles)) < 0.3 * apart(blurred, tiles)


def test_a_step_that_only_scales_changes_nothing_else(tiles: Tiles) -> None:
    plain = Step(side=64, detail=64)
    assert not plain.changes
    np.testing.assert_array_equal(plain.apply(tiles), resize(tiles, 64))
    assert Step(side=64, detail=32).changes
    assert Step(side=64, detail=64, codings=((64, HALVED),)).changes


def test_codings_of_several_sizes_are_applied_from_the_largest(tiles: Tiles) -> None:
    fine = Coding.standard(60, "4:4:4")
    step = Step(side=64, detail=64, codings=((128, HALVED), (64, fine)))
    expected = [
        recode(tile, fine)
        for tile in resize(np.stack([recode(tile, HALVED) for tile in tiles]), 64)
    ]
    np.testing.assert_array_equal(step.apply(tiles), np.stack(expected))


def test_tiles_that_are_not_square_are_refused() -> None:
    step = Step(side=32, detail=32)
    with pytest.raises(InputError, match="must be square"):
        step(np.zeros((32, 40, 3), dtype=np.uint8))

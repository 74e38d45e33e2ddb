"""Stresses: closed forms, and what each leaves as it was."""

import numpy as np
import pytest
from numpy.typing import NDArray

from privgen.benefit.trials.augmentation import STAIN_STRENGTH
from privgen.benefit.trials.stress import BLUR_SHARE, STAIN_SCALES, STRESSES
from privgen.data.images import decode, encode_jpeg
from privgen.data.stain import HED_FROM_RGB, RGB_FROM_HED, optical_density, rgb_from_density


def tissue(count: int, side: int = 32) -> NDArray[np.uint8]:
    rng = np.random.default_rng(3)
    stains = rng.uniform([0.3, 0.3, 0.0], [0.8, 0.7, 0.05], (count, side, side, 3))
    return rgb_from_density((stains @ RGB_FROM_HED).astype(np.float32))


def test_there_are_three() -> None:
    assert list(STRESSES) == ["hue", "jpeg", "blur"]


@pytest.mark.parametrize("name", STRESSES)
class TestEach:
    def test_it_changes_tiles_alike_every_time_and_leaves_its_input_alone(self, name: str) -> None:
        tiles = tissue(3)
        before = tiles.copy()
        first, again = STRESSES[name](tiles), STRESSES[name](tiles)
        assert np.array_equal(first, again)
        assert np.array_equal(tiles, before)
        assert not np.shares_memory(first, tiles)
        assert (first.dtype, first.shape) == (np.dtype(np.uint8), tiles.shape)
        assert np.abs(first.astype(int) - tiles).mean() > 3

    def test_a_tile_does_not_depend_on_the_others(self, name: str) -> None:
        tiles = tissue(4)
        assert np.array_equal(STRESSES[name](tiles)[2:3], STRESSES[name](tiles[2:3]))

    def test_no_tiles_are_no_tiles(self, name: str) -> None:
        assert STRESSES[name](tissue(4)[:0]).shape == (0, 32, 32, 3)

    def test_blank_glass_stays_white(self, name: str) -> None:
        glass = np.full((1, 16, 16, 3), 255, dtype=np.uint8)
        assert np.array_equal(STRESSES[name](glass), glass)


def test_hue_takes_haematoxylin_away_and_adds_eosin() -> None:
    tiles = tissue(2)
    before, after = (optical_density(x) @ HED_FROM_RGB for x in (tiles, STRESSES["hue"](tiles)))
    slope = [np.polyfit(before[..., k].ravel(), after[..., k].ravel(), 1)[0] for k in (0, 1)]
    np.testing.assert_allclose(slope, [0.7, 1.3], atol=0.03)
    np.testing.assert_allclose(after[..., 2], before[..., 2], atol=0.05)


def test_hue_lies_beyond_what_augmentation_shows() -> None:
    haematoxylin, eosin, _ = STAIN_SCALES
    assert haematoxylin < 1 - STAIN_STRENGTH
    assert eosin > 1 + STAIN_STRENGTH


def test_jpeg_is_the_file_of_quality_30_read_again() -> None:
    (tile,) = tissue(1)
    want = decode(encode_jpeg(tile, 30), "oracle")
    assert np.array_equal(STRESSES["jpeg"](tile[np.newaxis])[0], want)


@pytest.mark.parametrize("side", [64, 192])
def test_blur_spreads_a_point_by_a_64th_of_the_side(side: int) -> None:
    # An edge shows the integral of the kernel: its slope at the middle is 1 / (sigma sqrt(2 pi)).
    edge = np.zeros((1, side, side, 3), dtype=np.uint8)
    edge[:, :, side // 2 :] = 240
    row = STRESSES["blur"](edge)[0, side // 2, :, 0].astype(float) / 240
    weight = np.diff(row)
    place = np.arange(1, side) - side / 2
    sigma = np.sqrt((weight * place**2).sum())
    assert sigma == pytest.approx(BLUR_SHARE * side, rel=0.1)

"""Planted copies put together of several tiles: which, where, and how much of each."""

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from privgen.errors import InputError
from privgen.evidence import copy_pieces
from privgen.evidence.copy_kinds import COMPOSED, INSETS, PIECE, plant

Tiles = NDArray[np.uint8]


@pytest.mark.parametrize(
    ("kind", "weight"), [("blend_90", 0.9), ("blend_70", 0.7), ("blend_50", 0.5)]
)
def test_a_blend_has_the_documented_weights_and_another_tile(
    kind: str, weight: float, crops: Tiles
) -> None:
    copies = plant(kind, crops, np.random.default_rng(11)).astype(float)
    partners = []
    for row, (copy, tile) in enumerate(zip(copies, crops, strict=True)):
        mixed = weight * tile + (1 - weight) * crops.astype(float)
        apart = np.abs(mixed - copy).max(axis=(1, 2, 3))
        partner = int(apart.argmin())
        assert apart[partner] <= 0.5 + 1e-9
        assert partner != row
        partners.append(partner)
    assert len(set(partners)) > 10


def test_a_blend_may_draw_on_other_tiles(crops: Tiles) -> None:
    white = np.full((1, 64, 64, 3), 255, dtype=np.uint8)
    copies = plant("blend_70", crops, np.random.default_rng(0), partners=white)
    assert np.abs(copies - (0.7 * crops + 0.3 * 255)).max() <= 0.5 + 1e-9


def test_a_tile_is_never_blended_with_one_of_equal_pixels(crops: Tiles) -> None:
    batch = np.stack([crops[0]] * 15 + [crops[1]])
    copies = plant("blend_50", batch, np.random.default_rng(0)).astype(float)
    mean = (crops[0].astype(float) + crops[1]) / 2
    assert np.abs(copies - mean).max() <= 0.5


@pytest.mark.parametrize("rows", [[0], [0, 0]])
@pytest.mark.parametrize("kind", COMPOSED)
def test_a_lone_tile_has_nothing_to_be_put_together_with(
    kind: str, rows: list[int], crops: Tiles
) -> None:
    with pytest.raises(InputError, match=f"needs another tile: got {len(rows)} to draw on"):
        plant(kind, crops[rows], np.random.default_rng(0))


@pytest.mark.parametrize("kind", COMPOSED)
def test_partners_of_another_size_are_refused(kind: str, crops: Tiles) -> None:
    small = np.zeros((3, 32, 32, 3), dtype=np.uint8)
    with pytest.raises(InputError, match="must have one size"):
        plant(kind, crops, np.random.default_rng(0), partners=small)


def test_partners_of_other_pixels_are_all_drawn_on_and_all_equally(crops: Tiles) -> None:
    few = np.concatenate([crops[10:14], crops[:1]])
    found = copy_pieces.others(np.stack([crops[0]] * 200), np.random.default_rng(0), few)
    drawn = [[np.array_equal(tile, other) for other in few].index(True) for tile in found]
    counts = np.bincount(drawn, minlength=5)
    assert counts[:4].min() > 30
    assert counts[4] == 0, "the tile itself"


def test_a_copy_with_another_histogram_has_it_and_keeps_the_order(crops: Tiles) -> None:
    partners = crops[20:]
    copies = plant("histogram", crops[:8], np.random.default_rng(16), partners=partners)
    counts = [
        [np.bincount(tile[..., c].ravel(), minlength=256) for c in range(3)] for tile in partners
    ]
    for copy, tile in zip(copies, crops, strict=False):
        ours = [np.bincount(copy[..., c].ravel(), minlength=256) for c in range(3)]
        assert any(np.array_equal(ours, theirs) for theirs in counts)
        for c in range(3):
            rank = np.argsort(tile[..., c], axis=None, kind="stable")
            assert (np.diff(copy[..., c].ravel()[rank].astype(int)) >= 0).all()


def places(side: int) -> Tiles:
    """Two tiles whose pixels say where they stand: tile 0 or 1 in the last channel."""
    tiles = np.zeros((2, side, side, 3), dtype=np.uint8)
    tiles[..., 0] = np.arange(side)[None, :, None]
    tiles[..., 1] = np.arange(side)[None, None]
    tiles[1, ..., 2] = 1
    return tiles


def test_a_jigsaw_holds_every_piece_once_each_uncut(crops: Tiles) -> None:
    tile = places(66)[:1]  # 4 does not divide it: two rows and columns stay
    copy = plant("jigsaw", tile, np.random.default_rng(17))[0].astype(int)
    np.testing.assert_array_equal(copy[64:], tile[0, 64:])
    np.testing.assert_array_equal(copy[:, 64:], tile[0, :, 64:])
    origins = []
    for row in range(0, 64, 16):
        for column in range(0, 64, 16):
            piece = copy[row : row + 16, column : column + 16]
            top, left = piece[0, 0, :2]
            np.testing.assert_array_equal(piece, tile[0, top : top + 16, left : left + 16])
            origins.append((top, left))
    assert sorted(origins) == [(16 * i, 16 * j) for i in range(4) for j in range(4)]
    assert origins != sorted(origins)


def test_a_mosaic_holds_one_piece_of_its_tile_and_one_of_15_others() -> None:
    tiles = np.stack([places(64)[0]] * 20)
    tiles[..., 2] = np.arange(20, dtype=np.uint8)[:, None, None]
    for row, copy in enumerate(plant("mosaic", tiles, np.random.default_rng(18))):
        sources = []
        for top in range(0, 64, 16):
            for left in range(0, 64, 16):
                piece = copy[top : top + 16, left : left + 16]
                y, x, tile = piece[0, 0].astype(int)
                np.testing.assert_array_equal(piece, tiles[tile, y : y + 16, x : x + 16])
                sources.append(tile)
        assert len(set(sources)) == 16
        assert row in sources


def test_a_mosaic_of_few_tiles_repeats_them(crops: Tiles) -> None:
    alone = plant("mosaic", crops[:1], np.random.default_rng(0))
    assert (alone != crops[:1]).any()
    assert set(map(tuple, alone.reshape(-1, 3))) <= set(map(tuple, crops[0].reshape(-1, 3)))
    assert plant("mosaic", crops[:3], np.random.default_rng(0)).shape == (3, 64, 64, 3)


def test_an_inset_is_the_whole_tile_at_half_its_side_on_another(crops: Tiles) -> None:
    grounds = np.full((1, 64, 64, 3), 255, dtype=np.uint8)
    copies = plant("inset_50", crops[:6], np.random.default_rng(19), partners=grounds)
    size, corners = round(INSETS["inset_50"] * 64), set()
    for copy, tile in zip(copies, crops, strict=False):
        small = np.asarray(Image.fromarray(tile).resize((size, size), Image.Resampling.BICUBIC))
        fitting = corners_of(small, copy)
        assert len(fitting) == 1
        corners |= set(fitting)
        outside = np.ones((64, 64), dtype=np.bool_)
        ((top, left),) = fitting
        outside[top : top + size, left : left + size] = False
        assert (copy[outside] == 255).all()
    assert len(corners) > 3


def test_a_piece_keeps_its_size_and_comes_from_anywhere() -> None:
    tiles = np.repeat(places(64)[:1], 60, axis=0)
    grounds = np.full((1, 64, 64, 3), 255, dtype=np.uint8)
    size, origins, corners = round(PIECE * 64), [], []
    for copy in plant("piece_25", tiles, np.random.default_rng(20), partners=grounds):
        set_in = copy[..., 2] == 0
        assert set_in.sum() == size**2
        top, left = np.argwhere(set_in)[0]
        piece = copy[top : top + size, left : left + size]
        y, x = piece[0, 0, :2].astype(int)
        np.testing.assert_array_equal(piece, tiles[0, y : y + size, x : x + size])
        origins.append((y, x))
        corners.append((top, left))
    for spots in (np.array(origins), np.array(corners)):
        assert spots.min() < 8
        assert spots.max() > 64 - size - 8
        assert spots.max() <= 64 - size


def test_a_half_paste_is_the_left_half_beside_another_right_half() -> None:
    tiles, grounds = places(65)[:1], places(65)[1:]
    copy = plant("half_paste", tiles, np.random.default_rng(21), partners=grounds)[0]
    np.testing.assert_array_equal(copy[:, :32], tiles[0, :, :32])
    np.testing.assert_array_equal(copy[:, 32:], grounds[0, :, 32:])


def corners_of(small: Tiles, tile: Tiles) -> list[tuple[int, int]]:
    """Where a small picture stands in a tile, pixel by pixel."""
    size = len(small)
    return [
        (top, left)
        for top in range(len(tile) - size + 1)
        for left in range(len(tile) - size + 1)
        if np.array_equal(tile[top : top + size, left : left + size], small)
    ]

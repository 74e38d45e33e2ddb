"""Optical density, stain turns and stain jitter: closed forms and bounds."""

import numpy as np
import pytest

from privgen.data.stain import (
    HED_FROM_RGB,
    RGB_FROM_HED,
    density_moments,
    jitter,
    normalised,
    optical_density,
    restained,
    rgb_from_density,
    turned_stains,
)


def test_every_grey_level_survives_the_round_trip() -> None:
    levels = np.arange(256, dtype=np.uint8)
    tile = np.stack([levels, levels[::-1], np.roll(levels, 77)], axis=-1).reshape(16, 16, 3)
    assert np.array_equal(rgb_from_density(optical_density(tile)), tile)


def test_density_is_zero_for_white_and_falls_with_light() -> None:
    levels = np.arange(256, dtype=np.uint8)
    density = optical_density(levels)
    assert density.dtype == np.float32
    assert density[255] == 0.0
    assert density[0] == pytest.approx(np.log(256), rel=1e-6)
    assert (np.diff(density) < 0).all()


def test_one_unit_of_haematoxylin_gives_the_colour_worked_out_by_hand() -> None:
    # Vector (.65, .70, .29) / .998299 = (.65111, .70119, .29049); exp(-v) * 256 - 1.
    density = (np.array([1.0, 0.0, 0.0]) @ RGB_FROM_HED).astype(np.float32)
    assert rgb_from_density(density).tolist() == [132, 126, 190]


def test_a_section_twice_as_thick_lets_through_the_square_of_the_light() -> None:
    density = np.array([0.1, 0.4, 0.9], dtype=np.float32)
    once = (rgb_from_density(density) + 1.0) / 256
    twice = (rgb_from_density(2 * density) + 1.0) / 256
    np.testing.assert_allclose(twice, once**2, atol=1 / 256)


def test_stain_vectors_are_unit_and_their_inverse_separates_them() -> None:
    np.testing.assert_allclose(np.linalg.norm(RGB_FROM_HED, axis=1), 1.0)
    np.testing.assert_allclose(RGB_FROM_HED @ HED_FROM_RGB, np.eye(3), atol=1e-12)


def test_turning_by_zero_only_normalises() -> None:
    turned = turned_stains(3.0 * RGB_FROM_HED[:2], np.random.default_rng(0), degrees=0.0)
    np.testing.assert_allclose(turned, RGB_FROM_HED[:2])


def test_turned_stains_stay_unit_and_absorb_in_every_channel() -> None:
    many = turned_stains(np.tile(RGB_FROM_HED, (500, 1)), np.random.default_rng(1), degrees=8.0)
    np.testing.assert_allclose(np.linalg.norm(many, axis=1), 1.0)
    assert (many >= 0).all()


def test_the_angle_of_a_turn_has_the_spread_asked_for() -> None:
    # Two independent axes of N(0, 4 degrees): the squared angle has mean 2 * 16.
    grey = np.ones((4000, 3))
    turned = turned_stains(grey, np.random.default_rng(2), degrees=4.0)
    angle = np.degrees(np.arccos(np.clip(turned @ (np.ones(3) / np.sqrt(3)), -1, 1)))
    assert np.mean(angle**2) == pytest.approx(32.0, rel=0.08)


def _midtones(count: int) -> np.ndarray:
    rng = np.random.default_rng(5)
    stains = rng.uniform([0.3, 0.3, 0.0], [0.8, 0.7, 0.05], (count, 8, 8, 3))
    return rgb_from_density((stains @ RGB_FROM_HED).astype(np.float32))


def test_restaining_scales_and_shifts_each_stain_of_each_tile() -> None:
    tiles = _midtones(2)
    scale = np.array([[1.2, 0.8, 1.0], [0.5, 1.5, 1.0]])
    shift = np.array([[0.1, 0.0, 0.05], [0.0, -0.1, 0.0]])
    stains = optical_density(tiles) @ HED_FROM_RGB
    wanted = stains * scale[:, None, None] + shift[:, None, None]
    oracle = rgb_from_density((wanted @ RGB_FROM_HED).astype(np.float32))
    found = restained(tiles, scale, shift)
    assert found.dtype == np.uint8
    assert np.abs(found.astype(int) - oracle).max() <= 1
    assert (found == oracle).mean() > 0.99


def test_restaining_beyond_black_and_white_is_clipped() -> None:
    tiles = _midtones(1)
    one, dark = np.ones((1, 3)), np.full((1, 3), 20.0)
    assert (restained(tiles, one, dark) == 0).all()
    assert (restained(tiles, one, -dark) == 255).all()


def test_jitter_of_strength_zero_changes_nothing() -> None:
    tiles = _midtones(3)
    assert np.array_equal(jitter(tiles, np.random.default_rng(0), strength=0.0), tiles)


def test_jitter_keeps_every_stain_within_its_bounds() -> None:
    tiles, strength = _midtones(40), 0.2
    moved = jitter(tiles, np.random.default_rng(3), strength=strength)
    before, after = (optical_density(x) @ HED_FROM_RGB for x in (tiles, moved))
    slack = 0.05 + strength * np.abs(before) + strength / 4
    assert (np.abs(after - before) <= slack).all()
    spread = np.abs((after - before).mean(axis=(1, 2))).max(axis=0)
    assert (spread > strength / 8).all()


def test_jitter_moves_a_tile_as_a_whole_and_each_tile_its_own_way() -> None:
    same = np.repeat(_midtones(1), 2, axis=0)
    moved = jitter(same, np.random.default_rng(4), strength=0.2)
    assert not np.array_equal(moved[0], moved[1])
    before = optical_density(same[0]) @ HED_FROM_RGB
    after = optical_density(moved[0]) @ HED_FROM_RGB
    for stain in range(2):
        slope, offset = np.polyfit(before[..., stain].ravel(), after[..., stain].ravel(), 1)
        fitted = slope * before[..., stain] + offset
        np.testing.assert_allclose(after[..., stain], fitted, atol=0.06)


def test_jitter_is_a_function_of_its_seed_and_leaves_its_input_alone() -> None:
    tiles = _midtones(2)
    kept = tiles.copy()
    first, again, other = (jitter(tiles, np.random.default_rng(s)) for s in (8, 8, 9))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert np.array_equal(tiles, kept)
    assert first.dtype == np.uint8
    assert first.shape == tiles.shape


def test_normalised_tiles_have_one_colour_and_keep_their_tissue() -> None:
    rng = np.random.default_rng(3)
    grey = rng.integers(60, 200, (4, 16, 16, 1))
    tiles = np.clip(grey * np.array([0.9, 0.6, 0.8]) + 20, 0, 255).astype(np.uint8)
    tiles[2:] = restained(tiles[2:], np.full((2, 3), 1.3), np.full((2, 3), 0.05))
    before, after = density_moments(tiles), density_moments(normalised(tiles))
    assert before.shape == (4, 6)
    assert np.ptp(before[:, :3], axis=0).max() > 0.1
    assert np.ptp(after[:, :3], axis=0).max() < 0.02
    assert np.ptp(after[:, 3:], axis=0).max() < 0.02
    pairs = zip(tiles, normalised(tiles), strict=True)
    for old, new in pairs:
        assert np.corrcoef(old[..., 1].ravel(), new[..., 1].ravel())[0, 1] > 0.95


def test_a_constant_tile_is_normalised_to_a_constant_one() -> None:
    white = np.full((1, 8, 8, 3), 255, dtype=np.uint8)
    assert len(np.unique(normalised(white).reshape(-1, 3), axis=0)) == 1

"""Planted copies: what each kind changes, what it must not, and seeds."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from privgen.data.stain import HED_FROM_RGB, RGB_FROM_HED, optical_density, rgb_from_density
from privgen.errors import ConfigError
from privgen.evidence.orbit import fingerprint, symmetries
from privgen.evidence.plants import ALTERATIONS, KINDS, ODD_DEGREES, plant

Tiles = NDArray[np.uint8]


@pytest.mark.parametrize("kind", KINDS)
def test_copies_keep_shape_type_and_the_originals(kind: str, crops: Tiles) -> None:
    before = crops.copy()
    copies = plant(kind, crops, np.random.default_rng(0))
    assert (copies.shape, copies.dtype) == (crops.shape, crops.dtype)
    assert not np.shares_memory(copies, crops)
    np.testing.assert_array_equal(crops, before)


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_fixes_the_copies(kind: str, crops: Tiles) -> None:
    first = plant(kind, crops, np.random.default_rng(1))
    np.testing.assert_array_equal(plant(kind, crops, np.random.default_rng(1)), first)
    if kind != "exact":
        assert (plant(kind, crops, np.random.default_rng(2)) != first).any()


@pytest.mark.parametrize("kind", KINDS)
def test_no_tiles_give_no_copies(kind: str) -> None:
    nothing = np.empty((0, 64, 64, 3), dtype=np.uint8)
    assert plant(kind, nothing, np.random.default_rng(0)).shape == (0, 64, 64, 3)


def test_exact_copies_are_identical(crops: Tiles) -> None:
    np.testing.assert_array_equal(plant("exact", crops, np.random.default_rng(0)), crops)


def test_symmetric_copies_are_in_the_orbit_and_never_the_tile_itself(crops: Tiles) -> None:
    seen = set()
    for seed in range(8):
        copies = plant("symmetry", crops, np.random.default_rng(seed))
        for copy, tile in zip(copies, crops, strict=True):
            index = [np.array_equal(copy, version) for version in symmetries(tile)].index(True)
            assert fingerprint(copy) == fingerprint(tile)
            seen.add(index)
    assert seen == set(range(1, 8))


def test_an_odd_rotation_agrees_with_scipy_inside_the_circle(crops: Tiles) -> None:
    seed, tile = 3, crops[:1]
    angle = np.random.default_rng(seed).uniform(*ODD_DEGREES)
    got = plant("odd_rotation", tile, np.random.default_rng(seed))[0].astype(float)
    errors = {
        sign: np.abs(
            got - ndimage.rotate(tile[0].astype(float), sign * angle, reshape=False, mode="mirror")
        )
        for sign in (1, -1)
    }
    y, x = np.mgrid[:64, :64] - 31.5
    inside = np.hypot(x, y) < 28
    assert min(error[inside].mean() for error in errors.values()) < 2
    assert max(error[inside].mean() for error in errors.values()) > 10


def test_an_odd_rotation_has_no_black_corners(crops: Tiles) -> None:
    bright = np.full((20, 64, 64, 3), 230, dtype=np.uint8)
    bright[:, 20:30, 25:50] = (150, 60, 160)
    copies = plant("odd_rotation", bright, np.random.default_rng(4))
    assert (copies[:, [0, 0, -1, -1], [0, -1, 0, -1]] > 200).all()


def test_an_odd_rotation_is_no_symmetry(crops: Tiles) -> None:
    copies = plant("odd_rotation", crops, np.random.default_rng(5))
    for copy, tile in zip(copies, crops, strict=True):
        assert fingerprint(copy) != fingerprint(tile)


def test_a_restained_copy_keeps_the_tissue_and_changes_the_colour(crops: Tiles) -> None:
    stains = np.zeros(crops.shape)
    stains[..., :2] = 0.3 + crops[..., :2] / 300  # haematoxylin and eosin, no DAB
    tissue = rgb_from_density((stains @ RGB_FROM_HED).astype(np.float32))
    copies = plant("stain", tissue, np.random.default_rng(6))
    shift = np.abs(copies.astype(float) - tissue).mean(axis=(1, 2, 3))
    assert shift.min() > 1
    assert shift.mean() > 8
    unmixed = [(optical_density(tiles) @ HED_FROM_RGB)[..., :2] for tiles in (tissue, copies)]
    for tile, copy in zip(*unmixed, strict=True):
        for stain in range(2):
            both = np.corrcoef(tile[..., stain].ravel(), copy[..., stain].ravel())
            assert both[0, 1] > 0.95


def test_an_unknown_kind_is_one_clear_line(crops: Tiles) -> None:
    with pytest.raises(ConfigError, match="no planted copy is called 'crop'"):
        plant("crop", crops, np.random.default_rng(0))


def test_the_kinds_are_those_of_the_registry() -> None:
    assert tuple(ALTERATIONS) == KINDS == ("exact", "symmetry", "odd_rotation", "stain")

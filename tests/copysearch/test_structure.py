"""Pictures compared as wholes: what correlates, what does not, and the 8 symmetries."""

import numpy as np
import pytest
from numpy.typing import NDArray

from privgen.copysearch.descriptors import PATCH_SIDE, describe
from privgen.copysearch.structure import LENGTH, SIDE, correlations, structure, whole
from privgen.encoders.orbit import symmetries
from privgen.evidence.copy_kinds import plant

Tiles = NDArray[np.uint8]


def patches(tiles: Tiles) -> NDArray[np.uint8]:
    return describe(tiles).patches


def test_pictures_are_whole_numbers_of_one_length_and_mean_0(crops: Tiles) -> None:
    pictures = structure(patches(crops))
    assert pictures.shape == (len(crops), SIDE**2)
    np.testing.assert_array_equal(pictures, np.rint(pictures))
    np.testing.assert_allclose(np.linalg.norm(pictures, axis=1), LENGTH, rtol=0.01)
    np.testing.assert_allclose(pictures.mean(axis=1) / LENGTH, 0, atol=1e-4)


def test_products_are_exact_in_blocks_of_any_size() -> None:
    rng = np.random.default_rng(0)
    rows = whole(rng.normal(size=(300, 384)).astype(np.float32))
    at_once = rows @ rows.T
    np.testing.assert_array_equal(at_once, (rows.astype(np.int64) @ rows.T.astype(np.int64)))
    for size in (1, 2, 3, 7):
        np.testing.assert_array_equal(rows[:size] @ rows.T, at_once[:size])
    assert (whole(np.zeros((1, 8), dtype=np.float32)) == 0).all()


def test_a_blank_tile_is_like_nothing() -> None:
    blank = np.full((1, PATCH_SIDE, PATCH_SIDE), 90, dtype=np.uint8)
    assert (structure(blank) == 0).all()


def test_the_correlation_is_the_best_of_the_8_symmetries(crops: Tiles) -> None:
    base = patches(crops)
    pictures = structure(base)
    by_hand = np.max(
        [structure(patches(v)) @ pictures.T / LENGTH**2 for v in symmetries(crops)], axis=0
    )
    np.testing.assert_allclose(correlations(base, pictures), by_hand, atol=0.02)


@pytest.mark.parametrize("version", range(8))
def test_every_symmetric_copy_is_the_likest(crops: Tiles, version: int) -> None:
    copies = np.ascontiguousarray(list(symmetries(crops))[version])
    found = correlations(patches(copies), structure(patches(crops)))
    assert (found.argmax(axis=1) == np.arange(len(crops))).all()
    assert found.diagonal().min() > 0.99


def test_an_even_blend_is_like_both_halves(crops: Tiles) -> None:
    blends = plant("blend_50", crops[:12], np.random.default_rng(0), partners=crops[12:])
    found = correlations(patches(blends), structure(patches(crops[:12])))
    assert (found.argmax(axis=1) == np.arange(12)).mean() > 0.9


def test_slow_shades_do_not_count(crops: Tiles) -> None:
    plain = patches(crops)
    ramp = np.linspace(0, 60, PATCH_SIDE)
    shaded = np.clip(plain + ramp, 0, 255).astype(np.uint8)
    found = (structure(shaded) * structure(plain)).sum(axis=1) / LENGTH**2
    assert np.median(found) > 0.9

"""Classical augmentation: which symmetries, how much stain, and nothing but the draws."""

import numpy as np
import pytest
from numpy.typing import NDArray

from privgen.benefit.trials import augmentation
from privgen.benefit.trials.augmentation import STAIN_STRENGTH, augment
from privgen.data.stain import HED_FROM_RGB, RGB_FROM_HED, optical_density, rgb_from_density
from privgen.encoders.orbit import symmetries


def tissue(count: int, side: int = 16) -> NDArray[np.uint8]:
    """Tiles of mid density without any symmetry of their own."""
    rng = np.random.default_rng(7)
    stains = rng.uniform([0.3, 0.3, 0.0], [0.8, 0.7, 0.05], (count, side, side, 3))
    return rgb_from_density((stains @ RGB_FROM_HED).astype(np.float32))


@pytest.fixture
def unstained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augmentation, "STAIN_STRENGTH", 0.0)


@pytest.mark.usefixtures("unstained")
def test_all_8_symmetries_are_drawn_equally_often_and_nothing_else() -> None:
    same = np.repeat(tissue(1), 1600, axis=0)
    seen = augment(same, np.random.default_rng(0))
    versions = np.stack(list(symmetries(same[0])))
    equal = (seen[:, np.newaxis] == versions).all(axis=(2, 3, 4))
    assert (equal.sum(axis=1) == 1).all()
    # 200 expected of each, standard deviation 13.2.
    assert (np.abs(equal.sum(axis=0) - 200) < 4 * 13.2).all()


def test_stains_of_each_tile_move_their_own_way_within_the_bounds() -> None:
    same = np.repeat(tissue(1), 64, axis=0)
    seen = augment(same, np.random.default_rng(1))
    before = (optical_density(same[0]) @ HED_FROM_RGB).mean(axis=(0, 1))
    after = (optical_density(seen) @ HED_FROM_RGB).mean(axis=(1, 2))
    bound = STAIN_STRENGTH * before + STAIN_STRENGTH / 4 + 0.02
    assert (np.abs(after - before) <= bound).all()
    # Uniform on (-b, b) has standard deviation b / sqrt(3): of haematoxylin and eosin about .07.
    assert (after.std(axis=0)[:2] > 0.05).all()


def test_the_result_is_a_function_of_the_draws_and_leaves_its_input_alone() -> None:
    tiles = tissue(6)
    before = tiles.copy()
    first, again, other = (augment(tiles, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert np.array_equal(tiles, before)
    assert not np.shares_memory(first, tiles)
    assert (first.dtype, first.shape) == (np.dtype(np.uint8), tiles.shape)


def test_views_and_read_only_tiles_are_augmented_like_copies_of_them() -> None:
    view = tissue(6)[::-2, :, ::-1]
    view.flags.writeable = False
    want = augment(np.ascontiguousarray(view), np.random.default_rng(5))
    assert np.array_equal(augment(view, np.random.default_rng(5)), want)

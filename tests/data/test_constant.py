"""Constant tiles: a class that is nothing else is refused, single ones counted, glass may be."""

from collections.abc import Callable

import numpy as np
import pytest

from privgen.data.constant import FEWEST, Constants
from privgen.data.layouts import open_tiles
from privgen.data.phantom import make_phantom
from privgen.errors import InputError

RNG = np.random.default_rng(0)


def grey(level: int, count: int) -> np.ndarray:
    return np.full((count, 16, 16, 3), level, dtype=np.uint8)


def tissue(count: int) -> np.ndarray:
    return RNG.integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)


def looked_at(**classes: np.ndarray) -> Constants:
    found = Constants()
    for label, tiles in classes.items():
        found.add(tiles, np.array([label] * len(tiles)))
    return found


@pytest.mark.parametrize("level", [0, 7, 128, 219])
def test_a_class_of_constant_tiles_is_refused(level: int) -> None:
    message = f"all 8 tiles of class b are constant, of grey level {level}"
    with pytest.raises(InputError, match=message):
        looked_at(a=tissue(20), b=grey(level, FEWEST)).refuse()


def test_tiles_that_hardly_vary_are_constant_too() -> None:
    almost = grey(4, FEWEST) + RNG.integers(0, 3, (FEWEST, 16, 16, 3), dtype=np.uint8)
    with pytest.raises(InputError):
        looked_at(a=almost).refuse()
    varying = grey(4, FEWEST) + RNG.integers(0, 6, (FEWEST, 16, 16, 3), dtype=np.uint8)
    assert looked_at(a=varying).count == 0


def test_one_colour_in_two_shades_of_one_channel_is_structure() -> None:
    tiles = grey(100, FEWEST)
    tiles[:, :8, :, 0] += 3
    assert looked_at(a=tiles).count == 0


def test_a_class_of_empty_glass_is_counted_beside_tissue_and_refused_alone() -> None:
    found = looked_at(a=tissue(20), BACK=grey(255, 10))
    found.refuse()
    assert found.sentence() == (
        "10 of 30 synthetic tiles are constant, without any structure (BACK 10 of 10)."
    )
    with pytest.raises(InputError, match="class BACK are constant, of grey level 255"):
        looked_at(BACK=grey(255, 10)).refuse()


def test_nothing_but_constant_tiles_is_refused_however_many_classes_share_them() -> None:
    few = {f"c{number}": grey(255, 2) for number in range(4)}
    with pytest.raises(InputError, match="all 2 tiles of class c0"):
        looked_at(**few).refuse()


def test_single_constant_tiles_are_counted_by_class() -> None:
    found = looked_at(a=np.concatenate([tissue(7), grey(0, 3)]), b=tissue(5))
    found.refuse()
    found.add(grey(0, 1), np.array(["b"]))
    found.refuse()
    assert found.count == 4
    assert found.sentence().endswith("(a 3 of 10, b 1 of 6).")


def test_many_classes_are_named_in_part() -> None:
    mixed = {f"c{n}": np.concatenate([tissue(1), grey(0, 1)]) for n in range(6)}
    assert looked_at(**mixed).sentence().endswith("c3 1 of 2 and 2 more).")


def test_too_few_tiles_of_a_class_to_tell_are_not_refused() -> None:
    looked_at(a=tissue(9), b=grey(0, FEWEST - 1)).refuse()
    looked_at(a=grey(0, FEWEST - 1)).refuse()
    Constants().refuse()
    assert Constants().sentence() == ""


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["glas", "lc25000"])
def test_no_real_tile_is_constant(name: str, real_data: Callable[..., object]) -> None:
    tiles = open_tiles(real_data(name))  # type: ignore[arg-type]
    tiles = tiles.subset(np.arange(0, len(tiles), max(1, len(tiles) // 200)))
    found = Constants()
    found.add(tiles.load(64), tiles.labels)
    assert found.count == 0


def test_no_procedural_tile_is_constant() -> None:
    tiles = make_phantom(patients=4, tiles_per_patient=9, side=32)
    found = Constants()
    found.add(tiles.load(), tiles.labels)
    assert found.count == 0

"""Artificial patients: a function of their record, each with a pattern of its own."""

import json
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from privgen import limits
from privgen.data.canaries import Canaries
from privgen.data.stain import optical_density

COINS = (True, False, True, True, False, False, True, False)


def _canaries(**changed: Any) -> Canaries:
    given: dict[str, Any] = {
        "kind": "artificial",
        "included": COINS,
        "seed": 3,
        "tiles": 4,
        "side": 32,
        "classes": ("stroma", "tumour", "other"),
    }
    return Canaries(**{**given, **changed})


def test_tiles_are_a_function_of_the_record_which_survives_json() -> None:
    canaries = _canaries()
    again = Canaries.from_json(json.loads(json.dumps(asdict(canaries))))
    assert again == canaries
    assert np.array_equal(again.tile_set().load(), canaries.tile_set().load())
    other = _canaries(seed=4).tile_set().load()
    assert not np.array_equal(other, canaries.tile_set().load())


def test_those_in_training_are_the_ones_whose_coins_say_so() -> None:
    canaries = _canaries()
    pixels, labels = canaries.training_tiles()
    every = canaries.tile_set()
    inside = np.isin(canaries.whose, np.flatnonzero(COINS))
    assert np.array_equal(pixels, every.load()[inside])
    assert [canaries.classes[k] for k in labels] == every.labels[inside].tolist()
    assert set(every.labels) == set(canaries.classes)
    assert len(np.unique(every.groups)) == len(COINS)


def test_the_tiles_of_a_canary_share_a_pattern_and_those_of_two_do_not() -> None:
    canaries = _canaries(side=64, tiles=24)
    density = np.log(optical_density(canaries.tile_set().load()).mean(axis=3) + 0.05)
    maps = density.reshape(len(COINS), 2, 12, -1).mean(axis=2)  # two halves of each canary's tiles
    maps -= maps.mean(axis=2, keepdims=True)
    maps /= np.linalg.norm(maps, axis=2, keepdims=True)
    alike = maps[:, 0] @ maps[:, 1].T
    own = np.diag(alike)
    others = alike[~np.eye(len(COINS), dtype=bool)]
    assert own.min() > others.max()


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"included": COINS[:7]}, "canaries are 8 to 1000: got 7"),
        ({"included": (1,) * 8}, "true or false"),
        ({"included": COINS * 126}, "got 1008"),
        ({"tiles": 0}, "tiles of canaries"),
        ({"side": 8}, "side of canaries"),
        ({"side": 64.5}, "side of canaries"),
        ({"seed": -1}, "seed of canaries"),
        ({"classes": ()}, "of some class"),
        ({"kind": "imagined"}, "artificial or real"),
        ({"kind": "real", "patients": ("a",) * 8}, "each once"),
        ({"kind": "real", "patients": ("a", "b")}, "each once"),
    ],
)
def test_a_record_that_is_none_is_refused(changed: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        _canaries(**changed)


def test_pixels_are_bounded_before_any_is_painted() -> None:
    tiles = limits.CANARY_BYTES // (len(COINS) * 32 * 32 * 3)
    assert _canaries(tiles=tiles).tiles == tiles
    with pytest.raises(ValueError, match="bytes of pixels"):
        _canaries(tiles=tiles + 1)

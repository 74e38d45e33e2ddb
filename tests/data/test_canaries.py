"""Artificial patients: a function of their record, each with a pattern of its own."""

import json
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from privgen.data import canaries as canaries_module
from privgen.data.canaries import Canaries
from privgen.data.stain import optical_density

COINS = (True, False, True, True, False, False, True, False)


def _canaries(**changed: Any) -> Canaries:
    given: dict[str, Any] = {
        "kind": "artificial",
        "included": COINS,
        "seed": 3,
        "labels": (0, 1, 2, 0) * 8,
        "side": 32,
        "classes": ("stroma", "tumour", "TUM"),
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
    canaries = _canaries(side=64, labels=(1,) * 64)
    density = np.log(optical_density(canaries.tile_set().load()).mean(axis=3) + 0.05)
    maps = density.reshape(len(COINS), 2, 4, -1).mean(axis=2)  # two halves of each canary's tiles
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
        ({"labels": ()}, "1 to 8 tiles"),
        ({"labels": (0,) * 72}, "1 to 8 tiles"),
        ({"labels": (0,) * 12}, "one as many as another"),
        ({"labels": (3,) * 8}, "classes of the data"),
        ({"included": (True,) * 7 + (False,)}, "on either side"),
        ({"classes": (1, 2, 3)}, "are texts"),
        ({"side": 8}, "side of canaries"),
        ({"side": 64.5}, "side of canaries"),
        ({"seed": -1}, "seed of canaries"),
        ({"classes": ()}, "classes of the data"),
        ({"kind": "imagined"}, "artificial or real"),
        ({"kind": "real", "patients": ("a",) * 8}, "each once"),
        ({"kind": "real", "patients": ("a", "b")}, "each once"),
        ({"kind": "real", "patients": (*"abcdefgh", "a")}, "each once"),
    ],
)
def test_a_record_that_is_none_is_refused(changed: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        _canaries(**changed)


def test_pixels_are_bounded_before_any_is_painted(monkeypatch: pytest.MonkeyPatch) -> None:
    size = canaries_module.size_of(len(COINS), 32)
    monkeypatch.setattr(canaries_module, "CANARY_BYTES", size)
    assert _canaries().count == len(COINS)
    monkeypatch.setattr(canaries_module, "CANARY_BYTES", size - 1)
    with pytest.raises(ValueError, match="pixels of canaries"):
        _canaries()


def _pixels_kept(canaries: Canaries) -> Any:
    """What was painted for the digest, so that training does not paint it again."""
    return vars(canaries)["pixels"]


def test_a_digest_tells_where_tiles_are_painted_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    canaries = _canaries().with_digest()
    assert canaries.pixels is _pixels_kept(canaries)
    again = Canaries.from_json(json.loads(json.dumps(asdict(canaries))))
    assert again.as_painted
    monkeypatch.setattr(canaries_module, "_DEPTH", 0.5)
    assert not Canaries.from_json(json.loads(json.dumps(asdict(canaries)))).as_painted


def test_classes_called_as_in_the_phantom_are_painted_as_there() -> None:
    one = _canaries(classes=("LYM", "TUM"), labels=(0,) * 32)
    other = _canaries(classes=("TUM", "LYM"), labels=(1,) * 32)
    assert np.array_equal(one.pixels, other.pixels)

from collections.abc import Callable

import numpy as np

from privgen.benefit.trials.histogram import colour_histograms, fit_histogram
from privgen.data.tileset import TileSet


def test_histogram_of_two_known_colours() -> None:
    tile = np.zeros((1, 16, 16, 3), dtype=np.uint8)
    tile[0, :4] = (255, 0, 128)  # levels 5, 0, 3 of 6: colour 5 * 36 + 0 * 6 + 3
    found = colour_histograms(tile)
    assert found.shape == (1, 216)
    assert found[0, 183] == np.sqrt(0.25)
    assert found[0, 0] == np.sqrt(0.75)
    assert np.count_nonzero(found) == 2


def test_each_tile_is_counted_by_itself() -> None:
    tiles = np.random.default_rng(0).integers(0, 256, (5, 12, 12, 3), dtype=np.uint8)
    together = colour_histograms(tiles)
    assert np.array_equal(together[3:4], colour_histograms(tiles[3:4]))
    np.testing.assert_allclose((together**2).sum(axis=1), 1.0)


def accuracy(textures: Callable[..., TileSet], *, colour_tells: bool) -> float:
    splits = {
        name: textures(name, colour_tells=colour_tells) for name in ("train", "choose", "test")
    }
    pixels = {name: tiles.load() for name, tiles in splits.items()}
    numbers = {name: np.searchsorted(tiles.classes, tiles.labels) for name, tiles in splits.items()}
    model = fit_histogram(
        train=pixels["train"],
        train_labels=numbers["train"],
        validation=pixels["choose"],
        validation_labels=numbers["choose"],
    )
    guess = model.predict(colour_histograms(pixels["test"]))
    return float((guess == numbers["test"]).mean())


def test_solves_what_colour_tells(textures: Callable[..., TileSet]) -> None:
    assert accuracy(textures, colour_tells=True) == 1.0


def test_is_lost_where_only_structure_tells(textures: Callable[..., TileSet]) -> None:
    assert accuracy(textures, colour_tells=False) < 0.7


def test_a_class_that_validation_lacks_is_no_obstacle(textures: Callable[..., TileSet]) -> None:
    train, choose = (textures(name, colour_tells=True) for name in ("train", "choose"))
    choose = choose.subset(np.flatnonzero(choose.labels != "down"))
    model = fit_histogram(
        train=train.load(),
        train_labels=np.searchsorted(train.classes, train.labels),
        validation=choose.load(),
        validation_labels=np.searchsorted(train.classes, choose.labels),
    )
    assert model.classes_.tolist() == [0, 1, 2]
    assert (model.predict(colour_histograms(train.load())) == 2).any()

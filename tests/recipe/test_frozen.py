"""A frozen recipe: minutes become kimg once, and what decides nothing is not compared."""

from typing import Any

import pytest

from privgen.config import TrainConfig
from privgen.data.tileset import TileSet
from privgen.errors import ConfigError
from privgen.recipe.frozen import decided, freeze, recipe_digest
from tests.helpers.recipes import SMALL


def test_the_digest_follows_what_decides(tiles: TileSet) -> None:
    plain = freeze(SMALL, tiles)
    for same in ({"seed": 5}, {"log_steps": 7}, {"watch_kimg": 1.0}, {"threads": 2}):
        assert freeze({**SMALL, **same}, tiles).digest == plain.digest
    for other in ({"kimg": 0.048}, {"augment": 0.5}, {"width": 8}, {"batch": 4}):
        assert freeze({**SMALL, **other}, tiles).digest != plain.digest


def test_minutes_become_kimg(tiles: TileSet) -> None:
    options = {key: value for key, value in SMALL.items() if key != "kimg"}
    found = freeze({**options, "minutes": 0.02}, tiles)
    assert found.config.minutes is None
    assert found.config.kimg is not None
    assert found.config.kimg > 0
    assert (found.config.kimg * 1000 / 8) % 1 == pytest.approx(0, abs=1e-6)


def test_kimg_is_that_of_whole_steps(tiles: TileSet) -> None:
    assert freeze({**SMALL, "kimg": 0.025}, tiles).config.kimg == pytest.approx(0.032)


def test_runs_differ_in_their_seed_alone(tiles: TileSet) -> None:
    found = freeze({**SMALL, "seed": 3}, tiles)
    first, last = found.run_config(0), found.run_config(7)
    assert (first.seed, last.seed) == (3, 10)
    assert decided(first, 1.0) == decided(last, 1.0)


def test_a_release_is_compared_by_the_kimg_it_reached(tiles: TileSet) -> None:
    found = freeze(SMALL, tiles)
    release = TrainConfig.from_dict({**found.config.to_dict(), "minutes": 2.0, "kimg": None})
    assert recipe_digest(decided(release, 0.024), found.code) == found.digest
    assert recipe_digest(decided(release, 0.032), found.code) != found.digest
    assert recipe_digest(decided(release, 0.024), "0" * 64) != found.digest


@pytest.mark.parametrize("select_by", ["fd", "fd,leak"])
def test_selected_weights_are_refused(tiles: TileSet, select_by: Any) -> None:
    with pytest.raises(ConfigError, match="keep their last weights"):
        freeze({**SMALL, "select_by": select_by}, tiles)

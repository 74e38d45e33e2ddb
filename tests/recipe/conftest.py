"""Recipes that are tried within seconds, on procedural patients."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import privgen
from privgen.data.layouts import open_tiles
from privgen.data.phantom import make_phantom, write_phantom
from privgen.data.tileset import TileSet
from privgen.recipe.run import RecipeAudit
from tests.helpers.recipes import QUICK, SMALL


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("recipe") / "tiles"
    place.mkdir()
    write_phantom(place, make_phantom(patients=8, tiles_per_patient=27, side=32, seed=0))
    return place


@pytest.fixture(scope="session")
def tiles(folder: Path) -> TileSet:
    return open_tiles(folder)


@pytest.fixture(scope="session")
def audit(folder: Path) -> Callable[..., RecipeAudit]:
    def run(out: Path, config: Any = None, **asked: Any) -> RecipeAudit:
        return privgen.audit_recipe(
            folder, out=out, config={**SMALL, **(config or {})}, **{**QUICK, **asked}
        )

    return run


@pytest.fixture(scope="session")
def alone(
    audit: Callable[..., RecipeAudit], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, RecipeAudit]:
    """An audit that one process carried out, and where."""
    out = tmp_path_factory.mktemp("alone") / "out"
    return out, audit(out)

"""Several recipes on the same coins."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from privgen.cli import app
from privgen.errors import ConfigError
from privgen.recipe.comparing import compare_recipes
from privgen.recipe.requests import RecipeRequest
from tests.helpers.command_line import one_line
from tests.helpers.recipes import QUICK, SMALL


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    found = []
    for name, kimg in (("short", 0.008), ("long", 0.016)):
        place = tmp_path / f"{name}.toml"
        place.write_text(f"kimg = {kimg}\n")
        found.append(place)
    return found


def test_each_recipe_gets_a_folder_and_the_same_coins(
    folder: Path, files: list[Path], tmp_path: Path
) -> None:
    request = RecipeRequest(data=folder, **QUICK)  # type: ignore[arg-type]
    found = compare_recipes(request, SMALL, files, tmp_path / "out")
    assert [one.name for one in found] == ["short", "long"]
    digests = {one.audit.document["recipe"]["identity"]["recipe"] for one in found}
    assert len(digests) == 2
    assert (tmp_path / "out" / "long" / "report.html").exists()
    assert (tmp_path / "out-private" / "short" / "recipe.json").exists()
    names = [result.name for result in found[0].audit.report.results]
    assert {"quality/kid", "quality/kid_floor", "quality/coverage"} <= set(names)


@pytest.mark.parametrize("wrong", ["one", "same name", "seeds"])
def test_what_cannot_be_compared_is_refused(
    folder: Path, files: list[Path], tmp_path: Path, wrong: str
) -> None:
    request = RecipeRequest(data=folder, **QUICK)  # type: ignore[arg-type]
    given: Any = files
    if wrong == "one":
        given = files[:1]
    elif wrong == "same name":
        given = [files[0], files[0]]
    else:
        files[1].write_text("seed = 5\n")
    with pytest.raises(ConfigError, match=r"two recipes or more|different seeds"):
        compare_recipes(request, SMALL, given, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command_needs_a_folder(folder: Path) -> None:
    result = CliRunner().invoke(app, ["audit-recipe", str(folder), "--resolution", "32"])
    one_line(result, 2, "give --out")


def test_a_dry_run_writes_nothing(folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "small.toml"
    place.write_text(
        "\n".join(f'{k} = "{v}"' if isinstance(v, str) else f"{k} = {v}" for k, v in SMALL.items())
    )
    line = ["audit-recipe", str(folder), "--config", str(place), "--runs", "4", "--dry-run"]
    result = CliRunner().invoke(app, line)
    assert result.exit_code == 0, result.output
    assert "with 12 runs" in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["small.toml"]

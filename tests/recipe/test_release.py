"""A release that brings the audit of its recipe: who may, and what is then decided."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import privgen
from audits import Harm, Outcome, Policy
from privgen.auditing.finished import Audit
from privgen.checkpoints import state
from privgen.errors import ConfigError, InputError
from privgen.recipe.document import brought
from privgen.recipe.run import RecipeAudit
from tests.helpers.recipes import SMALL

DRAWN: Any = {"count": 32, "truncation": 1.0}


@pytest.fixture
def recipe(alone: tuple[Path, RecipeAudit]) -> Path:
    return alone[0]


@pytest.fixture(scope="module")
def release(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return privgen.train(folder, out=tmp_path_factory.mktemp("release"), config=SMALL)


@pytest.fixture(scope="module")
def audited(alone: tuple[Path, RecipeAudit], release: Path) -> Audit:
    return privgen.audit(
        generator=release, recipe=alone[0], count=32, encoder="pixels", align=False
    )


def test_a_release_of_the_recipe_is_spoken_for(recipe: Path, release: Path) -> None:
    found = brought(recipe, release, Policy(), **DRAWN)
    assert set(found.verdicts) == {Harm.TILE_MEMBERSHIP, Harm.PATIENT_MEMBERSHIP}


def test_the_report_holds_both_audits(audited: Audit, recipe: Path) -> None:
    kept = json.loads((recipe / "report.json").read_text())
    assert json.loads(json.dumps(audited.document["recipe"])) == kept["recipe"]
    assert "--recipe RECIPE" in audited.document["reproduce"]["command"]


def test_membership_follows_the_recipe_where_it_decides(
    recipe: Path, release: Path, tmp_path: Path
) -> None:
    document = json.loads((recipe / "report.json").read_text())
    for row in document["recipe"]["audit"]["verdict"]["harms"]:
        row["outcome"], row["reason"], row["remedy"] = "NO LEAK FOUND", "Nothing was found.", ""
    edited = tmp_path / "edited"
    edited.mkdir()
    (edited / "report.json").write_text(json.dumps(document))
    found = privgen.audit(generator=release, recipe=edited, count=32, encoder="pixels", align=False)
    by_harm = {one.harm: one for one in found.verdict.harms}
    patient = by_harm[Harm.PATIENT_MEMBERSHIP]
    assert patient.outcome is Outcome.NO_LEAK_FOUND
    assert "the release is one more draw of it" in patient.reason


def test_a_page_shows_both(audited: Audit, tmp_path: Path) -> None:
    audited.write(tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "Repeated training" in page
    assert "Copying is not judged here" not in page


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"augment": 0.5}, "augment 1.0 -> 0.5"),
        ({"kimg": 0.048}, "kimg 0.024 -> 0.048"),
    ],
)
def test_another_recipe_is_refused_and_named(
    folder: Path, recipe: Path, tmp_path: Path, changed: Any, told: str
) -> None:
    other = privgen.train(folder, out=tmp_path, config={**SMALL, **changed})
    with pytest.raises(InputError, match="by the recipe that was audited") as refused:
        brought(recipe, other, Policy(), **DRAWN)
    assert told in str(refused.value)


def test_other_code_is_refused(recipe: Path, release: Path, tmp_path: Path) -> None:
    checkpoint = replace(state.load_checkpoint(release), code="1" * 64)
    place = tmp_path / "ckpt-00000003.pt"
    state.save_checkpoint(place, checkpoint)
    with pytest.raises(InputError, match="the code that trains"):
        brought(recipe, place, Policy(), **DRAWN)


def test_other_tiles_are_refused(tiles: Any, recipe: Path, tmp_path: Path) -> None:
    other = privgen.train(tiles.subset(range(len(tiles) - 1)), out=tmp_path, config=SMALL)
    with pytest.raises(InputError, match="whose they are, changed"):
        brought(recipe, other, Policy(), **DRAWN)


def test_a_release_of_fewer_patients_is_refused(folder: Path, recipe: Path, tmp_path: Path) -> None:
    other = privgen.train(folder, out=tmp_path, config=SMALL, holdout=0.7)
    with pytest.raises(InputError, match="as much as a run of its recipe, 4 patients"):
        brought(recipe, other, Policy(), **DRAWN)


@pytest.mark.parametrize("drawn", [{"count": 33}, {"truncation": 0.5}])
def test_tiles_that_are_drawn_otherwise_are_refused(
    recipe: Path, release: Path, drawn: dict[str, Any]
) -> None:
    with pytest.raises(InputError, match="drawn without truncation, and of no more than"):
        brought(recipe, release, Policy(), **{**DRAWN, **drawn})


def test_a_recipe_that_was_chosen_on_these_coins_is_refused(
    recipe: Path, release: Path, tmp_path: Path
) -> None:
    document = json.loads((recipe / "report.json").read_text())
    document["recipe"]["identity"]["compared"] = 3
    (tmp_path / "report.json").write_text(json.dumps(document))
    with pytest.raises(InputError, match="chosen among 3 on the coins"):
        brought(tmp_path, release, Policy(), **DRAWN)


def test_warnings_of_the_recipe_reach_the_release(audited: Audit, recipe: Path) -> None:
    told = json.loads((recipe / "report.json").read_text())["recipe"]["audit"]["warnings"]
    for warning in told:
        assert f"Recipe: {warning}" in audited.report.warnings


def test_another_policy_is_refused(recipe: Path, release: Path) -> None:
    with pytest.raises(InputError, match=r"membership_excess was 0\.1 and is 0\.05"):
        brought(recipe, release, Policy(membership_excess=0.05), **DRAWN)


def test_what_is_no_recipes_audit_is_refused(audited: Audit, release: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no such report"):
        brought(tmp_path, release, Policy(), **DRAWN)
    document = json.loads(json.dumps(audited.document))
    del document["recipe"]
    (tmp_path / "report.json").write_text(json.dumps(document))
    with pytest.raises(InputError, match="report of something else"):
        brought(tmp_path, release, Policy(), **DRAWN)


def test_a_recipe_needs_a_generator() -> None:
    with pytest.raises(ConfigError, match="`recipe` needs the generator itself"):
        privgen.audit(train="a", holdout="b", synthetic="c", recipe="r")

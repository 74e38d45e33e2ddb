"""Whose coins are tossed, what nobody trains on, and what is left out and said."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from privgen.data.tileset import TileSet
from privgen.errors import InputError
from privgen.recipe.opening import data_digest, open_patients
from privgen.recipe.requests import RecipeRequest
from tests.helpers.small_tiles import distinct


def made(patients: list[str | None], labels: list[str]) -> TileSet:
    known = None if patients[0] is None else patients
    return TileSet.from_arrays(
        distinct(len(labels)),
        labels,
        patients=known,
        slides=known,
    )


SIX = [f"p{n}" for n in range(6) for _ in range(8)]
TWO_CLASSES = ["a", "b"] * 24


def test_every_patient_has_tiles_on_both_sides_of_the_line(folder: Path) -> None:
    found = open_patients(RecipeRequest(data=folder, siblings=0.25), seed=0)
    assert found.count == 8
    for patient in range(8):
        mine = found.held_back[found.unit == patient]
        assert 0 < mine.sum() < len(mine)
    assert found.held_back.mean() == pytest.approx(0.25, abs=0.03)
    assert found.class_tiles.sum() == (~found.held_back).sum()


def test_the_same_seed_holds_the_same_tiles_back(folder: Path) -> None:
    request = RecipeRequest(data=folder)
    first, again, other = (open_patients(request, seed=seed) for seed in (0, 0, 1))
    assert np.array_equal(first.held_back, again.held_back)
    assert not np.array_equal(first.held_back, other.held_back)


def test_a_split_puts_every_tile_into_one_role() -> None:
    found = open_patients(RecipeRequest(data=made(SIX, TWO_CLASSES)), seed=0)
    included = np.array([True, False] * 3)
    roles = found.split(included).roles()
    every = np.sort(np.concatenate(list(roles.values())))
    assert np.array_equal(every, np.arange(48))
    assert included[found.unit[roles["train"]]].all()
    assert not found.held_back[roles["train"]].any()
    assert found.held_back[roles["siblings"]].all()
    assert not included[found.unit[roles["holdout"]]].any()


def test_patients_who_share_a_picture_have_one_coin() -> None:
    tiles = made(SIX, TWO_CLASSES)
    pixels = np.array(tiles.load())
    pixels[8] = pixels[0]  # the first tile of p1 is the first of p0
    shared = TileSet.from_arrays(pixels, TWO_CLASSES, patients=SIX, slides=SIX)
    found = open_patients(RecipeRequest(data=shared), seed=0)
    assert found.count == 5
    assert any("1 of 6 patients share pictures" in remark for remark in found.remarks)


def test_a_class_of_one_patient_is_left_out_and_said() -> None:
    labels = TWO_CLASSES.copy()
    labels[0] = labels[1] = "rare"
    found = open_patients(RecipeRequest(data=made(SIX, labels)), seed=0)
    assert len(found.tiles) == 46
    assert any("Class rare is left out" in remark for remark in found.remarks)


@pytest.mark.parametrize(
    ("patients", "labels", "told"),
    [
        ([None] * 48, TWO_CLASSES, "these tiles name none"),
        (["p0"] * 16 + ["p1"] * 16 + ["p2"] * 16, TWO_CLASSES, "4 patients at least: got 3"),
        (SIX, ["a"] * 46 + ["b"] * 2, "two classes that two patients or more have: got 1"),
    ],
)
def test_tiles_that_no_coin_can_be_tossed_for_are_refused(
    patients: list[str | None], labels: list[str], told: str
) -> None:
    with pytest.raises(InputError, match=told):
        open_patients(RecipeRequest(data=made(patients, labels)), seed=0)


def test_a_share_that_holds_hardly_anybody_back_is_refused() -> None:
    with pytest.raises(InputError, match="four patients in five must be held back"):
        open_patients(RecipeRequest(data=made(SIX, TWO_CLASSES), siblings=0.01), seed=0)


def test_remarks_name_nobody() -> None:
    owners = [name.replace("p0", "Smith-7").replace("p1", "smith-07") for name in SIX]
    found = open_patients(RecipeRequest(data=made(owners, TWO_CLASSES)), seed=0)
    assert found.remarks
    assert not any("mith" in remark for remark in found.remarks)


def test_other_names_are_another_division_of_the_same_tiles() -> None:
    turned = [f"q{9 - int(name[1])}" for name in SIX]
    first, other = (
        open_patients(RecipeRequest(data=made(owners, TWO_CLASSES)), seed=0)
        for owners in (SIX, turned)
    )
    assert first.digest == other.digest
    assert first.parts != other.parts


def test_slides_in_place_of_patients_are_a_warning() -> None:
    tiles = TileSet.from_arrays(distinct(48), TWO_CLASSES, slides=SIX)
    found = open_patients(RecipeRequest(data=tiles), seed=0)
    assert any("coins were tossed by slide" in remark for remark in found.remarks)


def test_the_digest_is_of_pixels_and_grouping_alone(tiles: TileSet) -> None:
    order = np.random.default_rng(0).permutation(len(tiles))
    groups = tiles.groups
    renamed = np.array([f"x{name}" for name in groups])
    plain = data_digest(tiles.digests, groups)
    assert data_digest(tiles.digests[order], renamed[order]) == plain
    moved = groups.copy()
    moved[0] = groups[-1]
    assert data_digest(tiles.digests, moved) != plain
    assert data_digest(tiles.digests[1:], groups[1:]) != plain


def test_the_order_of_tiles_decides_nothing(tiles: TileSet) -> None:
    turned = tiles.subset(np.arange(len(tiles))[::-1])
    found, again = (
        open_patients(RecipeRequest(data=one), seed=0) for one in (tiles, replace(turned))
    )
    held = {str(digest) for digest in found.tiles.digests[found.held_back]}
    assert held == {str(digest) for digest in again.tiles.digests[again.held_back]}

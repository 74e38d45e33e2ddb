"""The ledger's word counts: what a data set says after training is compared, said, never used."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from privgen.checkpoints.ledger import (
    Ledger,
)
from privgen.checkpoints.roles import agreed, compare_given, ledger_of, match
from privgen.data.splits import Split
from privgen.data.tileset import TileRecord, TileSet
from privgen.errors import InputError, SplitError

ROLES = {"train": range(0, 6), "siblings": range(6, 9), "holdout": range(9, 12)}


@pytest.fixture(scope="module")
def tiles() -> TileSet:
    """12 tiles: 6 + 3 of patients p0 to p2 with a slide each, 3 of patient p3."""
    pixels = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3)).astype(np.uint8)
    patients = ["p0", "p1", "p2"] * 3 + ["p3"] * 3
    slides = [f"s-{patient}" for patient in patients]
    return TileSet.from_arrays(pixels, ["a", "b"] * 6, patients=patients, slides=slides)


def ledger(tiles: TileSet) -> Ledger:
    rows = {role: np.array(chosen) for role, chosen in ROLES.items()}
    return ledger_of(tiles, Split(**rows, reference=np.empty(0, dtype=np.intp)), parameters={})


def edited(tiles: TileSet, changes: Mapping[int, Mapping[str, Any]]) -> TileSet:
    """The set with some columns of some rows changed, as by an edit of its manifest."""
    records: list[TileRecord] = list(tiles.records)
    for row, change in changes.items():
        records[row] = replace(records[row], **change)
    return replace(tiles, records=tuple(records))


def described(roles: Mapping[str, TileSet]) -> dict[str, list[tuple[str, str, str]]]:
    return {
        role: list(zip(tiles.labels, tiles.groups, tiles.slides, strict=True))
        for role, tiles in roles.items()
    }


EVERY_TILE_ITS_OWN = {row: {"patient": f"q{row}", "slide": f"t{row}"} for row in range(12)}


def test_an_untouched_set_comes_back_without_a_word(tiles: TileSet) -> None:
    found = match(ledger(tiles), tiles)
    assert described(found.roles) == described(
        {role: tiles.subset(np.array(rows)) for role, rows in ROLES.items()}
    )
    assert (found.differences, found.unlisted) == ((), "")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (EVERY_TILE_ITS_OWN, "12 of 12 tiles have another patient in the data set now"),
        ({0: {"patient": "p9", "slide": "s9"}}, "1 of 12 tiles have another patient"),
        ({3: {"label": "a"}, 4: {"label": "b"}}, "2 of 12 tiles have another class"),
        ({5: {"slide": "other"}}, "1 of 12 tiles lie on another slide"),
    ],
)
def test_the_ledgers_patients_classes_and_slides_count(
    tiles: TileSet, changes: Mapping[int, Mapping[str, Any]], said: str
) -> None:
    found = match(ledger(tiles), edited(tiles, changes))
    assert described(found.roles) == described(match(ledger(tiles), tiles).roles)
    assert any(sentence.startswith(said) for sentence in found.differences)
    assert not any(name in "".join(found.differences) for name in ("p0", "p9", "q1", "s-", "t1"))


def test_the_patients_of_both_are_counted(tiles: TileSet) -> None:
    (said, slides) = match(ledger(tiles), edited(tiles, EVERY_TILE_ITS_OWN)).differences
    assert "(12 patients now, 4 then): the ledger's patients count." in said
    assert "another slide" in slides


@pytest.mark.parametrize("unit", ["slide", "tile"])
def test_a_set_that_forgot_its_patients_is_still_grouped_by_them(tiles: TileSet, unit: str) -> None:
    bare = {row: {"patient": None} for row in range(12)}
    found = match(ledger(tiles), replace(edited(tiles, bare), group_unit=unit))
    assert described(found.roles) == described(match(ledger(tiles), tiles).roles)
    assert found.differences == (
        f"The data set groups its tiles by {unit} now, the ledger of the training by patient: the "
        "ledger's 4 patients count.",
    )


def test_a_ledger_without_patients_is_not_given_any(tiles: TileSet) -> None:
    alone = replace(tiles, group_unit="tile")
    found = match(ledger(alone), tiles)
    assert found.roles["train"].group_unit == "tile"
    assert len(np.unique(found.roles["train"].groups)) == 6
    assert "by patient now, the ledger of the training by tile" in found.differences[0]


def test_a_set_that_puts_a_patient_on_both_sides_by_now_is_refused(tiles: TileSet) -> None:
    """Two names of one patient, mended after training: whose holdout is it?"""
    mended = edited(tiles, {row: {"patient": "p0", "slide": "s-p0"} for row in ROLES["holdout"]})
    found = match(ledger(tiles), mended)
    with pytest.raises(SplitError, match="train and holdout may not share a patient"):
        found.require_disjoint_today()
    match(ledger(tiles), edited(tiles, EVERY_TILE_ITS_OWN)).require_disjoint_today()


def test_tiles_that_the_ledger_does_not_name_are_counted_by_whose_they_are(tiles: TileSet) -> None:
    whole = ledger(tiles)
    kept = tuple(entry for row, entry in enumerate(whole.entries) if row not in (0, 1, 11))
    stranger = edited(tiles, {1: {"patient": "p9", "slide": "s9"}})
    found = match(replace(whole, entries=kept), stranger)
    assert found.unlisted == (
        "3 tiles of the data set are not in the ledger of the training: 1 of held-out patients, "
        "1 of training patients, 1 of unknown patients."
    )
    assert found.differences == ()


def test_tiles_of_the_ledger_that_are_gone_or_changed_are_counted_and_refused(
    tiles: TileSet,
) -> None:
    with pytest.raises(InputError, match="of 12 tiles 2 are missing, 0 changed"):
        match(ledger(tiles), tiles.subset(np.arange(10)))
    assert tiles.pixels is not None
    pixels = tiles.pixels.copy()
    pixels[4] += 1
    with pytest.raises(InputError, match="of 12 tiles 0 are missing, 1 changed"):
        match(ledger(tiles), replace(tiles, pixels=pixels))


def test_ledgers_that_agree_decide_together(tiles: TileSet) -> None:
    whole = ledger(tiles)
    parts = [replace(whole, entries=whole.entries[start:]) for start in (6, 0)]
    recorded, said = agreed(*parts, tiles=edited(tiles, {0: {"patient": "p8", "slide": "s8"}}))
    assert described({"all": recorded}) == described({"all": tiles})
    assert "1 of 12 tiles have another patient" in said[0]


def test_ledgers_that_contradict_each_other_are_refused(tiles: TileSet) -> None:
    other = ledger(edited(tiles, {0: {"patient": "p8", "slide": "s8"}}))
    with pytest.raises(InputError, match=r"contradict each other on a/000000\.png"):
        agreed(ledger(tiles), other, tiles=tiles)
    bare = ledger(replace(tiles, group_unit="slide"))
    with pytest.raises(InputError, match="contradict each other"):
        agreed(ledger(tiles), bare, tiles=tiles)


def test_a_tile_outside_the_ledger_needs_a_patient_too(tiles: TileSet) -> None:
    whole = ledger(tiles)
    part = replace(whole, entries=whole.entries[1:])
    bare = {row: {"patient": None} for row in range(12)}
    with pytest.raises(InputError, match="1 tiles that are not in its ledger name none"):
        agreed(part, tiles=replace(edited(tiles, bare), group_unit="slide"))


def role(tiles: TileSet, name: str) -> TileSet:
    return tiles.subset(np.array(ROLES[name]))


def test_tiles_given_in_their_own_roles_pass(tiles: TileSet) -> None:
    given = {name: role(tiles, name) for name in ROLES}
    assert compare_given(ledger(tiles), given) == []
    strangers = replace(tiles, pixels=255 - tiles.load())
    assert compare_given(ledger(tiles), {**given, "reference": strangers}) == []


@pytest.mark.parametrize(
    ("train", "other", "given_as", "said"),
    [
        ("holdout", "train", "holdout", "3 of 3 train tiles given are its holdout tiles"),
        ("train", "train", "holdout", "6 of 6 holdout tiles given are its train tiles"),
        ("train", "siblings", "holdout", "3 of 3 holdout tiles given are its siblings tiles"),
        ("train", "siblings", "reference", "3 of 3 reference tiles given are its siblings tiles"),
        ("train", "train", "siblings", "6 of 6 siblings tiles given are its train tiles"),
        ("train", "holdout", "siblings", "3 of 3 siblings tiles given are its holdout tiles"),
        ("siblings", "holdout", "holdout", "3 of 3 train tiles given are its siblings tiles"),
    ],
)
def test_tiles_given_in_a_role_the_ledger_contradicts_are_refused(
    tiles: TileSet, train: str, other: str, given_as: str, said: str
) -> None:
    with pytest.raises(InputError, match=f"the ledger says otherwise: {said}"):
        compare_given(ledger(tiles), {"train": role(tiles, train), given_as: role(tiles, other)})


def test_training_tiles_that_were_not_given_are_counted(tiles: TileSet) -> None:
    part = role(tiles, "train").subset(np.arange(2))
    (said,) = compare_given(ledger(tiles), {"train": part, "holdout": role(tiles, "holdout")})
    assert said.startswith("4 of 6 training tiles of the generator's ledger are not among the")

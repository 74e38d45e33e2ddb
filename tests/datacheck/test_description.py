"""check.py: what is said of a set is counted by hand or brute force, and what is not known is not
said."""

import json
from dataclasses import replace

import numpy as np
import pytest

from privgen.data.tileset import TileSet
from privgen.datacheck.description import describe_set, leaks
from privgen.reporting.data_check import print_check


def made(
    places: list[tuple[str, int, int] | None],
    *,
    labels: str | None = None,
    patients: list[str] | None = None,
    roles: list[str | None] | None = None,
    equal: tuple[int, int] | None = None,
) -> TileSet:
    """Tiles of 10 pixels per side at (slide, x, y); a place of None is unknown."""
    count = len(places)
    pixels = np.full((count, 2, 2, 3), 255, np.uint8)
    pixels[:, 0] = np.arange(count, dtype=np.uint8)[:, None, None]
    if equal is not None:
        pixels[equal[1]] = pixels[equal[0]]
    tiles = TileSet.from_arrays(
        pixels,
        list(labels or "ab" * count)[:count],
        slides=[place[0] if place else "elsewhere" for place in places],
        patients=patients,
    )
    records = tuple(
        replace(
            record,
            x=place[1] if place else None,
            y=place[2] if place else None,
            width=10,
            height=10,
            role=role,
        )
        for record, place, role in zip(tiles.records, places, roles or [None] * count, strict=True)
    )
    return replace(tiles, records=records)


CHAIN = [("s", 0, 0), ("s", 4, 0), ("s", 40, 0), ("t", 0, 0), ("t", 8, 5), ("u", 0, 0)]


def test_pairs_that_share_pixels_are_counted_by_what_they_cross() -> None:
    document = describe_set(made(list(CHAIN), labels="aababb"))
    assert document["overlap"] == {
        "pairs": {"within_group": 2, "across_groups": 0, "across_classes": 1},
        "tiles": 4,
        "largest": 0.6,
        "covered": pytest.approx((0.6 + 0.1) / 2),
        "parted": 0,
        "unknown": 0,
    }
    assert leaks(document)
    assert any(
        "1 pairs of tiles share pixels and carry different" in w for w in document["warnings"]
    )
    assert json.loads(json.dumps(document)) == document


def test_overlap_within_slides_is_no_leak() -> None:
    document = describe_set(made(list(CHAIN), labels="aaabba"))
    assert document["overlap"]["pairs"]["within_group"] == 2
    assert document["overlap"]["parted"] == 0
    assert document["roles"] is None
    assert not leaks(document)


def test_grouping_by_tile_crosses_groups_has_no_split_and_says_why() -> None:
    tiles = replace(made(list(CHAIN), labels="aaabbb"), group_unit="tile")
    document = describe_set(tiles)
    assert document["overlap"]["pairs"]["across_groups"] == 2
    assert document["overlap"]["parted"] is None
    assert document["split"] is None
    assert any("may not be split tile by tile" in warning for warning in document["warnings"])
    assert leaks(document)


def test_unknown_places_are_unknown_and_not_none(capsys: pytest.CaptureFixture[str]) -> None:
    document = describe_set(made([None] * 6))
    assert document["overlap"] == {
        **dict.fromkeys(("pairs", "tiles", "largest", "covered", "parted")),
        "unknown": 6,
    }
    print_check({**document, "near": None})
    assert "unknown" in capsys.readouterr().err
    partly = describe_set(made([*CHAIN, None], labels="aaabbab"))
    assert partly["overlap"]["unknown"] == 1
    assert partly["overlap"]["pairs"]["within_group"] == 2
    print_check({**partly, "near": None})
    assert "unknown for 1 tiles" in " ".join(capsys.readouterr().err.split())


def test_equal_tiles_are_counted_as_by_comparing_every_two() -> None:
    rng = np.random.default_rng(0)
    pixels = np.full((40, 2, 2, 3), 255, np.uint8)
    pixels[:, 0] = rng.integers(0, 3, (40, 1, 1))
    labels, groups = rng.choice(list("ab"), 40), rng.choice(list("pqr"), 40)
    tiles = TileSet.from_arrays(pixels, labels, patients=groups)
    equal = [
        (i, j) for i in range(40) for j in range(i) if pixels[i, 0, 0, 0] == pixels[j, 0, 0, 0]
    ]
    assert describe_set(tiles)["repeated"] == {
        "within_group": sum(groups[i] == groups[j] for i, j in equal),
        "across_groups": sum(groups[i] != groups[j] for i, j in equal),
        "across_classes": sum(labels[i] != labels[j] for i, j in equal),
    }


def test_random_split_by_tile_is_refuted() -> None:
    """The 2020 study's way: overlapping tiles of few slides, each drawn to a side."""
    rng = np.random.default_rng(0)
    places = [(s, x * 6, y * 6) for s in "stu" for x in range(5) for y in range(5)]
    roles = [str(role) for role in rng.choice(["train", "test"], len(places))]
    document = describe_set(made(list(places), labels="a" * 75, roles=list(roles), equal=(0, 74)))
    brute = sum(
        roles[i] != roles[j] and p[0] == q[0] and abs(p[1] - q[1]) < 10 and abs(p[2] - q[2]) < 10
        for i, p in enumerate(places)
        for j, q in enumerate(places[:i])
    )
    assert brute > 50
    assert document["roles"]["tiles"] == {role: roles.count(role) for role in ("test", "train")}
    assert document["roles"]["shared"] == {
        "patients": None,
        "slides": 3,
        "source_images": None,
        "alike": 0,
        "equal": int(roles[0] != roles[74]),
        "overlapping": brute,
        "near": None,
    }
    assert leaks(document)
    assert any("roles are not apart" in warning for warning in document["warnings"])


def test_split_that_holds_is_confirmed(capsys: pytest.CaptureFixture[str]) -> None:
    roles: list[str | None] = ["train", "train", "siblings", "holdout", "holdout", None]
    document = describe_set(
        made(list(CHAIN), labels="aaabbb", patients=list("ppprrq"), roles=roles),
        tied=np.array([[0, 1], [0, 5]]),
    )
    assert document["roles"] == {
        "tiles": {"holdout": 2, "siblings": 1, "train": 2},
        "without": 1,
        "shared": {
            "patients": 0,
            "slides": 0,
            "source_images": None,
            "alike": 0,
            "equal": 0,
            "overlapping": 0,
            "near": 0,
        },
    }
    assert not leaks(document)
    print_check({**document, "near": None})
    shown = " ".join(capsys.readouterr().err.split())
    assert "holdout 2, siblings 1, train 2, without a role 1" in shown
    assert "0 pairs of tiles that share pixels" in shown
    assert "parted by the split: 0" in shown


@pytest.mark.parametrize(
    ("roles", "shared"),
    [
        (["train", "siblings", "train", "holdout", "holdout", None], {"overlapping": 1, "near": 1}),
        (["train", "train", "holdout", "val", "val", None], {"patients": 1, "slides": 1}),
        (["train", "train", "train", "val", "val", "val"], {"equal": 1, "near": 1}),
    ],
)
def test_each_way_to_stand_on_two_sides_is_counted(
    roles: list[str | None], shared: dict[str, int]
) -> None:
    tiles = made(list(CHAIN), labels="aaabba", patients=list("ppprrq"), roles=roles, equal=(2, 5))
    document = describe_set(tiles, tied=np.array([[0, 1], [0, 5]]))
    found = {key: count for key, count in document["roles"]["shared"].items() if count}
    assert found == shared
    assert leaks(document)


def blanks(roles: list[str | None] | None = None) -> TileSet:
    """Four patients with two tiles each, one of them white and equal in all."""
    tiles = made(
        [None] * 8,
        labels="abababab",
        patients=[f"P{row % 4}" for row in range(8)],
        roles=roles,
    )
    assert tiles.pixels is not None
    pixels = tiles.pixels.copy()
    pixels[4:] = 255
    records = tuple(replace(record, slide=None) for record in tiles.records)
    return replace(tiles, pixels=pixels, records=records)


def test_blank_tiles_are_counted_apart_and_are_no_leak(capsys: pytest.CaptureFixture[str]) -> None:
    document = describe_set(blanks(["train", "train", "holdout", "holdout"] * 2))
    assert document["repeated"] == {"within_group": 0, "across_groups": 0, "across_classes": 0}
    assert document["featureless"] == {"tiles": 4, "across_groups": 6, "across_classes": 4}
    assert document["roles"]["shared"]["equal"] == 0
    assert document["split"]["holdout"]["groups"] in (1, 2)
    assert not leaks(document)
    assert any(
        warning.startswith("4 tiles are featureless (near-constant), and some are equal in several")
        for warning in document["warnings"]
    )
    assert not any("correct the manifest" in warning for warning in document["warnings"])
    print_check({**document, "near": None})
    assert "featureless tiles, which tie nobody: 4" in capsys.readouterr().err
    assert json.loads(json.dumps(document)) == document


def test_names_that_are_alike_are_told_and_block_across_the_roles_of_a_manifest() -> None:
    patients = ["P1", "p1", "Q", "R", "P1", "p1"]
    within = describe_set(made([None] * 6, labels="aaabbb", patients=patients))
    (told,) = [warning for warning in within["warnings"] if "names" in warning]
    assert told.startswith("2 patients have names that differ only in case, leading zeros or signs")
    assert told.endswith("(first: P1 / p1).")
    assert within["groups"] == 4
    assert not leaks(within)
    roles: list[str | None] = ["train", "holdout"] * 3
    tiles = made([None] * 6, labels="aaabbb", patients=patients, roles=roles)
    apart = replace(tiles, records=tuple(replace(r, slide=None) for r in tiles.records))
    across = describe_set(apart)
    assert across["roles"]["shared"]["patients"] == 0
    assert across["roles"]["shared"]["alike"] == 1
    assert leaks(across)


@pytest.mark.parametrize("classes", [2, 600])
def test_many_classes_are_split_and_warned_of_like_two(classes: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6000, 4, 4, 3), dtype=np.uint8)
    tiles = TileSet.from_arrays(
        pixels,
        [f"class_{row % classes:04d}" for row in range(6000)],
        patients=[f"p{row % 60}" for row in range(6000)],
    )
    document = describe_set(tiles)
    assert len(document["warnings"]) < 12
    assert document["split"] is not None
    assert {count["tiles"] for count in document["classes"].values()} == {6000 // classes}


def test_classes_of_few_patients_have_one_warning_where_they_are_many() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 4, 4, 3), dtype=np.uint8)
    for classes, lines in ((9, 9), (10, 1)):
        tiles = TileSet.from_arrays(
            pixels,
            [f"c{row % classes}" for row in range(40)],
            patients=[f"p{row % 4}" for row in range(40)],
        )
        said = [line for line in describe_set(tiles)["warnings"] if "learns of" in line]
        assert len(said) == lines

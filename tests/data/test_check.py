"""check.py: what is said of a set is counted by hand or brute force, and what is not known is not
said."""

import json
from dataclasses import replace

import numpy as np
import pytest

from privgen.data.check import describe_set, leaks
from privgen.data.tileset import TileSet
from privgen.reporting.check import print_check


def made(
    places: list[tuple[str, int, int] | None],
    *,
    labels: str | None = None,
    patients: list[str] | None = None,
    roles: list[str | None] | None = None,
    equal: tuple[int, int] | None = None,
) -> TileSet:
    """Tiles of 10 pixels a side at (slide, x, y); a place of None is unknown."""
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

"""What was found against what a manifest says: crossings, strays and recovered groups."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from privgen.copysearch.alignment import Alignments
from privgen.copysearch.searching import Searched
from privgen.data.tileset import TileRecord, TileSet
from privgen.datacheck import kinship
from privgen.datacheck.duplicates import LARGEST_FAMILY, Duplicates
from privgen.datacheck.kinship import BY_CHAIN, FIELD, NEAR, NOT_MATCHED, Kinship, compare

NOBODY = cast(Searched, None)


def tile_set(groups: str, labels: str = "", unit: Any = "source_image") -> TileSet:
    """One letter per tile: its group and its label."""
    records = tuple(
        TileRecord(path=f"{row}.png", label=label, **{unit: group})
        for row, (group, label) in enumerate(zip(groups, labels or "x" * len(groups), strict=True))
    )
    return TileSet(root=None, records=records, layout="test", group_unit=unit)


def found(
    pairs: Sequence[tuple[int, int]], pictures: Sequence[int], fields: Sequence[int] = ()
) -> Duplicates:
    """Pairs, of which those at the positions `fields` are overlapping fields."""
    m = len(pairs)
    return Duplicates(
        pairs=np.array(pairs, dtype=np.intp).reshape(m, 2),
        inliers=np.arange(20, 20 + m),
        agreements=np.full(m, 0.9),
        shared=np.full(m, 0.8),
        near=~np.isin(np.arange(m), fields),
        mirrored=np.zeros(m, dtype=np.bool_),
        rotations=np.zeros(m),
        scales=np.ones(m),
        pictures=np.array(pictures),
        featureless=np.zeros(len(pictures), dtype=np.bool_),
    )


@pytest.fixture(autouse=True)
def measured(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Every further pair has 7 inliers; the pairs asked for are kept."""
    asked: list[list[int]] = []

    def align(_: object, pairs: NDArray[np.intp], *, title: str) -> Alignments:
        asked.extend(pairs.tolist())
        n = len(pairs)
        return Alignments(
            candidates=np.zeros(n, dtype=np.intp),
            inliers=np.full(n, 7),
            transforms=np.tile(np.eye(2, 3), (n, 1, 1)),
            mirrored=np.zeros(n, dtype=np.bool_),
            rotations=np.zeros(n),
            scales=np.ones(n),
            overlaps=np.full(n, 0.4),
            agreements=np.full(n, 0.2),
            strengths=np.full(n, 2.0),
            marked=np.zeros(n),
            featureless=np.zeros(n, dtype=np.bool_),
        )

    monkeypatch.setattr(kinship, "align_all", align)
    return asked


def test_pairs_are_counted_by_kind_and_by_what_they_cross() -> None:
    tiles = tile_set("AABC", "xyxx", unit="patient")
    result = compare(tiles, found([(0, 1), (0, 2), (1, 2), (2, 3)], [0] * 4, fields=[3]), NOBODY)
    assert result.counts == {
        NEAR: {"within_group": 1, "across_groups": 2, "across_classes": 2},
        FIELD: {"within_group": 0, "across_groups": 1, "across_classes": 0},
    }
    assert result.crosses
    assert len(result.disagreements) == 4


@pytest.mark.parametrize(
    ("groups", "labels", "fields", "crosses"),
    [
        ("AA", "xx", [], False),
        ("AB", "xx", [], True),
        ("AB", "xx", [0], True),
        ("AA", "xy", [], True),
    ],
)
def test_tissue_crosses_where_group_or_label_differ(
    groups: str, labels: str, fields: list[int], crosses: bool
) -> None:
    tiles = tile_set(groups, labels, unit="patient")
    result = compare(tiles, found([(0, 1)], [0, 0], fields), NOBODY)
    assert result.crosses == crosses
    assert len(result.disagreements) == crosses


def test_nothing_found_crosses_nothing() -> None:
    result = compare(tile_set("AB"), found([], [0, 1]), NOBODY)
    assert not result.crosses
    assert result.pairs == []


def test_a_listed_pair_brings_its_evidence() -> None:
    first = compare(tile_set("AB", unit="slide"), found([(0, 1)], [0, 0]), NOBODY).pairs[0]
    assert first["tiles"] == ["0.png", "1.png"]
    assert first["groups"] == ["A", "B"]
    assert (first["inliers"], first["agreement"], first["shared"]) == (20, 0.9, 0.8)
    assert (first["mirrored"], first["rotation"], first["scale"]) == (False, 0.0, 1.0)


def test_contradicting_labels_come_first_and_then_most_inliers() -> None:
    tiles = tile_set("ABCDEF", "xxxxxy", unit="patient")
    listed = compare(tiles, found([(0, 1), (2, 3), (4, 5)], [0, 0, 1, 1, 2, 2]), NOBODY).pairs
    assert [pair["tiles"][0] for pair in listed] == ["4.png", "2.png", "0.png"]


@pytest.mark.parametrize("seed", range(20))
def test_recovery_counts_pairs_as_by_looking_at_each(seed: int) -> None:
    rng = np.random.default_rng(seed)
    groups = "".join(rng.choice(list("ABC"), 9))
    pictures = rng.integers(0, 4, 9)
    recovery = compare(tile_set(groups), found([], pictures.tolist()), NOBODY).recovery
    every = list(combinations(range(9), 2))
    known = {(i, j) for i, j in every if groups[i] == groups[j]}
    seen = {(i, j) for i, j in every if pictures[i] == pictures[j]}
    assert recovery is not None
    assert (recovery["known"], recovery["found"]) == (len(known), len(seen))
    assert recovery["both"] == len(known & seen)
    assert recovery["recall"] == pytest.approx(len(known & seen) / len(known))
    assert recovery["precision"] == (len(known & seen) / len(seen) if seen else None)


def test_every_disagreement_of_the_recovery_is_listed_with_its_inliers(
    measured: list[list[int]],
) -> None:
    # Known 0 1 2 | 3 4; recovered 0 1 | 2 3 4, where (2, 4) hangs by a chain and (0, 2) is a field.
    proven = [(0, 1), (0, 2), (2, 3), (3, 4)]
    result = compare(tile_set("AAABB"), found(proven, [0, 0, 1, 1, 1], fields=[1]), NOBODY)
    listed = {
        (pair["tiles"][0][0], pair["tiles"][1][0]): (pair["kind"], pair["inliers"])
        for pair in result.disagreements
    }
    assert listed == {
        ("2", "3"): (NEAR, 22),
        ("0", "2"): (FIELD, 21),
        ("2", "4"): (BY_CHAIN, 7),
        ("1", "2"): (NOT_MATCHED, 7),
    }
    assert sorted(measured) == [[1, 2], [2, 4]]


def test_tile_that_matches_none_of_its_group_is_a_stray() -> None:
    # 2 is named A and matches B; 5 is alone in its group; 6 and 7 match by an overlapping field.
    tiles = tile_set("AAABBCDD")
    proven = [(0, 1), (2, 3), (3, 4), (6, 7)]
    result = compare(tiles, found(proven, [0, 0, 1, 1, 1, 2, 3, 4], fields=[3]), NOBODY)
    assert result.strays == [{"tile": "2.png", "group": "A", "tiles_in_group": 3, "matches": ["B"]}]


def with_place(tiles: TileSet) -> TileSet:
    first = replace(tiles.records[0], x=0, y=0)
    return replace(tiles, records=(first, *tiles.records[1:]))


@pytest.mark.parametrize(
    "tiles",
    [
        tile_set("AABB", unit="patient"),
        tile_set("AABB", unit="slide"),
        with_place(tile_set("AABB")),
    ],
    ids=["patients", "slides", "cuts of a source image"],
)
def test_groups_of_different_fields_are_not_expected_to_match(
    tiles: TileSet, measured: list[list[int]]
) -> None:
    result: Kinship = compare(tiles, found([], [0, 1, 2, 3]), NOBODY)
    assert result.recovery is None
    assert result.strays is None
    assert result.disagreements == []
    assert measured == []


def test_a_large_group_is_counted_although_its_pairs_are_not_listed(
    measured: list[list[int]],
) -> None:
    n = LARGEST_FAMILY + 1
    result = compare(tile_set("A" * n), found([], list(range(n))), NOBODY)
    assert result.recovery is not None
    assert result.recovery["known"] == n * (n - 1) // 2
    assert measured == []

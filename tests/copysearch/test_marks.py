"""Marks: what comes from the making of pictures is set aside, what comes from a patient is not."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from audits.proof import alike
from privgen.copysearch import marks as module
from privgen.copysearch.alignment import Alignments, best_alignments
from privgen.copysearch.descriptors import PATCH_SIDE, describe
from privgen.copysearch.marks import Marks
from privgen.copysearch.poses import BaseMarks
from privgen.data.layouts import open_tiles
from privgen.data.phantom import make_phantom

Tiles = NDArray[np.uint8]
Names = NDArray[np.str_]
SIDE = 64


def framed(tiles: Tiles) -> Tiles:
    """A black frame and a caption."""
    marked = tiles.copy()
    for tile in marked:
        cv2.rectangle(tile, (0, 0), (SIDE - 1, SIDE - 1), (0, 0, 0), 2)
        tile[54:63, 2:62] = 255
        cv2.putText(tile, "HE 20x", (5, 62), cv2.FONT_HERSHEY_SIMPLEX, 0.32, (0, 0, 0), 1)
    return marked


def rounded(tiles: Tiles) -> Tiles:
    """A round field of view."""
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    marked = tiles.copy()
    marked[:, np.hypot(x, y) > 30] = 0
    return marked


def pointed(tiles: Tiles) -> Tiles:
    """A round field of view and the stroke of a pen."""
    marked = rounded(tiles)
    stroke = np.array([[12, 40], [24, 20], [40, 26], [52, 12]], dtype=np.int32)
    for tile in marked:
        cv2.polylines(tile, [stroke], False, (20, 90, 40), 3)
    return marked


def scaled(tiles: Tiles) -> Tiles:
    """A round field of view and a scale bar."""
    marked = rounded(tiles)
    for tile in marked:
        cv2.rectangle(tile, (34, 48), (50, 51), (0, 0, 0), -1)
        cv2.putText(tile, "50um", (30, 46), cv2.FONT_HERSHEY_SIMPLEX, 0.28, (0, 0, 0), 1)
    return marked


MARKINGS = {"frame, caption": framed, "mask, pen": pointed, "mask, scale bar": scaled}


@pytest.fixture(scope="module")
def tissue() -> tuple[Tiles, Names]:
    """60 tiles of 20 patients, no tissue twice."""
    tiles = make_phantom(
        patients=20, tiles_per_patient=3, side=SIDE, classes=("NORM", "TUM", "LYM", "STR"), seed=4
    )
    return tiles.load(), tiles.groups


def drawn(marking: Callable[[Tiles], Tiles], tiles: Tiles) -> NDArray[np.bool_]:
    """Where a marking changes a tile, shape (n, 96, 96)."""
    changed = np.abs(marking(tiles).astype(int) - tiles).max(axis=3) > 20
    return np.stack(
        [
            cv2.resize(each.astype(np.uint8), (PATCH_SIDE, PATCH_SIDE), interpolation=0) > 0
            for each in changed
        ]
    )


def innocent(
    tiles: Tiles,
    groups: Names,
    marking: Callable[[Tiles], Tiles],
    patients: int,
    *,
    copied: bool = False,
) -> tuple[Alignments, Alignments]:
    """Tiles of other patients with the marks of train tiles, aligned without and with `Marks`.

    Args:
      patients: train patients whose first tile is marked; no other real tile is.
      copied: search the marked train tiles themselves instead.
    """
    names = np.unique(groups)
    train, made = names[: len(names) // 2], names[-4:]
    first = np.array([np.flatnonzero(groups == name)[0] for name in train[:patients]])
    queries = marking(tiles[np.isin(groups, made)])
    real = tiles.copy()
    real[first] = marking(tiles[first])
    if copied:
        queries = real[first]
    pool = ~np.isin(groups, made)
    everything = describe(real)
    shown = Marks(everything.patches[pool], groups[pool])
    base = everything.subset(first)
    candidates = np.tile(np.arange(len(first)), (len(queries), 1))
    described = describe(queries)
    return (
        best_alignments(described, base, candidates),
        best_alignments(described, base, candidates, marks=BaseMarks(base, groups[first], shown)),
    )


@pytest.mark.parametrize("patients", [2, 3, 8])
@pytest.mark.parametrize("name", MARKINGS)
def test_innocent_tiles_with_the_marks_of_train_tiles_are_no_copies(
    name: str, patients: int, tissue: tuple[Tiles, Names]
) -> None:
    before, after = innocent(*tissue, MARKINGS[name], patients)
    assert len(before) == 12
    assert alike(before.inliers, before.strengths).sum() >= 6, "and would be without"
    assert not alike(after.inliers, after.strengths).any()
    assert (before.marked == 0).all()


def test_a_copy_is_proven_by_what_its_frame_leaves(tissue: tuple[Tiles, Names]) -> None:
    _, after = innocent(*tissue, framed, 8, copied=True)
    assert (after.marked > 0.5).all()
    assert alike(after.inliers, after.strengths).mean() >= 0.75


@pytest.mark.parametrize("name", MARKINGS)
def test_what_is_drawn_is_what_is_found(name: str, tissue: tuple[Tiles, Names]) -> None:
    tiles, groups = tissue
    marking = MARKINGS[name]
    known = drawn(marking, tiles)
    patches = describe(marking(tiles)).patches
    marks = Marks(patches, groups)
    for tile in range(0, len(tiles), 12):
        found = marks.of(patches[tile], str(groups[tile]))
        assert found.shape == (PATCH_SIDE, PATCH_SIDE)
        assert found[known[tile]].mean() > 0.9


def test_only_the_place_of_a_mark_is_set_aside(tissue: tuple[Tiles, Names]) -> None:
    tiles, groups = tissue
    marked = tiles.copy()
    marked[:, 4:14, 4:24] = 255
    for tile in marked:
        cv2.putText(tile, "AB 7", (5, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.3, (0, 0, 0), 1)
    patches = describe(marked).patches
    found = Marks(patches, groups).of(patches[0], str(groups[0]))
    assert found[6:21, 6:36].all()
    assert not found[60:].any()
    assert not found[:, 72:].any()


def test_tiles_without_marks_lose_hardly_anything(tissue: tuple[Tiles, Names]) -> None:
    tiles, groups = tissue
    patches = describe(tiles).patches
    marks = Marks(patches, groups)
    lost = [marks.of(patches[tile], str(groups[tile])).mean() for tile in range(0, len(tiles), 4)]
    assert np.mean(lost) < 0.01


def test_a_tile_of_two_patients_is_a_duplicate_and_no_mark(tissue: tuple[Tiles, Names]) -> None:
    """Whoever stands in the data twice must not thereby become invisible."""
    tiles, groups = tissue
    twice = tiles.copy()
    twice[30] = tiles[0]  # of another patient
    twice[45] = tiles[0]
    assert len(set(groups[[0, 30, 45]])) == 3
    patches = describe(twice).patches
    marks = Marks(patches, groups)
    assert not marks.of(patches[0], str(groups[0])).any()


def test_what_recurs_in_one_patient_alone_is_no_mark(tissue: tuple[Tiles, Names]) -> None:
    tiles, groups = tissue
    mine = np.flatnonzero(groups == groups[0])
    assert len(mine) == 3
    marked = tiles.copy()
    marked[mine] = framed(tiles[mine])
    patches = describe(marked).patches
    marks = Marks(patches, groups)
    assert not marks.of(patches[mine[0]], str(groups[0])).any()


def test_what_is_alike_next_to_the_same_is_one_mark_with_it() -> None:
    places = np.zeros((96, 96), dtype=np.bool_)
    places[10:20, 10:20] = places[20:25, 20:25] = True  # touching at a corner
    places[50:60, 50:60] = True
    seeds = np.zeros_like(places)
    seeds[12, 12] = True
    expected = places.copy()
    expected[50:60, 50:60] = False
    np.testing.assert_array_equal(module._grown(seeds, places), expected)
    assert not module._grown(np.zeros_like(seeds), places).any()


def test_a_mark_at_another_place_in_each_tile_is_none(tissue: tuple[Tiles, Names]) -> None:
    """Tissue recurs too, somewhere; what makes a mark is its place."""
    tiles, groups = tissue
    marked = tiles.copy()
    for row, tile in enumerate(marked):
        x, y = (row * 13) % 40, (row * 29) % 48
        tile[y : y + 12, x : x + 22] = 255
        cv2.putText(tile, "AB", (x + 2, y + 10), cv2.FONT_HERSHEY_SIMPLEX, 0.35, (0, 0, 0), 1)
    patches = describe(marked).patches
    marks = Marks(patches, groups)
    lost = [marks.of(patches[row], str(groups[row])).mean() for row in range(0, 60, 6)]
    assert np.mean(lost) < 0.05


def test_without_other_patients_there_are_no_marks(tissue: tuple[Tiles, Names]) -> None:
    tiles, _ = tissue
    patches = describe(framed(tiles[:4])).patches
    for marks in (
        Marks(patches, np.array(["P"] * 4)),
        Marks(patches[:0], np.array([], dtype=np.str_)),
    ):
        assert not marks.of(patches[0], "P").any()
    assert len(Marks(patches, np.array(["P"] * 4))) == 4


def test_a_blank_tile_shows_none(tissue: tuple[Tiles, Names]) -> None:
    blank = describe(np.full((3, SIDE, SIDE, 3), 240, dtype=np.uint8)).patches
    marks = Marks(blank, np.array(["a", "b", "c"]))
    assert not marks.of(blank[0], "a").any()


def test_neither_order_nor_repetition_matters(tissue: tuple[Tiles, Names]) -> None:
    tiles, groups = tissue
    patches = describe(framed(tiles)).patches
    order = np.random.default_rng(0).permutation(len(tiles))
    one, other = Marks(patches, groups), Marks(patches[order], groups[order])
    first = one.of(patches[3], str(groups[3]))
    np.testing.assert_array_equal(other.of(patches[3], str(groups[3])), first)
    base = BaseMarks(describe(framed(tiles[:4])), groups[:4], one)
    np.testing.assert_array_equal(base.of(3), first)
    assert base.of(3) is base.of(3)


@pytest.mark.real_data
class TestRealTissue:
    @pytest.fixture(scope="class")
    @staticmethod
    def glas(real_data: Callable[[str], Path]) -> tuple[Tiles, Names]:
        """Five tiles of each of 12 GlaS patients, 64 px."""
        tiles = open_tiles(real_data("glas"))
        names = np.unique(tiles.groups)[:12]
        rows = [np.flatnonzero(tiles.groups == name)[::4][:5] for name in names]
        chosen = tiles.subset(np.concatenate(rows))
        return chosen.load(SIDE), chosen.groups

    @pytest.mark.parametrize("patients", [2, 6])
    @pytest.mark.parametrize("name", MARKINGS)
    def test_innocent_tiles_with_marks_are_no_copies(
        self, name: str, patients: int, glas: tuple[Tiles, Names]
    ) -> None:
        before, after = innocent(*glas, MARKINGS[name], patients)
        assert alike(before.inliers, before.strengths).sum() >= 6, "and would be without"
        assert not alike(after.inliers, after.strengths).any()

    @pytest.mark.parametrize("name", MARKINGS)
    def test_a_copy_is_proven_by_what_its_marks_leave(
        self, name: str, glas: tuple[Tiles, Names]
    ) -> None:
        _, after = innocent(*glas, MARKINGS[name], 6, copied=True)
        assert (after.marked > 0.5).all()
        assert alike(after.inliers, after.strengths).mean() >= 0.8

    def test_tiles_without_marks_lose_hardly_anything(self, glas: tuple[Tiles, Names]) -> None:
        tiles, groups = glas
        patches = describe(tiles).patches
        marks = Marks(patches, groups)
        lost = [marks.of(patches[row], str(groups[row])).mean() for row in range(len(tiles))]
        assert np.mean(lost) < 0.03

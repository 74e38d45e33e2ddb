"""Poses: symmetric copies by hand, copies without key points, marks that are set aside."""

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from audits.proof import MIN_STRENGTH, alike, joint_score
from privgen.copysearch import poses
from privgen.copysearch.agreement import Agreement
from privgen.copysearch.alignment import FEW_KEYPOINTS, align, best_alignments
from privgen.copysearch.descriptors import Descriptors, describe
from privgen.copysearch.marks import Mask
from privgen.copysearch.poses import Pose, best_pose
from privgen.copysearch.structure import SIDE, structure, turn_matrix, turns
from privgen.encoders.orbit import symmetries

Tiles = NDArray[np.uint8]
Floats = NDArray[np.float64]


@pytest.fixture(scope="module")
def tiles(crops: Tiles) -> Tiles:
    """10 tiles full of detail."""
    full = np.argsort(-describe(crops).counts, kind="stable")[:10]
    return crops[np.sort(full)]


@pytest.fixture(scope="module")
def base(tiles: Tiles) -> Descriptors:
    return describe(tiles)


def faint(tiles: Tiles, levels: float = 3.0) -> Tiles:
    """Nearly grey: a standard deviation of three grey levels holds no key point."""
    mean = tiles.mean(axis=(1, 2, 3), keepdims=True)
    spread = tiles.mean(axis=3).std(axis=(1, 2))[:, None, None, None]
    return np.rint(mean + levels * (tiles - mean) / spread).astype(np.uint8)


def moved(matrix: Floats, side: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Where each pixel of a tile comes to lie, as rows and columns."""
    y, x = np.mgrid[:side, :side]
    places = np.stack([x, y], axis=-1) @ matrix[:, :2].T + matrix[:, 2]
    whole = np.rint(places).astype(np.intp)
    np.testing.assert_allclose(places, whole, atol=1e-9)
    return whole[..., 1], whole[..., 0]


class TestTurns:
    @pytest.mark.parametrize("turn", range(8))
    @pytest.mark.parametrize("side", [5, 6])
    def test_the_matrix_is_numpys_turn(self, turn: int, side: int) -> None:
        tile = np.arange(side**2).reshape(side, side)
        version = np.rot90(tile if turn < 4 else tile[:, ::-1], turn % 4)
        rows, columns = moved(turn_matrix(turn, side), side)
        np.testing.assert_array_equal(version[rows, columns], tile)

    @pytest.mark.parametrize("turn", range(8))
    def test_the_matrix_is_that_of_the_turned_pictures(self, turn: int, base: Descriptors) -> None:
        plain = structure(base.patches).reshape(-1, SIDE, SIDE)
        turned = turns(base.patches)[turn].reshape(-1, SIDE, SIDE)
        rows, columns = moved(turn_matrix(turn, SIDE), SIDE)
        np.testing.assert_array_equal(turned[:, rows, columns], plain)


class TestPictures:
    def test_a_copy_without_key_points_is_found_in_every_symmetry(
        self, tiles: Tiles, base: Descriptors
    ) -> None:
        everyone = np.tile(np.arange(len(base)), (len(base), 1))
        for number, version in enumerate(symmetries(tiles)):
            copies = describe(faint(np.ascontiguousarray(version)))
            assert copies.counts.max() == 0
            found = best_alignments(copies, base, everyone)
            np.testing.assert_array_equal(found.candidates, np.arange(len(base)))
            assert alike(found.inliers, found.strengths).all()
            assert found.featureless.all()
            assert (found.mirrored == (number >= 4)).all()
            y, x = np.mgrid[:64, :64]
            place = next(
                v for i, v in enumerate(symmetries(np.stack([x, y], axis=2)[None])) if i == number
            )[0]
            for transform in found.transforms:
                for spot in ((0, 0), (50, 7), (3, 60)):
                    np.testing.assert_allclose(
                        transform @ (*spot, 1), place[spot[1], spot[0]], atol=1e-9
                    )

    def test_sides_may_differ(self, tiles: Tiles, base: Descriptors) -> None:
        large = describe(np.repeat(np.repeat(faint(tiles), 2, axis=1), 2, axis=2))
        found = best_alignments(large, base, np.arange(len(base))[:, None])
        assert (found.strengths > 10).all()
        # Pixel 2 x and 2 x + 1 of 128 show pixel x of 64: x' = x / 2 - 1 / 4.
        np.testing.assert_allclose(
            found.transforms,
            np.tile([[0.5, 0, -0.25], [0, 0.5, -0.25]], (len(base), 1, 1)),
            atol=1e-12,
        )
        np.testing.assert_allclose(found.overlaps, 1)

    def test_other_tissue_without_key_points_is_not_found(
        self, tiles: Tiles, base: Descriptors
    ) -> None:
        others = np.array([[j for j in range(len(base)) if j != i] for i in range(len(base))])
        found = best_alignments(describe(faint(tiles)), base, others)
        assert not alike(found.inliers, found.strengths).any()

    def test_the_two_that_look_most_alike_are_tried(
        self, tiles: Tiles, base: Descriptors, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(poses, "fits", nothing_fits)
        tried: list[int] = []
        scored = poses._scored

        def watched(*given: object) -> Pose:
            tried.append(given[3])  # type: ignore[arg-type]
            return scored(*given)  # type: ignore[arg-type]

        monkeypatch.setattr(poses, "_scored", watched)
        best = best_pose(describe(tiles[4:5]), 0, base, np.arange(len(base)), None)
        likeness = turns(base.patches[4:5])[:, 0] @ structure(base.patches).T
        expected = np.argsort(-likeness.max(axis=0), kind="stable")[:2]
        assert tried == expected.tolist()
        assert best is not None
        assert best.candidate == 4

    def test_a_blank_tile_and_no_candidates_give_nothing(self, base: Descriptors) -> None:
        blank = describe(np.full((1, 64, 64, 3), 240, dtype=np.uint8))
        assert best_pose(blank, 0, base, np.arange(3), None) is None
        assert best_pose(base, 0, base, np.array([], dtype=np.intp), None) is None


def nothing_fits(*given: object) -> Iterator[poses.Fit]:
    candidates = given[3]
    assert isinstance(candidates, np.ndarray)
    return iter([poses.NO_FIT] * len(candidates))


class Marked:
    """The same marks on every base tile, and a count of who asked."""

    def __init__(self, mask: Mask) -> None:
        self.mask, self.asked = mask, list[int]()

    def of(self, tile: int) -> Mask:
        self.asked.append(tile)
        return self.mask


def pose(score_of: tuple[int, float]) -> Pose:
    inliers, strength = score_of
    return Pose(0, np.eye(2, 3), False, inliers, Agreement(0.5, strength, 1.0), strength)


class TestMarks:
    def test_a_pose_scores_as_the_judge_does(self) -> None:
        assert pose((20, 4.0)).score == float(joint_score(np.array([20]), np.array([4.0]))[0])

    def test_key_points_and_tissue_under_marks_do_not_count(
        self, tiles: Tiles, base: Descriptors
    ) -> None:
        seen = best_pose(base, 0, base, np.array([0]), None)
        left = np.zeros((96, 96), dtype=np.bool_)
        left[:, :48] = True
        half = best_pose(base, 0, base, np.array([0]), Marked(left))  # type: ignore[arg-type]
        none = best_pose(base, 0, base, np.array([0]), Marked(~left | left))  # type: ignore[arg-type]
        assert seen is not None
        assert half is not None
        assert none is not None
        assert (seen.marked, half.marked, none.marked) == (0, pytest.approx(0.5, abs=0.01), 1)
        assert half.whole.share == pytest.approx(0.5, abs=0.02)
        right = base.points[base.rows(0), 0] * 96 / 64 >= 48
        assert half.inliers <= right.sum()
        assert 0.25 * seen.inliers < half.inliers < 0.75 * seen.inliers
        assert 0 < half.strength < seen.strength
        assert (none.inliers, none.strength, none.score) == (0, 0, 0)

    def test_another_candidate_wins_once_marks_are_set_aside(
        self, tiles: Tiles, base: Descriptors
    ) -> None:
        """Tile 1 is a copy of the query without marks; in tile 0 every place is one."""
        query = describe(tiles[:1])
        both = describe(np.stack([tiles[0], tiles[0, :, ::-1]]))

        class First:
            def of(self, tile: int) -> Mask:
                return np.full((96, 96), tile == 0)

        found = best_pose(query, 0, both, np.arange(2), First())  # type: ignore[arg-type]
        assert found is not None
        assert (found.candidate, found.mirrored, found.marked) == (1, True, 0)
        assert found.inliers > 50

    def test_marks_are_looked_for_only_where_a_score_is_suspicious(
        self, tiles: Tiles, base: Descriptors, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        nowhere = Marked(np.zeros((96, 96), dtype=np.bool_))
        best_pose(base, 0, base, np.arange(len(base)), nowhere)  # type: ignore[arg-type]
        assert nowhere.asked == [0], "the copy alone"
        monkeypatch.setattr(poses, "SUSPICIOUS", np.inf)
        best_pose(base, 1, base, np.arange(len(base)), nowhere)  # type: ignore[arg-type]
        assert nowhere.asked == [0]


def test_a_tile_with_fewer_key_points_than_ten_cannot_be_cleared(tiles: Tiles) -> None:
    """Blurred or nearly blank: 1 to 9 key points are too few to be matched, but they are some."""
    counts = np.array([0, 1, FEW_KEYPOINTS - 1, FEW_KEYPOINTS, 30])
    full = describe(np.repeat(tiles[:1], 5, axis=0))
    rows = [np.arange(full.starts[tile], full.starts[tile] + n) for tile, n in enumerate(counts)]
    kept = np.concatenate(rows)
    some = Descriptors(
        full.side,
        np.concatenate([[0], np.cumsum(counts)]),
        full.points[kept],
        full.vectors[kept],
        full.patches,
    )
    found = best_alignments(some, full, np.full((5, 1), -1))
    assert found.featureless.tolist() == [True, True, True, False, False]


def test_one_pair_tells_its_strength(tiles: Tiles, base: Descriptors) -> None:
    copy = describe(faint(tiles[:1]))
    one = align(copy, base.subset(np.array([0])))
    many = best_alignments(copy, base, np.array([[0]]))
    assert one.strength == many.strengths[0] > MIN_STRENGTH

"""Key points against where they must be; votes against a brute-force count."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from privgen.copysearch import descriptors, votes
from privgen.copysearch.descriptors import (
    KEYPOINTS,
    MIRROR,
    PATCH_SIDE,
    VECTOR_LENGTH,
    Descriptors,
    concatenate,
    describe,
)
from privgen.copysearch.votes import NEIGHBORS, PARTS, VOTERS, Shortlist, shortlist
from privgen.data.phantom import make_phantom
from privgen.errors import InputError

Tiles = NDArray[np.uint8]


@pytest.fixture(scope="module")
def tissue() -> Tiles:
    """12 tiles of 3 phantom patients, 64 px."""
    return make_phantom(
        patients=3, tiles_per_patient=4, classes=("TUM", "NORM", "STR", "MUC"), side=64
    ).load()


@pytest.fixture(scope="module")
def base(crops: Tiles) -> Descriptors:
    return describe(crops)


def same(first: Descriptors, second: Descriptors) -> None:
    for name in ("starts", "points", "vectors", "patches"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name), err_msg=name)


def turned(tiles: Tiles, degrees: float) -> Tiles:
    """Turned about the centre, corners reflected."""
    h = tiles.shape[1]
    matrix = cv2.getRotationMatrix2D(((h - 1) / 2, (h - 1) / 2), degrees, 1)
    return np.stack(
        [
            cv2.warpAffine(tile, matrix, (h, h), flags=2, borderMode=cv2.BORDER_REFLECT)
            for tile in tiles
        ]
    )


class TestKeyPoints:
    @pytest.mark.parametrize("side", [64, 128, 300])
    @pytest.mark.parametrize("spot", [(0.25, 0.6), (0.5, 0.5), (0.7, 0.2)])
    def test_a_spot_is_found_where_it_is(self, side: int, spot: tuple[float, float]) -> None:
        x, y = (round(share * side) for share in spot)
        rows, columns = np.mgrid[:side, :side]
        bump = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * (side / 20) ** 2))
        tile = np.repeat((230 - 180 * bump)[..., None], 3, axis=2).astype(np.uint8)
        found = describe(tile[None]).points
        nearest = np.hypot(found[:, 0] - x, found[:, 1] - y).argmin()
        assert np.hypot(found[nearest, 0] - x, found[nearest, 1] - y) < 0.005 * side
        assert found[nearest, 2] == pytest.approx(2 * side / 20, rel=0.35)

    def test_a_small_tile_yields_hundreds(self, tissue: Tiles) -> None:
        assert np.median(describe(tissue).counts) >= 200

    def test_strongest_come_first_and_the_number_is_kept(self, crops: Tiles) -> None:
        many, few = describe(crops[:4]), describe(crops[:4], keypoints=50)
        assert (few.counts == 50).all()
        assert many.counts.max() <= KEYPOINTS
        for tile in range(4):
            np.testing.assert_array_equal(
                few.points[few.rows(tile)], many.points[many.rows(tile)][:50]
            )

    def test_vectors_have_one_length(self, base: Descriptors) -> None:
        lengths = np.linalg.norm(base.vectors.astype(float), axis=1)
        assert np.median(lengths) == pytest.approx(VECTOR_LENGTH, rel=0.005)
        assert (base.vectors.astype(np.int64) ** 2).sum(axis=1).max() * 4 < 2**24

    def test_the_mirror_is_a_permutation(self, crops: Tiles) -> None:
        plain, mirror = describe(crops[:3]), describe(crops[:3, :, ::-1])
        for tile in range(3):
            ours, theirs = plain.rows(tile), mirror.rows(tile)
            moved = plain.points[ours].astype(float) * (-1, 1, 1, 1) + (63, 0, 0, 0)
            moved[:, 3] = np.pi - moved[:, 3]
            near = np.abs(moved[:, None, :2] - mirror.points[theirs][None, :, :2]).max(axis=2)
            turn = np.cos(moved[:, None, 3] - mirror.points[theirs][None, :, 3]) > 0.999
            match = np.where(turn, near, 9).argmin(axis=1)
            there = np.where(turn, near, 9).min(axis=1) < 0.02
            assert there.mean() > 0.8
            difference = plain.vectors[ours][:, MIRROR].astype(int) - mirror.vectors[theirs][match]
            assert np.median(np.abs(difference[there]).max(axis=1)) <= 1

    def test_twice_mirrored_is_unchanged(self) -> None:
        np.testing.assert_array_equal(MIRROR[MIRROR], np.arange(128))
        assert not np.equal(MIRROR, np.arange(128)).any()

    def test_featureless_tiles_have_none_and_are_counted(self, crops: Tiles) -> None:
        blank = np.full((2, 64, 64, 3), 240, dtype=np.uint8)
        blank[1] += np.random.default_rng(0).integers(0, 4, blank[1].shape).astype(np.uint8)
        found = describe(np.concatenate([blank[:1], crops[:1], blank[1:]]))
        np.testing.assert_array_equal(found.featureless, [True, False, True])
        np.testing.assert_array_equal(found.counts[[0, 2]], 0)

    def test_neither_order_nor_threads_matter(
        self, crops: Tiles, base: Descriptors, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        order = np.random.default_rng(0).permutation(len(crops))
        same(describe(crops[order]), base.subset(order))
        monkeypatch.setattr(descriptors, "cores", lambda: 1)
        same(describe(crops), base)

    def test_opencv_keeps_its_threads(self, crops: Tiles) -> None:
        before = cv2.getNumThreads()
        describe(crops[:2])
        assert cv2.getNumThreads() == before

    def test_parts_are_joined_in_order(self, crops: Tiles, base: Descriptors) -> None:
        same(concatenate([describe(crops[:5]), describe(crops[5:])]), base)
        with pytest.raises(InputError, match=r"all have one side: got \[32, 64\]"):
            concatenate([base, describe(np.zeros((1, 32, 32, 3), dtype=np.uint8))])
        with pytest.raises(InputError, match="got none"):
            concatenate([])

    def test_no_tiles_give_nothing(self) -> None:
        found = describe(np.empty((0, 64, 64, 3), dtype=np.uint8))
        assert (len(found), len(found.points), found.patches.shape) == (
            0,
            0,
            (0, PATCH_SIDE, PATCH_SIDE),
        )

    @pytest.mark.parametrize(
        "tiles",
        [
            np.zeros((2, 64, 64, 3)),
            np.zeros((64, 64, 3), dtype=np.uint8),
            np.zeros((2, 64, 32, 3), dtype=np.uint8),
            np.zeros((2, 64, 64, 1), dtype=np.uint8),
        ],
    )
    def test_anything_but_square_rgb_is_refused(self, tiles: Tiles) -> None:
        with pytest.raises(InputError, match="square RGB tiles, uint8"):
            describe(tiles)


def invited(queries: Descriptors, tile: int) -> list[int]:
    """Rows of the key points that vote: six of each part, strongest first, then the strongest."""
    rows = list(range(*queries.rows(tile).indices(10**9)[:2]))
    taken = dict[tuple[int, int], list[int]]()
    for row in rows:
        part = tuple(int((v + 0.5) * PARTS // queries.side) for v in queries.points[row, :2])
        taken.setdefault(part, []).append(row)  # type: ignore[arg-type]
    chosen = [row for part in taken.values() for row in part[: VOTERS // PARTS**2]]
    return sorted(chosen + [row for row in rows if row not in chosen][: VOTERS - len(chosen)])


def counted(queries: Descriptors, base: Descriptors) -> NDArray[np.float64]:
    """Votes by their definition, one key point at a time."""
    table = np.zeros((len(queries), len(base)))
    owner = np.repeat(np.arange(len(base)), base.counts)
    theirs = votes._folded(base.vectors).astype(float)
    for tile in range(len(queries)):
        cells: dict[tuple[int, ...], float] = {}
        for row in invited(queries, tile):
            folded = votes._folded(queries.vectors[[row]]).astype(float)
            far = ((theirs - folded) ** 2).sum(axis=1)
            limit = np.sort(far)[min(NEIGHBORS, len(far)) - 1]
            hits = np.flatnonzero(far < limit)
            vector = queries.vectors[row].astype(float)
            each = [vector, vector[MIRROR]]
            both = np.array([np.linalg.norm(base.vectors[hits] - v, axis=1) for v in each])
            distance = both.min(axis=0)
            for other in np.unique(owner[hits]):
                mine = np.flatnonzero(owner[hits] == other)
                nearest = mine[distance[mine].argmin()]
                mirrored = both[1, nearest] < both[0, nearest]
                _, _, size, angle = queries.points[row]
                _, _, its_size, its_angle = base.points[hits[nearest]]
                turn = its_angle - (np.float32(np.pi) - angle if mirrored else angle)
                for step in (0, 1):
                    for jump in (0, 1):
                        cell = (
                            other,
                            mirrored,
                            (int(np.floor(turn * 6 / np.pi)) + step) % 12,
                            int(np.floor(2 * np.log2(its_size / size))) + jump,
                        )
                        weight = (distance.max() - distance[nearest]) ** 2
                        cells[cell] = cells.get(cell, 0.0) + weight
        for (other, *_), total in cells.items():
            table[tile, other] = max(table[tile, other], total)
    return table


class TestVotes:
    def test_every_part_of_a_tile_is_heard(self, base: Descriptors) -> None:
        share = VOTERS // PARTS**2
        crowded = np.flatnonzero(base.counts > VOTERS)
        assert len(crowded) > 5
        unlike = 0
        for tile in crowded:
            voters = votes._voters(base, int(tile))
            assert voters.tolist() == invited(base, int(tile))
            assert len(voters) == VOTERS
            rows = base.rows(int(tile))
            part = np.floor((base.points[:, :2] + 0.5) * (PARTS / base.side)).astype(int)
            number = part[:, 0] * PARTS + part[:, 1]
            there = np.bincount(number[rows], minlength=PARTS**2)
            heard = np.bincount(number[voters], minlength=PARTS**2)
            assert (heard >= np.minimum(there, share)).all()
            strongest = np.bincount(number[rows.start : rows.start + VOTERS], minlength=PARTS**2)
            unlike += int((strongest < np.minimum(there, share)).any())
        assert unlike > 5, "the strongest alone would leave parts out"

    def test_a_tile_of_few_key_points_has_them_all_vote(self, base: Descriptors) -> None:
        few = np.flatnonzero((base.counts > 0) & (base.counts <= VOTERS))
        assert len(few)
        for tile in few:
            rows = base.rows(int(tile))
            assert votes._voters(base, int(tile)).tolist() == list(range(rows.start, rows.stop))

    def test_they_are_what_brute_force_counts(self, crops: Tiles, base: Descriptors) -> None:
        queries = describe(turned(crops[[1, 5]], 25))
        table = counted(queries, base)
        found = shortlist(queries, base, top=len(base))
        for row in range(len(queries)):
            listed = found.tiles[row] >= 0
            np.testing.assert_allclose(
                found.votes[row][listed], table[row, found.tiles[row][listed]], rtol=1e-6
            )
            assert listed.sum() == (table[row] > 0).sum()
        assert (np.diff(found.votes, axis=1) <= 0).all()

    @pytest.mark.parametrize("degrees", [0.0, 33.0])
    @pytest.mark.parametrize("mirrored", [False, True])
    def test_the_source_of_a_copy_comes_first(
        self, degrees: float, mirrored: bool, crops: Tiles, base: Descriptors
    ) -> None:
        copies = turned(crops[:, :, ::-1] if mirrored else crops, degrees)
        found = shortlist(describe(copies), base, top=3)
        assert (found.tiles[:, 0] == np.arange(len(crops))).mean() >= 0.95
        assert found.recall is None

    def test_neither_order_nor_threads_nor_blocks_matter(
        self, crops: Tiles, base: Descriptors, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        queries = describe(turned(crops, 40))
        whole = shortlist(queries, base, top=5)
        order = np.random.default_rng(1).permutation(len(crops))
        mixed = shortlist(queries.subset(order), base.subset(order), top=5)
        np.testing.assert_array_equal(order[mixed.tiles], whole.tiles[order])
        np.testing.assert_array_equal(mixed.votes, whole.votes[order])
        for workers, block in ((1, 24), (3, 5)):
            monkeypatch.setattr(votes, "cores", lambda workers=workers: workers)
            monkeypatch.setattr(votes, "_BLOCK", block)
            monkeypatch.setattr(votes, "_ADDED", 1777)
            again = shortlist(queries, base, top=5)
            np.testing.assert_array_equal(again.tiles, whole.tiles)
            np.testing.assert_array_equal(again.votes, whole.votes)

    def test_a_group_is_left_out_as_if_it_were_not_there(self, base: Descriptors) -> None:
        groups = np.array([f"P{tile % 3}" for tile in range(len(base))])
        found = shortlist(base, base, top=4, query_groups=groups, base_groups=groups)
        for group in np.unique(groups):
            rows, others = np.flatnonzero(groups == group), np.flatnonzero(groups != group)
            apart = shortlist(base.subset(rows), base.subset(others), top=4)
            np.testing.assert_array_equal(found.tiles[rows], others[apart.tiles])
            np.testing.assert_array_equal(found.votes[rows], apart.votes)

    @pytest.mark.parametrize("slacks", [(0,), (8, 96), (1500,)])
    def test_however_it_is_searched(
        self, slacks: tuple[int, ...], base: Descriptors, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        some = base.subset(np.arange(8))
        groups = np.array([f"G{tile // 2}" for tile in range(8)])
        crowded = shortlist(some, some, top=4, query_groups=groups, base_groups=groups)
        monkeypatch.setattr(votes, "_CROWD", 0.5)
        monkeypatch.setattr(votes, "_SLACKS", slacks)
        found = shortlist(some, some, top=4, query_groups=groups, base_groups=groups)
        np.testing.assert_array_equal(found.tiles, crowded.tiles)
        np.testing.assert_array_equal(found.votes, crowded.votes)

    def test_a_tile_alone_is_left_out(self, base: Descriptors) -> None:
        names = np.arange(len(base)).astype(np.str_)
        found = shortlist(base, base, top=1, query_groups=names, base_groups=names)
        assert (found.tiles[:, 0] != np.arange(len(base))).all()
        assert (shortlist(base, base, top=1).tiles[:, 0] == np.arange(len(base))).all()

    def test_a_base_of_the_own_group_offers_nobody(self, base: Descriptors) -> None:
        group = np.full(len(base), "one")
        found = shortlist(base, base, top=2, query_groups=group, base_groups=group)
        assert (found.tiles == -1).all()
        assert (found.votes == 0).all()

    def test_blank_tiles_and_short_bases_leave_gaps(self, crops: Tiles, base: Descriptors) -> None:
        blank = describe(np.full((1, 64, 64, 3), 240, dtype=np.uint8))
        assert (shortlist(blank, base, top=2).tiles == -1).all()
        assert (shortlist(base, blank, top=2).tiles == -1).all()
        found = shortlist(base.subset(np.arange(2)), base.subset(np.arange(2)), top=4)
        np.testing.assert_array_equal(found.tiles[:, 0], [0, 1])
        np.testing.assert_array_equal(found.tiles[:, 2:], -1)
        assert shortlist(describe(crops[:0]), base, top=2).tiles.shape == (0, 2)

    def test_an_inverted_file_says_how_much_it_finds(
        self, crops: Tiles, base: Descriptors, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        queries = describe(turned(crops, 20))
        monkeypatch.setattr(votes, "_PROBES", 10_000)
        everything = shortlist(queries, base, top=3, approximate=True)
        exact = shortlist(queries, base, top=3)
        np.testing.assert_array_equal(everything.tiles, exact.tiles)
        assert everything.recall is not None
        assert (everything.recall.value, everything.recall.n) == (1.0, len(crops))
        monkeypatch.setattr(votes, "_PROBES", 1)
        some = shortlist(queries, base, top=1, approximate=True).recall
        assert some is not None
        assert some.low is not None
        assert some.low <= some.value <= 1

    def test_recall_by_hand(self) -> None:
        exact = np.array([[3], [5], [-1], [2]])
        listed = np.array([[1, 3], [5, 2], [0, 1], [1, 3]])
        found = votes._recall(exact, listed)
        assert found is not None
        assert (found.value, found.n) == (pytest.approx(2 / 3), 3)
        assert votes._recall(exact[2:3], listed[2:3]) is None

    @pytest.mark.parametrize("grouped", [False, True])
    def test_a_tile_repeated_forty_times_still_gets_its_votes(
        self, crops: Tiles, base: Descriptors, grouped: bool
    ) -> None:
        """Forty equal matches would all be the farthest of the nearest 32."""
        rows = np.concatenate([np.zeros(40, dtype=np.intp), np.arange(1, len(base))])
        groups = (
            [np.array(["q"] * len(base)), np.array(["b"] * len(rows))] if grouped else [None] * 2
        )
        found = votes.shortlist(
            describe(turned(crops, 33)),
            base.subset(rows),
            top=3,
            query_groups=groups[0],
            base_groups=groups[1],
        )
        alone = votes.shortlist(describe(turned(crops, 33)), base, top=3)
        assert found.tiles[0, 0] == 0
        expected = np.where(alone.tiles > 0, alone.tiles + 39, alone.tiles)
        np.testing.assert_array_equal(found.tiles, expected)
        np.testing.assert_array_equal(found.votes, alone.votes)

    def test_what_does_not_fit_is_refused(self, base: Descriptors) -> None:
        names = np.arange(len(base)).astype(np.str_)
        with pytest.raises(InputError, match="at least 1 candidate per tile: got top=0"):
            shortlist(base, base, top=0)
        with pytest.raises(InputError, match="queries and base alike"):
            shortlist(base, base, top=1, query_groups=names)
        with pytest.raises(InputError, match="got 3 for 24 query"):
            shortlist(base, base, top=1, query_groups=names[:3], base_groups=names)
        assert isinstance(shortlist(base, base, top=1), Shortlist)

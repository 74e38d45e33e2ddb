"""Alignment against transforms that are known, by hand and by construction."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from audits.proof import alike
from privgen.copysearch import alignment, consensus
from privgen.copysearch.agreement import agreement
from privgen.copysearch.alignment import Alignments, align, align_pairs, best_alignments, overlap
from privgen.copysearch.consensus import MAX_SCALE, MAX_STRETCH, TOLERANCE
from privgen.copysearch.descriptors import Descriptors, describe
from privgen.copysearch.votes import shortlist
from privgen.data.images import decode, encode_jpeg, resize
from privgen.data.layouts import open_tiles
from privgen.data.phantom import make_phantom
from privgen.data.stain import jitter
from privgen.encoders.orbit import symmetries
from privgen.errors import InputError

Tiles = NDArray[np.uint8]
Floats = NDArray[np.float64]


def pairs(base: Descriptors) -> NDArray[np.intp]:
    """Tile i with tile i."""
    return np.arange(len(base))[:, None]


def warped(tiles: Tiles, matrix: Floats) -> Tiles:
    """Copies whose pixel p shows what `matrix` puts p at, bicubic, corners reflected."""
    h = tiles.shape[1]
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    mode = cv2.BORDER_REFLECT
    return np.stack(
        [cv2.warpAffine(tile, matrix, (h, h), flags=flags, borderMode=mode) for tile in tiles]
    )


def shifted(x: float, y: float) -> Floats:
    return np.array([[1.0, 0, x], [0, 1, y]])


def about_centre(side: int, *, degrees: float, scale: float, mirrored: bool = False) -> Floats:
    """Similarity that keeps the centre, after x -> side - 1 - x where mirrored."""
    cos, sin = scale * np.cos(np.radians(degrees)), scale * np.sin(np.radians(degrees))
    linear = np.array([[cos, -sin], [sin, cos]]) @ np.diag([-1.0 if mirrored else 1.0, 1.0])
    centre = np.full(2, (side - 1) / 2)
    return np.column_stack([linear, centre - linear @ centre])


@pytest.fixture(scope="module")
def tiles(crops: Tiles) -> Tiles:
    """10 tiles full of detail."""
    full = np.argsort(-describe(crops).counts, kind="stable")[:10]
    return crops[np.sort(full)]


@pytest.fixture(scope="module")
def base(tiles: Tiles) -> Descriptors:
    return describe(tiles)


class TestTransform:
    @pytest.mark.parametrize("mirrored", [False, True])
    @pytest.mark.parametrize(
        ("degrees", "scale"), [(0, 1), (23, 1), (-71, 0.8), (140, 0.6), (10, 0.35)]
    )
    def test_it_is_recovered(
        self, degrees: float, scale: float, mirrored: bool, tiles: Tiles, base: Descriptors
    ) -> None:
        known = about_centre(64, degrees=degrees, scale=scale, mirrored=mirrored)
        found = best_alignments(describe(warped(tiles, known)), base, pairs(base))
        assert np.median(np.abs(found.rotations - degrees)) < 0.3
        assert np.abs(found.rotations - degrees).max() < 1
        assert np.abs(found.scales / scale - 1).max() < 0.02
        assert (found.mirrored == mirrored).all()
        corners = np.array([[0, 0, 1], [63, 0, 1], [63, 63, 1], [0, 63, 1]], dtype=float)
        assert np.abs(corners @ (found.transforms - known).transpose(0, 2, 1)).max() < 1.5
        assert np.median(found.inliers) >= 10
        assert np.median(found.agreements) > 0.9

    def test_the_8_symmetries_come_back_as_they_were(self, tiles: Tiles, base: Descriptors) -> None:
        place = np.stack(np.meshgrid(np.arange(64), np.arange(64)), axis=2)  # x, y of each pixel
        for version, where in zip(symmetries(tiles[:2]), symmetries(place[None]), strict=True):
            found = best_alignments(describe(np.ascontiguousarray(version)), base, pairs(base)[:2])
            for x, y in ((0, 0), (50, 7), (3, 60)):
                np.testing.assert_allclose(
                    found.transforms[0] @ (x, y, 1), where[0, y, x], atol=0.3
                )
            assert found.inliers.min() > 100
            assert found.agreements.min() > 0.97

    def test_a_crop_leads_into_its_frame(self, tiles: Tiles, base: Descriptors) -> None:
        copies = resize(np.ascontiguousarray(tiles[:, 10:48, 20:58]), 64)
        found = best_alignments(describe(copies), base, pairs(base))
        unit = 38 / 64
        known = [[unit, 0, 20 + unit / 2 - 0.5], [0, unit, 10 + unit / 2 - 0.5]]
        np.testing.assert_allclose(np.median(found.transforms, axis=0), known, atol=0.1)
        np.testing.assert_allclose(found.overlaps, 1, atol=0.02)

    def test_tiles_of_another_size_align(self, tiles: Tiles, base: Descriptors) -> None:
        large = describe(resize(tiles, 128))
        found = best_alignments(large, base, pairs(base))
        np.testing.assert_allclose(found.scales, 0.5, rtol=0.01)
        np.testing.assert_allclose(found.overlaps, 1, atol=0.02)
        assert found.agreements.min() > 0.95

    def test_beyond_the_largest_scale_nothing_is_claimed(self, base: Descriptors) -> None:
        rng = np.random.default_rng(0)
        for scale, some in ((MAX_SCALE * 0.98, True), (MAX_SCALE * 1.02, False)):
            for factor in (scale, 1 / scale):
                ours, theirs = correspondences(30, scale=factor, side=256, rng=rng)
                count, *_ = consensus._consensus(ours, theirs, 256)
                assert (count > 20) == some, factor


def correspondences(
    n: int, *, scale: float, side: int, rng: np.random.Generator, degrees: float = 40
) -> tuple[Floats, Floats]:
    """Key points of a tile and the same under a similarity, spread over the smaller frame."""
    z = rng.uniform(0, side / max(1, scale), (n, 2)) @ (1, 1j)
    w = z * scale * np.exp(1j * np.radians(degrees))
    size, angle = rng.uniform(2, 9, n), rng.uniform(-3, 3, n)
    ours = np.stack([z.real, z.imag, size, angle], axis=1)
    return ours, np.stack([w.real, w.imag, size * scale, angle + np.radians(degrees)], axis=1)


class TestConsensus:
    def test_every_true_match_and_no_other_counts(self) -> None:
        rng = np.random.default_rng(1)
        ours, theirs = correspondences(40, scale=1.0, side=200, rng=rng)
        theirs[25:, :2] = rng.uniform(0, 200, (15, 2))
        count, matrix, _ = consensus._consensus(ours, theirs, 200)
        assert 25 <= count <= 27
        turn = np.radians(40)
        np.testing.assert_allclose(
            matrix[:, :2], [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]], atol=0.01
        )

    @pytest.mark.parametrize(("excess", "counted"), [(0.9, True), (1.15, False)])
    def test_an_inlier_lies_within_the_tolerance(self, excess: float, counted: bool) -> None:
        ours, theirs = correspondences(
            60, scale=1.0, side=200, rng=np.random.default_rng(2), degrees=0
        )
        theirs[0, 0] += excess * TOLERANCE * 200
        plain, *_ = consensus._consensus(ours[1:], theirs[1:], 200)
        count, *_ = consensus._consensus(ours, theirs, 200)
        assert count == plain + counted

    @pytest.mark.parametrize(
        ("column", "change", "counted"),
        [(3, 0.45, True), (3, 0.6, False), (2, 1.55, True), (2, 1.7, False), (2, 0.6, False)],
    )
    def test_an_inlier_agrees_in_direction_and_size(
        self, column: int, change: float, counted: bool
    ) -> None:
        ours, theirs = correspondences(60, scale=1.0, side=200, rng=np.random.default_rng(3))
        theirs[0, column] = theirs[0, 2] * change if column == 2 else theirs[0, 3] + change
        plain, *_ = consensus._consensus(ours[1:], theirs[1:], 200)
        count, *_ = consensus._consensus(ours, theirs, 200)
        assert count == plain + counted

    def test_one_place_counts_once(self) -> None:
        ours, theirs = correspondences(12, scale=1.0, side=256, rng=np.random.default_rng(4))
        once, *_ = consensus._consensus(ours, theirs, 256)
        twice, *_ = consensus._consensus(np.tile(ours, (2, 1)), np.tile(theirs, (2, 1)), 256)
        assert once == twice == 12

    def test_two_matches_are_no_alignment_and_three_are(self) -> None:
        ours, theirs = correspondences(3, scale=1.0, side=256, rng=np.random.default_rng(5))
        assert consensus._consensus(ours[:2], theirs[:2], 256)[0] == 0
        assert consensus._consensus(ours, theirs, 256)[0] == 3

    def test_matches_are_mutual_and_clear(self) -> None:
        rng = np.random.default_rng(6)
        a = rng.normal(size=(40, 64))
        a *= 512 / np.linalg.norm(a, axis=1, keepdims=True)
        b = np.concatenate([a[:20] + rng.normal(scale=15, size=(20, 64)), -a[20:]])
        b *= 512 / np.linalg.norm(b, axis=1, keepdims=True)
        b[1] = b[0] + 1e-3  # two alike: row 0 has no clear match
        distance = np.linalg.norm(a[:, None] - b[None], axis=2)
        expected = [
            (row, int(distance[row].argmin()))
            for row in range(40)
            if distance[:, distance[row].argmin()].argmin() == row
            and np.sort(distance[row])[0] <= 0.9 * np.sort(distance[row])[1]
        ]
        mine, its = consensus._matches((2 * a @ b.T).astype(np.float32))
        assert list(zip(mine.tolist(), its.tolist(), strict=True)) == expected
        assert 15 <= len(expected) <= 25


class TestOverlap:
    @pytest.mark.parametrize(
        ("matrix", "share"),
        [
            (shifted(0, 0), 1.0),
            (shifted(32, 0), 0.5),
            (shifted(16, -16), 0.5625),
            (shifted(64, 0), 0.0),
            (about_centre(64, degrees=45, scale=1), 2 * (np.sqrt(2) - 1)),
            (about_centre(64, degrees=0, scale=2), 0.25),
            (about_centre(64, degrees=90, scale=0.5), 1.0),
            (about_centre(64, degrees=0, scale=1, mirrored=True), 1.0),
        ],
    )
    def test_it_is_the_shared_area(self, matrix: Floats, share: float) -> None:
        assert overlap(matrix, 64, 64) == pytest.approx(share, abs=1e-4)

    def test_sides_may_differ(self) -> None:
        assert overlap(shifted(0, 0) * 0.5, 128, 64) == pytest.approx(1, abs=0.01)
        assert overlap(shifted(0, 0), 128, 64) == pytest.approx(0.25, abs=1e-4)


class TestAgreement:
    def test_it_is_one_for_a_tile_and_itself(self, base: Descriptors) -> None:
        for tile in range(len(base)):
            patch = base.patches[tile]
            value = agreement(patch, patch, shifted(0, 0), 64, 64)
            assert value == pytest.approx(1, abs=1e-5)

    def test_it_is_near_zero_for_other_tissue(self) -> None:
        other = describe(make_phantom(patients=8, tiles_per_patient=1, side=64).load()).patches
        chance = [
            agreement(a, b, shifted(0, 0), 64, 64)
            for a, b in zip(other, np.roll(other, 1, axis=0), strict=True)
        ]
        assert np.abs(chance).max() < 0.25

    def test_stain_and_light_do_not_matter(self, tiles: Tiles, base: Descriptors) -> None:
        stained = describe(jitter(tiles, np.random.default_rng(0), strength=0.2))
        shade = np.linspace(0.8, 1, 64)[None, :, None, None]
        dimmed = describe((tiles * shade).astype(np.uint8))
        for other in (stained, dimmed):
            found = best_alignments(other, base, pairs(base))
            assert found.agreements.min() > 0.9

    @pytest.mark.parametrize(
        ("x", "y", "share"), [(48, 0, 0.5), (48, 48, 0.25), (84, 0, 0.125), (24, 0, 0.75)]
    )
    def test_less_than_half_an_overlap_counts_for_less(
        self, x: int, y: int, share: float, base: Descriptors
    ) -> None:
        patch = base.patches[0]
        moved = np.roll(patch, (y, x), axis=(0, 1))
        value = agreement(patch, moved, shifted(x * 64 / 96, y * 64 / 96), 64, 64)
        assert value == pytest.approx(min(1, np.sqrt(2 * share)), abs=0.02)

    def test_without_overlap_nothing_agrees(self, base: Descriptors) -> None:
        patch = base.patches[0]
        assert agreement(patch, patch, shifted(70, 0), 64, 64) == 0
        blank = np.full_like(patch, 7)
        assert agreement(blank, blank, shifted(0, 0), 64, 64) == 0

    def test_it_looks_where_the_transform_leads(self, tiles: Tiles) -> None:
        known = about_centre(64, degrees=30, scale=0.7)
        copies, sources = describe(warped(tiles[:3], known)), describe(tiles[:3])
        for right, wrong in ((known, about_centre(64, degrees=-30, scale=0.7)),):
            for copy, source in zip(copies.patches, sources.patches, strict=True):
                assert agreement(copy, source, right, 64, 64) > 0.9
                assert agreement(copy, source, wrong, 64, 64) < 0.5


def blended(tiles: Tiles, share: float) -> Tiles:
    return np.rint(share * tiles + (1 - share) * np.roll(tiles, 5, axis=0)).astype(np.uint8)


ALTERED: dict[str, Callable[[Tiles], Tiles]] = {
    "exact": lambda tiles: tiles.copy(),
    "crop 60 %": lambda tiles: resize(np.ascontiguousarray(tiles[:, 12:50, 20:58]), 64),
    "crop 35 %": lambda tiles: resize(np.ascontiguousarray(tiles[:, 12:34, 20:42]), 64),
    "blend .7": lambda tiles: blended(tiles, 0.7),
    "JPEG q40": lambda tiles: np.stack([decode(encode_jpeg(t, 40), "tile") for t in tiles]),
    "blur": lambda tiles: np.stack([cv2.GaussianBlur(t, (0, 0), 0.8) for t in tiles]),
}


class TestSearch:
    @pytest.mark.parametrize("kind", ALTERED)
    def test_an_altered_copy_is_aligned(self, kind: str, tiles: Tiles, base: Descriptors) -> None:
        found = best_alignments(describe(ALTERED[kind](tiles)), base, pairs(base))
        assert (found.inliers >= 10).mean() >= 0.9
        assert np.median(found.agreements) > 0.8
        assert alike(found.inliers, found.strengths).mean() >= 0.9

    def test_the_candidate_with_the_highest_score_wins(
        self, tiles: Tiles, base: Descriptors
    ) -> None:
        copies = describe(warped(tiles, about_centre(64, degrees=17, scale=0.9)))
        everyone = np.tile(np.arange(len(base)), (len(base), 1))
        found = best_alignments(copies, base, everyone)
        np.testing.assert_array_equal(found.candidates, np.arange(len(base)))
        backwards = best_alignments(copies, base, everyone[:, ::-1])
        same(found, backwards)

    def test_neither_order_nor_threads_matter(
        self, tiles: Tiles, base: Descriptors, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        copies = describe(warped(tiles, about_centre(64, degrees=50, scale=1)))
        candidates = np.stack([np.arange(len(base)), np.roll(np.arange(len(base)), 1)], axis=1)
        whole = best_alignments(copies, base, candidates)
        monkeypatch.setattr(alignment, "cores", lambda: 1)
        order = np.random.default_rng(0).permutation(len(base))
        mixed = best_alignments(copies.subset(order), base, candidates[order])
        np.testing.assert_array_equal(mixed.transforms, whole.transforms[order])
        np.testing.assert_array_equal(mixed.agreements, whole.agreements[order])
        np.testing.assert_array_equal(mixed.strengths, whole.strengths[order])
        np.testing.assert_array_equal(mixed.inliers, whole.inliers[order])

    def test_one_pair_alone_says_the_same(self, tiles: Tiles, base: Descriptors) -> None:
        copies = describe(warped(tiles, about_centre(64, degrees=5, scale=0.8, mirrored=True)))
        many = best_alignments(copies, base, pairs(base))
        one = align(copies.subset(np.array([3])), base.subset(np.array([3])))
        assert (one.inliers, one.mirrored) == (many.inliers[3], True)
        assert (one.rotation, one.scale) == (many.rotations[3], many.scales[3])
        assert (one.overlap, one.agreement) == (many.overlaps[3], many.agreements[3])
        assert one.strength == many.strengths[3]
        np.testing.assert_array_equal(one.transform, many.transforms[3])

    def test_blank_tiles_and_missing_candidates_are_counted_apart(
        self, tiles: Tiles, base: Descriptors
    ) -> None:
        blank = np.full((1, 64, 64, 3), 240, dtype=np.uint8)
        queries = describe(np.concatenate([blank, tiles[:2]]))
        found = best_alignments(queries, base, np.array([[0, 1], [-1, -1], [-1, 1]]))
        np.testing.assert_array_equal(found.featureless, [True, False, False])
        np.testing.assert_array_equal(found.candidates, [-1, -1, 1])
        assert found.inliers[0] == found.inliers[1] == 0 < found.inliers[2]
        assert np.isnan(found.transforms[:2]).all()
        np.testing.assert_array_equal(found.agreements[:2], 0)
        np.testing.assert_array_equal(found.strengths[:2], 0)
        assert len(found) == 3

    def test_what_does_not_fit_is_refused(self, base: Descriptors) -> None:
        with pytest.raises(InputError, match="one row per query tile"):
            best_alignments(base, base, pairs(base)[:3])
        with pytest.raises(InputError, match="-1 to 9: got 0 to 10"):
            best_alignments(base, base, pairs(base) + np.arange(10)[:, None] // 9)
        with pytest.raises(InputError, match="got -2 to 7"):
            best_alignments(base, base, pairs(base) - 2)
        with pytest.raises(InputError, match="one tile and one candidate: got 10 and 1"):
            align(base, base.subset(np.array([0])))


def same(first: Alignments, second: Alignments) -> None:
    for name in ("candidates", "inliers", "transforms", "rotations", "agreements", "strengths"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name), err_msg=name)


def test_tissue_of_different_patients_is_never_aligned_by_more_than_chance() -> None:
    phantom = make_phantom(patients=8, tiles_per_patient=4, side=64, seed=3)
    found = describe(phantom.load())
    listed = shortlist(found, found, top=5, query_groups=phantom.groups, base_groups=phantom.groups)
    assert (phantom.groups[listed.tiles] != phantom.groups[:, None])[listed.tiles >= 0].all()
    best = best_alignments(found, found, listed.tiles)
    assert best.inliers.max() <= 9
    assert not alike(best.inliers, best.strengths).any()


@pytest.mark.real_data
class TestRealTissue:
    @pytest.fixture(scope="class")
    @staticmethod
    def roles(real_data: Callable[[str], Path]) -> tuple[Tiles, Tiles]:
        """60 train and 40 holdout tiles of different GlaS patients, 64 px."""
        glas = open_tiles(real_data("glas"))
        rng = np.random.default_rng(0)
        mine = np.isin(glas.groups, ("P03", "P04", "P07", "P10", "P11"))
        train, holdout = (
            glas.subset(np.sort(rng.choice(np.flatnonzero(rows), count, replace=False))).load(64)
            for rows, count in ((mine, 60), (~mine, 40))
        )
        return train, holdout

    def test_no_holdout_tile_aligns_by_more_than_chance(self, roles: tuple[Tiles, Tiles]) -> None:
        base, queries = (describe(each) for each in roles)
        found = best_alignments(queries, base, shortlist(queries, base, top=5).tiles)
        assert found.inliers.max() <= 9
        assert not alike(found.inliers, found.strengths).any()

    def test_odd_rotated_copies_are_found_and_proven(self, roles: tuple[Tiles, Tiles]) -> None:
        train, _ = roles
        base = describe(train)
        copies = describe(warped(train[:40], about_centre(64, degrees=33, scale=1)))
        found = best_alignments(copies, base, shortlist(copies, base, top=5).tiles)
        blank = base.featureless[:40] | copies.featureless
        right = (found.candidates == np.arange(40)) & (found.inliers > 20)
        right &= np.abs(found.rotations - 33) < 1
        assert right[~blank].mean() >= 0.95


class TestStretch:
    """Pictures made square, as LC25000's were: 4 to 3 at an angle is no similarity any more."""

    def stretched(self, tiles: Tiles, ratio: float) -> tuple[Tiles, Floats]:
        turn = about_centre(tiles.shape[1], degrees=30, scale=1)[:, :2]
        linear = turn @ np.diag([np.sqrt(ratio), 1 / np.sqrt(ratio)]) @ turn.T
        centre = np.full(2, (tiles.shape[1] - 1) / 2)
        matrix = np.column_stack([linear, centre - linear @ centre])
        return warped(tiles, matrix), matrix

    def test_a_stretched_copy_is_found_whole(self, tiles: Tiles, base: Descriptors) -> None:
        copies, matrix = self.stretched(tiles, 4 / 3)
        found = best_alignments(describe(copies), base, pairs(base))
        assert np.median(found.agreements) > 0.95
        error = np.abs(found.transforms - matrix).max(axis=(1, 2))
        assert np.median(error) < 1, "pixels and slopes"
        assert np.median(np.abs(found.scales - 1)) < 0.01
        assert np.median(np.abs(found.rotations)) < 1

    def test_no_more_than_the_largest_stretch(self) -> None:
        rng = np.random.default_rng(0)
        ours = np.column_stack([rng.uniform(0, 256, (60, 2)), np.ones(60), np.zeros(60)])
        for ratio, whole in ((MAX_STRETCH - 0.01, True), (MAX_STRETCH + 0.01, False)):
            theirs = ours.copy()
            theirs[:, 0] = 128 + (ours[:, 0] - 128) * np.sqrt(ratio)
            theirs[:, 1] = 128 + (ours[:, 1] - 128) / np.sqrt(ratio)
            count, *_ = consensus._consensus(ours, theirs, 256)
            assert (count > 50) is whole, ratio

    def test_fewer_than_six_matches_carry_none(self) -> None:
        ours = np.array([[50, 50], [200, 60], [60, 210], [190, 200], [128, 20], [30, 120]])
        ours = np.column_stack([ours, np.ones(6), np.zeros(6)]).astype(np.float64)
        theirs = ours.copy()
        theirs[:, 0] *= 1.02
        for matches, bent in ((5, False), (6, True)):
            _, matrix, _ = consensus._consensus(ours[:matches], theirs[:matches], 256)
            assert np.isclose(matrix[0, 0], 1.02, atol=1e-6) is np.bool_(bent)


def test_pairs_are_aligned_one_by_one(tiles: Tiles, base: Descriptors) -> None:
    copies = describe(warped(tiles, about_centre(64, degrees=20, scale=1)))
    chosen = np.array([[2, 2], [0, 3], [2, 0]])
    found = align_pairs(copies, base, chosen)
    for row, (query, candidate) in enumerate(chosen):
        one = align(copies.subset(np.array([query])), base.subset(np.array([candidate])))
        assert (found.inliers[row], found.agreements[row]) == (one.inliers, one.agreement)
        assert found.strengths[row] == one.strength
    assert found.inliers[0] > 20
    np.testing.assert_array_equal(found.featureless, copies.featureless[[2, 0, 2]])
    for wrong in ([[0, -1]], [[len(copies), 0]], [[0, len(base)]]):
        with pytest.raises(InputError, match="must be 0 to"):
            align_pairs(copies, base, np.array(wrong))

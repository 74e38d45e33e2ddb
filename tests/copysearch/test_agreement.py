"""Agreement: chance is standard normal, whatever the detail; a copy is far from it."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from privgen.copysearch.agreement import (
    FULL_OVERLAP,
    NOTHING,
    REACH,
    Agreement,
    Overlay,
    _independent,
    patch_transform,
    structure_of,
)

Patches = NDArray[np.uint8]
Floats = NDArray[np.float64]
SIDE = 96


def noise(count: int, blur: float, seed: int) -> Patches:
    """Random pictures whose details are `blur` pixels wide."""
    rng = np.random.default_rng(seed)
    pictures = []
    for _ in range(count):
        drawn = rng.normal(size=(SIDE, SIDE))
        if blur:
            drawn = cv2.GaussianBlur(drawn, (0, 0), blur)
        pictures.append(np.clip(100 + 30 * drawn / drawn.std(), 0, 255))
    return np.array(pictures).astype(np.uint8)


def shifted(x: float, y: float) -> Floats:
    return np.array([[1.0, 0, x], [0, 1, y]])


def overlay(query: Patches, candidate: Patches, transform: Floats | None = None) -> Overlay:
    matrix = shifted(0, 0) if transform is None else transform
    return Overlay(query, candidate, matrix, query_side=SIDE, candidate_side=SIDE)


class TestChance:
    @pytest.mark.parametrize("reach", [0, 40])
    @pytest.mark.parametrize("blur", [0.0, 1.5, 3.0, 6.0])
    def test_it_is_standard_normal_whatever_the_detail_and_the_shift(
        self, blur: float, reach: int
    ) -> None:
        rng = np.random.default_rng(1)
        moves = rng.uniform(-reach, reach, (150, 2))
        pairs = zip(noise(150, blur, 2), noise(150, blur, 3), moves, strict=True)
        laid = [overlay(a, b, shifted(*move)) for a, b, move in pairs]
        whole = np.array([each.whole().strength for each in laid])
        assert abs(whole.mean()) < 0.3
        assert 0.85 < whole.std() < 1.25
        part = np.array([each.around(rng.uniform(10, 86, (5, 2))).strength for each in laid])
        assert abs(part.mean()) < 0.4
        assert 0.5 < part.std() < 1.25, "with what counts of it, no larger than the whole"
        assert max(whole.max(), part.max()) < 4.5

    def test_plain_correlations_of_blurred_pictures_are_far_larger(self) -> None:
        spread = []
        for blur in (0.0, 6.0):
            pairs = zip(noise(60, blur, 2), noise(60, blur, 3), strict=True)
            spread.append(np.std([overlay(a, b).whole().correlation for a, b in pairs]))
        assert spread[1] > 3 * spread[0], "so no one threshold of a correlation fits both"

    @pytest.mark.parametrize("blur", [0.0, 3.0])
    def test_independent_details_are_counted_over_every_shift(self, blur: float) -> None:
        a, b = (noise(1, blur, seed)[0].astype(np.float32) for seed in (4, 5))
        a, b = a - a.mean(), b - b.mean()
        energy = float((a**2).sum()) * float((b**2).sum())
        squared = [
            float((a * np.roll(b, (y, x), axis=(0, 1))).sum()) ** 2 / energy
            for y in range(0, SIDE)
            for x in range(0, SIDE)
        ]
        assert _independent(a, b) == pytest.approx(1 / np.mean(squared), rel=1e-4)

    def test_white_noise_has_a_detail_a_pixel(self) -> None:
        a, b = np.random.default_rng(6).normal(size=(2, SIDE, SIDE)).astype(np.float32)
        assert _independent(a, b) == pytest.approx(SIDE**2, rel=0.05)


class TestCopy:
    @pytest.mark.parametrize(
        ("blur", "least"), [(0.0, 60.0), (1.5, 45.0), (3.0, 25.0), (6.0, 15.0)]
    )
    def test_a_copy_is_far_beyond_chance(self, blur: float, least: float) -> None:
        for patch in noise(5, blur, 7):
            found = overlay(patch, patch).whole()
            assert found.correlation == pytest.approx(1, abs=1e-5)
            assert found.share == 1
            assert found.strength > least

    def test_the_more_it_is_drowned_the_weaker(self) -> None:
        patches, other = noise(20, 2.0, 8).astype(float), noise(20, 2.0, 9).astype(float)
        median = []
        for weight in (1.0, 0.5, 0.3, 0.15, 0.0):
            mixed = np.rint(weight * patches + (1 - weight) * other).astype(np.uint8)
            pairs = zip(mixed, patches.astype(np.uint8), strict=True)
            median.append(np.median([overlay(a, b).whole().strength for a, b in pairs]))
        assert median == sorted(median, reverse=True)
        assert median[2] > 6, "a blend of three tenths"
        assert abs(median[-1]) < 1

    def test_strength_is_the_fisher_transform_in_standard_deviations(self) -> None:
        patch, other = noise(1, 2.0, 10)[0].astype(float), noise(1, 2.0, 11)[0].astype(float)
        mixed = np.rint(0.5 * patch + 0.5 * other).astype(np.uint8)
        laid = overlay(mixed, patch.astype(np.uint8))
        found = laid.whole()
        mask = np.ones((SIDE, SIDE), dtype=np.float32)
        ours, theirs = (
            structure_of(each.astype(np.float32), mask) for each in (mixed, patch.astype(np.uint8))
        )
        details = _independent(ours - ours.mean(), theirs - theirs.mean())
        assert found.strength == pytest.approx(
            np.arctanh(found.correlation) * np.sqrt(details), rel=1e-4
        )


class TestParts:
    def test_a_piece_is_stronger_around_itself_than_over_the_whole(self) -> None:
        ours, theirs = noise(1, 2.0, 12)[0], noise(1, 2.0, 13)[0]
        theirs = theirs.copy()
        theirs[8:40, 8:40] = ours[8:40, 8:40]
        laid = overlay(ours, theirs)
        inside = np.array([[16.0, 16.0], [30.0, 20.0], [20.0, 32.0]])
        near, whole = laid.around(inside), laid.whole()
        assert near.strength > 1.5 * whole.strength
        assert near.correlation > 0.7 > 0.4 > whole.correlation
        assert abs(laid.around(inside + 45).strength) < 4

    def test_surroundings_are_discs_of_the_reach(self) -> None:
        laid = overlay(noise(1, 1.0, 14)[0], noise(1, 1.0, 15)[0])
        y, x = np.mgrid[:SIDE, :SIDE]
        for centres in ([[48.0, 40.0]], [[48.0, 40.0], [20.0, 70.0]], [[0.0, 0.0]]):
            disc = np.zeros((SIDE, SIDE), dtype=np.bool_)
            for centre in centres:
                disc |= np.hypot(x - centre[0], y - centre[1]) <= REACH
            assert laid.around(np.array(centres)).share == pytest.approx(disc.mean(), rel=0.06)

    def test_points_are_given_in_pixels_of_the_query_tile(self) -> None:
        ours, theirs = noise(1, 2.0, 16)[0], noise(1, 2.0, 17)[0].copy()
        theirs[48:, 48:] = ours[48:, 48:]
        laid = Overlay(ours, theirs, shifted(0, 0), query_side=192, candidate_side=192)
        assert laid.around(np.array([[144.0, 144.0]])).correlation > 0.8
        assert laid.around(np.array([[72.0, 72.0]])).correlation < 0.7

    def test_what_is_ignored_does_not_count(self) -> None:
        ours, theirs = noise(1, 2.0, 18)[0], noise(1, 2.0, 19)[0].copy()
        theirs[:, :40] = ours[:, :40]
        ignored = np.zeros((SIDE, SIDE), dtype=np.bool_)
        ignored[:, :40] = True
        sides = {"query_side": SIDE, "candidate_side": SIDE}
        seen = Overlay(ours, theirs, shifted(0, 0), **sides).whole()
        rest = Overlay(ours, theirs, shifted(0, 0), **sides, ignored=ignored).whole()
        assert seen.strength > 5
        assert abs(rest.strength) < 3
        assert rest.share == pytest.approx(56 / 96)
        none = Overlay(ours, theirs, shifted(0, 0), **sides, ignored=np.ones_like(ignored))
        assert none.whole() == none.around(np.array([[9.0, 9.0]])) == NOTHING

    def test_what_is_ignored_lies_in_the_candidate(self) -> None:
        ours = noise(1, 2.0, 20)[0]
        ignored = np.zeros((SIDE, SIDE), dtype=np.bool_)
        ignored[:, :30] = True
        moved = np.roll(ours, 24, axis=1)
        laid = Overlay(
            ours, moved, shifted(24, 0), query_side=SIDE, candidate_side=SIDE, ignored=ignored
        )
        assert laid.whole().share == pytest.approx((96 - 30) / 96), "the query's first 6 columns"
        assert laid.whole().correlation > 0.99

    def test_without_overlap_or_detail_nothing_agrees(self) -> None:
        patch = noise(1, 1.0, 21)[0]
        assert overlay(patch, patch, shifted(100, 0)).whole() == NOTHING
        flat = np.full_like(patch, 60)
        assert overlay(flat, patch).whole() == Agreement(0.0, 0.0, 0.0)


def test_less_than_half_an_overlap_is_discounted() -> None:
    assert Agreement(0.8, 9.0, 1.0).discounted == 0.8
    assert Agreement(0.8, 9.0, FULL_OVERLAP).discounted == 0.8
    assert Agreement(0.8, 9.0, 0.125).discounted == pytest.approx(0.4)


def test_a_transform_of_tiles_becomes_one_of_their_patches() -> None:
    # Tiles of 64 and 128 px: x' = 2 x + .5 keeps every place, so patches lie on each other.
    same = patch_transform(np.array([[2.0, 0, 0.5], [0, 2, 0.5]]), 64, 128)
    np.testing.assert_allclose(same, [[1, 0, 0], [0, 1, 0]], atol=1e-12)
    # 16 pixels of 64 are 24 of 96.
    np.testing.assert_allclose(
        patch_transform(shifted(16, -8), 64, 64), [[1, 0, 24], [0, 1, -12]], atol=1e-12
    )

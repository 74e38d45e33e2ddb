"""Near-duplicates of one set: planted copies and overlapping fields are found, nothing else is."""

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from audits import Estimate
from privgen.copysearch.alignment import Alignments
from privgen.copysearch.searching import Candidates, Searched
from privgen.data.phantom import make_phantom, render_tile
from privgen.data.tileset import TileSet
from privgen.datacheck import duplicates
from privgen.datacheck.duplicates import (
    LARGEST_FAMILY,
    Duplicates,
    look_at,
    near_duplicates,
    pairs_within,
    shared_field,
)
from privgen.encoders.loading import Encoder
from privgen.evidence.copy_kinds import plant

Pixels = NDArray[np.uint8]
SIDE = 64


@pytest.fixture(scope="module")
def clean() -> Pixels:
    """Thirty tiles of ten patients, no tissue twice."""
    return make_phantom(
        patients=10, tiles_per_patient=3, side=SIDE, seed=1, classes=("NORM", "TUM", "LYM")
    ).load()


@pytest.fixture(scope="module")
def picture() -> Pixels:
    """One picture, larger than a tile."""
    return render_tile("NORM", patient=50, index=0, seed=1, side=160)


def tile_set(tiles: Pixels) -> TileSet:
    return TileSet.from_arrays(tiles, ["all"] * len(tiles))


def search(tiles: Pixels, encoder: Encoder, *, approximate: bool = False) -> Duplicates:
    looked = look_at(tile_set(tiles), encoder=encoder)
    return near_duplicates(looked, approximate=approximate)


def crop(picture: Pixels, x: int, y: int = 0) -> Pixels:
    return picture[y : y + SIDE, x : x + SIDE]


def test_tiles_of_different_tissue_have_no_pairs(clean: Pixels, pixels: Encoder) -> None:
    found = search(clean, pixels)
    assert len(found) == 0
    assert len(np.unique(found.pictures)) == len(clean)


def test_turned_and_restained_copy_is_found_with_its_evidence(
    clean: Pixels, pixels: Encoder
) -> None:
    copy = plant("odd_rotation_stain", clean[:1], np.random.default_rng(0))
    found = search(np.concatenate([clean, copy, clean[4:5, :, ::-1]]), pixels)
    assert found.pairs.tolist() == [[0, 30], [4, 31]]
    assert found.near.all()
    assert found.mirrored.tolist()[1]
    assert (found.inliers > 50).all()
    assert found.shared[1] == pytest.approx(1, abs=0.02)
    assert (np.bincount(found.pictures) == 2).sum() == 2


@pytest.mark.parametrize(("step", "near"), [(24, True), (40, False)])
def test_crops_of_one_picture_are_near_duplicates_or_overlapping_fields(
    clean: Pixels, picture: Pixels, pixels: Encoder, step: int, near: bool
) -> None:
    crops = np.stack([crop(picture, 0), crop(picture, step)])
    found = search(np.concatenate([clean, crops]), pixels)
    assert found.pairs.tolist() == [[30, 31]]
    assert found.near.tolist() == [near]
    assert found.shared[0] == pytest.approx(1 - step / SIDE, abs=0.03)
    assert (found.pictures[30] == found.pictures[31]) == near


def test_enlarged_crop_is_a_near_duplicate_of_what_it_was_cut_from(
    clean: Pixels, pixels: Encoder
) -> None:
    found = search(
        np.concatenate([clean, plant("crop_60", clean[:1], np.random.default_rng(0))]), pixels
    )
    assert found.pairs.tolist() == [[0, 30]]
    assert found.near.all()
    assert found.shared[0] > 0.9


def test_blank_tiles_are_named_and_never_paired(clean: Pixels, pixels: Encoder) -> None:
    blank = np.full((2, SIDE, SIDE, 3), 240, dtype=np.uint8)
    found = search(np.concatenate([clean[:6], blank]), pixels)
    assert found.featureless.tolist() == [False] * 6 + [True] * 2
    assert len(found) == 0


def test_approximate_search_says_what_it_may_have_missed(clean: Pixels, pixels: Encoder) -> None:
    found = search(np.concatenate([clean, clean[:2]]), pixels, approximate=True)
    assert isinstance(found.recall, Estimate)
    assert found.pairs.tolist() == [[0, 30], [1, 31]]
    assert search(clean[:6], pixels).recall is None


def aligned(
    inliers: Sequence[int], agreements: Sequence[float], scales: Sequence[float]
) -> Alignments:
    """Alignments that enlarge about the corner by these scales; 0 inliers have no transform."""
    n = len(inliers)
    transforms = np.zeros((n, 2, 3))
    transforms[:, 0, 0] = transforms[:, 1, 1] = scales
    transforms[np.array(inliers) == 0] = np.nan
    overlaps = np.minimum(1.0, 1.0 / np.square(scales))
    return Alignments(
        candidates=np.arange(n),
        inliers=np.array(inliers),
        transforms=transforms,
        mirrored=np.zeros(n, dtype=np.bool_),
        rotations=np.zeros(n),
        scales=np.array(scales),
        overlaps=np.where(np.array(inliers) > 0, overlaps, 0.0),
        agreements=np.array(agreements),
        strengths=np.full(n, 9.0),
        marked=np.zeros(n),
        featureless=np.zeros(n, dtype=np.bool_),
    )


def test_floors_of_a_proof_are_ten_inliers_and_more_than_three_tenths_agreement(
    clean: Pixels, pixels: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = look_at(tile_set(clean[:4]), encoder=pixels)
    others = np.array([[1, 2, 3], [2, -1, -1], [-1, -1, -1], [-1, -1, -1]])
    monkeypatch.setattr(duplicates, "candidates", lambda *_, **__: Candidates(others, None))
    # Pairs (0, 1), (0, 2), (0, 3), (1, 2): proven, too few, agreement at the floor, just above.
    made = aligned([10, 9, 500, 10], [0.31, 1.0, 0.3, np.nextafter(0.3, 1)], [1.0] * 4)
    asked: list[list[list[int]]] = []

    def align(_: object, pairs: NDArray[np.intp], *, title: str) -> Alignments:
        asked.append(pairs.tolist())
        return made if len(pairs) else aligned([], [], [])

    monkeypatch.setattr(duplicates, "align_all", align)
    found = near_duplicates(looked)
    assert asked[0] == [[0, 1], [0, 2], [0, 3], [1, 2]]
    assert found.pairs.tolist() == [[0, 1], [1, 2]]
    assert found.pictures.tolist() == [0, 0, 0, 1]


def test_every_pair_of_a_family_is_aligned_although_the_search_proposed_a_chain(
    clean: Pixels, pixels: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = np.stack([clean[0], np.rot90(clean[0]), clean[0][::-1], clean[0][:, ::-1], clean[5]])
    looked = look_at(tile_set(versions), encoder=pixels)
    chain = Candidates(np.array([[1], [2], [3], [2], [3]]), None)
    monkeypatch.setattr(duplicates, "candidates", lambda *_, **__: chain)
    found = near_duplicates(looked)
    assert found.pairs.tolist() == [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]]
    assert (found.inliers > 100).all()


def test_shared_field_is_that_of_the_smaller_tile() -> None:
    enlarging = aligned([20, 20, 20, 0], [1.0] * 4, [1.0, 0.5, 2.0, 1.0])
    assert shared_field(enlarging).tolist() == [1.0, 1.0, 1.0, 0.0]
    moved = aligned([20], [1.0], [1.0])
    moved.overlaps[:] = 0.5
    assert shared_field(moved).tolist() == [0.5]


@pytest.mark.parametrize(("share", "near"), [(0.5, True), (np.nextafter(0.5, 0), False)])
def test_half_a_field_is_a_near_duplicate(
    clean: Pixels, pixels: Encoder, monkeypatch: pytest.MonkeyPatch, share: float, near: bool
) -> None:
    looked = look_at(tile_set(clean[:2]), encoder=pixels)
    made = aligned([20], [1.0], [1.0])
    made.overlaps[:] = share
    monkeypatch.setattr(
        duplicates,
        "align_all",
        lambda _, pairs, title: made if len(pairs) else aligned([], [], []),
    )
    assert near_duplicates(looked).near.tolist() == [near]


def test_pairs_are_listed_within_families_up_to_a_size() -> None:
    sizes = [1, 3, LARGEST_FAMILY, LARGEST_FAMILY + 1]
    family = np.repeat(np.arange(4), sizes)
    none = np.empty((0, 2), dtype=np.intp)
    pairs = pairs_within(family, but=none)
    assert (family[pairs[:, 0]] == family[pairs[:, 1]]).all()
    assert (pairs[:, 0] < pairs[:, 1]).all()
    assert np.bincount(family[pairs[:, 0]], minlength=4).tolist() == [
        0,
        3,
        LARGEST_FAMILY * (LARGEST_FAMILY - 1) // 2,
        0,
    ]
    assert pairs_within(np.zeros(3, dtype=np.intp), but=np.array([[0, 2]])).tolist() == [
        [0, 1],
        [1, 2],
    ]


def test_the_order_of_tiles_changes_no_pair(clean: Pixels, pixels: Encoder) -> None:
    tiles = np.concatenate([clean[:8], clean[:1, ::-1], np.rot90(clean[3:4], axes=(1, 2))])
    order = np.random.default_rng(0).permutation(len(tiles))
    plain, shuffled = search(tiles, pixels), search(tiles[order], pixels)
    back = np.sort(order[shuffled.pairs], axis=1)
    assert sorted(back.tolist()) == plain.pairs.tolist() == [[0, 8], [3, 9]]


def test_a_searched_set_knows_only_the_numbers_of_its_tiles(clean: Pixels, pixels: Encoder) -> None:
    looked: Searched = look_at(tile_set(clean[:3]), encoder=pixels)
    assert looked.groups is not None
    assert looked.groups.tolist() == ["0", "1", "2"]

"""Planted copies: what each kind changes and how strongly, what it must not, and seeds."""

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from audits import Policy
from audits.kinds import FAMILIES, kind_name
from audits.kinds import KINDS as TABLE
from privgen.data.stain import HED_FROM_RGB, RGB_FROM_HED, jitter, optical_density, rgb_from_density
from privgen.encoders.orbit import fingerprint, symmetries
from privgen.errors import ConfigError
from privgen.evidence import copy_kinds
from privgen.evidence.copy_kinds import (
    AUDITED_KINDS,
    COMPOSED,
    CROPS,
    ELASTIC_AMPLITUDE,
    KINDS,
    LOOK_BLUR,
    LOOK_NOISE,
    ODD_DEGREES,
    PERSPECTIVE,
    STAIN_STRENGTH,
    plant,
)

Tiles = NDArray[np.uint8]
UNDRAWN = ("exact", "jpeg_40", "blur", "down_up", "invert")
"""Kinds that leave nothing open."""


@pytest.mark.parametrize("kind", KINDS)
def test_copies_keep_shape_type_and_the_originals(kind: str, crops: Tiles) -> None:
    before = crops.copy()
    copies = plant(kind, crops, np.random.default_rng(0))
    assert (copies.shape, copies.dtype) == (crops.shape, crops.dtype)
    assert copies.flags.c_contiguous
    assert not np.shares_memory(copies, crops)
    np.testing.assert_array_equal(crops, before)


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_fixes_the_copies(kind: str, crops: Tiles) -> None:
    first = plant(kind, crops, np.random.default_rng(1))
    np.testing.assert_array_equal(plant(kind, crops, np.random.default_rng(1)), first)
    changed = (plant(kind, crops, np.random.default_rng(2)) != first).any()
    assert changed != (kind in UNDRAWN)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "mosaic"])
def test_a_copy_depends_on_its_own_tile_and_draws_alone(kind: str, crops: Tiles) -> None:
    others = crops[::-1].copy()
    others[5] = crops[5]
    drawn = {"partners": crops[6:]} if kind in COMPOSED else {}
    found = [plant(kind, t, np.random.default_rng(3), **drawn)[5] for t in (crops, others)]
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("kind", KINDS)
def test_no_tiles_give_no_copies(kind: str) -> None:
    nothing = np.empty((0, 64, 64, 3), dtype=np.uint8)
    assert plant(kind, nothing, np.random.default_rng(0)).shape == (0, 64, 64, 3)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "exact"])
def test_an_altered_tile_is_never_the_tile_itself(kind: str, crops: Tiles) -> None:
    for seed in range(3):
        copies = plant(kind, crops, np.random.default_rng(seed))
        assert (copies != crops).any(axis=(1, 2, 3)).all()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("exact", "symmetry")])
def test_only_symmetric_copies_keep_the_fingerprint(kind: str, crops: Tiles) -> None:
    copies = plant(kind, crops, np.random.default_rng(5))
    for copy, tile in zip(copies, crops, strict=True):
        assert fingerprint(copy) != fingerprint(tile)


def test_exact_copies_are_identical(crops: Tiles) -> None:
    np.testing.assert_array_equal(plant("exact", crops, np.random.default_rng(0)), crops)


def test_symmetric_copies_are_in_the_orbit_and_never_the_tile_itself(crops: Tiles) -> None:
    seen = set()
    for seed in range(8):
        copies = plant("symmetry", crops, np.random.default_rng(seed))
        for copy, tile in zip(copies, crops, strict=True):
            index = [np.array_equal(copy, version) for version in symmetries(tile)].index(True)
            assert fingerprint(copy) == fingerprint(tile)
            seen.add(index)
    assert seen == set(range(1, 8))


def test_an_odd_rotation_agrees_with_scipy_inside_the_circle(crops: Tiles) -> None:
    seed, tile = 3, crops[:1]
    angle = np.random.default_rng(seed).uniform(*ODD_DEGREES)
    got = plant("odd_rotation", tile, np.random.default_rng(seed))[0].astype(float)
    errors = {
        sign: np.abs(
            got - ndimage.rotate(tile[0].astype(float), sign * angle, reshape=False, mode="mirror")
        )
        for sign in (1, -1)
    }
    y, x = np.mgrid[:64, :64] - 31.5
    inside = np.hypot(x, y) < 28
    assert min(error[inside].mean() for error in errors.values()) < 2
    assert max(error[inside].mean() for error in errors.values()) > 10


def test_an_odd_rotation_has_no_black_corners() -> None:
    bright = np.full((20, 64, 64, 3), 230, dtype=np.uint8)
    bright[:, 20:30, 25:50] = (150, 60, 160)
    copies = plant("odd_rotation", bright, np.random.default_rng(4))
    assert (copies[:, [0, 0, -1, -1], [0, -1, 0, -1]] > 200).all()


def test_a_restained_copy_keeps_the_tissue_and_changes_the_colour(crops: Tiles) -> None:
    stains = np.zeros(crops.shape)
    stains[..., :2] = 0.3 + crops[..., :2] / 300  # haematoxylin and eosin, no DAB
    tissue = rgb_from_density((stains @ RGB_FROM_HED).astype(np.float32))
    copies = plant("stain", tissue, np.random.default_rng(6))
    shift = np.abs(copies.astype(float) - tissue).mean(axis=(1, 2, 3))
    assert shift.min() > 1
    assert shift.mean() > 8
    unmixed = [(optical_density(tiles) @ HED_FROM_RGB)[..., :2] for tiles in (tissue, copies)]
    for tile, copy in zip(*unmixed, strict=True):
        for stain in range(2):
            both = np.corrcoef(tile[..., stain].ravel(), copy[..., stain].ravel())
            assert both[0, 1] > 0.95


def test_two_alterations_in_one_are_made_one_after_the_other(crops: Tiles) -> None:
    rng = np.random.default_rng(7)
    turned = plant("odd_rotation", crops, rng)
    expected = jitter(turned, rng, strength=STAIN_STRENGTH)
    got = plant("odd_rotation_stain", crops, np.random.default_rng(7))
    np.testing.assert_array_equal(got, expected)


def test_a_mirrored_and_restained_copy_is_one_of_the_four_mirror_images(
    crops: Tiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copy_kinds, "STAIN_STRENGTH", 0.0)  # the same up to rounding
    seen = []
    for seed in range(3):
        copies = plant("mirror_stain", crops, np.random.default_rng(seed))
        for copy, tile in zip(copies, crops, strict=True):
            apart = [np.abs(copy.astype(int) - v).max() for v in symmetries(tile)]
            seen.append(int(np.argmin(apart)))
            assert min(apart) <= 1
    assert set(seen) == {4, 5, 6, 7}


def test_the_stain_of_a_mirrored_copy_has_the_documented_strength(crops: Tiles) -> None:
    rng = np.random.default_rng(8)
    chosen = rng.integers(4, 8, size=len(crops))
    mirrored = np.stack([list(symmetries(t))[i] for t, i in zip(crops, chosen, strict=True)])
    expected = jitter(mirrored, rng, strength=STAIN_STRENGTH)
    got = plant("mirror_stain", crops, np.random.default_rng(8))
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(("kind", "side"), [("crop_60", 38), ("crop_35", 22), ("crop_25", 16)])
def test_a_crop_is_a_square_of_that_share_of_the_side_enlarged(
    kind: str, side: int, crops: Tiles
) -> None:
    assert side == round(CROPS[kind] * 64)
    copies = plant(kind, crops[:4], np.random.default_rng(9))
    places = []
    for copy, tile in zip(copies, crops[:4], strict=True):
        fitting = [
            (top, left)
            for top in range(64 - side + 1)
            for left in range(64 - side + 1)
            if np.array_equal(enlarged(tile[top : top + side, left : left + side]), copy)
        ]
        assert len(fitting) == 1
        places += fitting
    assert len(set(places)) > 1


def enlarged(crop: Tiles) -> Tiles:
    return np.asarray(Image.fromarray(crop).resize((64, 64), Image.Resampling.BICUBIC))


def test_crops_reach_every_border_and_never_cross_it() -> None:
    place = np.arange(10, dtype=np.uint8) * 20
    tile = np.zeros((10, 10, 3), dtype=np.uint8)
    tile[..., 0], tile[..., 1] = place[:, None], place[None]
    copies = plant("crop_60", np.stack([tile] * 400), np.random.default_rng(10)).astype(int)
    centres = copies.mean(axis=(1, 2)) / 20 - 2.5  # of a 6 pixel square at 0 to 4
    for axis in range(2):
        assert set(np.rint(centres[:, axis])) == {0, 1, 2, 3, 4}


def test_a_jpeg_copy_is_pillows_at_quality_40(crops: Tiles) -> None:
    copies = plant("jpeg_40", crops[:3], np.random.default_rng(0))
    for copy, tile in zip(copies, crops, strict=False):
        buffer = io.BytesIO()
        Image.fromarray(tile).save(buffer, "JPEG", quality=40, subsampling=2)
        np.testing.assert_array_equal(copy, np.asarray(Image.open(buffer)))


def test_a_blur_is_a_gaussian_of_one_and_a_half_pixels(crops: Tiles) -> None:
    copies = plant("blur", crops, np.random.default_rng(0)).astype(float)
    for copy, tile in zip(copies, crops, strict=True):
        for channel in range(3):
            expected = ndimage.gaussian_filter(tile[..., channel].astype(float), 1.5)
            assert np.abs(copy[..., channel] - expected).max() <= 0.51


def test_a_blurred_dot_has_the_weights_of_the_closed_form() -> None:
    dot = np.zeros((1, 31, 31, 3), dtype=np.uint8)
    dot[0, 15, 15] = 255
    weights = np.exp(-0.5 * (np.arange(-6, 7) / 1.5) ** 2)
    weights /= weights.sum()
    expected = 255 * np.outer(weights, weights)
    got = plant("blur", dot, np.random.default_rng(0))[0, 9:22, 9:22, 1]
    assert np.abs(got - expected).max() <= 0.51
    assert got.max() == 18


@pytest.mark.parametrize(("side", "scale"), [(64, 3), (120, 2)])
def test_a_warp_moves_its_farthest_pixel_by_the_amplitude(side: int, scale: int) -> None:
    ramp = np.zeros((12, side, side, 3), dtype=np.uint8)
    ramp[..., 0] = (np.arange(side) * scale)[None, :, None]
    ramp[..., 1] = (np.arange(side) * scale)[None, None]
    copies = plant("elastic", ramp, np.random.default_rng(12)).astype(float)
    moved = (copies - ramp)[..., :2] / scale
    margin = round(2 * ELASTIC_AMPLITUDE * side)
    inside = np.linalg.norm(moved, axis=3)[:, margin:-margin, margin:-margin]
    longest = inside.max(axis=(1, 2))
    amplitude = ELASTIC_AMPLITUDE * side
    assert (longest <= amplitude + 0.45).all()
    assert longest.max() > 0.9 * amplitude
    assert np.median(inside) > 0.2 * amplitude


def test_a_warp_is_smooth_and_folds_nothing() -> None:
    ramp = np.zeros((12, 128, 128, 3), dtype=np.uint8)
    ramp[..., 0] = (np.arange(128) * 2)[None, :, None]
    ramp[..., 1] = (np.arange(128) * 2)[None, None]
    copies = plant("elastic", ramp, np.random.default_rng(13)).astype(float)[:, 12:-12, 12:-12]
    down, right = np.diff(copies[..., 0], axis=1), np.diff(copies[..., 1], axis=2)
    for steps in (down, right):  # 2 grey levels per pixel where nothing moves
        assert steps.min() >= 0
        assert steps.max() <= 4


def test_an_unknown_kind_is_one_clear_line(crops: Tiles) -> None:
    with pytest.raises(ConfigError, match="no planted copy is called 'crop'"):
        plant("crop", crops, np.random.default_rng(0))


def test_a_look_is_a_blur_a_stain_and_noise_one_after_the_other(crops: Tiles) -> None:
    rng = np.random.default_rng(14)
    soft = ndimage.gaussian_filter(
        crops.astype(np.float32), (0, LOOK_BLUR, LOOK_BLUR, 0), mode="reflect"
    )
    stained = jitter(np.rint(soft).astype(np.uint8), rng, strength=STAIN_STRENGTH)
    expected = np.clip(np.rint(stained + rng.normal(0, LOOK_NOISE, stained.shape)), 0, 255)
    got = plant("img_to_img", crops, np.random.default_rng(14))
    np.testing.assert_array_equal(got, expected)


def test_a_tile_shrunk_and_enlarged_is_pillows(crops: Tiles) -> None:
    copies = plant("down_up", crops[:3], np.random.default_rng(0))
    for copy, tile in zip(copies, crops, strict=False):
        small = Image.fromarray(tile).resize((16, 16), Image.Resampling.BICUBIC)
        np.testing.assert_array_equal(
            copy, np.asarray(small.resize((64, 64), Image.Resampling.BICUBIC))
        )


def test_a_perspective_moves_each_corner_by_no_more_than_its_share() -> None:
    """Straight lines stay straight and do not stay parallel: no affine map does that."""
    side = 120
    ramp = np.zeros((12, side, side, 3), dtype=np.uint8)
    ramp[..., 0] = (np.arange(side) * 2)[None, :, None]
    ramp[..., 1] = (np.arange(side) * 2)[None, None]
    copies = plant("perspective", ramp, np.random.default_rng(15)).astype(float)[..., :2] / 2
    y, x = np.mgrid[:side, :side]
    bent = []
    for copy in copies:
        known = np.column_stack([x.ravel(), y.ravel(), np.ones(side**2)])
        inside = ((copy > 4) & (copy < side - 5)).all(axis=2).ravel()
        inside &= (np.abs(known[:, :2] - side / 2) < side / 3).all(axis=1)
        shown = copy.reshape(-1, 2)[inside]
        affine = np.linalg.lstsq(known[inside], shown, rcond=None)[0]
        bent.append(np.abs(known[inside] @ affine - shown).max())
        # A corner moves by at most .15 a side, so no point inside moves farther than twice that.
        assert np.abs(shown[:, ::-1] - known[inside, :2]).max() < 2 * PERSPECTIVE * side
    assert np.median(bent) > 2, "pixels"


def test_the_kinds_are_those_of_the_methods_and_all_have_words() -> None:
    assert set(KINDS) == {
        "exact",
        "symmetry",
        "odd_rotation",
        "stain",
        "odd_rotation_stain",
        "crop_60",
        "crop_35",
        "crop_25",
        "jpeg_40",
        "blur",
        "blend_90",
        "blend_70",
        "blend_50",
        "elastic",
        "mirror_stain",
        "img_to_img",
        "down_up",
        "perspective",
        "histogram",
        "jigsaw",
        "mosaic",
        "inset_50",
        "inset_25",
        "invert",
        "blend_20",
        "piece_25",
        "half_paste",
    }
    names = [kind_name(kind) for kind in KINDS]
    assert len(set(names)) == len(KINDS)
    assert [kind for kind, name in zip(KINDS, names, strict=True) if "_" in name] == []
    assert all(kind in TABLE or kind.rpartition("_")[0] in FAMILIES for kind in KINDS)


def test_an_audit_plants_the_kinds_that_the_default_policy_names() -> None:
    assert Policy().copying_kinds == AUDITED_KINDS
    assert set(AUDITED_KINDS) <= set(KINDS)

"""Tissue masks and tile scores: tiles made so that the right answer is known."""

from collections.abc import Callable
from dataclasses import astuple
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from privgen.data.images import read_tile
from privgen.data.phantom import CLASSES, render_tile
from privgen.data.slides import Slide, overview
from privgen.data.tissue import Quality, quality, tissue_mask
from privgen.errors import InputError

Pixels = NDArray[np.uint8]
INKS = {
    "blue": (35, 60, 165),
    "green": (20, 110, 60),
    "teal": (40, 140, 140),
    "red": (205, 25, 35),
    "black": (28, 27, 30),
}


def glass(side: int, colour: tuple[int, int, int] = (243, 242, 244), seed: int = 0) -> Pixels:
    """Empty glass with the grain of a camera."""
    grain = np.random.default_rng(seed).normal(0, 2.5, (side, side, 3))
    return np.clip(np.rint(np.asarray(colour) + grain), 0, 255).astype(np.uint8)


def tile(label: str, patient: int = 0, index: int = 0, side: int = 256) -> Pixels:
    return render_tile(label, patient=patient, index=index, seed=0, side=side)


def inked(
    picture: Pixels, colour: tuple[int, int, int], width: int
) -> tuple[Pixels, NDArray[np.bool_]]:
    """A marker line from corner to corner, and where it is."""
    drawn, line = picture.copy(), np.zeros(picture.shape[:2], dtype=np.uint8)
    side = len(picture)
    cv2.line(drawn, (0, 0), (side, side), colour, width)
    cv2.line(line, (0, 0), (side, side), 1, width)
    return drawn, line > 0


def test_a_disc_of_tissue_on_glass_is_found() -> None:
    scene = glass(400)
    rows, columns = np.ogrid[:400, :400]
    disc = (rows - 200) ** 2 + (columns - 180) ** 2 < 100**2
    scene[disc] = np.tile(tile("TUM", side=100), (4, 4, 1))[disc]
    found = tissue_mask(scene)
    assert found.shape == (400, 400)
    assert found.dtype == np.bool_
    assert not found[(rows - 200) ** 2 + (columns - 180) ** 2 > 104**2].any()
    assert found[disc].mean() > 0.9


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    "colour", [(243, 242, 244), (255, 255, 255), (236, 226, 236), (235, 235, 220), (128, 128, 128)]
)
def test_empty_glass_has_an_empty_mask(colour: tuple[int, int, int], seed: int) -> None:
    assert not tissue_mask(glass(200, colour, seed)).any()


def test_stitched_glass_of_two_tints_has_an_empty_mask() -> None:
    scene = np.full((200, 200, 3), 255, dtype=np.uint8)
    scene[50:150] = glass(200, (238, 232, 240))[50:150]
    assert not tissue_mask(scene).any()


def test_tinted_glass_beside_white_is_no_tissue_where_otsu_parts_them() -> None:
    scene = np.full((100, 100, 3), 255, dtype=np.uint8)
    scene[50:] = (255, 255, 238)
    scene[96:] = (255, 195, 225)
    saturation = cv2.cvtColor(scene, cv2.COLOR_RGB2HSV)[..., 1].reshape(-1, 1)
    assert cv2.threshold(saturation, 0, 255, cv2.THRESH_OTSU)[0] < 17
    assert np.flatnonzero(tissue_mask(scene).any(axis=1)).tolist() == [96, 97, 98, 99]


def test_an_overview_full_of_tissue_is_tissue() -> None:
    scene = np.block([[[tile("TUM")], [tile("MUS")]], [[tile("STR")], [tile("DEB")]]])
    shrunk = cv2.resize(scene, (128, 128), interpolation=cv2.INTER_AREA)
    assert tissue_mask(np.asarray(shrunk, dtype=np.uint8)).mean() > 0.9


@pytest.mark.parametrize("colour", [(0, 0, 0), (38, 4, 20), *INKS.values()])
def test_black_and_ink_are_no_tissue(colour: tuple[int, int, int]) -> None:
    scene = glass(300)
    scene[100:200, 20:120] = tile("TUM", side=100)
    scene[100:200, 180:280] = colour
    found = tissue_mask(scene)
    assert found[105:195, 25:115].mean() > 0.85
    assert not found[103:197, 183:277].any()


def test_one_pixel_and_no_pixel_to_judge_are_no_tissue() -> None:
    assert tissue_mask(np.full((1, 1, 3), 255, dtype=np.uint8)).tolist() == [[False]]
    assert not tissue_mask(np.zeros((9, 9, 3), dtype=np.uint8)).any()


def test_a_white_tile_scores_white_alone() -> None:
    white = quality(np.full((256, 256, 3), 255, dtype=np.uint8))
    assert white == Quality(tissue=0.0, white=1.0, sharpness=0.0, pen=0.0, fold=0.0)


def test_half_a_tile_of_glass_halves_white_and_tissue() -> None:
    picture = np.full((256, 256, 3), (215, 130, 190), dtype=np.uint8)
    picture[:, :128] = 250
    scores = quality(picture)
    assert (scores.tissue, scores.white, scores.pen, scores.fold) == (0.5, 0.5, 0.0, 0.0)


@pytest.mark.parametrize("level", [219, 220])
def test_near_white_begins_at_its_level(level: int) -> None:
    picture = np.full((16, 16, 3), 255, dtype=np.uint8)
    picture[..., 1] = level
    assert quality(picture).white == (level == 220)


def test_sharpness_is_the_variance_of_the_laplacian() -> None:
    grey = np.random.default_rng(0).integers(0, 256, (40, 50)).astype(np.float64)
    padded = np.pad(grey, 1, mode="reflect")
    around = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]
    picture = np.repeat(grey[..., None], 3, axis=2).astype(np.uint8)
    assert quality(picture).sharpness == pytest.approx((around - 4 * grey).var())


@pytest.mark.parametrize("label", ["TUM", "LYM", "STR", "NORM"])
def test_a_blurred_tile_is_less_sharp(label: str) -> None:
    sharp = tile(label)
    scores = [quality(sharp).sharpness]
    for width in (1.0, 2.0, 4.0):
        blurred = np.asarray(cv2.GaussianBlur(sharp, (0, 0), width), dtype=np.uint8)
        scores.append(quality(blurred).sharpness)
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > 3 * scores[-1]


@pytest.mark.parametrize("ink", INKS)
@pytest.mark.parametrize("label", ["TUM", "STR", "ADI"])
def test_an_ink_line_over_tissue_is_measured(label: str, ink: str) -> None:
    drawn, line = inked(tile(label), INKS[ink], 24)
    scores = quality(drawn)
    assert scores.pen == pytest.approx(line.mean(), abs=0.01)
    assert scores.tissue <= quality(tile(label)).tissue
    assert quality(np.full((32, 32, 3), INKS[ink], dtype=np.uint8)).tissue == 0.0


@pytest.mark.parametrize("label", CLASSES)
def test_stained_nuclei_are_no_ink(label: str) -> None:
    shares = [quality(tile(label, patient=p, side=128)).pen for p in range(12)]
    assert np.mean(shares) < 0.01


@pytest.mark.parametrize("label", ["TUM", "MUS", "LYM", "NORM", "STR"])
def test_tissue_lying_double_is_a_fold(label: str) -> None:
    plain = [tile(label, patient=p, side=128) for p in range(6)]
    double = [np.rint((one / 255.0) ** 2 * 255).astype(np.uint8) for one in plain]
    once, twice = (np.mean([quality(one).fold for one in some]) for some in (plain, double))
    assert twice > 0.1
    assert twice > 3 * once


def test_scores_are_plain_shares_of_any_picture() -> None:
    rng = np.random.default_rng(0)
    for height, width in ((1, 1), (3, 5), (7, 300), (64, 64)):
        picture = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        scores = quality(picture)
        assert all(type(score) is float for score in astuple(scores))
        shares = (scores.tissue, scores.white, scores.pen, scores.fold)
        assert all(0 <= share <= 1 for share in shares)
        assert scores.sharpness >= 0
        assert quality(picture.copy()) == scores


@pytest.mark.parametrize(
    "picture",
    [
        np.zeros((4, 4), dtype=np.uint8),
        np.zeros((4, 4, 4), dtype=np.uint8),
        np.zeros((0, 4, 3), dtype=np.uint8),
        np.zeros((4, 4, 3), dtype=np.float32),
    ],
)
def test_what_is_no_picture_is_refused(picture: Pixels) -> None:
    for judge in (quality, tissue_mask):
        with pytest.raises(InputError, match="uint8 of shape"):
            judge(picture)


@pytest.mark.real_data
def test_real_tiles_hold_tissue_and_no_ink(real_data: Callable[[str], Path]) -> None:
    scores = [quality(read_tile(path)) for path in sorted(real_data("glas").glob("*/*.jpg"))[::15]]
    assert len(scores) > 50
    assert np.mean([one.pen for one in scores]) < 0.01
    assert np.mean([one.tissue for one in scores]) > 0.8


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("file", "share", "empty", "full"),
    [
        ("CMU-1-Small-Region.svs", (0.25, 0.4), (0.05, 0.6), (0.62, 0.52)),
        ("TCGA-CR-7395-01A-01-TS1.svs", (0.55, 0.7), (0.02, 0.02), (0.6, 0.3)),
    ],
)
def test_the_masks_of_the_real_slides_look_right(
    real_data: Callable[[str], Path],
    file: str,
    share: tuple[float, float],
    empty: tuple[float, float],
    full: tuple[float, float],
) -> None:
    with Slide(real_data("slides") / file, mpp=0.5) as slide:
        found = tissue_mask(overview(slide, longest=1024).pixels)
    assert share[0] < found.mean() < share[1]
    for (row, column), least, most in ((empty, 0.0, 0.0), (full, 0.9, 1.0)):
        y, x = int(row * found.shape[0]), int(column * found.shape[1])
        assert least <= found[y : y + 20, x : x + 20].mean() <= most


@pytest.mark.real_data
def test_the_green_ink_on_a_real_margin_is_seen(real_data: Callable[[str], Path]) -> None:
    with Slide(real_data("slides") / "CMU-1-Small-Region.svs") as slide:
        margin = slide.read(0, 1740, 1850, 128, 192)
        inside = slide.read(0, 900, 1500, 256, 256)
    assert quality(margin).pen > 0.02
    assert quality(inside).pen < 0.002

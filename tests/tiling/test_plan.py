"""Where tiles lie: grids, levels, blocks, the published preset, shares of tissue."""

from pathlib import Path

import numpy as np
import pytest

from privgen.data.slides import Overview, Slide, overview
from privgen.errors import SlideError
from privgen.tiling import plan as plan_module
from privgen.tiling.plan import BLOCK, TilePlan, plan_tiles
from privgen.tiling.requests import TilingRequest
from privgen.tiling.settings import TilingSettings, settings_of
from tests.helpers.slide_files import write_slide


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2048 x 2048 px at .25 um, three levels; a third of it is pink."""
    pixels = np.full((2048, 2048, 3), 245, dtype=np.uint8)
    pixels[:, :700] = (200, 120, 180)
    path = tmp_path_factory.mktemp("plan") / "slide.tif"
    write_slide(path, pixels, levels=3, mpp=0.25)
    return path


def planned(path: Path, settings: TilingSettings, *, tissue: bool = True) -> TilePlan:
    with Slide(path) as slide:
        seen = overview(slide)
        mask = np.ones(seen.pixels.shape[:2], dtype=bool)
        if tissue:
            mask[:] = seen.pixels[..., 1] < 200
        return plan_tiles("slide", slide, settings, seen, mask)


def test_the_2020_preset_gives_121_whole_tiles_of_a_14_by_14_grid(slide: Path) -> None:
    settings = settings_of(TilingRequest(preset="deepfakes-2020"))
    plan = planned(slide, settings)
    assert len(plan) == 121
    assert -(-2048 // settings.stride) == 14  # DeepZoom's columns, whole or not
    columns = np.unique(plan.x)
    assert columns[0] == settings.stride - 50
    assert set(np.diff(columns)) == {156}
    assert plan.size - 156 == 100  # columns that two neighbours share
    assert columns[-1] + plan.size <= 2048 < columns[-1] + 156 + plan.size


@pytest.mark.parametrize(
    ("mpp", "level", "scale", "own"),
    [
        (0.25, 0, 1.0, 0.25),
        (0.5, 1, 1.0, 0.5),
        (0.504, 1, 1.0, 0.5),  # within the tolerance of 2 %: as it is
        (0.6, 1, 1.2, 0.6),
        (0.99, 2, 1.0, 1.0),
        (1.5, 2, 1.5, 1.5),
    ],
)
def test_the_coarsest_level_that_is_fine_enough_is_read(
    slide: Path, mpp: float, level: int, scale: float, own: float
) -> None:
    plan = planned(slide, TilingSettings(size=64, stride=64, mpp=mpp, min_tissue=0))
    assert plan.level == level
    assert plan.scale == pytest.approx(scale)
    assert plan.mpp == pytest.approx(own)
    assert plan.candidates == (int(2048 * 0.25 / own) // 64) ** 2


def test_a_target_finer_than_the_scan_is_refused(slide: Path) -> None:
    with pytest.raises(SlideError, match=r"0\.25"):
        planned(slide, TilingSettings(mpp=0.2))


def test_a_slide_smaller_than_a_tile_is_refused(slide: Path) -> None:
    with pytest.raises(SlideError, match="must hold a whole tile of 1024 px: it has 512x512"):
        planned(slide, TilingSettings(size=1024, stride=1024, mpp=1.0))


def test_a_slide_without_enough_tissue_is_refused_with_the_most_there_is(slide: Path) -> None:
    with Slide(slide) as opened:
        seen = overview(opened)
        none = np.zeros(seen.pixels.shape[:2], dtype=bool)
        none[:10, :10] = True
        with pytest.raises(SlideError, match=r"no tile has 0\.5 of tissue: the most of 64"):
            plan_tiles("slide", opened, TilingSettings(size=256, mpp=0.25), seen, none)


def test_shares_of_tissue_are_those_counted_pixel_by_pixel(slide: Path) -> None:
    rng = np.random.default_rng(0)
    mask = rng.random((512, 512)) < 0.5
    seen = Overview(pixels=np.zeros((512, 512, 3), dtype=np.uint8), scale=4.0)
    settings = TilingSettings(size=120, stride=52, mpp=0.5, min_tissue=0)
    with Slide(slide) as opened:
        plan = plan_tiles("slide", opened, settings, seen, mask)
    span = 2 / 4  # mask pixels to a tile pixel
    for x, y, share in zip(plan.x[::7], plan.y[::7], plan.tissue[::7], strict=True):
        left, top = round(x * span), round(y * span)
        right, bottom = round((x + 120) * span), round((y + 120) * span)
        assert share == pytest.approx(mask[top:bottom, left:right].mean())


@pytest.mark.parametrize("stride", [100, 128, 200])
def test_blocks_hold_every_tile_once_and_stay_small(slide: Path, stride: int) -> None:
    settings = TilingSettings(size=128, stride=stride, mpp=0.25, min_tissue=0)
    plan = planned(slide, settings)
    assert plan.blocks[0] == 0
    assert plan.blocks[-1] == len(plan) == plan.candidates
    assert len({*zip(plan.x.tolist(), plan.y.tolist(), strict=True)}) == len(plan)
    for first, last in zip(plan.blocks, plan.blocks[1:], strict=False):
        assert last > first
        for axis in (plan.x, plan.y):
            assert axis[first:last].max() + plan.size - axis[first:last].min() <= BLOCK


def test_at_a_level_that_is_interpolated_every_tile_is_a_block(tmp_path: Path) -> None:
    pixels = np.full((701, 1001, 3), (200, 120, 180), dtype=np.uint8)
    write_slide(tmp_path / "odd.tif", pixels, levels=2, mpp=0.25)
    settings = TilingSettings(size=64, stride=64, mpp=0.5, min_tissue=0)
    plan = planned(tmp_path / "odd.tif", settings)
    assert plan.level == 1
    assert plan.downsample != 2
    assert (np.diff(plan.blocks) == 1).all()


def test_leaving_tiles_out_keeps_the_others_in_their_blocks(
    slide: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("privgen.tiling.plan.BLOCK", 512)
    plan = planned(slide, TilingSettings(size=128, stride=128, mpp=0.25, min_tissue=0))
    assert len(plan.blocks) == 17
    wanted = np.random.default_rng(1).random(len(plan)) < 0.3
    wanted[plan.blocks[0] : plan.blocks[1]] = False  # a block that goes as a whole
    left = plan.only(wanted.tolist())
    block_of = np.repeat(np.arange(len(plan.blocks) - 1), np.diff(plan.blocks))
    np.testing.assert_array_equal(left.x, plan.x[wanted])
    np.testing.assert_array_equal(left.y, plan.y[wanted])
    expected = np.flatnonzero(np.diff(block_of[wanted])) + 1
    np.testing.assert_array_equal(left.blocks, [0, *expected, int(wanted.sum())])


def test_a_grid_of_too_many_tiles_is_refused_before_it_is_made(
    slide: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = TilingSettings(size=64, stride=64, mpp=0.25, min_tissue=0)
    for most in (1024, 1025):
        monkeypatch.setattr(plan_module, "MAX_CANDIDATES", most)
        assert planned(slide, settings).candidates == 1024
    monkeypatch.setattr(plan_module, "MAX_CANDIDATES", 1023)
    with pytest.raises(SlideError, match=r"1,024 tiles; the most is 1,023.*`stride`"):
        planned(slide, settings)

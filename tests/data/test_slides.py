"""Slides: what is read is what was written, and no stored text ever shows."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import openslide
import pytest
import tifffile

from privgen.data import slides
from privgen.data.slides import Level, Slide, overview
from privgen.errors import InputError, SlideError, SlideReadError
from tests.helpers.slide_files import Pixels, noise, write_slide
from tests.helpers.slide_handles import PLANTED, Handle


def test_geometry_and_micrometres_come_from_the_file(pyramid: Path) -> None:
    with Slide(pyramid) as slide:
        assert (slide.width, slide.height, slide.mpp) == (1000, 712, 0.5)
        assert slide.levels == (Level(1000, 712, 1.0), Level(500, 356, 2.0), Level(250, 178, 4.0))


@pytest.mark.parametrize("compression", ["deflate", None])
def test_level_zero_is_read_as_written(tmp_path: Path, pixels: Pixels, compression: Any) -> None:
    write_slide(tmp_path / "a.tif", pixels, mpp=0.25, compression=compression)
    with Slide(tmp_path / "a.tif") as slide:
        whole = slide.read(0, 0, 0, 1000, 712)
        assert np.array_equal(whole, pixels)
        assert whole.dtype == np.uint8
        assert whole.flags.owndata
        assert whole.flags.writeable
        assert np.array_equal(slide.read(0, 201, 33, 300, 10), pixels[33:43, 201:501])


@pytest.mark.parametrize("photometric", ["rgb", "ycbcr"])
def test_a_jpeg_slide_is_read_as_its_decoder_reads_it(tmp_path: Path, photometric: Any) -> None:
    smooth = cv2.resize(noise(16, 16), (512, 512), interpolation=cv2.INTER_CUBIC)
    write_slide(tmp_path / "a.tif", smooth, mpp=0.5, compression="jpeg", photometric=photometric)
    with Slide(tmp_path / "a.tif") as slide:
        read = slide.read(0, 0, 0, 512, 512).astype(int)
    assert np.abs(read - tifffile.imread(tmp_path / "a.tif")).max() <= 4
    assert np.abs(read - smooth).mean() < 4


def test_level_pixels_are_read_at_level_zero_places(pyramid: Path, pixels: Pixels) -> None:
    half = cv2.resize(pixels, (500, 356), interpolation=cv2.INTER_AREA)
    with Slide(pyramid) as slide:
        assert np.array_equal(slide.read(1, 200, 100, 64, 32), half[50:82, 100:164])


def test_outside_is_white_on_all_sides(pyramid: Path, pixels: Pixels) -> None:
    with Slide(pyramid) as slide:
        around = slide.read(0, -7, -5, 1000 + 18, 712 + 11)
        assert np.array_equal(around[5:-6, 7:-11], pixels)
        inside = np.zeros(around.shape[:2], dtype=bool)
        inside[5:-6, 7:-11] = True
        assert (around[~inside] == 255).all()
        for x, y in ((1000, 0), (0, 712), (-64, 0), (0, -64), (10**15, 0), (-(10**30), 5)):
            assert (slide.read(0, x, y, 64, 64) == 255).all()


def test_transparency_is_blended_onto_white() -> None:
    rgba = np.array([[[200, 100, 10, alpha] for alpha in (255, 0, 51, 100)]], dtype=np.uint8)
    white, clear = [255, 255, 255], [200, 100, 10]
    assert slides._on_white(rgba).tolist() == [[clear, white, [244, 224, 206], [233, 194, 159]]]


def test_blocks_equal_single_reads_at_whole_downsamples(pyramid: Path) -> None:
    with Slide(pyramid) as slide:
        for number, step in ((0, 1), (1, 2), (2, 4)):
            assert slide.exact(number)
            block = slide.read(number, 40, 80, 100, 60)
            for top, left in ((0, 0), (3, 41), (20, 59)):
                one = slide.read(number, 40 + left * step, 80 + top * step, 40, 40)
                assert np.array_equal(one, block[top : top + 40, left : left + 40])


def test_an_uneven_pyramid_is_not_exact(tmp_path: Path) -> None:
    write_slide(tmp_path / "a.tif", noise(1001, 601), levels=2, mpp=0.5)
    with Slide(tmp_path / "a.tif") as slide:
        assert slide.exact(0)
        assert not slide.exact(1)


def test_the_coarsest_level_that_is_fine_enough_is_chosen(pyramid: Path) -> None:
    with Slide(pyramid) as slide:
        chosen = {mpp: slide.level_for(mpp) for mpp in (0.5, 0.99, 1.0, 1.5, 2.0, 50.0)}
        assert chosen == {0.5: 0, 0.99: 1, 1.0: 1, 1.5: 1, 2.0: 2, 50.0: 2}
        assert slide.level_for(0.99, tolerance=0.0) == 0
        assert slide.level_for(0.49, tolerance=0.03) == 0
        with pytest.raises(SlideError) as caught:
            slide.level_for(0.25)
    assert caught.value.rule == (
        "the scan has 0.5 um per pixel, coarser than the 0.25 asked for; ask for 0.5 or more."
    )


def test_no_such_level_no_pixel_and_a_closed_slide_are_refused(pyramid: Path) -> None:
    with Slide(pyramid) as slide:
        for level in (-1, 3):
            with pytest.raises(InputError, match="levels 0 to 2"):
                slide.read(level, 0, 0, 8, 8)
            with pytest.raises(InputError, match="levels 0 to 2"):
                slide.exact(level)
        with pytest.raises(InputError, match="0x8"):
            slide.read(0, 0, 0, 0, 8)
        with pytest.raises(TypeError):
            slide.read(0, 0.5, 0, 8, 8)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="closed"):
        slide.read(0, 0, 0, 8, 8)
    slide.close()


@pytest.mark.parametrize(
    ("mpp", "rule"),
    [
        (None, "has no micrometres per pixel"),
        ((0.5, 0.52), "not square"),
        (352.8, "outside 0.05 to 20"),
        (0.01, "outside 0.05 to 20"),
    ],
)
def test_unusable_micrometres_are_refused_with_the_way_out(
    tmp_path: Path, mpp: float | tuple[float, float] | None, rule: str
) -> None:
    write_slide(tmp_path / "a.tif", noise(64, 64), mpp=mpp)
    with pytest.raises(SlideError, match="`mpp_override`") as caught:
        Slide(tmp_path / "a.tif")
    assert rule in caught.value.rule
    with Slide(tmp_path / "a.tif", mpp=0.25) as slide:
        assert slide.mpp == 0.25


def test_nearly_square_pixels_take_the_mean(tmp_path: Path) -> None:
    write_slide(tmp_path / "a.tif", noise(64, 64), mpp=(0.5, 0.508))
    with Slide(tmp_path / "a.tif") as slide:
        assert slide.mpp == pytest.approx(0.504)


@pytest.mark.parametrize("mpp", [0.0, -1.0, 0.04, 21.0, float("nan"), float("inf")])
def test_an_absurd_override_is_refused(pyramid: Path, mpp: float) -> None:
    with pytest.raises(SlideError, match="micrometres per pixel"):
        Slide(pyramid, mpp=mpp)


def test_files_that_are_no_slide_are_refused_without_their_names(
    tmp_path: Path, pixels: Pixels
) -> None:
    (tmp_path / "text.svs").write_text(PLANTED)
    (tmp_path / "empty.svs").touch()
    (tmp_path / "folder.svs").mkdir()
    write_slide(tmp_path / "strips.tif", pixels, layout="strips", mpp=0.5)
    os.mkfifo(tmp_path / "pipe.svs")
    for file in ("text.svs", "empty.svs", "folder.svs", "strips.tif", "pipe.svs", "absent.svs"):
        with pytest.raises(SlideError) as caught:
            Slide(tmp_path / file)
        assert str(tmp_path / file) in str(caught.value)
        assert file not in caught.value.rule
        assert "\n" not in str(caught.value)
        assert caught.value.__context__ is None


def test_a_truncated_slide_is_refused(tmp_path: Path, pyramid: Path) -> None:
    (tmp_path / "a.tif").write_bytes(pyramid.read_bytes()[:-2000])
    with pytest.raises(SlideError, match="damaged"):
        Slide(tmp_path / "a.tif")


def test_an_ome_tiff_is_read_as_its_first_level(tmp_path: Path, pixels: Pixels) -> None:
    write_slide(tmp_path / "a.ome.tif", pixels, levels=3, layout="ome")
    with pytest.raises(SlideError, match="`mpp_override`"):
        Slide(tmp_path / "a.ome.tif")
    with Slide(tmp_path / "a.ome.tif", mpp=0.5) as slide:
        assert slide.levels == (Level(1000, 712, 1.0),)
        assert np.array_equal(slide.read(0, 100, 50, 256, 256), pixels[50:306, 100:356])


def test_planted_text_never_shows(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    texts = dict.fromkeys(("description", "software", "artist", "host"), PLANTED)
    path = tmp_path / "a.tif"
    write_slide(path, noise(600, 600), texts=texts | {"datetime": "1961:04:12 09:07:00"})
    assert PLANTED in openslide.OpenSlide(path).properties["tiff.Artist"]
    errors = []
    for mpp in (None, 99.0):
        with pytest.raises(SlideError) as refused:
            Slide(path, mpp=mpp)
        errors.append(refused.value)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    path.write_bytes(data[:middle] + bytes(9000) + data[middle + 9000 :])
    with Slide(path, mpp=0.5) as slide:
        with pytest.raises(SlideReadError) as failed:
            slide.read(0, 0, 0, 600, 600)
        shown = repr(slide) + repr(slide.levels) + "".join(map(str, [*errors, failed.value]))
    shown += "".join(capfd.readouterr())
    assert PLANTED not in shown
    assert "1961" not in shown


def test_only_the_reader_the_scale_and_the_scanned_area_are_asked_for(
    pyramid: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    value = openslide.lowlevel.get_property_value

    def spy(handle: Any, name: str) -> Any:
        asked.append(name)
        return value(handle, name)

    def never(*_: Any) -> None:
        raise AssertionError("an associated image was looked at")

    monkeypatch.setattr(openslide.lowlevel, "get_property_value", spy)
    monkeypatch.setattr(openslide.lowlevel, "get_associated_image_names", never)
    monkeypatch.setattr(openslide.lowlevel, "read_associated_image", never)
    with Slide(pyramid) as slide:
        slide.read(0, 0, 0, 8, 8)
        overview(slide)
    scale, area = ("mpp-x", "mpp-y"), ("bounds-x", "bounds-y", "bounds-width", "bounds-height")
    assert set(asked) <= {f"openslide.{name}" for name in ("vendor", *scale, *area)}
    assert {"openslide.mpp-x", "openslide.mpp-y"} <= set(asked)
    asked.clear()
    Slide(pyramid, mpp=0.5).close()
    assert not {"openslide.mpp-x", "openslide.mpp-y"} & set(asked)


@pytest.mark.real_data
def test_the_real_slides_open_or_are_refused(real_data: Callable[[str], Path]) -> None:
    folder = real_data("slides")
    with Slide(folder / "CMU-1-Small-Region.svs") as slide:
        assert (slide.width, slide.height, slide.mpp) == (2220, 2967, 0.499)
        corner = slide.read(0, 0, 0, 256, 256)
        assert corner.mean() > 200
    with Slide(folder / "TCGA-CR-7395-01A-01-TS1.svs", mpp=0.25) as slide:
        assert [(one.width, one.height) for one in slide.levels] == [(4443, 3567), (2221, 1783)]
        assert [slide.exact(0), slide.exact(1)] == [True, False]
        seen = overview(slide, longest=256)
        assert seen.pixels.shape[1] * seen.scale >= 4443
    for file, rule in (
        ("TCGA-CR-7395-01A-01-TS1.svs", "no micrometres per pixel"),
        ("broken.svs", "not a slide"),
    ):
        with pytest.raises(SlideError) as caught:
            Slide(folder / file)
        assert rule in caught.value.rule
        assert not re.search("TCGA|broken|svs|/", caught.value.rule)


@pytest.mark.parametrize(
    ("name", "content", "known"),
    [
        ("a.isyntax", b"", "Philips iSyntax"),
        ("a.svs", b'<DataObject ObjectType="DPUfsImport">', "Philips iSyntax"),
        ("a.VSI", b"II*\0", "Olympus VSI"),
        ("a.kfb", b"", "KFBio"),
    ],
)
def test_formats_without_a_reader_are_refused_by_name_with_the_way_out(
    tmp_path: Path, name: str, content: bytes, known: str, openings: list[Handle]
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SlideError, match=f"{known}.*Export it as") as caught:
        Slide(tmp_path / name)
    assert caught.value.exit_code == 2
    assert not openings  # the preview inside a VSI is never opened


def test_a_vsi_that_is_a_tiled_tiff_inside_is_not_opened(tmp_path: Path) -> None:
    write_slide(tmp_path / "a.vsi", noise(300, 300), mpp=0.5)
    with pytest.raises(SlideError, match="Olympus VSI"):
        Slide(tmp_path / "a.vsi")

"""Slides: what is read is what was written, in threads too, and no stored text ever shows."""

import os
import re
import resource
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
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

PLANTED = "MUSTERMANN^ERIKA"


@pytest.fixture(scope="module")
def pixels() -> Pixels:
    return noise(1000, 712)


@pytest.fixture(scope="module")
def pyramid(tmp_path_factory: pytest.TempPathFactory, pixels: Pixels) -> Path:
    path = tmp_path_factory.mktemp("slides") / "pyramid.tif"
    write_slide(path, pixels, levels=3, mpp=0.5)
    return path


@pytest.fixture
def openings(monkeypatch: pytest.MonkeyPatch) -> Iterator[list["Handle"]]:
    """Every handle opened, in turn; `Handle.failing` makes those of its numbers fail at reads."""
    made: list[Handle] = []

    class Counted(Handle):
        def __init__(self, path: Path) -> None:
            super().__init__(path)
            self.number = len(made)
            made.append(self)

    Handle.failing = ()
    monkeypatch.setattr(openslide, "OpenSlide", Counted)
    yield made
    made.clear()


class Handle(openslide.OpenSlide):
    """A handle that latches as OpenSlide's do, at the first read where its number is `failing`."""

    failing: tuple[int, ...] = ()
    number = -1
    latched = False

    def read_region(self, *where: Any) -> Any:
        if self.latched or self.number in self.failing:
            self.latched = True
            raise openslide.OpenSlideError(f"{PLANTED}: premature end of file")
        return super().read_region(*where)


def broken_in_the_middle(path: Path) -> Path:
    """A slide of 1000 x 1024 whose second row of stored tiles is damaged, the first is not."""
    write_slide(path, noise(1000, 1024), mpp=0.5)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle - 20_000 : middle + 20_000] = bytes(40_000)
    path.write_bytes(data)
    return path


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
        "the scan has 0.5 um a pixel, coarser than the 0.25 asked for; ask for 0.5 or more."
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
        (None, "has no micrometres a pixel"),
        ((0.5, 0.52), "not square"),
        (352.8, "outside 0.05 to 20"),
        (0.01, "outside 0.05 to 20"),
    ],
)
def test_unusable_micrometres_are_refused_with_the_way_out(
    tmp_path: Path, mpp: float | tuple[float, float] | None, rule: str
) -> None:
    write_slide(tmp_path / "a.tif", noise(64, 64), mpp=mpp)
    with pytest.raises(SlideError, match="--mpp-override") as caught:
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
    with pytest.raises(SlideError, match="micrometres a pixel"):
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
    with pytest.raises(SlideError, match="--mpp-override"):
        Slide(tmp_path / "a.ome.tif")
    with Slide(tmp_path / "a.ome.tif", mpp=0.5) as slide:
        assert slide.levels == (Level(1000, 712, 1.0),)
        assert np.array_equal(slide.read(0, 100, 50, 256, 256), pixels[50:306, 100:356])


def test_damage_in_the_middle_opens_the_slide_twice_and_no_more(
    tmp_path: Path, openings: list[Handle]
) -> None:
    with Slide(broken_in_the_middle(tmp_path / "a.tif")) as slide:
        slide.read(0, 0, 0, 1000, 256)
        for _ in range(2):  # given up: the second time nothing is opened again
            with pytest.raises(SlideReadError) as caught:
                slide.read(0, 0, 0, 1000, 1024)
            assert str(tmp_path / "a.tif") in str(caught.value)
            assert "a.tif" not in caught.value.rule
            assert caught.value.exit_code == 3
            assert caught.value.__context__ is None
        with pytest.raises(SlideReadError):
            slide.read(0, 0, 0, 8, 8)
    assert len(openings) == 2


def test_one_failure_is_healed_by_one_reopening(
    pyramid: Path, pixels: Pixels, openings: list[Handle]
) -> None:
    Handle.failing = (0,)
    with Slide(pyramid) as slide:
        assert np.array_equal(slide.read(0, 0, 0, 1000, 712), pixels)
        assert len(openings) == 2
        slide.read(1, 0, 0, 10, 10)
        assert len(openings) == 2
        assert [one.latched for one in openings] == [True, False]


def test_a_second_failure_gives_the_slide_up(pyramid: Path, openings: list[Handle]) -> None:
    Handle.failing = (0, 1)
    with Slide(pyramid) as slide, pytest.raises(SlideReadError) as caught:
        slide.read(0, 0, 0, 8, 8)
    assert PLANTED not in str(caught.value)
    assert len(openings) == 2


@pytest.mark.parametrize("change", ["gone", "another"])
def test_a_slide_that_changed_under_way_is_given_up(
    tmp_path: Path, openings: list[Handle], change: str
) -> None:
    write_slide(tmp_path / "a.tif", noise(300, 300), mpp=0.5)
    Handle.failing = (0,)
    with Slide(tmp_path / "a.tif") as slide:
        (tmp_path / "a.tif").unlink()
        if change == "another":
            write_slide(tmp_path / "a.tif", noise(310, 300), mpp=0.5)
        for _ in range(2):
            with pytest.raises(SlideReadError):
                slide.read(0, 0, 0, 8, 8)


def test_threads_share_one_reopening(pyramid: Path, openings: list[Handle]) -> None:
    gate = threading.Barrier(8)

    def fail_together(*_: Any) -> Any:
        gate.wait(10)
        raise openslide.OpenSlideError(PLANTED)

    with Slide(pyramid) as slide, ThreadPoolExecutor(8) as pool:
        openings[0].read_region = fail_together  # type: ignore[method-assign]
        read_by_each = list(pool.map(lambda _: slide.read(0, 300, 200, 128, 128), range(8)))
    assert all(np.array_equal(one, read_by_each[0]) for one in read_by_each)
    assert len(openings) == 2


def test_threads_read_the_same_bits_as_one(pyramid: Path) -> None:
    places = [(level, x, y) for level in (0, 1, 2) for x in range(0, 900, 90) for y in (0, 333)]
    with Slide(pyramid) as slide:
        alone = [slide.read(*place, 200, 100) for place in places]
        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(lambda place: slide.read(*place, 200, 100), places))
    assert all(np.array_equal(*pair) for pair in zip(alone, together, strict=True))


def test_no_handle_stays_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = broken_in_the_middle(tmp_path / "a.tif")
    counts = {"open": 0, "close": 0}

    def counting(what: str) -> Callable[[Any], Any]:
        call = getattr(openslide.lowlevel, what)

        def counted(argument: Any) -> Any:
            counts[what] += 1
            return call(argument)

        return counted

    for what in counts:
        monkeypatch.setattr(openslide.lowlevel, what, counting(what))
    with Slide(path) as slide:
        slide.read(0, 0, 0, 8, 8)
        assert counts == {"open": 1, "close": 0}
    assert counts == {"open": 1, "close": 1}
    with Slide(path) as slide, pytest.raises(SlideReadError):
        slide.read(0, 0, 0, 1000, 1024)
    assert counts == {"open": 3, "close": 3}
    with pytest.raises(SlideError) as kept:
        Slide(path, mpp=100.0)
    assert counts == {"open": 4, "close": 4}
    assert kept.value.rule


def test_a_slide_closed_under_a_reader_lets_it_finish(
    pyramid: Path, openings: list[Handle]
) -> None:
    reading, closed = threading.Event(), threading.Event()

    with Slide(pyramid) as slide, ThreadPoolExecutor(1) as pool:
        handle = openings.pop()
        take = handle.read_region

        def waiting(*where: Any) -> Any:
            reading.set()
            assert closed.wait(10)
            return take(*where)

        handle.read_region = waiting  # type: ignore[method-assign]
        result = pool.submit(slide.read, 0, 0, 0, 64, 64)
        assert reading.wait(10)
        slide.close()
        closed.set()
        assert result.result(10).shape == (64, 64, 3)


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


@pytest.mark.parametrize("levels", [1, 3])
@pytest.mark.parametrize("longest", [64, 300, 1000])
def test_an_overview_is_the_mean_of_what_each_pixel_covers(
    tmp_path: Path, pixels: Pixels, monkeypatch: pytest.MonkeyPatch, levels: int, longest: int
) -> None:
    monkeypatch.setattr(slides, "BLOCK", 128)
    write_slide(tmp_path / "a.tif", pixels, levels=levels, mpp=0.5)
    with Slide(tmp_path / "a.tif") as slide:
        seen = overview(slide, longest=longest)
    scale = int(seen.scale)
    height, width, _ = seen.pixels.shape
    assert scale == seen.scale
    assert max(width, height) <= longest < 2 * scale * longest
    assert 0 <= width * scale - 1000 < scale
    assert 0 <= height * scale - 712 < scale
    padded = np.full((height * scale, width * scale, 3), 255, dtype=np.float64)
    padded[:712, :1000] = pixels
    mean = padded.reshape(height, scale, width, scale, 3).mean(axis=(1, 3))
    assert np.abs(seen.pixels - mean).max() <= (1 if levels == 1 else 2)


def test_an_overview_of_a_small_slide_is_the_slide(tmp_path: Path) -> None:
    write_slide(tmp_path / "a.tif", noise(90, 40), mpp=0.5)
    with Slide(tmp_path / "a.tif") as slide:
        seen = overview(slide)
        assert seen.scale == 1.0
        assert np.array_equal(seen.pixels, slide.read(0, 0, 0, 90, 40))
        with pytest.raises(InputError, match="longest 0"):
            overview(slide, longest=0)


_PEAK = """
import resource, sys
from pathlib import Path
from privgen.data.slides import Slide, overview
with Slide(Path(sys.argv[1])) as slide:
    slide.read(0, 0, 0, 8, 8)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seen = overview(slide)
    print(seen.pixels.shape, seen.scale, (seen.pixels == 128).all())
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads peak memory as Linux reports it")
def test_a_large_slide_of_one_level_needs_little_memory(tmp_path: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    grey = np.full((512, 512, 3), 128, dtype=np.uint8)
    write_slide(
        tmp_path / "big.tif",
        lambda level, x, y, width, height: grey[:height, :width],
        size=(10_240, 10_240),
        tile=512,
        mpp=0.5,
    )
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024
    command = [sys.executable, "-c", _PEAK, str(tmp_path / "big.tif")]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    shape, grown = ran.stdout.splitlines()
    assert shape == "(2048, 2048, 3) 5.0 True"
    assert int(grown) < 150


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
        ("TCGA-CR-7395-01A-01-TS1.svs", "no micrometres a pixel"),
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

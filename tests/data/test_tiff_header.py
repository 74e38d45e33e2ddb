"""tiff_header.py: what a file declares is judged before a reader is asked for memory."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import openslide
import pytest
import tifffile

from privgen.data import slides, tiff_header
from privgen.data.slides import Level, Slide
from privgen.data.tiff_header import Directory, read_directories, refusal
from privgen.errors import SlideError
from tests.helpers.slide_files import Pixels, noise, write_slide

PLAIN = {256: 64, 257: 64, 258: 8, 259: 1, 262: 1, 277: 1, 322: 64, 323: 64, 324: 8, 325: 4096}
PLAIN |= {282: 20000, 283: 20000, 296: 3}


def declared(path: Path, following: int = 0, **changed: int) -> Path:
    """A TIFF of a few hundred bytes that declares one tiled image: `PLAIN`, changed by `t<tag>`."""
    tags = PLAIN | {int(name[1:]): value for name, value in changed.items()}
    places, after = b"", 8 + 2 + 12 * len(tags) + 4
    entries = b""
    for tag in sorted(tags):
        if tag in (282, 283):
            entries += struct.pack("<HHII", tag, 5, 1, after + len(places))
            places += struct.pack("<II", tags[tag], 1)
        else:
            entries += struct.pack("<HHII", tag, 4, 1, tags[tag])
    head = b"II*\0" + struct.pack("<IH", 8, len(tags))
    path.write_bytes(head + entries + struct.pack("<I", following) + places + bytes(64))
    return path


def fine(**changed: Any) -> Directory:
    known = {"width": 512, "height": 512, "tile_width": 256, "tile_height": 256, "bits": (8, 8, 8)}
    return Directory(**{**known, "samples": 3, "tiles_listed": 2**62, **changed})


@pytest.fixture
def unopened(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any) -> None:
        raise AssertionError("the reader was asked")

    monkeypatch.setattr(openslide, "OpenSlide", never)


@pytest.mark.usefixtures("unopened")
@pytest.mark.parametrize(
    ("tags", "rule"),
    [
        ({"t322": 65536, "t323": 65536}, "stored tiles of 65536x65536 pixels"),
        ({"t277": 65535, "t322": 4096, "t323": 4096}, "stored tiles of 4096x4096"),
        ({"t256": 2**31, "t257": 2**31}, "longest side"),
        ({"t256": 2**20, "t257": 2**20, "t322": 16, "t323": 16}, "lists 1: damaged"),
        ({"t256": 65}, "declares 2 stored tiles and lists 1"),
        ({"t322": 0}, "without pixels"),
        ({"t256": 0}, "without pixels"),
        ({"t339": 3, "t258": 32}, "floating-point"),
        ({"t339": 2, "t258": 16}, "signed or 16-bit"),
        ({"t258": 32}, "32-bit"),
        ({"t274": 6}, "orientation 6"),
    ],
)
def test_a_few_hundred_bytes_cannot_ask_for_memory(
    tmp_path: Path, tags: dict[str, int], rule: str
) -> None:
    path = declared(tmp_path / "Meyer.tif", **tags)
    assert path.stat().st_size < 430
    with pytest.raises(SlideError) as caught:
        Slide(path)
    assert rule in caught.value.rule
    assert "Meyer" not in caught.value.rule
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_limits_hold_at_their_values() -> None:
    side, tile = tiff_header.MAX_SIDE, tiff_header.MAX_TILE_BYTES
    for length in (side - 1, side):
        assert refusal([fine(width=length)]) is refusal([fine(height=length)]) is None
    assert "longest side" in str(refusal([fine(width=side + 1)]))
    assert "longest side" in str(refusal([fine(height=side + 1)]))
    for area in (tile // 4 - 1, tile // 4):
        assert refusal([fine(tile_width=area, tile_height=1)]) is None
    assert "stored tiles" in str(refusal([fine(tile_width=tile // 4 + 1, tile_height=1)]))
    assert "stored tiles" in str(
        refusal([fine(samples=8, tile_width=tile // 8 + 1, tile_height=1)])
    )
    most = tiff_header.MAX_DIRECTORIES
    for count in (most - 1, most):
        assert refusal([fine()] * count) is None
    assert "more than 4,096 images" in str(refusal([fine()] * (most + 1)))
    four = {"width": 512, "height": 512, "tile_width": 256, "tile_height": 256}
    for listed in (5, 4):
        assert refusal([fine(**four, tiles_listed=listed)]) is None
    assert "declares 4" in str(refusal([fine(**four, tiles_listed=3)]))


def test_sides_levels_and_pixels_of_any_format_have_limits() -> None:
    side = tiff_header.MAX_SIDE
    wide = slides.MAX_PIXELS // side
    for height in (wide - 1, wide):
        assert slides._beyond((Level(side, height, 1.0),)) is None
    assert "most pixels" in str(slides._beyond((Level(side, wide + 1, 1.0),)))
    assert "longest side" in str(slides._beyond((Level(side + 1, 1, 1.0),)))
    one = Level(9, 9, 1.0)
    for count in (slides.MAX_LEVELS - 1, slides.MAX_LEVELS):
        assert slides._beyond((one,) * count) is None
    assert "levels" in str(slides._beyond((one,) * (slides.MAX_LEVELS + 1)))


def test_chains_that_loop_or_lead_away_end(tmp_path: Path) -> None:
    assert len(read_directories(declared(tmp_path / "a.tif", following=8))) == 1
    assert len(read_directories(declared(tmp_path / "a.tif", following=2**32 - 1))) == 1
    far = b"II+\0" + struct.pack("<HHQ", 8, 0, 2**64 - 1)
    for data in (b"", b"II*\0", b"II*\0" + bytes(20), b"MM\0+" + bytes(2), far, b"II*\0" * 9):
        (tmp_path / "a.tif").write_bytes(data)
        assert read_directories(tmp_path / "a.tif") == ()
    assert read_directories(tmp_path / "gone.tif") == ()


def test_every_cut_of_a_real_header_is_walked_without_an_error(tmp_path: Path) -> None:
    write_slide(tmp_path / "a.tif", noise(300, 300), levels=2, mpp=0.5)
    data = (tmp_path / "a.tif").read_bytes()
    assert len(read_directories(tmp_path / "a.tif")) == 2
    rng = np.random.default_rng(0)
    for _ in range(300):
        mutant = bytearray(data)
        for at in rng.integers(0, 600, 4):
            mutant[at] = rng.integers(0, 256)
        (tmp_path / "b.tif").write_bytes(mutant[: rng.integers(1, len(mutant))])
        refusal(read_directories(tmp_path / "b.tif"))


@pytest.mark.parametrize(("big", "order"), [(False, "<"), (False, ">"), (True, "<"), (True, ">")])
def test_classic_and_big_tiffs_of_either_order_are_read(
    tmp_path: Path, big: bool, order: Any
) -> None:
    tifffile.imwrite(
        tmp_path / "a.tif",
        noise(300, 200),
        bigtiff=big,
        byteorder=order,
        tile=(128, 64),
        photometric="rgb",
        metadata=None,
        extratags=[(274, 3, 1, 5, True)],
    )
    (one,) = read_directories(tmp_path / "a.tif")
    assert (one.width, one.height, one.tile_width, one.tile_height) == (300, 200, 64, 128)
    assert (one.bits, one.samples, one.orientation, one.tiles_listed) == ((8, 8, 8), 3, 5, 10)


@pytest.fixture
def picture() -> Pixels:
    return noise(512, 512)


def written(path: Path, pixels: Any, **more: Any) -> Path:
    resolution = {"resolution": (20000, 20000), "resolutionunit": "CENTIMETER", "metadata": None}
    tifffile.imwrite(path, pixels, tile=(256, 256), photometric="rgb", **{**resolution, **more})
    return path


@pytest.mark.parametrize("turned", range(2, 9))
def test_a_turned_tiff_is_refused_as_a_whole(tmp_path: Path, picture: Pixels, turned: int) -> None:
    path = written(tmp_path / "a.tif", picture, extratags=[(274, 3, 1, turned, True)])
    with pytest.raises(SlideError, match=f"orientation {turned}.*upright"):
        Slide(path)


@pytest.mark.parametrize("upright", [0, 1, 9])
def test_an_upright_tiff_is_read_as_it_is(tmp_path: Path, picture: Pixels, upright: int) -> None:
    path = written(tmp_path / "a.tif", picture, extratags=[(274, 3, 1, upright, True)])
    with Slide(path) as slide:
        assert np.array_equal(slide.read(0, 0, 0, 512, 512), picture)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, np.int16, np.uint32])
def test_pixels_that_are_no_colours_are_a_matter_of_format(
    tmp_path: Path, picture: Pixels, kind: Any
) -> None:
    with pytest.raises(SlideError, match="8-bit RGB") as caught:
        Slide(written(tmp_path / "a.tif", picture.astype(kind)))
    assert caught.value.exit_code == 2


def test_sixteen_bits_are_read(tmp_path: Path, picture: Pixels) -> None:
    with Slide(written(tmp_path / "a.tif", picture.astype(np.uint16) * 257)) as slide:
        assert np.array_equal(slide.read(0, 0, 0, 512, 512), picture)


def ome(x: object, unit: str = "µm") -> dict[str, Any]:
    return {"axes": "YXS", "PhysicalSizeX": x, "PhysicalSizeXUnit": unit} | {
        "PhysicalSizeY": x,
        "PhysicalSizeYUnit": unit,
    }


@pytest.mark.parametrize(
    ("stated", "mpp"), [(ome(0.25), 0.25), (ome(250, "nm"), 0.25), (ome(0.00025, "mm"), 0.25)]
)
def test_an_ome_tiff_states_its_scale_and_what_of_its_pyramid_is_not_seen(
    tmp_path: Path, picture: Pixels, stated: dict[str, Any], mpp: float
) -> None:
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as file:
        kind: Any = {"photometric": "rgb", "tile": (256, 256)}
        file.write(picture, subifds=2, metadata=stated, **kind)
        file.write(picture[::2, ::2], subfiletype=1, **kind)
        file.write(picture[::4, ::4], subfiletype=1, **kind)
    with Slide(tmp_path / "a.ome.tif") as slide:
        assert slide.mpp == pytest.approx(mpp)
        assert (len(slide.levels), slide.unseen) == (1, 2)
        assert np.array_equal(slide.read(0, 0, 0, 512, 512), picture)


def test_a_pyramid_in_the_chain_of_an_ome_tiff_is_read_with_all_its_levels(
    tmp_path: Path, picture: Pixels
) -> None:
    said = '<?xml version="1.0"?><OME><Image><Pixels SizeX="512" PhysicalSizeX="0.5" '
    said += 'PhysicalSizeY="0.5"></Pixels></Image></OME>'
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as file:
        kind: Any = {"photometric": "rgb", "tile": (256, 256), "metadata": None}
        file.write(picture, description=said, **kind)
        file.write(picture[::2, ::2], subfiletype=1, **kind)
    with Slide(tmp_path / "a.ome.tif") as slide:
        assert (slide.mpp, len(slide.levels), slide.unseen) == (0.5, 2, 0)


@pytest.mark.parametrize("stated", [ome(0), ome(-1), ome(1, "pixel"), ome("1e999"), ome("...")])
def test_a_scale_that_is_none_is_not_taken(
    tmp_path: Path, picture: Pixels, stated: dict[str, Any]
) -> None:
    text = f'<OME><Pixels PhysicalSizeX="{stated["PhysicalSizeX"]}" '
    text += f'PhysicalSizeXUnit="{stated["PhysicalSizeXUnit"]}" PhysicalSizeY="1" ></OME>'
    path = written(
        tmp_path / "a.tif", picture, resolutionunit="NONE", description=text.replace("µ", "u")
    )
    with pytest.raises(SlideError, match="micrometres per pixel"):
        Slide(path)


def test_a_label_that_comes_first_is_not_read_for_the_scan(tmp_path: Path, picture: Pixels) -> None:
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as file:
        for shown in (np.full((256, 256, 3), 90, np.uint8), picture):
            file.write(shown, photometric="rgb", tile=(256, 256), metadata={"axes": "YXS"})
    with pytest.raises(SlideError, match="it may show the label"):
        Slide(tmp_path / "a.ome.tif", mpp=0.5)

"""Codings: the standard's tables, their order, and what covers two of them."""

import io

import numpy as np
import pytest
from PIL import Image

from privgen.data.coding import SAMPLINGS, Coding, Sampling
from privgen.data.images import encode_jpeg, encode_png, read_coding, recode
from privgen.data.phantom import render_tile
from privgen.errors import TileError

TILE = render_tile("TUM", patient=0, index=0, seed=0, side=64)


def jpeg(quality: int, sampling: Sampling) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(TILE).save(buffer, "JPEG", quality=quality, subsampling=sampling)
    return buffer.getvalue()


def test_quality_50_has_the_tables_of_the_standard() -> None:
    coding = Coding.standard(50, "4:2:0")
    assert coding.luma[:8] == (16, 11, 10, 16, 24, 40, 51, 61)
    assert coding.luma[-1] == 99
    assert coding.chroma[:4] == (17, 18, 24, 47)
    assert coding.coarseness == pytest.approx(57.625)


@pytest.mark.parametrize("quality", [1, 10, 30, 49, 50, 75, 90, 95])
@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_a_file_of_libjpeg_says_its_coding(quality: int, sampling: Sampling) -> None:
    kind, coding = read_coding(jpeg(quality, sampling), "a tile")
    assert kind == "jpeg"
    assert coding == Coding.standard(quality, sampling)
    assert coding.quality == quality


def test_a_tile_recoded_is_the_tile_a_file_of_that_coding_gives() -> None:
    with Image.open(io.BytesIO(jpeg(60, "4:2:2"))) as image:
        expected = np.asarray(image)
    np.testing.assert_array_equal(recode(TILE, Coding.standard(60, "4:2:2")), expected)


def test_tables_of_ones_own_are_read_and_written() -> None:
    own = Coding(luma=tuple(range(3, 67)), chroma=(9,) * 64, sampling="4:4:4")
    buffer = io.BytesIO()
    tables = [list(own.luma), list(own.chroma)]
    Image.fromarray(TILE).save(buffer, "JPEG", qtables=tables, subsampling="4:4:4")
    assert read_coding(buffer.getvalue(), "a tile") == ("jpeg", own)
    assert 30 < own.quality < 80


def test_other_files_have_no_coding_and_no_file_is_refused() -> None:
    assert read_coding(encode_png(TILE), "a tile") == ("png", None)
    buffer = io.BytesIO()
    Image.fromarray(TILE).save(buffer, "TIFF")
    assert read_coding(buffer.getvalue(), "a tile") == ("tiff", None)
    with pytest.raises(TileError, match="is not a PNG, JPEG or TIFF"):
        read_coding(b"BM picture", "a tile")
    with pytest.raises(TileError, match="header is damaged"):
        read_coding(encode_jpeg(TILE, 50)[:20], "a tile")


def test_joined_codings_are_as_coarse_as_each_in_every_step() -> None:
    fine, coarse = Coding.standard(90, "4:2:0"), Coding.standard(30, "4:4:4")
    both = fine.joined(coarse)
    assert both == coarse.joined(fine)
    assert (both.luma, both.chroma) == (coarse.luma, coarse.chroma)
    assert both.sampling == "4:2:0"
    assert both.joined(both) == both

"""kinds.py: pictures are told by their first bytes, whatever they are called."""

import io
from pathlib import Path

import pytest
from PIL import Image

from privgen.data.kinds import head_of, is_picture, is_picture_name


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF", "GIF", "WEBP", "BMP", "JPEG2000"])
def test_a_picture_is_told_by_its_first_bytes(form: str, tmp_path: Path) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), (200, 100, 150)).save(stream, form)
    (tmp_path / "tile.txt").write_bytes(stream.getvalue())
    assert is_picture(head_of(tmp_path / "tile.txt"))


@pytest.mark.parametrize(
    "head", [b"", b"BM is not always a bitmap", b"path,label\n", b"PK\3\4", b"\0\5\x16\7"]
)
def test_what_is_no_picture_is_none(head: bytes) -> None:
    assert not is_picture(head)


def test_names_of_pictures_are_told_in_any_case() -> None:
    assert is_picture_name("A/b.JPEG")
    assert is_picture_name("x.webp")
    assert not is_picture_name("png")
    assert not is_picture_name("a.npz")

"""What a file is, by its name and its first bytes: is it a picture, whether or not it is a tile?

A tile is PNG, JPEG or TIFF (`privgen.data.images`). Other pictures are known here too, so that none
is passed over as "no image".
"""

from pathlib import Path

HEAD = 512
"""Bytes of a file that tell what it is."""

_SUFFIXES = (
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".bmp", ".dib", ".gif"),
    *(".webp", ".jp2", ".j2k", ".jpx", ".jpf", ".jxl", ".avif", ".heic", ".heif"),
    *(".ppm", ".pgm", ".pnm", ".tga"),
)

_SIGNATURES = (
    (0, b"\x89PNG\r\n\x1a\n"),
    (0, b"\xff\xd8\xff"),  # JPEG
    *((0, mark) for mark in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),  # TIFF and BigTIFF
    (0, b"GIF8"),
    (8, b"WEBP"),
    (0, b"\0\0\0\x0cjP  "),  # JPEG 2000
    (0, b"\xff\x4f\xff\x51"),  # its bare codestream
    (0, b"\0\0\0\x0cJXL "),
    *((4, b"ftyp" + brand) for brand in (b"avif", b"heic", b"mif1")),
    (128, b"DICM"),
)
"""Place and bytes that tell a picture."""


def is_picture_name(name: str) -> bool:
    """Whether a file is called like a picture."""
    return name.lower().endswith(_SUFFIXES)


def is_picture(head: bytes) -> bool:
    """Whether a file is a picture by its first bytes, `HEAD` of them or all there are."""
    bitmap = head[:2] == b"BM" and head[6:10] == bytes(4)
    return bitmap or any(head[at : at + len(mark)] == mark for at, mark in _SIGNATURES)


def head_of(path: Path) -> bytes:
    """The first bytes of a file.

    Raises:
      OSError: it cannot be read.
    """
    with path.open("rb") as stream:
        return stream.read(HEAD)

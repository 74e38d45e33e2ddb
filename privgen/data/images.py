"""The only door that opens or writes an image.

A tile is an array: uint8 RGB, shape (h, w, 3), row 0 at the top. A file becomes a tile only when
nothing has to be guessed: PNG, JPEG or TIFF (told by content, never by name), one picture, 8-bit
RGB without alpha, no side over `MAX_SIDE`, decoded whole. Everything else is a `TileError` that
names the rule and the way out. A path may lead through a tar (`privgen.data.tar_members`).

Metadata never goes out: files are written from arrays alone. Of what comes in two things decide
the pixels (`privgen.data.colour`). A tile that is stored turned (the orientation of TIFF or EXIF)
is refused, because some viewers turn it and others do not. A colour profile (ICC), as scanners
embed it, is ignored or, where asked for, applied, so that the tile is sRGB; either is said.
"""

import hashlib
import io
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile, get_sampling
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from privgen.choices import Icc
from privgen.data import png
from privgen.data.coding import SAMPLINGS, Coding
from privgen.data.colour import in_colour, orientation
from privgen.data.image_rows import read_row, row_of
from privgen.data.tar_members import member_of, read_member
from privgen.errors import InputError, TileError
from privgen.files import atomic_write

MAX_SIDE = 8192
"""Longest side of a tile in pixels; 8192 squared is 64 Mi pixels, 192 MiB of RGB."""

MAX_FILE_BYTES = 256 * 2**20
"""Largest image file read."""

SIGNATURES: dict[bytes, type[ImageFile]] = {
    png.SIGNATURE: PngImageFile,
    b"\xff\xd8\xff": JpegImageFile,
    b"II*\0": TiffImageFile,
    b"MM\0*": TiffImageFile,
    b"II+\0": TiffImageFile,
    b"MM\0+": TiffImageFile,
}
"""First bytes of a file and the reader they call for."""

FEATURELESS = 4.0
"""Spread of the grey levels (standard deviation, 0 to 255) below which a tile proves nothing:
blank glass repeats by chance, in everybody."""

RESAMPLING_REACH = 2
"""Pixels of the result that the bicubic filter looks to each side."""

_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)

_TIFF_BITS = 258
_TIFF_ORIENTATION = 274
_TO_RGB = "Save it as 8-bit RGB PNG."
_AGAIN = "Export or copy it again."
_UPRIGHT = "Save it upright."
_COLOUR_RULES = {
    "1": "greyscale, but H&E tiles are RGB colour",
    "L": "greyscale, but H&E tiles are RGB colour",
    "P": "palette image, but tiles are RGB",
    "PA": "palette image with alpha, but tiles are RGB",
    "LA": "has an alpha channel, but tiles are plain RGB",
    "La": "has an alpha channel, but tiles are plain RGB",
    "RGBA": "has an alpha channel, but tiles are plain RGB",
    "RGBa": "has an alpha channel, but tiles are plain RGB",
    "RGBX": "has a fourth channel, but tiles are plain RGB",
    "CMYK": "CMYK, but tiles are RGB",
}


def is_featureless(tile: NDArray[np.uint8]) -> bool:
    """True for a near-constant tile: the spread of its grey levels is under `FEATURELESS`.

    Args:
      tile: uint8, shape (h, w, 3).
    """
    # A part of the pixels spreads no more about its mean than all of them do in sum, which tells
    # most tiles from blank ones by a sixteenth of the work.
    some = tile[::4, ::4] @ _LUMA
    if float(some.std()) * (3 * some.size / tile.size) ** 0.5 >= 1.01 * FEATURELESS:
        return False
    return float((tile @ _LUMA).std()) < FEATURELESS


def read_tile(path: Path, *, icc: Icc = "ignore") -> NDArray[np.uint8]:
    """Read one image file as uint8 RGB, shape (h, w, 3); `icc` as for `decode`.

    Raises:
      TileError: the file is missing, unreadable or breaks one of the rules above.
    """
    return decode(read_bytes(path), str(path), icc=icc)


def read_bytes(path: Path) -> bytes:
    """The bytes of an image file or of a member of a tar, not yet looked at.

    Raises:
      TileError: it is missing, no regular file, unreadable or over `MAX_FILE_BYTES`.
    """
    try:
        member = member_of(path)
        if member is not None:
            return read_member(path, *member, MAX_FILE_BYTES)
        row = row_of(path)
        if row is not None:
            return read_row(path, *row, MAX_FILE_BYTES)
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise TileError(str(path), "is a folder, not an image file. Give the files inside it.")
        if not stat.S_ISREG(status.st_mode):
            raise TileError(str(path), "is not a regular file. Give an image file.")
        if status.st_size > MAX_FILE_BYTES:
            raise TileError(
                str(path),
                f"the file has {status.st_size / 2**20:.0f} MiB; a tile may have "
                f"{MAX_FILE_BYTES // 2**20}. Cut it into tiles first.",
            )
        return path.read_bytes()
    except OSError as error:
        reason = error.strerror or str(error)
        raise TileError(
            str(path), f"cannot be read ({reason}). Check the path and its permissions."
        ) from error


def decode(data: bytes, name: str, *, icc: Icc = "ignore") -> NDArray[np.uint8]:
    """Decode the bytes of one image file as uint8 RGB, shape (h, w, 3).

    Args:
      data: the whole file.
      name: what to call it in an error.
      icc: what to do with a colour profile.

    Raises:
      TileError: the bytes break one of the rules above.
    """
    return decode_profiled(data, name, icc=icc)[0]


def decode_profiled(
    data: bytes, name: str, *, icc: Icc = "ignore"
) -> tuple[NDArray[np.uint8], bool]:
    """As `decode`, and whether the file has a colour profile under which its colours are others."""
    if not data:
        raise TileError(name, f"the file is empty (0 bytes). {_AGAIN}")
    reader = _reader(data)
    if reader is None:
        raise TileError(name, "is not a PNG, JPEG or TIFF image. Convert it to 8-bit RGB PNG.")
    if reader is PngImageFile:
        _check_png(data, name)
    with _naming_damage(name, "its header is damaged, or says zero pixels"):
        # The reader's class, not Image.open: that would print a size warning before we can refuse.
        image = reader(io.BytesIO(data), name)
    with image:
        _check_header(image, name)
        with _naming_damage(name, "truncated or damaged"):
            image.load()
        if image.mode != "RGB" or "transparency" in image.info:
            raise TileError(name, f"{_colour_rule(image)}. {_TO_RGB}")
        turned = 1 if reader is TiffImageFile else orientation(image.info.get("exif"))
        if turned != 1:
            raise TileError(name, f"is stored turned (EXIF orientation {turned}). {_UPRIGHT}")
        return in_colour(image, image.info.get("icc_profile"), name, icc)


@contextmanager
def _naming_damage(name: str, rule: str) -> Iterator[None]:
    """Turn whatever Pillow raises on malformed bytes, a dozen types, into one TileError."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        raise TileError(name, f"{rule}: {error}. {_AGAIN}") from error


def _reader(data: bytes) -> type[ImageFile] | None:
    for signature, reader in SIGNATURES.items():
        if data.startswith(signature):
            return reader
    return None


def _check_png(data: bytes, name: str) -> None:
    """What Pillow lets pass in a PNG: 16 bits a channel, a bad checksum, a missing end."""
    if len(data) < 33 or data[12:16] != b"IHDR":
        raise TileError(name, f"its header is damaged: no IHDR chunk. {_AGAIN}")
    if 0 in (int.from_bytes(data[16:20]), int.from_bytes(data[20:24])):
        raise TileError(name, f"has zero pixels. {_AGAIN}")
    if data[24] == 16:
        raise TileError(name, f"16 bits a channel, but tiles are 8-bit. {_TO_RGB}")
    position = 8
    view = memoryview(data)
    while True:
        end = position + 12 + int.from_bytes(view[position : position + 4])
        if end > len(data) or position + 12 > len(data):
            raise TileError(
                name, f"truncated: the file ends after {len(data)} bytes, inside a chunk. {_AGAIN}"
            )
        if zlib.crc32(view[position + 4 : end - 4]) != int.from_bytes(view[end - 4 : end]):
            raise TileError(name, f"damaged: a chunk's checksum is wrong. {_AGAIN}")
        if data[position + 4 : position + 8] == b"IEND":
            return
        position = end


def _check_header(image: ImageFile, name: str) -> None:
    width, height = image.size
    if max(width, height) > MAX_SIDE:
        raise TileError(
            name,
            f"{width}x{height} pixels; a tile may have {MAX_SIDE} a side. Cut it into tiles first.",
        )
    with _naming_damage(name, "its directory is damaged"):
        frames = int(getattr(image, "n_frames", 1))
        tags = image.tag_v2 if isinstance(image, TiffImageFile) else {}
        bits = max(tags.get(_TIFF_BITS, (8,)))
        stored = tags.get(_TIFF_ORIENTATION, 1)
    if frames > 1 or "mp" in image.info:  # "mp": the multi-picture segment of a JPEG
        raise TileError(name, "holds several pictures (frames). Save the one wanted as PNG.")
    if bits > 8:
        raise TileError(name, f"{bits} bits a channel, but tiles are 8-bit. {_TO_RGB}")
    if stored != 1:
        raise TileError(name, f"is stored turned (TIFF orientation {stored}). {_UPRIGHT}")


def _colour_rule(image: ImageFile) -> str:
    if "transparency" in image.info and image.mode == "RGB":
        return "has a transparent colour (alpha), but tiles are plain RGB"
    return _COLOUR_RULES.get(image.mode, f"colour mode {image.mode}, but tiles are RGB")


def encode_png(tile: NDArray[np.uint8], *, thorough: bool = False) -> bytes:
    """The tile as PNG bytes, without metadata.

    Args:
      tile: uint8, shape (h, w, 3).
      thorough: zlib's default level on adaptive filters, as most programs write; else quickly
        (`privgen.data.png`), a tenth larger.

    Raises:
      InputError: `tile` is not uint8 of shape (h, w, 3).
    """
    picture = _picture(tile)
    if thorough:
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        return buffer.getvalue()
    return png.encode(tile)


def encode_jpeg(tile: NDArray[np.uint8], quality: int) -> bytes:
    """The tile as JPEG bytes of `quality` 1 to 95, chroma halved (4:2:0), without metadata.

    Raises:
      InputError: `tile` is not uint8 of shape (h, w, 3).
    """
    buffer = io.BytesIO()
    _picture(tile).save(buffer, "JPEG", quality=quality, subsampling="4:2:0")
    return buffer.getvalue()


def read_coding(data: bytes, name: str) -> tuple[str, Coding | None]:
    """The kind of an image file and, of a JPEG, its coding: from the header, nothing is decoded.

    Colour channels halved in a way that cannot be written here count as halved both ways.

    Args:
      data: the whole file, or a JPEG's up to its pixels.
      name: what to call it in an error.

    Returns:
      "png", "jpeg" or "tiff", and the coding; None for the others, whatever they hold.

    Raises:
      TileError: no image of these kinds, or a damaged header.
    """
    reader = _reader(data)
    if reader is None:
        raise TileError(name, "is not a PNG, JPEG or TIFF image. Convert it to 8-bit RGB PNG.")
    if reader is not JpegImageFile:
        return ("png" if reader is PngImageFile else "tiff"), None
    with _naming_damage(name, "its header is damaged"), reader(io.BytesIO(data), name) as image:
        luma, *others = (tuple(image.quantization[key]) for key in sorted(image.quantization))
        known = get_sampling(image)
    sampling = SAMPLINGS[known] if 0 <= known < len(SAMPLINGS) else SAMPLINGS[-1]
    return "jpeg", Coding(luma=luma, chroma=others[0] if others else luma, sampling=sampling)


def recode(tile: NDArray[np.uint8], coding: Coding) -> NDArray[np.uint8]:
    """The tile as it comes back from a JPEG of this coding, same shape.

    Raises:
      InputError: `tile` is not uint8 of shape (h, w, 3).
    """
    buffer = io.BytesIO()
    _picture(tile).save(
        buffer,
        "JPEG",
        qtables=[list(coding.luma), list(coding.chroma)],
        subsampling=coding.sampling,
    )
    with JpegImageFile(io.BytesIO(buffer.getvalue())) as image:
        return np.array(image, dtype=np.uint8)


def write_png(path: Path, tile: NDArray[np.uint8]) -> None:
    """Write one tile as PNG, without metadata; `path` is replaced whole or not at all.

    The disk is not waited for: after a power cut the last tiles may be missing or empty, which
    the full decode at the next opening reports.

    Raises:
      InputError: `tile` is not uint8 of shape (h, w, 3).
      OutputError, DiskFullError: as `privgen.files.atomic_write`.
    """
    data = encode_png(tile)
    with atomic_write(path, durable=False) as stream:
        stream.write(data)


def resize(tiles: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Scale square tiles to `side`, antialiased.

    Args:
      tiles: uint8, shape (n, h, h, 3); a tile that is not square is refused, never cropped.
      side: pixels of the result; tiles that have it already come back as they are.

    Returns:
      uint8, shape (n, side, side, 3).

    Raises:
      InputError: the shape or the type is another, or `side` is not positive.

    Source: Pillow's bicubic filter widens with the scale when it shrinks, which avoids the
      aliasing of Parmar et al. 2022, "On aliased resizing and surprising subtleties in GAN
      evaluation", arXiv:2104.11222.
    """
    if tiles.dtype != np.uint8 or tiles.ndim != 4 or tiles.shape[3] != 3:
        raise InputError(
            f"tiles must be uint8 of shape (n, side, side, 3): got {tiles.dtype} of shape "
            f"{tiles.shape}. Give RGB tiles."
        )
    if side < 1:
        raise InputError(f"the side of a tile must be 1 pixel or more: got {side}. Give another.")
    count, height, width, _ = tiles.shape
    if height != width:
        raise InputError(
            f"tiles must be square: got {width}x{height} pixels. Cut squares; nothing is cropped "
            "here."
        )
    if height == side:
        return tiles
    resized = np.empty((count, side, side, 3), dtype=np.uint8)
    for row, tile in enumerate(tiles):
        scaled = Image.fromarray(tile).resize((side, side), Image.Resampling.BICUBIC)
        resized[row] = np.asarray(scaled)
    return resized


def resample(
    picture: NDArray[np.uint8], left: float, top: float, length: float, side: int
) -> NDArray[np.uint8]:
    """A square of a picture, scaled, antialiased as in `resize`.

    Pixels within `RESAMPLING_REACH` times the scale around the square have a part in it. Places are
    kept in single precision, so give a picture that is not much larger than the square.

    Args:
      picture: uint8, shape (h, w, 3).
      left, top: of the square, fractions of a pixel allowed; it lies inside.
      length: its side in the picture, pixels.
      side: of the result.

    Returns:
      uint8, shape (side, side, 3).

    Raises:
      InputError: `picture` is not uint8 of shape (h, w, 3).
    """
    box = (left, top, left + length, top + length)
    scaled = _picture(picture).resize((side, side), Image.Resampling.BICUBIC, box=box)
    return np.asarray(scaled)


def pixel_digest(tile: NDArray[np.uint8]) -> str:
    """SHA-256 over the shape and the RGB bytes, 64 hex digits: equal exactly for equal pixels."""
    digest = hashlib.sha256(f"{tile.dtype.str} {tile.shape} ".encode())
    digest.update(np.ascontiguousarray(tile).data)
    return digest.hexdigest()


def contact_sheet(tiles: NDArray[np.uint8], columns: int, gap: int = 2) -> NDArray[np.uint8]:
    """Lay tiles out row by row on white.

    Args:
      tiles: uint8, shape (n, h, w, 3), n at least 1.
      columns: tiles per row; the last row may be short.
      gap: white pixels between tiles.

    Returns:
      uint8, shape (rows * (h + gap) - gap, columns * (w + gap) - gap, 3).

    Raises:
      InputError: there is no tile, or `columns` or `gap` is out of range.
    """
    if len(tiles) == 0 or columns < 1 or gap < 0:
        raise InputError(
            f"a contact sheet needs tiles, a column and no negative gap: got {len(tiles)} tiles, "
            f"columns {columns}, gap {gap}. Give other values."
        )
    count, height, width, _ = tiles.shape
    rows = -(-count // columns)
    sheet = np.full(
        (rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, dtype=np.uint8
    )
    for position, tile in enumerate(tiles):
        row, column = divmod(position, columns)
        top, left = row * (height + gap), column * (width + gap)
        sheet[top : top + height, left : left + width] = tile
    return sheet


def _picture(tile: NDArray[np.uint8]) -> Image.Image:
    if tile.dtype != np.uint8 or tile.ndim != 3 or tile.shape[2] != 3 or 0 in tile.shape:
        raise InputError(
            f"a tile to write must be uint8 of shape (h, w, 3): got {tile.dtype} of shape "
            f"{tile.shape}. Convert it first."
        )
    return Image.fromarray(np.ascontiguousarray(tile))

"""What a TIFF declares of its images, read before any library asks for the memory it declares.

Classic and BigTIFF, either byte order (TIFF 6.0, Adobe 1992; BigTIFF, 2007). Only the directories
are read, never a pixel, and of their tags only those that say how large, of which kind and how
turned an image is; of the text only the micrometres per pixel that OME-XML states leave. What
cannot be followed ends the walk: such files the reader refuses by itself.

Limits hold for tiled images, the only ones that are read as a slide.
"""

import os
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

MAX_SIDE = 2**20
"""Longest side of a level, pixels: half a metre at .5 um."""

MAX_TILE_BYTES = 2**27
"""Largest stored tile once decoded, 128 MiB; scanners write 0.2 to 4."""

MAX_DIRECTORIES = 4096
"""Most images in one file."""

MAX_ENTRIES = 4096
"""Most tags of one image."""

MAX_TEXT = 2**20
"""Bytes of a description that are looked at."""

_BITS = frozenset({1, 2, 4, 8, 16})
_NAMES = {
    254: "subfile",
    256: "width",
    257: "height",
    258: "bits",
    270: "text",
    274: "orientation",
    277: "samples",
    322: "tile_width",
    323: "tile_height",
    324: "tile_offsets",
    330: "sub_directories",
    339: "sample_format",
}
_WHOLE = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}  # types of TIFF that count
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}
_SIZES |= {13: 4, 16: 8, 17: 8, 18: 8}
_TEXT = 2  # the type of a tag that holds text
_FEW = 64
"""Values of a tag that are looked at; samples have as many."""

_LENGTHS = {"nm": 1e-3, "µm": 1.0, "μm": 1.0, "um": 1.0, "mm": 1e3}


@dataclass(frozen=True, kw_only=True)
class Directory:
    """One image of a TIFF.

    Attributes:
      width, height: pixels.
      tile_width, tile_height: of a stored tile, pixels; 0 where the image is not tiled.
      bits, sample_format: of each sample; 1 stands for whole numbers, 3 for floats.
      samples: a pixel.
      orientation: 1 where rows go down and columns to the right, 2 to 8 where turned or mirrored.
      tiles_listed: places of stored tiles that the file really holds.
      reduced: it is a smaller version of another image.
      sub_directories: images below it that stand outside the chain, as OME-TIFF keeps its levels.
      mpp: micrometres per pixel of the first image in OME-XML, where it states them.
    """

    width: int = 0
    height: int = 0
    tile_width: int = 0
    tile_height: int = 0
    bits: tuple[int, ...] = (1,)
    sample_format: tuple[int, ...] = (1,)
    samples: int = 1
    orientation: int = 1
    tiles_listed: int = 0
    reduced: bool = False
    sub_directories: int = 0
    mpp: tuple[float, float] | None = None

    @property
    def tiled(self) -> bool:
        """Whether a reader of slides could take it for a level."""
        return self.tile_width > 0 or self.tile_height > 0

    @property
    def tile_bytes(self) -> int:
        """Of one stored tile, decoded, or as four bytes a pixel where that is more."""
        bits = max(self.bits) * self.samples
        return self.tile_width * self.tile_height * max(4, -(-bits // 8))


def read_directories(path: Path) -> tuple[Directory, ...]:
    """The images of a TIFF, in the order of the chain; none where the file is no TIFF.

    At most `MAX_DIRECTORIES` + 1 are read.
    """
    try:
        with path.open("rb") as stream:
            return tuple(_walk(stream, os.fstat(stream.fileno()).st_size))
    except OSError:
        return ()


def refusal(directories: Sequence[Directory]) -> str | None:
    """Why a TIFF of such images may not be opened, as a rule without any name; None if it may."""
    if len(directories) > MAX_DIRECTORIES:
        return f"holds more than {MAX_DIRECTORIES:,} images; a slide has a few. Export it again."
    for one in directories:
        rule = _refused(one) if one.tiled else None
        if rule:
            return rule
    return None


def _refused(one: Directory) -> str | None:
    if max(one.width, one.height) > MAX_SIDE:
        return (
            f"declares {one.width}x{one.height} pixels; the longest side is {MAX_SIDE:,}. Export "
            "it again, or in parts."
        )
    if one.tile_bytes > MAX_TILE_BYTES:
        return (
            f"declares stored tiles of {one.tile_width}x{one.tile_height} pixels, "
            f"{one.tile_bytes:,} bytes each; the most is {MAX_TILE_BYTES:,}. Export it again with "
            "tiles of 256 to 1,024 pixels per side."
        )
    if not {*one.sample_format} <= {1, 4} or not {*one.bits} <= _BITS:
        floats = 3 in one.sample_format
        kind = "floating-point numbers" if floats else f"signed or {max(one.bits)}-bit numbers"
        return (
            f"stores its pixels as {kind}, which are no colours of a scan. Export it again as "
            "8-bit RGB."
        )
    if 2 <= one.orientation <= 8:
        return (
            f"is stored turned or mirrored (TIFF orientation {one.orientation}), and each of its "
            "tiles would be turned in its place. Export it again upright, with orientation 1."
        )
    if one.tile_width < 1 or one.tile_height < 1 or one.width < 1 or one.height < 1:
        return "declares an image or tile without pixels: damaged. Copy or export it again."
    needed = -(-one.width // one.tile_width) * -(-one.height // one.tile_height)
    if one.tiles_listed < needed:
        return (
            f"declares {needed:,} stored tiles and lists {one.tiles_listed:,}: damaged. Copy or "
            "export it again."
        )
    return None


@dataclass(frozen=True)
class _Form:
    """How numbers are written in a file."""

    order: str
    big: bool
    size: int  # of the file

    def numbers(self, kind: str, data: bytes) -> tuple[int, ...]:
        return struct.unpack(f"{self.order}{len(data) // struct.calcsize(kind)}{kind}", data)


def _walk(stream: BinaryIO, size: int) -> list[Directory]:
    head = stream.read(16)
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None or len(head) < 16:
        return []
    magic = struct.unpack(f"{order}H", head[2:4])[0]
    if magic not in (42, 43):
        return []
    form = _Form(order, magic == 43, size)
    at = struct.unpack(f"{order}Q", head[8:16])[0] if form.big else form.numbers("I", head[4:8])[0]
    found: list[Directory] = []
    seen: set[int] = set()
    while 0 < at < size and at not in seen and len(found) <= MAX_DIRECTORIES:
        seen.add(at)
        read = _directory(stream, form, at)
        if read is None:
            break
        one, at = read
        found.append(one)
    return found


def _directory(stream: BinaryIO, form: _Form, at: int) -> tuple[Directory, int] | None:
    """The image described at a place, and the place of the next; None where there is none."""
    counter, entry, pointer = ("Q", 20, "Q") if form.big else ("H", 12, "I")
    stream.seek(at)
    raw = stream.read(struct.calcsize(counter))
    if len(raw) < struct.calcsize(counter):
        return None
    count = form.numbers(counter, raw)[0]
    if not 1 <= count <= MAX_ENTRIES:
        return None
    raw = stream.read(count * entry + struct.calcsize(pointer))
    if len(raw) < count * entry:
        return None
    after = raw[count * entry :]
    following = form.numbers(pointer, after)[0] if len(after) == struct.calcsize(pointer) else 0
    tags: dict[str, tuple[int, bytes]] = {}
    for start in range(0, count * entry, entry):
        tag, kind = form.numbers("H", raw[start : start + 4])
        name = _NAMES.get(tag)
        if name and kind in _SIZES and (kind == _TEXT) == (name == "text"):
            middle = start + 4 + struct.calcsize(pointer)
            many = form.numbers(pointer, raw[start + 4 : middle])[0]
            tags[name] = _value(stream, form, kind, many, raw[middle : start + entry])
    return _image(form, tags), following


def _value(stream: BinaryIO, form: _Form, kind: int, many: int, here: bytes) -> tuple[int, bytes]:
    """How many values of a tag lie in the file, and the first of them, four or eight bytes each."""
    size = _SIZES[kind]
    most = MAX_TEXT if kind == _TEXT else _FEW
    if many * size <= len(here):
        data = here[: many * size]
    else:
        at = form.numbers("Q" if form.big else "I", here)[0]
        if at + many * size > form.size:
            return max(0, form.size - at) // size, b""
        stream.seek(at)
        data = stream.read(min(many, most) * size)
    if kind in _WHOLE:
        numbers = form.numbers(_WHOLE[kind], data[: len(data) // size * size])
        return many, struct.pack(f"<{len(numbers)}Q", *numbers)
    return many, data if kind == _TEXT else b""


def _image(form: _Form, tags: dict[str, tuple[int, bytes]]) -> Directory:
    def whole(name: str) -> tuple[int, ...]:
        data = tags.get(name, (0, b""))[1]
        return struct.unpack(f"<{len(data) // 8}Q", data) if name != "text" else ()

    def first(name: str, default: int) -> int:
        return next(iter(whole(name)), default)

    return Directory(
        width=first("width", 0),
        height=first("height", 0),
        tile_width=first("tile_width", 0),
        tile_height=first("tile_height", 0),
        bits=whole("bits") or (1,),
        sample_format=whole("sample_format") or (1,),
        samples=first("samples", 1),
        orientation=first("orientation", 1),
        tiles_listed=tags.get("tile_offsets", (0, b""))[0],
        reduced=bool(first("subfile", 0) & 1),
        sub_directories=tags.get("sub_directories", (0, b""))[0],
        mpp=_ome_micrometres(tags.get("text", (0, b""))[1]),
    )


def _ome_micrometres(text: bytes) -> tuple[float, float] | None:
    """Micrometres a pixel of the first image of OME-XML; two numbers, or nothing."""
    if b"<OME" not in text[:4096]:
        return None
    found = re.search(rb"<Pixels\s([^>]{1,4096})>", text)
    if found is None:
        return None
    sides = []
    for axis in (b"X", b"Y"):
        stated = re.search(rb'PhysicalSize%s="([0-9.eE+-]{1,32})"' % axis, found[1])
        unit = re.search(rb'PhysicalSize%sUnit="([^"]{1,8})"' % axis, found[1])
        scale = _LENGTHS.get(unit[1].decode(errors="replace") if unit else "µm")
        try:
            sides.append(float(stated[1]) * scale if stated and scale else 0.0)
        except ValueError:
            return None
    return (sides[0], sides[1]) if min(sides) > 0 else None

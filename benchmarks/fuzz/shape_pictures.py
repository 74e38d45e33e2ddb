"""Changes of PNG, JPEG, TIFF and DICOM whose checksums and lengths stay right."""

import random
import struct
import zlib
from collections.abc import Sequence

from benchmarks.fuzz import by_bytes

_SIDES = (0, 1, 7, 8191, 8192, 8193, 65535, 2**16, 2**20, 2**31 - 1, 2**32 - 1)


def chunk(kind: bytes, body: bytes) -> bytes:
    """A chunk of a PNG with the checksum that fits."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(draw: random.Random, data: bytes) -> bytes:
    """Another PNG: chunks changed, doubled, dropped, exchanged, added."""
    chunks = []
    at = 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4])
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    for _ in range(draw.choice((1, 1, 2))):
        at = draw.randrange(len(chunks))
        kind, body = chunks[at]
        way = draw.randrange(8)
        if way == 0:
            chunks.insert(at, (kind, body))
        elif way == 1 and len(chunks) > 1:
            del chunks[at]
        elif way == 2:
            other = draw.randrange(len(chunks))
            chunks[at], chunks[other] = chunks[other], chunks[at]
        elif way == 3:
            _, header = chunks[0]
            sides = struct.pack(">II", draw.choice(_SIDES), draw.choice(_SIDES))
            chunks[0] = (b"IHDR", sides + header[8:])
        elif way == 4:
            _, header = chunks[0]
            kinds = bytes(draw.choice((0, 1, 2, 3, 4, 6, 8, 16, 255)) for _ in range(5))
            chunks[0] = (b"IHDR", header[:8] + kinds)
        elif way == 5:
            chunks.insert(draw.randrange(1, len(chunks) + 1), _added(draw))
        else:
            changed = by_bytes.changed(draw, body, [one for _, one in chunks if one] or [b"x"])
            chunks[at] = (kind, changed if body else b"x")
    return data[:8] + b"".join(chunk(kind, body) for kind, body in chunks)


def _added(draw: random.Random) -> tuple[bytes, bytes]:
    packed = zlib.compress(bytes(draw.choice((10, 2**20, 8 * 2**20))))
    return draw.choice(
        (
            (b"iCCP", b"p\0\0" + packed),
            (b"zTXt", b"k\0\0" + packed),
            (b"iTXt", b"k\0\1\0\0\0" + packed),
            (b"tEXt", b"k\0" + b"x" * 70_000),
            (b"eXIf", b"II*\0" + draw.randbytes(40)),
            (b"tRNS", draw.randbytes(draw.choice((1, 6, 256)))),
            (b"PLTE", draw.randbytes(draw.choice((3, 768, 5)))),
            (b"acTL", struct.pack(">II", draw.choice((1, 2, 2**31)), 0)),
            (b"pHYs", struct.pack(">IIB", 0, 0, 1)),
            (b"gAMA", struct.pack(">I", 0)),
            (b"IDAT", packed),
            (b"IEND", b""),
        )
    )


def jpeg(draw: random.Random, data: bytes) -> bytes:
    """Another JPEG: segments changed, doubled, dropped, added."""
    segments: list[bytes] = []
    at = 2
    while at + 4 <= len(data) and data[at + 1] != 0xDA:
        length = 2 + int.from_bytes(data[at + 2 : at + 4])
        segments.append(data[at : at + length])
        at += length
    scan = data[at:]
    for _ in range(draw.choice((1, 1, 2))):
        at = draw.randrange(len(segments))
        one = segments[at]
        way = draw.randrange(7)
        if way == 0:
            segments.insert(at, one)
        elif way == 1 and len(segments) > 1:
            del segments[at]
        elif way == 2:
            frames = [n for n, other in enumerate(segments) if other[1] in (0xC0, 0xC1, 0xC2)]
            if frames:
                frame = segments[frames[0]]
                sides = struct.pack(">HH", *(draw.choice(_SIDES) % 2**16 for _ in range(2)))
                segments[frames[0]] = frame[:5] + sides + frame[9:]
        elif way == 3:
            body = draw.choice(
                (
                    b"Exif\0\0II*\0" + draw.randbytes(60),
                    b"ICC_PROFILE\0\1\1" + draw.randbytes(200),
                    b"MPF\0" + draw.randbytes(40),
                    b"Adobe" + draw.randbytes(7),
                    b"x" * 60_000,
                )
            )
            marker = draw.choice((0xE0, 0xE1, 0xE2, 0xEE, 0xFE, 0xDB, 0xC4, 0xDD, 0xC0, 0xC2))
            segments.insert(at, bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body)
        elif way == 4:
            scan = by_bytes.changed(draw, scan, [data])
        else:
            body = by_bytes.changed(draw, one[4:] or b"x", [two[4:] or b"x" for two in segments])
            body = body[:60_000]
            segments[at] = one[:2] + struct.pack(">H", len(body) + 2) + body
    return data[:2] + b"".join(segments) + scan


_VALUES = (0, 1, 2, 3, 4, 5, 7, 8, 16, 32, 64, 255, 4096, 65535, 65536, 2**20, 2**31 - 1, 2**32 - 1)
_TAGS = (
    254,
    256,
    257,
    258,
    259,
    262,
    266,
    270,
    273,
    274,
    277,
    278,
    279,
    282,
    284,
    296,
    317,
    320,
    322,
)
_TAGS += (323, 324, 325, 330, 338, 339, 347, 513, 530, 532, 700, 33432, 34665, 34675, 65426)


def tiff(draw: random.Random, data: bytes) -> bytes:
    """Another TIFF, classic and little endian: entries of its directories changed."""
    made = bytearray(data)
    (first,) = struct.unpack_from("<I", data, 4)
    places, at = [], first
    while 0 < at < len(data) - 2 and len(places) < 5000:
        (count,) = struct.unpack_from("<H", data, at)
        places += [(at, at + 2 + 12 * n) for n in range(count)]
        end = at + 2 + 12 * count
        (following,) = struct.unpack_from("<I", data, end) if end + 4 <= len(data) else (0,)
        at = following if following > at else 0
    for _ in range(draw.choice((1, 1, 2, 3))):
        directory, entry = draw.choice(places)
        way = draw.randrange(7)
        if way == 0:
            struct.pack_into("<H", made, entry, draw.choice(_TAGS))
        elif way == 1:
            struct.pack_into(
                "<H", made, entry + 2, draw.choice((0, 1, 2, 3, 4, 5, 6, 7, 12, 13, 16, 18))
            )
        elif way == 2:
            struct.pack_into("<I", made, entry + 4, draw.choice(_VALUES))
        elif way == 3:
            (count,) = struct.unpack_from("<H", data, directory)
            where = draw.choice((0, 8, first, directory, len(data) - 1, 2**32 - 1))
            if directory + 6 + 12 * count <= len(made):
                struct.pack_into("<I", made, directory + 2 + 12 * count, where)
        elif way == 4:
            struct.pack_into("<H", made, directory, draw.choice((0, 1, 2, 30, 4096, 65535)))
        else:
            struct.pack_into(
                "<I", made, entry + 8, draw.choice((*_VALUES, len(data) - 1, directory))
            )
    return bytes(made)


def element(tag: tuple[int, int], kind: bytes, body: bytes, length: int | None = None) -> bytes:
    """An element of a DICOM data set, explicit little endian."""
    said = len(body) if length is None else length
    if kind in (b"SQ", b"OB", b"UN", b"UT"):
        return struct.pack("<HH", *tag) + kind + struct.pack("<HI", 0, said % 2**32) + body
    return struct.pack("<HH", *tag) + kind + struct.pack("<H", said % 2**16) + body


_ITEM, _ITEM_END, _END = (struct.pack("<HH", 0xFFFE, last) for last in (0xE000, 0xE00D, 0xE0DD))
_OPEN = struct.pack("<I", 2**32 - 1)


def dicom(draw: random.Random, data: bytes) -> bytes:
    """Another DICOM header: elements before the series that nest, lie or repeat."""
    added: Sequence[bytes] = []
    way = draw.randrange(5)
    if way == 0:
        depth = draw.choice((1, 8, 15, 16, 17, 500))
        start = element((8, 0x1140), b"SQ", b"", 2**32 - 1) + _ITEM + _OPEN
        ends = _ITEM_END + bytes(4) + _END + bytes(4)
        added = [start * depth, ends * draw.choice((0, 1, depth - 1, depth))]
    elif way == 1:
        added = [
            element(
                (8, 0x60), draw.choice((b"CS", b"OB", b"xx", b"UN")), b"SM", draw.choice(_VALUES)
            )
        ]
    elif way == 2:
        added = [element((8, 0x60), b"CS", b"SM")] * draw.choice((2, 20, 20_000))
    elif way == 3:
        uid = draw.choice(
            (b"", b"1" * 64, b"1" * 65, b"1.2\0", b"1.2 ", b"../x", b"\xff\xfe", b"1.2\x1b")
        )
        added = [element((0x20, 0xE), draw.choice((b"UI", b"OB", b"SQ")), uid)]
    else:
        added = [
            _ITEM + _OPEN * draw.choice((1, 300)),
            element((0xFFFF, 0xFFFF), b"UN", b"", 2**32 - 1),
        ]
    where = 132 if draw.random() < 0.3 else data.find(b"\x20\0\x0e\0")
    where = where if where >= 0 else 132
    return data[:where] + b"".join(added) + data[where:]

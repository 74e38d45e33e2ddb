"""Which series a DICOM file belongs to, and nothing else of it.

A slide in DICOM is a series of files, one or more a level (PS3.3 A.32.8), which OpenSlide opens
from any of them. Told apart from other files by the prefix of PS3.10; the data set is walked,
explicit or implicit, little endian, up to the tag that is looked for. No other value is kept.
"""

import re
import struct
from pathlib import Path
from typing import BinaryIO

_SERIES = (0x0020, 0x000E)
_SYNTAX = (0x0002, 0x0010)
_ITEM, _ITEM_END, _SEQUENCE_END = (0xFFFE, 0xE000), (0xFFFE, 0xE00D), (0xFFFE, 0xE0DD)
_IMPLICIT = b"1.2.840.10008.1.2"
_LONG = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR"})
_LONG |= {b"UT", b"UV"}
_OPEN = 0xFFFFFFFF  # a length that is told by what ends it
_UID = re.compile(rb"[0-9.]{1,64}")

MAX_BYTES = 2**20
"""How far into a file its series is looked for."""

MAX_DEPTH = 16
"""Sequences within one another."""


def series_of(path: Path) -> str | None:
    """The series per file belongs to; None where it is no DICOM file, or names none."""
    try:
        with path.open("rb") as stream:
            if stream.read(132)[128:] != b"DICM":
                return None
            return _found(stream)
    except (OSError, struct.error, OverflowError):
        return None


def is_dicom(path: Path) -> bool:
    """Whether a file says that it is DICOM; False where it cannot be read."""
    try:
        with path.open("rb") as stream:
            return stream.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _found(stream: BinaryIO) -> str | None:
    """Walk the elements in their order: the header's are explicit, the others as it says."""
    explicit = implicit = False
    while stream.tell() < MAX_BYTES:
        start = stream.tell()
        raw = stream.read(4)
        if len(raw) < 4:
            return None
        tag = struct.unpack("<HH", raw)
        explicit = tag[0] == 2 or not implicit
        length = _length(stream, explicit)
        if tag > _SERIES or length is None:
            return None
        if tag == _SERIES:
            value = stream.read(min(length, 64)).rstrip(b"\0 ")
            return value.decode() if _UID.fullmatch(value) else None
        if tag == _SYNTAX:
            implicit = stream.read(min(length, 64)).rstrip(b"\0 ") == _IMPLICIT
        elif length == _OPEN:
            if not _skip(stream, explicit, 0):
                return None
        else:
            stream.seek(length, 1)
        if stream.tell() <= start:
            return None
    return None


def _length(stream: BinaryIO, explicit: bool) -> int | None:
    """Bytes of the value that follows a tag."""
    if not explicit:
        return int(struct.unpack("<I", stream.read(4))[0])
    kind = stream.read(2)
    if not kind.isalpha() or not kind.isupper():
        return None
    if kind in _LONG:
        return int(struct.unpack("<2xI", stream.read(6))[0])
    return int(struct.unpack("<H", stream.read(2))[0])


def _skip(stream: BinaryIO, explicit: bool, depth: int) -> bool:
    """Pass a sequence whose end is marked; False where it is damaged."""
    if depth >= MAX_DEPTH:
        return False
    while stream.tell() < MAX_BYTES:
        tag, length = struct.unpack("<HH", stream.read(4)), struct.unpack("<I", stream.read(4))[0]
        if tag == _SEQUENCE_END:
            return True
        if tag != _ITEM:
            return False
        if length != _OPEN:
            stream.seek(length, 1)
        elif not _skip_item(stream, explicit, depth + 1):
            return False
    return False


def _skip_item(stream: BinaryIO, explicit: bool, depth: int) -> bool:
    """Pass an item whose end is marked; False where it is damaged."""
    while stream.tell() < MAX_BYTES:
        tag = struct.unpack("<HH", stream.read(4))
        if tag == _ITEM_END:
            stream.read(4)
            return True
        length = _length(stream, explicit)
        if length is None or (length == _OPEN and not _skip(stream, explicit, depth)):
            return False
        if length != _OPEN:
            stream.seek(length, 1)
    return False

"""Changes of a file that know nothing of its format, save where a number may stand."""

import random
import re
import struct
from collections.abc import Callable, Sequence

_NUMBERS = (
    0,
    1,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0xFFFF,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**63 - 1,
    2**64 - 1,
)
_DIGITS = re.compile(rb"\d+")
_TEXTS = (
    *(b"-1", b"0", b"9" * 20, b"9" * 400, b"1e999", b"NaN", b"-0", b"1_0", b"00", b"0x10", b"1.5"),
    *(b"9" * 5000, "٣".encode(), b"4294967296", b"18446744073709551616"),
)


def changed(draw: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """One to four changes in a row; `others` are valid files to splice with."""
    for _ in range(draw.choice((1, 1, 1, 2, 2, 4))):
        if data:
            data = draw.choice(_WAYS)(draw, data, others)
    return data


def _at(draw: random.Random, data: bytes) -> int:
    """A place; as often near the start or the end, where headers and directories stand."""
    near = min(len(data), 256)
    way = draw.random()
    if way < 0.3:
        return draw.randrange(near)
    if way < 0.5:
        return len(data) - 1 - draw.randrange(near)
    return draw.randrange(len(data))


def _flip(draw: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    made = bytearray(data)
    for _ in range(draw.choice((1, 1, 1, 3, 16))):
        made[_at(draw, data)] ^= 1 << draw.randrange(8)
    return bytes(made)


def _run(draw: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    at, length = _at(draw, data), draw.choice((1, 2, 4, 8, 64))
    value = draw.choice((b"\0", b"\xff", draw.randbytes(1)))
    return data[:at] + (value * length)[: len(data) - at] + data[at + length :]


def _cut(draw: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    return data[: _at(draw, data)]


def _drop(draw: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    at = _at(draw, data)
    return data[:at] + data[at + draw.choice((1, 2, 4, 16, 512)) :]


def _insert(draw: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    at = _at(draw, data)
    return data[:at] + draw.randbytes(draw.choice((1, 2, 4, 16, 512))) + data[at:]


def _repeat(draw: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    at = _at(draw, data)
    block = data[at : at + draw.choice((1, 12, 64, 512, 4096))]
    return data[:at] + block * draw.choice((2, 3, 50)) + data[at + len(block) :]


def _splice(draw: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    other = draw.choice(others) if others else data
    if draw.random() < 0.5:
        return data[: _at(draw, data)] + other[draw.randrange(len(other) + 1) :]
    at, start = _at(draw, data), draw.randrange(len(other) + 1)
    block = other[start : start + draw.choice((4, 16, 64, 512))]
    return data[:at] + block + data[at + len(block) :]


def _number(draw: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """A field of 1 to 8 bytes, at a border where such fields stand, set to an extreme."""
    width = draw.choice((1, 2, 4, 8))
    at = _at(draw, data)
    at -= at % draw.choice((1, 2, width))
    value = draw.choice(_NUMBERS) % 2 ** (8 * width)
    field = value.to_bytes(width, draw.choice(("little", "big")))
    return data[:at] + field[: len(data) - at] + data[at + width :]


def _length(draw: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """A field that may be a length or an offset, for it lies within the file, made another."""
    order = draw.choice("<>")
    for _ in range(40):
        at = _at(draw, data)
        if at + 4 <= len(data):
            (value,) = struct.unpack_from(f"{order}I", data, at)
            if 0 < value <= len(data):
                choices = (value - 1, value + 1, value * 2, 0, len(data), len(data) + 1, 2**31)
                other = struct.pack(f"{order}I", draw.choice(choices) % 2**32)
                return data[:at] + other + data[at + 4 :]
    return _number(draw, data, others)


def _written(draw: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """A number in digits, made another text."""
    found = list(_DIGITS.finditer(data))
    if not found:
        return _flip(draw, data, others)
    one = draw.choice(found)
    return data[: one.start()] + draw.choice(_TEXTS) + data[one.end() :]


_WAYS: Sequence[Callable[[random.Random, bytes, Sequence[bytes]], bytes]] = (
    *(_flip, _flip, _run, _cut, _drop, _insert, _repeat, _splice, _number, _number, _length),
    _written,
)

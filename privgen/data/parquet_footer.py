"""What the directory of a Parquet file says of its row groups, read here and not by Arrow.

Arrow's Python classes of row groups and columns turn no C++ exception into a Python one: a
directory that contradicts itself, such as one with a histogram of the wrong length, ends the whole
process. So the few numbers that limits are held against are read from the bytes: rows of each
group, and what each of its columns takes unpacked.

Source: the Thrift compact protocol, and parquet.thrift of Apache Parquet 2.11: FileMetaData.4
row_groups; RowGroup.1 columns, .3 num_rows; ColumnChunk.3 meta_data; ColumnMetaData.3
path_in_schema, .6 total_uncompressed_size.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from privgen import limits

_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(1, 13)
_UUID = 13
_FIXED = {_BYTE: 1, _DOUBLE: 8, _UUID: 16}
_DEEPEST = 16


@dataclass(frozen=True)
class Group:
    """One row group.

    Attributes:
      rows: how many it says it has.
      unpacked: bytes of its columns once they are unpacked, by name; nested ones with points.
    """

    rows: int
    unpacked: Mapping[str, int]


def read_groups(path: Path) -> tuple[Group, ...]:
    """The row groups of a file that Arrow has opened.

    Raises:
      OSError: it cannot be read.
      TooLargeError: its directory has more values than the limit.
      ValueError: its directory is damaged.
    """
    with path.open("rb") as stream:
        length = stream.seek(0, 2)
        stream.seek(max(0, length - 8))
        size = int.from_bytes(stream.read(4), "little")
        if size > min(limits.FOOTER_BYTES, length - 8):
            raise ValueError("its directory is larger than the file")
        stream.seek(length - 8 - size)
        walk = _Walk(stream.read(size))
    groups: list[Group] = []
    for field, kind in walk.fields():
        if field == 4 and kind == _LIST:
            groups += walk.each(lambda: _group(walk))
        else:
            walk.skip(kind)
    return tuple(groups)


def _group(walk: "_Walk") -> Group:
    rows = 0
    unpacked: dict[str, int] = {}
    for field, kind in walk.fields():
        if field == 1 and kind == _LIST:
            for name, count in walk.each(lambda: _chunk(walk)):
                unpacked[name] = unpacked.get(name, 0) + max(0, count)
        elif field == 3 and kind == _I64:
            rows = walk.signed()
        else:
            walk.skip(kind)
    return Group(rows, unpacked)


def _chunk(walk: "_Walk") -> tuple[str, int]:
    said = ("", 0)
    for field, kind in walk.fields():
        if field == 3 and kind == _STRUCT:
            said = _column(walk)
        else:
            walk.skip(kind)
    return said


def _column(walk: "_Walk") -> tuple[str, int]:
    name, count = "", 0
    for field, kind in walk.fields():
        if field == 3 and kind == _LIST:
            name = ".".join(part.decode(errors="replace") for part in walk.each(walk.binary))
        elif field == 6 and kind == _I64:
            count = walk.signed()
        else:
            walk.skip(kind)
    return name, count


class _Walk:
    """Goes through values of the compact protocol, each once."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at, self._left = data, 0, limits.FOOTER_VALUES

    def _count(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise limits.TooLargeError(
                f"the directory of a table may have {limits.FOOTER_VALUES:,} values and has more"
            )

    def _byte(self) -> int:
        if self._at >= len(self._data):
            raise ValueError("the directory ends early")
        self._at += 1
        return self._data[self._at - 1]

    def _whole(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self._byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise ValueError("a number has too many bytes")

    def signed(self) -> int:
        """A whole number."""
        value = self._whole()
        return (value >> 1) ^ -(value & 1)

    def binary(self) -> bytes:
        """A text."""
        self._pass(length := self._whole())
        return self._data[self._at - length : self._at]

    def _pass(self, length: int) -> None:
        if length > len(self._data) - self._at:
            raise ValueError("the directory ends early")
        self._at += length

    def fields(self) -> Iterator[tuple[int, int]]:
        """Number and type of each field of a structure; whoever takes one has to read its value."""
        number = 0
        while head := self._byte():
            self._count()
            number = number + (head >> 4) if head >> 4 else self.signed()
            yield number, head & 15

    def each(self, read: Callable[[], Any]) -> Iterator[Any]:
        """What `read` makes of each value of a list."""
        count, _ = self._list()
        for _ in range(count):
            self._count()
            yield read()

    def _list(self) -> tuple[int, int]:
        head = self._byte()
        return (self._whole() if head >> 4 == 15 else head >> 4), head & 15

    def skip(self, kind: int, depth: int = 0, *, inside: bool = False) -> None:
        """Pass a value; `inside` a list or map, where a truth value is a byte."""
        self._count()
        if depth > _DEEPEST:
            raise ValueError("the directory is nested too deep")
        if kind in (_TRUE, _FALSE):
            self._pass(int(inside))
        elif kind in _FIXED:
            self._pass(_FIXED[kind])
        elif kind in (_I16, _I32, _I64):
            self._whole()
        elif kind == _BINARY:
            self._pass(self._whole())
        elif kind in (_LIST, _SET):
            count, inner = self._list()
            for _ in range(count):
                self.skip(inner, depth + 1, inside=True)
        elif kind == _MAP:
            count = self._whole()
            kinds = self._byte() if count else 0
            for _ in range(count):
                self.skip(kinds >> 4, depth + 1, inside=True)
                self.skip(kinds & 15, depth + 1, inside=True)
        elif kind == _STRUCT:
            for _, inner in self.fields():
                self.skip(inner, depth + 1)
        else:
            raise ValueError("the directory holds a value of no known type")

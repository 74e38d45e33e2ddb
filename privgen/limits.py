"""What a file from outside may cost: the most bytes, entries, depth and expansion of each kind.

Every limit is held against what a file says of itself (its size, a header, a directory) before
memory is asked for; SECURITY.md has the same table in words. A file at its limit is read, one past
it is refused in one line. What comes from a file is shown in a message by `shown`, never whole.
"""

import io
import reprlib
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MIB = 2**20
GIB = 2**30

TABLE_BYTES = 1 * GIB
"""Largest CSV, and the most that the columns of a Parquet table take once they are unpacked."""

TABLE_ROWS = 2_000_000
"""Most rows of a table: each becomes a record in memory."""

TABLE_COLUMNS = 1000
"""Most columns of a table."""

CELL_BYTES = 2**17
"""Longest cell of a table: what Python's reader of CSV takes."""

LINE_CHARACTERS = 8 * CELL_BYTES
"""Longest line of a CSV."""

GROUP_BYTES = 1 * GIB
"""Most bytes of pictures in a row group of a Parquet file, and of such groups in memory."""

FOOTER_BYTES = 64 * MIB
"""Largest directory at the end of a Parquet file."""

FOOTER_VALUES = 4_000_000
"""Most values in it; a column of a row group has about forty."""

PATH_BYTES = 4096
"""Longest path of a tile, as of the operating system."""

ROWS_A_BYTE = 4
"""Most rows a byte of a Parquet file: every row has a path of its own, which packs no smaller."""

ARCHIVE_MEMBERS = 1000
"""Most members of an archive of arrays."""

DIRECTORY_BYTES = 4 * MIB
"""Largest directory of a zip archive, and the most that is read of one at a time."""

ARRAY_HEADER_BYTES = 4096
"""Longest header of an array; NumPy's own have 118 bytes."""

IDS_BYTES = 256 * MIB
"""Largest array of labels, patients or slides."""

ID_BYTES = 4096
"""Longest text in such an array, as stored."""

PIXELS_BYTES = 4 * GIB
"""Most pixels of a set that is kept in memory."""

RATIO = 100
"""Most bytes that a packed one may become, in members larger than `RATIO_FREE`; tissue reaches
about 10."""

RATIO_FREE = 64 * MIB
"""Members up to this size may be packed as tightly as they like."""

TAR_HEADER_BYTES = 1 * MIB
"""Longest name or extended header of a tar."""

TAR_MEMBERS = 100_000
"""Most members of a tar; a shard has a few thousand."""

ICC_BYTES = 16 * MIB
"""Largest colour profile of an image that is applied."""

TEXT_BYTES = 1 * MIB
"""Largest configuration or policy, and label beside a picture."""

JSON_BYTES = 256 * MIB
"""Largest JSON document: a report, a ledger."""

JSON_DEPTH = 64
"""Deepest nesting of a JSON or TOML document."""

DIGITS = 300
"""Longest number in such a document."""

CHECKPOINT_BYTES = 16 * GIB
"""Largest checkpoint or generator file."""

CHECKPOINT_MEMBERS = 100_000
"""Most members of a checkpoint: a tensor each."""

PLAIN_VALUES = 2_000_000
"""Most plain values of a checkpoint, each counted as often as it is reached."""

PLAIN_DEPTH = 16
"""Deepest nesting of plain values in a checkpoint."""

CLASSES = 4096
"""Most classes of a set or a generator."""

CANARIES = 1000
"""Most canaries of a training."""

CANARY_BYTES = 256 * MIB
"""Most pixels of artificial canaries, which a ledger names by their number and an audit paints."""

MESSAGE = 300
"""Most characters that an error shows of what was in a file or of a library's own message."""

_short = reprlib.Repr()
_short.maxstring = _short.maxother = _short.maxlong = 80


class TooLargeError(ValueError):
    """A file asks for more than a limit allows; its text is a rule without the file's name."""


def shown(value: object, most: int = 80) -> str:
    """A value from a file as one short line for a message: escaped, and cut where it is long."""
    try:
        text = _short.repr(value)
    except Exception:  # a number of more digits than Python writes, an object's own method
        text = f"a {type(value).__name__}"
    return _cut(text, most)


def told(error: BaseException | str, most: int = MESSAGE) -> str:
    """A library's own message in one short line, without anything that a terminal obeys."""
    try:
        text = " ".join(str(error).split())
    except Exception:  # an exception's own `__str__`, which may fail like any other code
        text = ""
    text = "".join(one if one.isprintable() else "?" for one in text[: 4 * most])
    return _cut(text or type(error).__name__, most)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."


def size(count: float) -> str:
    """Bytes for a message."""
    for unit, bytes_of in (("GiB", GIB), ("MiB", MIB), ("KiB", 1024)):
        if count >= bytes_of:
            return f"{count / bytes_of:.4g} {unit}"
    return f"{count:.0f} bytes"


class Bounded(io.RawIOBase):
    """A file of which no more than so much is read at a time, whatever a header asks for.

    Args:
      stream: seekable.
      most: bytes of one read.
      what: names what is read, for the message.
    """

    def __init__(self, stream: BinaryIO, most: int, what: str) -> None:
        super().__init__()
        self._stream, self._most, self._what = stream, most, what

    def read(self, count: int | None = -1, /) -> bytes:
        """As of any file.

        Raises:
          TooLargeError: more than `most` bytes are asked for.
        """
        if count is None or count < 0:
            here = self._stream.tell()
            count = self._stream.seek(0, io.SEEK_END) - here
            self._stream.seek(here)
        if count > self._most:
            raise TooLargeError(
                f"{self._what} may have {size(self._most)}: it asks for {size(count)}"
            )
        return self._stream.read(count)

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        """As of any file."""
        view: Any = memoryview(buffer)
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """As of any file."""
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        """As of any file."""
        return self._stream.tell()

    def seekable(self) -> bool:
        """True."""
        return True

    def readable(self) -> bool:
        """True."""
        return True

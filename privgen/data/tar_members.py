"""Tiles inside tar shards: `shards/s-0011-000000.tar/000012.png` names a member of a tar.

The layout is WebDataset's (uncompressed tar files of a few thousand members each). Nothing is ever
extracted: a member's bytes are read in place, so that its name, whatever it is, is just a name.
Only regular members count, and no header may ask for more than `privgen.limits` allows. Where
a tar ends too early, the members before its end can be read.

Offsets are indexed once a tar and kept for as long as its size and time of change stay the same.
"""

import os
import tarfile
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO, cast

from privgen.errors import TileError
from privgen.limits import TAR_HEADER_BYTES, TAR_MEMBERS, Bounded, TooLargeError

SUFFIX = ".tar"

_MOST_INDEXED = 2**16
"""Tars whose offsets are kept; a slide has at least one."""


@dataclass(frozen=True)
class _Index:
    """Where the members of a tar lie.

    Attributes:
      places: offset and size in bytes of each regular member, by its name.
      repeated: names that stand in it more than once; the last one counts, as in extraction.
      fault: why not all of it can be seen; "" where it ends as it should.
    """

    places: dict[str, tuple[int, int]]
    repeated: tuple[str, ...]
    fault: str


_COMPRESSED = "is packed by gzip. Unpack it: members are read in place"
_DAMAGED = "is truncated or damaged. Copy it again"

_indices: OrderedDict[tuple[str, int, int], _Index] = OrderedDict()
_lock = threading.Lock()


def member_of(path: Path) -> tuple[Path, str] | None:
    """The tar and the member's name, where a path leads through a tar file; else None."""
    if SUFFIX not in str(path).lower():
        return None
    for parent in path.parents:
        if parent.suffix.lower() == SUFFIX and parent.is_file():
            return parent, path.relative_to(parent).as_posix()
    return None


def is_there(path: Path) -> bool:
    """True for a regular file or a regular member of a tar.

    True also where a damaged tar may have held it: reading it says so.
    """
    if path.is_file():
        return True
    member = member_of(path)
    if member is None:
        return False
    tar, name = member
    try:
        with tar.open("rb") as stream:
            index = _index(tar, stream)
    except OSError:
        return True
    return name in index.places or bool(index.fault)


def read_member(path: Path, tar: Path, name: str, most: int) -> bytes:
    """The bytes of one member.

    Args:
      path: what to call it in an error.
      tar, name: as `member_of` gives them.
      most: bytes a member may have.

    Raises:
      TileError: the tar has no such regular member, ends before it, or the member is too large.
      OSError: the tar cannot be read.
    """
    with tar.open("rb") as stream:
        index = _index(tar, stream)
        if name not in index.places:
            raise TileError(
                str(path),
                "is not in its tar. Restore the shard, or remove the row from the manifest."
                if not index.fault
                else f"cannot be read: its tar {index.fault}.",
            )
        offset, size = index.places[name]
        if size > most:
            raise TileError(
                str(path),
                f"the member has {size / 2**20:.0f} MiB; a tile may have {most // 2**20}. Cut it "
                "into tiles first.",
            )
        stream.seek(offset)
        return stream.read(size)


@dataclass(frozen=True)
class Members:
    """What a tar holds.

    Attributes:
      heads: first bytes of each regular member, by its name.
      repeated: names that stand in it more than once, of which only the last is ever read.
      whole: whether the tar ends as it should; else there may be more.
    """

    heads: dict[str, bytes]
    repeated: tuple[str, ...]
    whole: bool


def members(tar: Path, *, head: int, but: frozenset[str] = frozenset()) -> Members:
    """List the regular members of a tar.

    Args:
      tar: file.
      head: how many bytes of each to read.
      but: names to leave out.

    Raises:
      OSError: the tar cannot be read.
    """
    with tar.open("rb") as stream:
        index = _index(tar, stream)
        heads = {}
        for name, (offset, size) in index.places.items():
            if name not in but:
                stream.seek(offset)
                heads[name] = stream.read(min(head, size))
    return Members(heads=heads, repeated=index.repeated, whole=not index.fault)


def _index(tar: Path, stream: BinaryIO) -> _Index:
    status = os.fstat(stream.fileno())
    key = (str(tar), status.st_size, status.st_mtime_ns)
    with _lock:
        index = _indices.get(key)
        if index is None:
            index = _scan(stream, status.st_size)
            _indices[key] = index
            if len(_indices) > _MOST_INDEXED:
                _indices.popitem(last=False)
        else:
            _indices.move_to_end(key)
        return index


def _scan(stream: BinaryIO, length: int) -> _Index:
    places: dict[str, tuple[int, int]] = {}
    repeated: dict[str, None] = {}
    fault = _COMPRESSED if stream.read(2) == b"\x1f\x8b" else ""
    stream.seek(0)
    bounded = Bounded(stream, TAR_HEADER_BYTES, "a header of a tar")
    before = -1
    try:
        with tarfile.open(fileobj=cast(IO[bytes], bounded), mode="r:") as archive:
            while (member := archive.next()) is not None:
                archive.members.clear()  # type: ignore[attr-defined]  # it only grows
                if member.size < 0 or archive.offset <= before:
                    raise tarfile.HeaderError("it leads back to where it came from")
                before = archive.offset
                if not member.isreg() or member.issparse():
                    continue
                if len(places) >= TAR_MEMBERS:
                    raise TooLargeError(f"a tar may have {TAR_MEMBERS:,} members, it has more")
                if member.offset_data + member.size <= length:
                    name = str(PurePosixPath(member.name))
                    if name in places:
                        repeated[name] = None
                    places[name] = (member.offset_data, member.size)
            # Python's reader takes a header that is cut short for the end of the archive.
            stream.seek(archive.offset)
            if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                fault = fault or _DAMAGED
    except TooLargeError as error:
        fault = f"is over a limit: {error}. Pack shards of a few thousand tiles"
    except Exception:  # what Python's reader raises on headers that contradict themselves
        fault = fault or _DAMAGED
    return _Index(places=places, repeated=tuple(repeated), fault=fault)

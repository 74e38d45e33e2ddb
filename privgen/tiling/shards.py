"""Tiles as numbered `.tar` files in the WebDataset layout.

A tile is three members that share a key, one after the other: `key.png` (the picture), `key.txt`
(its label) and `key.json` (whatever else is known of it). Readers stream shards from first to last
and group members by what stands before the first dot of a name, so a key has no dot. A label is no
`.cls`, which readers take for an integer.

The same tiles give the same bytes: plain ustar headers with time 0, owner 0, no names, one mode. A
shard is written to a temporary beside its place and moved there when it is full or at the end;
leaving by an exception also removes the shards already full, because no manifest names their tiles.

Source: Aizman, Maltby & Breuel 2019, "High performance I/O for large scale deep learning",
arXiv:2001.01858; POSIX.1-1988 for the header.
"""

import io
import json
import re
import tarfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from privgen.errors import InputError
from privgen.files import SHARED, atomic_write

LIMIT_BYTES = 2**28
"""Largest shard: few enough files for an object store, small enough to shuffle."""

_KEY = re.compile(r"[A-Za-z0-9_-]{1,90}")
"""What fits a plain ustar name with its suffix; a dot would end the key early."""

_BLOCK, _RECORD = tarfile.BLOCKSIZE, tarfile.RECORDSIZE


class ShardWriter:
    """Writes tiles into `folder/stem-000000.tar`, `folder/stem-000001.tar` and so on.

    Use it as a context manager. No file is made before the first tile.
    """

    def __init__(self, folder: Path, stem: str, *, limit_bytes: int = LIMIT_BYTES) -> None:
        """Args:
          folder: must exist.
          stem: start of the file names.
          limit_bytes: no shard is larger, unless a single tile is.

        Raises:
          InputError: `stem` is no plain file name, or the limit is not positive.
        """
        if not stem or re.search(r"[/\\\0]", stem) or stem.startswith("."):
            raise InputError(f"a shard's stem must be a plain file name: got {stem!r}. Rename it.")
        if limit_bytes < 1:
            raise InputError(
                f"a shard's limit must be 1 byte or more: got {limit_bytes}. Give a larger limit."
            )
        self._folder, self._stem, self._limit = folder, stem, limit_bytes
        self._keys: set[str] = set()
        self._full: list[Path] = []
        self._shard: _Shard | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self._finish()
        else:
            self._abandon(error)

    def add(self, key: str, label: str, encoded: bytes, meta: Mapping[str, object]) -> str:
        """Add one tile.

        Args:
          key: unique in this writer; letters, digits, `_` and `-`.
          label: class name.
          encoded: the picture as PNG bytes.
          meta: what `json` can write; NaN and infinity are refused.

        Returns:
          Where the picture is, for the manifest: "stem-000000.tar/key.png".

        Raises:
          InputError: `key` has another character or comes twice.
          OutputError, DiskFullError: as `privgen.files.atomic_write`; nothing of this writer stays.
        """
        if not _KEY.fullmatch(key):
            raise InputError(
                f"a tile's key must be 1 to 90 letters, digits, _ or -: got {key!r}. Rename it."
            )
        if key in self._keys:
            raise InputError(f"a tile's key may come once in its shards: {key} comes twice.")
        details = json.dumps(
            dict(meta), allow_nan=False, ensure_ascii=False, separators=(",", ":"), sort_keys=True
        )
        members = {
            f"{key}.png": encoded,
            f"{key}.txt": label.encode(),
            f"{key}.json": details.encode(),
        }
        try:
            if self._shard is not None and self._shard.size_with(members) > self._limit:
                self._finish()
            if self._shard is None:
                self._shard = _Shard(self._folder / f"{self._stem}-{len(self._full):06d}.tar")
            self._shard.write(members)
        except BaseException as error:
            self._abandon(error)
            raise
        self._keys.add(key)
        return f"{self._shard.path.name}/{key}.png"

    def _finish(self) -> None:
        """Move the open shard, if any, into its place."""
        shard, self._shard = self._shard, None
        if shard is None:
            return
        try:
            shard.close(None)
        except BaseException as error:
            self._abandon(error)
            raise
        self._full.append(shard.path)

    def _abandon(self, error: BaseException) -> None:
        """Leave nothing of this writer; raises what `error` means for a file, if it is an OSError.

        The shards already full go first, so that the message of a full disk counts them as free.
        """
        for path in self._full:
            path.unlink(missing_ok=True)
        self._full.clear()
        shard, self._shard = self._shard, None
        if shard is not None:
            shard.close(error)


class _Shard:
    """One open `.tar`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with ExitStack() as stack:
            stream: BinaryIO = stack.enter_context(atomic_write(path, mode=SHARED))
            self._tar = stack.enter_context(
                tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT)
            )
            self._stack = stack.pop_all()

    def size_with(self, members: Mapping[str, bytes]) -> int:
        """Bytes of the finished file if it ended after `members`."""
        added = sum(_BLOCK + _whole(len(data), _BLOCK) for data in members.values())
        return _whole(self._tar.offset + added + 2 * _BLOCK, _RECORD)

    def write(self, members: Mapping[str, bytes]) -> None:
        for name, data in members.items():
            header = tarfile.TarInfo(name)  # time, owner and group 0, no names
            header.mode = SHARED
            header.size = len(data)
            self._tar.addfile(header, io.BytesIO(data))

    def close(self, error: BaseException | None) -> None:
        """Put the file in its place, or drop it where the work ended in `error`."""
        if error is None:
            self._stack.close()
        else:
            self._stack.__exit__(type(error), error, error.__traceback__)


def _whole(size: int, unit: int) -> int:
    """`size` rounded up to whole units."""
    return -(-size // unit) * unit

"""A private cache of embeddings: what has been embedded once need not be embedded again.

A vector is found by the digest of the tile's pixels, the digest of the encoder, and which embedding
it is: `plain`, or `orbit`, the mean over the 8 symmetries. Nothing is kept unless a cache is handed
in: embeddings of patients' tiles are private.

On disk: a folder of mode 0700 with shards (`shards.py`) of mode 0600. A shard is written whole,
forced to disk and moved into place, and never changed. Its SHA-256 is checked whenever vectors are
taken out, so a damaged shard is a miss and never a wrong vector; damaged shards and what killed
writers left behind are swept. The shards used longest ago go first when the folder grows past its
limit. Several processes may share a folder: writers take turns, readers need not wait.

A vector from the cache is the one computed when it was put there; another version of PyTorch or
another processor would round it differently, as the encoder's digest allows.
"""

import fcntl
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal, overload

import numpy as np
from numpy.typing import NDArray

from privgen.data.images import pixel_digest
from privgen.encoders.batching import Encoder
from privgen.encoders.cache_files import (
    DamagedShard,
    Series,
    Vectors,
    Which,
    encode,
    read_keys,
    read_shard,
)
from privgen.encoders.orbit import OrbitEmbedding, embed_orbit
from privgen.errors import ConfigError, OutputError
from privgen.files import PRIVATE, atomic_write, sweep_partial_files

LIMIT = 4 * 2**30
"""Most bytes a cache keeps unless told otherwise: 800,000 vectors of the default encoder."""

ROWS = 4096
"""Most vectors in one shard."""

_FOLDER_MODE = 0o700
_SUFFIX = ".shard"
_LOCK = "lock"


class EmbeddingCache:
    """Embeddings by the content of tiles, in one private folder.

    Args:
      folder: created with mode 0700 when it is missing; one of one's own with other rights gets
        that mode.
      limit: bytes of shards kept, at least 1.

    Raises:
      ConfigError: `limit` is below 1.
      OutputError: the folder cannot be used, is a link, belongs to somebody else, or holds other
        things already.
    """

    def __init__(self, folder: Path, *, limit: int = LIMIT) -> None:
        if limit < 1:
            raise ConfigError(
                f"an embedding cache keeps 1 byte or more: got the limit {limit}. Give another, or "
                "no cache."
            )
        _claim(folder)
        self.folder = folder
        self.limit = limit
        self._keys: dict[str, frozenset[bytes]] = {}

    def get(self, encoder: Encoder, which: Which, digests: Sequence[str]) -> dict[str, Vectors]:
        """The vectors that are there.

        Args:
          encoder: whose embeddings.
          which: "plain" or "orbit".
          digests: of the tiles' pixels, 64 hex digits each.

        Returns:
          For each digest found, a vector of shape (width,).
        """
        series = _series(encoder, which)
        wanted = {bytes.fromhex(digest) for digest in digests}
        found: dict[str, Vectors] = {}
        for path in sorted(self.folder.glob(f"{series.prefix}-*{_SUFFIX}")):
            try:
                if path.name not in self._keys:
                    self._keys[path.name] = frozenset(read_keys(path, series))
                if wanted.isdisjoint(self._keys[path.name]):
                    continue
                shard = dict(zip(*read_shard(path, series), strict=True))
                os.utime(path)  # used now: the last to go
            except DamagedShard:
                self._drop(path)
                continue
            except OSError:
                continue  # dropped by another process, or not to be read: a miss
            found |= {key.hex(): shard[key] for key in wanted & shard.keys()}
            wanted -= shard.keys()
        return found

    def put(self, encoder: Encoder, which: Which, digests: Sequence[str], vectors: Vectors) -> None:
        """Keep vectors, as one or more new shards; the oldest shards may go.

        Args:
          encoder: whose embeddings.
          which: "plain" or "orbit".
          digests: of the tiles' pixels, 64 hex digits each.
          vectors: shape (n, width), in the order of `digests`.

        Raises:
          DiskFullError: no space is left; what was there before is unchanged.
          OutputError: the folder cannot be written.
        """
        if len(digests) == 0:
            return
        series = _series(encoder, which)
        keys = [bytes.fromhex(digest) for digest in digests]
        with self._alone():
            sweep_partial_files(self.folder)
            for start in range(0, len(keys), ROWS):
                rows = slice(start, start + ROWS)
                name = f"{series.prefix}-{secrets.token_hex(8)}{_SUFFIX}"
                with atomic_write(self.folder / name, mode=PRIVATE) as stream:
                    stream.write(encode(series, keys[rows], vectors[rows]))
            self._shrink()

    def _drop(self, path: Path) -> None:
        self._keys.pop(path.name, None)
        with suppress(OSError):
            path.unlink(missing_ok=True)

    def _shrink(self) -> None:
        """Drop the shards used longest ago until the rest fits; the newest stays in any case."""
        shards = []
        for path in self.folder.glob(f"*{_SUFFIX}"):
            with suppress(FileNotFoundError):
                status = path.stat()
                shards.append((status.st_mtime_ns, path.name, status.st_size))
        total = sum(size for _, _, size in shards)
        for _, name, size in sorted(shards)[:-1]:
            if total <= self.limit:
                break
            self._drop(self.folder / name)
            total -= size

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One writer at a time; the system lets go of the lock of a writer that is killed."""
        try:
            handle = os.open(self.folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE)
        except OSError as error:
            raise _unusable(self.folder, error.strerror) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


@overload
def embed_cached(
    encoder: Encoder,
    tiles: NDArray[np.uint8],
    *,
    orbit: Literal[False],
    cache: EmbeddingCache | None,
) -> Vectors: ...


@overload
def embed_cached(
    encoder: Encoder,
    tiles: NDArray[np.uint8],
    *,
    orbit: Literal[True],
    cache: EmbeddingCache | None,
) -> OrbitEmbedding: ...


def embed_cached(
    encoder: Encoder, tiles: NDArray[np.uint8], *, orbit: bool, cache: EmbeddingCache | None
) -> Vectors | OrbitEmbedding:
    """Embed tiles, taking from the cache what it holds and keeping there what it did not.

    Tiles of equal pixels are embedded once.

    Args:
      encoder: any encoder.
      tiles: uint8, shape (n, h, h, 3).
      orbit: also the mean over the 8 symmetries, which costs 8 times as much where it is new.
      cache: None computes everything and keeps nothing.

    Returns:
      Without `orbit` the plain embeddings, shape (n, d); with it both, as `embed_orbit` gives them.

    Raises:
      InputError: the tiles cannot be embedded.
      DiskFullError, OutputError: the cache cannot be written.
    """
    if cache is None:
        return embed_orbit(encoder, tiles) if orbit else encoder.embed(tiles)
    kinds: tuple[Which, ...] = ("plain", "orbit") if orbit else ("plain",)
    digests = [pixel_digest(tile) for tile in tiles]
    found = {which: cache.get(encoder, which, digests) for which in kinds}
    a_row = {digest: row for row, digest in enumerate(digests)}
    new = sorted(row for digest, row in a_row.items() if any(digest not in found[w] for w in kinds))
    if new:
        fresh = tiles[new]
        names = [digests[row] for row in new]
        if orbit:
            both = embed_orbit(encoder, fresh)
            computed: dict[Which, Vectors] = {"plain": both.plain, "orbit": both.mean}
        else:
            computed = {"plain": encoder.embed(fresh)}
        for which in kinds:
            unknown = [at for at, name in enumerate(names) if name not in found[which]]
            cache.put(encoder, which, [names[at] for at in unknown], computed[which][unknown])
            found[which] |= dict(zip(names, computed[which], strict=True))
    plain, *mean = (_stacked(found[which], digests, encoder.width) for which in kinds)
    return OrbitEmbedding(plain, mean[0]) if mean else plain


def _stacked(found: dict[str, Vectors], digests: Sequence[str], width: int) -> Vectors:
    stacked = np.empty((len(digests), width), dtype=np.float32)
    for row, digest in enumerate(digests):
        stacked[row] = found[digest]
    return stacked


def _series(encoder: Encoder, which: Which) -> Series:
    return Series(encoder=encoder.digest, which=which, width=encoder.width)


def _claim(folder: Path) -> None:
    """Make the folder, or make sure that it is ours and closed to everybody else."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=_FOLDER_MODE, exist_ok=True)
        status = folder.lstat()
        if folder.is_symlink() or status.st_uid != os.getuid():
            raise OutputError(
                "the embedding cache must be a folder of one's own, not a link: got "
                f"{folder.name}. Give another folder."
            )
        if not (folder / _LOCK).exists() and any(folder.iterdir()):
            raise OutputError(
                f"an embedding cache needs a folder to itself: got {folder.name}, which holds "
                "other things. Give a new or empty one."
            )
        folder.chmod(_FOLDER_MODE)
        (folder / _LOCK).touch(PRIVATE)
    except OSError as error:
        raise _unusable(folder, error.strerror) from error


def _unusable(folder: Path, reason: str | None) -> OutputError:
    return OutputError(
        f"the embedding cache {folder.name} cannot be used: {reason}. Give another folder."
    )

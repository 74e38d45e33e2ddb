"""One file of cached embeddings: a line of JSON, tile digests, vectors, and a seal over all of it.

A shard is written once and never changed. Its keys can be read without its vectors; vectors are
given out only when the SHA-256 at its end agrees with every byte before it.
"""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

Which = Literal["plain", "orbit"]
Vectors = NDArray[np.float32]

_FORMAT = "privgen-embeddings 1"
_KEY = 32
_SEAL = 32
_LONGEST_HEADER = 512


class DamagedShard(ValueError):
    """The file is not a whole shard of the series it was taken for."""


@dataclass(frozen=True, kw_only=True)
class Series:
    """What all vectors of a shard have in common.

    Attributes:
      encoder: digest of the encoder.
      which: "plain" or "orbit".
      width: length of a vector.
    """

    encoder: str
    which: Which
    width: int

    @property
    def prefix(self) -> str:
        """How the names of its shards begin; says nothing to a reader of the folder."""
        text = f"{_FORMAT} {self.encoder} {self.which} {self.width}"
        return hashlib.sha256(text.encode()).hexdigest()[:24]

    def header(self, rows: int) -> dict[str, str | int]:
        """The first line of a shard of so many vectors."""
        return {
            "format": _FORMAT,
            "encoder": self.encoder,
            "which": self.which,
            "width": self.width,
            "rows": rows,
        }


def encode(series: Series, keys: list[bytes], vectors: Vectors) -> bytes:
    """The bytes of a shard.

    Args:
      series: what its vectors have in common.
      keys: digests, 32 bytes each.
      vectors: shape (len(keys), width).
    """
    assert vectors.shape == (len(keys), series.width)
    header = json.dumps(series.header(len(keys))).encode() + b"\n"
    body = header + b"".join(keys) + np.ascontiguousarray(vectors, dtype="<f4").tobytes()
    return body + hashlib.sha256(body).digest()


def read_keys(path: Path, series: Series) -> list[bytes]:
    """The digests a shard holds, without looking at its vectors.

    Raises:
      DamagedShard: it is torn, or of another series.
      OSError: it cannot be read.
    """
    with path.open("rb") as stream:
        return _keys(stream, series)


def read_shard(path: Path, series: Series) -> tuple[list[bytes], Vectors]:
    """Digests and vectors, shape (n, width), of a shard that is as it was written to the last bit.

    Raises:
      DamagedShard: it is torn, changed, or of another series.
      OSError: it cannot be read.
    """
    with path.open("rb") as stream:
        keys = _keys(stream, series)
        start = stream.tell()
        stream.seek(0)
        content = stream.read()
    body, seal = content[:-_SEAL], content[-_SEAL:]
    if hashlib.sha256(body).digest() != seal:
        raise DamagedShard(path.name)
    flat = np.frombuffer(body, dtype="<f4", offset=start)
    return keys, flat.reshape(len(keys), series.width).astype(np.float32)


def _keys(stream: BinaryIO, series: Series) -> list[bytes]:
    line = stream.readline(_LONGEST_HEADER)
    try:
        header: Any = json.loads(line)
        rows = int(header["rows"])
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise DamagedShard("no header") from error
    size = len(line) + rows * (_KEY + 4 * series.width) + _SEAL
    if header != series.header(rows) or os.fstat(stream.fileno()).st_size != size:
        raise DamagedShard("another series, or torn")
    joined = stream.read(_KEY * rows)
    return [joined[at : at + _KEY] for at in range(0, len(joined), _KEY)]

"""What an encoder is, and how one works through tiles.

Conventions: tiles are uint8 RGB, square, shape (n, h, h, 3); embeddings float32, shape (n,
width). A tile's embedding depends on that tile alone: every forward pass has the same batch size,
the last one is padded, so neither the number nor the order of the tiles changes a bit of it.
"""

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from privgen.compute.cores import cores
from privgen.errors import InputError

Precision = Literal["auto", "bf16", "fp32"]

_BATCH = 16


class Encoder(Protocol):
    """What turns tiles into vectors.

    Attributes:
      name: what reports call it.
      digest: SHA-256 over the weights' bytes and the description of everything done to a tile;
        equal digests mean equal embeddings up to rounding.
      width: length of an embedding.
    """

    @property
    def name(self) -> str: ...

    @property
    def digest(self) -> str: ...

    @property
    def width(self) -> int: ...

    def embed(self, tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embeddings of square RGB tiles of any side, shape (n, width)."""
        ...


@dataclass(frozen=True, kw_only=True)
class BatchEncoder:
    """An `Encoder` that works in batches of one fixed size.

    Attributes:
      name, digest, width: as in `Encoder`.
      forward: uint8 tensor (16, 3, h, h) to float32 tensor (16, width).
    """

    name: str
    digest: str
    width: int
    forward: Callable[[Tensor], Tensor]

    def embed(self, tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See `Encoder.embed`.

        Raises:
          InputError: `tiles` is not uint8 of shape (n, h, h, 3).
        """
        if tiles.dtype != np.uint8 or tiles.ndim != 4 or tiles.shape[3] != 3:
            raise InputError(
                "tiles to embed must be uint8 of shape (n, side, side, 3): got "
                f"{tiles.dtype} of shape {tiles.shape}. Give RGB tiles."
            )
        if tiles.shape[1] != tiles.shape[2]:
            raise InputError(
                f"tiles to embed must be square: got {tiles.shape[2]}x{tiles.shape[1]} pixels. "
                "Cut squares."
            )
        embeddings = np.empty((len(tiles), self.width), dtype=np.float32)

        def run(start: int) -> None:
            block = tiles[start : start + _BATCH]
            batch = np.zeros((_BATCH, *tiles.shape[1:]), dtype=np.uint8)
            batch[: len(block)] = block
            with torch.inference_mode():
                # The view keeps the memory order (n, h, w, c), which is torch's channels_last.
                output = self.forward(torch.from_numpy(batch).permute(0, 3, 1, 2))
            embeddings[start : start + len(block)] = output[: len(block)].cpu().numpy()

        with _one_thread_each(), ThreadPoolExecutor(cores()) as pool:
            for _ in pool.map(run, range(0, len(tiles), _BATCH)):
                pass
        return embeddings


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Let every worker compute alone: batches in parallel need no barrier after each small layer.

    On a busy machine a two-thread layer waits for whichever core is taken by somebody else.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def encoder_digest(weights: str, description: str) -> str:
    """SHA-256 over the digest of the weights and the description of what is done to a tile."""
    return hashlib.sha256(f"{weights} {description}".encode()).hexdigest()

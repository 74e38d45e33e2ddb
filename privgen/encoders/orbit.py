"""The orbit of a tile: H&E has no up, so a copy may come back mirrored or turned by 90 degrees.

A tile and its 8 symmetric versions are treated as one: the embedding is averaged over them, and
the fingerprint is the smallest of their digests. Whitening then gives every direction of the
embedding the same weight, so that stain, which varies most, does not drown the texture that
identifies a tile.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from privgen.data.images import is_featureless, pixel_digest
from privgen.encoders.loading import Encoder
from privgen.errors import InputError

SYMMETRIES = 8

MAX_DIMS = 384
"""Most dimensions kept by whitening."""

TILES_A_DIMENSION = 4
"""Fewest tiles a whitened dimension rests on; at one, whitening makes all tiles equally distant."""

_RANK = 1e-7


def symmetries(tiles: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """The 8 symmetric versions of square tiles as views, unchanged first.

    Args:
      tiles: shape (..., h, h, 3).

    Yields:
      Quarter turns 0 to 3 of the tiles, then of their mirror images; the shape of `tiles`.
    """
    for turned in (tiles, np.flip(tiles, axis=-2)):
        for quarter in range(4):
            yield np.rot90(turned, quarter, axes=(-3, -2))


@dataclass(frozen=True)
class OrbitEmbedding:
    """Both embeddings of some tiles, from one pass.

    Attributes:
      plain: of the tiles as they are, shape (n, d).
      mean: average over the 8 symmetries, shape (n, d).
    """

    plain: NDArray[np.float32]
    mean: NDArray[np.float32]


def embed_orbit(encoder: Encoder, tiles: NDArray[np.uint8]) -> OrbitEmbedding:
    """Embed tiles under the 8 symmetries, keeping the sum alone.

    Args:
      encoder: any encoder.
      tiles: uint8, shape (n, h, h, 3).
    """
    total = np.zeros((len(tiles), encoder.width), dtype=np.float64)
    plain: NDArray[np.float32] | None = None
    for version in symmetries(tiles):
        embedded = encoder.embed(version)
        plain = embedded if plain is None else plain
        total += embedded
    assert plain is not None
    return OrbitEmbedding(plain, (total / SYMMETRIES).astype(np.float32))


def orbit_mean(encoder: Encoder, tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Embeddings averaged over the 8 symmetries, shape (n, d), the same for a tile turned over.

    Source: docs/methods.md#symmetries-and-whitening.
    """
    return embed_orbit(encoder, tiles).mean


@dataclass(frozen=True)
class Whitening:
    """PCA whitening to `basis.shape[1]` dimensions, then length 1.

    Attributes:
      centre: mean of the tiles it was fitted on, shape (d,).
      basis: principal directions, each over its standard deviation, shape (d, dims).
    """

    centre: NDArray[np.float64]
    basis: NDArray[np.float64]

    @classmethod
    def fit(cls, embeddings: NDArray[np.float32], dims: int | None = None) -> Self:
        """Fit on tiles of *all* roles that will be compared, pooled.

        A tile inside the fit lies farther from the others than a new tile of the same law, the more
        so the fewer tiles a dimension rests on. Fitted on train and holdout alone it makes innocent
        synthetic tiles look closer to train than holdout tiles are. Pooled, every tile has the same
        influence, and swapping two tiles between roles changes nothing.

        Args:
          embeddings: shape (n, d), n >= 2.
          dims: dimensions to keep; None takes one for every 4 tiles, at most 384. Never more than
            the embeddings span.

        Raises:
          InputError: fewer than 2 tiles, or all of them equal.
        """
        count, width = embeddings.shape
        if count < 2:
            raise InputError(f"whitening needs at least 2 tiles: got {count}. Give more tiles.")
        centre = embeddings.mean(axis=0, dtype=np.float64)
        centred = embeddings - centre
        if count > width:
            variance, axes = linalg.eigh(centred.T @ centred / (count - 1))
        else:
            # The same directions from the smaller matrix of inner products between tiles.
            variance, tiles = linalg.eigh(centred @ centred.T / (count - 1))
            axes = centred.T @ tiles
            axes /= np.maximum(np.linalg.norm(axes, axis=0), np.finfo(np.float64).tiny)
        spanned = int((variance > _RANK * variance[-1]).sum()) if variance[-1] > 0 else 0
        if spanned == 0:
            raise InputError(
                "whitening needs tiles that differ: all embeddings are equal. Check the images."
            )
        kept = min(dims or max(count // TILES_A_DIMENSION, 1), spanned)
        kept = kept if dims else min(kept, MAX_DIMS)
        top = slice(
            len(variance) - 1, len(variance) - 1 - kept if kept < len(variance) else None, -1
        )
        return cls(centre, axes[:, top] / np.sqrt(variance[top]))

    def whiten(self, embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
        """Uncorrelated coordinates of variance 1 over the tiles of the fit, shape (n, dims)."""
        return (embeddings - self.centre) @ self.basis

    def apply(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Whitened coordinates scaled to length 1, shape (n, dims): distances lie in [0, 2]."""
        coordinates = self.whiten(embeddings)
        length = np.linalg.norm(coordinates, axis=1, keepdims=True)
        scaled = np.divide(coordinates, length, out=np.zeros_like(coordinates), where=length > 0)
        return np.asarray(scaled, dtype=np.float32)


def fingerprint(tile: NDArray[np.uint8]) -> str:
    """Digest of a tile's pixels, the same for its 8 symmetric versions.

    Args:
      tile: uint8, shape (h, h, 3).

    Returns:
      64 hex digits, or "" for a featureless tile.
    """
    if is_featureless(tile):
        return ""
    return min(pixel_digest(version) for version in symmetries(tile))

"""Local descriptors: what a tile looks like around each of its key points.

An embedding sees a tile as a whole and misses a copy that comes back cropped, turned by an odd
angle or blended. Key points (SIFT) come back with the tissue; `votes` looks them up, `alignment`
fits them.

Vectors are whole numbers, small enough for float32 sums of their products to be exact: no result
depends on the number of threads, the order of tiles or the block size.

Mirror images need no second detection: reflecting a tile permutes the 128 coordinates of a key
point's vector (`MIRROR`) and nothing else.

Memory: 144 bytes per key point and 9 kB a tile, at most 81 kB a tile.

Sources: Lowe 2004 (SIFT); Arandjelovic & Zisserman 2012 (RootSIFT); docs/methods.md#alignment.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from privgen.compute.cores import cores
from privgen.data.images import FEATURELESS, resize
from privgen.data.stain import optical_density
from privgen.errors import InputError

KEYPOINTS = 500
"""Most key points kept of a tile, strongest first.

Crops of 35 % of 64 px tiles (GlaS) keep a median of 16 inliers with 300, 27 with 500 and 54 with
900, but with 900 matching takes three times as long.
"""

PATCH_SIDE = 96
"""Side of the small density picture of each tile, against which an alignment is checked."""

VECTOR_LENGTH = 512.0
"""Length of a vector, up to rounding."""

_WORKING_SIDE = 256
_CONTRAST = 0.01
_EDGE = 10.0
_SIGMA = 1.6
_LAYERS = 3
_BLOCK = 16
_DENSITY_STEPS = 80.0

_CELLS = np.arange(128).reshape(4, 4, 8)
MIRROR: NDArray[np.intp] = _CELLS[::-1][:, :, (-np.arange(8)) % 8].ravel()
"""`vectors[:, MIRROR]` are the vectors of the mirror image's key points."""


@dataclass(frozen=True)
class Descriptors:
    """Key points of some tiles; tile i owns rows `starts[i]` to `starts[i + 1]`, strongest first.

    Attributes:
      side: of the tiles, pixels.
      starts: shape (n + 1,).
      points: x, y (pixel centres are whole numbers), diameter in tile pixels, and orientation in
        radians from the x axis towards the y axis, shape (m, 4).
      vectors: RootSIFT scaled to length 512, shape (m, 128).
      patches: mean optical density of the tile over the three channels at 96 px, in steps of 1/80,
        shape (n, 96, 96).
    """

    side: int
    starts: NDArray[np.intp]
    points: NDArray[np.float32]
    vectors: NDArray[np.uint8]
    patches: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.patches)

    @property
    def counts(self) -> NDArray[np.intp]:
        """Key points of each tile, shape (n,)."""
        return np.diff(self.starts)

    @property
    def featureless(self) -> NDArray[np.bool_]:
        """Tiles without a key point: blank, and neither proven nor cleared. Shape (n,)."""
        return np.equal(self.counts, 0)

    def rows(self, tile: int) -> slice:
        """Rows of one tile's key points."""
        return slice(int(self.starts[tile]), int(self.starts[tile + 1]))

    def subset(self, tiles: NDArray[np.intp]) -> "Descriptors":
        """The tiles at these positions, in that order; copied."""
        counts = self.counts[tiles]
        rows = ranges(self.starts[tiles], counts)
        return Descriptors(
            self.side, _starts(counts), self.points[rows], self.vectors[rows], self.patches[tiles]
        )


def describe(tiles: NDArray[np.uint8], *, keypoints: int = KEYPOINTS) -> Descriptors:
    """Find the key points of every tile.

    Tiles are brought to 256 px first, so that a 64 px tile yields several hundred. A tile with
    hardly any spread of grey (`images.FEATURELESS`) has none.

    Args:
      tiles: uint8 RGB, shape (n, h, h, 3); tiles are worked on by a few threads.
      keypoints: most key points a tile, the strongest.

    Raises:
      InputError: not square uint8 RGB tiles.

    Source: docs/methods.md#alignment.
    """
    if tiles.dtype != np.uint8 or tiles.ndim != 4 or tiles.shape[1:] != (*tiles.shape[1:2] * 2, 3):
        raise InputError(
            "key points need square RGB tiles, uint8 of shape (n, h, h, 3): got "
            f"{tiles.dtype} of shape {tiles.shape}. Convert or cut them first."
        )
    patches = np.empty((len(tiles), PATCH_SIDE, PATCH_SIDE), dtype=np.uint8)

    def density(start: int) -> None:
        block = resize(tiles[start : start + _BLOCK], PATCH_SIDE)
        mean = optical_density(block).mean(axis=3) * _DENSITY_STEPS
        patches[start : start + _BLOCK] = np.clip(np.rint(mean), 0, 255)

    with one_thread_each(), ThreadPoolExecutor(cores()) as pool:
        found = list(pool.map(lambda tile: _keypoints(tile, keypoints), tiles))
        for _ in pool.map(density, range(0, len(tiles), _BLOCK)):
            pass
    points = [each for each, _ in found]
    return Descriptors(
        side=tiles.shape[1],
        starts=_starts(np.array([len(each) for each in points], dtype=np.intp)),
        points=np.concatenate([np.empty((0, 4), dtype=np.float32), *points]),
        vectors=np.concatenate(
            [np.empty((0, 128), dtype=np.uint8), *(vectors for _, vectors in found)]
        ),
        patches=patches,
    )


def concatenate(parts: Sequence[Descriptors]) -> Descriptors:
    """Several described sets as one, in order.

    Args:
      parts: at least one; tiles of one side.

    Raises:
      InputError: none are given, or their sides differ.
    """
    sides = sorted({part.side for part in parts})
    if len(sides) != 1:
        raise InputError(
            f"described tiles are joined only where all have one side: got {sides or 'none'}. "
            "Scale them alike first."
        )
    return Descriptors(
        side=sides[0],
        starts=_starts(np.concatenate([part.counts for part in parts])),
        points=np.concatenate([part.points for part in parts]),
        vectors=np.concatenate([part.vectors for part in parts]),
        patches=np.concatenate([part.patches for part in parts]),
    )


@contextmanager
def one_thread_each() -> Iterator[None]:
    """OpenCV and BLAS on one thread, as our own threads already share the cores; then as before.

    Small matrix products on several threads each would spend their time waiting for one another.
    """
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with threadpool_limits(1, user_api="blas"):
            yield
    finally:
        cv2.setNumThreads(before)


def _keypoints(tile: NDArray[np.uint8], most: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Points and vectors of one tile, strongest first."""
    side = len(tile)
    grey = cv2.cvtColor(np.ascontiguousarray(tile), cv2.COLOR_RGB2GRAY)
    found: Sequence[cv2.KeyPoint] = ()
    if float(grey.std()) >= FEATURELESS:
        size = (_WORKING_SIDE, _WORKING_SIDE)
        shrinks = side > _WORKING_SIDE
        scaled = cv2.resize(
            grey, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
        )
        # The upscale without the precise flag is off by half a pixel.
        sift = cv2.SIFT.create(most, _LAYERS, _CONTRAST, _EDGE, _SIGMA, True)
        found, raw = sift.detectAndCompute(scaled, None)
    if not found:
        return np.empty((0, 4), dtype=np.float32), np.empty((0, 128), dtype=np.uint8)
    table = np.array([(*each.pt, each.size, each.angle, each.response) for each in found])
    order = np.lexsort((*table[:, :4].T, -table[:, 4]))[:most]
    x, y, diameter, angle = table[order, :4].T
    unit = side / _WORKING_SIDE
    points = np.stack(
        [(x + 0.5) * unit - 0.5, (y + 0.5) * unit - 0.5, diameter * unit, np.radians(angle)], axis=1
    )
    share = raw[order] / np.maximum(raw[order].sum(axis=1, keepdims=True), 1.0)
    vectors = np.clip(np.rint(VECTOR_LENGTH * np.sqrt(share)), 0, 255)
    return points.astype(np.float32), vectors.astype(np.uint8)


def _starts(counts: NDArray[np.intp]) -> NDArray[np.intp]:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.intp)


def ranges(starts: NDArray[np.intp], counts: NDArray[np.intp]) -> NDArray[np.intp]:
    """All of `starts[i] .. starts[i] + counts[i] - 1`, one after the other."""
    offsets = np.repeat(starts - _starts(counts)[:-1], counts)
    return offsets + np.arange(len(offsets))

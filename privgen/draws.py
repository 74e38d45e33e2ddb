"""Every random draw of training and sampling, as a pure function of a seed and a position.

Philox is a counter-based generator: each (seed, index, purpose) owns a stream that depends on
nothing drawn before, so a resumed run repeats its draws and image i never depends on the batch it
came in (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3").
"""

from collections.abc import Sequence
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from privgen.choices import Balance


class Purpose(IntEnum):
    """What a stream is for; the numbers are part of what a seed means, so they never change."""

    SAMPLE = 0
    TRAIN = 1
    EPOCH = 2
    AUGMENT = 3
    GRID = 4
    MEAN_STYLE = 5
    MIX = 6
    PATH = 7
    MIX_AT = 8
    LAYERS = 9
    STAIN = 10


def stream(seed: int, index: int, purpose: Purpose) -> np.random.Generator:
    """The generator of one (seed, index, purpose); indices are 0 .. 2^64 - 1."""
    key = np.array([seed, index], dtype=np.uint64)
    counter = np.array([0, 0, 0, purpose], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


def latents(
    seed: int,
    indices: Sequence[int] | NDArray[np.intp],
    purpose: Purpose,
    *,
    z_dim: int,
    noise_shapes: Sequence[tuple[int, int, int]],
) -> tuple[NDArray[np.float32], list[NDArray[np.float32]]]:
    """Latent and noise maps of each image; image i depends on (seed, i, purpose) alone.

    Returns:
      z, standard normal, shape (n, z_dim); and one array a noise shape, each (n, 1, h, w).
    """
    sizes = [z_dim, *(int(np.prod(shape)) for shape in noise_shapes)]
    flat = np.empty((len(indices), sum(sizes)), dtype=np.float32)
    for row, index in enumerate(indices):
        stream(seed, int(index), purpose).standard_normal(dtype=np.float32, out=flat[row])
    z, *maps = np.split(flat, np.cumsum(sizes)[:-1], axis=1)
    return z, [
        part.reshape(len(indices), *shape) for part, shape in zip(maps, noise_shapes, strict=True)
    ]


def batch_rows(
    labels: NDArray[np.intp], *, seed: int, step: int, batch: int, balance: Balance
) -> NDArray[np.intp]:
    """Which tiles step `step` shows: rows of `labels`, shape (batch,), classes in order.

    "preserve" walks through all tiles in a new random order each epoch. "uniform" takes the classes
    in turns and walks through each class so. Either way no tile is shown twice before all of its
    walk have been shown once.

    Args:
      labels: class number of each tile, shape (n,), every class 0 .. max at least once.
    """
    places = np.arange(step * batch, (step + 1) * batch)
    if balance == "preserve":
        rows = _walk(np.arange(len(labels)), places, seed=seed, lane=0)
        return rows[np.argsort(labels[rows], kind="stable")]
    classes = int(labels.max()) + 1
    rows = np.empty(batch, dtype=np.intp)
    for number in range(classes):
        mine = places % classes == number
        members = np.flatnonzero(labels == number)
        rows[mine] = _walk(members, places[mine] // classes, seed=seed, lane=1 + number)
    return rows[np.argsort(labels[rows], kind="stable")]


def _walk(
    rows: NDArray[np.intp], places: NDArray[np.intp], *, seed: int, lane: int
) -> NDArray[np.intp]:
    """Places of an endless walk that shuffles `rows` anew each time round."""
    epochs = places // len(rows)
    out = np.empty(len(places), dtype=np.intp)
    for epoch in np.unique(epochs):
        rng = stream(seed, (lane << 40) + int(epoch), Purpose.EPOCH)
        mine = epochs == epoch
        out[mine] = rng.permutation(rows)[places[mine] % len(rows)]
    return out

"""What each arm of the benchmark trains on.

An arm chooses rows from the pool of real and synthetic training tiles, and the label of each row.
All arms of one seed draw from the same random stream, so that at one ratio `real+synthetic` and
`oversampled`
hold the same number of tiles of every class: what is left between them is what the
synthetic tiles show, not how many there are or how the classes are balanced.

Source: METHODS.md 7.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from privgen.errors import InputError

Indices = NDArray[np.intp]

BASELINE = "real"
"""The arm every other one is compared with."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Pool:
    """Labels of the tiles an arm may choose from, as class numbers.

    Attributes:
      real: shape (r,); rows 0..r-1 of the pool.
      synthetic: shape (s,); rows r..r+s-1.
    """

    real: Indices
    synthetic: Indices


@dataclass(frozen=True, kw_only=True, eq=False)
class Composition:
    """A training set.

    Attributes:
      rows: into the pool, shape (n,); a row may stand there more than once.
      labels: what each is taught as, shape (n,).
    """

    rows: Indices
    labels: Indices

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True, kw_only=True)
class Arm:
    """A way to compose a training set.

    Attributes:
      name: as in the tables.
      scales: whether it is run at every ratio; otherwise once.
      control: whether it is shown for comparison and left out of the tested family.
      compose: from the pool, the ratio and a random stream to the training set.
    """

    name: str
    scales: bool
    control: bool
    compose: Callable[[Pool, float, np.random.Generator], Composition]


def synthetic_count(real: int, ratio: float) -> int:
    """Synthetic tiles at `ratio` synthetic tiles a real one, rounded, at least 1."""
    return max(1, round(real * ratio))


def require_enough(pool: Pool, ratio: float) -> None:
    """Refuse a ratio for which there are too few synthetic tiles.

    Raises:
      InputError: says how many there are and which ratio they allow.
    """
    have, real = len(pool.synthetic), len(pool.real)
    needed = synthetic_count(real, ratio)
    if have < needed:
        raise InputError(
            f"ratio {ratio:g} of {real} real training tiles needs {needed} synthetic tiles: got "
            f"{have}. Sample more, or give a ratio of {have / real:.2g} or less."
        )


def _draw_synthetic(pool: Pool, ratio: float, rng: np.random.Generator) -> Indices:
    """Rows of the drawn synthetic tiles; a smaller ratio draws a part of a larger one's."""
    require_enough(pool, ratio)
    order = rng.permutation(len(pool.synthetic))
    drawn: Indices = order[: synthetic_count(len(pool.real), ratio)]
    return drawn


def _real(pool: Pool, ratio: float, rng: np.random.Generator) -> Composition:
    return Composition(rows=np.arange(len(pool.real)), labels=pool.real)


def _real_and_synthetic(pool: Pool, ratio: float, rng: np.random.Generator) -> Composition:
    drawn = _draw_synthetic(pool, ratio, rng)
    return Composition(
        rows=np.concatenate([np.arange(len(pool.real)), len(pool.real) + drawn]),
        labels=np.concatenate([pool.real, pool.synthetic[drawn]]),
    )


def _oversampled(pool: Pool, ratio: float, rng: np.random.Generator) -> Composition:
    """A real tile again for each synthetic one, of its class; each as often as the next."""
    drawn = pool.synthetic[_draw_synthetic(pool, ratio, rng)]
    again = np.empty(len(drawn), dtype=np.intp)
    for label in np.unique(drawn):
        places = np.flatnonzero(drawn == label)
        own = rng.permutation(np.flatnonzero(pool.real == label))
        again[places] = np.resize(own, len(places))
    return Composition(
        rows=np.concatenate([np.arange(len(pool.real)), again]),
        labels=np.concatenate([pool.real, drawn]),
    )


ARMS: dict[str, Arm] = {
    arm.name: arm
    for arm in (
        Arm(name=BASELINE, scales=False, control=False, compose=_real),
        Arm(name="real+synthetic", scales=True, control=False, compose=_real_and_synthetic),
        Arm(name="oversampled", scales=True, control=True, compose=_oversampled),
    )
}
"""Every arm, in the order of the tables; a new one is an entry here."""

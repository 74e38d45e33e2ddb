"""What each arm of the benchmark trains on.

An arm chooses rows from the pool of real and synthetic training tiles, and the label of each row.
All arms of one seed draw from the same random stream, so that at one ratio `real+synthetic` and
`oversampled` hold the same number of tiles of every class: what is left between them is what the
synthetic tiles show, not how many there are or how the classes are balanced.

Every arm makes the same number of updates, so how often a real tile is repeated changes little;
the controls are therefore run at one ratio, the primary one.

Source: docs/methods.md#classifier-benefit; Ravuri & Vinyals 2019, arXiv:1905.10887 (`synthetic`:
the classification accuracy score).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from privgen.errors import InputError

Indices = NDArray[np.intp]
Role = Literal["baseline", "comparison", "tested", "control"]

BASELINE = "real"
"""The arm every other one is compared with."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Pool:
    """Labels of the tiles an arm may choose from, as class numbers.

    Attributes:
      real: shape (r,); rows 0..r-1 of the pool.
      synthetic: of one generator, shape (s,); rows r..r+s-1.
      kept: which synthetic tiles the filter keeps, shape (s,); None where there is no filter.
    """

    real: Indices
    synthetic: Indices
    kept: NDArray[np.bool_] | None = None


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
      role: baseline; "tested" ones have a verdict; comparisons and controls are shown beside them.
      compose: from the pool, the ratio and a random stream to the training set.
      scales: run at every ratio; otherwise at the primary one, if it has a ratio at all.
      sized: whether a ratio says how many tiles are added.
      synthetic: trains on synthetic tiles, so it is repeated for every generator.
      augment: flips, rotations and stain jitter on the fly.
    """

    name: str
    role: Role
    compose: Callable[[Pool, float, np.random.Generator], Composition]
    scales: bool = False
    sized: bool = True
    synthetic: bool = True
    augment: bool = False


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


def _drawn(pool: Pool, ratio: float, rng: np.random.Generator) -> Indices:
    """Numbers of the drawn synthetic tiles; a smaller ratio draws a part of a larger one's."""
    require_enough(pool, ratio)
    order = rng.permutation(len(pool.synthetic))
    drawn: Indices = order[: synthetic_count(len(pool.real), ratio)]
    return drawn


def _with_real(pool: Pool, chosen: Indices, labels: Indices) -> Composition:
    return Composition(
        rows=np.concatenate([np.arange(len(pool.real)), len(pool.real) + chosen]),
        labels=np.concatenate([pool.real, labels]),
    )


def _real(pool: Pool, ratio: float, rng: np.random.Generator) -> Composition:
    return Composition(rows=np.arange(len(pool.real)), labels=pool.real)


def _real_and_synthetic(pool: Pool, ratio: float, rng: np.random.Generator) -> Composition:
    drawn = _drawn(pool, ratio, rng)
    return _with_real(pool, drawn, pool.synthetic[drawn])


def _real_and_filtered(pool: Pool, ratio: float, rng: np.random.Generator) -> Composition:
    """As many kept tiles as the ratio asks for, or all of them where the filter left fewer."""
    assert pool.kept is not None, "the filter runs before its arm"
    order = rng.permutation(len(pool.synthetic))
    kept = order[pool.kept[order]][: synthetic_count(len(pool.real), ratio)]
    return _with_real(pool, kept, pool.synthetic[kept])


def _synthetic(pool: Pool, ratio: float, rng: np.random.Generator) -> Composition:
    drawn = _drawn(pool, ratio, rng)
    return Composition(rows=len(pool.real) + drawn, labels=pool.synthetic[drawn])


def _shuffled(pool: Pool, ratio: float, rng: np.random.Generator) -> Composition:
    """The synthetic tiles with one another's labels: what they teach beyond their class."""
    drawn = _drawn(pool, ratio, rng)
    return _with_real(pool, drawn, rng.permutation(pool.synthetic[drawn]))


def _oversampled(pool: Pool, ratio: float, rng: np.random.Generator) -> Composition:
    """A real tile again for each synthetic one, of its class; each as often as the next."""
    drawn = pool.synthetic[_drawn(pool, ratio, rng)]
    again = np.empty(len(drawn), dtype=np.intp)
    for label in np.unique(drawn):
        places = np.flatnonzero(drawn == label)
        own = rng.permutation(np.flatnonzero(pool.real == label))
        again[places] = np.resize(own, len(places))
    return Composition(
        rows=np.concatenate([np.arange(len(pool.real)), again]),
        labels=np.concatenate([pool.real, drawn]),
    )


FILTERED = "real+filtered"

ARMS: dict[str, Arm] = {
    arm.name: arm
    for arm in (
        Arm(name=BASELINE, role="baseline", compose=_real, sized=False, synthetic=False),
        Arm(
            name="real+classical",
            role="comparison",
            compose=_real,
            sized=False,
            synthetic=False,
            augment=True,
        ),
        Arm(name="real+synthetic", role="tested", compose=_real_and_synthetic, scales=True),
        Arm(name=FILTERED, role="tested", compose=_real_and_filtered),
        Arm(name="synthetic", role="comparison", compose=_synthetic),
        Arm(name="oversampled", role="control", compose=_oversampled, synthetic=False),
        Arm(name="shuffled", role="control", compose=_shuffled),
    )
}
"""Every arm, in the order of the tables; a new one is an entry here."""

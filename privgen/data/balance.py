"""Dealing patients out to roles so that every role looks like the whole.

Patients differ wildly in how many tiles and which classes they bring, so cutting a shuffled list is
not enough: many random starts are each improved patient by patient, and the best one wins. `spread`
draws a few tiles as evenly over the patients as these allow.
"""

import numpy as np
from numpy.typing import NDArray

_MOST_STARTS = 64
_MOST_MOVES = 200
_EFFORT = 20_000
"""Units times starts: sixteen patients get 64 starts; many thousands need one."""


def assign(
    counts: NDArray[np.int64], shares: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.intp]:
    """A role for each unit: the best of several random starts, each improved unit by unit.

    Args:
      counts: tiles of each unit and class, shape (u, c).
      shares: wanted share of each role (train, holdout, reference), shape (r,), sum 1.
    """
    objective = _Objective(counts, shares)
    starts = int(np.clip(_EFFORT // len(counts), 1, _MOST_STARTS))
    found = [_descend(objective, _random_start(counts, shares, rng)) for _ in range(starts)]
    return min(found, key=lambda outcome: outcome[0])[1]


class _Objective:
    """How far a role's tiles are from what was asked for; 0 is perfect.

    Squared deviation, from the role's share, of its share of each class (mean over classes), of all
    tiles and of all units; plus 10 for a class missing where it could be, 1000 for an empty role.
    """

    def __init__(self, counts: NDArray[np.int64], shares: NDArray[np.float64]) -> None:
        self.shares = shares
        classes = counts.shape[1]
        total = counts.sum(axis=1, keepdims=True)
        self.columns = np.hstack([counts, total, np.ones_like(total)])
        """Tiles of each class, all tiles, and 1 for the unit itself: shape (u, c + 2)."""
        self._whole = self.columns.sum(axis=0)
        self._weights = np.array([1 / classes] * classes + [1.0, 1.0])
        bearers = (counts > 0).sum(axis=0)
        self._required = np.zeros((len(shares), classes + 2))
        for role in range(len(shares)):
            self._required[role, :classes] = 10.0 * (bearers > role)
            self._required[role, -1] = 1000.0

    def cost(self, sums: NDArray[np.int64], role: NDArray[np.intp] | int) -> NDArray[np.float64]:
        """Cost of roles that hold `sums`, shape (..., c + 2); `role` broadcasts over the front."""
        deviation = sums / self._whole - self.shares[role][..., np.newaxis]
        missing = self._required[role] * (sums == 0)
        cost: NDArray[np.float64] = (self._weights * deviation**2 + missing).sum(axis=-1)
        return cost


def _random_start(
    counts: NDArray[np.int64], shares: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.intp]:
    """Shuffle the units of each main class and cut that list at the shares."""
    main = counts.argmax(axis=1)
    role = np.empty(len(counts), dtype=np.intp)
    for label in np.unique(main):
        inside = rng.permutation(np.flatnonzero(main == label))
        position = (np.arange(len(inside)) + rng.random()) / len(inside)
        role[inside] = np.searchsorted(np.cumsum(shares)[:-1], position, side="right")
    return role


def _descend(objective: _Objective, role: NDArray[np.intp]) -> tuple[float, NDArray[np.intp]]:
    """Move the one unit that helps most to another role, until none helps."""
    columns = objective.columns
    everyone = np.arange(len(objective.shares))
    sums = np.stack([columns[role == r].sum(axis=0) for r in everyone])
    for _ in range(_MOST_MOVES):
        now = objective.cost(sums, everyone)
        without = objective.cost(sums[role] - columns, role) - now[role]
        joined = objective.cost(sums + columns[:, np.newaxis], everyone) - now
        gain = without[:, np.newaxis] + joined
        gain[np.arange(len(role)), role] = 0.0
        unit, to = np.unravel_index(gain.argmin(), gain.shape)
        if gain[unit, to] > -1e-12:
            break
        sums[role[unit]] -= columns[unit]
        sums[to] += columns[unit]
        role[unit] = to
    return float(objective.cost(sums, everyone).sum()), role


def spread(
    groups: NDArray[np.str_], rows: NDArray[np.intp], count: int, rng: np.random.Generator
) -> NDArray[np.intp]:
    """Up to `count` of the given rows, as evenly over the groups as these allow; sorted.

    Args:
      groups: of every row there is, shape (n,).
      rows: candidates.
      count: most rows wanted.
      rng: which of a group's rows.
    """
    shuffled = rng.permutation(rows)
    seen: dict[str, int] = {}
    turn = np.empty(len(shuffled), dtype=np.intp)
    for position, row in enumerate(shuffled):
        turn[position] = seen[groups[row]] = seen.get(groups[row], -1) + 1
    chosen: NDArray[np.intp] = np.sort(shuffled[np.argsort(turn, kind="stable")][:count])
    return chosen

"""Dealing patients out to roles so that every role looks like the whole.

Patients differ wildly in how many tiles and which classes they bring, so cutting a shuffled list is
not enough: many random starts are each improved patient by patient, and the best one wins. `spread`
draws a few tiles as evenly over the patients as these allow.
"""

import numpy as np
from numpy.typing import NDArray

_MOST_STARTS = 64
_MOST_MOVES = 200
_MOST_ROUNDS = 20
_MANY_CLASSES, _MANY_CELLS = 32, 20_000
"""Classes above which a unit is taken to have few of them, and units times classes above which that
is needed: trying every move by itself finds slightly better deals."""

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
    if counts.shape[1] > _MANY_CLASSES and counts.size > _MANY_CELLS:
        many = _Sparse(counts, shares)
        starts = int(np.clip(_EFFORT // (2 * many.entries), 1, _MOST_STARTS))
        found = [_descend_many(many, _start_of_many(counts, shares, rng)) for _ in range(starts)]
    else:
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
        self._whole = np.maximum(self.columns.sum(axis=0), 1)
        self._weights = np.array([1 / classes] * classes + [1.0, 1.0])
        bearers = (counts > 0).sum(axis=0)
        self._required = np.zeros((len(shares), classes + 2))
        for role in range(len(shares)):
            self._required[role, :classes] = 10.0 * (bearers > role)
            self._required[role, -1] = 1000.0

    def gains(self, sums: NDArray[np.int64], role: NDArray[np.intp]) -> NDArray[np.float64]:
        """By how much moving each unit to each role changes the cost of all, shape (u, r)."""
        now = self.cost(sums, np.arange(len(self.shares)))
        without = self.cost(sums[role] - self.columns, role) - now[role]
        everyone = np.arange(len(self.shares))
        joined = self.cost(sums + self.columns[:, np.newaxis], everyone) - now
        gain: NDArray[np.float64] = without[:, np.newaxis] + joined
        return gain

    def cost(self, sums: NDArray[np.int64], role: NDArray[np.intp] | int) -> NDArray[np.float64]:
        """Cost of roles that hold `sums`, shape (..., c + 2); `role` broadcasts over the front."""
        deviation = sums / self._whole - self.shares[role][..., np.newaxis]
        missing = self._required[role] * (sums == 0)
        cost: NDArray[np.float64] = (self._weights * deviation**2 + missing).sum(axis=-1)
        return cost


class _Sparse(_Objective):
    """The same for many classes, of which a unit has few: only what a move changes is computed."""

    def __init__(self, counts: NDArray[np.int64], shares: NDArray[np.float64]) -> None:
        super().__init__(counts, shares)
        self._unit, self._column = np.nonzero(self.columns)
        self._count = self.columns[self._unit, self._column]
        self.entries = len(self._unit)
        own = self._column < counts.shape[1]
        ends = np.cumsum(np.bincount(self._unit[own], minlength=len(counts)))[:-1]
        self.classes = [set(some.tolist()) for some in np.split(self._column[own], ends)]
        """Numbers of the classes that each unit has."""

    def gains(self, sums: NDArray[np.int64], role: NDArray[np.intp]) -> NDArray[np.float64]:
        """As of any objective."""
        gain = np.empty((len(role), len(self.shares)))
        now = self._terms(sums[:, self._column])
        before = role[self._unit]
        held = sums[before, self._column]
        places = np.arange(len(before))
        left = self._terms(held - self._count, before) - now[before, places]
        without = np.bincount(self._unit, left, len(role))
        for to in range(len(self.shares)):
            more = self._terms(sums[to, self._column] + self._count, to) - now[to]
            gain[:, to] = without + np.bincount(self._unit, more, len(role))
        return gain

    def _terms(
        self, held: NDArray[np.int64], role: NDArray[np.intp] | int | None = None
    ) -> NDArray[np.float64]:
        """Each column's part in the cost of a role that holds so many of it.

        Args:
          held: shape (k,), or (r, k) for all roles.
          role: of each, or of all; None for the roles in order.
        """
        column = self._column
        share = self.shares[:, np.newaxis] if role is None else self.shares[role]
        required = self._required[:, column] if role is None else self._required[role, column]
        deviation = held / self._whole[column] - share
        terms: NDArray[np.float64] = self._weights[column] * deviation**2 + required * (held == 0)
        return terms


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


def _start_of_many(
    counts: NDArray[np.int64], shares: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.intp]:
    """As `_random_start`, for all classes at once."""
    main = counts.argmax(axis=1)
    order = np.lexsort((rng.random(len(main)), main))
    sizes = np.bincount(main, minlength=counts.shape[1])
    rank = np.arange(len(main)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    position = (rank + rng.random(len(sizes))[main[order]]) / sizes[main[order]]
    role = np.empty(len(main), dtype=np.intp)
    role[order] = np.searchsorted(np.cumsum(shares)[:-1], position, side="right")
    return role


def _descend(objective: _Objective, role: NDArray[np.intp]) -> tuple[float, NDArray[np.intp]]:
    """Move the one unit that helps most to another role, until none helps."""
    columns = objective.columns
    everyone = np.arange(len(objective.shares))
    sums = np.stack([columns[role == r].sum(axis=0) for r in everyone])
    for _ in range(_MOST_MOVES):
        gain = objective.gains(sums, role)
        gain[np.arange(len(role)), role] = 0.0
        unit, to = np.unravel_index(gain.argmin(), gain.shape)
        if gain[unit, to] > -1e-12:
            break
        sums[role[unit]] -= columns[unit]
        sums[to] += columns[unit]
        role[unit] = to
    return float(objective.cost(sums, everyone).sum()), role


def _descend_many(objective: _Sparse, role: NDArray[np.intp]) -> tuple[float, NDArray[np.intp]]:
    """As `_descend`, with the best move of every class at a time, as far as that helps."""
    columns, everyone = objective.columns, np.arange(len(objective.shares))
    sums = np.stack([columns[role == r].sum(axis=0) for r in everyone])
    cost = float(objective.cost(sums, everyone).sum())
    for _ in range(_MOST_ROUNDS):
        gain = objective.gains(sums, role)
        gain[np.arange(len(role)), role] = 0.0
        to = gain.argmin(axis=1)
        best = gain[np.arange(len(role)), to]
        moved: list[int] = []
        touched: set[int] = set()
        for unit in np.argsort(best, kind="stable")[: (best < -1e-12).sum()].tolist():
            if touched.isdisjoint(objective.classes[unit]):
                touched |= objective.classes[unit]
                moved.append(unit)
        while moved:
            trial = role.copy()
            trial[moved] = to[moved]
            changed = sums.copy()
            for r in everyone:
                changed[r] += columns[moved][trial[moved] == r].sum(axis=0)
                changed[r] -= columns[moved][role[moved] == r].sum(axis=0)
            then = float(objective.cost(changed, everyone).sum())
            if then < cost - 1e-12:
                role, sums, cost = trial, changed, then
                break
            moved = moved[: len(moved) // 2]
        if not moved:
            break
    return cost, role


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

"""Coins of repeated training: which patients are in which run, and how they could have fallen.

The data holder trains the same recipe several times, each time on a random part of the patients.
The coins are tossed by the auditor, so their law is known exactly, and re-tossing them is the test
(`audits.repeated`). Every run must be able to train every class: a toss that leaves a class without
tiles is tossed again, in the design and in every re-toss alike, which keeps the test exact.

Conventions: runs are rows, patients are columns; True is "in training".
Source: docs/methods.md#repeated-training.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from audits.errors import AuditInputError
from audits.recipe_sections import FEWEST_PATIENTS, FEWEST_RUNS, Scheme

Included = NDArray[np.bool_]

TILES_A_CLASS = 2
"""Fewest tiles of a class that a run can train on."""

_MOST_ENUMERATED = 14
_HARDLY_EVER = 1e-3
_TRIED = 20_000


@dataclass(frozen=True, kw_only=True, eq=False)
class Design:
    """How the coins of repeated training are tossed.

    Attributes:
      scheme: see `Scheme`.
      runs: K.
      class_tiles: tiles that each patient has of each class to train on, shape (P, C).

    Raises:
      AuditInputError: too few runs or patients, an odd number of runs for complementary pairs, or
        classes that hardly any toss leaves trainable.
    """

    scheme: Scheme
    runs: int
    class_tiles: NDArray[np.int64]

    def __post_init__(self) -> None:
        if self.scheme not in get_args(Scheme):
            raise AuditInputError(
                f"coins must be {', '.join(get_args(Scheme))}: got {self.scheme!r}."
            )
        if self.runs < FEWEST_RUNS:
            raise AuditInputError(
                f"repeated training needs {FEWEST_RUNS} runs at least: got {self.runs}. With fewer "
                "no arrangement of the coins is rare enough to mean anything."
            )
        if self.paired and self.runs % 2:
            raise AuditInputError(
                f"complementary runs come in pairs: got {self.runs}. Give an even number."
            )
        if self.patients < FEWEST_PATIENTS:
            raise AuditInputError(
                f"repeated training needs {FEWEST_PATIENTS} patients at least: got "
                f"{self.patients}. Add patients."
            )
        if self.acceptance < _HARDLY_EVER:
            raise AuditInputError(
                "every run must have tiles of every class to train on: of random halves of the "
                f"{self.patients} patients {self.acceptance:.2g} do. Leave out or join classes "
                "that hardly any patient has."
            )

    @property
    def patients(self) -> int:
        """P."""
        return len(self.class_tiles)

    @property
    def paired(self) -> bool:
        """Whether one coin governs two runs."""
        return self.scheme == "complementary"

    @property
    def units(self) -> int:
        """Runs, or pairs of runs, that are tossed independently of each other."""
        return self.runs // 2 if self.paired else self.runs

    @property
    def coins(self) -> int:
        """Fair coins that were tossed independently; 0 where a run takes exactly half."""
        return 0 if self.scheme == "balanced" else self.units * self.patients

    @cached_property
    def acceptance(self) -> float:
        """Chance that one unit's toss leaves every class trainable; exact for 14 patients or fewer,
        else from 20,000 tosses that are always the same."""
        rows = self._every_row() if self.patients <= _MOST_ENUMERATED else None
        if rows is None:
            rows = self._tossed(_TRIED, np.random.default_rng(0))
        return float(self._trainable(rows).mean())

    def toss(self, rng: np.random.Generator) -> "Coins":
        """The coins of one experiment."""
        return Coins(design=self, included=self.retoss(1, rng)[0])

    def retoss(self, draws: int, rng: np.random.Generator) -> Included:
        """Coins of `draws` experiments like this one, shape (draws, K, P)."""
        wanted = draws * self.units
        found = [np.empty((0, self.patients), dtype=np.bool_)]
        while (have := sum(map(len, found))) < wanted:
            rows = self._tossed(int(1.1 * (wanted - have) / self.acceptance) + 8, rng)
            found.append(rows[self._trainable(rows)])
        rows = np.concatenate(found)[:wanted].reshape(draws, self.units, self.patients)
        return self._as_runs(rows)

    def arrangements(self, most: int) -> Included | None:
        """Every way the coins can fall, each equally likely, shape (n, K, P).

        None where there are more than `most`.
        """
        if self.patients > _MOST_ENUMERATED:
            return None
        rows = self._every_row()
        rows = rows[self._trainable(rows)]
        if len(rows) ** self.units > most:
            return None
        picks = np.array(list(product(range(len(rows)), repeat=self.units)))
        return self._as_runs(rows[picks])

    def _as_runs(self, rows: Included) -> Included:
        """Tosses of units, shape (n, units, P), as runs: partners follow each other."""
        if not self.paired:
            return rows
        return np.stack([rows, ~rows], axis=2).reshape(len(rows), self.runs, self.patients)

    def _tossed(self, count: int, rng: np.random.Generator) -> Included:
        """Tosses of one unit before any is refused, shape (count, P)."""
        if self.scheme != "balanced":
            return rng.random((count, self.patients)) < 0.5
        sizes = self.patients // 2 + rng.integers(0, 1 + self.patients % 2, (count, 1))
        return rng.random((count, self.patients)).argsort(axis=1).argsort(axis=1) < sizes

    def _every_row(self) -> Included:
        rows = np.array(list(product([False, True], repeat=self.patients)))
        if self.scheme == "balanced":
            inside = rows.sum(axis=1)
            halves = {self.patients // 2, (self.patients + 1) // 2}
            rows = rows[np.isin(inside, list(halves))]
        return rows

    def _trainable(self, rows: Included) -> Included:
        """Which tosses leave every class trainable in every run of the unit, shape (n,)."""
        sides = [rows, ~rows] if self.paired else [rows]
        fine = np.logical_and(rows.any(axis=1), ~rows.all(axis=1))
        for side in sides:
            fine &= (side.astype(np.int64) @ self.class_tiles >= TILES_A_CLASS).all(axis=1)
        kept: Included = fine
        return kept


@dataclass(frozen=True, kw_only=True, eq=False)
class Coins:
    """Coins that were tossed.

    Attributes:
      design: how.
      included: who was in training, shape (K, P).

    Raises:
      AuditInputError: the coins are none that this design can toss.
    """

    design: Design
    included: Included

    def __post_init__(self) -> None:
        design, wanted = self.design, (self.design.runs, self.design.patients)
        if self.included.dtype != np.bool_ or self.included.shape != wanted:
            raise AuditInputError(
                f"coins must hold one boolean a run and patient, shape {wanted}: got "
                f"{self.included.dtype} of shape {self.included.shape}."
            )
        rows = self.included[::2] if design.paired else self.included
        partners = self.included[1::2] if design.paired else ~rows
        if not (design._trainable(rows).all() and np.array_equal(partners, ~rows)):
            raise AuditInputError(
                "these coins are none of the design: a run lacks a class, or partners are not "
                "complements. Use the coins that were tossed before training."
            )

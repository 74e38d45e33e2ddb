"""Coins of repeated training: which patients are in which run, and how they could have fallen.

The data holder trains the same recipe several times, each time on a random part of the patients.
The coins are tossed by the auditor, so their law is known exactly, and re-tossing them is the test
(`audits.repeated`). Every run must be able to train every class: a toss that leaves a class without
tiles is tossed again, in the design and in every re-toss alike, which keeps the test exact.

Conventions: runs are rows, patients are columns; True is "in training".
Source: docs/methods.md#repeated-training.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from audits.errors import AuditInputError
from audits.intervals import clopper_pearson
from audits.recipe_sections import FEWEST_PATIENTS, FEWEST_RUNS, Scheme

Included = NDArray[np.bool_]

TILES_A_CLASS = 2
"""Fewest tiles of a class that a run can train on."""

_MOST_ENUMERATED = 14
_HARDLY_EVER, _NEARLY_ALWAYS = 1e-3, 0.9
_TRIED = 20_000
_MOST_CELLS = 2**22


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

    @property
    def free(self) -> bool:
        """Whether coins are all but independent of each other.

        Hardly any toss is refused, and no run is held to half of the patients. Where the coins of
        two patients hang together, what gives one away seems to give the other away.
        """
        return self.scheme != "balanced" and self.acceptance >= _NEARLY_ALWAYS

    @property
    def restricting(self) -> bool:
        """Whether classes decide who may be in together; that all are in or out never counts."""
        plain = Design(
            scheme=self.scheme,
            runs=self.runs,
            class_tiles=np.full((self.patients, 1), TILES_A_CLASS),
        )
        return self.acceptance < plain.acceptance

    @cached_property
    def accepted(self) -> float:
        """Chance that the tosses of all units are taken; for many patients a lower limit of it."""
        share = self.acceptance
        if self.patients > _MOST_ENUMERATED:
            share = clopper_pearson(round(share * _TRIED), _TRIED, confidence=0.999)[0]
        return float(share**self.units)

    def runs_to_stand_out(self, level: float) -> int:
        """Fewest runs with which one patient's own coins are as rare as a level."""
        coins = math.ceil(-math.log2(level))
        return 2 * coins if self.paired else coins

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
        wanted, most = draws * self.units, _MOST_CELLS // self.patients
        found = [np.empty((0, self.patients), dtype=np.bool_)]
        while (have := sum(map(len, found))) < wanted:
            count = int(1.1 * (wanted - have) / self.acceptance) + 8
            rows = self._tossed(min(count, most), rng)
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

"""From embeddings to one score a patient and run: what the tests of repeated training are given.

Tiles of every patient are held back from every run. Their score says whether a run had the patient
(`patient_membership`), even to somebody who has other tiles of hers. The score of the tiles that a
run was given where it had her says the same to somebody who has those very tiles
(`tile_membership`): coins are tossed by patient, so nothing else can tell the two sides apart.

Conventions: rows of scores are runs, columns patients; higher = more likely a member.
Source: docs/methods.md#repeated-training.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from audits.attacks import density_ratio, full_black_box
from audits.coins import Coins
from audits.errors import AuditInputError
from audits.family import ARMS, PRIMARY_ATTACK
from audits.inputs import Floats
from audits.recipe_sections import FEWEST_PATIENTS

Embeddings = NDArray[np.float32]
Indices = NDArray[np.intp]

TILE, PATIENT = ARMS
DENSITY_RATIO = "density_ratio"
RECIPE_ATTACKS = (PRIMARY_ATTACK, DENSITY_RATIO)
"""Attacks of every audit; the first was chosen on procedural tissue and decides a pass."""


_MOST_LEFT_OUT = 0.2


def enough(measured: int, patients: int) -> bool:
    """Whether so many of the patients are enough for an arm to speak of all."""
    return measured >= max(FEWEST_PATIENTS, (1 - _MOST_LEFT_OUT) * patients)


@dataclass(frozen=True, kw_only=True, eq=False)
class Look:
    """One way of looking at the same tiles.

    Attributes:
      real: shape (n, d).
      synthetic: of each run, shape (s, d).
    """

    real: Embeddings
    synthetic: Sequence[Embeddings]


@dataclass(frozen=True, kw_only=True, eq=False)
class RecipeData:
    """The runs of one recipe, and the real tiles of its patients.

    Attributes:
      coins: that decided who was in which run.
      look: embeddings, whitened by one fit on the tiles of all runs and the real ones together.
      patients: column of each real tile's patient in the coins, shape (n,).
      held_back: real tiles that no run was given, shape (n,).
      strata: class group of each patient, shape (P,).
      others: further looks by name, described and never tested.
      outside: scores of every real tile under each run, by attacks that ran elsewhere, shape (n,)
        each; higher = more likely in training.
      quality: plain outputs of an encoder that trained nobody, and its name; no quality when None.
      encoder: name of the embedding.
      group_unit: what a patient really is here.
      shared_coins: coins that several patients have between them.

    Raises:
      AuditInputError: shapes that do not fit each other, or no tile to train on.
    """

    coins: Coins
    look: Look
    patients: Indices
    held_back: NDArray[np.bool_]
    strata: Indices
    others: Mapping[str, Look] = field(default_factory=dict)
    outside: Mapping[str, Sequence[Floats]] = field(default_factory=dict)
    quality: tuple[Look, str] | None = None
    encoder: str = "unknown"
    group_unit: str = "patient"
    shared_coins: int = 0

    def __post_init__(self) -> None:
        runs, count = self.coins.included.shape
        if len(self.strata) != count or not np.isin(self.patients, np.arange(count)).all():
            raise AuditInputError(
                f"coins, class groups and tiles must be of the same {count} patients."
            )
        for look in (self.look, *self.others.values()):
            rows = {len(look.real), len(self.patients), len(self.held_back)}
            if len(look.synthetic) != runs or len(rows) > 1:
                raise AuditInputError(
                    f"every look must hold {runs} runs and the same {len(self.patients)} real "
                    f"tiles: got {len(look.synthetic)} runs and {len(look.real)} tiles."
                )
        for name, scores in self.outside.items():
            if len(scores) != runs or {len(one) for one in scores} != {len(self.patients)}:
                raise AuditInputError(
                    f"{name} must score the same {len(self.patients)} real tiles under each of "
                    f"{runs} runs: got {len(scores)} runs of {len(scores[0]) if scores else 0}."
                )
        if len({len(tiles) for tiles in self.look.synthetic}) > 1:
            raise AuditInputError("every run must be sampled equally often.")
        if self.held_back.all():
            raise AuditInputError("no tile was left to train on: every one is held back.")
        if PATIENT not in self.arms:
            raise AuditInputError(
                "four patients in five must have tiles that every run left aside, or none: give "
                "more tiles a patient, or a larger share of siblings."
            )

    @property
    def attacks(self) -> tuple[str, ...]:
        """Those of the family, the primary one first."""
        return (*RECIPE_ATTACKS, *self.outside)

    @cached_property
    def arms(self) -> dict[str, NDArray[np.bool_]]:
        """Patients that each arm is measured on, shape (P,) each; arms of too few are left out.

        Where no tile was held back at all, the patient arm falls back to the tiles trained on, and
        there is no tile arm.
        """
        count = len(self.strata)
        kept = np.bincount(self.patients[self.held_back], minlength=count) > 0
        shown = np.bincount(self.patients[~self.held_back], minlength=count) > 0
        every = {TILE: kept & shown, PATIENT: kept} if kept.any() else {PATIENT: shown}
        return {arm: mask for arm, mask in every.items() if enough(int(mask.sum()), count)}

    def by_patient(self, tiles: Floats, arm: str) -> Floats:
        """One score a patient of the arm, from scores of all real tiles, shape (p,)."""
        held, shown = self._means(tiles, self.held_back), self._means(tiles, ~self.held_back)
        if not self.held_back.any():
            held = shown
        found: Floats = shown if arm == TILE else held
        return found[self.arms[arm]]

    def _means(self, tiles: Floats, rows: NDArray[np.bool_]) -> Floats:
        count = len(self.strata)
        sums = np.bincount(self.patients[rows], weights=tiles[rows], minlength=count)
        sizes = np.bincount(self.patients[rows], minlength=count)
        means: Floats = sums / np.maximum(sizes, 1)
        return means

    def scores(self, attack: str, rng: np.random.Generator) -> dict[str, Floats]:
        """Scores by arm, shape (K, p) each.

        Args:
          attack: one of `attacks`.
          rng: draws the reference tiles of `density_ratio` from the other runs, as many as a run
            has: a generator of the same recipe is what that attack calls a reference.
        """
        if attack in self.outside:
            return self.by_arm(self.outside[attack])
        score = self._attack(attack, rng)
        tiles = [score(run) for run in range(len(self.look.synthetic))]
        return self.by_arm(tiles)

    def _attack(self, attack: str, rng: np.random.Generator) -> Callable[[int], Floats]:
        real, runs = self.look.real, self.look.synthetic
        if attack == PRIMARY_ATTACK:
            return lambda run: full_black_box(real, runs[run])
        size, every = len(runs[0]), np.concatenate(runs)
        drawn = []
        for run in range(len(runs)):
            rows = rng.choice(len(every) - size, size, replace=False)
            drawn.append(rows + size * (rows >= run * size))  # its own are jumped over
        return lambda run: density_ratio(real, runs[run], every[drawn[run]])

    def described(self, name: str) -> dict[str, Floats]:
        """Scores of the primary attack in another look, by arm."""
        look = self.others[name]
        return self.by_arm([full_black_box(look.real, tiles) for tiles in look.synthetic])

    def by_arm(self, tiles: Sequence[Floats]) -> dict[str, Floats]:
        """Scores by arm, shape (K, p) each, from scores of all real tiles under each run."""
        return {
            arm: np.stack([self.by_patient(scores, arm) for scores in tiles]) for arm in self.arms
        }

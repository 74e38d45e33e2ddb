"""Canaries of one training: patients whose own coins put them into it or kept them out of it.

Train and holdout patients of a release may differ for many reasons. Canaries cannot: a coin decided
about each, so their p-value is exact whatever the patients are, and the coins are what the lower
bounds of epsilon assume. What they say holds for patients like them: artificial ones stand out by
design, and a generator that gives them away would give away a real patient who stands out as much.

Source: docs/methods.md#canaries.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from audits.canaries import GuessCounts
from audits.coin_bounds import SIGNIFICANCE, coin_bounds
from audits.errors import AuditInputError
from audits.inputs import Floats
from audits.membership import patient_membership
from audits.results import AuditResult, Harm
from audits.sections import FEWEST_A_SIDE, FEWEST_CANARIES
from audits.wording import interval

CANARIES = "canaries"
"""Name of the test of whether they are told apart."""


def accepted(count: int) -> float:
    """Share of tosses of `count` fair coins that leave `FEWEST_A_SIDE` on either side."""
    return 1 - 2 * (1 + count) / 2.0**count


def toss(count: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Fair coins of canaries, tossed again until both sides have some; shape (count,).

    Raises:
      AuditInputError: fewer than `FEWEST_CANARIES`.
    """
    if count < FEWEST_CANARIES:
        raise AuditInputError(
            f"canaries must be {FEWEST_CANARIES} or more: got {count}. With fewer no arrangement "
            "of their coins is rare enough to mean anything."
        )
    while True:
        coins = rng.random(count) < 0.5
        if FEWEST_A_SIDE <= coins.sum() <= count - FEWEST_A_SIDE:
            return coins


@dataclass(frozen=True, kw_only=True, eq=False)
class CanaryScores:
    """Canaries of one training and how each of their tiles scores.

    Attributes:
      scores: of the primary membership attack, shape (n,); higher = more likely in training.
      canary: whose each tile is, numbered from 0, shape (n,); every canary has a tile.
      included: who was in training, as tossed by `toss`, shape (m,).
      artificial: made by a program, as against real patients.
      unit: what a real patient is here.

    Raises:
      AuditInputError: a canary has no tile, or a side has too few of them.
    """

    scores: Floats
    canary: NDArray[np.intp]
    included: NDArray[np.bool_]
    artificial: bool
    unit: str = "patient"

    def __post_init__(self) -> None:
        count = len(self.included)
        if not np.array_equal(np.unique(self.canary), np.arange(count)):
            raise AuditInputError(
                f"every one of the {count} canaries needs a tile: "
                f"{len(np.unique(self.canary))} have one."
            )
        inside = int(self.included.sum())
        if min(inside, count - inside) < FEWEST_A_SIDE or count < FEWEST_CANARIES:
            raise AuditInputError(
                f"of {FEWEST_CANARIES} canaries or more {FEWEST_A_SIDE} must be on either side: "
                f"got {inside} in training and {count - inside} kept out."
            )

    @property
    def means(self) -> Floats:
        """Mean score of each canary, shape (m,)."""
        means: Floats = np.bincount(self.canary, self.scores) / np.bincount(self.canary)
        return means

    @property
    def noun(self) -> str:
        return "artificial patient" if self.artificial else self.unit.replace("_", " ")


def canary_results(found: CanaryScores, *, rng: np.random.Generator) -> list[AuditResult]:
    """Whether canaries are told apart, by an exact test on their means; and bounds of epsilon.

    Args:
      found: their scores and coins.
      rng: of permutations and bootstrap.
    """
    count, noun, means, inside = len(found.included), found.noun, found.means, found.included
    names = np.arange(count).astype(np.str_)
    tested = patient_membership(
        CANARIES,
        means[inside],
        means[~inside],
        member_patients=names[inside],
        nonmember_patients=names[~inside],
        rng=rng,
        harm=None if found.artificial else Harm.PATIENT_MEMBERSHIP,
    )
    return [
        AuditResult(
            name=tested.name,
            harm=tested.harm,
            statistic=replace(tested.statistic, unit=noun if found.artificial else "patient"),
            p_value=tested.p_value,
            details={
                "member_patients": int(inside.sum()),
                "nonmember_patients": int((~inside).sum()),
                "smallest_p": tested.details["smallest_p"],
                "artificial": found.artificial,
            },
            note=f"AUROC of the mean score of {noun}s in training against those kept out, each by "
            "a coin of its own: the p-value is exact.",
        ),
        *coin_bounds(
            means,
            inside,
            # Few coins, and canaries that stand out: every one is guessed.
            guesses=GuessCounts(guessed_in=count // 2, guessed_out=count - count // 2),
            whose=f"of this training, for one {noun}",
            paid=SIGNIFICANCE * accepted(count),
        ),
    ]


def told_apart(test: AuditResult) -> str:
    """What a rejection says, for the verdict."""
    noun = "artificial patients" if test.details["artificial"] else "patients"
    p = test.p_value if test.p_adjusted is None else test.p_adjusted
    return (
        f"{test.statistic.n} {noun} whose coins decided who was in training are told apart: AUROC "
        f"{interval(test)}, {'' if test.p_adjusted is None else 'adjusted '}p = {p:.2g}"
    )

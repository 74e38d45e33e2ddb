"""Canaries of one training: patients whose own coins put them into it or kept them out of it.

Train and holdout patients of a release may differ for many reasons. Canaries cannot: a coin decided
about each, so their p-value is exact whatever the patients are, and the coins are what the lower
bounds of epsilon assume. What they say holds for patients like them: artificial ones stand out by
design, and a generator that gives them away would give away a real patient who stands out as much.

Source: docs/methods.md#canaries.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audits.canaries import GuessCounts
from audits.coin_bounds import SIGNIFICANCE, coin_bounds
from audits.errors import AuditInputError
from audits.inputs import Floats
from audits.membership import patient_membership
from audits.results import AuditResult
from audits.sections import FEWEST_CANARIES
from audits.wording import interval

CANARIES = "canaries"
"""Name of the test of whether they are told apart."""

FEWEST_A_SIDE = 2
"""Fewest in training, and fewest kept out; other tosses are tossed again."""


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

    Raises:
      AuditInputError: a canary has no tile, or a side has too few of them.
    """

    scores: Floats
    canary: NDArray[np.intp]
    included: NDArray[np.bool_]
    artificial: bool

    def __post_init__(self) -> None:
        count = len(self.included)
        if len(np.unique(self.canary)) != count or self.canary.max() >= count:
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
        return np.bincount(self.canary, self.scores) / np.bincount(self.canary)

    @property
    def noun(self) -> str:
        return "artificial patient" if self.artificial else "patient"


def canary_results(
    found: CanaryScores, *, significance: float, rng: np.random.Generator
) -> list[AuditResult]:
    """Whether canaries are told apart, by an exact test, and the bounds of epsilon.

    Args:
      found: their scores and coins.
      significance: of the test, which stands outside the family of the verdict's tests: it can only
        take a pass away.
      rng: of draws of tiles, permutations and bootstrap.
    """
    inside = found.included[found.canary]
    names = found.canary.astype(np.str_)
    tested = patient_membership(
        CANARIES,
        found.scores[inside],
        found.scores[~inside],
        member_patients=names[inside],
        nonmember_patients=names[~inside],
        rng=rng,
        harm=None,
    )
    assert tested.p_value is not None
    count, noun = len(found.included), found.noun
    note = (
        f"AUROC of {int(found.included.sum())} {noun}s in training against "
        f"{int((~found.included).sum())} kept out, each by a coin of its own: the p-value is exact."
    )
    return [
        AuditResult(
            name=tested.name,
            harm=None,
            statistic=tested.statistic,
            p_value=tested.p_value,
            rejected=bool(tested.p_value <= significance),
            details={**tested.details, "artificial": found.artificial},
            note=note,
        ),
        *coin_bounds(
            found.means,
            found.included,
            # Few coins, and canaries that stand out: every one is guessed.
            guesses=GuessCounts(guessed_in=count // 2, guessed_out=count - count // 2),
            whose=f"of this training, for one {noun}",
            paid=SIGNIFICANCE * accepted(count),
        ),
    ]


def told_apart(results: list[AuditResult]) -> str:
    """A sentence for the verdict where canaries are told apart; "" where not."""
    test = next((result for result in results if result.name == CANARIES), None)
    if test is None or not test.rejected:
        return ""
    noun = "artificial patients" if test.details["artificial"] else "patients"
    return (
        f"{test.statistic.n} {noun} whose coins decided who was in training are told apart: AUROC "
        f"{interval(test)}, p = {test.p_value:.2g}."
    )

"""The positive control of repeated training: leaks of known strength, judged as real ones are.

Source: docs/methods.md#repeated-training.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from audits.coins import Included
from audits.inputs import Floats
from audits.intervals import clopper_pearson
from audits.neighbors import nearest
from audits.recipe_scores import Look, RecipeData
from audits.repeated import Retossed
from audits.results import Estimate

SHARES = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1)
"""Shares of a run's tiles that planted leaks replace."""

_REPETITIONS = 40
_RETOSSES = 1_999
_NEAR = 8
_MOST_TILES = 3_000


@dataclass(frozen=True, kw_only=True)
class PlantedPoint:
    """Share of planted leaks that the primary attack's test rejects.

    Attributes:
      arm: that sees them.
      fraction: share of each run's tiles that are copies of its own patients' tiles.
      copies: the same as a count.
      power: over repetitions.
    """

    arm: str
    fraction: float
    copies: int
    power: Estimate


class PlantedLeaks:
    """Leaks of known strength: some of a run's tiles replaced by copies of its own patients' tiles.

    The coins they follow are tossed anew, so that what the recipe itself gives away stands on no
    side.

    Args:
      data: the runs.
      rng: draws the real tiles looked at where there are more than 3,000, spread over patients.
    """

    def __init__(self, data: RecipeData, rng: np.random.Generator) -> None:
        order = rng.permutation(len(data.patients))
        rank = np.empty(len(order), dtype=np.intp)
        for patient in range(len(data.strata)):
            for held in (False, True):
                mine = (data.patients[order] == patient) & (data.held_back[order] == held)
                rank[order[mine]] = np.arange(mine.sum())
        rows = np.sort(order[np.argsort(rank[order], kind="stable")][:_MOST_TILES])
        self.data = RecipeData(
            coins=data.coins,
            look=Look(real=data.look.real[rows], synthetic=data.look.synthetic),
            patients=data.patients[rows],
            held_back=data.held_back[rows],
            strata=data.strata,
        )
        real = self.data.look.real
        k = min(_NEAR, len(data.look.synthetic[0]))
        self._near = [nearest(real, tiles, k=k) for tiles in data.look.synthetic]
        squares = (real**2).sum(axis=1)
        between = squares[:, None] + squares[None] - 2 * (real @ real.T)
        self._between = np.sqrt(np.maximum(between, 0))
        np.fill_diagonal(self._between, 0)

    def scores(
        self, included: Included, share: float, rng: np.random.Generator
    ) -> dict[str, Floats]:
        """Scores of the primary attack by arm, shape (K, p) each.

        Args:
          included: the coins that the leak follows, shape (K, P).
          share: of a run's tiles that are copies.
          rng: which tiles are copied, and which they replace.
        """
        data = self.data
        size = len(data.look.synthetic[0])
        copies = round(share * size)
        tiles = []
        for run, near in enumerate(self._near):
            gone = np.zeros(size, dtype=np.bool_)
            gone[rng.choice(size, copies, replace=False)] = True
            left = ~gone[near.indices]
            left[:, -1] |= ~left.any(axis=1)
            kept = near.distances[np.arange(len(left)), left.argmax(axis=1)]
            own = np.flatnonzero(included[run][data.patients] & ~data.held_back)
            copied = rng.choice(own, copies) if len(own) else own
            planted = self._between[:, copied].min(axis=1, initial=np.inf)
            tiles.append(-np.minimum(kept, planted))
        return data.by_arm(tiles)


def planted_power(
    data: RecipeData,
    retossed: Retossed,
    level: Mapping[str, float],
    rng: np.random.Generator,
) -> tuple[PlantedPoint, ...]:
    """The positive control: leaks of known strength, judged as the primary attack is."""
    leaks = PlantedLeaks(data, rng)
    few = retossed
    if not retossed.exact:
        few = Retossed(included=retossed.included[:_RETOSSES], exact=False)
    by_arm = {arm: few.of_patients(leaks.data.arms[arm]) for arm in leaks.data.arms}
    size = len(data.look.synthetic[0])
    shares = [share for share in SHARES if round(share * size) >= 1]
    rejected = {(arm, share): 0 for arm in by_arm for share in shares}
    for _ in range(_REPETITIONS):
        coins = data.coins.design.toss(rng).included
        for share in shares:
            for arm, scores in leaks.scores(coins, share, rng).items():
                chosen = leaks.data.arms[arm]
                p = by_arm[arm].p_of(scores, coins[:, chosen], data.strata[chosen])
                rejected[arm, share] += p <= level[arm]
    return tuple(
        PlantedPoint(
            arm=arm,
            fraction=share,
            copies=round(share * size),
            power=_rate(count, _REPETITIONS),
        )
        for (arm, share), count in rejected.items()
    )


def _rate(count: int, n: int) -> Estimate:
    low, high = clopper_pearson(count, n)
    return Estimate(value=count / n, low=low, high=high, n=n, unit="planted experiment")


def smallest_found(planted: Sequence[PlantedPoint]) -> dict[str, float | None]:
    """Smallest share from which on power stays at .8 or more, by arm."""
    found: dict[str, float | None] = {}
    for arm in dict.fromkeys(point.arm for point in planted):
        least = None
        for point in sorted(planted, key=lambda one: -one.fraction):
            if point.arm != arm:
                continue
            if point.power.value < 0.8:
                break
            least = point.fraction
        found[arm] = least
    return found

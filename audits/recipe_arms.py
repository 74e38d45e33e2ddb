"""One arm of repeated training: its patients, their coins, and how these could have fallen.

Source: docs/methods.md#repeated-training.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audits.coins import Included
from audits.inputs import Floats
from audits.recipe_scores import RecipeData
from audits.repeated import Effect, Retossed, effect

Indices = NDArray[np.intp]


@dataclass(frozen=True, kw_only=True, eq=False)
class Arm:
    """The patients of one arm.

    Attributes:
      name: "tile_membership" or "patient_membership".
      included: their coins, shape (K, p).
      strata: their class groups, shape (p,).
      retossed: how their coins could have fallen.
    """

    name: str
    included: Included
    strata: Indices
    retossed: Retossed

    @property
    def patients(self) -> int:
        """p."""
        return len(self.strata)

    def effect(self, scores: Floats) -> Effect:
        """Test and interval of scores of shape (K, p)."""
        return effect(scores, self.included, self.strata, self.retossed)


def arms_of(data: RecipeData, retossed: Retossed) -> dict[str, Arm]:
    """Every arm that can be measured, by name."""
    return {
        name: Arm(
            name=name,
            included=data.coins.included[:, chosen],
            strata=data.strata[chosen],
            retossed=retossed.of_patients(chosen),
        )
        for name, chosen in data.arms.items()
    }

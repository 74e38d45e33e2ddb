"""The section of a recipe's audit in a report, key by key: what `RecipeReport.to_dict` gives.

Keys are the attributes of the classes in `recipe` and `recipe_power`, which say what they mean.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, TypedDict

from audits.sections import EstimateDict, PolicyDict, ResultDict, VerdictDict

Scheme = Literal["complementary", "independent", "balanced"]
"""`complementary`: one fair coin a patient and pair of runs puts her into the one or the other.
`independent`: one fair coin a patient and run. `balanced`: each run takes exactly half of the
patients, at random."""

FEWEST_PATIENTS, FEWEST_RUNS = 4, 4
"""With fewer no arrangement of the coins is rare enough to mean anything."""


class PlantedDict(TypedDict):
    """Of `recipe.PlantedPoint`."""

    arm: str
    fraction: float
    copies: int
    power: EstimateDict


class PlannedDict(TypedDict):
    """Of `recipe_power.PlannedPower`."""

    runs: int
    patients: int
    detects: EstimateDict
    excludes: EstimateDict
    upper: float
    null_sd: float
    excess: float
    level: float


class RecipeAuditDict(TypedDict):
    """Of `recipe.RecipeReport`."""

    verdict: VerdictDict
    warnings: Sequence[str]
    results: Sequence[ResultDict]
    planted: Sequence[PlantedDict]
    mdl80: Mapping[str, float | None]
    lines: Sequence[Sequence[float]] | None
    scheme: Scheme
    coins: int
    runs: int
    patients: int
    tiles: int
    held_back: int
    synthetic: int
    group_unit: str
    encoder: str
    policy: PolicyDict
    seed: int

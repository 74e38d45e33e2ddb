"""The section of a recipe's audit in report.json, key by key; and what a dry run says."""

from collections.abc import Mapping, Sequence
from typing import TypedDict

from audits.recipe_sections import PlannedDict, RecipeAuditDict


class IdentityDict(TypedDict):
    """What was tried: digests of recipe, code and data, the keys of the configuration, and how many
    recipes were tried on the same coins."""

    recipe: str
    code: str
    data: str
    configuration: Mapping[str, str | float | bool | None]
    compared: int


class RecipeDict(TypedDict):
    """The section: what was tried, what was found, what it could see, what it cost."""

    identity: IdentityDict
    audit: RecipeAuditDict
    power: Sequence[PlannedDict]
    training_minutes: float


class EstimatedRecipe(TypedDict):
    """What an audit of a recipe would do."""

    patients: int
    runs: int
    kimg: float
    minutes_each: float
    minutes: float
    at_once: int
    power: Sequence[PlannedDict]

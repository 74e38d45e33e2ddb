"""Several recipes on the same coins: which gives least away, and what its tiles are worth.

The coins that choose a recipe cannot judge it: the one that is chosen must be audited again by
another seed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from privgen import console
from privgen.config import read_toml
from privgen.errors import ConfigError
from privgen.files import private_beside
from privgen.recipe.requests import RecipeRequest
from privgen.recipe.run import PlannedRecipe, RecipeAudit, plan_recipe

_FEWEST = 2


@dataclass(frozen=True, kw_only=True)
class ComparedRecipe:
    """One of several recipes.

    Attributes:
      name: of its file.
      audit: of it.
    """

    name: str
    audit: RecipeAudit


def planned_recipes(
    request: RecipeRequest, options: Mapping[str, Any], files: Sequence[Path]
) -> dict[str, PlannedRecipe]:
    """Every recipe ready to start, by the name of its file; arguments as `compare_recipes`."""
    names = [file.stem for file in files]
    if len(names) < _FEWEST or len(set(names)) < len(names):
        raise ConfigError(
            f"`compare` needs two recipes or more, in files of different names: got "
            f"{', '.join(names)}."
        )
    plans = {
        name: replace(plan_recipe(request, {**options, **read_toml(file)}), compared=len(names))
        for name, file in zip(names, files, strict=True)
    }
    _require_same_coins(list(plans.values()))
    return plans


def compare_recipes(
    request: RecipeRequest,
    options: Mapping[str, Any],
    files: Sequence[Path],
    out: Path,
    private: Path | None = None,
) -> list[ComparedRecipe]:
    """Audit one recipe after the other, each in a folder of its own in `out`.

    Args:
      request: tiles, coins and how runs are compared; the same for all.
      options: fields of `TrainConfig` for all; a file's own win.
      files: TOML, one a recipe.
      out: gets a folder for each file, by its name.
      private: keeps the runs; default `out` + "-private".

    Raises:
      ConfigError: fewer than two files, files of one name, or seeds that differ.
      InputError, RuntimeFailure, Interrupted: as `PlannedRecipe.run`; finished runs are kept.
    """
    plans = planned_recipes(request, options, files)
    hidden = private_beside(out) if private is None else private
    found = []
    for number, (name, plan) in enumerate(plans.items(), start=1):
        console.note(f"recipe {number} of {len(plans)}: {name}")
        found.append(ComparedRecipe(name=name, audit=plan.run(out / name, hidden / name)))
    return found


def _require_same_coins(plans: Sequence[PlannedRecipe]) -> None:
    first = plans[0].coins.included
    if any(not np.array_equal(first, plan.coins.included) for plan in plans[1:]):
        raise ConfigError(
            "recipes are compared on the same coins, which the seed decides: got different seeds. "
            "Give one `seed` for all, and leave it out of the files."
        )

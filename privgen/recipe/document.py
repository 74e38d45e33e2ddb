"""The report of a recipe's audit, and holding it against a release that brings it."""

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import numpy as np

import audits
from audits.recipe import RecipeReport
from audits.recipe_sections import PlannedDict
from audits.results import Harm, HarmVerdict, Outcome
from privgen.checkpoints.state import Checkpoint, load_checkpoint, sampled_checkpoint
from privgen.documents import DocumentError, parse_json, read_text
from privgen.errors import InputError, RuntimeFailure
from privgen.limits import told
from privgen.recipe.frozen import FrozenRecipe, decided, recipe_digest
from privgen.recipe.opening import data_digest
from privgen.recipe.requests import DEFAULT_COUNT, DEFAULT_SIBLINGS, RecipeRequest
from privgen.reporting import html
from privgen.reporting.recipe_sections import IdentityDict, RecipeDict
from privgen.reporting.sections import ReportDict, WeakerDict
from privgen.requests import command_line

_MOST_BYTES = 2**24
_DEFAULT_WATCH = 4.0
_ENOUGH = 0.9


def recipe_document(
    request: RecipeRequest,
    recipe: FrozenRecipe,
    report: RecipeReport,
    *,
    powers: list[PlannedDict],
    data: str,
    compared: int,
    training_minutes: float,
) -> ReportDict:
    """A report document that holds a recipe's audit alone.

    Args:
      request, recipe: as asked for, and as frozen.
      report: what was found.
      powers: of these runs, and of more.
      data: digest of the tiles.
      compared: recipes that were tried on the same coins.
      training_minutes: of all runs together.
    """
    encoder, _, file = request.encoder.partition(":")
    printable = replace(request, encoder=f"{encoder}:FILE" if file else encoder)
    # What runs alike have in common is not asked for again.
    config = replace(recipe.config, watch_kimg=_DEFAULT_WATCH)
    identity: IdentityDict = {
        "recipe": recipe.digest,
        "code": recipe.code,
        "data": data,
        "configuration": cast(Any, recipe.keys),
        "compared": compared,
    }
    return {
        "schema": "privgen-report/1",
        "privgen_version": version("privgen"),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "weaker_than_default": _weaker(request, report),
        "data": None,
        "generator": None,
        "audit": None,
        "augment_bench": None,
        "recipe": {
            "identity": identity,
            "audit": report.to_dict(),
            "power": powers,
            "training_minutes": training_minutes,
        },
        "reproduce": {
            "command": command_line("audit-recipe", printable, config),
            "seed": report.seed,
        },
        "samples_png": None,
    }


def _weaker(request: RecipeRequest, report: RecipeReport) -> list[WeakerDict]:
    """Settings with which the audit sees less than with its defaults."""
    default = audits.Policy()
    told = {
        "count": f"{request.count:,} synthetic tiles were drawn from each run, the default is "
        f"{DEFAULT_COUNT:,}: less of what a run gives away shows."
        if request.count < DEFAULT_COUNT
        else "",
        "siblings": f"A share of {request.siblings:g} of the tiles was held back, the default is "
        f"{DEFAULT_SIBLINGS:g}: patients are told by fewer tiles."
        if request.siblings < DEFAULT_SIBLINGS
        else "",
        "membership_excess": "The policy accepts an excess of "
        f"{report.policy['membership_excess']:g}, the default is {default.membership_excess:g}."
        if report.policy["membership_excess"] > default.membership_excess
        else "",
        "significance": f"The significance is {report.policy['significance']:g}, the default is "
        f"{default.significance:g}."
        if report.policy["significance"] < default.significance
        else "",
    }
    return [{"setting": name, "sentence": text} for name, text in told.items() if text]


@dataclass(frozen=True, kw_only=True)
class BroughtRecipe:
    """The audit of a release's recipe, held against the release.

    Attributes:
      section: of its report.
      verdicts: on both arms of membership.
    """

    section: RecipeDict
    verdicts: dict[Harm, HarmVerdict]


def brought(
    folder: Path, release: Path, policy: audits.Policy, *, count: int, truncation: float
) -> BroughtRecipe:
    """The audit of a recipe, as far as it speaks for a release.

    Args:
      folder: what `privgen audit-recipe` wrote.
      release: checkpoint or run folder of the release.
      policy: of the release's audit.
      count, truncation: synthetic tiles that this draws, and how.

    Raises:
      InputError: there is no such report, or the release was made by another recipe, from other
        tiles, from fewer of them, or is sampled otherwise; what differs is named.
    """
    section = _section(folder)
    if section["identity"]["compared"] > 1:
        raise InputError(
            f"this recipe was chosen among {section['identity']['compared']} on the coins that "
            "judge it. Audit it once more alone, by another `seed`."
        )
    if truncation != 1 or count > section["audit"]["synthetic"]:
        raise InputError(
            "a recipe's audit speaks of tiles drawn without truncation, and of no more than it "
            f"drew, {section['audit']['synthetic']:,}: got {count:,} with truncation "
            f"{truncation:g}. Draw as many, or audit the recipe with a larger `count`."
        )
    checkpoint = load_checkpoint(sampled_checkpoint(release))
    _require_same_recipe(section["identity"], checkpoint)
    _require_same_patients(section, checkpoint)
    _require_same_policy(section, policy)
    return BroughtRecipe(
        section=section,
        verdicts={
            Harm(row["harm"]): HarmVerdict(
                harm=Harm(row["harm"]),
                outcome=Outcome(row["outcome"]),
                reason=row["reason"],
                remedy=row["remedy"],
                gates=row["gates"],
            )
            for row in section["audit"]["verdict"]["harms"]
        },
    )


def _section(folder: Path) -> RecipeDict:
    place = folder / "report.json" if folder.is_dir() else folder
    try:
        document = parse_json(read_text(place, _MOST_BYTES))
        html.validate(document)
        section = document.get("recipe")
    except (OSError, DocumentError, RuntimeFailure, AttributeError, TypeError) as error:
        raise InputError(
            f"`recipe` must be the folder that privgen audit-recipe wrote: {place} is no such "
            f"report ({told(error)})."
        ) from error
    if section is None:
        raise InputError(
            f"`recipe` must be the folder that privgen audit-recipe wrote: {place} is a report of "
            "something else."
        )
    return cast(RecipeDict, section)


def _require_same_recipe(identity: IdentityDict, checkpoint: Checkpoint) -> None:
    if checkpoint.ledger.artificial:
        raise InputError(
            "a recipe's audit trains on real patients alone: this release was trained on "
            f"{checkpoint.ledger.artificial} artificial ones too. Give a release without, or leave "
            "`recipe` out."
        )
    kimg = checkpoint.step * checkpoint.config.batch / 1000
    ours, theirs = decided(checkpoint.config, kimg), identity["configuration"]
    if recipe_digest(ours, checkpoint.code) == identity["recipe"]:
        return
    plain = json.loads(json.dumps(ours))
    changed = [
        f"{key} {theirs.get(key)} -> {plain.get(key)}"
        for key in sorted({*plain, *theirs})
        if plain.get(key) != theirs.get(key)
    ]
    if checkpoint.code != identity["code"]:
        changed.append("the code that trains")
    raise InputError(
        f"the release must be made by the recipe that was audited; changed: {'; '.join(changed)}. "
        "Train the release by that recipe, or audit its own."
    )


def _require_same_patients(section: RecipeDict, checkpoint: Checkpoint) -> None:
    entries = checkpoint.ledger.entries
    found = data_digest(
        np.array([entry.sha256 for entry in entries]), np.array([entry.group for entry in entries])
    )
    if found != section["identity"]["data"]:
        raise InputError(
            "the release must be made from the tiles on which its recipe was audited: tiles, or "
            "whose they are, changed. Audit the recipe on the release's own data."
        )
    shown = [entry for entry in entries if entry.role == "train"]
    patients, tried = len({entry.group for entry in shown}), section["audit"]
    needed, tiles = tried["patients"] // 2, (tried["tiles"] - tried["held_back"]) // 2
    if patients < needed or len(shown) < _ENOUGH * tiles:
        raise InputError(
            f"the release must be trained on as much as a run of its recipe, {needed} patients and "
            f"about {tiles:,} tiles: got {patients} and {len(shown):,}. With fewer, each is given "
            "away more. Give a smaller `holdout` or `siblings`."
        )


def _require_same_policy(section: RecipeDict, policy: audits.Policy) -> None:
    theirs = section["audit"]["policy"]
    for name in ("significance", "membership_excess"):
        if theirs[name] != getattr(policy, name):
            raise InputError(
                f"a recipe must be audited by the policy of its release: {name} was "
                f"{theirs[name]:g} and is {getattr(policy, name):g}. "
                "Run privgen audit-recipe again with this policy; its runs are kept."
            )

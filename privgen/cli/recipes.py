"""`privgen audit-recipe`: train a recipe many times, and say whether it gives its patients away."""

from pathlib import Path
from typing import Annotated, Any

import typer

from audits.results import Outcome
from privgen import console
from privgen.cli.base import Json, app, reported, require_paths
from privgen.cli.options import Grouped, from_requests
from privgen.config import TrainConfig, read_toml
from privgen.errors import ConfigError
from privgen.recipe.requests import RecipeRequest
from privgen.requests import made, options_of


@app.command("audit-recipe", cls=Grouped)
@reported
@from_requests(RecipeRequest, TrainConfig)
def audit_recipe(
    given: dict[str, Any],
    out: Annotated[
        Path | None,
        typer.Option(
            help="Empty or new folder for report.html and report.json. A run that was stopped goes "
            "on when its command is repeated."
        ),
    ] = None,
    private: Annotated[
        Path | None,
        typer.Option(help="Folder of the runs, yours alone.", show_default="OUT-private"),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="TOML with any keys of the configuration; options given here win."),
    ] = None,
    compare: Annotated[
        list[Path] | None,
        typer.Option(
            help="TOML of a recipe; give it twice or more to audit several on the same coins, each "
            "in a folder of OUT."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say how long, and what could be seen; write nothing.")
    ] = False,
    json: Json = False,
) -> int:
    """Train a recipe again and again on random halves of the patients, and compare each with
    herself.

    Decides membership with 16 patients, where the audit of one release needs some 140. Exit code 0:
    no leak found; 1: leak; 4: inconclusive. With --compare it is 0 when all recipes were tried.
    """
    require_paths(given.get("data"), config, given.get("policy"), *(compare or ()))
    asked = {name: given.pop(name) for name in options_of(RecipeRequest) if name in given}
    request = made(RecipeRequest, asked)
    options = {**(read_toml(config) if config else {}), **given}
    from privgen.recipe.comparing import planned_recipes
    from privgen.recipe.run import plan_recipe
    from privgen.reporting.terminal import print_recipe, print_recipe_plan

    plans = planned_recipes(request, options, compare) if compare else {}
    if dry_run:
        plans = plans or {"recipe": plan_recipe(request, options)}
        estimates = {name: plan.estimate() for name, plan in plans.items()}
        for name, estimate in estimates.items():
            print_recipe_plan(estimate, name)
        if json:
            console.emit_json(estimates if compare else estimates["recipe"])
        return 0
    if out is None:
        raise ConfigError("the audit of a recipe needs a folder to write to: give `out`.")
    if compare:
        return _compared(request, options, compare, out, private, json)
    plan = plan_recipe(request, options)
    result = plan.run(out, private)
    print_recipe(result.document["recipe"], result.document["weaker_than_default"])
    console.note(f"report: {out / 'report.html'}")
    if result.verdict.outcome is not Outcome.LEAK:
        console.note(f"use it for a release: privgen audit --generator RUN --recipe {out}")
    if json:
        console.emit_json(result.document)
    return result.verdict.outcome.exit_code


def _compared(
    request: RecipeRequest,
    options: dict[str, Any],
    files: list[Path],
    out: Path,
    private: Path | None,
    json: bool,
) -> int:
    from privgen.recipe.comparing import compare_recipes
    from privgen.reporting.terminal import print_compared

    found = compare_recipes(request, options, files, out, private)
    sections = {one.name: one.audit.document["recipe"] for one in found}
    print_compared(sections)
    console.note(f"reports: {out}; audit the recipe you choose again, by another --seed")
    if json:
        console.emit_json(sections)
    return 0

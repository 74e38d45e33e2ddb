"""`privgen train`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from privgen import console
from privgen.cli.base import Json, app, reported, require_paths
from privgen.cli.options import Grouped, from_requests
from privgen.config import TrainConfig, read_toml
from privgen.requests import made, options_of
from privgen.training.requests import SessionRequest


@app.command(cls=Grouped)
@reported
@from_requests(SessionRequest, TrainConfig)
def train(
    given: dict[str, Any],
    out: Annotated[Path, typer.Option(help="Folder that gets the numbered run folder.")] = Path(
        "runs"
    ),
    config: Annotated[
        Path | None,
        typer.Option(help="TOML with any keys of the configuration; options given here win."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and how long; write nothing.")
    ] = False,
    json: Json = False,
) -> int:
    """Train a class-conditional generator on some patients and keep the others for its audit."""
    require_paths(given.get("data"), config)
    split = {name: given.pop(name) for name in options_of(SessionRequest) if name in given}
    request = made(SessionRequest, split)
    options = {**(read_toml(config) if config else {}), **given}
    from privgen.sampling import load_generator
    from privgen.training.session import plan_request

    plan = plan_request(request, options, out)
    console.note(plan.summary)
    if dry_run:
        estimate = plan.estimate()
        console.table("Dry run", ["what", "value"], [[k, str(v)] for k, v in estimate.items()])
        if json:
            console.emit_json(estimate)
        return 0
    checkpoint = plan.run(out)
    console.note(f"private checkpoint: {checkpoint}")
    again = plan.command(load_generator(checkpoint).kimg)
    console.note(f"the same generator again: {again}{' --config CONFIG' if config else ''}")
    console.note(f"audit it: privgen audit --generator {checkpoint}")
    if json:
        console.emit_json({"run": str(checkpoint.parent.parent), "checkpoint": str(checkpoint)})
    return 0

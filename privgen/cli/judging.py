"""`privgen audit` and `privgen demo`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from privgen import console
from privgen.auditing.requests import AuditOptions, GeneratorAudit, TilesAudit, audit_request
from privgen.cli.base import Json, Seed, app, finish_audit, reported, require_paths
from privgen.cli.options import Grouped, from_requests
from privgen.requests import options_of

_PATHS = tuple(
    name
    for name, (_, of) in options_of(GeneratorAudit, TilesAudit, AuditOptions).items()
    if of.kind is Path and name != "cache"
)


@app.command(cls=Grouped)
@reported
def demo(
    out: Annotated[Path, typer.Option(help="Empty or new folder for everything made.")] = Path(
        "privgen-demo"
    ),
    seed: Seed = 0,
    minutes: Annotated[float, typer.Option(help="Training time, minutes.", min=0.05)] = 0.25,
    kimg: Annotated[
        float | None,
        typer.Option(help="Thousand tiles shown in training, in place of minutes.", min=0.016),
    ] = None,
    json: Json = False,
) -> int:
    """Run everything on procedural tissue: train, sample, audit, augment-bench, report.

    Nothing is downloaded.
    """
    from privgen.demo import run_demo

    result = run_demo(out, seed=seed, minutes=minutes, kimg=kimg)
    return finish_audit(result.document, result.verdict.outcome, out, json)


@app.command(cls=Grouped)
@reported
@from_requests(GeneratorAudit, TilesAudit, AuditOptions)
def audit(
    given: dict[str, Any],
    out: Annotated[
        Path | None, typer.Option(help="Empty or new folder for report.json and report.html.")
    ] = None,
    json: Json = False,
) -> int:
    """Judge whether synthetic tiles give their training patients away.

    Exit code 0: no leak found; 1: leak; 4: inconclusive.
    """
    require_paths(*(given.get(name) for name in _PATHS))
    what, how = audit_request(given)
    from privgen.auditing.run import audit as run_audit

    result = run_audit(what, how, out=out)
    code = finish_audit(result.document, result.verdict.outcome, out, json)
    if how.reveal_suspects and out is not None:
        console.note(
            f"PRIVATE: {out / 'suspects.html'} shows patients' tissue; keep it in the building."
        )
    return code

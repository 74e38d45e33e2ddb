"""`privgen sample` and `privgen export`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from privgen import console
from privgen.cli.base import Json, app, reported, require_paths
from privgen.cli.options import Grouped, from_requests
from privgen.release.requests import SampleRequest
from privgen.requests import made


@app.command(cls=Grouped)
@reported
@from_requests(SampleRequest)
def sample(
    given: dict[str, Any],
    generator: Annotated[Path, typer.Argument(help="A .pt checkpoint or .safetensors file.")],
    out: Annotated[
        Path,
        typer.Option(help="Empty or new folder for the tiles, or one this command began."),
    ],
    shard: Annotated[
        str, typer.Option(help="Write only part K of N, say 2/8; all parts make the whole sample.")
    ] = "1/1",
    json: Json = False,
) -> int:
    """Write synthetic tiles. The same command again resumes where it was stopped."""
    request = made(SampleRequest, given)
    require_paths(generator)
    from privgen.release.folder import SamplePart, write_samples
    from privgen.sampling import load_generator

    part = SamplePart.parse(shard)
    written = write_samples(load_generator(generator), out, request, part=part)
    tiles = written.made + written.kept
    done = f"{written.made} made, {written.kept} were there" if written.made else "nothing to do"
    console.note(f"{tiles} synthetic tiles in {out} ({done})")
    if json:
        facts = {"out": str(out), "tiles": tiles, "classes": written.classes}
        console.emit_json(
            {**facts, "made": written.made, "kept": written.kept, "constant": written.constant}
        )
    return 0


@app.command(cls=Grouped)
@reported
def export(
    checkpoint: Annotated[Path, typer.Argument(help="A .pt checkpoint, or a run folder.")],
    out: Annotated[Path, typer.Option(help="Empty or new folder for the two files to share.")],
    report: Annotated[
        Path | None, typer.Option(help="report.json of this generator's audit, for its card.")
    ] = None,
    json: Json = False,
) -> int:
    """Write generator.safetensors and MODEL_CARD.md, which name no patient and no path."""
    require_paths(checkpoint, report)
    from privgen.release.exporting import CARD, GENERATOR
    from privgen.release.exporting import export as write_export

    folder = write_export(checkpoint, out, report=report)
    console.note(f"to share: {folder / GENERATOR} and {folder / CARD}")
    if report is None:
        console.warn("no --report: the card says that nobody has audited this generator.")
    if json:
        console.emit_json({"out": str(folder), "files": [GENERATOR, CARD]})
    return 0

"""`privgen tile`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from privgen import console
from privgen.cli.base import Json, app, reported
from privgen.cli.options import Grouped, from_requests
from privgen.phases import phase
from privgen.requests import made
from privgen.tiling.requests import TilingRequest

if TYPE_CHECKING:
    from privgen.tiling.run import Tiled


@app.command(cls=Grouped)
@reported
@from_requests(TilingRequest)
def tile(
    given: dict[str, Any],
    slides: Annotated[
        list[Path],
        typer.Argument(help="Whole slides, any format OpenSlide reads; folders of DICOM series."),
    ],
    out: Annotated[Path, typer.Option(help="New folder, or that of a run to resume.")],
    json: Json = False,
) -> int:
    """Cut whole slides into tiles under pseudonyms, with a manifest and scores of every tile.

    The same command again resumes after a stop, a kill or a crash. Exit code 2 or 3 when a slide
    could not be used; the others are not affected.
    """
    request = made(TilingRequest, given)
    from privgen.tiling.given import gather
    from privgen.tiling.session import tile_slides

    count = len(gather(slides).slides)  # files of one DICOM series are one slide
    with phase("slides", total=count) as cutting:
        tiled = tile_slides(slides, out, request, progress=cutting.reach)
    _say(tiled, count)
    if json:
        console.emit_json(dict(tiled.document))
    return tiled.exit_code


def _say(tiled: "Tiled", slides: int) -> None:
    for warning in tiled.warnings:
        console.warn(warning)
    for path, rule in tiled.failures:
        console.fail(f"{path}: {rule}")
    document = tiled.document
    if tiled.manifest is not None:
        whose = f" of {document['patients']} patients" if document["patients"] else ""
        console.table(
            f"{document['tiles']} tiles from {document['slides']} slides{whose}",
            ["class", "tiles"],
            [[label, str(count)] for label, count in document["classes"].items()],
        )
        if document["settings"]["stride"] < document["settings"]["size"]:
            console.warn(
                "tiles share pixels with their neighbours: splits by slide or patient keep them "
                "together; a random split of tiles would not, and is refused."
            )
        console.note(f"manifest: {tiled.manifest}")
        console.note(f"PRIVATE: the pictures in {tiled.private}, and the key of the pseudonyms.")
    if tiled.failures:
        console.fail(f"{len(tiled.failures)} of {slides} slides gave no tile; see above.")

"""`privgen tile`."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from privgen import console
from privgen.cli.base import Json, app, reported
from privgen.errors import ConfigError
from privgen.phases import phase

if TYPE_CHECKING:
    from privgen.tiling.run import Tiled


class Layout(StrEnum):
    """Where tiles go."""

    folders = "folders"
    tar = "tar"


class Frame(StrEnum):
    """Where annotations count from."""

    auto = "auto"
    bounds = "bounds"
    level_0 = "level-0"


class StainMethod(StrEnum):
    """Stain normalisation."""

    macenko = "macenko"
    reinhard = "reinhard"


@app.command()
@reported
def tile(
    slides: Annotated[
        list[Path],
        typer.Argument(help="Whole slides, any format OpenSlide reads; folders of DICOM series."),
    ],
    out: Annotated[Path, typer.Option(help="New folder, or that of a run to go on with.")],
    size: Annotated[int | None, typer.Option(help="Side of a tile, px. Default 256.")] = None,
    mpp: Annotated[
        float | None, typer.Option(help="Micrometres a pixel of the tiles. Default 0.5.")
    ] = None,
    stride: Annotated[
        int | None,
        typer.Option(help="Pixels from one tile to the next; below --size tiles overlap."),
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="Cut as a published study did: deepfakes-2020.")
    ] = None,
    coordinates: Annotated[
        Path | None,
        typer.Option(
            help="Folder of STEM_patches.h5 (TRIDENT) or STEM.h5 (CLAM): cut there, at their scale."
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(help="CSV of slide,label, or folder of QuPath's STEM.geojson regions."),
    ] = None,
    annotation_frame: Annotated[
        Frame | None,
        typer.Option(
            help="Where regions count from if the scanned area has an offset: bounds (its corner, "
            "QuPath's default) or level-0. Default auto: told by where they fit."
        ),
    ] = None,
    min_share: Annotated[
        float | None,
        typer.Option(help="Least share of a tile in a region that gives it its class. Default .75"),
    ] = None,
    min_tissue: Annotated[
        float | None, typer.Option(help="Least share of a tile on the tissue mask. Default .5")
    ] = None,
    patients: Annotated[
        Path | None, typer.Option(help="CSV of slide,patient. TCGA barcodes need none.")
    ] = None,
    patient_pattern: Annotated[
        str | None, typer.Option(help="Regular expression; its group is the patient.")
    ] = None,
    mpp_override: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=MPP: micrometres a pixel of the slides whose names start so, where the file "
            "stores none or a wrong one; MPP alone: of all. Repeat it as needed."
        ),
    ] = None,
    layout: Annotated[
        Layout | None, typer.Option(help="Class folders of PNG, or tar shards (WebDataset).")
    ] = None,
    stain: Annotated[
        StainMethod | None, typer.Option(help="Normalise stains towards --stain-target.")
    ] = None,
    stain_target: Annotated[
        Path | None, typer.Option(help="The tile whose stains all others take.")
    ] = None,
    private: Annotated[
        Path | None,
        typer.Option(help="Folder of thumbnails and summary, yours alone. Default OUT-private."),
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option(help="Key of the pseudonyms, made if missing. Default PRIVATE/key."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Slides at a time on this machine. Default 1.", min=1)
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(help="Dask scheduler, such as tcp://host:8786: one slide a task."),
    ] = None,
    json: Json = False,
) -> int:
    """Cut whole slides into tiles under pseudonyms, with a manifest and scores of every tile.

    The same command again goes on after a stop, a kill or a crash. Exit code 2 or 3 when a slide
    could not be used; the others are not affected.
    """
    from privgen.tiling.given import gather
    from privgen.tiling.session import tile_slides

    count = len(gather(slides).slides)  # files of one DICOM series are one slide
    with phase("slides", total=count) as cutting:
        tiled = tile_slides(
            slides,
            out,
            size=size,
            mpp=mpp,
            stride=stride,
            preset=preset,
            min_tissue=min_tissue,
            min_share=min_share,
            layout=None if layout is None else layout.value,
            coordinates=coordinates,
            labels=labels,
            annotation_frame=None if annotation_frame is None else annotation_frame.value,
            patients=patients,
            patient_pattern=patient_pattern,
            mpp_override=dict(map(_micrometres, mpp_override or ())),
            stain=None if stain is None else stain.value,
            stain_target=stain_target,
            private=private,
            key=key,
            workers=workers,
            scheduler=scheduler,
            progress=cutting.reach,
        )
    _say(tiled, count)
    if json:
        console.emit_json(dict(tiled.document))
    return tiled.exit_code


def _micrometres(text: str) -> tuple[str, float]:
    name, _, number = text.rpartition("=")
    try:
        value = float(number)
    except ValueError:
        value = 0.0
    if not 0.05 <= value <= 20:
        raise ConfigError(
            f"--mpp-override is NAME=MPP or MPP, .05 to 20: got {text!r}. Give, say, TCGA=0.25."
        )
    return name, value


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

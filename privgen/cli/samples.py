"""`privgen sample` and `privgen export`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from privgen import console
from privgen.cli.base import Balance, Json, Seed, app, reported, require_paths
from privgen.cli.options import Grouped


class Format(StrEnum):
    """How synthetic tiles are written."""

    png = "png"
    npz = "npz"


@app.command(cls=Grouped)
@reported
def sample(
    generator: Annotated[Path, typer.Argument(help="A .pt checkpoint or .safetensors file.")],
    out: Annotated[
        Path,
        typer.Option(help="Empty or new folder for the tiles, or one this command began."),
    ],
    count: Annotated[int, typer.Option(help="Tiles of the whole sample.", min=1)] = 1000,
    balance: Annotated[
        Balance, typer.Option(help="Classes as frequent as in training, or equally frequent.")
    ] = Balance.preserve,
    truncation: Annotated[
        float,
        typer.Option(
            help="Below 1, tiles nearer to the mean of their class: less diverse, leaks no less. "
            "Audit what you release.",
            min=0.0,
            max=1.0,
        ),
    ] = 1.0,
    format: Annotated[
        Format, typer.Option(help="PNG in class folders, or numbered .npz files, for very many.")
    ] = Format.png,
    tiles_per_file: Annotated[
        int | None,
        typer.Option(help="Tiles of an .npz file, a multiple of 32. [default: 256 MiB or 9984]"),
    ] = None,
    shard: Annotated[
        str, typer.Option(help="Write only part K of N, say 2/8; all parts make the whole sample.")
    ] = "1/1",
    seed: Seed = 0,
    json: Json = False,
) -> int:
    """Write synthetic tiles. The same command again goes on where it was stopped."""
    require_paths(generator)
    from privgen.release.folder import Part, write_samples
    from privgen.sampling import load_generator

    part = Part.parse(shard)
    written = write_samples(
        load_generator(generator),
        out,
        count=count,
        seed=seed,
        balance="uniform" if balance is Balance.uniform else "as-trained",
        truncation=truncation,
        format=format.value,
        tiles_per_file=tiles_per_file,
        part=part,
    )
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

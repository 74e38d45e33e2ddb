"""`privgen data` and `privgen doctor`."""

from pathlib import Path
from typing import Annotated

import typer

from privgen import console
from privgen.cli.base import (
    BadTile,
    ColourProfiles,
    GroupBy,
    Json,
    Seed,
    app,
    data_app,
    reported,
    require_paths,
)
from privgen.cli.options import Grouped


@data_app.command("check", cls=Grouped)
@reported
def data_check(
    folder: Annotated[Path, typer.Argument(help="Class folders, manifest.csv or .npz.")],
    group_by: GroupBy = None,
    on_bad_tile: BadTile = "error",
    icc: ColourProfiles = "ignore",
    quick: Annotated[
        bool, typer.Option("--quick", help="Look for equal tiles only, not for near-duplicates.")
    ] = False,
    approximate: Annotated[
        bool,
        typer.Option(
            "--approximate",
            help="Search an inverted file: for tens of thousands of tiles. Its recall is measured.",
        ),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Empty or new folder for near_duplicates.csv and manifest.csv, whose groups part "
            "no near-duplicates. Private, mode 0600: they name tiles and patients."
        ),
    ] = None,
    json: Json = False,
) -> int:
    """Say what a tile set is, find tiles that show the same tissue, and judge its split by patient.

    Exit code 0: no tissue is shared; 1: tiles of different groups or classes show the same tissue,
    so that a split by group leaks or labels contradict one another. Without --out nothing is
    written, and at most 20 pairs are printed.
    """
    require_paths(folder)
    from privgen.datacheck.check import check_tiles
    from privgen.reporting.data_check import print_check

    check = check_tiles(
        folder,
        group_by=group_by,
        on_bad_tile=on_bad_tile,
        icc=icc,
        quick=quick,
        approximate=approximate,
        out=out,
    )
    print_check(check.document)
    if out is not None:
        console.note(
            f"PRIVATE: {out} names tiles and patients. Put its manifest.csv beside the tiles and "
            "every command keeps near-duplicates together."
        )
    if json:
        console.emit_json(check.document)
    return check.exit_code


@data_app.command("select", cls=Grouped)
@reported
def data_select(
    folder: Annotated[Path, typer.Argument(help="What `privgen tile` wrote.")],
    out: Annotated[Path, typer.Option(help="The new manifest: .csv or .parquet in that folder.")],
    min_tissue: Annotated[
        float | None, typer.Option(help="Least share on the tissue mask.")
    ] = None,
    max_white: Annotated[float | None, typer.Option(help="Largest share near white.")] = None,
    min_sharpness: Annotated[
        float | None, typer.Option(help="Least variance of the Laplacian, squared grey levels.")
    ] = None,
    max_pen: Annotated[float | None, typer.Option(help="Largest share of marker ink.")] = None,
    max_fold: Annotated[
        float | None, typer.Option(help="Largest share dark and saturated, as folds are.")
    ] = None,
    json: Json = False,
) -> int:
    """Keep the tiles whose scores pass, as a manifest beside the first; no tile is touched.

    Give the new manifest to any command in place of the folder.
    """
    from privgen.tiling.select import select_tiles

    chosen = select_tiles(
        folder,
        out=out,
        min_tissue=min_tissue,
        max_white=max_white,
        min_sharpness=min_sharpness,
        max_pen=max_pen,
        max_fold=max_fold,
    )
    for warning in chosen.warnings:
        console.warn(warning)
    console.table(
        f"{chosen.tiles.kept} of {chosen.tiles.kept + chosen.tiles.left} tiles kept: {chosen.path}",
        ["class", "kept", "left out"],
        [[name, str(n.kept), str(n.left)] for name, n in chosen.by_class.items()],
    )
    for rule, failing in chosen.by_rule.items():
        console.note(f"{rule}: {failing} tiles fail it")
    if json:
        console.emit_json(
            {
                "manifest": str(chosen.path),
                "kept": chosen.tiles.kept,
                "left": chosen.tiles.left,
                "patients": sum(n.kept > 0 for n in chosen.by_patient.values()),
                "failing": dict(chosen.by_rule),
            }
        )
    return 0


@data_app.command("phantom", cls=Grouped)
@reported
def data_phantom(
    out: Annotated[Path, typer.Option(help="Empty or new folder for the tiles.")],
    patients: Annotated[int, typer.Option(help="Patients.", min=1)] = 20,
    tiles: Annotated[int, typer.Option(help="Tiles a patient.", min=1)] = 45,
    side: Annotated[int, typer.Option(help="Tile side, px.", min=32, max=1024)] = 64,
    seed: Seed = 0,
    json: Json = False,
) -> int:
    """Write procedural H&E tiles with known patients: nine classes, no real tissue."""
    from privgen.data.phantom import make_phantom, write_phantom
    from privgen.files import empty_folder

    empty_folder(out)
    made = make_phantom(patients=patients, tiles_per_patient=tiles, side=side, seed=seed)
    write_phantom(out, made)
    console.note(f"{len(made)} procedural tiles of {patients} patients in {out}")
    if json:
        console.emit_json({"out": str(out), "tiles": len(made), "patients": patients})
    return 0


@app.command(cls=Grouped)
@reported
def doctor(json: Json = False) -> int:
    """Check this installation: versions, processor features, weights, a known answer."""
    from privgen.doctor import examine, print_examination

    findings = examine()
    print_examination(findings)
    if json:
        console.emit_json(findings)
    return 0 if findings["healthy"] else 3

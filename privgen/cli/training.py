"""`privgen train`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from privgen import console
from privgen.cli.base import Balance, GroupBy, Icc, Json, OnBadTile, app, reported, require_paths
from privgen.cli.options import Grouped


class DiscriminatorKind(StrEnum):
    """Where tiles are judged."""

    projected = "projected"
    own = "own"


class SelectBy(StrEnum):
    """Which weights become the generator file."""

    last = "last"
    fd = "fd"
    fd_leak = "fd,leak"


@app.command(cls=Grouped)
@reported
def train(
    data: Annotated[
        Path | None, typer.Argument(help="Tiles: class folders, manifest.csv or .npz.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder that gets the numbered run folder.")] = Path(
        "runs"
    ),
    config: Annotated[
        Path | None,
        typer.Option(help="TOML with any keys of the configuration; options given here win."),
    ] = None,
    family: Annotated[
        str | None,
        typer.Option(
            help="cdcgan, cdcgan-2025, stylegan, stylegan2 or pathologygan. [default: cdcgan]"
        ),
    ] = None,
    discriminator: Annotated[
        DiscriminatorKind | None,
        typer.Option(help="Judge in frozen features, or by the family's own network."),
    ] = None,
    resolution: Annotated[
        int | None,
        typer.Option(
            help="Side of a tile: 32, 64, 128 or 256 px; 224 for cdcgan-2025. [default: 64]"
        ),
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Stop after this many minutes.", min=0.01)
    ] = None,
    kimg: Annotated[
        float | None, typer.Option(help="Stop after this many thousand tiles.", min=0.001)
    ] = None,
    batch: Annotated[int | None, typer.Option(help="Tiles a step, a multiple of 4.", min=4)] = None,
    class_balance: Annotated[
        Balance | None,
        typer.Option(help="Classes as frequent as in the data, or equally. [default: preserve]"),
    ] = None,
    holdout: Annotated[
        float | None,
        typer.Option(
            help="Share of tiles, by patient, kept for the audit. [default: 0.35]",
            min=0.05,
            max=0.9,
        ),
    ] = None,
    siblings: Annotated[
        float | None,
        typer.Option(
            help="Share of each training slide held back. [default: 0.1]", min=0.0, max=0.5
        ),
    ] = None,
    group_by: GroupBy = None,
    on_bad_tile: Annotated[
        OnBadTile | None,
        typer.Option(help="Stop at an unusable image, or skip and count it. [default: error]"),
    ] = None,
    icc: Annotated[
        Icc | None,
        typer.Option(
            help="Colour profiles (ICC) of image files: bring their colours to sRGB, or not. "
            "[default: ignore]"
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Seed of split and run. [default: 0]", min=0)
    ] = None,
    watch_kimg: Annotated[
        float | None,
        typer.Option(help="Measure quality and leakage this often; 0 never. [default: 4]", min=0),
    ] = None,
    select_by: Annotated[
        SelectBy | None,
        typer.Option(
            help="Weights to share: the last, those nearest to held-out tiles, or the nearest that "
            "show no leak. Half of the held-out patients are then kept for choosing. "
            "[default: last]"
        ),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda or cuda:N. [default: cuda where there is one]")
    ] = None,
    compile: Annotated[
        bool | None, typer.Option("--compile", help="Use torch.compile; pays on long GPU runs.")
    ] = None,
    deterministic: Annotated[
        bool | None, typer.Option("--deterministic", help="Bit-identical runs on a GPU; slower.")
    ] = None,
    tensorboard: Annotated[
        bool | None, typer.Option("--tensorboard", help="Write scalars for TensorBoard too.")
    ] = None,
    resume: Annotated[
        str | None,
        typer.Option(
            help="Run folder or checkpoint to go on from; auto goes on with the newest unfinished "
            "run of these tiles in --out, or starts one."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and how long; write nothing.")
    ] = False,
    json: Json = False,
) -> int:
    """Train a class-conditional generator on some patients and keep the others for its audit."""
    require_paths(data, config)
    from privgen.config import read_toml
    from privgen.training import session

    given: dict[str, Any] = {"family": family, "discriminator": discriminator}
    given |= {"resolution": resolution, "minutes": minutes, "kimg": kimg, "batch": batch}
    given |= {"seed": seed, "device": device}
    given |= {"class_balance": class_balance, "watch_kimg": watch_kimg, "select_by": select_by}
    given |= {"compile": compile, "deterministic": deterministic, "tensorboard": tensorboard}
    plain = {k: str(v) if isinstance(v, StrEnum) else v for k, v in given.items() if v is not None}
    plan = session.plan_session(
        data,
        options={**(read_toml(config) if config else {}), **plain},
        holdout=holdout,
        siblings=siblings,
        group_by=group_by,
        on_bad_tile=on_bad_tile.value if on_bad_tile else None,
        icc=icc.value if icc else None,
        resume=resume,
        out=out,
    )
    console.note(plan.summary)
    if dry_run:
        estimate = plan.estimate()
        console.table("Dry run", ["what", "value"], [[k, str(v)] for k, v in estimate.items()])
        if json:
            console.emit_json(estimate)
        return 0
    checkpoint = plan.run(out)
    console.note(f"private checkpoint: {checkpoint}")
    console.note(f"audit it: privgen audit --generator {checkpoint}")
    if json:
        console.emit_json({"run": str(checkpoint.parent.parent), "checkpoint": str(checkpoint)})
    return 0

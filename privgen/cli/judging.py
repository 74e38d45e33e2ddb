"""`privgen audit` and `privgen demo`."""

from contextlib import AbstractContextManager, nullcontext
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from privgen import console
from privgen.cli.base import (
    BadTile,
    ColourProfiles,
    GroupBy,
    Icc,
    Json,
    OnBadTile,
    Seed,
    app,
    finish_audit,
    reported,
    require_paths,
)
from privgen.errors import ConfigError


class Harmonise(StrEnum):
    """What to do where roles became pixels in different ways."""

    auto = "auto"
    off = "off"


@app.command()
@reported
def demo(
    out: Annotated[Path, typer.Option(help="Empty or new folder for everything made.")] = Path(
        "privgen-demo"
    ),
    seed: Seed = 0,
    minutes: Annotated[float, typer.Option(help="Training time, minutes.", min=0.05)] = 1.5,
    json: Json = False,
) -> int:
    """Run everything on procedural tissue: train, sample, audit, augment-bench, report. No "
    "download."""
    from privgen.demo import run_demo

    result = run_demo(out, seed=seed, minutes=minutes)
    return finish_audit(result.document, result.verdict.outcome, out, json)


@app.command()
@reported
def audit(
    generator: Annotated[
        Path | None, typer.Option(help="A privgen checkpoint; its ledger names the real tiles.")
    ] = None,
    train: Annotated[Path | None, typer.Option(help="Tiles the generator was trained on.")] = None,
    holdout: Annotated[Path | None, typer.Option(help="Tiles of patients it never met.")] = None,
    synthetic: Annotated[Path | None, typer.Option(help="Synthetic tiles, from any tool.")] = None,
    sampler: Annotated[
        str | None,
        typer.Option(
            help="Command that writes --count synthetic tiles: 'CMD {n} {seed} {out}'. It runs as "
            "a process of its own, without a shell."
        ),
    ] = None,
    siblings: Annotated[
        Path | None, typer.Option(help="Held-back tiles of the training slides.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Where the training data are now, if they have moved.")
    ] = None,
    count: Annotated[int, typer.Option(help="Tiles drawn from the generator.", min=1)] = 1000,
    truncation: Annotated[
        float,
        typer.Option(help="Of the drawn tiles: audit what you will release.", min=0, max=1),
    ] = 1.0,
    encoder: Annotated[str, typer.Option(help="Encoder of the search.")] = "effnet_lite0",
    fid: Annotated[
        bool, typer.Option("--fid", help="Add FID proper; fetches the Inception weights once.")
    ] = False,
    fid_weights: Annotated[
        Path | None, typer.Option(help="The FID Inception weights; implies --fid.")
    ] = None,
    lpips: Annotated[
        bool, typer.Option("--lpips", help="Add LPIPS diversity; fetches its backbone once.")
    ] = False,
    lpips_weights: Annotated[
        Path | None, typer.Option(help="The LPIPS backbone weights; implies --lpips.")
    ] = None,
    align: Annotated[
        bool | None,
        typer.Option(
            "--align/--no-align",
            help="Prove single copies by key points; done unasked where it takes minutes.",
            show_default=False,
        ),
    ] = None,
    approximate: Annotated[
        bool,
        typer.Option(
            "--approximate", help="Align by an approximate shortlist, for very many tiles."
        ),
    ] = False,
    scheduler: Annotated[
        str | None, typer.Option(help="Dask scheduler whose workers align, tcp://host:8786.")
    ] = None,
    harmonise: Annotated[
        Harmonise,
        typer.Option(help="Bring roles of different files (JPEG, scaling) to one pipeline."),
    ] = Harmonise.auto,
    insider: Annotated[
        bool,
        typer.Option(
            "--insider",
            help="Also attack with the generator's weights, and a checkpoint's discriminator.",
        ),
    ] = False,
    cache: Annotated[
        Path | None, typer.Option(help="Private folder that keeps embeddings for the next audit.")
    ] = None,
    reveal_suspects: Annotated[
        bool,
        typer.Option(
            "--reveal-suspects",
            help="Also write suspects.html: the most suspicious tiles beside training tiles. "
            "Private, mode 0600; implies --align, needs --out.",
        ),
    ] = False,
    policy: Annotated[
        Path | None, typer.Option(help="TOML: what gates, how small a leak must be visible.")
    ] = None,
    group_by: GroupBy = None,
    on_bad_tile: BadTile = OnBadTile.error,
    icc: ColourProfiles = Icc.ignore,
    seed: Seed = 0,
    out: Annotated[
        Path | None, typer.Option(help="Empty or new folder for report.json and report.html.")
    ] = None,
    json: Json = False,
) -> int:
    """Judge whether synthetic tiles give their training patients away.

    Exit code 0: no leak found; 1: leak; 4: inconclusive.
    """
    require_paths(generator, train, holdout, synthetic, siblings, data, policy)
    from privgen.auditing.run import audit as run_audit

    made: AbstractContextManager[Any] = nullcontext(synthetic)
    if sampler is not None:
        from privgen.auditing.sampler import drawn

        if generator or synthetic or not (train and holdout):
            raise ConfigError(
                "a sampler makes the synthetic tiles of an audit of --train and --holdout: give "
                "these two, and neither --generator nor --synthetic."
            )
        made = drawn(sampler, count=count, seed=seed, on_bad_tile=on_bad_tile.value, icc=icc.value)
    run = partial(
        run_audit,
        generator=generator,
        train=train,
        holdout=holdout,
        siblings=siblings,
        data=data,
        count=count,
        truncation=truncation,
        encoder=encoder,
        fid=fid_weights or fid,
        lpips=lpips_weights or lpips,
        align=align,
        approximate=approximate,
        scheduler=scheduler,
        harmonise=harmonise.value,
        insider=insider,
        cache=cache,
        policy=policy,
        group_by=group_by,
        on_bad_tile=on_bad_tile.value,
        icc=icc.value,
        seed=seed,
        out=out,
        reveal_suspects=reveal_suspects,
    )
    with made as tiles:
        result = run(synthetic=tiles)
    code = finish_audit(result.document, result.verdict.outcome, out, json)
    if reveal_suspects and out is not None:
        console.note(
            f"PRIVATE: {out / 'suspects.html'} shows patients' tissue; keep it in the building."
        )
    return code

"""`privgen augment-bench`: do synthetic tiles help a classifier?"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from privgen import console
from privgen.cli.base import BadTile, GroupBy, Json, OnBadTile, Seed, app, reported, require_paths
from privgen.errors import ConfigError


class Size(StrEnum):
    """Of the networks that are named by their family."""

    small = "small"
    standard = "standard"


@app.command("augment-bench")
@reported
def augment_bench(
    data: Annotated[
        Path | None, typer.Argument(help="Real tiles; procedural ones when left out.")
    ] = None,
    synthetic: Annotated[
        Path | None, typer.Option(help="Synthetic tiles of any generator, class folders.")
    ] = None,
    generator: Annotated[
        list[Path] | None,
        typer.Option(
            help="A private privgen checkpoint or run folder, trained on a regime's tiles alone; "
            "repeat it for further regimes and seeds."
        ),
    ] = None,
    train_generator: Annotated[
        str | None,
        typer.Option(help="Generator family to train here, for each regime on its tiles alone."),
    ] = None,
    generator_kimg: Annotated[
        float | None,
        typer.Option(help="Thousand tiles each is shown. [default: 5]", min=0.001),
    ] = None,
    generator_seeds: Annotated[
        int | None,
        typer.Option(help="Generators trained for each regime. [default: 2, quick 1]", min=1),
    ] = None,
    regimes: Annotated[
        str, typer.Option(help="Shares of the real training tiles, comma-separated.")
    ] = "1.0",
    models: Annotated[
        str, typer.Option(help="Comma-separated: families, or networks such as resnet18.")
    ] = "mobilenet,resnet,densenet,efficientnet",
    ratios: Annotated[
        str | None,
        typer.Option(help="Synthetic : real. [default: 0.25,0.5,1,2,3, quick 1]"),
    ] = None,
    arms: Annotated[
        str | None, typer.Option(help="Comma-separated; `real` is always needed. [default: all]")
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(help="Classifier seeds. [default: 5, quick 3]", min=2)
    ] = None,
    updates: Annotated[
        int | None,
        typer.Option(help="Optimiser updates in every arm. [default: 80, quick 24]", min=1),
    ] = None,
    resolution: Annotated[
        int | None,
        typer.Option(help="Side at which classifiers see tiles, px. [default: their own]", min=16),
    ] = None,
    size: Annotated[
        Size, typer.Option(help="Of networks named by family: small for CPUs, or as published.")
    ] = Size.small,
    weights: Annotated[
        list[str] | None,
        typer.Option(
            help="MODEL=WEIGHTS to start from: efficientnet_lite0=imagenet, "
            "resnet18=torchvision, or MODEL=file:FILE#sha256=HEX. Repeat it for further models."
        ),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Fewer seeds, ratios and updates, for a first look.")
    ] = False,
    audit: Annotated[
        bool, typer.Option("--audit/--no-audit", help="Audit the generators' tiles for leaks too.")
    ] = True,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    jobs: Annotated[
        int | None, typer.Option(help="Trainings at a time. [default: one a core]", min=1)
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(help="Dask scheduler whose workers train, tcp://host:8786; needs --out."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and how long; write nothing.")
    ] = False,
    group_by: GroupBy = None,
    on_bad_tile: BadTile = OnBadTile.error,
    seed: Seed = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Empty or new folder for report.html, report.json and cells.csv. A run that was "
            "stopped goes on when its command is repeated."
        ),
    ] = None,
    private: Annotated[
        Path | None,
        typer.Option(
            help="Folder of generators and single results, yours alone. Default OUT-private."
        ),
    ] = None,
    json: Json = False,
) -> int:
    """Measure whether synthetic tiles help MobileNet, ResNet, DenseNet and EfficientNet."""
    require_paths(data, synthetic, *(generator or ()))
    from privgen.benefit.arms import ARMS
    from privgen.benefit.bench import plan_bench
    from privgen.reporting.terminal import print_bench, print_bench_plan

    if train_generator is None and generator_kimg is not None:
        raise ConfigError("--generator-kimg needs --train-generator FAMILY: got it alone.")
    if scheduler is not None and out is None:
        raise ConfigError("--scheduler needs --out, a folder its workers see: got none.")
    training: dict[str, Any] | None = None
    if train_generator is not None:
        training = {"family": train_generator, "resolution": resolution, "kimg": generator_kimg}
        training = {key: value for key, value in training.items() if value is not None}
    planned = plan_bench(
        data,
        synthetic=synthetic,
        generators=generator or (),
        train_generator=training,
        generator_seeds=generator_seeds,
        regimes=_numbers("regimes", regimes),
        models=_names(models),
        ratios=None if ratios is None else _numbers("ratios", ratios),
        seeds=seeds,
        updates=updates,
        arms=tuple(ARMS) if arms is None else _names(arms),
        resolution=resolution,
        size=size.value,
        weights=_weights(weights or []),
        device=device,
        jobs=jobs,
        scheduler=scheduler,
        quick=quick,
        audit=audit,
        group_by=group_by,
        on_bad_tile=on_bad_tile.value,
        seed=seed,
    )
    if dry_run:
        estimate = planned.estimate()
        print_bench_plan(estimate)
        if json:
            console.emit_json(estimate)
        return 0
    bench = planned.run(out, private)
    print_bench(bench.document["augment_bench"])
    if out is not None:
        console.note(f"report: {out / 'report.html'}; every training: {out / 'cells.csv'}")
    if json:
        console.emit_json(bench.document)
    return 0


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(","))


def _numbers(option: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(item) for item in text.split(","))
    except ValueError as error:
        raise ConfigError(f"{option} must be numbers such as 0.5,1: got {text!r}.") from error


def _weights(given: list[str]) -> dict[str, str]:
    pairs = [one.partition("=") for one in given]
    for model, _, spec in pairs:
        if not model or not spec:
            raise ConfigError(
                f"weights must be MODEL=WEIGHTS, such as resnet18=torchvision: got {model!r}."
            )
    return {model: spec for model, _, spec in pairs}

"""The command line: parse, call the library, print, exit. No logic lives here.

Exit codes: 0 done, or no leak found; 1 leak; 2 usage or input; 3 the work failed; 4 inconclusive;
130 interrupted. A defect in privgen itself exits 3, never 1: nobody should read a crash as a
  verdict.
"""

import functools
import os
import sys
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, ParamSpec

import typer

from privgen import console
from privgen.errors import Interrupted, PrivgenError

P = ParamSpec("P")

app = typer.Typer(
    name="privgen",
    help="Train class-conditional histology generators, and audit synthetic tiles for leaks of the "
    "patients behind them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)
data_app = typer.Typer(help="Look at tile sets, and make procedural ones.", no_args_is_help=True)
app.add_typer(data_app, name="data")


class OnBadTile(StrEnum):
    """What to do with a file that cannot be used as a tile."""

    error = "error"
    skip = "skip"


class Format(StrEnum):
    """How synthetic tiles are written."""

    png = "png"
    npz = "npz"


class Balance(StrEnum):
    """How classes are drawn."""

    preserve = "preserve"
    uniform = "uniform"


class DiscriminatorKind(StrEnum):
    """Where tiles are judged."""

    projected = "projected"
    own = "own"


class SelectBy(StrEnum):
    """Which weights become the generator file."""

    last = "last"
    fd = "fd"
    fd_leak = "fd,leak"


def _reported(command: Callable[P, int]) -> Callable[P, None]:
    """Turn a command's result or error into one line and an exit code."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        code = 3
        try:
            code = command(*args, **kwargs)
        except PrivgenError as error:
            console.fail(str(error))
            code = error.exit_code
        except KeyboardInterrupt:
            console.fail("interrupted; nothing was left half written.")
            code = Interrupted.exit_code
        except Exception as error:
            code = _unexpected(error)
        raise typer.Exit(code)

    return run


def _unexpected(error: Exception) -> int:
    if type(error).__name__ == "AuditInputError":
        console.fail(str(error))
        return 2
    if os.environ.get("PRIVGEN_DEBUG"):
        raise error
    console.fail(
        f"unexpected {type(error).__name__}: {error}. This is a defect in privgen; "
        "PRIVGEN_DEBUG=1 shows where."
    )
    return 3


Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
Seed = Annotated[int, typer.Option(help="Seed of every random draw.", min=0)]
BadTile = Annotated[
    OnBadTile, typer.Option(help="Stop at an unusable image, or skip and count it.")
]
GroupBy = Annotated[
    str | None,
    typer.Option(help="Manifest column that names the patient: patient, slide or source_image."),
]


@app.command()
@_reported
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
    return _finish_audit(result.document, result.verdict.outcome, out, json)


@app.command()
@_reported
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
        int | None, typer.Option(help="Side of a tile: 32, 64, 128 or 256 px. [default: 64]")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Stop after this many minutes.", min=0.01)
    ] = None,
    kimg: Annotated[
        float | None, typer.Option(help="Stop after this many thousand tiles.", min=0.001)
    ] = None,
    batch: Annotated[int | None, typer.Option(help="Tiles a step.", min=2)] = None,
    class_balance: Annotated[
        Balance | None,
        typer.Option(help="Classes as frequent as in the data, or equally. [default: preserve]"),
    ] = None,
    holdout: Annotated[
        float,
        typer.Option(help="Share of tiles, by patient, kept for the audit.", min=0.05, max=0.9),
    ] = 0.35,
    siblings: Annotated[
        float, typer.Option(help="Share of each training slide held back.", min=0.0, max=0.5)
    ] = 0.1,
    group_by: GroupBy = None,
    on_bad_tile: BadTile = OnBadTile.error,
    seed: Annotated[int | None, typer.Option(help="Seed of split and run. [default: 0]")] = None,
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
        on_bad_tile=on_bad_tile.value,
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


@app.command()
@_reported
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
    from privgen.sample_folder import Part, write_samples
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
        console.emit_json({**facts, "made": written.made, "kept": written.kept})
    return 0


@app.command()
@_reported
def export(
    checkpoint: Annotated[Path, typer.Argument(help="A .pt checkpoint, or a run folder.")],
    out: Annotated[Path, typer.Option(help="Empty or new folder for the two files to share.")],
    report: Annotated[
        Path | None, typer.Option(help="report.json of this generator's audit, for its card.")
    ] = None,
    json: Json = False,
) -> int:
    """Write generator.safetensors and MODEL_CARD.md, which name no patient and no path."""
    from privgen.exporting import CARD, GENERATOR
    from privgen.exporting import export as write_export

    folder = write_export(checkpoint, out, report=report)
    console.note(f"to share: {folder / GENERATOR} and {folder / CARD}")
    if report is None:
        console.warn("no --report: the card says that nobody has audited this generator.")
    if json:
        console.emit_json({"out": str(folder), "files": [GENERATOR, CARD]})
    return 0


@app.command()
@_reported
def audit(
    generator: Annotated[
        Path | None, typer.Option(help="A privgen checkpoint; its ledger names the real tiles.")
    ] = None,
    train: Annotated[Path | None, typer.Option(help="Tiles the generator was trained on.")] = None,
    holdout: Annotated[Path | None, typer.Option(help="Tiles of patients it never met.")] = None,
    synthetic: Annotated[Path | None, typer.Option(help="Synthetic tiles, from any tool.")] = None,
    siblings: Annotated[
        Path | None, typer.Option(help="Held-back tiles of the training slides.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Where the training data are now, if they have moved.")
    ] = None,
    count: Annotated[int, typer.Option(help="Tiles drawn from the generator.", min=1)] = 1000,
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
    seed: Seed = 0,
    out: Annotated[
        Path | None, typer.Option(help="Empty or new folder for report.json and report.html.")
    ] = None,
    json: Json = False,
) -> int:
    """Judge whether synthetic tiles give their training patients away.

    Exit code 0: no leak found; 1: leak; 4: inconclusive.
    """
    from privgen.auditing import audit as run_audit

    result = run_audit(
        generator=generator,
        train=train,
        holdout=holdout,
        synthetic=synthetic,
        siblings=siblings,
        data=data,
        count=count,
        encoder=encoder,
        fid=fid_weights or fid,
        lpips=lpips_weights or lpips,
        align=align,
        approximate=approximate,
        scheduler=scheduler,
        insider=insider,
        cache=cache,
        policy=policy,
        group_by=group_by,
        on_bad_tile=on_bad_tile.value,
        seed=seed,
        out=out,
        reveal_suspects=reveal_suspects,
    )
    code = _finish_audit(result.document, result.verdict.outcome, out, json)
    if reveal_suspects and out is not None:
        console.note(
            f"PRIVATE: {out / 'suspects.html'} shows patients' tissue; keep it in the building."
        )
    return code


def _finish_audit(document: Mapping[str, Any], outcome: Any, out: Path | None, json: bool) -> int:
    from privgen.reporting.terminal import print_summary

    print_summary(document["audit"])
    if out is not None:
        console.note(f"report: {out / 'report.html'}")
    elif not json:
        console.note("no report written: give --out FOLDER for report.html and report.json.")
    if json:
        console.emit_json(document)
    return int(outcome.exit_code)


@app.command("augment-bench")
@_reported
def augment_bench(
    data: Annotated[
        Path | None, typer.Argument(help="Real tiles; procedural ones when left out.")
    ] = None,
    synthetic: Annotated[Path | None, typer.Option(help="Synthetic tiles, class folders.")] = None,
    generator: Annotated[
        Path | None, typer.Option(help="A privgen checkpoint, instead of --synthetic.")
    ] = None,
    families: Annotated[
        str, typer.Option(help="Comma-separated classifier families.")
    ] = "mobilenet,resnet,densenet,efficientnet",
    ratios: Annotated[str, typer.Option(help="Synthetic : real, comma-separated.")] = "1",
    seeds: Annotated[int, typer.Option(help="Classifier seeds.", min=2)] = 3,
    updates: Annotated[int, typer.Option(help="Optimiser updates in every arm.", min=1)] = 150,
    side: Annotated[int, typer.Option(help="Tile side the classifiers see, px.", min=16)] = 32,
    size: Annotated[str, typer.Option(help="Networks: small or standard.")] = "small",
    group_by: GroupBy = None,
    on_bad_tile: BadTile = OnBadTile.error,
    seed: Seed = 0,
    out: Annotated[
        Path | None, typer.Option(help="Empty or new folder for report.json and report.html.")
    ] = None,
    json: Json = False,
) -> int:
    """Measure whether synthetic tiles help MobileNet, ResNet, DenseNet and EfficientNet."""
    from privgen.utility.bench import bench_from_options

    document = bench_from_options(
        data=data,
        synthetic=synthetic,
        generator=generator,
        families=families,
        ratios=ratios,
        seeds=seeds,
        updates=updates,
        side=side,
        size=size,
        group_by=group_by,
        on_bad_tile=on_bad_tile.value,
        seed=seed,
        out=out,
    )
    if out is not None:
        console.note(f"report: {out / 'report.html'}")
    if json:
        console.emit_json(document)
    return 0


@data_app.command("check")
@_reported
def data_check(
    folder: Annotated[Path, typer.Argument(help="Class folders, manifest.csv or .npz.")],
    group_by: GroupBy = None,
    on_bad_tile: BadTile = OnBadTile.error,
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
    from privgen.checking import check_tiles
    from privgen.reporting.check import print_check

    check = check_tiles(
        folder,
        group_by=group_by,
        on_bad_tile=on_bad_tile.value,
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


@data_app.command("phantom")
@_reported
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


@app.command()
@_reported
def doctor(json: Json = False) -> int:
    """Check this installation: versions, processor features, weights, a known answer."""
    from privgen.doctor import examine, print_examination

    findings = examine()
    print_examination(findings)
    if json:
        console.emit_json(findings)
    return 0 if findings["healthy"] else 3


def main() -> None:
    """Entry point of the console script."""
    app(prog_name="privgen")
    sys.exit(0)

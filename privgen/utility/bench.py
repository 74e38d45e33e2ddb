"""augment-bench from folders and checkpoints: find the splits, draw the synthetic tiles, report."""

from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np

from privgen.auditing import write_report
from privgen.data.layouts import open_tiles
from privgen.data.phantom import make_phantom
from privgen.data.splits import split_by_patient
from privgen.data.tileset import TileSet
from privgen.errors import ConfigError, InputError
from privgen.files import empty_folder
from privgen.reporting.terminal import print_bench
from privgen.roles import match, reopen
from privgen.sampling import LoadedGenerator, load_generator, sample
from privgen.utility.arms import ARMS
from privgen.utility.classifiers import FAMILIES
from privgen.utility.protocol import BenchReport, augment_bench

OnBadTile = Literal["error", "skip"]
_VALIDATION = 0.25


def bench(
    data: Path | str | TileSet | None = None,
    *,
    synthetic: Path | str | TileSet | None = None,
    generator: Path | str | None = None,
    families: Sequence[str] = FAMILIES,
    ratios: Sequence[float] = (1.0,),
    seeds: int = 3,
    updates: int = 150,
    evaluations: int = 4,
    arms: Sequence[str] = tuple(ARMS),
    side: int = 32,
    size: str = "small",
    group_by: str | None = None,
    on_bad_tile: OnBadTile = "error",
    seed: int = 0,
) -> BenchReport:
    """Measure whether synthetic tiles help classifiers of real tiles, patients kept apart.

    A generator's own ledger decides: classifiers train on its training tiles, because a generator
    trained on more would carry real tiles in by the back door, and are tested on its holdout
    patients. With a synthetic folder the real tiles are split here.

    Args:
      data: real tiles; with `generator`, where they are now; procedural tiles when neither is
        given.
      synthetic: tiles with the real classes; the phantom's own, of further patients, when nothing
        is given.
      generator: a private checkpoint.
      families, ratios, seeds, updates, evaluations, arms, side, size: as `protocol.augment_bench`.
      group_by, on_bad_tile: as `open_tiles`.
      seed: of split, sampling and training.

    Raises:
      InputError: the tiles cannot be split or do not fit together.
    """
    if generator is not None and synthetic is not None:
        raise ConfigError("give --synthetic or --generator: got both.")
    wanted = max(ratios)
    if generator is not None:
        loaded = load_generator(Path(generator))
        known, test = _ledger_roles(loaded, data)
        count = int(np.ceil(wanted * len(known)))
        tiles, labels = sample(loaded, count, seed=seed)
        made = TileSet.from_arrays(tiles, labels, layout="sampled from the generator")
    else:
        real, made = _real_and_synthetic(data, synthetic, wanted, side, group_by, on_bad_tile, seed)
        outer = split_by_patient(real, siblings=0.0, seed=seed)
        known, test = real.subset(outer.train), real.subset(outer.holdout)
    inner = split_by_patient(known, holdout=_VALIDATION, siblings=0.0, seed=seed)
    return augment_bench(
        train=known.subset(inner.train),
        validation=known.subset(inner.holdout),
        test=test,
        synthetic=made,
        families=tuple(families),
        ratios=tuple(ratios),
        seeds=tuple(range(seeds)),
        updates=updates,
        evaluations=evaluations,
        arms=tuple(arms),
        side=side,
        size=size,
        seed=seed,
    )


def _ledger_roles(
    loaded: LoadedGenerator, data: Path | str | TileSet | None
) -> tuple[TileSet, TileSet]:
    """Training tiles and holdout tiles of a generator's ledger."""
    if loaded.ledger is None:
        raise InputError(
            "augment-bench needs the private .pt checkpoint: a shareable generator file does not "
            "say which patients it was trained on."
        )
    if isinstance(data, TileSet):
        roles = match(loaded.ledger, data)
    else:
        roles = reopen(loaded.ledger, None if data is None else Path(data))
    return roles["train"], roles["holdout"]


def _real_and_synthetic(
    data: Path | str | TileSet | None,
    synthetic: Path | str | TileSet | None,
    ratio: float,
    side: int,
    group_by: str | None,
    on_bad_tile: OnBadTile,
    seed: int,
) -> tuple[TileSet, TileSet]:
    if data is None:
        real = make_phantom(patients=24, tiles_per_patient=27, side=side, seed=seed)
        further = make_phantom(
            patients=int(np.ceil(24 * ratio)), tiles_per_patient=27, side=side, seed=seed + 1
        )
        if synthetic is not None:
            further = open_tiles(Path(str(synthetic)), on_bad_tile=on_bad_tile)
        return real, further
    if synthetic is None:
        raise ConfigError("real tiles need synthetic ones: give --synthetic or --generator.")
    opened = [
        source
        if isinstance(source, TileSet)
        else open_tiles(Path(source), group_by=group_by, on_bad_tile=on_bad_tile)
        for source in (data, synthetic)
    ]
    return opened[0], opened[1]


def bench_from_options(
    *,
    families: str,
    ratios: str,
    out: Path | None,
    seed: int,
    **options: Any,
) -> dict[str, Any]:
    """`privgen augment-bench`: parse the lists, run, print the table, write the report.

    Raises:
      ConfigError: a list cannot be read.
    """
    if out is not None:
        empty_folder(out)
    try:
        shares = [float(item) for item in ratios.split(",")]
    except ValueError as error:
        raise ConfigError(f"ratios must be numbers such as 0.5,1,2: got {ratios!r}.") from error
    names = [name.strip() for name in families.split(",")]
    report = bench(families=names, ratios=shares, seed=seed, **options)
    document = bench_document(report, seed)
    print_bench(document["augment_bench"])
    if out is not None:
        write_report(document, out)
    return document


def bench_document(report: BenchReport, seed: int) -> dict[str, Any]:
    """A report document that holds the bench alone."""
    content = report.to_dict()
    return {
        "schema": "privgen-report/1",
        "privgen_version": version("privgen"),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "data": None,
        "generator": None,
        "audit": None,
        "augment_bench": content,
        "reproduce": {"command": f"privgen augment-bench DATA --seed {seed}", "seed": seed},
        "samples_png": None,
    }

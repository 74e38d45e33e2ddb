"""Training the generators of each regime, on that regime's tiles alone.

A generator trained here keeps a ledger as any other: its regime's tiles in `train`, the validation
patients in `reference` (they choose classifiers, so they must not judge), and in `holdout` the test
patients and those known patients of whom it saw nothing. So `privgen audit --generator` works on
it, and `privgen augment-bench --generator` finds the same parts again.

The budget is a number of tiles, not of minutes, and the number of threads is fixed, so that a run
that was stopped and goes on ends with the same weights.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from privgen import console
from privgen.benefit.regimes import Parts
from privgen.checkpoints.roles import ledger_of
from privgen.checkpoints.state import GENERATOR, load_checkpoint
from privgen.config import TrainConfig
from privgen.data.splits import Split
from privgen.data.tileset import TileSet
from privgen.errors import ConfigError
from privgen.models.presets import configure
from privgen.training import dry_run
from privgen.training.requirements import same_run
from privgen.training.session import Session

DEFAULT_KIMG = 5.0
"""Thousand real tiles each generator is shown where nothing else is asked for."""


def train_generators(
    tiles: TileSet,
    parts: Parts,
    subsets: Mapping[float, TileSet],
    *,
    options: Mapping[str, object],
    count: int,
    folder: Path,
    group_by: str | None = None,
    on_bad_tile: str = "error",
) -> dict[float, tuple[Path, ...]]:
    """Train `count` generators for every regime, or take up those begun in `folder`.

    Args:
      tiles: the whole real set.
      parts: its split.
      subsets: real training tiles of each regime.
      options: fields of `TrainConfig`; `seed` is that of the first generator.
      count: generators a regime, which differ in their seed.
      folder: private; gets a folder of run folders for each generator.
      group_by, on_bad_tile: how `tiles` was opened.

    Returns:
      For each regime the run folders, which `load_generator` takes.

    Raises:
      ConfigError, CheckpointError: those begun are of other options or tiles.
    """
    wanted = _configured(options)
    made: dict[float, tuple[Path, ...]] = {}
    for share, train in subsets.items():
        runs = []
        for number in range(count):
            config = replace(wanted, seed=wanted.seed + number)
            place = folder / f"regime-{share:g}-seed-{config.seed}"
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
            begun = max(place.iterdir(), default=None)
            if begun and not any(begun.glob("checkpoints/ckpt-*.pt")):
                begun = None
            chosen = _split(tiles, parts, train)
            session = Session(
                config=config,
                roles={
                    role: tiles.subset(rows) for role, rows in chosen.roles().items() if len(rows)
                },
                ledger=ledger_of(
                    tiles,
                    chosen,
                    parameters={"seed": config.seed},
                    group_by=group_by,
                    on_bad_tile=on_bad_tile,
                ),
                name=f"regime-{share:g}",
                resume=begun,
            )
            if begun:
                session = replace(session, config=_require_same(begun, session))
            elif not config.threads:  # settled now, so that a run that goes on keeps them
                settled = replace(config, threads=torch.get_num_threads())
                session = replace(session, config=settled)
            if begun is None or not (begun / GENERATOR).exists():
                console.note(
                    f"training {config.family} for regime {share:g}, seed {config.seed}: "
                    f"{len(train)} tiles of {len(np.unique(train.groups))} {train.group_unit}s"
                )
                begun = session.run(place).parent.parent
            runs.append(begun)
        made[share] = tuple(runs)
    return made


def _split(tiles: TileSet, parts: Parts, train: TileSet) -> Split:
    """Roles of one generator, as rows of the whole set; tiles it has no use for are in none."""
    row = {record.path: number for number, record in enumerate(tiles.records)}

    def rows(chosen: TileSet) -> NDArray[np.intp]:
        return np.array(sorted(row[record.path] for record in chosen.records), dtype=np.intp)

    unseen = ~np.isin(parts.known.alike, train.alike)
    others = parts.known.subset(np.flatnonzero(unseen))
    return Split(
        train=rows(train),
        siblings=np.empty(0, dtype=np.intp),
        holdout=np.sort(np.concatenate([rows(parts.test), rows(others)])),
        reference=rows(parts.validation),
    )


def _require_same(begun: Path, session: Session) -> TrainConfig:
    """The configuration a generator goes on with: its own threads and precision.

    Raises:
      ConfigError, CheckpointError: options or tiles changed.
    """
    kept, asked = load_checkpoint(begun), session.config
    config = same_run(kept, asked, session.roles["train"], session.ledger)
    for name, old, new in (
        ("kimg", kept.config.kimg, asked.kimg),
        ("minutes", kept.config.minutes, asked.minutes),
    ):
        if old != new:
            raise ConfigError(
                f"generators that were begun keep their budget; changed: {name}: {old} -> {new}. "
                "Repeat the command they were begun with, or give a new `out`."
            )
    return config


def estimate_minutes(train: TileSet, options: Mapping[str, object]) -> float:
    """About how long one generator takes to train, measured from a few of its steps."""
    return dry_run.plan(train, _configured(options))["minutes"]


def _configured(options: Mapping[str, object]) -> TrainConfig:
    """The configuration of the first generator."""
    return configure({"kimg": DEFAULT_KIMG, "watch_kimg": 0.0, **options})

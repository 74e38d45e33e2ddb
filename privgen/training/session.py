"""One training session: open tiles, split patients, keep the ledger, run the loop."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from privgen.config import TrainConfig
from privgen.data.layouts import open_tiles
from privgen.data.splits import split_by_patient
from privgen.data.tileset import TileSet
from privgen.errors import ConfigError
from privgen.files import new_run_folder
from privgen.roles import ledger_of, match, reopen
from privgen.training import loop
from privgen.training.state import Ledger, load_checkpoint


@dataclass(frozen=True, kw_only=True)
class Session:
    """A training run that is ready to start or to go on.

    Attributes:
      config: of the run.
      roles: tiles of each role; only "train" reaches the generator.
      ledger: who plays which part.
      name: of the data, for the run folder.
      resume: run folder to go on in, or None.
    """

    config: TrainConfig
    roles: Mapping[str, TileSet]
    ledger: Ledger
    name: str
    resume: Path | None = None

    @property
    def summary(self) -> str:
        """One line: what was recognised and how it was split."""
        train = self.roles["train"]
        parts = [
            f"{role} {len(tiles)} tiles of {len(np.unique(tiles.groups))} {train.group_unit}s"
            for role, tiles in self.roles.items()
            if len(tiles)
        ]
        return f"{train.layout}: {'; '.join(parts)}"

    def estimate(self) -> dict[str, Any]:
        """Parameters, speed and time of the run, measured from one step; writes nothing."""
        return loop.plan(self.roles["train"], self.config)

    def run(self, out: Path) -> Path:
        """Train, in a numbered run folder of `out` or the one resumed; returns the last checkpoint.

        Raises:
          RuntimeFailure, Interrupted: as `training.loop.train`.
        """
        folder = self.resume or new_run_folder(out, f"{self.name}-{self.config.family}")
        return loop.train(
            self.roles["train"],
            self.config,
            run_folder=folder,
            ledger=self.ledger,
            resume=self.resume,
        )


def plan_session(
    data: Path | str | TileSet | None,
    *,
    options: Mapping[str, Any],
    holdout: float = 0.35,
    siblings: float = 0.1,
    group_by: str | None = None,
    on_bad_tile: Literal["error", "skip"] = "error",
    resume: Path | None = None,
) -> Session:
    """Prepare a session; reads everything, writes nothing.

    Args:
      data: tiles to split and train on; None when resuming data that are where they were.
      options: fields of `TrainConfig`; see there for the default budget.
      holdout, siblings: shares, as `split_by_patient`; the split's seed is the run's.
      group_by, on_bad_tile: as `open_tiles`.
      resume: run folder to go on in, with its own configuration and split.

    Raises:
      InputError: data, options or checkpoint cannot be used.
    """
    if resume is not None:
        return _resumed(data, options, Path(resume))
    if data is None:
        raise ConfigError("training needs a folder of tiles, or --resume RUN: got neither.")
    config = TrainConfig.from_dict(options)
    if isinstance(data, TileSet):
        tiles, name = data, "tiles"
    else:
        tiles = open_tiles(Path(data), group_by=group_by, on_bad_tile=on_bad_tile)
        name = Path(data).resolve().stem
    shares = {"holdout": holdout, "reference": 0.0, "siblings": siblings}
    split = split_by_patient(tiles, seed=config.seed, **shares)
    ledger = ledger_of(
        tiles,
        split,
        parameters={"seed": config.seed, **shares},
        group_by=group_by,
        on_bad_tile=on_bad_tile,
    )
    roles = {role: tiles.subset(rows) for role, rows in split.roles().items() if len(rows)}
    return Session(config=config, roles=roles, ledger=ledger, name=name)


def _resumed(
    data: Path | str | TileSet | None, options: Mapping[str, Any], resume: Path
) -> Session:
    checkpoint = load_checkpoint(resume)
    folder = resume if resume.is_dir() else resume.parent.parent
    if isinstance(data, TileSet):
        roles = match(checkpoint.ledger, data)
    else:
        roles = reopen(checkpoint.ledger, None if data is None else Path(data))
    config = TrainConfig.from_dict({**checkpoint.config.to_dict(), **options})
    return Session(
        config=config, roles=roles, ledger=checkpoint.ledger, name=folder.name, resume=folder
    )


def train(
    data: Path | str | TileSet,
    *,
    out: Path | str = "runs",
    holdout: float = 0.35,
    siblings: float = 0.1,
    group_by: str | None = None,
    on_bad_tile: Literal["error", "skip"] = "error",
    resume: Path | None = None,
    config: Mapping[str, Any] | None = None,
) -> Path:
    """Train a generator on some patients of a set and keep the others for its audit.

    Args:
      data: a folder, manifest, archive or tile set.
      out: gets a numbered run folder.
      holdout, siblings, group_by, on_bad_tile, resume: as `plan_session`.
      config: fields of `TrainConfig`, such as `{"resolution": 64, "minutes": 10}`.

    Returns:
      The last checkpoint; `privgen.audit(generator=...)` takes it.

    Raises:
      InputError: data, options or checkpoint cannot be used.
      RuntimeFailure, Interrupted: training stopped; what was reached is saved.
    """
    session = plan_session(
        data,
        options=config or {},
        holdout=holdout,
        siblings=siblings,
        group_by=group_by,
        on_bad_tile=on_bad_tile,
        resume=resume,
    )
    return session.run(Path(out))

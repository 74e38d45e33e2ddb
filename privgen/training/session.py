"""One training session: open tiles, split patients, keep the ledger, run the loop."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from privgen import console
from privgen.checkpoints.ledger import (
    Ledger,
)
from privgen.checkpoints.roles import ledger_of, match, opened_by
from privgen.checkpoints.state import (
    CHECKPOINTS,
    GENERATOR,
    load_checkpoint,
)
from privgen.compute.processes import join
from privgen.config import RUNTIME_KEYS, TrainConfig
from privgen.data.colour import Icc
from privgen.data.layouts import open_tiles
from privgen.data.remarks import cautions
from privgen.data.splits import split_by_patient
from privgen.data.tileset import TileSet
from privgen.errors import ConfigError
from privgen.files import new_run_folder
from privgen.models.presets import configure
from privgen.training import dry_run, loop

HOLDOUT, SIBLINGS = 0.35, 0.1
"""Shares of a split where none are asked for."""

OnBadTile = Literal["error", "skip"]


@dataclass(frozen=True, kw_only=True)
class Session:
    """A training run that is ready to start or to go on.

    Attributes:
      config: of the run.
      roles: tiles of each role; only "train" reaches the generator.
      ledger: who plays which part.
      name: of the data, for the run folder.
      resume: checkpoint or run folder to go on from, or None.
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
        return dry_run.plan(self.roles["train"], self.config)

    def run(self, out: Path) -> Path:
        """Train, in a numbered run folder of `out` or the one resumed; returns the last checkpoint.

        Under `torchrun` every process calls this; the first makes the folder.

        Raises:
          RuntimeFailure, Interrupted: as `training.loop.train`.
        """
        processes = join(self.config.device)
        folder = self._run_folder
        if folder is None:
            made = None
            if processes.first:
                made = str(new_run_folder(out, f"{self.name}-{self.config.family}"))
            folder = Path(processes.told(made))
        watched = "holdout" if self.config.select_by == "last" else "reference"
        try:
            return loop.train(
                self.roles["train"],
                self.config,
                run_folder=folder,
                ledger=self.ledger,
                held_out=self.roles.get(watched),
                resume=self.resume,
                processes=processes,
            )
        finally:
            if processes.first and not any(folder.iterdir()):
                folder.rmdir()  # refused before anything was written

    @property
    def _run_folder(self) -> Path | None:
        if self.resume is None:
            return None
        inner = (self.resume if self.resume.is_dir() else self.resume.parent).resolve()
        return inner.parent if inner.name == CHECKPOINTS else inner


def plan_session(
    data: Path | str | TileSet | None,
    *,
    options: Mapping[str, Any],
    holdout: float | None = None,
    siblings: float | None = None,
    group_by: str | None = None,
    on_bad_tile: OnBadTile | None = None,
    icc: Icc | None = None,
    resume: Path | str | None = None,
    out: Path = Path("runs"),
) -> Session:
    """Prepare a session; reads everything, writes nothing.

    Args:
      data: tiles to split and train on; None when resuming data that are where they were.
      options: fields of `TrainConfig`, over the family's preset; see there for the default budget.
      holdout, siblings: shares, as `split_by_patient`, `HOLDOUT` and `SIBLINGS` when None; the
        split's seed is the run's. Where the generator file is selected by what is measured on
        held-out tiles, half of the holdout becomes the reference role, and selection sees that half
        alone: the audit's holdout must not have chosen what it judges.
      group_by, on_bad_tile, icc: as `open_tiles`; None means recognised, "error" and "ignore".
      resume: run folder or checkpoint to go on from, with its own configuration and split; "auto"
        takes the newest unfinished run in `out` of these tiles and of all that `options` say, and
        starts a new one where there is none, so that a requeued job can repeat its command.
      out: where "auto" looks.

    Raises:
      InputError: data, options or checkpoint cannot be used.
    """
    if resume == "auto":
        resume = None if data is None else _unfinished(out, data, options)
    if resume is not None:
        asked: dict[str, Any] = {"holdout": holdout, "siblings": siblings, "group_by": group_by}
        asked |= {"on_bad_tile": on_bad_tile, "icc": icc}
        return _resumed(data, options, asked, Path(resume))
    if data is None:
        raise ConfigError("training needs a folder of tiles, or `resume` RUN: got neither.")
    config = configure(options)
    if isinstance(data, TileSet):
        tiles = data
    else:
        tiles = open_tiles(
            Path(data),
            group_by=group_by,
            on_bad_tile=on_bad_tile or "error",
            icc=icc or "ignore",
        )
    for remark in cautions(tiles):
        console.warn(f"{remark}.")
    held = HOLDOUT if holdout is None else holdout
    kept = 0.0 if config.select_by == "last" else held / 2
    shares = {
        "holdout": held - kept,
        "reference": kept,
        "siblings": SIBLINGS if siblings is None else siblings,
    }
    split = split_by_patient(tiles, seed=config.seed, **shares)
    ledger = ledger_of(
        tiles,
        split,
        parameters={"seed": config.seed, **shares},
        group_by=group_by,
        on_bad_tile=on_bad_tile or "error",
    )
    roles = {role: tiles.subset(rows) for role, rows in split.roles().items() if len(rows)}
    return Session(config=config, roles=roles, ledger=ledger, name=_name(data))


def _name(data: Path | str | TileSet) -> str:
    return "tiles" if isinstance(data, TileSet) else Path(data).resolve().stem


def _unfinished(out: Path, data: Path | str | TileSet, options: Mapping[str, Any]) -> Path | None:
    """The newest run in `out` of these tiles and options that was begun and not finished."""
    wanted = re.compile(rf"\d{{5}}-{re.escape(_name(data))}-.*")
    runs = [f for f in out.iterdir() if wanted.fullmatch(f.name)] if out.is_dir() else []
    place = None if isinstance(data, TileSet) else str(Path(data).resolve())
    asked = configure(options).to_dict()
    settled = [key for key in ("family", *options) if key not in RUNTIME_KEYS]
    for folder in sorted(runs, reverse=True):
        started = any((folder / CHECKPOINTS).glob("ckpt-*.pt"))
        if not started or (folder / GENERATOR).exists():
            continue
        checkpoint = load_checkpoint(folder)
        theirs = checkpoint.config.to_dict()
        same = all(theirs[key] == asked[key] for key in settled)
        if same and checkpoint.ledger.root == place:
            return folder
    return None


def _require_same_split(asked: Mapping[str, Any], ledger: Ledger) -> None:
    """ConfigError where the split asked for is not the run's."""
    kept = {
        "holdout": ledger.split.get("holdout", 0.0) + ledger.split.get("reference", 0.0),
        "siblings": ledger.split.get("siblings"),
        "group_by": ledger.group_by,
        "on_bad_tile": ledger.on_bad_tile,
        "icc": ledger.icc,
    }
    changed = [
        f"{key}: {kept[key]} -> {value}"
        for key, value in asked.items()
        if value is not None and value != kept[key]
    ]
    if changed:
        raise ConfigError(
            f"a resumed run must keep its split; changed: {'; '.join(changed)}. Take these back, "
            "or start a new run."
        )


def _resumed(
    data: Path | str | TileSet | None,
    options: Mapping[str, Any],
    asked: Mapping[str, Any],
    resume: Path,
) -> Session:
    checkpoint = load_checkpoint(resume)
    _require_same_split(asked, checkpoint.ledger)
    if resume.is_file() and resume.resolve().parent.name != CHECKPOINTS:
        raise ConfigError(
            f"a checkpoint to go on from must lie in {CHECKPOINTS}/ of its run folder, where the "
            f"run goes on: got {resume}. Move it to RUN/{CHECKPOINTS}/."
        )
    if not isinstance(data, TileSet):
        data = opened_by(checkpoint.ledger, None if data is None else Path(data))
    found = match(checkpoint.ledger, data)
    for difference in found.differences:
        console.warn(difference)
    if found.unlisted:
        console.warn(f"{found.unlisted} They are not trained on.")
    config = TrainConfig.from_dict({**checkpoint.config.to_dict(), **options})
    return Session(
        config=config,
        roles=found.roles,
        ledger=checkpoint.ledger,
        name="resumed",
        resume=resume,
    )


def train(
    data: Path | str | TileSet,
    *,
    out: Path | str = "runs",
    holdout: float | None = None,
    siblings: float | None = None,
    group_by: str | None = None,
    on_bad_tile: OnBadTile | None = None,
    resume: Path | str | None = None,
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
        out=Path(out),
    )
    return session.run(Path(out))

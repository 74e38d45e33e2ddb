"""One training session: open tiles, split patients, keep the ledger, run the loop."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

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
from privgen.choices import CanaryKind, Icc, OnBadTile
from privgen.compute.processes import join
from privgen.config import RUNTIME_KEYS, TrainConfig
from privgen.data.remarks import cautions
from privgen.data.sources import Source, open_source
from privgen.data.splits import split_by_patient
from privgen.data.tileset import TileSet
from privgen.errors import ConfigError
from privgen.files import new_run_folder
from privgen.models.presets import configure
from privgen.requests import command_line, made
from privgen.training import dry_run, loop
from privgen.training.canaries import with_canaries
from privgen.training.requests import SessionRequest

HOLDOUT, SIBLINGS = 0.35, 0.1
"""Shares of a split where none are asked for."""


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
        if (canaries := self.ledger.canaries) is not None:
            inside = sum(canaries.included)
            parts.append(f"{canaries.count} {canaries.kind} canaries, {inside} of them in training")
        return f"{train.layout}: {'; '.join(parts)}"

    def estimate(self) -> dry_run.Estimated:
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

    def command(self, kimg: float) -> str:
        """The command that trains this generator again, without its paths.

        Args:
          kimg: thousand tiles that were shown; a budget of minutes would stop elsewhere.
        """
        split, (canaries, kind) = self.ledger.split, canaries_of(self.ledger)
        request = SessionRequest(
            data=Path("DATA"),
            holdout=split.get("holdout", 0.0) + split.get("reference", 0.0),
            siblings=split.get("siblings"),
            canaries=canaries or None,
            canaries_from=kind,
            group_by=self.ledger.group_by,
            on_bad_tile=cast(OnBadTile, self.ledger.on_bad_tile),
            icc=cast(Icc, self.ledger.icc),
        )
        return command_line("train", request, replace(self.config, kimg=kimg, minutes=None))

    @property
    def _run_folder(self) -> Path | None:
        if self.resume is None:
            return None
        inner = (self.resume if self.resume.is_dir() else self.resume.parent).resolve()
        return inner.parent if inner.name == CHECKPOINTS else inner


def plan_session(
    data: Source | None = None,
    /,
    *,
    options: Mapping[str, object],
    out: Path = Path("runs"),
    **asked: Any,
) -> Session:
    """Prepare a session; reads everything, writes nothing.

    Args:
      data: tiles to split and train on; None when resuming data that are where they were.
      options: fields of `TrainConfig`, over the family's preset; see there for the default budget.
      out: where `resume="auto"` looks.
      asked: further fields of `SessionRequest`.

    Raises:
      InputError: data, options or checkpoint cannot be used.
    """
    return plan_request(made(SessionRequest, {"data": data, **asked}), options, out)


def plan_request(
    request: SessionRequest, options: Mapping[str, object], out: Path = Path("runs")
) -> Session:
    """`plan_session` of a request.

    The split's seed is the run's. Where the generator file is selected by what is measured on
    held-out tiles, half of the holdout becomes the reference role, and selection sees that half
    alone: the audit's holdout must not have chosen what it judges.

    `resume="auto"` takes the newest unfinished run in `out` of these tiles and of all that
    `options` say, and starts a new one where there is none, so that a requeued job can repeat its
    command.
    """
    data, resume = request.data, request.resume
    if resume == "auto":
        resume = _unfinished(out, request, options)
    if resume is not None:
        return _resumed(request, options, Path(resume))
    config = configure(options)
    tiles = open_source(
        data,
        "data",
        group_by=request.group_by,
        on_bad_tile=request.on_bad_tile or "error",
        icc=request.icc or "ignore",
        min_classes=2,
    )
    for remark in cautions(tiles):
        console.warn(f"{remark}.")
    held = HOLDOUT if request.holdout is None else request.holdout
    kept = 0.0 if config.select_by == "last" else held / 2
    shares = {
        "holdout": held - kept,
        "reference": kept,
        "siblings": SIBLINGS if request.siblings is None else request.siblings,
    }
    split = split_by_patient(tiles, seed=config.seed, **shares)
    canaries = None
    if request.canaries:
        split, canaries = with_canaries(
            tiles,
            split,
            count=request.canaries,
            kind=request.canaries_from or "artificial",
            config=config,
        )
    ledger = ledger_of(
        tiles,
        split,
        parameters={"seed": config.seed, **shares},
        group_by=request.group_by,
        on_bad_tile=request.on_bad_tile or "error",
        canaries=canaries,
    )
    roles = {role: tiles.subset(rows) for role, rows in split.roles().items() if len(rows)}
    return Session(config=config, roles=roles, ledger=ledger, name=_name(data))


def _name(data: Source) -> str:
    return Path(data).resolve().stem if isinstance(data, str | Path) else "tiles"


def _unfinished(out: Path, request: SessionRequest, options: Mapping[str, object]) -> Path | None:
    """The newest run in `out` of these tiles and options that was begun and not finished."""
    data = request.data
    wanted = re.compile(rf"\d{{5}}-{re.escape(_name(data))}-.*")
    runs = [f for f in out.iterdir() if wanted.fullmatch(f.name)] if out.is_dir() else []
    place = str(Path(data).resolve()) if isinstance(data, str | Path) else None
    kind = request.canaries_from or "artificial"
    canaries = (request.canaries, kind) if request.canaries else (0, None)
    asked = configure(options).to_dict()
    settled = [key for key in ("family", *options) if key not in RUNTIME_KEYS]
    for folder in sorted(runs, reverse=True):
        started = any((folder / CHECKPOINTS).glob("ckpt-*.pt"))
        if not started or (folder / GENERATOR).exists():
            continue
        checkpoint = load_checkpoint(folder)
        theirs = checkpoint.config.to_dict()
        same = all(theirs[key] == asked[key] for key in settled)
        same &= canaries_of(checkpoint.ledger) == canaries
        if same and checkpoint.ledger.root == place:
            return folder
    return None


def canaries_of(ledger: Ledger) -> tuple[int, CanaryKind | None]:
    """How many canaries a training has, and of what kind."""
    canaries = ledger.canaries
    return (0, None) if canaries is None else (canaries.count, canaries.kind)


def _require_same_split(request: SessionRequest, ledger: Ledger) -> None:
    """ConfigError where the split asked for is not the run's."""
    kept = {
        "holdout": ledger.split.get("holdout", 0.0) + ledger.split.get("reference", 0.0),
        "siblings": ledger.split.get("siblings"),
        "canaries": canaries_of(ledger)[0],
        "canaries_from": canaries_of(ledger)[1],
        "group_by": ledger.group_by,
        "on_bad_tile": ledger.on_bad_tile,
        "icc": ledger.icc,
    }
    changed = [
        f"{key}: {theirs} -> {value}"
        for key, theirs in kept.items()
        if (value := getattr(request, key)) is not None and value != theirs
    ]
    if changed:
        raise ConfigError(
            f"a resumed run must keep its split; changed: {'; '.join(changed)}. Take these back, "
            "or start a new run."
        )


def _resumed(request: SessionRequest, options: Mapping[str, object], resume: Path) -> Session:
    checkpoint = load_checkpoint(resume)
    data = request.data
    _require_same_split(request, checkpoint.ledger)
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
    data: Source | None = None,
    /,
    *,
    out: Path | str = "runs",
    config: Mapping[str, object] | None = None,
    **asked: Any,
) -> Path:
    """Train a generator on some patients of a set and keep the others for its audit.

    Args:
      data: a folder, manifest, archive or tile set, or tiles in memory (`data.sources.Source`).
      out: gets a numbered run folder.
      config: fields of `TrainConfig`, such as `{"resolution": 64, "minutes": 10}`.
      asked: further fields of `SessionRequest`: holdout, siblings, canaries, canaries_from,
        group_by, on_bad_tile, icc, resume.

    Returns:
      The last checkpoint; `privgen.audit(generator=...)` takes it.

    Raises:
      InputError: data, options or checkpoint cannot be used.
      RuntimeFailure, Interrupted: training stopped; what was reached is saved.
    """
    return plan_session(data, options=config or {}, out=Path(out), **asked).run(Path(out))

"""One run on disk: where it stands, what it has written, and how it goes on after a kill."""

import copy
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from privgen import console
from privgen.checkpoints import state
from privgen.checkpoints.code import code_digest
from privgen.checkpoints.ledger import (
    Ledger,
)
from privgen.checkpoints.state import (
    CHECKPOINTS,
    GENERATOR,
    Checkpoint,
    GeneratorState,
)
from privgen.compute.processes import Processes
from privgen.config import TrainConfig
from privgen.data.tileset import TileSet
from privgen.files import locked, sweep_partial_files, write_json
from privgen.reporting.progress import PICTURE, draw_progress
from privgen.sampling import LoadedGenerator
from privgen.training.engine import Engine
from privgen.training.journal import LAST, WATCH, Journal
from privgen.training.watch import Watch


class Run:
    """The state of a run and its files; use as a context manager.

    With several processes the first alone writes; all keep the same state.

    Args:
      tiles: the train role.
      labels: their class numbers, and those of artificial canaries after them.
      config: of the run, its number of threads decided.
      folder: of the run.
      ledger: who plays which part.
      held_out: tiles to watch against, or None.
      processes: that train together.
      started_from: checkpoint to go on from, or None.

    Attributes:
      engine: the networks.
      step: steps made.
      seconds: training time used, those of resumed runs included.
    """

    def __init__(
        self,
        tiles: TileSet,
        labels: NDArray[np.intp],
        config: TrainConfig,
        folder: Path,
        ledger: Ledger,
        held_out: TileSet | None,
        processes: Processes,
        started_from: Checkpoint | None,
    ) -> None:
        self.config, self.processes = config, processes
        self.classes, self.ledger = tiles.classes, ledger
        shown = np.bincount(labels[: len(tiles)]) / len(tiles)  # the real ones come first
        if config.class_balance == "uniform":
            shown = np.full(len(shown), 1 / len(shown))
        self.shares = tuple(float(share) for share in shown)
        self.engine = Engine(config, len(tiles.classes), processes=processes)
        self.step, self.seconds, self._selected = 0, 0.0, dict[str, float]()
        running: dict[str, float] = {}
        if started_from is not None:
            self.engine.restore(started_from)
            self.step, self.seconds = started_from.step, started_from.seconds
            self._selected, running = dict(started_from.selected), started_from.running
            if started_from.processes != processes.count:
                console.warn(
                    f"this run was made by {started_from.processes} processes and goes on with "
                    f"{processes.count}: rounding will differ from an uninterrupted run."
                )
        self._folder, self._checkpoints = folder, folder / CHECKPOINTS
        self._fresh = started_from is None
        self._open = ExitStack()
        self._journal = Journal(folder, config, running, step=self.step, speaks=processes.first)
        self._watch = Watch.of(tiles, held_out, config) if processes.first else None
        self._clock = self._saved = 0.0

    def __enter__(self) -> Self:
        if self.processes.first:
            self._open.enter_context(locked(self._folder, purpose="training"))
            for place in (self._folder, self._checkpoints, self._folder / "fakes"):
                place.mkdir(parents=True, exist_ok=True)
                sweep_partial_files(place)
            (self._folder / GENERATOR).unlink(missing_ok=True)  # of a run that is being extended
            write_json(self._folder / "config.json", self.config.to_dict())
            if self._fresh:
                self.save()  # from here on a kill loses nothing
            else:
                self._rewind()
        self._open.enter_context(self._journal)
        self._journal.begin(self.step, self.seconds)
        self._clock, self._saved = time.monotonic() - self.seconds, self.seconds
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open.close()

    def _rewind(self) -> None:
        """Forget checkpoints of later steps, as the journal forgets lines; both come again."""
        for pattern, path_of in (
            ("ckpt-*.pt", state.checkpoint_path),
            ("selected-*.pt", state.selected_path),
        ):
            last = path_of(self._checkpoints, self.step).name
            for path in self._checkpoints.glob(pattern):
                if path.name > last:
                    path.unlink()

    def record(self, figures: dict[str, float]) -> None:
        """Count a step and take down its figures."""
        self.step, self.seconds = self.step + 1, time.monotonic() - self._clock
        self._journal.record(self.step, self.seconds, figures)
        self._journal.show(self.step, self.seconds)

    def grid(self) -> None:
        """Write a grid of synthetic tiles."""
        if self.processes.first:
            self._journal.grid(self.step, self._preview())

    @property
    def watch_is_due(self) -> bool:
        """Whether this step passed a multiple of `watch_kimg`."""
        every = self.config.watch_kimg * 1000
        batch = self.config.batch
        return every > 0 and (self.step * batch) // every > ((self.step - 1) * batch) // every

    def watch(self, *, last: bool = False) -> None:
        """Measure quality and leakage, and keep the weights where they are the best so far.

        A last measurement, where the budget happens to end, is for reading: it selects nothing and
        is forgotten when the run is extended, so that what is selected does not depend on stops.
        """
        if self._watch is None or self._journal.watched_at == self.step:
            return
        line = self._watch.measure(self._preview())
        self._journal.watched(self.step, {**line, LAST: True} if last else line)
        figure = None if last else self._watch.merit(line)
        if figure is not None and figure < self._selected.get("figure", float("inf")):
            self._selected = {"step": float(self.step), "figure": figure}
            self._write(state.selected_path(self._checkpoints, self.step))
        chosen = int(self._selected["step"]) if self._selected else None
        draw_progress(self._folder / WATCH, self._folder / PICTURE, selected_step=chosen)

    @property
    def save_is_due(self) -> bool:
        """Whether the last checkpoint is old enough; the first process decides."""
        due = self.seconds - self._saved >= 60 * self.config.checkpoint_minutes
        return bool(self.processes.told(due))

    def save(self) -> Path:
        """Write a checkpoint and let go of the oldest."""
        path = state.checkpoint_path(self._checkpoints, self.step)
        if self.processes.first:
            self._write(path)
            kept = sorted(self._checkpoints.glob("ckpt-*.pt"))
            for old in kept[: -self.config.keep_checkpoints]:
                old.unlink()
            self._drop_selected(kept[-self.config.keep_checkpoints :][0])
        self._saved = self.seconds
        return path

    def _drop_selected(self, oldest: Path) -> None:
        """Let go of selected checkpoints that no kept checkpoint goes by any more."""
        step = int(oldest.stem.partition("-")[2])
        last = state.selected_path(self._checkpoints, step).name
        passed = sorted(p for p in self._checkpoints.glob("selected-*.pt") if p.name <= last)
        for path in passed[:-1]:
            path.unlink()

    def finish(self) -> Path:
        """Last grid, last measurement, last checkpoint, generator file; returns the checkpoint."""
        self.grid()
        if self.config.watch_kimg:
            self.watch(last=True)
        path = self.save()
        if self.processes.first:
            if self._selected:
                path = state.selected_path(self._checkpoints, int(self._selected["step"]))
            elif self.config.select_by != "last":
                console.warn(
                    f"no measurement passed `select_by` {self.config.select_by}, so "
                    "generator.safetensors holds the last weights. Read watch.jsonl before you "
                    "share them."
                )
            kept = state.load_checkpoint(path)
            state.save_generator(
                self._folder / GENERATOR,
                GeneratorState(
                    config=self.config,
                    classes=self.classes,
                    class_share=self.shares,
                    tensors=kept.average,
                    kimg=kept.step * self.config.batch / 1000,
                    artificial=self.ledger.artificial,
                ),
            )
        return Path(self.processes.told(str(path)))

    def _preview(self) -> LoadedGenerator:
        """The averaged generator as it will be loaded, in float32."""
        network = self.engine.average
        if self.engine.exact == torch.float64:
            network = copy.deepcopy(network).float()
        return LoadedGenerator(
            network=network,
            family=self.config.family,
            classes=self.classes,
            class_share=self.shares,
            resolution=self.config.resolution,
        )

    def _write(self, path: Path) -> None:
        checkpoint = Checkpoint(
            config=self.config,
            classes=self.classes,
            class_share=self.shares,
            step=self.step,
            seconds=self.seconds,
            processes=self.processes.count,
            running=self._journal.running,
            selected=self._selected,
            ledger=self.ledger,
            code=code_digest(),
            **self.engine.state(),
        )
        state.save_checkpoint(path, checkpoint)

"""What a run tells while it trains: lines of JSON, grids of synthetic tiles, progress.

`log.jsonl` and `watch.jsonl` hold what was computed and are the same whenever a run is repeated or
resumed; `timing.jsonl` holds how long it took.
"""

import json
import math
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from privgen import console
from privgen.config import TrainConfig
from privgen.data import images
from privgen.draws import Purpose
from privgen.errors import CheckpointError
from privgen.files import append_line, atomic_write
from privgen.phases import Phase, phase
from privgen.sampling import LoadedGenerator
from privgen.training.scalars import Scalars

GRID_COLUMNS = 10
LOG, TIMING, WATCH = "log.jsonl", "timing.jsonl", "watch.jsonl"
LAST = "last"
"""Key of a watch line that was measured because the budget ended, not because it was due."""

COLLAPSED = 0.3
"""Diversity below which a run is warned: synthetic tiles differ less than a third as real ones."""

COLLAPSE_KIMG = 1.0
"""Thousand images before which nothing is said: every run starts from one colour."""

_COUNT = "#"


class Journal:
    """Writes the lines and grids, and shows progress; use as a context manager.

    Args:
      folder: of the run.
      config: of the run.
      running: sums and counts since the last log line, from a checkpoint; empty for a new run.
      step: steps already made.
      speaks: whether to write and show; one of several processes does.

    Attributes:
      running: sums of what was recorded since the last line, and under `name#` how often.
      watched_at: step of the last watch line, -1 for none.
    """

    def __init__(
        self,
        folder: Path,
        config: TrainConfig,
        running: dict[str, float],
        *,
        step: int = 0,
        speaks: bool = True,
    ) -> None:
        self.config = config
        self.running = dict(running)
        self.watched_at = -1
        self._folder = folder
        self._speaks = speaks
        self._shown = ExitStack()
        self._phase = Phase("training, steps")
        self._start = step
        self._last: dict[str, float] = {}
        self._since = (0.0, 0)
        self._warned = False
        self._scalars = Scalars(
            folder / "tensorboard", wanted=config.tensorboard and speaks, after=step
        )

    def __enter__(self) -> Self:
        if self._speaks:
            self._phase = self._shown.enter_context(phase("training, steps", done=self._start))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._shown.close()
        self._scalars.close()

    def begin(self, step: int, seconds: float) -> None:
        """Forget lines after `step`, which will be written again; count speed from here."""
        self._since = (seconds, step)
        if not self._speaks:
            return
        for name in (LOG, TIMING, WATCH):
            kept = self._rewound(self._folder / name, step)
            if name == WATCH and kept:
                self.watched_at = kept[-1]
        self.show(step, seconds)

    def _rewound(self, path: Path, step: int) -> list[int]:
        """Drop a file's lines after `step`, a torn last one, and one measured at the budget's end.

        Returns:
          The steps of the lines that stay.

        Raises:
          CheckpointError: a line is damaged.
        """
        if not path.exists():
            return []
        kept: dict[bytes, int] = {}
        for number, line in enumerate(path.read_bytes().splitlines(keepends=True), start=1):
            if not line.endswith(b"\n"):
                continue
            try:
                values = json.loads(line)
                at = int(values["step"])
            except (ValueError, TypeError, KeyError) as error:
                raise CheckpointError(
                    f"line {number} of {path} is damaged: {error}. Delete that line and resume "
                    "again; the checkpoints are not touched by it."
                ) from error
            if at <= step and not values.get(LAST):
                kept[line] = at
        with atomic_write(path) as stream:
            stream.write(b"".join(kept))
        return list(kept.values())

    def record(self, step: int, seconds: float, figures: Mapping[str, float]) -> None:
        """Add one step's figures; every `log_steps` steps their means become a log line."""
        for key, value in figures.items():
            if not math.isfinite(value):
                continue  # of a float16 step that was skipped
            self.running[key] = self.running.get(key, 0.0) + value
            self.running[key + _COUNT] = self.running.get(key + _COUNT, 0.0) + 1.0
        if step % self.config.log_steps:
            return
        self._last = {
            key: total / self.running[key + _COUNT]
            for key, total in self.running.items()
            if not key.endswith(_COUNT)
        }
        self.running = {}
        if not self._speaks:
            return
        self._append(LOG, step, self._last)
        speed = round(self._speed(step, seconds), 2)
        self._append(TIMING, step, {"seconds": round(seconds, 3), "images_per_second": speed})
        self._warn_of_collapse(step)

    def watched(self, step: int, line: Mapping[str, object]) -> None:
        """Keep what was measured of quality and leakage."""
        self._append(WATCH, step, line)
        self.watched_at = step

    def _append(self, name: str, step: int, values: Mapping[str, object]) -> None:
        kimg = step * self.config.batch / 1000
        line = {"step": step, "kimg": kimg, **_rounded(values)}
        append_line(self._folder / name, json.dumps(line, allow_nan=False))
        self._scalars.add(step, values)

    def _warn_of_collapse(self, step: int) -> None:
        kimg = step * self.config.batch / 1000
        found = self._last.get("diversity", 1.0)
        if self._warned or kimg < COLLAPSE_KIMG or found >= COLLAPSED:
            return
        self._warned = True
        console.warn(
            f"collapse: at {kimg:.1f} kimg synthetic tiles of a class differ {found:.2f} times as "
            "much as real ones. If the grids in fakes/ repeat one picture, stop; try "
            "`discriminator=projected`, a higher diversity weight, or lower rates."
        )

    def grid(self, step: int, generator: LoadedGenerator) -> None:
        """Write `fakes/fakes-000123.png`: a row per class, a column per latent."""
        classes = len(generator.classes)
        tiles = generator.generate(
            self.config.seed,
            np.tile(np.arange(GRID_COLUMNS), classes),
            np.repeat(np.arange(classes), GRID_COLUMNS),
            purpose=Purpose.GRID,
        )
        sheet = images.contact_sheet(tiles, GRID_COLUMNS)
        images.write_png(self._folder / "fakes" / f"fakes-{step:06d}.png", sheet)

    def show(self, step: int, seconds: float) -> None:
        """Say how far the run is."""
        if not self._speaks:
            return
        parts = [f"{step * self.config.batch / 1000:.2f} kimg"]
        if speed := self._speed(step, seconds):
            parts.append(f"{speed:.0f} images/s")
        if "diversity" in self._last:
            parts.append(f"diversity {self._last['diversity']:.2f}")
        self._phase.detail = ", ".join(parts)
        self._phase.reach(step, total=self.total_steps(step, seconds))

    def total_steps(self, step: int, seconds: float) -> int | None:
        """Steps the whole run will make, as far as its speed so far tells; None before it does."""
        limits = [self.config.budget_steps]
        if seconds > self._since[0] and step > self._since[1]:
            left = max(self.config.budget_seconds - seconds, 0.0)
            limits.append(step + left * self._speed(step, seconds) / self.config.batch)
        shortest = min(limits)
        return None if shortest == float("inf") else max(step, int(shortest))

    def _speed(self, step: int, seconds: float) -> float:
        elapsed, steps = seconds - self._since[0], step - self._since[1]
        return steps * self.config.batch / elapsed if elapsed > 0 else 0.0


def _rounded(value: Any) -> Any:
    """Floats to six decimals, wherever they stand."""
    if isinstance(value, Mapping):
        return {key: _rounded(item) for key, item in value.items()}
    return round(value, 6) if isinstance(value, float) else value

"""What a run tells while it trains: lines of JSON, grids of synthetic tiles, progress."""

import json
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from privgen import console
from privgen.config import TrainConfig
from privgen.data import images
from privgen.files import atomic_write
from privgen.sampling import LoadedGenerator
from privgen.training.draws import Purpose

GRID_COLUMNS = 10
_SECONDS_BETWEEN_LINES = 10.0


class Journal:
    """Writes `log.jsonl` and `fakes/`, and shows progress; use as a context manager.

    Args:
      folder: of the run.
      config: of the run.
      running: sums since the last log line, from a checkpoint; empty for a new run.
    """

    def __init__(self, folder: Path, config: TrainConfig, running: dict[str, float]) -> None:
        self.config = config
        self.running = dict(running)
        self._log = folder / "log.jsonl"
        self._grids = folder / "fakes"
        self._progress = console.progress()
        self._task = self._progress.add_task("training", total=None)
        self._said = time.monotonic()
        self._last: dict[str, float] = {}
        self._since = (0.0, 0)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def rewind(self, step: int) -> None:
        """Forget log lines after `step`, which a resumed run will write again."""
        if not self._log.exists():
            return
        lines = [
            line
            for line in self._log.read_bytes().splitlines(keepends=True)
            if line.endswith(b"\n") and json.loads(line)["step"] <= step
        ]
        with atomic_write(self._log) as stream:
            stream.write(b"".join(lines))

    def begin(self, step: int, seconds: float) -> None:
        """Start counting speed and showing progress from here."""
        self._since = (seconds, step)
        self.show(step, seconds)

    def record(self, step: int, seconds: float, figures: dict[str, float]) -> None:
        """Add one step's figures; every `log_steps` steps their means become a log line."""
        for key, value in {**figures, "steps": 1.0}.items():
            self.running[key] = self.running.get(key, 0.0) + value
        if step % self.config.log_steps:
            return
        count = self.running.pop("steps")
        self._last = {key: total / count for key, total in self.running.items()}
        self.running = {}
        line = {
            "step": step,
            "kimg": step * self.config.batch / 1000,
            "seconds": round(seconds, 3),
            "images_per_second": round(self._speed(step, seconds), 2),
            **{key: round(value, 6) for key, value in self._last.items()},
        }
        with self._log.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line, allow_nan=False) + "\n")

    def grid(self, step: int, generator: LoadedGenerator) -> None:
        """Write `fakes/fakes-000123.png`: a row a class, a column a latent."""
        classes = len(generator.classes)
        tiles = generator.generate(
            self.config.seed,
            np.tile(np.arange(GRID_COLUMNS), classes),
            np.repeat(np.arange(classes), GRID_COLUMNS),
            purpose=Purpose.GRID,
        )
        sheet = images.contact_sheet(tiles, GRID_COLUMNS)
        images.write_png(self._grids / f"fakes-{step:06d}.png", sheet)

    def show(self, step: int, seconds: float) -> None:
        """Move the bar, or where there is no terminal say a line now and then."""
        total = self.total_steps(step, seconds)
        self._progress.update(self._task, completed=step, total=total)
        now = time.monotonic()
        if not self._progress.disable or now - self._said < _SECONDS_BETWEEN_LINES:
            return
        self._said = now
        left = (total - step) * self.config.batch / max(self._speed(step, seconds), 1e-9)
        diversity = self._last.get("diversity")
        known = "" if diversity is None else f", diversity {diversity:.2f}"
        console.note(
            f"step {step} of about {total}, {step * self.config.batch / 1000:.2f} kimg, "
            f"{self._speed(step, seconds):.0f} images/s{known}, {left / 60:.1f} min left"
        )

    def total_steps(self, step: int, seconds: float) -> int:
        """Steps the whole run will make, as far as its speed so far tells."""
        limits = [self.config.budget_steps]
        if seconds > self._since[0] and step > self._since[1]:
            left = max(self.config.budget_seconds - seconds, 0.0)
            limits.append(step + left * self._speed(step, seconds) / self.config.batch)
        shortest = min(limits)
        return step + 1 if shortest == float("inf") else max(step, int(shortest))

    def _speed(self, step: int, seconds: float) -> float:
        elapsed, steps = seconds - self._since[0], step - self._since[1]
        return steps * self.config.batch / elapsed if elapsed > 0 else 0.0

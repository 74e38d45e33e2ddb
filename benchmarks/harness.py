"""What every benchmark shares: its outcome, the machine it ran on, and fair timing of two sides."""

import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line asked for.

    Attributes:
      data: folder of real tiles; None when not given.
      quick: a smaller run for a first look; its outcome says so.
      device: "cpu" or "cuda".
      seed: of every random draw.
      minutes: of each training run; None takes the benchmark's own.
    """

    data: Path | None
    quick: bool
    device: str
    seed: int
    minutes: float | None = None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a benchmark found.

    Attributes:
      columns, rows: the table to print, numbers already as text.
      notes: lines to print below it.
      figures: the same as JSON-able data.
      figure, target: the one line at the end.
      passed: whether the target was met.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    figures: dict[str, Any]
    figure: str
    target: str
    passed: bool
    notes: Sequence[str] = ()


@dataclass
class Timing:
    """Seconds of two interleaved sides, and the ratio of each pair."""

    ours: list[float] = field(default_factory=list)
    plain: list[float] = field(default_factory=list)

    @property
    def ratios(self) -> list[float]:
        return [b / a for a, b in zip(self.ours, self.plain, strict=True)]

    def summary(self) -> dict[str, float]:
        """Median, smallest and largest speed-up of ours over the plain alternative."""
        return {
            "median": statistics.median(self.ratios),
            "low": min(self.ratios),
            "high": max(self.ratios),
            "pairs": len(self.ratios),
        }


def interleave(ours: Callable[[], object], plain: Callable[[], object], *, pairs: int) -> Timing:
    """Time two sides in turn, A B A B ..., after one unmeasured call of each."""
    ours()
    plain()
    timing = Timing()
    for _ in range(pairs):
        for side, seconds in ((ours, timing.ours), (plain, timing.plain)):
            start = time.perf_counter()
            side()
            seconds.append(time.perf_counter() - start)
    return timing


def machine() -> dict[str, Any]:
    """Processor, cores and versions; no host name, no path."""
    return {
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": {
            name: metadata.version(name)
            for name in ("privgen", "numpy", "scipy", "faiss-cpu", "scikit-learn", "torch")
            if _installed(name)
        },
    }


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True

"""What every benchmark shares: outcome, machine, fair timing, cells kept after a kill."""

import hashlib
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
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


class Kept:
    """Finished cells of a long benchmark, so that a kill costs no more than the one in work.

    They lie in `benchmarks/.kept/NAME-DIGEST.jsonl`, which git ignores. The digest is of the code
    and options that decide the figures, so cells of other code are never taken for these.

    Args:
      name: of the benchmark.
      sources: files and folders of Python code that decide the figures.
      options: whatever else does, JSON-able.
    """

    def __init__(self, name: str, sources: Iterable[Path], options: object) -> None:
        digest = hashlib.sha256(json.dumps(options, sort_keys=True).encode())
        for source in sources:
            for file in sorted(source.rglob("*.py")) if source.is_dir() else [source]:
                digest.update(file.name.encode() + file.read_bytes())
        folder = Path(__file__).resolve().parent / ".kept"
        folder.mkdir(exist_ok=True)
        self.path = folder / f"{name}-{digest.hexdigest()[:12]}.jsonl"
        self._cells: dict[str, Any] = {}
        if self.path.exists():
            for line in self.path.read_text().splitlines():
                try:
                    self._cells |= json.loads(line)
                except ValueError:
                    continue  # the line that a kill cut short

    def __len__(self) -> int:
        return len(self._cells)

    def __contains__(self, cell: str) -> bool:
        return cell in self._cells

    def __getitem__(self, cell: str) -> Any:
        return self._cells[cell]

    def keep(self, cell: str, found: object) -> None:
        """Write a finished cell down."""
        self._cells[cell] = found
        with self.path.open("a") as stream:
            # A new line first: the one before may have been cut short.
            stream.write("\n" + json.dumps({cell: found}) + "\n")
            stream.flush()
            os.fsync(stream.fileno())

    def forget(self) -> None:
        """All is done and written elsewhere."""
        self.path.unlink(missing_ok=True)


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

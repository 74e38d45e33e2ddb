"""The private folder of one benchmark: what its trainings read, and what each of them gave.

`FOLDER/benchmark.json` says what decides the numbers. A run that was stopped goes on where that is
the same, training by training; anything else is refused, since results of two benchmarks would mix.
`FOLDER/material/` holds the tiles as classifiers see them, one array a file, so that several
processes share one copy; it is made anew by every run and removed at its end. `FOLDER/cells/` keeps
the results, with probabilities of single test tiles, which is why all this is private (mode 0600 in
a folder of mode 0700).
"""

import json
import secrets
import shutil
import zipfile
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from privgen.benefit.arms import Pool
from privgen.benefit.plan import Cell
from privgen.benefit.results.records import CellResult
from privgen.benefit.trials.fitting import CurvePoint
from privgen.benefit.trials.guard import CLEAN
from privgen.claims import Claim
from privgen.errors import OutputError
from privgen.files import PRIVATE, atomic_write

_RUN = "running"
_DAMAGED = (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True)
class Workspace:
    """The folder; nothing is written before it is claimed."""

    folder: Path

    @property
    def claim(self) -> Claim:
        """The claim that one benchmark has on the folder."""
        return Claim(
            folder=self.folder,
            file="benchmark.json",
            parts=("material", "cells", "tested"),
            purpose="benchmarking",
            results="results of another benchmark",
        )

    def begin(self) -> str:
        """Start a run, and return its token."""
        token = secrets.token_hex(8)
        with atomic_write(self.folder / _RUN, mode=PRIVATE) as stream:
            stream.write(token.encode())
        return token

    def running(self) -> str | None:
        """Token of the run that is under way; None where there is none."""
        try:
            return (self.folder / _RUN).read_text(encoding="ascii")
        except OSError:
            return None

    def put(self, name: str, array: NDArray[Any]) -> None:
        """Write one array of the material."""
        with atomic_write(self._array(name), mode=PRIVATE, durable=False) as stream:
            np.save(stream, array, allow_pickle=False)

    def get(self, name: str) -> NDArray[Any]:
        """One array of the material, read from disk as it is needed."""
        array: NDArray[Any] = np.load(self._array(name), mmap_mode="r", allow_pickle=False)
        return array

    def put_pool(self, share: float, generator: int, tiles: NDArray[np.uint8], pool: Pool) -> None:
        """Write what one regime may train on beside one generator: real tiles, then synthetic."""
        stem = f"pool-{share:g}-{generator}"
        self.put(stem, tiles)
        self.put(f"{stem}-real", pool.real)
        self.put(f"{stem}-synthetic", pool.synthetic)
        if pool.kept is not None:
            self.put(f"{stem}-kept", pool.kept)

    def get_pool(self, share: float, generator: int) -> tuple[NDArray[np.uint8], Pool]:
        """The same, tiles of shape (r + s, side, side, 3)."""
        stem = f"pool-{share:g}-{generator}"
        kept = self._array(f"{stem}-kept")
        return self.get(stem), Pool(
            real=np.array(self.get(f"{stem}-real")),
            synthetic=np.array(self.get(f"{stem}-synthetic")),
            kept=np.array(self.get(kept.stem)) if kept.exists() else None,
        )

    def end(self) -> None:
        """End the run: remove the tiles; the results stay."""
        (self.folder / _RUN).unlink(missing_ok=True)
        shutil.rmtree(self.folder / "material", ignore_errors=True)

    @property
    def notes(self) -> Path:
        """Where the guard of the test split keeps its notes."""
        return self.folder / "tested"

    def save_histogram(self, share: float, probabilities: NDArray[np.float64]) -> None:
        """Keep what the colour histogram of a regime says of the test tiles."""
        with atomic_write(self._histogram(share), mode=PRIVATE) as stream:
            np.save(stream, probabilities, allow_pickle=False)

    def histogram(self, share: float) -> NDArray[np.float64] | None:
        """The same, if it is there."""
        path = self._histogram(share)
        return np.load(path, allow_pickle=False) if path.exists() else None

    def _histogram(self, share: float) -> Path:
        return self.folder / f"colour-histogram-{share:g}.npy"

    def done(self, cell: Cell) -> bool:
        """Whether this training's result is there."""
        return self._result(cell).exists()

    def save(self, result: CellResult) -> None:
        """Keep one result."""
        facts = {
            "cell": asdict(result.cell),
            "train_tiles": result.train_tiles,
            "updates": result.updates,
            "chosen": result.chosen,
            "curve": [asdict(point) for point in result.curve],
            "train_accuracy": result.train_accuracy,
        }
        with atomic_write(self._result(result.cell), mode=PRIVATE) as stream:
            arrays = {CLEAN: result.probabilities, **result.stressed}
            np.savez_compressed(
                stream, allow_pickle=False, facts=np.array(json.dumps(facts)), **arrays
            )

    def load(self, cell: Cell) -> CellResult:
        """The result of one training.

        Raises:
          OutputError: the file is damaged.
        """
        path = self._result(cell)
        try:
            # NumPy would leave a damaged file open that it opened itself.
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
                facts = json.loads(str(stored["facts"]))
                views = {name: stored[name] for name in stored.files if name != "facts"}
                return CellResult(
                    cell=Cell(**facts["cell"]),
                    train_tiles=facts["train_tiles"],
                    updates=facts["updates"],
                    chosen=facts["chosen"],
                    curve=tuple(CurvePoint(**point) for point in facts["curve"]),
                    train_accuracy=facts["train_accuracy"],
                    probabilities=views.pop(CLEAN),
                    stressed=views,
                )
        except _DAMAGED as error:
            raise OutputError(
                f"the result of {cell.name} must be readable: {path} is damaged "
                f"({type(error).__name__}). Delete it, and run again."
            ) from error

    def _array(self, name: str) -> Path:
        return self.folder / "material" / f"{name}.npy"

    def _result(self, cell: Cell) -> Path:
        slug = cell.name.replace(", ", "_").replace(" ", "-")
        return self.folder / "cells" / f"{slug}.npz"

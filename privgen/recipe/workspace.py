"""The private folder of a recipe's audit: what was decided, and what every run left.

`FOLDER/recipe.json` says what decides the numbers: recipe, tiles, coins, how they are compared. A
run that was stopped goes on where that is the same; anything else is refused, since runs of two
recipes would mix. `FOLDER/runs/` holds a training that is under way. `FOLDER/looks/` holds how the
tiles of every finished run look to the encoder, which is all that is kept of it: sixteen generators
would be sixteen times the patients to guard.
"""

import shutil
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from privgen.claims import Claim
from privgen.errors import OutputError
from privgen.files import PRIVATE, atomic_write

Looks = Mapping[str, NDArray[np.floating]]

REAL = "real"
_DAMAGED = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)


def run_name(run: int) -> str:
    """A run as the folder knows it."""
    return f"run-{run:03d}"


@dataclass(frozen=True)
class Workspace:
    """The folder; nothing is written before it is claimed."""

    folder: Path

    @property
    def claim(self) -> Claim:
        """The claim that one audit has on the folder."""
        return Claim(
            folder=self.folder,
            file="recipe.json",
            parts=("runs", "looks"),
            purpose="auditing a recipe",
            results="runs of another audit",
        )

    def run_folder(self, run: int) -> Path:
        """Where a run trains."""
        place = self.folder / "runs" / run_name(run)
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        return place

    def forget(self, run: int) -> None:
        """Remove a run's training."""
        shutil.rmtree(self.folder / "runs" / run_name(run), ignore_errors=True)

    def forget_finished(self, runs: Iterable[int]) -> None:
        """Remove trainings that a kill left after their looks were kept."""
        for run in runs:
            if self.done(run_name(run)):
                self.forget(run)

    def done(self, name: str) -> bool:
        """Whether the looks of a run, or of the real tiles, are there."""
        return self._place(name).exists()

    def save(self, name: str, looks: Looks, seconds: float) -> None:
        """Keep how tiles look, and how long their run trained."""
        with atomic_write(self._place(name), mode=PRIVATE) as stream:
            np.savez(stream, allow_pickle=False, seconds=np.array(seconds), **looks)

    def load(self, name: str) -> tuple[dict[str, NDArray[Any]], float]:
        """The same.

        Raises:
          OutputError: the file is damaged.
        """
        path = self._place(name)
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
                looks = {key: stored[key] for key in stored.files if key != "seconds"}
                return looks, float(stored["seconds"])
        except _DAMAGED as error:
            raise OutputError(
                f"what {name} left must be readable: {path} is damaged "
                f"({type(error).__name__}). Delete it, and run again."
            ) from error

    def _place(self, name: str) -> Path:
        return self.folder / "looks" / f"{name}.npz"

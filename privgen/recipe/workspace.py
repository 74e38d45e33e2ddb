"""The private folder of a recipe's audit: what was decided, and what every run left.

`FOLDER/recipe.json` says what decides the numbers: recipe, tiles, coins, how they are compared. A
run that was stopped goes on where that is the same; anything else is refused, since runs of two
recipes would mix. `FOLDER/runs/` holds a training that is under way. `FOLDER/looks/` holds how the
tiles of every finished run look to the encoder, which is all that is kept of it: sixteen generators
would be sixteen times the patients to guard.
"""

import json
import shutil
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from privgen.errors import OutputError
from privgen.files import PRIVATE, atomic_write, locked, sweep_partial_files, write_json

Looks = Mapping[str, NDArray[np.float32]]

REAL = "real"
_DECIDED = "recipe.json"
_DAMAGED = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)


def run_name(run: int) -> str:
    """A run as the folder knows it."""
    return f"run-{run:03d}"


@dataclass(frozen=True)
class Workspace:
    """The folder; nothing is written before `claim`."""

    folder: Path

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep a second audit out.

        Raises:
          OutputError: one is under way.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self.folder / ".lock").touch(mode=PRIVATE)
        with locked(self.folder, purpose="auditing a recipe"):
            yield

    @property
    def decided(self) -> dict[str, object] | None:
        """What an audit begun here goes by; None where there is none."""
        place = self.folder / _DECIDED
        if not place.exists():
            return None
        try:
            found: dict[str, object] = json.loads(place.read_text(encoding="utf-8"))
        except ValueError as error:
            raise OutputError(
                f"{place} is damaged. Give a new `out`, or remove the folder to begin anew."
            ) from error
        return found

    def claim(self, decided: Mapping[str, object]) -> None:
        """Make the folder, or take it up again where it was made for the same audit.

        Raises:
          OutputError: the folder holds something else, or another audit.
        """
        asked = json.loads(json.dumps(decided))
        kept = self.decided
        if kept is not None:
            changed = sorted(key for key in {**kept, **asked} if kept.get(key) != asked.get(key))
            if changed:
                raise OutputError(
                    f"{self.folder} holds runs of another audit: {', '.join(changed)} changed. "
                    "Repeat the command it was begun with, or give a new `out`."
                )
        elif any((self.folder / name).exists() for name in ("runs", "looks")):
            raise OutputError(
                f"{self.folder} holds runs without {_DECIDED}, which says what they are of. Give a "
                "new `out`."
            )
        for name in ("", "runs", "looks"):
            (self.folder / name).mkdir(mode=0o700, parents=True, exist_ok=True)
            (self.folder / name).chmod(0o700)
            sweep_partial_files(self.folder / name)
        write_json(self.folder / _DECIDED, asked, mode=PRIVATE)

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

    def load(self, name: str) -> tuple[dict[str, NDArray[np.float32]], float]:
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

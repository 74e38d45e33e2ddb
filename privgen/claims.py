"""A private folder of one long command: kept for itself, and taken up again where it was stopped.

A file in it says what decides the numbers. The same command goes on where that is the same;
anything else is refused, since results of two commands would mix. Everything is for its owner alone
(mode 0600 in a folder of mode 0700).
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from privgen.errors import OutputError
from privgen.files import PRIVATE, locked, sweep_partial_files, write_json


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A claim on a folder; nothing is written before `held`.

    Attributes:
      folder: claimed.
      file: name of the file that says what decides the numbers.
      parts: folders in it that hold results.
      purpose: of the command, "benchmarking".
      results: what the folder holds, "runs of another audit", where the claim is refused.
    """

    folder: Path
    file: str
    parts: tuple[str, ...]
    purpose: str
    results: str

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep a second command out.

        Raises:
          OutputError: one is under way.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self.folder / ".lock").touch(mode=PRIVATE)
        with locked(self.folder, purpose=self.purpose):
            yield

    @property
    def decided(self) -> dict[str, object] | None:
        """What a command begun here goes by; None where there is none.

        Raises:
          OutputError: the file that says it is damaged.
        """
        place = self.folder / self.file
        if not place.exists():
            return None
        try:
            found = json.loads(place.read_text(encoding="utf-8"))
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise OutputError(
                f"{place} is damaged. Give a new `out`, or remove the folder to begin anew."
            )
        return found

    def make(self, decided: Mapping[str, object]) -> None:
        """Make the folder, or take it up again where it was made for the same.

        Args:
          decided: everything the numbers depend on, JSON-able.

        Raises:
          OutputError: the folder holds something else, or results of another command.
        """
        asked = json.loads(json.dumps(decided))
        kept = self.decided
        if kept is not None:
            changed = sorted(key for key in {**kept, **asked} if kept.get(key) != asked.get(key))
            if changed:
                raise OutputError(
                    f"{self.folder} holds {self.results}: {', '.join(changed)} changed. "
                    "Repeat the command it was begun with, or give a new `out`."
                )
        elif any((self.folder / name).exists() for name in self.parts):
            raise OutputError(
                f"{self.folder} holds results without {self.file}, which says what they are of. "
                "Give a new `out`."
            )
        for name in ("", *self.parts):
            (self.folder / name).mkdir(mode=0o700, parents=True, exist_ok=True)
            (self.folder / name).chmod(0o700)
            sweep_partial_files(self.folder / name)
        write_json(self.folder / self.file, asked, mode=PRIVATE)

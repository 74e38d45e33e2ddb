"""The ledger of a training: which real tile played which part, and whose it is."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Self

from privgen.checkpoints import untrusted
from privgen.data import class_names
from privgen.data.canaries import Canaries
from privgen.data.owners import GROUP_UNITS
from privgen.documents import parse_json
from privgen.errors import CheckpointError
from privgen.limits import shown, told

ROLES = ("train", "siblings", "holdout", "reference")
"""What a tile may be in a ledger."""

_COINED = ("train", "holdout")


@dataclass(frozen=True, kw_only=True)
class LedgerEntry:
    """One real tile and the part it played.

    Attributes:
      role: "train", "siblings", "holdout" or "reference".
      path: relative to the ledger's root, POSIX.
      sha256: pixel digest.
      label: its class.
      group: patient, slide, source image or tile: see the ledger's `group_unit`.
      slide: what `TileSet.slides` said of it.
    """

    role: str
    path: str
    sha256: str
    label: str
    group: str
    slide: str | None = None


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """Who was in training: what `privgen audit --generator` needs to find members and non-members.

    Attributes:
      root: folder or file the tiles came from, None for tiles in memory.
      layout: what was recognised there, in words.
      group_unit: "patient", "slide", "source_image" or "tile".
      group_by: the grouping the user asked for, None if recognised.
      on_bad_tile: "error" or "skip".
      icc: "apply" or "ignore": what was done with the colour profiles of the files.
      split: parameters of the split: seed, holdout, reference, siblings.
      entries: every real tile, in any role.
      canaries: patients whose own coins decided who was in training; None where there are none.
        Artificial ones have no entries.
    """

    root: str | None
    layout: str
    group_unit: str
    group_by: str | None = None
    on_bad_tile: str = "error"
    icc: str = "ignore"
    split: Mapping[str, float]
    entries: tuple[LedgerEntry, ...]
    canaries: Canaries | None = None

    @property
    def artificial(self) -> int:
        """Artificial patients in training."""
        canaries = self.canaries
        return 0 if canaries is None or canaries.kind == "real" else sum(canaries.included)

    def to_json(self) -> str:
        """One line of JSON."""
        values = asdict(self)
        if self.canaries is None:
            del values["canaries"]
        return json.dumps(values, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The inverse of `to_json`.

        Raises:
          CheckpointError: the text is not a ledger.
        """
        try:
            values = parse_json(text)
            entries = tuple(LedgerEntry(**entry) for entry in values.pop("entries"))
            if values.get("canaries") is not None:
                values["canaries"] = Canaries.from_json(values["canaries"])
            ledger = cls(**values, entries=entries)
            ledger._check()
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise CheckpointError(f"the checkpoint's ledger is damaged: {told(error)}") from error
        return ledger

    def _check(self) -> None:
        """ValueError where a value is not what its name says."""
        texts = [(self.layout, False), (self.root, True), (self.group_by, True)]
        for entry in self.entries:
            if entry.role not in ROLES:
                raise ValueError(f"a role is one of {', '.join(ROLES)}: got {shown(entry.role)}")
            texts += [(entry.path, False), (entry.sha256, False), (entry.group, False)]
            texts += [(entry.label, False), (entry.slide, True)]
        for text, absent in texts:
            if not (isinstance(text, str) or (absent and text is None)):
                raise ValueError(f"a text must be one: got {shown(text)}")
        if self.group_unit not in GROUP_UNITS or self.group_by not in (None, *GROUP_UNITS):
            raise ValueError(f"its tiles are grouped by {shown(self.group_unit)}")
        if self.on_bad_tile not in ("error", "skip"):
            raise ValueError(f"on_bad_tile is {shown(self.on_bad_tile)}")
        if self.icc not in ("apply", "ignore"):
            raise ValueError(f"icc is {shown(self.icc)}")
        if refused := class_names.refusal_of_all({entry.label for entry in self.entries}):
            raise ValueError(refused)
        untrusted.numbers_of(self.split, "the split's")
        if self.canaries is not None and self.canaries.kind == "real":
            roles = {entry.group: entry.role for entry in self.entries if entry.role in _COINED}
            coins = zip(self.canaries.patients, self.canaries.included, strict=True)
            if any(roles.get(patient) != _COINED[not inside] for patient, inside in coins):
                raise ValueError("its canaries are not in the roles that their coins say")

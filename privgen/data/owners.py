"""Whose a tile is, as far as is known: its patient, slide and source image.

Ids are read by `audits.patients`, whatever they came in. What the groups of a set are is decided
here, and what has to be said of the way its ids were written.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

from audits.patients import Spellings, read_id, read_patient
from privgen.errors import LayoutError

GroupUnit = Literal["patient", "slide", "source_image", "tile"]
GROUP_UNITS: tuple[GroupUnit, ...] = get_args(GroupUnit)
"""What a group may be, from the coarsest, which is the right one, to none at all."""

_READERS: Mapping[str, Callable[[object], str | None]] = {
    "patient": read_patient,
    "slide": read_id,
    "source_image": read_id,
}


class Owned(Protocol):
    """A record of a tile, as far as this module looks at it."""

    @property
    def path(self) -> str: ...


@dataclass(frozen=True, kw_only=True)
class Remark:
    """Something that was joined, guessed or left out, and has to be said.

    Attributes:
      what: a sentence that names no file and no person, so that a report may hold it.
      first: an example, for the person at the console alone.
    """

    what: str
    first: str = ""

    def __str__(self) -> str:
        return f"{self.what} (first: {self.first})" if self.first else self.what


def spellings_of(*units: str) -> dict[str, Spellings]:
    """A reader of ids for each unit."""
    return {unit: Spellings(_READERS[unit]) for unit in units}


def group_unit_of(
    records: Sequence[Owned],
    group_by: str | None,
    spellings: Mapping[str, Spellings] | None = None,
) -> GroupUnit:
    """The unit asked for, or the coarsest that is known for every tile.

    Args:
      records: of the tiles.
      group_by: what was asked for, or None.
      spellings: by unit, how its ids were written, for the message.

    Raises:
      LayoutError: it is known for some tiles only, or is asked for and not known.
    """
    for unit in GROUP_UNITS:
        if unit == "tile" or group_by not in (None, unit):
            continue
        unknown = [record.path for record in records if getattr(record, unit) is None]
        if records and not unknown:
            return unit
        if group_by == unit or len(unknown) < len(records):
            words = (spellings or {}).get(unit, Spellings()).missing
            read = f" (read as missing: {_counted(words)})" if words else ""
            raise LayoutError(
                f"the {unit} must be known for every tile or for none: it is missing for "
                f"{len(unknown)} of {len(records)}, the first {unknown[0]}{read}. Fill it in, or "
                "group by another column."
            )
    return "tile"


def remarks_on(spellings: Mapping[str, Spellings]) -> tuple[Remark, ...]:
    """What has to be said of how ids were written, by unit."""
    remarks = []
    for unit, read in spellings.items():
        name = unit.replace("_", " ")
        joined, missing = read.joined, read.missing
        dates = read.dates if unit == "patient" else ()
        if joined:
            remarks.append(
                Remark(
                    what=f"{name}s written in several ways, each taken for one: {len(joined)}",
                    first=" = ".join(next(iter(joined.values()))),
                )
            )
        if missing:
            remarks.append(
                Remark(
                    what=f"tiles whose {name} is a word for a missing value, taken for none: "
                    f"{sum(missing.values())}",
                    first=next(iter(missing)),
                )
            )
        if dates:
            remarks.append(
                Remark(
                    what=f"{name}s that look like dates, which spreadsheets make of ids, and may "
                    f"be written otherwise elsewhere: {len(dates)}",
                    first=dates[0],
                )
            )
    return tuple(remarks)


def _counted(words: Mapping[str, int]) -> str:
    return ", ".join(f"{word!r} ({count})" for word, count in sorted(words.items()))

"""Who is whose: one way to read the ids of patients, slides and source images.

One person is written in many ways: `Müller` in two Unicode forms, `P1` with a space that nobody
sees, `1` and, after a gap in the column, `1.0`, a TCGA participant and a barcode of one of its
samples. Where the two sides of an audit write one patient differently, a member passes for a
stranger. So every id is read here, whatever it came in.

Three things are told apart:

- *the same*: `read_id` and `read_patient` give equal text;
- *missing*: what spreadsheets and data frames write for nobody. Nobody is not a patient called
  "nan": it is None;
- *alike*: ids that differ only in case, leading zeros or signs (`P1` / `p1`, `001` / `1`,
  `P-1` / `P_1`). Nothing here can know whether these are one person. `folded` gives alike ids the
  same key; whoever compares roles refuses them, and whoever splits keeps them together.

Sources: Unicode Standard Annex 15 (normalisation forms); pandas' list of missing values; the TCGA
barcode (project, tissue source site, participant, then sample, portion and slide).
"""

import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from audits.errors import AuditInputError

Names = NDArray[np.str_]

MISSING = frozenset(
    {"", "-", "--", ".", "?", "na", "n/a", "n.a.", "nan", "-nan", "nat", "<na>"}
    | {"none", "null", "nil", "missing", "unknown", "undefined", "not available", "not known"}
    | {"#n/a", "#n/a n/a", "#na", "#value!", "#ref!", "#name?", "#null!", "#div/0!", "#num!"}
    | {"1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan"}
)
"""What stands for nobody, lower-case."""

_EXACT = 2.0**53
"""Whole numbers up to here are exact in double precision."""

_BLANKS = dict.fromkeys(map(ord, "\u034f\u115f\u1160\u2800\u3164\uffa0"))
"""Characters that show nothing, of other kinds than format characters."""

_FLOAT = re.compile(r"(\d+)\.(?:0{1,2}|0{4,})?")
"""A whole number written as a fraction; with three zeros it may be a thousand."""

_EXPONENT = re.compile(r"\d(?:[.,]\d+)?[eE]\+\d+")

_DATE = re.compile(
    r"\d{1,2}[-. ](?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*(?:[-. ]\d{2,4})?"
    r"|(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*[-. ]\d{2,4}",
    re.IGNORECASE,
)

_PARTICIPANT = re.compile(
    r"TCGA([-._ ])([A-Z0-9]{2})\1([A-Z0-9]{4})(?![A-Z0-9])", re.IGNORECASE | re.ASCII
)

_ZEROS = re.compile(r"(?<!\d)0+(?=\d)")
_SIGNS = re.compile(r"[\s_.\-\u2010-\u2015\u2212]+")
_QUOTES = str.maketrans("", "", "'\"=\u2018\u2019\u201c\u201d`")


def read_id(written: object) -> str | None:
    """An id as text; None where it is missing.

    Unicode NFC; without what cannot be seen (zero-width and control characters) and without space
    around it, one plain space for any inside; `1.0` and the number 1.0 are `1`. What was read once
    is read the same again.

    Args:
      written: text, bytes (UTF-8), a number, None, or anything that can be written as text.

    Raises:
      AuditInputError: a number with decimals; a number in exponent notation, which has lost
        digits; or bytes that are no UTF-8.
    """
    if written is None:
        return None
    if isinstance(written, float | np.floating):
        return _of_number(float(written))
    if isinstance(written, bytes):
        try:
            written = written.decode()
        except UnicodeDecodeError as error:
            raise AuditInputError(
                f"an id must be UTF-8: got {written[:80]!r}. Write the column as text."
            ) from error
    text = "".join(
        one
        for one in str(written)
        if one.isspace() or unicodedata.category(one) not in ("Cf", "Cc")
    ).translate(_BLANKS)
    text = " ".join(unicodedata.normalize("NFC", text).split())
    if text.lower() in MISSING:
        return None
    if _EXPONENT.fullmatch(text):
        raise AuditInputError(
            f"an id in exponent notation has lost digits, and may stand for several: got {text}. "
            "Write the column as text."
        )
    number = _FLOAT.fullmatch(text)
    return number[1] if number else text


def _of_number(value: float) -> str | None:
    if math.isnan(value):
        return None
    if not value.is_integer() or abs(value) >= _EXACT:
        raise AuditInputError(
            f"an id must be text or a whole number: got {value!r}. Write the column as text."
        )
    return str(int(value))


def read_patient(written: object) -> str | None:
    """A patient's id: as `read_id`, and a TCGA barcode is its participant.

    Raises:
      AuditInputError: as `read_id`.
    """
    text = read_id(written)
    return None if text is None else participant(text) or text


def participant(text: str) -> str | None:
    """The participant of a text that begins with a TCGA barcode, as `TCGA-XX-YYYY`; else None."""
    found = _PARTICIPANT.match(text)
    return f"TCGA-{found[2]}-{found[3]}".upper() if found else None


def folded(ids: Iterable[str]) -> Names:
    """A key for each id, the same for ids that are alike, shape (n,).

    Upper and lower case, leading zeros of any number in it, wide and narrow forms, quotes, and
    which sign or space parts it, make no difference.
    """
    known: dict[str, str] = {}
    keys = [known.get(one) or known.setdefault(one, _folded(one)) for one in map(str, ids)]
    return np.array(keys, dtype=np.str_)


def _folded(one: str) -> str:
    if participant(one) == one:  # of one length, so that zeros do tell them apart
        return one
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", one).casefold())
    text = _SIGNS.sub("-", text.translate(_QUOTES).strip())
    return _ZEROS.sub("", text) or one


def alike(first: Iterable[str], second: Iterable[str]) -> list[tuple[str, str]]:
    """Pairs of ids, one of each side, that differ and yet are alike; sorted, each once."""
    ours: dict[str, set[str]] = defaultdict(set)
    names = sorted(set(map(str, first)))
    for name, key in zip(names, folded(names).tolist(), strict=True):
        ours[key].add(name)
    theirs = sorted(set(map(str, second)))
    return sorted(
        (own, other)
        for other, key in zip(theirs, folded(theirs).tolist(), strict=True)
        for own in ours.get(key, ())
        if own != other
    )


def alike_within(ids: Iterable[str]) -> list[tuple[str, ...]]:
    """Groups of ids of one side that differ and yet are alike; sorted."""
    names = sorted(set(map(str, ids)))
    groups: dict[str, list[str]] = defaultdict(list)
    for name, key in zip(names, folded(names).tolist(), strict=True):
        groups[key].append(name)
    return sorted(tuple(group) for group in groups.values() if len(group) > 1)


class Spellings:
    """Reads the ids of one column and remembers how they were written.

    Args:
      read: `read_patient` or `read_id`.
    """

    def __init__(self, read: Callable[[object], str | None] = read_patient) -> None:
        self._read = read
        self._known: dict[tuple[type, str], str | None] = {}
        self._missing: Counter[str] = Counter()

    def __call__(self, written: object) -> str | None:
        """The id, or None where it is missing.

        Raises:
          AuditInputError: as `read_id`.
        """
        key = (type(written), str(written))
        if key not in self._known:
            self._known[key] = self._read(written)
        if self._known[key] is None:
            self._missing["" if written is None else key[1].strip()] += 1
        return self._known[key]

    @property
    def missing(self) -> Mapping[str, int]:
        """How often each word for nobody was met; blanks and None are left out."""
        return {word: count for word, count in self._missing.items() if word}

    @property
    def joined(self) -> dict[str, tuple[str, ...]]:
        """Ids that were written in several ways, with these; sorted."""
        ways: dict[str, set[str]] = defaultdict(set)
        for (_, written), one in self._known.items():
            if one is not None:
                ways[one].add(written)
        return {one: tuple(sorted(ways[one])) for one in sorted(ways) if len(ways[one]) > 1}

    @property
    def dates(self) -> tuple[str, ...]:
        """Ids that look like dates, which spreadsheets make of ids like 3-1; sorted."""
        return tuple(sorted({one for one in self._known.values() if one and _DATE.fullmatch(one)}))

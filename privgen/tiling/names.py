"""Names that go in and the pseudonyms that come out.

A slide is known by its file's stem, a patient by what a table, a pattern or a TCGA barcode says,
read as everywhere (`audits.patients`): accents in one Unicode form, `1.0` as `1`.
Neither leaves: what is written carries HMAC-SHA256 (RFC 2104, FIPS 198-1) of the name under a key
that is kept apart from the output. Whoever has the key can link a new slide to an old pseudonym;
whoever has not can do no better than guess.

The messages here name slides and belong on the console, never in a log; warnings name none.
"""

import hashlib
import hmac
import os
import re
import secrets
import stat
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from audits import AuditInputError
from audits.patients import participant, read_patient
from privgen import console
from privgen.data.csv_text import reading_csv
from privgen.errors import ConfigError, LayoutError, OutputError
from privgen.limits import told

KEY_BYTES = 32

_KINDS = {"slide": "s", "patient": "p"}
_DIGITS = 16
_SUFFIXES = frozenset(
    {".svs", ".tif", ".tiff", ".btf", ".ndpi", ".mrxs", ".scn", ".bif", ".vms", ".vmu", ".svslide"}
    | {".dcm", ".czi", ".qptiff", ".zvi"}
)


@dataclass(frozen=True)
class Names:
    """Gives pseudonyms.

    Attributes:
      key: of the HMAC; never shown.
    """

    key: bytes = field(repr=False)

    @property
    def check(self) -> str:
        """Tells this key from another without giving it away, 16 hex digits."""
        return hmac.new(self.key, b"check", hashlib.sha256).hexdigest()[:_DIGITS]

    def pseudonym(self, kind: Literal["slide", "patient"], name: str) -> str:
        """`s-` or `p-` and 16 hex digits: the same name always has the same one.

        Args:
          kind: a slide and a patient of one name have unlike pseudonyms.
          name: stem of the slide's file, or the patient; file systems write accents in two ways.
        """
        text = unicodedata.normalize("NFC", f"{kind}:{name}").encode(errors="surrogateescape")
        digest = hmac.new(self.key, text, hashlib.sha256).hexdigest()
        return f"{_KINDS[kind]}-{digest[:_DIGITS]}"


def load_key(path: Path) -> bytes:
    """Read the key of the pseudonyms; one is drawn where the file is missing.

    Of several processes that start at once, one writes and all get that key.

    Args:
      path: 64 hex digits, mode 0600.

    Raises:
      ConfigError: others may read the file, or it is no key.
      OutputError: it is missing and cannot be written.
    """
    try:
        if not path.exists():
            _write_new_key(path)
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError(f"the key must be a file: {path} is none. Give another `key`.")
        if stat.S_IMODE(status.st_mode) & 0o077:
            raise ConfigError(
                f"only you may read the key: {path} has mode "
                f"{stat.S_IMODE(status.st_mode):04o}. Run chmod 600 on it."
            )
        text = path.read_bytes().strip()
    except OSError as error:
        raise ConfigError(
            f"the key {path} cannot be read ({error.strerror or error}). Check its permissions."
        ) from error
    if not re.fullmatch(rb"[0-9a-f]{%d}" % (2 * KEY_BYTES), text):
        raise ConfigError(
            f"a key is {2 * KEY_BYTES} hex digits: {path} holds something else. Restore it, or "
            "give a new file, which changes every pseudonym."
        )
    return bytes.fromhex(text.decode())


def _write_new_key(path: Path) -> None:
    """Put a new key at `path`, whole or not at all, unless another process was faster."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as stream:
                stream.write(secrets.token_hex(KEY_BYTES).encode() + b"\n")
                stream.flush()
                os.fsync(stream.fileno())
            os.link(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except FileExistsError:
        return
    except OSError as error:
        raise OutputError(
            f"the key {path} cannot be written ({error.strerror or error}). Give another `key`."
        ) from error


def slide_names(paths: Iterable[Path]) -> dict[str, Path]:
    """The slides by their stems, in the order given.

    Raises:
      ConfigError: two have one stem, and would have one pseudonym; it says which.
    """
    named: dict[str, Path] = {}
    known: dict[str, Path] = {}
    for path in paths:
        before = known.setdefault(known_as(path.stem), path)
        if before is not path:
            raise ConfigError(
                f"a slide is known by its file's name, which must be given once: got {before} and "
                f"{path}. Rename one, or leave it out."
            )
        named[path.stem] = path
    return named


def known_as(stem: str) -> str:
    """How a table knows a slide: its stem in Unicode NFC, whatever the file system wrote."""
    return unicodedata.normalize("NFC", stem)


def read_slide_table(path: Path, column: str) -> dict[str, str]:
    """Read a CSV with a row per slide.

    Args:
      path: UTF-8 text (`privgen.data.csv_text`) with the columns `slide` (stem or file name) and
        `column`; others are ignored.
      column: what to read.

    Returns:
      The column's value by the slide's stem (`known_as`); patients as `audits.patients` reads them.

    Raises:
      ConfigError: it cannot be read, a column or a value is missing, a row has too many fields, or
        a slide has two rows.
    """
    table: dict[str, str] = {}
    try:
        needs = ("slide", column)
        with reading_csv(path, needed=needs, known=needs) as (columns, rows, said):
            for sentence in said:
                console.warn(f"{path.name}: {sentence}.")
            for needed in ("slide", column):
                if columns.count(needed) != 1:
                    raise ConfigError(
                        f"{path.name} needs the columns slide and {column}, each once: it has "
                        f"{told(', '.join(columns)) if columns else 'no header'}. Correct the "
                        "header."
                    )
            for line, row in rows:
                where = f"{path.name} {line}"
                if None in row:  # an unquoted comma would make one "Smith" of two people
                    raise ConfigError(
                        f"{where} has more fields than the header. Put quotes around what holds a "
                        "comma."
                    )
                name, value = (str(row[key] or "").strip() for key in needs)
                written = value
                if column == "patient":
                    value = _patient(where, written)
                if not name or not value:
                    missing = f" ({written!r} reads as missing)" if name and written else ""
                    raise ConfigError(
                        f"{where} has no {column if name else 'slide'}{missing}. Fill it in, or "
                        "remove the row."
                    )
                stem = known_as(_stem(name))
                if stem in table:
                    raise ConfigError(
                        f"{where}: slide {stem} has a row already. Keep one row per slide."
                    )
                table[stem] = value
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read ({error.strerror or error}). Check the path."
        ) from error
    except LayoutError as error:
        raise ConfigError(str(error)) from error
    return table


def _stem(name: str) -> str:
    """A slide's stem, of its stem, its file name or its path: stems may hold points themselves."""
    path = Path(name.replace("\\", "/") if re.match(r"[A-Za-z]:\\|\\\\", name) else name)
    return path.stem if path.suffix.lower() in _SUFFIXES else path.name


def _patient(where: str, written: str) -> str:
    """A patient of a table; "" where it is missing."""
    try:
        return read_patient(written) or ""
    except AuditInputError as error:
        raise ConfigError(f"{where}: {error}") from error


def patient_pattern(text: str) -> re.Pattern[str]:
    """Compile a regular expression that finds the patient in a slide's stem.

    Raises:
      ConfigError: it is none, or has not exactly one group.
    """
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise ConfigError(
            f"the patient pattern must be a regular expression: {text!r} is none ({error}). "
            "Correct it."
        ) from error
    if pattern.groups != 1:
        raise ConfigError(
            f"the patient pattern must have one group, which is the patient: {text!r} has "
            f"{pattern.groups}. Put parentheses around the patient, (?:...) around anything else."
        )
    return pattern


def patient_of(
    stem: str,
    *,
    table: Mapping[str, str] | None = None,
    pattern: re.Pattern[str] | None = None,
) -> str | None:
    """Whose slide this is; None where it is not known.

    Args:
      stem: of the slide's file.
      table: patients by stem (`read_slide_table`).
      pattern: searched in the stems that the table does not name (`patient_pattern`). With neither
        table nor pattern a TCGA barcode at the start of the stem tells the patient.
    """
    stem = known_as(stem)
    if table is not None and stem in table:
        return table[stem]
    if pattern is not None:
        found = pattern.search(stem)
        return _patient(stem, found[1] or "") or None if found else None
    if table is not None:
        return None
    return participant(stem)

"""JSON and TOML from outside: held to a size, a depth and a number of digits before parsing.

Python's parsers recurse with the nesting of a document and make integers of any length, so that a
few kilobytes end in a RecursionError, or in a number that nothing can print. A dotted key of TOML
costs the square of its parts in time and memory: a megabyte of them would take hours.
"""

import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from privgen import limits

_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)', re.DOTALL)
_TOML_QUOTED = re.compile(
    r'''
      """ (?: [^"\\] | \\. | "(?!"") )*+ (?: "{3,5} | \\?\Z )  # what does not end is refused later
    | \'{3} .*? (?: \'{3} | \Z )
    | " (?: [^"\\\n] | \\[^\n] )*+ \\? (?: " | (?=\n) | \Z )
    | \' [^\'\n]*+ \'?
    | \# [^\n]*
    ''',
    re.DOTALL | re.VERBOSE,
)
_LONG = re.compile(r"[0-9_]+")
_PARTS = re.compile(r"[\w\- \t\"]+")


class DocumentError(ValueError):
    """A text is no such document; the message is one short line without the file's name."""


def parse_json(text: str) -> Any:
    """A JSON document.

    Raises:
      DocumentError: it is none, or over a limit.
    """
    return _parsed(text, json.loads, limits.JSON_BYTES, _QUOTED)


def parse_toml(text: str) -> dict[str, Any]:
    """A TOML document.

    Raises:
      DocumentError: it is none, or over a limit.
    """
    parsed: dict[str, Any] = _parsed(text, tomllib.loads, limits.TEXT_BYTES, _TOML_QUOTED)
    return parsed


def read_text(path: Path, most: int) -> str:
    """A UTF-8 text file.

    Raises:
      OSError: it cannot be read.
      DocumentError: it is no UTF-8, or larger than `most` bytes.
    """
    with path.open("rb") as stream:
        data = stream.read(most + 1)
    if len(data) > most:
        raise DocumentError(f"it may have {limits.size(most)} and has more")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DocumentError(limits.told(error)) from error


def _parsed(text: str, parse: Callable[[str], Any], most: int, quoted: re.Pattern[str]) -> Any:
    if len(text) > most:
        raise DocumentError(f"it may have {limits.size(most)} and has more")
    bare = quoted.sub('""', text)
    depth = deepest = 0
    for bracket in re.findall(r"[\[\]{}]", bare):
        depth += 1 if bracket in "[{" else -1
        deepest = max(deepest, depth)
        if deepest > limits.JSON_DEPTH:
            raise DocumentError(f"it may be nested {limits.JSON_DEPTH} deep and is deeper")
    if quoted is _TOML_QUOTED and "." * limits.JSON_DEPTH in _PARTS.sub("", bare):
        raise DocumentError(f"a key may have {limits.JSON_DEPTH} parts and one has more")
    if any(len(found) > limits.DIGITS for found in _LONG.findall(bare)):
        raise DocumentError(f"a number may have {limits.DIGITS} digits and one has more")
    try:
        return parse(text)
    except Exception as error:  # ValueError, RecursionError and what TOML raises on odd dates
        raise DocumentError(limits.told(error)) from error

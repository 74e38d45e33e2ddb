"""Requests: what a command is asked for, as frozen classes whose fields are its options.

A field says once what it is: its help text, its type and bounds, what stands for it in a printed
command. From that the command line makes its option, Python its parameter with the same checks, and
a report the command that would make it again. Adding an option is a field and its use.

Messages name parameters in backticks, `count` or `align=False`; the command line shows them as its
flags. Nothing here loads a library.
"""

import difflib
import os
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from inspect import get_annotations
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

from privgen.errors import ConfigError
from privgen.limits import shown

Request = TypeVar("Request")


@dataclass(frozen=True, kw_only=True)
class Option:
    """One option of a command.

    Attributes:
      kind: type on the command line: bool, int, float, str, Path, a Literal, or a list of one.
      help: one or two sentences for `--help` and the reference.
      panel: heading it stands under in `--help`.
      low, high: bounds, both included.
      place: what stands for the value in a printed command, because the value is a path, an address
        or an object. Empty prints the value.
      printed: "given" prints it where it differs from its default, "always", or "never" where it
        decides nothing of what the report says.
      flags: names on the command line where they are not `--name`.
      default: in words, where it is decided later.
      python: whether Python may give other types than `kind`, which are checked where they are
        used.
      argument: whether the command line takes it without a flag.
    """

    kind: Any
    help: str
    panel: str = "Options"
    low: float | None = None
    high: float | None = None
    place: str = ""
    printed: Literal["given", "always", "never"] = "given"
    flags: tuple[str, ...] = ()
    default: str = ""
    python: bool = False
    argument: bool = False


def option(kind: Any, help: str, default: Any = None, /, **settings: Any) -> Any:
    """A field that is an option; `settings` as `Option`."""
    described = Option(kind=kind, help=help, default=settings.pop("words", ""), **settings)
    return field(default=default, metadata={"option": described})


def options_of(*requests: type) -> dict[str, tuple[Field[Any], Option]]:
    """Every option of these classes by name, a class's own before those it inherits.

    Of a name in several classes the first counts.
    """
    found: dict[str, tuple[Field[Any], Option]] = {}
    for request in requests:
        own = get_annotations(request)
        for one in sorted(fields(request), key=lambda one: one.name not in own):
            if "option" in one.metadata:
                found.setdefault(one.name, (one, one.metadata["option"]))
    return found


def made(request: type[Request], given: Mapping[str, object]) -> Request:
    """A request of these values; None is a value that was not given.

    Raises:
      ConfigError: it has no such field (the nearest is named), or a value is refused.
    """
    known = [one.name for one in fields(request)]  # type: ignore[arg-type]
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean `{near[0]}`?" if near else f"known are {', '.join(known)}."
            raise ConfigError(f"there is no parameter {shown(name)}: {hint}")
    return request(**{name: value for name, value in given.items() if value is not None})


def check(request: Any) -> None:
    """Hold every value against its field's type, choices and bounds.

    Raises:
      ConfigError: one line that names the parameter, what was got, and what would do.
    """
    for name, (one, described) in options_of(type(request)).items():
        value = getattr(request, name)
        if value is None and (one.default is None or one.default is MISSING):
            continue
        if described.python and not _plain(value):
            continue
        several = get_origin(described.kind) is list
        for item in value if several and isinstance(value, list | tuple) else (value,):
            _check_value(name, item, get_args(described.kind)[0] if several else described.kind)
            _check_bounds(name, item, described)


def _plain(value: object) -> bool:
    return isinstance(value, bool | int | float)


def _check_value(name: str, value: object, kind: Any) -> None:
    if get_origin(kind) is Literal:
        choices = get_args(kind)
        if value not in choices:
            raise ConfigError(f"`{name}` must be one of {', '.join(choices)}: got {shown(value)}.")
        return
    allowed: dict[Any, tuple[tuple[type, ...], str]] = {
        bool: ((bool,), "True or False"),
        int: ((int,), "a whole number"),
        float: ((int, float), "a number"),
        str: ((str,), "a text"),
        Path: ((str, os.PathLike), "a path"),
    }
    types, words = allowed[kind]
    if not isinstance(value, types) or (isinstance(value, bool) and kind is not bool):
        raise ConfigError(f"`{name}` must be {words}: got {shown(value)}.")


def _check_bounds(name: str, value: Any, described: Option) -> None:
    low, high = described.low, described.high
    if (low is None or value >= low) and (high is None or value <= high):
        return
    if high is None:
        rule = f"{low:g} or more"
    elif low is None:
        rule = f"{high:g} or less"
    else:
        rule = f"from {low:g} to {high:g}"
    raise ConfigError(f"`{name}` must be {rule}: got {shown(value)}.")


def given(request: Any) -> list[str]:
    """Names of the options that differ from their defaults."""
    return [
        name
        for name, (one, _) in options_of(type(request)).items()
        if _differs(getattr(request, name), one.default)
    ]


def _differs(value: Any, default: Any) -> bool:
    if value is None or default is MISSING or default is None:
        return value is not None
    return type(value) is not type(default) or bool(value != default)


def command_line(command: str, *requests: Any) -> str:
    """The command that asks for the same, without paths: a report names no place.

    Options at their defaults are left out, and those that change nothing of what is found.
    """
    words = [f"privgen {command}"]
    for request in requests:
        for name, (one, described) in options_of(type(request)).items():
            value = getattr(request, name)
            if described.printed == "never" or value is None:
                continue
            if described.printed == "always" or _differs(value, one.default):
                words += _words(name, value, described)
    return " ".join(words)


def _words(name: str, value: Any, described: Option) -> Iterator[str]:
    if described.argument:
        yield described.place or str(value)
        return
    on, _, off = (described.flags or (flag(name),))[0].partition("/")
    several = isinstance(value, list | tuple) and get_origin(described.kind) is list
    for item in value if several else (value,):
        if described.kind is bool and not described.place:
            yield on if item else off
        else:
            yield f"{on} {described.place or _text(item)}"


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ",".join(_text(item) for item in value)
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def flag(name: str) -> str:
    """The flag of a parameter: `on_bad_tile` is `--on-bad-tile`."""
    return "--" + name.replace("_", "-")

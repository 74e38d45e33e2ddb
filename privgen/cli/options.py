"""Options of a command from the fields of its requests, and parameters shown as flags."""

import inspect
import re
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import MISSING
from typing import Annotated, Any, ParamSpec

import typer
from typer.core import TyperCommand

from privgen import console
from privgen.requests import Option, flag, options_of

P = ParamSpec("P")

_running: ContextVar[Any] = ContextVar("running", default=None)
_LAST = {"Arguments": -1, "Further": 1, "Options": 2}

_NAMED = re.compile(r"`([A-Za-z_]+)(?:=([^`]*))?`")


class Grouped(TyperCommand):
    """A command whose `--help` lists its options under headings, and that knows its flags."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        panels: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                record = _in_words(record[0]), _in_words(record[1])
                argument = parameter.param_type_name == "argument"
                panel = getattr(parameter, "rich_help_panel", None)
                panels.setdefault("Arguments" if argument else panel or "Options", []).append(
                    record
                )
        for panel in sorted(panels, key=lambda panel: _LAST.get(panel, 0)):
            with formatter.section(panel):
                formatter.write_dl(panels[panel])

    def invoke(self, ctx: Any) -> Any:
        before = _running.set(ctx)
        try:
            with console.on_terminal(), console.said_as(in_flags):
                return super().invoke(ctx)
        finally:
            _running.reset(before)


_WORDS = (
    (r"<(?:list\[)?(?:Path|path)\]?>", "<path>"),
    (r"<(?:list\[)?int(?: range)?\]?>", "<whole number>"),
    (r"<(?:list\[)?float(?: range)?\]?>", "<number>"),
    (r"<(?:list\[)?(?:str|text)\]?>", "<text>"),
    (r"\bx>=([\d.]+)", r"\1 or more"),
    (r"\b([\d.]+)<=x<=([\d.]+)", r"\1 to \2"),
    (r"\[default: \(([^()]*)\)", r"[default: \1"),
)
"""What the framework writes of types, bounds and defaults, and how a reader says it."""


def _in_words(text: str) -> str:
    for written, said in _WORDS:
        text = re.sub(written, said, text)
    return text


def from_requests(*requests: type) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Give a command the options of these requests.

    The command is called with `given`, the values of those that were typed, beside its own.
    """
    options = options_of(*requests)

    def decorate(command: Callable[..., int]) -> Callable[..., int]:
        own = [one for one in inspect.signature(command).parameters.values() if one.name != "given"]

        def run(**values: Any) -> int:
            mine = {name: values.pop(name) for name in options}
            given = {name: value for name, value in mine.items() if _was_typed(name)}
            return command(given=given, **values)

        parameters = [_parameter(name, one.default, of) for name, (one, of) in options.items()]
        run.__name__, run.__doc__ = command.__name__, command.__doc__
        run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in (*parameters, *own)]
        )
        run.__annotations__ = {one.name: one.annotation for one in (*parameters, *own)}
        return run

    return decorate


def _was_typed(name: str) -> bool:
    source = _running.get().get_parameter_source(name)
    return source is not None and not source.name.startswith("DEFAULT")


def _parameter(name: str, default: Any, described: Option) -> inspect.Parameter:
    shown: dict[str, Any] = {"help": described.help, "rich_help_panel": described.panel}
    bounds: dict[str, Any] = {"min": described.low, "max": described.high}
    default = None if default is MISSING else default
    kind = described.kind
    if default is None:
        kind = kind | None
    declared: Any
    if described.argument:
        declared = typer.Argument(help=described.help, **bounds)
    else:
        flags = described.flags or (flag(name),)
        default_shown: Any = described.default or default is not None
        settings = {"show_default": default_shown, **shown, **bounds}
        declared = typer.Option(*flags, **settings)
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[kind, declared],
    )


def in_flags(message: str) -> str:
    """A message with parameters, `count` or `align=False`, as the running command's flags."""
    context = _running.get()
    if context is None:
        return message
    parameters = {one.name: one for one in context.command.params if one.name}
    return _NAMED.sub(lambda found: _flag(found, parameters), message)


def _flag(found: re.Match[str], parameters: Mapping[str, Any]) -> str:
    name, value = found.groups()
    parameter = parameters.get(name)
    if parameter is None:
        return found.group()
    if parameter.param_type_name == "argument":
        return str(parameter.metavar or name.upper())
    if value == "False" and parameter.secondary_opts:
        return str(parameter.secondary_opts[0])
    shown = str(parameter.opts[0])
    return shown if value in (None, "True") else f"{shown} {value}"

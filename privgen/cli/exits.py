"""How a command leaves: with a documented exit code, whatever happens on the way.

0 done, or no leak found; 1 leak; 2 usage or input; 3 the work failed; 4 inconclusive;
130 interrupted. A verdict is said by a command's own return value and by nothing else: a defect,
a library that wants to exit, or a stream that cannot be written is 3, because Python's own 1 would
read as LEAK and its 0 as NO LEAK FOUND.
"""

import logging
import os
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import TextIO

from privgen import console
from privgen.errors import Interrupted, PrivgenError, RuntimeFailure

FAILED = RuntimeFailure.exit_code


def hush_libraries() -> None:
    """Keep off stderr what libraries log or warn of: it may quote a file, and nobody escapes it.

    With PRIVGEN_DEBUG=1, or where Python was asked for warnings (`-W`), it is left as it is.
    """
    if _debugging():
        return
    logging.getLogger().addHandler(logging.NullHandler())
    if not sys.warnoptions:
        warnings.simplefilter("ignore")


def exit_code(work: Callable[[], int]) -> int:
    """What `work` returns, or the code of what it raises, after one line on stderr. Never raises.

    Args:
      work: returns an exit code; anything that is no integer counts as a defect.
    """
    try:
        code = work()
        if type(code) is not int:
            raise TypeError(f"a command must end with an exit code: got {code!r}")
    except BaseException as error:
        code = _told(error)
    return code


def settled(code: int) -> int:
    """Hand over what the streams still hold; `code`, or 3 where that fails.

    A stream that cannot be written is pointed at nothing, or Python's own attempt at the very end
    would change the exit code once more.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):  # full or broken, closed, never there
            code = FAILED
            _discard(stream)
    return code


def _told(error: BaseException) -> int:
    """Say what went wrong; the exit code that means it, or 3 where nobody can be told."""
    try:
        if hasattr(error, "show") and hasattr(error, "exit_code"):  # a usage error of typer's
            # It may repeat what was typed, or what the shell made of a `*`.
            error.__dict__["message"] = console.plain(getattr(error, "message", ""))
            error.show()
            return int(error.exit_code)
        code, message = _meaning(error)
        if code == FAILED and not isinstance(error, PrivgenError) and _debugging():
            console.trace(error)
        console.fail(message)
    except BaseException:
        return FAILED
    return code


def _meaning(error: BaseException) -> tuple[int, str]:
    kind = type(error).__name__
    if isinstance(error, PrivgenError):
        return error.exit_code, str(error)
    if isinstance(error, KeyboardInterrupt):
        return Interrupted.exit_code, "interrupted; nothing was left half written."
    hint = "" if _debugging() else "; PRIVGEN_DEBUG=1 shows where"
    return FAILED, f"unexpected {kind}: {error}. This is a defect in privgen{hint}."


def _debugging() -> bool:
    return bool(os.environ.get("PRIVGEN_DEBUG"))


def _discard(stream: TextIO | None) -> None:
    with suppress(OSError, ValueError, AttributeError):
        nothing = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nothing, stream.fileno())  # type: ignore[union-attr]
        finally:
            os.close(nothing)

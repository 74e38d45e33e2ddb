"""A program that cannot write its own streams exits 3: its exit code is never read as a verdict."""

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from privgen.cli import exits, main
from privgen.data.phantom import make_phantom, write_phantom
from privgen.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="/dev/full is a Linux device")

INPUT_ERRORS = {
    "demo": ["demo", "--out", "{there}"],
    "tile": ["tile", "{nowhere}", "--out", "{new}"],
    "train": ["train", "{nowhere}", "--out", "{new}"],
    "sample": ["sample", "{nowhere}", "--out", "{new}"],
    "audit": ["audit", "--train", "{nowhere}", "--holdout", "{nowhere}"],
    "augment-bench": ["augment-bench", "{nowhere}"],
    "export": ["export", "{nowhere}", "--out", "{new}"],
    "data check": ["data", "check", "{nowhere}"],
    "data phantom": ["data", "phantom", "--out", "{there}"],
    "data select": ["data", "select", "{nowhere}", "--out", "{new}"],
    "usage": ["audit", "--no-such-option"],
    "no command": [],
}


def shell(arguments: list[str], redirect: str, **environment: str) -> int:
    """The exit code of `privgen ARGUMENTS`, its streams redirected as bash does."""
    command = f'"$0" -m privgen "$@" {redirect}'
    return subprocess.run(
        ["bash", "-c", command, sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        timeout=120,
    ).returncode


@pytest.fixture(scope="module")
def leak(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """An audit whose verdict is LEAK: the synthetic tiles are train tiles."""
    folder = tmp_path_factory.mktemp("leak")
    tiles = make_phantom(patients=12, tiles_per_patient=9, side=32)
    for role, rows in (("train", np.arange(54)), ("holdout", np.arange(54, 108))):
        write_phantom(folder / role, tiles.subset(rows))
    options = ["--train", str(folder / "train"), "--holdout", str(folder / "holdout")]
    options += ["--synthetic", str(folder / "train"), "--encoder", "pixels", "--no-align"]
    return ["audit", *options]


def test_the_audit_without_obstacles_is_a_leak(leak: list[str]) -> None:
    assert shell(leak, "2>/dev/null") == 1


@needs_full
@pytest.mark.parametrize(
    "redirect",
    ["2>/dev/full", "2>&-", ">&-", "2> >(exec true)", "--json >/dev/full", "--json > >(exec true)"],
)
def test_a_leak_nobody_can_be_told_of_exits_3(leak: list[str], redirect: str) -> None:
    assert shell(leak, redirect) == 3


class Broken(io.StringIO):
    """A stream that takes nothing."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def write(self, text: str) -> int:
        raise self.error


def left_with(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> object:
    """The exit code of a command, in this process."""
    monkeypatch.setattr(sys, "argv", ["privgen", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), BrokenPipeError(32, "Broken pipe")], ids=repr
)
@pytest.mark.parametrize("command", INPUT_ERRORS)
def test_an_error_that_cannot_be_printed_exits_3(
    command: str, error: Exception, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").write_text("in the way")
    places = {name: str(tmp_path / name) for name in ("there", "nowhere", "new")}
    arguments = [part.format(**places) for part in INPUT_ERRORS[command]]
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert left_with(arguments, monkeypatch) == 2
    monkeypatch.setattr(sys, "stderr", Broken(error))
    assert left_with(arguments, monkeypatch) == 3


@pytest.mark.parametrize("page", [["--help"], ["audit", "--help"], ["doctor", "--json"]])
def test_a_page_that_cannot_be_printed_exits_3(
    page: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("privgen.doctor.examine", lambda: {"healthy": True})
    monkeypatch.setattr("privgen.doctor.print_examination", lambda findings: None)
    monkeypatch.setattr(sys, "stdout", Broken(OSError(28, "No space left on device")))
    assert left_with(page, monkeypatch) == 3


def test_a_broken_installation_exits_3(tmp_path: Path) -> None:
    """Python's own exit code for a failed import is that of a LEAK."""
    (tmp_path / "typer.py").write_text("raise ImportError('not installed')\n")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", str(ROOT))])
    assert shell(["audit"], "2>/dev/null", PYTHONPATH=path) == 3
    assert shell(["audit"], "2>&-", PYTHONPATH=path) == 3


class Panic(BaseException):
    """As the bindings of a Rust library raise it: no Exception."""


def raising(error: BaseException) -> Callable[[], int]:
    def command() -> int:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ValueError("x"), 3),
        (MemoryError(), 3),
        (RecursionError(), 3),
        (OSError(28, "No space left on device"), 3),
        (BrokenPipeError(32, "Broken pipe"), 3),
        (Panic("x"), 3),
        (SystemExit(1), 3),
        (SystemExit(0), 3),
        (SystemExit("words"), 3),
        (InputError("x"), 2),
        (KeyboardInterrupt(), 130),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("debug", ["", "1"])
def test_no_exception_passes_for_a_verdict(
    error: BaseException,
    code: int,
    debug: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PRIVGEN_DEBUG", debug)
    assert exits.exit_code(raising(error)) == code
    said = capsys.readouterr().err
    assert said.count("error: ") == 1
    assert ("Traceback" in said) == (bool(debug) and code == 3)


def test_an_error_while_an_error_is_told_exits_3(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(message: str) -> None:
        raise Panic(message)

    monkeypatch.setattr("privgen.console.fail", fail)
    assert exits.exit_code(raising(InputError("x"))) == 3
    assert exits.exit_code(raising(KeyboardInterrupt())) == 3


def test_a_command_that_ends_without_a_code_exits_3() -> None:
    assert exits.exit_code(lambda: None) == 3  # type: ignore[arg-type, return-value]
    assert exits.exit_code(lambda: True) == 3

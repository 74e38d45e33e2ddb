"""Options of the command line: grouped, in words, and named in errors as they are typed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import privgen
from privgen.auditing.requests import AuditOptions, GeneratorAudit, TilesAudit
from privgen.benefit.requests import BenchRequest
from privgen.cli import app
from privgen.requests import options_of
from privgen.tiling.requests import TilingRequest

REQUESTS = {
    "audit": (GeneratorAudit, TilesAudit, AuditOptions),
    "augment-bench": (BenchRequest,),
    "tile": (TilingRequest,),
}
HERE = str(Path(__file__).parent)
UNALIGNED = ("--train", HERE, "--holdout", HERE, "--synthetic", HERE, "--no-align")
COMMANDS = ("demo", "tile", "train", "sample", "audit", "augment-bench", "export", "doctor")


def helped(*command: str) -> str:
    result = CliRunner().invoke(app, [*command, "-h"], env={"COLUMNS": "100"})
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("command", REQUESTS)
def test_every_field_of_a_request_is_an_option(command: str) -> None:
    page = helped(command)
    for name, (_, described) in options_of(*REQUESTS[command]).items():
        flags = (described.flags or (f"--{name.replace('_', '-')}",))[0]
        assert described.argument or flags.partition("/")[0] in page, name
        assert described.argument or f"{described.panel}:\n" in page, name


@pytest.mark.parametrize("command", COMMANDS)
def test_types_bounds_and_defaults_are_said_in_words(command: str) -> None:
    page = helped(command)
    for written in ("range>", "<str>", "<int>", "<float>", "list[", "x>=", "<=x", "[default: ("):
        assert written not in page, written


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_answers_to_both(flag: str) -> None:
    assert CliRunner().invoke(app, [flag]).exit_code == 0
    assert CliRunner().invoke(app, ["data", "check", flag]).exit_code == 0


def test_the_version_is_printed() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.stdout.strip()) == (0, privgen.__version__)


def test_names_are_listed_before_they_are_used() -> None:
    code = "import privgen, audits; print(set(privgen.__all__) <= set(dir(privgen)), "
    code += "set(audits.__all__) <= set(dir(audits)), '__version__' in dir(privgen))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["True"] * 3


def test_a_shell_can_complete_commands() -> None:
    words = {"_PRIVGEN_COMPLETE": "complete_bash", "COMP_WORDS": "privgen au", "COMP_CWORD": "1"}
    code = "import sys; sys.argv = ['privgen']; from privgen.cli import main; main()"
    ran = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, **words},
    )
    assert ran.returncode == 0, ran.stderr
    assert "audit" in ran.stdout
    assert "augment-bench" in ran.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["audit", "--generator", HERE, "--synthetic", HERE],
            "--generator makes the synthetic tiles: got --synthetic beside it",
        ),
        (
            ["audit", *UNALIGNED, "--approximate"],
            "got --no-align beside",
        ),
        (["augment-bench", HERE], "give --synthetic, --generator or --train-generator"),
        (["tile", HERE, "--out", "o", "--stain", "macenko"], "--stain and --stain-target go"),
    ],
)
def test_errors_name_what_was_typed(arguments: list[str], words: str) -> None:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert words in result.stderr
    assert "`" not in result.stderr

"""What the command line must look like when it refuses."""

from typer.testing import Result


def one_line(result: Result, code: int, *words: str) -> None:
    """The command failed with `code` and said why in exactly one line that holds every word."""
    assert result.exit_code == code, result.output
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, result.stderr
    assert "Traceback" not in result.output
    for word in words:
        assert word in lines[0]

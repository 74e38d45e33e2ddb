"""SECURITY.md: every promise names its tests, every limit too, and all of them are there."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from privgen.auditing.requests import AuditOptions

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "SECURITY.md").read_text(encoding="utf-8")


def rows(heading: str, columns: int) -> list[list[str]]:
    """Rows of the table under a heading, without its head."""
    part = TEXT.split(f"## {heading}")[1].split("\n## ")[0]
    lines = [line for line in part.splitlines() if line.startswith("| ")][1:]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    assert all(len(row) == columns for row in cells)
    return cells


@cache
def functions_in(file: Path) -> set[str]:
    tree = ast.walk(ast.parse(file.read_text()))
    return {node.name for node in tree if isinstance(node, ast.FunctionDef)}


PROMISES, LIMITS = rows("What is defended", 4), rows("Limits", 3)


@pytest.mark.parametrize("row", PROMISES, ids=lambda row: f"{row[0]}: {row[1]}"[:60])
def test_a_promise_names_tests_that_are_there(row: list[str]) -> None:
    named = re.findall(r"`([^`]+)::(test_\w+)`", row[3])
    assert named
    assert len(named) == row[3].count("`") // 2
    for file, name in named:
        assert name in functions_in(ROOT / "tests" / file)


@pytest.mark.parametrize("row", LIMITS, ids=lambda row: row[0][:60])
def test_a_limit_names_files_of_tests_that_are_there(row: list[str]) -> None:
    named = re.findall(r"`([^`]+)`", row[2])
    assert named
    first = (ROOT / named[0]).parent
    for file in named:
        assert any((place / file).is_file() for place in (ROOT, first)), file


def test_nothing_is_fetched_that_was_not_asked_for() -> None:
    asked = AuditOptions()
    assert (asked.fid, asked.lpips) == (False, False)

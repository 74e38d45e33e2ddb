"""docs/architecture.md: its table of rooms holds every module, in the order of the imports."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def rows(head: str) -> list[list[str]]:
    """Cells of the table whose first header is `head`."""
    lines = PAGE[PAGE.index(f"| {head} |") :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def words(cell: str) -> set[str]:
    return set(re.findall(r"[a-z_0-9]+", cell))


ROOMS = rows("room of `privgen`")


def modules(folder: Path) -> set[str]:
    return {file.stem for file in folder.glob("*.py") if file.stem != "__init__"}


@pytest.mark.parametrize("row", ROOMS, ids=lambda row: row[0][:40])
def test_a_room_lists_its_modules(row: list[str]) -> None:
    for name in row[0].split(", "):
        place = ROOT / "privgen" / name.replace(".", "/")
        if row[2]:
            assert modules(place) == words(row[2])
        else:
            assert place.with_suffix(".py").is_file()


def test_every_room_is_listed() -> None:
    listed = {name for row in ROOMS for name in row[0].split(", ")}
    there = {file.stem for file in (ROOT / "privgen").glob("*.py")} - {"__init__", "__main__"}
    there |= {folder.parent.name for folder in (ROOT / "privgen").glob("*/__init__.py")}
    assert there <= listed


def test_every_module_of_audits_is_listed() -> None:
    assert modules(ROOT / "audits") == words(
        " ".join(row[0] for row in rows("modules of `audits`"))
    )

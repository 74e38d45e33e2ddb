"""Every document that code, tests or documents cite is there, with the section that is named."""

import importlib
import re
import unicodedata
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("audits", "benchmarks", "docs", "examples", "privgen", "tests")
THIS = Path(__file__).resolve()
FILES = sorted(
    {
        *ROOT.glob("*.md"),
        *(
            file
            for room in ROOMS
            for kind in ("*.py", "*.md")
            for file in (ROOT / room).rglob(kind)
        ),
    }
    - {THIS}
)
PAGES = [file for file in FILES if file.suffix == ".md"]

CITED = re.compile(r"(?<![\w/.-])(docs/[\w/-]+\.md)(?:#([\w-]+))?")
LINKED = re.compile(r"\]\(([^)\s]+)\)")
NAMED = re.compile(r"`((?:privgen|audits)(?:\.[A-Za-z_]\w*)+)`")
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def name(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def slug(heading: str) -> str:
    """The anchor of a heading, as Python-Markdown and GitHub make it."""
    text = unicodedata.normalize("NFKD", heading).encode("ascii", "ignore").decode()
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", text).strip().lower())


@cache
def anchors(page: Path) -> frozenset[str]:
    found = []
    for line in FENCED.sub("", page.read_text(encoding="utf-8")).splitlines():
        if heading := re.match(r"#+ +(.+?)(?: +\{#([\w-]+)\})?$", line):
            found.append(heading[2] or slug(heading[1]))
    return frozenset(found)


def cited(file: Path) -> Iterator[tuple[Path, str | None]]:
    """Documents that a file cites from the root, and that a page links, with their anchors."""
    text = file.read_text(encoding="utf-8")
    for found in CITED.finditer(text):
        yield ROOT / found[1], found[2]
    if file.suffix == ".md":
        for found in LINKED.finditer(FENCED.sub("", text)):
            target, _, anchor = found[1].partition("#")
            if "://" not in target:
                yield (file.parent / target).resolve() if target else file, anchor or None


@pytest.mark.parametrize("file", FILES, ids=name)
def test_what_is_cited_is_there(file: Path) -> None:
    for target, anchor in cited(file):
        assert target.exists(), target
        if anchor is not None:
            assert anchor in anchors(target), f"{target.name}#{anchor}"


def test_methods_are_cited_by_section() -> None:
    citing = [file for file in FILES if "docs/methods.md#" in file.read_text(encoding="utf-8")]
    assert len(citing) > 40
    for file in FILES:
        left = re.search(r"METHODS(\.md\b| \d)", file.read_text(encoding="utf-8"))
        assert left is None, f"{file}: {left}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_a_module_that_a_page_names_is_there(page: Path) -> None:
    for dotted in NAMED.findall(page.read_text(encoding="utf-8")):
        parts = dotted.split(".")
        for length in range(len(parts), 0, -1):
            try:
                found: object = importlib.import_module(".".join(parts[:length]))
            except ModuleNotFoundError:
                continue
            for attribute in parts[length:]:
                assert hasattr(found, attribute), dotted
                found = getattr(found, attribute)
            break


@pytest.mark.parametrize("page", [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")], ids=name)
def test_lines_are_short(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    long = [line for line in text.splitlines() if len(line) > 100 and not line.startswith("|")]
    assert not long, long[0]

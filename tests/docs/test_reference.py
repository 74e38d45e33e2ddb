"""The reference has every public name, and every public name has a description."""

import re
import runpy
from pathlib import Path
from types import ModuleType

import pytest

import audits
import privgen

DOCS = Path(__file__).resolve().parents[2] / "docs"
PACKAGES = pytest.mark.parametrize("package", [privgen, audits], ids=lambda one: one.__name__)


@PACKAGES
def test_every_public_name_is_on_the_page_once(package: ModuleType) -> None:
    page = (DOCS / "reference" / f"{package.__name__}.md").read_text(encoding="utf-8")
    listed = re.findall(rf"^::: {package.__name__}\.(\w+)$", page, re.MULTILINE)
    assert sorted(listed) == sorted(package.__all__)


@PACKAGES
def test_every_public_name_is_described(package: ModuleType) -> None:
    for name in package.__all__:
        assert (getattr(package, name).__doc__ or "").strip(), name


def test_every_page_is_in_the_navigation() -> None:
    menu = (DOCS.parent / "mkdocs.yml").read_text(encoding="utf-8")
    listed = set(re.findall(r": ([\w/-]+\.md)$", menu, re.MULTILINE))
    assert listed == {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")}


def test_the_page_of_options_is_that_of_the_code() -> None:
    made = runpy.run_path(str(DOCS / "make_options.py"))
    assert made["page"]() == made["PAGE"].read_text(encoding="utf-8")

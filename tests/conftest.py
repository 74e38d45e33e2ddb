"""Shared fixtures: where the real tiles are, and one quiet thread setting."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def _on_terminal(request: pytest.FixtureRequest) -> Iterator[None]:
    """What is said is shown as a command shows it, so that tests can read it.

    Tests of what a library call says ask for the fixture `as_library`.
    """
    if "as_library" in request.fixturenames:
        yield
        return
    try:
        from privgen import console
    except ImportError:  # the tests of `audits` run without what a terminal needs
        yield
        return
    with console.on_terminal():
        yield


@pytest.fixture
def as_library() -> None:
    """No command runs: notes and warnings go to logging."""


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """`real_data("glas")` gives that data set's folder, or skips the test by name."""
    base = Path(os.environ.get("PRIVGEN_TEST_DATA", ROOT.parent / "shared" / "data"))

    def locate(name: str) -> Path:
        folder = base / name
        if not folder.is_dir():
            pytest.skip(f"real data set {name} is absent from {base} (set PRIVGEN_TEST_DATA)")
        return folder

    return locate

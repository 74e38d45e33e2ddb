"""What the tests of the doors share."""

import logging
import math
from collections.abc import Iterator

import pytest

from benchmarks.fuzz import door
from privgen.cli.exits import hush_libraries


@pytest.fixture(autouse=True)
def _any_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """How long an input may take is for the benchmarks to judge."""
    monkeypatch.setattr(door, "MOST_SECONDS", math.inf)


@pytest.fixture
def hushed() -> Iterator[None]:
    """Libraries that log nothing on stderr, as under the command line."""
    root = logging.getLogger()
    before = list(root.handlers)
    hush_libraries()
    yield
    root.handlers[:] = before

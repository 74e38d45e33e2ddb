"""What the tests of the doors share."""

import logging
from collections.abc import Iterator

import pytest

from privgen.cli.exits import hush_libraries


@pytest.fixture
def hushed() -> Iterator[None]:
    """Libraries that log nothing on stderr, as under the command line."""
    root = logging.getLogger()
    before = list(root.handlers)
    hush_libraries()
    yield
    root.handlers[:] = before

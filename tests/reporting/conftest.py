"""The three example reports, made anew for each test that asks for them."""

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

_EXAMPLES = runpy.run_path(str(Path(__file__).parent / "examples.py"))


@pytest.fixture(params=_EXAMPLES["EXAMPLES"])
def any_example(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Each example in turn."""
    return _EXAMPLES["EXAMPLES"][request.param]()


@pytest.fixture
def example() -> Callable[[str], dict[str, Any]]:
    """`example("leak")` gives that report."""
    return lambda name: _EXAMPLES["EXAMPLES"][name]()


@pytest.fixture
def wrap() -> Callable[..., dict[str, Any]]:
    """`wrap(audit, **parts)` puts an audit report, or None, into a report's dictionary."""
    return _EXAMPLES["report"]

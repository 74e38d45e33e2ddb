"""The three example reports, made anew for each test that asks for them."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.helpers.report_examples import EXAMPLES, report


@pytest.fixture(params=EXAMPLES)
def any_example(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Each example in turn."""
    return EXAMPLES[request.param]()


@pytest.fixture
def example() -> Callable[[str], dict[str, Any]]:
    """`example("leak")` gives that report."""
    return lambda name: EXAMPLES[name]()


@pytest.fixture
def wrap() -> Callable[..., dict[str, Any]]:
    """`wrap(audit, **parts)` puts an audit report, or None, into a report's dictionary."""
    return report

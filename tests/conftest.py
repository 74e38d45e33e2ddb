"""Shared fixtures: where the real tiles are, and one quiet thread setting."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


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

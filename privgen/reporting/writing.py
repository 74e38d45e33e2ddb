"""The files of a report."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from privgen.files import json_text, write_all
from privgen.reporting import html, suspects


def write_report(
    document: Mapping[str, Any], folder: Path, *, suspects_page: str | None = None
) -> None:
    """Validate a report document and write it as report.json and report.html, or nothing at all.

    Args:
      document: of the report.
      folder: to write to.
      suspects_page: as `Audit.suspects`, written for its owner alone.

    Raises:
      OutputError, DiskFullError: it cannot be written.
    """
    page = html.render(document)
    files = {"report.json": json_text(document).encode(), "report.html": page.encode()}
    if suspects_page is not None:
        # File names need not be valid text.
        files[suspects.NAME] = suspects_page.encode(errors="backslashreplace")
    write_all(folder, files, private={suspects.NAME})

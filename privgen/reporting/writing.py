"""The files of a report."""

from pathlib import Path

from privgen.files import json_text, write_all
from privgen.reporting import html, suspects
from privgen.reporting.sections import ReportDict


def write_report(document: ReportDict, folder: Path, *, suspects_page: str | None = None) -> None:
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
